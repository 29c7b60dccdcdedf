// The kernels, on the vector lanes of the including file.
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

#ifndef WORK_SHARE
#define WORK_SHARE 1 // work memory is this share of a computer's
#endif
#ifndef FOUR_LANES
#define FOUR_LANES 0 // does the including file have products of a branch's four rows of A?
#endif
#ifdef OWN_STEPS
#define IN_TILES 0 // do sums stay in registers?
#else
#define IN_TILES 1
#endif
#ifndef LEAST_RUN
#define LEAST_RUN 1 // bytes; shorter runs of a convolution's input are gathered
#endif

enum {
    BLOCK_BYTES = 49152 / WORK_SHARE, // of inputs at a time
    BLOCK_ROWS = 256 / WORK_SHARE,
    SLACK = 16, // units behind inputs that runs of whole groups may read
    TAPS_BYTES = 131072 / WORK_SHARE, // of a depthwise kernel's input at a time
    MOST_TAPS = 64,
    SUMS = 16384 / WORK_SHARE, // of a gradient of A
};

// Work memory of a matrix product,
typedef struct {
    int8_t rows[BLOCK_BYTES + SLACK]; // gather writes past a row's end
    int8_t t_rows[BLOCK_ROWS * EDGELORA_MAX_RANK];
    unit_t units[UNITS_ARE_INPUTS ? 1 : BLOCK_BYTES + SLACK],
        t_units[UNITS_ARE_INPUTS ? 1 : BLOCK_ROWS * EDGELORA_MAX_RANK];
    weight_t panel[CHUNK * 4 * LANES], b_panel[EDGELORA_MAX_RANK * LANES];
    int32_t acc[BLOCK_ROWS * LANES], branch_acc[BLOCK_ROWS * LANES];
    uint32_t places[BLOCK_ROWS]; // position of each row
    int32_t sums[SUMS];          // [panels, rank, LANES]
} work_t;

// and of a depthwise kernel.
typedef struct {
    int16_t plane[TAPS_BYTES / 2], weights[MOST_TAPS * 16];
    uint32_t offset[MOST_TAPS], places[BLOCK_ROWS];
    int32_t acc[BLOCK_ROWS * 16];
} taps_work_t;

typedef union {
    work_t product;
    taps_work_t taps;
    // of attention, as large as its heads can be
    int32_t words[WORK_SHARE > 1 ? 1 : 61440];
} any_work_t;

#define FLIP_OFFSET 0x80808080u

// The source of a panel's values: segments of `count` values, each padded to whole groups. Those of
// rows follow each other.
typedef struct {
    const uint8_t *from;
    uint32_t step;          // rows: between lanes; columns: between values
    bool columns;           // lanes are adjacent
    uint32_t flip;          // FLIP_OFFSET: of offset binary
    uint32_t count;         // of a segment
    const uint32_t *starts; // of segments of columns, in bytes; NULL: one segment, at 0
} source_t;

static inline uint32_t lesser(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static inline void copy_run(int8_t *to, const int8_t *from, uint32_t n) {
    if (n >= 16) {
        for (uint32_t i = 0; i + 16 < n; i += 16) {
            __builtin_memcpy(to + i, from + i, 16);
        }
        __builtin_memcpy(to + n - 16, from + n - 16, 16);
    } else if (n >= 4) {
        uint32_t half = n >= 8 ? 8 : 4;
        if (half == 8) {
            __builtin_memcpy(to, from, 8);
            __builtin_memcpy(to + n - 8, from + n - 8, 8);
        } else {
            __builtin_memcpy(to, from, 4);
            __builtin_memcpy(to + n - 4, from + n - 4, 4);
        }
    } else {
        for (uint32_t i = 0; i < n; ++i) {
            to[i] = from[i];
        }
    }
}

#ifndef OWN_STEPS // of the including file

// Half of 2^-shift in each lane.
static inline lanes_t lanes_half(const int8_t *shift) {
    int32_t half[WIDTH];
    for (uint32_t l = 0; l < WIDTH; ++l) {
        half[l] = (int32_t)((1u << -shift[l]) >> 1);
    }
    return lanes_load(half);
}

// Stores the lowest byte of each of the first `count` lanes.
static inline void lanes_store_first(int8_t *to, lanes_t v, uint32_t count) {
    if (count == WIDTH) {
        lanes_store_s8(to, v);
    } else {
        int8_t some[WIDTH];
        lanes_store_s8(some, v);
        copy_run(to, some, count);
    }
}

#endif

static inline int8_t *fill_run(int8_t *to, uint32_t n, int8_t v) {
    for (; n; --n) {
        *to++ = v;
    }
    return to;
}

static void widen(int16_t *to, const int8_t *from, uint32_t n) {
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16) {
        widen_16(to + i, from + i);
    }
    for (; i < n; ++i) {
        to[i] = from[i];
    }
}

