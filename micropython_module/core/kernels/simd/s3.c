// ESP32-S3: 16 products of bytes in one instruction.
// SPDX-License-Identifier: MIT
//
// Sums stay exact: ACCX holds those of whole rows, QACC is emptied before 20 bits overflow.
//
//                       vectors of 16             sums of                          kept in
//   outputs, t, its     inputs, rank, outputs     one output of one position       ACCX
//   error
//   input error         input channels            kernel elements, outputs         QACC
//   gradient of A       input channels            positions                        QACC
//   gradient of B       outputs                   positions                        QACC
//   depthwise           channels                  kernel elements                  QACC
//
// The kernels work in the scratch memory of the packed ones, and only where those do.

#include "kernels/simd/pie.h"

#ifdef EDGELORA_PIE

#include "kernels/packed/extras.h"
#include "kernels/packed/internal.h"
#include "training/block.h"

#define EDGELORA_TABLE edgelora_s3

enum { OFFSET_FLIP = (int)0x80808080 }; // turns offset binary into s8

// Scratch memory that is handed out part by part.
typedef struct {
    uint8_t *at, *end;
} room_t;

static inline room_t room_of(void *scratch, uint32_t size) {
    return (room_t){scratch, (uint8_t *)scratch + size};
}

static inline uint32_t whole_vectors(uint32_t bytes) {
    return (bytes + PIE_LANES - 1) / PIE_LANES;
}

// Takes `bytes`, 16-aligned; NULL: there are fewer.
static void *take_part(room_t *room, uint32_t bytes) {
    uint8_t *at = (uint8_t *)(((uintptr_t)room->at + 15) & ~(uintptr_t)15);
    if (at > room->end || bytes > (uint32_t)(room->end - at)) {
        return 0;
    }
    room->at = at + bytes;
    return at;
}

// Number of items of `bytes` that still fit behind up to two alignments, at most `most`.
static uint32_t fitting(const room_t *room, uint32_t bytes, uint32_t most) {
    uint32_t left = (uint32_t)(room->end - room->at);
    return left < 32 ? 0 : at_most((left - 32) / bytes, most);
}

// Copies a row of n bytes to whole vectors; what is behind the row is undefined.
static void copy_row(int8_t *to, const void *from, uint32_t n, uint32_t flip) {
    pie_copy_t copy = {
        to, PIE_LANES, from, PIE_LANES, (const int8_t *)from + n - 1, whole_vectors(n), flip};
    edgelora_pie_copy(&copy);
}

// Copies columns [0, 16) of `rows` rows to vectors. end: of the tensor
static void copy_columns(
    int8_t *to, const void *from, uint32_t step, uint32_t rows, const void *end, uint32_t flip) {
    pie_copy_t copy = {to, PIE_LANES, from, step, (const int8_t *)end - 1, rows, flip};
    edgelora_pie_copy(&copy);
}

static inline bool is_vectors(const void *p, uint32_t bytes) {
    return (((uintptr_t)p | bytes) & (PIE_LANES - 1)) == 0;
}

// Rows of `bytes` bytes: as they lie, or copied to vectors that end with 0.
typedef struct {
    int8_t *copies; // room for them; NULL: as they lie
    uint32_t bytes, vectors, step; // step: from one row to the next
} rows_of_vectors_t;

static rows_of_vectors_t rows_of_vectors(uint32_t bytes, bool in_place) {
    uint32_t vectors = whole_vectors(bytes);
    return (rows_of_vectors_t){0, bytes, vectors, in_place ? bytes : PIE_LANES * vectors};
}

static void clear_end(const rows_of_vectors_t *rows, int8_t *row) {
    for (uint32_t i = rows->bytes; i < rows->step; ++i) {
        row[i] = 0;
    }
}

// n rows from `from` on
static const int8_t *vectors_of_rows(
    const rows_of_vectors_t *rows, const int8_t *from, uint32_t n) {
    int8_t *to = rows->copies;
    if (to && rows->bytes == rows->step) {
        copy_row(to, from, n * rows->bytes, 0);
        return to;
    }
    for (; to && n; --n, from += rows->bytes, to += rows->step) {
        copy_row(to, from, rows->bytes, 0);
        clear_end(rows, to);
    }
    return to ? rows->copies : from;
}

static const int32_t none;

// Forward

// Sums of A's rows times -zp_in. ones: room for a row's vectors and one more
static void s3_sums_of_a(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, int8_t *ones, int32_t *sums) {
    uint32_t vectors = whole_vectors(g->inputs);
    for (uint32_t i = 0; i < PIE_LANES * vectors; ++i) {
        ones[i] = i < g->inputs;
    }
    pie_rows_t rows = {
        ones, branch->a, g->inputs, branch->a + branch->rank * g->inputs - 1, vectors, &none, 0,
        sums, branch->rank, 0};
    edgelora_pie_rows(&rows);
    for (uint32_t j = 0; j < branch->rank; ++j) {
        sums[j] *= -g->zp_in;
    }
}

