// AVX-512 with VNNI: four products of bytes per lane in one instruction.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_LANES // of one processor (lanes.h)
#define EDGELORA_LANES

#include "kernels/simd/simd.h"

#include <immintrin.h>

// In assembly: with intrinsics, compilers copy sums between registers.
static inline __m256i add_dot2(__m256i sum, __m256i a, __m256i b) {
    __asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "vm"(b));
    return sum;
}
#define OWN_DOT2

#include "kernels/simd/lanes_x86.h"

static inline __m256i add_dot4_half(__m256i sum, __m256i x, __m256i weights) {
    __asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(weights));
    return sum;
}

static inline __m512i add_dot4(__m512i sum, __m512i x, __m512i weights) {
    __asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(weights));
    return sum;
}

#define EDGELORA_TABLE edgelora_vnni

#define UNIT uint8_t // inputs + 128
#define UNITS_ARE_INPUTS 0
#define UNITS_ARE_WORDS 0
enum { WIDTH = 16, LANES = 16, ROWS = 16, PANEL_GROUP = 4 * LANES };

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

// v / 2^-shift, rounded, with the half already added; negative like acc.
static inline lanes_t lanes_halved(lanes_t acc, lanes_t v, lanes_t shift) {
    __mmask16 away = _mm512_mask_cmplt_epi32_mask(
        _mm512_test_epi32_mask(shift, shift), acc, _mm512_setzero_si512());
    v = _mm512_mask_add_epi32(v, away, v, _mm512_set1_epi32(-1));
    return _mm512_srav_epi32(v, _mm512_sub_epi32(_mm512_setzero_si512(), shift));
}

// Second step of requantize for shift <= 0; v = rounding_high_mul(acc, multiplier), half: of
// 2^-shift.
static inline lanes_t lanes_rounded(lanes_t acc, lanes_t v, lanes_t shift, lanes_t half) {
    return lanes_halved(acc, _mm512_add_epi32(v, half), shift);
}

// requantize for |acc| < 2^30. See portable.h's `output`. The upper half of a doubled product is
// rounded, and has the half of the second step added, by one addition.
static inline lanes_t lanes_requantize(
    lanes_t acc, lanes_t multiplier, lanes_t shift, lanes_t half) {
    const __m512i round = _mm512_set1_epi64(1ll << 31),
                  upper = _mm512_set_epi32(
                      31, 15, 29, 13, 27, 11, 25, 9, 23, 7, 21, 5, 19, 3, 17, 1);
    __m512i twice = _mm512_slli_epi32(acc, 1), even = _mm512_mul_epi32(twice, multiplier),
            odd = _mm512_mul_epi32(_mm512_srli_epi64(twice, 32), _mm512_srli_epi64(multiplier, 32));
    even = _mm512_add_epi64(even, _mm512_add_epi64(_mm512_slli_epi64(half, 32), round));
    odd = _mm512_add_epi64(odd, _mm512_mask_add_epi32(round, 0xAAAA, round, half));
    return lanes_halved(acc, _mm512_permutex2var_epi32(even, upper, odd), shift);
}

// lanes_requantize for shift < 0, where all outputs up to 0 are the same: v <= 0 for acc < 0. Both
// steps are one shift of the product's upper half, as nothing rounds away from 0.
#define EDGELORA_RECTIFIES
static inline lanes_t lanes_rectified(
    lanes_t acc, lanes_t multiplier, lanes_t shift, lanes_t half) {
    const __m512i round = _mm512_set1_epi64(1 << 30), ones = _mm512_set1_epi32(-1),
                  upper = _mm512_set_epi32(
                      31, 15, 29, 13, 27, 11, 25, 9, 23, 7, 21, 5, 19, 3, 17, 1);
    __m512i even = _mm512_mul_epi32(acc, multiplier),
            odd = _mm512_mul_epi32(_mm512_srli_epi64(acc, 32), _mm512_srli_epi64(multiplier, 32)),
            even_half = _mm512_srli_epi64(_mm512_slli_epi64(half, 32), 1),
            odd_half = _mm512_slli_epi64(_mm512_srli_epi64(half, 32), 31);
    even = _mm512_add_epi64(even, _mm512_add_epi64(even_half, round));
    odd = _mm512_add_epi64(odd, _mm512_add_epi64(odd_half, round));
    return _mm512_srav_epi32(
        _mm512_permutex2var_epi32(even, upper, odd), _mm512_xor_si512(shift, ones));
}

