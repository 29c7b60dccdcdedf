// Ops that copy: concatenate, slice, history, pad, reshape, gather.
// SPDX-License-Identifier: MIT

#include "kernels/reference/reference.h"

void edgelora_copy_s8(int8_t *to, const int8_t *from, uint32_t count) {
    while (count--) {
        *to++ = *from++;
    }
}

// A part of a tensor along an axis: elements from `from` on of each row of `whole` elements.
typedef struct {
    uint32_t rows, whole, from, count;
} part_t;

// axis: 1 height, 2 width, 3 channels; from, count: positions along it
static part_t part_along(uint32_t axis, uint32_t height, uint32_t width, uint32_t channels,
    uint32_t from, uint32_t count) {
    uint32_t rows = axis == 1 ? 1
        : axis == 2           ? height
                              : height * width,
             unit = axis == 1 ? width * channels
        : axis == 2           ? channels
                              : 1;
    return (part_t){rows, height * width * channels / rows, from * unit, count * unit};
}

static void part_take(const part_t *p, const int8_t *whole, int8_t *part) {
    for (uint32_t i = 0; i < p->rows; ++i, whole += p->whole, part += p->count) {
        edgelora_copy_s8(part, whole + p->from, p->count);
    }
}

static void part_put(const part_t *p, int8_t *whole, const int8_t *part) {
    for (uint32_t i = 0; i < p->rows; ++i, whole += p->whole, part += p->count) {
        edgelora_copy_s8(whole + p->from, part, p->count);
    }
}

// The part of a concatenate's output that input k becomes.
static part_t joined(const edgelora_shape_t *g, uint32_t k) {
    uint32_t axis = op_axis(g->op);
    uint32_t all = axis == 1 ? g->out_h
        : axis == 2          ? g->out_w
                             : g->out_c,
             first = axis == 1 ? g->in_h
        : axis == 2            ? g->in_w
                               : g->in_c;
    return part_along(axis, g->out_h, g->out_w, g->out_c, k ? first : 0, k ? all - first : first);
}

void edgelora_concatenate_forward_s8(
    const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, int8_t *y) {
    part_t a = joined(g, 0), b = joined(g, 1);
    part_put(&a, y, x);
    part_put(&b, y, x2);
}

void edgelora_concatenate_backward_s8(
    const edgelora_shape_t *g, const int8_t *e, uint32_t k, int8_t *dx) {
    part_t p = joined(g, k);
    part_take(&p, e, dx);
}

static part_t sliced(const edgelora_shape_t *g) {
    uint32_t axis = op_axis(g->op), count = axis == 1 ? g->out_h : axis == 2 ? g->out_w : g->out_c;
    return part_along(axis, g->in_h, g->in_w, g->in_c, op_number(g->op), count);
}

void edgelora_slice_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y) {
    part_t p = sliced(g);
    part_take(&p, x, y);
}

void edgelora_slice_backward_s8(const edgelora_shape_t *g, const int8_t *e, int8_t *dx) {
    part_t p = sliced(g);
    for (uint32_t i = 0; i < p.rows * p.whole; ++i) {
        dx[i] = 0;
    }
    part_put(&p, dx, e);
}

void edgelora_history_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y) {
    uint32_t count = history_input(g), older = g->positions * g->out_c - count;
    edgelora_copy_s8(y, y + count, older); // ascending, as the buffers overlap
    edgelora_copy_s8(y + older, x, count);
}

void edgelora_history_back_s8(const edgelora_shape_t *g, const int8_t *left, int8_t *y) {
    uint32_t count = history_input(g);
    for (uint32_t i = g->positions * g->out_c; i-- > count;) {
        y[i] = y[i - count];
    }
    edgelora_copy_s8(y, left, count);
}

// A history's error: what has arrived, and what the frame behind has left.
typedef struct {
    const int8_t *e;      // NULL: nothing
    const int16_t *carry; // of elements from the input's size on; NULL: nothing
    int32_t exponent;     // of the sum; right shifts that lead to it:
    int32_t e_shift, carry_shift;
} history_error_t;

