// The field modulo p = 2^255 - 19: portable.
// SPDX-License-Identifier: MIT
//
// As 2^256 = 2 p + 38, a carry out of the eighth word adds 38 to the first.

#include "field.h"
#include "words.h"

enum { FE_WORDS = EDGELORA_FE_WORDS, FE_FOLD = 38, A24 = 121665 };

void edgelora_fe_copy(edgelora_fe_t r, const edgelora_fe_t a) {
    for (uint32_t i = 0; i < FE_WORDS; i++) {
        r[i] = a[i];
    }
}

void edgelora_fe_small(edgelora_fe_t r, uint32_t value) {
    for (uint32_t i = 0; i < FE_WORDS; i++) {
        r[i] = i ? 0 : value;
    }
}

// r += value; returns the carry.
static uint32_t fe_carried(uint32_t *r, uint32_t value) {
    for (uint32_t i = 0; i < FE_WORDS; i++) {
        uint32_t carry = edgelora_carry(r[i], value);
        r[i] += value;
        value = carry;
    }
    return value;
}

#ifndef EDGELORA_FIELD_M0PLUS

// r += carry 2^256 for carry < 2^18. If that carries again, r < 38 2^18 remains, so that adding the
// second carry can't overflow.
static void fe_fold(uint32_t *r, uint32_t carry) {
    r[0] += FE_FOLD * fe_carried(r, FE_FOLD * carry);
}

void edgelora_fe_add(edgelora_fe_t r, const edgelora_fe_t a, const edgelora_fe_t b) {
    uint64_t v = 0;
    for (uint32_t i = 0; i < FE_WORDS; i++) {
        v = edgelora_sum64(v, edgelora_sum64(a[i], b[i]));
        r[i] = (uint32_t)v;
        v >>= 32;
    }
    fe_fold(r, (uint32_t)v);
}

// Without a borrow, a - b is a + (2^256 - 1 - b) + 1 - 2^256. With one, the result is a - b +
// 2^256, from which 38 is subtracted, at most twice.
void edgelora_fe_subtract(edgelora_fe_t r, const edgelora_fe_t a, const edgelora_fe_t b) {
    uint32_t borrow = 0;
    for (uint32_t i = 0; i < FE_WORDS; i++) {
        uint64_t v = edgelora_difference64(edgelora_difference64(a[i], b[i]), borrow);
        r[i] = (uint32_t)v;
        borrow = (uint32_t)(v >> 32) & 1;
    }
    borrow *= FE_FOLD;
    for (uint32_t i = 0; i < FE_WORDS; i++) {
        uint64_t v = edgelora_difference64(r[i], borrow);
        r[i] = (uint32_t)v;
        borrow = (uint32_t)(v >> 32) & 1;
    }
    r[0] -= FE_FOLD * borrow;
}

static inline uint64_t word_product(uint32_t a, uint32_t b) {
#if defined(__XTENSA__) || defined(__ARM_ARCH_6M__)  // no 64-bit product, or not on all cores
    uint32_t low = (a & 0xffff) * (b & 0xffff);
    uint32_t middle = (a >> 16) * (b & 0xffff) + (low >> 16);
    uint32_t other = (a & 0xffff) * (b >> 16) + (middle & 0xffff);
    return (uint64_t)((a >> 16) * (b >> 16) + (middle >> 16) + (other >> 16)) << 32 | other << 16 |
        (low & 0xffff);
#else
    return (uint64_t)a * b;
#endif
}

// r = lower half + 38 * upper half of 16 words.
static void fe_reduce(uint32_t *r, const uint32_t *product) {
    uint64_t v = 0;
    for (uint32_t i = 0; i < FE_WORDS; i++) {
        v = edgelora_sum64(
            v, edgelora_sum64(word_product(product[FE_WORDS + i], FE_FOLD), product[i]));
        r[i] = (uint32_t)v;
        v >>= 32;
    }
    fe_fold(r, (uint32_t)v);
}

void edgelora_fe_multiply(edgelora_fe_t r, const edgelora_fe_t a, const edgelora_fe_t b) {
    uint32_t product[2 * FE_WORDS] = {0};
    for (uint32_t i = 0; i < FE_WORDS; i++) {
        uint64_t v = 0;
        for (uint32_t j = 0; j < FE_WORDS; j++) {
            v = edgelora_sum64(v, edgelora_sum64(word_product(a[i], b[j]), product[i + j]));
            product[i + j] = (uint32_t)v;
            v >>= 32;
        }
        product[i + FE_WORDS] = (uint32_t)v;
    }
    fe_reduce(r, product);
}