// trunc_shift, n in 0..31, |v| < 2^31
static inline lanes_t lanes_trunc_shift(lanes_t v, int32_t n) {
    lanes_t mask = _mm512_set1_epi32((int32_t)((1u << n) - 1));
    return _mm512_sra_epi32(_mm512_add_epi32(v, _mm512_and_si512(_mm512_srai_epi32(v, 31), mask)),
        _mm_cvtsi32_si128(n));
}

static inline lanes_t lanes_shift_down(lanes_t v, int32_t n) { // unsigned
    return _mm512_srl_epi32(v, _mm_cvtsi32_si128(n));
}

static inline lanes_t lanes_of_s16(const int16_t *v) {
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)v));
}

static inline void lanes_store_s16(int16_t *to, lanes_t v) {
    _mm256_storeu_si256((__m256i *)(void *)to, _mm512_cvtepi32_epi16(v));
}

// sum + products of both halves of each lane
static inline lanes_t lanes_dot2(lanes_t sum, lanes_t a, lanes_t b) {
    __asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

// Without optimization, GCC's gather is a macro that converts 0xFFFF to a signed mask.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"
// of u <= EDGELORA_FARTHEST
#define EDGELORA_GATHERS
static inline lanes_t lanes_exponentials(lanes_t u) {
    const lanes_t one = _mm512_set1_epi32(1);
    lanes_t two = _mm512_i32gather_epi32(
                _mm512_srli_epi32(_mm512_and_si512(u, _mm512_set1_epi32(255)), 1),
                edgelora_exponentials, 4),
            odd = _mm512_slli_epi32(_mm512_and_si512(u, one), 4);
    lanes_t v = _mm512_and_si512(_mm512_srlv_epi32(two, odd), _mm512_set1_epi32(0xFFFF));
    v = _mm512_srlv_epi32(v, _mm512_srli_epi32(u, 8));
    return _mm512_srli_epi32(_mm512_add_epi32(v, _mm512_set1_epi32(64)), 7);
}
#pragma GCC diagnostic pop

// v with the sign of another one
static inline lanes_t lanes_signed(lanes_t v, lanes_t of) {
    __mmask16 below = _mm512_cmplt_epi32_mask(of, _mm512_setzero_si512());
    return _mm512_mask_sub_epi32(v, below, _mm512_setzero_si512(), v);
}

// Stores the lowest byte of each lane.
static inline void lanes_store_s8(int8_t *to, lanes_t v) {
    _mm_storeu_si128((__m128i *)(void *)to, _mm512_cvtepi32_epi8(v));
}

// Bytes of four vectors, v + zero_point within [low, high]: in each 128 bits four of each.
static inline __m512i lanes_four(const lanes_t *v, int8_t zero_point, int8_t low, int8_t high) {
    __m512i zero = _mm512_set1_epi16(zero_point),
            a = _mm512_adds_epi16(_mm512_packs_epi32(v[0], v[1]), zero),
            b = _mm512_adds_epi16(_mm512_packs_epi32(v[2], v[3]), zero),
            c = _mm512_packs_epi16(a, b);
    return _mm512_max_epi8(_mm512_min_epi8(c, _mm512_set1_epi8(high)), _mm512_set1_epi8(low));
}

// Stores four rows of outputs, `pitch` bytes apart: v + zero_point within [low, high].
#define EDGELORA_STORES_FOUR
static inline void lanes_store_four(
    int8_t *to, uint32_t pitch, const lanes_t *v, int8_t zero_point, int8_t low, int8_t high) {
    const __m512i turn = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    __m512i c = _mm512_permutexvar_epi32(turn, lanes_four(v, zero_point, low, high));
    _mm_storeu_si128((__m128i *)(void *)to, _mm512_castsi512_si128(c));
    _mm_storeu_si128((__m128i *)(void *)(to + pitch), _mm512_extracti32x4_epi32(c, 1));
    _mm_storeu_si128((__m128i *)(void *)(to + 2 * pitch), _mm512_extracti32x4_epi32(c, 2));
    _mm_storeu_si128((__m128i *)(void *)(to + 3 * pitch), _mm512_extracti32x4_epi32(c, 3));
}

// Vector k of four has each fourth byte of 64, from byte k on, less zero.
#define EDGELORA_MIXES_FOUR
static inline void mixed_load(lanes_t *d, const int8_t *x, lanes_t zero) {
    __m512i start = _mm512_sub_epi32(_mm512_set1_epi32(-128), zero),
            more = _mm512_xor_si512(_mm512_loadu_si512(x), _mm512_set1_epi8(-128));
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
        d[k] = add_dot4(start, more, _mm512_set1_epi32(1 << 8 * k));
    }
}

