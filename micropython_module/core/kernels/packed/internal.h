// Internals of the packed engine.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_PACKED_INTERNAL_H
#define EDGELORA_PACKED_INTERNAL_H

#include "kernels/packed/packed.h"
#include "kernels/packed/primitives.h"

// Sizes in bytes unless stated otherwise.
enum {
    EDGELORA_TILE_BYTES = 6144,     // target size of a tile
    EDGELORA_PACKED_BYTES = 16384,  // maximum scratch of a packed kernel
    EDGELORA_GROUP_BYTES = 32,      // of a quad
    EDGELORA_GROUP_WORDS = 8,       // of a quad, in words
    EDGELORA_ACC_BYTES = 1024,      // of accumulators
    EDGELORA_SINGLE = 2,           // so many positions are computed separately
    EDGELORA_MAX_ROWS = 8,          // rows multiplied together
};

static inline uint32_t at_most(uint32_t v, uint32_t most) {
    return v < most ? v : most;
}

static inline int8_t *fill_s8(int8_t *to, uint32_t n, int8_t v) {
    for (; n; --n) {
        __asm volatile(""); // keeps a loop instead of a call of memset: n is small
        *to++ = v;
    }
    return to;
}

static inline int8_t *copy_fours_s8(int8_t *to, const int8_t *from, uint32_t n) {
    for (; n >= 4; n -= 4, to += 4, from += 4) {
        int8_t a = from[0], b = from[1], c = from[2], d = from[3];
        to[0] = a;
        to[1] = b;
        to[2] = c;
        to[3] = d;
    }
    for (; n; --n) {
        *to++ = *from++;
    }
    return to;
}

static inline int32_t at_most_31(int32_t n) {
    return n > 31 ? 31 : n;
}

// matrix.c: is this a 1x1 convolution over all input positions, with whole groups of channels?
bool edgelora_takes_input_as_it_is(const edgelora_shape_t *g);

// gather.c: windows of the input, and packing.

// A position in an image with `width` positions per row; it advances row by row.
typedef struct {
    uint32_t y, x, width;
} edgelora_cursor_t;

static inline void cursor_next(edgelora_cursor_t *at) {
    at->x = at->x + 1 < at->width ? at->x + 1 : 0;
    at->y += !at->x;
}

// The K inputs of one output position, and zeros up to a whole group.
void edgelora_gather_s8(
    const edgelora_shape_t *g, const int8_t *x, const edgelora_cursor_t *at, int8_t *patch);
// Number of values before a one-row window in its first word, if it is the same for all windows and
// needs no additional group: then inputs can be packed in place, and weights get as many leading
// zeros.
uint32_t edgelora_window_lead(const edgelora_shape_t *g, const int8_t *x);
// Packs the inputs of the next `count` output positions; 4 of them take `stride` bytes. `lead`
// values before each and padding up to a whole group are undefined. patch: s8 [groups, 4] of
// scratch; lead: 0, or edgelora_window_lead of x.
void edgelora_gather_tile_s8(const edgelora_shape_t *g, const int8_t *x, edgelora_cursor_t *at,
    uint32_t count, int8_t *patch, uint32_t *quads, uint32_t stride, uint32_t lead);
// A phase along one axis: the input positions first, first + stride, ..., which the same kernel
// elements read: `tap` and every `tap_step`-th after it. Together they form a convolution of stride
// 1: element m reads position n for output start + n - m * back, if it exists.
typedef struct {
    uint32_t first, count, tap, taps, tap_step;
    int32_t start, back;
} edgelora_phase_t;

// Packs the errors that the transposed kernel reads for the next `count` input positions of a phase
// of both axes: `rank` errors of t and those of the outputs, from the last kernel element to the
// first.
void edgelora_gather_errors_s8(const edgelora_shape_t *g, const edgelora_phase_t *py,
    const edgelora_phase_t *px, const edgelora_error_t *error, uint32_t rank, edgelora_cursor_t *at,
    uint32_t count, int8_t *patch, uint32_t *quads, uint32_t stride);
// Packs n values of one position; patch: room for them.
uint32_t *edgelora_pack_part_s8(uint32_t *quad, const int8_t *from, uint32_t n, int8_t *patch);

// unpack.c: rows of weights.

// Unpacks E and O of `count` bytes, `step` apart; coding: bytes.
void edgelora_unpack_s8(
    uint32_t *words, const uint8_t *from, uint32_t count, uint32_t step, edgelora_coding_t coding);
// Copies contiguous rows of `count` bytes to word-aligned rows, each with `lead` leading zeros,
// 0..3, and zeros up to a whole group. coding: bytes. Reads the words that contain these bytes, and
// at most one more.
void edgelora_align_rows_u8(uint32_t *words, const uint8_t *from, uint32_t count, uint32_t rows,
    uint32_t lead, edgelora_coding_t coding);
