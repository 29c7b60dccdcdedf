// Depthwise 3x3 with Helium: one channel's sums over patches of 4x4 bytes.
// SPDX-License-Identifier: MIT
//
// A strip is four columns of one channel's plane, so that four rows are sixteen bytes in a row:
//
//   | a b c . |   | . a b c |     kernel a .. i, for two outputs of a row
//   | d e f . |   | . d e f |
//   | g h i . |   | . g h i |
//   | . . . . |   | . . . . |
//
// Four sums are 2 x 2 outputs of stride 1, or outputs of four rows, and become one vector.

#ifndef EDGELORA_STRIPS_H
#define EDGELORA_STRIPS_H

#include "kernels/simd/plane.h"
#include "kernels/simd/products.h"

enum {
    PLACED = 32,     // bytes of a kernel, with a zero before it and zeros behind it
    STRIP_ROWS = 32, // of outputs, at most
};

// A strip of `lanes` channels in turn. Assembly reads it.
typedef struct {
    int8_t *strip;
    uint32_t size;         // of the strip in 16 bytes
    uint32_t edge;         // what the strip is where there is no input
    const int8_t *from;    // first input row
    int8_t *to;            // its place in the strip
    uint32_t from_step, to_step; // bytes from one step to the next
    uint32_t steps, mask;  // steps of one or two input rows; which of eight bytes exist
    uint32_t rest;         // the mask of a last step of one row; 0: none
    const int8_t *kernels; // s8 [lanes, PLACED]
    uint32_t sums, apart;  // outputs; bytes from one row of outputs to the next, in the strip
    int8_t *out;
    uint32_t out_step;     // bytes from four outputs to the next
    const int32_t *bias, *multiplier;
    const int8_t *shift;
    int32_t zero_point;
    uint32_t lane, lanes;
    uint16x8_t offset; // of eight bytes in the input
    uint32x4_t at;     // of four outputs in `out`
    int32x4_t low, high;
} strip_t;

// clang-format off

// q4: four bytes of four rows
#define PAIR_OF_SUMS(first, second) \
    "vmladav.s8 " first ", q4, q0\n" \
    "vmladav.s8 " second ", q4, q1\n"

// q5: sums of 2 x 2 outputs
#define SUMS_2X2 \
    "vldrb.8 q4, [r1], #4\n" PAIR_OF_SUMS("r4", "r6") \
    "vldrb.8 q4, [r1], #4\n" PAIR_OF_SUMS("r8", "r10") \
    "vmov q5[2], q5[0], r4, r8\n" \
    "vmov q5[3], q5[1], r6, r10\n"

// q5: sums of four rows
#define SUM_1(sum) \
    "vldrb.8 q4, [r1]\n" \
    "add r1, r2\n" \
    "vmladav.s8 " sum ", q4, q0\n"
#define SUMS_4X1 \
    SUM_1("r4") SUM_1("r6") SUM_1("r8") SUM_1("r10") \
    "vmov q5[2], q5[0], r4, r8\n" \
    "vmov q5[3], q5[1], r6, r10\n"

// q6: outputs of sums q5
#define OUTPUTS \
    "vadd.i32 q5, q5, r5\n" \
    "vqrdmulh.s32 q6, q5, r7\n" \
    "vshr.s32 q5, q5, #31\n" \
    "vmla.i32 q6, q5, r9\n" \
    "vrshl.s32 q6, r11\n" \
    "vadd.i32 q6, q6, r12\n" \
    "vmin.s32 q6, q6, q3\n" \
    "vmax.s32 q6, q6, q2\n"

// All sums of a strip, four at a time; `make` makes of them what `name` stores.
// r0: out, r1: strip, r2: bytes from one row of outputs to the next, r3: of `out`, behind four
#define EACH_FOUR(four, make, name, operands) \
    "ldr lr, " FIELD(r3, strip_t.sums) "\n" \
    "lsr lr, lr, #2\n" \
    "ldr r3, " FIELD(r3, strip_t.out_step) "\n" \
    "wls lr, lr, 2f\n" \
    "1:\n" \
    four make name operands "\n" \
    "add r0, r3\n" \
    "le lr, 1b\n" \
    "2:\n"                  /* what is left */ \
    "ldr r3, [sp]\n" \
    "ldr r3, " FIELD(r3, strip_t.sums) "\n" \
    "ands r3, r3, #3\n" \
    "beq 3f\n" \
    four make \
    "vctp.32 r3\n" \
    "vpst\n" name "t" operands "\n" \
    "3:\n"