static inline int8_t s3_t(const edgelora_branch_t *branch, int32_t sum) {
    return (int8_t)clamp_s32(round_shift(sum, branch->t_shift), -127, 127);
}

// One or two positions, each alone: its inputs meet the weights where they lie.
typedef struct {
    int8_t *x, *t;
    int32_t *acc;  // s32 [outputs], at least [rank]
    int32_t *sums; // s32 [rank]
    uint32_t outputs;
} s3_position_t;

static bool s3_position(const edgelora_shape_t *g, uint32_t rank, void *scratch, s3_position_t *l) {
    room_t room = room_of(scratch, edgelora_matrix_forward_packed_scratch(g, rank));
    l->x = take_part(&room, PIE_LANES * (whole_vectors(g->inputs) + 1));
    l->t = take_part(&room, PIE_LANES * (whole_vectors(rank) + 1));
    l->sums = take_part(&room, 4 * rank);
    if (!l->x || !l->t || !l->sums) {
        return false;
    }
    l->outputs = fitting(&room, 4, g->out_c > rank ? g->out_c : rank);
    l->acc = take_part(&room, 4 * l->outputs);
    return l->outputs && l->outputs >= rank;
}

static void s3_position_t_of(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const s3_position_t *l, int8_t *t) {
    pie_rows_t rows = {
        l->x, branch->a, g->inputs, branch->a + branch->rank * g->inputs - 1,
        whole_vectors(g->inputs), l->sums, 4, l->acc, branch->rank, 0};
    edgelora_pie_rows(&rows);
    for (uint32_t j = 0; j < PIE_LANES * whole_vectors(branch->rank); ++j) {
        l->t[j] = j < branch->rank ? s3_t(branch, l->acc[j]) : 0;
        if (t && j < branch->rank) {
            t[j] = l->t[j];
        }
    }
}

static void s3_position_outputs(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const s3_position_t *l, int8_t *y) {
    uint32_t rank = branch->rank;
    for (uint32_t o = 0, n; o < g->out_c; o += n) {
        n = at_most(g->out_c - o, l->outputs);
        pie_rows_t rows = {
            l->x, g->weights + o * g->inputs, g->inputs,
            (const int8_t *)g->weights + g->out_c * g->inputs - 1, whole_vectors(g->inputs),
            g->bias + o, 4, l->acc, n, (uint32_t)OFFSET_FLIP};
        if (rank) {
            pie_rows_t up = {
                l->t, branch->b + o * rank, rank, branch->b + g->out_c * rank - 1,
                whole_vectors(rank), &none, 0, l->acc, n, 0};
            edgelora_pie_rows(&up);
            for (uint32_t k = 0; k < n; ++k) {
                l->acc[k] = round_shift(l->acc[k], -branch->branch_shift) + g->bias[o + k];
            }
            rows.from = l->acc;
        }
        edgelora_pie_rows(&rows);
        pie_channels_t channels = {
            l->acc, g->multiplier + o, g->shift + o, y + o, n, g->zp_out, g->op->act_min,
            g->op->act_max};
        edgelora_pie_channels(&channels);
    }
}

static bool s3_positions_forward(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const int8_t *x, int8_t *y, int8_t *t, void *scratch) {
    s3_position_t l;
    if (!s3_position(g, branch->rank, scratch, &l)) {
        return false;
    }
    if (branch->rank) {
        s3_sums_of_a(g, branch, l.x, l.sums);
    }
    rows_of_vectors_t row = rows_of_vectors(g->inputs, false);
    edgelora_cursor_t at = {0, 0, g->out_w};
    for (uint32_t p = 0; p < g->positions; ++p, cursor_next(&at), y += g->out_c) {
        if (g->op->kind == EDGELORA_DENSE) {
            copy_row(l.x, x, g->inputs, 0);
        } else {
            edgelora_gather_s8(g, x, &at, l.x);
        }
        clear_end(&row, l.x);
        if (branch->rank) {
            s3_position_t_of(g, branch, &l, t);
            t = t ? t + branch->rank : 0;
        }
        s3_position_outputs(g, branch, &l, y);
    }
    return true;
}

// A tile of positions.
typedef struct {
    rows_of_vectors_t x, t;
    int8_t *w;     // a row of weights, of A or of B, and room for a vector
    int32_t *sums; // s32 [rank]: -zp_in * sums of A's rows
    int32_t *acc;  // s32 [positions]
    uint32_t positions;
    bool as_it_is; // each position's inputs are a position of the input
} s3_tile_t;

