// Rows of int8 values, each times its weight, summed by columns: 20 cycles per 4 products.
// SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

// In the order of `ldmia`.
ASSERT_WORDS(edgelora_weighted_sums_t, weights, rows, values, step, groups, sums)

// The stack frame.
typedef struct {
    uint32_t weights, values, left, sums; // left: groups
    uint32_t first;                       // code of the first row
} columns_frame_t;

#define ROW_CODE 34 // bytes

// r0: values, r1: weights, r6: mask, r7: what makes bytes offset binary, r8-r11: sums, r12: step,
// lr: end of weights. With 128 added to a value, neither product of a word leaves its half.
NAKED void edgelora_weighted_sums_s8(const edgelora_weighted_sums_t *of) {
    OFFSETS(columns_frame_t, weights, values, left, sums, first)
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" AT(columns_frame_t) "\n"
        "ldmia r0!, {r1, r2, r3, r4, r5, r6}\n"
        "str r1, " SLOT(columns_frame_t.weights) "\n"
        "str r3, " SLOT(columns_frame_t.values) "\n"
        "str r5, " SLOT(columns_frame_t.left) "\n"
        "str r6, " SLOT(columns_frame_t.sums) "\n"
        "mov r12, r4\n"
        "lsls r4, r2, #2\n"
        "adds r4, r4, r1\n"
        "mov lr, r4\n"
        "rsbs r2, r2, #0\n"     // the first time around -rows % 4 of 4 are left out
        "movs r4, #3\n"
        "ands r2, r4\n"
        "movs r4, #" STRING(ROW_CODE) "\n"
        "muls r2, r4\n"
        "adr r4, 1f\n"
        "adds r2, r2, r4\n"
        "adds r2, #1\n"
        "str r2, " SLOT(columns_frame_t.first) "\n"
        "movs r6, #255\n"
        "lsls r2, r6, #16\n"
        "orrs r6, r2\n"
        "movs r7, #128\n"
        "lsls r2, r7, #8\n"
        "orrs r7, r2\n"
        "lsls r2, r7, #16\n"
        "orrs r7, r2\n"
        "2:\n"                  // four columns
        "movs r2, #0\n"
        "mov r8, r2\n"
        "mov r9, r2\n"
        "mov r10, r2\n"
        "mov r11, r2\n"
        "ldr r0, " SLOT(columns_frame_t.values) "\n"
        "adds r2, r0, #4\n"
        "str r2, " SLOT(columns_frame_t.values) "\n"
        "ldr r1, " SLOT(columns_frame_t.weights) "\n"
        "ldr r2, " SLOT(columns_frame_t.first) "\n"
        "bx r2\n"
        ".balign 4\n"
        "1:\n"
        ".rept 4\n"
        "ldmia r1!, {r2}\n"
        "ldr r3, [r0]\n"
        "add r0, r12\n"
        "eors r3, r7\n"
        "lsrs r4, r3, #8\n"
        "ands r3, r6\n"
        "ands r4, r6\n"
        "muls r3, r2\n"
        "muls r4, r2\n"
        "uxth r5, r3\n"
        "add r8, r5\n"
        "lsrs r3, r3, #16\n"
        "add r10, r3\n"
        "uxth r5, r4\n"
        "add r9, r5\n"
        "lsrs r4, r4, #16\n"
        "add r11, r4\n"
        ".endr\n"
        "cmp r1, lr\n"
        "bne 1b\n"
        "mov r1, r8\n"
        "mov r2, r9\n"
        "mov r3, r10\n"
        "mov r4, r11\n"
        "ldr r0, " SLOT(columns_frame_t.sums) "\n"
        "stmia r0!, {r1, r2, r3, r4}\n"
        "str r0, " SLOT(columns_frame_t.sums) "\n"
        "ldr r2, " SLOT(columns_frame_t.left) "\n"
        "subs r2, #1\n"
        "str r2, " SLOT(columns_frame_t.left) "\n"
        "bne 2b\n"
        "add sp, #" AT(columns_frame_t) "\n" RESTORE);
}

#endif
