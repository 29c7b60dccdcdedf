// Depthwise: 16 channels at a time, over a padded 16-bit copy of the input.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_SIMD_DEPTHWISE_H
#define EDGELORA_SIMD_DEPTHWISE_H

#include "kernels/simd/plane.h"
#include "kernels/simd/products.h"
#ifdef OWN_DEPTHWISE
#include "kernels/simd/strips.h"
#endif

static uint32_t plane_rows(const plane_t *p) { // output rows at a time; 0: none
    uint32_t row = p->width * ((p->channels + 15) & ~15u) * 2, room = TAPS_BYTES / row;
    return room < p->reach_h ? 0 : lesser((room - p->reach_h) / p->stride_h + 1, p->out_h);
}

// Fills the plane with the input of output rows [y, y + rows).
static void plane_fill(const plane_t *p, int16_t *plane, uint32_t y, uint32_t rows) {
    uint32_t pitch = (p->channels + 15) & ~15u, row = p->width * pitch, first = y * p->stride_h,
             count = (rows - 1) * p->stride_h + p->reach_h;
    for (uint32_t i = 0; i < count * row; ++i) {
        plane[i] = p->edge;
    }
    for (uint32_t iy = 0; iy < p->in_h; ++iy) {
        int32_t at = (int32_t)(iy * p->apart_h) + p->top - (int32_t)first;
        if (at < 0 || at >= (int32_t)count) {
            continue;
        }
        for (uint32_t ix = 0; ix < p->in_w; ++ix) {
            int32_t x = (int32_t)(ix * p->apart_w) + p->left;
            if (x >= 0 && x < (int32_t)p->width) {
                widen(plane + (uint32_t)at * row + (uint32_t)x * pitch,
                    p->in + (iy * p->in_w + ix) * p->channels, p->channels);
            }
        }
    }
}

// Packs weights of channels [c, c + lanes), with pairs of taps interleaved. weights: u8 [taps,
// channels]; turned: last tap first.
static void plane_weights(const plane_t *p, const uint8_t *weights, bool turned, uint32_t c,
    uint32_t lanes, int16_t *to) {
    for (uint32_t t = 0; t < p->taps; t += 2, to += 32) {
        int16_t two[2][16] = {{0}};
        for (uint32_t k = 0; k < 2 && t + k < p->taps; ++k) {
            uint32_t tap = turned ? p->taps - 1 - t - k : t + k;
            for (uint32_t l = 0; l < lanes; ++l) {
                two[k][l] = (int16_t)(weights[tap * p->channels + c + l] - 128);
            }
        }
        taps_join(to, two[0], two[1]);
    }
}

static void plane_offsets(const plane_t *p, uint32_t *offset) {
    uint32_t pitch = (p->channels + 15) & ~15u;
    for (uint32_t t = 0; t < p->taps; ++t) {
        offset[t] = (p->tap_y[t] * p->width + p->tap_x[t]) * pitch;
    }
    offset[p->taps] = offset[0]; // multiplied by weights of 0
}

static bool depthwise_forward(const edgelora_shape_t *g, const int8_t *x, int8_t *y, void *work) {
    const edgelora_op_t *op = g->op;
    uint32_t taps = (uint32_t)g->kernel_h * g->kernel_w;
    if (taps > MOST_TAPS - 1 || g->in_c != g->out_c || !g->bounded) {
        return false;
    }
    plane_t p = {
        .out_h = g->out_h,
        .out_w = g->out_w,
        .channels = g->in_c,
        .stride_h = op->stride_h,
        .stride_w = op->stride_w,
        .reach_h = (g->kernel_h - 1u) * op->dilation_h + 1,
        .width = (g->out_w - 1u) * op->stride_w + (g->kernel_w - 1u) * op->dilation_w + 1,
        .taps = taps,
        .in = x,
        .in_h = g->in_h,
        .in_w = g->in_w,
        .apart_h = 1,
        .apart_w = 1,
        .top = op->pad_top,
        .left = op->pad_left,
        .edge = g->zp_in};
    for (uint32_t t = 0; t < taps; ++t) {
        p.tap_y[t] = t / g->kernel_w * op->dilation_h;
        p.tap_x[t] = t % g->kernel_w * op->dilation_w;
    }
#ifdef OWN_DEPTHWISE
    if (has_strips(&p, g)) {
        strips_forward(&p, g, y, work);
        return true;
    }
#endif
    uint32_t most = plane_rows(&p), pitch = (p.channels + 15) & ~15u;
    if (!most) {
        return false;
    }
    taps_work_t *w = work;
    int16_t *plane = w->plane, *weights = w->weights;
    uint32_t *offset = w->offset;
    plane_offsets(&p, offset);
    for (uint32_t first = 0; first < p.out_h; first += most) {
        uint32_t rows = lesser(p.out_h - first, most);
        plane_fill(&p, plane, first, rows);
        for (uint32_t c = 0; c < p.channels; c += 16) {
            uint32_t lanes = lesser(p.channels - c, 16);
            int32_t bias[16] = {0};
            scales_t scales[16 / WIDTH];
            for (uint32_t l = 0; l < lanes; ++l) {
                bias[l] = g->bias[c + l];
            }
            for (uint32_t l = 0; l < 16; l += WIDTH) {
                scales[l / WIDTH] = scales_of(g, c + l, l < lanes ? lesser(lanes - l, WIDTH) : 0);
            }
            plane_weights(&p, g->weights, false, c, lanes, weights);
            for (uint32_t i = 0, oy = 0, ox = 0; i < rows * p.out_w;
                ++i, ox = ox + 1 < p.out_w ? ox + 1 : 0, oy += !ox) {
                lanes_t acc[16 / WIDTH];
                const int16_t *at = plane + (oy * p.stride_h * p.width + ox * p.stride_w) * pitch +
                    c;
                if (taps == 9) { // unrolled
                    taps_products(acc, at, offset, weights, 5);
                } else {
                    taps_products(acc, at, offset, weights, (taps + 1) / 2);
                }
                int8_t some[16], *to = y + (first * p.out_w + i) * p.channels + c,
                                 *out = lanes == 16 ? to : some;
                for (uint32_t l = 0; l < 16; l += WIDTH) {
                    lanes_t v = lanes_add(acc[l / WIDTH], lanes_load(bias + l));
                    lanes_store_s8(out + l, lanes_output(v, &scales[l / WIDTH]));
                }
                if (lanes < 16) {
                    copy_run(to, some, lanes);
                }
            }
        }
    }
    return true;
}

