// Dense and conv, forward.
// SPDX-License-Identifier: MIT
//
// Works on tiles of output positions that fit some kilobytes: packs their inputs, 4 positions
// per quad, then unpacks each output's row of weights once and multiplies it with all of them.
// One or two positions are computed separately (position.c).
//
// Time of these kernels: lines `conv*` and `dense` of `edgelora bench kernels`.

#include "kernels/packed/extras.h"
#include "kernels/packed/internal.h"
#include "kernels/packed/read_ahead.h"

enum { B_BYTES = 512 }; // unpacked bytes of B at a time

// A tile's parts in the scratch memory; offsets in bytes.
typedef struct {
    uint32_t groups, t_groups; // of a position's inputs and t
    uint32_t stride;           // bytes of 4 positions: quads of [t, inputs]
    uint32_t quads;            // positions / 4; 0: one position
    uint32_t rows;             // rows multiplied together
    uint32_t acc; // s32 [rows, quads, 4]; one position: s32 [out_c], bias and branch, or values
    // word-aligned copies of rows that are not whole groups: of weights, of A (one position:
    // words)
    uint32_t words;
    uint32_t b, b_rows;        // E and O of `b_rows` rows of B
    uint32_t t_bias;           // s32 [rank]: -zp_in * sums of A's rows; one position: sums
    uint32_t t;                // s8 [quads, 4, t_groups * 4]
    uint32_t patch;            // s8 [groups * 4]
    uint32_t x;                // quads
    uint32_t size;
} tile_t;

static inline bool is_single(uint32_t positions) {
    return positions <= EDGELORA_SINGLE;
}

// Number of rows of weights that are not whole groups to align at a time; at least two, as the
// same memory holds a row's pair words.
static inline uint32_t aligned_rows(uint32_t groups) {
    uint32_t rows = 2 * EDGELORA_GROUP_BYTES / groups;
    return rows < 2 ? 2 : at_most(rows, EDGELORA_MAX_ROWS);
}

static inline bool adds_to_stream(const edgelora_shape_t *g) {
    return EDGELORA_ATTENTION && g->op->kind == EDGELORA_PROJECT;
}

EDGELORA_RAM static tile_t tile_layout(const edgelora_shape_t *g, uint32_t rank) {
    uint32_t positions = g->positions, inputs = g->inputs, outputs = g->out_c;
    tile_t l = {.groups = (inputs + 3) / 4, .t_groups = (rank + 3) / 4};
    bool single = is_single(positions);
    uint32_t row = inputs & 3 ? 4 * l.groups * (single ? 1 : aligned_rows(l.groups)) : 0, b = 0;
    if (rank && !single) {
        l.b_rows = at_most(B_BYTES / 8 / l.t_groups, outputs);
        b = 8 * l.t_groups * l.b_rows;
    }
    l.stride = single ? position_pairs(inputs) : EDGELORA_GROUP_BYTES * (l.groups + l.t_groups);
    if (!single) {
        uint32_t fixed = EDGELORA_ACC_BYTES + row + b + 4 * rank + 4 * l.groups,
                 quad = l.stride + 16 * l.t_groups;
        uint32_t fit = fixed + quad < EDGELORA_TILE_BYTES ? (EDGELORA_TILE_BYTES - fixed) / quad
                                                          : 1,
                 all = (positions + 3) / 4;
        uint32_t tiles = (all + fit - 1) / fit;
        l.quads = (all + tiles - 1) / tiles;
        l.rows = EDGELORA_ACC_BYTES / 16 / l.quads;
        l.rows = l.rows > EDGELORA_MAX_ROWS ? EDGELORA_MAX_ROWS : l.rows < 1 ? 1 : l.rows;
    }
    l.words = single ? (rank || adds_to_stream(g) ? 4 * outputs : 0) : 16 * l.quads * l.rows;
    l.b = l.words + (single && !rank ? 0 : row);
    l.t_bias = l.b + b;
    l.t = l.t_bias + 4 * rank;
    l.patch = l.t + (single ? 1 : 4 * l.quads) * 4 * l.t_groups;
    l.x = l.patch + 4 * l.groups;
    l.size = l.x + (single ? l.stride : l.quads * l.stride);
    return l;
}

uint32_t edgelora_matrix_forward_packed_scratch(const edgelora_shape_t *g, uint32_t rank) {
    return tile_layout(g, rank).size + edgelora_ahead_scratch(g);
}

