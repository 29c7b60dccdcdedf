// An int8 block that is written column by column. SPDX-License-Identifier: MIT

#include "kernels/packed/parts.h"

EDGELORA_KERNEL static void rescale(int8_t *q, uint32_t n, int32_t shift) {
    int32_t mask = shift_mask(shift);
    for (; n; --n, ++q) {
        *q = (int8_t)trunc_mask(*q, shift, mask);
    }
}

EDGELORA_KERNEL static uint32_t magnitude_bits(const int32_t *v, uint32_t n) {
    uint32_t bits = 0;
    for (; n; --n) {
        int32_t sign = *v >> 31;
        bits |= (uint32_t)((*v++ ^ sign) - sign);
    }
    return bits;
}

EDGELORA_KERNEL static void store_column(
    int8_t *q, uint32_t step, const int32_t *v, uint32_t n, int32_t shift) {
    int32_t mask = shift_mask(shift);
    for (uint32_t i = 0, end = n * step; i < end; i += step) {
        q[i] = (int8_t)trunc_mask(*v++, shift, mask);
    }
}

EDGELORA_HOT void edgelora_columns_put(edgelora_columns_t *b, uint32_t first, uint32_t columns,
    uint32_t count, uint32_t padded, const int32_t *v) {
    uint32_t bits = 0;
    for (uint32_t c = 0; c < columns; ++c) {
        bits |= magnitude_bits(v + c * padded, count);
    }
    int32_t shift = bit_length(bits) - 7;
    if (shift > b->shift) {
        int32_t more = at_most_31(shift - b->shift);
        rescale(b->q, b->done * b->step, more);
        for (uint32_t p = 0; p < count && first; ++p) {
            rescale(b->q + (b->done + p) * b->step, first, more);
        }
        b->shift = shift;
    }
    int8_t *q = b->q + b->done * b->step + first;
    for (uint32_t c = 0; c < columns; ++c) {
        store_column(q + c, b->step, v + c * padded, count, b->shift);
    }
}

// v += trunc_shift(w, n)
EDGELORA_KERNEL static void add_shifted(int32_t *v, const int32_t *w, int32_t n, uint32_t count) {
    int32_t mask = shift_mask(n);
    for (; count; --count, ++v) {
        *v += trunc_mask(*w++, n, mask);
    }
}

EDGELORA_HOT void edgelora_join_s32(int32_t *v, int32_t n, int32_t *w, int32_t m, uint32_t count) {
    if (!n) {
        add_shifted(v, w, m, count);
        return;
    }
    add_shifted(w, v, n, count);
    for (; count; --count) {
        *v++ = *w++;
    }
}
