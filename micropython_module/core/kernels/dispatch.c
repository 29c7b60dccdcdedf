// Which kernel runs an op: the one place where kinds, and plain and fast kernels, part. SPDX-License-Identifier: MIT

#include "kernels/packed/packed.h"

bool edgelora_op_is_fast(const edgelora_shape_t *g, uint32_t rank, bool backward, uint32_t room) {
    uint32_t size = edgelora_packed_scratch(g, rank, backward);
    return size && size <= room;
}

EDGELORA_HOT void edgelora_op_forward(const edgelora_shape_t *g, const edgelora_branch_t *branch, const edgelora_pass_t *pass) {
    const int8_t *x = pass->x, *x2 = pass->x2;
    int8_t *y = pass->y;
    switch (g->op->kind) {
        case EDGELORA_DENSE:
        case EDGELORA_CONV:
            if (pass->fast) {
                edgelora_matrix_forward_packed_s8(g, branch, x, y, pass->t, pass->scratch);
            } else {
                edgelora_matrix_forward_s8(g, branch, x, y, pass->t, pass->scratch);
            }
            break;
        case EDGELORA_DEPTHWISE:
            if (pass->fast) {
                edgelora_depthwise_forward_packed_s8(g, x, y, pass->scratch);
            } else {
                edgelora_depthwise_forward_s8(g, x, y);
            }
            break;
        case EDGELORA_AVERAGE_POOL:
        case EDGELORA_MAX_POOL:
        case EDGELORA_MEAN:
            edgelora_pool_forward_s8(g, x, y);
            break;
        case EDGELORA_ADD:
            edgelora_add_forward_s8(g, x, x2, y);
            break;
        case EDGELORA_CONCATENATE:
            edgelora_concatenate_forward_s8(g, x, x2, y);
            break;
        case EDGELORA_SLICE:
            edgelora_slice_forward_s8(g, x, y);
            break;
        case EDGELORA_HISTORY:
            edgelora_history_forward_s8(g, x, y);
            break;
        case EDGELORA_PAD:
            edgelora_pad_forward_s8(g, x, y);
            break;
        case EDGELORA_RESHAPE:
            edgelora_copy_s8(y, x, g->positions * g->out_c);
            break;
        case EDGELORA_LOOKUP:
            edgelora_lookup_forward_s8(g, x, y);
            break;
        case EDGELORA_SOFTMAX:
            edgelora_softmax_forward_s8(g, x, y);
            break;
    }
}

EDGELORA_HOT int32_t edgelora_op_backward(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const edgelora_error_t *error, uint32_t k, int8_t *dx) {
    switch (g->op->kind) {
        case EDGELORA_DENSE:
        case EDGELORA_CONV:
            return error->fast ? edgelora_matrix_backward_packed_s8(g, branch, error, dx)
                               : edgelora_matrix_backward_s8(g, branch, error, dx, error->scratch);
        case EDGELORA_DEPTHWISE:
            return error->fast ? edgelora_depthwise_backward_packed_s8(g, error, dx)
                               : edgelora_depthwise_backward_s8(g, error, dx, error->scratch);
        case EDGELORA_AVERAGE_POOL:
        case EDGELORA_MAX_POOL:
        case EDGELORA_MEAN:
            return edgelora_pool_backward_s8(g, error, dx, error->scratch);
        case EDGELORA_ADD:
            return edgelora_add_backward_s8(g, error, k, dx);
        case EDGELORA_CONCATENATE:
            edgelora_concatenate_backward_s8(g, error->e, k, dx);
            return error->exponent;
        case EDGELORA_LOOKUP:
            return edgelora_lookup_backward_s8(g, error, dx);
        case EDGELORA_SOFTMAX:
            return edgelora_softmax_backward_s8(g, error, dx);
        case EDGELORA_SLICE:
            edgelora_slice_backward_s8(g, error->e, dx);
            return error->exponent;
        case EDGELORA_HISTORY:
            edgelora_history_backward_s8(g, error->e, dx);
            return error->exponent;
        case EDGELORA_PAD:
            edgelora_pad_backward_s8(g, error->e, dx);
            return error->exponent;
        default: // reshape
            edgelora_copy_s8(dx, error->e, g->positions * g->out_c);
            return error->exponent;
    }
}

EDGELORA_HOT int32_t edgelora_op_branch_backward(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const edgelora_error_t *error, int8_t *u) {
    return error->fast
        ? edgelora_branch_backward_packed_s8(g, branch, error, u)
        : edgelora_branch_backward_s8(g, branch, error->e, u, error->exponent);
}

EDGELORA_HOT int32_t edgelora_op_requantize_backward(const edgelora_shape_t *g, int8_t *e, int32_t exponent, bool plain) {
    return plain ? edgelora_requantize_backward_s8(g, e, exponent) : edgelora_requantize_backward_packed_s8(g, e, exponent);
}

EDGELORA_HOT void edgelora_op_b_gradient(
    const edgelora_shape_t *g, uint32_t rank, const edgelora_error_t *error, const int8_t *t, int32_t *gradient, int32_t shift) {
    if (error->fast) {
        edgelora_b_gradient_packed_s8(g, rank, error, t, gradient, shift);
    } else {
        edgelora_b_gradient_s8(g, rank, error->e, t, gradient, shift);
    }
}

uint32_t edgelora_op_scratch(const edgelora_shape_t *g, uint32_t rank, bool backward, bool plain) {
    uint32_t fast = plain ? 0 : edgelora_packed_scratch(g, rank, backward);
    uint32_t patch = edgelora_needs_patch(g) ? g->inputs : 0, row = 0;
    bool sums = g->traits & (EDGELORA_HAS_WEIGHTS | EDGELORA_HAS_WINDOW);
    if (backward && sums) {
        row = 4u * g->in_c * (rank ? 2 : 1);
    }
    row = patch > row ? patch : row;
    return fast > row ? fast : row;
}
