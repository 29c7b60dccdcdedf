// Runs ops on both cores of a chip.
// SPDX-License-Identifier: MIT
//
// A part of an op's output positions is an op of its own: it has fewer rows and another padding.
// So both cores run the same kernels on different shapes. Each output is computed on one core, in
// the order of terms that it has on a single core. An error tensor's two parts may end with
// different exponents; the smaller one's values are then truncated or rounded once more, which is
// what a single core does when a larger value appears.

#include "kernels/split.h"
#include "kernels/packed/read_ahead.h"
#include "training/block.h"

enum { BITS = 32 };      // of a mask, in the same word
enum { VALUE_WORK = 8 }; // products that take as long as masking or scaling a value

// An op that computes a part of another one. in, out, positions: elements of its input and its
// output, and output positions, before the part.
typedef struct {
    edgelora_shape_t g;
    edgelora_op_t op;
    uint32_t in, out, positions;
} op_part_t;

// What an op does along the axis where it is divided. Elements from one step to the next: in_step,
// out_step; `across`: output positions.
typedef struct {
    uint32_t outputs, inputs, kernel, stride, pad, dilation;
    uint32_t in_step, out_step, across;
    bool wide; // along the width
    bool flat; // each output position is computed from the same position of the input alone
} op_axis_t;

// Positions [from, from + count) of an axis.
typedef struct {
    uint32_t from, count;
} steps_t;

// Bytes of so many values of an op's input and output, and of its other input.
static uint32_t in_bytes(const edgelora_shape_t *g, uint32_t values) {
    return g->traits & EDGELORA_READS_STREAM ? 2 * values : values;
}

static uint32_t out_bytes(const edgelora_shape_t *g, uint32_t values) {
    return g->traits & EDGELORA_ADDS ? 2 * values : values;
}

// A flat op with its positions in one column.
static void unfold(edgelora_shape_t *g) {
    if (g->positions <= UINT16_MAX) {
        g->in_h = g->out_h = g->in2_h = (uint16_t)g->positions;
        g->in_w = g->out_w = g->in2_w = 1;
    }
}

static op_axis_t axis_of(const edgelora_shape_t *g, bool flat) {
    const edgelora_op_t *op = g->op;
    uint32_t in_row = (uint32_t)g->in_w * g->in_c, out_row = (uint32_t)g->out_w * g->out_c;
    if (flat) { // the fields of a window may hold something else
        return g->out_h == 1
            ? (op_axis_t){g->out_w, g->out_w, 1, 1, 0, 1, g->in_c, g->out_c, 1, true, true}
            : (op_axis_t){g->out_h, g->out_h, 1, 1, 0, 1, in_row, out_row, g->out_w, false, true};
    }
    if (g->in_h == 1 && g->out_h == 1) {
        return (op_axis_t){
            g->out_w, g->in_w, g->kernel_w, op->stride_w, op->pad_left, op->dilation_w, g->in_c,
            g->out_c, 1, true, false};
    }
    return (op_axis_t){
        g->out_h, g->in_h, g->kernel_h, op->stride_h, op->pad_top, op->dilation_h, in_row, out_row,
        g->out_w, false, false};
}

// Where to divide n steps into two parts of similar size, so that both begin at a whole word: the
// first part's steps, or 0. step: bytes.
static uint32_t middle(uint32_t n, uint32_t step) {
    uint32_t unit = step & 1 ? 4 : step & 2 ? 2 : 1, half = (n / 2 + unit - 1) / unit * unit;
    return half < n ? half : 0;
}

// Sets a part of an op: inputs and outputs along an axis, and its padding. False: these are none.
static bool part_set(op_part_t *part, const edgelora_shape_t *g, const op_axis_t *axis, steps_t in,
    steps_t out, int32_t pad) {
    if (pad < 0 || pad > UINT8_MAX || !in.count || !out.count) {
        return false;
    }
    part->g = *g;
    part->op = *g->op;
    part->g.op = &part->op;
    if (axis->wide) {
        part->g.in_w = (uint16_t)in.count;
        part->g.out_w = part->g.in2_w = (uint16_t)out.count;
        part->op.pad_left = axis->flat ? g->op->pad_left : (uint8_t)pad;
    } else {
        part->g.in_h = (uint16_t)in.count;
        part->g.out_h = part->g.in2_h = (uint16_t)out.count;
        part->op.pad_top = axis->flat ? g->op->pad_top : (uint8_t)pad;
    }
    part->g.positions = (uint32_t)part->g.out_h * part->g.out_w;
    part->in = in.from * axis->in_step;
    part->out = out.from * axis->out_step;
    part->positions = out.from * axis->across;
    if (g->op->kind == EDGELORA_ROTATE) {
        part->g.taps += 2u * g->op->kernel_h * part->positions;
    }
    return true;
}

