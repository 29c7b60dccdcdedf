// Fixed-point arithmetic of SPEC.md, sections 1, 2 and 7.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_FIXED_H
#define EDGELORA_FIXED_H

#include <stdbool.h>
#include <stdint.h>

#include "contract.h"

// Code that runs from RAM on chips with slow flash; the build may define its section.
#ifndef EDGELORA_HOT
#define EDGELORA_HOT
#endif

// Code that runs once an op: from RAM on such chips, too, where reading it from flash would take
// longer than it runs.
#ifndef EDGELORA_RAM
#define EDGELORA_RAM
#endif

// Code that native modules compile for speed, like EDGELORA_HOT, but that stays in flash elsewhere.
#ifndef EDGELORA_WARM
#define EDGELORA_WARM
#endif

// For inner loops: inlined into a large function, they would spill registers.
#define EDGELORA_KERNEL EDGELORA_HOT __attribute__((noinline))

// 2^32 divided by the golden ratio: multiples of it, modulo 2^32, lie as far apart as they can.
#define EDGELORA_GOLDEN 0x9E3779B9u

static inline uint32_t align4(uint32_t n) {
    return (n + 3) & ~3u;
}

// Is p a multiple of 4?
static inline bool is_aligned(const void *p) {
    return ((uintptr_t)p & 3) == 0;
}

// Do [a, a + n) and [b, b + m) have no byte in common?
static inline bool apart(const void *a, uint32_t n, const void *b, uint32_t m) {
    uintptr_t start_a = (uintptr_t)a, start_b = (uintptr_t)b;
    return start_a < start_b ? start_b - start_a >= n : start_a - start_b >= m;
}

static inline int32_t clamp_s32(int32_t v, int32_t low, int32_t high) {
    return v < low ? low : v > high ? high : v;
}

static inline uint32_t abs_u32(int32_t v) {
    return v < 0 ? 0u - (uint32_t)v : (uint32_t)v;
}

// n in -8..31
static inline int32_t round_shift(int32_t v, int n) {
    return n > 0 ? (v + (1 << (n - 1))) >> n : (int32_t)((uint32_t)v << -n);
}

static inline int32_t trunc_shift(int32_t v, int32_t n) {
    if (n > 31) {
        return 0;
    }
    uint32_t magnitude = abs_u32(v) >> n;
    return v < 0 ? -(int32_t)magnitude : (int32_t)magnitude;
}

// trunc_shift with a precomputed mask = 2^n - 1; n in 0..31.
static inline int32_t trunc_mask(int32_t v, int32_t n, int32_t mask) {
    return (v + ((v >> 31) & mask)) >> n;
}

static inline int32_t shift_mask(int32_t n) {
    return (int32_t)((1u << n) - 1);
}

// Bit length of v: floor(log2 v) + 1, 0 for 0.
static inline int bit_length(uint32_t v) {
    int n = 0;
    for (int step = 16; step; step >>= 1) {
        if (v >> step) {
            v >>= step;
            n += step;
        }
    }
    return n + (int)v;
}

// floor((a * b + 2^30) / 2^31), b >= 0. Multiplies 16-bit halves, as Cortex-M0+ has no 64-bit
// product.
static inline int32_t rounding_high_mul(int32_t a, int32_t b) {
    uint32_t al = (uint32_t)a & 0xFFFF, bl = (uint32_t)b & 0xFFFF;
    int32_t ah = a >> 16, bh = b >> 16;
    uint32_t low = al * bl;
    // middle terms: ah * bl is signed, |.| < 2^31; al * bh < 2^31
    int32_t m1 = ah * (int32_t)bl, m2 = (int32_t)(al * (uint32_t)bh);
    uint32_t carry = (low >> 16) + ((uint32_t)m1 & 0xFFFF) + ((uint32_t)m2 & 0xFFFF);
    int32_t high = ah * bh + (m1 >> 16) + (m2 >> 16) + (int32_t)(carry >> 16);
    uint32_t rest = (carry << 16) | (low & 0xFFFF);
    // bits 31.. of the product plus bit 30 as rounding
    return (int32_t)(((uint32_t)high << 1) + (rest >> 31) + ((rest >> 30) & 1));
}

// v / 2^n, halves away from zero; n in 0..31
static inline int32_t round_divide(int32_t v, int n) {
    uint32_t mask = (1u << n) - 1;
    return (v >> n) + (((uint32_t)v & mask) > (mask >> 1) + (v < 0));
}

// TFLite's MultiplyByQuantizedMultiplier with double rounding. shift in -31..30.
static inline int32_t requantize(int32_t acc, int32_t multiplier, int shift) {
    if (shift > 0) {
        return rounding_high_mul((int32_t)((uint32_t)acc << shift), multiplier);
    }
    return round_divide(rounding_high_mul(acc, multiplier), -shift);
}

// Like requantize, with a multiplier of any sign: a negative one negates the result.
static inline int32_t requantize_signed(int32_t acc, int32_t multiplier, int shift) {
    int32_t v = requantize(acc, (int32_t)abs_u32(multiplier), shift);
    return multiplier < 0 ? -v : v;
}

// `mix` is the finalizer of MurmurHash3 (32 bits): each bit of z changes about half of the result's
// bits. mix_t keeps its factors in registers in loops: compilers for Cortex-M0+ would replace
// multiplications by constants with dozens of shifts and additions.
typedef struct {
    uint32_t first, second;
} mix_t;

static inline mix_t mix_constants(void) {
    mix_t c = {0x85EBCA6Bu, 0xC2B2AE35u};
    __asm("" : "+r"(c.first), "+r"(c.second));
    return c;
}

static inline uint32_t mix_with(uint32_t z, mix_t c) {
    z ^= z >> 16;
    z *= c.first;
    z ^= z >> 13;
    z *= c.second;
    return z ^ (z >> 16);
}

static inline uint32_t mix(uint32_t z) {
    return mix_with(z, mix_constants());
}

static inline uint32_t stream(uint32_t seed, uint32_t k) {
    return mix(seed + k * EDGELORA_GOLDEN);
}

#endif
