// Random numbers by fast key erasure, over ChaCha20.
// SPDX-License-Identifier: MIT

#include "crypto.h"

enum { RANDOM_KEY = 32, RANDOM_POOL = 4 };

void edgelora_random_seed(edgelora_random_t *r, const uint8_t seed[32]) {
    edgelora_wipe(r, sizeof(*r));
    for (uint32_t i = 0; i < RANDOM_KEY; i++) {
        r->key[i] = seed[i];
    }
}

void edgelora_random_bytes(edgelora_random_t *r, uint8_t *out, size_t size) {
    const uint8_t nonce[12] = {0};
    edgelora_chacha20_t c;
    uint32_t block[16];
    edgelora_chacha20_begin(&c, r->key, nonce, 0);
    for (size_t i = 0; i < RANDOM_KEY + size; i++) {
        if (i % sizeof(block) == 0) {
            edgelora_chacha20_block(&c, block);
        }
        *(i < RANDOM_KEY ? r->key + i
                         : out + i - RANDOM_KEY) = (uint8_t)(block[i / 4 % 16] >> 8 * (i % 4));
    }
    edgelora_wipe(&c, sizeof(c));
    edgelora_wipe(block, sizeof(block));
}

uint64_t edgelora_random_u64(edgelora_random_t *r) {
    if (r->left == 0) {
        uint8_t bytes[8 * RANDOM_POOL];
        edgelora_random_bytes(r, bytes, sizeof(bytes));
        for (uint32_t i = 0; i < sizeof(bytes); i++) {
            uint64_t *word = &r->pool[i / 8];
            *word = (i % 8 ? *word : 0) | (uint64_t)bytes[i] << 8 * (i % 8);
        }
        edgelora_wipe(bytes, sizeof(bytes));
        r->left = RANDOM_POOL;
    }
    uint64_t *word = &r->pool[RANDOM_POOL - r->left--], value = *word;
    edgelora_wipe(word, sizeof(*word));
    return value;
}