// The OR of all lanes, their sum, and the largest.
static inline uint32_t lanes_bits(lanes_t v) {
    int32_t each[WIDTH];
    uint32_t bits = 0;
    lanes_store(each, v);
    for (uint32_t l = 0; l < WIDTH; ++l) {
        bits |= (uint32_t)each[l];
    }
    return bits;
}

static inline int32_t lanes_sum(lanes_t v) {
    int32_t each[WIDTH], sum = 0;
    lanes_store(each, v);
    for (uint32_t l = 0; l < WIDTH; ++l) {
        sum += each[l];
    }
    return sum;
}

static inline int32_t lanes_largest(lanes_t v) {
    int32_t each[WIDTH], most = INT32_MIN;
    lanes_store(each, v);
    for (uint32_t l = 0; l < WIDTH; ++l) {
        most = each[l] > most ? each[l] : most;
    }
    return most;
}

static inline lanes_t lanes_within_s16(lanes_t v) {
    return lanes_max(lanes_min(v, lanes_of(32767)), lanes_of(-32768));
}

// (|v| + offset) >> n, n in 0..31
static inline lanes_t lanes_magnitude(lanes_t v, lanes_t offset, int32_t n) {
    return lanes_shift_down(lanes_add(lanes_abs(v), offset), n);
}

// Inputs as units; where they are neither bytes nor words, in the including file.
#if UNITS_ARE_INPUTS
#define units_copy __builtin_memcpy
#elif UNITS_ARE_WORDS
#define units_copy widen
#endif

static unit_t *units_fill(unit_t *to, uint32_t n, int8_t v) {
    for (; n; --n) {
        *to++ = unit_of(v);
    }
    return to;
}

// rows: s8 [n, groups, 4]; units: room for them.
static rows_t rows_of(const int8_t *rows, uint32_t groups, uint32_t n, unit_t *units) {
    rows_t r = {units, 1, groups, 0, n, 0, n, 4 * groups, 0};
#if UNITS_ARE_INPUTS
    r.units = rows;
#else
    units_copy(units, rows, 4 * groups * n);
#endif
    return r;
}

// Panels

// Packs groups [first, end) of one segment of `count` values, the first of each lane at row.
static void segment_of_rows(weight_t *panel, const uint8_t *const *row, uint32_t lanes,
    uint32_t flip, uint32_t count, uint32_t first, uint32_t end) {
    uint32_t whole = lesser(count / 4, end), i = first;
    for (; i + 4 <= whole; i += 4, panel += 4 * PANEL_GROUP) {
        groups_from_rows(panel, row, lanes, 4 * i, flip);
    }
    for (; i < end; ++i, panel += PANEL_GROUP) {
        uint32_t n = lesser(4, count - 4 * i);
        for (uint32_t l = 0; l < LANES; ++l) {
            uint32_t four = 0;
            for (uint32_t k = 0; k < n; ++k) {
                four |= (uint32_t)(row[l][4 * i + k] ^ (flip & 0xFF)) << 8 * k;
            }
            group_store(panel, l, four);
        }
    }
}

// Packs groups [first, end). Lanes from `lanes` on are not used: they hold anything.
static void panel_of_rows(
    weight_t *panel, const source_t *s, uint32_t lanes, uint32_t first, uint32_t end) {
    const uint8_t *row[LANES];
    for (uint32_t l = 0; l < LANES; ++l) {
        row[l] = s->from + lesser(l, lanes - 1) * s->step;
    }
    if (!(s->count & 3)) { // segments without padding are one
        segment_of_rows(panel, row, lanes, s->flip, 4 * end, first, end);
        return;
    }
    uint32_t part = (s->count + 3) / 4, segment = first / part;
    for (uint32_t l = 0; l < LANES; ++l) {
        row[l] += segment * s->count;
    }
    for (uint32_t from = first % part; first < end; from = 0) {
        uint32_t n = lesser(part - from, end - first);
        segment_of_rows(panel, row, lanes, s->flip, s->count, from, from + n);
        panel += PANEL_GROUP * n;
        first += n;
        for (uint32_t l = 0; l < LANES; ++l) {
            row[l] += s->count;
        }
    }
}

