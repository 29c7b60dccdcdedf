// Matrix products on vector lanes: dense, conv and project, forward and backward.
// SPDX-License-Identifier: MIT
//
// Every op with many products is one matrix product: a block of rows of inputs, converted to
// units, times a panel of LANES columns of weights.
//
//   panel   4 values of each lane in each group, PANEL_GROUP weights from one group to the next
//   acc     s32 [rows, LANES]
//
//                 lanes            a panel's values over             rows of inputs are of
//   outputs       outputs          inputs                            positions
//   t             rows of A        inputs                            positions
//   input error   input channels   kernel elements that read, outputs   input positions of a phase
//   t's error     columns of B     outputs                           positions
//   gradient of B outputs          positions                         columns of t
//   gradient of A inputs           positions                         columns of t's error
//
// A phase of a stride: the input positions that the same kernel elements read.

#ifndef EDGELORA_SIMD_PRODUCTS_H
#define EDGELORA_SIMD_PRODUCTS_H

#include "kernels/simd/panels.h"
#if IN_TILES
#include "kernels/simd/tiles.h"
#endif

// acc [n, LANES] = start + products of rows with a panel, whose values follow the order of the
// runs.
static void panel_products(int32_t *acc, weight_t *panel, const int32_t *start, const source_t *s,
    uint32_t lanes, const rows_t *x) {
#ifdef IN_PLACE
    if (s->columns && x->n == 1 && !s->starts && s->flip && !(lanes & 3)) {
        columns_in_place(acc, start, s->from, s->step, lanes, s->count, row_at(x, 0));
        return;
    }
    if (!s->columns && x->n <= IN_PLACE) {
        products_in_place(acc, start, s->from, s->step, s->flip, lanes, s->count, x);
        return;
    }
#endif
    uint32_t all = x->runs * x->groups;
    rows_t part = *x; // whole runs, or a piece of a single one
    part.runs = x->runs > 1 ? CHUNK / x->groups : 1;
    for (uint32_t first = 0; first < all;) {
        if (x->runs > 1) {
            part.runs = lesser(part.runs, (all - first) / x->groups);
        } else {
            part.groups = lesser(all - first, CHUNK);
        }
        uint32_t count = part.runs * part.groups;
        (s->columns ? panel_of_columns : panel_of_rows)(panel, s, lanes, first, first + count);
        all_products(acc, first ? 0 : start, panel, lanes, &part);
        first += count;
        part.units += x->runs > 1 ? part.runs * x->pitch : 4 * count;
    }
}

// Number of rows of `groups` groups that fit a block; 0: none.
static uint32_t block_rows(uint32_t groups) {
    return lesser(BLOCK_BYTES / (4 * groups), BLOCK_ROWS);
}

// Gathers the inputs of output positions [p, p + n), one row of whole groups each.
static void gather(
    const edgelora_shape_t *g, const int8_t *x, uint32_t p, uint32_t n, int8_t *rows) {
    const edgelora_op_t *op = g->op;
    uint32_t channels = g->in_c, tail = -g->inputs & 3;
    if (op->kind == EDGELORA_DENSE) {
        copy_run(rows, x, g->inputs);
        fill_run(rows + g->inputs, tail, 0);
        return;
    }
    int32_t dilation = op->dilation_w, kernel_w = g->kernel_w, in_w = g->in_w;
    uint32_t run = (uint32_t)kernel_w * channels;
    const int8_t *end = x + (uint32_t)g->in_h * g->in_w * channels;
    uint32_t oy = p / g->out_w, ox = p % g->out_w;
    for (; n; --n, ox = ox + 1 < g->out_w ? ox + 1 : 0, oy += !ox) {
        int32_t y0 = (int32_t)(oy * op->stride_h) - op->pad_top,
                x0 = (int32_t)(ox * op->stride_w) - op->pad_left;
        for (int32_t ky = 0; ky < g->kernel_h; ++ky) {
            int32_t iy = y0 + ky * op->dilation_h;
            const int8_t *in = x + (iy * in_w + x0) * (int32_t)channels;
            if (iy < 0 || iy >= g->in_h) {
                rows = fill_run(rows, g->kernel_w * channels, g->zp_in);
            } else if (dilation == 1 && x0 >= 0 && x0 + kernel_w <= in_w) {
                if (run < 16 && end - in >= 16) { // more than needed: the next run overwrites it
                    __builtin_memcpy(rows, in, 16);
                } else {
                    copy_run(rows, in, run);
                }
                rows += run;
            } else {
                for (int32_t ix = x0; ix < x0 + kernel_w * dilation; ix += dilation) {
                    if (ix >= 0 && ix < in_w) {
                        copy_run(rows, x + (iy * in_w + ix) * (int32_t)channels, channels);
                    } else {
                        fill_run(rows, channels, g->zp_in);
                    }
                    rows += channels;
                }
            }
        }
        rows = fill_run(rows, tail, 0);
    }
}

