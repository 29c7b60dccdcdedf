// Pools and means: sums over four channels at a time, maxima of four elements at a time.
// SPDX-License-Identifier: MIT
//
// Time of these kernels: lines `*_pool` and `mean` of `edgelora bench kernels`.

#include "kernels/packed/internal.h"
#include "training/block.h"

enum {
    LANE_POSITIONS = 257, // number of bytes whose sum fits 16 bits
    MAX_DIVISOR = 361,    // see average_outputs
};

static bool is_max(const edgelora_shape_t *g) {
    return g->op->kind == EDGELORA_MAX_POOL;
}

uint32_t edgelora_pool_packed_scratch(const edgelora_shape_t *g) {
    if (is_max(g)) { // offsets of a window's elements; the last is repeated to fill the last call
        return 4u * ((uint32_t)g->kernel_h * g->kernel_w + 3);
    }
    return 4u * g->in_c; // sums
}

// The part of an output position's window that is inside the input.
typedef struct {
    const int8_t *x; // its first element
    uint32_t rows, columns;
} pool_window_t;

typedef struct {
    uint32_t from, count;
} range_t;

static inline range_t range_at(
    uint32_t at, uint32_t stride, uint32_t pad, uint32_t kernel, uint32_t size) {
    uint32_t start = at * stride, end = start + kernel - pad; // the window touches the input
    uint32_t from = start < pad ? 0 : start - pad;
    return (range_t){from, (end < size ? end : size) - from};
}

static inline pool_window_t pool_window(
    const edgelora_shape_t *g, const int8_t *x, const edgelora_cursor_t *at) {
    const edgelora_op_t *op = g->op;
    range_t y = range_at(at->y, op->stride_h, op->pad_top, g->kernel_h, g->in_h),
            z = range_at(at->x, op->stride_w, op->pad_left, g->kernel_w, g->in_w);
    return (pool_window_t){x + (y.from * g->in_w + z.from) * g->in_c, y.count, z.count};
}

static inline uint32_t window_count(const edgelora_shape_t *g, uint32_t oy, uint32_t ox) {
    const edgelora_op_t *op = g->op;
    return range_at(oy, op->stride_h, op->pad_top, g->kernel_h, g->in_h).count *
        range_at(ox, op->stride_w, op->pad_left, g->kernel_w, g->in_w).count;
}

// A block of positions whose bytes are summed per channel: sums = `start` + bytes or, if `add`,
// sums += `start` + bytes.
typedef struct {
    const int8_t *x;
    uint32_t rows, columns;  // rows * columns <= LANE_POSITIONS
    uint32_t step, row_step; // bytes from one position, one row to the next
    uint32_t channels;
    int32_t start;
    bool add;
} block_t;

static inline int32_t block_start(const block_t *b, const int32_t *sum) {
    return b->start + (b->add ? *sum : 0);
}

// Four channels at a time; x and steps are 4-aligned. Each word of bytes adds its even bytes to two
// 16-bit sums in one word, and its three upper bytes to another word; byte 2 is subtracted from
// that at the end, as the even sums give it.
EDGELORA_KERNEL static void add_words(const block_t *b, int32_t *sums) {
    const uint32_t step = b->step, size = b->columns * step, gap = b->row_step - size;
    const int32_t offset = 128 * (int32_t)(b->rows * b->columns);
    for (const int8_t *x = b->x, *last = x + b->channels; x != last; x += 4, sums += 4) {
        uint32_t evens = 0, upper = 0;
        const int8_t *at = x;
        for (uint32_t rows = b->rows; rows; --rows, at += gap) {
#pragma GCC unroll 4
            for (const int8_t *end = at + size; at != end; at += step) {
                uint32_t four = *(const uint32_t *)(const void *)at ^ 0x80808080u;
                evens += four & 0x00FF00FFu;
                upper += four >> 8;
            }
        }
        upper -= evens >> 16 << 8;
        const uint32_t values[4] = {evens & 0xFFFF, upper & 0xFFFF, evens >> 16, upper >> 16};
        for (uint32_t k = 0; k < 4; ++k) {
            sums[k] = block_start(b, &sums[k]) + (int32_t)values[k] - offset;
        }
    }
}

EDGELORA_KERNEL static void add_bytes(const block_t *b, int32_t *sums) {
    const uint32_t step = b->step, size = b->columns * step, gap = b->row_step - size;
    for (const int8_t *x = b->x, *last = x + b->channels; x != last; ++x, ++sums) {
        int32_t sum = block_start(b, sums);
        const int8_t *at = x;
        for (uint32_t rows = b->rows; rows; --rows, at += gap) {
#pragma GCC unroll 4
            for (const int8_t *end = at + size; at != end; at += step) {
                sum += *at;
            }
        }
        *sums = sum;
    }
}

