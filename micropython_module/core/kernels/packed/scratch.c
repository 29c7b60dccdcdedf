// Decides which ops have packed kernels, and their memory.
// SPDX-License-Identifier: MIT

#include "kernels/packed/internal.h"

static uint32_t largest_of(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

static bool has_packed_depthwise(const edgelora_shape_t *g, bool backward) {
    const edgelora_op_t *op = g->op;
    return op->kind == EDGELORA_DEPTHWISE && g->kernel_h == 3 && g->kernel_w == 3 &&
        op->dilation_h == 1 && op->dilation_w == 1 && op->stride_w <= 2 && op->pad_left <= 2 &&
        (!backward || g->in_c == g->out_c);
}

static bool is_pool(const edgelora_shape_t *g) {
    uint32_t kind = g->op->kind;
    return kind == EDGELORA_AVERAGE_POOL || kind == EDGELORA_MAX_POOL || kind == EDGELORA_MEAN;
}

uint32_t edgelora_packed_scratch(const edgelora_shape_t *g, uint32_t rank, bool backward) {
    uint32_t size = 0;
    if (g->is_matrix) {
        size = edgelora_matrix_forward_packed_scratch(g, rank);
        if (backward) {
            size = largest_of(size, edgelora_matrix_backward_packed_scratch(g, rank));
            size = largest_of(size, edgelora_b_gradient_packed_scratch(g, rank));
        }
    } else if (has_packed_depthwise(g, backward)) {
        size = edgelora_depthwise_forward_packed_scratch(g);
        if (backward) {
            size = largest_of(size, edgelora_depthwise_backward_packed_scratch(g));
        }
    } else if (EDGELORA_ATTENTION && g->op->kind == EDGELORA_ATTEND) {
        return edgelora_attend_packed_scratch(g, backward);
    } else if (EDGELORA_ATTENTION && g->op->kind == EDGELORA_WIDEN) {
        size = edgelora_widen_packed_scratch(g);
    } else if (g->op->kind == EDGELORA_MULTIPLY) {
        size = edgelora_multiply_packed_scratch(g);
    } else if (is_pool(g)) {
        size = edgelora_pool_packed_scratch(g);
    }
    return size <= EDGELORA_PACKED_BYTES ? size : 0;
}
