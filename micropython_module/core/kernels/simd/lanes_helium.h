// Helium (MVE) of Cortex-M55 and M85: sixteen products of bytes and their sum in one instruction.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_LANES // of one processor (lanes.h)
#define EDGELORA_LANES

#include "kernels/simd/simd.h"

#include "kernels/packed/dsp/thumb2.h"

#include <arm_mve.h>

#define EDGELORA_TABLE edgelora_helium

#define UNIT int8_t // inputs
#define UNITS_ARE_INPUTS 1
#define UNITS_ARE_WORDS 0
#define WORK_SHARE 4
#define CHUNK 128
#define LEAST_RUN 16
#define IN_PLACE 8 // most rows whose products are made of weights where they lie
#define NO_POOLS      // the packed ones take half as long
#define OWN_DEPTHWISE // strips.h
#define OWN_STEPS     // lanes_half, lanes_store_first, all_products
enum { WIDTH = 4, LANES = 16 };

typedef int8_t weight_t; // of weights: [LANES][CHUNK][4]

#include "kernels/simd/rows.h"

enum { PANEL_GROUP = 4, PANEL_LANE = 4 * CHUNK };

typedef int32x4_t lanes_t;

static inline lanes_t lanes_load(const int32_t *v) {
    return vldrwq_s32(v);
}

static inline void lanes_store(int32_t *to, lanes_t v) {
    vstrwq_s32(to, v);
}

static inline lanes_t lanes_of(int32_t v) {
    return vdupq_n_s32(v);
}

static inline lanes_t lanes_of_s8(const int8_t *v) {
    return vldrbq_s32(v);
}

#define LANES_OF_TWO(name, function) \
    static inline lanes_t name(lanes_t a, lanes_t b) { \
        return function(a, b); \
    }

LANES_OF_TWO(lanes_add, vaddq_s32)
LANES_OF_TWO(lanes_sub, vsubq_s32)
LANES_OF_TWO(lanes_mul, vmulq_s32)
LANES_OF_TWO(lanes_min, vminq_s32)
LANES_OF_TWO(lanes_max, vmaxq_s32)
LANES_OF_TWO(lanes_or, vorrq_s32)
LANES_OF_TWO(lanes_high_mul, vqrdmulhq_s32) // rounding_high_mul

static inline lanes_t lanes_shift_left(lanes_t v, int32_t n) {
    return vshlq_r_s32(v, n);
}

static inline lanes_t lanes_shift_right(lanes_t v, int32_t n) {
    return vshlq_r_s32(v, -n);
}

// v - 1 where acc < 0 and n != 0: before a rounding shift by n, halves of negative values then go
// away from zero.
static inline lanes_t lanes_lower(lanes_t v, lanes_t acc, lanes_t n) {
    return vaddq_s32(v, vshrq_n_s32(vandq_s32(acc, n), 31));
}

// round_divide, n in 0..31
static inline lanes_t lanes_round_divide(lanes_t v, lanes_t n) {
    n = vnegq_s32(n);
    return vrshlq_s32(lanes_lower(v, v, n), n);
}

// Second step of requantize for shift <= 0; v = rounding_high_mul(acc, multiplier).
static inline lanes_t lanes_rounded(lanes_t acc, lanes_t v, lanes_t shift, lanes_t half) {
    (void)half;
    return vrshlq_s32(lanes_lower(v, acc, shift), shift);
}

// requantize for |acc| < 2^30. See portable.h's `output`.
static inline lanes_t lanes_requantize(
    lanes_t acc, lanes_t multiplier, lanes_t shift, lanes_t half) {
    return lanes_rounded(acc, lanes_high_mul(acc, multiplier), shift, half);
}

// trunc_shift, n in 0..31, |v| < 2^31
static inline lanes_t lanes_trunc_shift(lanes_t v, int32_t n) {
    lanes_t more = vandq_s32(vshrq_n_s32(v, 31), vdupq_n_s32((int32_t)((1u << n) - 1)));
    return vshlq_r_s32(vaddq_s32(v, more), -n);
}

static inline lanes_t lanes_shift_down(lanes_t v, int32_t n) { // unsigned
    return vreinterpretq_s32_u32(vshlq_r_u32(vreinterpretq_u32_s32(v), -n));
}

