// Attention on the tile product, backward (SPEC.md: attend).
// SPDX-License-Identifier: MIT
//
//   weights   rows of queries   x  rows of keys as positions    kept as bytes
//   products  rows of errors    x  rows of values as positions  kept in 14 bits
//   errors    shares or errors of scores  x  rows of errors, keys or queries, some channels at a time
//
// A *run* is a head's rows of queries that go together: all, or as many as there is room for. What
// is made of a row at one time stays, so that quads and values of other rows can take turns:
//
//               scores                           room               weights
//   weights   | quads of keys .................. ...             |  made
//   values    | shares                         | errors, as s32  |  ready
//   products  | made                           | quads of values |  ready
//   scores    | made of products and weights   | queries or keys, as s32 |
//
// The second time over the heads goes from the last run to the first: that one's products and
// weights are still there.

#include "kernels/packed/attend_head.h"

enum { ATTEND_BYTES = 49152 };

// Bytes of the parts of the scratch memory, and rows of queries in a run, at most.
typedef struct {
    uint32_t rows, scores, room, weights, sums, all;
} attend_sizes_t;

// A run's errors. `room` lies in front of the weights.
typedef struct {
    edgelora_attend_run_t in; // its scores: any row of s32; its quads: in scores and room
    edgelora_attend_part_t *part;
    attend_sizes_t size;
    int16_t *scores; // s16, like the weights: shares, products with values, or errors of scores
    int32_t *room;
    int32_t *sums; // s32 [rows of keys, channels], or NULL if a run has all their queries
} attend_run_t;

// rows: of a run; groups: of channels whose errors there is room for, as s32
SMALL static attend_sizes_t sizes_of_run(
    const edgelora_attend_head_t *h, uint32_t rows, uint32_t groups) {
    const edgelora_op_t *op = h->g->op;
    bool all = rows >= h->g->positions;
    attend_sizes_t size = {.rows = all ? h->g->positions : rows};
    size.weights = all ? edgelora_attend_before(h, h->g->positions) : rows * h->rows;
    size.room = larger_of(2 * h->channels * align4(h->rows / 2), 16 * h->rows * groups);
    // the quads of all keys, before the weights
    size.scores = larger_of(2 * size.weights + size.room, 2 * h->rows * h->channels) - size.room;
    size.sums = all && op->kernel_h == op->kernel_w ? 0 : 4 * h->rows * h->channels;
    size.all = 4 * h->rows + 4 * size.rows + size.scores + size.room + size.weights + size.sums;
    return size;
}

// The fastest that take no more than a head's keys and values, their sums and eight rows of s32.
SMALL static attend_sizes_t backward_sizes(const edgelora_attend_head_t *h) {
    uint32_t most = 8 * (h->rows + 2) * h->channels + 32 * h->rows;
    for (uint32_t groups = 2; groups; --groups) {
        attend_sizes_t size = sizes_of_run(h, h->g->positions, groups);
        if (size.all <= most) {
            return size;
        }
    }
    return sizes_of_run(h, h->channels, 1);
}

uint32_t edgelora_attend_packed_scratch(const edgelora_shape_t *g, bool backward) {
    edgelora_attend_head_t h = edgelora_attend_head(g);
    uint32_t bytes = backward ? backward_sizes(&h).all : edgelora_attend_forward_bytes(&h);
    return h.channels % 4 || bytes > ATTEND_BYTES ? 0 : bytes;
}

static attend_run_t attend_run(edgelora_attend_part_t *part) {
    const edgelora_error_t *error = part->error;
    attend_run_t run = {
        .in = {.of = edgelora_attend_head(part->g), .x = {error->x, error->x2, error->x3}},
        .part = part};
    attend_sizes_t size = run.size = backward_sizes(&run.in.of);
    run.in.scores = error->scratch;
    run.in.scales = (uint32_t *)run.in.scores + run.in.of.rows;
    run.in.quads = run.in.scales + size.rows;
    run.scores = (int16_t *)(void *)run.in.quads;
    run.room = (int32_t *)run.in.quads + size.scores / 4;
    run.in.weights = (uint8_t *)(run.room + size.room / 4);
    run.sums = size.sums ? run.room + (size.room + size.weights) / 4 : 0;
    return run;
}

