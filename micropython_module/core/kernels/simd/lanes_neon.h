// NEON: eight products of bytes in one instruction.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_LANES // of one processor (lanes.h)
#define EDGELORA_LANES

#include "kernels/simd/simd.h"

#include <arm_neon.h>

#define EDGELORA_TABLE edgelora_neon

#define UNIT int8_t // inputs
#define UNITS_ARE_INPUTS 1
#define UNITS_ARE_WORDS 0
enum { WIDTH = 8, LANES = 8, ROWS = 4, PANEL_GROUP = 4 * LANES };

typedef int8_t weight_t; // of weights: [groups][LANES][4]

#include "kernels/simd/rows.h"

typedef int32x4x2_t lanes_t;

static inline lanes_t lanes_load(const int32_t *v) {
    return (lanes_t){{vld1q_s32(v), vld1q_s32(v + 4)}};
}

static inline void lanes_store(int32_t *to, lanes_t v) {
    vst1q_s32(to, v.val[0]);
    vst1q_s32(to + 4, v.val[1]);
}

static inline lanes_t lanes_of(int32_t v) {
    return (lanes_t){{vdupq_n_s32(v), vdupq_n_s32(v)}};
}

static inline lanes_t lanes_of_s8(const int8_t *v) {
    int16x8_t words = vmovl_s8(vld1_s8(v));
    return (lanes_t){{vmovl_s16(vget_low_s16(words)), vmovl_high_s16(words)}};
}

#define LANES_OF_TWO(name, function) \
    static inline lanes_t name(lanes_t a, lanes_t b) { \
        return (lanes_t){{function(a.val[0], b.val[0]), function(a.val[1], b.val[1])}}; \
    }

LANES_OF_TWO(lanes_add, vaddq_s32)
LANES_OF_TWO(lanes_sub, vsubq_s32)
LANES_OF_TWO(lanes_mul, vmulq_s32)
LANES_OF_TWO(lanes_min, vminq_s32)
LANES_OF_TWO(lanes_max, vmaxq_s32)
LANES_OF_TWO(lanes_or, vorrq_s32)
LANES_OF_TWO(lanes_high_mul, vqrdmulhq_s32) // rounding_high_mul

static inline lanes_t lanes_shift_left(lanes_t v, int32_t n) {
    int32x4_t count = vdupq_n_s32(n);
    return (lanes_t){{vshlq_s32(v.val[0], count), vshlq_s32(v.val[1], count)}};
}

static inline lanes_t lanes_shift_right(lanes_t v, int32_t n) {
    return lanes_shift_left(v, -n);
}

static inline int32x4_t four_round_divide(int32x4_t v, int32x4_t n) {
    int32x4_t one = vdupq_n_s32(1), mask = vsubq_s32(vshlq_s32(one, n), one),
              half = vsubq_s32(vshrq_n_s32(mask, 1), vshrq_n_s32(v, 31));
    uint32x4_t up = vcgtq_s32(vandq_s32(v, mask), half);
    return vsubq_s32(vshlq_s32(v, vnegq_s32(n)), vreinterpretq_s32_u32(up));
}

LANES_OF_TWO(lanes_round_divide, four_round_divide) // round_divide, n in 0..31

// Second step of requantize for shift <= 0; v = rounding_high_mul(acc, multiplier), half: of
// 2^-shift.
static inline lanes_t lanes_rounded(lanes_t acc, lanes_t v, lanes_t shift, lanes_t half) {
    for (int k = 0; k < 2; ++k) {
        int32x4_t away = vshrq_n_s32(vandq_s32(acc.val[k], shift.val[k]), 31);
        v.val[k] = vshlq_s32(vaddq_s32(v.val[k], vaddq_s32(half.val[k], away)), shift.val[k]);
    }
    return v;
}

// requantize for |acc| < 2^30. See portable.h's `output`.
static inline lanes_t lanes_requantize(
    lanes_t acc, lanes_t multiplier, lanes_t shift, lanes_t half) {
    return lanes_rounded(acc, lanes_high_mul(acc, multiplier), shift, half);
}

// trunc_shift, n in 0..31, |v| < 2^31
static inline lanes_t lanes_trunc_shift(lanes_t v, int32_t n) {
    int32x4_t mask = vdupq_n_s32((int32_t)((1u << n) - 1)), count = vdupq_n_s32(-n);
    for (int k = 0; k < 2; ++k) {
        int32x4_t more = vandq_s32(vshrq_n_s32(v.val[k], 31), mask);
        v.val[k] = vshlq_s32(vaddq_s32(v.val[k], more), count);
    }
    return v;
}

