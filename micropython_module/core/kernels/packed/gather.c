// Gathers and packs the inputs of positions.
// SPDX-License-Identifier: MIT

#include "kernels/packed/internal.h"

// One axis of a window: the kernel elements [from, to) read inside the input; element 0 reads at
// `start`.
typedef struct {
    int32_t start;
    uint32_t from, to;
} axis_t;

static axis_t axis_window(
    uint32_t at, uint32_t stride, uint32_t pad, uint32_t dilation, uint32_t kernel, uint32_t size) {
    axis_t w = {(int32_t)(at * stride) - (int32_t)pad, 0, kernel};
    while (w.from < w.to && w.start + (int32_t)(w.from * dilation) < 0) {
        ++w.from;
    }
    while (w.to > w.from && w.start + (int32_t)((w.to - 1) * dilation) >= (int32_t)size) {
        --w.to;
    }
    return w;
}

EDGELORA_KERNEL static void gather(
    const edgelora_shape_t *g, const int8_t *x, const axis_t *wy, const axis_t *wx, int8_t *patch) {
    const edgelora_op_t *op = g->op;
    uint32_t channels = g->in_c, row = g->kernel_w * channels,
             step = (uint32_t)op->dilation_h * g->in_w * channels;
    uint32_t left = wx->from * channels, middle = (wx->to - wx->from) * channels,
             right = row - left - middle;
    uint32_t rows = wy->to - wy->from, below = (g->kernel_h - wy->to) * row,
             apart = op->dilation_w * channels;
    int8_t edge = g->zp_in, *to = fill_s8(patch, wy->from * row, edge);
    int32_t first = (wy->start + (int32_t)(wy->from * op->dilation_h)) * g->in_w + wx->start +
        (int32_t)(wx->from * op->dilation_w);
    const int8_t *in = rows && middle ? x + first * (int32_t)channels : x;
    for (; rows; --rows, in += step) {
        to = fill_s8(to, left, edge);
        if (apart == channels) {
            to = copy_fours_s8(to, in, middle);
        } else {
            const int8_t *from = in;
            for (uint32_t n = middle; n; n -= channels, from += apart) {
                to = copy_fours_s8(to, from, channels);
            }
        }
        to = fill_s8(to, right, edge);
    }
    fill_s8(to, below, edge);
}

EDGELORA_HOT void edgelora_gather_s8(
    const edgelora_shape_t *g, const int8_t *x, const edgelora_cursor_t *at, int8_t *patch) {
    const edgelora_op_t *op = g->op;
    axis_t wy = axis_window(at->y, op->stride_h, op->pad_top, op->dilation_h, g->kernel_h, g->in_h);
    axis_t wx = axis_window(
        at->x, op->stride_w, op->pad_left, op->dilation_w, g->kernel_w, g->in_w);
    gather(g, x, &wy, &wx, patch);
    fill_s8(patch + g->inputs, -g->inputs & 3, 0);
}

EDGELORA_HOT static uint32_t *fill_quad(uint32_t *quad, uint32_t groups, int32_t v) {
    uint32_t word = pair((uint32_t)v, (uint32_t)v);
    for (; groups; --groups, quad += EDGELORA_GROUP_WORDS) {
        quad[0] = word;
        quad[4] = word;
    }
    return quad;
}

EDGELORA_HOT static uint32_t *pack_quad(uint32_t *quad, const int8_t *x, uint32_t groups) {
    if (groups) {
        edgelora_pack_quad_s8(quad, x, groups);
    }
    return quad + EDGELORA_GROUP_WORDS * groups;
}

// Word-aligned values of a one-row window inside the input, in place or copied to patch; NULL: not
// such a window. x: 4-aligned; one more word after the window is readable.
static inline const int8_t *words_of_row(const edgelora_shape_t *g, const int8_t *x, uint32_t oy,
    uint32_t ox, int8_t *patch, uint32_t lead) {
    const edgelora_op_t *op = g->op;
    int32_t iy = (int32_t)(oy * op->stride_h) - op->pad_top,
            ix = (int32_t)(ox * op->stride_w) - op->pad_left;
    if (iy < 0 || iy >= g->in_h || ix < 0 || ix + g->kernel_w > g->in_w) {
        return 0;
    }
    uint32_t start = ((uint32_t)iy * g->in_w + (uint32_t)ix) * g->in_c;
    if ((start & ~3u) + g->inputs + 7 > (uint32_t)g->in_h * g->in_w * g->in_c) {
        return 0;
    }
    if ((start & 3) == lead) {
        return x + start - lead;
    }
    edgelora_align_rows_u8((uint32_t *)(void *)patch, (const uint8_t *)(x + start), g->inputs, 1,
        lead, EDGELORA_OFFSET);
    return patch;
}

EDGELORA_RAM uint32_t edgelora_window_lead(const edgelora_shape_t *g, const int8_t *x) {
    const edgelora_op_t *op = g->op;
    uint32_t lead = ((uint32_t)(uintptr_t)x - (uint32_t)op->pad_left * g->in_c) & 3;
    bool alike = g->kernel_h == 1 && op->dilation_w == 1 && (op->stride_w * g->in_c & 3) == 0 &&
        (g->in_h == 1 || (g->in_w * g->in_c & 3) == 0);
    return alike && (lead + g->inputs + 3) / 4 == (g->inputs + 3) / 4 ? lead : 0;
}

