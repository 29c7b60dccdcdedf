// Elementwise ops and pools, on vector lanes.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_SIMD_ELEMENTWISE_H
#define EDGELORA_SIMD_ELEMENTWISE_H

#include "kernels/simd/products.h"

// requantize
static inline lanes_t lanes_scaled(lanes_t v, int32_t multiplier, int32_t shift) {
    lanes_t m = lanes_of(multiplier);
    return shift > 0 ? lanes_high_mul(lanes_shift_left(v, shift), m)
                     : lanes_round_divide(lanes_high_mul(v, m), lanes_of(-shift));
}

// The operand of an add of the smaller scale: requantize(d << 20) for |d| < 256. The other's
// multiplier is 1/2.
typedef struct {
    lanes_t high, low, rounding, shift; // of the multiplier: 20 bits and 11
} addend_t;

enum { LEAST_SHIFT = -19 }; // of an addend: rounding has 31 bits

// rounding: of the product and, 11 bits further up, half of 2^-shift
static addend_t addend_of(int32_t multiplier, int32_t shift) {
    uint32_t half = (1u << -shift) >> 1;
    return (addend_t){
        lanes_of(multiplier >> 11), lanes_of(multiplier & 2047),
        lanes_of((int32_t)(1024 + (half << 11))), lanes_of(shift)};
}

// The high half of the doubled product of d << 20 is d * multiplier / 2^11, rounded.
static inline lanes_t lanes_addend(lanes_t d, const addend_t *a) {
    lanes_t low = lanes_add(lanes_mul(d, a->low), a->rounding);
    lanes_t v = lanes_add(lanes_mul(d, a->high), lanes_shift_right(low, 11));
    return lanes_rounded(d, v, a->shift, lanes_of(0));
}

typedef struct {
    addend_t second;
    lanes_t zero, zero2, multiplier, shift, half; // half: of 2^-shift
    lanes_t unit; // what a difference of the larger scale counts
    const edgelora_shape_t *g;
    range_t range;
} sum_t;

// What is known of a sum. Unless it is any, the first operand's multiplier is 1/2 and no shift is
// to the left, so that sums are below 2^29.
typedef struct {
    bool any, even, rectified; // even: the second's multiplier is 1/2, too
} sum_kind_t;

#ifndef EDGELORA_MIXES_FOUR // by the lanes

// Differences of 4 * WIDTH values, and outputs in the same order.
static inline void mixed_load(lanes_t *d, const int8_t *x, lanes_t zero) {
#pragma GCC unroll 4
    for (uint32_t k = 0; k < 4; ++k) {
        d[k] = lanes_sub(lanes_of_s8(x + k * WIDTH), zero);
    }
}

static inline void mixed_store(
    int8_t *to, const lanes_t *v, int8_t zero_point, int8_t low, int8_t high) {
    const range_t range = {zero_point, low, high};
    rows_store(to, WIDTH, v, 4, &range);
}

#endif

static inline __attribute__((always_inline)) void sums_of(
    const sum_t *s, const int8_t *x, const int8_t *x2, int8_t *y, const sum_kind_t kind) {
    lanes_t a[4], b[4];
    mixed_load(a, x, s->zero);
    mixed_load(b, x2, s->zero2);
#pragma GCC unroll 4
    for (uint32_t k = 0; k < 4; ++k) {
        if (kind.any) {
            const int32_t *m = s->g->multiplier;
            const int8_t *shift = s->g->shift;
            lanes_t v = lanes_add(lanes_scaled(lanes_shift_left(a[k], 20), m[0], shift[0]),
                lanes_scaled(lanes_shift_left(b[k], 20), m[1], shift[1]));
            a[k] = lanes_scaled(v, m[2], shift[2]);
        } else {
            lanes_t v = kind.even
                ? lanes_mul(lanes_add(a[k], b[k]), s->unit)
                : lanes_add(lanes_mul(a[k], s->unit), lanes_addend(b[k], &s->second));
            a[k] = (kind.rectified ? lanes_rectified : lanes_requantize)(
                v, s->multiplier, s->shift, s->half);
        }
    }
    mixed_store(y, a, s->range.zero_point, s->range.low, s->range.high);
}

