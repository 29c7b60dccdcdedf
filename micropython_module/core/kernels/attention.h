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

// x: queries, keys and values
edgelora_attend_row_t edgelora_attend_row(const edgelora_shape_t *g, const int8_t *const x[3],
    uint32_t head, uint32_t i, int32_t *weights);
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

// The shift from the exponent of row i's errors to the largest, 0..31.
static inline int32_t edgelora_attend_lower(const edgelora_error_t *error, uint32_t i) {
    int32_t n = error->groups ? error->exponent - error->groups[i / EDGELORA_GROUP] : 0;
    return n < 31 ? n : 31;
}

// The error of a score, 14 bits; shift: that of all scores and the row's edgelora_attend_lower.
static inline int32_t edgelora_attend_score(const edgelora_shape_t *g, int32_t w, int32_t shift) {
    return trunc_shift(trunc_shift(w, shift) * g->multiplier[2], 15);
}

// A probability's share of the values' errors, 0..2^15; shift: edgelora_attend_share_shift.
static inline int32_t edgelora_attend_share(const edgelora_shape_t *g, int32_t p, int32_t shift) {
    return (p * g->multiplier[1]) >> shift;
}

static inline int32_t edgelora_attend_share_shift(int32_t lower) {
    return lower < 16 ? 15 + lower : 31;
}

// The backward pass of some heads of keys and values, with the heads of queries that read them. It
// goes over them twice: first for the values' errors, then, with the shift of all heads' scores,
// for those of keys and queries.
typedef struct {
    const edgelora_shape_t *g;
    const edgelora_error_t *error; // scratch: the part's own
    edgelora_range_t keys;
    uint32_t bits; // the OR of the magnitudes of its scores' errors, after the first time
    int32_t shift; // of scores' errors
    // errors of q, k and v, of which this part's channels are its own, or NULL if not wanted
    int8_t *dx[3];
    uint32_t steps[3];  // values of their rows
    uint32_t rows_bits; // a row's number shifted by this is its group's
    uint8_t shifts[3][EDGELORA_MAX_ATTENDED / EDGELORA_GROUP]; // of them, by groups of positions
} edgelora_attend_part_t;

// A part whose errors are to be written to dx, and that sets these to 0.
void edgelora_attend_open(edgelora_attend_part_t *part, const edgelora_shape_t *g,
    const edgelora_error_t *error, int8_t *const dx[3], edgelora_range_t keys);
void edgelora_attend_clear(const edgelora_attend_part_t *part);
// Writes v, s32 [n], as errors of a row of input k from a channel on, which are this part's.
void edgelora_attend_store(edgelora_attend_part_t *part, uint32_t k, uint32_t row, uint32_t first,
    const int32_t *v, uint32_t n);
// Writes the rows of a head of keys or values, s32 [positions, channels].
void edgelora_attend_put(
    edgelora_attend_part_t *part, uint32_t k, const int32_t *sums, uint32_t key);
// Sets the exponents of the errors of q, k and v by groups of positions. shift: of scores' errors;
// shifts: of theirs
void edgelora_attend_exponents(const edgelora_shape_t *g, const edgelora_error_t *error,
    int32_t shift, uint8_t shifts[3][EDGELORA_MAX_ATTENDED / EDGELORA_GROUP],
    int16_t *const exponents[3]);
// The same of two parts, whose errors get one shift in each group.
void edgelora_attend_join(
    edgelora_attend_part_t *first, edgelora_attend_part_t *second, int16_t *const exponents[3]);

#endif
