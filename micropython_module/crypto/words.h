// Constant-time sums and selections of secret words. On cores without a carry flag or a
// compare-to-register instruction, like Xtensa, compilers branch for the carry of a 64-bit sum:
// there it is computed from bits.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_CRYPTO_WORDS_H
#define EDGELORA_CRYPTO_WORDS_H

#include <stdint.h>

// All ones if bit is 1, 0 if it is 0. The value is opaque to the compiler, which therefore can't
// turn a selection into a branch.
static inline uint32_t edgelora_mask_of(uint32_t bit) {
    __asm__("" : "+r"(bit));
    return 0 - bit;
}

// The carry of a + b: 0 or 1.
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