static bool s3_tile(
    const edgelora_shape_t *g, uint32_t rank, const int8_t *x, void *scratch, s3_tile_t *l) {
    room_t room = room_of(scratch, edgelora_matrix_forward_packed_scratch(g, rank));
    l->as_it_is = edgelora_takes_input_as_it_is(g);
    bool in_place = l->as_it_is && is_vectors(x, g->inputs);
    l->x = rows_of_vectors(g->inputs, in_place);
    l->t = rows_of_vectors(rank, false);
    uint32_t most = l->x.vectors > l->t.vectors ? l->x.vectors : l->t.vectors;
    l->w = take_part(&room, PIE_LANES * (most + 1));
    l->sums = take_part(&room, 4 * rank);
    if (!l->w || !l->sums) {
        return false;
    }
    uint32_t each = (in_place ? 0 : l->x.step) + l->t.step + 4;
    l->positions = fitting(&room, each, g->positions);
    l->x.copies = in_place ? 0 : take_part(&room, l->positions * l->x.step);
    l->t.copies = take_part(&room, l->positions * l->t.step);
    l->acc = take_part(&room, 4 * l->positions);
    return l->positions != 0;
}

// Inputs of positions [p, p + n); at: p
static const int8_t *s3_gather(const edgelora_shape_t *g, const s3_tile_t *l, const int8_t *x,
    uint32_t p, edgelora_cursor_t *at, uint32_t n) {
    if (l->as_it_is) {
        return vectors_of_rows(&l->x, x + p * g->inputs, n);
    }
    int8_t *to = l->x.copies;
    for (; n; --n, to += l->x.step, cursor_next(at)) {
        edgelora_gather_s8(g, x, at, to);
        clear_end(&l->x, to);
    }
    return l->x.copies;
}

static void s3_down(const edgelora_shape_t *g, const edgelora_branch_t *branch, const s3_tile_t *l,
    pie_dots_t dots, int8_t *t) {
    dots.from_step = 0;
    for (uint32_t j = 0; j < branch->rank; ++j) {
        copy_row(l->w, branch->a + j * g->inputs, g->inputs, 0);
        dots.from = l->sums + j;
        edgelora_pie_dots(&dots);
        int8_t *to = l->t.copies + j;
        for (uint32_t p = 0; p < dots.count; ++p, to += l->t.step) {
            *to = s3_t(branch, l->acc[p]);
            if (t) {
                t[p * branch->rank + j] = *to;
            }
        }
    }
    for (uint32_t p = 0; p < dots.count; ++p) {
        clear_end(&l->t, l->t.copies + p * l->t.step);
    }
}

// acc = B t of output o
static void s3_up(const edgelora_branch_t *branch, const s3_tile_t *l, uint32_t count, uint32_t o) {
    copy_row(l->w, branch->b + o * branch->rank, branch->rank, 0);
    pie_dots_t dots = {l->w, l->t.copies, l->t.step, l->t.vectors, &none, 0, l->acc, 4, count};
    edgelora_pie_dots(&dots);
    for (uint32_t p = 0; p < count; ++p) {
        l->acc[p] = round_shift(l->acc[p], -branch->branch_shift);
    }
}

// Outputs [o, o + outputs) of `count` positions
static void s3_outputs(const edgelora_shape_t *g, uint32_t o, uint32_t outputs, const int32_t *acc,
    uint32_t count, int8_t *y) {
    pie_outputs_t all = {
        acc, count, y + o, g->out_c, g->bias + o, g->multiplier + o, g->shift + o, outputs,
        g->zp_out, g->op->act_min, g->op->act_max};
    edgelora_pie_outputs(&all);
}

static bool s3_matrix_forward(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const edgelora_pass_t *pass) {
    uint32_t rank = branch->rank;
    const int8_t *x = pass->x;
    int8_t *y = pass->y, *t = pass->t;
    void *scratch = pass->work;
    if (g->op->kind == EDGELORA_PROJECT) {
        return false;
    }
    s3_tile_t l;
    if (g->bounded && g->positions <= 2) {
        return s3_positions_forward(g, branch, x, y, t, scratch);
    }
    if (!g->bounded || !s3_tile(g, rank, x, scratch, &l)) {
        return false;
    }
    if (rank) {
        s3_sums_of_a(g, branch, l.w, l.sums);
    }
    edgelora_cursor_t at = {0, 0, g->out_w};
    for (uint32_t p = 0, count; p < g->positions; p += count, y += count * g->out_c) {
        count = at_most(g->positions - p, l.positions);
        const int8_t *in = s3_gather(g, &l, x, p, &at, count);
        pie_dots_t dots = {
            l.w, in, l.x.step, l.x.vectors, rank ? l.acc : &none, rank ? 4 : 0, l.acc, 4, count};
        if (rank) {
            s3_down(g, branch, &l, dots, t);
            t = t ? t + count * rank : 0;
        }
        for (uint32_t o = 0; o < g->out_c; ++o) {
            if (rank) {
                s3_up(branch, &l, count, o);
            }
            copy_row(l.w, g->weights + o * g->inputs, g->inputs, (uint32_t)OFFSET_FLIP);
            edgelora_pie_dots(&dots);
            s3_outputs(g, o, 1, l.acc, count, y);
        }
    }
    return true;
}

