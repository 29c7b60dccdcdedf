// One kernel for each operation, as SPEC.md defines it.
// SPDX-License-Identifier: MIT
//
// They do not depend on packed/, whose kernels are bit-exact with these; an op without a packed
// kernel runs on these. Kernels marked EDGELORA_HOT run in most models: they are an operation's
// only kernel.
//
// Test: tests/core/test_core.py, against tests/support/reference.py; tests/core/test_oracle.py,
// against TFLite Micro.

#ifndef EDGELORA_REFERENCE_H
#define EDGELORA_REFERENCE_H

#include "kernels/attention.h"

// Bytes of scratch that an op's kernels need, forward and, if `backward`, backward.
uint32_t edgelora_reference_scratch(const edgelora_shape_t *g, uint32_t rank, bool backward);

// Parts of dense, conv and project. The K inputs of an output position, those outside the input its
// zero point; patch: s8 [K], where they are copied unless they lie in x in this order.
const int8_t *edgelora_patch_s8(
    const edgelora_shape_t *g, const int8_t *x, uint32_t position, int8_t *patch);
// t: s8 [rank] = A (patch - zp_in), shifted
void edgelora_branch_down_s8(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const int8_t *patch, int8_t *t);
// The accumulator of output channel o, with its branch.
int32_t edgelora_matrix_sum_s8(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    uint32_t o, const int8_t *patch, const int8_t *t);

// Dense and conv. t: s8 [positions, rank] to store, or NULL; patch: s8 [K], scratch.
void edgelora_matrix_forward_s8(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const int8_t *x, int8_t *y, int8_t *t, int8_t *patch);
// t_error: s8 [positions, rank] = B^T e; returns its exponent.
int32_t edgelora_branch_backward_s8(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const edgelora_error_t *error, int8_t *t_error);
// dx: s8 [in_h, in_w, in_c] = W^T e + A^T t_error; returns its exponent.
int32_t edgelora_matrix_backward_s8(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const edgelora_error_t *error, int8_t *dx);
// gradient += the products of a sample: of B, s32 [out_c, rank], from t of the forward pass, for
// some channels; of A, s32 [rank, K], for all inputs or half of them.
void edgelora_b_gradient_s8(const edgelora_shape_t *g, uint32_t rank, const edgelora_error_t *error,
    const int8_t *t, int32_t *gradient, int32_t shift, edgelora_range_t of);
void edgelora_a_gradient_s8(const edgelora_shape_t *g, uint32_t rank, const edgelora_error_t *error,
    int32_t *gradient, int32_t shift, edgelora_half_t half);

// Depthwise: output channel o reads input channel o / (out_c / in_c).
void edgelora_depthwise_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y);
int32_t edgelora_depthwise_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx);

// Masks: bit i = low < y[i] < high.
void edgelora_mask_s8(const int8_t *y, uint32_t count, int32_t low, int32_t high, uint8_t *mask);
void edgelora_mask_backward_s8(int8_t *e, uint32_t count, const uint8_t *mask);
// Multiplies e, s8 [positions, out_c], by the channel's output multiplier (mean: the only one);
// returns the new exponent.
int32_t edgelora_requantize_backward_s8(const edgelora_shape_t *g, int8_t *e, int32_t exponent);

// Average and max pool, and mean.
void edgelora_pool_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y);
int32_t edgelora_pool_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx);

// Elementwise. pair: add, multiply, minimum, maximum, prelu, squared difference.
void edgelora_pair_forward_s8(
    const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, int8_t *y);
int32_t edgelora_pair_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, uint32_t k, int8_t *dx);
EDGELORA_HOT void edgelora_lookup_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y);
int32_t edgelora_lookup_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx);
void edgelora_softmax_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y);
int32_t edgelora_softmax_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx);

