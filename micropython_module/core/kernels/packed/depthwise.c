// Depthwise 3x3, forward and, with stride 1, backward.
// SPDX-License-Identifier: MIT
//
// Works on one channel and some output rows at a time: copies the channel's input rows to a plane
// and runs the kernel over it. With stride 1, columns are split into parts of up to EDGELORA_STRIP,
// with one plane each.
//
// Time of these kernels: lines `depthwise*` of `edgelora bench kernels`.

#include "kernels/packed/planes.h"
#include "kernels/packed/extras.h"

EDGELORA_RAM static planes_t planes_layout(const edgelora_shape_t *g) {
    const edgelora_op_t *op = g->op;
    planes_t l = {.parts = 1};
    if (op->stride_h == 1 && op->stride_w == 1) {
        l.left = 1;
        l.pitch = EDGELORA_STRIP_PITCH;
        l.parts = (g->out_w + EDGELORA_STRIP - 1u) / EDGELORA_STRIP;
        l.width = (g->out_w + l.parts - 1u) / l.parts;
    } else {
        l.left = op->pad_left > 1 ? op->pad_left : 1;
        uint32_t width = ((g->out_w + 1) & ~1u) * op->stride_w + 4;
        l.pitch = l.left + (width > g->in_w + 1u ? width : g->in_w + 1u);
    }
    uint32_t in_row = 4 * l.pitch * l.parts, row = in_row * op->stride_h + 4 * g->out_w;
    uint32_t fixed = in_row * (op->stride_h > 3 ? 0 : 3u - op->stride_h) + 4 * l.parts;
    l.rows = at_most(
        fixed + row < EDGELORA_TILE_BYTES ? (EDGELORA_TILE_BYTES - fixed) / row : 1, g->out_h);
    uint32_t times = (g->out_h + l.rows - 1) / l.rows;
    l.rows = (g->out_h + times - 1) / times;
    l.in_rows = (l.rows - 1) * op->stride_h + 3;
    l.acc = in_row * l.in_rows + (l.width ? 4 * l.parts : 0);
    uint32_t acc = 4 * ((l.rows * g->out_w + 3) & ~3u);
    l.each = 2 * EDGELORA_ACC_BYTES / acc;
    l.each = l.each > EDGELORA_MAX_ROWS ? EDGELORA_MAX_ROWS : l.each < 1 ? 1 : l.each;
    l.size = l.acc + acc * l.each;
    return l;
}

uint32_t edgelora_depthwise_forward_packed_scratch(const edgelora_shape_t *g) {
    return planes_layout(g).size;
}

static reach_t rows_reached(const edgelora_shape_t *g, uint32_t oy, uint32_t rows) {
    uint32_t stride = g->op->stride_h;
    int32_t top = (int32_t)(oy * stride) - g->op->pad_top,
            bottom = top + (int32_t)((rows - 1) * stride) + 3;
    int32_t from = top < 0 ? 0 : top, to = bottom < g->in_h ? bottom : g->in_h;
    return (reach_t){from, to, (uint32_t)(from - top), (uint32_t)(bottom - to)};
}

// Sets what all channels share in a part of the columns. Returns the part's first input column.
static inline __attribute__((always_inline)) uint32_t part_begin(const edgelora_shape_t *g,
    const planes_t *l, uint32_t part, uint32_t *plane, edgelora_plane_t *in,
    edgelora_strip_t *strip) {
    uint32_t first = part * l->width, width = at_most(g->out_w - first, l->width);
    int32_t column = (int32_t)first - g->op->pad_left, from = column < 0 ? 0 : column,
            to = column + (int32_t)width + 2;
    to = to < g->in_w ? to : g->in_w;
    uint32_t *x = plane + 1 + part * (l->pitch * l->in_rows + 1);
    strip->x = x;
    strip->out_w = width;
    strip->gap = 4 * (g->out_w - width);
    in->plane = x + (from - column);
    in->n = to > from ? (uint32_t)(to - from) : 0;
    return (uint32_t)from;
}

