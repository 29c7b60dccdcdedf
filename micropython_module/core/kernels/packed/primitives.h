// The contract of the packed engine: int8 products, two at a time.
// SPDX-License-Identifier: MIT
//
// portable/ keeps it in C, dsp/ and m0plus/ in assembly; their results are equal bit for bit.
//
//   group   4 values of a row, v0 v1 v2 v3; a row is padded with 0 to whole groups
//   pair    two values in one word. Weights and inputs are crossed: dot2 of two pairs is the sum of
//           both products.
//                        upper half   lower half
//             weights  |     b      |     a      |
//             inputs   |     c      |     d      |     dot2 = a * c + b * d
//           A group is two pairs: its evens E (v0, v2) and its odds O (v1, v3).
//   quad    a group of each of 4 positions p q r s, in 8 words:
//             | E of p | E of q | E of r | E of s | O of p | O of q | O of r | O of s |
//   tile    the positions that are packed together. 4 of them take `stride` bytes:
//             | quads of t, if there is a branch | quads of the inputs |  positions 0..3
//             | quads of t, if there is a branch | quads of the inputs |  positions 4..7
//           A row of weights is unpacked once and meets all positions of a tile.
//   plane   one channel of an image; a 3x3 kernel reads three neighbours of a row in two words:
//             | x[-1] x[0] | x[0] x[1] | x[1] x[2] | ...
//
// Test: tests/core/test_core.py and tests/core/test_oracle.py (portable), tests/core/test_cores.py
// (with DSP instructions), tests/device/test_device.py (m0plus). Time: `edgelora bench kernels
// --board virtual-pico`.

#ifndef EDGELORA_PRIMITIVES_H
#define EDGELORA_PRIMITIVES_H

#include "kernels/packed/pair.h"

enum {
    EDGELORA_CHUNK = 16, // groups of a row that are multiplied at once
    EDGELORA_B_GROUPS = 2, // of a row of B that go along with them
    EDGELORA_ROW_GROUPS = 128, // of a row whose values' sum fits 16 bits for each half of a pair
    EDGELORA_22_BITS = (1 << 21) - (1 << 12), // accumulators below it take a shorter requantization
    // columns of a strip, words of a row of its plane
    EDGELORA_STRIP = 8,
    EDGELORA_STRIP_PITCH = 10,
};

// How the bytes of weights are to be read. A word of bytes is xored with it to become offset
// binary.
typedef enum {
    EDGELORA_OFFSET = 0, // value + 128
    EDGELORA_SIGNED = (int)0x80808080, // s8
    EDGELORA_PAIRS = 1, // no bytes: E and O of each group
} edgelora_coding_t;

// Rows of weights times all positions of a tile.
typedef struct {
    const uint32_t *x; // quads
    int32_t *acc; // s32 [rows, count]
    uint32_t count; // positions, a multiple of 4
    const void *weights; // rows, 4-aligned
    uint32_t groups; // of a row, 1..EDGELORA_CHUNK
    uint32_t coding; // edgelora_coding_t
    uint32_t skip; // bytes from what is read of 4 positions to the next 4
    const int32_t *bias; // s32 [rows]: acc = bias + products
    uint32_t add; // 1: acc = trunc_shift(acc, b_shift) + products, without bias and B
    uint32_t rows; // >= 1
    uint32_t gap; // bytes from what is read of a row of weights to the next row
    // E and O of B [rows, b_groups]; each position has b_groups of t before its inputs
    const uint32_t *b;
    uint32_t b_groups; // 0..EDGELORA_B_GROUPS: acc += round_shift(products of B and t, b_shift)
    int32_t b_shift; // -8..15; if > 0, |bias| < 2^(30 - b_shift); of acc: 0..31
    uint32_t b_is_small; // 1: |B t| < 2^15 for every row
    uint32_t one_left; // 1: of the last 4 positions only the first one is wanted; count > 4
} edgelora_tile_product_t;

// Requantization of rows of accumulators to the outputs y, y + 1, ...
typedef struct {
    const int32_t *acc; // s32 [rows, count padded to a multiple of 4], |acc| < 2^30
    uint32_t count, rows; // >= 1
    uint32_t step; // of y, from a position to the next
    const int32_t *multiplier;
    const int8_t *shift; // [rows], <= 0
    int8_t *y;
    int32_t zero_point, min, max;
    uint32_t in_22_bits; // 1: |acc| < EDGELORA_22_BITS
} edgelora_requantize_t;

// Outputs of one position, |acc| < 2^30.
typedef struct {
    // E and O of each group: an even number of groups (padded with 0) and one word more
    const uint32_t *x;
    // rows of EDGELORA_OFFSET, 4-aligned; the words of `pairs` are read, whatever the row's size
    const uint8_t *weights;
    uint32_t pairs; // of groups, >= 1
    uint32_t step; // bytes from a row to the next, a multiple of 4
    uint32_t rows; // >= 1
    const int32_t *bias, *multiplier;
    const int8_t *shift; // <= 0
    int8_t *y;
    int32_t zero_point, min, max;
} edgelora_position_t;

