// Attention, two products at a time.
// SPDX-License-Identifier: MIT
//
// A word with values a and b, a + 2^16 b, times one with d and c gives a c + b d in its upper half,
// and a d, which rounding removes, in its lower one. A head's keys and values are packed once, for
// all rows of queries.

#include "kernels/attention.h"
#include "kernels/packed/internal.h"

enum { HALF = 1 << 15 };

// RAM is short: these stay in flash, whose cache holds their loops.
#define WARM_KERNEL EDGELORA_WARM __attribute__((noinline))

// A head's rows of keys and values in words; row: words of one.
typedef struct {
    uint32_t *k, *v; // [positions, row]: second value of a pair, first one
    uint32_t *columns; // of v, forward: [row, positions]: first value of a pair, second one
    uint32_t row;
    bool least; // k has a -128: with another one in a query, two products may not fit
} packed_head_t;

// Packs rows of `step` bytes; returns whether one holds -128.
WARM_KERNEL static bool rows_as_words(
    uint32_t *words, const int8_t *x, uint32_t rows, uint32_t step, uint32_t row) {
    bool least = false;
    for (; rows; --rows, x += step) {
        for (const int8_t *v = x, *end = x + 2 * row; v < end; v += 2) {
            *words++ = (uint32_t)v[1] + ((uint32_t)v[0] << 16);
            least |= v[0] == -128 || v[1] == -128;
        }
    }
    return least;
}

// Packs columns c and c + 1 of all rows, one behind the other.
WARM_KERNEL static void columns_as_words(
    uint32_t *words, const int8_t *x, uint32_t rows, uint32_t step, uint32_t row) {
    for (const int8_t *end = x + 2 * row; x < end; x += 2) {
        const int8_t *v = x;
        for (uint32_t j = 0; j < rows; ++j, v += step) {
            *words++ = (uint32_t)v[0] + ((uint32_t)v[1] << 16);
        }
    }
}

// Dot products of x, packed as pairs of first and second value, with rows of words.
WARM_KERNEL static void dots(
    int32_t *out, const uint32_t *x, const uint32_t *words, uint32_t rows, uint32_t row) {
    for (const int32_t *end = out + rows; out != end; ++out) {
        int32_t sum = 0;
        const uint32_t *v = x;
#pragma GCC unroll 4
        for (uint32_t i = 0; i < row; ++i) {
            sum += (int32_t)(*v++ * *words++ + HALF) >> 16;
        }
        *out = sum;
    }
}

// The sums of two columns' products with weights, 0..255.
WARM_KERNEL static void weighted_pair(
    int32_t sum[2], const int32_t *weights, const uint32_t *column, uint32_t rows) {
    int32_t a = 0, b = 0;
#pragma GCC unroll 4
    for (uint32_t j = 0; j < rows; ++j) {
        uint32_t product = (uint32_t)weights[j] * column[j];
        a += (int16_t)product;
        b += (int32_t)(product + HALF) >> 16;
    }
    sum[0] = a;
    sum[1] = b;
}

// sum[c] += factor * x[c]
WARM_KERNEL static void add_times(int32_t *sum, const int32_t *x, int32_t factor, uint32_t n) {
#pragma GCC unroll 4
    for (const int32_t *end = x + n; x != end; ++x) {
        *sum++ += factor * *x;
    }
}

// The sums of two channels' products with the errors of scores. k: words [rows, row], of a channel
// pair on
WARM_KERNEL static void score_pair(
    int32_t sum[2], const int32_t *errors, const uint32_t *k, uint32_t rows, uint32_t row) {
    int32_t a = 0, b = 0;
    for (const int32_t *end = errors + rows; errors != end; ++errors, k += row) {
        b += *errors * (int16_t)*k;
        a += *errors * ((int32_t)(*k + HALF) >> 16);
    }
    sum[0] = a;
    sum[1] = b;
}