// Stride 1: `rows` output rows, from y on.
EDGELORA_HOT static void strips_forward(const edgelora_shape_t *g, const planes_t *l,
    const reach_t *reach, uint32_t rows, edgelora_requantize_t *requantize, const int8_t *x,
    int8_t *y, uint32_t *plane, int32_t *acc) {
    uint32_t each = g->out_c / g->in_c, padded = (requantize->count + 3) & ~3u;
    edgelora_plane_t in = {
        .pitch = 4 * EDGELORA_STRIP_PITCH,
        .step = g->in_c,
        .row = (uint32_t)g->in_w * g->in_c,
        .rows = reach->to > reach->from ? (uint32_t)(reach->to - reach->from) : 0,
        .edge = g->zp_in};
    edgelora_strip_t strip = {
        .top = reach->above > 0, .step = g->out_c, .zero_point = g->zp_in, .acc_step = 4 * padded};
    strip.bottom = reach->below && strip.top < rows;
    strip.middle = rows - strip.top - strip.bottom;
    x += (uint32_t)reach->from * g->in_w * g->in_c;
    for (uint32_t o = 0; o < g->out_c; o += requantize->rows) {
        requantize->rows = at_most(g->out_c - o, l->each);
        for (uint32_t part = 0; part < l->parts; ++part) {
            uint32_t start = part_begin(g, l, part, plane, &in, &strip);
            in.plane += reach->above * EDGELORA_STRIP_PITCH;
            strip.acc = acc + part * l->width;
            for (uint32_t k = o, end = o + requantize->rows; k < end;
                k += strip.channels, strip.acc += padded) {
                bool fill = k % each == 0 || k == o; // outputs of one input channel share a plane
                strip.channels = each == 1 ? requantize->rows : 1;
                strip.weights = g->weights + k;
                strip.bias = g->bias + k;
                strip.plane = fill && in.rows && in.n ? &in : 0;
                in.x = x + start * g->in_c + k / each;
                edgelora_strip_s8(&strip);
            }
        }
        edgelora_requantize_outputs_s8(g, o, requantize, y);
    }
}

// Can the backward step run as a forward one, with the error as input and the kernel rotated by 180
// degrees?
static bool is_turned(const edgelora_shape_t *g) {
    const edgelora_op_t *op = g->op;
    return op->stride_h == 1 && op->stride_w == 1 && op->pad_top <= 2;
}

// Returns the shape of the backward step as a forward op; op: receives its op.
static edgelora_shape_t turned(const edgelora_shape_t *g, edgelora_op_t *op) {
    edgelora_shape_t e = *g;
    *op = *g->op;
    op->pad_top = 2 - op->pad_top;
    op->pad_left = 2 - op->pad_left;
    e.op = op;
    e.in_h = g->out_h;
    e.in_w = g->out_w;
    e.out_h = g->in_h;
    e.out_w = g->in_w;
    return e;
}

EDGELORA_RAM uint32_t edgelora_depthwise_strips_backward_scratch(const edgelora_shape_t *g) {
    edgelora_op_t op;
    if (!is_turned(g)) {
        return 0;
    }
    edgelora_shape_t e = turned(g, &op);
    return planes_layout(&e).size;
}

EDGELORA_HOT int32_t edgelora_depthwise_strips_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    static const int32_t none[EDGELORA_MAX_ROWS];
    edgelora_op_t op;
    const edgelora_shape_t e = turned(g, &op);
    const planes_t l = planes_layout(&e);
    uint32_t *plane = error->scratch;
    int32_t *acc = (int32_t *)(void *)((uint8_t *)error->scratch + l.acc);
    edgelora_columns_t block = {.q = dx, .step = e.out_c, .rounds = g->rounds};
    edgelora_cursor_t at = {0, 0, (uint32_t)e.out_h * e.out_w};
    edgelora_plane_t in = {
        .pitch = 4 * EDGELORA_STRIP_PITCH, .step = e.in_c, .row = (uint32_t)e.in_w * e.in_c};
    edgelora_strip_t strip = {.step = -(int32_t)e.out_c, .bias = none};
    for (uint32_t y = 0; y < e.out_h; y += l.rows) {
        uint32_t rows = at_most(e.out_h - y, l.rows), count = rows * e.out_w,
                 padded = (count + 3) & ~3u;
        for (uint32_t *word = plane, *last = plane + l.acc / 4; word != last; ++word) {
            *word = 0;
        }
        const reach_t reach = rows_reached(&e, y, rows);
        const int8_t *first = error->e + (uint32_t)reach.from * in.row;
        in.rows = reach.to > reach.from ? (uint32_t)(reach.to - reach.from) : 0;
        strip.acc_step = 4 * padded;
        strip.top = reach.above > 0;
        strip.bottom = reach.below && strip.top < rows;
        strip.middle = rows - strip.top - strip.bottom;
        for (uint32_t c = 0; c < e.out_c; c += strip.channels) {
            strip.channels = at_most(e.out_c - c, l.each);
            strip.weights = g->weights + 8 * e.out_c + c;
            for (uint32_t part = 0; part < l.parts; ++part) {
                uint32_t start = part_begin(&e, &l, part, plane, &in, &strip);
                in.plane += reach.above * EDGELORA_STRIP_PITCH;
                in.x = first + start * e.in_c + c;
                strip.acc = acc + part * l.width;
                strip.plane = in.rows && in.n ? &in : 0;
                edgelora_strip_s8(&strip);
            }
            edgelora_columns_put(&block, &at, c, strip.channels, count, padded, acc);
        }
        at.x += count;
    }
    return error->exponent + block.shift;
}

