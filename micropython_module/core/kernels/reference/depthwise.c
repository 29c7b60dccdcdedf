// Depthwise convolution: output channel o reads input channel o / m.
// SPDX-License-Identifier: MIT

#include "kernels/reference/reference.h"

void edgelora_depthwise_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y) {
    const edgelora_op_t *op = g->op;
    uint32_t times = (uint32_t)g->out_c / g->in_c;
    for (uint32_t oy = 0; oy < g->out_h; ++oy) {
        for (uint32_t ox = 0; ox < g->out_w; ++ox) {
            int32_t y0 = (int32_t)(oy * op->stride_h) - op->pad_top,
                    x0 = (int32_t)(ox * op->stride_w) - op->pad_left;
            for (uint32_t c = 0; c < g->in_c; ++c) {
                for (uint32_t m = 0; m < times; ++m) {
                    uint32_t o = c * times + m;
                    const uint8_t *w = g->weights + o;
                    int32_t acc = g->bias[o]; // |acc - bias| <= 1024 * 127 * 128
                    for (int32_t ky = 0; ky < g->kernel_h; ++ky) {
                        int32_t iy = y0 + ky * op->dilation_h;
                        for (int32_t kx = 0; kx < g->kernel_w; ++kx, w += g->out_c) {
                            int32_t ix = x0 + kx * op->dilation_w;
                            bool inside = iy >= 0 && iy < g->in_h && ix >= 0 && ix < g->in_w;
                            int32_t v = inside
                                ? x[((uint32_t)iy * g->in_w + (uint32_t)ix) * g->in_c + c]
                                : g->zp_in;
                            acc += (*w - 128) * v;
                        }
                    }
                    *y++ = requantize_output(g, acc, o);
                }
            }
        }
    }
}

int32_t edgelora_depthwise_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    const edgelora_op_t *op = g->op;
    uint32_t times = (uint32_t)g->out_c / g->in_c;
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    int32_t *row = error->scratch;
    for (int32_t iy = 0; iy < g->in_h; ++iy) {
        for (int32_t ix = 0; ix < g->in_w; ++ix) {
            for (uint32_t c = 0; c < g->in_c; ++c) {
                row[c] = 0; // |row| <= 127 * 127 * 65536 / in_c
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
                    const int8_t *a = error->e +
                        ((uint32_t)(sy / op->stride_h) * g->out_w + (uint32_t)(sx / op->stride_w)) *
                            g->out_c;
                    const uint8_t *w = g->weights + (uint32_t)(ky * g->kernel_w + kx) * g->out_c;
                    for (uint32_t c = 0; c < g->in_c; ++c) {
                        for (uint32_t m = 0; m < times; ++m) {
                            row[c] += (*w++ - 128) * *a++;
                        }
                    }
                }
            }
            edgelora_block_append(&block, row, g->in_c);
        }
    }
    return error->exponent + block.shift;
}
