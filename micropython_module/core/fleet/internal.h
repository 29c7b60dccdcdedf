// What the files of a fleet's member share.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_FLEET_INTERNAL_H
#define EDGELORA_FLEET_INTERNAL_H

#include "contract.h"
#include "crypto.h"
#include "fleet/fleet.h"

enum {
    KEY_BYTES = 32,
    TAG_BYTES = 16,
    SHARE_BYTES = 64,
    SEALED_BYTES = SHARE_BYTES + TAG_BYTES,
    TASK_BYTES = 96
};

static inline uint32_t u16_at(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8;
}

static inline uint32_t u32_at(const uint8_t *p) {
    return u16_at(p) | u16_at(p + 2) << 16;
}

static inline void put_u16(uint8_t *p, uint32_t value) {
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
}

static inline void put_u32(uint8_t *p, uint32_t value) {
    put_u16(p, value);
    put_u16(p + 2, value >> 16);
}

// ---- keys.c: what two of a fleet know of each other

// What a pad is for: its round and the two ends.
typedef struct {
    const uint8_t *fleet;  // u8[8]
    uint32_t round;
    uint32_t from, to;     // indices
} edgelora_pad_context_t;

// secret becomes the key that all pads of this pair are made of. False if X25519 is all zero.
bool edgelora_pair_key(uint8_t prk[64], const uint8_t secret[32], const uint8_t key[32]);

// label: up to 8 characters.
void edgelora_pad(
    const uint8_t prk[64], const char *label, edgelora_pad_context_t context, uint8_t pad[64]);
void edgelora_tag(const uint8_t prk[64], const char *label, edgelora_pad_context_t context,
    const uint8_t *data, size_t size, uint8_t tag[16]);

// Of what two mask keys have in common: the seed of a mask (out may be shared); and prk becomes
// that of pads which need both a pair's lasting secrets and the round's.
void edgelora_mask_seed(const uint8_t shared[32], uint8_t seed[32]);
void edgelora_bind(uint8_t prk[64], const uint8_t shared[32]);

// ---- budget.c

// Both, or UINT64_MAX where that is more.
uint64_t edgelora_add_cost(uint64_t spent, uint64_t cost);

// ---- shares.c

// out: the share at x (1 to 255) of secret [64], by the polynomials of threshold t that the key
// makes.
void edgelora_share(const uint8_t key[32], uint32_t threshold, uint32_t x, const uint8_t secret[64],
    uint8_t out[64]);

// ---- noise.c

// Digits of a key's stream, and what draws by them.
typedef struct {
    edgelora_chacha20_t stream;
    uint32_t block[16];
    uint32_t at;  // digits taken of block, 64: all
} edgelora_digits_t;

void edgelora_digits_begin(edgelora_digits_t *d, const uint8_t key[32]);
void edgelora_digits_add_noise(edgelora_digits_t *d, uint32_t sigma, int32_t *values, uint32_t n);

#endif
