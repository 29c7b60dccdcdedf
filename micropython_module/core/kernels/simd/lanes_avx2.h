// AVX2: 16-bit values, two products per lane in one instruction.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_LANES // of one processor (lanes.h)
#define EDGELORA_LANES

#include "kernels/simd/simd.h"

#include <immintrin.h>

#include "kernels/simd/lanes_x86.h"

#define EDGELORA_TABLE edgelora_avx2

#define UNITS_ARE_INPUTS 0
#define UNITS_ARE_WORDS 1
enum { WIDTH = 8, LANES = 8, ROWS = 6, PANEL_GROUP = 4 * LANES };

typedef __m256i lanes_t; // s32

static inline lanes_t lanes_load(const int32_t *v) {
    return _mm256_loadu_si256((const __m256i *)(const void *)v);
}

static inline void lanes_store(int32_t *to, lanes_t v) {
    _mm256_storeu_si256((__m256i *)(void *)to, v);
}

static inline lanes_t lanes_of(int32_t v) {
    return _mm256_set1_epi32(v);
}

static inline lanes_t lanes_of_s8(const int8_t *v) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)v));
}

#define lanes_add _mm256_add_epi32
#define lanes_sub _mm256_sub_epi32
#define lanes_mul _mm256_mullo_epi32
#define lanes_min _mm256_min_epi32
#define lanes_max _mm256_max_epi32
#define lanes_or _mm256_or_si256
#define lanes_abs _mm256_abs_epi32
#define lanes_dot2 add_dot2 // sum + products of both halves of each lane

static inline lanes_t lanes_shift_left(lanes_t v, int32_t n) {
    return _mm256_sll_epi32(v, _mm_cvtsi32_si128(n));
}

static inline lanes_t lanes_shift_right(lanes_t v, int32_t n) {
    return _mm256_sra_epi32(v, _mm_cvtsi32_si128(n));
}

// rounding_high_mul
static inline lanes_t lanes_high_mul(lanes_t a, lanes_t b) {
    const __m256i half = _mm256_set1_epi64x(1 << 30);
    __m256i even = _mm256_add_epi64(_mm256_mul_epi32(a, b), half);
    __m256i odd = _mm256_add_epi64(
        _mm256_mul_epi32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32)), half);
    return _mm256_blend_epi32(_mm256_srli_epi64(even, 31), _mm256_slli_epi64(odd, 1), 0xAA);
}

// round_divide, n in 0..31
static inline lanes_t lanes_round_divide(lanes_t v, lanes_t n) {
    lanes_t one = _mm256_set1_epi32(1), mask = _mm256_sub_epi32(_mm256_sllv_epi32(one, n), one),
            half = _mm256_sub_epi32(_mm256_srli_epi32(mask, 1), _mm256_srai_epi32(v, 31));
    return _mm256_sub_epi32(
        _mm256_srav_epi32(v, n), _mm256_cmpgt_epi32(_mm256_and_si256(v, mask), half));
}

// Second step of requantize for shift <= 0; v = rounding_high_mul(acc, multiplier), half: of
// 2^-shift.
static inline lanes_t lanes_rounded(lanes_t acc, lanes_t v, lanes_t shift, lanes_t half) {
    lanes_t away = _mm256_srai_epi32(_mm256_and_si256(acc, shift), 31);
    return _mm256_srav_epi32(_mm256_add_epi32(v, _mm256_add_epi32(half, away)),
        _mm256_sub_epi32(_mm256_setzero_si256(), shift));
}

// requantize for |acc| < 2^30. See portable.h's `output`.
static inline lanes_t lanes_requantize(
    lanes_t acc, lanes_t multiplier, lanes_t shift, lanes_t half) {
    return lanes_rounded(acc, lanes_high_mul(acc, multiplier), shift, half);
}

// trunc_shift, n in 0..31, |v| < 2^31
static inline lanes_t lanes_trunc_shift(lanes_t v, int32_t n) {
    __m128i count = _mm_cvtsi32_si128(n);
    lanes_t mask = _mm256_set1_epi32((int32_t)((1u << n) - 1));
    return _mm256_sra_epi32(
        _mm256_add_epi32(v, _mm256_and_si256(_mm256_srai_epi32(v, 31), mask)), count);
}

static inline lanes_t lanes_shift_down(lanes_t v, int32_t n) { // unsigned
    return _mm256_srl_epi32(v, _mm_cvtsi32_si128(n));
}

static inline lanes_t lanes_of_s16(const int16_t *v) {
    return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(const void *)v));
}

static inline void lanes_store_s16(int16_t *to, lanes_t v) {
    _mm_storeu_si128((__m128i *)(void *)to,
        _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)));
}

// of u <= EDGELORA_FARTHEST
#define EDGELORA_GATHERS
static inline lanes_t lanes_exponentials(lanes_t u) {
    const lanes_t one = _mm256_set1_epi32(1);
    lanes_t two = _mm256_i32gather_epi32((const int *)edgelora_exponentials,
                _mm256_srli_epi32(_mm256_and_si256(u, _mm256_set1_epi32(255)), 1), 4),
            odd = _mm256_slli_epi32(_mm256_and_si256(u, one), 4);
    lanes_t v = _mm256_and_si256(_mm256_srlv_epi32(two, odd), _mm256_set1_epi32(0xFFFF));
    v = _mm256_srlv_epi32(v, _mm256_srli_epi32(u, 8));
    return _mm256_srli_epi32(_mm256_add_epi32(v, _mm256_set1_epi32(64)), 7);
}