static inline void mixed_store(
    int8_t *to, const lanes_t *v, int8_t zero_point, int8_t low, int8_t high) {
    const __m512i turn = _mm512_broadcast_i32x4(
        _mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0));
    _mm512_storeu_si512(to, _mm512_shuffle_epi8(lanes_four(v, zero_point, low, high), turn));
}

static inline __attribute__((always_inline)) void taps_products(lanes_t *sum, const int16_t *x,
    const uint32_t *offset, const int16_t *weights, uint32_t pairs) {
    __m256i low, high;
    taps_halves(&low, &high, x, offset, weights, pairs);
    __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    *sum = _mm512_shuffle_i64x2(both, both, 0xD8);
}

typedef int8_t weight_t; // of weights: [groups][LANES][4]

#include "kernels/simd/rows.h"

static inline void group_store(weight_t *group, uint32_t lane, uint32_t four) {
    __builtin_memcpy(group + 4 * lane, &four, 4);
}

static inline __m128i sixteen(const void *at) {
    return _mm_loadu_si128((const __m128i *)at);
}

// Packs four groups, from byte `at` of each lane's row on: transposes words of four.
static inline void groups_from_rows(
    weight_t *to, const uint8_t *const *row, uint32_t lanes, uint32_t at, uint32_t flip) {
    (void)lanes;
    const __m512i flips = _mm512_set1_epi32((int)flip);
    __m512i r[4]; // rows k, k + 4, k + 8, k + 12
    for (int k = 0; k < 4; ++k) {
        __m512i v = _mm512_broadcast_i32x4(sixteen(row[k] + at));
        v = _mm512_mask_broadcast_i32x4(v, 0x00F0, sixteen(row[k + 4] + at));
        v = _mm512_mask_broadcast_i32x4(v, 0x0F00, sixteen(row[k + 8] + at));
        v = _mm512_mask_broadcast_i32x4(v, 0xF000, sixteen(row[k + 12] + at));
        r[k] = _mm512_xor_si512(v, flips);
    }
    __m512i a = _mm512_unpacklo_epi32(r[0], r[1]), b = _mm512_unpackhi_epi32(r[0], r[1]),
            c = _mm512_unpacklo_epi32(r[2], r[3]), d = _mm512_unpackhi_epi32(r[2], r[3]);
    _mm512_storeu_si512(to, _mm512_unpacklo_epi64(a, c));
    _mm512_storeu_si512(to + 64, _mm512_unpackhi_epi64(a, c));
    _mm512_storeu_si512(to + 128, _mm512_unpacklo_epi64(b, d));
    _mm512_storeu_si512(to + 192, _mm512_unpackhi_epi64(b, d));
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

static inline unit_t unit_of(int8_t v) {
    return (unit_t)(v + 128);
}

static void units_copy(unit_t *to, const int8_t *from, uint32_t n) {
    const __m512i offset = _mm512_set1_epi8(-128);
    for (; n >= 64; n -= 64, to += 64, from += 64) {
        _mm512_storeu_si512(to, _mm512_xor_si512(_mm512_loadu_si512(from), offset));
    }
    __mmask64 rest = ((__mmask64)1 << n) - 1;
    _mm512_mask_storeu_epi8(
        to, rest, _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, from), offset));
}

// Products of a panel with inputs that are all the same. As inputs are stored + 128, those with 128
// are too much.
static inline lanes_t panel_products_of(const weight_t *panel, uint32_t groups, uint8_t same) {
    const __m512i all = _mm512_set1_epi8((char)same);
    lanes_t sum[4] = {lanes_of(0), lanes_of(0), lanes_of(0), lanes_of(0)}; // none waits for another
    for (; groups >= 4; groups -= 4) {
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k, panel += 4 * LANES) {
            sum[k] = add_dot4(sum[k], all, _mm512_loadu_si512(panel));
        }
    }
    for (; groups; --groups, panel += 4 * LANES) {
        sum[0] = add_dot4(sum[0], all, _mm512_loadu_si512(panel));
    }
    return lanes_add(lanes_add(sum[0], sum[1]), lanes_add(sum[2], sum[3]));
}

