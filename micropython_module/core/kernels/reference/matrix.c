// Forward kernels of dense and conv. SPDX-License-Identifier: MIT

#include "kernels/reference/dot.h"
#include "graph.h"

bool edgelora_needs_patch(const edgelora_shape_t *g) {
    const edgelora_op_t *op = g->op;
    return op->kind == EDGELORA_CONV && !(g->kernel_h == 1 && (g->kernel_w == 1 || op->dilation_w == 1) && !op->pad_top && !op->pad_left &&
        (uint32_t)(g->out_h - 1) * op->stride_h < g->in_h && (uint32_t)(g->out_w - 1) * op->stride_w + g->kernel_w <= g->in_w);
}

// The K inputs of output position (oy, ox): in place where they lie in a row, else gathered into
// patch, with the zero point where the window is outside.
EDGELORA_HOT static const int8_t *patch_at(const edgelora_shape_t *g, const int8_t *x, uint32_t oy, uint32_t ox, int8_t *patch) {
    const edgelora_op_t *op = g->op;
    int32_t y0 = (int32_t)(oy * op->stride_h) - op->pad_top;
    int32_t x0 = (int32_t)(ox * op->stride_w) - op->pad_left;
    bool dense_w = op->dilation_w == 1 || g->kernel_w == 1;
    bool rows_touch = g->kernel_h == 1 || (g->kernel_w == g->in_w && op->dilation_h == 1);
    if (dense_w && rows_touch && x0 >= 0 && x0 + g->kernel_w <= g->in_w && y0 >= 0 && y0 + g->kernel_h <= g->in_h) {
        return x + ((uint32_t)y0 * g->in_w + (uint32_t)x0) * g->in_c;
    }
    int8_t *out = patch;
    for (uint32_t ky = 0; ky < g->kernel_h; ++ky) {
        int32_t iy = y0 + (int32_t)(ky * op->dilation_h);
        for (uint32_t kx = 0; kx < g->kernel_w; ++kx) {
            int32_t ix = x0 + (int32_t)(kx * op->dilation_w);
            bool inside = iy >= 0 && iy < g->in_h && ix >= 0 && ix < g->in_w;
            const int8_t *in = inside ? x + ((uint32_t)iy * g->in_w + (uint32_t)ix) * g->in_c : 0;
            for (uint32_t c = 0; c < g->in_c; ++c) {
                *out++ = inside ? in[c] : g->zp_in;
            }
        }
    }
    return patch;
}

// t: s8 [rank] = A (x - zp), scaled down by 2^t_shift
EDGELORA_HOT static void branch_down(const edgelora_branch_t *branch, const int8_t *x, int32_t zp, uint32_t inputs, int8_t *t) {
    int32_t acc[EDGELORA_MAX_RANK];
    for (uint32_t j = 0; j < branch->rank; ++j) {
        acc[j] = 0;
    }
    dot_rows_s8(branch->a, branch->rank, inputs, x, zp, acc);
    for (uint32_t j = 0; j < branch->rank; ++j) {
        t[j] = (int8_t)clamp_s32(round_shift(acc[j], branch->t_shift), -127, 127);
    }
}

// acc: s32 [count], of outputs o.. += B t, scaled by 2^branch_shift
static inline void branch_up(const edgelora_branch_t *branch, uint32_t o, uint32_t count, const int8_t *t, int32_t *acc) {
    int32_t up[4] = {0};
    dot_rows_s8(branch->b + o * branch->rank, count, branch->rank, t, 0, up);
    for (uint32_t k = 0; k < count; ++k) {
        acc[k] += round_shift(up[k], -branch->branch_shift);
    }
}

// acc[k] += rows[k * n ..] . x for rows of w + 128; offset: 128 * sum x
EDGELORA_KERNEL static void dot_weights(const uint8_t *rows, uint32_t count, uint32_t n, const int8_t *x, int32_t offset, int32_t *acc) {
    for (uint32_t k = 0; k < count; ++k, rows += n) {
        int32_t sum = 0; // |sum| <= 255 * 128 * K < 2^30
        for (uint32_t i = 0; i < n; ++i) {
            sum += rows[i] * x[i];
        }
        acc[k] += sum - offset;
    }
}

EDGELORA_HOT void edgelora_matrix_forward_s8(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const int8_t *x, int8_t *y, int8_t *t, int8_t *patch) {
    int8_t t_local[EDGELORA_MAX_RANK];
    for (uint32_t oy = 0; oy < g->out_h; ++oy) {
        for (uint32_t ox = 0; ox < g->out_w; ++ox) {
            const int8_t *in = patch_at(g, x, oy, ox, patch);
            int8_t *t_row = t ? t : t_local;
            if (branch->rank) {
                branch_down(branch, in, g->zp_in, g->inputs, t_row);
            }
            int32_t offset = 0;
            for (uint32_t i = 0; i < g->inputs; ++i) {
                offset += in[i];
            }
            offset *= 128;
            for (uint32_t o = 0; o < g->out_c; o += 4) {
                uint32_t count = g->out_c - o < 4 ? g->out_c - o : 4;
                int32_t acc[4];
                for (uint32_t k = 0; k < count; ++k) {
                    acc[k] = g->bias[o + k];
                }
                dot_weights(g->weights + o * g->inputs, count, g->inputs, in, offset, acc);
                if (branch->rank) {
                    branch_up(branch, o, count, t_row, acc);
                }
                for (uint32_t k = 0; k < count; ++k) {
                    *y++ = requantize_output(g, acc[k], o + k);
                }
            }
            if (t) {
                t += branch->rank;
            }
        }
    }
}