EDGELORA_HOT static void gather_position(const edgelora_shape_t *g, const int8_t *x, uint32_t oy,
    uint32_t ox, int8_t *patch, uint32_t *quad, uint32_t lead) {
    const edgelora_op_t *op = g->op;
    uint32_t groups = (g->inputs + 3) / 4, taps = g->in_c / 4;
    bool aligned = (g->in_c & 3) == 0 && is_aligned(x);
    if (aligned && g->inputs == g->in_c && !op->pad_top && !op->pad_left) { // 1x1
        uint32_t iy = oy * op->stride_h, ix = ox * op->stride_w;
        if (iy < g->in_h && ix < g->in_w) {
            edgelora_pack_quad_s8(quad, x + (iy * g->in_w + ix) * g->in_c, groups);
            return;
        }
    }
    bool row = g->kernel_h == 1 && op->dilation_w == 1 && is_aligned(x);
    const int8_t *words = row ? words_of_row(g, x, oy, ox, patch, lead) : 0;
    if (words) {
        edgelora_pack_quad_s8(quad, words, groups);
        return;
    }
    axis_t wy = axis_window(oy, op->stride_h, op->pad_top, op->dilation_h, g->kernel_h, g->in_h);
    axis_t wx = axis_window(ox, op->stride_w, op->pad_left, op->dilation_w, g->kernel_w, g->in_w);
    if (!aligned) {
        gather(g, x, &wy, &wx, patch + lead);
        edgelora_pack_quad_s8(quad, patch, groups);
        return;
    }
    quad = fill_quad(quad, wy.from * g->kernel_w * taps, g->zp_in);
    for (uint32_t ky = wy.from; ky < wy.to; ++ky) {
        const int8_t *in = x +
            ((wy.start + (int32_t)(ky * op->dilation_h)) * g->in_w + wx.start) * g->in_c;
        quad = fill_quad(quad, wx.from * taps, g->zp_in);
        if (op->dilation_w == 1) {
            quad = pack_quad(quad, in + wx.from * g->in_c, (wx.to - wx.from) * taps);
        } else {
            for (uint32_t kx = wx.from; kx < wx.to; ++kx) {
                quad = pack_quad(quad, in + kx * op->dilation_w * g->in_c, taps);
            }
        }
        quad = fill_quad(quad, (g->kernel_w - wx.to) * taps, g->zp_in);
    }
    fill_quad(quad, (g->kernel_h - wy.to) * g->kernel_w * taps, g->zp_in);
}

EDGELORA_HOT void edgelora_gather_tile_s8(const edgelora_shape_t *g, const int8_t *x,
    edgelora_cursor_t *at, uint32_t count, int8_t *patch, uint32_t *quads, uint32_t stride,
    uint32_t lead) {
    const edgelora_op_t *op = g->op;
    const uint32_t inputs = g->inputs, groups = (inputs + 3) / 4, step = op->stride_w * g->in_c,
                   row = (uint32_t)g->in_w * g->in_c, pad = op->pad_left * g->in_c,
                   size = g->in_h * row;
    // windows inside a row of the input, read as words
    const bool alike = lead && !op->pad_top && op->stride_h == 1;
    for (uint32_t k = 0; k < count; ++k) {
        uint32_t *quad = quads + (k >> 2) * (stride / 4) + (k & 3);
        uint32_t start = at->x * step - pad, end = start + inputs;
        if (alike && start < end && end <= row) {
            start += at->y * row;
            if (start >= lead && start - lead + 4 * groups <= size) {
                edgelora_pack_quad_s8(quad, x + start - lead, groups);
                cursor_next(at);
                continue;
            }
        }
        gather_position(g, x, at->y, at->x, patch, quad, lead);
        cursor_next(at);
    }
}

EDGELORA_HOT uint32_t *edgelora_pack_part_s8(
    uint32_t *quad, const int8_t *from, uint32_t n, int8_t *patch) {
    if ((n & 3) || !is_aligned(from)) {
        fill_s8(copy_fours_s8(patch, from, n), -n & 3, 0);
        from = patch;
    }
    return pack_quad(quad, from, (n + 3) / 4);
}

// Packs the errors [first, first + taps), `back` apart, of a row of `size` positions with n values
// each; zeros outside the row.
EDGELORA_HOT static uint32_t *gather_error_row(uint32_t *quad, const int8_t *row, int32_t first,
    uint32_t taps, int32_t back, uint32_t size, uint32_t n, int8_t *patch) {
    uint32_t groups = (n + 3) / 4;
    if (back == 1 && !(n & 3) && is_aligned(row)) {
        uint32_t before = at_most(first < 0 ? (uint32_t)-first : 0, taps);
        uint32_t from = (uint32_t)(first + (int32_t)before);
        uint32_t inside = at_most(from < size ? size - from : 0, taps - before);
        quad = fill_quad(quad, before * groups, 0);
        quad = pack_quad(quad, inside ? row + from * n : row, inside * groups);
        return fill_quad(quad, (taps - before - inside) * groups, 0);
    }
    for (; taps; --taps, first += back) {
        quad = (uint32_t)first < size
            ? edgelora_pack_part_s8(quad, row + (uint32_t)first * n, n, patch)
            : fill_quad(quad, groups, 0);
    }
    return quad;
}

