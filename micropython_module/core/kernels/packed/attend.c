// Attention on the tile product: weights, and the forward pass.
// SPDX-License-Identifier: MIT
//
//   scores   rows of queries        x  rows of keys as positions
//   outputs  weights of four rows   x  columns of values as positions
//
// The weights of a run of rows stay as bytes, so that a head's quads of keys can make room for
// those of its values. Four rows of weights, a *block*, go through a tile together, as 127 less
// each: so two products fit a pair.

#include "kernels/packed/attend_head.h"

enum { BLOCK_ROWS = 4, MIDDLE_WEIGHT = 127 };

const int32_t edgelora_attend_bias[BLOCK_ROWS];

edgelora_attend_head_t edgelora_attend_head(const edgelora_shape_t *g) {
    uint32_t channels = g->in_c / g->op->kernel_h;
    return (edgelora_attend_head_t){
        .g = g, .channels = channels, .groups = channels / 4, .rows = align4(g->positions)};
}

uint32_t edgelora_attend_before(const edgelora_attend_head_t *h, uint32_t i) {
    uint32_t quads = i >> 2;
    return h->g->op->flags & EDGELORA_CAUSAL ? 4 * (quads + 1) * (2 * quads + (i & 3))
                                             : i * h->rows;
}

uint32_t edgelora_attend_at(const edgelora_attend_run_t *run, uint32_t i) {
    return edgelora_attend_before(&run->of, i) - edgelora_attend_before(&run->of, run->from);
}

bool edgelora_attend_is_aligned(const int8_t *const x[3]) {
    return is_aligned(x[0]) && is_aligned(x[1]) && is_aligned(x[2]);
}

SMALL edgelora_tile_product_t edgelora_attend_product(
    const edgelora_attend_run_t *run, const uint32_t *quads) {
    return (edgelora_tile_product_t){
        .x = quads,
        .acc = run->scores,
        .groups = run->of.groups,
        .coding = (uint32_t)EDGELORA_SIGNED,
        .bias = edgelora_attend_bias,
        .rows = 1};
}

// The scores of a row that has -128, of which two may be too many for a pair: as if they were -127,
// and then without the keys once more.
static void scores_of_least(const edgelora_attend_row_t *row, const edgelora_tile_product_t *of) {
    edgelora_tile_product_t tile = *of;
    uint32_t words[EDGELORA_MAX_HEAD / 4];
    int8_t *q = (int8_t *)words;
    for (uint32_t c = 0; c < row->channels; ++c) {
        q[c] = row->q[c] == -128 ? -127 : row->q[c];
    }
    tile.weights = words;
    edgelora_tile_product_s8(&tile);
    for (uint32_t c = 0; c < row->channels; ++c) {
        if (row->q[c] == -128) {
            edgelora_attend_subtract(row->weights, row->k + c, row->step, row->reads);
        }
    }
}

void edgelora_attend_make_weights(const edgelora_attend_run_t *run, bool packs) {
    const edgelora_attend_head_t *h = &run->of;
    edgelora_attend_row_t row = edgelora_attend_row(
        h->g, run->x, run->head, run->from, run->scores);
    edgelora_tile_product_t tile = edgelora_attend_product(run, run->quads);
    uint32_t *scales = run->scales, far = edgelora_attend_far(h->g);
    if (packs) {
        edgelora_attend_pack_rows(h, run->quads, row.k, 0, h->rows);
    }
    for (uint32_t i = run->from; i < run->to; ++i, row.q += h->g->in_c) {
        row.reads = h->g->op->flags & EDGELORA_CAUSAL ? i + 1 : row.reads;
        tile.count = edgelora_attend_reads(h, i);
        if (edgelora_has_least_s8(row.q, h->channels)) {
            scores_of_least(&row, &tile);
        } else {
            tile.weights = row.q;
            edgelora_tile_product_s8(&tile);
        }
        uint8_t *to = run->weights + edgelora_attend_at(run, i);
        edgelora_attend_scale(
            h->g, &row, edgelora_attend_put_weights(h->g, row.weights, row.reads, far, to));
        fill_s8((int8_t *)to + row.reads, tile.count - row.reads, 0);
        *scales++ = row.inverse << 8 | (uint32_t)(16 - row.shift);
    }
}

// Forward.
typedef struct {
    edgelora_attend_run_t in;
    uint32_t rows;        // of a run, at most
    uint32_t *v;          // quads of the columns of values; in the place of the keys' if all rows
    int32_t *products;    // s32 [BLOCK_ROWS, channels]; in the place of the scores
    int32_t *sums;        // s32 [channels]: of the values that a row reads
    bool least; // a value is -128: two products with weights of 255 may not fit
} attend_forward_t;

// Rows of queries in a run: all, unless that takes more than keys and values apart, and six rows of
// s32.
static uint32_t forward_rows(const edgelora_attend_head_t *h) {
    uint32_t all = edgelora_attend_before(h, h->g->positions);
    return all <= 2 * h->rows * h->channels + 8 * h->rows ? h->rows : BLOCK_ROWS;
}

