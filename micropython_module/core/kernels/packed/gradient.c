// Products of columns with t or its error, chunk by chunk; gradients of a single position.
// SPDX-License-Identifier: MIT

#include "kernels/packed/gradient.h"

EDGELORA_RAM gradient_t edgelora_gradient_layout(
    uint32_t positions, uint32_t all, uint32_t rank, uint32_t patch, uint32_t room) {
    gradient_t l = {
        .groups = at_most((positions + 3) / 4, EDGELORA_CHUNK), .rows = at_most(rank, 4)};
    uint32_t fixed = 8 * l.groups * l.rows,
             quad = EDGELORA_GROUP_BYTES * l.groups + 16 * rank + patch;
    l.quads = at_most(fixed + quad <= room ? (room - fixed) / quad : 0, all);
    l.words = 16 * rank * l.quads;
    l.x = l.words + fixed;
    l.patch = l.x + EDGELORA_GROUP_BYTES * l.groups * l.quads;
    l.size = l.patch + patch * l.quads;
    return l;
}

EDGELORA_KERNEL void edgelora_gradient_products(const factor_t *factor, const products_t *what) {
    edgelora_tile_product_t row; // field by field: an initializer would clear it first
    row.x = what->x;
    row.count = what->columns;
    row.weights = what->words;
    row.groups = (what->n + 3) / 4;
    row.coding = EDGELORA_PAIRS;
    row.skip = what->skip;
    row.add = what->add;
    row.gap = 0;
    row.b = 0;
    row.b_groups = 0;
    row.b_shift = 0;
    row.b_is_small = 0;
    row.one_left = 0;
    uint32_t rank = factor->rank;
    for (uint32_t j = 0; j < rank; j += row.rows) {
        row.rows = at_most(rank - j, 4);
        edgelora_unpack_taps_s8((uint32_t *)(void *)what->words, row.groups,
            (const uint8_t *)factor->t + what->p * rank + j, row.rows, 1, 0, what->n, rank,
            EDGELORA_SIGNED);
        row.acc = what->acc + j * what->columns;
        row.bias = factor->bias + j;
        edgelora_tile_product_s8(&row);
    }
}

// to = v - zero point; returns the OR of all values. count: >= 1
EDGELORA_KERNEL static int32_t take_off(
    const int8_t *v, int32_t zero_point, uint32_t count, int32_t *to) {
    int32_t signs = 0;
#pragma GCC unroll 4
    for (const int8_t *end = v + count; v != end; ++v) {
        *to = *v - zero_point;
        signs |= *to++;
    }
    return signs;
}

EDGELORA_HOT void edgelora_outer_gradient(const int8_t *factor, uint32_t rows, const int8_t *v,
    int32_t zero_point, uint32_t count, edgelora_range_t columns, int32_t *gradient, int32_t shift,
    int32_t *values) {
    edgelora_outer_t outer = {
        .factor = factor, .rows = rows, .v = values, .shift = at_most_31(shift)};
    for (uint32_t from = columns.from; from < columns.to; from += outer.count) {
        outer.count = at_most(columns.to - from, OUTER_VALUES);
        outer.gradient = gradient + from;
        outer.gap = 4 * (count - outer.count);
        outer.signs = take_off(v + from, zero_point, outer.count, values);
        edgelora_outer_s32(&outer);
    }
}
