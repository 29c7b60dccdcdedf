// ChaCha20's block on a Cortex-M0+: 2,323 cycles; a quarter round takes 12, its loads and stores 10
// to 14.
// SPDX-License-Identifier: MIT

#include "crypto.h"

#ifdef EDGELORA_CHACHA20_M0PLUS

#pragma GCC diagnostic ignored "-Wunused-parameter"  // assembly reads arguments from registers

// Location of word n of the block: six in high registers, the others in a frame of 16 words.
#define WORD_0 HIGH, "r8"
#define WORD_1 HIGH, "r9"
#define WORD_2 HIGH, "r10"
#define WORD_3 HIGH, "r11"
#define WORD_4 HIGH, "r12"
#define WORD_5 HIGH, "lr"
#define WORD_6 FRAME, "24"
#define WORD_7 FRAME, "28"
#define WORD_8 FRAME, "32"
#define WORD_9 FRAME, "36"
#define WORD_10 FRAME, "40"
#define WORD_11 FRAME, "44"
#define WORD_12 FRAME, "48"
#define WORD_13 FRAME, "52"
#define WORD_14 FRAME, "56"
#define WORD_15 FRAME, "60"

#define HIGH_GET(r, word) "mov " r ", " word "\n"
#define HIGH_PUT(r, word) "mov " word ", " r "\n"
#define FRAME_GET(r, word) "ldr " r ", [sp, #" word "]\n"
#define FRAME_PUT(r, word) "str " r ", [sp, #" word "]\n"

// r4 to r7: rotations to the right, 16, 20, 24, 25
#define QUARTER_ROUND(...) QUARTER_ROUND_AT(__VA_ARGS__)
#define QUARTER_ROUND_AT(kind_a, a, kind_b, b, kind_c, c, kind_d, d) \
    kind_a##_GET("r0", a) kind_b##_GET("r1", b) kind_c##_GET("r2", c) kind_d##_GET("r3", d) \
    "adds r0, r0, r1\n" \
    "eors r3, r0\n" \
    "rors r3, r4\n" \
    "adds r2, r2, r3\n" \
    "eors r1, r2\n" \
    "rors r1, r5\n" \
    "adds r0, r0, r1\n" \
    "eors r3, r0\n" \
    "rors r3, r6\n" \
    "adds r2, r2, r3\n" \
    "eors r1, r2\n" \
    "rors r1, r7\n" \
    kind_a##_PUT("r0", a) kind_b##_PUT("r1", b) kind_c##_PUT("r2", c) kind_d##_PUT("r3", d)

#define COPY_4 \
    "ldmia r0!, {r4-r7}\n" \
    "stmia r2!, {r4-r7}\n"
#define ADD_2 \
    "ldmia r0!, {r3, r4}\n" \
    "ldmia r2!, {r5, r6}\n" \
    "adds r3, r3, r5\n" \
    "adds r4, r4, r6\n" \
    "stmia r1!, {r3, r4}\n"

__attribute__((naked, noipa)) void edgelora_chacha20_rounds(
    const uint32_t state[16], uint32_t block[16]) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "mov r4, r8\n"
        "mov r5, r9\n"
        "mov r6, r10\n"
        "mov r7, r11\n"
        "push {r4-r7}\n"
        "movs r2, #10\n"
        "push {r0-r2}\n"  // above the frame: state, block, double rounds left
        "sub sp, #64\n"
        "mov r2, sp\n"
        COPY_4
        "mov r8, r4\n"
        "mov r9, r5\n"
        "mov r10, r6\n"
        "mov r11, r7\n"
        COPY_4
        "mov r12, r4\n"
        "mov lr, r5\n"
        COPY_4 COPY_4
        "movs r4, #16\n"
        "movs r5, #20\n"
        "movs r6, #24\n"
        "movs r7, #25\n"
        "1:\n"
        QUARTER_ROUND(WORD_0, WORD_4, WORD_8, WORD_12)
        QUARTER_ROUND(WORD_1, WORD_5, WORD_9, WORD_13)
        QUARTER_ROUND(WORD_2, WORD_6, WORD_10, WORD_14)
        QUARTER_ROUND(WORD_3, WORD_7, WORD_11, WORD_15)
        QUARTER_ROUND(WORD_0, WORD_5, WORD_10, WORD_15)
        QUARTER_ROUND(WORD_1, WORD_6, WORD_11, WORD_12)
        QUARTER_ROUND(WORD_2, WORD_7, WORD_8, WORD_13)
        QUARTER_ROUND(WORD_3, WORD_4, WORD_9, WORD_14)
        "ldr r0, [sp, #72]\n"
        "subs r0, #1\n"
        "str r0, [sp, #72]\n"
        "beq 2f\n"
        "b 1b\n"
        "2:\n"
        "mov r2, sp\n"
        "mov r4, r8\n"
        "mov r5, r9\n"
        "mov r6, r10\n"
        "mov r7, r11\n"
        "stmia r2!, {r4-r7}\n"
        "mov r4, r12\n"
        "mov r5, lr\n"
        "stmia r2!, {r4, r5}\n"
        "mov r2, sp\n"
        "ldr r0, [sp, #64]\n"
        "ldr r1, [sp, #68]\n"
        ADD_2 ADD_2 ADD_2 ADD_2 ADD_2 ADD_2 ADD_2 ADD_2
        "movs r4, #0\n"  // wipe the frame: with the block, it reveals the key
        "movs r5, #0\n"
        "movs r6, #0\n"
        "movs r7, #0\n"
        "mov r2, sp\n"
        "stmia r2!, {r4-r7}\n"
        "stmia r2!, {r4-r7}\n"
        "stmia r2!, {r4-r7}\n"
        "stmia r2!, {r4-r7}\n"
        "add sp, #76\n"
        "pop {r4-r7}\n"
        "mov r8, r4\n"
        "mov r9, r5\n"
        "mov r10, r6\n"
        "mov r11, r7\n"
        "pop {r4-r7, pc}\n");
}

#endif
