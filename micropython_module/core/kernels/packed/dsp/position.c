// The outputs of one position, two rows at a time: 19 instructions per 16 products, 10 per output.
// SPDX-License-Identifier: MIT

#include "kernels/packed/dsp/dsp.h"
#include "kernels/packed/internal.h"

#ifdef EDGELORA_DSP

// Copied to the assembly's stack frame.
typedef struct {
    const uint32_t *x;
    uint32_t first;              // bytes of code that the first turn of 4 pairs skips
    uint32_t step;               // bytes from the end of a row to the one after the next
    const uint32_t *end;         // of x
    const uint8_t *row, *next;   // of weights
    const int32_t *bias, *multiplier;
    const int8_t *shift;
    int8_t *y, *y_end;
    int32_t zero_point;
} two_outputs_t;
#define PAIR_CODE 76 // bytes of code per pair of groups

// Two groups of a row: 9 instructions per 8 products
#define TWO_GROUPS(w, sum) \
    "ldrd r10, r11, [" w "], #8\n" \
    "uxtab16 r12, lr, r10\n" \
    "uxtab16 r10, lr, r10, ror #8\n" DOT2("r12", "r6", sum) DOT2("r10", "r7", sum) \
    "uxtab16 r12, lr, r11\n" \
    "uxtab16 r11, lr, r11, ror #8\n" DOT2("r12", "r8", sum) DOT2("r11", "r9", sum)

// Multiplies the sum and shifts it, rounding both away from 0: subtracts 1 from a negative value
// first; if the shift is 0, the carry adds it back.
#define ROUND(sum, multiplier, shift) \
    "rsbs " shift ", " shift ", #0\n" \
    "lsl " sum ", " sum ", #1\n" \
    "smmulr " sum ", " sum ", " multiplier "\n" \
    "adds " sum ", " sum ", " sum ", asr #31\n" \
    "asrs " sum ", " sum ", " shift "\n" \
    "adc " sum ", " sum ", r12\n" \
    "ssat " sum ", #8, " sum "\n"

// Pairs of rows up to y_end. r0: x, r1, r2: weights, r3: end of x, r4, r5: sums, r6-r9: x of two
// groups, r10-r12: weights, lr: constant that makes bytes signed.
NAKED static void two_outputs(const two_outputs_t *o) {
    OFFSETS(two_outputs_t, first, row, bias, zero_point, y, step)
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" AT(two_outputs_t) "\n"
        "ldmia r0, {r0-r11}\n"
        "stmia sp, {r0-r11}\n"
        "adr r12, 2f\n"
        "add r1, r1, r12\n"
        "orr r1, r1, #1\n"
        "str r1, " SLOT(two_outputs_t.first) "\n"
        "mov lr, #0xFF80FF80\n"
        "ldrd r1, r2, " SLOT(two_outputs_t.row) "\n"
        "b 1f\n"
        ".balign 4\n"
        "2:\n"
        ".rept 4\n"
        "ldmia.w r0!, {r6-r9}\n" TWO_GROUPS("r1", "r4") TWO_GROUPS("r2", "r5")
        ".endr\n"
        "cmp r0, r3\n"
        "bne 2b\n"
        "ldrd r8, r9, " SLOT(two_outputs_t.bias + 4) "\n" // multiplier, shift
        "ldrd r6, r7, [r8], #8\n"
        "ldrsb r10, [r9], #1\n"
        "ldrsb r11, [r9], #1\n"
        "strd r8, r9, " SLOT(two_outputs_t.bias + 4) "\n"
        "ldr r12, " SLOT(two_outputs_t.zero_point) "\n" ROUND("r4", "r6", "r10")
        ROUND("r5", "r7", "r11")
        "ldrd r0, r6, " SLOT(two_outputs_t.y) "\n"
        "strb r4, [r0], #1\n"
        "strb r5, [r0], #1\n"
        "str r0, " SLOT(two_outputs_t.y) "\n"
        "cmp r0, r6\n"
        "beq 3f\n"
        "ldr r4, " SLOT(two_outputs_t.step) "\n"
        "add r1, r1, r4\n"
        "add r2, r2, r4\n"
        "1:\n"
        "ldr r6, " SLOT(two_outputs_t.bias) "\n"
        "ldrd r4, r5, [r6], #8\n"
        "str r6, " SLOT(two_outputs_t.bias) "\n"
        "ldr r0, [sp]\n"
        "ldr pc, " SLOT(two_outputs_t.first) "\n"
        "3:\n"
        "add sp, #" AT(two_outputs_t) "\n" RESTORE);
}

static void one_output(const edgelora_position_t *r, uint32_t i) {
    const uint8_t *w = r->weights + i * r->step;
    int32_t sum = r->bias[i];
    for (const uint32_t *x = r->x, *end = x + 4 * r->pairs; x != end; x += 2, w += 4) {
        uint32_t four = word_at(w);
        sum = dot2(odds(four), x[1], dot2(evens(four), x[0], sum));
    }
    put_output(r, i, sum);
}

EDGELORA_HOT void edgelora_position_outputs_s8(const edgelora_position_t *r) {
    uint32_t even = r->rows & ~1u;
    if (r->values) {
        for (uint32_t i = 0; i < r->rows; ++i) {
            one_output(r, i);
        }
        return;
    }
    if (even) {
        two_outputs(&(two_outputs_t){.x = r->x,
            .first = PAIR_CODE * (-r->pairs & 3),
            .step = 2 * r->step - 8 * r->pairs,
            .end = r->x + 4 * r->pairs,
            .row = r->weights,
            .next = r->weights + r->step,
            .bias = r->bias,
            .multiplier = r->multiplier,
            .shift = r->shift,
            .y = r->y,
            .y_end = r->y + even,
            .zero_point = r->zero_point});
    }
    if (even != r->rows) {
        one_output(r, even);
    }
    clamp_outputs(r->y, r->rows, r->min, r->max);
}

#endif
