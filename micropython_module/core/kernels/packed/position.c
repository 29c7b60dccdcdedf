// Dense and conv at one position: reads rows of weights in place, in the model.
// SPDX-License-Identifier: MIT
//
// Time of these kernels: lines `dense` of `edgelora bench kernels`.

#include "kernels/packed/internal.h"
#include "kernels/packed/read_ahead.h"

// Packs a row of inputs with `lead` zeros before it, and zeros up to one word after an even number
// of groups.
static inline void pack_row(uint32_t *to, const int8_t *x, uint32_t inputs, uint32_t lead) {
    uint32_t groups = (lead + inputs + 3) / 4;
    if (!lead && (inputs & 3) == 0 && is_aligned(x)) {
        edgelora_pack_row_s8(to, x, groups);
        to += 2 * groups;
    } else {
        for (uint32_t at = 0u - lead, i = 0; i < groups; ++i, at += 4) {
            uint32_t v[4];
            for (uint32_t k = 0; k < 4; ++k) {
                // before the row, at + k wraps to a huge value
                v[k] = at + k < inputs ? (uint32_t)(int32_t)x[at + k] : 0;
            }
            *to++ = pair(v[2], v[0]);
            *to++ = pair(v[3], v[1]);
        }
    }
    if (groups & 1) {
        *to++ = 0;
        *to++ = 0;
    }
    *to = 0;
}

// A row that does not start at a multiple of 4 is read from the previous multiple on, with as many
// leading zeros in the inputs.
static inline void bounded_outputs(const edgelora_shape_t *g, const int8_t *in, bool packed,
    uint32_t *x, const int32_t *bias, int8_t *y, int32_t *values) {
    edgelora_position_t p; // field by field: an initializer would clear it first
    p.x = x;
    p.weights = g->weights;
    p.step = g->inputs;
    p.rows = g->out_c;
    p.bias = bias;
    p.multiplier = g->multiplier;
    p.shift = g->shift;
    p.y = y;
    p.zero_point = g->zp_out;
    p.min = g->op->act_min;
    p.max = g->op->act_max;
    p.values = values;
    p.pairs = (g->inputs + 7) / 8;
    if ((g->inputs & 3) == 0) {
        if (!packed) {
            pack_row(x, in, g->inputs, 0);
        }
        uint32_t *blocks = x + position_pairs(g->inputs) / 4;
        if (!edgelora_is_read_ahead(g) || !edgelora_position_outputs_ahead_s8(&p, blocks)) {
            edgelora_position_outputs_s8(&p);
        }
        return;
    }
    p.rows = 1;
    for (uint32_t k = 0, classes = g->inputs & 1 ? 4 : 2; k < classes && k < g->out_c; ++k) {
        uint32_t lead = (uint32_t)((uintptr_t)(g->weights + k * g->inputs) & 3);
        pack_row(x, in, g->inputs, lead);
        p.pairs = (lead + g->inputs + 7) / 8;
        for (uint32_t o = k; o < g->out_c; o += classes) {
            p.weights = g->weights + o * g->inputs - lead;
            p.bias = bias + o;
            p.multiplier = g->multiplier + o;
            p.shift = g->shift + o;
            p.y = y + o;
            p.values = values ? values + o : 0;
            edgelora_position_outputs_s8(&p);
        }
    }
}

// `packed`: x already holds the pairs of `in`.
EDGELORA_HOT static void outputs(const edgelora_shape_t *g, const int8_t *in, bool packed,
    uint32_t *x, const int32_t *bias, int8_t *y, int32_t *values) {
    if (g->bounded) {
        bounded_outputs(g, in, packed, x, bias, y, values);
        return;
    }
    for (uint32_t o = 0; o < g->out_c; ++o) { // rare: one value at a time
        const uint8_t *w = g->weights + o * g->inputs;
        int32_t acc = bias[o];
        for (uint32_t i = 0; i < g->inputs; ++i) {
            acc += (w[i] - 128) * in[i];
        }
        if (values) {
            values[o] = requantize(acc, g->multiplier[o], g->shift[o]);
        } else {
            y[o] = requantize_output(g, acc, o);
        }
    }
}

EDGELORA_HOT void edgelora_position_forward_s8(
    const edgelora_shape_t *g, const int8_t *in, uint32_t *x, int8_t *y, int32_t *values) {
    outputs(g, in, false, x, g->bias, y, values);
}

// t = A x, from the pairs of x. row: s8 [groups, 4] for rows that are not whole groups; sums: s32
// [rank]
EDGELORA_HOT static void down(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const uint32_t *x, int8_t *row, int32_t *sums, int8_t *t) {
    uint32_t rank = branch->rank, groups = (g->inputs + 3) / 4;
    bool whole = (g->inputs & 3) == 0;
    edgelora_row_products_t p;
    for (uint32_t j = 0; j < rank; ++j) {
        sums[j] = 0;
    }
    p.zero_point = g->zp_in;
    p.rows = whole ? rank : 1;
    for (uint32_t j = 0; j < rank; j += p.rows) {
        const int8_t *a = branch->a + j * g->inputs;
        if (!whole) {
            fill_s8(copy_fours_s8(row, a, g->inputs), -g->inputs & 3, 0);
            a = row;
        }
        p.acc = sums + j;
        for (uint32_t from = 0; from < groups; from += p.groups) {
            p.x = x + 2 * from;
            p.values = a + 4 * from;
            p.groups = at_most(groups - from, EDGELORA_ROW_GROUPS);
            p.gap = 4 * (groups - p.groups);
            edgelora_row_products_s8(&p);
        }
    }
    uint32_t fours = rank & ~3u;
    if (fours) {
        edgelora_shift_row_s8(t, 1, sums, fours, branch->t_shift);
    }
    for (uint32_t j = fours; j < rank; ++j) {
        t[j] = (int8_t)clamp_s32(round_shift(sums[j], branch->t_shift), -127, 127);
    }
}

// bias = the op's bias + B t. Rows of one or two whole groups are read as words.
EDGELORA_HOT static void up(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const int8_t *t, int32_t *bias) {
    uint32_t rank = branch->rank;
    int32_t shift = -branch->branch_shift;
    if (rank == 4 || rank == 4 * EDGELORA_B_GROUPS) {
        uint32_t pairs[2 * EDGELORA_B_GROUPS + 1]; // and one word after
        edgelora_branch_up_t p;
        pack_row(pairs, t, rank, 0);
        p.t = pairs;
        p.b = (const uint32_t *)(const void *)branch->b;
        p.groups = rank / 4;
        p.bias = g->bias;
        p.sums = bias;
        p.outputs = g->out_c;
        p.shift = shift;
        edgelora_branch_up_s8(&p);
        return;
    }
    const int8_t *row = branch->b;
    for (uint32_t o = 0; o < g->out_c; ++o, row += rank) {
        int32_t v = 0;
        for (uint32_t j = 0; j < rank; ++j) {
            v += row[j] * t[j];
        }
        bias[o] = g->bias[o] + round_shift(v, shift);
    }
}

EDGELORA_HOT void edgelora_position_branch_s8(const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const int8_t *in, uint32_t *x, const edgelora_low_t *low,
    int8_t *y, int32_t *values) {
    pack_row(x, in, g->inputs, 0);
    down(g, branch, x, low->row, low->sums, low->t);
    up(g, branch, low->t, low->bias);
    outputs(g, in, true, x, low->bias, y, values);
}
