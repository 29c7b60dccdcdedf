// Rows of weights, each times one value, summed: 12 cycles for 4 products, 18 of s8, and 17 for a
// group. SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

// As `ldmia` takes them.
ASSERT_OFFSET(edgelora_row_t, row, 0)
ASSERT_OFFSET(edgelora_row_t, value, 4)
ASSERT_SIZE(edgelora_row_t, 8)
ASSERT(as_many_rows_as_there_is_code_for, EDGELORA_GROUP_ROWS == 8)

// The frame.
#define ROWS_ACC 0
#define ROWS_COLUMNS 4 // bytes, of which r5 are done
#define ROWS_START 8
#define ROWS_LOW 12
#define ROWS_CODING 16
#define ROWS_FRAME 20

// r0: rows, r1: sums of a group's even bytes, r6: of its odd ones, r5: bytes that are done, r7:
// 0x00FF00FF, r8: sum of all r1, r9: of all r6, r10, r11: sums of their upper halves, r12: code
// behind a group's rows, lr: end of the rows. What r8 and r9 have beside the upper halves are the
// sums of the lower ones.
#define GROUP \
    "ldmia r0!, {r2, r3}\n" \
    "movs r1, r3\n" \
    "movs r6, r3\n"
#define LOAD_ROW \
    "ldmia r0!, {r2, r3}\n" \
    "ldr r2, [r2, r5]\n"
#define ADD_ROW \
    "lsrs r4, r2, #8\n" \
    "ands r2, r7\n" \
    "ands r4, r7\n" \
    "muls r2, r3\n" \
    "muls r4, r3\n" \
    "adds r1, r1, r2\n" \
    "adds r6, r6, r4\n"
#define END_GROUP \
    "add r8, r1\n" \
    "add r9, r6\n" \
    "asrs r1, r1, #16\n" \
    "asrs r6, r6, #16\n" \
    "add r10, r1\n" \
    "add r11, r6\n"

NAKED void edgelora_add_rows_s8(int32_t *acc, uint32_t columns, const edgelora_row_t *rows,
    const edgelora_row_t *end, int32_t low, uint32_t coding) {
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" STRING(ROWS_FRAME) "\n"
        "str r0, " SLOT(ROWS_ACC) "\n"
        "str r1, " SLOT(ROWS_COLUMNS) "\n"
        "str r2, " SLOT(ROWS_START) "\n"
        "mov lr, r3\n"
        "ldr r4, [sp, #" STRING(SAVED) " + " STRING(ROWS_FRAME) "]\n"
        "str r4, " SLOT(ROWS_LOW) "\n"
        "ldr r4, [sp, #" STRING(SAVED) " + " STRING(ROWS_FRAME) " + 4]\n"
        "str r4, " SLOT(ROWS_CODING) "\n"
        "movs r5, #0\n"
        "movs r7, #255\n"
        "lsls r4, r7, #16\n"
        "orrs r7, r4\n"
        "adr r4, 3f\n"
        "adds r4, #1\n"
        "mov r12, r4\n"
        "1:\n"                  // 4 columns
        "movs r1, #0\n"
        "mov r8, r1\n"
        "mov r9, r1\n"
        "mov r10, r1\n"
        "mov r11, r1\n"
        "ldr r0, " SLOT(ROWS_START) "\n"
        "ldr r1, " SLOT(ROWS_CODING) "\n"
        "cmp r1, #0\n"
        "bne 4f\n"
        "2:\n" GROUP
        "add r2, r12\n"
        "bx r2\n"
        ".balign 4\n"
        ".rept 8\n" LOAD_ROW ADD_ROW ".endr\n"
        "3:\n" END_GROUP
        "cmp r0, lr\n"
        "bne 2b\n"
        "b 7f\n"
        "4:\n"                  // s8
        "ldmia r0!, {r2, r3}\n"
        "5:\n"
        "movs r1, r3\n"
        "movs r6, r3\n"
        "ldmia r0!, {r2, r3}\n"
        "6:\n"
        "ldr r2, [r2, r5]\n"
        "ldr r4, " SLOT(ROWS_CODING) "\n"
        "eors r2, r4\n" ADD_ROW
        "ldmia r0!, {r2, r3}\n"
        "cmp r2, #0\n"
        "bgt 6b\n" END_GROUP
        "cmp r2, #0\n"
        "bne 5b\n"              // the next group's header, or what ends the rows
        "7:\n"
        "ldr r0, " SLOT(ROWS_ACC) "\n"
        "ldmia r0!, {r1, r2, r3, r4}\n"
        "subs r0, #16\n"
        "add r1, r8\n"
        "add r2, r9\n"
        "add r3, r10\n"
        "add r4, r11\n"
        "mov r6, r10\n"
        "lsls r6, r6, #16\n"
        "subs r1, r1, r6\n"
        "mov r6, r11\n"
        "lsls r6, r6, #16\n"
        "subs r2, r2, r6\n"
        "ldr r6, " SLOT(ROWS_LOW) "\n"
        "subs r1, r1, r6\n"
        "subs r2, r2, r6\n"
        "stmia r0!, {r1, r2, r3, r4}\n"
        "str r0, " SLOT(ROWS_ACC) "\n"
        "adds r5, #4\n"
        "ldr r2, " SLOT(ROWS_COLUMNS) "\n"
        "cmp r5, r2\n"
        "beq 8f\n"
        "b 1b\n"
        "8:\n"
        "add sp, #" STRING(ROWS_FRAME) "\n" RESTORE);
}

#endif