static inline lanes_t lanes_abs(lanes_t v) {
    return vabsq_s32(v);
}

static inline lanes_t lanes_of_s16(const int16_t *v) {
    return vldrhq_s32(v);
}

static inline void lanes_store_s16(int16_t *to, lanes_t v) {
    vstrhq_s32(to, v);
}

// sum + products of both halves of each lane
static inline lanes_t lanes_dot2(lanes_t sum, lanes_t a, lanes_t b) {
    int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
    return vaddq_s32(sum, vaddq_s32(vmullbq_int_s16(x, y), vmulltq_int_s16(x, y)));
}

// v with the sign of another one
static inline lanes_t lanes_signed(lanes_t v, lanes_t of) {
    lanes_t sign = vshrq_n_s32(of, 31);
    return vsubq_s32(veorq_s32(v, sign), sign);
}

// of u <= EDGELORA_FARTHEST
#define EDGELORA_GATHERS
static inline lanes_t lanes_exponentials(lanes_t u) {
    lanes_t odd = vshlq_n_s32(vandq_s32(u, vdupq_n_s32(1)), 4), octave = vshrq_n_s32(u, 8);
    uint32x4_t at = vshrq_n_u32(vandq_u32(vreinterpretq_u32_s32(u), vdupq_n_u32(255)), 1),
               v = vldrwq_gather_shifted_offset_u32(edgelora_exponentials, at);
    v = vandq_u32(vshlq_u32(v, vnegq_s32(odd)), vdupq_n_u32(0xFFFF));
    v = vshlq_u32(v, vnegq_s32(octave));
    return vreinterpretq_s32_u32(vshrq_n_u32(vaddq_u32(v, vdupq_n_u32(64)), 7));
}

// Stores the lowest byte of each lane.
static inline void lanes_store_s8(int8_t *to, lanes_t v) {
    vstrbq_s32(to, v);
}

static inline lanes_t lanes_half(const int8_t *shift) { // not needed: VRSHL adds it
    (void)shift;
    return lanes_of(0);
}

static inline void lanes_store_first(int8_t *to, lanes_t v, uint32_t count) {
    vstrbq_p_s32(to, v, vctp32q(count));
}

static inline void widen_16(int16_t *to, const int8_t *from) {
    vstrhq_s16(to, vldrbq_s16(from));
    vstrhq_s16(to + 8, vldrbq_s16(from + 8));
}

// One bit for each of 16 values: low <= y <= high.
static inline uint32_t sixteen_within(const int8_t *y, int8_t low, int8_t high) {
    int8x16_t v = vldrbq_s8(y);
    return vcmpleq_m_n_s8(v, high, vcmpgeq_n_s8(v, low));
}

// Depthwise: 16 channels; weights of two taps are interleaved.

static inline void taps_join(int16_t *to, const int16_t *a, const int16_t *b) {
    for (int k = 0; k < 16; ++k) {
        to[k] = a[k];
        to[16 + k] = b[k];
    }
}

// Two products fit 16 bits, as one factor of each is in [-127, 127].
static inline __attribute__((always_inline)) void taps_products(lanes_t *sum, const int16_t *x,
    const uint32_t *offset, const int16_t *weights, uint32_t pairs) {
    for (int part = 0; part < 2; ++part, x += 8) {
        int32x4_t even = vdupq_n_s32(0), odd = even; // channels
        for (uint32_t k = 0; k < pairs; ++k) {
            const int16_t *w = weights + 32 * k + 8 * part;
            int16x8_t v = vmulq_s16(vldrhq_s16(x + offset[2 * k]), vldrhq_s16(w));
            v = vaddq_s16(v, vmulq_s16(vldrhq_s16(x + offset[2 * k + 1]), vldrhq_s16(w + 16)));
            even = vaddq_s32(even, vmovlbq_s16(v));
            odd = vaddq_s32(odd, vmovltq_s16(v));
        }
        int32_t turned[8];
        vst2q_s32(turned, ((int32x4x2_t){{even, odd}}));
        sum[2 * part] = lanes_load(turned);
        sum[2 * part + 1] = lanes_load(turned + 4);
    }
}

// Matrix products