static bool depthwise_backward(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx, int32_t *exponent) {
    const edgelora_op_t *op = g->op;
    uint32_t taps = (uint32_t)g->kernel_h * g->kernel_w;
    if (taps > MOST_TAPS - 1 || g->in_c != g->out_c) {
        return false;
    }
    // input position i reads the plane from i on with the reversed kernel; output o is at o
    // * stride + reach - 1 - pad
    uint32_t reach_h = (g->kernel_h - 1u) * op->dilation_h + 1,
             reach_w = (g->kernel_w - 1u) * op->dilation_w + 1;
    plane_t p = {
        .out_h = g->in_h,
        .out_w = g->in_w,
        .channels = g->in_c,
        .stride_h = 1,
        .stride_w = 1,
        .reach_h = reach_h,
        .width = g->in_w - 1u + reach_w,
        .taps = taps,
        .in = error->e,
        .in_h = g->out_h,
        .in_w = g->out_w,
        .apart_h = op->stride_h,
        .apart_w = op->stride_w,
        .top = (int32_t)reach_h - 1 - op->pad_top,
        .left = (int32_t)reach_w - 1 - op->pad_left};
    for (uint32_t t = 0; t < taps; ++t) {
        p.tap_y[t] = t / g->kernel_w * op->dilation_h;
        p.tap_x[t] = t % g->kernel_w * op->dilation_w;
    }
    block_t block = {dx, (uint32_t)g->in_h * g->in_w * g->in_c, g->rounds, false, 0};
#ifdef OWN_DEPTHWISE
    if (has_strips(&p, g)) {
        strips_backward(&p, g->weights, &block, error->work);
        *exponent = error->exponent + block.shift;
        return true;
    }
#endif
    uint32_t most = plane_rows(&p), pitch = (p.channels + 15) & ~15u;
    if (!most) {
        return false;
    }
    taps_work_t *w = error->work;
    int16_t *plane = w->plane, *weights = w->weights;
    uint32_t *offset = w->offset, *places = w->places;
    int32_t *acc = w->acc;
    plane_offsets(&p, offset);
    for (uint32_t first = 0; first < p.out_h; first += most) {
        uint32_t rows = lesser(p.out_h - first, most), count = rows * p.out_w;
        plane_fill(&p, plane, first, rows);
        for (uint32_t c = 0; c < p.channels; c += 16) {
            uint32_t lanes = lesser(p.channels - c, 16);
            plane_weights(&p, g->weights, true, c, lanes, weights);
            for (uint32_t i = 0; i < count; i += BLOCK_ROWS) {
                uint32_t n = lesser(count - i, BLOCK_ROWS);
                uint32_t iy = i / p.out_w, ix = i % p.out_w;
                for (uint32_t k = 0; k < n; ++k, ix = ix + 1 < p.out_w ? ix + 1 : 0, iy += !ix) {
                    int32_t *sums = acc + k * LANES;
                    lanes_t taken[16 / WIDTH];
                    const int16_t *at = plane + (iy * p.width + ix) * pitch + c;
                    if (taps == 9) { // unrolled
                        taps_products(taken, at, offset, weights, 5);
                    } else {
                        taps_products(taken, at, offset, weights, (taps + 1) / 2);
                    }
                    for (uint32_t l = 0; l < 16; l += WIDTH) {
                        lanes_store(sums + l / LANES * LANES * n + l % LANES, taken[l / WIDTH]);
                    }
                    places[k] = first * p.out_w + i + k;
                }
                for (uint32_t l = 0; l < lanes; l += LANES) {
                    block_put(&block, acc + l * n, n, places, p.channels, c + l,
                        lesser(lanes - l, LANES));
                }
            }
        }
    }
    *exponent = error->exponent + block.shift;
    return true;
}

#endif
