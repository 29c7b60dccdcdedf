// Kernels on packed pairs of values. SPDX-License-Identifier: MIT
//
// A convolution works on blocks of output positions, as many as fit some kilobytes: their patches are packed, 4 positions
// to a quad, then each output's row of weights is unpacked once and multiplied with all of them. A single position takes its
// rows as they lie in the model.

#include "kernels/packed/packed.h"
#include "kernels/packed/primitives.h"

enum {
    BLOCK_BYTES = 6144,  // what a block is made to fit, if it can
    MAX_BYTES = 16384,   // no fast kernel above
    GROUP_BYTES = 32,    // of a quad
    ACC_BYTES = 1024, MAX_ROWS = 8,
    UP_BYTES = 512, // of B, unpacked at a time
    MAX_PRODUCT = 127 * 128,
    DENSE_TILE = 64,
};

static const uint32_t FLIP = 0x80808080u;

// A block's parts in the scratch memory; offsets in bytes.
typedef struct {
    uint32_t groups, t_groups; // of a position's inputs and t
    uint32_t stride;           // bytes of a quad: [t, inputs]
    uint32_t quads;            // of a block; 0: single position
    uint32_t rows;             // that are done together
    uint32_t acc;              // s32 [rows, quads, 4]; single position: s32 [O], bias and branch
    uint32_t words;            // E and O of a row that is not whole groups
    uint32_t up, up_rows;      // E and O of so many rows of B
    uint32_t low;              // s32 [rank]: t's bias, -zp_in * sums of A's rows
    uint32_t t;                // s8 [quads, 4, t_groups * 4]
    uint32_t patch;            // s8 [groups * 4]
    uint32_t x;                // quads
    uint32_t size;
} block_t;

static block_t block_layout(uint32_t positions, uint32_t inputs, uint32_t outputs, uint32_t rank) {
    block_t b = {.groups = (inputs + 3) / 4, .t_groups = (rank + 3) / 4};
    bool single = positions <= 2;
    uint32_t row = inputs & 3 ? 8 * b.groups : 0, up = 0;
    if (rank && !single) {
        b.up_rows = UP_BYTES / 8 / b.t_groups;
        b.up_rows = outputs < b.up_rows ? outputs : b.up_rows;
        up = 8 * b.t_groups * b.up_rows;
    }
    b.stride = single ? 8 * (b.groups + 3) + 12 : GROUP_BYTES * (b.groups + b.t_groups);
    if (!single) {
        uint32_t fixed = ACC_BYTES + row + up + 4 * rank + 4 * b.groups, quad = b.stride + 16 * b.t_groups;
        uint32_t fit = fixed + quad < BLOCK_BYTES ? (BLOCK_BYTES - fixed) / quad : 1, all = (positions + 3) / 4;
        uint32_t blocks = (all + fit - 1) / fit;
        b.quads = (all + blocks - 1) / blocks;
        b.rows = ACC_BYTES / 16 / b.quads;
        b.rows = b.rows > MAX_ROWS ? MAX_ROWS : b.rows < 1 ? 1 : b.rows;
    }
    b.words = single ? (rank ? 4 * outputs : 0) : 16 * b.quads * b.rows;
    b.up = b.words + (single ? 0 : row);
    b.low = b.up + up;
    b.t = b.low + 4 * rank;
    b.patch = b.t + (single ? 1 : 4 * b.quads) * 4 * b.t_groups;
    b.x = b.patch + 4 * b.groups;
    b.size = b.x + (single ? b.stride : b.quads * b.stride);
    return b;
}

// E and O of `count` bytes, s8 (flip 0x80) or offset binary (0).
EDGELORA_KERNEL static void unpack(uint32_t *words, const uint8_t *from, uint32_t count, uint32_t step, uint32_t flip) {
    for (uint32_t i = 0; i < count; i += 4, words += 2) {
        uint32_t v[4];
        for (uint32_t k = 0; k < 4; ++k) {
            v[k] = i + k < count ? (*from ^ flip) - 128 : 0;
            from += step;
        }
        words[0] = pair(v[0], v[2]);
        words[1] = pair(v[1], v[3]);
    }
}

static int32_t sum_s8(const int8_t *v, uint32_t n) {
    int32_t sum = 0;
    while (n--) {
        sum += *v++;
    }
    return sum;
}

static inline bool is_aligned(const void *p) {
    return ((uintptr_t)p & 3) == 0;
}

static inline int8_t *fill_s8(int8_t *to, uint32_t n, int8_t v) {
    for (; n; --n) {
        __asm volatile(""); // a loop, no call of memset: n is small
        *to++ = v;
    }
    return to;
}

static inline int8_t *copy_s8(int8_t *to, const int8_t *from, uint32_t n) {
    for (; n >= 4; n -= 4, to += 4, from += 4) {
        int8_t a = from[0], b = from[1], c = from[2], d = from[3];
        to[0] = a;
        to[1] = b;
        to[2] = c;
        to[3] = d;
    }
    for (; n; --n) {
        *to++ = *from++;
    }
    return to;
}

// One axis of a window: the kernel elements [from, to) that read inside the input; the first of all reads at `start`.
typedef struct {
    int32_t start;
    uint32_t from, to;
} axis_t;

static axis_t window(uint32_t at, uint32_t stride, uint32_t pad, uint32_t dilation, uint32_t kernel, uint32_t size) {
    axis_t w = {(int32_t)(at * stride) - (int32_t)pad, 0, kernel};
    while (w.from < w.to && w.start + (int32_t)(w.from * dilation) < 0) {
        ++w.from;
    }
    while (w.to > w.from && w.start + (int32_t)((w.to - 1) * dilation) >= (int32_t)size) {
        --w.to;
    }
    return w;
}

// The K inputs of output position (oy, ox) and zeros up to a whole group.
EDGELORA_KERNEL static void gather(const edgelora_shape_t *g, const int8_t *x, const axis_t *wy, const axis_t *wx, int8_t *patch) {
    const edgelora_op_t *op = g->op;
    uint32_t channels = g->in_c, row = g->kernel_w * channels, step = (uint32_t)op->dilation_h * g->in_w * channels;
    uint32_t left = wx->from * channels, middle = (wx->to - wx->from) * channels, right = row - left - middle;
    uint32_t rows = wy->to - wy->from, below = (g->kernel_h - wy->to) * row, apart = op->dilation_w * channels;
    int8_t edge = g->zp_in, *to = fill_s8(patch, wy->from * row, edge);
    int32_t first = (wy->start + (int32_t)(wy->from * op->dilation_h)) * g->in_w + wx->start + (int32_t)(wx->from * op->dilation_w);
    const int8_t *in = rows && middle ? x + first * (int32_t)channels : x;
    for (; rows; --rows, in += step) {
        to = fill_s8(to, left, edge);
        if (apart == channels) {
            to = copy_s8(to, in, middle);
        } else {
            const int8_t *from = in;
            for (uint32_t n = middle; n; n -= channels, from += apart) {
                to = copy_s8(to, from, channels);
            }
        }
        to = fill_s8(to, right, edge);
    }
    to = fill_s8(to, below, edge);
    fill_s8(to, -g->inputs & 3, 0);
}

EDGELORA_HOT static uint32_t *fill_quad(uint32_t *quad, uint32_t groups, int32_t v) {
    uint32_t word = pair((uint32_t)v, (uint32_t)v);
    for (; groups; --groups, quad += 8) {
        quad[0] = word;
        quad[4] = word;
    }
    return quad;
}

