// SHA-512 (FIPS 180-4).
// SPDX-License-Identifier: MIT

#include "crypto.h"
#include "words.h"

enum { HASH_ROUNDS = 80, HASH_STEP = 8, HASH_WORDS = 16, HASH_BLOCK = 128, HASH_LENGTH = 16 };

// The first 64 bits of the fractional parts of the square roots of the first 8 primes, and of the
// cube roots of the first 80.
static const uint64_t initial_state[8] = {
    0x6a09e667f3bcc908,
    0xbb67ae8584caa73b,
    0x3c6ef372fe94f82b,
    0xa54ff53a5f1d36f1,
    0x510e527fade682d1,
    0x9b05688c2b3e6c1f,
    0x1f83d9abfb41bd6b,
    0x5be0cd19137e2179,
};
static const uint64_t round_constants[HASH_ROUNDS] = {
    0x428a2f98d728ae22,
    0x7137449123ef65cd,
    0xb5c0fbcfec4d3b2f,
    0xe9b5dba58189dbbc,
    0x3956c25bf348b538,
    0x59f111f1b605d019,
    0x923f82a4af194f9b,
    0xab1c5ed5da6d8118,
    0xd807aa98a3030242,
    0x12835b0145706fbe,
    0x243185be4ee4b28c,
    0x550c7dc3d5ffb4e2,
    0x72be5d74f27b896f,
    0x80deb1fe3b1696b1,
    0x9bdc06a725c71235,
    0xc19bf174cf692694,
    0xe49b69c19ef14ad2,
    0xefbe4786384f25e3,
    0x0fc19dc68b8cd5b5,
    0x240ca1cc77ac9c65,
    0x2de92c6f592b0275,
    0x4a7484aa6ea6e483,
    0x5cb0a9dcbd41fbd4,
    0x76f988da831153b5,
    0x983e5152ee66dfab,
    0xa831c66d2db43210,
    0xb00327c898fb213f,
    0xbf597fc7beef0ee4,
    0xc6e00bf33da88fc2,
    0xd5a79147930aa725,
    0x06ca6351e003826f,
    0x142929670a0e6e70,
    0x27b70a8546d22ffc,
    0x2e1b21385c26c926,
    0x4d2c6dfc5ac42aed,
    0x53380d139d95b3df,
    0x650a73548baf63de,
    0x766a0abb3c77b2a8,
    0x81c2c92e47edaee6,
    0x92722c851482353b,
    0xa2bfe8a14cf10364,
    0xa81a664bbc423001,
    0xc24b8b70d0f89791,
    0xc76c51a30654be30,
    0xd192e819d6ef5218,
    0xd69906245565a910,
    0xf40e35855771202a,
    0x106aa07032bbd1b8,
    0x19a4c116b8d2d0c8,
    0x1e376c085141ab53,
    0x2748774cdf8eeb99,
    0x34b0bcb5e19b48a8,
    0x391c0cb3c5c95a63,
    0x4ed8aa4ae3418acb,
    0x5b9cca4f7763e373,
    0x682e6ff3d6b2b8a3,
    0x748f82ee5defb2fc,
    0x78a5636f43172f60,
    0x84c87814a1f0ab72,
    0x8cc702081a6439ec,
    0x90befffa23631e28,
    0xa4506cebde82bde9,
    0xbef9a3f7b2c67915,
    0xc67178f2e372532b,
    0xca273eceea26619c,
    0xd186b8c721c0c207,
    0xeada7dd6cde0eb1e,
    0xf57d4f7fee6ed178,
    0x06f067aa72176fba,
    0x0a637dc5a2c898a6,
    0x113f9804bef90dae,
    0x1b710b35131c471b,
    0x28db77f523047d84,
    0x32caab7b40c72493,
    0x3c9ebe0a15c9bebc,
    0x431d67c49c100d4c,
    0x4cc5d4becb3e42b6,
    0x597f299cfc657e2a,
    0x5fcb6fab3ad6faec,
    0x6c44198c4a475817,
};

#ifndef EDGELORA_SHA512_M0PLUS