// A convolution's padded input, in units; every output position reads one run for each kernel
// row.
typedef struct {
    const unit_t *units;
    uint32_t pitch, step_y, step_x; // units of a row; from one output position to the next
} image_t;

static unit_t *units_in(work_t *w) {
#if UNITS_ARE_INPUTS
    return w->rows;
#else
    return w->units;
#endif
}

// false: no room, or runs that don't fit a panel.
static bool image_of(const edgelora_shape_t *g, const int8_t *x, work_t *w, image_t *image) {
    const edgelora_op_t *op = g->op;
    uint32_t channels = g->in_c, width = (g->out_w - 1u) * op->stride_w + g->kernel_w,
             height = (g->out_h - 1u) * op->stride_h + (g->kernel_h - 1u) * op->dilation_h + 1;
    if (op->kind == EDGELORA_DENSE || op->dilation_w > 1 || g->kernel_w * channels > 4 * CHUNK ||
        g->kernel_w * channels < LEAST_RUN || height * width > BLOCK_BYTES / channels) {
        return false;
    }
    unit_t *to = units_in(w);
    image->units = to;
    image->pitch = width * channels;
    image->step_y = op->stride_h * image->pitch;
    image->step_x = op->stride_w * channels;
    uint32_t left = lesser(op->pad_left, width), n = lesser(g->in_w, width - left);
    for (uint32_t y = 0; y < height; ++y) {
        if (y < op->pad_top || y >= op->pad_top + (uint32_t)g->in_h) {
            to = units_fill(to, image->pitch, g->zp_in);
            continue;
        }
        to = units_fill(to, left * channels, g->zp_in);
        units_copy(to, x + (y - op->pad_top) * g->in_w * channels, n * channels);
        to = units_fill(to + n * channels, (width - left - n) * channels, g->zp_in);
    }
    units_fill(to, SLACK, 0);
    return true;
}

// Rows of output positions [p, p + n) of an image.
static rows_t image_rows(const edgelora_shape_t *g, const image_t *image, uint32_t p, uint32_t n) {
    return (rows_t){
        image->units, g->kernel_h, (g->kernel_w * g->in_c + 3u) / 4,
        g->op->dilation_h * image->pitch, n, p, g->out_w, image->step_x, image->step_y};
}

// Requantizes outputs [o, o + lanes) of n positions.
static void outputs(const edgelora_shape_t *g, uint32_t o, uint32_t lanes, const int32_t *acc,
    uint32_t n, int8_t *y) {
    y += o;
    if (!g->bounded) {
        for (uint32_t p = 0; p < n; ++p, acc += LANES, y += g->out_c) {
            for (uint32_t l = 0; l < lanes; ++l) {
                y[l] = requantize_output(g, acc[l], o + l);
            }
        }
        return;
    }
    uint32_t step = g->out_c;
    for (uint32_t l = 0; l < lanes; l += WIDTH) {
        uint32_t count = lesser(lanes - l, WIDTH);
        scales_t scales = scales_of(g, o + l, count);
        const int32_t *from = acc + l;
        int8_t *to = y + l;
        for (uint32_t p = 0; p < n; ++p, from += LANES, to += step) {
            lanes_store_first(to, lanes_output(lanes_load(from), &scales), count);
        }
    }
}

// Adds outputs [o, o + lanes) of n positions, from value `at` of a stream on.
static void stream_outputs(const edgelora_shape_t *g, uint32_t o, uint32_t lanes,
    const int32_t *acc, uint32_t n, uint32_t at, const edgelora_pass_t *pass) {
    const void *stream = pass->x2;
    void *out = pass->y;
    const int16_t *h = stream; // NULL: of zeros
    int16_t *y = out;
    for (uint32_t l = 0; l < lanes; l += WIDTH) {
        uint32_t count = lesser(lanes - l, WIDTH), to = at + o + l;
        const int32_t *from = acc + l;
        if (count < WIDTH || !g->bounded) {
            for (uint32_t p = 0; p < n; ++p, from += LANES, to += g->out_c) {
                for (uint32_t k = 0; k < count; ++k) {
                    int32_t v = requantize(from[k], g->multiplier[o + l + k], g->shift[o + l + k]);
                    y[to + k] = plus_s16(h ? h[to + k] : 0, v);
                }
            }
            continue;
        }
        const scales_t scales = scales_of(g, o + l, WIDTH);
        for (uint32_t p = 0; p < n; ++p, from += LANES, to += g->out_c) {
            lanes_t v = lanes_within_s16(
                lanes_requantize(lanes_load(from), scales.multiplier, scales.shift, scales.half));
            if (h) {
                v = lanes_within_s16(lanes_add(v, lanes_of_s16(h + to)));
            }
            lanes_store_s16(y + to, v);
        }
    }
}

// Dense, conv and project, forward