// Backward

static bool s3_branch_backward(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const edgelora_error_t *error, int8_t *t_error, int32_t *exponent) {
    uint32_t rank = branch->rank;
    room_t room = room_of(error->work, edgelora_packed_scratch(g, rank, true));
    bool in_place = is_vectors(error->e, g->out_c);
    rows_of_vectors_t e = rows_of_vectors(g->out_c, in_place);
    int8_t *b = take_part(&room, PIE_LANES * e.vectors);
    uint32_t most = b ? fitting(&room, (in_place ? 0 : e.step) + 4 * rank, g->positions) : 0;
    if (!most) {
        return false;
    }
    e.copies = in_place ? 0 : take_part(&room, most * e.step);
    int32_t *acc = take_part(&room, most * 4 * rank);
    edgelora_block_t block = {t_error, 0, 0, g->rounds};
    for (uint32_t p = 0, count; p < g->positions; p += count) {
        count = at_most(g->positions - p, most);
        pie_dots_t dots = {
            b, vectors_of_rows(&e, error->e + p * g->out_c, count), e.step, e.vectors, &none, 0, 0,
            4 * rank, count};
        for (uint32_t j = 0; j < rank; ++j) {
            for (uint32_t o = 0; o < g->out_c; ++o) {
                b[o] = branch->b[o * rank + j];
            }
            dots.acc = acc + j;
            edgelora_pie_dots(&dots);
        }
        edgelora_block_append(&block, acc, count * rank);
    }
    *exponent = error->exponent + block.shift;
    return true;
}

// Rows that give an input's error: of W for the outputs' errors, of A for t's.
typedef struct {
    const uint8_t *rows; // [n, K]
    uint32_t n, flip;
    const int8_t *e; // s8 [positions, n]
    int32_t *acc;    // s32 [16, positions of the tile]
} s3_term_t;

// Along one axis: the output position whose kernel element k reads input position i, or -1.
static inline int32_t s3_reader(
    int32_t i, int32_t pad, int32_t k, int32_t dilation, int32_t stride, int32_t outputs) {
    int32_t at = i + pad - k * dilation;
    if (stride != 1) {
        at = at >= 0 && at % stride == 0 ? at / stride : -1;
    }
    return at < outputs ? at : -1;
}

// Adds rows [n, n + columns->n) of a kernel element to `count` input positions from p on.
static void s3_element(const edgelora_shape_t *g, const s3_term_t *term, pie_columns_t columns,
    uint32_t n, int32_t ky, int32_t kx, uint32_t p, uint32_t count) {
    const edgelora_op_t *op = g->op;
    int32_t iy = (int32_t)(p / g->in_w), ix = (int32_t)(p % g->in_w);
    columns.acc = term->acc;
    for (uint32_t i = 0; i < count; ++i, ++columns.acc) {
        int32_t oy = s3_reader(iy, op->pad_top, ky, op->dilation_h, op->stride_h, g->out_h),
                ox = s3_reader(ix, op->pad_left, kx, op->dilation_w, op->stride_w, g->out_w);
        if (oy >= 0 && ox >= 0) {
            columns.s = term->e + ((uint32_t)oy * g->out_w + (uint32_t)ox) * term->n + n;
            edgelora_pie_columns(&columns);
        }
        if (++ix == g->in_w) {
            ix = 0;
            ++iy;
        }
    }
}

// acc = errors of channels [c, c + 16) of `count` input positions from p on
static void s3_term(const edgelora_shape_t *g, const s3_term_t *term, int8_t *v, uint32_t c,
    uint32_t p, uint32_t count) {
    const uint8_t *end = term->rows + term->n * g->inputs;
    for (uint32_t i = 0; i < PIE_LANES * count; ++i) {
        term->acc[i] = 0;
    }
    for (uint32_t k = 0; k < (uint32_t)g->kernel_h * g->kernel_w; ++k) {
        const uint8_t *from = term->rows + k * g->in_c + c;
        for (uint32_t n = 0, rows; n < term->n; n += rows, from += rows * g->inputs) {
            rows = at_most(term->n - n, QACC_PRODUCTS);
            copy_columns(v, from, g->inputs, rows, end, term->flip);
            pie_columns_t columns = {v, 0, 1, rows, 0, 4 * count};
            s3_element(g, term, columns, n, (int32_t)(k / g->kernel_w), (int32_t)(k % g->kernel_w),
                p, count);
        }
    }
}

