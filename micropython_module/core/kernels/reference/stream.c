// Ops that add to a stream of 16-bit values: embed, project, widen.
// SPDX-License-Identifier: MIT

#include "kernels/reference/reference.h"

void edgelora_embed_forward_s16(
    const edgelora_shape_t *g, const int8_t *ids, const int16_t *h, int16_t *y) {
    uint32_t symbols = op_number(g->op), bytes = g->in_c;
    for (uint32_t p = 0; p < g->positions; ++p) {
        uint32_t id = id_at(ids, bytes, p), at = p * g->out_c;
        const int8_t *row = g->table + id * g->out_c;
        for (uint32_t c = 0; c < g->out_c; ++c) {
            int32_t v = id < symbols ? requantize(row[c], g->multiplier[0], g->shift[0]) : 0;
            y[at + c] = plus_s16(h ? h[at + c] : 0, v);
        }
    }
}

void edgelora_widen_forward_s16(
    const edgelora_shape_t *g, const int8_t *x, const int16_t *h, int16_t *y) {
    for (uint32_t i = 0; i < g->positions * g->out_c; ++i) {
        y[i] = plus_s16(h ? h[i] : 0, requantize(x[i] - g->zp_in, g->multiplier[0], g->shift[0]));
    }
}

void edgelora_project_forward_s16(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const int8_t *x, const int16_t *h, int16_t *y, int8_t *t, void *patch) {
    int8_t own_t[EDGELORA_MAX_RANK];
    for (uint32_t p = 0; p < g->positions; ++p) {
        const int8_t *in = edgelora_patch_s8(g, x, p, patch);
        int8_t *kept = t ? t + p * branch->rank : own_t;
        edgelora_branch_down_s8(g, branch, in, kept);
        for (uint32_t o = 0; o < g->out_c; ++o) {
            int32_t acc = edgelora_matrix_sum_s8(g, branch, o, in, kept);
            uint32_t at = p * g->out_c + o;
            y[at] = plus_s16(h ? h[at] : 0, requantize(acc, g->multiplier[o], g->shift[o]));
        }
    }
}

// The error of what is added, times the output's multiplier, is that of the input.
int32_t edgelora_stream_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    edgelora_copy_s8(dx, error->e, g->positions * g->out_c);
    return error->exponent;
}
