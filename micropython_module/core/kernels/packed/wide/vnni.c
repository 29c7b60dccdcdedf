// AVX-512 with VNNI: four products of bytes of each lane in one instruction.
// SPDX-License-Identifier: MIT

#include "kernels/packed/wide/wide.h"

#ifdef EDGELORA_X86

#include "kernels/packed/wide/target.h"
EDGELORA_TARGET_BEGIN("avx2,avx512f,avx512bw,avx512vl,avx512vnni")

#include "kernels/packed/wide/lanes_x86.h"

#define EDGELORA_TABLE edgelora_vnni

enum { LANES = 16, ROWS = 8 };

typedef uint8_t unit_t;  // of inputs: x + 128
typedef int8_t weight_t; // of weights: [groups][LANES][4]

static inline void units_16(unit_t *to, const int8_t *from) {
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)from);
    _mm_storeu_si128((__m128i *)(void *)to, _mm_xor_si128(v, _mm_set1_epi8(-128)));
}

static inline unit_t unit_of(int8_t v) {
    return (unit_t)(v + 128);
}

static inline void group_store(weight_t *group, uint32_t lane, const int8_t *four) {
    for (uint32_t k = 0; k < 4; ++k) {
        group[4 * lane + k] = four[k];
    }
}

// Four lanes of four groups.
static inline void groups_from_rows(
    weight_t *to, const uint8_t *from, uint32_t step, uint32_t flip) {
    __m128i groups[4];
    four_groups(groups, from, step, _mm_set1_epi32((int)flip));
    for (int i = 0; i < 4; ++i, to += 4 * LANES) {
        _mm_storeu_si128((__m128i *)(void *)to, groups[i]);
    }
}

// All lanes of a group; rows: each of LANES bytes.
static inline void group_from_columns(
    weight_t *to, const uint8_t *const *row, uint32_t flip) {
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

// What the products have too much, as units are inputs + 128: 128 times the weights' sums.
static inline void units_offset(int32_t *offset, const weight_t *panel, uint32_t groups) {
    __m512i sum = _mm512_setzero_si512();
    for (; groups; --groups, panel += 4 * LANES) {
        sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(-128), _mm512_loadu_si512(panel));
    }
    _mm512_storeu_si512(offset, sum);
}

// acc: s32 [rows, LANES] += products; x: `pitch` units a row.
static inline __attribute__((always_inline)) void products(int32_t *acc, const weight_t *panel,
    const unit_t *x, uint32_t pitch, uint32_t groups, const int rows) {
    __m512i sum[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
        sum[r] = _mm512_loadu_si512(acc + r * LANES);
    }
    for (; groups; --groups, panel += 4 * LANES, x += 4) {
        __m512i w = _mm512_loadu_si512(panel);
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
            int32_t four;
            __builtin_memcpy(&four, x + (uint32_t)r * pitch, 4);
            sum[r] = _mm512_dpbusd_epi32(sum[r], _mm512_set1_epi32(four), w);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
        _mm512_storeu_si512(acc + r * LANES, sum[r]);
    }
}

#include "kernels/packed/wide/engine.h"

EDGELORA_TARGET_END

#endif
