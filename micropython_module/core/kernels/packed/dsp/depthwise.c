// Depthwise 3x3, forward.
// SPDX-License-Identifier: MIT
//
// Copies rows of channels to planes, four channels at a time if words of x hold four. A plane's
// words are non-overlapping pairs; two adjacent outputs read two of them, three with stride 2:
//
//   | a b | c d | e f |   weights of a kernel row u v w, as pairs (u v) and (v w)
//   stride 1:  a u + b v + c w,  b u + c v + d w
//   stride 2:  a u + b v + c w,  c u + d v + e w
//
// SMLAD computes two of the products, SMLABT and SMLATB one. Sums of eight outputs stay in
// registers until they are bytes: 5 instructions each, as doubled sums save a shift of SMMLAR's
// operand.

#include "kernels/packed/dsp/dsp.h"
#include "kernels/packed/extras.h"

#ifdef EDGELORA_DSP

enum { PLANES = 4, STRIP_OUTPUTS = 8, ROW_WEIGHTS = 2, CHANNEL_WEIGHTS = 3 * ROW_WEIGHTS };

// Planes in the scratch memory.
typedef struct {
    uint32_t planes;   // channels at a time: 4 or 1
    uint32_t pitch;    // words of a plane's row
    uint32_t rows;     // of output, at a time
    uint32_t plane;    // words of a plane
    uint32_t from, to; // elements of a row with inputs
} layout_t;

// One row of one channel fits wherever rows of overlapping words do.
static layout_t layout(const edgelora_shape_t *g, uint32_t planes, uint32_t room) {
    uint32_t stride = g->op->stride_w, pairs = (g->out_w + 1u) / 2;
    layout_t l = {.pitch = pairs * stride + 1, .from = g->op->pad_left};
    l.to = at_most(l.from + g->in_w, 2 * l.pitch);
    for (l.planes = planes;; l.planes = 1) {
        uint32_t times = 1;
        do {
            l.rows = (g->out_h + times - 1) / times;
            l.plane = ((l.rows - 1) * g->op->stride_h + 3) * l.pitch;
            ++times;
        } while (l.rows > 1 && 4 * l.planes * l.plane > room);
        bool fits = 4 * l.planes * l.plane <= room; // a row of four wide planes may not fit
        if (l.planes == 1 || (fits && l.rows >= at_most(PLANES, g->out_h))) {
            return l;
        }
    }
}

// Some columns of one channel. Sums, weights and bias are doubled for SMMLAR.
typedef struct {
    int32_t multiplier, n, start; // n: 1..21; start: half of 2^n and the zero point times 2^n
    const uint32_t *x;
    uint32_t out_pitch;           // bytes from one output row's input to the next
    int8_t *y;                    // the row's last output with an even place
    uint32_t step, y_gap;         // bytes from one output to the next, from before a row to y
    const int8_t *y_end;          // y after the last row
    int32_t bias;                 // doubled
    uint32_t pitch;               // bytes
    uint32_t w[CHANNEL_WEIGHTS];  // doubled
    uint32_t pairs, outputs;      // bytes of code that a row's 4 and 8 skip
} strip_t;

// Follows it in the stack frame: code of the first pairs of the third kernel row and of the first
// output; `pairs` and `outputs` become those of the first and second kernel row.
typedef struct {
    strip_t s;
    uint32_t first_2, first_output;
} strip_frame_t;

// Two outputs, sums a and b, of words from byte x on; from: the values they add to.
#define PAIR_1(x, next, a, b, from_a, from_b) \
    "ldrd r12, lr, [r0, #" x " / 2]\n" \
    "smlad " a ", r12, r1, " from_a "\n" \
    "smlatb " b ", r12, r1, " from_b "\n" \
    "smlabt " a ", lr, r2, " a "\n" \
    "smlad " b ", lr, r2, " b "\n"
#define PAIR_2(x, next, a, b, from_a, from_b) \
    "ldrd r12, lr, [r0, #" x "]\n" \
    "smlad " a ", r12, r1, " from_a "\n" \
    "smlabt " a ", lr, r2, " a "\n" \
    "smlad " b ", lr, r1, " from_b "\n" \
    "ldr r12, [r0, #" next "]\n" \
    "smlabt " b ", r12, r2, " b "\n"

