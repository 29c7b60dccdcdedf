// Attention on the tile product.
// SPDX-License-Identifier: MIT
//
//   scores   rows of queries        x  rows of keys as positions
//   outputs  weights of four rows   x  columns of values as positions
//   errors   rows of errors         x  rows of values as positions, backward
//
// A head's keys and values are packed once, for all rows of queries. Four rows, a *block*, go
// through a tile together. Weights are 0..255 less 127, so that two products fit a pair.

#include "kernels/attention.h"
#include "kernels/packed/internal.h"

// RAM is short: these stay in flash, whose cache holds their loops.
#define WARM_KERNEL EDGELORA_WARM __attribute__((noinline))

enum { ATTEND_ROWS = 4, MIDDLE_WEIGHT = 127, ATTEND_BYTES = 49152 };

static const int32_t no_score_bias[ATTEND_ROWS];
static const uint32_t zero_row[EDGELORA_MAX_HEAD / 4];

// One head of an attend.
typedef struct {
    const edgelora_shape_t *g;
    uint32_t channels, groups; // of the head: a multiple of 4, its groups
    uint32_t rows;             // positions, padded to whole quads
    uint32_t *k, *v;           // quads of the rows of keys and values; forward: of v's columns
    int32_t *weights;          // s32 [ATTEND_ROWS, rows]
    int32_t *products; // forward: s32 [ATTEND_ROWS, channels]; backward: s32 [ATTEND_ROWS, rows]
    int32_t *sums; // forward: s32 [channels]; backward: s32 [rows, channels]
    int32_t *values; // backward: s32 [groups, ATTEND_ROWS, 4]
    // k has a -128: with another one in a query, two products may not fit; v has one: neither do
    // they with two weights of 255
    bool k_least, v_least;
} attend_head_t;

static uint32_t block_rows(const attend_head_t *h, uint32_t i) {
    return at_most(h->g->positions - i, ATTEND_ROWS);
}

// Rows of keys that a block reads, padded to whole quads.
static uint32_t block_reads(const attend_head_t *h, uint32_t i) {
    return h->g->op->flags & EDGELORA_CAUSAL ? i + ATTEND_ROWS : h->rows;
}

// Words of the parts of the scratch memory, in the order of attend_head_t.
typedef struct {
    uint32_t quads, weights, products, sums, values;
} attend_sizes_t;

static attend_sizes_t attend_sizes(const edgelora_shape_t *g, bool backward) {
    uint32_t channels = g->in_c / g->op->kernel_h, rows = align4(g->positions);
    return (attend_sizes_t){
        .quads = rows * channels / 2,
        .weights = ATTEND_ROWS * rows,
        .products = ATTEND_ROWS * (backward ? rows : channels),
        .sums = backward ? rows * channels : channels,
        .values = backward ? ATTEND_ROWS * channels : 0};
}

static attend_head_t attend_head(const edgelora_shape_t *g, void *scratch, bool backward) {
    attend_sizes_t size = attend_sizes(g, backward);
    uint32_t channels = g->in_c / g->op->kernel_h;
    attend_head_t h = {
        .g = g, .channels = channels, .groups = channels / 4, .rows = align4(g->positions)};
    h.k = scratch;
    h.v = h.k + size.quads;
    h.weights = (int32_t *)h.v + size.quads;
    h.products = h.weights + size.weights;
    h.sums = h.products + size.products;
    h.values = h.sums + size.sums;
    return h;
}

uint32_t edgelora_attend_packed_scratch(const edgelora_shape_t *g, bool backward) {
    attend_sizes_t size = attend_sizes(g, backward);
    uint32_t bytes = 4 * (2 * size.quads + size.weights + size.products + size.sums + size.values);
    return g->in_c / g->op->kernel_h % 4 || bytes > ATTEND_BYTES ? 0 : bytes;
}

WARM_KERNEL bool edgelora_has_least_s8(const int8_t *x, uint32_t n) {
    const uint32_t *word = (const uint32_t *)(const void *)x;
    uint32_t found = 0;
    for (const uint32_t *end = word + n / 4; word != end; ++word) {
        found |= (*word & ~((*word & 0x7F7F7F7Fu) + 0x7F7F7F7Fu)) & 0x80808080u;
    }
    return found;
}

static const int8_t *row_or_zeros(const attend_head_t *h, const int8_t *x, uint32_t row) {
    return row < h->g->positions ? x + row * h->g->op->kernel_w * h->channels
                                 : (const int8_t *)zero_row;
}

