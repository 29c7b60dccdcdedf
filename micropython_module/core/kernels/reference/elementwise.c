// Ops that go element by element: add, lookup. SPDX-License-Identifier: MIT

#include "kernels/reference/reference.h"

// a, b: q - zp, in [-255, 255]; 20 bits of fraction keep the sum below 2^30
void edgelora_add_forward_s8(
    const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, int8_t *y) {
    const int32_t *multiplier = g->multiplier;
    const int8_t *shift = g->shift;
    for (uint32_t i = 0; i < g->positions * g->out_c; ++i) {
        int32_t a = (x[i] - g->zp_in) * (1 << 20), b = (x2[i] - g->zp_in2) * (1 << 20);
        int32_t sum = requantize(a, multiplier[0], shift[0]) +
            requantize(b, multiplier[1], shift[1]);
        int32_t v = requantize(sum, multiplier[2], shift[2]) + g->zp_out;
        y[i] = (int8_t)clamp_s32(v, g->op->act_min, g->op->act_max);
    }
}

// e times the factor from input k to the output: Q15 of both multipliers' product
int32_t edgelora_add_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, uint32_t k, int8_t *dx) {
    int32_t m = ((g->multiplier[k] >> 16) * (g->multiplier[2] >> 16)) >> 15, v[EDGELORA_PIECE];
    edgelora_block_t block = {dx, 0, 0};
    for (uint32_t count = g->positions * g->out_c; block.count < count;) {
        uint32_t n = count - block.count < EDGELORA_PIECE ? count - block.count : EDGELORA_PIECE;
        for (uint32_t i = 0; i < n; ++i) {
            v[i] = error->e[block.count + i] * m;
        }
        edgelora_block_append(&block, v, n);
    }
    return error->exponent - 15 + 20 + g->shift[k] + g->shift[2] + block.shift;
}

void edgelora_lookup_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y) {
    for (uint32_t i = 0; i < g->positions * g->out_c; ++i) {
        y[i] = g->table[x[i] + 128];
    }
}

int32_t edgelora_lookup_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    int32_t v[EDGELORA_PIECE];
    edgelora_block_t block = {dx, 0, 0};
    for (uint32_t count = g->positions * g->out_c; block.count < count;) {
        uint32_t n = count - block.count < EDGELORA_PIECE ? count - block.count : EDGELORA_PIECE;
        for (uint32_t i = 0; i < n; ++i) {
            v[i] = error->e[block.count + i] * g->slope[error->x[block.count + i] + 128];
        }
        edgelora_block_append(&block, v, n);
    }
    return error->exponent + g->shift[0] + block.shift;
}
