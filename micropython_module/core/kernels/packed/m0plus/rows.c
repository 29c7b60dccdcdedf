// Rows of weights, each times one value, summed: 38 cycles for 8 products, of s8 42.
// SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

// As `ldmia` takes them.
ASSERT_OFFSET(edgelora_row_pair_t, first, 0)
ASSERT_OFFSET(edgelora_row_pair_t, second, 4)
ASSERT_OFFSET(edgelora_row_pair_t, first_value, 8)
ASSERT_OFFSET(edgelora_row_pair_t, second_value, 12)
ASSERT_OFFSET(edgelora_row_pair_t, offset, 16)
ASSERT_SIZE(edgelora_row_pair_t, 20)

// The frame.
#define ROWS_ACC 0
#define ROWS_COLUMNS 4 // bytes, of which r8 are done
#define ROWS_PAIRS 8
#define ROWS_LOW 12
#define ROWS_CODING 16
#define ROWS_FRAME 20

// r0: pairs, r7: 0x00FF00FF, r8: bytes of a row that are done, r9-r12: sums, lr: end of the pairs
#define LOAD_WORDS \
    "add r1, r8\n" \
    "add r2, r8\n" \
    "ldr r1, [r1]\n" \
    "ldr r2, [r2]\n"
#define LOAD_PAIR "ldmia r0!, {r1, r2, r3, r4}\n" LOAD_WORDS
#define LOAD_PAIR_S8 \
    "ldmia r0!, {r1, r2}\n" LOAD_WORDS \
    "ldr r3, " SLOT(ROWS_CODING) "\n" \
    "eors r1, r3\n" \
    "eors r2, r3\n" \
    "ldmia r0!, {r3, r4}\n"
#define ADD_PAIR \
    "lsrs r5, r1, #8\n" \
    "lsrs r6, r2, #8\n" \
    "ands r1, r7\n" \
    "ands r2, r7\n" \
    "ands r5, r7\n" \
    "ands r6, r7\n" \
    "muls r1, r3\n" \
    "muls r5, r3\n" \
    "muls r2, r4\n" \
    "muls r6, r4\n" \
    "ldmia r0!, {r3}\n" \
    "adds r1, r1, r2\n" \
    "adds r5, r5, r6\n" \
    "adds r1, r1, r3\n" \
    "adds r5, r5, r3\n" \
    "uxth r2, r1\n" \
    "uxth r6, r5\n" \
    "asrs r1, r1, #16\n" \
    "asrs r5, r5, #16\n" \
    "add r9, r2\n" \
    "add r10, r6\n" \
    "add r11, r1\n" \
    "add r12, r5\n"

NAKED void edgelora_add_rows_s8(int32_t *acc, uint32_t columns, const edgelora_row_pair_t *pairs,
    uint32_t count, uint32_t coding) {
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" STRING(ROWS_FRAME) "\n"
        "str r0, " SLOT(ROWS_ACC) "\n"
        "str r1, " SLOT(ROWS_COLUMNS) "\n"
        "str r2, " SLOT(ROWS_PAIRS) "\n"
        "lsls r4, r3, #15\n"
        "str r4, " SLOT(ROWS_LOW) "\n"
        "movs r4, #20\n"
        "muls r4, r3\n"
        "adds r4, r4, r2\n"
        "mov lr, r4\n"
        "ldr r4, [sp, #" STRING(SAVED) " + " STRING(ROWS_FRAME) "]\n"
        "str r4, " SLOT(ROWS_CODING) "\n"
        "movs r4, #0\n"
        "mov r8, r4\n"
        "movs r7, #255\n"
        "lsls r4, r7, #16\n"
        "orrs r7, r4\n"
        "1:\n"                  // 4 columns
        "ldr r0, " SLOT(ROWS_ACC) "\n"
        "ldmia r0!, {r1, r2, r3, r4}\n"
        "ldr r5, " SLOT(ROWS_LOW) "\n"
        "subs r1, r1, r5\n"
        "subs r2, r2, r5\n"
        "mov r9, r1\n"
        "mov r10, r2\n"
        "mov r11, r3\n"
        "mov r12, r4\n"
        "ldr r0, " SLOT(ROWS_PAIRS) "\n"
        "ldr r1, " SLOT(ROWS_CODING) "\n"
        "cmp r1, #0\n"
        "bne 3f\n"
        "2:\n" LOAD_PAIR ADD_PAIR
        "cmp r0, lr\n"
        "bne 2b\n"
        "b 4f\n"
        "3:\n" LOAD_PAIR_S8 ADD_PAIR
        "cmp r0, lr\n"
        "bne 3b\n"
        "4:\n"
        "ldr r0, " SLOT(ROWS_ACC) "\n"
        "mov r1, r9\n"
        "mov r2, r10\n"
        "mov r3, r11\n"
        "mov r4, r12\n"
        "stmia r0!, {r1, r2, r3, r4}\n"
        "str r0, " SLOT(ROWS_ACC) "\n"
        "mov r1, r8\n"
        "adds r1, #4\n"
        "mov r8, r1\n"
        "ldr r2, " SLOT(ROWS_COLUMNS) "\n"
        "cmp r1, r2\n"
        "bne 1b\n"
        "add sp, #" STRING(ROWS_FRAME) "\n" RESTORE);
}

#endif
