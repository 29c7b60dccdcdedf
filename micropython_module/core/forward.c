// Forward kernels. SPDX-License-Identifier: MIT

#include "dot.h"
#include "internal.h"

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

static inline int8_t output_s8(const edgelora_shape_t *g, int32_t acc, uint32_t o) {
    uint32_t y = (uint32_t)requantize(acc, g->multiplier[o], g->shift[o]) + (uint32_t)g->zp_out;
    return (int8_t)clamp_s32((int32_t)y, g->op->act_min, g->op->act_max);
}

// Bits of outputs whose clamp does not stop the gradient, in groups of 8.
typedef struct {
    uint8_t *out;
    uint32_t bits, count;
    int32_t low, high; // passes if low < y < high
} mask_writer_t;

static mask_writer_t mask_writer(const edgelora_op_t *op, uint8_t *mask) {
    return (mask_writer_t){mask, 0, 0, op->flags & EDGELORA_MASK_LOW ? op->act_min : -129,
        op->flags & EDGELORA_MASK_HIGH ? op->act_max : 128};
}

static inline void mask_put(mask_writer_t *m, int8_t y) {
    m->bits |= (uint32_t)(y > m->low && y < m->high) << (m->count & 7);
    if ((++m->count & 7) == 0) {
        *m->out++ = (uint8_t)m->bits;
        m->bits = 0;
    }
}

static inline void mask_end(mask_writer_t *m) {
    if (m->count & 7) {
        *m->out = (uint8_t)m->bits;
    }
}

EDGELORA_HOT void edgelora_matrix_forward_s8(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const int8_t *x, int8_t *y, int8_t *t, uint8_t *mask, int8_t *patch) {
    int8_t t_local[EDGELORA_MAX_RANK];
    mask_writer_t writer = mask_writer(g->op, mask);
    for (uint32_t oy = 0; oy < g->out_h; ++oy) {
        for (uint32_t ox = 0; ox < g->out_w; ++ox) {
            const int8_t *in = patch_at(g, x, oy, ox, patch);
            int8_t *t_row = t ? t : t_local;
            if (branch->rank) {
                branch_down(branch, in, g->zp_in, g->inputs, t_row);
            }
            for (uint32_t o = 0; o < g->out_c; o += 4) {
                uint32_t count = g->out_c - o < 4 ? g->out_c - o : 4;
                int32_t acc[4];
                for (uint32_t k = 0; k < count; ++k) {
                    acc[k] = g->bias[o + k];
                }
                dot_rows_s8(g->weights + o * g->inputs, count, g->inputs, in, g->zp_in, acc);
                if (branch->rank) {
                    branch_up(branch, o, count, t_row, acc);
                }
                for (uint32_t k = 0; k < count; ++k) {
                    *y = output_s8(g, acc[k], o + k);
                    if (mask) {
                        mask_put(&writer, *y);
                    }
                    ++y;
                }
            }
            if (t) {
                t += branch->rank;
            }
        }
    }
    if (mask) {
        mask_end(&writer);
    }
}

static int32_t average(int32_t sum, int32_t count) {
    return sum > 0 ? (sum + count / 2) / count : (sum - count / 2) / count;
}

EDGELORA_HOT void edgelora_pool_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y, uint8_t *mask) {
    const edgelora_op_t *op = g->op;
    bool is_mean = op->kind == EDGELORA_MEAN;
    mask_writer_t writer = mask_writer(op, mask);
    for (uint32_t oy = 0; oy < g->out_h; ++oy) {
        for (uint32_t ox = 0; ox < g->out_w; ++ox) {
            // the part of the window inside the input: [y0, y1) x [x0, x1)
            int32_t top = is_mean ? 0 : (int32_t)(oy * op->stride_h) - op->pad_top;
            int32_t left = is_mean ? 0 : (int32_t)(ox * op->stride_w) - op->pad_left;
            int32_t y0 = top < 0 ? 0 : top, y1 = clamp_s32(top + g->kernel_h, 0, g->in_h);
            int32_t x0 = left < 0 ? 0 : left, x1 = clamp_s32(left + g->kernel_w, 0, g->in_w);
            int32_t count = (y1 - y0) * (x1 - x0);
            for (uint32_t c = 0; c < g->out_c; ++c) {
                int32_t sum = 0;
                for (int32_t iy = y0; iy < y1; ++iy) {
                    const int8_t *in = x + ((uint32_t)iy * g->in_w + (uint32_t)x0) * g->in_c + c;
                    for (int32_t ix = x0; ix < x1; ++ix, in += g->in_c) {
                        sum += *in;
                    }
                }
                *y = is_mean ? output_s8(g, sum - count * g->zp_in, 0)
                             : (int8_t)clamp_s32(average(sum, count), op->act_min, op->act_max);
                if (mask) {
                    mask_put(&writer, *y);
                }
                ++y;
            }
        }
    }
    if (mask) {
        mask_end(&writer);
    }
}
