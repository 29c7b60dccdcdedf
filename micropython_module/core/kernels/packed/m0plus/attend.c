// Sums of attention's backward pass. They stay in flash, whose cache holds their loops.
// SPDX-License-Identifier: MIT

#include "graph.h"
#include "kernels/packed/m0plus/m0plus.h"

#if defined(EDGELORA_M0PLUS) && EDGELORA_ATTENTION

// r8..r11 += 4 values at r1 times `factor`
#define ADD_ROW(factor) \
    "ldmia r1!, {r2-r5}\n" \
    "muls r2, " factor "\n" \
    "muls r3, " factor "\n" \
    "muls r4, " factor "\n" \
    "muls r5, " factor "\n" \
    "add r8, r2\n" \
    "add r9, r3\n" \
    "add r10, r4\n" \
    "add r11, r5\n"

#define ADD_FOUR_ROWS \
    "ldmia r0!, {r6, r7}\n" ADD_ROW("r6") ADD_ROW("r7") \
    "ldmia r0!, {r6, r7}\n" ADD_ROW("r6") ADD_ROW("r7")

// The stack frame.
typedef struct {
    const int32_t *factors, *values; // values: of the group
    uint32_t odd;                    // is the number of fours odd?
} weigh_rows_frame_t;

// 119 cycles for 8 rows of 4 values, 39 more a group. r0: factors, r12: their end, r1: values,
// r8-r11: sums, lr: where they are.
EDGELORA_WARM __attribute__((noinline, naked, noipa)) void edgelora_weigh_rows_s32(int32_t *sums,
    const int32_t *factors, const int32_t *values, uint32_t count, uint32_t groups, uint32_t step) {
    OFFSETS(weigh_rows_frame_t, factors, values, odd)
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" AT(weigh_rows_frame_t) "\n"
        "mov lr, r0\n"
        "str r1, " SLOT(weigh_rows_frame_t.factors) "\n"
        "str r2, " SLOT(weigh_rows_frame_t.values) "\n"
        "lsls r4, r3, #29\n"
        "str r4, " SLOT(weigh_rows_frame_t.odd) "\n"
        "lsls r3, r3, #2\n"
        "adds r3, r3, r1\n"
        "mov r12, r3\n"
        "1:\n"
        "mov r0, lr\n"
        "ldmia r0!, {r4-r7}\n"
        "mov r8, r4\n"
        "mov r9, r5\n"
        "mov r10, r6\n"
        "mov r11, r7\n"
        "ldr r0, " SLOT(weigh_rows_frame_t.factors) "\n"
        "ldr r1, " SLOT(weigh_rows_frame_t.values) "\n"
        "ldr r2, " SLOT(weigh_rows_frame_t.odd) "\n"
        "cmp r2, #0\n"
        "bne 3f\n"
        ".balign 4\n"
        "2:\n" ADD_FOUR_ROWS
        "3:\n" ADD_FOUR_ROWS
        "cmp r0, r12\n"
        "bne 2b\n"
        "mov r4, r8\n"
        "mov r5, r9\n"
        "mov r6, r10\n"
        "mov r7, r11\n"
        "mov r0, lr\n"
        "stmia r0!, {r4-r7}\n"
        "mov lr, r0\n"
        "ldr r1, " SLOT(weigh_rows_frame_t.values) "\n"
        "ldr r2, [sp, #" STRING(SAVED) " + " AT(weigh_rows_frame_t) " + 4]\n" // step
        "adds r1, r1, r2\n"
        "str r1, " SLOT(weigh_rows_frame_t.values) "\n"
        "ldr r2, [sp, #" STRING(SAVED) " + " AT(weigh_rows_frame_t) "]\n" // groups
        "subs r2, #1\n"
        "str r2, [sp, #" STRING(SAVED) " + " AT(weigh_rows_frame_t) "]\n"
        "bne 1b\n"
        "add sp, #" AT(weigh_rows_frame_t) "\n" RESTORE);
}

#endif