static inline __attribute__((always_inline)) void sums_store(const sum_t *s, const int8_t *x,
    const int8_t *x2, int8_t *y, uint32_t count, const sum_kind_t kind) {
    enum { PART = 4 * WIDTH };
    const sum_t sum = *s;
    uint32_t i = 0;
    for (; i + PART <= count; i += PART) {
        sums_of(&sum, x + i, x2 + i, y + i, kind);
    }
    if (i < count) {
        int8_t rest[3][PART] = {{0}};
        copy_run(rest[0], x + i, count - i);
        copy_run(rest[1], x2 + i, count - i);
        sums_of(&sum, rest[0], rest[1], rest[2], kind);
        copy_run(y + i, rest[2], count - i);
    }
}

static inline bool is_half(const edgelora_shape_t *g, uint32_t operand) {
    return g->multiplier[operand] == 1 << 30 && !g->shift[operand];
}

static void add_forward(const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, int8_t *y) {
    const int8_t *shift = g->shift, *in[2] = {x, x2};
    const int32_t *m = g->multiplier, zero[2] = {g->zp_in, g->zp_in2};
    uint32_t count = g->positions * g->out_c, second = is_half(g, 0), first = 1 - second;
    bool any = !is_half(g, first) || shift[second] > 0 || shift[second] < LEAST_SHIFT ||
        shift[2] > 0;
    if (any) {
        first = 0;
        second = 1;
    }
    int32_t last = any ? 0 : shift[2];
    const sum_t s = {
        addend_of(m[second], any ? 0 : shift[second]), lanes_of(zero[first]),
        lanes_of(zero[second]), lanes_of(m[2]), lanes_of(last),
        lanes_of((int32_t)((1u << -last) >> 1)), lanes_of(1 << 19), g, range_of(g)};
    bool even = !any && is_half(g, second), rectified = !any && is_rectified(g, shift + 2, 1);
    x = in[first];
    x2 = in[second];
    if (any) {
        sums_store(&s, x, x2, y, count, (sum_kind_t){.any = true});
    } else if (even && rectified) {
        sums_store(&s, x, x2, y, count, (sum_kind_t){.even = true, .rectified = true});
    } else if (even) {
        sums_store(&s, x, x2, y, count, (sum_kind_t){.even = true});
    } else if (rectified) {
        sums_store(&s, x, x2, y, count, (sum_kind_t){.rectified = true});
    } else {
        sums_store(&s, x, x2, y, count, (sum_kind_t){0});
    }
}

// Like edgelora_error_add_s8.
static int32_t error_add(int8_t *e, uint32_t count, int32_t exponent, const int8_t *more,
    int32_t more_exponent, bool rounds) {
    int32_t top = exponent > more_exponent ? exponent : more_exponent, shift = top - exponent,
            more_shift = top - more_exponent;
    shift = shift < 7 ? shift : 7; // |e| <= 127
    more_shift = more_shift < 7 ? more_shift : 7;
    const int16_t mask = (int16_t)((1 << shift) - 1), more_mask = (int16_t)((1 << more_shift) - 1);
    int32_t n = 0;
    for (uint32_t pass = 0; pass < 2; ++pass) { // first the magnitude, then the values
        int16_t bits = 0, even = (int16_t)(rounds ? edgelora_block_offset(0, n, 0) : 0),
                odd = (int16_t)(rounds ? edgelora_block_offset(1, n, 0) : 0);
        for (uint32_t i = 0; !pass && i < count; ++i) {
            int16_t a = e[i], b = more[i];
            int16_t v = (int16_t)(((int16_t)(a + (a < 0 ? mask : 0)) >> shift) +
                ((int16_t)(b + (b < 0 ? more_mask : 0)) >> more_shift));
            bits = (int16_t)(bits | (v < 0 ? -v : v));
        }
        for (uint32_t i = 0; pass && i < count; ++i) {
            int16_t a = e[i], b = more[i];
            int16_t v = (int16_t)(((int16_t)(a + (a < 0 ? mask : 0)) >> shift) +
                ((int16_t)(b + (b < 0 ? more_mask : 0)) >> more_shift));
            int16_t magnitude = (int16_t)((v < 0 ? -v : v) + (i & 1 ? odd : even));
            magnitude = (int16_t)(magnitude >> n);
            e[i] = (int8_t)(v < 0 ? -magnitude : magnitude);
        }
        n = pass ? n : bits > 127; // |v| <= 254
    }
    return top + n;
}

