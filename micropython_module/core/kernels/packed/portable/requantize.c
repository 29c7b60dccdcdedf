// From accumulators to int8, and the masks of outputs. SPDX-License-Identifier: MIT

#include "kernels/packed/portable/portable.h"

#ifndef EDGELORA_M0PLUS

EDGELORA_HOT void edgelora_requantize_rows_s8(const edgelora_requantize_t *q) {
    const int32_t *acc = q->acc, zero_point = q->zero_point, min = q->min, max = q->max;
    const uint32_t step = q->step;
    for (uint32_t r = 0; r < q->rows; ++r, acc += -q->count & 3) {
        const int32_t multiplier = q->multiplier[r], shift = q->shift[r], half = half_of(shift);
        int8_t *y = q->y + r;
        for (const int32_t *end = acc + q->count; acc != end; y += step) {
            *y = output(*acc++, multiplier, shift, half, zero_point, min, max);
        }
    }
}

EDGELORA_HOT void edgelora_shift_row_s8(
    int8_t *t, uint32_t step, const int32_t *acc, uint32_t count, int32_t shift) {
    int32_t half = (1 << shift) >> 1;
    for (; count; --count, t += step) {
        *t = (int8_t)clamp_s32((*acc++ + half) >> shift, -127, 127);
    }
}

EDGELORA_HOT void edgelora_mask_bytes_s8(
    uint8_t *mask, const int8_t *y, uint32_t bytes, int32_t from, uint32_t width) {
    for (; bytes; --bytes, y += 8) {
        uint32_t bits = 0;
        for (uint32_t k = 0; k < 8; ++k) {
            bits |= (uint32_t)((uint8_t)(y[k] - from) < width) << k;
        }
        *mask++ = (uint8_t)bits;
    }
}

#endif