// The op of some outputs, with the inputs that these read.
static bool part_of_outputs(
    op_part_t *part, const edgelora_shape_t *g, const op_axis_t *axis, steps_t out) {
    int32_t first = (int32_t)(out.from * axis->stride) - (int32_t)axis->pad,
            end = first +
        (int32_t)((out.count - 1) * axis->stride + (axis->kernel - 1) * axis->dilation + 1),
            size = (int32_t)axis->inputs, from = first < 0 ? 0 : first;
    end = end < size ? end : size;
    steps_t in = {(uint32_t)from, end > from ? (uint32_t)(end - from) : 0};
    return part_set(part, g, axis, in, out, from - first);
}

// The op of some inputs, with the outputs that read these.
static bool part_of_inputs(
    op_part_t *part, const edgelora_shape_t *g, const op_axis_t *axis, steps_t in) {
    int32_t reach = (int32_t)((axis->kernel - 1) * axis->dilation), stride = (int32_t)axis->stride,
            first = (int32_t)(in.from + axis->pad) - reach,
            from = first <= 0 ? 0 : (first + stride - 1) / stride,
            end = ((int32_t)(in.from + in.count - 1 + axis->pad)) / stride + 1,
            size = (int32_t)axis->outputs;
    end = end < size ? end : size;
    steps_t out = {(uint32_t)from, end > from ? (uint32_t)(end - from) : 0};
    return part_set(part, g, axis, in, out, (int32_t)(axis->pad + in.from) - from * stride);
}

// Output channels of a dense op, which has one position. Its branch: rows of B.
static void part_of_channels(op_part_t *part, const edgelora_shape_t *g, steps_t out) {
    part->g = *g;
    part->g.out_c = (uint16_t)out.count;
    part->g.weights += out.from * g->inputs;
    part->g.bias += out.from;
    part->g.multiplier += out.from;
    part->g.shift += out.from;
    part->in = part->positions = 0;
    part->out = out.from;
}

// Is an op large enough for two cores? each: products of an output.
static bool is_large(const edgelora_split_t *split, const edgelora_shape_t *g, uint32_t each) {
    return EDGELORA_TWO_CORES && split->second &&
        g->positions * g->out_c * each >= split->second->least;
}

static uint32_t products_each(const edgelora_shape_t *g) {
    return g->is_matrix                   ? g->inputs
        : g->traits & EDGELORA_HAS_WINDOW ? (uint32_t)g->kernel_h * g->kernel_w
                                          : VALUE_WORK;
}

// The two parts of an op's outputs.
static bool halves(op_part_t part[2], const edgelora_shape_t *g) {
    uint32_t kind = g->op->kind;
    if (kind == EDGELORA_DENSE) {
        uint32_t n = middle(g->out_c, 1);
        part_of_channels(&part[0], g, (steps_t){0, n});
        part_of_channels(&part[1], g, (steps_t){n, g->out_c - n});
        return n;
    }
    bool flat = edgelora_goes_by_rows(g);
    if (!flat && kind != EDGELORA_CONV && kind != EDGELORA_PROJECT && kind != EDGELORA_DEPTHWISE &&
        kind != EDGELORA_AVERAGE_POOL && kind != EDGELORA_MAX_POOL) {
        return false;
    }
    edgelora_shape_t column = *g;
    if (flat) {
        unfold(&column);
    }
    op_axis_t axis = axis_of(&column, flat);
    // four positions are packed together
    uint32_t n = middle(axis.outputs, column.out_w == 1 ? 1 : axis.out_step);
    return n && part_of_outputs(&part[0], &column, &axis, (steps_t){0, n}) &&
        part_of_outputs(&part[1], &column, &axis, (steps_t){n, axis.outputs - n});
}