static bool s3_matrix_backward(const edgelora_shape_t *g, const edgelora_branch_t *branch,
    const edgelora_error_t *error, int8_t *dx, int32_t *exponent) {
    uint32_t rank = branch->rank, positions = (uint32_t)g->in_h * g->in_w;
    room_t room = room_of(error->work, edgelora_packed_scratch(g, rank, true));
    int8_t *v = take_part(&room, QACC_PRODUCTS * PIE_LANES);
    uint32_t most = v ? fitting(&room, 4 * PIE_LANES * (rank ? 2 : 1), positions) : 0;
    if (!most) {
        return false;
    }
    int32_t *acc = take_part(&room, 4 * PIE_LANES * most);
    s3_term_t outputs = {g->weights, g->out_c, (uint32_t)OFFSET_FLIP, error->e, acc},
              t = {
                  (const uint8_t *)branch->a, rank, 0, error->t_error,
                  rank ? take_part(&room, 4 * PIE_LANES * most) : 0};
    int32_t t_exponent = error->t_exponent + branch->branch_shift - branch->t_shift,
            top = rank && t_exponent > error->exponent ? t_exponent : error->exponent;
    edgelora_columns_t block = {
        .q = dx, .step = g->in_c, .row = positions * g->in_c, .rounds = g->rounds};
    edgelora_cursor_t at = {0, 0, positions};
    for (uint32_t count; at.x < positions; at.x += count) {
        count = at_most(positions - at.x, most);
        for (uint32_t c = 0; c < g->in_c; c += PIE_LANES) {
            s3_term(g, &outputs, v, c, at.x, count);
            if (rank) {
                s3_term(g, &t, v, c, at.x, count);
                for (uint32_t i = 0; i < PIE_LANES * count; ++i) {
                    acc[i] = trunc_shift(acc[i], top - error->exponent) +
                        trunc_shift(t.acc[i], top - t_exponent);
                }
            }
            edgelora_columns_put(
                &block, &at, c, at_most(g->in_c - c, PIE_LANES), count, count, acc);
        }
    }
    *exponent = top + block.shift;
    return true;
}

// Gradients

// Sums over positions of vectors times the values of each of `rank` columns.
typedef struct {
    int8_t *v;    // s8 [QACC_PRODUCTS, 16]
    int32_t *acc; // s32 [rank, 16]
    uint32_t rank;
} s3_gradient_t;

static bool s3_gradient(
    const edgelora_shape_t *g, uint32_t rank, void *scratch, s3_gradient_t *gradient) {
    enum { FEWEST = 8 }; // positions: fewer do not pay for emptying QACC
    room_t room = room_of(scratch, edgelora_packed_scratch(g, rank, true));
    gradient->v = take_part(&room, QACC_PRODUCTS * PIE_LANES);
    gradient->acc = gradient->v ? take_part(&room, 4 * PIE_LANES * rank) : 0;
    gradient->rank = rank;
    return gradient->acc && g->positions >= FEWEST;
}

static void s3_gradient_clear(const s3_gradient_t *l) {
    for (uint32_t i = 0; i < PIE_LANES * l->rank; ++i) {
        l->acc[i] = 0;
    }
}

// n rows of vectors, `step` bytes apart; values: s8 [n, rank]
static void s3_gradient_add(const s3_gradient_t *l, const int8_t *from, uint32_t step,
    const int8_t *end, const int8_t *values, uint32_t n) {
    for (uint32_t rows; n; n -= rows, from += rows * step, values += rows * l->rank) {
        rows = at_most(n, QACC_PRODUCTS);
        copy_columns(l->v, from, step, rows, end, 0);
        pie_columns_t columns = {l->v, values, l->rank, rows, l->acc, 4};
        for (uint32_t j = 0; j < l->rank; ++j, ++columns.s, columns.acc += PIE_LANES) {
            edgelora_pie_columns(&columns);
        }
    }
}

static bool s3_b_gradient(const edgelora_shape_t *g, uint32_t rank, const edgelora_error_t *error,
    const int8_t *t, int32_t *gradient, int32_t shift) {
    s3_gradient_t l;
    if (!s3_gradient(g, rank, error->work, &l)) {
        return false;
    }
    const int8_t *end = error->e + g->positions * g->out_c;
    for (uint32_t o = 0; o < g->out_c; o += PIE_LANES) {
        s3_gradient_clear(&l);
        s3_gradient_add(&l, error->e + o, g->out_c, end, t, g->positions);
        for (uint32_t k = 0, lanes = at_most(g->out_c - o, PIE_LANES); k < lanes; ++k) {
            for (uint32_t j = 0; j < rank; ++j) {
                *gradient++ += trunc_shift(l.acc[PIE_LANES * j + k], shift);
            }
        }
    }
    return true;
}

// The output positions [from, to) along one axis whose kernel element reads inside the input.
typedef struct {
    int32_t from, to;
} s3_range_t;

static s3_range_t s3_range(int32_t offset, int32_t stride, int32_t size, int32_t outputs) {
    int32_t from = offset < 0 ? (stride - 1 - offset) / stride : 0,
            to = size > offset ? (size - offset + stride - 1) / stride : 0;
    return (s3_range_t){from, to < outputs ? to : outputs};
}

