// Loops of attention.
// SPDX-License-Identifier: MIT

#include "kernels/packed/attend_head.h"

static const uint32_t zero_row[EDGELORA_MAX_HEAD / 4];

WARM_KERNEL bool edgelora_has_least_s8(const int8_t *x, uint32_t n) {
    const uint32_t *word = (const uint32_t *)(const void *)x;
    uint32_t found = 0;
    for (const uint32_t *end = word + n / 4; word != end; ++word) {
        found |= (*word & ~((*word & 0x7F7F7F7Fu) + 0x7F7F7F7Fu)) & 0x80808080u;
    }
    return found;
}

const int8_t *edgelora_attend_row_or_zeros(
    const edgelora_attend_head_t *h, const int8_t *x, uint32_t row) {
    return row < h->g->positions ? x + row * h->g->op->kernel_w * h->channels
                                 : (const int8_t *)zero_row;
}

WARM_KERNEL bool edgelora_attend_has_least(const edgelora_attend_head_t *h, const int8_t *x) {
    bool least = false;
    for (uint32_t j = 0; j < h->g->positions && !least; ++j) {
        least = edgelora_has_least_s8(edgelora_attend_row_or_zeros(h, x, j), h->channels);
    }
    return least;
}

WARM_KERNEL void edgelora_attend_pack_rows(const edgelora_attend_head_t *h, uint32_t *quads,
    const int8_t *x, uint32_t from, uint32_t count) {
    for (uint32_t j = 0; j < count; ++j) {
        edgelora_pack_quad_s8(quads + EDGELORA_GROUP_WORDS * (j >> 2) * h->groups + (j & 3),
            edgelora_attend_row_or_zeros(h, x, from + j), h->groups);
    }
}

WARM_KERNEL void edgelora_attend_pack_columns(
    const edgelora_attend_head_t *h, uint32_t *quads, const int8_t *x) {
    for (uint32_t j = 0; j < h->rows; j += 4, quads += EDGELORA_GROUP_WORDS) {
        const int8_t *rows[4];
        for (uint32_t k = 0; k < 4; ++k) {
            rows[k] = edgelora_attend_row_or_zeros(h, x, j + k);
        }
        edgelora_pack_columns_s8(quads, EDGELORA_GROUP_BYTES * (h->rows >> 2), rows, h->groups);
    }
}

WARM_KERNEL void edgelora_attend_add_row(
    int32_t *sums, const int8_t *x, uint32_t n, int32_t times) {
    for (const int32_t *end = sums + n; sums != end; ++sums) {
        *sums += times * *x++;
    }
}

WARM_KERNEL void edgelora_attend_subtract(
    int32_t *scores, const int8_t *x, uint32_t step, uint32_t n) {
    for (const int32_t *end = scores + n; scores != end; ++scores, x += step) {
        *scores -= *x;
    }
}

WARM_KERNEL uint32_t edgelora_attend_put_weights(
    const edgelora_shape_t *g, const int32_t *scores, uint32_t n, uint32_t far, uint8_t *to) {
    uint32_t factor = (uint32_t)g->multiplier[0], sum = 0;
    int32_t top = INT32_MIN, shift = g->shift[0];
    const int32_t *end = scores + n;
    for (const int32_t *s = scores; s != end; ++s) {
        top = *s > top ? *s : top;
    }
    for (const int32_t *s = scores; s != end; ++s) {
        uint32_t below = (uint32_t)(top - *s), weight = 0;
        if (below < far) {
            weight = (uint32_t)edgelora_exponential(below * factor >> shift);
            sum += weight;
        }
        *to++ = (uint8_t)weight;
    }
    return sum;
}

WARM_KERNEL void edgelora_attend_put_products(
    int16_t *to, const int32_t *v, uint32_t n, int32_t shift) {
    int32_t mask = shift_mask(shift);
    for (const int32_t *end = v + n; v != end; ++v) {
        *to++ = (int16_t)trunc_mask(*v, shift, mask);
    }
}

