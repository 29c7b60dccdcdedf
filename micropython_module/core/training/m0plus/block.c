// Values of error blocks on Cortex-M0+ (RP2040).
// SPDX-License-Identifier: MIT

#include "training/store.h"

#ifdef __ARM_ARCH_6M__

#include "thumb.h"

// Stores a value of a block and ORs its magnitude into the bits. r0: q, r1: bits, r3: shift, r8: step
#define STORE_ROUNDED(v, offset) \
    "asrs r5, " v ", #31\n" \
    "eors " v ", r5\n" \
    "subs " v ", " v ", r5\n" \
    "add " v ", " offset "\n" \
    "lsrs " v ", r3\n" \
    "orrs r1, " v "\n" \
    "eors " v ", r5\n" \
    "subs " v ", " v ", r5\n" \
    "strb " v ", [r0]\n" \
    "add r0, r8\n"
#define STORE_TWO \
    "ldmia r2!, {r4, r6}\n" STORE_ROUNDED("r4", "r10") STORE_ROUNDED("r6", "r11")

// 13 cycles each. r2: v, r9: end, r10, r11: offsets of the next value and of the one after it
NAKED uint32_t edgelora_block_store(int8_t *q, uint32_t step, const int32_t *v, uint32_t n,
    int32_t shift, uint32_t offset, uint32_t next) {
    __asm volatile(
        ".syntax unified\n" SAVE
        "ldr r4, [sp, #" STRING(SAVED) "]\n"
        "add r5, sp, #" STRING(SAVED) " + 4\n"
        "ldmia r5!, {r6, r7}\n" // offset, next
        "mov r8, r1\n"
        "mov r10, r6\n"
        "mov r11, r7\n"
        "movs r1, #0\n"
        "lsls r6, r3, #2\n"
        "adds r6, r6, r2\n"
        "mov r9, r6\n"
        "lsrs r6, r3, #1\n"
        "mov r3, r4\n" // keeps the carry
        "bcc 1f\n"
        "ldmia r2!, {r4}\n" STORE_ROUNDED("r4", "r10")
        "mov r4, r10\n"
        "mov r10, r7\n"
        "mov r11, r4\n"
        "1:\n"
        "mov r6, r9\n"         // an even number remains: an odd number of pairs?
        "subs r6, r6, r2\n"
        "beq 4f\n"
        "lsls r6, r6, #28\n"
        "bpl 3f\n" STORE_TWO
        "cmp r2, r9\n"
        "beq 4f\n"
        "3:\n" STORE_TWO STORE_TWO
        "cmp r2, r9\n"
        "bne 3b\n"
        "4:\n"
        "movs r0, r1\n" RESTORE);
}

#endif
