// What kernels are given beside an op's shape.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_OPERANDS_H
#define EDGELORA_OPERANDS_H

#include "graph.h"

// An adapter's part in one op.
typedef struct {
    const int8_t *a, *b; // s8 [rank, K], s8 [out_c, rank]
    uint8_t rank;        // 0: none
    int8_t t_shift, branch_shift;
} edgelora_branch_t;

// What one op reads and writes in a forward pass.
typedef struct {
    const int8_t *x, *x2; // its inputs
    int8_t *y;            // its output
    int8_t *t;            // s8 [positions, rank] to keep, or NULL
    void *scratch;        // s32, edgelora_op_scratch bytes
    bool packed;          // edgelora_op_is_packed said so, forward
    const struct edgelora_simd *simd; // tried first; NULL: none
    void *work;                       // what they work in
} edgelora_pass_t;

// What one op has in its step of a backward pass.
typedef struct {
    // s8 [positions, out_c], behind the mask and, with weights and for mean, the output's
    // multipliers
    const int8_t *e;
    int32_t exponent;
    const int8_t *t_error; // s8 [positions, rank]
    int32_t t_exponent;    // (SPEC.md: u)
    const int8_t *x, *x2, *y; // inputs and output, where traits say that they are read
    void *scratch;       // as in a forward pass
    bool packed;         // the same, backward
    const struct edgelora_simd *simd;
    void *work;
} edgelora_error_t;

#endif
