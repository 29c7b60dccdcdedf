// Layer norm of a stream, and rotary positions.
// SPDX-License-Identifier: MIT

#include "kernels/norm.h"
#include "kernels/reference/reference.h"

static edgelora_norm_row_t row_of(const edgelora_shape_t *g, const int16_t *x) {
    edgelora_norm_sums_t sums = {0, x[0], x[0], 0};
    for (const int16_t *end = x + g->in_c; x != end; ++x) {
        sums.sum += *x;
        sums.squares += (uint32_t)(*x * *x);
        sums.least = *x < sums.least ? *x : sums.least;
        sums.most = *x > sums.most ? *x : sums.most;
    }
    return edgelora_norm_row(g, &sums);
}

// The normalized values of n values of a row, with its fraction.
EDGELORA_WARM __attribute__((noinline)) static void normalize_s16(
    const edgelora_norm_row_t *row, int32_t d, const int16_t *x, uint32_t n, int16_t *to) {
    int32_t p = row->shift, start = (p ? 1 << (p - 1) : 0) - row->sum,
            down = 31 - row->fraction - row->half - p; // >= 3
    uint32_t half = 1u << (down - 1), r = row->root;
    for (const int16_t *end = x + n; x != end; ++x) {
        int32_t c = (*x * d + start) >> p, sign = c >> 31;
        uint32_t magnitude = ((uint32_t)((c ^ sign) - sign) * r + half) >> down; // product: <= 2^31
        *to++ = (int16_t)clamp_s32(((int32_t)magnitude ^ sign) - sign, -32768, 32767);
    }
}

EDGELORA_WARM void edgelora_norm_forward_s8(
    const edgelora_shape_t *g, const int16_t *x, int8_t *y) {
    int16_t normal[EDGELORA_PIECE];
    for (uint32_t p = 0; p < g->positions; ++p) {
        edgelora_norm_row_t row = row_of(g, x);
        int32_t unit = row.fraction - 11, shift = g->shift[0] + row.fraction;
        const int16_t *gain = g->taps;
        const int32_t *bias = g->bias;
        for (uint32_t c = 0, n; c < g->in_c; c += n, x += n) {
            n = g->in_c - c < EDGELORA_PIECE ? g->in_c - c : EDGELORA_PIECE;
            normalize_s16(&row, g->in_c, x, n, normal);
            for (uint32_t i = 0; i < n; ++i) { // the sum is below 2^31 with its rounding
                int32_t v = normal[i] * *gain++ + *bias++ * (1 << unit);
                *y++ = (int8_t)clamp_s32(round_shift(v, shift) + g->zp_out, -128, 127);
            }
        }
    }
}

// The errors of a row's n values, with its fraction: what each one's own error, less those of the
// row's mean and size, comes to; |v| < 2^31. a: errors, normal: normalized values
EDGELORA_WARM __attribute__((noinline)) static void row_errors_s32(const edgelora_norm_row_t *row,
    int32_t d, const int8_t *a, const int16_t *normal, uint32_t n, int32_t *v) {
    int32_t mean = row->mean * (1 << row->fraction), size = row->size, own = d << row->fraction;
    for (const int32_t *end = v + n; v != end; ++v) {
        *v = own * *a++ - mean - *normal++ * size;
    }
}

// What a row's errors need of the whole row. normal: its normalized values
EDGELORA_WARM __attribute__((noinline)) static void backward_row(
    const edgelora_shape_t *g, edgelora_norm_row_t *row, const int8_t *a, const int16_t *normal) {
    int32_t products = 0, sum = 0, v[EDGELORA_PIECE]; // |products| <= 2^30
    for (uint32_t c = 0; c < g->in_c; ++c) {
        products += a[c] * normal[c];
        sum += a[c];
    }
    row->size = trunc_shift(products, row->fraction);
    row->mean = g->op->flags & EDGELORA_CENTRED ? sum : 0;
    uint32_t bits = 0;
    for (uint32_t c = 0, n; c < g->in_c; c += n) {
        n = g->in_c - c < EDGELORA_PIECE ? g->in_c - c : EDGELORA_PIECE;
        row_errors_s32(row, g->in_c, a + c, normal + c, n, v);
        for (uint32_t i = 0; i < n; ++i) {
            bits |= abs_u32(v[i]);
        }
    }
    int32_t cut = bit_length(bits) - 15;
    row->cut = (int8_t)(cut > 0 ? cut : 0);
}