// dx = e * m as values of a block, from an even place on; |m| < 2^15.
static void scale_errors(
    int8_t *dx, const int8_t *e, const int32_t *m, uint32_t count, const cut_t *cut) {
    uint32_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH) {
        lanes_t v = lanes_mul(lanes_of_s8(e + i), lanes_load(m + i));
        lanes_t magnitude = lanes_magnitude(v, cut->offset[0], cut->shift);
        lanes_store_s8(dx + i, lanes_signed(magnitude, v));
    }
    for (; i < count; ++i) {
        int32_t v = e[i] * m[i];
        dx[i] = with_sign(edgelora_block_magnitude(v, cut->shift, i, cut->rounds), v);
    }
}

// The cut of values whose largest magnitudes at even and at odd places these are.
static cut_t cut_of_largest(const uint32_t largest[2], bool rounds) {
    int32_t n = 0;
    while (edgelora_block_magnitude((int32_t)largest[0], n, 0, rounds) > 127 ||
        edgelora_block_magnitude((int32_t)largest[1], n, 1, rounds) > 127) {
        ++n;
    }
    return cut_of(n, rounds);
}

// most = max(most, |e|); |e| <= 127
static void most_of(uint8_t *most, const int8_t *e, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
        uint8_t v = (uint8_t)(e[i] < 0 ? -e[i] : e[i]);
        most[i] = v > most[i] ? v : most[i];
    }
}

// largest: of products at even and at odd places. most: of magnitudes, from an even place on
static void largest_of(uint32_t largest[2], const uint8_t *most, const int32_t *m, uint32_t count) {
    for (uint32_t k = 0; k < count; ++k) {
        uint32_t magnitude = most[k] * abs_u32(m[k]);
        largest[k & 1] = magnitude > largest[k & 1] ? magnitude : largest[k & 1];
    }
}

static int32_t add_backward(
    const edgelora_shape_t *g, const edgelora_error_t *error, uint32_t k, int8_t *dx) {
    enum { PART = 256 };
    int32_t factor = ((g->multiplier[k] >> 16) * (g->multiplier[2] >> 16)) >> 15, m[PART];
    uint32_t count = g->positions * g->out_c, largest[2] = {0, 0};
    uint8_t most[PART] = {0};
    for (uint32_t i = 0; i < count; i += PART) {
        most_of(most, error->e + i, lesser(count - i, PART));
    }
    for (uint32_t i = 0; i < PART; ++i) {
        m[i] = factor;
    }
    largest_of(largest, most, m, PART);
    const cut_t cut = cut_of_largest(largest, g->rounds);
    for (uint32_t i = 0; i < count; i += PART) {
        scale_errors(dx + i, error->e + i, m, lesser(count - i, PART), &cut);
    }
    return error->exponent - 15 + 20 + g->shift[k] + g->shift[2] + cut.shift;
}

static void mask_of(const int8_t *y, uint32_t count, int32_t low, int32_t high, uint8_t *mask) {
    uint32_t i = 0;
    if (low < 127 && high > -128 && low + 1 < high) {
        for (; i + 16 <= count; i += 16) {
            uint32_t bits = sixteen_within(y + i, (int8_t)(low + 1), (int8_t)(high - 1));
            *mask++ = (uint8_t)bits;
            *mask++ = (uint8_t)(bits >> 8);
        }
    }
    for (; i < count; i += 8) {
        uint32_t bits = 0;
        for (uint32_t k = 0; k < 8 && i + k < count; ++k) {
            bits |= (uint32_t)(y[i + k] > low && y[i + k] < high) << k;
        }
        *mask++ = (uint8_t)bits;
    }
}

static void mask_backward(int8_t *e, uint32_t count, const uint8_t *mask) {
    uint32_t i = 0;
    for (; i + 8 <= count; i += 8) {
        uint64_t bits = (*mask++ * 0x0101010101010101u) & 0x8040201008040201u, v;
        bits = ((bits + 0x7F7F7F7F7F7F7F7Fu) >> 7 & 0x0101010101010101u) * 255;
        __builtin_memcpy(&v, e + i, 8);
        v &= bits;
        __builtin_memcpy(e + i, &v, 8);
    }
    for (; i < count; ++i) {
        if (!(*mask >> (i & 7) & 1)) {
            e[i] = 0;
        }
    }
}

