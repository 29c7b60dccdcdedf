// Dense and conv, backward: errors of the input and of t.
// SPDX-License-Identifier: MIT
//
// Here rows are columns of the weights (of an input channel, of B), and positions are those of the
// computed error.

#include "kernels/packed/extras.h"
#include "kernels/packed/internal.h"

enum {
    DENSE_INPUTS = 64,
    ROWS_BYTES = 1408,
    MOST_ROWS = 4,
    LONG_GROUPS = 32,
    LONG_BYTES = 10240,
    WINDOW_OUTPUTS = 24
};
enum { DENSE_BYTES = 4 * DENSE_INPUTS + EDGELORA_LIST_BYTES };

// Parts of the scratch memory. A position has `t_groups` of t's errors, then `groups` of the
// outputs' errors.
typedef struct {
    uint32_t groups, t_groups;
    // bytes of 4 positions, positions / 4, rows multiplied together
    uint32_t stride, quads, rows;
    uint32_t acc;                 // s32 [rows, quads, 4]
    uint32_t words;               // E and O of `rows` rows
    uint32_t patch;               // s8 [longest part, padded]
    uint32_t x, size;
} transposed_t;

// part: groups of the longest part packed at once.
EDGELORA_RAM static transposed_t transposed_layout(
    uint32_t positions, uint32_t groups, uint32_t t_groups, uint32_t part) {
    transposed_t l = {
        .groups = groups,
        .t_groups = t_groups,
        .stride = EDGELORA_GROUP_BYTES * (groups + t_groups)};
    uint32_t longest = groups > t_groups ? groups : t_groups, all = (positions + 3) / 4;
    l.rows = ROWS_BYTES / (8 * longest);
    l.rows = l.rows > MOST_ROWS ? MOST_ROWS : l.rows < 1 ? 1 : l.rows;
    uint32_t fixed = 8 * longest * l.rows + 4 * part, quad = l.stride + 16 * l.rows;
    // each tile unpacks all columns
    uint32_t room = longest > LONG_GROUPS ? LONG_BYTES : EDGELORA_TILE_BYTES,
             fit = fixed + quad < room ? (room - fixed) / quad : 1, tiles = (all + fit - 1) / fit;
    l.quads = (all + tiles - 1) / tiles;
    l.words = l.acc + 16 * l.quads * l.rows;
    l.patch = l.words + 8 * longest * l.rows;
    l.x = l.patch + 4 * part;
    l.size = l.x + l.quads * l.stride;
    return l;
}

