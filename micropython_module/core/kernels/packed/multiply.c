// Multiply of two tensors of the same shape.
// SPDX-License-Identifier: MIT

#include "kernels/packed/internal.h"

enum { PRODUCTS = 64 };

uint32_t edgelora_multiply_packed_scratch(const edgelora_shape_t *g) {
    return is_flat(g) && g->shift[0] <= 0 ? 4 * PRODUCTS : 0;
}

EDGELORA_WARM __attribute__((noinline)) static void products_s32(
    int32_t *v, const int8_t *a, const int8_t *b, uint32_t n, int32_t zp_a, int32_t zp_b) {
    for (const int32_t *end = v + n; v != end; ++v) {
        *v = (*a++ - zp_a) * (*b++ - zp_b);
    }
}

EDGELORA_WARM void edgelora_multiply_forward_packed_s8(
    const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, int8_t *y, int32_t *scratch) {
    edgelora_requantize_t requantize = edgelora_requantize_of(g, scratch);
    requantize.rows = 1;
    requantize.step = 1;
    requantize.multiplier = g->multiplier;
    requantize.shift = g->shift;
    requantize.in_22_bits = 1; // |product| <= 255 * 255
    uint32_t count = g->positions * g->out_c;
    for (uint32_t i = 0; i < count; i += requantize.count) {
        requantize.count = at_most(count - i, PRODUCTS);
        requantize.y = y + i;
        products_s32(scratch, x + i, x2 + i, requantize.count, g->zp_in, g->zp_in2);
        edgelora_requantize_rows_s8(&requantize);
    }
}