// Do the rows of A of a branch meet the inputs four at a time? A panel has to hold their runs.
static bool has_four_lanes(uint32_t rank, uint32_t runs, uint32_t run) {
    return FOUR_LANES && rank <= 8 && runs * ((run + 15) & ~15u) <= CHUNK * LANES;
}

// Rows at a time: sums in tiles need no room, and those of four lanes less.
static uint32_t most_rows(
    const edgelora_shape_t *g, uint32_t rank, uint32_t runs, uint32_t run, bool in_tiles) {
    if (!in_tiles) {
        return BLOCK_ROWS;
    }
    return !rank ? g->positions : BLOCK_ROWS * (has_four_lanes(rank, runs, run) ? LANES / 4u : 1u);
}

// What sums of t start with, s32 [rank], and zeros behind it: they are of inputs less their zero
// point.
static void t_starts(const edgelora_shape_t *g, const edgelora_branch_t *branch, int32_t *start) {
    __builtin_memset(start, 0, (EDGELORA_MAX_RANK + LANES) * sizeof(*start));
    for (uint32_t j = 0; j < branch->rank && g->zp_in; ++j) {
        int32_t sum = 0;
        for (uint32_t i = 0; i < g->inputs; ++i) {
            sum += branch->a[j * g->inputs + i];
        }
        start[j] = -g->zp_in * sum;
    }
}

// Computes t of the rows' positions, to t_rows [n, whole groups] and, if it is kept, to t.
// t_start: unless rows of A meet inputs four at a time.
static rows_t branch_down(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const int32_t *t_start, work_t *w, const rows_t *x, uint32_t run, int8_t *t) {
    uint32_t rank = branch->rank, pitch = (rank + 3) & ~3u, n = x->n,
             wide = has_four_lanes(rank, x->runs, run) ? 4 : LANES;
    for (uint32_t j = 0; j < rank; j += wide) {
        uint32_t lanes = lesser(rank - j, wide);
        source_t a = {
            .from = (const uint8_t *)branch->a + j * g->inputs, .step = g->inputs, .count = run};
        int8_t *to = pitch == wide ? w->t_rows : (int8_t *)w->branch_acc;
#if FOUR_LANES
        if (wide == 4) {
            four_lanes_pack(w->panel, a.from, a.step, lanes, run, x->runs);
            four_lanes_products(to, g->zp_in, branch->t_shift, w->panel, (run + 15) / 16, x);
        } else
#endif
        {
            panel_products(w->acc, w->panel, t_start + j, &a, lanes, x);
            for (uint32_t i = 0; i < n * LANES; i += WIDTH) {
                lanes_t v = lanes_round_shift(lanes_load(w->acc + i), branch->t_shift);
                lanes_store_s8(to + i, lanes_max(lanes_min(v, lanes_of(127)), lanes_of(-127)));
            }
        }
        for (uint32_t p = 0; pitch != wide && p < n; ++p) {
            copy_run(w->t_rows + p * pitch + j, to + p * wide, lanes);
        }
    }
    for (uint32_t p = 0; pitch != rank && p < n; ++p) {
        fill_run(w->t_rows + p * pitch + rank, pitch - rank, 0);
    }
    for (uint32_t p = 0; t && p < n; ++p) {
        copy_run(t + p * rank, w->t_rows + p * pitch, rank);
    }
    return rows_of(w->t_rows, pitch / 4, n, w->t_units);
}

