// What the gradients of A and of B share.
// SPDX-License-Identifier: MIT
//
// Columns, of the outputs' errors for B and of what the kernel reads for A, take the place of
// positions, columns of t or its error that of rows; the products go over positions, a chunk at a
// time.

#ifndef EDGELORA_GRADIENT_H
#define EDGELORA_GRADIENT_H

#include "kernels/packed/internal.h"

enum { OUTER_VALUES = 192 };   // of a dense layer, in the scratch of its backward step

typedef struct {
    // of a chunk; columns / 4 and columns of t that are multiplied together
    uint32_t groups, quads, rows;
    uint32_t words, x, patch, size; // acc: s32 [rank, quads, 4]; patch: s8 [4, patch_quads, 4]
    uint32_t in_rows; // of the input, that are packed together for all runs; 0: each run's own
} gradient_t;

// Of `all` quads in at most `room` bytes; quads: 0 if not even one fits. patch: bytes of a quad.
gradient_t edgelora_gradient_layout(
    uint32_t positions, uint32_t all, uint32_t rank, uint32_t patch, uint32_t room);

// What the products of a tile's columns go along with: t or its error, s8 [positions, rank].
typedef struct {
    const int8_t *t;
    uint32_t rank;
    const int32_t *bias; // s32 [rank], that the sums start from
} factor_t;

// Products of `columns` columns with n positions of the factor, from p on; bytes from what is read
// of 4 columns to the next 4. add: to acc, s32 [rank, columns]. words: room for 4 rows of n.
typedef struct {
    const uint32_t *x;
    int32_t *acc;
    uint8_t *words;
    uint32_t columns, p, n, skip;
    bool add;
} products_t;

void edgelora_gradient_products(const factor_t *factor, const products_t *what);

// Of a tile's first `columns` columns; p, n and add are its user's.
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

// One position: a row of the gradient for each factor, += factor * (v - zero point). gradient: s32
// [rows, count]; values: room for OUTER_VALUES.
void edgelora_outer_gradient(const int8_t *factor, uint32_t rows, const int8_t *v,
    int32_t zero_point, uint32_t count, int32_t *gradient, int32_t shift, int32_t *values);

#endif
