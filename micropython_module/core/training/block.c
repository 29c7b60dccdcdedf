// Error blocks (SPEC.md: block).
// SPDX-License-Identifier: MIT

#include "training/block.h"

void edgelora_block_shift(int8_t *q, uint32_t count, int32_t more, int32_t before, bool rounds) {
    for (uint32_t i = 0; i < count; ++i) {
        uint32_t offset = rounds ? edgelora_block_offset(i, more, before) : 0;
        q[i] = with_sign((abs_u32(q[i]) + offset) >> more, q[i]);
    }
}

EDGELORA_HOT void edgelora_block_put(
    edgelora_block_t *block, uint32_t at, const int32_t *v, uint32_t n) {
    EDGELORA_ASSERT(block->q && block->shift >= 0);
    int32_t more, shift = block->shift;
    do { // with rounding, a value can just exceed 127 after the shift that its size asks for
        uint32_t bits = 0;
        for (uint32_t i = 0; i < n; ++i) {
            bits |= edgelora_block_magnitude(v[i], shift, at + i, block->rounds);
        }
        more = edgelora_block_more(bits);
        shift += more;
    } while (more);
    if (shift > block->shift) {
        edgelora_block_shift(
            block->q, block->count, shift - block->shift, block->shift, block->rounds);
        block->shift = shift;
    }
    for (uint32_t i = 0; i < n; ++i) {
        block->q[at + i] = with_sign(
            edgelora_block_magnitude(v[i], shift, at + i, block->rounds), v[i]);
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