static bool matrix_forward(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const edgelora_pass_t *pass) {
    uint32_t groups = (g->inputs + 3) / 4, rank = branch->rank;
    const int8_t *x = pass->x;
    int8_t *y = pass->y, *t = pass->t;
    if (!block_rows(groups)) {
        return false;
    }
    work_t *w = pass->work;
    const edgelora_op_t *op = g->op;
    bool streams = op->kind == EDGELORA_PROJECT;
    bool as_it_is = g->inputs == g->in_c && !(g->in_c & 3) && !op->pad_top && !op->pad_left &&
        op->stride_h == 1 && op->stride_w == 1 && g->out_h == g->in_h && g->out_w == g->in_w;
    image_t image = {0};
    bool has_image = !as_it_is && image_of(g, x, w, &image);
    uint32_t runs = has_image ? g->kernel_h : 1,
             run = has_image ? g->kernel_w * (uint32_t)g->in_c : g->inputs;
    bool in_tiles = IN_TILES && g->bounded && !streams && runs * ((run + 3) / 4) <= CHUNK;
    uint32_t most = most_rows(g, rank, runs, run, in_tiles);
    int32_t t_start[EDGELORA_MAX_RANK + LANES];
    if (rank && !has_four_lanes(rank, runs, run)) {
        t_starts(g, branch, t_start);
    }
    most = has_image ? most : lesser(most, BLOCK_BYTES / (4 * groups));
    for (uint32_t p = 0; p < g->positions; p += most) {
        uint32_t n = lesser(g->positions - p, most);
        rows_t rows, t_rows;
        if (has_image) {
            rows = image_rows(g, &image, p, n);
        } else {
            const int8_t *from = as_it_is ? x + p * g->inputs : w->rows;
            if (!as_it_is) {
                gather(g, x, p, n, w->rows);
            }
            rows = rows_of(from, groups, n, w->units);
        }
#ifdef IN_PLACE
        if (!rank && !streams && outputs_in_place(g, &rows, y + p * g->out_c)) {
            continue;
        }
#endif
        if (rank) {
            t_rows = branch_down(g, branch, t_start, w, &rows, run, t ? t + p * rank : 0);
        }
        for (uint32_t o = 0; o < g->out_c; o += LANES) {
            uint32_t lanes = lesser(g->out_c - o, LANES);
            int32_t some[LANES];
            for (uint32_t l = 0; lanes < LANES && l < LANES; ++l) {
                some[l] = l < lanes ? g->bias[o + l] : 0;
            }
            const int32_t *bias = lanes < LANES ? some : g->bias + o;
            source_t weights = {
                .from = g->weights + o * g->inputs,
                .step = g->inputs,
                .count = run,
                .flip = FLIP_OFFSET};
            source_t b = {
                .from = (const uint8_t *)branch->b + o * rank, .step = rank, .count = rank};
#if IN_TILES
            if (in_tiles) {
                panel_of_rows(w->panel, &weights, lanes, 0, rows.runs * rows.groups);
                product_t product = {
                    .x = &rows,
                    .panel = w->panel,
                    .y = y + p * g->out_c + o,
                    .pitch = g->out_c,
                    .lanes = lanes,
                    .scales = scales_of(g, o, lanes),
                    .range = range_of(g),
                    .rectified = is_rectified(g, g->shift + o, lanes),
                    .branch_shift = -branch->branch_shift};
                if (rank) {
                    panel_of_rows(w->b_panel, &b, lanes, 0, t_rows.groups);
                    product.t = &t_rows;
                    product.b_panel = w->b_panel;
                }
                product_outputs(&product, bias);
                continue;
            }
#endif
            panel_products(w->acc, w->panel, bias, &weights, lanes, &rows);
            if (rank) {
                panel_products(w->branch_acc, w->panel, zeros, &b, lanes, &t_rows);
                for (uint32_t i = 0; i < n * LANES; i += WIDTH) {
                    lanes_t v = lanes_round_shift(
                        lanes_load(w->branch_acc + i), -branch->branch_shift);
                    lanes_store(w->acc + i, lanes_add(lanes_load(w->acc + i), v));
                }
            }
            if (streams) {
                stream_outputs(g, o, lanes, w->acc, n, p * g->out_c, pass);
            } else {
                outputs(g, o, lanes, w->acc, n, y + p * g->out_c);
            }
        }
    }
    return true;
}

// Backward

// How values become those of an int8 block: magnitudes plus an offset, shifted.
typedef struct {
    int32_t shift;
    bool rounds;
    lanes_t offset[2]; // of values from an even place on, and from an odd one
} cut_t;

static inline cut_t cut_of(int32_t shift, bool rounds) {
    int32_t offset[WIDTH + 1] = {0};
    for (uint32_t i = 0; rounds && i <= WIDTH; ++i) {
        offset[i] = (int32_t)edgelora_block_offset(i, shift, 0);
    }
    return (cut_t){shift, rounds, {lanes_load(offset), lanes_load(offset + 1)}};
}

// An int8 block (SPEC.md: block) whose positions are written in any order.
typedef struct {
    int8_t *q;
    uint32_t size;
    bool rounds, begun;
    int32_t shift;
} block_t;

// Like edgelora_block_shift, n in 0..31.
static void shift_bytes(int8_t *q, uint32_t count, int32_t n, int32_t before, bool rounds) {
    int32_t each[WIDTH];
    for (uint32_t i = 0; i < WIDTH; ++i) {
        each[i] = rounds ? (int32_t)edgelora_block_offset(i, n, before) : 0;
    }
    const lanes_t offset = lanes_load(each);
    uint32_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH) {
        lanes_t v = lanes_of_s8(q + i);
        lanes_store_s8(q + i, lanes_signed(lanes_magnitude(v, offset, n), v));
    }
    edgelora_block_shift(q + i, count - i, n, before, rounds);
}

// Writes acc [n, LANES]: `lanes` values each from q + first + step * place on; the others are 0.
// Returns the OR of their magnitudes.
static uint32_t block_store(const block_t *b, const int32_t *acc, uint32_t n,
    const uint32_t *places, uint32_t step, uint32_t first, uint32_t lanes) {
    const cut_t cut = cut_of(b->shift, b->rounds);
    lanes_t all = lanes_of(0);
    for (uint32_t p = 0; p < n; ++p, acc += LANES) {
        uint32_t at = places[p] * step + first;
        int8_t some[LANES], *y = b->q + at, *to = lanes == LANES ? y : some;
        for (uint32_t l = 0; l < LANES; l += WIDTH) {
            lanes_t v = lanes_load(acc + l),
                    magnitude = lanes_magnitude(v, cut.offset[at & 1], cut.shift);
            all = lanes_or(all, magnitude);
            lanes_store_s8(to + l, lanes_signed(magnitude, v));
        }
        if (lanes < LANES) {
            copy_run(y, some, lanes);
        }
    }
    return lanes_bits(all);
}