// A kernel element's inputs: runs of positions whose inputs are `step` bytes apart.
typedef struct {
    uint32_t runs, length; // positions of a run
    const int8_t *x, *t;   // of the first one's first position
    uint32_t x_step, x_run, t_run;
} s3_runs_t;

static s3_runs_t s3_runs(const edgelora_shape_t *g, uint32_t rank, const edgelora_error_t *error,
    uint32_t ky, uint32_t kx) {
    const edgelora_op_t *op = g->op;
    int32_t top = (int32_t)(ky * op->dilation_h) - op->pad_top,
            left = (int32_t)(kx * op->dilation_w) - op->pad_left;
    s3_range_t rows = s3_range(top, op->stride_h, g->in_h, g->out_h),
               columns = s3_range(left, op->stride_w, g->in_w, g->out_w);
    if (rows.from >= rows.to || columns.from >= columns.to) {
        return (s3_runs_t){0};
    }
    uint32_t iy = (uint32_t)(rows.from * op->stride_h + top),
             ix = (uint32_t)(columns.from * op->stride_w + left);
    s3_runs_t runs = {
        .runs = (uint32_t)(rows.to - rows.from),
        .length = (uint32_t)(columns.to - columns.from),
        .x = error->x + (iy * g->in_w + ix) * g->in_c,
        .t = error->t_error + ((uint32_t)rows.from * g->out_w + (uint32_t)columns.from) * rank,
        .x_step = (uint32_t)op->stride_w * g->in_c,
        .x_run = (uint32_t)op->stride_h * g->in_w * g->in_c,
        .t_run = g->out_w * rank};
    if (runs.length == g->out_w && runs.x_run == runs.length * runs.x_step) {
        runs.length *= runs.runs;
        runs.runs = 1;
    }
    return runs;
}

static bool s3_a_gradient(const edgelora_shape_t *g, uint32_t rank, const edgelora_error_t *error,
    int32_t *gradient, int32_t shift) {
    s3_gradient_t l;
    if (!s3_gradient(g, rank, error->work, &l)) {
        return false;
    }
    const int8_t *end = error->x + (uint32_t)g->in_h * g->in_w * g->in_c;
    for (uint32_t k = 0; k < (uint32_t)g->kernel_h * g->kernel_w; ++k) {
        s3_runs_t runs = s3_runs(g, rank, error, k / g->kernel_w, k % g->kernel_w);
        int32_t sums[EDGELORA_MAX_RANK] = {0}; // of t's errors
        for (uint32_t r = 0; r < runs.runs; ++r) {
            const int8_t *t = runs.t + r * runs.t_run;
            for (uint32_t p = 0; p < runs.length; ++p) {
                for (uint32_t j = 0; j < rank; ++j) {
                    sums[j] += *t++;
                }
            }
        }
        for (uint32_t c = 0; c < g->in_c; c += PIE_LANES) {
            s3_gradient_clear(&l);
            for (uint32_t r = 0; r < runs.runs; ++r) {
                s3_gradient_add(&l, runs.x + r * runs.x_run + c, runs.x_step, end,
                    runs.t + r * runs.t_run, runs.length);
            }
            uint32_t lanes = at_most(g->in_c - c, PIE_LANES);
            for (uint32_t j = 0; j < rank; ++j) {
                int32_t *row = gradient + j * g->inputs + k * g->in_c + c;
                for (uint32_t i = 0; i < lanes; ++i) {
                    row[i] += trunc_shift(l.acc[PIE_LANES * j + i] - g->zp_in * sums[j], shift);
                }
            }
        }
    }
    return true;
}

// Depthwise

// One direction of a depthwise op with the same number of channels on both sides: outputs `step`
// apart read a 3x3 window of a plane, a padded copy of 16 channels of the source.
typedef struct {
    const int8_t *source; // s8 [height, width, channels]
    int32_t height, width;
    uint32_t channels;
    int32_t spread_h, spread_w; // distance of the source's positions in the plane
    int32_t top, left;          // of the first position, from the plane's first one
    int32_t step_h, step_w;
    uint32_t out_h, out_w;
    int32_t edge;
} s3_plane_t;

typedef struct {
    int8_t *w, *plane;
    void *out; // `each` bytes for each output position
    uint32_t rows, columns; // of outputs: consecutive ones
    uint32_t width, height; // of the plane
} s3_part_t;

