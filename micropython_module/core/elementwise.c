// Ops that go element by element: add, concatenate, pad, reshape, lookup. SPDX-License-Identifier: MIT

#include "internal.h"

EDGELORA_HOT void edgelora_copy_s8(int8_t *to, const int8_t *from, uint32_t count) {
    while (count--) {
        *to++ = *from++;
    }
}

// a, b: q - zp, in [-255, 255]; 20 bits of fraction keep the sum below 2^30
EDGELORA_HOT void edgelora_add_forward_s8(const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, int8_t *y) {
    const int32_t *multiplier = g->multiplier;
    const int8_t *shift = g->shift;
    for (uint32_t i = 0; i < g->positions * g->out_c; ++i) {
        int32_t a = (x[i] - g->zp_in) * (1 << 20), b = (x2[i] - g->zp_in2) * (1 << 20);
        int32_t sum = requantize(a, multiplier[0], shift[0]) + requantize(b, multiplier[1], shift[1]);
        int32_t v = requantize(sum, multiplier[2], shift[2]) + g->zp_out;
        y[i] = (int8_t)clamp_s32(v, g->op->act_min, g->op->act_max);
    }
}

// e times the factor from input k to the output: Q15 of both multipliers' product
EDGELORA_HOT int32_t edgelora_add_backward_s8(const edgelora_shape_t *g, const edgelora_error_t *error, uint32_t k, int8_t *dx) {
    int32_t m = ((g->multiplier[k] >> 16) * (g->multiplier[2] >> 16)) >> 15, v[EDGELORA_TILE];
    edgelora_block_t block = {dx, 0, 0};
    for (uint32_t count = g->positions * g->out_c; block.count < count;) {
        uint32_t n = count - block.count < EDGELORA_TILE ? count - block.count : EDGELORA_TILE;
        for (uint32_t i = 0; i < n; ++i) {
            v[i] = error->e[block.count + i] * m;
        }
        edgelora_block_append(&block, v, n);
    }
    return error->exponent - 15 + 20 + g->shift[k] + g->shift[2] + block.shift;
}

// The tensors as rows that lie one behind the other in the output: of `a` elements of the first, then `b` of the second.
typedef struct {
    uint32_t rows, a, b;
} rows_t;

static rows_t concatenated_rows(const edgelora_shape_t *g) {
    uint32_t axis = g->op->kernel_h;
    uint32_t rows = axis == 1 ? 1 : axis == 2 ? g->out_h : g->positions;
    uint32_t whole = g->positions * g->out_c / rows, a = (uint32_t)g->in_h * g->in_w * g->in_c / rows;
    return (rows_t){rows, a, whole - a};
}

EDGELORA_HOT void edgelora_concatenate_forward_s8(const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, int8_t *y) {
    rows_t r = concatenated_rows(g);
    for (uint32_t i = 0; i < r.rows; ++i, x += r.a, x2 += r.b, y += r.a + r.b) {
        edgelora_copy_s8(y, x, r.a);
        edgelora_copy_s8(y + r.a, x2, r.b);
    }
}

EDGELORA_HOT void edgelora_concatenate_backward_s8(const edgelora_shape_t *g, const int8_t *e, uint32_t k, int8_t *dx) {
    rows_t r = concatenated_rows(g);
    uint32_t from = k ? r.a : 0, count = k ? r.b : r.a;
    for (uint32_t i = 0; i < r.rows; ++i, dx += count, e += r.a + r.b) {
        edgelora_copy_s8(dx, e + from, count);
    }
}

EDGELORA_HOT void edgelora_pad_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y) {
    uint32_t row = (uint32_t)g->in_w * g->in_c;
    for (uint32_t i = 0; i < g->positions * g->out_c; ++i) {
        y[i] = g->zp_out;
    }
    y += ((uint32_t)g->op->pad_top * g->out_w + g->op->pad_left) * g->out_c;
    for (uint32_t iy = 0; iy < g->in_h; ++iy, x += row, y += (uint32_t)g->out_w * g->out_c) {
        edgelora_copy_s8(y, x, row);
    }
}

EDGELORA_HOT void edgelora_pad_backward_s8(const edgelora_shape_t *g, const int8_t *e, int8_t *dx) {
    uint32_t row = (uint32_t)g->in_w * g->in_c;
    e += ((uint32_t)g->op->pad_top * g->out_w + g->op->pad_left) * g->out_c;
    for (uint32_t iy = 0; iy < g->in_h; ++iy, dx += row, e += (uint32_t)g->out_w * g->out_c) {
        edgelora_copy_s8(dx, e, row);
    }
}

EDGELORA_HOT void edgelora_lookup_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y) {
    for (uint32_t i = 0; i < g->positions * g->out_c; ++i) {
        y[i] = g->table[x[i] + 128];
    }
}

EDGELORA_HOT int32_t edgelora_lookup_backward_s8(const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    int32_t v[EDGELORA_TILE];
    edgelora_block_t block = {dx, 0, 0};
    for (uint32_t count = g->positions * g->out_c; block.count < count;) {
        uint32_t n = count - block.count < EDGELORA_TILE ? count - block.count : EDGELORA_TILE;
        for (uint32_t i = 0; i < n; ++i) {
            v[i] = error->e[block.count + i] * g->slope[error->x[block.count + i] + 128];
        }
        edgelora_block_append(&block, v, n);
    }
    return error->exponent + g->shift[0] + block.shift;
}