// Products of rows of values with one position: acc += sums of value * (x - zero_point).
typedef struct {
    const uint32_t *x; // E and O of each group
    const int8_t *values; // s8 rows, 4-aligned
    uint32_t groups; // of a row, 1..EDGELORA_ROW_GROUPS
    uint32_t gap; // bytes from what is read of a row to the next one
    uint32_t rows; // >= 1
    int32_t *acc; // s32 [rows]
    int32_t zero_point;
} edgelora_row_products_t;

// sums = bias + round_shift(B t, shift) for one position.
typedef struct {
    const uint32_t *t; // E and O of each group
    const uint32_t *b; // s8 [outputs, groups, 4]
    uint32_t groups; // 1..EDGELORA_B_GROUPS
    const int32_t *bias;
    int32_t *sums; // s32 [outputs]
    uint32_t outputs; // >= 1
    int32_t shift;
} edgelora_branch_up_t;

// Rows of a plane: word i holds x[i] in its upper half and x[i + 1] in its lower one, for i in [-1,
// n). x is `edge` outside [0, n).
typedef struct {
    uint32_t *plane; // word 0 of the first row
    uint32_t pitch; // bytes from a row to the next
    const int8_t *x;
    uint32_t step, row; // of x, from an element, a row to the next
    uint32_t n, rows; // >= 1
    int32_t edge;
} edgelora_plane_t;

// One channel through a 3x3 kernel.
typedef struct {
    const uint32_t *x; // a plane's word where the first output's kernel starts
    uint32_t pitch; // bytes from an input row to the next
    uint32_t out_pitch; // bytes from an output row's input to the next one's
    uint32_t stride; // 1 or 2, along a row
    uint32_t out_h, out_w;
    int32_t *acc; // s32 [out_h, out_w]
    int32_t bias;
    uint32_t w[6]; // of each kernel row: the pair of the first two weights, then the third
} edgelora_taps_t;

// Up to EDGELORA_STRIP columns of some channels, one after the other, through a 3x3 kernel with
// stride 1. The plane's rows are EDGELORA_STRIP_PITCH words. Kernel rows in the padding may be left
// out: their products are added to the bias.
typedef struct {
    // where the first output's kernel starts, be it with a row that is left out
    const uint32_t *x;
    uint32_t out_w; // 1..EDGELORA_STRIP
    int32_t *acc; // s32 [top + middle + bottom, out_w], and
    uint32_t gap; // bytes from the end of a row to the next one
    // output rows without the first kernel row (0 or 1), with all, without the last (0 or 1)
    uint32_t top, middle, bottom;
    const uint8_t *weights; // EDGELORA_OFFSET: 3x3, `step` bytes apart
    int32_t step;
    const int32_t *bias; // s32 [channels]
    int32_t zero_point; // of the input: what the padding holds
    uint32_t channels; // >= 1
    uint32_t acc_step; // bytes from a channel's acc to the next one's
    // fills x before each channel and goes on to the next one's input; NULL: it is filled
    edgelora_plane_t *plane;
} edgelora_strip_t;

// Rows of a strip's plane for stride 2, of pairs that don't overlap: word i holds x[2 * i] in its
// upper half and x[2 * i + 1] in its lower one. Rows are EDGELORA_STRIP_PITCH words.
typedef struct {
    uint32_t *plane;
    const int8_t *x;
    uint32_t step, row; // of x, from an element, a row to the next
    uint32_t n; // words of a row, 1..9
    uint32_t rows; // >= 1
} edgelora_pairs_t;

// Up to EDGELORA_STRIP columns of one channel through a 3x3 kernel with stride 2 along a row.
typedef struct {
    const uint32_t *x; // where the first output's kernel starts: a plane of edgelora_pairs_t
    uint32_t out_w; // 1..EDGELORA_STRIP
    int32_t *acc; // s32 [rows, out_w], and
    uint32_t gap; // bytes from the end of a row to the next one
    uint32_t rows; // >= 1
    uint32_t x_step; // bytes from an output row's input to the next one's
    int32_t bias;
    uint32_t w[6]; // as edgelora_taps_t has them
} edgelora_strip_2_t;

// gradient += trunc_shift(factor * v, shift), a row for each factor.
typedef struct {
    int32_t *gradient; // s32 [rows, count], and
    uint32_t gap; // bytes from the end of a row to the next one
    const int8_t *factor; // s8 [rows]
    uint32_t rows; // >= 1
    const int32_t *v; // s32 [count], |v| < 2^15
    uint32_t count; // >= 1
    int32_t shift; // 0..31
    int32_t signs; // the OR of v: not below 0 where no v is
} edgelora_outer_t;

// A row of bytes and what it is taken times.
typedef struct {
    const uint8_t *row; // 4-aligned
    uint32_t value; // 0..127
} edgelora_row_t;

// acc += `plus` rows times their values - `minus` rows times theirs, of either an even number.
// Bytes u0 and u2 of a word, in the halves of another one, times a value are two products in one
// word. Those of two rows fit there: 2 * 127 * 255 < 2^16.
typedef struct {
    int32_t *acc; // s32 [columns]
    uint32_t columns; // a multiple of 4, >= 4
    const edgelora_row_t *minus, *minus_end, *plus, *plus_end;
    int32_t offset; // 128 * (sum of the values of `plus` - of those of `minus`)
    uint32_t coding; // edgelora_coding_t, bytes
} edgelora_rows_t;