static void panel_of_columns(
    weight_t *panel, const source_t *s, uint32_t lanes, uint32_t first, uint32_t end) {
    uint32_t part = (s->count + 3) / 4, segment = first / part, in_part = first % part;
    uint8_t copy[4][LANES];
    const int zero = (int)(s->flip & 0xFF);
    __builtin_memset(copy, zero, sizeof(copy));
    for (uint32_t i = first; i < end; ++i, panel += PANEL_GROUP) {
        const uint8_t *from = s->from + (s->starts ? s->starts[segment] : 0) +
            4 * in_part * s->step;
        const uint8_t *row[4];
        uint32_t left = s->count - 4 * in_part;
        for (uint32_t k = 0; k < 4; ++k, from += s->step) {
            row[k] = copy[k];
            if (k < left && lanes == LANES) {
                row[k] = from;
            } else if (k < left) {
                copy_run((int8_t *)copy[k], (const int8_t *)from, lanes);
            } else {
                __builtin_memset(copy[k], zero, LANES);
            }
        }
        group_from_columns(panel, row, s->flip);
        if (++in_part == part) {
            in_part = 0;
            ++segment;
        }
    }
}

// round_shift, n in -31..31
static inline lanes_t lanes_round_shift(lanes_t v, int32_t n) {
    return n > 0 ? lanes_shift_right(lanes_add(v, lanes_of((int32_t)(1u << (n - 1)))), n)
                 : lanes_shift_left(v, -n);
}

// The range of an output.
typedef struct {
    int8_t zero_point, low, high;
} range_t;

static range_t range_of(const edgelora_shape_t *g) {
    return (range_t){g->zp_out, g->op->act_min, g->op->act_max};
}

// Stores rows of outputs, `pitch` bytes apart: v + zero_point, limited to the range.
static inline __attribute__((always_inline)) void rows_store(
    int8_t *to, uint32_t pitch, const lanes_t *v, const int rows, const range_t *range) {
    int r = 0;
#ifdef EDGELORA_STORES_FOUR
#pragma GCC unroll 4
    for (; r + 4 <= rows; r += 4) {
        lanes_store_four(
            to + (uint32_t)r * pitch, pitch, v + r, range->zero_point, range->low, range->high);
    }
#endif
    lanes_t zero_point = lanes_of(range->zero_point), low = lanes_of(range->low),
            high = lanes_of(range->high);
#pragma GCC unroll 16
    for (; r < rows; ++r) {
        lanes_store_s8(
            to + (uint32_t)r * pitch, lanes_max(lanes_min(lanes_add(v[r], zero_point), high), low));
    }
}

// What makes outputs of sums, for WIDTH of them.
typedef struct {
    lanes_t multiplier, shift, half; // half: of 2^-shift
    lanes_t zero_point, low, high;
} scales_t;

// Of outputs [o, o + count), count <= WIDTH.
static inline scales_t scales_of(const edgelora_shape_t *g, uint32_t o, uint32_t count) {
    const int32_t *multiplier = g->multiplier + o;
    const int8_t *shift = g->shift + o;
    int32_t multipliers[WIDTH];
    int8_t shifts[WIDTH];
    if (count < WIDTH) { // 0 behind them
        for (uint32_t l = 0; l < WIDTH; ++l) {
            multipliers[l] = l < count ? multiplier[l] : 0;
            shifts[l] = l < count ? shift[l] : 0;
        }
        multiplier = multipliers;
        shift = shifts;
    }
    return (scales_t){
        lanes_load(multiplier), lanes_of_s8(shift), lanes_half(shift), lanes_of(g->zp_out),
        lanes_of(g->op->act_min), lanes_of(g->op->act_max)};
}

