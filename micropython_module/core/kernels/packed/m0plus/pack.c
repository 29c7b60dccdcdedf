// Packing inputs: 14 cycles a group. Unpacking columns of weights. SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

// r6: 4 values of x -> E, r7: O. r3 = 0x80808080, r4 = 16, r5 = 0x00FF00FF, r12 = -0x00800080
#define PACK \
    "ldmia r1!, {r6}\n" \
    "eors r6, r3\n" \
    "rors r6, r4\n" \
    "lsrs r7, r6, #8\n" \
    "ands r6, r5\n" \
    "ands r7, r5\n" \
    "add r6, r12\n" \
    "add r7, r12\n"
#define PACK_CONSTANTS \
    "movs r3, #128\n" \
    "lsls r4, r3, #16\n" \
    "orrs r3, r4\n" \
    "rsbs r4, r3, #0\n" \
    "mov r12, r4\n" \
    "lsls r4, r3, #8\n" \
    "orrs r3, r4\n" \
    "movs r5, #255\n" \
    "lsls r4, r5, #16\n" \
    "orrs r5, r4\n" \
    "movs r4, #16\n"

NAKED void edgelora_pack_quad_s8(uint32_t *quad, const int8_t *x, uint32_t groups) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n" PACK_CONSTANTS
        "lsrs r2, r2, #1\n"
        "bcc 1f\n"
        PACK
        "str r6, [r0, #0]\n"
        "str r7, [r0, #16]\n"
        "adds r0, #32\n"
        "cmp r2, #0\n"
        "beq 2f\n"
        "1:\n"
        PACK
        "str r6, [r0, #0]\n"
        "str r7, [r0, #16]\n"
        PACK
        "str r6, [r0, #32]\n"
        "str r7, [r0, #48]\n"
        "adds r0, #64\n"
        "subs r2, #1\n"
        "bne 1b\n"
        "2:\n"
        "pop {r4-r7, pc}\n");
}

#define PACK_GROUP(e, o) \
    PACK \
    "str r6, [r0, #" e "]\n" \
    "str r7, [r0, #" o "]\n"

// The frame.
#define QUADS_POSITIONS 0
#define QUADS_FRAME 4

// r0: quad, r1: x, r2: code of a position's groups, lr: end of its x, r8: its size, r9: from behind
// the last position of a quad to the next quad, r10: positions done, r11: from the end of a
// position to the next one in the quad, down.
NAKED void edgelora_pack_quads_s8(
    uint32_t *quad, uint32_t stride, const int8_t *x, uint32_t positions, uint32_t groups) {
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" STRING(QUADS_FRAME) "\n"
        "str r3, " SLOT(QUADS_POSITIONS) "\n"
        "subs r1, #16\n"
        "mov r9, r1\n"
        "movs r1, r2\n"
        "ldr r4, [sp, #" STRING(SAVED) " + " STRING(QUADS_FRAME) "]\n" // groups
        "lsls r5, r4, #2\n"
        "mov r8, r5\n"
        "lsls r5, r4, #5\n"
        "subs r5, #4\n"
        "mov r11, r5\n"
        "adr r2, 2f\n"
        "lsls r4, r4, #30\n"
        "beq 1f\n"
        "adr r2, 3f\n"
        "1:\n"
        "adds r2, #1\n"
        "movs r4, #0\n"
        "mov r10, r4\n" PACK_CONSTANTS
        "1:\n"
        "mov r6, r1\n"
        "add r6, r8\n"
        "mov lr, r6\n"
        "bx r2\n"
        ".balign 4\n"
        "2:\n" PACK_GROUP("0", "16") PACK_GROUP("32", "48")
        PACK_GROUP("64", "80") PACK_GROUP("96", "112")
        "adds r0, #128\n"
        "cmp r1, lr\n"
        "bne 2b\n"
        "b 4f\n"
        ".balign 4\n"
        "3:\n" PACK_GROUP("0", "16")
        "adds r0, #32\n"
        "cmp r1, lr\n"
        "bne 3b\n"
        "4:\n"
        "mov r6, r11\n"
        "subs r0, r0, r6\n"
        "mov r6, r10\n"
        "adds r6, #1\n"
        "mov r10, r6\n"
        "lsls r7, r6, #30\n"
        "bne 5f\n"
        "add r0, r9\n"
        "5:\n"
        "ldr r7, " SLOT(QUADS_POSITIONS) "\n"
        "cmp r6, r7\n"
        "bne 1b\n"
        "add sp, #" STRING(QUADS_FRAME) "\n" RESTORE);
}

