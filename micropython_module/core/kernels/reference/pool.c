// Average and max pool, and the mean over all positions.
// SPDX-License-Identifier: MIT

#include "kernels/reference/reference.h"

// The part of an output position's window that is inside the input: rows [y0, y1), columns [x0,
// x1).
typedef struct {
    int32_t y0, y1, x0, x1;
} window_t;

static window_t window_at(const edgelora_shape_t *g, int32_t oy, int32_t ox) {
    const edgelora_op_t *op = g->op;
    int32_t top = oy * op->stride_h - op->pad_top, left = ox * op->stride_w - op->pad_left;
    int32_t y1 = clamp_s32(top + g->kernel_h, 0, g->in_h),
            x1 = clamp_s32(left + g->kernel_w, 0, g->in_w);
    return (window_t){top < 0 ? 0 : top, y1, left < 0 ? 0 : left, x1};
}

static int32_t average(int32_t sum, int32_t count) {
    return sum > 0 ? (sum + count / 2) / count : (sum - count / 2) / count;
}

void edgelora_pool_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y) {
    const edgelora_op_t *op = g->op;
    for (int32_t oy = 0; oy < g->out_h; ++oy) {
        for (int32_t ox = 0; ox < g->out_w; ++ox) {
            window_t w = window_at(g, oy, ox);
            int32_t count = (w.y1 - w.y0) * (w.x1 - w.x0);
            for (uint32_t c = 0; c < g->out_c; ++c) {
                int32_t sum = 0, top = -128; // |sum| <= 128 * 65535
                for (int32_t iy = w.y0; iy < w.y1; ++iy) {
                    const int8_t *in = x + ((uint32_t)iy * g->in_w + (uint32_t)w.x0) * g->in_c + c;
                    for (int32_t ix = w.x0; ix < w.x1; ++ix, in += g->in_c) {
                        sum += *in;
                        top = *in > top ? *in : top;
                    }
                }
                if (op->kind == EDGELORA_MEAN) {
                    *y++ = requantize_output(g, sum - count * g->zp_in, 0);
                } else {
                    *y++ = (int8_t)clamp_s32(
                        op->kind == EDGELORA_MAX_POOL ? top : average(sum, count), op->act_min,
                        op->act_max);
                }
            }
        }
    }
}

// Is the element of channel c at (iy, ix) the first largest of its window?
static bool is_first_max(const edgelora_shape_t *g, const window_t *w, const int8_t *x, int32_t iy,
    int32_t ix, uint32_t c) {
    int8_t v = x[((uint32_t)iy * g->in_w + (uint32_t)ix) * g->in_c + c];
    for (int32_t y = w->y0; y < w->y1; ++y) {
        for (int32_t z = w->x0; z < w->x1; ++z) {
            int8_t other = x[((uint32_t)y * g->in_w + (uint32_t)z) * g->in_c + c];
            bool before = y < iy || (y == iy && z < ix);
            if (other > v || (before && other == v)) {
                return false;
            }
        }
    }
    return true;
}

// Adds the error of one output position's window to input position (iy, ix).
static void pool_row(const edgelora_shape_t *g, const window_t *w, const int8_t *e, const int8_t *x,
    int32_t iy, int32_t ix, int32_t *row) {
    if (g->op->kind == EDGELORA_MAX_POOL) {
        for (uint32_t c = 0; c < g->in_c; ++c) {
            if (e[c] && is_first_max(g, w, x, iy, ix, c)) {
                row[c] += e[c];
            }
        }
        return;
    }
    int32_t count = (w->y1 - w->y0) * (w->x1 - w->x0);
    int32_t reciprocal = (32768 + count / 2) / count;
    for (uint32_t c = 0; c < g->in_c; ++c) {
        row[c] += e[c] * reciprocal;
    }
}

// The output positions [from, to) along one axis whose windows contain position i.
static void windows_over(
    int32_t i, int32_t stride, int32_t kernel, int32_t outputs, int32_t *from, int32_t *to) {
    int32_t last = i / stride + 1; // i includes the padding before it
    *from = i < kernel ? 0 : (i - kernel) / stride + 1;
    *to = last < outputs ? last : outputs;
}

int32_t edgelora_pool_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    if (g->op->kind == EDGELORA_MEAN) { // e is already scaled; every position gets it
        for (uint32_t p = 0; p < (uint32_t)g->in_h * g->in_w; ++p) {
            for (uint32_t c = 0; c < g->in_c; ++c) {
                *dx++ = error->e[c];
            }
        }
        return error->exponent;
    }
    const edgelora_op_t *op = g->op;
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    int32_t *row = error->scratch;
    for (int32_t iy = 0; iy < g->in_h; ++iy) {
        int32_t oy0, oy1, ox0, ox1;
        windows_over(iy + op->pad_top, op->stride_h, g->kernel_h, g->out_h, &oy0, &oy1);
        for (int32_t ix = 0; ix < g->in_w; ++ix) {
            windows_over(ix + op->pad_left, op->stride_w, g->kernel_w, g->out_w, &ox0, &ox1);
            for (uint32_t c = 0; c < g->in_c; ++c) {
                row[c] = 0; // |row| <= 512 windows * 127 * 2^15
            }
            for (int32_t oy = oy0; oy < oy1; ++oy) {
                for (int32_t ox = ox0; ox < ox1; ++ox) {
                    window_t w = window_at(g, oy, ox);
                    pool_row(g, &w, error->e + (uint32_t)(oy * g->out_w + ox) * g->out_c, error->x,
                        iy, ix, row);
                }
            }
            edgelora_block_append(&block, row, g->in_c);
        }
    }
    return error->exponent - (op->kind == EDGELORA_MAX_POOL ? 0 : 15) + block.shift;
}
