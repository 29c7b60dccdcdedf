// Runs ops on both cores of a chip: each core computes a part, by the same kernels.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_SPLIT_H
#define EDGELORA_SPLIT_H

#include "kernels/dispatch.h"

// 0: a build for one core, without the code for two.
#ifndef EDGELORA_TWO_CORES
#define EDGELORA_TWO_CORES 1
#endif

// second: NULL, and everything runs here. scratch: of the second core; room: its bytes, and those
// of an op's own; plain: reference kernels only.
typedef struct {
    const edgelora_second_t *second;
    void *scratch;
    uint32_t room;
    bool plain;
} edgelora_split_t;

// Bytes of scratch that a core needs for its part of an op.
uint32_t edgelora_split_scratch(
    const edgelora_shape_t *g, uint32_t rank, bool backward, bool plain);

// The functions of dispatch.h, on both cores if the op is large enough, with the same results.
void edgelora_split_forward(const edgelora_split_t *split, const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_pass_t *pass);
void edgelora_split_mask(const edgelora_split_t *split, const edgelora_shape_t *g, const int8_t *y,
    uint8_t *mask, const edgelora_simd_t *simd);
void edgelora_split_mask_backward(const edgelora_split_t *split, const edgelora_shape_t *g,
    int8_t *e, const uint8_t *mask, const edgelora_simd_t *simd);
void edgelora_split_b_gradient(const edgelora_split_t *split, const edgelora_shape_t *g,
    uint32_t rank, const edgelora_error_t *error, const int8_t *t, int32_t *gradient,
    int32_t shift);
int32_t edgelora_split_requantize_backward(const edgelora_split_t *split, const edgelora_shape_t *g,
    int8_t *e, int32_t exponent, const edgelora_simd_t *simd);
int32_t edgelora_split_branch_backward(const edgelora_split_t *split, const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, int8_t *t_error);
int32_t edgelora_split_backward(const edgelora_split_t *split, const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, uint32_t k, int8_t *dx);

#endif