// Are all outputs up to 0 the same, and all of the `count` shifts to the right, at least by one?
static inline bool is_rectified(const edgelora_shape_t *g, const int8_t *shift, uint32_t count) {
    bool rectified = g->op->act_min >= g->zp_out;
    for (uint32_t i = 0; i < count; ++i) {
        rectified &= shift[i] < 0;
    }
    return rectified;
}

#ifndef EDGELORA_RECTIFIES // by the including file
#define lanes_rectified lanes_requantize
#endif

// |acc| < 2^30
static inline lanes_t lanes_output(lanes_t acc, const scales_t *s) {
    lanes_t v = lanes_requantize(acc, s->multiplier, s->shift, s->half);
    return lanes_max(lanes_min(lanes_add(v, s->zero_point), s->high), s->low);
}

static const int32_t zeros[LANES];

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

// Depthwise: 16 channels at a time, over a padded 16-bit copy of the input.

// Geometry of one direction: for each kernel element, output (y, x) reads at (y * stride_h, x *
// stride_w) plus the element's offset.
typedef struct {
    uint32_t out_h, out_w, channels, stride_h, stride_w;
    uint32_t reach_h, width; // rows that an output reads; values of a row
    uint32_t taps;
    uint32_t tap_y[MOST_TAPS], tap_x[MOST_TAPS];
    // of the input: row y, column x is at (y * apart_h + top, x * apart_w + left)
    const int8_t *in;
    uint32_t in_h, in_w, apart_h, apart_w;
    int32_t top, left;
    int8_t edge;
} plane_t;

#ifdef OWN_DEPTHWISE
#include "kernels/simd/strips.h"
#endif

static uint32_t plane_rows(const plane_t *p) { // output rows at a time; 0: none
    uint32_t row = p->width * ((p->channels + 15) & ~15u) * 2, room = TAPS_BYTES / row;
    return room < p->reach_h ? 0 : lesser((room - p->reach_h) / p->stride_h + 1, p->out_h);
}

// Fills the plane with the input of output rows [y, y + rows).
static void plane_fill(const plane_t *p, int16_t *plane, uint32_t y, uint32_t rows) {
    uint32_t pitch = (p->channels + 15) & ~15u, row = p->width * pitch, first = y * p->stride_h,
             count = (rows - 1) * p->stride_h + p->reach_h;
    for (uint32_t i = 0; i < count * row; ++i) {
        plane[i] = p->edge;
    }
    for (uint32_t iy = 0; iy < p->in_h; ++iy) {
        int32_t at = (int32_t)(iy * p->apart_h) + p->top - (int32_t)first;
        if (at < 0 || at >= (int32_t)count) {
            continue;
        }
        for (uint32_t ix = 0; ix < p->in_w; ++ix) {
            int32_t x = (int32_t)(ix * p->apart_w) + p->left;
            if (x >= 0 && x < (int32_t)p->width) {
                widen(plane + (uint32_t)at * row + (uint32_t)x * pitch,
                    p->in + (iy * p->in_w + ix) * p->channels, p->channels);
            }
        }
    }
}

// Packs weights of channels [c, c + lanes), with pairs of taps interleaved. weights: u8 [taps,
// channels]; turned: last tap first.
static void plane_weights(const plane_t *p, const uint8_t *weights, bool turned, uint32_t c,
    uint32_t lanes, int16_t *to) {
    for (uint32_t t = 0; t < p->taps; t += 2, to += 32) {
        int16_t two[2][16] = {{0}};
        for (uint32_t k = 0; k < 2 && t + k < p->taps; ++k) {
            uint32_t tap = turned ? p->taps - 1 - t - k : t + k;
            for (uint32_t l = 0; l < lanes; ++l) {
                two[k][l] = (int16_t)(weights[tap * p->channels + c + l] - 128);
            }
        }
        taps_join(to, two[0], two[1]);
    }
}

static void plane_offsets(const plane_t *p, uint32_t *offset) {
    uint32_t pitch = (p->channels + 15) & ~15u;
    for (uint32_t t = 0; t < p->taps; ++t) {
        offset[t] = (p->tap_y[t] * p->width + p->tap_x[t]) * pitch;
    }
    offset[p->taps] = offset[0]; // multiplied by weights of 0
}

