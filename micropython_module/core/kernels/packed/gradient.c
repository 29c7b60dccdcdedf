// Dense and conv: the gradients of B and of A. SPDX-License-Identifier: MIT
//
// Columns, of the outputs' errors for B and of what the kernel reads for A, take the place of
// positions, columns of t or its error that of rows; the products go over positions, a chunk at a
// time.

#include "kernels/packed/parts.h"

typedef struct {
    // of a chunk; columns / 4 and columns of t that are multiplied together
    uint32_t groups, quads, rows;
    uint32_t words, x, patch, size; // acc: s32 [rank, quads, 4]; patch: s8 [4, patch_quads, 4]
} gradient_t;

// Of `all` quads in at most `room` bytes; quads: 0 if not even one fits. patch: bytes of a quad.
static gradient_t gradient_layout(
    uint32_t positions, uint32_t all, uint32_t rank, uint32_t patch, uint32_t room) {
    gradient_t l = {
        .groups = at_most((positions + 3) / 4, EDGELORA_CHUNK), .rows = at_most(rank, 4)};
    uint32_t fixed = 8 * l.groups * l.rows,
             quad = EDGELORA_GROUP_BYTES * l.groups + 16 * rank + patch;
    l.quads = at_most(fixed + quad <= room ? (room - fixed) / quad : 0, all);
    l.words = 16 * rank * l.quads;
    l.x = l.words + fixed;
    l.patch = l.x + EDGELORA_GROUP_BYTES * l.groups * l.quads;
    l.size = l.patch + patch * l.quads;
    return l;
}

static gradient_t b_layout(const edgelora_shape_t *g, uint32_t rank) {
    uint32_t all = (g->out_c + 3u) / 4;
    gradient_t l = gradient_layout(g->positions, all, rank, 0, EDGELORA_TILE_BYTES);
    return l.quads ? l : gradient_layout(g->positions, 1, rank, 0, UINT32_MAX);
}

uint32_t edgelora_b_gradient_packed_scratch(const edgelora_shape_t *g, uint32_t rank) {
    return rank && g->op->kind != EDGELORA_DENSE ? b_layout(g, rank).size : 0;
}

// A group of 4 positions as quads: their columns, s8 [4 * quads] at `rows`, 4-aligned. The first of
// a column's values is in the upper half.
EDGELORA_KERNEL static void pack_columns(
    uint32_t *quad, uint32_t step, const int8_t *const rows[4], uint32_t quads) {
    for (uint32_t k = 0; k < 2; ++k, quad += 4) {
        const uint32_t *upper = (const uint32_t *)(const void *)rows[k],
                       *lower = (const uint32_t *)(const void *)rows[k + 2];
        uint32_t *to = quad;
        for (const uint32_t *end = upper + quads; upper != end; to += step) {
            uint32_t a = *upper++ ^ 0x80808080u, b = *lower++ ^ 0x80808080u;
            uint32_t low = a << 16 | (b & 0xFFFF), high = (a & 0xFFFF0000u) | b >> 16;
            to[0] = evens(low);
            to[1] = odds(low);
            to[2] = evens(high);
            to[3] = odds(high);
        }
    }
}

// The same, one value after the other, of positions that are `channels` apart; those from `count`
// on are 0.
EDGELORA_KERNEL static void pack_odd_columns(uint32_t *quad, uint32_t step, const int8_t *e,
    uint32_t channels, uint32_t columns, uint32_t count) {
    for (uint32_t c = 0; c < columns; ++c, ++quad) {
        const int8_t *at = e + c;
        uint32_t v[4] = {0};
        for (uint32_t k = 0; k < 4 && k < count; ++k, at += channels) {
            v[k] = (uint32_t)(int32_t)*at;
        }
        quad[0] = pair(v[2], v[0]);
        quad[4] = pair(v[3], v[1]);
        if ((c & 3) == 3) {
            quad += step - 4;
        }
    }
}

// What the products of a tile's columns go along with: t or its error, s8 [positions, rank].
typedef struct {
    const int8_t *t;
    uint32_t rank;
    const int32_t *bias; // s32 [rank], that the sums start from
} factor_t;

// acc: s32 [rank, columns] += the products of n positions from p on.
EDGELORA_HOT static void multiply_chunk(const gradient_t *l, const factor_t *factor, uint8_t *s,
    uint32_t columns, uint32_t p, uint32_t n) {
    int32_t *acc = (int32_t *)(void *)s;
    edgelora_tile_product_t row = {.x = (const uint32_t *)(const void *)(s + l->x),
        .count = columns,
        .coding = EDGELORA_PAIRS,
        .weights = s + l->words,
        .add = p > 0,
        .groups = (n + 3) / 4};
    uint32_t rank = factor->rank;
    for (uint32_t j = 0; j < rank; j += row.rows) {
        row.rows = at_most(rank - j, l->rows);
        edgelora_unpack_taps_s8((uint32_t *)(void *)(s + l->words), row.groups,
            (const uint8_t *)factor->t + p * rank + j, row.rows, 1, 0, n, rank, EDGELORA_SIGNED);
        row.acc = acc + j * columns;
        row.bias = factor->bias + j;
        edgelora_tile_product_s8(&row);
    }
}