// v with the sign of another one, which is 0 only where v is
#define lanes_signed _mm256_sign_epi32

// Stores the lowest byte of each lane.
static inline void lanes_store_s8(int8_t *to, lanes_t v) {
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64((__m128i *)(void *)to, _mm_packs_epi16(words, words));
}

static inline __attribute__((always_inline)) void taps_products(lanes_t *sum, const int16_t *x,
    const uint32_t *offset, const int16_t *weights, uint32_t pairs) {
    __m256i low, high;
    taps_halves(&low, &high, x, offset, weights, pairs);
    sum[0] = _mm256_permute2x128_si256(low, high, 0x20);
    sum[1] = _mm256_permute2x128_si256(low, high, 0x31);
}

typedef int16_t weight_t; // of weights: [groups][LANES][4]

#include "kernels/simd/rows.h"

static inline void group_store(weight_t *group, uint32_t lane, uint32_t four) {
    for (uint32_t k = 0; k < 4; ++k, four >>= 8) {
        group[4 * lane + k] = (int8_t)four;
    }
}

// Packs four groups, from byte `at` of each lane's row on: transposes words of four.
static inline void groups_from_rows(
    weight_t *to, const uint8_t *const *row, uint32_t lanes, uint32_t at, uint32_t flip) {
    (void)lanes;
    const __m256i flips = _mm256_set1_epi32((int)flip);
    __m256i r[4]; // rows k and k + 4
    for (int k = 0; k < 4; ++k) {
        __m128i low = _mm_loadu_si128((const __m128i *)(const void *)(row[k] + at)),
                high = _mm_loadu_si128((const __m128i *)(const void *)(row[k + 4] + at));
        r[k] = _mm256_xor_si256(_mm256_set_m128i(high, low), flips);
    }
    __m256i a = _mm256_unpacklo_epi32(r[0], r[1]), b = _mm256_unpackhi_epi32(r[0], r[1]),
            c = _mm256_unpacklo_epi32(r[2], r[3]), d = _mm256_unpackhi_epi32(r[2], r[3]),
            groups[4] = {
                _mm256_unpacklo_epi64(a, c), _mm256_unpackhi_epi64(a, c),
                _mm256_unpacklo_epi64(b, d), _mm256_unpackhi_epi64(b, d)};
    for (int i = 0; i < 4; ++i, to += 4 * LANES) {
        __m256i *out = (__m256i *)(void *)to;
        _mm256_storeu_si256(out, _mm256_cvtepi8_epi16(_mm256_castsi256_si128(groups[i])));
        _mm256_storeu_si256(out + 1, _mm256_cvtepi8_epi16(_mm256_extracti128_si256(groups[i], 1)));
    }
}

// Packs all lanes of a group; rows: LANES bytes each.
static inline void group_from_columns(weight_t *to, const uint8_t *const *row, uint32_t flip) {
    const __m128i flips = _mm_set1_epi32((int)flip);
    __m128i r[4];
    for (int k = 0; k < 4; ++k) {
        r[k] = _mm_xor_si128(_mm_loadl_epi64((const __m128i *)(const void *)row[k]), flips);
    }
    __m128i a = _mm_unpacklo_epi8(r[0], r[1]), b = _mm_unpacklo_epi8(r[2], r[3]);
    _mm256_storeu_si256((__m256i *)(void *)to, _mm256_cvtepi8_epi16(_mm_unpacklo_epi16(a, b)));
    _mm256_storeu_si256(
        (__m256i *)(void *)(to + 16), _mm256_cvtepi8_epi16(_mm_unpackhi_epi16(a, b)));
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
    __m256i low[ROWS], high[ROWS]; // two halves of each lane
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
        low[r] = _mm256_cvtepu32_epi64(_mm256_castsi256_si128(sum[r]));
        high[r] = _mm256_cvtepu32_epi64(_mm256_extracti128_si256(sum[r], 1));
    }
    for (uint32_t runs = in->runs; runs; --runs, x += in->pitch) {
        const unit_t *at = x;
        for (uint32_t n = in->groups; n; --n, at += 4, panel += 4 * LANES) {
            __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)panel),
                    w = _mm256_loadu_si256((const __m256i *)(const void *)(panel + 16));
            __asm("" : "+x"(v), "+x"(w)); // loaded once, not for each row
#pragma GCC unroll 8
            for (int r = 0; r < rows; ++r) {
                __m256i four = _mm256_broadcastq_epi64(
                    _mm_loadl_epi64((const __m128i *)(const void *)(at + (size_t)r * step)));
                low[r] = add_dot2(low[r], v, four);
                high[r] = add_dot2(high[r], w, four);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
        sum[r] = _mm256_permute4x64_epi64(_mm256_hadd_epi32(low[r], high[r]), 0xD8);
    }
}

#endif
