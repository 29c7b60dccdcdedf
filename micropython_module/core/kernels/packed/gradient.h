// Common parts of the gradients of A and B.
// SPDX-License-Identifier: MIT
//
// Both use the tile product with other roles: columns (of the outputs' errors for B, of the
// kernel's inputs for A) act as positions, and columns of t or its error as rows. Products sum
// over positions, one chunk at a time.

#ifndef EDGELORA_GRADIENT_H
#define EDGELORA_GRADIENT_H

#include "kernels/packed/internal.h"

enum { OUTER_VALUES = 192 };   // values of a dense layer in the scratch of its backward step

typedef struct {
    // groups of a chunk; columns / 4 and columns of t that are multiplied together
    uint32_t groups, quads, rows;
    uint32_t words, x, patch, size; // acc: s32 [rank, quads, 4]; patch: s8 [4, patch_quads, 4]
    uint32_t in_rows; // input rows that are packed once for all runs; 0: each run packs separately
} gradient_t;

// The layout for `all` quads in at most `room` bytes; quads: 0 if none fits. patch: bytes of a
// quad.
gradient_t edgelora_gradient_layout(
    uint32_t positions, uint32_t all, uint32_t rank, uint32_t patch, uint32_t room);

// The other factor of a tile's columns: t or its error, s8 [positions, rank].
typedef struct {
    const int8_t *t;
    uint32_t rank;
    const int32_t *bias; // s32 [rank], initial values of the sums
} factor_t;

// Products of `columns` columns with n positions of the factor, from p on. skip: bytes from the
// data read of 4 columns to the next 4. add: accumulates in acc, s32 [rank, columns]. words:
// room for 4 rows of n.
typedef struct {
    const uint32_t *x;
    int32_t *acc;
    uint8_t *words;
    uint32_t columns, p, n, skip;
    bool add;
} products_t;

void edgelora_gradient_products(const factor_t *factor, const products_t *what);

// Initializes products of a tile's first `columns` columns; the caller sets p, n and add.
static inline products_t products_of(const gradient_t *l, uint8_t *s, uint32_t columns) {
    products_t what;
    what.x = (const uint32_t *)(const void *)(s + l->x);
    what.acc = (int32_t *)(void *)s;
    what.words = s + l->words;
    what.columns = columns;
    what.p = 0;
    what.n = 0;
    what.skip = 0;
    what.add = false;
    return what;
}

// For one position: gradient row += factor * (v - zero point), for each factor, in some columns.
// gradient: s32 [rows, count]; values: room for OUTER_VALUES.
void edgelora_outer_gradient(const int8_t *factor, uint32_t rows, const int8_t *v,
    int32_t zero_point, uint32_t count, edgelora_range_t columns, int32_t *gradient, int32_t shift,
    int32_t *values);

#endif
