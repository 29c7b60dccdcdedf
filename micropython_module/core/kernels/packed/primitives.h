// The contract of the packed engine: int8 products, two at a time.
// SPDX-License-Identifier: MIT
//
// portable/ implements it in C, dsp/ and m0plus/ in assembly, bit-exact with each other.
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
    EDGELORA_B_GROUPS = 2, // groups of a row of B that are multiplied with them
    EDGELORA_ROW_GROUPS = 128, // groups of a row whose sum fits 16 bits in each half of a pair
    EDGELORA_22_BITS = (1 << 21) - (1 << 12), // accumulators below it use a shorter requantization
    // columns of a strip, words of a row of its plane
    EDGELORA_STRIP = 8,
    EDGELORA_STRIP_PITCH = 10,
};

// Encoding of weights. XOR of a word of bytes with it gives offset binary.
typedef enum {
    EDGELORA_OFFSET = 0, // value + 128
    EDGELORA_SIGNED = (int)0x80808080, // s8
    EDGELORA_INVERTED = -1, // 127 - value
    EDGELORA_PAIRS = 1, // not bytes but E and O of each group
} edgelora_coding_t;

// Rows of weights times all positions of a tile.
typedef struct {
    const uint32_t *x; // quads
    int32_t *acc; // s32 [rows, count]
    uint32_t count; // positions, a multiple of 4
    const void *weights; // rows, 4-aligned
    uint32_t groups; // of a row, 1..EDGELORA_CHUNK
    uint32_t coding; // edgelora_coding_t
    uint32_t skip; // bytes from the end of the data read of 4 positions to the next 4
    const int32_t *bias; // s32 [rows]: acc = bias + products
    uint32_t add; // 1: acc = trunc_shift(acc, b_shift) + products, without bias and B
    uint32_t rows; // >= 1
    uint32_t gap; // bytes from the end of the data read of a row of weights to the next row
    // E and O of B [rows, b_groups]; each position has b_groups of t before its inputs
    const uint32_t *b;
    uint32_t b_groups; // 0..EDGELORA_B_GROUPS: acc += round_shift(products of B and t, b_shift)
    int32_t b_shift; // -8..15; if > 0, |bias| < 2^(30 - b_shift); of acc: 0..31
    uint32_t b_is_small; // 1: |B t| < 2^15 for every row
    uint32_t one_left; // 1: only the first of the last 4 positions is needed; count > 4
} edgelora_tile_product_t;

// Requantization of rows of accumulators to the outputs y, y + 1, ...
typedef struct {
    const int32_t *acc; // s32 [rows, count padded to a multiple of 4], |acc| < 2^30
    uint32_t count, rows; // >= 1
    uint32_t step; // of y, from one position to the next
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
    // rows of EDGELORA_OFFSET, 4-aligned; `pairs` words are read, even if the row is shorter
    const uint8_t *weights;
    uint32_t pairs; // of groups, >= 1
    uint32_t step; // bytes from one row to the next, a multiple of 4
    uint32_t rows; // >= 1
    const int32_t *bias, *multiplier;
    const int8_t *shift; // <= 0
    int8_t *y;
    int32_t zero_point, min, max;
    int32_t *values; // s32 [rows], may be bias: not NULL: gets outputs without zero point and range
} edgelora_position_t;

// Products of rows of values with one position: acc += sums of value * (x - zero_point).
typedef struct {
    const uint32_t *x; // E and O of each group
    const int8_t *values; // s8 rows, 4-aligned
    uint32_t groups; // of a row, 1..EDGELORA_ROW_GROUPS
    uint32_t gap; // bytes from the end of the data read of a row to the next row
    uint32_t rows; // >= 1
    int32_t *acc; // s32 [rows]
    int32_t zero_point;
} edgelora_row_products_t;

// Columns of rows of values, each row times its weight: sums of weight * (v + 128).
typedef struct {
    const int32_t *weights; // s32 [rows], 0..255
    uint32_t rows; // 1..256
    const int8_t *values; // s8 rows, 4-aligned
    uint32_t step; // bytes from one row to the next, a multiple of 4
    uint32_t groups; // of columns
    int32_t *sums; // s32 [groups, 4]
} edgelora_weighted_sums_t;

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
    uint32_t pitch; // bytes from one row to the next
    const int8_t *x;
    uint32_t step, row; // of x, from one element, one row to the next
    uint32_t n, rows; // >= 1
    int32_t edge;
} edgelora_plane_t;

