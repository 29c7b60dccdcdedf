// Sums of attention's backward pass. They stay in flash, whose cache holds their loops.
// SPDX-License-Identifier: MIT

#include "graph.h"
#include "kernels/packed/m0plus/m0plus.h"

#if defined(EDGELORA_M0PLUS) && EDGELORA_ATTENTION

#define WARM_NAKED EDGELORA_WARM __attribute__((noinline, naked, noipa))

// r4..r7 += 4 values at r0 times `factor`
#define ADD_ROW(factor) \
    "mov r1, " factor "\n" \
    "ldmia r0!, {r2, r3}\n" \
    "muls r2, r1\n" \
    "muls r3, r1\n" \
    "adds r4, r4, r2\n" \
    "adds r5, r5, r3\n" \
    "ldmia r0!, {r2, r3}\n" \
    "muls r2, r1\n" \
    "muls r3, r1\n" \
    "adds r6, r6, r2\n" \
    "adds r7, r7, r3\n"

// The stack frame.
typedef struct {
    const int32_t *factors, *values;
    uint32_t rows, row; // rows: left; row: bytes of sums
} outer_rows_frame_t;

// 76 cycles for 16 products, 23 more a row; a row of zeros is skipped. r0: values, r8-r11: factors,
// r12: sums, lr: end of the values.
WARM_NAKED void edgelora_add_outer_s32(int32_t *sums, const int32_t *factors, const int32_t *values,
    uint32_t rows, uint32_t groups) {
    OFFSETS(outer_rows_frame_t, factors, values, rows, row)
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" AT(outer_rows_frame_t) "\n"
        "mov r12, r0\n"
        "ldr r4, [sp, #" STRING(SAVED) " + " AT(outer_rows_frame_t) "]\n" // groups
        "str r1, " SLOT(outer_rows_frame_t.factors) "\n"
        "str r2, " SLOT(outer_rows_frame_t.values) "\n"
        "str r3, " SLOT(outer_rows_frame_t.rows) "\n"
        "lsls r5, r4, #4\n"
        "str r5, " SLOT(outer_rows_frame_t.row) "\n"
        "lsls r4, r4, #6\n"
        "adds r4, r4, r2\n"
        "mov lr, r4\n"
        ".balign 4\n"
        "1:\n"
        "ldr r1, " SLOT(outer_rows_frame_t.factors) "\n"
        "ldmia r1!, {r4-r7}\n"
        "str r1, " SLOT(outer_rows_frame_t.factors) "\n"
        "mov r8, r4\n"
        "mov r9, r5\n"
        "mov r10, r6\n"
        "mov r11, r7\n"
        "orrs r4, r5\n"
        "orrs r4, r6\n"
        "orrs r4, r7\n"
        "beq 3f\n"
        "ldr r0, " SLOT(outer_rows_frame_t.values) "\n"
        "2:\n"
        "mov r1, r12\n"
        "ldmia r1!, {r4-r7}\n" ADD_ROW("r8") ADD_ROW("r9") ADD_ROW("r10") ADD_ROW("r11")
        "mov r1, r12\n"
        "stmia r1!, {r4-r7}\n"
        "mov r12, r1\n"
        "cmp r0, lr\n"
        "bne 2b\n"
        "4:\n"
        "ldr r1, " SLOT(outer_rows_frame_t.rows) "\n"
        "subs r1, #1\n"
        "str r1, " SLOT(outer_rows_frame_t.rows) "\n"
        "bne 1b\n"
        "add sp, #" AT(outer_rows_frame_t) "\n" RESTORE
        "3:\n"
        "ldr r1, " SLOT(outer_rows_frame_t.row) "\n"
        "add r12, r1\n"
        "b 4b\n");
}

// The word of a pair at r0 + `at` times the factor r1: r4..r7 `upper` and `lower` += products
#define ADD_PAIR(at, upper, lower) \
    "ldr r2, [r0, #" at "]\n" \
    "sxth r3, r2\n" \
    "subs r2, r2, r3\n" \
    "asrs r2, r2, #16\n" \
    "muls r3, r1\n" \
    "muls r2, r1\n" \
    "adds " lower ", " lower ", r3\n" \
    "adds " upper ", " upper ", r2\n"

#define ADD_POSITION(p) \
    "mov r1, r12\n" \
    "ldr r1, [r1, #4 * " p "]\n" \
    "cmp r1, #0\n" \
    "beq 3" p "f\n" ADD_PAIR("4 * " p, "r4", "r6") ADD_PAIR("4 * " p " + 16", "r5", "r7") \
    "3" p ":\n"

// 23 cycles for 4 products, 6 for a factor of 0. r0: quads, r12: factors, lr: their end; r8: bytes
// from a quad of this group to the next, r9: sums, r10: groups left, r11: the group's first quad;
// at sp: factors.
WARM_NAKED void edgelora_weigh_quads_s32(int32_t *sums, const int32_t *factors,
    const uint32_t *quads, uint32_t count, uint32_t groups) {
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #4\n"
        "ldr r4, [sp, #" STRING(SAVED) " + 4]\n" // groups
        "str r1, [sp]\n"
        "mov r9, r0\n"
        "mov r10, r4\n"
        "lsls r4, r4, #5\n"
        "mov r8, r4\n"
        "mov r11, r2\n"
        "lsls r3, r3, #4\n"
        "adds r3, r3, r1\n"
        "mov lr, r3\n"
        ".balign 4\n"
        "1:\n"
        "ldr r1, [sp]\n"
        "mov r12, r1\n"
        "mov r0, r11\n"
        "movs r4, #0\n"
        "movs r5, #0\n"
        "movs r6, #0\n"
        "movs r7, #0\n"
        "2:\n" ADD_POSITION("0") ADD_POSITION("1") ADD_POSITION("2") ADD_POSITION("3")
        "add r0, r8\n"
        "movs r1, #16\n"
        "add r12, r1\n"
        "cmp r12, lr\n"
        "bne 2b\n"
        "mov r0, r9\n"
        "stmia r0!, {r4-r7}\n"
        "mov r9, r0\n"
        "movs r1, #32\n"
        "add r11, r1\n"
        "mov r1, r10\n"
        "subs r1, #1\n"
        "mov r10, r1\n"
        "bne 1b\n"
        "add sp, #4\n" RESTORE);
}

#endif
