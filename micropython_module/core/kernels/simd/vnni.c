// AVX-512 with VNNI: four products of bytes per lane in one instruction.
// SPDX-License-Identifier: MIT

#include "kernels/simd/simd.h"

#ifdef EDGELORA_X86

#include "kernels/simd/target.h"
EDGELORA_TARGET_BEGIN("avx2,avx512f,avx512bw,avx512vl,avx512vnni")

#include <immintrin.h>

// In assembly: with intrinsics, compilers copy sums between registers.
static inline __m256i add_dot2(__m256i sum, __m256i a, __m256i b) {
    __asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "vm"(b));
    return sum;
}

static inline __m512i add_dot4(__m512i sum, __m512i weights, __m512i x) {
    __asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(x));
    return sum;
}

static inline __m512i add_dot4_of(__m512i sum, __m512i weights, const int8_t *four) {
    typedef int32_t __attribute__((may_alias, aligned(1))) four_t;
    __asm("vpdpbusd %2%{1to16%}, %1, %0"
        : "+v"(sum)
        : "v"(weights), "m"(*(const four_t *)(const void *)four));
    return sum;
}

#define EDGELORA_TABLE edgelora_vnni

#define UNITS_ARE_BYTES 1
enum {
    WIDTH = 16,
    LANES = 16,
    ROWS = 12,
    ZERO_WEIGHT = 128,
    PANEL_GROUP = 4 * LANES,
    PANEL_LANE = 4
};
#define FLIP_OFFSET 0u
#define FLIP_SIGNED 0x80808080u

typedef __m512i lanes_t; // s32

static inline lanes_t lanes_load(const int32_t *v) {
    return _mm512_loadu_si512(v);
}

static inline void lanes_store(int32_t *to, lanes_t v) {
    _mm512_storeu_si512(to, v);
}

static inline lanes_t lanes_of(int32_t v) {
    return _mm512_set1_epi32(v);
}

static inline lanes_t lanes_of_s8(const int8_t *v) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)v));
}

#define lanes_add _mm512_add_epi32
#define lanes_sub _mm512_sub_epi32
#define lanes_mul _mm512_mullo_epi32
#define lanes_min _mm512_min_epi32
#define lanes_max _mm512_max_epi32
#define lanes_or _mm512_or_si512
#define lanes_abs _mm512_abs_epi32

static inline lanes_t lanes_shift_left(lanes_t v, int32_t n) {
    return _mm512_sll_epi32(v, _mm_cvtsi32_si128(n));
}

static inline lanes_t lanes_shift_right(lanes_t v, int32_t n) {
    return _mm512_sra_epi32(v, _mm_cvtsi32_si128(n));
}

// rounding_high_mul
static inline lanes_t lanes_high_mul(lanes_t a, lanes_t b) {
    const __m512i half = _mm512_set1_epi64(1 << 30);
    __m512i even = _mm512_add_epi64(_mm512_mul_epi32(a, b), half);
    __m512i odd = _mm512_add_epi64(
        _mm512_mul_epi32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32)), half);
    return _mm512_mask_mov_epi32(_mm512_srli_epi64(even, 31), 0xAAAA, _mm512_slli_epi64(odd, 1));
}

// round_divide, n in 0..31
static inline lanes_t lanes_round_divide(lanes_t v, lanes_t n) {
    lanes_t one = _mm512_set1_epi32(1), mask = _mm512_sub_epi32(_mm512_sllv_epi32(one, n), one),
            half = _mm512_sub_epi32(_mm512_srli_epi32(mask, 1), _mm512_srai_epi32(v, 31)),
            down = _mm512_srav_epi32(v, n);
    __mmask16 up = _mm512_cmpgt_epi32_mask(_mm512_and_si512(v, mask), half);
    return _mm512_mask_add_epi32(down, up, down, one);
}

// Second step of requantize for shift <= 0; v = rounding_high_mul(acc, multiplier), half: of
// 2^-shift.
static inline lanes_t lanes_rounded(lanes_t acc, lanes_t v, lanes_t shift, lanes_t half) {
    lanes_t away = _mm512_srai_epi32(_mm512_and_si512(acc, shift), 31);
    return _mm512_srav_epi32(_mm512_add_epi32(v, _mm512_add_epi32(half, away)),
        _mm512_sub_epi32(_mm512_setzero_si512(), shift));
}

// requantize for |acc| < 2^30. See portable.h's `output`.
static inline lanes_t lanes_requantize(
    lanes_t acc, lanes_t multiplier, lanes_t shift, lanes_t half) {
    return lanes_rounded(acc, lanes_high_mul(acc, multiplier), shift, half);
}

// trunc_shift, n in 0..31, |v| < 2^31
static inline lanes_t lanes_trunc_shift(lanes_t v, int32_t n) {
    lanes_t mask = _mm512_set1_epi32((int32_t)((1u << n) - 1));
    return _mm512_sra_epi32(_mm512_add_epi32(v, _mm512_and_si512(_mm512_srai_epi32(v, 31), mask)),
        _mm_cvtsi32_si128(n));
}

