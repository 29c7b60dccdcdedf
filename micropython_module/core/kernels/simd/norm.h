// Layer norm and rotary positions, on vector lanes.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_SIMD_NORM_H
#define EDGELORA_SIMD_NORM_H

#include "kernels/simd/attend.h"
#include "kernels/simd/elementwise.h"

#include "kernels/norm.h"

// Room for a row, padded to whole vectors, all s32.
typedef struct {
    uint32_t padded;
    int32_t *x, *v;
    int32_t *gain, *bias; // of the op
} norm_work_t;

static norm_work_t norm_work(const edgelora_shape_t *g, void *work) {
    uint32_t padded = (g->in_c + LANES - 1u) / LANES * LANES;
    int32_t *room = work; // 256 channels at most
    norm_work_t n = {padded, room, room + padded, room + 2 * padded, room + 3 * padded};
    for (uint32_t c = 0; c < padded; ++c) {
        n.gain[c] = c < g->in_c ? g->taps[c] : 0;
        n.bias[c] = c < g->in_c ? g->bias[c] : 0;
    }
    return n;
}

// Loads a row, with copies of its first value behind it.
static void norm_row_load(const edgelora_shape_t *g, const norm_work_t *n, const int16_t *x) {
    uint32_t d = g->in_c, c = 0;
    for (; c + WIDTH <= d; c += WIDTH) {
        lanes_store(n->x + c, lanes_of_s16(x + c));
    }
    for (; c < n->padded; ++c) {
        n->x[c] = x[c < d ? c : 0];
    }
}

static edgelora_norm_row_t norm_row(
    const edgelora_shape_t *g, const norm_work_t *n, const int16_t *x) {
    norm_row_load(g, n, x);
    lanes_t sum = lanes_of(0), high = sum, low = sum, most = lanes_of(x[0]), least = most;
    for (uint32_t c = 0; c < n->padded; c += WIDTH) {
        lanes_t v = lanes_load(n->x + c), square = lanes_mul(v, v),
                upper = lanes_shift_right(square, 15);
        sum = lanes_add(sum, v);
        high = lanes_add(high, upper); // squares: <= 2^30, 2^15 times the upper half plus the lower
        low = lanes_add(low, lanes_sub(square, lanes_shift_left(upper, 15)));
        most = lanes_max(most, v);
        least = lanes_min(least, v);
    }
    int32_t copies = (int32_t)(n->padded - g->in_c), first = x[0];
    uint64_t squares = ((uint64_t)(uint32_t)lanes_sum(high) << 15) + (uint32_t)lanes_sum(low);
    return edgelora_norm_row(g,
        &(edgelora_norm_sums_t){
            lanes_sum(sum) - copies * first,
            -lanes_largest(lanes_sub(lanes_of(0), least)),
            lanes_largest(most),
            squares - (uint64_t)copies * (uint32_t)(first * first),
        });
}

// The normalized values of x, with the row's fraction.
static inline lanes_t lanes_normal(
    const edgelora_shape_t *g, const edgelora_norm_row_t *row, lanes_t x) {
    lanes_t c = lanes_sub(lanes_mul(x, lanes_of(g->in_c)), lanes_of(row->sum));
    c = lanes_round_shift(c, row->shift);
    int32_t n = 31 - row->fraction - row->half - row->shift; // >= 3
    // magnitudes of products: <= 2^31
    lanes_t v = lanes_magnitude(
        lanes_mul(c, lanes_of((int32_t)row->root)), lanes_of((int32_t)(1u << (n - 1))), n);
    return lanes_within_s16(lanes_signed(v, c));
}