// A row of a query or an error as words; returns whether it holds -128.
static bool row_as_words(uint32_t *words, const int8_t *x, uint32_t row) {
    bool least = false;
    for (const uint32_t *end = words + row; words != end; x += 2) {
        *words++ = (uint32_t)x[0] + ((uint32_t)x[1] << 16);
        least |= x[0] == -128 || x[1] == -128;
    }
    return least;
}

static uint32_t head_row(const edgelora_shape_t *g) {
    return g->in_c / g->op->kernel_h / 2u;
}

uint32_t edgelora_attend_packed_scratch(const edgelora_shape_t *g, bool backward) {
    uint32_t row = head_row(g), words = g->positions * row;
    bool even = g->in_c / g->op->kernel_h % 2 == 0;
    return !even   ? 0
        : backward ? 4 * (2 * g->positions + 2 * words + 4 * words)
                   : 4 * (g->positions + 2 * words);
}

// Scores of row i, then its weights.
EDGELORA_WARM static edgelora_attend_row_t row_weights(const edgelora_shape_t *g,
    const packed_head_t *packed, const int8_t *q, const int8_t *k, const int8_t *v, uint32_t head,
    uint32_t i, int32_t *weights) {
    uint32_t words[EDGELORA_MAX_HEAD / 2];
    edgelora_attend_row_t row = edgelora_attend_row(g, q, k, v, head, i, weights);
    if (row_as_words(words, row.q, packed->row) && packed->least) {
        edgelora_attend_scores(&row);
    } else {
        dots(weights, words, packed->k, row.reads, packed->row);
    }
    edgelora_attend_weights(g, &row);
    return row;
}

EDGELORA_WARM void edgelora_attend_forward_packed_s8(const edgelora_shape_t *g, const int8_t *q,
    const int8_t *k, const int8_t *v, int8_t *y, void *scratch) {
    uint32_t heads = g->op->kernel_h, keys = g->op->kernel_w, row = head_row(g),
             words = g->positions * row, step = keys * 2 * row;
    int32_t *weights = scratch;
    packed_head_t packed = {.k = (uint32_t *)scratch + g->positions, .row = row};
    packed.columns = packed.k + words;
    for (uint32_t head = 0; head < heads; ++head) {
        if (head * keys % heads < keys) { // the first head of these keys
            uint32_t at = head * keys / heads * 2 * row;
            packed.least = rows_as_words(packed.k, k + at, g->positions, step, row);
            columns_as_words(packed.columns, v + at, g->positions, step, row);
        }
        int8_t *to = y + head * 2 * row;
        for (uint32_t i = 0; i < g->positions; ++i, to += g->in_c) {
            edgelora_attend_row_t r = row_weights(g, &packed, q, k, v, head, i, weights);
            for (uint32_t c = 0; c < row; ++c) {
                int32_t sum[2];
                weighted_pair(sum, weights, packed.columns + c * g->positions, r.reads);
                to[2 * c] = edgelora_attend_mean(g, &r, sum[0]);
                to[2 * c + 1] = edgelora_attend_mean(g, &r, sum[1]);
            }
        }
    }
}

// Row i's weights as probabilities, and the errors of its scores in w.
EDGELORA_WARM static edgelora_attend_row_t head_errors(const edgelora_shape_t *g,
    const packed_head_t *packed, const edgelora_error_t *error, uint32_t head, uint32_t i,
    int32_t *weights, int32_t *w) {
    uint32_t words[EDGELORA_MAX_HEAD / 2];
    edgelora_attend_row_t row = row_weights(
        g, packed, error->x, error->x2, error->x3, head, i, weights);
    row_as_words(words, error->e + i * g->in_c + head * 2 * packed->row, packed->row);
    dots(w, words, packed->v, row.reads, packed->row);
    edgelora_attend_score_errors(&row, w);
    return row;
}