// Packs a head's rows; returns whether one holds -128.
WARM_KERNEL static bool pack_head_rows(const attend_head_t *h, uint32_t *quads, const int8_t *x) {
    bool least = false;
    for (uint32_t j = 0; j < h->rows; ++j) {
        const int8_t *row = row_or_zeros(h, x, j);
        least = least || edgelora_has_least_s8(row, h->channels);
        edgelora_pack_quad_s8(
            quads + EDGELORA_GROUP_WORDS * (j >> 2) * h->groups + (j & 3), row, h->groups);
    }
    return least;
}

// Packs the columns of a head's values; returns whether one holds -128.
WARM_KERNEL static bool pack_value_columns(const attend_head_t *h, const int8_t *x) {
    bool least = false;
    for (uint32_t j = 0; j < h->rows; j += 4) {
        const int8_t *rows[4];
        for (uint32_t k = 0; k < 4; ++k) {
            rows[k] = row_or_zeros(h, x, j + k);
            least = least || edgelora_has_least_s8(rows[k], h->channels);
        }
        edgelora_pack_columns_s8(h->v + EDGELORA_GROUP_WORDS * (j >> 2),
            EDGELORA_GROUP_BYTES * (h->rows >> 2), rows, h->groups);
    }
    return least;
}

// Products of a block's rows, s8 from `x` on, with the first `reads` rows of quads.
static void block_products(const attend_head_t *h, const int8_t *x, const uint32_t *quads,
    uint32_t i, uint32_t reads, int32_t *products) {
    edgelora_tile_product_t tile = {
        .x = quads,
        .acc = products,
        .count = reads,
        .weights = x + i * h->g->in_c,
        .groups = h->groups,
        .coding = (uint32_t)EDGELORA_SIGNED,
        .bias = no_score_bias,
        .rows = block_rows(h, i),
        .gap = h->g->in_c - h->channels};
    edgelora_tile_product_s8(&tile);
}

// The weights of a block's rows from their scores.
static void block_weights(const attend_head_t *h, const int8_t *const x[3], uint32_t head,
    uint32_t i, edgelora_attend_row_t rows[ATTEND_ROWS]) {
    uint32_t reads = block_reads(h, i);
    block_products(h, x[0] + head * h->channels, h->k, i, reads, h->weights);
    for (uint32_t r = 0; r < block_rows(h, i); ++r) {
        edgelora_attend_row_t *row = &rows[r];
        *row = edgelora_attend_row(h->g, x, head, i + r, h->weights + r * reads);
        if (h->k_least && edgelora_has_least_s8(row->q, h->channels)) {
            edgelora_attend_scores(row);
        }
        edgelora_attend_weights(h->g, row);
    }
}

// A row's weights as pairs, in place or before.
WARM_KERNEL static void weights_as_pairs(
    uint32_t *to, int32_t *weights, uint32_t reads, uint32_t padded) {
    for (; reads < padded; ++reads) {
        weights[reads] = MIDDLE_WEIGHT;
    }
    for (const int32_t *w = weights, *end = weights + padded; w != end; w += 4) {
        uint32_t a = (uint32_t)w[0] - MIDDLE_WEIGHT, b = (uint32_t)w[1] - MIDDLE_WEIGHT,
                 c = (uint32_t)w[2] - MIDDLE_WEIGHT, d = (uint32_t)w[3] - MIDDLE_WEIGHT;
        *to++ = pair(a, c);
        *to++ = pair(b, d);
    }
}

static void add_row_s32(int32_t *sum, const int8_t *x, uint32_t n) {
    for (const int32_t *end = sum + n; sum != end; ++sum) {
        *sum += *x++;
    }
}

// Weights of 255 become 254, and their values the first part of a row's products.
WARM_KERNEL static void take_out_largest(
    const attend_head_t *h, const edgelora_attend_row_t *row, int32_t *products) {
    for (uint32_t c = 0; c < h->channels; ++c) {
        products[c] = 0;
    }
    for (uint32_t j = 0; j < row->reads; ++j) {
        if (row->weights[j] == 255) {
            row->weights[j] = 254;
            add_row_s32(products, row->v + j * row->step, h->channels);
        }
    }
}

// The outputs of a row from its products with weights less 127, which are lost.
static void row_outputs(
    const attend_head_t *h, const edgelora_attend_row_t *row, int32_t *products, int8_t *y) {
    for (uint32_t c = 0; c < h->channels; ++c) { // |sum| <= 2^15 * 2^8
        products[c] = (products[c] + MIDDLE_WEIGHT * h->sums[c]) * (1 << row->shift);
    }
    int32_t multiplier = (int32_t)(row->mean << 15);
    int8_t shift = (int8_t)(h->g->shift[1] - 15);
    edgelora_requantize_t requantize = {
        .acc = products,
        .count = h->channels,
        .rows = 1,
        .step = 1,
        .multiplier = &multiplier,
        .shift = &shift,
        .y = y,
        .min = -128,
        .max = 127};
    edgelora_requantize_rows_s8(&requantize);
}

