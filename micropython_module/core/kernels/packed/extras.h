// Optional kernels of some processors, in addition to the primitives. On others these functions
// return false or 0 and compile to nothing, so that callers need not know the processor.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_EXTRAS_H
#define EDGELORA_EXTRAS_H

#include "kernels/packed/planes.h"

// Errors of four columns of inputs from t's errors, if only one row of A is nonzero in these
// columns.
typedef struct {
    const int8_t *a;  // s8 [rank, columns], 4-aligned, from these four columns on
    uint32_t columns; // a multiple of 4
    const int8_t *t;  // s8 [count, rank]
    uint32_t rank;
    int32_t *acc; // s32 [4, padded]: = trunc_shift(acc, shift) + A^T t
    uint32_t count, padded;
    int32_t shift;
} edgelora_one_row_t;

// Inputs [end of the row before, end) that only this row of A reads; the last row's end with the
// last input.
typedef struct {
    const int8_t *a; // s8 [rank, inputs]
    uint32_t rank, inputs;
    uint16_t end[EDGELORA_MAX_RANK];
} edgelora_parts_t;

#ifdef EDGELORA_M0PLUS

// m0plus/sparse.c: are at least `least` of 8 of the outputs' errors 0? Then sums of weighted rows,
// which leave out rows of value 0, are faster than a tile: 28 cycles for 8 products, not 20.
bool edgelora_are_sparse(const edgelora_shape_t *g, const int8_t *e, uint32_t least);
// The parts of the rows of A, 4-aligned; false: several rows read an input. inputs: a multiple of 4
bool edgelora_parts_of_a(edgelora_parts_t *parts, const edgelora_branch_t *branch, uint32_t inputs);
// acc, of the inputs [from, from + count), = trunc_shift(acc, shift) + A^T t
void edgelora_add_parts_s32(const edgelora_parts_t *parts, uint32_t from, uint32_t count,
    int32_t shift, const int8_t *t, int32_t *acc);

// m0plus/windows.c: errors of the inputs of a convolution of sparse errors, window by window. The
// first of both sums is shifted right by `cut` before the other is added. shift: set to the
// block's; false: not supported, or too few errors are 0.
bool edgelora_windows_backward_s8(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const edgelora_error_t *error, bool t_first, int32_t cut, uint32_t room, int8_t *dx,
    int32_t *shift);

// m0plus/bounds.c: upper bound of |B t| over all outputs, |t| <= 127.
uint32_t edgelora_largest_branch_sum(const edgelora_shape_t *g, const edgelora_branch_t *branch);
// Is |acc| < EDGELORA_22_BITS for all outputs, to which a branch adds at most `branch_sum`?
bool edgelora_fits_22_bits(const edgelora_shape_t *g, uint32_t branch_sum);
// edgelora_tile_product_t
static inline uint32_t one_left(uint32_t positions) {
    return positions > 4 && (positions & 3) == 1;
}

// The only row of A that is nonzero in the four columns; the rank if there is no such row.
static inline uint32_t only_row(const edgelora_one_row_t *o) {
    uint32_t only = o->rank;
    const int8_t *a = o->a;
    for (uint32_t j = 0; j < o->rank; ++j, a += o->columns) {
        if (!*(const uint32_t *)(const void *)a) {
            continue;
        }
        if (only != o->rank) {
            return o->rank;
        }
        only = j;
    }
    return only;
}

// Errors of inputs that only one row of A reads; false: several rows read them. A frozen A has such
// inputs, as its rows cover separate parts.
static inline bool edgelora_one_row_s8(const edgelora_one_row_t *o) {
    uint32_t j = only_row(o);
    if (j == o->rank) {
        return false;
    }
    const int8_t *a = o->a + j * o->columns;
    int32_t *acc = o->acc;
    for (uint32_t k = 0; k < 4; ++k, acc += o->padded) {
        edgelora_add_scaled_s32(acc, o->count, o->shift, o->t + j, o->rank, *a++);
    }
    return true;
}

