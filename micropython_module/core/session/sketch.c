// Generates A from a seed: random sketches of a layer's weights (SPEC.md, section 7).
// SPDX-License-Identifier: MIT

#include "session/sketch.h"
#include "training/block.h"

// s8 [K]: the sum of all rows of W with random signs, numbers n and following of a stream, for
// inputs [from, to), scaled down to int8. This is a direction that the layer's weights use.
static void sketch_row(const edgelora_shape_t *g, uint32_t numbers, uint32_t n, uint32_t from,
    uint32_t to, int8_t *a) {
    edgelora_block_t row = {a, 0, 0, false};
    while (row.count < g->inputs) {
        uint32_t size = g->inputs - row.count < EDGELORA_PIECE ? g->inputs - row.count
                                                               : EDGELORA_PIECE;
        int32_t sum[EDGELORA_PIECE] = {0}; // |sum| <= 127 * out_c
        for (uint32_t o = 0; o < g->out_c; ++o) {
            bool plus = mix(numbers + (n + o) * EDGELORA_GOLDEN) >> 31;
            const uint8_t *w = g->weights + o * g->inputs + row.count;
            for (uint32_t i = 0; i < size; ++i) {
                sum[i] += plus ? w[i] - 128 : 128 - w[i];
            }
        }
        for (uint32_t i = 0; i < size; ++i) {
            bool inside = row.count + i >= from && row.count + i < to;
            sum[i] = inside ? sum[i] : 0;
        }
        edgelora_block_append(&row, sum, size);
    }
}

// Subtracts from v, s8 [K], its projection on a, s8 [K], and scales the rest to int8.
static void orthogonalize(int8_t *v, const int8_t *a, uint32_t inputs) {
    int32_t dot = 0, norm = 0; // <= 127^2 * K < 2^28
    for (uint32_t i = 0; i < inputs; ++i) {
        dot += v[i] * a[i];
        norm += a[i] * a[i];
    }
    norm >>= 7;
    if (!norm) {
        return;
    }
    int32_t part = dot / norm; // Q7, truncated towards 0
    edgelora_block_t row = {v, 0, 0, false}; // in place: a piece is read before it is written
    while (row.count < inputs) {
        uint32_t size = inputs - row.count < EDGELORA_PIECE ? inputs - row.count : EDGELORA_PIECE;
        int32_t rest[EDGELORA_PIECE];
        for (uint32_t i = 0; i < size; ++i) {
            rest[i] = v[row.count + i] * 128 - part * a[row.count + i];
        }
        edgelora_block_append(&row, rest, size);
    }
}

void edgelora_sketch_a(const edgelora_shape_t *g, uint32_t numbers, uint32_t rank, int8_t *a) {
    uint32_t groups = (g->inputs + 3) / 4;
    bool parts = g->op->kind != EDGELORA_DENSE && g->inputs == g->in_c && groups >= rank;
    for (uint32_t j = 0; j < rank; ++j) {
        int8_t *row = a + j * g->inputs;
        uint32_t from = parts ? 4 * (j * groups / rank) : 0,
                 to = parts ? 4 * ((j + 1) * groups / rank) : g->inputs;
        sketch_row(g, numbers, j * g->out_c, from, to, row);
        for (uint32_t k = 0; k < j && !parts; ++k) {
            orthogonalize(row, a + k * g->inputs, g->inputs);
        }
    }
}
