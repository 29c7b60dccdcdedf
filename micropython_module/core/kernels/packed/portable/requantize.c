// Requantizes accumulators to int8; masks of outputs.
// SPDX-License-Identifier: MIT

#include "kernels/packed/portable/portable.h"

#ifndef EDGELORA_M0PLUS

// One row with the full range of int8, n in 1..21. start: half of 2^n plus zero point * 2^n, added
// before the shift.
EDGELORA_KERNEL static void whole_range_row(int8_t *y, uint32_t step, const int32_t *acc,
    uint32_t count, int32_t multiplier, int32_t n, int32_t start) {
#define WHOLE_RANGE(k) saturate_s8(add_high_mul(start + (acc[k] >> 31), acc[k], multiplier) >> n)
    for (; count >= 4; count -= 4, acc += 4, y += 4 * step) {
        y[0] = WHOLE_RANGE(0);
        y[step] = WHOLE_RANGE(1);
        y[2 * step] = WHOLE_RANGE(2);
        y[3 * step] = WHOLE_RANGE(3);
    }
    for (; count; --count, ++acc, y += step) {
        *y = WHOLE_RANGE(0);
    }
#undef WHOLE_RANGE
}

EDGELORA_HOT void edgelora_requantize_rows_s8(const edgelora_requantize_t *q) {
    EDGELORA_ASSERT(q->count && q->rows && q->min <= q->max);
    const int32_t *acc = q->acc, zero_point = q->zero_point, min = q->min, max = q->max;
    const uint32_t step = q->step, count = q->count;
    const uint32_t whole = min == -128 && max == 127;
    for (uint32_t r = 0; r < q->rows; ++r, acc += (count + 3) & ~3u) {
        const int32_t multiplier = q->multiplier[r], shift = q->shift[r], half = half_of(shift);
        int8_t *y = q->y + r;
        if (whole && shift < 0 && shift >= -21) {
            int32_t start = half + zero_point * (1 << -shift);
            whole_range_row(y, step, acc, count, multiplier, -shift, start);
            continue;
        }
        for (uint32_t k = 0; k < count; ++k, y += step) {
            *y = output(acc[k], multiplier, shift, half, zero_point, min, max);
        }
    }
}

EDGELORA_HOT void edgelora_shift_row_s8(
    int8_t *t, uint32_t step, const int32_t *acc, uint32_t count, int32_t shift) {
    EDGELORA_ASSERT(count % 4 == 0 && shift >= 0 && shift <= 30);
    int32_t half = (1 << shift) >> 1;
    for (; count; --count, t += step) {
        *t = (int8_t)clamp_s32((*acc++ + half) >> shift, -127, 127);
    }
}

EDGELORA_HOT void edgelora_mask_bytes_s8(
    uint8_t *mask, const int8_t *y, uint32_t bytes, int32_t from, uint32_t width) {
    EDGELORA_ASSERT(from >= -128 && from <= 128 && width <= 256);
    for (; bytes; --bytes, y += 8) {
        uint32_t bits = 0;
        for (uint32_t k = 0; k < 8; ++k) {
            bits |= (uint32_t)((uint8_t)(y[k] - from) < width) << k;
        }
        *mask++ = (uint8_t)bits;
    }
}

// Expands 4 bits to bytes of 255 or 0.
static inline uint32_t bytes_of_bits(uint32_t bits) {
    uint32_t ones = bits * 0x00204081u & 0x01010101u;
    return (ones << 8) - ones;
}

EDGELORA_HOT void edgelora_apply_mask_s8(int8_t *e, const uint8_t *mask, uint32_t bytes) {
    EDGELORA_ASSERT(bytes && is_aligned(e));
    uint32_t *word = (uint32_t *)(void *)e;
    for (const uint8_t *end = mask + bytes; mask != end; word += 2) {
        uint32_t bits = *mask++;
        word[0] &= bytes_of_bits(bits & 15);
        word[1] &= bytes_of_bits(bits >> 4);
    }
}

#endif
