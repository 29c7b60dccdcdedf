// Runs whole ops. Only this module selects their kernels.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_DISPATCH_H
#define EDGELORA_DISPATCH_H

#include "kernels/attention.h"
#include "kernels/simd/simd.h"

// Does an op run on packed kernels? Only without `plain`, if there are any for its shape and `room`
// bytes of scratch suffice. rank: of its branch; an adapter in use may have a higher rank than
// planned.
bool edgelora_op_is_packed(
    const edgelora_shape_t *g, uint32_t rank, bool backward, uint32_t room, bool plain);
// Bytes of scratch that an op needs with a branch of this rank; backward: including its backward
// step.
uint32_t edgelora_op_scratch(const edgelora_shape_t *g, uint32_t rank, bool backward, bool plain);

void edgelora_op_forward(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const edgelora_pass_t *pass);
// Computes which outputs pass gradient. mask: one bit each. simd: as in edgelora_pass_t.
void edgelora_op_mask(const edgelora_shape_t *g, const int8_t *y, uint8_t *mask, bool plain,
    const edgelora_simd_t *simd);

// The parts of a backward step, in this order; e: s8 [positions, out_c].
void edgelora_op_mask_backward(const edgelora_shape_t *g, int8_t *e, const uint8_t *mask,
    bool plain, const edgelora_simd_t *simd);
// gradient of B, s32 [out_c, rank], += product of error and t, for some channels, from a multiple
// of 4 on; all of them with vector kernels.
void edgelora_op_b_gradient(const edgelora_shape_t *g, uint32_t rank, const edgelora_error_t *error,
    const int8_t *t, int32_t *gradient, int32_t shift, edgelora_range_t of);
// Multiplies e by the output's multipliers, if the op has any; returns the new exponent.
int32_t edgelora_op_requantize_backward(const edgelora_shape_t *g, int8_t *e, int32_t exponent,
    bool plain, const edgelora_simd_t *simd);
// t_error: s8 [positions, rank] = B^T e; returns its exponent.
int32_t edgelora_op_branch_backward(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const edgelora_error_t *error, int8_t *t_error);
// gradient of A, s32 [rank, K], += product of t's error and the input, for all inputs or half of
// them; all of them with vector kernels.
void edgelora_op_a_gradient(const edgelora_shape_t *g, uint32_t rank, const edgelora_error_t *error,
    int32_t *gradient, int32_t shift, edgelora_half_t half);
// dx: s8, the error of input k (0 or 1); returns its exponent.
int32_t edgelora_op_backward(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const edgelora_error_t *error, uint32_t k, int8_t *dx);
// The backward pass of some of a norm's rows, in two steps: the size of the largest error, and,
// with that of all rows, the errors; returns their exponent.
int32_t edgelora_op_norm_rows(const edgelora_shape_t *g, const edgelora_error_t *error);
int32_t edgelora_op_norm_errors(
    const edgelora_shape_t *g, const edgelora_error_t *error, int32_t top, int8_t *dx);
// Some heads of an attend.
void edgelora_op_attend_forward(
    const edgelora_shape_t *g, const edgelora_pass_t *pass, edgelora_range_t heads);
// dx: s8, the errors of an attend's three inputs, or NULL, and their exponents.
void edgelora_op_attend_backward(const edgelora_shape_t *g, const edgelora_error_t *error,
    int8_t *const dx[3], int16_t *const exponents[3]);
// Goes over a part of it for the first time, or, of_scores, for the second.
void edgelora_op_attend_pass(edgelora_attend_part_t *part, bool of_scores);
// Attention of row t of its queries, x[0], to rows 0..t of all keys and values, x[1] and x[2], for
// some heads, and the bytes of its scratch.
void edgelora_op_attend_next(const edgelora_shape_t *g, const int8_t *const x[3], int8_t *y,
    void *scratch, uint32_t t, bool plain, edgelora_range_t heads);
uint32_t edgelora_op_next_scratch(const edgelora_shape_t *g);
// e: s8 [count], += more; returns the new exponent. rounds: of the model
int32_t edgelora_op_error_add(int8_t *e, uint32_t count, int32_t exponent, const int8_t *more,
    int32_t more_exponent, bool rounds, const edgelora_simd_t *simd);
// Sets a history back to its contents a frame ago, the oldest of which, s8 [input], have left it.
void edgelora_op_back(const edgelora_shape_t *g, const int8_t *left, int8_t *y);
// Sets a history to its contents at the start of a stream.
void edgelora_op_reset(const edgelora_shape_t *g, int8_t *y);

#endif
