// Sums and choices of words that are secret. A core without a carry flag or a comparison that makes
// a number, as Xtensa's, compares and branches for the carry of a 64-bit sum: there it is found
// from the bits.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_CRYPTO_WORDS_H
#define EDGELORA_CRYPTO_WORDS_H

#include <stdint.h>

// All ones if bit is 1, 0 if it is 0. The compiler knows nothing of it: it makes no branch of what
// is chosen by it.
static inline uint32_t edgelora_mask_of(uint32_t bit) {
    __asm__("" : "+r"(bit));
    return 0 - bit;
}

// What a + b carries: 0 or 1.
static inline uint32_t edgelora_carry(uint32_t a, uint32_t b) {
    uint32_t sum = a + b;
#ifdef __XTENSA__
    return ((a & b) | ((a | b) & ~sum)) >> 31;
#else
    return sum < a;
#endif
}

static inline uint64_t edgelora_sum64(uint64_t a, uint64_t b) {
#ifdef __XTENSA__
    uint32_t low = (uint32_t)a, other = (uint32_t)b;
    uint32_t high = (uint32_t)(a >> 32) + (uint32_t)(b >> 32) + edgelora_carry(low, other);
    return (uint64_t)high << 32 | (uint32_t)(low + other);
#else
    return a + b;
#endif
}

static inline uint64_t edgelora_difference64(uint64_t a, uint64_t b) {
#ifdef __XTENSA__
    return ~edgelora_sum64(~a, b);
#else
    return a - b;
#endif
}

#endif
