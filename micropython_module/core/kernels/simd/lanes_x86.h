// Common to AVX2 and AVX-512.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_LANES_X86_H
#define EDGELORA_LANES_X86_H

#include <immintrin.h>
#include <stdint.h>

#ifndef OWN_DOT2
static inline __m256i add_dot2(__m256i sum, __m256i a, __m256i b) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}
#endif

// One bit for each of 16 values: low <= y <= high.
static inline uint32_t sixteen_within(const int8_t *y, int8_t low, int8_t high) {
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)y),
            inside = _mm_min_epi8(_mm_max_epi8(v, _mm_set1_epi8(low)), _mm_set1_epi8(high));
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, inside));
}

// Depthwise: 16 channels; weights of two taps are interleaved.

static inline void taps_join(int16_t *to, const int16_t *a, const int16_t *b) {
    __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)a),
            y = _mm256_loadu_si256((const __m256i *)(const void *)b);
    _mm256_storeu_si256((__m256i *)(void *)to, _mm256_unpacklo_epi16(x, y));
    _mm256_storeu_si256((__m256i *)(void *)(to + 16), _mm256_unpackhi_epi16(x, y));
}

// Sums of products, of lanes 0-3 and 8-11 in `low`, of 4-7 and 12-15 in `high`: of both halves of
// each.
static inline __attribute__((always_inline)) void taps_halves(__m256i *low, __m256i *high,
    const int16_t *x, const uint32_t *offset, const int16_t *weights, uint32_t pairs) {
    *low = *high = _mm256_setzero_si256();
#pragma GCC unroll 5
    for (; pairs; --pairs, offset += 2, weights += 32) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)(x + offset[0])),
                b = _mm256_loadu_si256((const __m256i *)(const void *)(x + offset[1])),
                v = _mm256_loadu_si256((const __m256i *)(const void *)weights),
                w = _mm256_loadu_si256((const __m256i *)(const void *)(weights + 16));
        *low = add_dot2(*low, _mm256_unpacklo_epi16(a, b), v);
        *high = add_dot2(*high, _mm256_unpackhi_epi16(a, b), w);
    }
}

static inline void widen_16(int16_t *to, const int8_t *from) {
    _mm256_storeu_si256((__m256i *)(void *)to,
        _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)from)));
}

#endif
