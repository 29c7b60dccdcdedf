// WebAssembly's vectors of 128 bits: 16-bit values, two products per lane in one instruction.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_LANES // of one processor (lanes.h)
#define EDGELORA_LANES

#include "kernels/simd/simd.h"

#include <wasm_simd128.h>

#define EDGELORA_TABLE edgelora_wasm

#define UNITS_ARE_INPUTS 0
#define UNITS_ARE_WORDS 1
enum { WIDTH = 8, LANES = 8, ROWS = 4, PANEL_GROUP = 4 * LANES };

typedef int16_t weight_t; // of weights: [groups][LANES / 4][two pairs][4 lanes][2]

#include "kernels/simd/rows.h"

typedef struct { // s32
    v128_t low, high;
} lanes_t;

static inline lanes_t lanes_load(const int32_t *v) {
    return (lanes_t){wasm_v128_load(v), wasm_v128_load(v + 4)};
}

static inline void lanes_store(int32_t *to, lanes_t v) {
    wasm_v128_store(to, v.low);
    wasm_v128_store(to + 4, v.high);
}

static inline lanes_t lanes_of(int32_t v) {
    return (lanes_t){wasm_i32x4_splat(v), wasm_i32x4_splat(v)};
}

static inline lanes_t lanes_of_s8(const int8_t *v) {
    v128_t words = wasm_i16x8_load8x8(v);
    return (lanes_t){wasm_i32x4_extend_low_i16x8(words), wasm_i32x4_extend_high_i16x8(words)};
}

#define LANES_OF_TWO(name, function) \
    static inline lanes_t name(lanes_t a, lanes_t b) { \
        return (lanes_t){function(a.low, b.low), function(a.high, b.high)}; \
    }
#define LANES_SHIFTED(name, function) \
    static inline lanes_t name(lanes_t v, int32_t n) { \
        return (lanes_t){function(v.low, (uint32_t)n), function(v.high, (uint32_t)n)}; \
    }

// The lower halves of (64-bit products of a and b + half) >> n
static inline v128_t four_mul_shift(v128_t a, v128_t b, int64_t half, uint32_t n) {
    v128_t low = wasm_i64x2_extmul_low_i32x4(a, b), high = wasm_i64x2_extmul_high_i32x4(a, b),
           more = wasm_i64x2_splat(half);
    low = wasm_u64x2_shr(wasm_i64x2_add(low, more), n);
    high = wasm_u64x2_shr(wasm_i64x2_add(high, more), n);
    return wasm_i32x4_shuffle(low, high, 0, 2, 4, 6);
}

static inline v128_t four_high_mul(v128_t a, v128_t b) {
    return four_mul_shift(a, b, 1 << 30, 31);
}

LANES_OF_TWO(lanes_add, wasm_i32x4_add)
LANES_OF_TWO(lanes_sub, wasm_i32x4_sub)
LANES_OF_TWO(lanes_mul, wasm_i32x4_mul)
LANES_OF_TWO(lanes_min, wasm_i32x4_min)
LANES_OF_TWO(lanes_max, wasm_i32x4_max)
LANES_OF_TWO(lanes_or, wasm_v128_or)
LANES_OF_TWO(lanes_and, wasm_v128_and)
LANES_OF_TWO(lanes_xor, wasm_v128_xor)
LANES_OF_TWO(lanes_above, wasm_i32x4_gt)      // -1 or 0
LANES_OF_TWO(lanes_high_mul, four_high_mul)   // rounding_high_mul
LANES_SHIFTED(lanes_shift_left, wasm_i32x4_shl)
LANES_SHIFTED(lanes_shift_right, wasm_i32x4_shr)

// round_divide, n in 0..31 and the same in all lanes
static inline lanes_t lanes_round_divide(lanes_t v, lanes_t n) {
    int32_t count = wasm_i32x4_extract_lane(n.low, 0), mask = (int32_t)((1u << count) - 1);
    lanes_t half = lanes_sub(lanes_of((int32_t)((uint32_t)mask >> 1)), lanes_shift_right(v, 31));
    return lanes_sub(lanes_shift_right(v, count), lanes_above(lanes_and(v, lanes_of(mask)), half));
}

// t >> -shift for shift in -31..0, where t is not negative for -31: as products with 2^(30 +
// shift), since only all lanes together can be shifted. A power comes from a float's exponent.
static inline v128_t four_shift_right(v128_t t, v128_t shift) {
    v128_t exponent = wasm_i32x4_add(shift, wasm_i32x4_splat(127 + 30));
    v128_t power = wasm_i32x4_trunc_sat_f32x4(wasm_i32x4_shl(exponent, 23));
    return four_mul_shift(t, power, 0, 30);
}