static void pack_head(
    const edgelora_shape_t *g, packed_head_t *packed, const edgelora_error_t *error, uint32_t key) {
    uint32_t at = key * 2 * packed->row, step = g->op->kernel_w * 2u * packed->row;
    packed->least = rows_as_words(packed->k, error->x2 + at, g->positions, step, packed->row);
    rows_as_words(packed->v, error->x3 + at, g->positions, step, packed->row);
}

// Adds row i's share to the sums of keys and values, and puts the error of its query.
EDGELORA_WARM static void head_backward(const edgelora_shape_t *g, const packed_head_t *packed,
    const edgelora_error_t *error, uint32_t head, uint32_t i, int32_t shift, int32_t *weights,
    int32_t *sums, edgelora_block_t *of_q) {
    int32_t *w = weights + g->positions, q[EDGELORA_MAX_HEAD], e[EDGELORA_MAX_HEAD];
    uint32_t channels = 2 * packed->row, at = i * g->in_c + head * channels;
    int32_t *of_k = sums, *of_v = sums + g->positions * channels;
    edgelora_attend_row_t row = head_errors(g, packed, error, head, i, weights, w);
    for (uint32_t c = 0; c < channels; ++c) {
        q[c] = row.q[c];
        e[c] = error->e[at + c];
    }
    for (uint32_t j = 0; j < row.reads; ++j, of_k += channels, of_v += channels) {
        w[j] = edgelora_attend_score(g, w[j], shift);
        if (w[j]) {
            add_times(of_k, q, w[j], channels);
        }
        int32_t share = edgelora_attend_share(g, weights[j]);
        if (share) {
            add_times(of_v, e, share, channels);
        }
    }
    for (uint32_t c = 0; of_q->q && c < packed->row; ++c) {
        score_pair(q + 2 * c, w, packed->k + c, row.reads, packed->row);
    }
    if (of_q->q) {
        edgelora_block_put(of_q, at, q, channels);
    }
}

EDGELORA_WARM void edgelora_attend_backward_packed_s8(const edgelora_shape_t *g,
    const edgelora_error_t *error, int8_t *const dx[3], int32_t exponent[3]) {
    uint32_t heads = g->op->kernel_h, keys = g->op->kernel_w, row = head_row(g),
             group = heads / keys, words = g->positions * row, bits = 0;
    int32_t *weights = error->scratch, *sums = weights + 2 * g->positions + 2 * words;
    packed_head_t packed = {.k = (uint32_t *)(weights + 2 * g->positions), .row = row};
    packed.v = packed.k + words;
    edgelora_block_t blocks[3];
    edgelora_attend_blocks(g, dx, blocks);
    for (uint32_t key = 0; key < keys; ++key) {
        pack_head(g, &packed, error, key);
        for (uint32_t head = key * group; head < (key + 1) * group; ++head) {
            for (uint32_t i = 0; i < g->positions; ++i) {
                int32_t *w = weights + g->positions;
                edgelora_attend_row_t r = head_errors(g, &packed, error, head, i, weights, w);
                for (uint32_t j = 0; j < r.reads; ++j) {
                    bits |= abs_u32(w[j]);
                }
            }
        }
    }
    int32_t shift = edgelora_attend_shift(bits);
    for (uint32_t key = 0; key < keys; ++key) {
        pack_head(g, &packed, error, key);
        for (uint32_t i = 0; i < 4 * words; ++i) {
            sums[i] = 0;
        }
        for (uint32_t head = key * group; head < (key + 1) * group; ++head) {
            for (uint32_t i = 0; i < g->positions; ++i) {
                head_backward(g, &packed, error, head, i, shift, weights, sums, &blocks[0]);
            }
        }
        edgelora_attend_put(g, &blocks[1], sums, key);
        edgelora_attend_put(g, &blocks[2], sums + 2 * words, key);
    }
    const int32_t shifts[3] = {blocks[0].shift, blocks[1].shift, blocks[2].shift};
    edgelora_attend_exponents(g, error->exponent, shift, shifts, exponent);
}