// x rotated right by n, not a multiple of 32. Works on halves: a 64-bit shift is a library call on
// small cores.
static uint64_t rotated(uint64_t x, uint32_t n) {
    uint32_t low = (uint32_t)x, high = (uint32_t)(x >> 32);
    if (n & 32) {
        uint32_t t = low;
        low = high;
        high = t;
    }
    n &= 31;
    return (uint64_t)(high >> n | low << (32 - n)) << 32 | (low >> n | high << (32 - n));
}

void edgelora_sha512_rounds(uint64_t *v, const uint64_t *w, const uint64_t *k) {
    for (uint32_t i = 0; i < HASH_STEP; i++, v--) {
        uint64_t a = v[0], e = v[4];
        uint64_t first = edgelora_sum64(v[7], rotated(e, 14) ^ rotated(e, 18) ^ rotated(e, 41));
        first = edgelora_sum64(first, v[6] ^ (e & (v[5] ^ v[6])));
        first = edgelora_sum64(first, edgelora_sum64(k[i], w[i]));
        uint64_t second = rotated(a, 28) ^ rotated(a, 34) ^ rotated(a, 39);
        second = edgelora_sum64(second, (a & v[1]) | (v[2] & (a | v[1])));
        v[3] = edgelora_sum64(v[3], first);
        v[-1] = edgelora_sum64(first, second);
    }
}

void edgelora_sha512_schedule(uint64_t *w) {
    for (uint32_t i = 0; i < HASH_WORDS; i++, w++) {
        w[16] = edgelora_sum64(w[0], w[9]);
        w[16] = edgelora_sum64(w[16], rotated(w[1], 1) ^ rotated(w[1], 8) ^ w[1] >> 7);
        w[16] = edgelora_sum64(w[16], rotated(w[14], 19) ^ rotated(w[14], 61) ^ w[14] >> 6);
    }
}

#endif

static void copy_words64(uint64_t *to, const uint64_t *from, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        to[i] = from[i];
    }
}

static void compress(edgelora_sha512_t *s) {
    uint64_t v[2 * HASH_STEP],
        w[2 * HASH_WORDS];  // room for the next 8 a, then the state; 16 words and the next 16
    copy_words64(v + HASH_STEP, s->state, HASH_STEP);
    copy_words64(w, s->block, HASH_WORDS);
    for (uint32_t t = 0; t < HASH_ROUNDS; t += HASH_STEP) {
        if (t && t % HASH_WORDS == 0) {
            edgelora_sha512_schedule(w);
            copy_words64(w, w + HASH_WORDS, HASH_WORDS);
        }
        edgelora_sha512_rounds(v + HASH_STEP, w + t % HASH_WORDS, round_constants + t);
        copy_words64(v + HASH_STEP, v, HASH_STEP);
    }
    for (uint32_t i = 0; i < HASH_STEP; i++) {
        s->state[i] = edgelora_sum64(s->state[i], v[i]);
    }
}

static void add_byte(edgelora_sha512_t *s, uint8_t byte) {
    uint64_t *word = &s->block[s->count / 8 % 16];
    *word = *word << 8 | byte;
    if (++s->count % HASH_BLOCK == 0) {
        compress(s);
    }
}

void edgelora_sha512_begin(edgelora_sha512_t *s) {
    for (uint32_t i = 0; i < 8; i++) {
        s->state[i] = initial_state[i];
    }
    s->count = 0;
}

void edgelora_sha512_add(edgelora_sha512_t *s, const uint8_t *data, size_t size) {
    for (size_t i = 0; i < size; i++) {
        add_byte(s, data[i]);
    }
}

void edgelora_sha512_end(edgelora_sha512_t *s, uint8_t digest[64]) {
    uint64_t bits = (uint64_t)s->count * 8;
    add_byte(s, 0x80);
    while (s->count % HASH_BLOCK != HASH_BLOCK - HASH_LENGTH) {
        add_byte(s, 0);
    }
    s->block[14] = 0;
    s->block[15] = bits;
    compress(s);
    for (uint32_t i = 0; i < 64; i++) {
        digest[i] = (uint8_t)(s->state[i / 8] >> (56 - 8 * (i % 8)));
    }
}
