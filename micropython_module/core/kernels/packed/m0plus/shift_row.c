// Accumulators of A to t: 11 cycles each.
// SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

// r4: acc, r3: half of 2^shift, r7: shift. Values out of range are clamped after the loop.
#define LOW(over, back) \
    "ldmia r2!, {r4}\n" \
    "adds r4, r4, r3\n" \
    "asrs r4, r7\n" \
    "movs r5, r4\n" \
    "adds r5, #127\n" \
    "cmp r5, #254\n" \
    "bhi " over "f\n" \
    back ":\n" \
    "strb r4, [r0]\n" \
    "adds r0, r0, r1\n"
#define LOW_OVER(over, back) \
    over ":\n" \
    "asrs r4, r4, #31\n"  \
    "movs r5, #127\n" \
    "eors r4, r5\n"        /* 127 or -128 */ \
    "lsrs r5, r4, #31\n" \
    "adds r4, r4, r5\n" \
    "b " back "b\n"

// 11 cycles per value
NAKED void edgelora_shift_row_s8(
    int8_t *t, uint32_t step, const int32_t *acc, uint32_t count, int32_t shift) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "ldr r7, [sp, #20]\n"     // shift, above 5 registers
        "lsls r6, r3, #2\n"
        "adds r6, r6, r2\n"
        "movs r3, #1\n"
        "lsls r3, r7\n"
        "lsrs r3, r3, #1\n"
        "1:\n" LOW("10", "11") LOW("20", "21") LOW("30", "31") LOW("40", "41")
        "cmp r2, r6\n"
        "bne 1b\n"
        "pop {r4-r7, pc}\n" LOW_OVER("10", "11") LOW_OVER("20", "21")
        LOW_OVER("30", "31") LOW_OVER("40", "41"));
}

#endif