SMALL static void make_products(const attend_run_t *run) {
    const edgelora_attend_head_t *h = &run->in.of;
    const edgelora_error_t *error = run->part->error;
    const int8_t *values = edgelora_attend_row(h->g, run->in.x, run->in.head, 0, 0).v;
    edgelora_tile_product_t tile = edgelora_attend_product(&run->in, (uint32_t *)run->room);
    uint32_t count;
    int32_t shift = edgelora_attend_value_shift(h->channels);
    for (uint32_t from = 0; from < h->rows; from += count) {
        count = at_most(run->size.room / (2 * h->channels) & ~3u, h->rows - from);
        edgelora_attend_pack_rows(h, (uint32_t *)run->room, values, from, count);
        for (uint32_t i = run->in.from; i < run->in.to; ++i) {
            uint32_t reads = edgelora_attend_reads(h, i);
            if (reads > from) {
                tile.count = at_most(reads - from, count);
                tile.weights = error->e + i * h->g->in_c + run->in.head * h->channels;
                edgelora_tile_product_s8(&tile);
                edgelora_attend_put_products(run->scores + edgelora_attend_at(&run->in, i) + from,
                    run->in.scores, tile.count, shift);
            }
        }
    }
}

SMALL static void make_shares(const attend_run_t *run) {
    for (uint32_t i = run->in.from; i < run->in.to; ++i) {
        uint32_t at = edgelora_attend_at(&run->in, i);
        edgelora_attend_put_shares(run->in.of.g, run->scores + at, run->in.weights + at,
            edgelora_attend_reads(&run->in.of, i), run->in.scales[i - run->in.from],
            edgelora_attend_share_shift(edgelora_attend_lower(run->part->error, i)));
    }
}

// of_scores: products become errors of scores; else returns the OR of these before they are cut.
SMALL static uint32_t score_errors(const attend_run_t *run, bool of_scores) {
    uint32_t bits = 0;
    for (uint32_t i = run->in.from; i < run->in.to; ++i) {
        uint32_t at = edgelora_attend_at(&run->in, i), n = edgelora_attend_reads(&run->in.of, i);
        int16_t *products = run->scores + at;
        int32_t lower = edgelora_attend_lower(run->part->error, i),
                mean = edgelora_attend_mean_product(run->in.scores, run->in.weights + at, products,
                    n, run->in.scales[i - run->in.from]);
        if (of_scores) {
            edgelora_attend_put_scores(
                run->in.of.g, run->in.scores, products, n, mean, run->part->shift + lower);
        } else {
            bits |= edgelora_attend_bits(run->in.scores, products, n, mean) >> lower;
        }
    }
    return bits;
}

// The first groups of channels of so many rows that fit into `bytes`, in parts of similar size.
SMALL static edgelora_attend_values_t values_of(
    const attend_run_t *run, const int8_t *x, uint32_t step, uint32_t rows, uint32_t bytes) {
    edgelora_attend_values_t v = {.x = x, .step = step, .rows = rows, .bytes = 16 * align4(rows)};
    uint32_t groups = run->in.of.groups, most = bytes / v.bytes, parts = (groups + most - 1) / most;
    v.groups = (groups + parts - 1) / parts;
    return v;
}

// Row `row` of input k's errors: the part's channels of `head`, s32 [groups, 4].
SMALL static void put_errors(const attend_run_t *run, const edgelora_attend_values_t *v, uint32_t k,
    uint32_t row, uint32_t head, const int32_t *sums) {
    edgelora_attend_store(
        run->part, k, row, head * run->in.of.channels + 4 * v->first, sums, 4 * v->groups);
}

