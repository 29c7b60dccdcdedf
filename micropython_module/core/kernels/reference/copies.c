// Ops that copy: concatenate, slice, history, pad, reshape. SPDX-License-Identifier: MIT

#include "kernels/reference/reference.h"

void edgelora_copy_s8(int8_t *to, const int8_t *from, uint32_t count) {
    while (count--) {
        *to++ = *from++;
    }
}

// A part of a tensor along an axis: of each of its rows, `whole` elements, those from `from` on.
typedef struct {
    uint32_t rows, whole, from, count;
} part_t;

// axis: 1 height, 2 width, 3 channels; from, count: positions along it
static part_t part_along(uint32_t axis, uint32_t height, uint32_t width, uint32_t channels,
    uint32_t from, uint32_t count) {
    uint32_t rows = axis == 1 ? 1
        : axis == 2           ? height
                              : height * width,
             unit = axis == 1 ? width * channels
        : axis == 2           ? channels
                              : 1;
    return (part_t){rows, height * width * channels / rows, from * unit, count * unit};
}

static void part_take(const part_t *p, const int8_t *whole, int8_t *part) {
    for (uint32_t i = 0; i < p->rows; ++i, whole += p->whole, part += p->count) {
        edgelora_copy_s8(part, whole + p->from, p->count);
    }
}

static void part_put(const part_t *p, int8_t *whole, const int8_t *part) {
    for (uint32_t i = 0; i < p->rows; ++i, whole += p->whole, part += p->count) {
        edgelora_copy_s8(whole + p->from, part, p->count);
    }
}

// Where input k of a concatenate lies in its output.
static part_t joined(const edgelora_shape_t *g, uint32_t k) {
    uint32_t axis = op_axis(g->op);
    uint32_t all = axis == 1 ? g->out_h
        : axis == 2          ? g->out_w
                             : g->out_c,
             first = axis == 1 ? g->in_h
        : axis == 2            ? g->in_w
                               : g->in_c;
    return part_along(axis, g->out_h, g->out_w, g->out_c, k ? first : 0, k ? all - first : first);
}

void edgelora_concatenate_forward_s8(
    const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, int8_t *y) {
    part_t a = joined(g, 0), b = joined(g, 1);
    part_put(&a, y, x);
    part_put(&b, y, x2);
}

void edgelora_concatenate_backward_s8(
    const edgelora_shape_t *g, const int8_t *e, uint32_t k, int8_t *dx) {
    part_t p = joined(g, k);
    part_take(&p, e, dx);
}

static part_t sliced(const edgelora_shape_t *g) {
    uint32_t axis = op_axis(g->op), count = axis == 1 ? g->out_h : axis == 2 ? g->out_w : g->out_c;
    return part_along(axis, g->in_h, g->in_w, g->in_c, slice_start(g->op), count);
}

void edgelora_slice_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y) {
    part_t p = sliced(g);
    part_take(&p, x, y);
}

void edgelora_slice_backward_s8(const edgelora_shape_t *g, const int8_t *e, int8_t *dx) {
    part_t p = sliced(g);
    for (uint32_t i = 0; i < p.rows * p.whole; ++i) {
        dx[i] = 0;
    }
    part_put(&p, dx, e);
}

static uint32_t newest(const edgelora_shape_t *g) {
    return (uint32_t)g->in_h * g->in_w * g->in_c;
}

void edgelora_history_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y) {
    uint32_t count = newest(g), older = g->positions * g->out_c - count;
    edgelora_copy_s8(y, y + count, older); // downwards, from the start: they may overlap
    edgelora_copy_s8(y + older, x, count);
}

void edgelora_history_backward_s8(const edgelora_shape_t *g, const int8_t *e, int8_t *dx) {
    edgelora_copy_s8(dx, e + g->positions * g->out_c - newest(g), newest(g));
}

void edgelora_history_reset_s8(const edgelora_shape_t *g, int8_t *y) {
    uint32_t count = newest(g);
    for (uint32_t i = 0; i < g->positions * g->out_c; ++i) {
        y[i] = g->initial && i >= count ? g->initial[i - count] : g->zp_out;
    }
}

void edgelora_pad_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y) {
    uint32_t row = (uint32_t)g->in_w * g->in_c;
    for (uint32_t i = 0; i < g->positions * g->out_c; ++i) {
        y[i] = g->zp_out;
    }
    y += ((uint32_t)g->op->pad_top * g->out_w + g->op->pad_left) * g->out_c;
    for (uint32_t iy = 0; iy < g->in_h; ++iy, x += row, y += (uint32_t)g->out_w * g->out_c) {
        edgelora_copy_s8(y, x, row);
    }
}

void edgelora_pad_backward_s8(const edgelora_shape_t *g, const int8_t *e, int8_t *dx) {
    uint32_t row = (uint32_t)g->in_w * g->in_c;
    e += ((uint32_t)g->op->pad_top * g->out_w + g->op->pad_left) * g->out_c;
    for (uint32_t iy = 0; iy < g->in_h; ++iy, dx += row, e += (uint32_t)g->out_w * g->out_c) {
        edgelora_copy_s8(dx, e, row);
    }
}