// The two parts of the error of an op's input.
static bool backward_halves(op_part_t part[2], const edgelora_shape_t *g) {
    bool by_positions = g->is_matrix && g->op->kind != EDGELORA_DENSE;
    bool flat = edgelora_goes_by_rows(g);
    if (!by_positions && !flat && g->op->kind != EDGELORA_DEPTHWISE) {
        return false;
    }
    edgelora_shape_t column = *g;
    if (flat) {
        unfold(&column);
    }
    op_axis_t axis = axis_of(&column, flat);
    uint32_t n = middle(axis.inputs, column.in_w == 1 ? 1 : axis.in_step);
    return n && part_of_inputs(&part[0], &column, &axis, (steps_t){0, n}) &&
        part_of_inputs(&part[1], &column, &axis, (steps_t){n, axis.inputs - n});
}

// The two parts of an op's output positions, for what does not look at its input. unit: the first
// part's positions are a multiple of this.
static bool position_halves(op_part_t part[2], const edgelora_shape_t *g, uint32_t unit) {
    uint32_t n = (g->positions / 2 + unit - 1) / unit * unit;
    if (!n || n >= g->positions || g->positions > UINT16_MAX) {
        return false;
    }
    const steps_t steps[2] = {{0, n}, {n, g->positions - n}};
    for (uint32_t i = 0; i < 2; ++i) {
        part[i].g = *g;
        part[i].g.out_h = (uint16_t)steps[i].count;
        part[i].g.out_w = 1;
        part[i].g.positions = steps[i].count;
        part[i].in = 0;
        part[i].out = steps[i].from * g->out_c;
        part[i].positions = steps[i].from;
    }
    return true;
}

static uint32_t most_of(
    uint32_t size, op_part_t part[2], uint32_t rank, bool backward, bool plain) {
    for (uint32_t i = 0; i < 2; ++i) {
        uint32_t each = edgelora_op_scratch(&part[i].g, rank, backward, plain);
        size = each > size ? each : size;
    }
    return size;
}

uint32_t edgelora_split_scratch(
    const edgelora_shape_t *g, uint32_t rank, bool backward, bool plain) {
    op_part_t part[2];
    uint32_t size = 0;
    if (halves(part, g)) { // with the adapter, and the base alone, whose tiles may be larger
        size = most_of(most_of(0, part, rank, false, plain), part, 0, false, plain);
    }
    if (backward && position_halves(part, g, 4)) {
        size = most_of(size, part, rank, true, plain);
    }
    return backward && backward_halves(part, g) ? most_of(size, part, rank, true, plain) : size;
}

// Do both parts run with the kind of kernels that the whole op has?
static bool are_packed(const edgelora_split_t *split, const op_part_t part[2], uint32_t rank,
    bool backward, bool packed) {
    return !packed ||
        (edgelora_op_is_packed(&part[0].g, rank, backward, split->room, false) &&
            edgelora_op_is_packed(&part[1].g, rank, backward, split->room, false));
}

// Runs both parts: the first one here.
static void both(const edgelora_split_t *split, void (*work)(void *), void *first, void *second) {
    split->second->start(work, second);
    work(first);
    split->second->wait();
}

// Makes one block of two parts with different exponents; returns the common one. size: of both;
// start: the exponent of their values before they became blocks. first: even if they are rounded
static int32_t join(int8_t *q, uint32_t first, uint32_t size, const int32_t exponent[2],
    int32_t start, bool rounds) {
    int32_t more = exponent[1] - exponent[0];
    if (more > 0) {
        edgelora_block_shift(q, first, more, exponent[0] - start, rounds);
    } else if (more < 0) {
        edgelora_block_shift(q + first, size - first, -more, exponent[1] - start, rounds);
    }
    return more > 0 ? exponent[1] : exponent[0];
}

typedef struct {
    op_part_t part;
    edgelora_branch_t branch;
    edgelora_pass_t pass;
} forward_t;

static void run_forward(void *with) {
    const forward_t *f = with;
    edgelora_op_forward(&f->part.g, &f->branch, &f->pass);
}