// The outputs of a block, whose rows are `rows`.
static void block_outputs(
    const attend_head_t *h, const edgelora_attend_row_t *rows, uint32_t i, int8_t *y) {
    uint32_t reads = block_reads(h, i), count = block_rows(h, i);
    uint32_t *pairs = (uint32_t *)(void *)h->weights;
    for (uint32_t r = 0; r < count; ++r) {
        if (h->v_least) {
            take_out_largest(h, &rows[r], h->products + r * h->channels);
        }
        weights_as_pairs(pairs + r * reads / 2, rows[r].weights, rows[r].reads, reads);
    }
    edgelora_tile_product_t tile = {
        .x = h->v,
        .acc = h->products,
        .count = h->channels,
        .weights = pairs,
        .coding = EDGELORA_PAIRS,
        .bias = no_score_bias,
        .add = h->v_least,
        .rows = count};
    edgelora_tile_product_chunks_s8(&tile, reads / 4, EDGELORA_GROUP_BYTES * (h->rows / 4));
    for (uint32_t r = 0; r < count; ++r, y += h->g->in_c) {
        if (h->g->op->flags & EDGELORA_CAUSAL) {
            add_row_s32(h->sums, rows[r].v + (i + r) * rows[r].step, h->channels);
        }
        row_outputs(h, &rows[r], h->products + r * h->channels, y);
    }
}

static bool heads_are_aligned(const int8_t *const x[3]) {
    return is_aligned(x[0]) && is_aligned(x[1]) && is_aligned(x[2]);
}

static bool is_first_of_key(const edgelora_shape_t *g, uint32_t head) {
    return head * g->op->kernel_w % g->op->kernel_h < g->op->kernel_w;
}

EDGELORA_WARM bool edgelora_attend_forward_packed_s8(const edgelora_shape_t *g,
    const int8_t *const x[3], int8_t *y, void *scratch, edgelora_range_t heads) {
    attend_head_t h = attend_head(g, scratch, false);
    if (!heads_are_aligned(x)) {
        return false;
    }
    y += heads.from * h.channels;
    for (uint32_t head = heads.from; head < heads.to; ++head, y += h.channels) {
        uint32_t at = head * g->op->kernel_w / g->op->kernel_h * h.channels;
        if (head == heads.from || is_first_of_key(g, head)) {
            h.k_least = pack_head_rows(&h, h.k, x[1] + at);
            h.v_least = pack_value_columns(&h, x[2] + at);
        }
        for (uint32_t c = 0; c < h.channels; ++c) {
            h.sums[c] = 0;
        }
        for (uint32_t j = 0; j < g->positions && !(g->op->flags & EDGELORA_CAUSAL); ++j) {
            add_row_s32(h.sums, row_or_zeros(&h, x[2] + at, j), h.channels);
        }
        for (uint32_t i = 0; i < g->positions; i += ATTEND_ROWS) {
            edgelora_attend_row_t rows[ATTEND_ROWS];
            block_weights(&h, x, head, i, rows);
            block_outputs(&h, rows, i, y + i * g->in_c);
        }
    }
    return true;
}

// A block's weights as probabilities, and the errors of its scores in `products`.
static void block_errors(const attend_head_t *h, const edgelora_error_t *error, uint32_t head,
    uint32_t i, edgelora_attend_row_t rows[ATTEND_ROWS]) {
    const int8_t *const x[3] = {error->x, error->x2, error->x3};
    uint32_t reads = block_reads(h, i);
    block_weights(h, x, head, i, rows);
    block_products(h, error->e + head * h->channels, h->v, i, reads, h->products);
    for (uint32_t r = 0; r < block_rows(h, i); ++r) {
        edgelora_attend_score_errors(&rows[r], h->products + r * reads);
    }
}

// A block's rows, s8 from x on, as s32 [groups, ATTEND_ROWS, 4], with zeros for those that it does
// not have.
WARM_KERNEL static void block_values(const attend_head_t *h, const int8_t *x, uint32_t i) {
    x += i * h->g->in_c;
    for (uint32_t r = 0; r < ATTEND_ROWS; ++r, x += h->g->in_c) {
        int32_t *to = h->values + 4 * r;
        bool is = r < block_rows(h, i);
        for (uint32_t c = 0; c < h->channels; c += 4, to += 4 * ATTEND_ROWS) {
            to[0] = is ? x[c] : 0;
            to[1] = is ? x[c + 1] : 0;
            to[2] = is ? x[c + 2] : 0;
            to[3] = is ? x[c + 3] : 0;
        }
    }
}

