// Backward kernels of dense and conv, and what all kinds share (SPEC.md, section 5). SPDX-License-Identifier: MIT

#include "graph.h"

// Shift that brings values with these bits (the OR of their magnitudes) into [-127, 127].
static inline int32_t block_shift(uint32_t bits) {
    int32_t n = bit_length(bits) - 7;
    return n < 0 ? 0 : n;
}

EDGELORA_HOT void edgelora_block_append(edgelora_block_t *block, const int32_t *v, uint32_t n) {
    uint32_t bits = 0;
    for (uint32_t i = 0; i < n; ++i) {
        bits |= abs_u32(v[i]);
    }
    int32_t shift = block_shift(bits);
    if (shift > block->shift) {
        for (uint32_t i = 0; i < block->count; ++i) {
            block->q[i] = (int8_t)trunc_shift(block->q[i], shift - block->shift);
        }
        block->shift = shift;
    }
    for (uint32_t i = 0; i < n; ++i) {
        block->q[block->count++] = (int8_t)trunc_shift(v[i], block->shift);
    }
}

EDGELORA_HOT int32_t edgelora_error_add_s8(int8_t *e, uint32_t count, int32_t exponent, const int8_t *more, int32_t more_exponent) {
    int32_t top = exponent > more_exponent ? exponent : more_exponent, v[EDGELORA_TILE];
    edgelora_block_t block = {e, 0, 0}; // in place: a piece is read before it is written
    while (block.count < count) {
        uint32_t n = count - block.count < EDGELORA_TILE ? count - block.count : EDGELORA_TILE;
        for (uint32_t i = 0; i < n; ++i) {
            v[i] = trunc_shift(e[block.count + i], top - exponent) + trunc_shift(more[block.count + i], top - more_exponent);
        }
        edgelora_block_append(&block, v, n);
    }
    return top + block.shift;
}

EDGELORA_HOT void edgelora_mask_backward_s8(int8_t *e, uint32_t count, const uint8_t *mask) {
    for (uint32_t i = 0; i < count; ++i) {
        if (!(mask[i >> 3] >> (i & 7) & 1)) {
            e[i] = 0;
        }
    }
}

// m: Q15 relative to 2^top, < 2^15
static inline int32_t relative_multiplier(int32_t multiplier, int shift, int top) {
    int n = 16 + top - shift;
    return n > 31 ? 0 : multiplier >> n;
}

EDGELORA_HOT int32_t edgelora_requantize_backward_s8(const edgelora_shape_t *g, int8_t *e, int32_t exponent) {
    uint32_t channels = g->out_c, count = g->positions * channels, multipliers = g->traits & EDGELORA_HAS_WEIGHTS ? channels : 1;
    int32_t n = 0, top = -128;
    for (uint32_t k = 0; k < multipliers; ++k) {
        top = g->shift[k] > top ? g->shift[k] : top;
    }
    for (int pass = 0; pass < 2; ++pass) { // first the magnitude, then the values
        uint32_t bits = 0;
        for (uint32_t c = 0; c < channels; ++c) {
            uint32_t k = c < multipliers ? c : 0;
            int32_t m = relative_multiplier(g->multiplier[k], g->shift[k], top);
            for (uint32_t i = c; i < count; i += channels) {
                int32_t v = e[i] * m;
                if (pass) {
                    e[i] = (int8_t)trunc_shift(v, n);
                } else {
                    bits |= abs_u32(v);
                }
            }
        }
        if (!pass) {
            n = block_shift(bits);
        }
    }
    return exponent + top - 15 + n;
}

EDGELORA_HOT int32_t edgelora_branch_backward_s8(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const int8_t *a, int8_t *u, int32_t exponent) {
    edgelora_block_t block = {u, 0, 0};
    int32_t row[EDGELORA_MAX_RANK]; // |row| <= 128 * 127 * out_c
    for (uint32_t p = 0; p < g->positions; ++p) {
        for (uint32_t j = 0; j < branch->rank; ++j) {
            row[j] = 0;
        }
        const int8_t *b = branch->b;
        for (uint32_t o = 0; o < g->out_c; ++o, b += branch->rank) {
            int32_t v = *a++;
            if (v) {
                for (uint32_t j = 0; j < branch->rank; ++j) {
                    row[j] += b[j] * v;
                }
            }
        }
        edgelora_block_append(&block, row, branch->rank);
    }
    return exponent + block.shift;
}

// sum[c] += sum_o rows[o * stride + c] * e[o]
EDGELORA_KERNEL static void add_columns(
    int32_t *sum, const int8_t *rows, uint32_t stride, const int8_t *e, uint32_t outputs, uint32_t channels) {
    for (uint32_t o = 0; o < outputs; ++o, rows += stride) {
        int32_t v = e[o];
        if (v) {
            for (uint32_t c = 0; c < channels; ++c) {
                sum[c] += rows[c] * v;
            }
        }
    }
}

// The same with rows of w + 128
EDGELORA_KERNEL static void add_weight_columns(
    int32_t *sum, const uint8_t *rows, uint32_t stride, const int8_t *e, uint32_t outputs, uint32_t channels) {
    for (uint32_t o = 0; o < outputs; ++o, rows += stride) {
        int32_t v = e[o];
        if (v) {
            for (uint32_t c = 0; c < channels; ++c) {
                sum[c] += (rows[c] - 128) * v;
            }
        }
    }
}