// Common properties of a layer's tiles.
typedef struct {
    bool in_22_bits; // all accumulators
    bool b_joins;    // B t is multiplied with the rows of weights
    bool b_is_small; // edgelora_tile_product_t
    bool a_is_dense; // all rows of A read all inputs
    uint32_t lead;   // zeros before rows of weights that are not whole groups
    struct {
        uint16_t from, groups; // groups of inputs that a row of A reads, at least one
    } part[EDGELORA_MAX_RANK];
} common_t;

enum { WORDS_SUM = 128 }; // number of words whose byte sums fit 16 bits

// Sum of s8 values in words.
static int32_t sum_of_words(const uint32_t *word, uint32_t words) {
    const uint32_t lower = 0x00FF00FF;
    int32_t sum = -512 * (int32_t)words;
    for (uint32_t n; words; words -= n) {
        uint32_t halves = 0;
        n = at_most(words, WORDS_SUM);
        for (const uint32_t *end = word + n; word != end; ++word) {
            uint32_t offset = *word ^ 0x80808080u;
            halves += (offset & lower) + (offset >> 8 & lower);
        }
        sum += (int32_t)((halves & 0xFFFF) + (halves >> 16));
    }
    return sum;
}

// Sets t_bias to -zp_in * sums of A's rows, and in common the groups of inputs where rows are
// nonzero.
EDGELORA_HOT static void t_bias_and_parts(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, common_t *common, int32_t *t_bias) {
    const int8_t *a = branch->a;
    bool words = (g->inputs & 3) == 0;
    common->a_is_dense = true;
    for (uint32_t j = 0; j < branch->rank; ++j, a += g->inputs) {
        uint32_t from = 0, to = (g->inputs + 3) / 4;
        const uint32_t *group = (const uint32_t *)(const void *)a;
        while (words && from + 1 < to && !group[from]) {
            ++from;
        }
        while (words && to > from + 1 && !group[to - 1]) {
            --to;
        }
        common->part[j].from = (uint16_t)from;
        common->part[j].groups = (uint16_t)(to - from);
        common->a_is_dense &= to - from == (g->inputs + 3) / 4;
        int32_t sum = words ? sum_of_words(group + from, to - from) : 0;
        for (const int8_t *v = a, *end = a + g->inputs; !words && v < end; ++v) {
            sum += *v;
        }
        t_bias[j] = -g->zp_in * sum;
    }
}

// Computes t for all positions of a tile, into the quads and to t if it is kept.
EDGELORA_HOT static void tile_down(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const tile_t *l, const common_t *common, uint8_t *scratch, uint32_t count, int8_t *t) {
    uint32_t rank = branch->rank, width = 4 * l->t_groups, padded = (count + 3) & ~3u;
    int32_t *acc = (int32_t *)(void *)(scratch + l->acc);
    uint32_t *x = (uint32_t *)(void *)(scratch + l->x);
    int8_t *packed = (int8_t *)scratch + l->t;
    bool whole = (g->inputs & 3) == 0;
    edgelora_tile_product_t row = {
        .acc = acc,
        .count = padded,
        .coding = (uint32_t)EDGELORA_SIGNED,
        .one_left = one_left(count)};
    for (uint32_t j = 0; j < rank; j += row.rows) {
        uint32_t from = common->part[j].from, groups = common->part[j].groups;
        row.rows = whole && common->a_is_dense ? at_most(rank - j, l->rows) : 1;
        row.bias = (const int32_t *)(const void *)(scratch + l->t_bias) + j;
        row.x = x + EDGELORA_GROUP_WORDS * (l->t_groups + from);
        row.weights = branch->a + j * g->inputs + 4 * from;
        if (!whole) {
            edgelora_align_rows_u8((uint32_t *)(void *)(scratch + l->words), row.weights, g->inputs,
                1, common->lead, EDGELORA_SIGNED);
            row.weights = scratch + l->words;
        }
        edgelora_tile_product_chunks_s8(&row, groups, l->stride);
        for (uint32_t k = 0; k < row.rows; ++k) {
            edgelora_shift_row_s8(packed + j + k, width, acc + k * padded, padded, branch->t_shift);
        }
    }
    for (uint32_t j = rank; j < width; ++j) {
        for (uint32_t p = 0; p < padded; ++p) {
            packed[p * width + j] = 0;
        }
    }
    edgelora_pack_quads_s8(x, l->stride, packed, padded, l->t_groups);
    if (t && rank == width) {
        copy_fours_s8(t, packed, count * rank);
    } else if (t) {
        for (uint32_t p = 0; p < count; ++p, packed += width) {
            t = copy_fours_s8(t, packed, rank);
        }
    }
}