static inline lanes_t panel_excess(const weight_t *panel, uint32_t groups) {
    return panel_products_of(panel, groups, 128);
}

static inline __m512i four_everywhere(const unit_t *x) {
    int32_t four;
    __builtin_memcpy(&four, x, 4);
    return _mm512_set1_epi32(four);
}

// sum += products of a panel and `rows` rows, the first at x.
static inline __attribute__((always_inline)) void products(
    lanes_t *sum, const weight_t *panel, const rows_t *in, const unit_t *x, const int rows) {
    const size_t step = in->step;
    for (uint32_t runs = in->runs; runs; --runs, x += in->pitch) {
        const unit_t *four[(ROWS + 3) / 4]; // rows of each four
#pragma GCC unroll 4
        for (int r = 0; r < rows; r += 4) {
            four[r / 4] = x + (size_t)r * step;
        }
        for (uint32_t n = in->groups; n; --n, panel += 4 * LANES) {
            __m512i w = _mm512_loadu_si512(panel);
#pragma GCC unroll 16
            for (int r = 0; r < rows; ++r) {
                sum[r] = add_dot4(sum[r], four_everywhere(four[r / 4] + (size_t)(r % 4) * step), w);
            }
#pragma GCC unroll 4
            for (int r = 0; r < rows; r += 4) {
                four[r / 4] += 4;
            }
        }
    }
}

// Four lanes, as of an adapter's t, meet 16 values of a row at once: their panel has, for each 16
// values of a run, those of each lane in turn.
#define FOUR_LANES 1

static inline void four_lanes_pack(weight_t *to, const uint8_t *from, uint32_t step, uint32_t lanes,
    uint32_t count, uint32_t runs) {
    for (; runs; --runs, from += count) {
        for (uint32_t i = 0; i < count; i += 16) {
            uint32_t n = count - i < 16 ? count - i : 16;
            for (uint32_t l = 0; l < 4; ++l, to += 16) {
                __mmask16 some = (__mmask16)(l < lanes ? (1u << n) - 1 : 0);
                __m128i v = _mm_maskz_loadu_epi8(some, from + l * step + i);
                _mm_storeu_si128((__m128i *)(void *)to, v);
            }
        }
    }
}

// The sums of four rows, s32 [lane, row] of two lanes, of four parts of each lane.
static inline __m256i two_lanes_sums(const __m256i *v) {
    __m256i a = _mm256_add_epi32(
                _mm256_unpacklo_epi32(v[0], v[1]), _mm256_unpackhi_epi32(v[0], v[1])),
            b = _mm256_add_epi32(
                _mm256_unpacklo_epi32(v[2], v[3]), _mm256_unpackhi_epi32(v[2], v[3]));
    return _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}

// t of sums with their rounding, in the same order.
static inline __m128i t_of_sums(__m512i v, int32_t shift) {
    v = shift > 0 ? lanes_shift_right(v, shift) : lanes_shift_left(v, -shift);
    return _mm_max_epi8(_mm512_cvtsepi32_epi8(v), _mm_set1_epi8(-127));
}

static inline __m256i two_lanes(const weight_t *panel) {
    return _mm256_loadu_si256((const __m256i *)(const void *)panel);
}

// What makes t of a panel of four lanes, whose runs have `blocks` blocks of 16 values.
typedef struct {
    const weight_t *panel;
    uint32_t runs, blocks, pitch;
    int32_t shift;
    __m512i start; // of sums, s32 [lane, four rows], with half of 2^shift
} four_lanes_t;

// t of `rows` rows, 4 or 8, `step` units apart. Lanes meet them two by two: 32 bytes take 16 values
// twice in fewer cycles than 64 take them four times.
static inline __attribute__((always_inline)) void four_lanes_tile(
    const four_lanes_t *p, int8_t *t, const unit_t *from, const size_t step, const int rows) {
    __m256i low[8], high[8];
    const unit_t *x[8];
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
        low[r] = high[r] = _mm256_setzero_si256();
        x[r] = from + (size_t)r * step;
    }
    const weight_t *panel = p->panel;
    for (uint32_t run = 0, at = 0; run < p->runs; ++run, at += p->pitch) {
        for (uint32_t i = at, end = at + 16 * p->blocks; i != end; i += 16, panel += 64) {
            __m256i v = two_lanes(panel), w = two_lanes(panel + 32);
#pragma GCC unroll 8
            for (int r = 0; r < rows; ++r) {
                __m256i twice = _mm256_broadcastsi128_si256(sixteen(x[r] + i));
                low[r] = add_dot4_half(low[r], twice, v);
                high[r] = add_dot4_half(high[r], twice, w);
            }
        }
    }
    const __m128i turn = _mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