// Bytes of code of a pair, of an output with an odd and with an even place.
enum { PAIR_1_CODE = 20, PAIR_2_CODE = 24, ODD_CODE = 20, EVEN_CODE = 24 };

// The first kernel row's sums start from the bias.
#define FIRST_ROW(pair) \
    pair("24", "32", "r10", "r11", "r3", "r3") pair("16", "24", "r8", "r9", "r3", "r3") \
    pair("8", "16", "r6", "r7", "r3", "r3") pair("0", "8", "r4", "r5", "r3", "r3")
#define NEXT_ROW(pair) \
    pair("24", "32", "r10", "r11", "r10", "r11") pair("16", "24", "r8", "r9", "r8", "r9") \
    pair("8", "16", "r6", "r7", "r6", "r7") pair("0", "8", "r4", "r5", "r4", "r5")
#define TO_NEXT_ROW(weights, first) \
    "ldr r3, " SLOT(strip_frame_t.s.pitch) "\n" \
    "add r0, r0, r3\n" \
    "ldrd r1, r2, " SLOT(strip_frame_t.s.w + weights) "\n" \
    "ldr pc, " SLOT(first) "\n"
// Code of a row's first pair or output after the skipped ones.
#define FIRST(label, skip, slot) \
    "adr r2, " label "\n" \
    "add r2, r2, " skip "\n" \
    "orr r2, r2, #1\n" \
    "str r2, " SLOT(slot) "\n"

#define OUTPUT(sum, at) \
    "add r0, r3, " sum ", asr #31\n" \
    "smmlar " sum ", " sum ", r1, r0\n" \
    "asr.w " sum ", " sum ", r2\n" \
    "ssat " sum ", #8, " sum "\n" \
    "strb.w " sum ", " at "\n"
#define TWO_OUTPUTS(even, odd) \
    OUTPUT(odd, "[r12, lr]") OUTPUT(even, "[r12]") "sub.w r12, r12, lr, lsl #1\n"

// r0: x, r1, r2: weights of a kernel row, r4-r11: sums, r12, lr: words of x
#define STRIP(pair) \
    OFFSETS(strip_frame_t, s.x, s.y, s.y_gap, s.y_end, s.bias, s.pitch, s.w, s.pairs, s.outputs, \
        first_2, first_output) \
    __asm volatile( \
        ".syntax unified\n" SAVE \
        "sub sp, #" AT(strip_frame_t) "\n" \
        "mov r12, sp\n" \
        "ldmia r0!, {r1-r9}\n" \
        "stmia r12!, {r1-r9}\n" \
        "ldmia r0!, {r1-r10}\n" \
        "stmia r12!, {r1-r8}\n" \
        FIRST("2f", "r9", strip_frame_t.s.pairs) FIRST("3f", "r9", strip_frame_t.s.outputs) \
        FIRST("4f", "r9", strip_frame_t.first_2) FIRST("5f", "r10", strip_frame_t.first_output) \
        "ldr r0, " SLOT(strip_frame_t.s.x) "\n" \
        "1:\n" \
        "ldr r3, " SLOT(strip_frame_t.s.bias) "\n" \
        "ldrd r1, r2, " SLOT(strip_frame_t.s.w) "\n" \
        "ldr pc, " SLOT(strip_frame_t.s.pairs) "\n" \
        ".balign 4\n" \
        "2:\n" FIRST_ROW(pair) TO_NEXT_ROW(8, strip_frame_t.s.outputs) \
        ".balign 4\n" \
        "3:\n" NEXT_ROW(pair) TO_NEXT_ROW(16, strip_frame_t.first_2) \
        ".balign 4\n" \
        "4:\n" NEXT_ROW(pair) \
        "ldmia sp, {r1, r2, r3}\n" \
        "ldrd r12, lr, " SLOT(strip_frame_t.s.y) "\n" \
        "ldr pc, " SLOT(strip_frame_t.first_output) "\n" \
        ".balign 4\n" \
        "5:\n" TWO_OUTPUTS("r10", "r11") TWO_OUTPUTS("r8", "r9") TWO_OUTPUTS("r6", "r7") \
        TWO_OUTPUTS("r4", "r5") \
        "ldr r1, " SLOT(strip_frame_t.s.y_gap) "\n" \
        "add r12, r12, r1\n" \
        "str r12, " SLOT(strip_frame_t.s.y) "\n" \
        "ldrd r0, r1, " SLOT(strip_frame_t.s.x) "\n" \
        "add r0, r0, r1\n" \
        "str r0, " SLOT(strip_frame_t.s.x) "\n" \
        "ldr r1, " SLOT(strip_frame_t.s.y_end) "\n" \
        "cmp r12, r1\n" \
        "bne 1b\n" \
        "add sp, #" AT(strip_frame_t) "\n" RESTORE)

