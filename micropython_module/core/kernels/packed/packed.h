// The packed engine's kernels: int8 products two at a time, bit-exact with the reference.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_PACKED_H
#define EDGELORA_PACKED_H

#include "kernels/attention.h"

// Bytes of 4-aligned scratch for an op's packed kernels, forward and, if `backward`, backward; 0:
// none for its shape. The same on every machine. rank: of the adapter, 0 = none.
uint32_t edgelora_packed_scratch(const edgelora_shape_t *g, uint32_t rank, bool backward);

// Scratch of one kernel, without an upper limit.
uint32_t edgelora_matrix_forward_packed_scratch(const edgelora_shape_t *g, uint32_t rank);
uint32_t edgelora_matrix_backward_packed_scratch(const edgelora_shape_t *g, uint32_t rank);
uint32_t edgelora_b_gradient_packed_scratch(const edgelora_shape_t *g, uint32_t rank);
uint32_t edgelora_depthwise_forward_packed_scratch(const edgelora_shape_t *g);
uint32_t edgelora_depthwise_backward_packed_scratch(const edgelora_shape_t *g);
uint32_t edgelora_attend_packed_scratch(const edgelora_shape_t *g, bool backward);
uint32_t edgelora_pool_packed_scratch(const edgelora_shape_t *g);
uint32_t edgelora_multiply_packed_scratch(const edgelora_shape_t *g);
uint32_t edgelora_widen_packed_scratch(const edgelora_shape_t *g);

// Bit-exact with the functions of the same names in reference.h.
void edgelora_matrix_forward_packed_s8(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const int8_t *x, int8_t *y, int8_t *t, void *scratch);
void edgelora_project_forward_packed_s16(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const int8_t *x, const int16_t *h, int16_t *y, int8_t *t, void *scratch);
// x: q, k and v; false: not 4-aligned
bool edgelora_attend_forward_packed_s8(const edgelora_shape_t *g, const int8_t *const x[3],
    int8_t *y, void *scratch, edgelora_range_t heads);
// Heads of whole groups. scratch: s32 [positions], padded to a multiple of 4
bool edgelora_attend_next_is_packed(const edgelora_shape_t *g);
void edgelora_attend_next_packed_s8(const edgelora_shape_t *g, const int8_t *const x[3], int8_t *y,
    int32_t *scratch, uint32_t t, edgelora_range_t heads);
bool edgelora_attend_pass_packed_s8(edgelora_attend_part_t *part, bool of_scores);
void edgelora_depthwise_forward_packed_s8(
    const edgelora_shape_t *g, const int8_t *x, int8_t *y, void *scratch);
// Multiply; the second tensor may be repeated.
void edgelora_multiply_forward_packed_s8(
    const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, int8_t *y, int32_t *scratch);
// false: too few values
bool edgelora_widen_forward_packed_s16(
    const edgelora_shape_t *g, const int8_t *x, const int16_t *h, int16_t *y, int16_t *scratch);
void edgelora_mask_packed_s8(
    const int8_t *y, uint32_t count, int32_t low, int32_t high, uint8_t *mask);
void edgelora_mask_backward_packed_s8(int8_t *e, uint32_t count, const uint8_t *mask);
int32_t edgelora_requantize_backward_packed_s8(
    const edgelora_shape_t *g, int8_t *e, int32_t exponent);
int32_t edgelora_matrix_backward_packed_s8(const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, int8_t *dx);
int32_t edgelora_branch_backward_packed_s8(const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, int8_t *t_error);
void edgelora_b_gradient_packed_s8(const edgelora_shape_t *g, uint32_t rank,
    const edgelora_error_t *error, const int8_t *t, int32_t *gradient, int32_t shift,
    edgelora_range_t of); // of.from: a multiple of 4
// false: does not fit into that scratch
bool edgelora_a_gradient_packed_s8(const edgelora_shape_t *g, uint32_t rank,
    const edgelora_error_t *error, int32_t *gradient, int32_t shift, edgelora_half_t half);
// Truncates error values, s8 [rows, step], in words from the start of each row, by a right shift.
void edgelora_rescale_s8(int8_t *q, uint32_t words, uint32_t rows, uint32_t step, int32_t shift);
int32_t edgelora_depthwise_backward_packed_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx);
void edgelora_pool_forward_packed_s8(
    const edgelora_shape_t *g, const int8_t *x, int8_t *y, void *scratch);
// Average pool and mean.
int32_t edgelora_pool_backward_packed_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx);

#endif