// Second step of requantize for shift <= 0; v = rounding_high_mul(acc, multiplier), half: of
// 2^-shift. |v| <= 2^30, so that v + half is not negative for a shift of -31.
static inline lanes_t lanes_rounded(lanes_t acc, lanes_t v, lanes_t shift, lanes_t half) {
    lanes_t away = lanes_shift_right(lanes_and(acc, shift), 31),
            t = lanes_add(v, lanes_add(half, away));
    return (lanes_t){four_shift_right(t.low, shift.low), four_shift_right(t.high, shift.high)};
}

// requantize for |acc| < 2^30. See portable.h's `output`.
static inline lanes_t lanes_requantize(
    lanes_t acc, lanes_t multiplier, lanes_t shift, lanes_t half) {
    return lanes_rounded(acc, lanes_high_mul(acc, multiplier), shift, half);
}

// trunc_shift, n in 0..31, |v| < 2^31
static inline lanes_t lanes_trunc_shift(lanes_t v, int32_t n) {
    lanes_t mask = lanes_of((int32_t)((1u << n) - 1)), sign = lanes_shift_right(v, 31);
    return lanes_shift_right(lanes_add(v, lanes_and(sign, mask)), n);
}

static inline lanes_t lanes_shift_down(lanes_t v, int32_t n) { // unsigned
    return (lanes_t){wasm_u32x4_shr(v.low, (uint32_t)n), wasm_u32x4_shr(v.high, (uint32_t)n)};
}

static inline lanes_t lanes_abs(lanes_t v) {
    return (lanes_t){wasm_i32x4_abs(v.low), wasm_i32x4_abs(v.high)};
}

static inline lanes_t lanes_of_s16(const int16_t *v) {
    return (lanes_t){wasm_i32x4_load16x4(v), wasm_i32x4_load16x4(v + 4)};
}

static inline void lanes_store_s16(int16_t *to, lanes_t v) {
    wasm_v128_store(to, wasm_i16x8_narrow_i32x4(v.low, v.high));
}

// sum + products of both halves of each lane
static inline lanes_t lanes_dot2(lanes_t sum, lanes_t a, lanes_t b) {
    lanes_t both = {wasm_i32x4_dot_i16x8(a.low, b.low), wasm_i32x4_dot_i16x8(a.high, b.high)};
    return lanes_add(sum, both);
}

// v with the sign of another one
static inline lanes_t lanes_signed(lanes_t v, lanes_t of) {
    lanes_t sign = lanes_shift_right(of, 31);
    return lanes_sub(lanes_xor(v, sign), sign);
}

// Stores the lowest byte of each lane.
static inline void lanes_store_s8(int8_t *to, lanes_t v) {
    v128_t bytes = wasm_i8x16_shuffle(
        v.low, v.high, 0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
    wasm_v128_store64_lane(to, bytes, 0);
}

static inline void widen_16(int16_t *to, const int8_t *from) {
    wasm_v128_store(to, wasm_i16x8_load8x8(from));
    wasm_v128_store(to + 8, wasm_i16x8_load8x8(from + 8));
}

// One bit for each of 16 values: low <= y <= high.
static inline uint32_t sixteen_within(const int8_t *y, int8_t low, int8_t high) {
    v128_t v = wasm_v128_load(y);
    return wasm_i8x16_bitmask(wasm_v128_and(
        wasm_i8x16_ge(v, wasm_i8x16_splat(low)), wasm_i8x16_le(v, wasm_i8x16_splat(high))));
}

#define INTERLEAVED_LOW(a, b) wasm_i16x8_shuffle(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define INTERLEAVED_HIGH(a, b) wasm_i16x8_shuffle(a, b, 4, 12, 5, 13, 6, 14, 7, 15)

// Depthwise: 16 channels; weights of two taps are interleaved.

static inline void taps_join(int16_t *to, const int16_t *a, const int16_t *b) {
    for (int k = 0; k < 16; k += 8) {
        v128_t x = wasm_v128_load(a + k), y = wasm_v128_load(b + k);
        wasm_v128_store(to + 2 * k, INTERLEAVED_LOW(x, y));
        wasm_v128_store(to + 2 * k + 8, INTERLEAVED_HIGH(x, y));
    }
}

static inline v128_t add_dot2(v128_t sum, v128_t a, v128_t b) {
    return wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(a, b));
}

