// Masks of outputs. SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

// From the last of 8 values to the first: the carry of each comparison, set outside the range, is
// shifted in.
NAKED void edgelora_mask_bytes_s8(
    uint8_t *mask, const int8_t *y, uint32_t bytes, int32_t from, uint32_t width) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r6, lr}\n"
        "ldr r4, [sp, #16]\n"     // width, behind 4 registers
        "1:\n"
        ".irp k, 7,6,5,4,3,2,1,0\n"
        "ldrb r5, [r1, #\\k]\n"
        "subs r5, r5, r3\n"
        "uxtb r5, r5\n"
        "cmp r5, r4\n"
        "adcs r6, r6\n"
        ".endr\n"
        "mvns r5, r6\n"
        "strb r5, [r0]\n"
        "adds r0, #1\n"
        "adds r1, #8\n"
        "subs r2, #1\n"
        "bne 1b\n"
        "pop {r4-r6, pc}\n");
}

#endif