NAKED void edgelora_pack_row_s8(uint32_t *pairs, const int8_t *x, uint32_t groups) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n" PACK_CONSTANTS
        "subs r2, #4\n"
        "bcc 2f\n"
        "1:\n"
        ".rept 4\n" PACK
        "stmia r0!, {r6, r7}\n"
        ".endr\n"
        "subs r2, #4\n"
        "bcs 1b\n"
        "2:\n"
        "adds r2, #4\n"
        "beq 4f\n"
        "3:\n" PACK
        "stmia r0!, {r6, r7}\n"
        "subs r2, #1\n"
        "bne 3b\n"
        "4:\n"
        "pop {r4-r7, pc}\n");
}

// Of two words of bytes r5 and r6, of which r4 leaves those of two columns: their pairs r5 and r7.
// r4: 0x00FF00FF, r12: -0x00800080.
#define TWO_COLUMNS \
    "ands r5, r4\n" \
    "ands r6, r4\n" \
    "lsrs r7, r5, #16\n" \
    "adds r7, r7, r6\n" \
    "uxth r6, r6\n" \
    "subs r7, r7, r6\n" \
    "lsls r6, r6, #16\n" \
    "uxth r5, r5\n" \
    "adds r5, r5, r6\n" \
    "add r5, r12\n" \
    "add r7, r12\n"

// A word of each of 4 columns, from rows r1 and r1 + r2. r0: of the first column, r3: coding, r8:
// stride, r9: -2 * stride.
#define FOUR_COLUMNS \
    "ldr r5, [r1]\n" \
    "ldr r6, [r1, r2]\n" \
    "eors r5, r3\n" \
    "eors r6, r3\n" \
    "lsrs r7, r5, #8\n" \
    "mov r10, r7\n" \
    "lsrs r7, r6, #8\n" \
    "mov r11, r7\n" TWO_COLUMNS \
    "str r5, [r0]\n" \
    "add r0, r8\n" \
    "add r0, r8\n" \
    "str r7, [r0]\n" \
    "mov r5, r10\n" \
    "mov r6, r11\n" TWO_COLUMNS \
    "add r0, r8\n" \
    "str r7, [r0]\n" \
    "add r0, r9\n" \
    "str r5, [r0]\n" \
    "add r0, r9\n" \
    "add r0, r8\n" \
    "adds r0, #4\n"

// The frame.
#define COLUMNS_END 0 // of the first column's words
#define COLUMNS_FRAME 4

// 106 cycles for 16 weights: rows 0 and 2 of a group, then rows 1 and 3, lr bytes apart.
NAKED void edgelora_unpack_columns_s8(uint32_t *words, uint32_t stride, const uint8_t *from,
    uint32_t step, uint32_t groups, uint32_t coding) {
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" STRING(COLUMNS_FRAME) "\n"
        "mov r8, r1\n"
        "lsls r4, r1, #1\n"
        "rsbs r4, r4, #0\n"
        "mov r9, r4\n"
        "mov lr, r3\n"
        "ldr r4, [sp, #" STRING(SAVED) " + " STRING(COLUMNS_FRAME) "]\n" // groups
        "lsls r4, r4, #3\n"
        "adds r4, r4, r0\n"
        "str r4, " SLOT(COLUMNS_END) "\n"
        "movs r1, r2\n"
        "lsls r2, r3, #1\n"
        "ldr r3, [sp, #" STRING(SAVED) " + " STRING(COLUMNS_FRAME) " + 4]\n" // coding
        "movs r4, #255\n"
        "lsls r5, r4, #16\n"
        "orrs r4, r5\n"
        "movs r5, #128\n"
        "lsls r6, r5, #16\n"
        "orrs r5, r6\n"
        "rsbs r5, r5, #0\n"
        "mov r12, r5\n"
        "1:\n" FOUR_COLUMNS
        "add r1, lr\n" FOUR_COLUMNS
        "add r1, lr\n"
        "adds r1, r1, r2\n"
        "ldr r5, " SLOT(COLUMNS_END) "\n"
        "cmp r0, r5\n"
        "bne 1b\n"
        "add sp, #" STRING(COLUMNS_FRAME) "\n" RESTORE);
}

#endif