// A 3x3 kernel over one channel.
typedef struct {
    const uint32_t *x; // the plane's word where the first output's kernel starts
    uint32_t pitch; // bytes from one input row to the next
    uint32_t out_pitch; // bytes from an output row's input to the next one's
    uint32_t stride; // 1 or 2, along a row
    uint32_t out_h, out_w;
    int32_t *acc; // s32 [out_h, out_w]
    int32_t bias;
    uint32_t w[6]; // for each kernel row: the pair of the first two weights, then the third
} edgelora_taps_t;

// A 3x3 kernel with stride 1 over up to EDGELORA_STRIP columns of several channels, one after the
// other. The plane's rows are EDGELORA_STRIP_PITCH words. Kernel rows in the padding can be
// skipped: their products are added to the bias.
typedef struct {
    // where the first output's kernel starts, even if its first row is skipped
    const uint32_t *x;
    uint32_t out_w; // 1..EDGELORA_STRIP
    int32_t *acc; // s32 [top + middle + bottom, out_w], and
    uint32_t gap; // bytes from the end of a row to the next one
    // output rows without the first kernel row (0 or 1), with all, without the last (0 or 1)
    uint32_t top, middle, bottom;
    const uint8_t *weights; // EDGELORA_OFFSET: 3x3, `step` bytes apart
    int32_t step;
    const int32_t *bias; // s32 [channels]
    int32_t zero_point; // of the input: the padding's value
    uint32_t channels; // >= 1
    uint32_t acc_step; // bytes from a channel's acc to the next one's
    // fills x before each channel and advances to the next channel's input; NULL: x is already
    // filled
    edgelora_plane_t *plane;
} edgelora_strip_t;

// Rows of a strip's plane for stride 2, as non-overlapping pairs: word i holds x[2 * i] in its
// upper half and x[2 * i + 1] in its lower one. Rows are EDGELORA_STRIP_PITCH words.
typedef struct {
    uint32_t *plane;
    const int8_t *x;
    uint32_t step, row; // of x, from one element, one row to the next
    uint32_t n; // words of a row, 1..9
    uint32_t rows; // >= 1
} edgelora_pairs_t;

// A 3x3 kernel with stride 2 along a row over up to EDGELORA_STRIP columns of one channel.
typedef struct {
    const uint32_t *x; // where the first output's kernel starts: a plane of edgelora_pairs_t
    uint32_t out_w; // 1..EDGELORA_STRIP
    int32_t *acc; // s32 [rows, out_w], and
    uint32_t gap; // bytes from the end of a row to the next one
    uint32_t rows; // >= 1
    uint32_t x_step; // bytes from an output row's input to the next one's
    int32_t bias;
    uint32_t w[6]; // as in edgelora_taps_t
} edgelora_strip_2_t;

// gradient += trunc_shift(factor * v, shift), one row per factor.
typedef struct {
    int32_t *gradient; // s32 [rows, count], and
    uint32_t gap; // bytes from the end of a row to the next one
    const int8_t *factor; // s8 [rows]
    uint32_t rows; // >= 1
    const int32_t *v; // s32 [count], |v| < 2^15
    uint32_t count; // >= 1
    int32_t shift; // 0..31
    int32_t signs; // the OR of v: >= 0 if all v are
} edgelora_outer_t;

// A row of bytes and its factor.
typedef struct {
    const uint8_t *row; // 4-aligned
    uint32_t value; // 0..127
} edgelora_row_t;

// acc += `plus` rows times their values - `minus` rows times theirs; both are even numbers of rows.
// Bytes u0 and u2, moved to the halves of a word, times a value give two products in one word. The
// sum of two rows fits: 2 * 127 * 255 < 2^16.
typedef struct {
    int32_t *acc; // s32 [columns]
    uint32_t columns; // a multiple of 4, >= 4
    const edgelora_row_t *minus, *minus_end, *plus, *plus_end;
    int32_t offset; // 128 * (sum of values of `plus` - sum of values of `minus`)
    uint32_t coding; // edgelora_coding_t, bytes
} edgelora_rows_t;

// A channel's weight words: for each kernel row, the pair of the first two weights, then the third.
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
void edgelora_weighted_sums_s8(const edgelora_weighted_sums_t *of);
void edgelora_row_products_s8(const edgelora_row_products_t *rows);
void edgelora_branch_up_s8(const edgelora_branch_up_t *up);
void edgelora_plane_s8(const edgelora_plane_t *plane);
void edgelora_taps_s8(const edgelora_taps_t *taps);
void edgelora_strip_s8(const edgelora_strip_t *strip);
// Only on Cortex-M0+; other cores use edgelora_plane_s8 and edgelora_taps_s8.
void edgelora_pairs_s8(const edgelora_pairs_t *pairs);
void edgelora_strip_2_s8(const edgelora_strip_2_t *strip);

