// The kernels of an op as a whole. Which ones run is chosen here and nowhere else.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_DISPATCH_H
#define EDGELORA_DISPATCH_H

#include "kernels/operands.h"
#include "kernels/simd/simd.h"

// Whether an op runs on packed kernels: not if `plain`, and only if there are any for its shape,
// which `room` bytes of scratch are enough for. rank: of its branch; that of an adapter in use may
// be higher than planned for.
bool edgelora_op_is_packed(
    const edgelora_shape_t *g, uint32_t rank, bool backward, uint32_t room, bool plain);
// Bytes of scratch that an op needs, with a branch of this rank; backward: also in its backward
// step.
uint32_t edgelora_op_scratch(const edgelora_shape_t *g, uint32_t rank, bool backward, bool plain);

void edgelora_op_forward(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const edgelora_pass_t *pass);
// Which outputs pass gradient. mask: a bit each. simd: as in a pass.
void edgelora_op_mask(const edgelora_shape_t *g, const int8_t *y, uint8_t *mask, bool plain,
    const edgelora_simd_t *simd);

// The steps of the backward pass, in this order; e: s8 [positions, out_c].
void edgelora_op_mask_backward(const edgelora_shape_t *g, int8_t *e, const uint8_t *mask,
    bool plain, const edgelora_simd_t *simd);
// gradient: s32 [out_c, rank] of B, += the product of the error and t.
void edgelora_op_b_gradient(const edgelora_shape_t *g, uint32_t rank, const edgelora_error_t *error,
    const int8_t *t, int32_t *gradient, int32_t shift);
// e times the output's multipliers, of an op that has some; returns the new exponent.
int32_t edgelora_op_requantize_backward(const edgelora_shape_t *g, int8_t *e, int32_t exponent,
    bool plain, const edgelora_simd_t *simd);
// t_error: s8 [positions, rank] = B^T e; returns its exponent.
int32_t edgelora_op_branch_backward(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const edgelora_error_t *error, int8_t *t_error);
// gradient: s32 [rank, K] of A, += the product of t's error and the input.
void edgelora_op_a_gradient(const edgelora_shape_t *g, uint32_t rank, const edgelora_error_t *error,
    int32_t *gradient, int32_t shift);
// dx: s8, the error of input k (0 or 1); returns its exponent.
int32_t edgelora_op_backward(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const edgelora_error_t *error, uint32_t k, int8_t *dx);
// e: s8 [count], += more; returns the new exponent.
int32_t edgelora_op_error_add(int8_t *e, uint32_t count, int32_t exponent, const int8_t *more,
    int32_t more_exponent, const edgelora_simd_t *simd);
// What a history holds at the start of a stream.
void edgelora_op_reset(const edgelora_shape_t *g, int8_t *y);

#endif