static bool depthwise_forward(const edgelora_shape_t *g, const int8_t *x, int8_t *y, void *work) {
    const edgelora_op_t *op = g->op;
    uint32_t taps = (uint32_t)g->kernel_h * g->kernel_w;
    if (taps > MOST_TAPS - 1 || g->in_c != g->out_c || !g->bounded) {
        return false;
    }
    plane_t p = {
        .out_h = g->out_h,
        .out_w = g->out_w,
        .channels = g->in_c,
        .stride_h = op->stride_h,
        .stride_w = op->stride_w,
        .reach_h = (g->kernel_h - 1u) * op->dilation_h + 1,
        .width = (g->out_w - 1u) * op->stride_w + (g->kernel_w - 1u) * op->dilation_w + 1,
        .taps = taps,
        .in = x,
        .in_h = g->in_h,
        .in_w = g->in_w,
        .apart_h = 1,
        .apart_w = 1,
        .top = op->pad_top,
        .left = op->pad_left,
        .edge = g->zp_in};
    for (uint32_t t = 0; t < taps; ++t) {
        p.tap_y[t] = t / g->kernel_w * op->dilation_h;
        p.tap_x[t] = t % g->kernel_w * op->dilation_w;
    }
#ifdef OWN_DEPTHWISE
    if (has_strips(&p, g)) {
        strips_forward(&p, g, y, work);
        return true;
    }
#endif
    uint32_t most = plane_rows(&p), pitch = (p.channels + 15) & ~15u;
    if (!most) {
        return false;
    }
    taps_work_t *w = work;
    int16_t *plane = w->plane, *weights = w->weights;
    uint32_t *offset = w->offset;
    plane_offsets(&p, offset);
    for (uint32_t first = 0; first < p.out_h; first += most) {
        uint32_t rows = lesser(p.out_h - first, most);
        plane_fill(&p, plane, first, rows);
        for (uint32_t c = 0; c < p.channels; c += 16) {
            uint32_t lanes = lesser(p.channels - c, 16);
            int32_t bias[16] = {0};
            scales_t scales[16 / WIDTH];
            for (uint32_t l = 0; l < lanes; ++l) {
                bias[l] = g->bias[c + l];
            }
            for (uint32_t l = 0; l < 16; l += WIDTH) {
                scales[l / WIDTH] = scales_of(g, c + l, l < lanes ? lesser(lanes - l, WIDTH) : 0);
            }
            plane_weights(&p, g->weights, false, c, lanes, weights);
            for (uint32_t i = 0, oy = 0, ox = 0; i < rows * p.out_w;
                ++i, ox = ox + 1 < p.out_w ? ox + 1 : 0, oy += !ox) {
                lanes_t acc[16 / WIDTH];
                const int16_t *at = plane + (oy * p.stride_h * p.width + ox * p.stride_w) * pitch +
                    c;
                if (taps == 9) { // unrolled
                    taps_products(acc, at, offset, weights, 5);
                } else {
                    taps_products(acc, at, offset, weights, (taps + 1) / 2);
                }
                int8_t some[16], *to = y + (first * p.out_w + i) * p.channels + c,
                                 *out = lanes == 16 ? to : some;
                for (uint32_t l = 0; l < 16; l += WIDTH) {
                    lanes_t v = lanes_add(acc[l / WIDTH], lanes_load(bias + l));
                    lanes_store_s8(out + l, lanes_output(v, &scales[l / WIDTH]));
                }
                if (lanes < 16) {
                    copy_run(to, some, lanes);
                }
            }
        }
    }
    return true;
}

