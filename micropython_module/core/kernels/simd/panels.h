// Work memory, inputs as units, panels of weights, and outputs of sums, on vector lanes.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_SIMD_PANELS_H
#define EDGELORA_SIMD_PANELS_H

#include "kernels/simd/lanes.h"

#ifndef WORK_SHARE
#define WORK_SHARE 1 // work memory is this share of a computer's
#endif
#ifndef FOUR_LANES
#define FOUR_LANES 0 // are there products of a branch's four rows of A?
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

#ifndef OWN_STEPS // of the lanes

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

// Inputs as units; where they are neither bytes nor words, in the lanes' header.
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

#ifndef EDGELORA_RECTIFIES // by the lanes
#define lanes_rectified lanes_requantize
#endif

// |acc| < 2^30
static inline lanes_t lanes_output(lanes_t acc, const scales_t *s) {
    lanes_t v = lanes_requantize(acc, s->multiplier, s->shift, s->half);
    return lanes_max(lanes_min(lanes_add(v, s->zero_point), s->high), s->low);
}

static const int32_t zeros[LANES];

#endif