#pragma GCC unroll 2
    for (int r = 0; r < rows; r += 4) {
        __m512i sums = _mm512_inserti64x4(
            _mm512_castsi256_si512(two_lanes_sums(low + r)), two_lanes_sums(high + r), 1);
        __m128i lanes = t_of_sums(lanes_add(p->start, sums), p->shift);
        _mm_storeu_si128((__m128i *)(void *)(t + 4 * r), _mm_shuffle_epi8(lanes, turn));
    }
}

// The sums of four lanes, s32 [row, lane], of four parts of each of four rows.
static inline __m512i four_rows_sums(const __m512i *v) {
    __m512i a = lanes_add(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1])),
            b = lanes_add(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
    return lanes_add(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

// t of 16 rows that are 16 units apart, so that 64 units are the same 16 values of four of them.
static inline void four_lanes_adjacent(const four_lanes_t *p, int8_t *t, const unit_t *x) {
    const __m512i turn = _mm512_set_epi32(12, 8, 4, 0, 12, 8, 4, 0, 12, 8, 4, 0, 12, 8, 4, 0),
                  start = _mm512_permutexvar_epi32(turn, p->start);
    __m512i sum[4][4]; // of four rows, a lane
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
        sum[i / 4][i % 4] = _mm512_setzero_si512();
    }
    const weight_t *panel = p->panel;
    for (uint32_t run = p->runs; run; --run, x += p->pitch) {
        const unit_t *at = x;
        for (uint32_t n = p->blocks; n; --n, panel += 64, at += 16) {
            __m512i w[4];
#pragma GCC unroll 4
            for (int l = 0; l < 4; ++l) {
                w[l] = _mm512_broadcast_i32x4(sixteen(panel + 16 * l));
            }
#pragma GCC unroll 4
            for (int r = 0; r < 4; ++r) {
                __m512i four = _mm512_loadu_si512(at + 64 * r);
#pragma GCC unroll 4
                for (int l = 0; l < 4; ++l) {
                    sum[r][l] = add_dot4(sum[r][l], four, w[l]);
                }
            }
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
        _mm_storeu_si128((__m128i *)(void *)(t + 16 * r),
            t_of_sums(lanes_add(start, four_rows_sums(sum[r])), p->shift));
    }
}

// t, s8 [n, 4], of products of rows less zero. Writes 12 bytes more.
static inline void four_lanes_products(int8_t *t, int8_t zero, int32_t shift, const weight_t *panel,
    uint32_t blocks, const rows_t *x) {
    lanes_t excess = panel_products_of(panel, x->runs * blocks, (uint8_t)(zero + 128)),
            half = lanes_of(shift > 0 ? (int32_t)(1u << (shift - 1)) : 0);
    excess = lanes_add(excess, _mm512_shuffle_epi32(excess, _MM_PERM_BADC));
    excess = lanes_add(excess, _mm512_shuffle_epi32(excess, _MM_PERM_CDAB));
    const four_lanes_t four = {panel, x->runs, blocks, x->pitch, shift, lanes_sub(half, excess)};
    const rows_t rows = *x; // copies that stores can't change
    const unit_t *line = rows.units + rows.first / rows.wide * rows.line;
    uint32_t column = rows.first % rows.wide;
    for (uint32_t left = rows.n; left; column = 0, line += rows.line) {
        const unit_t *at = line + (size_t)column * rows.step;
        uint32_t n = rows.wide - column < left ? rows.wide - column : left;
        left -= n;
        for (; n >= 16 && rows.step == 16; n -= 16, at += 256, t += 64) {
            four_lanes_adjacent(&four, t, at);
        }
        for (; n >= 8; n -= 8, at += 8 * rows.step, t += 32) {
            four_lanes_tile(&four, t, at, rows.step, 8);
        }
        for (; n >= 4; n -= 4, at += 4 * rows.step, t += 16) {
            four_lanes_tile(&four, t, at, rows.step, 4);
        }
        for (; n; --n, at += rows.step, t += 4) {
            four_lanes_tile(&four, t, at, 0, 4);
        }
    }
}

#endif
