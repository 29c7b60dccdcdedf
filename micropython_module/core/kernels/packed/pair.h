// Pairs of int8 values in one word, and their products: the arithmetic that differs between cores.
// SPDX-License-Identifier: MIT
//
// A *pair word* of weights a, b has a in the lower half and b in the upper half; one of inputs c, d
// is crossed, with c in the upper half and d in the lower half. dot2 is a * c + b * d. Each *group*
// of 4 values i .. i + 3 has the pair words E of (i, i + 2) and O of (i + 1, i + 3). Weights are in
// [-127, 127].

#ifndef EDGELORA_PAIR_H
#define EDGELORA_PAIR_H

#include <stdint.h>

#include "fixed.h"

// Selects the primitives: the only place that does. Optional kernels of these processors: extras.h.
#if defined(__ARM_ARCH_6M__)
#define EDGELORA_M0PLUS
#elif defined(__ARM_FEATURE_DSP) // Cortex-M4, M7, M33
#define EDGELORA_DSP
#include <arm_acle.h>
#endif

#ifdef EDGELORA_DSP

// Halves are independent values.
static inline uint32_t pair(uint32_t low, uint32_t high) {
    uint32_t word;
    __asm("pkhbt %0, %1, %2, lsl #16" : "=r"(word) : "r"(low), "r"(high));
    return word;
}

static inline int32_t dot2(uint32_t w, uint32_t x, int32_t sum) {
    return __smladx((int16x2_t)w, (int16x2_t)x, sum);
}

// E and O of weights in offset binary: bytes 0 and 2, bytes 1 and 3, minus 128 each
static inline uint32_t evens(uint32_t bytes) {
    return __uxtab16(0xFF80FF80u, bytes);
}

static inline uint32_t odds(uint32_t bytes) {
    uint32_t odds;
    __asm("uxtab16 %0, %1, %2, ror #8" : "=r"(odds) : "r"(0xFF80FF80u), "r"(bytes));
    return odds;
}

// E and O of inputs, s8, crossed.
static inline uint32_t crossed_evens(uint32_t bytes) {
    uint32_t out;
    __asm("sxtb16 %0, %1, ror #16" : "=r"(out) : "r"(bytes));
    return out;
}

static inline uint32_t crossed_odds(uint32_t bytes) {
    uint32_t out;
    __asm("sxtb16 %0, %1, ror #24" : "=r"(out) : "r"(bytes));
    return out;
}

// Bytes 1 and 3 of s8
static inline uint32_t signed_odds(uint32_t bytes) {
    uint32_t out;
    __asm("sxtb16 %0, %1, ror #8" : "=r"(out) : "r"(bytes));
    return out;
}

static inline int32_t upper_of_pair(uint32_t word) {
    return (int32_t)word >> 16;
}

static inline int8_t saturate_s8(int32_t v) {
    return (int8_t)__ssat(v, 8);
}

// c + rounding_high_mul(a, b), |a| < 2^30
static inline int32_t add_high_mul(int32_t c, int32_t a, int32_t b) {
    int32_t sum;
    __asm("smmlar %0, %1, %2, %3" : "=r"(sum) : "r"(2 * a), "r"(b), "r"(c));
    return sum;
}

#else

// The word is a + b * 2^16. Then the upper half of the words' product is dot2, minus 1 if the lower
// half, a * d, is negative; bit 15 shows that, and adding 2^15 carries it up. |dot2| <= 2 * 127 *
// 128: no overflow.
static inline uint32_t pair(uint32_t low, uint32_t high) {
    return low + (high << 16);
}

static inline int32_t dot2(uint32_t w, uint32_t x, int32_t sum) {
    return sum + ((int32_t)(w * x + 0x8000u) >> 16);
}

static inline uint32_t evens(uint32_t bytes) {
    return (bytes & 0x00FF00FFu) - 0x00800080u;
}

static inline uint32_t odds(uint32_t bytes) {
    return evens(bytes >> 8);
}

static inline uint32_t crossed_evens(uint32_t bytes) {
    bytes ^= 0x80808080u;
    return evens(bytes << 16 | bytes >> 16);
}

static inline uint32_t crossed_odds(uint32_t bytes) {
    bytes ^= 0x80808080u;
    return odds(bytes << 16 | bytes >> 16);
}

static inline int32_t upper_of_pair(uint32_t word) {
    return (int32_t)(word + 0x8000u) >> 16;
}

static inline int8_t saturate_s8(int32_t v) {
    return (int8_t)clamp_s32(v, -128, 127);
}

static inline int32_t add_high_mul(int32_t c, int32_t a, int32_t b) {
    return c + rounding_high_mul(a, b);
}

#endif

#endif