void edgelora_add_rows_s8(const edgelora_rows_t *rows);

// Packs one position into quads. x: s8 [groups, 4], 4-aligned.
void edgelora_pack_quad_s8(uint32_t *quad, const int8_t *x, uint32_t groups);
// The same for consecutive positions in x; 4 positions take `stride` bytes.
void edgelora_pack_quads_s8(
    uint32_t *quad, uint32_t stride, const int8_t *x, uint32_t positions, uint32_t groups);
// Packs one position as adjacent E and O.
void edgelora_pack_row_s8(uint32_t *pairs, const int8_t *x, uint32_t groups);
// Packs the columns of 4 positions as quads, `step` bytes apart: s8 [4 * quads] at each of `rows`,
// 4-aligned. The first of a column's values is in the upper half.
void edgelora_pack_columns_s8(
    uint32_t *quad, uint32_t step, const int8_t *const rows[4], uint32_t quads);
// Unpacks E and O of 4 adjacent columns, `stride` bytes from one column to the next. from:
// 4-aligned, `step` bytes per row, 4 rows per group; coding: bytes.
void edgelora_unpack_columns_s8(uint32_t *words, uint32_t stride, const uint8_t *from,
    uint32_t step, uint32_t groups, uint32_t coding);

// Stores the lower 8 bits of trunc_shift(v, shift) in q, one value every `step` bytes; returns the
// OR of the full magnitudes. n: values, >= 1; |v| < 2^31.
uint32_t edgelora_store_column_s8(
    int8_t *q, uint32_t step, const int32_t *v, uint32_t n, int32_t shift);
// The OR of v ^ 2 v for 4 columns, one byte each. Its highest bit h > 0 means that 2^(h - 1) <= |v|
// <= 2^h for the largest v; without such a bit, every v is 0 or -1. e: 4-aligned, step: a multiple
// of 4, rows: >= 1.
uint32_t edgelora_columns_bits_s8(const int8_t *e, uint32_t step, uint32_t rows);
// Replaces e, one value every `step` bytes, by trunc_shift(e * m, 24). n: values, >= 1; |e * m| <
// 2^31; m is a multiple of 2^9 unless e is 0.
void edgelora_scale_column_s8(int8_t *e, uint32_t step, uint32_t n, int32_t m);
// v += trunc_shift(w, n), n in 0..31; |w| < 2^31
void edgelora_add_shifted_s32(int32_t *v, const int32_t *w, int32_t n, uint32_t count);
// acc = trunc_shift(acc, shift) + v * factor, one v every `step` bytes; only on Cortex-M0+
void edgelora_add_scaled_s32(
    int32_t *acc, uint32_t count, int32_t shift, const int8_t *v, uint32_t step, int32_t factor);
// acc, s32 [count], += the dot products of `count` columns with t; only on Cortex-M0+. columns: E
// and O of each group: [count, groups, 2], t: as edgelora_pack_row_s8 packs it; count: a multiple
// of 4, groups: 1 or 2.
void edgelora_add_dots_s32(
    int32_t *acc, const uint32_t *columns, uint32_t count, const uint32_t *t, uint32_t groups);
void edgelora_outer_s32(const edgelora_outer_t *outer);
// sums, s32 [groups, 4], += factors, s32 [count], times values, s32 [groups, count, 4], whose
// groups are `step` bytes apart. count: a multiple of 4, >= 4.
void edgelora_weigh_rows_s32(int32_t *sums, const int32_t *factors, const int32_t *values,
    uint32_t count, uint32_t groups, uint32_t step);
// t = clamp(round_shift(acc, shift), -127, 127), one value every `step` bytes; count: a multiple of
// 4.
void edgelora_shift_row_s8(
    int8_t *t, uint32_t step, const int32_t *acc, uint32_t count, int32_t shift);
// One bit for each of 8 * bytes values: 0 <= y - from < width. from: -128..128, width: 0..256.
void edgelora_mask_bytes_s8(
    uint8_t *mask, const int8_t *y, uint32_t bytes, int32_t from, uint32_t width);
// Sets e, s8 [bytes, 8], 4-aligned, to 0 where the mask's bit is 0. bytes: >= 1.
void edgelora_apply_mask_s8(int8_t *e, const uint8_t *mask, uint32_t bytes);

#endif
