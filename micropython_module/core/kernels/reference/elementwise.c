// Elementwise ops: those of two inputs, lookup.
// SPDX-License-Identifier: MIT

#include "kernels/reference/reference.h"

// A row of an add. a, b: q - zp, in [-255, 255]; 20 fraction bits keep the sum below 2^30
static void add_row(const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, uint32_t step,
    uint32_t n, int8_t *y) {
    const int32_t *multiplier = g->multiplier;
    const int8_t *shift = g->shift;
    for (uint32_t i = 0; i < n; ++i, x2 += step) {
        int32_t a = (x[i] - g->zp_in) * (1 << 20), b = (*x2 - g->zp_in2) * (1 << 20);
        int32_t sum = requantize_signed(a, multiplier[0], shift[0]) +
            requantize_signed(b, multiplier[1], shift[1]);
        int32_t v = requantize(sum, multiplier[2], shift[2]) + g->zp_out;
        y[i] = (int8_t)clamp_s32(v, g->op->act_min, g->op->act_max);
    }
}

static bool is_squared_difference(const edgelora_shape_t *g) {
    return EDGELORA_ATTENTION && g->op->kind == EDGELORA_SQUARED_DIFFERENCE;
}

// a - b, s16 in units of 2^-7 of twice the larger scale. a, b: s8.
static int32_t difference(const edgelora_shape_t *g, int32_t a, int32_t b) {
    return clamp_s16(requantize((a - g->zp_in) * (1 << 7), g->multiplier[0], g->shift[0]) -
        requantize((b - g->zp_in2) * (1 << 7), g->multiplier[1], g->shift[1]));
}

// A row of any other op with two inputs.
static void pair_row(const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, uint32_t step,
    uint32_t n, int8_t *y) {
    bool slopes = g->op->kind == EDGELORA_PRELU;
    for (uint32_t i = 0; i < n; ++i, x2 += step) {
        int32_t a = x[i] - g->zp_in, product = a * (*x2 - g->zp_in2); // |product| <= 255^2
        if (is_squared_difference(g)) {
            int32_t apart = difference(g, x[i], *x2);
            y[i] = requantize_output(g, apart * apart, 2);
            continue;
        }
        switch (g->op->kind) {
            case EDGELORA_MINIMUM:
                y[i] = x[i] < *x2 ? x[i] : *x2;
                break;
            case EDGELORA_MAXIMUM:
                y[i] = x[i] > *x2 ? x[i] : *x2;
                break;
            default: // multiply, prelu
                y[i] = requantize_output(g, slopes && a >= 0 ? a : product, slopes && a < 0);
        }
    }
}

// Index of the element of the second input that output element (y, x, c) reads.
static uint32_t partner(const edgelora_shape_t *g, uint32_t y, uint32_t x, uint32_t c) {
    return ((g->in2_h == 1 ? 0 : y) * g->in2_w + (g->in2_w == 1 ? 0 : x)) * g->in2_c +
        (g->in2_c == 1 ? 0 : c);
}

void edgelora_pair_forward_s8(
    const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, int8_t *y) {
    bool flat = is_flat(g);
    uint32_t n = flat ? g->positions * g->out_c : g->out_c, step = g->in2_c > 1 || flat;
    for (uint32_t i = 0; i < g->positions * g->out_c; i += n, x += n, y += n) {
        const int8_t *b = x2 + (flat ? 0 : partner(g, i / n / g->out_w, i / n % g->out_w, 0));
        if (g->op->kind == EDGELORA_ADD) {
            add_row(g, x, b, step, n, y);
        } else {
            pair_row(g, x, b, step, n, y);
        }
    }
}

// dx = e times the factor of input k of an add or a squared difference, the product of both
// multipliers in Q15. dx may be e.
static int32_t add_backward(
    const edgelora_shape_t *g, const int8_t *e, uint32_t count, uint32_t k, int8_t *dx) {
    int32_t high = (int32_t)abs_u32(g->multiplier[k]) >> 16,
            m = (high * (g->multiplier[2] >> 16)) >> 15, v[EDGELORA_PIECE];
    bool squares = is_squared_difference(g);
    m = g->multiplier[k] < 0 || (squares && k) ? -m : m;
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    while (block.count < count) {
        uint32_t n = count - block.count < EDGELORA_PIECE ? count - block.count : EDGELORA_PIECE;
        for (uint32_t i = 0; i < n; ++i) {
            v[i] = e[block.count + i] * m;
        }
        edgelora_block_append(&block, v, n);
    }
    return block.shift - 15 + (squares ? 15 : 20) + g->shift[k] + g->shift[2];
}

// The exponent of a PReLU's slopes: that of the larger one, so that factors are below 2^15.
static int32_t prelu_top(const edgelora_shape_t *g) {
    return g->shift[0] > g->shift[1] + 8 ? g->shift[0] : g->shift[1] + 8;
}