static bool depthwise_backward(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx, int32_t *exponent) {
    const edgelora_op_t *op = g->op;
    uint32_t taps = (uint32_t)g->kernel_h * g->kernel_w;
    if (taps > MOST_TAPS - 1 || g->in_c != g->out_c) {
        return false;
    }
    // input position i reads the plane from i on with the reversed kernel; output o is at o
    // * stride + reach - 1 - pad
    uint32_t reach_h = (g->kernel_h - 1u) * op->dilation_h + 1,
             reach_w = (g->kernel_w - 1u) * op->dilation_w + 1;
    plane_t p = {
        .out_h = g->in_h,
        .out_w = g->in_w,
        .channels = g->in_c,
        .stride_h = 1,
        .stride_w = 1,
        .reach_h = reach_h,
        .width = g->in_w - 1u + reach_w,
        .taps = taps,
        .in = error->e,
        .in_h = g->out_h,
        .in_w = g->out_w,
        .apart_h = op->stride_h,
        .apart_w = op->stride_w,
        .top = (int32_t)reach_h - 1 - op->pad_top,
        .left = (int32_t)reach_w - 1 - op->pad_left};
    for (uint32_t t = 0; t < taps; ++t) {
        p.tap_y[t] = t / g->kernel_w * op->dilation_h;
        p.tap_x[t] = t % g->kernel_w * op->dilation_w;
    }
    block_t block = {dx, (uint32_t)g->in_h * g->in_w * g->in_c, g->rounds, false, 0};
#ifdef OWN_DEPTHWISE
    if (has_strips(&p, g)) {
        strips_backward(&p, g->weights, &block, error->work);
        *exponent = error->exponent + block.shift;
        return true;
    }
#endif
    uint32_t most = plane_rows(&p), pitch = (p.channels + 15) & ~15u;
    if (!most) {
        return false;
    }
    taps_work_t *w = error->work;
    int16_t *plane = w->plane, *weights = w->weights;
    uint32_t *offset = w->offset, *places = w->places;
    int32_t *acc = w->acc;
    plane_offsets(&p, offset);
    for (uint32_t first = 0; first < p.out_h; first += most) {
        uint32_t rows = lesser(p.out_h - first, most), count = rows * p.out_w;
        plane_fill(&p, plane, first, rows);
        for (uint32_t c = 0; c < p.channels; c += 16) {
            uint32_t lanes = lesser(p.channels - c, 16);
            plane_weights(&p, g->weights, true, c, lanes, weights);
            for (uint32_t i = 0; i < count; i += BLOCK_ROWS) {
                uint32_t n = lesser(count - i, BLOCK_ROWS);
                uint32_t iy = i / p.out_w, ix = i % p.out_w;
                for (uint32_t k = 0; k < n; ++k, ix = ix + 1 < p.out_w ? ix + 1 : 0, iy += !ix) {
                    int32_t *sums = acc + k * LANES;
                    lanes_t taken[16 / WIDTH];
                    const int16_t *at = plane + (iy * p.width + ix) * pitch + c;
                    if (taps == 9) { // unrolled
                        taps_products(taken, at, offset, weights, 5);
                    } else {
                        taps_products(taken, at, offset, weights, (taps + 1) / 2);
                    }
                    for (uint32_t l = 0; l < 16; l += WIDTH) {
                        lanes_store(sums + l / LANES * LANES * n + l % LANES, taken[l / WIDTH]);
                    }
                    places[k] = first * p.out_w + i + k;
                }
                for (uint32_t l = 0; l < lanes; l += LANES) {
                    block_put(&block, acc + l * n, n, places, p.channels, c + l,
                        lesser(lanes - l, LANES));
                }
            }
        }
    }
    *exponent = error->exponent + block.shift;
    return true;
}

// Elementwise ops and pools

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

#ifndef EDGELORA_MIXES_FOUR // by the including file

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

#include "kernels/simd/attend.h"
#include "kernels/simd/norm.h"

const edgelora_simd_t EDGELORA_TABLE = {
    .work_size = sizeof(any_work_t),
    .matrix_forward = matrix_forward,
    .depthwise_forward = depthwise_forward,
#ifndef NO_POOLS
    .pool_forward = pool_forward,
#endif
    .add_forward = add_forward,
    .multiply_forward = multiply_forward,
    .multiply_backward = multiply_backward,
    .lookup_backward = lookup_backward,
    .norm_forward = norm_forward,
    .norm_backward = norm_backward,
    .rotate_forward = rotate_forward,
    .rotate_backward = rotate_backward,
    .attend_forward = attend_forward,
    .attend_backward = attend_backward,
    .mask = mask_of,
    .mask_backward = mask_backward,
    .b_gradient = b_gradient,
    .a_gradient = a_gradient,
    .requantize_backward = requantize_backward,
    .branch_backward = branch_backward,
    .matrix_backward = matrix_backward,
    .depthwise_backward = depthwise_backward,
    .add_backward = add_backward,
    .error_add = error_add,
};