static history_error_t history_error(const edgelora_error_t *error) {
    const edgelora_carry_t *carry = error->carry && error->carry->bits ? error->carry : 0;
    int32_t fine = error->exponent - 7;
    // 14 bits, so that the sum has 15
    int32_t coarse = carry ? carry->exponent + (carry->bits >> 14) : fine;
    int32_t exponent = !error->e || coarse > fine ? coarse : fine;
    history_error_t h = {.exponent = exponent};
    if (error->e && exponent - fine <= 15) {
        h.e = error->e;
        h.e_shift = exponent - fine;
    }
    if (carry && exponent - carry->exponent <= 15) {
        h.carry = carry->e;
        h.carry_shift = exponent - carry->exponent;
    }
    return h;
}

// sum[i] = 2^7 * e[i] + carry[i], from the last i down, so that `sum` may lie above `carry` in the
// same buffer. e, carry: NULL if there is none. |sum| < 2^15. Returns the OR of all magnitudes.
static uint32_t history_sum(
    const history_error_t *h, const int8_t *e, const int16_t *carry, uint32_t n, int16_t *sum) {
    int32_t e_mask = shift_mask(h->e_shift), carry_mask = shift_mask(h->carry_shift);
    uint32_t bits = 0;
    while (n--) {
        int32_t v = e ? trunc_mask(e[n] * 128, h->e_shift, e_mask) : 0;
        v += carry ? trunc_mask(carry[n], h->carry_shift, carry_mask) : 0;
        sum[n] = (int16_t)v;
        bits |= abs_u32(v);
    }
    return bits;
}

// Keeps what belongs to the inputs of frames before, `older` elements of the output.
static void carry_back(
    edgelora_carry_t *carry, const history_error_t *h, uint32_t count, uint32_t older) {
    uint32_t bits = 0, first = count < older ? count : older;
    if (older > count) {
        bits = history_sum(h, h->e ? h->e + count : 0, h->carry, older - count, carry->e + count);
    }
    bits |= history_sum(h, h->e, 0, first, carry->e);
    carry->exponent = (int16_t)h->exponent;
    carry->bits = (uint16_t)bits;
}

int32_t edgelora_history_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    history_error_t h = history_error(error);
    uint32_t count = history_input(g), size = g->positions * g->out_c, older = size - count;
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    while (block.count < count) {
        uint32_t left = count - block.count, n = left < EDGELORA_PIECE ? left : EDGELORA_PIECE,
                 at = older + block.count;
        int16_t sum[EDGELORA_PIECE];
        int32_t v[EDGELORA_PIECE];
        // the carry is of elements from `count` on: those of the newest before it are without one
        uint32_t bare = at < count ? count - at : 0;
        bare = bare < n ? bare : n;
        history_sum(&h, h.e ? h.e + at : 0, 0, bare, sum);
        history_sum(&h, h.e ? h.e + at + bare : 0, h.carry ? h.carry + at + bare - count : 0,
            n - bare, sum + bare);
        for (uint32_t i = 0; i < n; ++i) {
            v[i] = sum[i];
        }
        edgelora_block_append(&block, v, n);
    }
    if (error->carry) {
        carry_back(error->carry, &h, count, older);
    }
    return h.exponent + block.shift;
}

void edgelora_history_reset_s8(const edgelora_shape_t *g, int8_t *y) {
    uint32_t count = history_input(g);
    for (uint32_t i = 0; i < g->positions * g->out_c; ++i) {
        y[i] = g->initial && i >= count ? g->initial[i - count] : g->zp_out;
    }
}

// The places of a pad's input in its output, in pieces: whole rows or, with strides, positions.
typedef struct {
    uint32_t first, row, piece, count,
        size; // offset of the first piece; distance of rows, of pieces
} pieces_t;