void edgelora_fe_square(edgelora_fe_t r, const edgelora_fe_t a) {
    uint32_t product[2 * FE_WORDS] = {0};
    for (uint32_t i = 0; i < FE_WORDS; i++) {
        uint64_t v = 0;
        for (uint32_t j = i + 1; j < FE_WORDS; j++) {  // each product counts twice
            v = edgelora_sum64(v, edgelora_sum64(word_product(a[i], a[j]), product[i + j]));
            product[i + j] = (uint32_t)v;
            v >>= 32;
        }
        product[i + FE_WORDS] = (uint32_t)v;
    }
    uint64_t v = 0;
    for (uint32_t i = 0; i < FE_WORDS; i++) {
        uint64_t square = word_product(a[i], a[i]);
        v = edgelora_sum64(v, edgelora_sum64((uint64_t)product[2 * i] << 1, (uint32_t)square));
        product[2 * i] = (uint32_t)v;
        v >>= 32;
        v = edgelora_sum64(v, edgelora_sum64((uint64_t)product[2 * i + 1] << 1, square >> 32));
        product[2 * i + 1] = (uint32_t)v;
        v >>= 32;
    }
    fe_reduce(r, product);
}

void edgelora_fe_multiply_a24(edgelora_fe_t r, const edgelora_fe_t a) {
    uint64_t v = 0;
    for (uint32_t i = 0; i < FE_WORDS; i++) {
        v = edgelora_sum64(v, word_product(a[i], A24));
        r[i] = (uint32_t)v;
        v >>= 32;
    }
    fe_fold(r, (uint32_t)v);
}

#endif

// Computes a^(2^k - 1) for growing k: doubles or increments k along the bits of 250.
void edgelora_fe_power(edgelora_fe_t r, const edgelora_fe_t a) {
    edgelora_fe_t x, before;
    edgelora_fe_copy(x, a);
    uint32_t k = 1;
    for (uint32_t rest = 250 & 127, bit = 64; bit; bit >>= 1) {
        edgelora_fe_copy(before, x);
        for (uint32_t i = 0; i < k; i++) {
            edgelora_fe_square(x, x);
        }
        edgelora_fe_multiply(x, x, before);
        k *= 2;
        if (rest & bit) {
            edgelora_fe_square(x, x);
            edgelora_fe_multiply(x, x, a);
            k++;
        }
    }
    edgelora_fe_square(x, x);
    edgelora_fe_square(x, x);
    edgelora_fe_multiply(r, x, a);
}

// r = 1 / a = a^(p - 2) = (a^(2^252 - 3))^8 a^3
void edgelora_fe_invert(edgelora_fe_t r, const edgelora_fe_t a) {
    edgelora_fe_t x;
    edgelora_fe_power(x, a);
    for (uint32_t i = 0; i < 3; i++) {
        edgelora_fe_square(x, x);
    }
    for (uint32_t i = 0; i < 3; i++) {
        edgelora_fe_multiply(x, x, a);
    }
    edgelora_fe_copy(r, x);
}

void edgelora_fe_swap(edgelora_fe_t a, edgelora_fe_t b, uint32_t swap) {
    uint32_t mask = edgelora_mask_of(swap);
    for (uint32_t i = 0; i < FE_WORDS; i++) {
        uint32_t differ = (a[i] ^ b[i]) & mask;
        a[i] ^= differ;
        b[i] ^= differ;
    }
}

void edgelora_fe_decode(edgelora_fe_t r, const uint8_t bytes[32]) {
    for (uint32_t i = 0; i < FE_WORDS; i++) {
        const uint8_t *b = bytes + 4 * i;
        r[i] = b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    }
    r[FE_WORDS - 1] &= 0x7fffffff;
}

// r = r mod 2^255 + add + 19 * (bit at 2^255)
static void fe_fold_top(uint32_t *r, uint32_t add) {
    add += 19 * (r[FE_WORDS - 1] >> 31);
    r[FE_WORDS - 1] &= 0x7fffffff;
    fe_carried(r, add);
}

void edgelora_fe_encode(uint8_t bytes[32], const edgelora_fe_t a) {
    edgelora_fe_t v;
    edgelora_fe_copy(v, a);
    fe_fold_top(v, 0);  // v <= 2^255 + 18
    fe_fold_top(v, 0);  // v < 2^255
    // if v was >= p, its top bit is now set and it is v - p + 2^255; otherwise 19 is subtracted
    // again
    fe_fold_top(v, 19);
    uint32_t borrow = 19 & ((v[FE_WORDS - 1] >> 31) - 1);
    for (uint32_t i = 0; i < FE_WORDS; i++) {
        uint32_t word = v[i] - borrow;
        borrow = edgelora_carry(word, borrow);
        word &= i < FE_WORDS - 1 ? 0xffffffff : 0x7fffffff;
        for (uint32_t byte = 0; byte < 4; byte++) {
            bytes[4 * i + byte] = (uint8_t)(word >> 8 * byte);
        }
    }
}
