// The outputs of one position: 31 cycles for 8 products, 56 for a row.
// SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

// The stack frame.
typedef struct {
    uint32_t gap;               // bytes between rows
    uint32_t multiplier, shift; // their ends
    // less min; max - min; min; the end of y: `ldmia` takes the four. For values min is -2^31, so
    // that all are outside, as |v| < 2^30, and y their end
    uint32_t zero_point, range, min, y;
    uint32_t first_pair;        // its code
} outputs_frame_t;


// r7: mask; r8: constant that makes bytes signed
#define SPLIT(w, o) \
    "lsrs " o ", " w ", #8\n" \
    "ands " w ", r7\n" \
    "ands " o ", r7\n" \
    "add " w ", r8\n" \
    "add " o ", r8\n"

// r0: x, r1: weights, r6: sum; r9: start of x, r10: code of the first pair, or code that skips the
// gap and continues there, r11: end of bias, r12: index * 4, from -rows * 4 to 0; lr: end of x.
NAKED void edgelora_position_outputs_s8(const edgelora_position_t *rows) {
    OFFSETS(outputs_frame_t, shift, y, zero_point, range, min, multiplier, gap, first_pair)
    OFFSETS(edgelora_position_t, rows, bias, shift, y, zero_point, min, max, multiplier, pairs,
        step, x, weights, values)
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" AT(outputs_frame_t) "\n"
        "ldr r1, " FIELD(r0, edgelora_position_t.rows) "\n"   // rows
        "lsls r2, r1, #2\n"
        "ldr r3, " FIELD(r0, edgelora_position_t.bias) "\n"
        "adds r3, r3, r2\n"
        "mov r11, r3\n"
        "ldr r3, " FIELD(r0, edgelora_position_t.shift) "\n"
        "adds r3, r3, r1\n"
        "str r3, " SLOT(outputs_frame_t.shift) "\n"
        "ldr r3, " FIELD(r0, edgelora_position_t.y) "\n"
        "adds r3, r3, r1\n"
        "str r3, " SLOT(outputs_frame_t.y) "\n"
        "ldr r3, " FIELD(r0, edgelora_position_t.zero_point) "\n"
        "ldr r4, " FIELD(r0, edgelora_position_t.min) "\n"
        "ldr r5, " FIELD(r0, edgelora_position_t.max) "\n"
        "subs r3, r3, r4\n"
        "str r3, " SLOT(outputs_frame_t.zero_point) "\n"
        "subs r5, r5, r4\n"
        "str r5, " SLOT(outputs_frame_t.range) "\n"
        "str r4, " SLOT(outputs_frame_t.min) "\n"
        "ldr r3, " FIELD(r0, edgelora_position_t.multiplier) "\n"
        "adds r3, r3, r2\n"
        "str r3, " SLOT(outputs_frame_t.multiplier) "\n"
        "ldr r3, " FIELD(r0, edgelora_position_t.values) "\n"
        "cmp r3, #0\n"
        "beq 1f\n"
        "adds r3, r3, r2\n"
        "str r3, " SLOT(outputs_frame_t.y) "\n"
        "movs r3, #1\n"
        "lsls r3, r3, #31\n"
        "str r3, " SLOT(outputs_frame_t.zero_point) "\n"
        "str r3, " SLOT(outputs_frame_t.min) "\n"
        "movs r3, #0\n"
        "str r3, " SLOT(outputs_frame_t.range) "\n"
        "1:\n"
        "rsbs r2, r2, #0\n"
        "mov r12, r2\n"
        "ldr r1, " FIELD(r0, edgelora_position_t.pairs) "\n"    // pairs
        "lsls r2, r1, #3\n"     // their bytes of weights
        "ldr r3, " FIELD(r0, edgelora_position_t.step) "\n"
        "subs r3, r3, r2\n"
        "str r3, " SLOT(outputs_frame_t.gap) "\n"
        "lsls r2, r2, #1\n"
        "ldr r4, " FIELD(r0, edgelora_position_t.x) "\n"
        "mov r9, r4\n"
        "adds r2, r2, r4\n"
        "adds r2, #4\n"
        "mov lr, r2\n"
        "subs r1, #1\n"         // the first turn skips 8 - (pairs - 1) % 8 - 1 pairs
        "movs r2, #7\n"
        "bics r2, r1\n"
        "movs r1, #50\n"        // bytes of code per pair
        "muls r2, r1\n"
        "adr r1, 3f\n"
        "adds r2, r2, r1\n"
        "adds r2, #1\n"
        "str r2, " SLOT(outputs_frame_t.first_pair) "\n"
        "cmp r3, #0\n"
        "beq 1f\n"
        "adr r2, 10f\n"
        "adds r2, #1\n"
        "1:\n"
        "mov r10, r2\n"
        "ldr r1, " FIELD(r0, edgelora_position_t.weights) "\n"
        "subs r1, r1, r3\n"
        "movs r7, #128\n"
        "lsls r2, r7, #16\n"
        "orrs r7, r2\n"
        "rsbs r7, r7, #0\n"
        "mov r8, r7\n"
        "movs r7, #255\n"
        "lsls r2, r7, #16\n"
        "orrs r7, r2\n"
        "mov r3, r12\n"
        "b 5f\n"
        ".balign 4\n"
        "10:\n"
        "ldr r2, " SLOT(outputs_frame_t.gap) "\n"
        "adds r1, r1, r2\n"
        "ldr r2, " SLOT(outputs_frame_t.first_pair) "\n"
        "bx r2\n"
        ".balign 4\n"
        "3:\n"                  // r5 holds the first group's E
        ".rept 8\n"
        "ldmia r1!, {r2, r3}\n"
        SPLIT("r2", "r4")
        DOT2("r2", "r5", "r6")
        "ldmia r0!, {r2, r5}\n"
        DOT2("r4", "r2", "r6")
        SPLIT("r3", "r2")
        DOT2("r3", "r5", "r6")
        "ldmia r0!, {r3, r5}\n"
        DOT2("r2", "r3", "r6")
        ".endr\n"
        "cmp r0, lr\n"
        "bne 8f\n"
        "mov r0, r12\n"
        "ldr r4, " SLOT(outputs_frame_t.multiplier) "\n"
        "ldr r4, [r4, r0]\n"
        "uxth r5, r4\n"        // |acc| < 2^30, thus |ah * ml| < 2^30
        "lsrs r4, r4, #16\n"
        HIGH_MUL("r6", "r2", "r3", "movs r3, r5\nmuls r3, r2\n", "muls r5, r6\n", "r4", "r5")
        "asrs r0, r0, #2\n"
        "ldr r2, " SLOT(outputs_frame_t.shift) "\n"
        "ldrsb r2, [r2, r0]\n"
        "rsbs r2, r2, #0\n"
        "asrs r4, r6, #31\n"
        "adds r6, r6, r4\n"
        "asrs r6, r2\n"
        "add r3, sp, #" AT(outputs_frame_t.zero_point) "\n"
        "ldmia r3, {r2, r3, r4, r5}\n"
        "adcs r6, r2\n"
        "cmp r6, r3\n"
        "bhi 9f\n"
        "6:\n"
        "adds r6, r6, r4\n"
        "strb r6, [r5, r0]\n"
        "adds r0, #1\n"
        "lsls r3, r0, #2\n"
        "mov r12, r3\n"
        "beq 1f\n"
        "5:\n"
        "mov r2, r11\n"
        "ldr r6, [r2, r3]\n"
        "mov r0, r9\n"
        "ldmia r0!, {r5}\n"
        "bx r10\n"
        "1:\n"
        "add sp, #" AT(outputs_frame_t) "\n" RESTORE
        "9:\n"                  // outside: below 0, or above the range; or a value
        "rsbs r2, r4, #0\n"     // overflows for -2^31
        "bvs 7f\n"
        "asrs r6, r6, #31\n"
        "bics r3, r6\n"
        "movs r6, r3\n"
        "b 6b\n"
        "7:\n"
        "adds r6, r6, r4\n"
        "mov r3, r12\n"
        "str r6, [r5, r3]\n"
        "adds r3, #4\n"
        "mov r12, r3\n"
        "bne 5b\n"
        "b 1b\n"
        "8:\n"
        "b 3b\n");
}

#endif