static inline lanes_t lanes_shift_down(lanes_t v, int32_t n) { // unsigned
    for (int k = 0; k < 2; ++k) {
        v.val[k] = vreinterpretq_s32_u32(
            vshlq_u32(vreinterpretq_u32_s32(v.val[k]), vdupq_n_s32(-n)));
    }
    return v;
}

static inline lanes_t lanes_abs(lanes_t v) {
    return (lanes_t){{vabsq_s32(v.val[0]), vabsq_s32(v.val[1])}};
}

static inline lanes_t lanes_of_s16(const int16_t *v) {
    int16x8_t words = vld1q_s16(v);
    return (lanes_t){{vmovl_s16(vget_low_s16(words)), vmovl_high_s16(words)}};
}

static inline void lanes_store_s16(int16_t *to, lanes_t v) {
    vst1q_s16(to, vcombine_s16(vmovn_s32(v.val[0]), vmovn_s32(v.val[1])));
}

// sum + products of both halves of each lane
static inline lanes_t lanes_dot2(lanes_t sum, lanes_t a, lanes_t b) {
    for (int k = 0; k < 2; ++k) {
        int16x8_t x = vreinterpretq_s16_s32(a.val[k]), y = vreinterpretq_s16_s32(b.val[k]);
        int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(y)), high = vmull_high_s16(x, y);
        sum.val[k] = vaddq_s32(sum.val[k], vpaddq_s32(low, high));
    }
    return sum;
}

static inline int32x4_t four_signed(int32x4_t v, int32x4_t of) {
    int32x4_t sign = vshrq_n_s32(of, 31);
    return vsubq_s32(veorq_s32(v, sign), sign);
}

LANES_OF_TWO(lanes_signed, four_signed) // v with the sign of another one

// Stores the lowest byte of each lane.
static inline void lanes_store_s8(int8_t *to, lanes_t v) {
    vst1_s8(to, vmovn_s16(vcombine_s16(vmovn_s32(v.val[0]), vmovn_s32(v.val[1]))));
}

static inline void widen_16(int16_t *to, const int8_t *from) {
    int8x16_t v = vld1q_s8(from);
    vst1q_s16(to, vmovl_s8(vget_low_s8(v)));
    vst1q_s16(to + 8, vmovl_high_s8(v));
}

