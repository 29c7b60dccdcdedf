// Requantizes accumulators to outputs, and scales errors in the backward pass.
// SPDX-License-Identifier: MIT

#include "kernels/packed/internal.h"
#include "training/block.h"

EDGELORA_HOT bool edgelora_biases_within(const edgelora_shape_t *g, int32_t limit) {
    for (uint32_t o = 0; o < g->out_c; ++o) {
        if (g->bias[o] > limit || g->bias[o] < -limit) {
            return false;
        }
    }
    return true;
}

EDGELORA_HOT edgelora_requantize_t edgelora_requantize_of(
    const edgelora_shape_t *g, const int32_t *acc) {
    return (edgelora_requantize_t){
        .acc = acc,
        .step = g->out_c,
        .zero_point = g->zp_out,
        .min = g->op->act_min,
        .max = g->op->act_max};
}

// y, one value every `step`, += requantized sums below EDGELORA_22_BITS; n: 0..31. With the
// multiplier as c * 2^21 + b * 2^11 + a every product fits 32 bits, and floors of floors are
// floors.
EDGELORA_WARM __attribute__((noinline)) static void add_short_outputs(
    int16_t *y, uint32_t step, const int32_t *acc, uint32_t count, int32_t multiplier, int32_t n) {
    int32_t a = (int32_t)((uint32_t)multiplier << 21) >> 21;
    uint32_t rest = (uint32_t)multiplier - (uint32_t)a;
    int32_t b = (int32_t)(rest >> 11 & 1023), c = (int32_t)(rest >> 21);
    for (const int32_t *end = acc + count; acc != end; y += step) {
        int32_t v = *acc++, high = ((v * a >> 11) + v * b) >> 10;
        *y = plus_s16(*y, round_divide((high + v * c + 512) >> 10, n));
    }
}

// Adds the outputs y[o, o + rows) of `count` positions to a stream.
EDGELORA_WARM __attribute__((noinline)) static void add_outputs(
    const edgelora_shape_t *g, uint32_t o, const edgelora_requantize_t *r, int16_t *y) {
    const int32_t *acc = r->acc;
    for (uint32_t end = o + r->rows; o < end; ++o, acc += (r->count + 3) & ~3u) {
        int16_t *to = y + o;
        if (g->bounded && r->in_22_bits) {
            add_short_outputs(to, g->out_c, acc, r->count, g->multiplier[o], -g->shift[o]);
            continue;
        }
        for (uint32_t p = 0; p < r->count; ++p, to += g->out_c) {
            *to = plus_s16(*to, requantize(acc[p], g->multiplier[o], g->shift[o]));
        }
    }
}

EDGELORA_HOT void edgelora_requantize_outputs_s8(
    const edgelora_shape_t *g, uint32_t o, edgelora_requantize_t *r, int8_t *y) {
    if (EDGELORA_ATTENTION && g->op->kind == EDGELORA_PROJECT) {
        add_outputs(g, o, r, (int16_t *)(void *)y);
        return;
    }
    if (g->bounded) {
        r->multiplier = g->multiplier + o;
        r->shift = g->shift + o;
        r->y = y + o;
        edgelora_requantize_rows_s8(r);
        return;
    }
    const int32_t *acc = r->acc;
    for (uint32_t end = o + r->rows; o < end; ++o, acc += (r->count + 3) & ~3u) {
        for (uint32_t p = 0; p < r->count; ++p) {
            y[p * g->out_c + o] = requantize_output(g, acc[p], o);
        }
    }
}

// A value's multiplier, Q15 relative to 2^top; of a norm its gain.
static inline int32_t shared_multiplier(const edgelora_shape_t *g, uint32_t k, int32_t top) {
    return EDGELORA_ATTENTION && g->op->kind == EDGELORA_NORM
        ? g->taps[k]
        : g->multiplier[k] >> at_most_31(16 + top - g->shift[k]);
}

// Does any magnitude in a column, times m, reach `least`? end: rows * step.
EDGELORA_KERNEL static bool column_reaches(
    const int8_t *e, uint32_t step, uint32_t end, int32_t m, int32_t least) {
    for (uint32_t i = 0; i < end; i += step) {
        int32_t v = e[i] * m;
        if (v >= least || v <= -least) {
            return true;
        }
    }
    return false;
}

// edgelora_columns_bits_s8 for one column.
EDGELORA_KERNEL static uint32_t column_bits(const int8_t *e, uint32_t step, uint32_t rows) {
    int32_t bits = 0;
    for (; rows; --rows, e += step) {
        bits |= *e ^ 2 * *e;
    }
    return (uint32_t)bits;
}

