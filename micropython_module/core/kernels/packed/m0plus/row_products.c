// Rows of int8 values times one position: 20 cycles per 4 products, 27 per row.
// SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

// In the order of `ldmia`.
ASSERT_WORDS(edgelora_row_products_t, x, values, groups, gap, rows, acc, zero_point)

// The stack frame.
typedef struct {
    uint32_t gap, left, zero_point, x; // left: rows
} row_frame_t;

#define GROUP_CODE 34 // bytes

// r0: x, r1: values, r6: sum, r7: mask, r8: what makes the bytes signed, r9: code of the first
// group, r10: what makes them offset binary, r11: pairs of values added up, r12: acc, lr: end of x.
NAKED void edgelora_row_products_s8(const edgelora_row_products_t *rows) {
    OFFSETS(row_frame_t, gap, left, zero_point, x)
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" AT(row_frame_t) "\n"
        "ldmia r0!, {r1, r2, r3, r4, r5, r6, r7}\n"
        "str r1, " SLOT(row_frame_t.x) "\n"
        "str r4, " SLOT(row_frame_t.gap) "\n"
        "str r5, " SLOT(row_frame_t.left) "\n"
        "str r7, " SLOT(row_frame_t.zero_point) "\n"
        "mov r12, r6\n"
        "lsls r4, r3, #3\n"
        "adds r4, r4, r1\n"
        "mov lr, r4\n"
        "movs r1, r2\n"
        "rsbs r3, r3, #0\n"     // the first time around -groups % 4 of 4 are left out
        "movs r4, #3\n"
        "ands r3, r4\n"
        "movs r4, #" STRING(GROUP_CODE) "\n"
        "muls r3, r4\n"
        "adr r4, 1f\n"
        "adds r3, r3, r4\n"
        "adds r3, #1\n"
        "mov r9, r3\n"
        "movs r7, #128\n"
        "lsls r2, r7, #16\n"
        "orrs r7, r2\n"
        "rsbs r2, r7, #0\n"
        "mov r8, r2\n"
        "lsls r2, r7, #8\n"
        "orrs r2, r7\n"
        "mov r10, r2\n"
        "movs r7, #255\n"
        "lsls r2, r7, #16\n"
        "orrs r7, r2\n"
        "2:\n"                  // a row
        "mov r2, r12\n"
        "ldr r6, [r2]\n"
        "movs r2, #0\n"
        "mov r11, r2\n"
        "ldr r0, " SLOT(row_frame_t.x) "\n"
        "bx r9\n"
        ".balign 4\n"
        "1:\n"
        ".rept 4\n"
        "ldmia r1!, {r2}\n"
        "mov r4, r10\n"
        "eors r2, r4\n"
        "lsrs r4, r2, #8\n"
        "ands r2, r7\n"
        "ands r4, r7\n"
        "add r2, r8\n"
        "add r4, r8\n"
        "add r11, r2\n"
        "add r11, r4\n"
        "ldmia r0!, {r3, r5}\n"
        DOT2("r3", "r2", "r6")
        DOT2("r5", "r4", "r6")
        ".endr\n"
        "cmp r0, lr\n"
        "bne 1b\n"
        "mov r2, r11\n"         // both halves' sum
        "sxth r3, r2\n"
        "subs r2, r2, r3\n"
        "asrs r2, r2, #16\n"
        "adds r2, r2, r3\n"
        "ldr r3, " SLOT(row_frame_t.zero_point) "\n"
        "muls r2, r3\n"
        "subs r6, r6, r2\n"
        "mov r2, r12\n"
        "stmia r2!, {r6}\n"
        "mov r12, r2\n"
        "ldr r2, " SLOT(row_frame_t.gap) "\n"
        "adds r1, r1, r2\n"
        "ldr r2, " SLOT(row_frame_t.left) "\n"
        "subs r2, #1\n"
        "str r2, " SLOT(row_frame_t.left) "\n"
        "bne 2b\n"
        "add sp, #" AT(row_frame_t) "\n" RESTORE);
}

#endif
