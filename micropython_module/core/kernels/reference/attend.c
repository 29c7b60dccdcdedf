// Attention: each row of queries takes a weighted mean of the values, one row of scores at a time.
// SPDX-License-Identifier: MIT

#include "kernels/attention.h"
#include "kernels/reference/reference.h"

// The outputs of a head's row, s8 [channels].
static void row_forward(const edgelora_shape_t *g, edgelora_attend_row_t *row, int8_t *y) {
    edgelora_attend_scores(row);
    edgelora_attend_weights(g, row);
    for (uint32_t c = 0; c < row->channels; ++c) {
        int32_t sum = 0; // |sum| <= 2^23
        for (uint32_t j = 0; j < row->reads; ++j) {
            sum += row->weights[j] * row->v[j * row->step + c];
        }
        y[c] = edgelora_attend_mean(g, row, sum);
    }
}

void edgelora_attend_forward_s8(const edgelora_shape_t *g, const int8_t *const x[3], int8_t *y,
    int32_t *scratch, edgelora_range_t heads) {
    for (uint32_t i = 0; i < g->positions; ++i, y += g->in_c) {
        for (uint32_t head = heads.from; head < heads.to; ++head) {
            edgelora_attend_row_t row = edgelora_attend_row(g, x, head, i, scratch);
            row_forward(g, &row, y + head * row.channels);
        }
    }
}

void edgelora_attend_next_s8(const edgelora_shape_t *g, const int8_t *const x[3], int8_t *y,
    int32_t *scratch, uint32_t t, edgelora_range_t heads) {
    for (uint32_t head = heads.from; head < heads.to; ++head) {
        edgelora_attend_row_t row = edgelora_attend_row(g, x, head, 0, scratch);
        row.reads = t + 1;
        row_forward(g, &row, y + head * row.channels);
    }
}

// Row i's weights as probabilities, and the errors of its scores in w.
static edgelora_attend_row_t row_errors(const edgelora_shape_t *g, const edgelora_error_t *error,
    uint32_t head, uint32_t i, int32_t *weights, int32_t *w) {
    const int8_t *const x[3] = {error->x, error->x2, error->x3};
    edgelora_attend_row_t row = edgelora_attend_row(g, x, head, i, weights);
    edgelora_attend_scores(&row);
    edgelora_attend_weights(g, &row);
    for (uint32_t j = 0; j < row.reads; ++j) {
        const int8_t *e = error->e + i * g->in_c + head * row.channels;
        w[j] = edgelora_dot_s8(e, row.v + j * row.step, row.channels);
    }
    edgelora_attend_score_errors(&row, w);
    return row;
}

// Adds row i's share to the sums of its head's values, s32 [positions, channels].
static void row_of_values(
    edgelora_attend_part_t *part, uint32_t head, uint32_t i, int32_t *work, int32_t *sums) {
    const edgelora_shape_t *g = part->g;
    uint32_t channels = g->in_c / g->op->kernel_h;
    const int8_t *e = part->error->e + i * g->in_c + head * channels;
    int32_t *w = work + g->positions, lower = edgelora_attend_lower(part->error, i);
    edgelora_attend_row_t row = row_errors(g, part->error, head, i, work, w);
    for (uint32_t j = 0; j < row.reads; ++j) {
        int32_t share = edgelora_attend_share(
            g, row.weights[j], edgelora_attend_share_shift(lower));
        part->bits |= abs_u32(w[j]) >> lower;
        for (uint32_t c = 0; c < channels; ++c) { // sums stay within 31 bits: attend_ok
            sums[j * channels + c] += share * e[c];
        }
    }
}

// The same of its keys, and puts the row's own error.
static void row_of_scores(
    edgelora_attend_part_t *part, uint32_t head, uint32_t i, int32_t *work, int32_t *sums) {
    const edgelora_shape_t *g = part->g;
    uint32_t channels = g->in_c / g->op->kernel_h;
    int32_t *w = work + g->positions, lower = edgelora_attend_lower(part->error, i);
    edgelora_attend_row_t row = row_errors(g, part->error, head, i, work, w);
    for (uint32_t j = 0; j < row.reads; ++j) {
        w[j] = edgelora_attend_score(g, w[j], part->shift + lower);
        for (uint32_t c = 0; c < channels; ++c) {
            sums[j * channels + c] += w[j] * row.q[c];
        }
    }
    for (uint32_t c = 0; part->dx[0] && c < channels; ++c) {
        int32_t sum = 0;
        for (uint32_t j = 0; j < row.reads; ++j) {
            sum += w[j] * row.k[j * row.step + c];
        }
        edgelora_attend_store(part, 0, i, head * channels + c, &sum, 1);
    }
}

void edgelora_attend_pass_s8(edgelora_attend_part_t *part, bool of_scores) {
    const edgelora_shape_t *g = part->g;
    uint32_t group = g->op->kernel_h / g->op->kernel_w, channels = g->in_c / g->op->kernel_h;
    int32_t *work = part->error->scratch, *sums = work + 2 * g->positions;
    for (uint32_t key = part->keys.from; key < part->keys.to; ++key) {
        for (uint32_t i = 0; i < g->positions * channels; ++i) {
            sums[i] = 0;
        }
        for (uint32_t head = key * group; head < (key + 1) * group; ++head) {
            for (uint32_t i = 0; i < g->positions; ++i) {
                (of_scores ? row_of_scores : row_of_values)(part, head, i, work, sums);
            }
        }
        edgelora_attend_put(part, of_scores ? 1 : 2, sums, key);
    }
}