// Unpacks E and O of `rows` columns from `from` on: bytes [taps][n], with taps `tap` bytes apart
// and elements `step` apart.
void edgelora_unpack_taps_s8(uint32_t *words, uint32_t groups, const uint8_t *from, uint32_t rows,
    uint32_t taps, int32_t tap, uint32_t n, uint32_t step, edgelora_coding_t coding);
// edgelora_tile_product_s8 for rows of any number of groups, chunk by chunk; 4 positions take
// `stride` bytes.
void edgelora_tile_product_chunks_s8(
    edgelora_tile_product_t *whole, uint32_t groups, uint32_t stride);

// requantize.c

// Initializes the requantization of an op; the caller sets rows, count and y.
edgelora_requantize_t edgelora_requantize_of(const edgelora_shape_t *g, const int32_t *acc);
// The outputs y[o, o + rows) of `count` positions, of any op.
void edgelora_requantize_outputs_s8(
    const edgelora_shape_t *g, uint32_t o, edgelora_requantize_t *requantize, int8_t *y);
// Is |bias| <= limit for all outputs?
bool edgelora_biases_within(const edgelora_shape_t *g, int32_t limit);

// Clamps int8 outputs to an op's range.
static inline void clamp_outputs(int8_t *y, uint32_t count, int32_t min, int32_t max) {
    for (const int8_t *end = y + count; (min > -128 || max < 127) && y != end; ++y) {
        *y = (int8_t)clamp_s32(*y, min, max);
    }
}

// depthwise.c: errors of the inputs of a depthwise op with stride 1; scratch 0: not supported for
// this op.
uint32_t edgelora_depthwise_strips_backward_scratch(const edgelora_shape_t *g);
int32_t edgelora_depthwise_strips_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx);

// weighted_rows.c: rows of `inputs` bytes, with one value each.
typedef struct {
    const uint8_t *rows;
    const int8_t *values;
    uint32_t count;
    edgelora_coding_t coding;
} edgelora_weighted_rows_t;

enum { EDGELORA_LIST_BYTES = 528 };
// acc, s32 [count], += columns [i, i + count) of the rows times their values. list: room for two
// rows more, or for EDGELORA_LIST_BYTES if that is less.
void edgelora_add_weighted_rows(const edgelora_weighted_rows_t *w, uint32_t inputs, uint32_t i,
    uint32_t count, int32_t *acc, edgelora_row_t *list);

// acc, s32 [count, padded to a multiple of 4], = 0; count: >= 1
static inline void clear_fours(int32_t *acc, uint32_t count) {
    for (const int32_t *end = acc + count; acc < end; acc += 4) {
        acc[0] = 0;
        acc[1] = 0;
        acc[2] = 0;
        acc[3] = 0;
        __asm volatile("" ::: "memory"); // keeps a loop instead of a call of memset: count is small
    }
}

// position.c: the outputs of one position, s8 [out_c], or, where `values` is not NULL, what they
// are without zero point and range, s32 [out_c]; it may be low->bias.

// Bytes of the pairs of K inputs, with up to 3 zeros before them.
static inline uint32_t position_pairs(uint32_t inputs) {
    return 8 * ((inputs + 3) / 4 + 3) + 12;
}

// in: s8 [K] of the position; x: room for their pairs, and behind them edgelora_ahead_scratch
// bytes.
void edgelora_position_forward_s8(
    const edgelora_shape_t *g, const int8_t *in, uint32_t *x, int8_t *y, int32_t *values);

// Results and scratch of a branch at one position.
typedef struct {
    int8_t *t; // s8 [rank]
    int32_t *sums; // s32 [rank]
    int32_t *bias; // s32 [out_c], including B t
    int8_t *row; // s8 [groups, 4], if K is not whole groups
} edgelora_low_t;
void edgelora_position_branch_s8(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const int8_t *in, uint32_t *x, const edgelora_low_t *low, int8_t *y, int32_t *values);

// attend.c: is one of n values -128? x: 4-aligned, n: a multiple of 4
bool edgelora_has_least_s8(const int8_t *x, uint32_t n);

// columns.c: an int8 block (SPEC.md: block), written tile by tile and column by column.

typedef struct {
    int8_t *q; // 4-aligned, with room for whole words
    uint32_t written; // bytes of q up to the last one written so far
    int32_t shift;
    // in bytes: offset of a grid's first position, from one position to the next in its row, from
    // one row to the next
    uint32_t first, step, row;
    bool rounds; // of the model
} edgelora_columns_t;

// Writes v, s32 [columns, padded]: columns from c on of `count` positions from `at` on.
void edgelora_columns_put(edgelora_columns_t *b, const edgelora_cursor_t *at, uint32_t c,
    uint32_t columns, uint32_t count, uint32_t padded, const int32_t *v);

#endif
