// What AVX2 and AVX-512 have in common; included behind their target. SPDX-License-Identifier: MIT

#ifndef EDGELORA_LANES_X86_H
#define EDGELORA_LANES_X86_H

#include <immintrin.h>

typedef __m256i eight_t; // s32

static inline eight_t eight_load(const int32_t *v) {
    return _mm256_loadu_si256((const __m256i *)(const void *)v);
}

static inline void eight_store(int32_t *to, eight_t v) {
    _mm256_storeu_si256((__m256i *)(void *)to, v);
}

static inline eight_t eight_of(int32_t v) {
    return _mm256_set1_epi32(v);
}

static inline eight_t eight_of_s8(const int8_t *v) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)v));
}

#define eight_add _mm256_add_epi32
#define eight_sub _mm256_sub_epi32
#define eight_mul _mm256_mullo_epi32
#define eight_min _mm256_min_epi32
#define eight_max _mm256_max_epi32
#define eight_or _mm256_or_si256
#define eight_abs _mm256_abs_epi32

static inline eight_t eight_shift_left(eight_t v, int32_t n) {
    return _mm256_sll_epi32(v, _mm_cvtsi32_si128(n));
}

// rounding_high_mul
static inline eight_t eight_high_mul(eight_t a, eight_t b) {
    const __m256i half = _mm256_set1_epi64x(1 << 30);
    __m256i even = _mm256_add_epi64(_mm256_mul_epi32(a, b), half);
    __m256i odd = _mm256_add_epi64(
        _mm256_mul_epi32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32)), half);
    return _mm256_blend_epi32(_mm256_srli_epi64(even, 31), _mm256_slli_epi64(odd, 1), 0xAA);
}

// round_divide, n in 0..31
static inline eight_t eight_round_divide(eight_t v, eight_t n) {
    eight_t one = _mm256_set1_epi32(1), mask = _mm256_sub_epi32(_mm256_sllv_epi32(one, n), one),
            half = _mm256_sub_epi32(_mm256_srli_epi32(mask, 1), _mm256_srai_epi32(v, 31));
    return _mm256_sub_epi32(
        _mm256_srav_epi32(v, n), _mm256_cmpgt_epi32(_mm256_and_si256(v, mask), half));
}

// requantize for |acc| < 2^30 and shift <= 0; half: of 2^-shift. See portable.h's `output`.
static inline eight_t eight_requantize(
    eight_t acc, eight_t multiplier, eight_t shift, eight_t half) {
    eight_t away = _mm256_srai_epi32(_mm256_and_si256(acc, shift), 31);
    return _mm256_srav_epi32(
        _mm256_add_epi32(eight_high_mul(acc, multiplier), _mm256_add_epi32(half, away)),
        _mm256_sub_epi32(_mm256_setzero_si256(), shift));
}

// trunc_shift, n in 0..31, |v| < 2^31
static inline eight_t eight_trunc_shift(eight_t v, int32_t n) {
    __m128i count = _mm_cvtsi32_si128(n);
    eight_t mask = _mm256_set1_epi32((int32_t)((1u << n) - 1));
    return _mm256_sra_epi32(
        _mm256_add_epi32(v, _mm256_and_si256(_mm256_srai_epi32(v, 31), mask)), count);
}

// The lowest bytes.
static inline void eight_store_s8(int8_t *to, eight_t v) {
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64((__m128i *)(void *)to, _mm_packs_epi16(words, words));
}

// 16 bytes of 4 columns, `step` bytes apart, to 4 lanes of each of 4 groups.
static inline void four_groups(__m128i *groups, const uint8_t *from, uint32_t step, __m128i flip) {
    __m128i r[4];
    for (int k = 0; k < 4; ++k) {
        r[k] = _mm_xor_si128(
            _mm_loadu_si128((const __m128i *)(const void *)(from + (uint32_t)k * step)), flip);
    }
    __m128i a = _mm_unpacklo_epi32(r[0], r[1]), b = _mm_unpackhi_epi32(r[0], r[1]),
            c = _mm_unpacklo_epi32(r[2], r[3]), d = _mm_unpackhi_epi32(r[2], r[3]);
    groups[0] = _mm_unpacklo_epi64(a, c);
    groups[1] = _mm_unpackhi_epi64(a, c);
    groups[2] = _mm_unpacklo_epi64(b, d);
    groups[3] = _mm_unpackhi_epi64(b, d);
}

// Depthwise: 16 channels; weights of two taps go together.

static inline void taps_join(int16_t *to, const int16_t *a, const int16_t *b) {
    __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)a),
            y = _mm256_loadu_si256((const __m256i *)(const void *)b);
    _mm256_storeu_si256((__m256i *)(void *)to, _mm256_unpacklo_epi16(x, y));
    _mm256_storeu_si256((__m256i *)(void *)(to + 16), _mm256_unpackhi_epi16(x, y));
}

static inline void taps_products(int32_t *acc, const int16_t *x, const uint32_t *offset,
    const int16_t *weights, uint32_t pairs) {
    __m256i low = _mm256_setzero_si256(), high = low;
    for (; pairs; --pairs, offset += 2, weights += 32) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)(x + offset[0])),
                b = _mm256_loadu_si256((const __m256i *)(const void *)(x + offset[1])),
                v = _mm256_loadu_si256((const __m256i *)(const void *)weights),
                w = _mm256_loadu_si256((const __m256i *)(const void *)(weights + 16));
        low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), v));
        high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), w));
    }
    eight_store(acc, _mm256_permute2x128_si256(low, high, 0x20));
    eight_store(acc + 8, _mm256_permute2x128_si256(low, high, 0x31));
}

static inline void widen_16(int16_t *to, const int8_t *from) {
    _mm256_storeu_si256((__m256i *)(void *)to,
        _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)from)));
}

#endif