// Some heads of an attend. t: the row, of one alone.
typedef struct {
    const edgelora_shape_t *g;
    edgelora_pass_t pass;
    uint32_t t;
    bool plain;
    edgelora_range_t heads;
} heads_t;

static void run_heads(void *with) {
    const heads_t *h = with;
    edgelora_op_attend_forward(h->g, &h->pass, h->heads);
}

static void run_next(void *with) {
    const heads_t *h = with;
    const int8_t *const x[3] = {h->pass.x, h->pass.x2, h->pass.x3};
    edgelora_op_attend_next(h->g, x, h->pass.y, h->pass.scratch, h->t, h->plain, h->heads);
}

// Runs `work` on half of the heads each.
static void on_heads(const edgelora_split_t *split, void (*work)(void *), heads_t first) {
    heads_t second = first;
    first.pass.simd = second.pass.simd = 0;
    first.heads = half_range(first.g->op->kernel_h, EDGELORA_FIRST_HALF);
    second.heads = half_range(first.g->op->kernel_h, EDGELORA_SECOND_HALF);
    second.pass.scratch = split->scratch;
    both(split, work, &first, &second);
}

static void both_attend_forward(
    const edgelora_split_t *split, const edgelora_shape_t *g, const edgelora_pass_t *pass) {
    if (!is_large(split, g, 2 * g->positions) || g->op->kernel_h < 2) {
        edgelora_op_forward(g, &(edgelora_branch_t){0}, pass);
    } else {
        on_heads(split, run_heads, (heads_t){.g = g, .pass = *pass});
    }
}

void edgelora_both_attend_next(const edgelora_split_t *split, const edgelora_shape_t *g,
    const int8_t *const x[3], int8_t *y, void *scratch, uint32_t t) {
    heads_t h = {
        .g = g,
        .pass = {.x = x[0], .x2 = x[1], .x3 = x[2], .y = y, .scratch = scratch},
        .t = t,
        .plain = split->plain,
        .heads = {0, g->op->kernel_h}};
    if (g->out_c * 2 * (t + 1) < split->second->least || g->op->kernel_h < 2) {
        run_next(&h);
    } else {
        on_heads(split, run_next, h);
    }
}

void edgelora_both_forward(const edgelora_split_t *split, const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_pass_t *pass) {
    op_part_t part[2];
    if (g->op->kind == EDGELORA_ATTEND) {
        both_attend_forward(split, g, pass);
        return;
    }
    if (!is_large(split, g, products_each(g)) || edgelora_is_read_ahead(g) || !halves(part, g) ||
        !are_packed(split, part, branch->rank, false, pass->packed)) {
        edgelora_op_forward(g, branch, pass);
        return;
    }
    forward_t f[2];
    for (uint32_t i = 0; i < 2; ++i) {
        f[i].part = part[i];
        if (g->op->kind != EDGELORA_DENSE) {
            f[i].part.g.op = &f[i].part.op;
        }
        f[i].branch = *branch;
        f[i].pass = *pass;
        f[i].pass.simd = 0; // its memory is for one
        f[i].pass.x += in_bytes(g, part[i].in);
        f[i].pass.x2 = pass->x2 ? pass->x2 + out_bytes(g, part[i].out) : 0;
        f[i].pass.y += out_bytes(g, part[i].out);
        f[i].pass.t = pass->t ? pass->t + part[i].positions * branch->rank : 0;
    }
    f[1].pass.scratch = split->scratch;
    if (g->op->kind == EDGELORA_DENSE && branch->rank) { // both need all of t
        f[1].branch.b += part[1].out * branch->rank;
        f[1].pass.t = 0;
    }
    both(split, run_forward, &f[0], &f[1]);
}

// A mask or scaling of values, position by position.
typedef struct {
    const edgelora_shape_t *g;
    const int8_t *y;
    int8_t *e;
    uint8_t *mask;
    const edgelora_simd_t *simd;
    int32_t exponent;
    bool plain;
} values_t;

static void run_mask(void *with) {
    const values_t *v = with;
    edgelora_op_mask(v->g, v->y, v->mask, v->plain, v->simd);
}

static void run_mask_backward(void *with) {
    const values_t *v = with;
    edgelora_op_mask_backward(v->g, v->e, v->mask, v->plain, v->simd);
}