EDGELORA_HOT int32_t edgelora_matrix_backward_s8(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const edgelora_error_t *error, int8_t *dx, int32_t *row) {
    const edgelora_op_t *op = g->op;
    edgelora_block_t block = {dx, 0, 0};
    int32_t *low = row + g->in_c; // only with a branch
    int32_t a_exponent = error->exponent, low_exponent = error->u_exponent + branch->branch_shift - branch->t_shift;
    int32_t exponent = branch->rank && low_exponent > a_exponent ? low_exponent : a_exponent;
    uint32_t sums = branch->rank ? 2u * g->in_c : g->in_c;
    for (int32_t iy = 0; iy < g->in_h; ++iy) {
        for (int32_t ix = 0; ix < g->in_w; ++ix) {
            for (uint32_t c = 0; c < sums; ++c) {
                row[c] = 0;
            }
            for (int32_t ky = 0; ky < g->kernel_h; ++ky) {
                int32_t sy = iy + op->pad_top - ky * op->dilation_h;
                if (sy < 0 || sy % op->stride_h || sy / op->stride_h >= g->out_h) {
                    continue;
                }
                for (int32_t kx = 0; kx < g->kernel_w; ++kx) {
                    int32_t sx = ix + op->pad_left - kx * op->dilation_w;
                    if (sx < 0 || sx % op->stride_w || sx / op->stride_w >= g->out_w) {
                        continue;
                    }
                    uint32_t p = (uint32_t)(sy / op->stride_h) * g->out_w + (uint32_t)(sx / op->stride_w);
                    uint32_t tap = (uint32_t)(ky * g->kernel_w + kx) * g->in_c;
                    add_weight_columns(row, g->weights + tap, g->inputs, error->e + p * g->out_c, g->out_c, g->in_c);
                    if (branch->rank) {
                        add_columns(low, branch->a + tap, g->inputs, error->u + p * branch->rank, branch->rank, g->in_c);
                    }
                }
            }
            if (branch->rank) {
                for (uint32_t c = 0; c < g->in_c; ++c) {
                    row[c] = trunc_shift(row[c], exponent - a_exponent) + trunc_shift(low[c], exponent - low_exponent);
                }
            }
            edgelora_block_append(&block, row, g->in_c);
        }
    }
    return exponent + block.shift;
}

EDGELORA_HOT void edgelora_b_gradient_s8(
    const edgelora_shape_t *g, uint32_t rank, const int8_t *e, const int8_t *t, int32_t *gradient, int32_t shift) {
    for (uint32_t o = 0; o < g->out_c; ++o) {
        for (uint32_t j = 0; j < rank; ++j) {
            const int8_t *ep = e + o, *tp = t + j;
            int32_t sum = 0; // |sum| <= 127 * 127 * positions
            for (uint32_t p = 0; p < g->positions; ++p, ep += g->out_c, tp += rank) {
                sum += *ep * *tp;
            }
            *gradient++ += trunc_shift(sum, shift);
        }
    }
}

// The output positions [from, to) along one axis whose kernel element `k` reads inside the input.
static void valid_range(int32_t offset, int32_t stride, int32_t size, int32_t outputs, int32_t *from, int32_t *to) {
    *from = offset < 0 ? (-offset + stride - 1) / stride : 0;
    int32_t end = size - offset > 0 ? (size - offset + stride - 1) / stride : 0;
    *to = end < outputs ? end : outputs;
}

EDGELORA_HOT void edgelora_a_gradient_s8(
    const edgelora_shape_t *g, uint32_t rank, const int8_t *u, const int8_t *x, int32_t *gradient, int32_t shift) {
    const edgelora_op_t *op = g->op;
    for (int32_t ky = 0; ky < g->kernel_h; ++ky) {
        int32_t top = ky * op->dilation_h - op->pad_top, oy0, oy1;
        valid_range(top, op->stride_h, g->in_h, g->out_h, &oy0, &oy1);
        for (int32_t kx = 0; kx < g->kernel_w; ++kx) {
            int32_t left = kx * op->dilation_w - op->pad_left, ox0, ox1;
            valid_range(left, op->stride_w, g->in_w, g->out_w, &ox0, &ox1);
            uint32_t step = (uint32_t)op->stride_w * g->in_c;
            for (uint32_t c = 0; c < g->in_c; ++c) {
                uint32_t element = (uint32_t)(ky * g->kernel_w + kx) * g->in_c + c;
                for (uint32_t j = 0; j < rank; ++j) {
                    int32_t sum = 0; // |sum| <= 127 * 255 * positions
                    for (int32_t oy = oy0; oy < oy1; ++oy) {
                        int32_t iy = oy * op->stride_h + top, ix = ox0 * op->stride_w + left;
                        const int8_t *xp = x + (iy * g->in_w + ix) * (int32_t)g->in_c + (int32_t)c;
                        const int8_t *up = u + (uint32_t)(oy * g->out_w + ox0) * rank + j;
                        for (int32_t ox = ox0; ox < ox1; ++ox, xp += step, up += rank) {
                            sum += (*xp - g->zp_in) * *up;
                        }
                    }
                    gradient[j * g->inputs + element] += trunc_shift(sum, shift);
                }
            }
        }
    }
}