// sums: s32 [in_c] of x - zero_point over the window, in blocks.
EDGELORA_HOT static void window_sums(
    const edgelora_shape_t *g, const pool_window_t *w, int32_t zero_point, int32_t *sums) {
    uint32_t columns = w->columns, rows = w->rows, step = g->in_c;
    if (columns == g->in_w) { // one row
        columns *= rows;
        rows = 1;
    }
    bool words = (step & 3) == 0 && is_aligned(w->x);
    block_t b = {.step = step, .row_step = g->in_w * step, .channels = step};
    for (uint32_t at = 0; at < columns; at += b.columns) {
        b.columns = at_most(columns - at, LANE_POSITIONS);
        uint32_t fit = LANE_POSITIONS / b.columns;
        for (uint32_t row = 0; row < rows; row += b.rows, b.add = true) {
            b.rows = at_most(rows - row, fit);
            b.x = w->x + row * b.row_step + at * step;
            b.start = -(int32_t)(b.rows * b.columns) * zero_point;
            (words ? add_words : add_bytes)(&b, sums);
        }
    }
}

// y = sums / count, halves rounded away from 0. Counts up to MAX_DIVISOR use the reciprocal: with n
// <= 128.5 * count, n * reciprocal fits 32 bits and its error, n * count / 2^24, is below 1 /
// count.
EDGELORA_KERNEL static void average_outputs(
    const edgelora_shape_t *g, const int32_t *sums, uint32_t count, int8_t *y) {
    const int32_t min = g->op->act_min, max = g->op->act_max;
    const uint32_t half = count / 2, reciprocal = (1u << 24) / count + 1;
    for (const int32_t *end = sums + g->out_c; sums != end; ++sums) {
        uint32_t n = abs_u32(*sums) + half;
        int32_t v = (int32_t)(count <= MAX_DIVISOR ? n * reciprocal >> 24 : n / count);
        *y++ = (int8_t)clamp_s32(*sums < 0 ? -v : v, min, max);
    }
}

EDGELORA_HOT static void mean_outputs(const edgelora_shape_t *g, const int32_t *sums, int8_t *y) {
    if (g->shift[0] > 0) {
        for (uint32_t c = 0; c < g->out_c; ++c) {
            y[c] = requantize_output(g, sums[c], 0);
        }
        return;
    }
    edgelora_requantize_t r = edgelora_requantize_of(g, sums); // a row of channels
    r.count = g->out_c;
    r.rows = r.step = 1;
    r.multiplier = g->multiplier;
    r.shift = g->shift;
    r.y = y;
    r.in_22_bits = 255u * g->inputs / g->in_c < EDGELORA_22_BITS;
    edgelora_requantize_rows_s8(&r);
}

// y = maximum of four; y may be one of them.
EDGELORA_KERNEL static void largest_of_four(
    int8_t *y, const int8_t *a, const int8_t *b, const int8_t *c, const int8_t *d, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
        int32_t v = a[i], other = b[i];
        v = other > v ? other : v;
        other = c[i];
        v = other > v ? other : v;
        other = d[i];
        y[i] = (int8_t)(other > v ? other : v);
    }
}

// Writes the offsets of a window's elements from the first one, padded to whole calls; returns
// their number.
EDGELORA_HOT static uint32_t window_offsets(
    const edgelora_shape_t *g, const pool_window_t *w, uint32_t *offsets) {
    uint32_t n = 0;
    for (uint32_t row = 0; row < w->rows; ++row) {
        for (uint32_t column = 0; column < w->columns; ++column) {
            offsets[n++] = (row * g->in_w + column) * g->in_c;
        }
    }
    for (uint32_t k = 0; k < 3; ++k) {
        offsets[n + k] = offsets[n - 1];
    }
    return n;
}

EDGELORA_HOT static void max_forward(
    const edgelora_shape_t *g, const int8_t *x, int8_t *y, uint32_t *offsets) {
    const int32_t min = g->op->act_min, max = g->op->act_max;
    const uint32_t channels = g->in_c;
    uint32_t rows = 0, columns = 0, n = 0; // of the offsets
    edgelora_cursor_t at = {0, 0, g->out_w};
    for (uint32_t p = 0; p < g->positions; ++p, y += channels) {
        pool_window_t w = pool_window(g, x, &at);
        if (w.rows != rows || w.columns != columns) {
            n = window_offsets(g, &w, offsets);
            rows = w.rows;
            columns = w.columns;
        }
        const int8_t *first = w.x;
        for (uint32_t k = 1; k < n || k == 1; k += 3, first = y) {
            largest_of_four(
                y, first, w.x + offsets[k], w.x + offsets[k + 1], w.x + offsets[k + 2], channels);
        }
        for (uint32_t c = 0; c < channels && (min > -128 || max < 127); ++c) {
            y[c] = (int8_t)clamp_s32(y[c], min, max);
        }
        cursor_next(&at);
    }
}