// One bit for each of 16 values: low <= y <= high.
static inline uint32_t sixteen_within(const int8_t *y, int8_t low, int8_t high) {
    static const uint8_t bit[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    int8x16_t v = vld1q_s8(y);
    uint8x16_t inside = vandq_u8(
        vandq_u8(vcgeq_s8(v, vdupq_n_s8(low)), vcleq_s8(v, vdupq_n_s8(high))), vld1q_u8(bit));
    return vaddv_u8(vget_low_u8(inside)) | (uint32_t)vaddv_u8(vget_high_u8(inside)) << 8;
}

// Depthwise: 16 channels; weights of two taps are interleaved.

static inline void taps_join(int16_t *to, const int16_t *a, const int16_t *b) {
    for (int k = 0; k < 16; ++k) {
        to[k] = a[k];
        to[16 + k] = b[k];
    }
}

static inline __attribute__((always_inline)) void taps_products(lanes_t *sum, const int16_t *x,
    const uint32_t *offset, const int16_t *weights, uint32_t pairs) {
    int32x4_t a = vdupq_n_s32(0), b = a, c = a, d = a;
    for (uint32_t taps = 2 * pairs; taps; --taps, weights += 16) {
        const int16_t *in = x + *offset++;
        int16x8_t low = vld1q_s16(in), high = vld1q_s16(in + 8), v = vld1q_s16(weights),
                  w = vld1q_s16(weights + 8);
        a = vmlal_s16(a, vget_low_s16(low), vget_low_s16(v));
        b = vmlal_high_s16(b, low, v);
        c = vmlal_s16(c, vget_low_s16(high), vget_low_s16(w));
        d = vmlal_high_s16(d, high, w);
    }
    sum[0] = (lanes_t){{a, b}};
    sum[1] = (lanes_t){{c, d}};
}

// Matrix products

static inline void group_store(weight_t *group, uint32_t lane, uint32_t four) {
    __builtin_memcpy(group + 4 * lane, &four, 4);
}

// Packs four groups, from byte `at` of each lane's row on.
static inline void groups_from_rows(
    weight_t *to, const uint8_t *const *row, uint32_t lanes, uint32_t at, uint32_t flip) {
    (void)lanes;
    for (uint32_t l = 0; l < LANES; l += 4) {
        uint32x4x4_t r;
        for (uint32_t k = 0; k < 4; ++k) {
            uint32x4_t words = vreinterpretq_u32_u8(vld1q_u8(row[l + k] + at));
            r.val[k] = veorq_u32(words, vdupq_n_u32(flip));
        }
        uint32_t turned[16]; // four lanes of group i, for an interleaving store of four registers
        vst4q_u32(turned, r);
        for (uint32_t i = 0; i < 4; ++i) {
            __builtin_memcpy(to + 4 * (i * LANES + l), turned + 4 * i, 16);
        }
    }
}

// Packs all lanes of a group; rows: LANES bytes each.
static inline void group_from_columns(weight_t *to, const uint8_t *const *row, uint32_t flip) {
    uint8x8x4_t r;
    for (int k = 0; k < 4; ++k) {
        r.val[k] = veor_u8(vld1_u8(row[k]), vdup_n_u8((uint8_t)flip));
    }
    vst4_u8((uint8_t *)to, r);
}

static inline unit_t unit_of(int8_t v) {
    return v;
}

static inline lanes_t panel_excess(const weight_t *panel, uint32_t groups) { // none
    (void)panel;
    (void)groups;
    return lanes_of(0);
}

static inline int8x16_t four_everywhere(const unit_t *x) {
    int32_t four;
    __builtin_memcpy(&four, x, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

// sum += products of a panel and `rows` rows, the first at x. Two products fit
// 16 bits, as one factor of each is in [-127, 127].
static inline __attribute__((always_inline)) void products(
    lanes_t *sum, const weight_t *panel, const rows_t *in, const unit_t *x, const int rows) {
    const size_t step = in->step;
    int32x4_t halves[ROWS][4]; // two of each lane
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
        halves[r][0] = halves[r][1] = halves[r][2] = halves[r][3] = vdupq_n_s32(0);
    }
    for (uint32_t runs = in->runs; runs; --runs, x += in->pitch) {
        const unit_t *at = x;
        uint32_t n = in->groups;
        for (; n >= 2; n -= 2, at += 8, panel += 8 * LANES) {
            int8x16_t v = vld1q_s8(panel), w = vld1q_s8(panel + 16), v2 = vld1q_s8(panel + 32),
                      w2 = vld1q_s8(panel + 48);
#pragma GCC unroll 8
            for (int r = 0; r < rows; ++r) {
                int8x16_t a = four_everywhere(at + (size_t)r * step),
                          b = four_everywhere(at + (size_t)r * step + 4);
                int8x8_t a8 = vget_low_s8(a), b8 = vget_low_s8(b);
                halves[r][0] = vpadalq_s16(
                    halves[r][0], vmlal_s8(vmull_s8(vget_low_s8(v), a8), vget_low_s8(v2), b8));
                halves[r][1] = vpadalq_s16(halves[r][1], vmlal_high_s8(vmull_high_s8(v, a), v2, b));
                halves[r][2] = vpadalq_s16(
                    halves[r][2], vmlal_s8(vmull_s8(vget_low_s8(w), a8), vget_low_s8(w2), b8));
                halves[r][3] = vpadalq_s16(halves[r][3], vmlal_high_s8(vmull_high_s8(w, a), w2, b));
            }
        }
        if (n) {
            int8x16_t v = vld1q_s8(panel), w = vld1q_s8(panel + 16);
#pragma GCC unroll 8
            for (int r = 0; r < rows; ++r) {
                int8x16_t a = four_everywhere(at + (size_t)r * step);
                int8x8_t a8 = vget_low_s8(a);
                halves[r][0] = vpadalq_s16(halves[r][0], vmull_s8(vget_low_s8(v), a8));
                halves[r][1] = vpadalq_s16(halves[r][1], vmull_high_s8(v, a));
                halves[r][2] = vpadalq_s16(halves[r][2], vmull_s8(vget_low_s8(w), a8));
                halves[r][3] = vpadalq_s16(halves[r][3], vmull_high_s8(w, a));
            }
            panel += 4 * LANES;
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
        lanes_t sums = {
            {vpaddq_s32(halves[r][0], halves[r][1]), vpaddq_s32(halves[r][2], halves[r][3])}};
        sum[r] = lanes_add(sum[r], sums);
    }
}

#endif
