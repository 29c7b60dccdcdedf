// Runs ops on both cores of a chip: each core computes a part, by the same kernels.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_SPLIT_H
#define EDGELORA_SPLIT_H

#include "kernels/dispatch.h"

// 0: a build for one core, without the code for two.
#ifndef EDGELORA_TWO_CORES
#define EDGELORA_TWO_CORES 1
#endif

// second: NULL, and everything runs here. scratch: of the second core; room: its bytes, and those
// of an op's own; plain: reference kernels only.
typedef struct {
    const edgelora_second_t *second;
    void *scratch;
    uint32_t room;
    bool plain;
} edgelora_split_t;

// Bytes of scratch that a core needs for its part of an op.
uint32_t edgelora_split_scratch(
    const edgelora_shape_t *g, uint32_t rank, bool backward, bool plain);

// The functions of dispatch.h on both cores, if the op is large enough.
void edgelora_both_forward(const edgelora_split_t *split, const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_pass_t *pass);
void edgelora_both_mask(const edgelora_split_t *split, const edgelora_shape_t *g, const int8_t *y,
    uint8_t *mask, const edgelora_simd_t *simd);
void edgelora_both_mask_backward(const edgelora_split_t *split, const edgelora_shape_t *g,
    int8_t *e, const uint8_t *mask, const edgelora_simd_t *simd);
void edgelora_both_b_gradient(const edgelora_split_t *split, const edgelora_shape_t *g,
    uint32_t rank, const edgelora_error_t *error, const int8_t *t, int32_t *gradient,
    int32_t shift);
int32_t edgelora_both_requantize_backward(const edgelora_split_t *split, const edgelora_shape_t *g,
    int8_t *e, int32_t exponent, const edgelora_simd_t *simd);
int32_t edgelora_both_branch_backward(const edgelora_split_t *split, const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, int8_t *t_error);
void edgelora_both_a_gradient(const edgelora_split_t *split, const edgelora_shape_t *g,
    uint32_t rank, const edgelora_error_t *error, int32_t *gradient, int32_t shift);
int32_t edgelora_both_backward(const edgelora_split_t *split, const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, uint32_t k, int8_t *dx);
int32_t edgelora_both_error_add(const edgelora_split_t *split, int8_t *e, uint32_t count,
    int32_t exponent, const int8_t *more, int32_t more_exponent, bool rounds,
    const edgelora_simd_t *simd);
void edgelora_both_attend_backward(const edgelora_split_t *split, const edgelora_shape_t *g,
    const edgelora_error_t *error, int8_t *const dx[3], int16_t *const exponents[3]);
void edgelora_both_attend_next(const edgelora_split_t *split, const edgelora_shape_t *g,
    const int8_t *const x[3], int8_t *y, void *scratch, uint32_t t);

// The same on as many cores as there are.
static inline bool is_split(const edgelora_split_t *split) {
    return EDGELORA_TWO_CORES && split->second;
}

static inline void edgelora_split_forward(const edgelora_split_t *split, const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_pass_t *pass) {
    if (is_split(split)) {
        edgelora_both_forward(split, g, branch, pass);
    } else {
        edgelora_op_forward(g, branch, pass);
    }
}

static inline void edgelora_split_mask(const edgelora_split_t *split, const edgelora_shape_t *g,
    const int8_t *y, uint8_t *mask, const edgelora_simd_t *simd) {
    if (is_split(split)) {
        edgelora_both_mask(split, g, y, mask, simd);
    } else {
        edgelora_op_mask(g, y, mask, split->plain, simd);
    }
}

static inline void edgelora_split_mask_backward(const edgelora_split_t *split,
    const edgelora_shape_t *g, int8_t *e, const uint8_t *mask, const edgelora_simd_t *simd) {
    if (is_split(split)) {
        edgelora_both_mask_backward(split, g, e, mask, simd);
    } else {
        edgelora_op_mask_backward(g, e, mask, split->plain, simd);
    }
}

static inline void edgelora_split_b_gradient(const edgelora_split_t *split,
    const edgelora_shape_t *g, uint32_t rank, const edgelora_error_t *error, const int8_t *t,
    int32_t *gradient, int32_t shift) {
    if (is_split(split)) {
        edgelora_both_b_gradient(split, g, rank, error, t, gradient, shift);
    } else {
        edgelora_range_t all = {0, g->out_c};
        edgelora_op_b_gradient(g, rank, error, t, gradient, shift, all);
    }
}

static inline int32_t edgelora_split_requantize_backward(const edgelora_split_t *split,
    const edgelora_shape_t *g, int8_t *e, int32_t exponent, const edgelora_simd_t *simd) {
    return is_split(split) ? edgelora_both_requantize_backward(split, g, e, exponent, simd)
                           : edgelora_op_requantize_backward(g, e, exponent, split->plain, simd);
}

static inline int32_t edgelora_split_branch_backward(const edgelora_split_t *split,
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const edgelora_error_t *error,
    int8_t *t_error) {
    return is_split(split) ? edgelora_both_branch_backward(split, g, branch, error, t_error)
                           : edgelora_op_branch_backward(g, branch, error, t_error);
}

static inline void edgelora_split_a_gradient(const edgelora_split_t *split,
    const edgelora_shape_t *g, uint32_t rank, const edgelora_error_t *error, int32_t *gradient,
    int32_t shift) {
    if (is_split(split)) {
        edgelora_both_a_gradient(split, g, rank, error, gradient, shift);
    } else {
        edgelora_op_a_gradient(g, rank, error, gradient, shift, EDGELORA_ALL);
    }
}

static inline int32_t edgelora_split_error_add(const edgelora_split_t *split, int8_t *e,
    uint32_t count, int32_t exponent, const int8_t *more, int32_t more_exponent, bool rounds,
    const edgelora_simd_t *simd) {
    return (is_split(split)
            ? edgelora_both_error_add(split, e, count, exponent, more, more_exponent, rounds, simd)
            : edgelora_op_error_add(e, count, exponent, more, more_exponent, rounds, simd));
}

static inline void edgelora_split_attend_backward(const edgelora_split_t *split,
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *const dx[3],
    int16_t *const exponents[3]) {
    if (is_split(split)) {
        edgelora_both_attend_backward(split, g, error, dx, exponents);
    } else {
        edgelora_op_attend_backward(g, error, dx, exponents);
    }
}

static inline void edgelora_split_attend_next(const edgelora_split_t *split,
    const edgelora_shape_t *g, const int8_t *const x[3], int8_t *y, void *scratch, uint32_t t) {
    if (is_split(split)) {
        edgelora_both_attend_next(split, g, x, y, scratch, t);
    } else {
        edgelora_range_t all = {0, g->op->kernel_h};
        edgelora_op_attend_next(g, x, y, scratch, t, split->plain, all);
    }
}

static inline int32_t edgelora_split_backward(const edgelora_split_t *split,
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const edgelora_error_t *error,
    uint32_t k, int8_t *dx) {
    return is_split(split) ? edgelora_both_backward(split, g, branch, error, k, dx)
                           : edgelora_op_backward(g, branch, error, k, dx);
}

#endif