static void block_put(block_t *b, const int32_t *acc, uint32_t n, const uint32_t *places,
    uint32_t step, uint32_t first, uint32_t lanes) {
    if (!b->begun) { // values not yet written are shifted together with the others
        __builtin_memset(b->q, 0, b->size);
        b->begun = true;
    }
    for (int32_t more = 1; more;) {
        more = edgelora_block_more(block_store(b, acc, n, places, step, first, lanes));
        if (more) {
            shift_bytes(b->q, b->size, more, b->shift, b->rounds);
            b->shift += more;
        }
    }
}

static bool branch_backward(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const edgelora_error_t *error, int8_t *t_error, int32_t *exponent) {
    uint32_t groups = (g->out_c + 3u) / 4, most = block_rows(groups), rank = branch->rank;
    if (!most) {
        return false;
    }
    work_t *w = error->work;
    block_t block = {t_error, g->positions * rank, g->rounds, false, 0};
    for (uint32_t p = 0; p < g->positions; p += most) {
        uint32_t n = lesser(g->positions - p, most);
        for (uint32_t k = 0; k < n; ++k) {
            int8_t *row = w->rows + 4 * groups * k;
            copy_run(row, error->e + (p + k) * g->out_c, g->out_c);
            fill_run(row + g->out_c, -g->out_c & 3, 0);
            w->places[k] = p + k;
        }
        rows_t rows = rows_of(w->rows, groups, n, w->units);
        for (uint32_t j = 0; j < rank; j += LANES) {
            uint32_t lanes = lesser(rank - j, LANES);
            source_t b = {
                .from = (const uint8_t *)branch->b + j,
                .step = rank,
                .columns = true,
                .count = g->out_c};
            panel_products(w->acc, w->panel, zeros, &b, lanes, &rows);
            block_put(&block, w->acc, n, w->places, rank, j, lanes);
        }
    }
    *exponent = error->exponent + block.shift;
    return true;
}

// The kernel elements along one axis that read input positions of a phase, last first, and their
// output positions: `at` for the first input position, one more for each following one. Output
// positions of consecutive elements have a constant distance.
typedef struct {
    uint32_t count;
    uint16_t element[256];
    int16_t at[256];
} readers_t;

static void readers_of(
    readers_t *r, uint32_t phase, int32_t stride, int32_t pad, int32_t dilation, uint32_t kernel) {
    r->count = 0;
    for (uint32_t k = kernel; k--;) {
        int32_t at = (int32_t)phase + pad - (int32_t)k * dilation;
        if (at % stride == 0) {
            r->element[r->count] = (uint16_t)k;
            r->at[r->count++] = (int16_t)(at / stride);
        }
    }
}

// Gathers the errors of e [out_h, out_w, n] that kernel elements read at one input position of a
// phase.
static void gather_errors(const edgelora_shape_t *g, const readers_t *ry, const readers_t *rx,
    int32_t y, int32_t x, const int8_t *e, uint32_t n, int8_t *row) {
    uint32_t padded = (n + 3) & ~3u;
    for (uint32_t i = 0; i < ry->count; ++i) {
        int32_t oy = ry->at[i] + y;
        for (uint32_t k = 0; k < rx->count; ++k, row += padded) {
            int32_t ox = rx->at[k] + x;
            if (oy >= 0 && oy < g->out_h && ox >= 0 && ox < g->out_w) {
                copy_run(row, e + ((uint32_t)oy * g->out_w + (uint32_t)ox) * n, n);
                fill_run(row + n, padded - n, 0);
            } else {
                fill_run(row, padded, 0);
            }
        }
    }
}

// A zero-padded copy of the errors that a phase reads, as runs of kernel elements.
typedef struct {
    int32_t top, left; // the first output position
    uint32_t height, width; // in output positions
    uint32_t wide; // positions of the phase per row
    uint32_t runs, run; // kernel elements: rows, and elements per row
    uint32_t apart; // output rows from one run to the next
} window_t;

// false: kernel elements don't read adjacent outputs.
static bool window_of(
    window_t *v, const readers_t *ry, const readers_t *rx, uint32_t high, uint32_t wide) {
    uint32_t reach_y = (uint32_t)(ry->at[ry->count - 1] - ry->at[0]),
             reach_x = (uint32_t)(rx->at[rx->count - 1] - rx->at[0]);
    *v = (window_t){
        ry->at[0], rx->at[0], high + reach_y, wide + reach_x, wide, ry->count, rx->count,
        ry->count > 1 ? reach_y / (ry->count - 1) : 0};
    return reach_x == rx->count - 1;
}