// Computes the outputs of a tile, after tile_down.
EDGELORA_HOT static void tile_forward(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const tile_t *l, const common_t *common, uint8_t *scratch, bool at_once, bool first,
    uint32_t count, int8_t *y) {
    static const int32_t none[EDGELORA_MAX_ROWS];
    int32_t *acc = (int32_t *)(void *)(scratch + l->acc);
    uint32_t *words = (uint32_t *)(void *)(scratch + l->words),
             *b = (uint32_t *)(void *)(scratch + l->b);
    const uint32_t *x = (const uint32_t *)(const void *)(scratch + l->x);
    uint32_t rank = branch->rank;
    bool whole = (g->inputs & 3) == 0, joins = common->b_joins;
    edgelora_tile_product_t row = {
        .x = x + (joins ? 0 : EDGELORA_GROUP_WORDS * l->t_groups),
        .acc = acc,
        .count = (count + 3) & ~3u,
        .b_groups = joins ? l->t_groups : 0,
        .b_shift = joins ? -branch->branch_shift : 0,
        .b_is_small = common->b_is_small,
        .one_left = one_left(count),
        .coding = EDGELORA_OFFSET,
        .groups = l->groups,
        .add = !joins};
    edgelora_requantize_t requantize = edgelora_requantize_of(g, acc);
    requantize.count = count;
    requantize.in_22_bits = common->in_22_bits;
    uint32_t most = whole ? l->rows : at_most(l->rows, aligned_rows(l->groups));
    if (at_once) {
        most = whole ? g->out_c : aligned_rows(l->groups);
    }
    for (uint32_t o = 0; o < g->out_c; o += row.rows) {
        row.rows = at_most(g->out_c - o, most);
        uint32_t done = rank ? o % l->b_rows : 0, left = rank ? l->b_rows - done : row.rows;
        row.rows = at_most(row.rows, left);
        row.bias = g->bias + o;
        row.b = b + done * 2 * l->t_groups;
        if (rank && !done && (first || g->out_c > l->b_rows)) {
            uint32_t n = at_most(g->out_c - o, l->b_rows);
            uint32_t together = rank & 3 ? 1 : n; // rows without padding form one
            for (uint32_t r = 0; r < n; r += together) {
                const uint8_t *from = (const uint8_t *)branch->b + (o + r) * rank;
                edgelora_unpack_s8(
                    b + r * 2 * l->t_groups, from, together * rank, 1, EDGELORA_SIGNED);
            }
        }
        if (!joins) { // acc = bias + round_shift(B t), then the products
            edgelora_tile_product_t alone = row;
            alone.bias = none;
            alone.add = 0;
            alone.x = x;
            alone.weights = row.b;
            alone.coding = EDGELORA_PAIRS;
            edgelora_tile_product_chunks_s8(&alone, l->t_groups, l->stride);
            for (uint32_t i = 0; i < row.rows * row.count; ++i) {
                acc[i] = (int32_t)((uint32_t)round_shift(acc[i], -branch->branch_shift) +
                    (uint32_t)row.bias[i / row.count]);
            }
        }
        row.weights = g->weights + o * g->inputs;
        if (!whole) {
            edgelora_align_rows_u8(
                words, row.weights, g->inputs, row.rows, common->lead, EDGELORA_OFFSET);
            row.weights = words;
        }
        if (at_once && row.rows > 1) {
            row.rows &= ~1u;
            edgelora_tile_outputs_s8(g, o, row.rows, row.weights, x, count, y);
            continue;
        }
        edgelora_tile_product_chunks_s8(&row, l->groups, l->stride);
        requantize.rows = row.rows;
        edgelora_requantize_outputs_s8(g, o, &requantize, y);
    }
    if (at_once) {
        clamp_outputs(y, count * g->out_c, g->op->act_min, g->op->act_max);
    }
}

// Adds the outputs of one position to a stream.
EDGELORA_WARM __attribute__((noinline)) static void add_position(
    const int32_t *values, uint32_t count, int16_t *y) {
    for (const int32_t *end = values + count; values != end; ++values, ++y) {
        *y = plus_s16(*y, *values);
    }
}

