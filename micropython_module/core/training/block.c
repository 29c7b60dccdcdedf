// Error blocks (SPEC.md: block).
// SPDX-License-Identifier: MIT

#include "training/block.h"

void edgelora_block_shift(int8_t *q, uint32_t count, int32_t more, int32_t before, bool rounds) {
    for (uint32_t i = 0; i < count; ++i) {
        uint32_t offset = rounds ? edgelora_block_offset(i, more, before) : 0;
        q[i] = with_sign((abs_u32(q[i]) + offset) >> more, q[i]);
    }
}

// Writes v, s32 [n], as values of a block; offset, next: of values at even and odd places from the
// first on. Returns the OR of their magnitudes.
EDGELORA_KERNEL static uint32_t write_values(
    int8_t *q, const int32_t *v, uint32_t n, int32_t shift, uint32_t offset, uint32_t next) {
    uint32_t bits = 0;
    for (const int32_t *end = v + n; v != end; ++v) {
        int32_t sign = *v >> 31;
        uint32_t magnitude = ((uint32_t)((*v ^ sign) - sign) + offset) >> shift, now = offset;
        bits |= magnitude;
        *q++ = (int8_t)(((int32_t)magnitude ^ sign) - sign);
        offset = next;
        next = now;
    }
    return bits;
}

EDGELORA_HOT void edgelora_block_put(
    edgelora_block_t *block, uint32_t at, const int32_t *v, uint32_t n) {
    EDGELORA_ASSERT(block->q && block->shift >= 0);
    for (;;) { // with rounding, a value can just exceed 127 after the shift that its size asks for
        bool rounds = block->rounds;
        uint32_t bits = write_values(block->q + at, v, n, block->shift,
            rounds ? edgelora_block_offset(at, block->shift, 0) : 0,
            rounds ? edgelora_block_offset(at + 1, block->shift, 0) : 0);
        int32_t more = edgelora_block_more(bits);
        if (!more) {
            return;
        }
        edgelora_block_shift(block->q, block->count, more, block->shift, rounds);
        block->shift += more;
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