static inline void group_store(weight_t *group, uint32_t lane, uint32_t four) {
    __builtin_memcpy(group + PANEL_LANE * lane, &four, 4);
}

// Packs four groups, from byte `at` of each lane's row on.
static inline void groups_from_rows(
    weight_t *to, const uint8_t *const *row, uint32_t lanes, uint32_t at, uint32_t flip) {
    for (uint32_t l = 0; l < lanes; ++l, to += PANEL_LANE) {
        uint8x16_t v = veorq_u8(vldrbq_u8(row[l] + at), vdupq_n_u8((uint8_t)flip));
        vstrbq_u8((uint8_t *)to, v);
    }
}

// Packs all lanes of a group; rows: LANES bytes each.
static inline void group_from_columns(weight_t *to, const uint8_t *const *row, uint32_t flip) {
    uint16x8_t at = vmulq_n_u16(vidupq_n_u16(0, 1), PANEL_LANE), f = vdupq_n_u16(flip & 0xFFFF);
    for (int k = 0; k < 4; k += 2, to += 2) {
        for (int l = 0; l < LANES; l += 8) {
            uint16x8_t two = vsliq_n_u16(vldrbq_u16(row[k] + l), vldrbq_u16(row[k + 1] + l), 8);
            vstrhq_scatter_offset_u16((uint16_t *)(to + PANEL_LANE * l), at, veorq_u16(two, f));
        }
    }
}

static inline unit_t unit_of(int8_t v) {
    return v;
}

// Assembly keeps four sums in even registers, as VMLADAVA demands, and reads what is rarely needed
// from memory. A loop's last turn takes the values that are left (`wlstp`, `letp`).
typedef struct {
    const int8_t *x, *x2; // rows of inputs
    const int8_t *w;      // of the first lane
    uint32_t step;        // bytes from one lane to the next
    uint32_t count, runs; // values of a run; number of runs
    uint32_t next, back; // bytes from the end of what was read of a run to the next run; of w, back
    int32_t *acc, *end;
    const int32_t *start;
    uint32_t flip;
} block_of_products_t;

static inline block_of_products_t block_of_products(
    const rows_t *in, uint32_t row, const weight_t *w, uint32_t count) {
    uint32_t read = (count + 15) & ~15u;
    const int8_t *x = row_at(in, row);
    return (block_of_products_t){
        .x = x,
        .x2 = x,
        .w = w,
        .step = PANEL_LANE,
        .count = count,
        .runs = in->runs,
        .next = in->pitch - read,
        .back = read - count};
}

// clang-format off

// acc, s32 [2, LANES], += products of two rows with lanes of a panel, two at a time.
// r0, r2: sums of the first row, r4, r6: of the second, r1, r3: x, r5, r7: w
NAKED static void two_rows(const block_of_products_t *b) {
    OFFSETS(block_of_products_t, x, w, count, runs, next, back, acc, end)
    SET(row, 4 * LANES);
    SET(lane, PANEL_LANE);
    __asm volatile(
        SAVE
        "mov r10, r0\n"
        "ldr r8, " FIELD(r10, block_of_products_t.count) "\n"
        "ldr r9, " FIELD(r10, block_of_products_t.acc) "\n"
        "ldr r11, " FIELD(r10, block_of_products_t.w) "\n"
        "1:\n"                  // two lanes
        "ldrd r0, r2, [r9]\n"
        "ldrd r4, r6, [r9, #" AT(row) "]\n"
        "ldrd r1, r3, " FIELD(r10, block_of_products_t.x) "\n"
        "ldr r12, " FIELD(r10, block_of_products_t.runs) "\n"
        "mov r5, r11\n"
        "add r7, r11, #" AT(lane) "\n"
        "add r11, r7, #" AT(lane) "\n"
        "2:\n"                  // a run
        "wlstp.8 lr, r8, 4f\n"
        "3:\n"
        "vldrb.8 q0, [r1], #16\n"
        "vldrb.8 q2, [r5], #16\n"
        "vmladava.s8 r0, q0, q2\n"
        "vldrb.8 q1, [r3], #16\n"
        "vmladava.s8 r4, q1, q2\n"
        "vldrb.8 q3, [r7], #16\n"
        "vmladava.s8 r2, q0, q3\n"
        "vmladava.s8 r6, q1, q3\n"
        "letp lr, 3b\n"
        "4:\n"
        "subs r12, #1\n"
        "beq 5f\n"
        "ldr lr, " FIELD(r10, block_of_products_t.next) "\n"
        "add r1, lr\n"
        "add r3, lr\n"
        "ldr lr, " FIELD(r10, block_of_products_t.back) "\n"
        "sub r5, lr\n"
        "sub r7, lr\n"
        "b 2b\n"
        "5:\n"
        "strd r4, r6, [r9, #" AT(row) "]\n"
        "strd r0, r2, [r9], #8\n"
        "ldr lr, " FIELD(r10, block_of_products_t.end) "\n"
        "cmp r9, lr\n"
        "bne 1b\n"
        RESTORE);
}

