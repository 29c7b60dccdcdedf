// Plain and M0+ inner products, bit-equal. SPDX-License-Identifier: MIT

#include "kernels/reference/dot.h"

#ifdef EDGELORA_M0PLUS

#pragma GCC diagnostic ignored "-Wunused-parameter" // the assembly takes them from their registers

// 23 cycles for 4 products: the row pointers, x and the index in low registers, sums and zp in high ones.
EDGELORA_KERNEL __attribute__((naked)) void edgelora_dot4_s8(
    const int8_t *rows, uint32_t n, const int8_t *x, int32_t zp, int32_t *acc) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "mov r4, r8\n"
        "mov r5, r9\n"
        "mov r6, r10\n"
        "mov r7, r11\n"
        "push {r4-r7}\n"
        "mov r12, r3\n"         // zp
        "mov r4, r2\n"          // x
        "ldr r7, [sp, #36]\n"   // acc
        "ldr r2, [r7, #0]\n"
        "mov r8, r2\n"
        "ldr r2, [r7, #4]\n"
        "mov r9, r2\n"
        "ldr r2, [r7, #8]\n"
        "mov r10, r2\n"
        "ldr r2, [r7, #12]\n"
        "mov r11, r2\n"
        "subs r5, r1, #1\n"     // i = n - 1
        "adds r2, r1, r1\n"
        "adds r3, r2, r1\n"
        "adds r1, r0, r1\n"     // row 1
        "adds r2, r0, r2\n"     // row 2
        "adds r3, r0, r3\n"     // row 3
        "1:\n"
        "ldrsb r6, [r4, r5]\n"
        "mov r7, r12\n"
        "subs r6, r6, r7\n"     // x[i] - zp
        "ldrsb r7, [r0, r5]\n"
        "muls r7, r6\n"
        "add r8, r7\n"
        "ldrsb r7, [r1, r5]\n"
        "muls r7, r6\n"
        "add r9, r7\n"
        "ldrsb r7, [r2, r5]\n"
        "muls r7, r6\n"
        "add r10, r7\n"
        "ldrsb r7, [r3, r5]\n"
        "muls r7, r6\n"
        "add r11, r7\n"
        "subs r5, #1\n"
        "bpl 1b\n"
        "ldr r7, [sp, #36]\n"
        "mov r0, r8\n"
        "mov r1, r9\n"
        "mov r2, r10\n"
        "mov r3, r11\n"
        "stmia r7!, {r0-r3}\n"
        "pop {r4-r7}\n"
        "mov r8, r4\n"
        "mov r9, r5\n"
        "mov r10, r6\n"
        "mov r11, r7\n"
        "pop {r4-r7, pc}\n");
}

#else

EDGELORA_KERNEL void edgelora_dot4_s8(const int8_t *rows, uint32_t n, const int8_t *x, int32_t zp, int32_t *acc) {
    for (uint32_t i = 0; i < n; ++i) {
        int32_t v = x[i] - zp;
        acc[0] += v * rows[i];
        acc[1] += v * rows[n + i];
        acc[2] += v * rows[2 * n + i];
        acc[3] += v * rows[3 * n + i];
    }
}

#endif