// These have no backward pass. lstm: from an empty state; work: s16 [out_c] and s8 [out_c].
void edgelora_lstm_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y, int16_t *work);
// features: y is s16 [out_c / 2], little-endian; time: x has such rows, newest last
void edgelora_svdf_features_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y);
void edgelora_svdf_time_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y);
int32_t edgelora_svdf_features_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx);
int32_t edgelora_svdf_time_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx);

// y: s16, = h, or 0 where h is NULL, plus what the op computes. The error of h is that of y.
void edgelora_embed_forward_s16(
    const edgelora_shape_t *g, const int8_t *ids, const int16_t *h, int16_t *y);
void edgelora_widen_forward_s16(
    const edgelora_shape_t *g, const int8_t *x, const int16_t *h, int16_t *y);
void edgelora_project_forward_s16(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const int8_t *x, const int16_t *h, int16_t *y, int8_t *t, void *patch);
int32_t edgelora_stream_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx);

// Layer norm of a stream x, and turning pairs of channels by their row's place.
void edgelora_norm_forward_s8(const edgelora_shape_t *g, const int16_t *x, int8_t *y);
// The backward pass goes over the rows twice: first for what their errors need of the whole row and
// the size of the largest, then, with that of all rows, for the errors, of which it returns the
// exponent. scratch, kept in between: edgelora_norm_row_t [positions], s16 [positions or 1, in_c]
uint32_t edgelora_norm_scratch(const edgelora_shape_t *g);
int32_t edgelora_norm_rows_s8(const edgelora_shape_t *g, const edgelora_error_t *error);
int32_t edgelora_norm_errors_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int32_t top, int8_t *dx);
void edgelora_rotate_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y);
int32_t edgelora_rotate_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx);

// Attention of some heads of queries. x: q, k and v; scratch: s32 [positions]
void edgelora_attend_forward_s8(const edgelora_shape_t *g, const int8_t *const x[3], int8_t *y,
    int32_t *scratch, edgelora_range_t heads);
// Row t of the output alone, from row t of the queries.
void edgelora_attend_next_s8(const edgelora_shape_t *g, const int8_t *const x[3], int8_t *y,
    int32_t *scratch, uint32_t t, edgelora_range_t heads);
// Goes over a part for the first time, or, of_scores, for the second. scratch: s32 [2 +
// channels of a head, positions]
void edgelora_attend_pass_s8(edgelora_attend_part_t *part, bool of_scores);

// The product of two activations as matrices.
void edgelora_matmul_forward_s8(
    const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, int8_t *y);
int32_t edgelora_matmul_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, uint32_t k, int8_t *dx);

// Copies. The backward pass keeps e's exponent.
EDGELORA_HOT void edgelora_copy_s8(int8_t *to, const int8_t *from, uint32_t count);
void edgelora_concatenate_forward_s8(
    const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, int8_t *y);
void edgelora_concatenate_backward_s8(
    const edgelora_shape_t *g, const int8_t *e, uint32_t k, int8_t *dx);
void edgelora_slice_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y);
void edgelora_slice_backward_s8(const edgelora_shape_t *g, const int8_t *e, int8_t *dx);
void edgelora_pad_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y);
void edgelora_pad_backward_s8(const edgelora_shape_t *g, const int8_t *e, int8_t *dx);
void edgelora_gather_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y);
// Sums errors of outputs that copy the same element; returns the exponent.
int32_t edgelora_gather_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx);
// y: contents after the previous frame; appends x and drops as many of the oldest values.
EDGELORA_HOT void edgelora_history_forward_s8(
    const edgelora_shape_t *g, const int8_t *x, int8_t *y);
// y: contents after a frame; goes back to those before it. left: s8 [input], the oldest of these.
EDGELORA_HOT void edgelora_history_back_s8(
    const edgelora_shape_t *g, const int8_t *left, int8_t *y);
EDGELORA_HOT int32_t edgelora_history_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx);
EDGELORA_HOT void edgelora_history_reset_s8(const edgelora_shape_t *g, int8_t *y);

#endif