NAKED static void strip_of_stride_1(const strip_t *strip) {
    STRIP(PAIR_1);
}

NAKED static void strip_of_stride_2(const strip_t *strip) {
    STRIP(PAIR_2);
}

// Sets what all channels share in the columns from x on.
static inline void strip_columns(const edgelora_shape_t *g, strip_t *s, uint32_t x) {
    uint32_t width = at_most(g->out_w - x, STRIP_OUTPUTS), skip = STRIP_OUTPUTS - width;
    s->pairs = skip / 2 * (g->op->stride_w == 1 ? PAIR_1_CODE : PAIR_2_CODE);
    s->outputs = skip / 2 * (ODD_CODE + EVEN_CODE) + (skip & 1) * ODD_CODE;
    s->y_gap = (g->out_w + ((width + 1) & ~1u)) * g->out_c;
}

static inline void strip_channel(const edgelora_shape_t *g, strip_t *s, uint32_t o) {
    s->multiplier = g->multiplier[o];
    s->n = -g->shift[o];
    s->start = (1 << (s->n - 1)) + g->zp_out * (1 << s->n);
    s->bias = 2 * g->bias[o];
}

// Computes `rows` output rows of a channel from its plane; y: the first row.
EDGELORA_KERNEL static void strip_rows(
    const edgelora_shape_t *g, strip_t *s, const uint32_t *plane, int8_t *y, uint32_t rows) {
    uint32_t stride = g->op->stride_w, width = g->out_w;
    for (uint32_t x = 0; x < width; x += STRIP_OUTPUTS) {
        uint32_t last = (at_most(width - x, STRIP_OUTPUTS) - 1) & ~1u;
        if (width > STRIP_OUTPUTS) {
            strip_columns(g, s, x);
        }
        s->x = plane + x / 2 * stride;
        s->y = y + (x + last) * s->step;
        s->y_end = s->y + rows * width * s->step;
        (stride == 1 ? strip_of_stride_1 : strip_of_stride_2)(s);
    }
}

// Rows of four channels to copy to planes.
typedef struct {
    uint32_t edge;         // zero points
    uint32_t row_bytes;    // of a plane's row, to the last pair's end
    uint32_t x_gap, gap;   // bytes from the end of a row of x, of a plane, to the next one
    uint32_t first, odd, last; // 1: first word is half edge, pairs are odd, last word is half edge
    uint32_t *to;
    uint32_t plane;        // bytes
    const int8_t *x;
    uint32_t step, rows;
} four_t;

// Writes a word per plane from two inputs' words, r7 and r8: bytes 0 and 1 of both, bytes 2 and 3
#define PUT_FOUR \
    "pkhbt r9, r7, r8, lsl #16\n" \
    "pkhtb r8, r8, r7, asr #16\n" \
    "sxtb16 r7, r9\n" \
    "sxtb16 r9, r9, ror #8\n" \
    "sxtb16 r10, r8\n" \
    "sxtb16 r8, r8, ror #8\n" \
    "str r7, [r0], #4\n" \
    "str r9, [r1], #4\n" \
    "str r10, [r2], #4\n" \
    "str r8, [r3], #4\n"
#define PUT_PAIR \
    "ldr r7, [r4]\n" \
    "ldr r8, [r4, r5]\n" \
    "add r4, r4, r5, lsl #1\n" PUT_FOUR
#define CHOOSE(slot, yes, no) \
    "adr r7, " no "\n" \
    "ldr r6, " SLOT(slot) "\n" \
    "cbz r6, 1f\n" \
    "adr r7, " yes "\n" \
    "1:\n" \
    "orr r7, r7, #1\n" \
    "str r7, " SLOT(slot) "\n"

