// Dense and conv, backward: the input's error and t's error. SPDX-License-Identifier: MIT
//
// Rows are columns of the weights (of an input channel, of B), positions are those of the error
// that is computed.

#include "kernels/packed/parts.h"

enum { DENSE_INPUTS = 64, ROWS_BYTES = 1024, MOST_ROWS = 4 };

// Parts of the scratch memory: a position's errors are `groups`, behind `t_groups` of t's.
typedef struct {
    uint32_t groups, t_groups;
    // bytes of 4 positions, fours of positions, rows that are multiplied together
    uint32_t stride, quads, rows;
    uint32_t acc, branch_acc;     // s32 [rows, quads, 4]
    uint32_t words;               // E and O of `rows` rows
    uint32_t patch;               // s8 [longest part, padded]
    uint32_t x, size;
} transposed_t;

// part: groups of the longest part that is packed at once.
static transposed_t transposed_layout(
    uint32_t positions, uint32_t groups, uint32_t t_groups, uint32_t part) {
    transposed_t l = {.groups = groups,
        .t_groups = t_groups,
        .stride = EDGELORA_GROUP_BYTES * (groups + t_groups)};
    uint32_t longest = groups > t_groups ? groups : t_groups, all = (positions + 3) / 4;
    l.rows = ROWS_BYTES / (8 * longest);
    l.rows = l.rows > MOST_ROWS ? MOST_ROWS : l.rows < 1 ? 1 : l.rows;
    uint32_t fixed = 8 * longest * l.rows + 4 * part, quad = l.stride + 32 * l.rows;
    uint32_t fit = fixed + quad < EDGELORA_TILE_BYTES ? (EDGELORA_TILE_BYTES - fixed) / quad : 1,
             tiles = (all + fit - 1) / fit;
    l.quads = (all + tiles - 1) / tiles;
    l.branch_acc = 16 * l.quads * l.rows;
    l.words = 2 * l.branch_acc;
    l.patch = l.words + 8 * longest * l.rows;
    l.x = l.patch + 4 * part;
    l.size = l.x + l.quads * l.stride;
    return l;
}

// conv: a position of the input meets `taps` errors.
static transposed_t input_layout(const edgelora_shape_t *g, uint32_t rank) {
    uint32_t taps = (uint32_t)g->kernel_h * g->kernel_w, part = (g->out_c + 3u) / 4,
             t_part = (rank + 3) / 4;
    return transposed_layout(
        (uint32_t)g->in_h * g->in_w, taps * part, taps * t_part, part > t_part ? part : t_part);
}

static transposed_t branch_layout(const edgelora_shape_t *g) {
    uint32_t part = (g->out_c + 3u) / 4;
    return transposed_layout(g->positions, part, 0, part);
}

uint32_t edgelora_matrix_backward_packed_scratch(const edgelora_shape_t *g, uint32_t rank) {
    uint32_t input = g->op->kind == EDGELORA_DENSE ? 8 * DENSE_INPUTS : input_layout(g, rank).size;
    uint32_t branch = rank ? branch_layout(g).size : 0;
    return input > branch ? input : branch;
}

// How far sums of e's and of t's products go to the right before they are added.
typedef struct {
    int32_t exponent, e_shift, t_shift;
} joint_t;

static joint_t joint(const edgelora_branch_t *branch, const edgelora_error_t *error) {
    int32_t e = error->exponent, t = error->t_exponent + branch->branch_shift - branch->t_shift;
    int32_t top = branch->rank && t > e ? t : e;
    return (joint_t){top, at_most_31(top - e), branch->rank ? at_most_31(top - t) : 0};
}

// Some inputs of dense at a time.
EDGELORA_HOT static int32_t dense_backward(const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, const joint_t *j, int8_t *dx) {
    int32_t *acc = error->scratch, *branch_acc = acc + DENSE_INPUTS;
    edgelora_columns_t block = {dx, 1, 0, 0};
    for (uint32_t i = 0; i < g->inputs; i += DENSE_INPUTS) {
        uint32_t count = at_most(g->inputs - i, DENSE_INPUTS);
        for (uint32_t c = 0; c < 2 * DENSE_INPUTS; ++c) {
            acc[c] = 0;
        }
        for (uint32_t o = 0; o < g->out_c; ++o) {
            const uint8_t *w = g->weights + o * g->inputs + i;
            int32_t v = error->e[o];
            for (uint32_t c = 0; c < count && v; ++c) {
                acc[c] += (w[c] - 128) * v;
            }
        }
        for (uint32_t k = 0; k < branch->rank; ++k) {
            const int8_t *a = branch->a + k * g->inputs + i;
            int32_t v = error->t_error[k];
            for (uint32_t c = 0; c < count && v; ++c) {
                branch_acc[c] += a[c] * v;
            }
        }
        if (branch->rank) {
            edgelora_join_s32(acc, j->e_shift, branch_acc, j->t_shift, count);
        }
        edgelora_columns_put(&block, 0, 1, count, count, acc);
        block.done += count;
    }
    return j->exponent + block.shift;
}