// Stores the lowest byte of each lane.
static inline void lanes_store_s8(int8_t *to, lanes_t v) {
    _mm_storeu_si128((__m128i *)(void *)to, _mm512_cvtepi32_epi8(v));
}

static inline void lanes_of_halves(lanes_t *sum, __m256i low, __m256i high) {
    __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    *sum = _mm512_shuffle_i64x2(both, both, 0xD8);
}

#include "kernels/simd/lanes_x86.h"

typedef int8_t unit_t;    // inputs
typedef uint8_t weight_t; // weights + 128: [groups][LANES][4]

#include "kernels/simd/rows.h"

static inline void group_store(weight_t *group, uint32_t lane, const uint8_t *four) {
    __builtin_memcpy(group + 4 * lane, four, 4);
}

// Packs four lanes of four groups.
static inline void groups_from_rows(
    weight_t *to, const uint8_t *from, uint32_t step, uint32_t flip) {
    __m128i groups[4];
    four_groups(groups, from, step, _mm_set1_epi32((int)flip));
    for (int i = 0; i < 4; ++i, to += 4 * LANES) {
        _mm_storeu_si128((__m128i *)(void *)to, groups[i]);
    }
}

// Packs all lanes of a group; rows: LANES bytes each.
static inline void group_from_columns(weight_t *to, const uint8_t *const *row, uint32_t flip) {
    const __m128i flips = _mm_set1_epi32((int)flip);
    __m128i r[4];
    for (int k = 0; k < 4; ++k) {
        r[k] = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)row[k]), flips);
    }
    __m128i *out = (__m128i *)(void *)to;
    __m128i a = _mm_unpacklo_epi8(r[0], r[1]), b = _mm_unpacklo_epi8(r[2], r[3]),
            c = _mm_unpackhi_epi8(r[0], r[1]), d = _mm_unpackhi_epi8(r[2], r[3]);
    _mm_storeu_si128(out, _mm_unpacklo_epi16(a, b));
    _mm_storeu_si128(out + 1, _mm_unpackhi_epi16(a, b));
    _mm_storeu_si128(out + 2, _mm_unpacklo_epi16(c, d));
    _mm_storeu_si128(out + 3, _mm_unpackhi_epi16(c, d));
}

static inline __m128i row_offset(const rows_t *rows, uint32_t r) { // four partial sums
    const __m512i all = _mm512_set1_epi8(-128); // 128 each
    uint32_t run = 4 * rows->groups, rest = run & 63;
    __mmask64 last = ((__mmask64)1 << rest) - 1;
    __m512i sum = _mm512_setzero_si512();
    const int8_t *x = rows->units + rows->at[r];
    for (uint32_t runs = rows->runs; runs; --runs, x += rows->pitch) {
        for (uint32_t i = 0; i + 64 <= run; i += 64) {
            sum = add_dot4(sum, all, _mm512_loadu_si512(x + i));
        }
        if (rest) {
            sum = add_dot4(sum, all, _mm512_maskz_loadu_epi8(last, x + (run - rest)));
        }
    }
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

// The excess of products, as weights are stored + 128.
static inline void rows_offset(int32_t *offset, const rows_t *rows) {
    uint32_t r = 0;
    for (; r + 4 <= rows->n; r += 4) {
        __m128i a = _mm_hadd_epi32(row_offset(rows, r), row_offset(rows, r + 1)),
                b = _mm_hadd_epi32(row_offset(rows, r + 2), row_offset(rows, r + 3));
        _mm_storeu_si128((__m128i *)(void *)(offset + r), _mm_hadd_epi32(a, b));
    }
    for (; r < rows->n; ++r) {
        __m128i a = row_offset(rows, r);
        a = _mm_hadd_epi32(a, a);
        offset[r] = _mm_cvtsi128_si32(_mm_hadd_epi32(a, a));
    }
}

// acc, s32 [n, LANES]: `rows` rows from `first` on = start (NULL: acc) + products.
static inline __attribute__((always_inline)) void products(int32_t *acc, const int32_t *start,
    const weight_t *panel, const rows_t *in, uint32_t first, const int rows) {
    const unit_t *x[ROWS];
    __m512i sum[ROWS];
    acc += first * LANES;
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) {
        x[r] = in->units + in->at[first + (uint32_t)r];
        sum[r] = start
            ? _mm512_sub_epi32(lanes_load(start), lanes_of(in->offset[first + (uint32_t)r]))
            : lanes_load(acc + r * LANES);
    }
    for (uint32_t runs = in->runs, i = 0; runs; --runs, i += in->pitch - 4 * in->groups) {
        for (uint32_t end = i + 4 * in->groups; i != end; i += 4, panel += 4 * LANES) {
            __m512i w = _mm512_loadu_si512(panel);
#pragma GCC unroll 12
            for (int r = 0; r < rows; ++r) {
                sum[r] = add_dot4_of(sum[r], w, x[r] + i);
            }
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; ++r) {
        lanes_store(acc + r * LANES, sum[r]);
    }
}

#include "kernels/simd/engine.h"

EDGELORA_TARGET_END

#endif
