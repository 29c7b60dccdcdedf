// Error blocks: int8 values with one exponent (SPEC.md: block).
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_BLOCK_H
#define EDGELORA_BLOCK_H

#include "fixed.h"

// A block that is written piece by piece. q: s8 [count], in units of 2^shift of the written values.
typedef struct {
    int8_t *q;
    uint32_t count;
    int32_t shift;
    bool rounds; // of the model: values are rounded, else truncated
} edgelora_block_t;

enum { EDGELORA_PIECE = 16 }; // piece size where no row length applies

// Bits of which those of all values together decide a block's shift.
static inline uint32_t edgelora_block_bits(int32_t v, bool rounds) {
    uint32_t magnitude = abs_u32(v);
    return magnitude + (rounds ? magnitude >> 7 : 0);
}

// Right shift that brings values into [-127, 127]; bits: the OR of theirs.
static inline int32_t edgelora_block_shift(uint32_t bits) {
    int32_t n = bit_length(bits) - 7;
    return n < 0 ? 0 : n;
}

// Value i of a block, shifted by n more than by `before`.
static inline int8_t edgelora_block_value(
    int32_t v, int32_t n, uint32_t i, int32_t before, bool rounds) {
    if (!rounds) {
        return (int8_t)trunc_shift(v, n);
    }
    // a third or two thirds of a step
    uint32_t offset = i & 1 ? 0x55555555u : 0xAAAAAAAAu,
             magnitude = (abs_u32(v) + (offset >> before & (uint32_t)shift_mask(n))) >> n;
    return (int8_t)(v < 0 ? -(int32_t)magnitude : (int32_t)magnitude);
}

// Appends v, s32 [n]. If v needs a larger shift, earlier values are shifted to match.
void edgelora_block_append(edgelora_block_t *block, const int32_t *v, uint32_t n);
// Writes v, s32 [n], at `at`. All values of the block count, and are 0 before they are written.
void edgelora_block_put(edgelora_block_t *block, uint32_t at, const int32_t *v, uint32_t n);
// e: s8 [count], exponent, += more; returns the new exponent.
int32_t edgelora_error_add_s8(int8_t *e, uint32_t count, int32_t exponent, const int8_t *more,
    int32_t more_exponent, bool rounds);

#endif
