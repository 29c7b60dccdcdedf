// Dense and conv, backward (SPEC.md, section 5).
// SPDX-License-Identifier: MIT

#include "kernels/reference/reference.h"

int32_t edgelora_branch_backward_s8(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const edgelora_error_t *error, int8_t *t_error) {
    edgelora_block_t block = {t_error, 0, 0, g->rounds};
    for (uint32_t p = 0; p < g->positions; ++p) {
        int32_t sum[EDGELORA_MAX_RANK]; // |sum| <= 128 * 127 * out_c
        for (uint32_t j = 0; j < branch->rank; ++j) {
            sum[j] = 0;
            for (uint32_t o = 0; o < g->out_c; ++o) {
                sum[j] += branch->b[o * branch->rank + j] * error->e[p * g->out_c + o];
            }
        }
        edgelora_block_append(&block, sum, branch->rank);
    }
    return error->exponent + block.shift;
}

// Along one axis: the output position at which kernel element k reads input position i, or -1.
static int32_t reader_at(
    int32_t i, int32_t pad, int32_t k, int32_t dilation, int32_t stride, int32_t outputs) {
    int32_t at = i + pad - k * dilation;
    return at >= 0 && at % stride == 0 && at / stride < outputs ? at / stride : -1;
}

// Sums over all kernel elements that read input position (iy, ix). sum: s32 [in_c] of W^T e,
// branch_sum: of A^T t_error.
static void input_sums(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const edgelora_error_t *error, int32_t iy, int32_t ix, int32_t *sum, int32_t *branch_sum) {
    const edgelora_op_t *op = g->op;
    for (int32_t ky = 0; ky < g->kernel_h; ++ky) {
        int32_t oy = reader_at(iy, op->pad_top, ky, op->dilation_h, op->stride_h, g->out_h);
        for (int32_t kx = 0; kx < g->kernel_w; ++kx) {
            int32_t ox = reader_at(ix, op->pad_left, kx, op->dilation_w, op->stride_w, g->out_w);
            if (oy < 0 || ox < 0) {
                continue;
            }
            uint32_t p = (uint32_t)(oy * g->out_w + ox),
                     tap = (uint32_t)(ky * g->kernel_w + kx) * g->in_c;
            for (uint32_t o = 0; o < g->out_c; ++o) {
                const uint8_t *w = g->weights + o * g->inputs + tap;
                int32_t e = error->e[p * g->out_c + o];
                for (uint32_t c = 0; c < g->in_c; ++c) {
                    sum[c] += (w[c] - 128) * e;
                }
            }
            for (uint32_t j = 0; j < branch->rank; ++j) {
                const int8_t *a = branch->a + j * g->inputs + tap;
                int32_t e = error->t_error[p * branch->rank + j];
                for (uint32_t c = 0; c < g->in_c; ++c) {
                    branch_sum[c] += a[c] * e;
                }
            }
        }
    }
}

int32_t edgelora_matrix_backward_s8(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const edgelora_error_t *error, int8_t *dx) {
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    int32_t *sum = error->scratch, *branch_sum = sum + g->in_c; // branch_sum only with a branch
    int32_t exponent = error->exponent,
            branch_exponent = error->t_exponent + branch->branch_shift - branch->t_shift;
    int32_t top = branch->rank && branch_exponent > exponent ? branch_exponent : exponent;
    for (int32_t iy = 0; iy < g->in_h; ++iy) {
        for (int32_t ix = 0; ix < g->in_w; ++ix) {
            for (uint32_t c = 0; c < g->in_c * (branch->rank ? 2u : 1u); ++c) {
                sum[c] = 0;
            }
            input_sums(g, branch, error, iy, ix, sum, branch_sum);
            for (uint32_t c = 0; c < g->in_c && branch->rank; ++c) {
                sum[c] = trunc_shift(sum[c], top - exponent) +
                    trunc_shift(branch_sum[c], top - branch_exponent);
            }
            edgelora_block_append(&block, sum, g->in_c);
        }
    }
    return top + block.shift;
}

void edgelora_b_gradient_s8(const edgelora_shape_t *g, uint32_t rank, const edgelora_error_t *error,
    const int8_t *t, int32_t *gradient, int32_t shift, edgelora_range_t of) {
    gradient += of.from * rank;
    for (uint32_t o = of.from; o < of.to; ++o) {
        for (uint32_t j = 0; j < rank; ++j) {
            int32_t sum = 0; // |sum| <= 127 * 127 * positions
            for (uint32_t p = 0; p < g->positions; ++p) {
                sum += error->e[p * g->out_c + o] * t[p * rank + j];
            }
            *gradient++ += trunc_shift(sum, shift);
        }
    }
}

// The output positions [from, to) along one axis whose kernel element `k` reads inside the input.
static void valid_range(
    int32_t offset, int32_t stride, int32_t size, int32_t outputs, int32_t *from, int32_t *to) {
    *from = offset < 0 ? (-offset + stride - 1) / stride : 0;
    int32_t end = size - offset > 0 ? (size - offset + stride - 1) / stride : 0;
    *to = end < outputs ? end : outputs;
}

void edgelora_a_gradient_s8(const edgelora_shape_t *g, uint32_t rank, const edgelora_error_t *error,
    int32_t *gradient, int32_t shift, edgelora_half_t half) {
    const edgelora_op_t *op = g->op;
    edgelora_range_t of = half_range(g->inputs, half);
    const int8_t *x = error->x, *t_error = error->t_error;
    for (int32_t ky = 0; ky < g->kernel_h; ++ky) {
        int32_t top = ky * op->dilation_h - op->pad_top, oy0, oy1;
        valid_range(top, op->stride_h, g->in_h, g->out_h, &oy0, &oy1);
        for (int32_t kx = 0; kx < g->kernel_w; ++kx) {
            int32_t left = kx * op->dilation_w - op->pad_left, ox0, ox1;
            valid_range(left, op->stride_w, g->in_w, g->out_w, &ox0, &ox1);
            uint32_t step = (uint32_t)op->stride_w * g->in_c;
            for (uint32_t c = 0; c < g->in_c; ++c) {
                uint32_t element = (uint32_t)(ky * g->kernel_w + kx) * g->in_c + c;
                for (uint32_t j = 0; element >= of.from && element < of.to && j < rank; ++j) {
                    int32_t sum = 0; // |sum| <= 127 * 255 * positions
                    for (int32_t oy = oy0; oy < oy1; ++oy) {
                        int32_t iy = oy * op->stride_h + top, ix = ox0 * op->stride_w + left;
                        const int8_t *xp = x + (iy * g->in_w + ix) * (int32_t)g->in_c + (int32_t)c;
                        const int8_t *tp = t_error + (uint32_t)(oy * g->out_w + ox0) * rank + j;
                        for (int32_t ox = ox0; ox < ox1; ++ox, xp += step, tp += rank) {
                            sum += (*xp - g->zp_in) * *tp;
                        }
                    }
                    gradient[j * g->inputs + element] += trunc_shift(sum, shift);
                }
            }
        }
    }
}
