// Keys, pads and tags between two parties.
// SPDX-License-Identifier: MIT

#include "fleet/internal.h"

static const char PAIR[] = "edgelora fleet 1", PAIR_MASK[] = "edgelora mask 1";

static void authenticate(
    const uint8_t *key, size_t size, const uint8_t shared[32], uint8_t out[64]) {
    edgelora_hmac_t h;
    edgelora_hmac_begin(&h, key, size);
    edgelora_hmac_add(&h, shared, KEY_BYTES);
    edgelora_hmac_end(&h, out);
}

bool edgelora_pair_key(uint8_t prk[64], const uint8_t secret[32], const uint8_t key[32]) {
    uint8_t shared[KEY_BYTES];
    bool worth = edgelora_x25519(shared, secret, key);
    authenticate((const uint8_t *)PAIR, sizeof PAIR - 1, shared, prk);
    edgelora_wipe(shared, sizeof shared);
    return worth;
}

void edgelora_pad(
    const uint8_t prk[64], const char *label, edgelora_pad_context_t context, uint8_t pad[64]) {
    uint8_t about[24] = {0};  // label[8], fleet[8], u32 round, u16 from, u16 to
    for (uint32_t i = 0; i < 8 && label[i]; ++i) {
        about[i] = (uint8_t)label[i];
    }
    __builtin_memcpy(about + 8, context.fleet, 8);
    put_u32(about + 16, context.round);
    put_u16(about + 20, context.from);
    put_u16(about + 22, context.to);
    edgelora_hmac_t h;
    edgelora_hmac_begin(&h, prk, 64);
    edgelora_hmac_add(&h, about, sizeof about);
    edgelora_hmac_end(&h, pad);
}

void edgelora_tag(const uint8_t prk[64], const char *label, edgelora_pad_context_t context,
    const uint8_t *data, size_t size, uint8_t tag[16]) {
    uint8_t pad[64];
    edgelora_hmac_t h;
    edgelora_pad(prk, label, context, pad);
    edgelora_hmac_begin(&h, pad, sizeof pad);
    edgelora_hmac_add(&h, data, size);
    edgelora_hmac_end(&h, pad);
    __builtin_memcpy(tag, pad, TAG_BYTES);
    edgelora_wipe(pad, sizeof pad);
}

void edgelora_mask_seed(const uint8_t shared[32], uint8_t seed[32]) {
    uint8_t digest[64];
    authenticate((const uint8_t *)PAIR_MASK, sizeof PAIR_MASK - 1, shared, digest);
    __builtin_memcpy(seed, digest, KEY_BYTES);
    edgelora_wipe(digest, sizeof digest);
}

void edgelora_bind(uint8_t prk[64], const uint8_t shared[32]) {
    authenticate(prk, 64, shared, prk);
}
