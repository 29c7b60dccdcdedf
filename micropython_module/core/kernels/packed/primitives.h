// Two products of int8 values at once: the primitives of the fast kernels. In C, and in assembly for the M0+, bit-equal.
// SPDX-License-Identifier: MIT
//
// Rows of values are padded with 0 to whole groups of pair words.

#ifndef EDGELORA_SWAR_H
#define EDGELORA_SWAR_H

#include "kernels/packed/pair.h"

enum {
    EDGELORA_CHUNK = 16,    // groups that a row holds at once
    EDGELORA_UP_GROUPS = 2, // of those of B that it takes along
    EDGELORA_SMALL = (1 << 21) - (1 << 12),
    EDGELORA_STRIP = 8, EDGELORA_STRIP_PITCH = 10, // columns, and words of a row, of a strip
};

// Rows of one kind with all positions of a block. A quad holds 4 positions: for each group [E of each, O of each].
typedef struct {
    const uint32_t *x;      // quads
    int32_t *acc;           // s32 [rows, count]
    uint32_t count;         // positions, a multiple of 4
    const void *weights;    // 4 bytes a group, 4-aligned (offset binary, or xor 0x80: flip), or its E and O (flip = 1)
    uint32_t groups;        // 1..EDGELORA_CHUNK
    uint32_t flip;          // 0, 0x80808080, or 1
    uint32_t skip;          // bytes from what is read of a quad to the next quad
    const int32_t *bias;    // s32 [rows]: acc = bias + products
    uint32_t add;           // 1: acc += products, without bias and up
    uint32_t rows;          // >= 1
    uint32_t gap;           // bytes from what is read of a row of weights to the next row
    const uint32_t *up;     // E and O of B [rows, up_groups], whose groups precede those of the weights in each quad
    uint32_t up_groups;     // 0..EDGELORA_UP_GROUPS: acc += round_shift(their products, up_shift)
    int32_t up_shift;       // -8..15; if > 0, |bias| < 2^(30 - up_shift)
} edgelora_row_t;

// Requantization of the outputs y, y + 1, ... with shift <= 0; |acc| < 2^30.
typedef struct {
    const int32_t *acc;     // s32 [rows, count padded to a multiple of 4]
    uint32_t count, rows;   // >= 1
    uint32_t step;          // of y, from a position to the next
    const int32_t *multiplier;
    const int8_t *shift;    // [rows]
    int8_t *y;
    int32_t zero_point, low, high;
    uint32_t is_small;      // 1: |acc| < EDGELORA_SMALL
} edgelora_output_t;

// Outputs of one position, |acc| < 2^30. x: E and O of each group, an even number of groups (padded with 0) and one word more.
typedef struct {
    const uint32_t *x;
    const uint8_t *weights; // rows of offset binary, 4-aligned; the words of `pairs` are read, whatever the row's size
    uint32_t pairs;         // of groups, >= 1
    uint32_t step;          // bytes from a row to the next, a multiple of 4
    uint32_t rows;          // >= 1
    const int32_t *bias, *multiplier;
    const int8_t *shift;    // <= 0
    int8_t *y;
    int32_t zero_point, low, high;
} edgelora_rows_t;

// One channel through a 3x3 kernel. x: words x[i] * 2^16 + x[i + 1] of the padded input plane.
typedef struct {
    const uint32_t *x;
    uint32_t pitch;         // bytes from an input row to the next
    uint32_t down;          // bytes from an output row's input to the next one's
    uint32_t stride;        // 1 or 2, along a row
    uint32_t out_h, out_w;
    int32_t *acc;           // s32 [out_h, out_w]
    int32_t bias;
    uint32_t w[6];          // of each kernel row: the pair word of the first two weights, the third one
} edgelora_taps_t;

// A channel's weight words: of each kernel row, the first two weights and the third.
static inline void tap_words(uint32_t *words, const uint8_t *w, uint32_t step) {
    for (const uint32_t *end = words + 6; words < end; words += 2) {
        uint32_t first = (uint32_t)*w - 128;
        w += step;
        words[0] = pair(first, (uint32_t)*w - 128);
        w += step;
        words[1] = pair((uint32_t)*w - 128, 0);
        w += step;
    }
}

// plane[i] = x[i] * 2^16 + x[i + 1] of `rows` rows, for i in [-1, n), with x = edge outside [0, n).
typedef struct {
    uint32_t *plane;
    uint32_t pitch;         // bytes from a row to the next
    const int8_t *x;
    uint32_t step, row;     // of x, from an element, a row to the next
    uint32_t n, rows;       // >= 1
    int32_t edge;
} edgelora_plane_t;

// Up to EDGELORA_STRIP columns of some channels, one after the other, through a 3x3 kernel with stride 1. x: words as above, in
// rows of EDGELORA_STRIP_PITCH words. Kernel rows in the padding may be left out, if their products are added to the bias.
typedef struct {
    const uint32_t *x;      // where the first output's kernel starts, be it with a row that is left out
    uint32_t out_w;         // 1..EDGELORA_STRIP
    int32_t *acc;           // s32 [top + middle + bottom, out_w], and
    uint32_t gap;           // bytes from the end of a row to the next one
    uint32_t top, middle, bottom; // output rows without the first kernel row (0 or 1), with all, without the last (0 or 1)
    const uint8_t *weights; // offset binary: 3x3, `step` bytes apart
    uint32_t step;
    const int32_t *bias;    // s32 [channels]
    int32_t zero_point;     // of the input, with what the padding is filled
    uint32_t channels;      // >= 1
    uint32_t acc_step;      // bytes from a channel's acc to the next one's
    edgelora_plane_t *plane; // fills x before each channel and goes on to the next one's input; NULL: it is filled
} edgelora_strip_t;

// quad: E and O of one position for `groups` groups; x: s8, 4-aligned.
void edgelora_pack_quad_s8(uint32_t *quad, const int8_t *x, uint32_t groups);
// The same for positions that follow each other in x, 4 to a quad of `stride` bytes.
void edgelora_pack_quads_s8(uint32_t *quad, uint32_t stride, const int8_t *x, uint32_t positions, uint32_t groups);
// E and O of one position next to each other.
void edgelora_pack_row_s8(uint32_t *pairs, const int8_t *x, uint32_t groups);
// t: a value every `step` bytes, clamp(round_shift(acc, shift), -127, 127); count: a multiple of 4
void edgelora_low_row_s8(int8_t *t, uint32_t step, const int32_t *acc, uint32_t count, int32_t shift);
void edgelora_row_s8(const edgelora_row_t *row);
void edgelora_requantize_rows_s8(const edgelora_output_t *output);
void edgelora_rows_s8(const edgelora_rows_t *rows);
void edgelora_taps_s8(const edgelora_taps_t *taps);
void edgelora_strip_s8(const edgelora_strip_t *strip);
void edgelora_plane_s8(const edgelora_plane_t *plane);
// E and O of 4 neighbouring columns, `stride` bytes from one column's to the next's; from: 4-aligned, a row is `step` bytes, 4 rows a
// group; flip: 0 or 0x80808080.
void edgelora_unpack_columns_s8(uint32_t *words, uint32_t stride, const uint8_t *from, uint32_t step, uint32_t groups, uint32_t flip);

// A bit for each of 8 * bytes values: 0 <= y - from < width. from: -128..128, width: 0..256
void edgelora_mask_bytes_s8(uint8_t *mask, const int8_t *y, uint32_t bytes, int32_t from, uint32_t width);

#endif