static inline __attribute__((always_inline)) void taps_products(lanes_t *sum, const int16_t *x,
    const uint32_t *offset, const int16_t *weights, uint32_t pairs) {
    sum[0] = sum[1] = lanes_of(0);
    for (; pairs; --pairs, offset += 2) {
        for (int k = 0; k < 2; ++k, weights += 16) {
            v128_t a = wasm_v128_load(x + offset[0] + 8 * k),
                   b = wasm_v128_load(x + offset[1] + 8 * k);
            sum[k].low = add_dot2(sum[k].low, INTERLEAVED_LOW(a, b), wasm_v128_load(weights));
            sum[k].high = add_dot2(
                sum[k].high, INTERLEAVED_HIGH(a, b), wasm_v128_load(weights + 8));
        }
    }
}

// Matrix products

static inline void group_store(weight_t *group, uint32_t lane, uint32_t four) {
    group += lane / 4 * 16 + lane % 4 * 2;
    for (uint32_t k = 0; k < 4; ++k, four >>= 8) {
        group[k / 2 * 8 + k % 2] = (int8_t)four;
    }
}

// Packs four groups, from byte `at` of each lane's row on.
static inline void groups_from_rows(
    weight_t *to, const uint8_t *const *row, uint32_t lanes, uint32_t at, uint32_t flip) {
    (void)lanes;
    for (uint32_t l = 0; l < LANES; l += 4, to += 16) {
        v128_t r[4];
        for (uint32_t k = 0; k < 4; ++k) {
            r[k] = wasm_v128_xor(wasm_v128_load(row[l + k] + at), wasm_i32x4_splat((int)flip));
        }
        for (uint32_t i = 0; i < 2; ++i) { // two groups each
            v128_t w[4];
            for (uint32_t k = 0; k < 4; ++k) {
                w[k] = i ? wasm_i16x8_extend_high_i8x16(r[k]) : wasm_i16x8_extend_low_i8x16(r[k]);
            }
            v128_t a = wasm_i32x4_shuffle(w[0], w[1], 0, 4, 1, 5),
                   b = wasm_i32x4_shuffle(w[2], w[3], 0, 4, 1, 5),
                   c = wasm_i32x4_shuffle(w[0], w[1], 2, 6, 3, 7),
                   d = wasm_i32x4_shuffle(w[2], w[3], 2, 6, 3, 7);
            weight_t *group = to + 8 * i * LANES;
            wasm_v128_store(group, wasm_i64x2_shuffle(a, b, 0, 2));
            wasm_v128_store(group + 8, wasm_i64x2_shuffle(a, b, 1, 3));
            wasm_v128_store(group + 4 * LANES, wasm_i64x2_shuffle(c, d, 0, 2));
            wasm_v128_store(group + 4 * LANES + 8, wasm_i64x2_shuffle(c, d, 1, 3));
        }
    }
}

// Packs all lanes of a group; rows: LANES bytes each.
static inline void group_from_columns(weight_t *to, const uint8_t *const *row, uint32_t flip) {
    const v128_t offset = wasm_i16x8_splat(128);
    v128_t r[4];
    for (int k = 0; k < 4; ++k) {
        r[k] = flip ? wasm_i16x8_sub(wasm_u16x8_load8x8(row[k]), offset)
                    : wasm_i16x8_load8x8(row[k]);
    }
    wasm_v128_store(to, INTERLEAVED_LOW(r[0], r[1]));
    wasm_v128_store(to + 8, INTERLEAVED_LOW(r[2], r[3]));
    wasm_v128_store(to + 16, INTERLEAVED_HIGH(r[0], r[1]));
    wasm_v128_store(to + 24, INTERLEAVED_HIGH(r[2], r[3]));
}

static inline unit_t unit_of(int8_t v) {
    return v;
}

static inline lanes_t panel_excess(const weight_t *panel, uint32_t groups) { // none
    (void)panel;
    (void)groups;
    return lanes_of(0);
}

// sum += products of a panel and `rows` rows, the first at x.
static inline __attribute__((always_inline)) void products(
    lanes_t *sum, const weight_t *panel, const rows_t *in, const unit_t *x, const int rows) {
    const size_t step = in->step;
    for (uint32_t runs = in->runs; runs; --runs, x += in->pitch) {
        const unit_t *at = x;
        for (uint32_t n = in->groups; n; --n, at += 4, panel += 4 * LANES) {
            v128_t w[4];
            for (int k = 0; k < 4; ++k) {
                w[k] = wasm_v128_load(panel + 8 * k);
            }
#pragma clang loop unroll(full)
            for (int r = 0; r < rows; ++r) {
                v128_t a = wasm_v128_load32_splat(at + (size_t)r * step),
                       b = wasm_v128_load32_splat(at + (size_t)r * step + 2);
                sum[r].low = add_dot2(add_dot2(sum[r].low, w[0], a), w[1], b);
                sum[r].high = add_dot2(add_dot2(sum[r].high, w[2], a), w[3], b);
            }
        }
    }
}

#endif