static void run_requantize_backward(void *with) {
    values_t *v = with;
    v->exponent = edgelora_op_requantize_backward(v->g, v->e, v->exponent, v->plain, v->simd);
}

// Runs `work` on all values of an op's output. unit: as in position_halves.
static int32_t on_values(const edgelora_split_t *split, void (*work)(void *),
    const edgelora_shape_t *g, values_t v, uint32_t unit) {
    op_part_t part[2];
    v.g = g;
    v.plain = split->plain;
    if (!is_large(split, g, VALUE_WORK) || !position_halves(part, g, unit)) {
        work(&v);
        return v.exponent;
    }
    values_t first = v, second = v;
    first.g = &part[0].g;
    second.g = &part[1].g;
    second.y = v.y ? v.y + part[1].out : 0;
    second.e = v.e ? v.e + part[1].out : 0;
    second.mask = v.mask ? v.mask + part[1].out / 8 : 0;
    both(split, work, &first, &second);
    const int32_t exponent[2] = {first.exponent, second.exponent};
    return v.mask ? 0
                  : join(v.e, part[1].out, g->positions * g->out_c, exponent,
                        scaled_exponent(g, v.exponent), g->rounds);
}

// Positions whose masks are whole words.
static uint32_t mask_unit(const edgelora_shape_t *g) {
    uint32_t unit = BITS;
    for (uint32_t channels = g->out_c; unit > 1 && !(channels & 1); channels /= 2) {
        unit /= 2;
    }
    return unit;
}

void edgelora_both_mask(const edgelora_split_t *split, const edgelora_shape_t *g, const int8_t *y,
    uint8_t *mask, const edgelora_simd_t *simd) {
    values_t v = {.y = y, .mask = mask, .simd = simd};
    on_values(split, run_mask, g, v, mask_unit(g));
}

void edgelora_both_mask_backward(const edgelora_split_t *split, const edgelora_shape_t *g,
    int8_t *e, const uint8_t *mask, const edgelora_simd_t *simd) {
    values_t v = {.e = e, .mask = (uint8_t *)(uintptr_t)mask, .simd = simd};
    on_values(split, run_mask_backward, g, v, mask_unit(g));
}

int32_t edgelora_both_requantize_backward(const edgelora_split_t *split, const edgelora_shape_t *g,
    int8_t *e, int32_t exponent, const edgelora_simd_t *simd) {
    values_t v = {.e = e, .exponent = exponent, .simd = simd};
    return on_values(split, run_requantize_backward, g, v, 4);
}

typedef struct {
    op_part_t part;
    const edgelora_branch_t *branch;
    edgelora_error_t error;
    int8_t *to; // dx, or the error of t
    uint32_t k;
    int32_t exponent;
} backward_t;

static void run_backward(void *with) {
    backward_t *b = with;
    b->exponent = edgelora_op_backward(&b->part.g, b->branch, &b->error, b->k, b->to);
}

static void run_branch_backward(void *with) {
    backward_t *b = with;
    b->exponent = edgelora_op_branch_backward(&b->part.g, b->branch, &b->error, b->to);
}

// Sets what both parts of a backward step have in common, and where their errors begin.
static void errors_set(const edgelora_split_t *split, backward_t b[2], const op_part_t part[2],
    const edgelora_branch_t *branch, const edgelora_error_t *error) {
    for (uint32_t i = 0; i < 2; ++i) {
        b[i].part = part[i];
        b[i].branch = branch;
        b[i].error = *error;
        b[i].error.simd = 0;
        b[i].error.e += part[i].out;
        b[i].error.t_error = error->t_error ? error->t_error + part[i].positions * branch->rank : 0;
        b[i].k = 0;
    }
    b[1].error.scratch = split->scratch;
}

int32_t edgelora_both_branch_backward(const edgelora_split_t *split, const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, int8_t *t_error) {
    op_part_t part[2];
    backward_t b[2];
    if (!is_large(split, g, branch->rank) || !position_halves(part, g, 4) ||
        !are_packed(split, part, branch->rank, true, error->packed)) {
        return edgelora_op_branch_backward(g, branch, error, t_error);
    }
    errors_set(split, b, part, branch, error);
    b[0].to = t_error;
    b[1].to = t_error + part[1].positions * branch->rank;
    both(split, run_branch_backward, &b[0], &b[1]);
    const int32_t exponent[2] = {b[0].exponent, b[1].exponent};
    return join(t_error, part[1].positions * branch->rank, g->positions * branch->rank, exponent,
        error->exponent, g->rounds);
}