static bool s3_part(const s3_plane_t *p, room_t room, uint32_t each, s3_part_t *l) {
    l->w = take_part(&room, TAPS * PIE_LANES);
    if (!l->w) {
        return false;
    }
    uint32_t step_h = (uint32_t)p->step_h, step_w = (uint32_t)p->step_w;
    // a row of as many columns as fit, then as many rows of these
    uint32_t left = (uint32_t)(room.end - room.at), fixed = 32 + 3 * 3 * PIE_LANES,
             column = 3 * step_w * PIE_LANES + each;
    l->columns = left > fixed ? at_most((left - fixed) / column, p->out_w) : 0;
    if (!l->columns) {
        return false;
    }
    uint32_t parts = (p->out_w + l->columns - 1) / l->columns;
    l->columns = (p->out_w + parts - 1) / parts;
    l->width = (l->columns - 1) * step_w + 3;
    uint32_t row = step_h * l->width * PIE_LANES + each * l->columns;
    fixed = 32 + (step_h < 3 ? 3 - step_h : 0) * l->width * PIE_LANES;
    l->rows = left > fixed ? at_most((left - fixed) / row, parts == 1 ? p->out_h : 1) : 0;
    if (!l->rows) {
        return false;
    }
    l->height = (l->rows - 1) * step_h + 3;
    l->plane = take_part(&room, l->height * l->width * PIE_LANES);
    l->out = take_part(&room, each * l->rows * l->columns);
    return l->plane && l->out;
}

// Fills the plane with channels [c, c + 16) from plane position (y, x) on.
static void s3_fill(const s3_plane_t *p, const s3_part_t *l, uint32_t c, int32_t y, int32_t x) {
    uint32_t edge = (uint8_t)p->edge * 0x01010101u;
    edgelora_pie_fill(l->plane, l->height * l->width, &edge);
    const int8_t *end = p->source + (uint32_t)(p->height * p->width) * p->channels;
    y -= p->top; // relative to the source's first position
    x -= p->left;
    int32_t sy = y > 0 ? (y + p->spread_h - 1) / p->spread_h : 0,
            sx = x > 0 ? (x + p->spread_w - 1) / p->spread_w : 0;
    int32_t last = x + (int32_t)l->width - 1; // of the plane's row
    if (last < 0) {
        return;
    }
    last = last / p->spread_w < p->width ? last / p->spread_w : p->width - 1;
    for (; sy < p->height && sy * p->spread_h - y < (int32_t)l->height && sx <= last; ++sy) {
        uint32_t at = (uint32_t)(sy * p->spread_h - y) * l->width +
            (uint32_t)(sx * p->spread_w - x);
        pie_copy_t copy = {
            l->plane + PIE_LANES * at, (uint32_t)p->spread_w * PIE_LANES,
            p->source + (uint32_t)(sy * p->width + sx) * p->channels + c, p->channels, end - 1,
            (uint32_t)(last - sx + 1), 0};
        edgelora_pie_copy(&copy);
    }
}

// Windows of the first row of outputs
static pie_windows_t s3_windows(const s3_plane_t *p, const s3_part_t *l, uint32_t columns) {
    uint32_t step = (uint32_t)p->step_w * PIE_LANES;
    return (pie_windows_t){l->plane, step, l->width * PIE_LANES, l->w, l->plane + columns * step};
}

static inline void s3_next_row(const s3_plane_t *p, pie_windows_t *windows) {
    windows->x += (uint32_t)p->step_h * windows->pitch;
    windows->end += (uint32_t)p->step_h * windows->pitch;
}

// Of channels [c, c + 16)
static void s3_scales(const edgelora_shape_t *g, uint32_t c, pie_scale_t *scales) {
    for (uint32_t k = 0; k < PIE_LANES; ++k, ++scales) {
        uint32_t o = at_most(c + k, g->out_c - 1u), shift = (uint32_t)-g->shift[o];
        scales->bias = 2 * g->bias[o];
        scales->multiplier = g->multiplier[o];
        scales->half = (int32_t)((1u << shift) >> 1);
        scales->low = scales->half - (shift != 0);
        scales->shift = shift;
    }
}

// Outputs of 16 channels of a part, or of all, if they are fewer; y: of the first one
static void s3_window_outputs(const edgelora_shape_t *g, const s3_plane_t *p, const s3_part_t *l,
    const pie_scale_t *scales, uint32_t rows, uint32_t columns, int8_t *y) {
    bool few = g->out_c < PIE_LANES;
    int8_t *some = l->out; // of all lanes
    pie_window_outputs_t row = {
        s3_windows(p, l, columns), scales, some, few ? PIE_LANES : g->out_c, g->zp_out,
        g->op->act_min, g->op->act_max};
    for (uint32_t r = 0; r < rows; ++r, y += p->out_w * g->out_c) {
        row.y = few ? some : y;
        edgelora_pie_window_outputs(&row);
        s3_next_row(p, &row.in);
        for (uint32_t k = 0; few && k < columns; ++k) {
            for (uint32_t i = 0; i < g->out_c; ++i) {
                y[k * g->out_c + i] = some[k * PIE_LANES + i];
            }
        }
    }
}

