// Kernels on packed pairs of values, bit-equal to the plain ones. SPDX-License-Identifier: MIT

#ifndef EDGELORA_FAST_H
#define EDGELORA_FAST_H

#include "graph.h"

// Bytes of 4-aligned scratch for an op's fast kernels, forward and, if asked for, backward; 0: there are none for its
// shape. The same on every machine. rank: of the adapter, 0 = none.
uint32_t edgelora_fast_scratch(const edgelora_shape_t *g, uint32_t rank, bool backward);

// Dense and conv. t: s8 [positions, rank] to keep, or NULL.
void edgelora_matrix_forward_fast_s8(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const int8_t *x, int8_t *y, int8_t *t, void *scratch);
void edgelora_depthwise_forward_fast_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y, void *scratch);
// Bit i of mask: low < y[i] < high.
void edgelora_mask_s8(const int8_t *y, uint32_t count, int32_t low, int32_t high, uint8_t *mask);

// As their plain namesakes, bit for bit.
int32_t edgelora_input_backward_fast_s8(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const int8_t *a, int32_t a_exponent, const int8_t *u,
    int32_t u_exponent, int8_t *dx, void *scratch);
int32_t edgelora_branch_backward_fast_s8(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const int8_t *a, int8_t *u, int32_t exponent, void *scratch);
void edgelora_b_gradient_fast_s8(
    const edgelora_shape_t *g, uint32_t rank, const int8_t *e, const int8_t *t, int32_t *gradient, int32_t shift, void *scratch);
// dx: s8 [in_h, in_w, in_c]: transposed kernel times a, of as many channels as the input; returns its exponent.
int32_t edgelora_depthwise_backward_fast_s8(const edgelora_shape_t *g, const int8_t *a, int32_t exponent, int8_t *dx, void *scratch);
int32_t edgelora_requantize_backward_fast_s8(
    int8_t *e, uint32_t rows, uint32_t channels, const int32_t *multiplier, const int8_t *shift, bool per_channel, int top, int32_t exponent);
void edgelora_mask_backward_fast_s8(int8_t *e, uint32_t count, const uint8_t *mask);

#endif
