// Dense and conv: the gradient of A.
// SPDX-License-Identifier: MIT

#include "kernels/packed/gradient.h"

enum { LEAST_POSITIONS = 16 }; // minimum for packing whole rows of the input

// A kernel reads its inputs in runs: kernel rows or, if dilated, single elements. Sizes, starts
// and distances of runs, input rows and windows are in values.
typedef struct {
    uint32_t count, length, quads; // count: runs; per run: values, quads including `lead`
    uint32_t lead;                 // undefined leading values (edgelora_window_lead)
    uint32_t columns;              // runs per kernel row
    int32_t height, width;         // of the input
    int32_t down, right, start; // from one window to the next, by row, by column; the first column
    int32_t run_down, run_right;
    uint32_t out_w;
    int8_t edge; // value of the padding
} runs_t;

static runs_t runs_of(const edgelora_shape_t *g, const int8_t *x) {
    const edgelora_op_t *op = g->op;
    bool rows = op->dilation_w == 1;
    uint32_t columns = rows ? 1 : g->kernel_w,
             length = rows ? (uint32_t)g->kernel_w * g->in_c : g->in_c,
             lead = edgelora_window_lead(g, x);
    return (runs_t){
        .count = g->kernel_h * columns,
        .length = length,
        .quads = (length + lead + 3) / 4,
        .lead = lead,
        .columns = columns,
        .height = g->in_h,
        .width = g->in_w * g->in_c,
        .down = op->stride_h,
        .right = op->stride_w * g->in_c,
        .start = -op->pad_left * g->in_c - (int32_t)lead,
        .run_down = op->dilation_h,
        .run_right = op->dilation_w * g->in_c,
        .out_w = g->out_w,
        .edge = g->zp_in};
}

// Start of a position's window: row and value in the row, possibly outside the input; positions
// left in the row.
typedef struct {
    int32_t y, x;
    uint32_t left;
} corner_t;

static inline void corner_next(corner_t *at, const runs_t *runs) {
    at->x += runs->right;
    if (!--at->left) {
        at->left = runs->out_w;
        at->x = runs->start;
        at->y += runs->down;
    }
}

// Copies values [from, from + count) of an input row, or of padding (NULL), to `patch`.
EDGELORA_KERNEL static const int8_t *edge_run(
    const runs_t *runs, const int8_t *row, int32_t from, uint32_t count, int8_t *patch) {
    const int8_t *end = patch + count;
    int8_t *to = patch;
    if (row && from < runs->width && from + (int32_t)count > 0) {
        to = from < 0 ? fill_s8(to, (uint32_t)-from, runs->edge) : to;
        from = from < 0 ? 0 : from;
        to = copy_fours_s8(
            to, row + from, at_most((uint32_t)(runs->width - from), (uint32_t)(end - to)));
    }
    fill_s8(to, (uint32_t)(end - to), runs->edge);
    return patch;
}

// Packs the kernel's inputs at n positions from `at` on: quads [from, from + quads). Values
// after a run in its last quad are undefined.
EDGELORA_HOT static void pack_runs(const runs_t *runs, const int8_t *x, corner_t *at, uint32_t n,
    uint32_t from, uint32_t quads, uint32_t *to, int8_t *patch) {
    uint32_t step = 4 * EDGELORA_GROUP_WORDS * ((n + 3) / 4);
    uint32_t first_run = from / runs->quads, first_quad = from % runs->quads;
    const int8_t *rows[4];
    for (uint32_t k = 0; k < n; k += 4, to += EDGELORA_GROUP_WORDS) {
        corner_t four[4]; // missing positions are multiplied by errors of 0
        for (uint32_t i = 0; i < 4; ++i) {
            four[i] = *at;
            if (k + i < n) {
                corner_next(at, runs);
            }
        }
        uint32_t *quad = to, first = first_quad, row = first_run / runs->columns,
                 column = first_run % runs->columns;
        for (uint32_t left = quads, count; left; left -= count, first = 0) {
            count = at_most(left, runs->quads - first);
            int32_t y = (int32_t)row * runs->run_down,
                    c = (int32_t)column * runs->run_right + 4 * (int32_t)first;
            for (uint32_t i = 0; i < 4; ++i) {
                int32_t iy = four[i].y + y, ix = four[i].x + c;
                const int8_t *from_row = iy >= 0 && iy < runs->height ? x + iy * runs->width : 0;
                bool inside = from_row && ix >= 0 && ix + 4 * (int32_t)count <= runs->width &&
                    is_aligned(from_row + ix);
                rows[i] = inside ? from_row + ix
                                 : edge_run(runs, from_row, ix, 4 * count, patch + 4 * i * quads);
            }
            edgelora_pack_columns_s8(quad, step, rows, count);
            quad += step / 4 * count;
            if (++column == runs->columns) {
                column = 0;
                ++row;
            }
        }
    }
}

