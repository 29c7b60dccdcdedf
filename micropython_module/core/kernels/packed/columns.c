// Writes an int8 block column by column.
// SPDX-License-Identifier: MIT

#include "kernels/packed/internal.h"
#include "training/block.h"

// trunc_shift(v, shift) of rows of words of q, `step` bytes apart, four bytes at a time: v + 128 is
// >= 0, and 2^shift - 1 more where v < 0 stays in its byte.
EDGELORA_KERNEL void edgelora_rescale_s8(
    int8_t *q, uint32_t words, uint32_t rows, uint32_t step, int32_t shift) {
    const uint32_t each = 0x01010101, sign = 128 * each;
    uint32_t n = at_most((uint32_t)shift, 7), up = (1u << n) - 1, kept = (255u >> n) * each,
             offset = (128 - (128u >> n)) * each;
    for (; rows; --rows, q += step) {
        uint32_t *word = (uint32_t *)(void *)q;
        for (const uint32_t *end = word + words; word != end; ++word) {
            uint32_t v = *word ^ sign;
            v += (~v >> 7 & each) * up;
            *word = ((v >> n & kept) + offset) ^ sign;
        }
    }
}

EDGELORA_KERNEL static uint32_t magnitude_bits(const int32_t *v, uint32_t n) {
    uint32_t bits = 0;
    for (const int32_t *end = v + n; v != end; ++v) {
        bits |= abs_u32(*v);
    }
    return bits;
}

// A build without attention has no model that rounds.
static inline bool does_round(const edgelora_columns_t *b) {
    return EDGELORA_ATTENTION && b->rounds;
}

EDGELORA_HOT static uint32_t store_columns(edgelora_columns_t *b, const edgelora_cursor_t *at,
    uint32_t c, uint32_t columns, uint32_t count, uint32_t padded, const int32_t *v) {
    uint32_t bits = 0, y = at->y, x = at->x;
    for (bool one = b->row == at->width * b->step; count; ++y, x = 0) {
        uint32_t n = one ? count : at_most(count, at->width - x),
                 from = b->first + y * b->row + x * b->step + c;
        for (uint32_t k = 0; k < columns; ++k) {
            int8_t *q = b->q + from + k;
            const int32_t *column = v + k * padded;
            bits |= does_round(b) ? edgelora_block_store(q, b->step, column, n, b->shift,
                                        edgelora_block_offset(from + k, b->shift, 0),
                                        edgelora_block_offset(from + k + b->step, b->shift, 0))
                                  : edgelora_store_column_s8(q, b->step, column, n, b->shift);
        }
        uint32_t end = from + (n - 1) * b->step + columns;
        b->written = end > b->written ? end : b->written;
        count -= n;
        v += n;
    }
    return bits;
}

// Rescales everything written before the columns from c on. If positions are contiguous, nothing
// after c is written yet, and only the words up to c are scaled.
EDGELORA_HOT static void rescale_written(const edgelora_columns_t *b, const edgelora_cursor_t *at,
    uint32_t c, uint32_t count, uint32_t written, int32_t shift) {
    if (does_round(b)) {
        edgelora_block_shift(b->q, written, shift, b->shift, true);
        return;
    }
    bool in_order = !b->first && (!b->row || b->row == at->width * b->step);
    if (!in_order || (b->step & 3)) {
        edgelora_rescale_s8(b->q, (written + 3) / 4, 1, 0, shift);
        return;
    }
    uint32_t before = (at->y * at->width + at->x) * b->step;
    edgelora_rescale_s8(b->q, before / 4, 1, 0, shift);
    edgelora_rescale_s8(b->q + before, (c + 3) / 4, count, b->step, shift);
}

EDGELORA_HOT void edgelora_columns_put(edgelora_columns_t *b, const edgelora_cursor_t *at,
    uint32_t c, uint32_t columns, uint32_t count, uint32_t padded, const int32_t *v) {
    uint32_t written = b->written;
    if (!written) {
        int32_t first = bit_length(magnitude_bits(v, count)) - 7;
        b->shift = first < 0 ? 0 : first;
    }
    uint32_t bits = store_columns(b, at, c, columns, count, padded, v);
    while (bits >> 7) { // values too large for the block's shift; with rounding, once or twice
        int32_t more = bit_length(bits) - 7;
        rescale_written(b, at, c, count, written, more);
        b->shift += more;
        bits = store_columns(b, at, c, columns, count, padded, v);
        bits = does_round(b) ? bits : 0;
    }
}