// One position: a row of the gradient for each factor, += factor * (v - zero point).
EDGELORA_HOT static void outer_gradient(const int8_t *factor, uint32_t rows, const int8_t *v,
    int32_t zero_point, uint32_t count, int32_t *gradient, int32_t shift) {
    int32_t n = at_most_31(shift), mask = shift_mask(n);
    for (; rows; --rows, gradient += count) {
        int32_t f = *factor++;
#pragma GCC unroll 4
        for (uint32_t i = 0; f && i < count; ++i) {
            gradient[i] += trunc_mask((v[i] - zero_point) * f, n, mask);
        }
    }
}

EDGELORA_HOT void edgelora_b_gradient_packed_s8(const edgelora_shape_t *g, uint32_t rank,
    const edgelora_error_t *error, const int8_t *t, int32_t *gradient, int32_t shift) {
    static const int32_t none[EDGELORA_MAX_RANK];
    if (g->op->kind == EDGELORA_DENSE) {
        outer_gradient(error->e, g->out_c, t, 0, rank, gradient, shift);
        return;
    }
    uint8_t *s = error->scratch;
    gradient_t l = b_layout(g, rank);
    const int32_t *acc = (const int32_t *)(const void *)s;
    uint32_t channels = g->out_c;
    factor_t factor = {t, rank, none};
    for (uint32_t o = 0; o < channels; o += 4 * l.quads) {
        uint32_t count = at_most(channels - o, 4 * l.quads), padded = (count + 3) & ~3u;
        for (uint32_t p = 0; p < g->positions; p += 4 * EDGELORA_CHUNK) {
            uint32_t n = at_most(g->positions - p, 4 * EDGELORA_CHUNK),
                     step = EDGELORA_GROUP_WORDS * ((n + 3) / 4);
            uint32_t *x = (uint32_t *)(void *)(s + l.x);
            const int8_t *e = error->e + p * channels + o;
            for (uint32_t k = 0; k < n; k += 4, x += EDGELORA_GROUP_WORDS, e += 4 * channels) {
                if (k + 4 <= n && !(channels & 3)) {
                    const int8_t *third = e + 2 * channels,
                                 *const rows[4] = {e, e + channels, third, third + channels};
                    pack_columns(x, step, rows, padded / 4);
                } else {
                    pack_odd_columns(x, step, e, channels, count, n - k);
                }
            }
            multiply_chunk(&l, &factor, s, padded, p, n);
        }
        int32_t right = at_most_31(shift), mask = shift_mask(right);
        for (uint32_t k = 0; k < count; ++k) {
            for (uint32_t j = 0, i = k; j < rank; ++j, i += padded) {
                *gradient++ += trunc_mask(acc[i], right, mask);
            }
        }
    }
}

// What a kernel reads lies in runs: rows of the kernel or, if they are dilated, single elements.
typedef struct {
    uint32_t count, length, quads; // of a run: values, quads
} runs_t;

static runs_t runs_of(const edgelora_shape_t *g) {
    bool rows = g->op->dilation_w == 1;
    uint32_t count = rows ? g->kernel_h : (uint32_t)g->kernel_h * g->kernel_w,
             length = rows ? (uint32_t)g->kernel_w * g->in_c : g->in_c;
    return (runs_t){count, length, (length + 3) / 4};
}

// Values [c, c + count) of a run at a position: where they are if they can be read from there, else
// in `patch`, the zero point beside the input. count: a multiple of 4 but for the last values.
EDGELORA_HOT static const int8_t *run_at(const edgelora_shape_t *g, const int8_t *x, uint32_t run,
    const edgelora_cursor_t *at, uint32_t c, uint32_t count, int8_t *patch) {
    const edgelora_op_t *op = g->op;
    bool rows = op->dilation_w == 1;
    uint32_t ky = rows ? run : run / g->kernel_w, kx = rows ? 0 : run % g->kernel_w,
             width = (uint32_t)g->in_w * g->in_c;
    int32_t iy = (int32_t)(at->y * op->stride_h + ky * op->dilation_h) - op->pad_top,
            ix = (int32_t)(at->x * op->stride_w + kx * op->dilation_w) - op->pad_left;
    bool inside = iy >= 0 && iy < g->in_h;
    int32_t from = ix * (int32_t)g->in_c + (int32_t)c, to = from + (int32_t)count;
    const int8_t *row = inside ? x + (uint32_t)iy * width : x;
    if (inside && from >= 0 && to <= (int32_t)width && !(count & 3) && is_aligned(row + from)) {
        return row + from;
    }
    int32_t first = clamp_s32(from, 0, (int32_t)width), end = clamp_s32(to, 0, (int32_t)width);
    uint32_t middle = inside && end > first ? (uint32_t)(end - first) : 0,
             left = middle ? (uint32_t)(first - from) : 0;
    int8_t *behind = copy_fours_s8(fill_s8(patch, left, g->zp_in), row + first, middle);
    fill_s8(behind, count - left - middle, g->zp_in);
    return patch;
}