// For each channel: fills the strip.
// r3: the fields, r4: the lane
#define EACH_LANE \
    OFFSETS(strip_t, strip, size, edge, from, to, from_step, to_step, steps, mask, rest, kernels, \
        offset) \
    OFFSETS(strip_t, sums, apart, out, out_step, bias, multiplier, shift, zero_point, lane, lanes, \
        at, low, high) \
    __asm volatile( \
    SAVE \
    "vpush {d8-d15}\n" \
    "push {r0, r1}\n" \
    "mov r3, r0\n" \
    "9:\n" \
    "ldrd r1, lr, " FIELD(r3, strip_t.strip) "\n" \
    "ldr r2, " FIELD(r3, strip_t.edge) "\n" \
    "vdup.8 q0, r2\n" \
    "dls lr, lr\n" \
    "1:\n" \
    "vstrb.8 q0, [r1], #16\n" \
    "le lr, 1b\n" \
    "add r1, r3, #" AT(strip_t.offset) "\n" \
    "vldrh.16 q1, [r1]\n" \
    "ldrd r1, r2, " FIELD(r3, strip_t.from) "\n" \
    "ldr r4, " FIELD(r3, strip_t.lane) "\n" \
    "add r1, r4\n" \
    "ldrd r5, r6, " FIELD(r3, strip_t.from_step) "\n" \
    "ldrd lr, r7, " FIELD(r3, strip_t.steps) "\n" \
    "vmsr p0, r7\n" \
    "wls lr, lr, 3f\n" \
    "2:\n" \
    "vpstt\n" \
    "vldrbt.u16 q0, [r1, q1]\n" \
    "vstrbt.16 q0, [r2]\n" \
    "add r1, r5\n" \
    "add r2, r6\n" \
    "le lr, 2b\n" \
    "3:\n" \
    "ldr r7, " FIELD(r3, strip_t.rest) "\n" \
    "cbz r7, 4f\n" \
    "vmsr p0, r7\n" \
    "vpstt\n" \
    "vldrbt.u16 q0, [r1, q1]\n" \
    "vstrbt.16 q0, [r2]\n" \
    "4:\n" \
    "ldr r1, " FIELD(r3, strip_t.kernels) "\n" \
    "add r1, r1, r4, lsl #5\n" \
    "vldrb.8 q1, [r1], #1\n" \
    "vldrb.8 q0, [r1]\n" \
    "add r1, r3, #" AT(strip_t.at) "\n" \
    "vldrw.32 q7, [r1]\n" \
    "ldr r1, " FIELD(r3, strip_t.strip) "\n" \
    "ldr r2, " FIELD(r3, strip_t.apart) "\n" \
    "ldr r0, " FIELD(r3, strip_t.out) "\n"

#define NEXT_LANE \
    "ldr r3, [sp]\n" \
    "ldrd r4, r5, " FIELD(r3, strip_t.lane) "\n" \
    "adds r4, #1\n" \
    "str r4, " FIELD(r3, strip_t.lane) "\n" \
    "cmp r4, r5\n" \
    "bne 9b\n" \
    "pop {r0, r1}\n" \
    "vpop {d8-d15}\n" \
    RESTORE);

#define CONSTANTS_OF_OUTPUTS \
    "add r0, r4\n" \
    "add r5, r3, #" AT(strip_t.low) "\n" \
    "vldrw.32 q2, [r5]\n" \
    "vldrw.32 q3, [r5, #16]\n" \
    "ldrd r5, r7, " FIELD(r3, strip_t.bias) "\n" \
    "ldr r5, [r5, r4, lsl #2]\n" \
    "ldr r7, [r7, r4, lsl #2]\n" \
    "ldrd r11, r12, " FIELD(r3, strip_t.shift) "\n" \
    "ldrsb r11, [r11, r4]\n" \
    "lsr r9, r11, #31\n"