static void norm_forward(const edgelora_shape_t *g, const edgelora_pass_t *pass) {
    const void *stream = pass->x;
    const int16_t *x = stream;
    const norm_work_t n = norm_work(g, pass->work);
    const lanes_t zero_point = lanes_of(g->zp_out), low = lanes_of(-128), high = lanes_of(127);
    int8_t *y = pass->y;
    for (uint32_t p = 0; p < g->positions; ++p, x += g->in_c, y += g->in_c) {
        const edgelora_norm_row_t row = norm_row(g, &n, x);
        int32_t shift = g->shift[0] + row.fraction;
        for (uint32_t c = 0; c < g->in_c; c += WIDTH) {
            lanes_t bias = lanes_shift_left(lanes_load(n.bias + c), row.fraction - 11);
            lanes_t v = lanes_normal(g, &row, lanes_load(n.x + c));
            v = lanes_add(lanes_mul(v, lanes_load(n.gain + c)), bias);
            v = lanes_add(lanes_round_shift(v, shift), zero_point);
            v = lanes_max(lanes_min(v, high), low);
            lanes_store_first(y + c, v, lesser(g->in_c - c, WIDTH));
        }
    }
}

// n->v = the errors of a row's values before they are cut, 0 behind them.
static void norm_row_errors(const edgelora_shape_t *g, const norm_work_t *n,
    const edgelora_norm_row_t *row, const int8_t *a) {
    const lanes_t d = lanes_of(g->in_c), mean = lanes_of(row->mean), size = lanes_of(row->size);
    for (uint32_t c = 0; c < n->padded; c += WIDTH) {
        lanes_t v = lanes_sub(lanes_mul(lanes_of_first(a, c, g->in_c), d), mean),
                x = lanes_normal(g, row, lanes_load(n->x + c));
        v = lanes_sub(lanes_shift_left(v, row->fraction), lanes_mul(x, size));
        lanes_store(n->v + c, v);
    }
    for (uint32_t c = g->in_c; c < n->padded; ++c) {
        n->v[c] = 0;
    }
}

// What the errors of a row need: a, s8 [in_c], its outputs' errors.
static void norm_row_sums(
    const edgelora_shape_t *g, const norm_work_t *n, edgelora_norm_row_t *row, const int8_t *a) {
    lanes_t products = lanes_of(0), sum = products, all = products;
    for (uint32_t c = 0; c < n->padded; c += WIDTH) {
        lanes_t v = lanes_of_first(a, c, g->in_c);
        products = lanes_add(products, lanes_mul(v, lanes_normal(g, row, lanes_load(n->x + c))));
        sum = lanes_add(sum, v);
    }
    row->size = trunc_shift(lanes_sum(products), row->fraction);
    row->mean = g->op->flags & EDGELORA_CENTRED ? lanes_sum(sum) : 0;
    norm_row_errors(g, n, row, a);
    for (uint32_t c = 0; c < n->padded; c += WIDTH) {
        all = lanes_or(all, lanes_abs(lanes_load(n->v + c)));
    }
    int32_t cut = bit_length(lanes_bits(all)) - 15;
    row->cut = (int8_t)(cut > 0 ? cut : 0);
}

static int32_t norm_backward(const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    const void *stream = error->x;
    const int16_t *x = stream;
    const int8_t *a = error->e;
    const norm_work_t n = norm_work(g, error->work);
    edgelora_norm_row_t *rows = error->scratch;
    uint32_t d = g->in_c;
    int32_t top = -128;
    for (uint32_t p = 0; p < g->positions; ++p) {
        rows[p] = norm_row(g, &n, x + p * d);
        norm_row_sums(g, &n, &rows[p], a + p * d);
        int32_t size = rows[p].cut + rows[p].half - rows[p].fraction;
        top = size > top ? size : top;
    }
    block_t block = block_in_order(g, dx);
    for (uint32_t p = 0; p < g->positions; ++p) {
        const edgelora_norm_row_t *row = &rows[p];
        int32_t below = top - row->cut - row->half + row->fraction;
        norm_row_load(g, &n, x + p * d);
        norm_row_errors(g, &n, row, a + p * d);
        for (uint32_t c = 0; c < n.padded; c += WIDTH) { // |v| < 2^31
            lanes_t v = lanes_trunc_shift(lanes_load(n.v + c), row->cut);
            v = lanes_mul(v, lanes_of((int32_t)row->root));
            lanes_store(n.v + c, lanes_trunc_shift(v, below < 31 ? below : 31));
        }
        block_append(&block, n.v, d);
    }
    return error->exponent + top - 31 + block.shift;
}