// The exponent of the errors of an op's input before they become a block.
static int32_t first_exponent(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const edgelora_error_t *error) {
    switch (g->op->kind) {
        case EDGELORA_ROTATE:
            return error->exponent - 15;
        case EDGELORA_LOOKUP:
            return error->exponent + g->shift[0];
        default: // multiply: without a branch
            return joint_exponent(branch, error);
    }
}

// Can errors that are rounded be joined? Not if `first_exponent` does not know where they begin.
static bool can_round(const edgelora_shape_t *g) {
    uint32_t kind = g->op->kind;
    return g->is_matrix || kind == EDGELORA_MULTIPLY || kind == EDGELORA_LOOKUP ||
        kind == EDGELORA_ROTATE || kind == EDGELORA_NORM;
}

static void run_norm_rows(void *with) {
    backward_t *b = with;
    b->exponent = edgelora_op_norm_rows(&b->part.g, &b->error);
}

static void run_norm_errors(void *with) {
    backward_t *b = with;
    b->exponent = edgelora_op_norm_errors(&b->part.g, &b->error, b->exponent, b->to);
}

// Errors of a norm's input, whose rows share the size of the largest.
static int32_t both_norm_backward(const edgelora_split_t *split, const edgelora_shape_t *g,
    const edgelora_error_t *error, int8_t *dx, backward_t b[2]) {
    both(split, run_norm_rows, &b[0], &b[1]);
    int32_t top = b[0].exponent > b[1].exponent ? b[0].exponent : b[1].exponent;
    b[0].exponent = b[1].exponent = top;
    both(split, run_norm_errors, &b[0], &b[1]);
    const int32_t exponent[2] = {b[0].exponent, b[1].exponent};
    return join(
        dx, b[1].part.in, g->positions * g->in_c, exponent, error->exponent + top - 31, g->rounds);
}

int32_t edgelora_both_backward(const edgelora_split_t *split, const edgelora_shape_t *g,
    const edgelora_branch_t *branch, const edgelora_error_t *error, uint32_t k, int8_t *dx) {
    op_part_t part[2];
    backward_t b[2];
    if (!is_large(split, g, products_each(g)) || !error->e || !backward_halves(part, g) ||
        !are_packed(split, part, branch->rank, true, error->packed) ||
        ((g->traits & EDGELORA_ADDS) && k) || (g->rounds && (!can_round(g) || part[1].in % 2))) {
        return edgelora_op_backward(g, branch, error, k, dx);
    }
    errors_set(split, b, part, branch, error);
    for (uint32_t i = 0; i < 2; ++i) {
        b[i].part.g.op = &b[i].part.op;
        b[i].to = dx + part[i].in;
        b[i].k = k;
        b[i].error.x = error->x ? error->x + in_bytes(g, part[i].in) : 0;
        b[i].error.x2 = error->x2 ? error->x2 + part[i].out : 0;
    }
    if (g->op->kind == EDGELORA_NORM) {
        return both_norm_backward(split, g, error, dx, b);
    }
    both(split, run_backward, &b[0], &b[1]);
    const int32_t exponent[2] = {b[0].exponent, b[1].exponent};
    return join(dx, part[1].in, (uint32_t)g->in_h * g->in_w * g->in_c, exponent,
        first_exponent(g, branch, error), g->rounds);
}

// e += more
typedef struct {
    int8_t *e;
    const int8_t *more;
    uint32_t count;
    int32_t exponent, more_exponent;
    bool rounds;
} joined_sum_t;

static void run_error_add(void *with) {
    joined_sum_t *s = with;
    s->exponent = edgelora_op_error_add(
        s->e, s->count, s->exponent, s->more, s->more_exponent, s->rounds, 0);
}

