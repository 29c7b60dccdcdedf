// B times t of one position: 32 cycles per output at rank 4, 49 at rank 8.
// SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

// In the order of `ldmia`.
ASSERT_WORDS(edgelora_branch_up_t, t, b, groups, bias, sums, outputs, shift)

// The stack frame.
typedef struct {
    uint32_t half, bits, end; // end: of sums
    uint32_t unused;
} up_frame_t;

// A group of B times its E and O of t; r3: mask, r8: constant that makes bytes signed, lr: offset
// binary
#define UP_GROUP(e, o) \
    "ldmia r0!, {r4}\n" \
    "mov r7, lr\n" \
    "eors r4, r7\n" \
    "lsrs r5, r4, #8\n" \
    "ands r4, r3\n" \
    "ands r5, r3\n" \
    "add r4, r8\n" \
    "add r5, r8\n" \
    "mov r7, " e "\n" \
    DOT2("r4", "r7", "r6") \
    "mov r7, " o "\n" \
    DOT2("r5", "r7", "r6")

// r0: b, r1: bias, r2: sums; r9 and r10, r11 and r12: E and O of the groups of t
#define UP_OUTPUTS(label, groups, shift) \
    ".balign 4\n" \
    label ":\n" \
    "ldr r6, " SLOT(up_frame_t.half) "\n" \
    groups \
    "ldr r7, " SLOT(up_frame_t.bits) "\n" \
    shift " r6, r7\n" \
    "ldmia r1!, {r7}\n" \
    "adds r6, r6, r7\n" \
    "stmia r2!, {r6}\n" \
    "ldr r7, " SLOT(up_frame_t.end) "\n" \
    "cmp r2, r7\n" \
    "bne " label "b\n" \
    "b 9f\n"

NAKED void edgelora_branch_up_s8(const edgelora_branch_up_t *up) {
    OFFSETS(up_frame_t, half, bits, end)
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" AT(up_frame_t) "\n"
        "ldmia r0!, {r1, r2, r3, r4, r5, r6, r7}\n" // t, b, groups, bias, sums, outputs, shift
        "movs r0, r2\n"
        "movs r2, r5\n"
        "lsls r6, r6, #2\n"
        "adds r6, r6, r5\n"
        "str r6, " SLOT(up_frame_t.end) "\n"
        "ldmia r1!, {r5, r6}\n"
        "mov r9, r5\n"
        "mov r10, r6\n"
        "adr r5, 1f\n"
        "adr r6, 2f\n"
        "cmp r3, #1\n"
        "beq 7f\n"
        "ldmia r1!, {r5, r6}\n"
        "mov r11, r5\n"
        "mov r12, r6\n"
        "adr r5, 3f\n"
        "adr r6, 4f\n"
        "7:\n"                  // r5: code that shifts to the right, r6: to the left
        "movs r1, #1\n"
        "lsls r1, r7\n"
        "lsrs r1, r1, #1\n"
        "cmp r7, #0\n"
        "bgt 8f\n"
        "movs r5, r6\n"
        "rsbs r7, r7, #0\n"
        "movs r1, #0\n"
        "8:\n"
        "str r1, " SLOT(up_frame_t.half) "\n"
        "str r7, " SLOT(up_frame_t.bits) "\n"
        "movs r1, r4\n"
        "movs r3, #128\n"
        "lsls r4, r3, #16\n"
        "orrs r3, r4\n"
        "rsbs r4, r3, #0\n"
        "mov r8, r4\n"
        "lsls r4, r3, #8\n"
        "orrs r4, r3\n"
        "mov lr, r4\n"
        "movs r3, #255\n"
        "lsls r4, r3, #16\n"
        "orrs r3, r4\n"
        "adds r5, #1\n"
        "bx r5\n"
        UP_OUTPUTS("1", UP_GROUP("r9", "r10"), "asrs")
        UP_OUTPUTS("2", UP_GROUP("r9", "r10"), "lsls")
        UP_OUTPUTS("3", UP_GROUP("r9", "r10") UP_GROUP("r11", "r12"), "asrs")
        UP_OUTPUTS("4", UP_GROUP("r9", "r10") UP_GROUP("r11", "r12"), "lsls")
        "9:\n"
        "add sp, #" AT(up_frame_t) "\n" RESTORE);
}

#endif
