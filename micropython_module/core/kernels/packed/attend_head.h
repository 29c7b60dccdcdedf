// What attention's packed kernels share.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_PACKED_ATTEND_H
#define EDGELORA_PACKED_ATTEND_H

#include "kernels/attention.h"
#include "kernels/packed/internal.h"

// RAM is short: these stay in flash, whose cache holds their loops.
#define WARM_KERNEL EDGELORA_WARM __attribute__((noinline))
// Inlined where they are called, these would take more flash.
#define SMALL __attribute__((noinline))

// The bias of a block's rows, up to four that go through a tile together.
extern const int32_t edgelora_attend_bias[4];

// A head of an attend.
typedef struct {
    const edgelora_shape_t *g;
    uint32_t channels, groups; // of the head: a multiple of 4, its groups
    uint32_t rows;             // positions, padded to whole quads
} edgelora_attend_head_t;

// Some rows of queries of one head. A row of scores or weights has all keys that it reads, padded
// to whole quads; the run's rows lie one after the other.
typedef struct {
    edgelora_attend_head_t of;
    const int8_t *x[3];      // the op's q, k and v
    uint32_t head, from, to; // of queries: the head, rows
    uint32_t *quads;         // of all rows of keys
    int32_t *scores;         // s32 [rows of keys]: of one row
    uint8_t *weights;        // u8: 0..255
    uint32_t *scales;        // u32 [rows]: a row's inverse times 2^8, and 16 less its shift
} edgelora_attend_run_t;

static inline uint32_t larger_of(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

// attend.c

edgelora_attend_head_t edgelora_attend_head(const edgelora_shape_t *g);
// Rows of keys that row i of the queries reads, padded to whole quads.
static inline uint32_t edgelora_attend_reads(const edgelora_attend_head_t *h, uint32_t i) {
    return h->g->op->flags & EDGELORA_CAUSAL ? (i & ~3u) + 4 : h->rows;
}

// Weights before row i of a head; all of them: those before row `positions`.
uint32_t edgelora_attend_before(const edgelora_attend_head_t *h, uint32_t i);
// Where row i begins in the run's weights.
uint32_t edgelora_attend_at(const edgelora_attend_run_t *run, uint32_t i);
bool edgelora_attend_is_aligned(const int8_t *const x[3]);
// A row, s8 [channels], times rows of quads, into the run's scores; the caller sets weights, which
// is the row, and count.
edgelora_tile_product_t edgelora_attend_product(
    const edgelora_attend_run_t *run, const uint32_t *quads);
// Makes weights and scales. packs: the quads, too, else they are there
void edgelora_attend_make_weights(const edgelora_attend_run_t *run, bool packs);

// Bytes of scratch of the forward pass.
uint32_t edgelora_attend_forward_bytes(const edgelora_attend_head_t *h);

// attend_rows.c: loops. n: values of a row

// Does a row of a head's keys or values x hold -128?
bool edgelora_attend_has_least(const edgelora_attend_head_t *h, const int8_t *x);
// Row `row` of them, or zeros behind the last one.
const int8_t *edgelora_attend_row_or_zeros(
    const edgelora_attend_head_t *h, const int8_t *x, uint32_t row);
// Packs `count` rows of them from `from` on, multiples of 4.
void edgelora_attend_pack_rows(const edgelora_attend_head_t *h, uint32_t *quads, const int8_t *x,
    uint32_t from, uint32_t count);
// Packs the columns of all of them.
void edgelora_attend_pack_columns(
    const edgelora_attend_head_t *h, uint32_t *quads, const int8_t *x);
// sums, s32 [n], += times * x
void edgelora_attend_add_row(int32_t *sums, const int8_t *x, uint32_t n, int32_t times);
// scores, s32 [n], -= values of x, `step` apart
void edgelora_attend_subtract(int32_t *scores, const int8_t *x, uint32_t step, uint32_t n);
// Weights, u8 [n], from scores; returns their sum. far: edgelora_attend_far
uint32_t edgelora_attend_put_weights(
    const edgelora_shape_t *g, const int32_t *scores, uint32_t n, uint32_t far, uint8_t *to);
// to, s16 [n], = trunc_shift(v, shift); shift: 0..31
void edgelora_attend_put_products(int16_t *to, const int32_t *v, uint32_t n, int32_t shift);
// Shares of the values' errors, s16 [n], of weights, u8 [n]. scale: the row's; shift:
// edgelora_attend_share_shift
void edgelora_attend_put_shares(const edgelora_shape_t *g, int16_t *to, const uint8_t *weights,
    uint32_t n, uint32_t scale, int32_t shift);
// p, s32 [n]: weights as probabilities in Q15; returns their mean product with the values.
int32_t edgelora_attend_mean_product(
    int32_t *p, const uint8_t *weights, const int16_t *products, uint32_t n, uint32_t scale);
// The OR of the magnitudes of a row's scores' errors, before they are cut.
uint32_t edgelora_attend_bits(const int32_t *p, const int16_t *products, uint32_t n, int32_t mean);
// Products, s16 [n], become errors of scores. shift: as in edgelora_attend_score
void edgelora_attend_put_scores(const edgelora_shape_t *g, const int32_t *p, int16_t *scores,
    uint32_t n, int32_t mean, int32_t shift);
// s32 [n] = s16 [n]; n: a multiple of 4
void edgelora_attend_row_of_scores(int32_t *to, const int16_t *scores, uint32_t n);
// s32 [n, padded with zeros to a multiple of 4], whose length is returned, = a column of n rows of
// `step` values, which get `more` each 4 rows.
uint32_t edgelora_attend_column(
    int32_t *to, const int16_t *from, uint32_t step, uint32_t more, uint32_t n);

// Channels of the rows of a tensor that are there as s32 [groups, rows padded to fours, 4].
typedef struct {
    const int8_t *x;               // the first row, with all channels
    uint32_t step;                 // values from one row to the next
    uint32_t rows;
    uint32_t first, groups, bytes; // groups of channels; bytes: from one to the next
} edgelora_attend_values_t;

void edgelora_attend_put_values(const edgelora_attend_values_t *v, int32_t *room);

#endif
