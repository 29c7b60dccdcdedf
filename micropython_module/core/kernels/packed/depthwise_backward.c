// Depthwise 3x3, backward: the transposed kernel over a plane of errors, with zeros between them
// for stride 2. Stride 1 uses strips (depthwise.c).
// SPDX-License-Identifier: MIT

#include "kernels/packed/internal.h"

typedef struct {
    uint32_t left, pitch;   // words before the first column, words of a row
    uint32_t rows, in_rows; // rows of the input's error at a time, rows of a plane
    uint32_t acc, size;     // bytes of the plane; then s32 [rows * in_w]
} plane_layout_t;

static plane_layout_t transposed_plane_layout(const edgelora_shape_t *g) {
    plane_layout_t l = {.left = 3};
    uint32_t width = ((g->in_w + 1u) & ~1u) + 4, spread = (g->out_w - 1u) * g->op->stride_w + 2;
    l.pitch = l.left + (width > spread ? width : spread);
    uint32_t row = 4 * l.pitch + 4 * g->in_w, fixed = 8 * l.pitch + 4;
    l.rows = at_most(
        fixed + row < EDGELORA_TILE_BYTES ? (EDGELORA_TILE_BYTES - fixed) / row : 1, g->in_h);
    uint32_t times = (g->in_h + l.rows - 1) / l.rows;
    l.rows = (g->in_h + times - 1) / times;
    l.in_rows = l.rows + 2;
    l.acc = 4 * l.pitch * l.in_rows;
    l.size = l.acc + 4 * l.rows * g->in_w;
    return l;
}

uint32_t edgelora_depthwise_backward_packed_scratch(const edgelora_shape_t *g) {
    uint32_t strips = edgelora_depthwise_strips_backward_scratch(g);
    return strips ? strips : transposed_plane_layout(g).size;
}

// Spreads rows of errors to every second row and word.
EDGELORA_HOT static void spread_plane(edgelora_plane_t in) {
    for (; in.rows; --in.rows, in.plane += in.pitch / 4, in.x += in.row) {
        for (uint32_t i = 0; i < in.n; ++i) {
            int32_t v = in.x[i * in.step];
            in.plane[2 * (int32_t)i - 1] = pair((uint32_t)v, 0);
            in.plane[2 * i] = pair(0, (uint32_t)v);
        }
    }
}

// Like tap_words, last weight first.
static void transposed_tap_words(uint32_t *words, const uint8_t *first, uint32_t step) {
    const uint8_t *w = first + 8 * step;
    for (uint32_t r = 0; r < 3; ++r, w -= 3 * step) {
        words[2 * r] = pair((uint32_t)(w[0] - 128), (uint32_t)(*(w - step) - 128));
        words[2 * r + 1] = pair((uint32_t)(*(w - 2 * step) - 128), 0);
    }
}

EDGELORA_HOT int32_t edgelora_depthwise_backward_packed_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    if (edgelora_depthwise_strips_backward_scratch(g)) {
        return edgelora_depthwise_strips_backward_s8(g, error, dx);
    }
    int32_t stride_h = g->op->stride_h, stride_w = g->op->stride_w;
    plane_layout_t l = transposed_plane_layout(g);
    uint32_t *plane = error->scratch;
    int32_t *acc = (int32_t *)(void *)((uint8_t *)error->scratch + l.acc);
    edgelora_columns_t block = {.q = dx, .step = g->in_c, .rounds = g->rounds};
    edgelora_cursor_t at = {0, 0, (uint32_t)g->in_h * g->in_w};
    for (uint32_t iy = 0; iy < g->in_h; iy += l.rows) {
        uint32_t rows = at_most(g->in_h - iy, l.rows), count = rows * g->in_w;
        for (uint32_t i = 0; i < l.pitch * l.in_rows; ++i) {
            plane[i] = 0;
        }
        // row 0 of the plane is the one that the last kernel row reads for input row iy; error row
        // oy is at oy * stride
        int32_t top = (int32_t)iy + g->op->pad_top - 2, bottom = top + (int32_t)rows + 2;
        int32_t from = top < 0 ? 0 : (top + stride_h - 1) / stride_h,
                to = bottom <= 0 ? 0 : (bottom - 1) / stride_h + 1;
        to = to < g->out_h ? to : g->out_h;
        edgelora_plane_t in = {
            .plane = plane + (uint32_t)(from * stride_h - top) * l.pitch + l.left,
            .pitch = 4 * l.pitch * (uint32_t)stride_h,
            .x = error->e + (uint32_t)from * g->out_w * g->out_c,
            .step = g->out_c,
            .row = (uint32_t)g->out_w * g->out_c,
            .n = g->out_w,
            .rows = (uint32_t)(to - from)};
        edgelora_taps_t taps = {
            .x = plane + l.left + g->op->pad_left - 2,
            .pitch = 4 * l.pitch,
            .out_pitch = 4 * l.pitch,
            .stride = 1,
            .out_h = rows,
            .out_w = g->in_w,
            .acc = acc};
        for (uint32_t c = 0; c < g->in_c; ++c, ++in.x) {
            if (to > from && stride_w == 1) {
                edgelora_plane_s8(&in);
            } else if (to > from) {
                spread_plane(in);
            }
            transposed_tap_words(taps.w, g->weights + c, g->out_c);
            edgelora_taps_s8(&taps);
            edgelora_columns_put(&block, &at, c, 1, count, count, acc);
        }
        at.x += count;
    }
    return error->exponent + block.shift;
}