// A weight 0..255 as a probability, with the parts of its row's scale.
static inline int32_t probability_of(uint32_t weight, uint32_t inverse, uint32_t shift) {
    return (int32_t)(((weight * inverse >> (shift - 1)) + 1) >> 1);
}

WARM_KERNEL void edgelora_attend_put_shares(const edgelora_shape_t *g, int16_t *to,
    const uint8_t *weights, uint32_t n, uint32_t scale, int32_t shift) {
    uint32_t inverse = scale >> 8, by = scale & 255;
    for (const uint8_t *end = weights + n; weights != end; ++weights) {
        *to++ = (int16_t)edgelora_attend_share(g, probability_of(*weights, inverse, by), shift);
    }
}

WARM_KERNEL int32_t edgelora_attend_mean_product(
    int32_t *p, const uint8_t *weights, const int16_t *products, uint32_t n, uint32_t scale) {
    uint32_t inverse = scale >> 8, by = scale & 255;
    int32_t mean = 0; // |mean| < 2^30
    for (const uint8_t *end = weights + n; weights != end; ++weights) {
        *p = probability_of(*weights, inverse, by);
        mean += *p++ * *products++;
    }
    return trunc_shift(mean, 15);
}

WARM_KERNEL uint32_t edgelora_attend_bits(
    const int32_t *p, const int16_t *products, uint32_t n, int32_t mean) {
    uint32_t bits = 0;
    for (const int32_t *end = p + n; p != end; ++p) {
        bits |= abs_u32(*p * (*products++ - mean));
    }
    return bits;
}

WARM_KERNEL void edgelora_attend_put_scores(const edgelora_shape_t *g, const int32_t *p,
    int16_t *scores, uint32_t n, int32_t mean, int32_t shift) {
    int32_t by = shift < 31 ? shift : 31, mask = shift_mask(by), multiplier = g->multiplier[2];
    for (const int32_t *end = p + n; p != end; ++p, ++scores) { // |w| < 2^31
        int32_t w = trunc_mask(*p * (*scores - mean), by, mask) * multiplier;
        *scores = (int16_t)trunc_mask(w, 15, 0x7FFF);
    }
}

WARM_KERNEL void edgelora_attend_put_values(const edgelora_attend_values_t *v, int32_t *room) {
    for (uint32_t i = 0; i < align4(v->rows); ++i, room += 4) {
        const int8_t *x = v->x + i * v->step + 4 * v->first;
        int32_t *to = room;
        for (uint32_t n = v->groups; n; --n, x += 4, to += v->bytes / 4) {
            int32_t a = 0, b = 0, c = 0, d = 0;
            if (i < v->rows) {
                a = x[0];
                b = x[1];
                c = x[2];
                d = x[3];
            }
            to[0] = a;
            to[1] = b;
            to[2] = c;
            to[3] = d;
        }
    }
}

WARM_KERNEL uint32_t edgelora_attend_column(
    int32_t *to, const int16_t *from, uint32_t step, uint32_t more, uint32_t n) {
    const int32_t *start = to;
    for (; n >= 4; n -= 4, to += 4, step += more) {
        int32_t a = *from, b, c, d;
        from += step;
        b = *from;
        from += step;
        c = *from;
        from += step;
        d = *from;
        from += step;
        to[0] = a;
        to[1] = b;
        to[2] = c;
        to[3] = d;
    }
    for (uint32_t r = 0; n && r < 4; ++r, from += step) {
        *to++ = r < n ? *from : 0;
    }
    return (uint32_t)(to - start);
}

WARM_KERNEL void edgelora_attend_row_of_scores(int32_t *to, const int16_t *scores, uint32_t n) {
    for (const int16_t *end = scores + n; scores != end; scores += 4, to += 4) {
        int32_t a = scores[0], b = scores[1], c = scores[2], d = scores[3];
        to[0] = a;
        to[1] = b;
        to[2] = c;
        to[3] = d;
    }
}