// m0plus/depthwise_2.c: `rows` output rows with stride 2, from y on; false: not supported for this
// op.
bool edgelora_pairs_forward(const edgelora_shape_t *g, const planes_t *l, const reach_t *reach,
    uint32_t rows, edgelora_requantize_t *requantize, const int8_t *x, int8_t *y, uint32_t *plane,
    int32_t *acc);

#else

static inline bool edgelora_are_sparse(const edgelora_shape_t *g, const int8_t *e, uint32_t least) {
    (void)g, (void)e, (void)least;
    return false;
}

static inline bool edgelora_windows_backward_s8(const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, bool t_first, int32_t cut,
    uint32_t room, int8_t *dx, int32_t *shift) {
    (void)g, (void)branch, (void)error, (void)t_first, (void)cut, (void)room, (void)dx, (void)shift;
    return false;
}

static inline bool edgelora_parts_of_a(
    edgelora_parts_t *parts, const edgelora_branch_t *branch, uint32_t inputs) {
    (void)parts, (void)branch, (void)inputs;
    return false;
}

static inline void edgelora_add_parts_s32(const edgelora_parts_t *parts, uint32_t from,
    uint32_t count, int32_t shift, const int8_t *t, int32_t *acc) {
    (void)parts, (void)from, (void)count, (void)shift, (void)t, (void)acc;
}

static inline uint32_t edgelora_largest_branch_sum(
    const edgelora_shape_t *g, const edgelora_branch_t *branch) {
    (void)g, (void)branch;
    return 0;
}

static inline bool edgelora_fits_22_bits(const edgelora_shape_t *g, uint32_t branch_sum) {
    (void)g, (void)branch_sum;
    return false;
}

static inline uint32_t one_left(uint32_t positions) {
    (void)positions;
    return 0;
}

static inline bool edgelora_one_row_s8(const edgelora_one_row_t *one_row) {
    (void)one_row;
    return false;
}

static inline bool edgelora_pairs_forward(const edgelora_shape_t *g, const planes_t *l,
    const reach_t *reach, uint32_t rows, edgelora_requantize_t *requantize, const int8_t *x,
    int8_t *y, uint32_t *plane, int32_t *acc) {
    (void)g, (void)l, (void)reach, (void)rows, (void)requantize, (void)x, (void)y, (void)plane;
    (void)acc;
    return false;
}

#endif

#ifdef EDGELORA_DSP

// dsp/tile_outputs.c: outputs [o, o + rows) of a tile's positions, clamped to int8. rows: even;
// weights: contiguous rows of whole groups, EDGELORA_OFFSET.
bool edgelora_gives_tile_outputs(const edgelora_shape_t *g);
void edgelora_tile_outputs_s8(const edgelora_shape_t *g, uint32_t o, uint32_t rows,
    const void *weights, const uint32_t *x, uint32_t count, int8_t *y);

// dsp/depthwise.c: the whole op, with the scratch of edgelora_depthwise_forward_packed_s8; false:
// not supported for this op.
bool edgelora_depthwise_strips_s8(
    const edgelora_shape_t *g, const int8_t *x, int8_t *y, void *scratch);

#else

static inline bool edgelora_gives_tile_outputs(const edgelora_shape_t *g) {
    (void)g;
    return false;
}

static inline void edgelora_tile_outputs_s8(const edgelora_shape_t *g, uint32_t o, uint32_t rows,
    const void *weights, const uint32_t *x, uint32_t count, int8_t *y) {
    (void)g, (void)o, (void)rows, (void)weights, (void)x, (void)count, (void)y;
}

static inline bool edgelora_depthwise_strips_s8(
    const edgelora_shape_t *g, const int8_t *x, int8_t *y, void *scratch) {
    (void)g, (void)x, (void)y, (void)scratch;
    return false;
}

#endif

#endif
