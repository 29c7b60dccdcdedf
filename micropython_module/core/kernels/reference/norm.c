// Layer norm of a stream, and rotary positions.
// SPDX-License-Identifier: MIT

#include "kernels/norm.h"
#include "kernels/reference/reference.h"

// What normalizes the row in hand.
typedef struct {
    edgelora_norm_row_t row;
    bool fits; // products fit 32 bits with their signs, and normalized values 16 without a clamp
} fitted_row_t;

// Two values at a time: their squares are below 2^32.
EDGELORA_WARM __attribute__((noinline)) static void row_sums(
    const int16_t *x, uint32_t d, edgelora_norm_sums_t *sums) {
    int32_t least = x[0], most = least, sum = 0;
    uint64_t squares = 0;
    const int16_t *end = x + d;
    if (d & 1) {
        sum = *x++;
        squares = (uint32_t)(sum * sum);
    }
    while (x != end) {
        int32_t a = *x++, b = *x++;
        sum += a + b;
        squares += (uint32_t)(a * a) + (uint32_t)(b * b);
        least = a < least ? a : least;
        most = a > most ? a : most;
        least = b < least ? b : least;
        most = b > most ? b : most;
    }
    *sums = (edgelora_norm_sums_t){sum, least, most, squares};
}

// By how much a row's products are shifted to normalized values; >= 3
static int32_t down_of(const edgelora_norm_row_t *row) {
    return 31 - row->fraction - row->half - row->shift;
}

static fitted_row_t row_of(const edgelora_shape_t *g, const int16_t *x) {
    edgelora_norm_sums_t sums;
    row_sums(x, g->in_c, &sums);
    fitted_row_t of = {.row = edgelora_norm_row(g, &sums)};
    int32_t d = g->in_c, sum = of.row.sum, down = down_of(&of.row);
    uint32_t below = abs_u32(d * sums.least - sum), above = abs_u32(d * sums.most - sum),
             most = (uint32_t)round_shift((int32_t)(below > above ? below : above), of.row.shift),
             product = most * of.row.root + (1u << (down - 1)); // < 2^32
    of.fits = product < 1u << 31 && product >> down <= 32767;
    return of;
}

// The normalized values of n values of any row, with its fraction.
EDGELORA_WARM __attribute__((noinline)) static void normalize_any_s16(
    const edgelora_norm_row_t *row, int32_t d, const int16_t *x, uint32_t n, int16_t *to) {
    int32_t p = row->shift, start = (p ? 1 << (p - 1) : 0) - row->sum, down = down_of(row);
    uint32_t half = 1u << (down - 1), r = row->root;
    for (const int16_t *end = x + n; x != end; ++x) {
        int32_t c = (*x * d + start) >> p, sign = c >> 31;
        uint32_t magnitude = ((uint32_t)((c ^ sign) - sign) * r + half) >> down; // product: <= 2^31
        *to++ = (int16_t)clamp_s32(((int32_t)magnitude ^ sign) - sign, -32768, 32767);
    }
}

// The same of a row that fits: halves are rounded away from 0.
EDGELORA_WARM __attribute__((noinline)) static void normalize_s16(
    const edgelora_norm_row_t *row, int32_t d, const int16_t *x, uint32_t n, int16_t *to) {
    int32_t p = row->shift, start = (p ? 1 << (p - 1) : 0) - row->sum, down = down_of(row);
    int32_t half = 1 << (down - 1), r = (int32_t)row->root;
#pragma GCC unroll 2
    for (const int16_t *end = x + n; x != end; ++x) {
        int32_t v = ((*x * d + start) >> p) * r;
        *to++ = (int16_t)((v + (v >> 31) + half) >> down);
    }
}

static void normalize_row(
    const edgelora_shape_t *g, const fitted_row_t *of, const int16_t *x, uint32_t n, int16_t *to) {
    (of->fits ? normalize_s16 : normalize_any_s16)(&of->row, g->in_c, x, n, to);
}

// n outputs of normalized values; units of bias: 2^unit. The sum is below 2^31 with its rounding.
EDGELORA_WARM __attribute__((noinline)) static void outputs_s8(const edgelora_shape_t *g,
    int32_t fraction, const int16_t *normal, uint32_t c, uint32_t n, int8_t *y) {
    const int16_t *gain = g->taps + c;
    const int32_t *bias = g->bias + c;
    int32_t unit = fraction - 11, shift = g->shift[0] + fraction, zero_point = g->zp_out;
    for (const int8_t *end = y + n; y != end; ++y) {
        int32_t v = *normal++ * *gain++ + *bias++ * (1 << unit);
        v = round_shift(v, shift) + zero_point;
        *y = (int8_t)(v == (int8_t)v ? v : clamp_s32(v, -128, 127));
    }
}

EDGELORA_WARM void edgelora_norm_forward_s8(
    const edgelora_shape_t *g, const int16_t *x, int8_t *y) {
    int16_t normal[EDGELORA_LONG_PIECE];
    for (uint32_t p = 0; p < g->positions; ++p) {
        fitted_row_t of = row_of(g, x);
        for (uint32_t c = 0, n; c < g->in_c; c += n, x += n, y += n) {
            n = piece_of(g->in_c - c, EDGELORA_LONG_PIECE);
            normalize_row(g, &of, x, n, normal);
            outputs_s8(g, of.row.fraction, normal, c, n, y);
        }
    }
}

// The backward pass keeps all normalized values if they take little memory, else a row's.
enum { KEPT_BYTES = 16384 };

static bool keeps_values(const edgelora_shape_t *g) {
    return 2 * g->positions * g->in_c <= KEPT_BYTES;
}

uint32_t edgelora_norm_scratch(const edgelora_shape_t *g) {
    return (uint32_t)sizeof(edgelora_norm_row_t) * g->positions +
        align4(2u * g->in_c * (keeps_values(g) ? g->positions : 1));
}

