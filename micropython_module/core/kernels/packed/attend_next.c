// Attention of one row to the rows before it, whose keys and values are read in place.
// SPDX-License-Identifier: MIT

#include "kernels/attention.h"
#include "kernels/packed/internal.h"

// Two products of -128 with itself don't fit the half of a word.
static void row_scores(const edgelora_attend_row_t *row) {
    uint32_t pairs[EDGELORA_MAX_HEAD / 2];
    if (edgelora_has_least_s8(row->q, row->channels)) {
        edgelora_attend_scores(row);
        return;
    }
    edgelora_pack_row_s8(pairs, row->q, row->channels / 4);
    clear_fours(row->weights, row->reads);
    edgelora_row_products_s8(&(edgelora_row_products_t){
        .x = pairs,
        .values = row->k,
        .groups = row->channels / 4,
        .gap = row->step - row->channels,
        .rows = row->reads,
        .acc = row->weights,
        .zero_point = 0});
}

bool edgelora_attend_next_is_packed(const edgelora_shape_t *g) {
    return g->in_c / g->op->kernel_h % 4 == 0;
}

void edgelora_attend_next_packed_s8(const edgelora_shape_t *g, const int8_t *const x[3], int8_t *y,
    int32_t *scratch, uint32_t t, edgelora_range_t heads) {
    y += heads.from * (g->in_c / g->op->kernel_h);
    for (uint32_t head = heads.from; head < heads.to; ++head) {
        edgelora_attend_row_t row = edgelora_attend_row(g, x, head, 0, scratch);
        row.reads = t + 1;
        row_scores(&row);
        edgelora_attend_weights(g, &row);
        int32_t sums[EDGELORA_MAX_HEAD], more = 0; // what 128 adds to each sum
        for (uint32_t j = 0; j < row.reads; ++j) {
            more += 128 * row.weights[j];
        }
        edgelora_weighted_sums_s8(&(edgelora_weighted_sums_t){
            .weights = row.weights,
            .rows = row.reads,
            .values = row.v,
            .step = row.step,
            .groups = row.channels / 4,
            .sums = sums});
        for (uint32_t c = 0; c < row.channels; ++c) {
            *y++ = edgelora_attend_mean(g, &row, sums[c] - more);
        }
    }
}