// e: s8 [out_h, out_w, n].
EDGELORA_HOT static void gather_errors(const edgelora_shape_t *g, const edgelora_phase_t *py,
    const edgelora_phase_t *px, const edgelora_cursor_t *at, const int8_t *e, uint32_t n,
    int8_t *patch, uint32_t *quad) {
    uint32_t row = px->taps * ((n + 3) / 4);
    int32_t oy = py->start + (int32_t)at->y - (int32_t)(py->taps - 1) * py->back,
            ox = px->start + (int32_t)at->x - (int32_t)(px->taps - 1) * px->back;
    for (uint32_t taps = py->taps; taps; --taps, oy += py->back) {
        quad = (uint32_t)oy < g->out_h ? gather_error_row(quad, e + (uint32_t)oy * g->out_w * n, ox,
                                             px->taps, px->back, g->out_w, n, patch)
                                       : fill_quad(quad, row, 0);
    }
}

// Packs the errors that one kernel element reads at positions [k, k + count) of a tile, all in one
// row: those of `row` (NULL: outside) from `first` on, 4-aligned, zeros outside the row.
EDGELORA_HOT static void gather_tap(uint32_t *quads, uint32_t stride, uint32_t k, uint32_t count,
    const int8_t *row, int32_t first, uint32_t size, uint32_t groups) {
    int32_t from = first < 0 ? -first : 0, to = row ? (int32_t)size - first : 0;
    for (uint32_t i = 0, n = 1; i < count; i += n, k += n, n = 1) {
        uint32_t *quad = quads + (k >> 2) * (stride / 4) + (k & 3);
        if ((int32_t)i < from || (int32_t)i >= to) {
            fill_quad(quad, groups, 0);
            continue;
        }
        const int8_t *e = row + ((uint32_t)first + i) * 4 * groups;
        if (k & 3) {
            edgelora_pack_quad_s8(quad, e, groups);
        } else {
            n = at_most(count, (uint32_t)to) - i;
            edgelora_pack_quads_s8(quad, stride, e, n, groups);
        }
    }
}

enum { LONG_ROW = 8 }; // minimum length of rows that are packed one kernel element at a time

// edgelora_gather_errors_s8 for one tensor of errors, s8 [out_h, out_w, 4 * groups].
EDGELORA_HOT static void gather_taps(const edgelora_shape_t *g, const edgelora_phase_t *py,
    const edgelora_phase_t *px, edgelora_cursor_t at, uint32_t count, const int8_t *e,
    uint32_t groups, uint32_t *quads, uint32_t stride) {
    int32_t oy = py->start + (int32_t)at.y - (int32_t)(py->taps - 1) * py->back,
            ox = px->start - (int32_t)(px->taps - 1) * px->back;
    for (uint32_t k = 0, n; k < count; k += n, at.x = 0, ++oy) {
        n = at_most(count - k, at.width - at.x);
        uint32_t *to = quads;
        int32_t y = oy;
        for (uint32_t ty = py->taps; ty; --ty, y += py->back) {
            const int8_t *row = (uint32_t)y < g->out_h ? e + (uint32_t)y * g->out_w * 4 * groups
                                                       : 0;
            int32_t x = ox + (int32_t)at.x;
            for (uint32_t tx = px->taps; tx; --tx, x += px->back) {
                gather_tap(to, stride, k, n, row, x, g->out_w, groups);
                to += EDGELORA_GROUP_WORDS * groups;
            }
        }
    }
}

EDGELORA_HOT void edgelora_gather_errors_s8(const edgelora_shape_t *g, const edgelora_phase_t *py,
    const edgelora_phase_t *px, const edgelora_error_t *error, uint32_t rank, edgelora_cursor_t *at,
    uint32_t count, int8_t *patch, uint32_t *quads, uint32_t stride) {
    uint32_t t_words = EDGELORA_GROUP_WORDS * py->taps * px->taps * ((rank + 3) / 4);
    if (at->width >= LONG_ROW && !(rank & 3) && !(g->out_c & 3)) {
        if (rank) {
            gather_taps(g, py, px, *at, count, error->t_error, rank / 4, quads, stride);
        }
        gather_taps(g, py, px, *at, count, error->e, g->out_c / 4u, quads + t_words, stride);
        at->x += count;
        at->y += at->x / at->width;
        at->x %= at->width;
        return;
    }
    for (uint32_t k = 0; k < count; ++k) {
        uint32_t *quad = quads + (k >> 2) * (stride / 4) + (k & 3);
        if (rank) {
            gather_errors(g, py, px, at, error->t_error, rank, patch, quad);
        }
        gather_errors(g, py, px, at, error->e, g->out_c, patch, quad + t_words);
        cursor_next(at);
    }
}
