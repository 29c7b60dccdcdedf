// What the core's files share. SPDX-License-Identifier: MIT

#ifndef EDGELORA_INTERNAL_H
#define EDGELORA_INTERNAL_H

#include "edgelora.h"
#include "fixed.h"

// An op with its tensors, decoded from a checked model. A dense layer is a convolution whose kernel
// covers the whole input: one position.
typedef struct {
    const edgelora_op_t *op;
    const int8_t *weights; // s8 [out_c, kernel_h, kernel_w, in_c], |w| <= 128
    const int32_t *bias, *multiplier;
    const int8_t *shift;
    uint32_t positions; // out_h * out_w
    uint32_t inputs;    // K = kernel_h * kernel_w * in_c
    uint16_t in_h, in_w, in_c, out_h, out_w, out_c, kernel_h, kernel_w;
    int8_t zp_in, zp_out;
    bool is_matrix; // dense or conv: has weights, can carry an adapter
} edgelora_shape_t;

// An adapter's part in one op.
typedef struct {
    const int8_t *a, *b; // s8 [rank, K], s8 [out_c, rank]
    uint8_t rank;        // 0: none
    int8_t t_shift, branch_shift;
} edgelora_branch_t;

// int8 values with one exponent, written piece by piece (SPEC.md: block).
typedef struct {
    int8_t *q;
    uint32_t count;
    int32_t shift;
    bool any; // some value was not 0
} edgelora_block_t;

edgelora_shape_t edgelora_shape(const void *model, uint32_t i);

// forward.c. t: s8 [positions, rank] to keep, or NULL. mask: bits to keep, or NULL.
// patch: s8 [K] scratch.
void edgelora_matrix_forward_s8(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const int8_t *x, int8_t *y, int8_t *t, uint8_t *mask, int8_t *patch);
void edgelora_pool_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y, uint8_t *mask);

// backward.c
void edgelora_block_append(edgelora_block_t *block, const int32_t *v, uint32_t n);
void edgelora_mask_backward_s8(int8_t *e, uint32_t count, const uint8_t *mask);
// e: s8 [rows, channels], times the channel's output multiplier; returns the new exponent.
int32_t edgelora_requantize_backward_s8(
    int8_t *e, uint32_t rows, uint32_t channels, const int32_t *multiplier, const int8_t *shift, bool per_channel, int top, int32_t exponent);
// u: s8 [positions, rank] = B^T a; returns its exponent.
int32_t edgelora_branch_backward_s8(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const int8_t *a, int8_t *u, int32_t exponent);
// dx: s8 [in_h, in_w, in_c] = W^T a + A^T u; row: s32 [2, in_c]. Returns its exponent.
int32_t edgelora_input_backward_s8(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const int8_t *a, int32_t a_exponent, const int8_t *u,
    int32_t u_exponent, int8_t *dx, int32_t *row);
int32_t edgelora_pool_backward_s8(const edgelora_shape_t *g, const int8_t *e, int32_t exponent, int8_t *dx, int32_t *row);
// Adds a sample's products to the micro-batch's gradients, s32 [O, rank] and s32 [rank, K].
void edgelora_b_gradient_s8(
    const edgelora_shape_t *g, uint32_t rank, const int8_t *e, const int8_t *t, int32_t *gradient, int32_t shift);
void edgelora_a_gradient_s8(
    const edgelora_shape_t *g, uint32_t rank, const int8_t *u, const int8_t *x, int32_t *gradient, int32_t shift);

// loss.c. logits: s8 [n]; e: s8 [n], error; row: s32 [n] scratch. Returns the loss, Q12.
int32_t edgelora_cross_entropy(
    const edgelora_model_t *model, const int8_t *logits, uint32_t n, uint32_t label, int32_t *row, int8_t *e, int32_t *exponent, bool *any);

// update.c
// Makes room for a product of this exponent; returns the shift that brings the product to the gradient's.
int32_t edgelora_gradient_open(edgelora_matrix_t *m, int32_t *gradient, int32_t exponent);
typedef struct {
    uint32_t stream;
    uint32_t *draws;
    uint16_t learning_rate;
    uint8_t shift; // of the learning rate: 16 for B, 15 for A
    uint8_t momentum;
} edgelora_step_t;
void edgelora_matrix_update(uint8_t *arena, edgelora_matrix_t *m, const edgelora_step_t *step);

static inline const void *model_at(const void *model, uint32_t offset) {
    return (const uint8_t *)model + offset;
}

static inline uint32_t align4(uint32_t n) {
    return (n + 3) & ~3u;
}

static inline edgelora_layer_t *session_layers(edgelora_session_t *s) {
    return (edgelora_layer_t *)((uint8_t *)s + s->layers);
}

#endif
