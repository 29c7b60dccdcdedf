// Dense and conv, forward.
// SPDX-License-Identifier: MIT

#include "kernels/reference/reference.h"

const int8_t *edgelora_patch_s8(
    const edgelora_shape_t *g, const int8_t *x, uint32_t position, int8_t *patch) {
    const edgelora_op_t *op = g->op;
    if (op->kind == EDGELORA_DENSE) {
        return x;
    }
    int32_t oy = (int32_t)(position / g->out_w), ox = (int32_t)(position % g->out_w);
    int8_t *to = patch;
    for (int32_t ky = 0; ky < g->kernel_h; ++ky) {
        for (int32_t kx = 0; kx < g->kernel_w; ++kx) {
            int32_t iy = oy * op->stride_h - op->pad_top + ky * op->dilation_h;
            int32_t ix = ox * op->stride_w - op->pad_left + kx * op->dilation_w;
            bool inside = iy >= 0 && iy < g->in_h && ix >= 0 && ix < g->in_w;
            for (int32_t c = 0; c < g->in_c; ++c) {
                *to++ = inside ? x[(iy * g->in_w + ix) * g->in_c + c] : g->zp_in;
            }
        }
    }
    return patch;
}

void edgelora_branch_down_s8(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const int8_t *patch, int8_t *t) {
    const int8_t *a = branch->a;
    for (uint32_t j = 0; j < branch->rank; ++j, a += g->inputs) {
        int32_t sum = 0; // |sum| <= 127 * 255 * K < 2^30
        for (uint32_t i = 0; i < g->inputs; ++i) {
            sum += a[i] * (patch[i] - g->zp_in);
        }
        t[j] = (int8_t)clamp_s32(round_shift(sum, branch->t_shift), -127, 127);
    }
}

// Row o of B times t, divided by 2^branch_shift.
static int32_t branch_up(const edgelora_branch_t *branch, uint32_t o, const int8_t *t) {
    const int8_t *b = branch->b + o * branch->rank;
    int32_t sum = 0;
    for (uint32_t j = 0; j < branch->rank; ++j) {
        sum += b[j] * t[j];
    }
    return round_shift(sum, -branch->branch_shift);
}

int32_t edgelora_matrix_sum_s8(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    uint32_t o, const int8_t *patch, const int8_t *t) {
    const uint8_t *w = g->weights + o * g->inputs;
    int32_t acc = g->bias[o];
    for (uint32_t i = 0; i < g->inputs; ++i) {
        acc += (w[i] - 128) * patch[i];
    }
    return acc + (branch->rank ? branch_up(branch, o, t) : 0);
}

void edgelora_matrix_forward_s8(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const int8_t *x, int8_t *y, int8_t *t, int8_t *scratch) {
    int8_t own_t[EDGELORA_MAX_RANK];
    for (uint32_t p = 0; p < g->positions; ++p) {
        const int8_t *patch = edgelora_patch_s8(g, x, p, scratch);
        int8_t *kept = t ? t + p * branch->rank : own_t;
        edgelora_branch_down_s8(g, branch, patch, kept);
        for (uint32_t o = 0; o < g->out_c; ++o) {
            *y++ = requantize_output(g, edgelora_matrix_sum_s8(g, branch, o, patch, kept), o);
        }
    }
}
