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

// r5: 255 in the bytes whose bits r4 has, of 4. r6: 0x00204081, r7: 0x01010101.
#define BYTES_OF_BITS \
    "muls r4, r6\n" \
    "ands r4, r7\n" \
    "lsls r5, r4, #8\n" \
    "subs r5, r5, r4\n"

// 27 cycles for 8 values.
NAKED void edgelora_apply_mask_s8(int8_t *e, const uint8_t *mask, uint32_t bytes) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "adds r2, r2, r1\n"
        "movs r6, #129\n"
        "lsls r7, r6, #7\n"     // 0x00004080
        "adds r6, r7, #1\n"
        "lsls r7, r7, #7\n"     // 0x00204000
        "orrs r6, r7\n"
        "movs r7, #1\n"
        "lsls r4, r7, #8\n"
        "orrs r7, r4\n"
        "lsls r4, r7, #16\n"
        "orrs r7, r4\n"
        "1:\n"
        "ldrb r3, [r1]\n"
        "adds r1, #1\n"
        "lsls r4, r3, #28\n"
        "lsrs r4, r4, #28\n" BYTES_OF_BITS
        "lsrs r4, r3, #4\n"
        "ldr r3, [r0]\n"
        "ands r3, r5\n" BYTES_OF_BITS
        "ldr r4, [r0, #4]\n"
        "ands r4, r5\n"
        "stmia r0!, {r3, r4}\n"
        "cmp r1, r2\n"
        "bne 1b\n"
        "pop {r4-r7, pc}\n");
}

#endif
