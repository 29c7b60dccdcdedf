// What normalizes a row, of all kernels (SPEC.md: norm).
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_NORM_H
#define EDGELORA_NORM_H

#include "kernels/operands.h"

// What layer norm keeps of a row for its backward pass.
typedef struct {
    int32_t sum;  // of a centred norm, else 0
    uint32_t root; // 2^31 over the square root of the row's N * 2^k (SPEC.md: r)
    int32_t mean, size; // backward: sums of the errors, and of their products with the values
    int8_t half;  // k / 2
    int8_t shift; // of the row's values, to 16 bits
    int8_t cut;   // of the row's errors, to 16 bits
    int8_t fraction; // bits of the row's normalized values (SPEC.md: F)
} edgelora_norm_row_t;

// Sums over a row, and its ends.
typedef struct {
    int32_t sum, least, most; // |sum| <= 2^23
    uint64_t squares;         // <= 2^38
} edgelora_norm_sums_t;

// What normalizes a row with these sums.
edgelora_norm_row_t edgelora_norm_row(const edgelora_shape_t *g, const edgelora_norm_sums_t *sums);

#endif