// A tensor of errors by columns; each column has one multiplier.
typedef struct {
    const edgelora_shape_t *g;
    int8_t *e;
    uint32_t channels, rows;
    int32_t top;   // maximum of the multipliers' shifts
    uint32_t four; // bits of the group of column c: of c and the columns after it
    bool one;      // all columns have the first multiplier
} scaled_t;

// 2^h of column c, 1 if it has no h. Call it for ascending columns.
EDGELORA_KERNEL static uint32_t column_bound(scaled_t *s, uint32_t c) {
    if (s->channels & 3) {
        s->four = column_bits(s->e + c, s->channels, s->rows);
    } else {
        s->four = c & 3 ? s->four >> 8 : edgelora_columns_bits_s8(s->e + c, s->channels, s->rows);
    }
    uint32_t bits = s->four & 0xFE;
    bits |= bits >> 1;
    bits |= bits >> 2;
    bits |= bits >> 4;
    return (bits + 1) >> 1 | (uint32_t)!bits;
}

// The bit length of the largest |e * m|. A column's largest product has the bit length of its bound
// or one less; the column is only scanned if that matters.
EDGELORA_KERNEL static int32_t product_bits(scaled_t *s) {
    uint32_t end = s->rows * s->channels;
    int32_t bits = 0;
    for (uint32_t c = 0; c < s->channels; ++c) {
        int32_t bound = (int32_t)column_bound(s, c), m = shared_multiplier(s->g, c, s->top);
        if (!(bound * m >> bits)) {
            continue;
        }
        int32_t most = bit_length((uint32_t)(bound * m));
        if (column_reaches(s->e + c, s->channels, end, m, 1 << (most - 1))) {
            bits = most;
        } else if (bound > 1) { // otherwise the column may be 0
            bits = most - 1;
        }
    }
    return bits;
}

// Scales a single row; returns the number of bits by which the products are shifted right.
EDGELORA_KERNEL static int32_t scale_row(const scaled_t *s) {
    const int32_t *multiplier = s->g->multiplier;
    const int8_t *shift = s->g->shift;
    int32_t top = s->top + 16, n = 0;
    uint32_t all = 0;
    for (int8_t *e = s->e, *end = e + s->channels; e != end; ++e) {
        int32_t m = *multiplier++ >> at_most_31(top - *shift++);
        all |= abs_u32(*e * m);
    }
    n = bit_length(all) - 7;
    n = n < 0 ? 0 : n;
    int32_t mask = shift_mask(n);
    multiplier = s->g->multiplier;
    shift = s->g->shift;
    for (int8_t *e = s->e, *end = e + s->channels; e != end; ++e) {
        int32_t m = *multiplier++ >> at_most_31(top - *shift++);
        *e = (int8_t)trunc_mask(*e * m, n, mask);
    }
    return n;
}

// The same for columns of several rows.
EDGELORA_HOT static int32_t scale_columns(scaled_t *s) {
    int32_t n = product_bits(s) - 7;
    n = n < 0 ? 0 : n; // at most 15
    for (uint32_t c = 0; c < s->channels; ++c) {
        // bits shifted out at the top belong to products that do not occur
        uint32_t m = (uint32_t)shared_multiplier(s->g, c, s->top) << (24 - n);
        edgelora_scale_column_s8(s->e + c, s->channels, s->rows, (int32_t)m);
    }
    return n;
}

// A multiplier of any sign.
static inline int32_t rounded_multiplier(const scaled_t *s, uint32_t c) {
    return shared_multiplier(s->g, s->one ? 0 : c, s->top);
}

// Values of a column that are at even places, or at odd ones.
typedef struct {
    int8_t *e;
    const int8_t *end;
    uint32_t step, place; // place: of the first one
} half_column_t;

// k: 0, or 1 for the other half of the column of an odd number of channels
static half_column_t half_column(const scaled_t *s, uint32_t c, uint32_t k) {
    uint32_t place = c + k * s->channels;
    return (half_column_t){
        s->e + place, s->e + s->rows * s->channels, s->channels << (s->channels & 1), place & 1};
}

EDGELORA_WARM __attribute__((noinline)) static uint32_t largest_of_half(const half_column_t *h) {
    uint32_t most = 0;
    for (const int8_t *e = h->e, *end = h->end; e < end; e += h->step) {
        uint32_t magnitude = abs_u32(*e);
        most = magnitude > most ? magnitude : most;
    }
    return most;
}