// r0-r3: planes, r4: x, r5: step, r6: end of a row's pairs, r11: rows, r12: edge
NAKED static void fill_four(const four_t *four) {
    OFFSETS(four_t, to, first, odd, last, row_bytes, x_gap)
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" AT(four_t.to) "\n"
        "ldmia r0!, {r1-r7}\n"
        "stmia sp, {r1-r7}\n"
        "mov r12, r1\n"
        "ldmia r0, {r0, r3, r4, r5, r11}\n" // to, plane, x, step, rows
        "add r1, r0, r3\n"
        "add r2, r1, r3\n"
        "add r3, r2, r3\n"
        CHOOSE(four_t.first, "3f", "8f") CHOOSE(four_t.odd, "5f", "4f")
        CHOOSE(four_t.last, "6f", "7f")
        ".balign 4\n"
        "2:\n"                 // a row
        "ldr r6, " SLOT(four_t.row_bytes) "\n"
        "add r6, r6, r0\n"
        "ldr pc, " SLOT(four_t.first) "\n"
        ".balign 4\n"
        "3:\n"
        "mov r7, r12\n"
        "ldr r8, [r4]\n"
        "add r4, r4, r5\n" PUT_FOUR
        ".balign 4\n"
        "8:\n"
        "ldr pc, " SLOT(four_t.odd) "\n"
        ".balign 4\n"
        "4:\n"
        "cmp r0, r6\n"
        "beq 9f\n"
        "1:\n" PUT_PAIR
        ".balign 4\n"
        "5:\n" PUT_PAIR
        "cmp r0, r6\n"
        "bne 1b\n"
        "9:\n"
        "ldr pc, " SLOT(four_t.last) "\n"
        ".balign 4\n"
        "6:\n"
        "ldr r7, [r4]\n"
        "mov r8, r12\n" PUT_FOUR
        ".balign 4\n"
        "7:\n"
        "ldrd r7, r8, " SLOT(four_t.x_gap) "\n"
        "add r4, r4, r7\n"
        "add r0, r0, r8\n"
        "add r1, r1, r8\n"
        "add r2, r2, r8\n"
        "add r3, r3, r8\n"
        "subs r11, r11, #1\n"
        "bne 2b\n"
        "add sp, #" AT(four_t.to) "\n" RESTORE);
}

static four_t four_rows(const edgelora_shape_t *g, const layout_t *l) {
    uint32_t first = l->from & 1, last = l->to & 1, pairs = (l->to - l->from - first) / 2,
             words = first + pairs;
    return (four_t){.edge = (uint8_t)g->zp_in * 0x01010101u,
        .row_bytes = 4 * words,
        .x_gap = (g->in_w - first - 2 * pairs) * g->in_c,
        .gap = 4 * (l->pitch - words - last),
        .first = first,
        .odd = pairs & 1,
        .last = last,
        .plane = 4 * l->plane,
        .step = g->in_c};
}

// Copies input rows of one channel; to: the first row's word with its first input.
EDGELORA_KERNEL static void fill_one(const layout_t *l, uint32_t *to, const int8_t *x,
    uint32_t step, uint32_t row, uint32_t rows, uint32_t edge) {
    const uint32_t first = l->from & 1, pairs = (l->to - l->from - first) / 2, last = l->to & 1;
    for (; rows; --rows, to += l->pitch, x += row) {
        uint32_t *at = to;
        const int8_t *from = x;
        if (first) {
            *at++ = pair(edge, (uint32_t)*from);
            from += step;
        }
        for (const uint32_t *end = at + pairs; at != end; ++at, from += 2 * step) {
            *at = pair((uint32_t)*from, (uint32_t)from[step]);
        }
        if (last) {
            *at = pair((uint32_t)*from, edge);
        }
    }
}

static inline uint32_t doubled(uint32_t pair) {
    return (uint32_t)__sadd16((int16x2_t)pair, (int16x2_t)pair);
}

// A kernel row's pairs (u v) and (v w) of four channels.
static inline void put_weights(strip_t s[PLANES], uint32_t at, uint32_t a, uint32_t b) {
    uint32_t low, high;
    __asm("pkhbt %0, %1, %2, lsl #16" : "=r"(low) : "r"(a), "r"(b));
    __asm("pkhtb %0, %1, %2, asr #16" : "=r"(high) : "r"(b), "r"(a));
    s[0].w[at] = doubled(evens(low));
    s[1].w[at] = doubled(odds(low));
    s[2].w[at] = doubled(evens(high));
    s[3].w[at] = doubled(odds(high));
}

