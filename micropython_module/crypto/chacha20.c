// ChaCha20 (RFC 8439).
// SPDX-License-Identifier: MIT

#include "crypto.h"

enum { BLOCK_WORDS = 16, BLOCK_DOUBLE_ROUNDS = 10, BLOCK_COUNTER = 12 };

static uint32_t word_of(const uint8_t *bytes) {
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

void edgelora_chacha20_begin(
    edgelora_chacha20_t *c, const uint8_t key[32], const uint8_t nonce[12], uint32_t counter) {
    c->state[0] = 0x61707865;  // "expand 32-byte k"
    c->state[1] = 0x3320646e;
    c->state[2] = 0x79622d32;
    c->state[3] = 0x6b206574;
    for (uint32_t i = 0; i < 8; i++) {
        c->state[4 + i] = word_of(key + 4 * i);
    }
    c->state[BLOCK_COUNTER] = counter;
    for (uint32_t i = 0; i < 3; i++) {
        c->state[BLOCK_COUNTER + 1 + i] = word_of(nonce + 4 * i);
    }
}

#ifndef EDGELORA_CHACHA20_M0PLUS

static uint32_t rotated32(uint32_t x, uint32_t n) {
    return x << n | x >> (32 - n);
}

static void quarter_round(uint32_t *x, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    x[a] += x[b];
    x[d] = rotated32(x[d] ^ x[a], 16);
    x[c] += x[d];
    x[b] = rotated32(x[b] ^ x[c], 12);
    x[a] += x[b];
    x[d] = rotated32(x[d] ^ x[a], 8);
    x[c] += x[d];
    x[b] = rotated32(x[b] ^ x[c], 7);
}

void edgelora_chacha20_rounds(const uint32_t state[16], uint32_t block[16]) {
    for (uint32_t i = 0; i < BLOCK_WORDS; i++) {
        block[i] = state[i];
    }
    for (uint32_t n = 0; n < BLOCK_DOUBLE_ROUNDS; n++) {
        for (uint32_t i = 0; i < 4; i++) {
            quarter_round(block, i, 4 + i, 8 + i, 12 + i);
        }
        for (uint32_t i = 0; i < 4; i++) {  // diagonal rounds
            quarter_round(block, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4);
        }
    }
    for (uint32_t i = 0; i < BLOCK_WORDS; i++) {
        block[i] += state[i];
    }
}

#endif

void edgelora_chacha20_block(edgelora_chacha20_t *c, uint32_t block[16]) {
    edgelora_chacha20_rounds(c->state, block);
    c->state[BLOCK_COUNTER]++;
}

void edgelora_chacha20_xor(edgelora_chacha20_t *c, uint8_t *data, size_t size) {
    uint32_t block[BLOCK_WORDS];
    for (size_t i = 0; i < size; i++) {
        if (i % (4 * BLOCK_WORDS) == 0) {
            edgelora_chacha20_block(c, block);
        }
        data[i] ^= (uint8_t)(block[i / 4 % BLOCK_WORDS] >> 8 * (i % 4));
    }
    edgelora_wipe(block, sizeof(block));
}

// words += sign * stream; sign is 1 or -1
static void add_stream(edgelora_chacha20_t *c, uint32_t *words, size_t count, uint32_t sign) {
    uint32_t block[BLOCK_WORDS];
    while (count) {
        size_t some = count < BLOCK_WORDS ? count : BLOCK_WORDS;
        edgelora_chacha20_block(c, block);
        for (size_t i = 0; i < some; i++) {
            *words++ += sign * block[i];
        }
        count -= some;
    }
    edgelora_wipe(block, sizeof(block));
}

void edgelora_chacha20_add(edgelora_chacha20_t *c, uint32_t *words, size_t count) {
    add_stream(c, words, count, 1);
}

void edgelora_chacha20_subtract(edgelora_chacha20_t *c, uint32_t *words, size_t count) {
    add_stream(c, words, count, -1u);
}
