// Multiply; the second tensor may be repeated.
// SPDX-License-Identifier: MIT

#include "kernels/packed/internal.h"

enum { PRODUCTS = 64 };

uint32_t edgelora_multiply_packed_scratch(const edgelora_shape_t *g) {
    return g->shift[0] <= 0 ? 4 * PRODUCTS : 0;
}

// step: of b
EDGELORA_WARM __attribute__((noinline)) static void products_s32(int32_t *v, const int8_t *a,
    const int8_t *b, uint32_t step, uint32_t n, int32_t zp_a, int32_t zp_b) {
    for (const int32_t *end = v + n; v != end; ++v, b += step) {
        *v = (*a++ - zp_a) * (*b - zp_b);
    }
}

// The products of `count` outputs from element i on, of whole rows or of a part of one.
EDGELORA_WARM static void repeated_products(const edgelora_shape_t *g, const int8_t *x,
    const int8_t *x2, uint32_t i, uint32_t count, int32_t *v) {
    uint32_t step = g->in2_c > 1, position = i / g->out_c, c = i - position * g->out_c;
    for (uint32_t n; count; ++position, c = 0, count -= n, i += n, v += n) {
        uint32_t y = position / g->out_w;
        n = at_most(count, g->out_c - c);
        const int8_t *b = x2 + edgelora_partner(g, y, position - y * g->out_w) + step * c;
        products_s32(v, x + i, b, step, n, g->zp_in, g->zp_in2);
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
    bool flat = is_flat(g);
    for (uint32_t i = 0; i < count; i += requantize.count) {
        requantize.count = at_most(count - i, PRODUCTS);
        requantize.y = y + i;
        if (flat) {
            products_s32(scratch, x + i, x2 + i, 1, requantize.count, g->zp_in, g->zp_in2);
        } else {
            repeated_products(g, x, x2, i, requantize.count, scratch);
        }
        edgelora_requantize_rows_s8(&requantize);
    }
}