// Packs what the kernel reads at the n positions from `at` on: quads [from, from + quads).
EDGELORA_HOT static void pack_runs(const edgelora_shape_t *g, const runs_t *runs, const int8_t *x,
    edgelora_cursor_t *at, uint32_t n, uint32_t from, uint32_t quads, uint32_t *to, int8_t *patch) {
    uint32_t step = EDGELORA_GROUP_WORDS * ((n + 3) / 4);
    for (uint32_t k = 0; k < n; k += 4, to += EDGELORA_GROUP_WORDS) {
        edgelora_cursor_t four[4]; // positions that there aren't meet errors of 0
        for (uint32_t i = 0; i < 4; ++i) {
            four[i] = *at;
            if (k + i < n) {
                cursor_next(at);
            }
        }
        uint32_t run = from / runs->quads, first = from % runs->quads, *quad = to;
        for (uint32_t left = quads, count; left; left -= count, ++run, first = 0) {
            count = at_most(left, runs->quads - first);
            uint32_t values = at_most(4 * count, runs->length - 4 * first);
            const int8_t *rows[4];
            for (uint32_t i = 0; i < 4; ++i) {
                rows[i] = run_at(g, x, run, &four[i], 4 * first, values, patch + 4 * i * quads);
            }
            pack_columns(quad, step, rows, count);
            quad += step * count;
        }
    }
}

// gradient: s32 [rank, K] += acc: s32 [rank, quads, 4], of the quads from `from` on.
EDGELORA_HOT static void add_runs(const edgelora_shape_t *g, const runs_t *runs, uint32_t rank,
    const int32_t *acc, uint32_t from, uint32_t quads, int32_t *gradient, int32_t shift) {
    uint32_t run = from / runs->quads, first = from % runs->quads;
    for (uint32_t left = quads, count; left; left -= count, ++run, first = 0, acc += 4 * count) {
        count = at_most(left, runs->quads - first);
        uint32_t values = at_most(4 * count, runs->length - 4 * first);
        for (uint32_t j = 0; j < rank; ++j) {
            edgelora_add_shifted_s32(gradient + j * g->inputs + run * runs->length + 4 * first,
                acc + 4 * quads * j, at_most_31(shift), values);
        }
    }
}

// In the memory that the op's other kernels have. patch: 4 values at each of 4 positions.
static gradient_t a_layout(const edgelora_shape_t *g, uint32_t rank) {
    runs_t runs = runs_of(g);
    return gradient_layout(g->positions, runs.count * runs.quads, rank, 16,
        edgelora_packed_scratch(g, rank, true));
}

bool edgelora_a_gradient_is_packed(const edgelora_shape_t *g, uint32_t rank) {
    return g->op->kind == EDGELORA_DENSE || a_layout(g, rank).quads;
}

EDGELORA_HOT void edgelora_a_gradient_packed_s8(const edgelora_shape_t *g, uint32_t rank,
    const edgelora_error_t *error, int32_t *gradient, int32_t shift) {
    if (g->op->kind == EDGELORA_DENSE) {
        outer_gradient(error->t_error, rank, error->x, g->zp_in, g->inputs, gradient, shift);
        return;
    }
    uint8_t *s = error->scratch;
    runs_t runs = runs_of(g);
    uint32_t all = runs.count * runs.quads;
    gradient_t l = a_layout(g, rank);
    const int32_t *acc = (const int32_t *)(const void *)s;
    int32_t bias[EDGELORA_MAX_RANK] = {0}; // x - zp is what counts
    for (uint32_t j = 0; j < rank && g->zp_in; ++j) {
        for (uint32_t i = j; i < g->positions * rank; i += rank) {
            bias[j] += error->t_error[i];
        }
        bias[j] *= -g->zp_in;
    }
    factor_t factor = {error->t_error, rank, bias};
    for (uint32_t q = 0; q < all; q += l.quads) {
        uint32_t quads = at_most(all - q, l.quads);
        edgelora_cursor_t at = {0, 0, g->out_w};
        for (uint32_t p = 0; p < g->positions; p += 4 * EDGELORA_CHUNK) {
            uint32_t n = at_most(g->positions - p, 4 * EDGELORA_CHUNK);
            pack_runs(g, &runs, error->x, &at, n, q, quads, (uint32_t *)(void *)(s + l.x),
                (int8_t *)s + l.patch);
            multiply_chunk(&l, &factor, s, 4 * quads, p, n);
        }
        add_runs(g, &runs, rank, acc, q, quads, gradient, shift);
    }
}