// e: s8 [out_h, out_w, n]; to: s8 [height, width, whole groups of n].
static void window_fill(
    const edgelora_shape_t *g, const window_t *v, const int8_t *e, uint32_t n, int8_t *to) {
    uint32_t padded = (n + 3) & ~3u, first = v->left < 0 ? (uint32_t)-v->left : 0;
    int32_t end = g->out_w - v->left;
    uint32_t last = end < 0 ? 0 : lesser((uint32_t)end, v->width);
    __builtin_memset(to, 0, v->height * v->width * padded);
    for (uint32_t y = 0; y < v->height && first < last; ++y) {
        int32_t oy = v->top + (int32_t)y, ox = v->left + (int32_t)first;
        if (oy < 0 || oy >= g->out_h) {
            continue;
        }
        const int8_t *from = e + ((uint32_t)oy * g->out_w + (uint32_t)ox) * n;
        int8_t *row = to + (y * v->width + first) * padded;
        if (padded == n) {
            __builtin_memcpy(row, from, (last - first) * n);
            continue;
        }
        for (uint32_t x = first; x < last; ++x, row += padded, from += n) {
            copy_run(row, from, n);
        }
    }
}

// Rows of positions [p, p + n) of a phase; values: per output position, in whole groups.
static rows_t window_rows(
    const window_t *v, const unit_t *units, uint32_t values, uint32_t p, uint32_t n) {
    return (rows_t){
        units, v->runs, v->run * values / 4, v->apart * v->width * values, n, p, v->wide, values,
        v->width * values};
}

static void trunc_all(int32_t *v, int32_t n, uint32_t count) { // count: a multiple of WIDTH
    for (uint32_t i = 0; n && i < count; i += WIDTH) {
        lanes_store(v + i, lanes_trunc_shift(lanes_load(v + i), n < 31 ? n : 31));
    }
}

// Common state of all phases of an input's error.
typedef struct {
    const edgelora_shape_t *g;
    const edgelora_branch_t *branch;
    const edgelora_error_t *error;
    int32_t e_shift, t_shift; // shifts of both sums to their common exponent
    block_t block;
} joint_t;

// Computes input channels for positions with errors e and, with a branch, t, from kernel
// elements (taps) that start at `starts` in a row of weights.
static void input_errors(joint_t *j, work_t *w, uint32_t channels, const uint32_t *starts,
    const rows_t *e, const rows_t *t) {
    const edgelora_shape_t *g = j->g;
    uint32_t rank = j->branch->rank, n = e->n;
    for (uint32_t c = 0; c < channels; c += LANES) {
        uint32_t lanes = lesser(channels - c, LANES);
        source_t columns = {
            .from = g->weights + c,
            .step = g->inputs,
            .columns = true,
            .flip = FLIP_OFFSET,
            .count = g->out_c,
            .starts = starts};
        panel_products(w->acc, w->panel, zeros, &columns, lanes, e);
        if (rank) {
            source_t a = {
                .from = (const uint8_t *)j->branch->a + c,
                .step = g->inputs,
                .columns = true,
                .count = rank,
                .starts = starts};
            panel_products(w->branch_acc, w->panel, zeros, &a, lanes, t);
            trunc_all(w->acc, j->e_shift, n * LANES);
            trunc_all(w->branch_acc, j->t_shift, n * LANES);
            for (uint32_t i = 0; i < n * LANES; i += WIDTH) {
                lanes_store(
                    w->acc + i, lanes_add(lanes_load(w->acc + i), lanes_load(w->branch_acc + i)));
            }
        }
        block_put(&j->block, w->acc, n, w->places, channels, c, lanes);
    }
}

// Gathers rows of n positions to w->rows: errors of the outputs, then of t.
static void gathered_errors(
    joint_t *j, work_t *w, uint32_t channels, const uint32_t *starts, uint32_t taps, uint32_t n) {
    uint32_t groups = taps * ((j->g->out_c + 3u) / 4),
             t_groups = taps * ((j->branch->rank + 3u) / 4);
    rows_t e = rows_of(w->rows, groups, n, w->units), t = {0};
    if (t_groups) {
        uint32_t behind = 4 * groups * n;
        t = rows_of(w->rows + behind, t_groups, n, units_in(w) + behind);
    }
    input_errors(j, w, channels, starts, &e, &t);
}