static uint32_t common_divisor(uint32_t a, uint32_t b) {
    while (b) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static uint32_t parts_of(uint32_t count, uint32_t size) {
    return (count + size - 1) / size;
}

// Maximum number of errors that a position reads along an axis.
static uint32_t most_taps(uint32_t kernel, uint32_t stride, uint32_t dilation) {
    return parts_of(kernel, stride / common_divisor(stride, dilation));
}

// conv: maximum over all phases.
EDGELORA_RAM static transposed_t input_layout(const edgelora_shape_t *g, uint32_t rank) {
    const edgelora_op_t *op = g->op;
    uint32_t taps = most_taps(g->kernel_h, op->stride_h, op->dilation_h) *
        most_taps(g->kernel_w, op->stride_w, op->dilation_w);
    uint32_t part = (g->out_c + 3u) / 4, t_part = (rank + 3) / 4;
    return transposed_layout(parts_of(g->in_h, op->stride_h) * parts_of(g->in_w, op->stride_w),
        taps * part, taps * t_part, part > t_part ? part : t_part);
}

// The phase of input positions `first`, first + stride, ... < size; first < stride.
static edgelora_phase_t phase_of(uint32_t first, uint32_t stride, uint32_t pad, uint32_t dilation,
    uint32_t kernel, uint32_t size) {
    uint32_t divisor = common_divisor(stride, dilation), step = stride / divisor, tap = 0,
             rest = (first + pad) % stride;
    while (tap < step && tap * dilation % stride != rest) {
        ++tap;
    }
    return (edgelora_phase_t){
        .first = first,
        .count = parts_of(size - first, stride),
        .tap = tap,
        .taps = tap < step && tap < kernel ? parts_of(kernel - tap, step) : 0,
        .tap_step = step,
        .start = ((int32_t)(first + pad) - (int32_t)(tap * dilation)) / (int32_t)stride,
        .back = (int32_t)(dilation / divisor)};
}

EDGELORA_RAM static transposed_t branch_layout(const edgelora_shape_t *g) {
    uint32_t part = (g->out_c + 3u) / 4;
    return transposed_layout(g->positions, part, 0, part);
}

uint32_t edgelora_matrix_backward_packed_scratch(const edgelora_shape_t *g, uint32_t rank) {
    if (g->op->kind == EDGELORA_DENSE) {
        return DENSE_BYTES;
    }
    // the error of the model's input is not needed
    uint32_t input = g->op->input ? input_layout(g, rank).size : 0,
             branch = rank ? branch_layout(g).size : 0;
    return input > branch ? input : branch;
}

// Right shifts of the sums of e's and of t's products before they are added.
typedef struct {
    int32_t exponent, e_shift, t_shift;
} joint_t;

static joint_t joint(const edgelora_branch_t *branch, const edgelora_error_t *error) {
    int32_t e = error->exponent, t = error->t_exponent + branch->branch_shift - branch->t_shift;
    int32_t top = joint_exponent(branch, error);
    return (joint_t){top, at_most_31(top - e), branch->rank ? at_most_31(top - t) : 0};
}

// Computes each position's errors as sums of rows, each times one value: some inputs of a position
// at a time. The sum with the larger exponent starts from the other sum, shifted to that exponent.
EDGELORA_HOT static int32_t rows_backward(const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, const joint_t *j, int8_t *dx) {
    int32_t *acc = error->scratch;
    edgelora_row_t *list = (edgelora_row_t *)(void *)(acc + DENSE_INPUTS);
    edgelora_columns_t block = {.q = dx, .step = 1, .rounds = g->rounds};
    edgelora_cursor_t at = {0, 0, g->positions * g->inputs};
    edgelora_weighted_rows_t e = {g->weights, error->e, g->out_c, EDGELORA_OFFSET},
                             t = {
                                 (const uint8_t *)branch->a, error->t_error, branch->rank,
                                 EDGELORA_SIGNED};
    edgelora_weighted_rows_t *first = j->e_shift ? &e : &t, *second = j->e_shift ? &t : &e;
    int32_t shift = j->e_shift ? j->e_shift : j->t_shift, mask = shift_mask(shift);
    edgelora_parts_t parts;
    bool apart = second == &t && g->positions > 1 && edgelora_parts_of_a(&parts, branch, g->inputs);
    for (uint32_t p = 0; p < g->positions; ++p, e.values += e.count, t.values += t.count) {
        for (uint32_t i = 0, count; i < g->inputs; i += count, at.x += count) {
            count = at_most(g->inputs - i, DENSE_INPUTS);
            clear_fours(acc, count);
            edgelora_add_weighted_rows(first, g->inputs, i, count, acc, list);
            if (apart) {
                edgelora_add_parts_s32(&parts, i, count, shift, t.values, acc);
            } else {
                for (uint32_t c = 0; c < count && shift; ++c) {
                    acc[c] = trunc_mask(acc[c], shift, mask);
                }
                edgelora_add_weighted_rows(second, g->inputs, i, count, acc, list);
            }
            edgelora_columns_put(&block, &at, 0, 1, count, count, acc);
        }
    }
    return j->exponent + block.shift;
}

// Unpacks a phase's kernel elements as rows of words, last element first. w: [n][kernel_h,
// kernel_w, in_c] from the column on.
EDGELORA_HOT static void unpack_phase(const edgelora_shape_t *g, const edgelora_phase_t *py,
    const edgelora_phase_t *px, const uint8_t *w, uint32_t rows, uint32_t n,
    edgelora_coding_t coding, uint32_t *words) {
    uint32_t part = px->taps * ((n + 3) / 4), row = (uint32_t)g->kernel_w * g->in_c,
             down = py->tap_step * row;
    w += (py->tap + (py->taps - 1) * py->tap_step) * row +
        (px->tap + (px->taps - 1) * px->tap_step) * g->in_c;
    for (uint32_t m = 0; m < py->taps; ++m, words += 2 * part) {
        edgelora_unpack_taps_s8(words, py->taps * part, w - m * down, rows, px->taps,
            -(int32_t)(px->tap_step * g->in_c), n, g->inputs, coding);
    }
}

// Common state of a convolution's phases.
typedef struct {
    const edgelora_shape_t *g;
    const edgelora_branch_t *branch;
    const edgelora_error_t *error;
    joint_t joint;
    transposed_t layout;
    bool in_place; // 1x1 kernel, whole groups: each position reads its own errors
} conv_t;

// One of an error's two sums: A times t's errors, or W times the outputs' errors.
typedef struct {
    edgelora_tile_product_t row;
    const uint8_t *w;
    uint32_t n, groups; // per kernel element; per position
    edgelora_coding_t coding;
} term_t;

// Multiplies columns of a phase, from c on, with the tile.
EDGELORA_HOT static void term_products(const conv_t *conv, const edgelora_phase_t *py,
    const edgelora_phase_t *px, term_t *term, uint32_t c, uint32_t rows) {
    const transposed_t *l = &conv->layout;
    uint32_t *words = (uint32_t *)(void *)((uint8_t *)conv->error->scratch + l->words);
    term->row.weights = words;
    term->row.rows = rows;
    unpack_phase(conv->g, py, px, term->w + c, rows, term->n, term->coding, words);
    edgelora_tile_product_chunks_s8(&term->row, term->groups, l->stride);
}

// Computes the errors of a phase's positions, the grid of `block`. The sum that the exponents
// require to be shifted is computed first.
EDGELORA_HOT static void phase_backward(const conv_t *conv, const edgelora_phase_t *py,
    const edgelora_phase_t *px, edgelora_columns_t *block) {
    const edgelora_shape_t *g = conv->g;
    const edgelora_branch_t *branch = conv->branch;
    const transposed_t *l = &conv->layout;
    uint8_t *s = conv->error->scratch;
    uint32_t rank = branch->rank, positions = py->count * px->count, taps = py->taps * px->taps,
             t_groups = taps * ((rank + 3) / 4);
    int32_t *acc = (int32_t *)(void *)(s + l->acc), none[MOST_ROWS] = {0};
    uint32_t *x = (uint32_t *)(void *)(s + l->x), *e = x + EDGELORA_GROUP_WORDS * t_groups;
    term_t terms[2] = {
        {.w = g->weights,
            .n = g->out_c,
            .groups = taps * ((g->out_c + 3u) / 4),
            .coding = EDGELORA_OFFSET},
        {.w = (const uint8_t *)branch->a,
            .n = rank,
            .groups = t_groups,
            .coding = EDGELORA_SIGNED}};
    terms[0].row.x = e;
    terms[1].row.x = x;
    bool low_first = rank && !conv->joint.e_shift;
    term_t *first = terms + low_first, *second = terms + !low_first;
    // columns of A as words, of all rows
    bool by_rows = rank && !low_first && conv->in_place && l->rows == 4 && is_aligned(branch->a);
    edgelora_one_row_t one_row;
    one_row.columns = g->in_c;
    one_row.rank = rank;
    one_row.acc = acc;
    one_row.shift = conv->joint.e_shift;
    second->row.add = 1;
    second->row.b_shift = low_first ? conv->joint.t_shift : conv->joint.e_shift;
    edgelora_cursor_t at = {0, 0, conv->in_place ? positions : px->count}, next = at;
    for (uint32_t p = 0, count; p < positions; p += count, at = next) {
        count = at_most(positions - p, 4 * l->quads);
        uint32_t padded = (count + 3) & ~3u;
        if (conv->in_place) {
            const edgelora_error_t *error = conv->error;
            edgelora_pack_quads_s8(e, l->stride, error->e + p * g->out_c, count, g->out_c / 4u);
            if (rank) {
                edgelora_pack_quads_s8(x, l->stride, error->t_error + p * rank, count, t_groups);
            }
            next.x += count;
        } else {
            edgelora_gather_errors_s8(
                g, py, px, conv->error, rank, &next, count, (int8_t *)s + l->patch, x, l->stride);
        }
        for (term_t *term = terms; term != terms + 2; ++term) {
            term->row.acc = acc;
            term->row.count = padded;
            term->row.bias = none;
            term->row.coding = EDGELORA_PAIRS;
            term->row.one_left = one_left(count);
        }
        one_row.t = conv->error->t_error + p * rank;
        one_row.count = count;
        one_row.padded = padded;
        for (uint32_t c = 0, rows; c < g->in_c; c += rows) {
            rows = at_most(g->in_c - c, l->rows);
            term_products(conv, py, px, first, c, rows);
            one_row.a = branch->a + c;
            bool done = by_rows && edgelora_one_row_s8(&one_row);
            if (rank && !done) {
                term_products(conv, py, px, second, c, rows);
            }
            edgelora_columns_put(block, &at, c, rows, count, padded, acc);
        }
    }
}

// Clears input positions that no kernel element reads.
EDGELORA_HOT static void clear_phase(
    const edgelora_shape_t *g, const edgelora_phase_t *py, const edgelora_phase_t *px, int8_t *dx) {
    const edgelora_op_t *op = g->op;
    for (uint32_t iy = py->first; iy < g->in_h; iy += op->stride_h) {
        for (uint32_t ix = px->first; ix < g->in_w; ix += op->stride_w) {
            fill_s8(dx + (iy * g->in_w + ix) * g->in_c, g->in_c, 0);
        }
    }
}

EDGELORA_HOT static int32_t conv_backward(const conv_t *conv, int8_t *dx) {
    const edgelora_shape_t *g = conv->g;
    const edgelora_op_t *op = g->op;
    uint32_t row = (uint32_t)g->in_w * g->in_c;
    edgelora_columns_t block = {
        .q = dx,
        .step = (uint32_t)op->stride_w * g->in_c,
        .row = op->stride_h * row,
        .rounds = g->rounds};
    for (uint32_t y = 0; y < op->stride_h && y < g->in_h; ++y) {
        edgelora_phase_t py = phase_of(
            y, op->stride_h, op->pad_top, op->dilation_h, g->kernel_h, g->in_h);
        for (uint32_t x = 0; x < op->stride_w && x < g->in_w; ++x) {
            edgelora_phase_t px = phase_of(
                x, op->stride_w, op->pad_left, op->dilation_w, g->kernel_w, g->in_w);
            if (py.taps && px.taps) {
                block.first = y * row + x * g->in_c;
                phase_backward(conv, &py, &px, &block);
            } else {
                clear_phase(g, &py, &px, dx);
            }
        }
    }
    return conv->joint.exponent + block.shift;
}

EDGELORA_HOT int32_t edgelora_matrix_backward_packed_s8(const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, int8_t *dx) {
    joint_t j = joint(branch, error);
    if (g->op->kind == EDGELORA_DENSE) {
        return rows_backward(g, branch, error, &j, dx);
    }
    bool in_place = edgelora_takes_input_as_it_is(g) && !(g->out_c & 3) && !(branch->rank & 3);
    conv_t conv = {g, branch, error, j, input_layout(g, branch->rank), in_place};
    if (in_place && conv.layout.size >= DENSE_BYTES && is_aligned(branch->a) &&
        edgelora_are_sparse(g, error->e, 4)) {
        return rows_backward(g, branch, error, &j, dx);
    }
    // a tile of few outputs, which unpacks four columns at once, is faster than windows
    if (!in_place && (g->out_c >= WINDOW_OUTPUTS || conv.layout.rows < MOST_ROWS)) {
        int32_t cut = j.e_shift ? j.e_shift : j.t_shift, shift = 0;
        uint32_t room = edgelora_matrix_backward_packed_scratch(g, branch->rank),
                 forward = edgelora_matrix_forward_packed_scratch(g, branch->rank);
        room = forward > room ? forward : room;
        if (edgelora_windows_backward_s8(
                g, branch, error, branch->rank && !j.e_shift, cut, room, dx, &shift)) {
            return j.exponent + shift;
        }
    }
    return conv_backward(&conv, dx);
}

EDGELORA_HOT static int32_t dense_branch_backward(const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, int8_t *t_error) {
    int32_t *acc = error->scratch;
    uint32_t rank = branch->rank;
    edgelora_weighted_rows_t b = {(const uint8_t *)branch->b, error->e, g->out_c, EDGELORA_SIGNED};
    edgelora_columns_t block = {.q = t_error, .step = 1, .rounds = g->rounds};
    edgelora_cursor_t at = {0, 0, rank};
    for (uint32_t j = 0; j < rank; ++j) {
        acc[j] = 0;
    }
    edgelora_add_weighted_rows(
        &b, rank, 0, rank, acc, (edgelora_row_t *)(void *)(acc + DENSE_INPUTS));
    edgelora_columns_put(&block, &at, 0, 1, rank, rank, acc);
    return error->exponent + block.shift;
}

EDGELORA_HOT int32_t edgelora_branch_backward_packed_s8(const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, int8_t *t_error) {
    if (g->op->kind == EDGELORA_DENSE) {
        return dense_branch_backward(g, branch, error, t_error);
    }
    uint8_t *s = error->scratch;
    const int8_t *e = error->e;
    transposed_t l = branch_layout(g);
    edgelora_columns_t block = {.q = t_error, .step = branch->rank, .rounds = g->rounds};
    int32_t *acc = (int32_t *)(void *)(s + l.acc), none[MOST_ROWS] = {0};
    uint32_t *x = (uint32_t *)(void *)(s + l.x), *words = (uint32_t *)(void *)(s + l.words);
    edgelora_cursor_t at = {0, 0, g->positions};
    while (at.x < g->positions) {
        uint32_t count = at_most(g->positions - at.x, 4 * l.quads), padded = (count + 3) & ~3u;
        if (!(g->out_c & 3)) {
            edgelora_pack_quads_s8(x, l.stride, e, count, l.groups);
            e += count * g->out_c;
        }
        for (uint32_t k = 0; k < count && (g->out_c & 3); ++k, e += g->out_c) {
            edgelora_pack_part_s8(
                x + (k >> 2) * (l.stride / 4) + (k & 3), e, g->out_c, (int8_t *)s + l.patch);
        }
        edgelora_tile_product_t row = {
            .x = x,
            .acc = acc,
            .count = padded,
            .bias = none,
            .coding = EDGELORA_PAIRS,
            .weights = words,
            .one_left = one_left(count)};
        for (uint32_t j = 0; j < branch->rank; j += row.rows) {
            row.rows = at_most(branch->rank - j, l.rows);
            const uint8_t *b = (const uint8_t *)branch->b + j;
            edgelora_unpack_taps_s8(
                words, l.groups, b, row.rows, 1, 0, g->out_c, branch->rank, EDGELORA_SIGNED);
            edgelora_tile_product_chunks_s8(&row, l.groups, l.stride);
            edgelora_columns_put(&block, &at, j, row.rows, count, padded, acc);
        }
        at.x += count;
    }
    return error->exponent + block.shift;
}