EDGELORA_HOT static uint32_t *pack_quad(uint32_t *quad, const int8_t *x, uint32_t groups) {
    if (groups) {
        edgelora_pack_quad_s8(quad, x, groups);
    }
    return quad + 8 * groups;
}

// Packs position (oy, ox)'s inputs into its part of a quad.
EDGELORA_HOT static void pack_position(
    const edgelora_shape_t *g, const int8_t *x, uint32_t oy, uint32_t ox, int8_t *patch, uint32_t *quad) {
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
    axis_t wy = window(oy, op->stride_h, op->pad_top, op->dilation_h, g->kernel_h, g->in_h);
    axis_t wx = window(ox, op->stride_w, op->pad_left, op->dilation_w, g->kernel_w, g->in_w);
    if (!aligned) {
        gather(g, x, &wy, &wx, patch);
        edgelora_pack_quad_s8(quad, patch, groups);
        return;
    }
    quad = fill_quad(quad, wy.from * g->kernel_w * taps, g->zp_in);
    for (uint32_t ky = wy.from; ky < wy.to; ++ky) {
        const int8_t *in = x + ((wy.start + (int32_t)(ky * op->dilation_h)) * g->in_w + wx.start) * g->in_c;
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

// Rows of `groups`, chunk by chunk; a quad takes `stride` bytes.
EDGELORA_HOT static void row_chunks(edgelora_row_t *whole, uint32_t groups, uint32_t stride) {
    if (groups <= EDGELORA_CHUNK) {
        whole->groups = groups;
        whole->skip = stride - GROUP_BYTES * (groups + whole->up_groups);
        whole->gap = 0;
        edgelora_row_s8(whole);
        return;
    }
    edgelora_row_t row = *whole;
    uint32_t group_bytes = row.flip == 1 ? 8 : 4, row_bytes = group_bytes * groups;
    while (groups) {
        row.groups = groups < EDGELORA_CHUNK ? groups : EDGELORA_CHUNK;
        row.skip = stride - GROUP_BYTES * (row.groups + row.up_groups);
        row.gap = row_bytes - group_bytes * row.groups;
        edgelora_row_s8(&row);
        groups -= row.groups;
        row.x += GROUP_BYTES / 4 * (row.groups + row.up_groups);
        row.weights = (const uint8_t *)row.weights + group_bytes * row.groups;
        row.add = 1;
        row.up_groups = 0;
    }
}

static inline int8_t output_s8(const edgelora_shape_t *g, int32_t acc, uint32_t o) {
    uint32_t y = (uint32_t)requantize(acc, g->multiplier[o], g->shift[o]) + (uint32_t)g->zp_out;
    return (int8_t)clamp_s32((int32_t)y, g->op->act_min, g->op->act_max);
}

// |bias| <= limit for all outputs.
EDGELORA_HOT static bool biases_within(const edgelora_shape_t *g, int32_t limit) {
    for (uint32_t o = 0; o < g->out_c; ++o) {
        if (g->bias[o] > limit || g->bias[o] < -limit) {
            return false;
        }
    }
    return true;
}

// |acc| < EDGELORA_SMALL for all outputs.
EDGELORA_HOT static bool is_small(const edgelora_shape_t *g, const edgelora_branch_t *branch) {
    uint32_t inputs = g->is_matrix ? g->inputs : (uint32_t)g->kernel_h * g->kernel_w; // of an output
    uint32_t sum = inputs * MAX_PRODUCT, up = branch ? 127 * 127 * branch->rank : 0;
    int32_t room = (int32_t)(EDGELORA_SMALL - 1 - sum - (up ? (uint32_t)round_shift((int32_t)up, -branch->branch_shift) : 0));
    return biases_within(g, room);
}

// The outputs y[o, o + rows) of `count` positions.
EDGELORA_HOT static void requantize_rows(const edgelora_shape_t *g, uint32_t o, edgelora_output_t *output, int8_t *y) {
    if (g->right) {
        output->multiplier = g->multiplier + o;
        output->shift = g->shift + o;
        output->y = y + o;
        edgelora_requantize_rows_s8(output);
        return;
    }
    const int32_t *acc = output->acc;
    for (uint32_t end = o + output->rows; o < end; ++o, acc += (output->count + 3) & ~3u) {
        for (uint32_t p = 0; p < output->count; ++p) {
            y[p * g->out_c + o] = output_s8(g, acc[p], o);
        }
    }
}

static edgelora_output_t output_of(const edgelora_shape_t *g, const int32_t *acc) {
    return (edgelora_output_t){.acc = acc, .step = g->out_c, .zero_point = g->zp_out, .low = g->op->act_min, .high = g->op->act_max};
}

// What a layer's blocks have in common.
typedef struct {
    bool small; // is_small
    bool joins;        // B t goes along with the rows
    struct {
        uint16_t from, groups; // of inputs that a row of A looks at: at least one
    } part[EDGELORA_MAX_RANK];
} layer_t;

// The branch of a block: t for all positions, into the quads and to t if it is to be kept.
EDGELORA_HOT static void block_down(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const block_t *b, const layer_t *layer, uint8_t *scratch, uint32_t count,
    int8_t *t) {
    uint32_t rank = branch->rank, width = 4 * b->t_groups, padded = (count + 3) & ~3u;
    int32_t *acc = (int32_t *)(void *)(scratch + b->acc);
    uint32_t *x = (uint32_t *)(void *)(scratch + b->x);
    int8_t *packed = (int8_t *)scratch + b->t;
    bool direct = (g->inputs & 3) == 0;
    edgelora_row_t row = {.acc = acc, .count = padded, .flip = direct ? FLIP : 1, .rows = 1};
    for (uint32_t j = 0; j < rank; ++j) {
        uint32_t from = layer->part[j].from, groups = layer->part[j].groups, n = g->inputs - 4 * from;
        row.bias = (const int32_t *)(const void *)(scratch + b->low) + j;
        row.x = x + GROUP_BYTES / 4 * (b->t_groups + from);
        row.weights = branch->a + j * g->inputs + 4 * from;
        if (!direct) {
            unpack((uint32_t *)(void *)(scratch + b->words), row.weights, n < 4 * groups ? n : 4 * groups, 1, 0x80);
            row.weights = scratch + b->words;
        }
        row_chunks(&row, groups, b->stride);
        edgelora_low_row_s8(packed + j, width, acc, padded, branch->t_shift);
    }
    for (uint32_t j = rank; j < width; ++j) {
        for (uint32_t p = 0; p < padded; ++p) {
            packed[p * width + j] = 0;
        }
    }
    edgelora_pack_quads_s8(x, b->stride, packed, padded, b->t_groups);
    if (t && rank == width) {
        copy_s8(t, packed, count * rank);
    } else if (t) {
        for (uint32_t p = 0; p < count; ++p, packed += width) {
            t = copy_s8(t, packed, rank);
        }
    }
}

// -zp_in * the sums of A's rows, and where in the inputs these are not 0
EDGELORA_HOT static void branch_bias(const edgelora_shape_t *g, const edgelora_branch_t *branch, layer_t *layer, int32_t *low) {
    const int8_t *a = branch->a;
    bool words = (g->inputs & 3) == 0;
    for (uint32_t j = 0; j < branch->rank; ++j, a += g->inputs) {
        uint32_t from = 0, to = (g->inputs + 3) / 4;
        const uint32_t *group = (const uint32_t *)(const void *)a;
        while (words && from + 1 < to && !group[from]) {
            ++from;
        }
        while (words && to > from + 1 && !group[to - 1]) {
            --to;
        }
        layer->part[j].from = (uint16_t)from;
        layer->part[j].groups = (uint16_t)(to - from);
        low[j] = g->zp_in ? -g->zp_in * sum_s8(a + 4 * from, words ? 4 * (to - from) : g->inputs) : 0;
    }
}

EDGELORA_HOT static void block_forward(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const block_t *b, const layer_t *layer, uint8_t *scratch, bool first,
    uint32_t count, int8_t *y) {
    static const int32_t none[MAX_ROWS];
    int32_t *acc = (int32_t *)(void *)(scratch + b->acc);
    uint32_t *words = (uint32_t *)(void *)(scratch + b->words), *up = (uint32_t *)(void *)(scratch + b->up);
    const uint32_t *x = (const uint32_t *)(const void *)(scratch + b->x);
    uint32_t rank = branch->rank;
    bool direct = (g->inputs & 3) == 0, joins = layer->joins;
    edgelora_row_t row = {.x = x + (joins ? 0 : GROUP_BYTES / 4 * b->t_groups), .acc = acc, .count = (count + 3) & ~3u,
        .up_groups = joins ? b->t_groups : 0, .up_shift = -branch->branch_shift, .flip = !direct, .groups = b->groups, .add = !joins};
    edgelora_output_t output = output_of(g, acc);
    output.count = count;
    output.is_small = layer->small;
    for (uint32_t o = 0; o < g->out_c; o += row.rows) {
        row.rows = !direct ? 1 : g->out_c - o < b->rows ? g->out_c - o : b->rows;
        uint32_t done = rank ? o % b->up_rows : 0, left = rank ? b->up_rows - done : row.rows;
        row.rows = row.rows < left ? row.rows : left;
        row.bias = g->bias + o;
        row.up = up + done * 2 * b->t_groups;
        if (rank && !done && (first || g->out_c > b->up_rows)) {
            uint32_t n = g->out_c - o < b->up_rows ? g->out_c - o : b->up_rows;
            uint32_t whole = rank & 3 ? 1 : n; // rows without padding are one
            for (uint32_t r = 0; r < n; r += whole) {
                unpack(up + r * 2 * b->t_groups, (const uint8_t *)branch->b + (o + r) * rank, whole * rank, 1, 0x80);
            }
        }
        if (!joins) { // acc = bias + round_shift(B t), then the products
            edgelora_row_t low = row;
            low.bias = none;
            low.add = 0;
            low.x = x;
            low.weights = row.up;
            low.flip = 1;
            row_chunks(&low, b->t_groups, b->stride);
            for (uint32_t i = 0; i < row.rows * row.count; ++i) {
                acc[i] = (int32_t)((uint32_t)round_shift(acc[i], row.up_shift) + (uint32_t)row.bias[i / row.count]);
            }
        }
        row.weights = g->weights + o * g->inputs;
        if (!direct) {
            unpack(words, row.weights, g->inputs, 1, 0);
            row.weights = words;
        }
        row_chunks(&row, b->groups, b->stride);
        output.rows = row.rows;
        requantize_rows(g, o, &output, y);
    }
}

// Packs a row of inputs behind `lead` zeros, and zeros up to the word after an even number of groups.
static inline void pack_row(uint32_t *to, const int8_t *x, uint32_t inputs, uint32_t lead) {
    uint32_t groups = (lead + inputs + 3) / 4;
    if (!lead && (inputs & 3) == 0 && is_aligned(x)) {
        edgelora_pack_row_s8(to, x, groups);
        to += 2 * groups;
    } else {
        for (uint32_t at = 0u - lead, i = 0; i < groups; ++i, at += 4) {
            uint32_t v[4];
            for (uint32_t k = 0; k < 4; ++k) {
                v[k] = at + k < inputs ? (uint32_t)(int32_t)x[at + k] : 0; // before the row, at + k is huge
            }
            *to++ = pair(v[2], v[0]);
            *to++ = pair(v[3], v[1]);
        }
    }
    if (groups & 1) {
        *to++ = 0;
        *to++ = 0;
    }
    *to = 0;
}

// The outputs of one position; x: room for its words. A row that doesn't start at a multiple of 4 is read from there, with as
// many zeros before its inputs.
EDGELORA_HOT static inline void single_rows(
    const edgelora_shape_t *g, const int8_t *in, uint32_t *x, const int32_t *bias, int8_t *y) {
    edgelora_rows_t rows;
    rows.x = x;
    rows.weights = g->weights;
    rows.step = g->inputs;
    rows.rows = g->out_c;
    rows.bias = bias;
    rows.multiplier = g->multiplier;
    rows.shift = g->shift;
    rows.y = y;
    rows.zero_point = g->zp_out;
    rows.low = g->op->act_min;
    rows.high = g->op->act_max;
    rows.pairs = (g->inputs + 7) / 8;
    if ((g->inputs & 3) == 0) {
        pack_row(x, in, g->inputs, 0);
        edgelora_rows_s8(&rows);
        return;
    }
    rows.rows = 1;
    for (uint32_t k = 0, classes = g->inputs & 1 ? 4 : 2; k < classes && k < g->out_c; ++k) {
        uint32_t lead = (uint32_t)((uintptr_t)(g->weights + k * g->inputs) & 3);
        pack_row(x, in, g->inputs, lead);
        rows.pairs = (lead + g->inputs + 7) / 8;
        for (uint32_t o = k; o < g->out_c; o += classes) {
            rows.weights = g->weights + o * g->inputs - lead;
            rows.bias = bias + o;
            rows.multiplier = g->multiplier + o;
            rows.shift = g->shift + o;
            rows.y = y + o;
            edgelora_rows_s8(&rows);
        }
    }
}

EDGELORA_HOT static void single_forward(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const block_t *b, const layer_t *layer, uint8_t *scratch, const int8_t *in,
    int8_t *y, int8_t *t) {
    int32_t *bias = (int32_t *)(void *)(scratch + b->acc);
    uint32_t *x = (uint32_t *)(void *)(scratch + b->x);
    const int32_t *from = g->bias;
    if (branch->rank) {
        int8_t *low = (int8_t *)scratch + b->t;
        const int32_t *low_bias = (const int32_t *)(const void *)(scratch + b->low);
        for (uint32_t j = 0; j < branch->rank; ++j) {
            const int8_t *a = branch->a + j * g->inputs;
            uint32_t from = 4u * layer->part[j].from, to = from + 4u * layer->part[j].groups;
            int32_t v = low_bias[j]; // rows of A are few: in plain C
            for (uint32_t i = from; i < to && i < g->inputs; ++i) {
                v += a[i] * in[i];
            }
            low[j] = (int8_t)clamp_s32(round_shift(v, branch->t_shift), -127, 127);
            if (t) {
                t[j] = low[j];
            }
        }
        const int8_t *row = branch->b;
        for (uint32_t o = 0; o < g->out_c; ++o) {
            int32_t v = 0;
            for (uint32_t j = 0; j < branch->rank; ++j) {
                v += *row++ * low[j];
            }
            bias[o] = g->bias[o] + round_shift(v, -branch->branch_shift);
        }
        from = bias;
    }
    if (g->right) {
        single_rows(g, in, x, from, y);
        return;
    }
    for (uint32_t o = 0; o < g->out_c; ++o) { // rare: in plain C
        const uint8_t *w = g->weights + o * g->inputs;
        int32_t v = from[o];
        for (uint32_t i = 0; i < g->inputs; ++i) {
            v += (w[i] - 128) * in[i];
        }
        y[o] = output_s8(g, v, o);
    }
}

// A 1x1 convolution whose positions are the input's, of whole groups.
static bool takes_input_as_it_is(const edgelora_shape_t *g) {
    const edgelora_op_t *op = g->op;
    return g->inputs == g->in_c && (g->in_c & 3) == 0 && !op->pad_top && !op->pad_left && g->out_h == g->in_h && g->out_w == g->in_w &&
        op->stride_h == 1 && op->stride_w == 1;
}

EDGELORA_KERNEL static void matrix_forward(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const int8_t *x, int8_t *y, int8_t *t, void *scratch) {
    block_t b = block_layout(g->positions, g->inputs, g->out_c, branch->rank);
    uint8_t *s = scratch;
    int8_t *patch = (int8_t *)s + b.patch;
    layer_t layer;
    layer.joins = layer.small = false;
    branch_bias(g, branch, &layer, (int32_t *)(void *)(s + b.low));
    if (b.quads) {
        int32_t n = -branch->branch_shift;
        layer.small = is_small(g, branch);
        layer.joins = b.t_groups <= EDGELORA_UP_GROUPS && (!b.t_groups || n <= 0 || biases_within(g, (1 << (30 - n)) - 1));
    }
    bool in_place = takes_input_as_it_is(g) && is_aligned(x);
    uint32_t oy = 0, ox = 0;
    for (uint32_t p = 0; p < g->positions;) {
        uint32_t count = b.quads ? 4 * b.quads : 1;
        count = g->positions - p < count ? g->positions - p : count;
        if (!b.quads) {
            const int8_t *in = x;
            if (g->op->kind != EDGELORA_DENSE) {
                axis_t wy = window(oy, g->op->stride_h, g->op->pad_top, g->op->dilation_h, g->kernel_h, g->in_h);
                axis_t wx = window(ox, g->op->stride_w, g->op->pad_left, g->op->dilation_w, g->kernel_w, g->in_w);
                gather(g, x, &wy, &wx, patch);
                in = patch;
            }
            single_forward(g, branch, &b, &layer, s, in, y, t);
            ox = ox + 1 < g->out_w ? ox + 1 : 0;
            oy += !ox;
        } else {
            if (in_place) {
                edgelora_pack_quads_s8((uint32_t *)(void *)(s + b.x) + GROUP_BYTES / 4 * b.t_groups, b.stride, x + p * g->in_c, count, b.groups);
            }
            for (uint32_t k = 0; k < count && !in_place; ++k) {
                uint32_t *quad = (uint32_t *)(void *)(s + b.x + (k >> 2) * b.stride);
                pack_position(g, x, oy, ox, patch, quad + GROUP_BYTES / 4 * b.t_groups + (k & 3));
                ox = ox + 1 < g->out_w ? ox + 1 : 0;
                oy += !ox;
            }
            if (branch->rank) {
                block_down(g, branch, &b, &layer, s, count, t);
            }
            block_forward(g, branch, &b, &layer, s, p == 0, count, y);
        }
        p += count;
        y += count * g->out_c;
        t = t ? t + count * branch->rank : 0;
    }
}

EDGELORA_HOT void edgelora_matrix_forward_fast_s8(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const int8_t *x, int8_t *y, int8_t *t, void *scratch) {
    if (g->op->kind == EDGELORA_DENSE && !branch->rank && g->right) { // nothing in the way
        single_rows(g, x, scratch, g->bias, y);
    } else {
        matrix_forward(g, branch, x, y, t, scratch);
    }
}

// Depthwise, 3x3: a strip of output rows of one channel at a time. With stride 1 the columns are in parts of up to
// EDGELORA_STRIP, each with its plane.
typedef struct {
    uint32_t left;   // words before the first column
    uint32_t pitch;  // words of an input row
    uint32_t parts, width; // stride 1: number of parts, columns of all but the last
    uint32_t rows;   // of output in a strip
    uint32_t in_rows;
    uint32_t each;   // outputs requantized together
    uint32_t acc;    // bytes of the planes; then s32 [each, rows * out_w, padded]
    uint32_t size;
} strip_t;

static strip_t strip_layout(const edgelora_shape_t *g) {
    const edgelora_op_t *op = g->op;
    strip_t s = {.parts = 1};
    if (op->stride_h == 1 && op->stride_w == 1) {
        s.left = 1;
        s.pitch = EDGELORA_STRIP_PITCH;
        s.parts = (g->out_w + EDGELORA_STRIP - 1u) / EDGELORA_STRIP;
        s.width = (g->out_w + s.parts - 1u) / s.parts;
    } else {
        s.left = op->pad_left > 1 ? op->pad_left : 1;
        uint32_t width = ((g->out_w + 1) & ~1u) * op->stride_w + 4;
        s.pitch = s.left + (width > g->in_w + 1u ? width : g->in_w + 1u);
    }
    uint32_t in_row = 4 * s.pitch * s.parts, row = in_row * op->stride_h + 4 * g->out_w;
    uint32_t fixed = in_row * (op->stride_h > 3 ? 0 : 3u - op->stride_h) + 4 * s.parts;
    s.rows = fixed + row < BLOCK_BYTES ? (BLOCK_BYTES - fixed) / row : 1;
    s.rows = s.rows < g->out_h ? s.rows : g->out_h;
    uint32_t strips = (g->out_h + s.rows - 1) / s.rows;
    s.rows = (g->out_h + strips - 1) / strips;
    s.in_rows = (s.rows - 1) * op->stride_h + 3;
    s.acc = in_row * s.in_rows + (s.width ? 4 * s.parts : 0);
    uint32_t acc = 4 * ((s.rows * g->out_w + 3) & ~3u);
    s.each = 2 * ACC_BYTES / acc;
    s.each = s.each > MAX_ROWS ? MAX_ROWS : s.each < 1 ? 1 : s.each;
    s.size = s.acc + acc * s.each;
    return s;
}

// What is the same for all channels in a part of the columns: input columns [start, start + n); plane column 0 is input column
// `first` - pad_left.
EDGELORA_HOT static void strip_part(
    const edgelora_shape_t *g, const strip_t *s, uint32_t part, uint32_t *plane, edgelora_plane_t *in, edgelora_strip_t *strip, uint32_t *start) {
    uint32_t first = part * s->width, width = g->out_w - first < s->width ? g->out_w - first : s->width;
    int32_t column = (int32_t)first - g->op->pad_left, from = column < 0 ? 0 : column, to = column + (int32_t)width + 2;
    to = to < g->in_w ? to : g->in_w;
    strip->x = plane + 1 + part * (s->pitch * s->in_rows + 1);
    strip->out_w = width;
    strip->gap = 4 * (g->out_w - width);
    in->plane = (uint32_t *)(void *)strip->x + (from - column);
    in->n = to > from ? (uint32_t)(to - from) : 0;
    *start = (uint32_t)from;
}

// Stride 1: `rows` output rows from `oy` on
EDGELORA_HOT static void strip_forward(
    const edgelora_shape_t *g, const strip_t *s, uint32_t oy, uint32_t rows, edgelora_output_t *output, const int8_t *x, int8_t *y,
    uint32_t *plane, int32_t *acc) {
    int32_t top = (int32_t)oy - g->op->pad_top, bottom = top + (int32_t)rows + 2;
    int32_t from = top < 0 ? 0 : top, to = bottom < g->in_h ? bottom : g->in_h;
    uint32_t each = g->out_c / g->in_c, padded = (output->count + 3) & ~3u, start = 0;
    uint32_t above = (uint32_t)(from - top) * EDGELORA_STRIP_PITCH;
    edgelora_plane_t in = {.pitch = 4 * EDGELORA_STRIP_PITCH, .step = g->in_c, .row = (uint32_t)g->in_w * g->in_c,
        .rows = to > from ? (uint32_t)(to - from) : 0, .edge = g->zp_in};
    edgelora_strip_t strip = {.top = top < 0, .step = g->out_c, .zero_point = g->zp_in, .acc_step = 4 * padded};
    strip.bottom = bottom > g->in_h && strip.top < rows;
    strip.middle = rows - strip.top - strip.bottom;
    x += (uint32_t)from * g->in_w * g->in_c;
    for (uint32_t o = 0; o < g->out_c; o += output->rows) {
        output->rows = g->out_c - o < s->each ? g->out_c - o : s->each;
        for (uint32_t part = 0; part < s->parts; ++part) {
            strip_part(g, s, part, plane, &in, &strip, &start);
            in.plane += above;
            strip.acc = acc + part * s->width;
            for (uint32_t k = o, end = o + output->rows; k < end; k += strip.channels, strip.acc += padded) {
                bool fill = k % each == 0 || k == o; // channels of one input share a plane
                strip.channels = each == 1 ? output->rows : 1;
                strip.weights = g->weights + k;
                strip.bias = g->bias + k;
                strip.plane = fill && in.rows && in.n ? &in : 0;
                in.x = x + start * g->in_c + k / each;
                edgelora_strip_s8(&strip);
            }
        }
        requantize_rows(g, o, output, y);
    }
}

EDGELORA_HOT void edgelora_depthwise_forward_fast_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y, void *scratch) {
    const edgelora_op_t *op = g->op;
    strip_t s = strip_layout(g);
    bool small = is_small(g, 0);
    uint32_t *plane = scratch, each = g->out_c / g->in_c;
    int32_t *acc = (int32_t *)(void *)((uint8_t *)scratch + s.acc);
    for (uint32_t oy = 0; oy < g->out_h; oy += s.rows) {
        uint32_t rows = g->out_h - oy < s.rows ? g->out_h - oy : s.rows;
        for (uint32_t i = 0; i < s.acc / 4; ++i) {
            plane[i] = pair((uint32_t)g->zp_in, (uint32_t)g->zp_in);
        }
        edgelora_output_t output = output_of(g, acc);
        output.count = rows * g->out_w;
        output.is_small = small;
        if (s.width) {
            strip_forward(g, &s, oy, rows, &output, x, y + (uint32_t)oy * g->out_w * g->out_c, plane, acc);
            continue;
        }
        int32_t top = (int32_t)(oy * op->stride_h) - op->pad_top, bottom = top + (int32_t)((rows - 1) * op->stride_h) + 3;
        int32_t from = top < 0 ? 0 : top, to = bottom < g->in_h ? bottom : g->in_h;
        edgelora_plane_t in = {.plane = plane + (uint32_t)(from - top) * s.pitch + s.left, .pitch = 4 * s.pitch, .step = g->in_c,
            .row = (uint32_t)g->in_w * g->in_c, .n = g->in_w, .rows = (uint32_t)(to - from), .edge = g->zp_in};
        edgelora_taps_t taps = {.x = plane + s.left - op->pad_left, .pitch = 4 * s.pitch, .down = 4 * s.pitch * op->stride_h,
            .stride = op->stride_w, .out_h = rows, .out_w = g->out_w, .acc = acc};
        uint32_t padded = (output.count + 3) & ~3u, left = 0; // outputs left of the channel in the plane
        in.x = x + (uint32_t)from * g->in_w * g->in_c;
        for (uint32_t o = 0; o < g->out_c; o += output.rows) {
            output.rows = g->out_c - o < s.each ? g->out_c - o : s.each;
            taps.acc = acc;
            for (uint32_t k = 0; k < output.rows; ++k, taps.acc += padded) {
                if (!left) {
                    if (to > from) {
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
            requantize_rows(g, o, &output, y + (uint32_t)oy * g->out_w * g->out_c);
        }
    }
}

EDGELORA_HOT void edgelora_mask_s8(const int8_t *y, uint32_t count, int32_t low, int32_t high, uint8_t *mask) {
    uint32_t whole = count >> 3, width = high > low + 1 ? (uint32_t)(high - low - 1) : 0, rest = 0;
    if (whole) {
        edgelora_mask_bytes_s8(mask, y, whole, low + 1, width);
    }
    for (uint32_t i = 8 * whole; i < count; ++i) {
        rest |= (uint32_t)(y[i] > low && y[i] < high) << (i & 7);
    }
    if (count & 7) {
        mask[whole] = (uint8_t)rest;
    }
}

// Backward

// trunc_shift with n and 2^n - 1 at hand; |v| < 2^31
static inline int32_t trunc_mask(int32_t v, int32_t n, int32_t mask) {
    return (v + ((v >> 31) & mask)) >> n;
}

static inline int32_t shift_mask(int32_t n) {
    return (int32_t)((1u << n) - 1);
}

static inline int32_t at_most_31(int32_t n) {
    return n > 31 ? 31 : n;
}

// An int8 block that is written column by column (SPEC.md: block): `done` positions of all `step` columns and, of the
// `count` positions behind them, the columns before the one that is next.
typedef struct {
    int8_t *q;
    uint32_t step, done;
    int32_t shift;
} columns_t;

EDGELORA_KERNEL static void rescale(int8_t *q, uint32_t n, int32_t shift) {
    int32_t mask = shift_mask(shift);
    for (; n; --n, ++q) {
        *q = (int8_t)trunc_mask(*q, shift, mask);
    }
}

EDGELORA_KERNEL static uint32_t magnitude_bits(const int32_t *v, uint32_t n) {
    uint32_t bits = 0;
    for (; n; --n) {
        int32_t sign = *v >> 31;
        bits |= (uint32_t)((*v++ ^ sign) - sign);
    }
    return bits;
}

EDGELORA_KERNEL static void store_column(int8_t *q, uint32_t step, const int32_t *v, uint32_t n, int32_t shift) {
    int32_t mask = shift_mask(shift);
    for (uint32_t i = 0, end = n * step; i < end; i += step) {
        q[i] = (int8_t)trunc_mask(*v++, shift, mask);
    }
}

// v: s32 [columns, padded], the columns from `first` on of the next `count` positions
EDGELORA_HOT static void columns_put(columns_t *b, uint32_t first, uint32_t columns, uint32_t count, uint32_t padded, const int32_t *v) {
    uint32_t bits = 0;
    for (uint32_t c = 0; c < columns; ++c) {
        bits |= magnitude_bits(v + c * padded, count);
    }
    int32_t shift = bit_length(bits) - 7;
    if (shift > b->shift) {
        int32_t more = at_most_31(shift - b->shift);
        rescale(b->q, b->done * b->step, more);
        for (uint32_t p = 0; p < count && first; ++p) {
            rescale(b->q + (b->done + p) * b->step, first, more);
        }
        b->shift = shift;
    }
    int8_t *q = b->q + b->done * b->step + first;
    for (uint32_t c = 0; c < columns; ++c) {
        store_column(q + c, b->step, v + c * padded, count, b->shift);
    }
}

// v += trunc_shift(w, n)
EDGELORA_KERNEL static void add_shifted(int32_t *v, const int32_t *w, int32_t n, uint32_t count) {
    int32_t mask = shift_mask(n);
    for (; count; --count, ++v) {
        *v += trunc_mask(*w++, n, mask);
    }
}

// v = trunc_shift(v, n) + trunc_shift(w, m), one of n and m 0
EDGELORA_HOT static void join(int32_t *v, int32_t n, int32_t *w, int32_t m, uint32_t count) {
    if (!n) {
        add_shifted(v, w, m, count);
        return;
    }
    add_shifted(w, v, n, count);
    for (; count; --count) {
        *v++ = *w++;
    }
}

// Parts of the scratch memory where rows are columns of a matrix: `taps` parts of `parts` groups, behind those of the low rank.
typedef struct {
    uint32_t groups, low_groups; // of a position
    uint32_t stride, quads, rows;
    uint32_t acc, low;           // s32 [rows, quads, 4]
    uint32_t words;              // E and O of `rows` rows
    uint32_t patch;              // s8 [longest part, padded]
    uint32_t x, size;
} transposed_t;

static transposed_t layout_of(uint32_t positions, uint32_t groups, uint32_t low_groups, uint32_t part) {
    transposed_t b = {.groups = groups, .low_groups = low_groups, .stride = GROUP_BYTES * (groups + low_groups)};
    uint32_t longest = groups > low_groups ? groups : low_groups, all = (positions + 3) / 4;
    b.rows = 1024 / (8 * longest);
    b.rows = b.rows > 4 ? 4 : b.rows < 1 ? 1 : b.rows;
    uint32_t fixed = 8 * longest * b.rows + 4 * part, quad = b.stride + 32 * b.rows;
    uint32_t fit = fixed + quad < BLOCK_BYTES ? (BLOCK_BYTES - fixed) / quad : 1, blocks = (all + fit - 1) / fit;
    b.quads = (all + blocks - 1) / blocks;
    b.low = 16 * b.quads * b.rows;
    b.words = 2 * b.low;
    b.patch = b.words + 8 * longest * b.rows;
    b.x = b.patch + 4 * part;
    b.size = b.x + b.quads * b.stride;
    return b;
}

// The input error: rows are the weights of an input channel.
static transposed_t transposed_layout(const edgelora_shape_t *g, uint32_t rank) {
    uint32_t taps = g->op->kind == EDGELORA_DENSE ? 1 : (uint32_t)g->kernel_h * g->kernel_w;
    uint32_t part = (g->out_c + 3u) / 4, low = (rank + 3) / 4;
    if (g->op->kind == EDGELORA_DENSE) {
        return (transposed_t){.size = 8 * DENSE_TILE, .low = 4 * DENSE_TILE};
    }
    return layout_of((uint32_t)g->in_h * g->in_w, taps * part, taps * low, part > low ? part : low);
}

// B^T a: rows are columns of B.
static transposed_t columns_layout(const edgelora_shape_t *g, uint32_t rank) {
    (void)rank;
    uint32_t part = (g->out_c + 3u) / 4;
    return layout_of(g->positions, part, 0, part);
}

// Packs n values; patch: room for them.
EDGELORA_HOT static uint32_t *pack_part(uint32_t *quad, const int8_t *from, uint32_t n, int8_t *patch) {
    if ((n & 3) || !is_aligned(from)) {
        fill_s8(copy_s8(patch, from, n), -n & 3, 0);
        from = patch;
    }
    return pack_quad(quad, from, (n + 3) / 4);
}

EDGELORA_HOT static void pack_errors(const edgelora_shape_t *g, uint32_t iy, uint32_t ix, const int8_t *e, uint32_t n, int8_t *patch, uint32_t *quad) {
    const edgelora_op_t *op = g->op;
    uint32_t groups = (n + 3) / 4;
    for (uint32_t ky = 0; ky < g->kernel_h; ++ky) {
        int32_t sy = (int32_t)(iy + op->pad_top) - (int32_t)(ky * op->dilation_h);
        bool in_y = sy >= 0 && (op->stride_h == 1 || sy % op->stride_h == 0) && (sy = op->stride_h == 1 ? sy : sy / op->stride_h) < g->out_h;
        for (uint32_t kx = 0; kx < g->kernel_w; ++kx) {
            int32_t sx = (int32_t)(ix + op->pad_left) - (int32_t)(kx * op->dilation_w);
            if (in_y && sx >= 0 && (op->stride_w == 1 || sx % op->stride_w == 0) && (sx = op->stride_w == 1 ? sx : sx / op->stride_w) < g->out_w) {
                quad = pack_part(quad, e + ((uint32_t)sy * g->out_w + (uint32_t)sx) * n, n, patch);
            } else {
                quad = fill_quad(quad, groups, 0);
            }
        }
    }
}

// E and O of `rows` columns from `from` on: s8 or offset binary [taps][n], a tap's columns `tap` bytes behind the one before,
// elements `step` apart.
EDGELORA_HOT static void unpack_columns(
    uint32_t *words, uint32_t groups, const uint8_t *from, uint32_t rows, uint32_t taps, uint32_t tap, uint32_t n, uint32_t step, uint32_t flip) {
    uint32_t part = (n + 3) / 4;
    for (uint32_t t = 0; t < taps; ++t, from += tap, words += 2 * part) {
        if (rows == 4 && !((uintptr_t)from & 3) && !(step & 3) && !(n & 3)) {
            edgelora_unpack_columns_s8(words, groups * 8, from, step, part, flip * 0x01010101u);
            continue;
        }
        for (uint32_t r = 0; r < rows; ++r) {
            unpack(words + r * 2 * groups, from + r, n, step, flip);
        }
    }
}

// dense: tiles of inputs
EDGELORA_HOT static int32_t dense_backward(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const int8_t *a, int32_t n, const int8_t *u, int32_t m, int8_t *dx, uint8_t *scratch) {
    int32_t *acc = (int32_t *)(void *)scratch, *low = acc + DENSE_TILE;
    columns_t b = {dx, 1, 0, 0};
    for (uint32_t i = 0; i < g->inputs; i += DENSE_TILE) {
        uint32_t count = g->inputs - i < DENSE_TILE ? g->inputs - i : DENSE_TILE;
        for (uint32_t c = 0; c < 2 * DENSE_TILE; ++c) {
            acc[c] = 0;
        }
        for (uint32_t o = 0; o < g->out_c; ++o) {
            const uint8_t *w = g->weights + o * g->inputs + i;
            int32_t v = a[o];
            for (uint32_t c = 0; c < count && v; ++c) {
                acc[c] += (w[c] - 128) * v;
            }
        }
        for (uint32_t j = 0; j < branch->rank; ++j) {
            const int8_t *w = branch->a + j * g->inputs + i;
            int32_t v = u[j];
            for (uint32_t c = 0; c < count && v; ++c) {
                low[c] += w[c] * v;
            }
        }
        if (branch->rank) {
            join(acc, n, low, m, count);
        }
        columns_put(&b, 0, 1, count, count, acc);
        b.done += count;
    }
    return b.shift;
}

EDGELORA_HOT int32_t edgelora_input_backward_fast_s8(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const int8_t *a, int32_t a_exponent, const int8_t *u,
    int32_t u_exponent, int8_t *dx, void *scratch) {
    uint8_t *s = scratch;
    int32_t low_exponent = u_exponent + branch->branch_shift - branch->t_shift;
    int32_t exponent = branch->rank && low_exponent > a_exponent ? low_exponent : a_exponent;
    int32_t n = at_most_31(exponent - a_exponent), m = branch->rank ? at_most_31(exponent - low_exponent) : 0;
    if (g->op->kind == EDGELORA_DENSE) {
        return exponent + dense_backward(g, branch, a, n, u, m, dx, s);
    }
    transposed_t b = transposed_layout(g, branch->rank);
    columns_t out = {dx, g->in_c, 0, 0};
    int32_t *acc = (int32_t *)(void *)(s + b.acc), *low = (int32_t *)(void *)(s + b.low), none[MAX_ROWS] = {0};
    uint32_t *x = (uint32_t *)(void *)(s + b.x), *words = (uint32_t *)(void *)(s + b.words);
    uint32_t taps = (uint32_t)g->kernel_h * g->kernel_w, iy = 0, ix = 0, positions = (uint32_t)g->in_h * g->in_w;
    for (uint32_t p = 0; p < positions;) {
        uint32_t count = positions - p < 4 * b.quads ? positions - p : 4 * b.quads, padded = (count + 3) & ~3u;
        for (uint32_t k = 0; k < count; ++k) {
            uint32_t *quad = x + (k >> 2) * (b.stride / 4) + (k & 3);
            if (branch->rank) {
                pack_errors(g, iy, ix, u, branch->rank, (int8_t *)s + b.patch, quad);
            }
            pack_errors(g, iy, ix, a, g->out_c, (int8_t *)s + b.patch, quad + GROUP_BYTES / 4 * b.low_groups);
            ix = ix + 1 < g->in_w ? ix + 1 : 0;
            iy += !ix;
        }
        edgelora_row_t row = {.count = padded, .bias = none, .flip = 1, .weights = words};
        for (uint32_t c = 0; c < g->in_c; c += row.rows) {
            row.rows = g->in_c - c < b.rows ? g->in_c - c : b.rows;
            unpack_columns(words, b.groups, g->weights + c, row.rows, taps, g->in_c, g->out_c, g->inputs, 0);
            row.x = x + GROUP_BYTES / 4 * b.low_groups;
            row.acc = acc;
            row_chunks(&row, b.groups, b.stride);
            if (branch->rank) {
                unpack_columns(words, b.low_groups, (const uint8_t *)branch->a + c, row.rows, taps, g->in_c, branch->rank, g->inputs, 0x80);
                row.x = x;
                row.acc = low;
                row_chunks(&row, b.low_groups, b.stride);
                join(acc, n, low, m, row.rows * padded);
            }
            columns_put(&out, c, row.rows, count, padded, acc);
        }
        p += count;
        out.done += count;
    }
    return exponent + out.shift;
}

EDGELORA_HOT int32_t edgelora_branch_backward_fast_s8(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const int8_t *a, int8_t *u, int32_t exponent, void *scratch) {
    uint8_t *s = scratch;
    transposed_t b = columns_layout(g, branch->rank);
    columns_t out = {u, branch->rank, 0, 0};
    int32_t *acc = (int32_t *)(void *)(s + b.acc), none[MAX_ROWS] = {0};
    uint32_t *x = (uint32_t *)(void *)(s + b.x), *words = (uint32_t *)(void *)(s + b.words);
    for (uint32_t p = 0; p < g->positions;) {
        uint32_t count = g->positions - p < 4 * b.quads ? g->positions - p : 4 * b.quads, padded = (count + 3) & ~3u;
        for (uint32_t k = 0; k < count; ++k, a += g->out_c) {
            pack_part(x + (k >> 2) * (b.stride / 4) + (k & 3), a, g->out_c, (int8_t *)s + b.patch);
        }
        edgelora_row_t row = {.x = x, .acc = acc, .count = padded, .bias = none, .flip = 1, .weights = words};
        for (uint32_t j = 0; j < branch->rank; j += row.rows) {
            row.rows = branch->rank - j < b.rows ? branch->rank - j : b.rows;
            unpack_columns(words, b.groups, (const uint8_t *)branch->b + j, row.rows, 1, 0, g->out_c, branch->rank, 0x80);
            row_chunks(&row, b.groups, b.stride);
            columns_put(&out, j, row.rows, count, padded, acc);
        }
        p += count;
        out.done += count;
    }
    return exponent + out.shift;
}

// dB: outputs are the positions of quads, rows are the columns of t, and the products go over positions, a chunk at a time.
typedef struct {
    uint32_t groups, quads, rows; // of a chunk; outputs / 4 and columns of t that are done together
    uint32_t words, x, size;      // acc: s32 [rank, quads, 4]
} gradient_t;

static gradient_t gradient_layout(const edgelora_shape_t *g, uint32_t rank) {
    gradient_t b = {.groups = (g->positions + 3) / 4};
    b.groups = b.groups < EDGELORA_CHUNK ? b.groups : EDGELORA_CHUNK;
    b.rows = rank < 4 ? rank : 4;
    uint32_t fixed = 8 * b.groups * b.rows, quad = GROUP_BYTES * b.groups + 16 * rank, all = (g->out_c + 3u) / 4;
    uint32_t fit = fixed + quad < BLOCK_BYTES ? (BLOCK_BYTES - fixed) / quad : 1;
    b.quads = fit < all ? fit : all;
    b.words = 16 * rank * b.quads;
    b.x = b.words + 8 * b.groups * b.rows;
    b.size = b.x + GROUP_BYTES * b.groups * b.quads;
    return b;
}

// Packs column after column: e: s8 [positions, channels], 4 columns a quad of `groups` groups.
EDGELORA_KERNEL static void pack_columns(
    uint32_t *quad, const int8_t *e, uint32_t channels, uint32_t columns, uint32_t positions, uint32_t groups) {
    for (uint32_t c = 0; c < columns; ++c, ++quad) {
        const int8_t *at = e + c;
        uint32_t *to = quad;
        for (uint32_t p = 0; p < 4 * groups; p += 4, to += 8) {
            uint32_t v[4] = {0};
            for (uint32_t k = 0; k < 4 && p + k < positions; ++k, at += channels) {
                v[k] = (uint32_t)(int32_t)*at;
            }
            to[0] = pair(v[2], v[0]);
            to[4] = pair(v[3], v[1]);
        }
        if ((c & 3) == 3) {
            quad += 8 * groups - 4;
        }
    }
}

EDGELORA_HOT void edgelora_b_gradient_fast_s8(
    const edgelora_shape_t *g, uint32_t rank, const int8_t *e, const int8_t *t, int32_t *gradient, int32_t shift, void *scratch) {
    uint8_t *s = scratch;
    gradient_t b = gradient_layout(g, rank);
    int32_t *acc = (int32_t *)(void *)s, none[MAX_ROWS] = {0};
    uint32_t *words = (uint32_t *)(void *)(s + b.words), *x = (uint32_t *)(void *)(s + b.x);
    for (uint32_t o = 0; o < g->out_c; o += 4 * b.quads) {
        uint32_t count = g->out_c - o < 4 * b.quads ? g->out_c - o : 4 * b.quads, padded = (count + 3) & ~3u;
        edgelora_row_t row = {.x = x, .count = padded, .bias = none, .flip = 1, .weights = words};
        for (uint32_t p = 0; p < g->positions; p += 4 * EDGELORA_CHUNK) {
            uint32_t n = g->positions - p < 4 * EDGELORA_CHUNK ? g->positions - p : 4 * EDGELORA_CHUNK;
            row.groups = (n + 3) / 4;
            pack_columns(x, e + p * g->out_c + o, g->out_c, count, n, row.groups);
            for (uint32_t j = 0; j < rank; j += row.rows) {
                row.rows = rank - j < b.rows ? rank - j : b.rows;
                unpack_columns(words, row.groups, (const uint8_t *)t + p * rank + j, row.rows, 1, 0, n, rank, 0x80);
                row.acc = acc + j * padded;
                edgelora_row_s8(&row);
            }
            row.add = 1;
        }
        for (uint32_t k = 0; k < count; ++k) {
            for (uint32_t j = 0; j < rank; ++j) {
                gradient[(o + k) * rank + j] += trunc_shift(acc[j * padded + k], shift);
            }
        }
    }
}

// The transposed depthwise 3x3 kernel over the plane of errors, with zeros between them where the stride is 2.
static strip_t transposed_strip_layout(const edgelora_shape_t *g) {
    strip_t s = {.left = 3};
    uint32_t width = ((g->in_w + 1u) & ~1u) + 4, spread = (g->out_w - 1u) * g->op->stride_w + 2;
    s.pitch = s.left + (width > spread ? width : spread);
    uint32_t row = 4 * s.pitch + 4 * g->in_w, fixed = 8 * s.pitch + 4;
    s.rows = fixed + row < BLOCK_BYTES ? (BLOCK_BYTES - fixed) / row : 1;
    s.rows = s.rows < g->in_h ? s.rows : g->in_h;
    uint32_t strips = (g->in_h + s.rows - 1) / s.rows;
    s.rows = (g->in_h + strips - 1) / strips;
    s.in_rows = s.rows + 2;
    s.acc = 4 * s.pitch * s.in_rows;
    s.size = s.acc + 4 * s.rows * g->in_w;
    return s;
}

EDGELORA_HOT int32_t edgelora_depthwise_backward_fast_s8(const edgelora_shape_t *g, const int8_t *a, int32_t exponent, int8_t *dx, void *scratch) {
    const edgelora_op_t *op = g->op;
    strip_t s = transposed_strip_layout(g);
    uint32_t *plane = scratch;
    int32_t *acc = (int32_t *)(void *)((uint8_t *)scratch + s.acc);
    columns_t out = {dx, g->in_c, 0, 0};
    for (uint32_t iy = 0; iy < g->in_h; iy += s.rows) {
        uint32_t rows = g->in_h - iy < s.rows ? g->in_h - iy : s.rows, count = rows * g->in_w;
        for (uint32_t i = 0; i < s.pitch * s.in_rows; ++i) {
            plane[i] = 0;
        }
        // the plane's row 0 is that of the last kernel row for input row iy; error row oy stands at oy * stride
        int32_t top = (int32_t)iy + op->pad_top - 2, bottom = top + (int32_t)rows + 2;
        int32_t from = top < 0 ? 0 : (top + op->stride_h - 1) / op->stride_h, to = bottom <= 0 ? 0 : (bottom - 1) / op->stride_h + 1;
        to = to < g->out_h ? to : g->out_h;
        uint32_t *first = plane + (uint32_t)(from * op->stride_h - top) * s.pitch + s.left;
        edgelora_taps_t taps = {.x = plane + s.left + op->pad_left - 2, .pitch = 4 * s.pitch, .down = 4 * s.pitch, .stride = 1,
            .out_h = rows, .out_w = g->in_w, .acc = acc};
        for (uint32_t c = 0; c < g->in_c; ++c) {
            edgelora_plane_t in = {.plane = first, .pitch = 4 * s.pitch * op->stride_h, .x = a + (uint32_t)from * g->out_w * g->out_c + c, .step = g->out_c,
                .row = (uint32_t)g->out_w * g->out_c, .n = g->out_w, .rows = (uint32_t)(to - from)};
            if (to > from && op->stride_w == 1) {
                edgelora_plane_s8(&in);
            }
            for (; to > from && op->stride_w == 2 && in.rows; --in.rows, in.plane += s.pitch * op->stride_h, in.x += in.row) {
                for (uint32_t i = 0; i < in.n; ++i) {
                    int32_t v = in.x[i * in.step];
                    in.plane[2 * (int32_t)i - 1] = pair((uint32_t)v, 0);
                    in.plane[2 * i] = pair(0, (uint32_t)v);
                }
            }
            const uint8_t *w = g->weights + c + 8 * g->out_c; // from the last weight to the first
            for (uint32_t r = 0; r < 3; ++r, w -= 3 * g->out_c) {
                taps.w[2 * r] = pair((uint32_t)(w[0] - 128), (uint32_t)(*(w - g->out_c) - 128));
                taps.w[2 * r + 1] = pair((uint32_t)(*(w - 2 * g->out_c) - 128), 0);
            }
            edgelora_taps_s8(&taps);
            columns_put(&out, c, 1, count, count, acc);
        }
        out.done += count;
    }
    return exponent + out.shift;
}

// The OR of |e * m| of a column; end: its rows * step
EDGELORA_KERNEL static uint32_t column_bits(const int8_t *e, uint32_t step, uint32_t end, int32_t m) {
    uint32_t bits = 0;
    for (uint32_t i = 0; i < end; i += step) {
        int32_t v = e[i] * m, sign = v >> 31;
        bits |= (uint32_t)((v ^ sign) - sign);
    }
    return bits;
}

EDGELORA_KERNEL static void scale_column(int8_t *e, uint32_t step, uint32_t end, int32_t m, int32_t shift) {
    int32_t mask = shift_mask(shift);
    for (uint32_t i = 0; i < end; i += step) {
        e[i] = (int8_t)trunc_mask(e[i] * m, shift, mask);
    }
}

EDGELORA_HOT int32_t edgelora_requantize_backward_fast_s8(
    int8_t *e, uint32_t rows, uint32_t channels, const int32_t *multiplier, const int8_t *shift, bool per_channel, int top, int32_t exponent) {
    int32_t n = 0;
    for (int pass = 0; pass < 2; ++pass) { // first the magnitude, then the values
        uint32_t bits = 0;
        for (uint32_t c = 0; c < channels; ++c) {
            uint32_t k = per_channel ? c : 0;
            int right = 16 + top - shift[k];
            int32_t m = right > 31 ? 0 : multiplier[k] >> right;
            if (pass) {
                scale_column(e + c, channels, rows * channels, m, n);
            } else {
                bits |= column_bits(e + c, channels, rows * channels, m);
            }
        }
        if (!pass) {
            n = bit_length(bits) - 7;
            n = n < 0 ? 0 : n;
        }
    }
    return exponent + top - 15 + n;
}

EDGELORA_HOT void edgelora_mask_backward_fast_s8(int8_t *e, uint32_t count, const uint8_t *mask) {
    for (; count >= 8; count -= 8, e += 8) {
        uint32_t stopped = *mask++ ^ 255u;
        for (int8_t *at = e; stopped; stopped >>= 1, ++at) {
            if (stopped & 1) {
                *at = 0;
            }
        }
    }
    for (uint32_t i = 0; i < count; ++i) {
        if (!(*mask >> i & 1)) {
            e[i] = 0;
        }
    }
}

uint32_t edgelora_fast_scratch(const edgelora_shape_t *g, uint32_t rank, bool backward) {
    const edgelora_op_t *op = g->op;
    uint32_t size = 0;
    if (g->is_matrix) {
        size = block_layout(g->positions, g->inputs, g->out_c, rank).size;
        if (backward) {
            uint32_t sizes[3] = {transposed_layout(g, rank).size, rank ? columns_layout(g, rank).size : 0, rank ? gradient_layout(g, rank).size : 0};
            for (uint32_t i = 0; i < 3; ++i) {
                size = sizes[i] > size ? sizes[i] : size;
            }
        }
    } else if (op->kind == EDGELORA_DEPTHWISE && g->kernel_h == 3 && g->kernel_w == 3 && op->dilation_h == 1 && op->dilation_w == 1 &&
               op->stride_w <= 2 && op->pad_left <= 2 && (!backward || g->in_c == g->out_c)) {
        size = strip_layout(g).size;
        if (backward) {
            uint32_t more = transposed_strip_layout(g).size;
            size = more > size ? more : size;
        }
    }
    return size <= MAX_BYTES ? size : 0;
}