// acc, s32 [16, rows, columns] = sums of all outputs of a part
static void s3_window_sums(
    const s3_plane_t *p, const s3_part_t *l, int32_t *acc, uint32_t rows, uint32_t columns) {
    pie_window_sums_t row = {s3_windows(p, l, columns), acc, 4 * rows * columns};
    for (uint32_t r = 0; r < rows; ++r, row.acc += columns) {
        edgelora_pie_window_sums(&row);
        s3_next_row(p, &row.in);
    }
}

static bool s3_depthwise_forward(
    const edgelora_shape_t *g, const int8_t *x, int8_t *y, void *scratch) {
    const edgelora_op_t *op = g->op;
    s3_plane_t p = {
        x, g->in_h, g->in_w, g->in_c, 1, 1, op->pad_top, op->pad_left, op->stride_h, op->stride_w,
        g->out_h, g->out_w, g->zp_in};
    s3_part_t l;
    room_t room = room_of(scratch, edgelora_packed_scratch(g, 0, false));
    uint32_t channels = g->out_c;
    if (g->in_c != channels || !g->bounded ||
        !s3_part(&p, room, channels < PIE_LANES ? PIE_LANES : 0, &l)) {
        return false;
    }
    pie_scale_t scales[PIE_LANES];
    const uint8_t *end = g->weights + TAPS * channels;
    for (uint32_t first = 0; first < channels; first += PIE_LANES) {
        // the last 16 overlap those before
        uint32_t c = channels < PIE_LANES ? 0 : at_most(first, channels - PIE_LANES);
        s3_scales(g, c, scales);
        copy_columns(l.w, g->weights + c, channels, TAPS, end, (uint32_t)OFFSET_FLIP);
        for (uint32_t oy = 0; oy < p.out_h; oy += l.rows) {
            uint32_t rows = at_most(p.out_h - oy, l.rows);
            for (uint32_t ox = 0; ox < p.out_w; ox += l.columns) {
                uint32_t columns = at_most(p.out_w - ox, l.columns);
                s3_fill(&p, &l, c, (int32_t)oy * p.step_h, (int32_t)ox * p.step_w);
                s3_window_outputs(
                    g, &p, &l, scales, rows, columns, y + (oy * p.out_w + ox) * channels + c);
            }
        }
    }
    return true;
}

static bool s3_depthwise_backward(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx, int32_t *exponent) {
    const edgelora_op_t *op = g->op;
    // input i is read through element k at output (i + pad - k) / stride: a window of the errors,
    // spread by the stride, that begins at i + pad - 2
    s3_plane_t p = {
        error->e, g->out_h, g->out_w, g->out_c, op->stride_h, op->stride_w, 2 - op->pad_top,
        2 - op->pad_left, 1, 1, g->in_h, g->in_w, 0};
    s3_part_t l;
    room_t room = room_of(error->work, edgelora_packed_scratch(g, 0, true));
    if (g->in_c != g->out_c || !s3_part(&p, room, 4 * PIE_LANES, &l)) {
        return false;
    }
    const uint8_t *end = g->weights + TAPS * g->out_c, *last = end - g->out_c;
    edgelora_columns_t block = {
        .q = dx, .step = g->in_c, .row = (uint32_t)g->in_w * g->in_c, .rounds = g->rounds};
    for (uint32_t y = 0; y < p.out_h; y += l.rows) {
        uint32_t rows = at_most(p.out_h - y, l.rows);
        for (uint32_t x = 0; x < p.out_w; x += l.columns) {
            uint32_t columns = at_most(p.out_w - x, l.columns);
            for (uint32_t c = 0; c < g->out_c; c += PIE_LANES) {
                copy_columns(l.w, last + c, -(uint32_t)g->out_c, TAPS, end, (uint32_t)OFFSET_FLIP);
                s3_fill(&p, &l, c, (int32_t)y, (int32_t)x);
                int32_t *acc = l.out;
                s3_window_sums(&p, &l, acc, rows, columns);
                for (uint32_t r = 0; r < rows; ++r) {
                    edgelora_cursor_t at = {y + r, x, g->in_w + 1u}; // not in the order of dx
                    edgelora_columns_put(&block, &at, c, at_most(g->in_c - c, PIE_LANES), columns,
                        rows * columns, acc + r * columns);
                }
            }
        }
    }
    *exponent = error->exponent + block.shift;
    return true;
}

const edgelora_simd_t EDGELORA_TABLE = {
    .matrix_forward = s3_matrix_forward,
    .depthwise_forward = s3_depthwise_forward,
    .mask = edgelora_mask_packed_s8,
    .mask_backward = edgelora_mask_backward_packed_s8,
    .b_gradient = s3_b_gradient,
    .a_gradient = s3_a_gradient,
    .requantize_backward = edgelora_requantize_backward_packed_s8,
    .branch_backward = s3_branch_backward,
    .matrix_backward = s3_matrix_backward,
    .depthwise_backward = s3_depthwise_backward,
};

#endif