// The same for a 1x1 convolution over all input positions: x from the first position on.
EDGELORA_HOT static void pack_positions(const edgelora_shape_t *g, const int8_t *x, uint32_t n,
    uint32_t from, uint32_t quads, uint32_t *to) {
    uint32_t step = 4 * EDGELORA_GROUP_WORDS * ((n + 3) / 4), channels = g->in_c, last = n - 1;
    for (uint32_t k = 0; k < n; k += 4, to += EDGELORA_GROUP_WORDS) {
        const int8_t *rows[4];
        for (uint32_t i = 0; i < 4; ++i) {
            rows[i] = x + at_most(k + i, last) * channels + 4 * from;
        }
        edgelora_pack_columns_s8(to, step, rows, quads);
    }
}

// gradient, s32 [rank, K], += acc, s32 [rank, quads, 4], for the quads from `from` on.
EDGELORA_HOT static void add_runs(const edgelora_shape_t *g, const runs_t *runs, uint32_t rank,
    const int32_t *acc, uint32_t from, uint32_t quads, int32_t *gradient, int32_t shift) {
    uint32_t run = from / runs->quads, first = from % runs->quads;
    for (uint32_t left = quads, count; left; left -= count, ++run, first = 0, acc += 4 * count) {
        count = at_most(left, runs->quads - first);
        uint32_t skip = first ? 0 : runs->lead, at = 4 * first + skip - runs->lead,
                 values = at_most(4 * count - skip, runs->length - at);
        for (uint32_t j = 0; j < rank; ++j) {
            edgelora_add_shifted_s32(gradient + j * g->inputs + run * runs->length + at,
                acc + 4 * quads * j + skip, at_most_31(shift), values);
        }
    }
}

EDGELORA_KERNEL static int32_t column_sum(const int8_t *v, uint32_t step, uint32_t count) {
    int32_t sum = 0;
#pragma GCC unroll 4
    for (; count; --count, v += step) {
        sum += *v;
    }
    return sum;
}

// The layout, within the memory of the op's other kernels. patch: 4 values at each of 4
// positions. If runs are kernel rows and each run reads each input row once, as many input rows
// as fit in addition to whole runs are packed once for all runs.
static gradient_t a_layout(const edgelora_shape_t *g, uint32_t rank) {
    runs_t runs = runs_of(g, 0); // the number of quads does not depend on x
    uint32_t room = edgelora_packed_scratch(g, rank, true);
    if (runs.count > 1 && runs.columns == 1 && runs.down == 1 && !(g->out_w & 3)) {
        uint32_t rows = at_most(4 * EDGELORA_CHUNK / g->out_w, g->in_h);
        for (; rows * g->out_w >= LEAST_POSITIONS;
            --rows) { // sums of all runs count like a higher rank
            gradient_t l = edgelora_gradient_layout(
                rows * g->out_w, runs.quads, rank * runs.count, 16, room);
            if (l.quads == runs.quads) {
                l.in_rows = rows;
                return l;
            }
        }
    }
    return edgelora_gradient_layout(g->positions, runs.count * runs.quads, rank, 16, room);
}

