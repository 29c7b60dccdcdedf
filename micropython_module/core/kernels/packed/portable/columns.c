// Converts sums to values of an error block.
// SPDX-License-Identifier: MIT

#include "kernels/packed/portable/portable.h"
#include "training/block.h"

#ifndef EDGELORA_M0PLUS

// (v + sign) >> shift is trunc_shift(v, shift) for v >= 0; for v < 0 it is one less, i.e. the
// complement of the magnitude.
EDGELORA_HOT uint32_t edgelora_store_column_s8(
    int8_t *q, uint32_t step, const int32_t *v, uint32_t n, int32_t shift) {
    EDGELORA_ASSERT(n && shift >= 0 && shift <= 31);
    uint32_t bits = 0;
#pragma GCC unroll 4
    for (const int32_t *end = v + n; v != end; q += step) {
        int32_t sign = *v >> 31, below = (*v++ + sign) >> shift;
        *q = (int8_t)(below - sign);
        bits |= (uint32_t)(below ^ sign);
    }
    return bits;
}

EDGELORA_HOT uint32_t edgelora_columns_bits_s8(const int8_t *e, uint32_t step, uint32_t rows) {
    EDGELORA_ASSERT(rows && is_aligned(e) && step % 4 == 0);
    uint32_t bits = 0;
#pragma GCC unroll 4
    for (; rows; --rows, e += step) {
        uint32_t four = word_at(e);
        bits |= four ^ four << 1;
    }
    return bits;
}

EDGELORA_HOT void edgelora_scale_column_s8(int8_t *e, uint32_t step, uint32_t n, int32_t m) {
    EDGELORA_ASSERT(n && m % (1 << 9) == 0);
    const int32_t mask = shift_mask(24);
#pragma GCC unroll 4
    for (; n; --n, e += step) {
        *e = (int8_t)trunc_mask((int32_t)((uint32_t)*e * (uint32_t)m), 24, mask);
    }
}

EDGELORA_HOT void edgelora_add_shifted_s32(
    int32_t *v, const int32_t *w, int32_t n, uint32_t count) {
    EDGELORA_ASSERT(n >= 0 && n <= 31);
    for (const int32_t *end = w + count; w != end; ++v) {
        int32_t sign = *w >> 31;
        *v += ((*w++ + sign) >> n) - sign;
    }
}

EDGELORA_HOT void edgelora_outer_s32(const edgelora_outer_t *outer) {
    EDGELORA_ASSERT(outer->rows && outer->count && outer->shift >= 0 && outer->shift <= 31);
    EDGELORA_ASSERT(outer->gap % 4 == 0);
    const int32_t n = outer->shift, mask = shift_mask(n);
    const int32_t *end = outer->v + outer->count;
    int32_t *to = outer->gradient;
    for (uint32_t r = 0; r < outer->rows; ++r, to += outer->gap / 4) {
        const int32_t factor = outer->factor[r];
#pragma GCC unroll 4
        for (const int32_t *v = outer->v; v != end; ++v) {
            *to++ += trunc_mask(*v * factor, n, mask);
        }
    }
}

#endif