// The error that output element i contributes to input k; j: the second input's element.
static int32_t share(
    const edgelora_shape_t *g, const edgelora_error_t *error, uint32_t k, uint32_t i, uint32_t j) {
    int32_t e = error->e[i], top;
    if (g->op->kind == EDGELORA_ADD) { // scaled afterwards
        return e;
    }
    const int8_t *a = error->x + i, *b = error->x2 + j; // only read if traits say so
    if (is_squared_difference(g)) { // scaled afterwards, too
        return e * round_shift(difference(g, *a, *b), 7);
    }
    switch (g->op->kind) {
        case EDGELORA_MULTIPLY:
            return e * (k ? *a - g->zp_in : *b - g->zp_in2);
        case EDGELORA_MINIMUM:
            return (*a <= *b) == !k ? e : 0;
        case EDGELORA_MAXIMUM:
            return (*a >= *b) == !k ? e : 0;
        case EDGELORA_PRELU:
            top = prelu_top(g);
            return e *
                (*a >= g->zp_in ? trunc_shift(g->multiplier[0] >> 16, top - g->shift[0])
                                : trunc_shift((g->multiplier[1] >> 16) * (*b - g->zp_in2),
                                      top - g->shift[1]));
        default:
            return 0;
    }
}

// Along one axis: the outputs [from, to) that read element i of an input of this size.
static void repeat_span(uint32_t i, uint32_t size, uint32_t outputs, uint32_t *from, uint32_t *to) {
    *from = size == outputs ? i : 0;
    *to = size == outputs ? i + 1 : outputs;
}

// dx: for each element of input k, the sum over all outputs that read it; returns the shift.
static int32_t shares(
    const edgelora_shape_t *g, const edgelora_error_t *error, uint32_t k, int8_t *dx) {
    uint32_t height = k ? g->in2_h : g->in_h, width = k ? g->in2_w : g->in_w,
             channels = k ? g->in2_c : g->in_c, n = 0, y0, y1, x0, x1, c0, c1;
    int32_t v[EDGELORA_PIECE];
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    for (uint32_t i = 0; i < height * width * channels; ++i) {
        repeat_span(i / channels / width, height, g->out_h, &y0, &y1);
        repeat_span(i / channels % width, width, g->out_w, &x0, &x1);
        repeat_span(i % channels, channels, g->out_c, &c0, &c1);
        v[n] = 0; // |v| <= 127 * 256 * 65535, below 2^31
        for (uint32_t y = y0; y < y1; ++y) {
            for (uint32_t x = x0; x < x1; ++x) {
                for (uint32_t c = c0; c < c1; ++c) {
                    uint32_t at = (y * g->out_w + x) * g->out_c + c;
                    v[n] += share(g, error, k, at, partner(g, y, x, c));
                }
            }
        }
        if (++n == EDGELORA_PIECE) {
            edgelora_block_append(&block, v, n);
            n = 0;
        }
    }
    edgelora_block_append(&block, v, n);
    return block.shift;
}

// The error of input k of a multiply without repetition.
EDGELORA_WARM static int32_t multiply_backward(
    const edgelora_shape_t *g, const edgelora_error_t *error, uint32_t k, int8_t *dx) {
    const int8_t *e = error->e, *other = k ? error->x : error->x2;
    int32_t zero = k ? g->zp_in : g->zp_in2, v[EDGELORA_PIECE];
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    for (uint32_t count = g->positions * g->out_c; block.count < count;) {
        uint32_t n = count - block.count < EDGELORA_PIECE ? count - block.count : EDGELORA_PIECE;
        for (uint32_t i = 0; i < n; ++i) {
            v[i] = *e++ * (*other++ - zero);
        }
        edgelora_block_append(&block, v, n);
    }
    return error->exponent + block.shift;
}

EDGELORA_WARM int32_t edgelora_pair_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, uint32_t k, int8_t *dx) {
    uint32_t count = g->positions * g->out_c,
             mine = k ? (uint32_t)g->in2_h * g->in2_w * g->in2_c : count;
    int32_t exponent = error->exponent;
    if (g->op->kind == EDGELORA_MULTIPLY && is_flat(g)) {
        return multiply_backward(g, error, k, dx);
    }
    if (g->op->kind != EDGELORA_ADD && !is_squared_difference(g)) {
        exponent += shares(g, error, k, dx);
        return g->op->kind == EDGELORA_PRELU ? exponent + prelu_top(g) - 15 : exponent;
    }
    if (g->op->kind == EDGELORA_ADD && mine == count) {
        return exponent + add_backward(g, error->e, count, k, dx);
    }
    exponent += shares(g, error, k, dx);
    return exponent + add_backward(g, dx, mine, k, dx);
}

void edgelora_lookup_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y) {
    const int8_t *table = g->table + 128, *end = y + g->positions * g->out_c;
#pragma GCC unroll 4
    while (y != end) {
        *y++ = table[*x++];
    }
}

EDGELORA_WARM int32_t edgelora_lookup_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    int32_t v[EDGELORA_PIECE];
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    for (uint32_t count = g->positions * g->out_c; block.count < count;) {
        uint32_t n = count - block.count < EDGELORA_PIECE ? count - block.count : EDGELORA_PIECE;
        for (uint32_t i = 0; i < n; ++i) {
            v[i] = error->e[block.count + i] * g->slope[error->x[block.count + i] + 128];
        }
        edgelora_block_append(&block, v, n);
    }
    return error->exponent + g->shift[0] + block.shift;
}