static void phase_errors(
    joint_t *j, work_t *w, uint32_t py, uint32_t px, const readers_t *ry, const readers_t *rx) {
    const edgelora_shape_t *g = j->g;
    const edgelora_op_t *op = g->op;
    uint32_t rank = j->branch->rank, taps = ry->count * rx->count, values = (g->out_c + 3u) & ~3u,
             t_values = (rank + 3) & ~3u, pitch = taps * values, t_pitch = taps * t_values;
    uint32_t starts[MOST_TAPS];
    for (uint32_t i = 0; i < taps; ++i) {
        starts[i] = ((uint32_t)ry->element[i / rx->count] * g->kernel_w +
                        rx->element[i % rx->count]) *
            g->in_c;
    }
    uint32_t wide = (g->in_w - px + op->stride_w - 1u) / op->stride_w,
             high = (g->in_h - py + op->stride_h - 1u) / op->stride_h;
    uint32_t most = taps ? block_rows((pitch + t_pitch) / 4) : BLOCK_ROWS;
    window_t v = {0};
    const unit_t *units = 0, *t_units = 0;
    if (taps && window_of(&v, ry, rx, high, wide) && v.run * values <= 4 * CHUNK &&
        v.height * v.width <= BLOCK_BYTES / (values + t_values)) {
        uint32_t behind = v.height * v.width * values;
        window_fill(g, &v, j->error->e, g->out_c, w->rows);
        if (rank) {
            window_fill(g, &v, j->error->t_error, rank, w->rows + behind);
        }
        units = units_in(w);
#if !UNITS_ARE_INPUTS
        units_copy(w->units, w->rows, v.height * v.width * (values + t_values));
#endif
        t_units = units + behind;
        most = BLOCK_ROWS;
    }
    for (uint32_t p = 0; p < high * wide; p += most) {
        uint32_t n = lesser(high * wide - p, most);
        int8_t *t_rows = w->rows + n * pitch;
        for (uint32_t k = 0; k < n; ++k) {
            uint32_t y = (p + k) / wide, x = (p + k) % wide;
            w->places[k] = (y * op->stride_h + py) * g->in_w + x * op->stride_w + px;
            if (taps && !units) {
                gather_errors(
                    g, ry, rx, (int32_t)y, (int32_t)x, j->error->e, g->out_c, w->rows + k * pitch);
            }
            if (rank && !units) {
                gather_errors(g, ry, rx, (int32_t)y, (int32_t)x, j->error->t_error, rank,
                    t_rows + k * t_pitch);
            }
        }
        if (units) {
            rows_t e = window_rows(&v, units, values, p, n), t = {0};
            if (rank) {
                t = window_rows(&v, t_units, t_values, p, n);
            }
            input_errors(j, w, g->in_c, starts, &e, &t);
        } else if (taps) {
            gathered_errors(j, w, g->in_c, starts, taps, n);
        } else {
            for (uint32_t k = 0; k < n; ++k) {
                fill_run(j->block.q + w->places[k] * g->in_c, g->in_c, 0);
            }
        }
    }
}

static bool matrix_backward(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const edgelora_error_t *error, int8_t *dx, int32_t *exponent) {
    const edgelora_op_t *op = g->op;
    uint32_t rank = branch->rank, taps = (uint32_t)g->kernel_h * g->kernel_w,
             values = ((g->out_c + 3u) & ~3u) + ((rank + 3) & ~3u);
    bool dense = op->kind == EDGELORA_DENSE;
    if (dense ? values > BLOCK_BYTES : taps > MOST_TAPS || values * taps > BLOCK_BYTES) {
        return false;
    }
    int32_t branch_exponent = error->t_exponent + branch->branch_shift - branch->t_shift;
    int32_t top = rank && branch_exponent > error->exponent ? branch_exponent : error->exponent;
    joint_t j = {
        g, branch, error, top - error->exponent, top - branch_exponent,
        {dx, (uint32_t)g->in_h * g->in_w * g->in_c, g->rounds, false, 0}};
    work_t *w = error->work;
    if (dense) {
        int8_t *end = w->rows;
        copy_run(end, error->e, g->out_c);
        end = fill_run(end + g->out_c, -g->out_c & 3, 0);
        if (rank) {
            copy_run(end, error->t_error, rank);
            fill_run(end + rank, -rank & 3, 0);
        }
        w->places[0] = 0;
        gathered_errors(&j, w, g->inputs, 0, 1, 1);
    } else {
        readers_t ry, rx;
        for (uint32_t py = 0; py < op->stride_h && py < g->in_h; ++py) {
            readers_of(&ry, py, op->stride_h, op->pad_top, op->dilation_h, g->kernel_h);
            for (uint32_t px = 0; px < op->stride_w && px < g->in_w; ++px) {
                readers_of(&rx, px, op->stride_w, op->pad_left, op->dilation_w, g->kernel_w);
                phase_errors(&j, w, py, px, &ry, &rx);
            }
        }
    }
    *exponent = top + j.block.shift;
    return true;
}

// Transposes columns of t or of its error [positions, rank], for positions [p, p + n), to rows
// [rank, groups, 4].
static void turn_columns(int8_t *to, const int8_t *t, uint32_t rank, uint32_t p, uint32_t n) {
    uint32_t pitch = (n + 3) & ~3u;
    for (uint32_t j = 0; j < rank; ++j, to += pitch) {
        for (uint32_t k = 0; k < n; ++k) {
            to[k] = t[(p + k) * rank + j];
        }
        fill_run(to + n, pitch - n, 0);
    }
}