// sums, s32 [reads, channels], += the block's factors, s32 [reads, ATTEND_ROWS], times its values.
static void add_block(const attend_head_t *h, const int32_t *factors, uint32_t reads) {
    edgelora_add_outer_s32(h->sums, factors, h->values, reads, h->groups);
}

// Adds the values' errors of a block to the sums; returns the OR of its scores' errors.
WARM_KERNEL static uint32_t block_value_errors(const attend_head_t *h,
    const edgelora_attend_row_t *rows, const edgelora_error_t *error, uint32_t i) {
    // a block's rows are of one group
    uint32_t bits = 0, reads = block_reads(h, i);
    int32_t lower = edgelora_attend_lower(error, i), shift = edgelora_attend_share_shift(lower);
    for (uint32_t r = 0; r < block_rows(h, i); ++r) {
        const int32_t *w = h->products + r * reads;
        for (const int32_t *end = w + rows[r].reads; w != end; ++w) {
            bits |= abs_u32(*w);
        }
    }
    for (uint32_t r = 0; r < ATTEND_ROWS; ++r) {
        const int32_t *p = h->weights + r * reads;
        int32_t *share = h->products + r;
        uint32_t n = r < block_rows(h, i) ? rows[r].reads : 0;
        for (uint32_t j = 0; j < reads; ++j, share += ATTEND_ROWS) {
            *share = j < n ? edgelora_attend_share(h->g, p[j], shift) : 0;
        }
    }
    add_block(h, h->products, reads);
    return bits >> lower;
}

// Adds the keys' errors of a block to the sums and puts those of its queries. k: words
WARM_KERNEL static void block_key_errors(const attend_head_t *h, const edgelora_attend_row_t *rows,
    uint32_t head, uint32_t i, edgelora_attend_part_t *part) {
    uint32_t reads = block_reads(h, i);
    int32_t q[EDGELORA_MAX_HEAD], shift = part->shift + edgelora_attend_lower(part->error, i);
    for (uint32_t r = 0; r < ATTEND_ROWS; ++r) {
        int32_t *w = h->products + r * reads, *score = h->weights + r;
        uint32_t n = r < block_rows(h, i) ? rows[r].reads : 0;
        for (uint32_t j = 0; j < reads; ++j, score += ATTEND_ROWS) {
            w[j] = j < n ? edgelora_attend_score(h->g, w[j], shift) : 0;
            *score = w[j];
        }
        if (part->dx[0] && n) {
            edgelora_weigh_quads_s32(q, w, h->k, reads / 4, h->groups);
            edgelora_attend_store(part, 0, i + r, head * h->channels, q, h->channels);
        }
    }
    add_block(h, h->weights, reads);
}

static void clear_sums(const attend_head_t *h) {
    for (int32_t *sum = h->sums, *end = sum + h->rows * h->channels; sum != end; ++sum) {
        *sum = 0;
    }
}

EDGELORA_WARM bool edgelora_attend_pass_packed_s8(edgelora_attend_part_t *part, bool of_scores) {
    const edgelora_shape_t *g = part->g;
    const edgelora_error_t *error = part->error;
    attend_head_t h = attend_head(g, error->scratch, true);
    const int8_t *const x[3] = {error->x, error->x2, error->x3};
    uint32_t group = g->op->kernel_h / g->op->kernel_w;
    edgelora_attend_row_t rows[ATTEND_ROWS];
    if (!heads_are_aligned(x)) {
        return false;
    }
    for (uint32_t key = part->keys.from; key < part->keys.to; ++key) {
        h.k_least = pack_head_rows(&h, h.k, x[1] + key * h.channels);
        pack_head_rows(&h, h.v, x[2] + key * h.channels);
        clear_sums(&h);
        for (uint32_t head = key * group; head < (key + 1) * group; ++head) {
            for (uint32_t i = 0; i < g->positions; i += ATTEND_ROWS) {
                block_errors(&h, error, head, i, rows);
                block_values(&h, (of_scores ? error->x : error->e) + head * h.channels, i);
                if (of_scores) {
                    block_key_errors(&h, rows, head, i, part);
                } else {
                    part->bits |= block_value_errors(&h, rows, error, i);
                }
            }
        }
        edgelora_attend_put(part, of_scores ? 1 : 2, h.sums, key);
    }
    return true;
}