// v, s32 [n], = trunc_shift(trunc_shift(v, cut) * root, below)
EDGELORA_WARM __attribute__((noinline)) static void scale_errors(
    int32_t *v, uint32_t n, int32_t cut, int32_t root, int32_t below) {
    int32_t mask = shift_mask(cut), below_mask = shift_mask(below);
    for (const int32_t *end = v + n; v != end; ++v) {
        *v = trunc_mask(trunc_mask(*v, cut, mask) * root, below, below_mask);
    }
}

EDGELORA_WARM int32_t edgelora_norm_rows_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error) {
    const void *stream = error->x;
    const int16_t *x = stream;
    const int8_t *a = error->e;
    edgelora_norm_row_t *rows = error->scratch;
    int16_t *normal = (int16_t *)(void *)(rows + g->positions); // s16 [d]
    uint32_t d = g->in_c;
    int32_t top = -128;
    for (uint32_t p = 0; p < g->positions; ++p, x += d, a += d) {
        rows[p] = row_of(g, x);
        normalize_s16(&rows[p], g->in_c, x, d, normal);
        backward_row(g, &rows[p], a, normal);
        int32_t size = rows[p].cut + rows[p].half - rows[p].fraction;
        top = size > top ? size : top;
    }
    return top;
}

EDGELORA_WARM int32_t edgelora_norm_errors_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int32_t top, int8_t *dx) {
    const void *stream = error->x;
    const int16_t *x = stream;
    const int8_t *a = error->e;
    edgelora_norm_row_t *rows = error->scratch;
    int16_t *normal = (int16_t *)(void *)(rows + g->positions); // s16 [d]
    uint32_t d = g->in_c;
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    for (uint32_t p = 0; p < g->positions; ++p) {
        const edgelora_norm_row_t *row = &rows[p];
        int32_t below = top - row->cut - row->half + row->fraction, v[EDGELORA_PIECE];
        for (uint32_t c = 0, n; c < d; c += n, x += n, a += n) {
            n = d - c < EDGELORA_PIECE ? d - c : EDGELORA_PIECE;
            normalize_s16(row, g->in_c, x, n, normal);
            row_errors_s32(row, g->in_c, a, normal, n, v);
            scale_errors(v, n, row->cut, (int32_t)row->root, below > 31 ? 31 : below);
            edgelora_block_append(&block, v, n);
        }
    }
    return error->exponent + top - 31 + block.shift;
}

// Turns pair i of a head in a row by its angle; sign -1 turns it back. |v| <= 2^23
static inline void turn(const edgelora_shape_t *g, const int8_t *x, const int16_t *angles,
    uint32_t i, int32_t sign, int32_t v[2]) {
    int32_t a = x[i], b = x[i + g->op->kernel_h], cosine = angles[2 * i],
            sine = sign * angles[2 * i + 1];
    v[0] = a * cosine - b * sine;
    v[1] = b * cosine + a * sine;
}

EDGELORA_WARM void edgelora_rotate_forward_s8(
    const edgelora_shape_t *g, const int8_t *x, int8_t *y) {
    uint32_t half = g->op->kernel_h, heads = g->in_c / (2 * half);
    const int16_t *angles = g->taps;
    for (uint32_t p = 0; p < g->positions; ++p, angles += 2 * half) {
        for (uint32_t head = 0; head < heads; ++head, x += 2 * half, y += 2 * half) {
            for (uint32_t i = 0; i < half; ++i) {
                int32_t v[2];
                turn(g, x, angles, i, 1, v);
                y[i] = (int8_t)clamp_s32(round_shift(v[0], 15), -128, 127);
                y[i + half] = (int8_t)clamp_s32(round_shift(v[1], 15), -128, 127);
            }
        }
    }
}

EDGELORA_WARM int32_t edgelora_rotate_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    uint32_t half = g->op->kernel_h, heads = g->in_c / (2 * half);
    const int16_t *angles = g->taps;
    const int8_t *e = error->e;
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    for (uint32_t p = 0; p < g->positions; ++p, angles += 2 * half) {
        for (uint32_t head = 0; head < heads; ++head, e += 2 * half) {
            int32_t v[EDGELORA_MAX_HEAD];
            for (uint32_t i = 0; i < half; ++i) {
                int32_t pair[2];
                turn(g, e, angles, i, -1, pair);
                v[i] = pair[0];
                v[i + half] = pair[1];
            }
            edgelora_block_append(&block, v, 2 * half);
        }
    }
    return error->exponent - 15 + block.shift;
}
