// Internals of a fleet member.
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

// ---- keys.c: pair keys, pads, masks

// The purpose of a pad: its round, sender and receiver.
typedef struct {
    const uint8_t *fleet;  // u8[8]
    uint32_t round;
    uint32_t from, to;     // indices
} edgelora_pad_context_t;

// prk: the key of all pads between a secret's owner and a key's owner. False if X25519 gives zero.
bool edgelora_pair_key(uint8_t prk[64], const uint8_t secret[32], const uint8_t key[32]);

// label: up to 8 characters.
void edgelora_pad(
    const uint8_t prk[64], const char *label, edgelora_pad_context_t context, uint8_t pad[64]);
void edgelora_tag(const uint8_t prk[64], const char *label, edgelora_pad_context_t context,
    const uint8_t *data, size_t size, uint8_t tag[16]);

// From the shared secret of two mask keys: derives the seed of a mask (seed may be shared); binds
// prk to the round, so that its pads depend on both the pair's long-term and the round's secrets.
void edgelora_mask_seed(const uint8_t shared[32], uint8_t seed[32]);
void edgelora_bind(uint8_t prk[64], const uint8_t shared[32]);

// ---- budget.c

// spent + cost, saturating at UINT64_MAX.
uint64_t edgelora_add_cost(uint64_t spent, uint64_t cost);

// ---- shares.c

// out: the share at x (1 to 255) of secret [64]; the key generates the polynomials of threshold t.
void edgelora_share(const uint8_t key[32], uint32_t threshold, uint32_t x, const uint8_t secret[64],
    uint8_t out[64]);

// ---- noise.c

// Draws from the digits of a key's stream.
typedef struct {
    edgelora_chacha20_t stream;
    uint32_t block[16];
    uint32_t at;  // digits used of block, 64: all
} edgelora_digits_t;

void edgelora_digits_begin(edgelora_digits_t *d, const uint8_t key[32]);
void edgelora_digits_add_noise(edgelora_digits_t *d, uint32_t sigma, int32_t *values, uint32_t n);

#endif
