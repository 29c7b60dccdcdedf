// Bounds and results of fixed.h, for all arguments that its comments allow.
// SPDX-License-Identifier: MIT

#include "fixed.h"
#include "proof.h"

void prove_clamp(void) {
    int32_t v = nondet_s32(), low = nondet_s32(), high = nondet_s32();
    ASSUME(low <= high);
    int32_t c = clamp_s32(v, low, high);
    PROVE(c >= low && c <= high && (c == v || c == low || c == high));
    PROVE(v < low || v > high || c == v);
}

void prove_abs(void) {
    int32_t v = nondet_s32();
    PROVE(abs_u32(v) == (uint32_t)(v < 0 ? -(int64_t)v : v));
}

void prove_bit_length(void) {
    uint32_t v = nondet_u32();
    int n = bit_length(v);
    PROVE(n >= 0 && n <= 32 && ((uint64_t)v >> n) == 0 && (n == 0 || (v >> (n - 1)) == 1));
}

void prove_align(void) {
    uint32_t n = nondet_u32();
    ASSUME(n <= UINT32_MAX - 3);
    PROVE(align4(n) % 4 == 0 && align4(n) >= n && align4(n) - n < 4);
}

// Rounds halves up, if the sum stays within 32 bits.
void prove_round_shift(void) {
    int32_t v = nondet_s32(), n = nondet_s32();
    ASSUME(n >= 1 && n <= 30 && v < 1 << 30 && v >= -(1 << 30));
    PROVE(round_shift(v, n) == (int32_t)(((int64_t)v + (1ll << (n - 1))) >> n));
}

void prove_trunc_shift(void) {
    int32_t v = nondet_s32(), n = nondet_s32();
    ASSUME(n >= 0 && n <= 31 && v > INT32_MIN);
    PROVE(trunc_shift(v, n) == (int32_t)((int64_t)v / (1ll << n)));
    PROVE(trunc_mask(v, n, shift_mask(n)) == trunc_shift(v, n) || v > INT32_MAX - shift_mask(n) ||
        n == 31);
    PROVE(trunc_shift(v, 32) == 0);
}

// Rounds halves away from zero.
void prove_round_divide(void) {
    int32_t v = nondet_s32(), n = nondet_s32();
    ASSUME(n >= 1 && n <= 31);
    int64_t twice = 2 * (v < 0 ? -(int64_t)v : v), unit = 1ll << n,
            rounded = (twice + unit) >> (n + 1);
    PROVE(round_divide(v, n) == (int32_t)(v < 0 ? -rounded : rounded));
    PROVE(round_divide(v, 0) == v);
}

// Signed 32-bit halves never overflow, by CBMC's own checks.
void prove_high_mul_bounds(void) {
    int32_t a = nondet_s32(), b = nondet_s32();
    ASSUME(b >= 0);
    rounding_high_mul(a, b);
}

// Equal to the 64-bit product, for multipliers that are a power of two: tests the carries between
// the halves.
void prove_high_mul(void) {
    int32_t a = nondet_s32(), k = nondet_s32();
    ASSUME(k >= 0 && k <= 30);
    PROVE(rounding_high_mul(a, 1 << k) == (int32_t)(((int64_t)a * (1ll << k) + (1ll << 30)) >> 31));
}

void prove_requantize_bounds(void) {
    int32_t acc = nondet_s32(), multiplier = nondet_s32(), shift = nondet_s32();
    ASSUME(multiplier >= 0 && shift >= -31 && shift <= 30);
    requantize(acc, multiplier, shift);
    ASSUME(acc > -(1 << 30) && acc < 1 << 30 && shift <= 0);
    int32_t y = requantize(acc, multiplier, shift);
    PROVE(y > -(1 << 30) - 2 && y < (1 << 30) + 2);
}