// Computes one or two positions, separately.
EDGELORA_HOT static void positions_forward(const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const int8_t *x, int8_t *y, int8_t *t, uint8_t *scratch) {
    tile_t l = tile_layout(g, branch->rank);
    bool in_place = g->op->kind == EDGELORA_DENSE || edgelora_takes_input_as_it_is(g),
         wide = adds_to_stream(g);
    int8_t *patch = (int8_t *)scratch + l.patch;
    uint32_t *pairs = (uint32_t *)(void *)(scratch + l.x);
    edgelora_low_t low;
    low.t = t ? t : (int8_t *)scratch + l.t;
    low.sums = (int32_t *)(void *)(scratch + l.t_bias);
    low.bias = (int32_t *)(void *)(scratch + l.acc);
    low.row = (int8_t *)scratch + l.words;
    int32_t *values = wide ? low.bias : 0;
    edgelora_cursor_t at = {0, 0, g->out_w};
    for (uint32_t p = 0; p < g->positions; ++p, y += g->out_c << wide) {
        const int8_t *in = x + p * g->inputs;
        if (!in_place) {
            edgelora_gather_s8(g, x, &at, patch);
            cursor_next(&at);
            in = patch;
        }
        if (branch->rank) {
            edgelora_position_branch_s8(g, branch, in, pairs, &low, y, values);
            low.t += t ? branch->rank : 0;
        } else {
            edgelora_position_forward_s8(g, in, pairs, y, values);
        }
        if (wide) {
            add_position(values, g->out_c, (int16_t *)(void *)y);
        }
    }
}

EDGELORA_HOT bool edgelora_takes_input_as_it_is(const edgelora_shape_t *g) {
    const edgelora_op_t *op = g->op;
    return g->inputs == g->in_c && (g->in_c & 3) == 0 && !op->pad_top && !op->pad_left &&
        g->out_h == g->in_h && g->out_w == g->in_w && op->stride_h == 1 && op->stride_w == 1;
}

EDGELORA_KERNEL static void tiles_forward(const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const int8_t *x, int8_t *y, int8_t *t, void *scratch) {
    tile_t l = tile_layout(g, branch->rank);
    uint8_t *s = scratch;
    int8_t *patch = (int8_t *)s + l.patch;
    uint32_t *quads = (uint32_t *)(void *)(s + l.x) + EDGELORA_GROUP_WORDS * l.t_groups;
    int32_t n = -branch->branch_shift;
    common_t common;
    t_bias_and_parts(g, branch, &common, (int32_t *)(void *)(s + l.t_bias));
    uint32_t branch_sum = edgelora_largest_branch_sum(g, branch);
    common.in_22_bits = edgelora_fits_22_bits(g, (uint32_t)round_shift((int32_t)branch_sum, n));
    common.b_is_small = branch_sum <= INT16_MAX;
    common.b_joins = l.t_groups <= EDGELORA_B_GROUPS &&
        (!l.t_groups || n <= 0 || edgelora_biases_within(g, (1 << (30 - n)) - 1));
    bool wide = adds_to_stream(g);
    // directly from sums to outputs
    bool at_once = !branch->rank && !wide && edgelora_gives_tile_outputs(g);
    common.lead = g->inputs & 3 ? edgelora_window_lead(g, x) : 0;
    bool in_place = edgelora_takes_input_as_it_is(g) && is_aligned(x);
    edgelora_cursor_t at = {0, 0, g->out_w};
    for (uint32_t p = 0; p < g->positions;) {
        uint32_t count = at_most(g->positions - p, 4 * l.quads);
        if (in_place) {
            edgelora_pack_quads_s8(quads, l.stride, x + p * g->in_c, count, l.groups);
        } else {
            edgelora_gather_tile_s8(g, x, &at, count, patch, quads, l.stride, common.lead);
        }
        if (branch->rank) {
            tile_down(g, branch, &l, &common, s, count, t);
        }
        tile_forward(g, branch, &l, &common, s, at_once, p == 0, count, y);
        p += count;
        y += count * g->out_c << wide;
        t = t ? t + count * branch->rank : 0;
    }
}

EDGELORA_HOT static void forward_packed(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const int8_t *x, int8_t *y, int8_t *t, void *scratch) {
    if (is_single(g->positions)) {
        positions_forward(g, branch, x, y, t, scratch);
    } else {
        tiles_forward(g, branch, x, y, t, scratch);
    }
}

// h: s16 [positions, out_c], or NULL: 0
EDGELORA_WARM void edgelora_project_forward_packed_s16(const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const int8_t *x, const int16_t *h, int16_t *y, int8_t *t,
    void *scratch) {
    for (uint32_t i = 0; i < g->positions * g->out_c; ++i) {
        y[i] = h ? h[i] : 0;
    }
    forward_packed(g, branch, x, (int8_t *)y, t, scratch);
}

EDGELORA_HOT void edgelora_matrix_forward_packed_s8(const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const int8_t *x, int8_t *y, int8_t *t, void *scratch) {
    if (g->op->kind == EDGELORA_DENSE && !branch->rank) { // no packing needed
        edgelora_position_forward_s8(g, x, scratch, y, 0);
    } else {
        forward_packed(g, branch, x, y, t, scratch);
    }
}
