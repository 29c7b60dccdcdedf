// The parts of attention that all kernels share (SPEC.md: attend).
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_ATTENTION_H
#define EDGELORA_ATTENTION_H

#include "kernels/operands.h"
#include "training/block.h"

// One head's row of queries, with the rows of keys and values that it reads.
typedef struct {
    const int8_t *q, *k, *v; // the row; the head's keys and values, from their first row on
    uint32_t channels;       // of a head
    uint32_t step;           // bytes from a row of keys or values to the next
    uint32_t reads;          // rows that are read
    int32_t *weights;        // s32 [reads]: scores, then 0..255, then probabilities in Q15
    uint32_t inverse;        // 2^31 over the weights' sum times 2^shift, (2^15, 2^16]
    uint32_t mean;           // what a weighted sum times 2^shift is multiplied by, < 2^16
    int32_t shift;           // 0..8
} edgelora_attend_row_t;

edgelora_attend_row_t edgelora_attend_row(const edgelora_shape_t *g, const int8_t *q,
    const int8_t *k, const int8_t *v, uint32_t head, uint32_t i, int32_t *weights);
static inline int32_t edgelora_dot_s8(const int8_t *a, const int8_t *b, uint32_t n) {
    int32_t sum = 0; // |sum| <= 2^20
    for (uint32_t i = 0; i < n; ++i) {
        sum += a[i] * b[i];
    }
    return sum;
}

// Where an exponential is 0: 9 octaves below the largest, in 1/256.
enum { EDGELORA_FARTHEST = 2304 };

// round(255 * 128 * 2^(-f / 256)) of f and f + 1, 16 bits each: ESP32 can read constants of native
// code only as words.
extern const uint32_t edgelora_exponentials[128];

// 255 * 2^(7 - u / 256), the table's value shifted; u < 8192
static inline uint32_t edgelora_exponential_15(uint32_t u) {
    uint32_t f = u & 255, x = edgelora_exponentials[f >> 1] >> 16 * (f & 1) & 0xFFFF;
    return x >> (u >> 8);
}

// 255 * 2^(-u / 256), rounded; u <= EDGELORA_FARTHEST
static inline int32_t edgelora_exponential(uint32_t u) {
    return (int32_t)((edgelora_exponential_15(u) + 64) >> 7);
}

// The least distance of a score from its row's largest where its weight is 0.
static inline uint32_t edgelora_attend_far(const edgelora_shape_t *g) {
    uint32_t factor = (uint32_t)g->multiplier[0];
    return (((uint32_t)EDGELORA_FARTHEST << g->shift[0]) + factor - 1) / factor;
}

// The scores of a row, and its weights from them.
void edgelora_attend_scores(const edgelora_attend_row_t *row);
void edgelora_attend_weights(const edgelora_shape_t *g, edgelora_attend_row_t *row);
// What follows from the weights' sum.
void edgelora_attend_scale(const edgelora_shape_t *g, edgelora_attend_row_t *row, uint32_t sum);
// An output from the weighted sum of a channel's values, |sum| <= 2^23.
int8_t edgelora_attend_mean(
    const edgelora_shape_t *g, const edgelora_attend_row_t *row, int32_t sum);

// Bits of an error's products with a row of values that are cut off.
int32_t edgelora_attend_value_shift(uint32_t channels);
// Turns weights into probabilities and w, the products of the output's error with the values, into
// errors of scores, |w| <= 2^30.
void edgelora_attend_score_errors(const edgelora_attend_row_t *row, int32_t *w);
// The shift that leaves 14 bits of all scores' errors; bits: the OR of their magnitudes.
int32_t edgelora_attend_shift(uint32_t bits);

// The error of a score, 14 bits, and a probability's share of the values' errors.
static inline int32_t edgelora_attend_score(const edgelora_shape_t *g, int32_t w, int32_t shift) {
    return trunc_shift(trunc_shift(w, shift) * g->multiplier[2], 15);
}

static inline int32_t edgelora_attend_share(const edgelora_shape_t *g, int32_t p) {
    return (p * g->multiplier[1]) >> 15;
}

// The errors of q, k and v as blocks of zeros, where dx is not NULL; the rows of a head of keys or
// values, s32 [positions, channels], in theirs; and their exponents from the blocks' shifts.
void edgelora_attend_blocks(
    const edgelora_shape_t *g, int8_t *const dx[3], edgelora_block_t blocks[3]);
void edgelora_attend_put(
    const edgelora_shape_t *g, edgelora_block_t *block, const int32_t *sums, uint32_t key);
void edgelora_attend_exponents(const edgelora_shape_t *g, int32_t error, int32_t shift,
    const int32_t shifts[3], int32_t exponent[3]);

#endif
