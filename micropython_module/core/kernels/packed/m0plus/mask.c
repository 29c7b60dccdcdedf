// Masks of outputs.
// SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

// n: 0x80 in the bytes of y without a mask bit: those whose lower 7 bits plus r7 reach 128 if y <
// 0. `a`: lost
#define BELOW(y, a) \
    "movs " a ", " y "\n" \
    "ands " a ", r3\n" \
    "adds " a ", " a ", r7\n" \
    "bics " y ", " a "\n" \
    "bics " y ", r3\n"

// Without an upper bound, compares 4 values at a time: 25 cycles for 8. With one, shifts in the
// carry of each comparison, set outside the range, from the last of 8 to the first: 55 cycles. r3:
// 0x7F7F7F7F, r7: 128 - (from + 128) in each byte, r2: 0x00204081, r12: end of the mask.
NAKED void edgelora_mask_bytes_s8(
    uint8_t *mask, const int8_t *y, uint32_t bytes, int32_t from, uint32_t width) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "ldr r4, [sp, #20]\n"    // width, above 5 registers
        "adds r2, r2, r0\n"
        "mov r12, r2\n"
        "lsls r5, r1, #30\n"     // y in words?
        "bne 2f\n"
        "cmp r3, #0\n"
        "bgt 2f\n"
        "adds r5, r3, r4\n"
        "cmp r5, #128\n"
        "bne 2f\n"
        "movs r4, #1\n"
        "lsls r5, r4, #8\n"
        "orrs r4, r5\n"
        "lsls r5, r4, #16\n"
        "orrs r4, r5\n"          // 0x01010101
        "rsbs r7, r3, #0\n"
        "muls r7, r4\n"
        "lsls r3, r4, #7\n"
        "subs r3, r3, r4\n"
        "movs r2, #129\n"
        "lsls r5, r2, #7\n"      // 0x00004080
        "adds r2, r5, #1\n"
        "lsls r5, r5, #7\n"      // 0x00204000
        "orrs r2, r5\n"
        "1:\n"
        "ldmia r1!, {r4, r5}\n" BELOW("r4", "r6") BELOW("r5", "r6")
        "lsrs r4, r4, #4\n"
        "orrs r4, r5\n"
        "lsrs r4, r4, #3\n"
        "muls r4, r2\n"
        "lsrs r4, r4, #21\n"
        "mvns r4, r4\n"
        "strb r4, [r0]\n"
        "adds r0, #1\n"
        "cmp r0, r12\n"
        "bne 1b\n"
        "pop {r4-r7, pc}\n"
        "2:\n"
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
        "cmp r0, r12\n"
        "bne 2b\n"
        "pop {r4-r7, pc}\n");
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
