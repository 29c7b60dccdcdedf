// Error blocks (SPEC.md: block).
// SPDX-License-Identifier: MIT

#include "training/block.h"

// Right shift that brings values into [-127, 127]; bits: the OR of their magnitudes.
static inline int32_t block_shift_of(uint32_t bits) {
    int32_t n = bit_length(bits) - 7;
    return n < 0 ? 0 : n;
}

EDGELORA_HOT void edgelora_block_append(edgelora_block_t *block, const int32_t *v, uint32_t n) {
    EDGELORA_ASSERT(block->q && block->shift >= 0);
    uint32_t bits = 0;
    for (uint32_t i = 0; i < n; ++i) {
        bits |= abs_u32(v[i]);
    }
    int32_t shift = block_shift_of(bits);
    if (shift > block->shift) {
        for (uint32_t i = 0; i < block->count; ++i) {
            block->q[i] = (int8_t)trunc_shift(block->q[i], shift - block->shift);
        }
        block->shift = shift;
    }
    for (uint32_t i = 0; i < n; ++i) {
        block->q[block->count++] = (int8_t)trunc_shift(v[i], block->shift);
    }
}

EDGELORA_HOT int32_t edgelora_error_add_s8(
    int8_t *e, uint32_t count, int32_t exponent, const int8_t *more, int32_t more_exponent) {
    EDGELORA_ASSERT(e != more);
    int32_t top = exponent > more_exponent ? exponent : more_exponent, v[EDGELORA_PIECE];
    edgelora_block_t block = {e, 0, 0}; // in place: each piece is read before it is written
    while (block.count < count) {
        uint32_t n = count - block.count < EDGELORA_PIECE ? count - block.count : EDGELORA_PIECE;
        for (uint32_t i = 0; i < n; ++i) {
            v[i] = trunc_shift(e[block.count + i], top - exponent) +
                trunc_shift(more[block.count + i], top - more_exponent);
        }
        edgelora_block_append(&block, v, n);
    }
    return top + block.shift;
}
