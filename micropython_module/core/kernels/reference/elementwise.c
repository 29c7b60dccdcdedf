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

void edgelora_pair_forward_s8(
    const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, int8_t *y) {
    bool flat = is_flat(g);
    uint32_t n = flat ? g->positions * g->out_c : g->out_c, step = g->in2_c > 1 || flat;
    for (uint32_t i = 0; i < g->positions * g->out_c; i += n, x += n, y += n) {
        const int8_t *b = x2 + (flat ? 0 : edgelora_partner(g, i / n / g->out_w, i / n % g->out_w));
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

// What an output's error contributes to input k of any op but add and multiply. a, b: the values of
// the inputs that it was computed from
static int32_t share(
    const edgelora_shape_t *g, uint32_t k, int32_t e, const int8_t *a, const int8_t *b) {
    int32_t top;
    if (is_squared_difference(g)) { // scaled afterwards
        return e * round_shift(difference(g, *a, *b), 7);
    }
    switch (g->op->kind) {
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

// v, s32 [count], += e * (factor - zero), s8 [count]; steps: from one of v, and of the factors, to
// the next
EDGELORA_WARM __attribute__((noinline)) static void add_error_products(int32_t *v, uint32_t step,
    const int8_t *e, uint32_t count, const int8_t *factor, uint32_t factor_step, int32_t zero) {
    for (const int8_t *end = e + count; e != end; ++e, v += step, factor += factor_step) {
        *v += *e * (*factor - zero);
    }
}

// v += what `count` outputs of a row from element i on contribute to input k. step: of v; j: the
// first one's element of the second input
static void add_shares(const edgelora_shape_t *g, const edgelora_error_t *error, uint32_t k,
    uint32_t i, uint32_t j, uint32_t count, int32_t *v, uint32_t step) {
    const int8_t *e = error->e + i;
    if (g->op->kind == EDGELORA_ADD) { // scaled afterwards
        for (const int8_t *end = e + count; e != end; ++e, v += step) {
            *v += *e;
        }
        return;
    }
    const int8_t *a = error->x + i, *b = error->x2 + j;
    uint32_t b_step = g->in2_c > 1;
    if (g->op->kind == EDGELORA_MULTIPLY) {
        add_error_products(v, step, e, count, k ? a : b, k ? 1 : b_step, k ? g->zp_in : g->zp_in2);
        return;
    }
    for (uint32_t c = 0; c < count; ++c, v += step, b += b_step) {
        *v += share(g, k, e[c], a + c, b);
    }
}

// Along one axis: the outputs [from, to) that read element i of an input of this size.
static edgelora_range_t repeats(uint32_t i, uint32_t size, uint32_t outputs) {
    return size == outputs ? (edgelora_range_t){i, i + 1} : (edgelora_range_t){0, outputs};
}

// Channels of an input, [c, c + count), at position (y, x).
typedef struct {
    uint32_t y, x, c, count;
    uint32_t height, width, channels; // of the input
} element_t;

// v: s32 [count], the sums over all outputs that read these elements of input k; |v| <= 127 * 256 *
// 65535, below 2^31
static void sum_shares(const edgelora_shape_t *g, const edgelora_error_t *error, uint32_t k,
    const element_t *at, int32_t *v) {
    edgelora_range_t ys = repeats(at->y, at->height, g->out_h),
                     xs = repeats(at->x, at->width, g->out_w);
    bool whole = at->channels == g->out_c; // else one element for all channels
    uint32_t count = whole ? at->count : g->out_c;
    for (uint32_t i = 0; i < at->count; ++i) {
        v[i] = 0;
    }
    for (uint32_t y = ys.from; y < ys.to; ++y) {
        for (uint32_t x = xs.from; x < xs.to; ++x) {
            uint32_t i = (y * g->out_w + x) * g->out_c + at->c,
                     j = edgelora_partner(g, y, x) + (g->in2_c > 1 ? at->c : 0);
            add_shares(g, error, k, i, j, count, v, whole);
        }
    }
}

// dx: for each element of input k, the sum over all outputs that read it; returns the shift.
static int32_t shares(
    const edgelora_shape_t *g, const edgelora_error_t *error, uint32_t k, int8_t *dx) {
    element_t at = {
        .height = k ? g->in2_h : g->in_h,
        .width = k ? g->in2_w : g->in_w,
        .channels = k ? g->in2_c : g->in_c};
    int32_t v[EDGELORA_LONG_PIECE];
    uint32_t n = 0;
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    for (at.y = 0; at.y < at.height; ++at.y) {
        for (at.x = 0; at.x < at.width; ++at.x) {
            for (at.c = 0; at.c < at.channels; at.c += at.count) {
                at.count = piece_of(at.channels - at.c, EDGELORA_LONG_PIECE - n);
                sum_shares(g, error, k, &at, v + n);
                n += at.count;
                if (n == EDGELORA_LONG_PIECE) {
                    edgelora_block_append(&block, v, n);
                    n = 0;
                }
            }
        }
    }
    edgelora_block_append(&block, v, n);
    return block.shift;
}

// v, s32 [n], = e * (other - zero)
EDGELORA_WARM __attribute__((noinline)) static void error_products(
    int32_t *v, const int8_t *e, const int8_t *other, uint32_t n, int32_t zero) {
    for (const int32_t *end = v + n; v != end; ++v) {
        *v = *e++ * (*other++ - zero);
    }
}

// The error of input k of a multiply without repetition.
EDGELORA_WARM static int32_t multiply_backward(
    const edgelora_shape_t *g, const edgelora_error_t *error, uint32_t k, int8_t *dx) {
    const int8_t *e = error->e, *other = k ? error->x : error->x2;
    int32_t v[EDGELORA_LONG_PIECE];
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    for (uint32_t count = g->positions * g->out_c; block.count < count;) {
        uint32_t n = piece_of(count - block.count, EDGELORA_LONG_PIECE);
        error_products(v, e + block.count, other + block.count, n, k ? g->zp_in : g->zp_in2);
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

// v, s32 [n], = e times the slope of each input; slope: of input 0
EDGELORA_WARM __attribute__((noinline)) static void times_slopes(
    int32_t *v, const int8_t *e, const int8_t *x, uint32_t n, const int8_t *slope) {
#pragma GCC unroll 2
    for (const int32_t *end = v + n; v != end; ++v) {
        *v = *e++ * slope[*x++];
    }
}

EDGELORA_WARM int32_t edgelora_lookup_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    int32_t v[EDGELORA_LONG_PIECE];
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    for (uint32_t count = g->positions * g->out_c; block.count < count;) {
        uint32_t n = piece_of(count - block.count, EDGELORA_LONG_PIECE);
        times_slopes(v, error->e + block.count, error->x + block.count, n, g->slope + 128);
        edgelora_block_append(&block, v, n);
    }
    return error->exponent + g->shift[0] + block.shift;
}