// r0, r2, r4, r6 += products of a run at r1 with four lanes at r3, r5, r12, r8, whose bytes q3 flips
#define RUN_OF_FOUR \
    "3:\n" \
    "vldrb.8 q0, [r1], #16\n" \
    "vldrb.8 q1, [r3], #16\n" \
    "veor q1, q1, q3\n" \
    "vldrb.8 q2, [r5], #16\n" \
    "vmladava.s8 r0, q0, q1\n" \
    "veor q2, q2, q3\n" \
    "vldrb.8 q1, [r12], #16\n" \
    "vmladava.s8 r2, q0, q2\n" \
    "veor q1, q1, q3\n" \
    "vldrb.8 q2, [r8], #16\n" \
    "vmladava.s8 r4, q0, q1\n" \
    "veor q2, q2, q3\n" \
    "vmladava.s8 r6, q0, q2\n" \
    "letp lr, 3b\n"

// acc = start + products of a row with lanes whose bytes are flipped, four at a time.
// r0, r2, r4, r6: sums, r1: x, r3, r5, r12, r8: w
NAKED static void one_row(block_of_products_t *b) {
    OFFSETS(block_of_products_t, x, w, step, count, runs, next, back, acc, end, start, flip)
    __asm volatile(
        SAVE
        "mov r10, r0\n"
        "ldr r7, " FIELD(r10, block_of_products_t.flip) "\n"
        "vdup.32 q3, r7\n"
        "1:\n"                  // four lanes
        "ldr r7, " FIELD(r10, block_of_products_t.start) "\n"
        "ldrd r0, r2, [r7], #8\n"
        "ldrd r4, r6, [r7], #8\n"
        "str r7, " FIELD(r10, block_of_products_t.start) "\n"
        "ldr r1, " FIELD(r10, block_of_products_t.x) "\n"
        "ldrd r3, r7, " FIELD(r10, block_of_products_t.w) "\n"
        "add r5, r3, r7\n"
        "add r12, r5, r7\n"
        "add r8, r12, r7\n"
        "add r7, r8, r7\n"
        "str r7, " FIELD(r10, block_of_products_t.w) "\n"
        "ldrd r9, r11, " FIELD(r10, block_of_products_t.count) "\n"
        "2:\n"                  // a run
        "wlstp.8 lr, r9, 4f\n"
        RUN_OF_FOUR
        "4:\n"
        "subs r11, #1\n"
        "beq 5f\n"
        "ldrd r7, lr, " FIELD(r10, block_of_products_t.next) "\n"
        "add r1, r7\n"
        "sub r3, lr\n"
        "sub r5, lr\n"
        "sub r12, lr\n"
        "sub r8, lr\n"
        "b 2b\n"
        "5:\n"
        "ldrd r7, lr, " FIELD(r10, block_of_products_t.acc) "\n"
        "strd r0, r2, [r7], #8\n"
        "strd r4, r6, [r7], #8\n"
        "str r7, " FIELD(r10, block_of_products_t.acc) "\n"
        "cmp r7, lr\n"
        "bne 1b\n"
        RESTORE);
}

// Outputs of a row that is one run, from weights where they lie.
typedef struct {
    const int8_t *x;
    uint32_t step, count;       // of an output's weights: bytes to the next one's, values
    uint32_t next, zero_point;  // next: bytes from the end of what was read of weights to the next
    uint32_t apart;             // bytes from an output's shift to the output
    const int8_t *end;          // of the shifts
    const int8_t *w;
    const int32_t *bias, *multiplier;
    const int8_t *shift;
    uint32_t flip;
    int32_t low, high;
} row_of_outputs_t;