int32_t edgelora_both_error_add(const edgelora_split_t *split, int8_t *e, uint32_t count,
    int32_t exponent, const int8_t *more, int32_t more_exponent, bool rounds,
    const edgelora_simd_t *simd) {
    uint32_t n = middle(count, 1);
    if (count * VALUE_WORK < split->second->least || !n) {
        return edgelora_op_error_add(e, count, exponent, more, more_exponent, rounds, simd);
    }
    joined_sum_t first = {e, more, n, exponent, more_exponent, rounds}, second = first;
    second.e += n;
    second.more += n;
    second.count = count - n;
    both(split, run_error_add, &first, &second);
    const int32_t exponents[2] = {first.exponent, second.exponent};
    return join(
        e, n, count, exponents, exponent > more_exponent ? exponent : more_exponent, rounds);
}

static void run_attend_values(void *with) {
    edgelora_op_attend_pass(with, false);
}

static void run_attend_scores(void *with) {
    edgelora_op_attend_pass(with, true);
}

void edgelora_both_attend_backward(const edgelora_split_t *split, const edgelora_shape_t *g,
    const edgelora_error_t *error, int8_t *const dx[3], int16_t *const exponents[3]) {
    uint32_t keys = g->op->kernel_w, channels = g->in_c / g->op->kernel_h;
    if (!is_large(split, g, 2 * g->positions) || keys < 2 || (g->rounds && channels % 2)) {
        edgelora_op_attend_backward(g, error, dx, exponents);
        return;
    }
    edgelora_error_t of_first = *error, of_second;
    of_first.simd = 0;
    of_second = of_first;
    of_second.scratch = split->scratch;
    edgelora_attend_part_t first, second;
    edgelora_attend_open(&first, g, &of_first, dx, half_range(keys, EDGELORA_FIRST_HALF));
    edgelora_attend_open(&second, g, &of_second, dx, half_range(keys, EDGELORA_SECOND_HALF));
    both(split, run_attend_values, &first, &second);
    first.shift = second.shift = edgelora_attend_shift(first.bits | second.bits);
    both(split, run_attend_scores, &first, &second);
    edgelora_attend_join(&first, &second, exponents);
}

typedef struct {
    const edgelora_shape_t *g;
    uint32_t rank;
    edgelora_error_t error;
    int32_t *gradient;
    int32_t shift;
    edgelora_half_t half;
} a_gradient_t;

static void run_a_gradient(void *with) {
    const a_gradient_t *a = with;
    edgelora_op_a_gradient(a->g, a->rank, &a->error, a->gradient, a->shift, a->half);
}

void edgelora_both_a_gradient(const edgelora_split_t *split, const edgelora_shape_t *g,
    uint32_t rank, const edgelora_error_t *error, int32_t *gradient, int32_t shift) {
    a_gradient_t first = {g, rank, *error, gradient, shift, EDGELORA_ALL};
    if (g->positions * g->inputs * rank < split->second->least) {
        run_a_gradient(&first);
        return;
    }
    a_gradient_t second = first;
    first.error.simd = second.error.simd = 0;
    first.half = EDGELORA_FIRST_HALF;
    second.half = EDGELORA_SECOND_HALF;
    second.error.scratch = split->scratch;
    both(split, run_a_gradient, &first, &second);
}

typedef struct {
    const edgelora_shape_t *g;
    uint32_t rank;
    edgelora_error_t error;
    const int8_t *t;
    int32_t *gradient;
    int32_t shift;
    edgelora_range_t of;
} b_gradient_t;

static void run_b_gradient(void *with) {
    const b_gradient_t *b = with;
    edgelora_op_b_gradient(b->g, b->rank, &b->error, b->t, b->gradient, b->shift, b->of);
}

void edgelora_both_b_gradient(const edgelora_split_t *split, const edgelora_shape_t *g,
    uint32_t rank, const edgelora_error_t *error, const int8_t *t, int32_t *gradient,
    int32_t shift) {
    uint32_t n = middle(g->out_c, 1);
    b_gradient_t first = {g, rank, *error, t, gradient, shift, {0, g->out_c}};
    if (!is_large(split, g, rank) || !n) {
        run_b_gradient(&first);
        return;
    }
    b_gradient_t second = first;
    first.error.simd = second.error.simd = 0;
    first.of.to = second.of.from = n;
    second.error.scratch = split->scratch;
    both(split, run_b_gradient, &first, &second);
}