// Room for a row of rotate and what is written behind it, and for a position's angles, all s32.
typedef struct {
    uint32_t padded;
    int32_t *x, *v, *cosine, *sine;
} rotate_work_t;

// false: rows are too long.
static bool rotate_work(const edgelora_shape_t *g, void *work, rotate_work_t *r) {
    int32_t *room = work;
    uint32_t padded = (g->in_c + LANES - 1u) / LANES * LANES;
    r->padded = padded;
    r->x = take_words(&room, padded + EDGELORA_MAX_HEAD);
    r->v = take_words(&room, padded + EDGELORA_MAX_HEAD);
    r->cosine = take_words(&room, EDGELORA_MAX_HEAD);
    r->sine = take_words(&room, EDGELORA_MAX_HEAD);
    return padded <= BLOCK_ROWS * LANES && (uint32_t)(room - r->x) <= sizeof(any_work_t) / 4;
}

// r->v = a row turned by its position's angles, 0 behind it; sign -1 turns it back. |v| <= 2^23
static void rotate_row(const edgelora_shape_t *g, const rotate_work_t *r, const int8_t *x,
    const int16_t *angles, int32_t sign) {
    uint32_t half = g->op->kernel_h;
    for (uint32_t i = 0; i < half; ++i) {
        r->cosine[i] = angles[2 * i];
        r->sine[i] = sign * angles[2 * i + 1];
    }
    for (uint32_t c = 0; c < r->padded; c += WIDTH) {
        lanes_store(r->x + c, lanes_of_first(x, c, g->in_c));
    }
    for (uint32_t c = 0; c < g->in_c; c += 2 * half) {
        const int32_t *a = r->x + c, *b = a + half;
        int32_t *v = r->v + c;
        for (uint32_t i = 0; i < half; i += WIDTH) { // what is written behind a half is replaced
            lanes_t cosine = lanes_load(r->cosine + i), sine = lanes_load(r->sine + i);
            lanes_store(v + i,
                lanes_sub(
                    lanes_mul(lanes_load(a + i), cosine), lanes_mul(lanes_load(b + i), sine)));
        }
        for (uint32_t i = 0; i < half; i += WIDTH) {
            lanes_t cosine = lanes_load(r->cosine + i), sine = lanes_load(r->sine + i);
            lanes_store(v + half + i,
                lanes_add(
                    lanes_mul(lanes_load(b + i), cosine), lanes_mul(lanes_load(a + i), sine)));
        }
    }
    for (uint32_t c = g->in_c; c < r->padded; ++c) {
        r->v[c] = 0;
    }
}

static bool rotate_forward(const edgelora_shape_t *g, const edgelora_pass_t *pass) {
    const lanes_t low = lanes_of(-128), high = lanes_of(127);
    const int16_t *angles = g->taps;
    rotate_work_t r;
    if (!rotate_work(g, pass->work, &r)) {
        return false;
    }
    for (uint32_t p = 0; p < g->positions; ++p, angles += 2 * g->op->kernel_h) {
        rotate_row(g, &r, pass->x + p * g->in_c, angles, 1);
        for (uint32_t c = 0; c < g->in_c; c += WIDTH) {
            lanes_t v = lanes_round_shift(lanes_load(r.v + c), 15);
            v = lanes_max(lanes_min(v, high), low);
            lanes_store_first(pass->y + p * g->in_c + c, v, lesser(g->in_c - c, WIDTH));
        }
    }
    return true;
}

static bool rotate_backward(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx, int32_t *exponent) {
    const int16_t *angles = g->taps;
    rotate_work_t r;
    if (!rotate_work(g, error->work, &r)) {
        return false;
    }
    block_t block = block_in_order(g, dx);
    for (uint32_t p = 0; p < g->positions; ++p, angles += 2 * g->op->kernel_h) {
        rotate_row(g, &r, error->e + p * g->in_c, angles, -1);
        block_append(&block, r.v, g->in_c);
    }
    *exponent = error->exponent - 15 + block.shift;
    return true;
}

#endif