// The errors of a row's n values, with its fraction: what each one's own error, less those of the
// row's mean and size, comes to; |v| < 2^31. a: errors, normal: normalized values
static inline int32_t error_of(int32_t a, int32_t normal, int32_t own, int32_t mean, int32_t size) {
    return own * a - mean - normal * size;
}

// The sums of a row's errors and of their products with its normalized values, |products| <= 2^30
EDGELORA_WARM __attribute__((noinline)) static void error_sums(
    const int8_t *a, const int16_t *normal, uint32_t d, int32_t *sum, int32_t *products) {
    int32_t of_errors = 0, of_products = 0;
#pragma GCC unroll 2
    for (const int8_t *end = a + d; a != end; ++a) {
        of_errors += *a;
        of_products += *a * *normal++;
    }
    *sum = of_errors;
    *products = of_products;
}

// The OR of the magnitudes of a row's errors.
EDGELORA_WARM __attribute__((noinline)) static uint32_t error_bits(
    const edgelora_norm_row_t *row, uint32_t d, const int8_t *a, const int16_t *normal) {
    int32_t own = (int32_t)d << row->fraction, mean = row->mean * (1 << row->fraction),
            size = row->size;
    uint32_t bits = 0;
#pragma GCC unroll 2
    for (const int8_t *end = a + d; a != end; ++a) {
        bits |= abs_u32(error_of(*a, *normal++, own, mean, size));
    }
    return bits;
}

// What a row's errors need of the whole row. normal: its normalized values
EDGELORA_WARM static void backward_row(
    const edgelora_shape_t *g, edgelora_norm_row_t *row, const int8_t *a, const int16_t *normal) {
    int32_t sum, products;
    error_sums(a, normal, g->in_c, &sum, &products);
    row->size = trunc_shift(products, row->fraction);
    row->mean = g->op->flags & EDGELORA_CENTRED ? sum : 0;
    int32_t cut = bit_length(error_bits(row, g->in_c, a, normal)) - 15;
    row->cut = (int8_t)(cut > 0 ? cut : 0);
}

// How a row's errors become values of a block. below: trunc_shift to the size of the largest row's;
// offsets: of its first and every second value from it on, and of the others
typedef struct {
    int32_t below, shift;
    uint32_t offset[2];
} scale_t;

// The magnitude of an error, cut, times the row's root, in a block.
static inline uint32_t scaled_magnitude(const edgelora_norm_row_t *row, const scale_t *scale,
    int32_t e, int32_t sign, uint32_t offset) {
    uint32_t cut = (uint32_t)((e ^ sign) - sign) >> row->cut; // < 2^15, the root <= 2^16
    return ((cut * row->root >> scale->below) + offset) >> scale->shift;
}

#define STORE_ERROR(offset) \
    { \
        int32_t e = error_of(*a++, *normal++, own, mean, row.size), sign = e >> 31; \
        uint32_t magnitude = scaled_magnitude(&row, &scale, e, sign, offset); \
        bits |= magnitude; \
        *q++ = (int8_t)(((int32_t)magnitude ^ sign) - sign); \
    }

// Writes a row's n errors; returns the OR of their magnitudes.
EDGELORA_WARM __attribute__((noinline)) static uint32_t store_errors(const edgelora_norm_row_t *of,
    const scale_t *with, const int8_t *a, const int16_t *normal, uint32_t n, int8_t *q) {
    const edgelora_norm_row_t row = *of;
    const scale_t scale = *with;
    int32_t own = (int32_t)n << row.fraction, mean = row.mean * (1 << row.fraction);
    uint32_t first = scale.offset[n & 1], second = scale.offset[~n & 1], bits = 0;
    const int8_t *end = a + n;
    if (n & 1) {
        STORE_ERROR(second)
    }
    while (a != end) {
        STORE_ERROR(first)
        STORE_ERROR(second)
    }
    return bits;
}
#undef STORE_ERROR

EDGELORA_WARM int32_t edgelora_norm_rows_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error) {
    const void *stream = error->x;
    const int16_t *x = stream;
    const int8_t *a = error->e;
    edgelora_norm_row_t *rows = error->scratch;
    int16_t *normal = (int16_t *)(void *)(rows + g->positions); // s16 [positions or 1, d]
    uint32_t d = g->in_c, kept = keeps_values(g) ? d : 0;
    int32_t top = -128;
    for (uint32_t p = 0; p < g->positions; ++p, x += d, a += d, normal += kept) {
        fitted_row_t of = row_of(g, x);
        normalize_row(g, &of, x, d, normal);
        backward_row(g, &of.row, a, normal);
        rows[p] = of.row;
        int32_t size = of.row.cut + of.row.half - of.row.fraction;
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
    int16_t *normal = (int16_t *)(void *)(rows + g->positions);
    uint32_t d = g->in_c, kept = keeps_values(g) ? d : 0;
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    for (uint32_t p = 0; p < g->positions; ++p, x += d, a += d, normal += kept) {
        const edgelora_norm_row_t *row = &rows[p];
        int32_t below = top - row->cut - row->half + row->fraction;
        if (!kept) {
            normalize_any_s16(row, g->in_c, x, d, normal);
        }
        scale_t scale = {.below = below > 31 ? 31 : below};
        for (uint32_t bits = 128; bits >= 128;) {
            scale.shift = block.shift;
            for (uint32_t k = 0; k < 2 && g->rounds; ++k) {
                scale.offset[k] = edgelora_block_offset(block.count + k, block.shift, 0);
            }
            bits = store_errors(row, &scale, a, normal, d, dx + block.count);
            edgelora_block_grow(&block, bits);
        }
        block.count += d;
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
