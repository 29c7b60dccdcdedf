// SHA-512's rounds on a Cortex-M0+: 64 bits are two registers, rotated by shifts of both.
// SPDX-License-Identifier: MIT

#include "crypto.h"

#ifdef EDGELORA_SHA512_M0PLUS

#pragma GCC diagnostic ignored "-Wunused-parameter"  // assembly reads arguments from registers

// (r2, r3) = (r4, r5), low and high words, rotated right by n < 32; or that XOR (r2, r3). r6 is
// lost.
#define ROTATED(n, low, high) \
    "lsrs r2, " low ", #" #n "\n" \
    "lsls r6, " high ", #(32 - " #n ")\n" \
    "orrs r2, r6\n" \
    "lsrs r3, " high ", #" #n "\n" \
    "lsls r6, " low ", #(32 - " #n ")\n" \
    "orrs r3, r6\n"
#define XOR_ROTATED(n, low, high) \
    "lsrs r6, " low ", #" #n "\n" \
    "eors r2, r6\n" \
    "lsls r6, " high ", #(32 - " #n ")\n" \
    "eors r2, r6\n" \
    "lsrs r6, " high ", #" #n "\n" \
    "eors r3, r6\n" \
    "lsls r6, " low ", #(32 - " #n ")\n" \
    "eors r3, r6\n"
#define XOR_SHIFTED(n) \
    "lsrs r6, r4, #" #n "\n" \
    "eors r2, r6\n" \
    "lsls r6, r5, #(32 - " #n ")\n" \
    "eors r2, r6\n" \
    "lsrs r6, r5, #" #n "\n" \
    "eors r3, r6\n"
#define LOW_FIRST "r4", "r5"
#define HIGH_FIRST "r5", "r4"  // by 32 more
#define BY(macro, n, order) BY_(macro, n, order)
#define BY_(macro, n, low, high) macro(n, low, high)

#define LOAD(at) \
    "ldr r4, [r0, #" #at "]\n" \
    "ldr r5, [r0, #" #at " + 4]\n"
// (r2, r3) += the 64 bits there
#define ADD(at) LOAD(at) \
    "adds r2, r2, r4\n" \
    "adcs r3, r5\n"
#define STORE(at) \
    "str r2, [r0, #" #at "]\n" \
    "str r3, [r0, #" #at " + 4]\n"
// One word of both functions of three variables.
#define CHOICE(at, sum, carry) \
    "ldr r4, [r0, #32 + " #at "]\n" /* e, f, g */ \
    "ldr r5, [r0, #40 + " #at "]\n" \
    "ldr r6, [r0, #48 + " #at "]\n" \
    "eors r5, r6\n" \
    "ands r5, r4\n" \
    "eors r5, r6\n" carry " " sum ", r5\n"
#define MAJORITY(at, sum, carry) \
    "ldr r4, [r0, #0 + " #at "]\n" /* a, b, c */ \
    "ldr r5, [r0, #8 + " #at "]\n" \
    "ldr r6, [r0, #16 + " #at "]\n" \
    "movs r7, r4\n" \
    "orrs r7, r5\n" \
    "ands r7, r6\n" \
    "ands r4, r5\n" \
    "orrs r7, r4\n" carry " " sum ", r7\n"

// v: a to h, with room for 8 more words before them, where each round writes its a; d becomes e in
// place. w, k: words and constants of 8 rounds.
__attribute__((naked, noipa)) void edgelora_sha512_rounds(
    uint64_t *v, const uint64_t *w, const uint64_t *k) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "mov r4, r8\n"
        "push {r4}\n"
        "mov r12, r1\n"
        "mov lr, r2\n"
        "movs r1, #64\n"
        "add r1, r12\n"
        "mov r8, r1\n"
        "1:\n"
        LOAD(32)  // of e
        BY(ROTATED, 14, LOW_FIRST)
        BY(XOR_ROTATED, 18, LOW_FIRST)
        BY(XOR_ROTATED, 9, HIGH_FIRST)
        CHOICE(0, "r2", "adds")
        CHOICE(4, "r3", "adcs")
        ADD(56)  // h
        "mov r1, r12\n"
        "ldmia r1!, {r4, r5}\n"
        "mov r12, r1\n"
        "adds r2, r2, r4\n"
        "adcs r3, r5\n"
        "mov r1, lr\n"
        "ldmia r1!, {r4, r5}\n"
        "mov lr, r1\n"
        "adds r2, r2, r4\n"
        "adcs r3, r5\n"
        "movs r1, r2\n"
        "push {r3}\n"
        LOAD(24)  // d += first
        "adds r4, r4, r2\n"
        "adcs r5, r3\n"
        "str r4, [r0, #24]\n"
        "str r5, [r0, #28]\n"
        LOAD(0)  // of a
        BY(ROTATED, 28, LOW_FIRST)
        BY(XOR_ROTATED, 2, HIGH_FIRST)
        BY(XOR_ROTATED, 7, HIGH_FIRST)
        "pop {r4}\n"
        "adds r2, r2, r1\n"
        "adcs r3, r4\n"
        MAJORITY(0, "r2", "adds")
        MAJORITY(4, "r3", "adcs")
        "subs r0, #8\n"
        STORE(0)
        "cmp r12, r8\n"
        "beq 2f\n"
        "b 1b\n"
        "2:\n"
        "pop {r4}\n"
        "mov r8, r4\n"
        "pop {r4-r7, pc}\n");
}

// w[16 + i] = w[i] + two words between them + functions of two more, for 16 i.
__attribute__((naked, noipa)) void edgelora_sha512_schedule(uint64_t *w) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "movs r1, #128\n"
        "add r1, r0\n"
        "mov r12, r1\n"
        "1:\n"
        LOAD(8)
        BY(ROTATED, 1, LOW_FIRST)
        BY(XOR_ROTATED, 8, LOW_FIRST)
        XOR_SHIFTED(7)
        ADD(0)
        ADD(72)
        "movs r1, r2\n"
        "movs r7, r3\n"
        LOAD(112)
        BY(ROTATED, 19, LOW_FIRST)
        BY(XOR_ROTATED, 29, HIGH_FIRST)
        XOR_SHIFTED(6)
        "adds r2, r2, r1\n"
        "adcs r3, r7\n"
        "adds r0, #8\n"
        STORE(120)
        "cmp r0, r12\n"
        "bne 1b\n"
        "pop {r4-r7, pc}\n");
}

#endif