// What errors at places [from, from + count) of a row are multiplied by: a norm's gains, or output
// multipliers relative to 2^top.
static void factors(
    int32_t *m, const edgelora_shape_t *g, int32_t top, uint32_t from, uint32_t count) {
    for (uint32_t k = 0; k < count; ++k) {
        uint32_t c = (from + k) % g->out_c, at = g->traits & EDGELORA_HAS_WEIGHTS ? c : 0;
        int32_t right = 16 + top - g->shift[at];
        m[k] = g->op->kind == EDGELORA_NORM ? g->taps[c]
            : right > 31                    ? 0
                                            : g->multiplier[at] >> right;
    }
}

static int32_t requantize_backward(const edgelora_shape_t *g, int8_t *e, int32_t exponent) {
    enum { PART = 256 };
    // a row of an odd number of channels lies at an even place once, at an odd one next
    uint32_t row = g->out_c & 1 ? 2u * g->out_c : g->out_c, size = g->positions * g->out_c,
             multipliers = g->traits & EDGELORA_HAS_WEIGHTS ? g->out_c : 1, largest[2] = {0, 0};
    int32_t top = -128, m[PART];
    for (uint32_t k = 0; k < multipliers; ++k) {
        top = g->shift[k] > top ? g->shift[k] : top;
    }
    for (uint32_t c = 0; c < row; c += PART) {
        uint32_t count = lesser(row - c, PART);
        uint8_t most[PART] = {0};
        for (uint32_t i = c; i < size; i += row) {
            most_of(most, e + i, lesser(size - i, count));
        }
        factors(m, g, top, c, count);
        largest_of(largest, most, m, count);
    }
    const cut_t cut = cut_of_largest(largest, g->rounds);
    for (uint32_t c = 0; c < row; c += PART) {
        uint32_t count = lesser(row - c, PART);
        factors(m, g, top, c, count);
        for (uint32_t i = c; i < size; i += row) {
            scale_errors(e + i, e + i, m, lesser(size - i, count), &cut);
        }
    }
    return exponent + cut.shift + (g->op->kind == EDGELORA_NORM ? -top : top - 15);
}

#ifndef NO_POOLS
static bool pool_forward(const edgelora_shape_t *g, const int8_t *x, int8_t *y) {
    enum { PART = 64 };
    const edgelora_op_t *op = g->op;
    for (uint32_t p = 0; p < g->positions; ++p) {
        int32_t top = (int32_t)(p / g->out_w * op->stride_h) - op->pad_top,
                left = (int32_t)(p % g->out_w * op->stride_w) - op->pad_left;
        int32_t y1 = clamp_s32(top + g->kernel_h, 0, g->in_h),
                x1 = clamp_s32(left + g->kernel_w, 0, g->in_w);
        top = top < 0 ? 0 : top;
        left = left < 0 ? 0 : left;
        int32_t elements = (y1 - top) * (x1 - left);
        for (uint32_t c = 0; c < g->out_c; c += PART) {
            uint32_t n = lesser(g->out_c - c, PART);
            int32_t sum[PART] = {0};
            int8_t most[PART];
            __builtin_memset(most, -128, PART);
            for (int32_t iy = top; iy < y1; ++iy) {
                const int8_t *in = x + ((uint32_t)iy * g->in_w + (uint32_t)left) * g->in_c + c;
                for (int32_t ix = left; ix < x1; ++ix, in += g->in_c) {
                    if (op->kind == EDGELORA_MAX_POOL) {
                        for (uint32_t k = 0; k < n; ++k) {
                            most[k] = in[k] > most[k] ? in[k] : most[k];
                        }
                    } else {
                        for (uint32_t k = 0; k < n; ++k) {
                            sum[k] += in[k];
                        }
                    }
                }
            }
            for (uint32_t k = 0; k < n; ++k) {
                int32_t s = sum[k], half = elements / 2;
                if (op->kind == EDGELORA_MEAN) {
                    *y++ = requantize_output(g, s - elements * g->zp_in, 0);
                } else {
                    int32_t v = op->kind == EDGELORA_MAX_POOL ? most[k]
                        : s > 0                               ? (s + half) / elements
                                                              : (s - half) / elements;
                    *y++ = (int8_t)clamp_s32(v, op->act_min, op->act_max);
                }
            }
        }
    }
    return true;
}
#endif