static inline void weights_of_four(strip_t s[PLANES], const uint8_t *from, uint32_t step) {
    for (uint32_t at = 0; at < CHANNEL_WEIGHTS; at += ROW_WEIGHTS, from += 3 * step) {
        uint32_t u = word_at(from), v = word_at(from + step), t = word_at(from + 2 * step);
        put_weights(s, at, u, v);
        put_weights(s, at + 1, v, t);
    }
}

static inline void weights_of_one(uint32_t w[CHANNEL_WEIGHTS], const uint8_t *from, uint32_t step) {
    for (uint32_t at = 0; at < CHANNEL_WEIGHTS; at += ROW_WEIGHTS, from += 3 * step) {
        uint32_t v = (uint32_t)from[step] - 128;
        w[at] = doubled(pair((uint32_t)from[0] - 128, v));
        w[at + 1] = doubled(pair(v, (uint32_t)from[2 * step] - 128));
    }
}

static bool rounds_shifted(const edgelora_shape_t *g) {
    for (uint32_t o = 0; o < g->out_c; ++o) {
        if (!rounds_at_once(g->shift[o])) {
            return false;
        }
    }
    return g->bounded;
}

EDGELORA_HOT bool edgelora_depthwise_strips_s8(
    const edgelora_shape_t *g, const int8_t *x, int8_t *y, void *scratch) {
    if (!rounds_shifted(g)) {
        return false;
    }
    const edgelora_op_t *op = g->op;
    bool words = (g->in_c & 3) == 0 && g->in_c == g->out_c && is_aligned(x) &&
        is_aligned(g->weights);
    layout_t l = layout(g, words ? PLANES : 1, edgelora_depthwise_forward_packed_scratch(g));
    uint32_t *planes = scratch, each = g->out_c / g->in_c, row = (uint32_t)g->in_w * g->in_c,
             edge = pair((uint32_t)g->zp_in, (uint32_t)g->zp_in);
    strip_t strips[PLANES];
    four_t four = four_rows(g, &l);
    for (uint32_t k = 0; k < l.planes; ++k) {
        strips[k].step = g->out_c;
        strips[k].pitch = 4 * l.pitch;
        strips[k].out_pitch = 4 * l.pitch * op->stride_h;
        strip_columns(g, &strips[k], 0);
    }
    int8_t *to = y;
    for (uint32_t oy = 0; oy < g->out_h; oy += l.rows, to += l.rows * g->out_w * g->out_c) {
        uint32_t rows = at_most(g->out_h - oy, l.rows);
        int32_t top = (int32_t)(oy * op->stride_h) - op->pad_top,
                bottom = top + (int32_t)((rows - 1) * op->stride_h) + 3,
                first = top < 0 ? 0 : top, end = bottom < g->in_h ? bottom : g->in_h;
        uint32_t *inside = planes + (uint32_t)(first - top) * l.pitch + l.from / 2;
        const int8_t *in = x + (uint32_t)first * row;
        four.rows = end > first ? (uint32_t)(end - first) : 0;
        four.to = inside;
#pragma GCC unroll 8
        for (uint32_t *word = planes, *last = planes + l.planes * l.plane; word != last; ++word) {
            *word = edge;
        }
        for (uint32_t o = 0; o < g->out_c; o += l.planes) {
            if (l.planes == 1) {
                if (o % each == 0) {
                    uint32_t zero_point = (uint32_t)g->zp_in;
                    fill_one(&l, inside, in + o / each, g->in_c, row, four.rows, zero_point);
                }
                weights_of_one(strips[0].w, g->weights + o, g->out_c);
            } else {
                four.x = in + o;
                if (four.rows) {
                    fill_four(&four);
                }
                weights_of_four(strips, g->weights + o, g->out_c);
            }
            for (uint32_t k = 0; k < l.planes; ++k) {
                strip_channel(g, &strips[k], o + k);
                strip_rows(g, &strips[k], planes + k * l.plane, to + o + k, rows);
            }
        }
    }
    clamp_outputs(y, g->positions * g->out_c, op->act_min, op->act_max);
    return true;
}

#undef OUTPUT
#endif
