// Packs inputs: 14 cycles per group. Unpacks columns of weights.
// SPDX-License-Identifier: MIT

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

// The stack frame.
#define QUADS_FRAME 4

// r0: quad, r1: x, r2: code of a position's groups, lr: end of its x, r8: its size, r9: from behind
// the last position of a quad to the next quad, r10: positions done, r11: from the end of a
// position to the next one in the quad, down.
NAKED void edgelora_pack_quads_s8(
    uint32_t *quad, uint32_t stride, const int8_t *x, uint32_t positions, uint32_t groups) {
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" STRING(QUADS_FRAME) "\n"
        "str r3, [sp]\n"
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
        "ldr r7, [sp]\n"
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

// Bytes 0..3 of r4 above bytes 0..3 of r5, in offset binary: their pairs r3..r6. r7: 0x00FF00FF,
// r12: -0x00800080.
#define FOUR_PAIRS \
    "lsls r3, r4, #16\n" \
    "uxth r6, r5\n" \
    "orrs r3, r6\n" \
    "lsrs r5, r5, #16\n" \
    "lsrs r4, r4, #16\n" \
    "lsls r4, r4, #16\n" \
    "orrs r5, r4\n" \
    "lsrs r4, r3, #8\n" \
    "lsrs r6, r5, #8\n" \
    "ands r3, r7\n" \
    "ands r4, r7\n" \
    "ands r5, r7\n" \
    "ands r6, r7\n" \
    "add r3, r12\n" \
    "add r4, r12\n" \
    "add r5, r12\n" \
    "add r6, r12\n"
#define PAIR_CONSTANTS \
    "movs r7, #128\n" \
    "lsls r6, r7, #16\n" \
    "orrs r6, r7\n" \
    "rsbs r5, r6, #0\n" \
    "mov r12, r5\n" \
    "movs r7, #255\n" \
    "lsls r5, r7, #16\n" \
    "orrs r7, r5\n"

// Packs a word of both rows.
#define COLUMNS \
    "ldmia r1!, {r4}\n" \
    "ldmia r2!, {r5}\n" \
    "mov r3, r10\n" \
    "eors r4, r3\n" \
    "eors r5, r3\n" FOUR_PAIRS \
    "stmia r0!, {r3-r6}\n" \
    "add r0, r8\n"

// 31 cycles for 8 values. r0: quad, r1: upper row, r2: lower row, r8: from behind a quad's words to
// the next ones, r9: end of the upper row, r10: 0x80808080, r11: halves left, lr: place of the
// upper row's address.
NAKED void edgelora_pack_columns_s8(
    uint32_t *quad, uint32_t step, const int8_t *const rows[4], uint32_t quads) {
    __asm volatile(
        ".syntax unified\n" SAVE PAIR_CONSTANTS
        "lsls r5, r6, #8\n"
        "orrs r5, r6\n"
        "mov r10, r5\n"
        "mov lr, r2\n"
        "subs r1, #16\n"
        "mov r8, r1\n"
        "lsls r3, r3, #2\n"
        "movs r4, #2\n"
        "1:\n"                  // rows 0 and 2, then 1 and 3
        "mov r11, r4\n"
        "push {r0, r3}\n"
        "mov r4, lr\n"
        "ldr r2, [r4, #8]\n"
        "ldmia r4!, {r1}\n"
        "mov lr, r4\n"
        "mov r5, r3\n"
        "adds r5, r5, r1\n"
        "mov r9, r5\n"
        "lsls r3, r3, #29\n"    // an odd number of quads?
        "bmi 3f\n"
        "2:\n" COLUMNS
        "3:\n" COLUMNS
        "cmp r1, r9\n"
        "bne 2b\n"
        "pop {r0, r3}\n"
        "adds r0, #16\n"
        "mov r4, r11\n"
        "subs r4, #1\n"
        "bne 1b\n" RESTORE);
}

// 74 cycles for 16 weights: rows 0 and 2 of a group, then rows 1 and 3, lr bytes apart. r0: word of
// the first column, r1: row, r2: 2 * lr, r8: stride, r9: back from the last column to the next word
// of the first one, r10: coding, r11: end of the first column's words.
#define FOUR_COLUMNS \
    "ldr r5, [r1]\n" \
    "ldr r4, [r1, r2]\n" \
    "mov r3, r10\n" \
    "eors r4, r3\n" \
    "eors r5, r3\n" FOUR_PAIRS \
    "str r3, [r0]\n" \
    "add r0, r8\n" \
    "str r4, [r0]\n" \
    "add r0, r8\n" \
    "str r5, [r0]\n" \
    "add r0, r8\n" \
    "str r6, [r0]\n" \
    "add r0, r9\n" \
    "add r1, lr\n"

NAKED void edgelora_unpack_columns_s8(uint32_t *words, uint32_t stride, const uint8_t *from,
    uint32_t step, uint32_t groups, uint32_t coding) {
    __asm volatile(
        ".syntax unified\n" SAVE PAIR_CONSTANTS
        "ldr r4, [sp, #" STRING(SAVED) "]\n" // groups
        "lsls r4, r4, #3\n"
        "adds r4, r4, r0\n"
        "mov r11, r4\n"
        "ldr r4, [sp, #" STRING(SAVED) " + 4]\n" // coding
        "mov r10, r4\n"
        "mov r8, r1\n"
        "lsls r4, r1, #1\n"
        "adds r4, r4, r1\n"
        "movs r5, #4\n"
        "subs r5, r5, r4\n"
        "mov r9, r5\n"
        "mov lr, r3\n"
        "movs r1, r2\n"
        "lsls r2, r3, #1\n"
        "1:\n" FOUR_COLUMNS FOUR_COLUMNS
        "adds r1, r1, r2\n"
        "cmp r0, r11\n"
        "bne 1b\n" RESTORE);
}

#endif