static pieces_t padded(const edgelora_shape_t *g) {
    const edgelora_op_t *op = g->op;
    bool apart = op->stride_w > 1;
    uint32_t row = (uint32_t)g->out_w * g->out_c;
    return (pieces_t){
        op->pad_top * row + (uint32_t)op->pad_left * g->out_c, op->stride_h * row,
        (uint32_t)op->stride_w * g->out_c, apart ? g->in_w : 1u,
        apart ? g->in_c : (uint32_t)g->in_w * g->in_c};
}

void edgelora_pad_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y) {
    pieces_t p = padded(g);
    for (uint32_t i = 0; i < g->positions * g->out_c; ++i) {
        y[i] = g->zp_out;
    }
    y += p.first;
    for (uint32_t iy = 0; iy < g->in_h; ++iy, y += p.row) {
        for (uint32_t i = 0; i < p.count; ++i, x += p.size) {
            edgelora_copy_s8(y + i * p.piece, x, p.size);
        }
    }
}

void edgelora_pad_backward_s8(const edgelora_shape_t *g, const int8_t *e, int8_t *dx) {
    pieces_t p = padded(g);
    e += p.first;
    for (uint32_t iy = 0; iy < g->in_h; ++iy, e += p.row) {
        for (uint32_t i = 0; i < p.count; ++i, dx += p.size) {
            edgelora_copy_s8(dx, e + i * p.piece, p.size);
        }
    }
}

// An axis of a gather's input: the number of outputs along its output axis, their distance, and the
// input position of each; NULL: all positions, in order.
typedef struct {
    const uint16_t *from;
    uint32_t count, step;
} gathered_t;

static void gathered(const edgelora_shape_t *g, gathered_t *axes) {
    uint32_t sizes[3] = {g->out_h, g->out_w, g->out_c},
             steps[3] = {(uint32_t)g->out_w * g->out_c, g->out_c, 1};
    const uint16_t *from = g->gathered;
    for (uint32_t i = 0; i < 3; ++i) {
        uint32_t to = gather_axis(g->op, i);
        axes[i] = (gathered_t){from, sizes[to], steps[to]};
        from = from ? from + sizes[to] : 0;
    }
}

static uint32_t gathered_from(const gathered_t *axis, uint32_t i) {
    return axis->from ? axis->from[i] : i;
}

void edgelora_gather_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y) {
    gathered_t axes[3];
    gathered(g, axes);
    for (uint32_t i = 0; i < axes[0].count; ++i) {
        for (uint32_t j = 0; j < axes[1].count; ++j) {
            const int8_t *in = x +
                (gathered_from(&axes[0], i) * g->in_w + gathered_from(&axes[1], j)) * g->in_c;
            int8_t *out = y + i * axes[0].step + j * axes[1].step;
            for (uint32_t k = 0; k < axes[2].count; ++k, out += axes[2].step) {
                *out = in[gathered_from(&axes[2], k)];
            }
        }
    }
}

// Adds the errors of all outputs that read position (iy, ix). row: s32 [in_c]
static void gathered_sums(
    const gathered_t *axes, const int8_t *e, uint32_t iy, uint32_t ix, int32_t *row) {
    for (uint32_t i = 0; i < axes[0].count; ++i) {
        for (uint32_t j = 0; j < axes[1].count && gathered_from(&axes[0], i) == iy; ++j) {
            const int8_t *in = e + i * axes[0].step + j * axes[1].step;
            for (uint32_t k = 0; k < axes[2].count && gathered_from(&axes[1], j) == ix; ++k) {
                row[gathered_from(&axes[2], k)] += in[k * axes[2].step];
            }
        }
    }
}

int32_t edgelora_gather_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    gathered_t axes[3];
    gathered(g, axes);
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    int32_t *row = error->scratch;
    for (uint32_t iy = 0; iy < g->in_h; ++iy) {
        for (uint32_t ix = 0; ix < g->in_w; ++ix) {
            for (uint32_t c = 0; c < g->in_c; ++c) {
                row[c] = 0; // |row| <= 127 * 2^20
            }
            gathered_sums(axes, error->e, iy, ix, row);
            edgelora_block_append(&block, row, g->in_c);
        }
    }
    return error->exponent + block.shift;
}