EDGELORA_HOT static void a_gradient_by_rows(const edgelora_shape_t *g, const runs_t *runs,
    const gradient_t *l, uint32_t rank, const edgelora_error_t *error, int32_t *gradient,
    int32_t shift, edgelora_half_t half) {
    uint8_t *s = error->scratch;
    int32_t bias[EDGELORA_MAX_RANK], pad = g->op->pad_top, out_h = (int32_t)g->out_h;
    uint32_t *x = (uint32_t *)(void *)(s + l->x), row_groups = g->out_w / 4;
    factor_t factor = {error->t_error, rank, bias};
    edgelora_range_t of = half_range(runs->quads, half);
    for (uint32_t q = of.from; q < of.to; q += l->quads) {
        uint32_t quads = at_most(of.to - q, l->quads);
        products_t what = products_of(l, s, 4 * quads);
        for (uint32_t y = 0, rows; y < g->in_h; y += rows) {
            rows = at_most(g->in_h - y, l->in_rows);
            corner_t at = {(int32_t)y, runs->start, g->out_w};
            pack_runs(runs, error->x, &at, rows * g->out_w, q, quads, x, (int8_t *)s + l->patch);
            what.acc = (int32_t *)(void *)s;
            for (uint32_t run = 0; run < runs->count; ++run, what.acc += rank * what.columns) {
                // output rows at which this run reads these rows
                int32_t ahead = pad - (int32_t)run * runs->run_down, from = (int32_t)y + ahead,
                        end = from + (int32_t)rows, first = from < 0 ? 0 : from;
                end = end < out_h ? end : out_h;
                if (first >= end) {
                    continue;
                }
                what.p = (uint32_t)first * g->out_w;
                what.n = (uint32_t)(end - first) * g->out_w;
                what.x = x + EDGELORA_GROUP_WORDS * row_groups * (uint32_t)(first - from);
                what.skip = EDGELORA_GROUP_BYTES * (rows * row_groups - what.n / 4);
                what.add = first > (ahead > 0 ? ahead : 0);
                if (!what.add) { // subtracts the zero point
                    int32_t last = (int32_t)g->in_h + ahead;
                    last = last < out_h ? last : out_h;
                    for (uint32_t j = 0; j < rank; ++j) {
                        bias[j] = -g->zp_in *
                            column_sum(error->t_error + what.p * rank + j, rank,
                                (uint32_t)(last - first) * g->out_w);
                    }
                }
                edgelora_gradient_products(&factor, &what);
            }
        }
        const int32_t *acc = (const int32_t *)(const void *)s;
        for (uint32_t run = 0; run < runs->count; ++run, acc += rank * what.columns) {
            int32_t ahead = pad - (int32_t)run * runs->run_down;
            if (ahead < out_h && ahead + (int32_t)g->in_h > 0) {
                add_runs(g, runs, rank, acc, run * runs->quads + q, quads, gradient, shift);
            }
        }
    }
}

EDGELORA_HOT bool edgelora_a_gradient_packed_s8(const edgelora_shape_t *g, uint32_t rank,
    const edgelora_error_t *error, int32_t *gradient, int32_t shift, edgelora_half_t half) {
    if (g->op->kind == EDGELORA_DENSE) {
        edgelora_outer_gradient(error->t_error, rank, error->x, g->zp_in, g->inputs,
            half_range(g->inputs, half), gradient, shift, error->scratch);
        return true;
    }
    runs_t runs = runs_of(g, error->x);
    gradient_t l = a_layout(g, rank);
    if (!l.quads) {
        return false;
    }
    if (l.in_rows) {
        a_gradient_by_rows(g, &runs, &l, rank, error, gradient, shift, half);
        return true;
    }
    uint8_t *s = error->scratch;
    edgelora_range_t of = half_range(runs.count * runs.quads, half); // quads
    const int32_t *acc = (const int32_t *)(const void *)s;
    int32_t bias[EDGELORA_MAX_RANK]; // subtracts the zero point
    for (uint32_t j = 0; j < rank; ++j) {
        bias[j] = -g->zp_in * column_sum(error->t_error + j, rank, g->positions);
    }
    factor_t factor = {error->t_error, rank, bias};
    uint32_t *x = (uint32_t *)(void *)(s + l.x);
    bool in_place = edgelora_takes_input_as_it_is(g) && is_aligned(error->x);
    for (uint32_t q = of.from; q < of.to; q += l.quads) {
        uint32_t quads = at_most(of.to - q, l.quads);
        products_t what = products_of(&l, s, 4 * quads);
        corner_t at = {-g->op->pad_top, runs.start, g->out_w};
        for (uint32_t p = 0; p < g->positions; p += 4 * EDGELORA_CHUNK) {
            uint32_t n = at_most(g->positions - p, 4 * EDGELORA_CHUNK);
            if (in_place) {
                pack_positions(g, error->x + p * g->in_c, n, q, quads, x);
            } else {
                pack_runs(&runs, error->x, &at, n, q, quads, x, (int8_t *)s + l.patch);
            }
            what.p = p;
            what.n = n;
            what.add = p > 0;
            edgelora_gradient_products(&factor, &what);
        }
        add_runs(g, &runs, rank, acc, q, quads, gradient, shift);
    }
    return true;
}
