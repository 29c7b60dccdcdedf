// Error blocks (SPEC.md: block).
// SPDX-License-Identifier: MIT

#include "training/block.h"

EDGELORA_HOT void edgelora_block_put(
    edgelora_block_t *block, uint32_t at, const int32_t *v, uint32_t n) {
    EDGELORA_ASSERT(block->q && block->shift >= 0);
    uint32_t bits = 0;
    for (uint32_t i = 0; i < n; ++i) {
        bits |= edgelora_block_bits(v[i], block->rounds);
    }
    int32_t shift = edgelora_block_shift(bits);
    if (shift > block->shift) {
        for (uint32_t i = 0; i < block->count; ++i) {
            block->q[i] = edgelora_block_value(
                block->q[i], shift - block->shift, i, block->shift, block->rounds);
        }
        block->shift = shift;
    }
    for (uint32_t i = 0; i < n; ++i) {
        block->q[at + i] = edgelora_block_value(v[i], block->shift, at + i, 0, block->rounds);
    }
}

EDGELORA_HOT void edgelora_block_append(edgelora_block_t *block, const int32_t *v, uint32_t n) {
    edgelora_block_put(block, block->count, v, n);
    block->count += n;
}

EDGELORA_HOT int32_t edgelora_error_add_s8(int8_t *e, uint32_t count, int32_t exponent,
    const int8_t *more, int32_t more_exponent, bool rounds) {
    EDGELORA_ASSERT(e != more);
    int32_t top = exponent > more_exponent ? exponent : more_exponent, v[EDGELORA_PIECE];
    edgelora_block_t block = {e, 0, 0, rounds}; // in place: each piece is read before it is written
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
