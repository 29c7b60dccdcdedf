// Operands of kernels, in addition to an op's shape.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_OPERANDS_H
#define EDGELORA_OPERANDS_H

#include "graph.h"

static inline int32_t clamp_s16(int32_t v) {
    return clamp_s32(v, -32768, 32767);
}

// A value of a stream, plus v.
static inline int16_t plus_s16(int32_t h, int32_t v) {
    return (int16_t)clamp_s16(h + clamp_s16(v));
}

// The first element of the second input that outputs (y, x, ...) read.
static inline uint32_t edgelora_partner(const edgelora_shape_t *g, uint32_t y, uint32_t x) {
    return ((g->in2_h == 1 ? 0 : y) * g->in2_w + (g->in2_w == 1 ? 0 : x)) * g->in2_c;
}

// Errors of a history's output that belong to frames before: of all its elements but those of its
// first input, in units of 2^exponent, s16 [output - input].
typedef struct {
    int16_t exponent;
    uint16_t bits; // OR of all magnitudes, below 2^15
    int16_t e[];
} edgelora_carry_t;

// The branch of an adapter on one op.
typedef struct {
    const int8_t *a, *b; // s8 [rank, K], s8 [out_c, rank]
    uint8_t rank;        // 0: none
    int8_t t_shift, branch_shift;
} edgelora_branch_t;

// Output channels, inputs or heads [from, to).
typedef struct {
    uint32_t from, to;
} edgelora_range_t;

// All of what is counted, or one of two parts of it.
typedef enum {
    EDGELORA_ALL,
    EDGELORA_FIRST_HALF,
    EDGELORA_SECOND_HALF,
} edgelora_half_t;

static inline edgelora_range_t half_range(uint32_t count, edgelora_half_t half) {
    uint32_t middle = (count + 1) / 2;
    return (edgelora_range_t){
        half == EDGELORA_SECOND_HALF ? middle : 0, half == EDGELORA_FIRST_HALF ? middle : count};
}

// Operands of one op in a forward pass.
typedef struct {
    const int8_t *x, *x2, *x3; // its inputs; of a stream: s16
    int8_t *y;            // its output; a stream: s16
    int8_t *t;            // s8 [positions, rank] to keep, or NULL
    void *scratch;        // s32, edgelora_op_scratch bytes
    bool packed;          // result of edgelora_op_is_packed, forward
    const struct edgelora_simd *simd; // vector kernels, tried first; NULL: none
    void *work;                       // work memory of vector kernels
} edgelora_pass_t;

// Operands of one op's backward step.
typedef struct {
    // s8 [positions, out_c], after the mask and, with weights and for mean, the output's
    // multipliers
    const int8_t *e; // of a history: NULL if nothing has arrived
    int32_t exponent;
    const int16_t *groups; // of an attend: exponents by groups of positions; NULL: all have one
    edgelora_carry_t *carry; // of a history: errors of frames before; NULL: these get none
    const int8_t *t_error; // s8 [positions, rank]
    int32_t t_exponent;    // (SPEC.md: u)
    const int8_t *x, *x2, *x3, *y; // inputs and output, if traits say that they are read
    void *scratch;       // as in a forward pass
    bool packed;         // result of edgelora_op_is_packed, backward
    const struct edgelora_simd *simd;
    void *work;
} edgelora_error_t;

// The exponent of an op's errors that its multipliers have scaled, before they become a block.
static inline int32_t scaled_exponent(const edgelora_shape_t *g, int32_t exponent) {
    if (g->op->kind == EDGELORA_NORM) {
        return exponent - g->shift[0];
    }
    int32_t top = g->shift[0];
    for (uint32_t k = 1; (g->traits & EDGELORA_HAS_WEIGHTS) && k < g->out_c; ++k) {
        top = g->shift[k] > top ? g->shift[k] : top;
    }
    return exponent + top - 15;
}

// The exponent of the errors of a matrix's inputs, before they become a block: the larger one of
// its two sums.
static inline int32_t joint_exponent(
    const edgelora_branch_t *branch, const edgelora_error_t *error) {
    int32_t t = error->t_exponent + branch->branch_shift - branch->t_shift;
    return branch->rank && t > error->exponent ? t : error->exponent;
}

#endif
