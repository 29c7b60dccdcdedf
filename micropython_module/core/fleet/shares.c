// Shamir secret sharing over GF(256), without tables.
// SPDX-License-Identifier: MIT

#include "fleet/internal.h"

enum { SHARE_WORDS = SHARE_BYTES / 4 };

// Multiplies four elements of GF(256) (0x11B) by x. x is public.
static uint32_t times(uint32_t four, uint32_t x) {
    uint32_t product = 0;
    for (uint32_t bit = 0x80; bit; bit >>= 1) {
        product = ((product & 0x7F7F7F7F) << 1) ^ (product >> 7 & 0x01010101) * 0x1B;
        product ^= (x & bit) ? four : 0;
    }
    return product;
}

void edgelora_share(const uint8_t key[32], uint32_t threshold, uint32_t x, const uint8_t secret[64],
    uint8_t out[64]) {
    EDGELORA_ASSERT(threshold >= 1 && x >= 1 && x <= 255);
    const uint8_t nonce[12] = {0};
    edgelora_chacha20_t stream;
    uint32_t value[SHARE_WORDS] = {0}, block[SHARE_WORDS];
    for (uint32_t n = threshold; n-- >
        0;) {  // Horner's rule: coefficient n is block n of the stream, coefficient 0 the secret
        if (n) {
            edgelora_chacha20_begin(&stream, key, nonce, n);
            edgelora_chacha20_block(&stream, block);
        } else {
            __builtin_memcpy(block, secret, sizeof block);
        }
        for (uint32_t i = 0; i < SHARE_WORDS; ++i) {
            value[i] = times(value[i], x) ^ block[i];
        }
    }
    __builtin_memcpy(out, value, sizeof value);
    edgelora_wipe(value, sizeof value);
    edgelora_wipe(block, sizeof block);
    edgelora_wipe(&stream, sizeof stream);
}
