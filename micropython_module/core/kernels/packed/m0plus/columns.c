// Sums that become a block's values: 11 cycles each to store them, 11.5 to add two of them.
// SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

// A value in `v`: stored, and its magnitude. r0: q, r1: bits, r7: shift, r8: step; r3, r5 are lost.
// v + sign, shifted, is the complement of the magnitude where v < 0.
#define STORE(v) \
    "asrs r5, " v ", #31\n" \
    "adds " v ", " v ", r5\n" \
    "asrs " v ", r7\n" \
    "subs r3, " v ", r5\n" \
    "strb r3, [r0]\n" \
    "eors r5, " v "\n" \
    "orrs r1, r5\n" \
    "add r0, r8\n"

// r2: v, r9: end
NAKED uint32_t edgelora_store_column_s8(
    int8_t *q, uint32_t step, const int32_t *v, uint32_t n, int32_t shift) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "mov r4, r8\n"
        "mov r5, r9\n"
        "push {r4, r5}\n"
        "ldr r7, [sp, #28]\n"  // shift, behind 7 registers
        "mov r8, r1\n"
        "movs r1, #0\n"
        "lsls r6, r3, #2\n"
        "adds r6, r6, r2\n"
        "mov r9, r6\n"
        "lsrs r3, r3, #1\n"
        "bcc 1f\n"
        "ldmia r2!, {r4}\n" STORE("r4")
        "cmp r2, r9\n"
        "beq 4f\n"
        "1:\n"                 // an even number is left: an odd number of pairs?
        "mov r6, r9\n"
        "subs r6, r6, r2\n"
        "lsls r6, r6, #28\n"
        "lsrs r6, r6, #31\n"
        "beq 3f\n"
        "ldmia r2!, {r4, r6}\n" STORE("r4") STORE("r6")
        "cmp r2, r9\n"
        "beq 4f\n"
        "3:\n"
        "ldmia r2!, {r4, r6}\n" STORE("r4") STORE("r6")
        "ldmia r2!, {r4, r6}\n" STORE("r4") STORE("r6")
        "cmp r2, r9\n"
        "bne 3b\n"
        "4:\n"
        "movs r0, r1\n"
        "pop {r4, r5}\n"
        "mov r8, r4\n"
        "mov r9, r5\n"
        "pop {r4-r7, pc}\n");
}

// `to` += trunc_shift(from, r2)
#define ADD_SHIFTED(to, from) \
    "asrs r3, " from ", #31\n" \
    "adds " from ", " from ", r3\n" \
    "asrs " from ", r2\n" \
    "adds " to ", " to ", " from "\n" \
    "subs " to ", " to ", r3\n"

// r0: v, r1: w, r12: end of v
NAKED void edgelora_add_shifted_s32(int32_t *v, const int32_t *w, int32_t n, uint32_t count) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "lsls r4, r3, #2\n"
        "adds r4, r4, r0\n"
        "mov r12, r4\n"
        "lsrs r3, r3, #1\n"
        "bcc 1f\n"
        "ldmia r1!, {r4}\n"
        "ldr r6, [r0]\n" ADD_SHIFTED("r6", "r4")
        "stmia r0!, {r6}\n"
        "1:\n"
        "cmp r0, r12\n"
        "beq 3f\n"
        "2:\n"
        "ldmia r1!, {r4, r5}\n"
        "ldr r6, [r0]\n"
        "ldr r7, [r0, #4]\n" ADD_SHIFTED("r6", "r4") ADD_SHIFTED("r7", "r5")
        "stmia r0!, {r6, r7}\n"
        "cmp r0, r12\n"
        "bne 2b\n"
        "3:\n"
        "pop {r4-r7, pc}\n");
}

#endif