// to += trunc_shift(factor * (v - zero), shift)
static void outer(
    int32_t *to, const int8_t *v, int32_t zero, uint32_t count, int32_t factor, int32_t shift) {
    uint32_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH) {
        lanes_t product = lanes_mul(
            lanes_sub(lanes_of_s8(v + i), lanes_of(zero)), lanes_of(factor));
        product = lanes_trunc_shift(product, shift < 31 ? shift : 31);
        lanes_store(to + i, lanes_add(lanes_load(to + i), product));
    }
    for (; i < count; ++i) {
        to[i] += trunc_shift(factor * (v[i] - zero), shift);
    }
}

static bool b_gradient(const edgelora_shape_t *g, uint32_t rank, const edgelora_error_t *error,
    const int8_t *t, int32_t *gradient, int32_t shift) {
    if (g->positions == 1 && rank % WIDTH == 0) {
        for (uint32_t o = 0; o < g->out_c; ++o) {
            outer(gradient + o * rank, t, 0, rank, error->e[o], shift);
        }
        return true;
    }
    uint32_t groups = (g->positions + 3) / 4;
    if (4 * groups * rank > BLOCK_BYTES || rank > BLOCK_ROWS) {
        return false;
    }
    work_t *w = error->work;
    turn_columns(w->rows, t, rank, 0, g->positions);
    rows_t columns = rows_of(w->rows, groups, rank, w->units);
    for (uint32_t o = 0; o < g->out_c; o += LANES) {
        uint32_t lanes = lesser(g->out_c - o, LANES);
        source_t e = {
            .from = (const uint8_t *)error->e + o,
            .step = g->out_c,
            .columns = true,
            .count = g->positions};
        panel_products(w->acc, w->panel, zeros, &e, lanes, &columns);
        trunc_all(w->acc, shift, rank * LANES);
        for (uint32_t l = 0; l < lanes; ++l) {
            for (uint32_t j = 0; j < rank; ++j) {
                gradient[(o + l) * rank + j] += w->acc[j * LANES + l];
            }
        }
    }
    return true;
}

static bool a_gradient(const edgelora_shape_t *g, uint32_t rank, const edgelora_error_t *error,
    int32_t *gradient, int32_t shift) {
    if (g->op->kind == EDGELORA_DENSE) {
        for (uint32_t j = 0; j < rank; ++j) {
            int32_t *to = gradient + j * g->inputs;
            outer(to, error->x, g->zp_in, g->inputs, error->t_error[j], shift);
        }
        return true;
    }
    uint32_t row = (g->inputs + 3) & ~3u, most = block_rows(row / 4) & ~3u,
             panels = (g->inputs + LANES - 1) / LANES;
    if (!most || panels * LANES * rank > SUMS || rank > BLOCK_ROWS) {
        return false;
    }
    work_t *w = error->work;
    int32_t *sums = w->sums;
    for (uint32_t i = 0; i < panels * LANES * rank; ++i) {
        sums[i] = 0;
    }
    for (uint32_t p = 0; p < g->positions; p += most) {
        uint32_t n = lesser(g->positions - p, most);
        gather(g, error->x, p, n, w->rows);
        turn_columns(w->t_rows, error->t_error, rank, p, n);
        rows_t columns = rows_of(w->t_rows, (n + 3) / 4, rank, w->t_units);
        for (uint32_t i = 0, at = 0; i < g->inputs; i += LANES, at += LANES * rank) {
            source_t x = {
                .from = (const uint8_t *)w->rows + i, .step = row, .columns = true, .count = n};
            panel_products(w->acc, w->panel, zeros, &x, lesser(g->inputs - i, LANES), &columns);
            for (uint32_t k = 0; k < LANES * rank; ++k) {
                sums[at + k] += w->acc[k];
            }
        }
    }
    for (uint32_t j = 0; j < rank; ++j) {
        int32_t sum = 0;
        for (uint32_t p = 0; p < g->positions; ++p) {
            sum += error->t_error[p * rank + j];
        }
        const int32_t *from = sums + j * LANES;
        int32_t *to = gradient + j * g->inputs;
        for (uint32_t i = 0; i < g->inputs; i += LANES, from += rank * LANES) {
            int32_t some[LANES];
            for (uint32_t l = 0; l < LANES; l += WIDTH) {
                lanes_t v = lanes_sub(lanes_load(from + l), lanes_of(g->zp_in * sum));
                lanes_store(some + l, lanes_trunc_shift(v, shift < 31 ? shift : 31));
            }
            uint32_t lanes = lesser(g->inputs - i, LANES);
            for (uint32_t l = 0; l < lanes; ++l) {
                to[i + l] += some[l];
            }
        }
    }
    return true;
}

#endif