EDGELORA_HOT int32_t edgelora_matrix_backward_packed_s8(const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, int8_t *dx) {
    joint_t j = joint(branch, error);
    if (g->op->kind == EDGELORA_DENSE) {
        return dense_backward(g, branch, error, &j, dx);
    }
    uint8_t *s = error->scratch;
    uint32_t rank = branch->rank, taps = (uint32_t)g->kernel_h * g->kernel_w,
             positions = (uint32_t)g->in_h * g->in_w;
    transposed_t l = input_layout(g, rank);
    edgelora_columns_t block = {dx, g->in_c, 0, 0};
    int32_t *acc = (int32_t *)(void *)(s + l.acc),
            *branch_acc = (int32_t *)(void *)(s + l.branch_acc), none[MOST_ROWS] = {0};
    uint32_t *x = (uint32_t *)(void *)(s + l.x), *words = (uint32_t *)(void *)(s + l.words);
    edgelora_cursor_t at = {0, 0, g->in_w};
    for (uint32_t p = 0; p < positions;) {
        uint32_t count = at_most(positions - p, 4 * l.quads), padded = (count + 3) & ~3u;
        edgelora_gather_errors_s8(g, error, rank, &at, count, (int8_t *)s + l.patch, x, l.stride);
        edgelora_tile_product_t row = {
            .count = padded, .bias = none, .coding = EDGELORA_PAIRS, .weights = words};
        for (uint32_t c = 0; c < g->in_c; c += row.rows) {
            row.rows = at_most(g->in_c - c, l.rows);
            edgelora_unpack_taps_s8(words, l.groups, g->weights + c, row.rows, taps, g->in_c,
                g->out_c, g->inputs, EDGELORA_OFFSET);
            row.x = x + EDGELORA_GROUP_WORDS * l.t_groups;
            row.acc = acc;
            edgelora_tile_product_chunks_s8(&row, l.groups, l.stride);
            if (rank) {
                const uint8_t *a = (const uint8_t *)branch->a + c;
                edgelora_unpack_taps_s8(words, l.t_groups, a, row.rows, taps, g->in_c, rank,
                    g->inputs, EDGELORA_SIGNED);
                row.x = x;
                row.acc = branch_acc;
                edgelora_tile_product_chunks_s8(&row, l.t_groups, l.stride);
                edgelora_join_s32(acc, j.e_shift, branch_acc, j.t_shift, row.rows * padded);
            }
            edgelora_columns_put(&block, c, row.rows, count, padded, acc);
        }
        p += count;
        block.done += count;
    }
    return j.exponent + block.shift;
}

EDGELORA_HOT int32_t edgelora_branch_backward_packed_s8(const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, int8_t *t_error) {
    uint8_t *s = error->scratch;
    const int8_t *e = error->e;
    transposed_t l = branch_layout(g);
    edgelora_columns_t block = {t_error, branch->rank, 0, 0};
    int32_t *acc = (int32_t *)(void *)(s + l.acc), none[MOST_ROWS] = {0};
    uint32_t *x = (uint32_t *)(void *)(s + l.x), *words = (uint32_t *)(void *)(s + l.words);
    for (uint32_t p = 0; p < g->positions;) {
        uint32_t count = at_most(g->positions - p, 4 * l.quads), padded = (count + 3) & ~3u;
        for (uint32_t k = 0; k < count; ++k, e += g->out_c) {
            edgelora_pack_part_s8(
                x + (k >> 2) * (l.stride / 4) + (k & 3), e, g->out_c, (int8_t *)s + l.patch);
        }
        edgelora_tile_product_t row = {.x = x,
            .acc = acc,
            .count = padded,
            .bias = none,
            .coding = EDGELORA_PAIRS,
            .weights = words};
        for (uint32_t j = 0; j < branch->rank; j += row.rows) {
            row.rows = at_most(branch->rank - j, l.rows);
            const uint8_t *b = (const uint8_t *)branch->b + j;
            edgelora_unpack_taps_s8(
                words, l.groups, b, row.rows, 1, 0, g->out_c, branch->rank, EDGELORA_SIGNED);
            edgelora_tile_product_chunks_s8(&row, l.groups, l.stride);
            edgelora_columns_put(&block, j, row.rows, count, padded, acc);
        }
        p += count;
        block.done += count;
    }
    return error->exponent + block.shift;
}
