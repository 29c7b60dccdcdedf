// Error blocks: int8 values with one exponent (SPEC.md: block).
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_BLOCK_H
#define EDGELORA_BLOCK_H

#include "fixed.h"

// A block that is written piece by piece. q: s8 [count], in units of 2^shift of the appended
// values.
typedef struct {
    int8_t *q;
    uint32_t count;
    int32_t shift;
} edgelora_block_t;

enum { EDGELORA_PIECE = 16 }; // piece size where no row length applies

// Appends v, s32 [n]. If v needs a larger shift, earlier values are shifted to match.
void edgelora_block_append(edgelora_block_t *block, const int32_t *v, uint32_t n);
// e: s8 [count], exponent, += more; returns the new exponent.
int32_t edgelora_error_add_s8(
    int8_t *e, uint32_t count, int32_t exponent, const int8_t *more, int32_t more_exponent);

#endif