// Four outputs at a time.
// r0, r2, r4, r6: sums, r1: x, r3, r5, r12, r8: w, r9: bias, r11: multiplier, r7: shift
NAKED static void row_outputs(const row_of_outputs_t *r) {
    OFFSETS(row_of_outputs_t, x, count, next, apart, w, bias, multiplier, flip, low)
    __asm volatile(
        SAVE
        "vpush {d8-d11}\n"
        "mov r10, r0\n"
        "ldr r3, " FIELD(r10, row_of_outputs_t.flip) "\n"
        "vdup.32 q3, r3\n"
        "ldrd r3, r5, " FIELD(r10, row_of_outputs_t.low) "\n"
        "vdup.32 q4, r3\n"
        "vdup.32 q5, r5\n"
        "ldrd r3, r9, " FIELD(r10, row_of_outputs_t.w) "\n"
        "ldrd r11, r7, " FIELD(r10, row_of_outputs_t.multiplier) "\n"
        "1:\n"
        "ldrd r0, r2, [r9], #8\n"
        "ldrd r4, r6, [r9], #8\n"
        "ldrd r1, r8, " FIELD(r10, row_of_outputs_t.x) "\n"
        "ldr lr, " FIELD(r10, row_of_outputs_t.count) "\n"
        "add r5, r3, r8\n"
        "add r12, r5, r8\n"
        "add r8, r12\n"
        "wlstp.8 lr, lr, 4f\n"
        RUN_OF_FOUR
        "4:\n"
        "vmov q0[2], q0[0], r0, r4\n"
        "vldrb.s32 q2, [r7], #4\n"
        "vmov q0[3], q0[1], r2, r6\n"
        "ldrd r0, r1, " FIELD(r10, row_of_outputs_t.next) "\n"
        "vldrw.32 q1, [r11], #16\n"
        "add r3, r8, r0\n"
        "vqrdmulh.s32 q1, q0, q1\n"
        "vand q0, q0, q2\n"
        "vshr.s32 q0, q0, #31\n"
        "ldrd r0, r2, " FIELD(r10, row_of_outputs_t.apart) "\n"
        "vadd.i32 q1, q1, q0\n"
        "add r0, r7\n"
        "vrshl.s32 q1, q1, q2\n"
        "cmp r7, r2\n"
        "vadd.i32 q1, q1, r1\n"
        "vmax.s32 q1, q1, q4\n"
        "vmin.s32 q1, q1, q5\n"
        "vstrb.32 q1, [r0, #-4]\n"
        "bne 1b\n"
        "vpop {d8-d11}\n"
        RESTORE);
}

// clang-format on

static inline void lanes_of_row(
    block_of_products_t *b, const weight_t *w, const int32_t *start, int32_t *acc, uint32_t lanes) {
    b->w = w;
    b->start = start;
    b->acc = acc;
    b->end = acc + lanes;
    one_row(b);
}

// acc, s32 [n, LANES] = start + products of few rows with `lanes` rows of weights where they lie;
// count: values of a run.
static void products_in_place(int32_t *acc, const int32_t *start, const uint8_t *weights,
    uint32_t step, uint32_t flip, uint32_t lanes, uint32_t count, const rows_t *in) {
    const int8_t *w = (const int8_t *)weights;
    for (uint32_t r = 0; r < in->n; ++r, acc += LANES) {
        block_of_products_t b = block_of_products(in, r, w, count);
        b.step = step;
        b.flip = flip;
        if (lanes >= 4) { // the last four overlap those before
            lanes_of_row(&b, w, start, acc, lanes & ~3u);
            if (lanes & 3) {
                uint32_t last = lanes - 4;
                lanes_of_row(&b, w + last * step, start + last, acc + last, 4);
            }
            continue;
        }
        b.step = 0; // one lane, four times
        for (uint32_t l = 0; l < lanes; ++l) {
            lanes_of_row(&b, w + l * step, start + l, acc + l, 4);
        }
    }
}

