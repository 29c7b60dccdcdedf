// AVX2: 16-bit values, two products of each lane in one instruction. SPDX-License-Identifier: MIT

#include "kernels/packed/wide/wide.h"

#ifdef EDGELORA_X86

#include "kernels/packed/wide/target.h"
EDGELORA_TARGET_BEGIN("avx2")

#include "kernels/packed/wide/lanes_x86.h"

#define EDGELORA_TABLE edgelora_avx2

enum { LANES = 8, ROWS = 4 };

typedef int16_t unit_t;   // of inputs
typedef int16_t weight_t; // of weights: [groups][LANES][4]

static inline void units_16(unit_t *to, const int8_t *from) {
    widen_16(to, from);
}

static inline unit_t unit_of(int8_t v) {
    return v;
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
        _mm256_storeu_si256((__m256i *)(void *)to, _mm256_cvtepi8_epi16(groups[i]));
    }
}

// All lanes of a group; rows: each of LANES bytes.
static inline void group_from_columns(
    weight_t *to, const uint8_t *const *row, uint32_t flip) {
    const __m128i flips = _mm_set1_epi32((int)flip);
    __m128i r[4];
    for (int k = 0; k < 4; ++k) {
        r[k] = _mm_xor_si128(_mm_loadl_epi64((const __m128i *)(const void *)row[k]), flips);
    }
    __m128i a = _mm_unpacklo_epi8(r[0], r[1]), b = _mm_unpacklo_epi8(r[2], r[3]);
    _mm256_storeu_si256(
        (__m256i *)(void *)to, _mm256_cvtepi8_epi16(_mm_unpacklo_epi16(a, b)));
    _mm256_storeu_si256(
        (__m256i *)(void *)(to + 16), _mm256_cvtepi8_epi16(_mm_unpackhi_epi16(a, b)));
}

// What the products have too much, as units are the inputs themselves: nothing.
static inline void units_offset(int32_t *offset, const weight_t *panel, uint32_t groups) {
    (void)panel;
    (void)groups;
    for (int l = 0; l < LANES; ++l) {
        offset[l] = 0;
    }
}

// acc: s32 [rows, LANES] += products; x: `pitch` units a row.
static inline __attribute__((always_inline)) void products(int32_t *acc, const weight_t *panel,
    const unit_t *x, uint32_t pitch, uint32_t groups, const int rows) {
    __m256i low[ROWS], high[ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
        low[r] = high[r] = _mm256_setzero_si256();
    }
    for (; groups; --groups, panel += 4 * LANES, x += 4) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)panel),
                w = _mm256_loadu_si256((const __m256i *)(const void *)(panel + 16));
#pragma GCC unroll 8
        for (int r = 0; r < rows; ++r) {
            __m256i four = _mm256_broadcastq_epi64(
                _mm_loadl_epi64((const __m128i *)(const void *)(x + (uint32_t)r * pitch)));
            low[r] = _mm256_add_epi32(low[r], _mm256_madd_epi16(v, four));
            high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(w, four));
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r, acc += LANES) {
        __m256i sums = _mm256_permute4x64_epi64(_mm256_hadd_epi32(low[r], high[r]), 0xD8);
        eight_store(acc, eight_add(eight_load(acc), sums));
    }
}

#include "kernels/packed/wide/engine.h"

EDGELORA_TARGET_END

#endif