// A block whose values are written in order: `size` of them are.
static block_t block_in_order(const edgelora_shape_t *g, int8_t *dx) {
    return (block_t){dx, 0, g->rounds, true, 0};
}

// Appends values; behind them v is 0 up to whole panels. count: at most BLOCK_ROWS panels
static void block_append(block_t *block, const int32_t *v, uint32_t count) {
    uint32_t places[BLOCK_ROWS], n = count / LANES;
    for (uint32_t k = 0; k <= n && k < BLOCK_ROWS; ++k) {
        places[k] = block->size + k * LANES;
    }
    block->size += count;
    if (n) {
        block_put(block, v, n, places, 1, 0, LANES);
    }
    if (count % LANES) {
        block_put(block, v + n * LANES, 1, places + n, 1, 0, count % LANES);
    }
}

// The first lanes of row [count] from c on, 0 behind it.
static inline lanes_t lanes_of_first(const int8_t *row, uint32_t c, uint32_t count) {
    if (c + WIDTH <= count) {
        return lanes_of_s8(row + c);
    }
    int8_t some[WIDTH] = {0};
    for (uint32_t k = c; k < count; ++k) {
        some[k - c] = row[k];
    }
    return lanes_of_s8(some);
}

// Products of bytes, s8 [count], b less zero, as a block of errors. slope: of b + 128, or NULL: of
// itself
static void products_put(block_t *block, const int8_t *a, const int8_t *b, int32_t zero,
    const int8_t *slope, uint32_t count) {
    enum { PART = 16 * LANES };
    int32_t v[PART];
    int8_t slopes[PART];
    for (uint32_t i = 0; i < count; i += PART) {
        uint32_t n = lesser(count - i, PART);
        for (uint32_t k = 0; slope && k < n; ++k) {
            slopes[k] = slope[b[i + k] + 128];
        }
        const int8_t *factors = slope ? slopes : b + i;
        for (uint32_t k = 0; k < (n + LANES - 1) / LANES * LANES; k += WIDTH) {
            lanes_t factor = lanes_sub(lanes_of_first(factors, k, n), lanes_of(zero));
            lanes_store(v + k, lanes_mul(lanes_of_first(a + i, k, n), factor));
        }
        block_append(block, v, n);
    }
}

static void multiply_forward(
    const edgelora_shape_t *g, const int8_t *a, const int8_t *b, int8_t *y) {
    const lanes_t zero = lanes_of(g->zp_in), zero2 = lanes_of(g->zp_in2);
    const range_t range = range_of(g);
    uint32_t count = g->positions * g->out_c, i = 0;
    for (; i + WIDTH <= count; i += WIDTH) {
        lanes_t v = lanes_mul(
            lanes_sub(lanes_of_s8(a + i), zero), lanes_sub(lanes_of_s8(b + i), zero2));
        v = lanes_scaled(v, g->multiplier[0], g->shift[0]);
        rows_store(y + i, WIDTH, &v, 1, &range);
    }
    for (; i < count; ++i) {
        y[i] = requantize_output(g, (a[i] - g->zp_in) * (b[i] - g->zp_in2), 0);
    }
}

static int32_t multiply_backward(
    const edgelora_shape_t *g, const edgelora_error_t *error, uint32_t k, int8_t *dx) {
    block_t block = block_in_order(g, dx);
    products_put(&block, error->e, k ? error->x : error->x2, k ? g->zp_in : g->zp_in2, 0,
        g->positions * g->out_c);
    return error->exponent + block.shift;
}

static int32_t lookup_backward(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    block_t block = block_in_order(g, dx);
    products_put(&block, error->e, error->x, 0, g->slope, g->positions * g->out_c);
    return error->exponent + g->shift[0] + block.shift;
}

#endif
