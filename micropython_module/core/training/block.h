// Error blocks: int8 values with one exponent (SPEC.md: block).
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_BLOCK_H
#define EDGELORA_BLOCK_H

#include "fixed.h"
#include "training/store.h"

// A block that is written piece by piece. q: s8 [count], in units of 2^shift of the written values.
typedef struct {
    int8_t *q;
    uint32_t count;
    int32_t shift;
    bool rounds; // of the model: values are rounded, else truncated
} edgelora_block_t;

enum {
    EDGELORA_PIECE = 16,      // piece size where no row length applies
    EDGELORA_LONG_PIECE = 64, // where a piece would take longer to append than to compute
};

// The size of the next piece of so many values.
static inline uint32_t piece_of(uint32_t left, uint32_t most) {
    return left < most ? left : most;
}

// What is added to the magnitude of value i before it is shifted by `shift`, after earlier shifts
// by `before` in all: a third or two thirds of a step.
static inline uint32_t edgelora_block_offset(uint32_t i, int32_t shift, int32_t before) {
    return (i & 1 ? 0x55555555u : 0xAAAAAAAAu) >> before & (uint32_t)shift_mask(shift);
}

// The magnitude of value i of a block; shift: 0..31.
static inline uint32_t edgelora_block_magnitude(int32_t v, int32_t shift, uint32_t i, bool rounds) {
    return (abs_u32(v) + (rounds ? edgelora_block_offset(i, shift, 0) : 0)) >> shift;
}

// By how much more values have to be shifted; bits: the OR of their magnitudes.
static inline int32_t edgelora_block_more(uint32_t bits) {
    int32_t more = bit_length(bits) - 7;
    return more < 0 ? 0 : more;
}

static inline int8_t with_sign(uint32_t magnitude, int32_t v) {
    return (int8_t)(v < 0 ? -(int32_t)magnitude : (int32_t)magnitude);
}

// Appends v, s32 [n]. If v needs a larger shift, earlier values are shifted to match.
void edgelora_block_append(edgelora_block_t *block, const int32_t *v, uint32_t n);
// Writes v, s32 [n], at `at`. All values of the block count, and are 0 before they are written.
void edgelora_block_put(edgelora_block_t *block, uint32_t at, const int32_t *v, uint32_t n);
// Shifts earlier values so that new ones fit, whose magnitudes have these bits in all.
void edgelora_block_grow(edgelora_block_t *block, uint32_t bits);
// Shifts values q, s8 [count], the first of a block, `more` bits further. before: the shift so far
void edgelora_block_shift(int8_t *q, uint32_t count, int32_t more, int32_t before, bool rounds);
// e: s8 [count], exponent, += more; returns the new exponent.
int32_t edgelora_error_add_s8(int8_t *e, uint32_t count, int32_t exponent, const int8_t *more,
    int32_t more_exponent, bool rounds);

#endif