#define OF_SUMS \
    "add r0, r0, r4, lsl #2\n"

NAKED static void outputs_2x2(strip_t *s) {
    EACH_LANE CONSTANTS_OF_OUTPUTS
    EACH_FOUR(SUMS_2X2, OUTPUTS, "vstrb", ".32 q6, [r0, q7]")
    NEXT_LANE
}

NAKED static void outputs_4x1(strip_t *s) {
    EACH_LANE CONSTANTS_OF_OUTPUTS
    EACH_FOUR(SUMS_4X1, OUTPUTS, "vstrb", ".32 q6, [r0, q7]")
    NEXT_LANE
}

NAKED static void sums_2x2(strip_t *s) {
    EACH_LANE OF_SUMS
    EACH_FOUR(SUMS_2X2, "", "vstrw", ".32 q5, [r0, q7]")
    NEXT_LANE
}

NAKED static void sums_4x1(strip_t *s) {
    EACH_LANE OF_SUMS
    EACH_FOUR(SUMS_4X1, "", "vstrw", ".32 q5, [r0, q7]")
    NEXT_LANE
}

// clang-format on

// Input rows or columns that lie before place `at` of a plane, of `count`.
static inline uint32_t before(int32_t at, int32_t start, uint32_t apart, uint32_t count) {
    int32_t n = at - start;
    return n <= 0 ? 0 : lesser(((uint32_t)n + apart - 1) / apart, count);
}

// Outputs of a row in a strip from column x on: 2, or 1.
static inline uint32_t strip_width(const plane_t *p, uint32_t x) {
    return p->stride_h == 1 && p->stride_w == 1 && x + 1 < p->out_w ? 2 : 1;
}

// The next strip, from channel c on: `rows` outputs in each column from (y, x) on, `step` bytes of
// `out` from one to the next in a row, `row` in a column.
static void strip_of(strip_t *s, const plane_t *p, uint32_t y, uint32_t x, uint32_t c,
    uint32_t rows, uint32_t step, uint32_t row) {
    int32_t top = (int32_t)(y * p->stride_h), left = (int32_t)(x * p->stride_w);
    uint32_t wide = strip_width(p, x), whole = (rows + 3) & ~3u, in_row = p->in_w * p->channels,
             height = (whole - 1) * p->stride_h + 4,
             first = before(top, p->top, p->apart_h, p->in_h),
             in_rows = before(top + (int32_t)height, p->top, p->apart_h, p->in_h) - first,
             each = p->apart_h == 1 ? 2 : 1; // input rows of a step
    s->size = (4 * height + 15) / 16;
    s->edge = (uint8_t)p->edge;
    s->from = p->in + first * in_row + c;
    s->to = s->strip + 4 * ((int32_t)(first * p->apart_h) + p->top - top);
    s->from_step = each * in_row;
    s->to_step = 4 * each * p->apart_h;
    s->steps = in_rows / each;
    s->sums = wide * rows;
    s->apart = 4 * p->stride_h;
    s->out_step = 4 / wide * row;
    s->at = wide == 2 ? (uint32x4_t){0, step, row, row + step}
                      : (uint32x4_t){0, row, 2 * row, 3 * row};
    s->lane = 0;
    uint16_t offset[8];
    uint32_t columns = 0;
    for (uint32_t k = 0; k < 4; ++k) {
        uint32_t at = (uint32_t)(left + (int32_t)k - p->left); // huge if it is negative
        bool exists = at % p->apart_w == 0 && at / p->apart_w < p->in_w;
        offset[k] = (uint16_t)(exists ? at / p->apart_w * p->channels : 0);
        offset[4 + k] = (uint16_t)(offset[k] + in_row);
        columns |= exists ? 3u << 2 * k : 0;
    }
    s->offset = vldrhq_u16(offset);
    s->mask = each == 2 ? columns << 8 | columns : columns;
    s->rest = (in_rows & (each - 1)) ? columns : 0;
}