// The largest magnitudes of four columns, a byte each. e: 4-aligned; |e| <= 127
EDGELORA_WARM __attribute__((noinline)) static uint32_t largest_of_columns(
    const int8_t *e, uint32_t step, uint32_t rows) {
    const uint32_t each = 0x01010101, top = 0x80808080;
    uint32_t most = 0;
    for (; rows; --rows, e += step) {
        uint32_t word = *(const uint32_t *)(const void *)e, sign = word >> 7 & each,
                 magnitude = (word ^ ((sign << 8) - sign)) + sign,
                 larger = ((magnitude | top) - most) >> 7 & each;
        most ^= (most ^ magnitude) & ((larger << 8) - larger);
    }
    return most;
}

// The same as largest_products, of whole groups of columns.
EDGELORA_WARM static void largest_of_groups(scaled_t *s, uint32_t largest[2]) {
    for (uint32_t c = 0; c < s->channels; c += 4) {
        uint32_t four = largest_of_columns(s->e + c, s->channels, s->rows);
        for (uint32_t k = 0; k < 4; ++k, four >>= 8) {
            uint32_t most = (four & 255) * abs_u32(rounded_multiplier(s, c + k));
            largest[k & 1] = most > largest[k & 1] ? most : largest[k & 1];
        }
    }
}

// The largest magnitudes of values at even and at odd places, each times its channel's multiplier.
EDGELORA_WARM static void largest_products(scaled_t *s, uint32_t largest[2]) {
    for (uint32_t c = 0; c < s->channels; ++c) {
        uint32_t m = abs_u32(rounded_multiplier(s, c)), bound = column_bound(s, c) * m;
        for (uint32_t k = 0; k <= (s->channels & 1); ++k) {
            half_column_t half = half_column(s, c, k);
            if (bound > largest[half.place]) {
                uint32_t most = largest_of_half(&half) * m;
                largest[half.place] = most > largest[half.place] ? most : largest[half.place];
            }
        }
    }
}

// e, of a half column, = e * m with its magnitude rounded: (magnitude + offset) >> n
EDGELORA_WARM __attribute__((noinline)) static void scale_half(
    const half_column_t *h, int32_t m, int32_t n, int32_t offset) {
    int32_t negative = shift_mask(n) - 2 * offset;
    uint32_t step = h->step;
    int8_t *e = h->e;
#pragma GCC unroll 2
    for (int32_t i = 0, end = (int32_t)(h->end - e); i < end; i += (int32_t)step) {
        int32_t v = e[i] * m;
        e[i] = (int8_t)((v + (v >> 31 & negative) + offset) >> n);
    }
}

// Scales and rounds all values.
EDGELORA_WARM __attribute__((noinline)) static int32_t scale_rounded(scaled_t *s) {
    uint32_t largest[2] = {0, 0};
    if (s->channels % 4 == 0) {
        largest_of_groups(s, largest);
    } else {
        largest_products(s, largest);
    }
    uint32_t top = largest[0] > largest[1] ? largest[0] : largest[1];
    int32_t n = edgelora_block_more(top);
    n += edgelora_block_magnitude((int32_t)largest[0], n, 0, true) > 127 ||
        edgelora_block_magnitude((int32_t)largest[1], n, 1, true) > 127;
    for (uint32_t c = 0; c < s->channels; ++c) {
        for (uint32_t k = 0; k <= (s->channels & 1); ++k) {
            half_column_t half = half_column(s, c, k);
            scale_half(&half, rounded_multiplier(s, c), n,
                (int32_t)edgelora_block_offset(half.place, n, 0));
        }
    }
    return n;
}

EDGELORA_HOT int32_t edgelora_requantize_backward_packed_s8(
    const edgelora_shape_t *g, int8_t *e, int32_t exponent) {
    bool norm = g->op->kind == EDGELORA_NORM, each = norm || (g->traits & EDGELORA_HAS_WEIGHTS);
    uint32_t count = g->positions * g->out_c;
    bool rounds = EDGELORA_ATTENTION && g->rounds;
    // a tensor with a single multiplier counts as one column, or as four
    bool four = !each && rounds && count % 4 == 0;
    scaled_t s = {
        .g = g,
        .e = e,
        .channels = each ? g->out_c
            : four       ? 4
                         : 1,
        .top = -128,
        .one = !each};
    s.rows = count / s.channels;
    for (uint32_t c = 0; c < (each && !norm ? s.channels : 1); ++c) {
        s.top = g->shift[c] > s.top ? g->shift[c] : s.top;
    }
    int32_t n = rounds ? scale_rounded(&s) : s.rows == 1 ? scale_row(&s) : scale_columns(&s);
    return exponent + n + (norm ? -s.top : s.top - 15);
}