// Adds rows of x times shares or errors of scores to the errors of the keys or values, input k.
SMALL static void add_columns(
    const attend_run_t *run, const int8_t *x, uint32_t k, uint32_t bytes) {
    const edgelora_attend_head_t *h = &run->in.of;
    const edgelora_op_t *op = h->g->op;
    int32_t some[EDGELORA_MAX_HEAD];
    uint32_t key = run->in.head * op->kernel_w / op->kernel_h;
    edgelora_attend_values_t v = values_of(run,
        x + run->in.from * h->g->in_c + run->in.head * h->channels, h->g->in_c,
        run->in.to - run->in.from, bytes);
    for (; v.first < h->groups; v.first += v.groups) {
        v.groups = at_most(v.groups, h->groups - v.first);
        edgelora_attend_put_values(&v, run->room);
        for (uint32_t j = 0; j < h->g->positions; ++j) {
            int32_t *sums = run->sums ? run->sums + j * h->channels + 4 * v.first : some;
            // a causal row reads no keys behind it
            uint32_t i = op->flags & EDGELORA_CAUSAL ? larger_of(run->in.from, j & ~3u)
                                                     : run->in.from;
            if (!run->sums) {
                clear_fours(sums, 4 * v.groups);
            }
            if (i < run->in.to) {
                uint32_t step = edgelora_attend_reads(h, i),
                         count = edgelora_attend_column(run->in.scores,
                             run->scores + edgelora_attend_at(&run->in, i) + j, step,
                             op->flags & EDGELORA_CAUSAL ? 4 : 0, run->in.to - i);
                edgelora_weigh_rows_s32(sums, run->in.scores, run->room + 4 * (i - run->in.from),
                    count, v.groups, v.bytes);
            }
            if (!run->sums) {
                put_errors(run, &v, k, j, key, sums);
            }
        }
    }
}

// Puts the errors of the run's queries.
SMALL static void put_queries(const attend_run_t *run, uint32_t bytes) {
    const edgelora_attend_head_t *h = &run->in.of;
    edgelora_attend_row_t row = edgelora_attend_row(h->g, run->in.x, run->in.head, 0, 0);
    int32_t sums[EDGELORA_MAX_HEAD];
    edgelora_attend_values_t v = values_of(run, row.k, row.step, h->g->positions, bytes);
    for (; v.first < h->groups; v.first += v.groups) {
        v.groups = at_most(v.groups, h->groups - v.first);
        edgelora_attend_put_values(&v, run->room);
        for (uint32_t i = run->in.from; i < run->in.to; ++i) {
            uint32_t reads = edgelora_attend_reads(h, i);
            edgelora_attend_row_of_scores(
                run->in.scores, run->scores + edgelora_attend_at(&run->in, i), reads);
            clear_fours(sums, 4 * v.groups);
            edgelora_weigh_rows_s32(sums, run->in.scores, run->room, reads, v.groups, v.bytes);
            put_errors(run, &v, 0, i, run->in.head, sums);
        }
    }
}

// The run's part of the values' errors, and the OR of its scores' errors.
static void value_errors(const attend_run_t *run) {
    edgelora_attend_part_t *part = run->part;
    edgelora_attend_make_weights(&run->in, true);
    if (part->dx[2]) {
        make_shares(run);
        add_columns(run, part->error->e, 2, run->size.room);
    }
    make_products(run);
    part->bits |= score_errors(run, false);
}

// The errors of the run's queries, and its part of the keys'. there: its weights and products are
// there
static void key_errors(const attend_run_t *run, bool there) {
    edgelora_attend_part_t *part = run->part;
    uint32_t bytes = run->size.room + run->size.weights; // which are not needed any more
    if (!there) {
        edgelora_attend_make_weights(&run->in, true);
        make_products(run);
    }
    score_errors(run, true);
    if (part->dx[0]) {
        put_queries(run, bytes);
    }
    if (part->dx[1]) {
        add_columns(run, part->error->x, 1, bytes);
    }
}

EDGELORA_WARM bool edgelora_attend_pass_packed_s8(edgelora_attend_part_t *part, bool of_scores) {
    const edgelora_shape_t *g = part->g;
    attend_run_t run = attend_run(part);
    uint32_t rows = run.size.rows, each = (g->positions + rows - 1) / rows,
             runs = each * g->op->kernel_h / g->op->kernel_w, // of a head of keys
        keys = part->keys.to - part->keys.from;
    if (!edgelora_attend_is_aligned(run.in.x)) {
        return false;
    }
    for (uint32_t n = 0; n < keys; ++n) {
        uint32_t key = of_scores ? part->keys.to - 1 - n : part->keys.from + n;
        if (run.sums) {
            clear_fours(run.sums, run.size.sums / 4);
        }
        for (uint32_t m = 0; m < runs; ++m) {
            uint32_t at = key * runs + (of_scores ? runs - 1 - m : m);
            run.in.head = at / each;
            run.in.from = at % each * rows;
            run.in.to = at_most(run.in.from + rows, g->positions);
            if (of_scores) {
                key_errors(&run, !n && !m);
            } else {
                value_errors(&run);
            }
        }
        if (run.sums) {
            edgelora_attend_put(part, of_scores ? 1 : 2, run.sums, key);
        }
    }
    return true;
}