uint32_t edgelora_attend_forward_bytes(const edgelora_attend_head_t *h) {
    uint32_t rows = forward_rows(h), quads = 2 * h->rows * h->channels,
             weights = rows < h->rows ? quads + rows * h->rows
                                      : edgelora_attend_before(h, h->g->positions);
    return 4 * larger_of(h->rows, BLOCK_ROWS * h->channels) + 4 * h->channels + 4 * rows + quads +
        weights;
}

static attend_forward_t attend_forward(const edgelora_shape_t *g, int32_t *scratch) {
    edgelora_attend_head_t h = edgelora_attend_head(g);
    uint32_t rows = forward_rows(&h), quads = h.rows * h.channels / 2;
    attend_forward_t f = {.in = {.of = h, .scores = scratch}, .rows = rows, .products = scratch};
    f.sums = scratch + larger_of(h.rows, BLOCK_ROWS * h.channels);
    f.in.scales = (uint32_t *)f.sums + h.channels;
    f.in.quads = f.in.scales + rows;
    f.v = rows < h.rows ? f.in.quads + quads : f.in.quads;
    f.in.weights = (uint8_t *)(f.v + quads);
    return f;
}

// Weights of 255 become 254, and their values the first part of a row's products.
static void take_out_largest(
    const attend_forward_t *f, const int8_t *v, uint8_t *weights, uint32_t n, int32_t *products) {
    const edgelora_attend_head_t *h = &f->in.of;
    clear_fours(products, h->channels);
    for (uint32_t j = 0; j < n; ++j) {
        if (weights[j] == 255) {
            weights[j] = 254;
            edgelora_attend_add_row(
                products, edgelora_attend_row_or_zeros(h, v, j), h->channels, -1);
        }
    }
}

// The outputs of a row from its products with 127 less each weight, which are lost.
static void row_outputs(const attend_forward_t *f, uint32_t scale, int32_t *products, int8_t *y) {
    const edgelora_attend_head_t *h = &f->in.of;
    for (uint32_t c = 0; c < h->channels; ++c) { // |sum| <= 2^15 * 2^8
        products[c] = (MIDDLE_WEIGHT * f->sums[c] - products[c]) * (1 << (16 - (scale & 255)));
    }
    int32_t multiplier = (int32_t)((uint32_t)h->g->multiplier[1] * (scale >> 8) >> 15 << 15);
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

static void add_values(const attend_forward_t *f, const int8_t *v, uint32_t from, uint32_t to) {
    for (uint32_t j = from; j < to; ++j) {
        edgelora_attend_add_row(
            f->sums, edgelora_attend_row_or_zeros(&f->in.of, v, j), f->in.of.channels, 1);
    }
}

// The outputs of the block from row i on.
static void block_outputs(const attend_forward_t *f, const int8_t *v, uint32_t i, int8_t *y) {
    const edgelora_attend_head_t *h = &f->in.of;
    uint32_t reads = edgelora_attend_reads(h, i), count = at_most(f->in.to - i, BLOCK_ROWS);
    uint8_t *weights = f->in.weights + edgelora_attend_at(&f->in, i);
    for (uint32_t r = 0; r < count && f->least; ++r) {
        take_out_largest(f, v, weights + r * reads, reads, f->products + r * h->channels);
    }
    edgelora_tile_product_t tile = {
        .x = f->v,
        .acc = f->products,
        .count = h->channels,
        .weights = weights,
        .coding = (uint32_t)EDGELORA_INVERTED,
        .bias = edgelora_attend_bias,
        .add = f->least,
        .rows = count};
    edgelora_tile_product_chunks_s8(&tile, reads / 4, EDGELORA_GROUP_BYTES * (h->rows / 4));
    if (h->g->op->flags & EDGELORA_CAUSAL) {
        add_values(f, v, i, reads); // those behind a row have no weight
    }
    for (uint32_t r = 0; r < count; ++r, y += h->g->in_c) {
        row_outputs(f, f->in.scales[i + r - f->in.from], f->products + r * h->channels, y);
    }
}

bool edgelora_attend_forward_packed_s8(const edgelora_shape_t *g, const int8_t *const x[3],
    int8_t *y, void *scratch, edgelora_range_t heads) {
    attend_forward_t f = attend_forward(g, scratch);
    edgelora_attend_run_t *run = &f.in;
    if (!edgelora_attend_is_aligned(x)) {
        return false;
    }
    for (uint32_t k = 0; k < 3; ++k) {
        run->x[k] = x[k];
    }
    for (run->head = heads.from; run->head < heads.to; ++run->head) {
        const int8_t *v = edgelora_attend_row(g, x, run->head, 0, 0).v;
        f.least = edgelora_attend_has_least(&run->of, v);
        clear_fours(f.sums, run->of.channels);
        add_values(&f, v, 0, g->op->flags & EDGELORA_CAUSAL ? 0 : g->positions);
        for (run->from = 0; run->from < g->positions; run->from = run->to) {
            run->to = at_most(run->from + f.rows, g->positions);
            edgelora_attend_make_weights(run, !run->from);
            if (!run->from) {
                edgelora_attend_pack_columns(&run->of, f.v, v);
            }
            for (uint32_t i = run->from; i < run->to; i += BLOCK_ROWS) {
                block_outputs(&f, v, i, y + i * g->in_c + run->head * run->of.channels);
            }
        }
    }
    return true;
}