// u8 [9, channels] to s8 [lanes, PLACED]; turned: last element first.
static void place_kernels(
    const plane_t *p, const uint8_t *weights, bool turned, uint32_t c, uint32_t lanes, int8_t *to) {
    const uint16x8_t at = vmulq_n_u16(vidupq_n_u16(0, 1), PLACED);
    __builtin_memset(to, 0, 16 * PLACED);
    for (uint32_t t = 0; t < 9; ++t) {
        const uint8_t *from = weights + (turned ? 8 - t : t) * p->channels + c;
        uint8_t *tap = (uint8_t *)to + 1 + t / 3 * 4 + t % 3;
        for (uint32_t l = 0; l < lanes; l += 8) {
            mve_pred16_t some = vctp16q(lanes - l);
            uint16x8_t w = veorq_u16(vldrbq_z_u16(from + l, some), vdupq_n_u16(0x80));
            vstrbq_scatter_offset_p_u16(tap + l * PLACED, at, w, some);
        }
    }
}

static bool has_strips(const plane_t *p, const edgelora_shape_t *g) {
    return g->kernel_h == 3 && g->kernel_w == 3 && g->op->dilation_h == 1 &&
        g->op->dilation_w == 1 && (p->in_w + 3) * p->channels < 65536;
}

static void strips_forward(const plane_t *p, const edgelora_shape_t *g, int8_t *y, taps_work_t *w) {
    uint32_t channels = p->channels, row = p->out_w * channels;
    int8_t *kernels = (int8_t *)w->weights;
    strip_t s;
    s.strip = (int8_t *)w->plane;
    s.kernels = kernels;
    s.zero_point = g->zp_out;
    s.low = lanes_of(g->op->act_min);
    s.high = lanes_of(g->op->act_max);
    for (uint32_t c = 0; c < channels; c += 16) {
        s.lanes = lesser(channels - c, 16);
        s.bias = g->bias + c;
        s.multiplier = g->multiplier + c;
        s.shift = g->shift + c;
        place_kernels(p, g->weights, false, c, s.lanes, kernels);
        for (uint32_t oy = 0; oy < p->out_h; oy += STRIP_ROWS) {
            uint32_t rows = lesser(p->out_h - oy, STRIP_ROWS), wide;
            for (uint32_t ox = 0; ox < p->out_w; ox += wide) {
                wide = strip_width(p, ox);
                strip_of(&s, p, oy, ox, c, rows, channels, row);
                s.out = y + oy * row + ox * channels + c;
                (wide == 2 ? outputs_2x2 : outputs_4x1)(&s);
            }
        }
    }
}

static void strips_backward(
    const plane_t *p, const uint8_t *weights, block_t *block, taps_work_t *w) {
    int8_t *kernels = (int8_t *)w->weights;
    strip_t s;
    s.strip = (int8_t *)w->plane;
    s.kernels = kernels;
    s.out = (int8_t *)w->acc;
    for (uint32_t c = 0; c < p->channels; c += LANES) {
        s.lanes = lesser(p->channels - c, LANES);
        place_kernels(p, weights, true, c, s.lanes, kernels);
        for (uint32_t oy = 0; oy < p->out_h; oy += STRIP_ROWS) {
            uint32_t rows = lesser(p->out_h - oy, STRIP_ROWS), wide;
            for (uint32_t ox = 0; ox < p->out_w; ox += wide) {
                wide = strip_width(p, ox);
                uint32_t n = rows * wide;
                strip_of(&s, p, oy, ox, c, rows, 4 * LANES, 4 * wide * LANES);
                if (s.lanes < LANES) {
                    __builtin_memset(w->acc, 0, 4 * n * LANES);
                }
                for (uint32_t k = 0; k < n; ++k) {
                    w->places[k] = (oy + k / wide) * p->out_w + ox + k % wide;
                }
                (wide == 2 ? sums_2x2 : sums_4x1)(&s);
                block_put(block, w->acc, n, w->places, p->channels, c, s.lanes);
            }
        }
    }
}

#endif