EDGELORA_HOT void edgelora_pool_forward_packed_s8(
    const edgelora_shape_t *g, const int8_t *x, int8_t *y, void *scratch) {
    if (is_max(g)) {
        max_forward(g, x, y, scratch);
        return;
    }
    bool mean = g->op->kind == EDGELORA_MEAN;
    edgelora_cursor_t at = {0, 0, g->out_w};
    for (uint32_t p = 0; p < g->positions; ++p, y += g->out_c) {
        pool_window_t w = pool_window(g, x, &at);
        window_sums(g, &w, mean ? g->zp_in : 0, scratch);
        if (mean) {
            mean_outputs(g, scratch, y);
        } else {
            average_outputs(g, scratch, w.rows * w.columns, y);
        }
        cursor_next(&at);
    }
}

// Copies words if both are 4-aligned; the buffers don't overlap.
EDGELORA_KERNEL static void copy_words(int8_t *to, const int8_t *from, uint32_t count) {
    if (is_aligned(to) && is_aligned(from)) {
        uint32_t *out = (uint32_t *)(void *)to;
        const uint32_t *in = (const uint32_t *)(const void *)from;
        for (uint32_t words = count / 4; words; --words) {
            *out++ = *in++;
        }
        to += count & ~3u;
        from += count & ~3u;
        count &= 3;
    }
    copy_fours_s8(to, from, count);
}

// The output positions along an axis whose windows contain input position i.
static inline range_t windows_along(
    uint32_t i, uint32_t stride, uint32_t pad, uint32_t kernel, uint32_t outputs) {
    uint32_t at = i + pad, from = at < kernel ? 0 : (at - kernel) / stride + 1,
             to = at_most(at / stride + 1, outputs);
    return (range_t){from, to > from ? to - from : 0};
}

static inline bool is_same(range_t a, range_t b) {
    return a.from == b.from && a.count == b.count;
}

// row: s32 [in_c], the sum of the errors of these windows.
EDGELORA_KERNEL static void average_row(const edgelora_shape_t *g, const edgelora_error_t *error,
    range_t wy, range_t wx, int32_t *row) {
    for (uint32_t c = 0; c < g->in_c; ++c) {
        row[c] = 0; // |row| <= 512 windows * 127 * 2^15
    }
    for (uint32_t oy = wy.from; oy < wy.from + wy.count; ++oy) {
        for (uint32_t ox = wx.from; ox < wx.from + wx.count; ++ox) {
            int32_t count = (int32_t)window_count(g, oy, ox),
                    reciprocal = (32768 + count / 2) / count;
            const int8_t *e = error->e + (oy * g->out_w + ox) * g->out_c;
            for (uint32_t c = 0; c < g->in_c; ++c) {
                row[c] += e[c] * reciprocal;
            }
        }
    }
}

// Neighbouring positions under the same windows have the same error: it is computed once and
// copied, unless rounding differs between them, as it does over an odd number of values.
EDGELORA_HOT static int32_t average_backward(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    const edgelora_op_t *op = g->op;
    uint32_t channels = g->in_c, row_size = g->in_w * channels;
    const bool copies = !g->rounds || channels % 2 == 0;
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    range_t above = {0, 0}, before = {0, 0};
    for (uint32_t iy = 0; iy < g->in_h; ++iy) {
        range_t wy = windows_along(iy, op->stride_h, op->pad_top, g->kernel_h, g->out_h);
        int8_t *row = dx + block.count;
        if (copies && iy && is_same(wy, above)) {
            copy_words(row, row - row_size, row_size);
            block.count += row_size;
            continue;
        }
        above = wy;
        for (uint32_t ix = 0; ix < g->in_w; ++ix) {
            range_t wx = windows_along(ix, op->stride_w, op->pad_left, g->kernel_w, g->out_w);
            if (copies && ix && is_same(wx, before)) {
                copy_words(dx + block.count, dx + block.count - channels, channels);
                block.count += channels;
                continue;
            }
            before = wx;
            average_row(g, error, wy, wx, error->scratch);
            edgelora_block_append(&block, error->scratch, channels);
        }
    }
    return error->exponent - 15 + block.shift;
}

EDGELORA_HOT int32_t edgelora_pool_backward_packed_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    if (g->op->kind == EDGELORA_AVERAGE_POOL) {
        return average_backward(g, error, dx);
    }
    for (uint32_t p = 0; p < (uint32_t)g->in_h * g->in_w; ++p, dx += g->in_c) { // mean
        copy_words(dx, error->e, g->in_c);
    }
    return error->exponent;
}