// Outputs [o, o + count), count a multiple of 4.
static inline void some_outputs(
    const edgelora_shape_t *g, row_of_outputs_t *row, uint32_t o, uint32_t count) {
    row->w = (const int8_t *)g->weights + o * g->inputs;
    row->bias = g->bias + o;
    row->multiplier = g->multiplier + o;
    row->shift = g->shift + o;
    row->end = row->shift + count;
    row_outputs(row);
}

// Outputs of few rows without a branch, from weights where they lie; false: it does not do these.
static bool outputs_in_place(const edgelora_shape_t *g, const rows_t *in, int8_t *y) {
    uint32_t outputs = g->out_c & ~3u, read = (g->inputs + 15) & ~15u;
    if (!g->bounded || in->runs != 1 || in->n > IN_PLACE || !outputs) {
        return false;
    }
    row_of_outputs_t row = {
        .step = g->inputs,
        .count = g->inputs,
        .next = g->inputs - read,
        .zero_point = (uint32_t)g->zp_out,
        .flip = 0x80808080u,
        .low = g->op->act_min,
        .high = g->op->act_max};
    for (uint32_t r = 0; r < in->n; ++r, y += g->out_c) {
        row.x = row_at(in, r);
        row.apart = (uint32_t)(y - g->shift);
        some_outputs(g, &row, 0, outputs);
        if (g->out_c & 3) { // the last four overlap those before
            some_outputs(g, &row, g->out_c - 4u, 4);
        }
    }
    return true;
}

// acc, s32 [4 * vectors] = start + products of one row with columns of weights, w + 128.
static inline __attribute__((always_inline)) void few_columns(int32_t *acc, const int32_t *start,
    const uint8_t *weights, uint32_t step, uint32_t count, const int8_t *x, const int vectors) {
    lanes_t sums[LANES / 4];
    int32_t sum = 0;
#pragma GCC unroll 4
    for (int k = 0; k < vectors; ++k) {
        sums[k] = lanes_load(start + 4 * k);
    }
    for (; count; --count, weights += step) {
        int32_t v = *x++;
        sum += v;
#pragma GCC unroll 4
        for (int k = 0; k < vectors; ++k) {
            lanes_t w = vreinterpretq_s32_u32(vldrbq_u32(weights + 4 * k));
            sums[k] = vmlaq_n_s32(sums[k], w, v);
        }
    }
#pragma GCC unroll 4
    for (int k = 0; k < vectors; ++k) {
        lanes_store(acc + 4 * k, vsubq_n_s32(sums[k], 128 * sum));
    }
}

// The same for `lanes` columns, a multiple of 4, of an acc of LANES.
static void columns_in_place(int32_t *acc, const int32_t *start, const uint8_t *weights,
    uint32_t step, uint32_t lanes, uint32_t count, const int8_t *x) {
    if (lanes == LANES) {
        few_columns(acc, start, weights, step, count, x, LANES / 4);
        return;
    }
    for (uint32_t l = 0; l < LANES; l += 4) {
        if (l < lanes) {
            few_columns(acc + l, start + l, weights + l, step, count, x, 1);
        } else {
            lanes_store(acc + l, lanes_load(start + l));
        }
    }
}

// acc, s32 [n, LANES] = start (NULL: acc) + products of all rows with a panel; = start in lanes
// that the panel lacks.
static void all_products(
    int32_t *acc, const int32_t *start, const weight_t *panel, uint32_t lanes, const rows_t *in) {
    uint32_t r = 0;
    block_of_products_t b = block_of_products(in, 0, panel, 4 * in->groups);
    for (; r + 2 <= in->n; r += 2, acc += 2 * LANES) {
        b.x = row_at(in, r);
        b.x2 = row_at(in, r + 1);
        b.acc = acc;
        b.end = acc + ((lanes + 1) & ~1u);
        for (uint32_t l = 0; start && l < LANES; l += 4) {
            lanes_t v = lanes_load(start + l);
            lanes_store(acc + l, v);
            lanes_store(acc + LANES + l, v);
        }
        two_rows(&b);
    }
    if (r < in->n) {
        b.x = row_at(in, r);
        lanes_of_row(&b, panel, start ? start : acc, acc, LANES);
    }
}

#endif