// A channel's weight words: of each kernel row, the pair of the first two weights and the third.
static inline void tap_words(uint32_t *words, const uint8_t *w, int32_t step) {
    for (const uint32_t *end = words + 6; words < end; words += 2) {
        uint32_t first = (uint32_t)*w - 128;
        w += step;
        words[0] = pair(first, (uint32_t)*w - 128);
        w += step;
        words[1] = pair((uint32_t)*w - 128, 0);
        w += step;
    }
}

void edgelora_tile_product_s8(const edgelora_tile_product_t *product);
void edgelora_requantize_rows_s8(const edgelora_requantize_t *requantize);
void edgelora_position_outputs_s8(const edgelora_position_t *position);
void edgelora_row_products_s8(const edgelora_row_products_t *rows);
void edgelora_branch_up_s8(const edgelora_branch_up_t *up);
void edgelora_plane_s8(const edgelora_plane_t *plane);
void edgelora_taps_s8(const edgelora_taps_t *taps);
void edgelora_strip_s8(const edgelora_strip_t *strip);
// On the M0+ alone; others have edgelora_plane_s8 and edgelora_taps_s8 for it.
void edgelora_pairs_s8(const edgelora_pairs_t *pairs);
void edgelora_strip_2_s8(const edgelora_strip_2_t *strip);

void edgelora_add_rows_s8(const edgelora_rows_t *rows);

// One position's part of quads. x: s8 [groups, 4], 4-aligned.
void edgelora_pack_quad_s8(uint32_t *quad, const int8_t *x, uint32_t groups);
// The same for positions that follow each other in x, 4 to `stride` bytes.
void edgelora_pack_quads_s8(
    uint32_t *quad, uint32_t stride, const int8_t *x, uint32_t positions, uint32_t groups);
// E and O of one position next to each other.
void edgelora_pack_row_s8(uint32_t *pairs, const int8_t *x, uint32_t groups);
// A group of 4 positions as quads, `step` bytes apart: their columns, s8 [4 * quads] at each of
// `rows`, 4-aligned. The first of a column's values is in the upper half.
void edgelora_pack_columns_s8(
    uint32_t *quad, uint32_t step, const int8_t *const rows[4], uint32_t quads);
// E and O of 4 neighbouring columns, `stride` bytes from one column's to the next's. from:
// 4-aligned, `step` bytes a row, 4 rows a group; coding: bytes.
void edgelora_unpack_columns_s8(uint32_t *words, uint32_t stride, const uint8_t *from,
    uint32_t step, uint32_t groups, uint32_t coding);

// q: a value every `step` bytes, the lower 8 bits of trunc_shift(v, shift); returns the OR of the
// magnitudes of all that these are the lower bits of. n: values, >= 1; |v| < 2^31.
uint32_t edgelora_store_column_s8(
    int8_t *q, uint32_t step, const int32_t *v, uint32_t n, int32_t shift);
// Of 4 columns, a byte each, the OR of v ^ 2 v: its highest bit h, but for bit 0, says that
// 2^(h - 1) <= |v| <= 2^h for the largest v; without one v is 0 or -1. e: 4-aligned, step: a
// multiple of 4, rows: >= 1.
uint32_t edgelora_columns_bits_s8(const int8_t *e, uint32_t step, uint32_t rows);
// e: a value every `step` bytes, becomes trunc_shift(e * m, 24). n: values, >= 1; |e * m| < 2^31, m
// a multiple of 2^9 but where e is 0.
void edgelora_scale_column_s8(int8_t *e, uint32_t step, uint32_t n, int32_t m);
// v += trunc_shift(w, n), n in 0..31; |w| < 2^31
void edgelora_add_shifted_s32(int32_t *v, const int32_t *w, int32_t n, uint32_t count);
// acc = trunc_shift(acc, shift) + v * factor, v a value every `step` bytes; of the M0+ alone
void edgelora_add_scaled_s32(
    int32_t *acc, uint32_t count, int32_t shift, const int8_t *v, uint32_t step, int32_t factor);
void edgelora_outer_s32(const edgelora_outer_t *outer);
// t: a value every `step` bytes, clamp(round_shift(acc, shift), -127, 127); count: a multiple of 4.
void edgelora_shift_row_s8(
    int8_t *t, uint32_t step, const int32_t *acc, uint32_t count, int32_t shift);
// A bit for each of 8 * bytes values: 0 <= y - from < width. from: -128..128, width: 0..256.
void edgelora_mask_bytes_s8(
    uint8_t *mask, const int8_t *y, uint32_t bytes, int32_t from, uint32_t width);
// e, s8 [bytes, 8], 4-aligned: 0 where the mask's bit is 0. bytes: >= 1.
void edgelora_apply_mask_s8(int8_t *e, const uint8_t *mask, uint32_t bytes);

#endif