// Other strides: the same with whole rows.
EDGELORA_HOT static void rows_forward(const edgelora_shape_t *g, const planes_t *l,
    const reach_t *reach, uint32_t rows, edgelora_requantize_t *requantize, const int8_t *x,
    int8_t *y, uint32_t *plane, int32_t *acc) {
    const edgelora_op_t *op = g->op;
    edgelora_plane_t in = {
        .plane = plane + reach->above * l->pitch + l->left,
        .pitch = 4 * l->pitch,
        .x = x + (uint32_t)reach->from * g->in_w * g->in_c,
        .step = g->in_c,
        .row = (uint32_t)g->in_w * g->in_c,
        .n = g->in_w,
        .rows = (uint32_t)(reach->to - reach->from),
        .edge = g->zp_in};
    edgelora_taps_t taps = {
        .x = plane + l->left - op->pad_left,
        .pitch = 4 * l->pitch,
        .out_pitch = 4 * l->pitch * op->stride_h,
        .stride = op->stride_w,
        .out_h = rows,
        .out_w = g->out_w,
        .acc = acc};
    // output channels per input channel
    uint32_t each = g->out_c / g->in_c, padded = (requantize->count + 3) & ~3u, left = 0;
    for (uint32_t o = 0; o < g->out_c; o += requantize->rows) {
        requantize->rows = at_most(g->out_c - o, l->each);
        taps.acc = acc;
        for (uint32_t k = 0; k < requantize->rows; ++k, taps.acc += padded) {
            if (!left) {
                if (reach->to > reach->from) {
                    edgelora_plane_s8(&in);
                }
                ++in.x;
                left = each;
            }
            --left;
            tap_words(taps.w, g->weights + o + k, g->out_c);
            taps.bias = g->bias[o + k];
            edgelora_taps_s8(&taps);
        }
        edgelora_requantize_outputs_s8(g, o, requantize, y);
    }
}

EDGELORA_HOT void edgelora_depthwise_forward_packed_s8(
    const edgelora_shape_t *g, const int8_t *x, int8_t *y, void *scratch) {
    planes_t l = planes_layout(g);
    uint32_t *plane = scratch;
    int32_t *acc = (int32_t *)(void *)((uint8_t *)scratch + l.acc);
    edgelora_requantize_t requantize = edgelora_requantize_of(g, acc);
    requantize.in_22_bits = edgelora_fits_22_bits(g, 0);
    for (uint32_t oy = 0; oy < g->out_h; oy += l.rows) {
        uint32_t rows = at_most(g->out_h - oy, l.rows);
        const uint32_t edge = pair((uint32_t)g->zp_in, (uint32_t)g->zp_in);
#pragma GCC unroll 8
        for (uint32_t *word = plane, *last = plane + l.acc / 4; word != last; ++word) {
            *word = edge;
        }
        reach_t reach = rows_reached(g, oy, rows);
        requantize.count = rows * g->out_w;
        if (l.width) {
            strips_forward(g, &l, &reach, rows, &requantize, x, y, plane, acc);
        } else if (!edgelora_pairs_forward(g, &l, &reach, rows, &requantize, x, y, plane, acc)) {
            rows_forward(g, &l, &reach, rows, &requantize, x, y, plane, acc);
        }
        y += requantize.count * g->out_c;
    }
}
