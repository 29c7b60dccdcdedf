// A 3x3 kernel over a plane: 18 cycles for a kernel row and two outputs.
// SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

// The frame.
typedef struct {
    uint32_t acc, bias;
    uint32_t pairs_end, pairs_size; // of the inputs of a row's pairs of outputs
    uint32_t next_row;              // bytes from there to the next row
    uint32_t rows;                  // left
    uint32_t odd;                   // 1: a row has one output more than its pairs
    uint32_t pair;                  // code of one
} taps_frame_t;
#define TAPS_ACC 0
#define TAPS_BIAS 4
#define TAPS_PAIRS_END 8
#define TAPS_PAIRS_SIZE 12
#define TAPS_NEXT_ROW 16
#define TAPS_ROWS 20
#define TAPS_ODD 24
#define TAPS_PAIR 28
#define TAPS_FRAME 32
ASSERT_OFFSET(taps_frame_t, acc, TAPS_ACC)
ASSERT_OFFSET(taps_frame_t, bias, TAPS_BIAS)
ASSERT_OFFSET(taps_frame_t, pairs_end, TAPS_PAIRS_END)
ASSERT_OFFSET(taps_frame_t, pairs_size, TAPS_PAIRS_SIZE)
ASSERT_OFFSET(taps_frame_t, next_row, TAPS_NEXT_ROW)
ASSERT_OFFSET(taps_frame_t, rows, TAPS_ROWS)
ASSERT_OFFSET(taps_frame_t, odd, TAPS_ODD)
ASSERT_OFFSET(taps_frame_t, pair, TAPS_PAIR)
ASSERT_SIZE(taps_frame_t, TAPS_FRAME)

#define TAPS_ARG_X 0
#define TAPS_ARG_PITCH 4
#define TAPS_ARG_OUT_PITCH 8
#define TAPS_ARG_STRIDE 12
#define TAPS_ARG_OUT_H 16
#define TAPS_ARG_OUT_W 20
#define TAPS_ARG_ACC 24
#define TAPS_ARG_BIAS 28
#define TAPS_ARG_W 32
ASSERT_OFFSET(edgelora_taps_t, x, TAPS_ARG_X)
ASSERT_OFFSET(edgelora_taps_t, pitch, TAPS_ARG_PITCH)
ASSERT_OFFSET(edgelora_taps_t, out_pitch, TAPS_ARG_OUT_PITCH)
ASSERT_OFFSET(edgelora_taps_t, stride, TAPS_ARG_STRIDE)
ASSERT_OFFSET(edgelora_taps_t, out_h, TAPS_ARG_OUT_H)
ASSERT_OFFSET(edgelora_taps_t, out_w, TAPS_ARG_OUT_W)
ASSERT_OFFSET(edgelora_taps_t, acc, TAPS_ARG_ACC)
ASSERT_OFFSET(edgelora_taps_t, bias, TAPS_ARG_BIAS)
ASSERT_OFFSET(edgelora_taps_t, w, TAPS_ARG_W)

// One kernel row with two neighbouring outputs, sums r6 and r7: 18 cycles. The third weight's
// product holds one value for each output.
#define TAPS(p, w, w2) \
    "ldmia " p "!, {r3, r4}\n" \
    "mov r5, " w "\n" \
    DOT2("r3", "r5", "r6") DOT2("r4", "r5", "r7") \
    "ldr r3, [" p "]\n" \
    "mov r5, " w2 "\n" \
    "muls r3, r5\n" \
    "sxth r4, r3\n" \
    "adds r7, r7, r4\n" \
    "asrs r3, r3, #16\n" \
    "adcs r6, r3\n"

// The same with stride 2: 22 cycles
#define TAPS_2(p, w, w2) \
    "ldr r3, [" p "]\n" \
    "ldr r4, [" p ", #8]\n" \
    "mov r5, " w "\n" \
    DOT2("r3", "r5", "r6") \
    "movs r3, r4\n" \
    DOT2("r3", "r5", "r7") \
    "mov r5, " w2 "\n" \
    DOT2("r4", "r5", "r6") \
    "ldr r3, [" p ", #16]\n" \
    DOT2("r3", "r5", "r7") \
    "adds " p ", #16\n"

// One output alone
#define TAP(p, w, w2) \
    "ldr r3, [" p "]\n" \
    "mov r5, " w "\n" \
    DOT2("r3", "r5", "r6") \
    "ldr r3, [" p ", #8]\n" \
    "mov r5, " w2 "\n" \
    DOT2("r3", "r5", "r6")

NAKED void edgelora_taps_s8(const edgelora_taps_t *taps) {
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" STRING(TAPS_FRAME) "\n"
        "ldr r1, " FIELD(r0, TAPS_ARG_ACC) "\n"
        "str r1, " SLOT(TAPS_ACC) "\n"
        "ldr r1, " FIELD(r0, TAPS_ARG_BIAS) "\n"
        "str r1, " SLOT(TAPS_BIAS) "\n"
        "ldr r1, " FIELD(r0, TAPS_ARG_OUT_H) "\n"
        "str r1, " SLOT(TAPS_ROWS) "\n"
        "ldr r1, " FIELD(r0, TAPS_ARG_OUT_W) "\n"   // out_w
        "movs r2, #1\n"
        "ands r2, r1\n"
        "str r2, " SLOT(TAPS_ODD) "\n"
        "lsrs r1, r1, #1\n"
        "lsls r1, r1, #3\n"
        "adr r3, 1f\n"
        "ldr r2, " FIELD(r0, TAPS_ARG_STRIDE) "\n"   // stride
        "cmp r2, #1\n"
        "beq 3f\n"
        "lsls r1, r1, #1\n"
        "adr r3, 2f\n"
        "3:\n"
        "adds r3, #1\n"
        "cmp r1, #0\n"
        "bne 3f\n"
        "adr r3, 4f\n"          // no pair at all
        "adds r3, #1\n"
        "3:\n"
        "str r3, " SLOT(TAPS_PAIR) "\n"
        "str r1, " SLOT(TAPS_PAIRS_SIZE) "\n"
        "ldr r2, " FIELD(r0, TAPS_ARG_OUT_PITCH) "\n"
        "subs r2, r2, r1\n"
        "str r2, " SLOT(TAPS_NEXT_ROW) "\n"
        "ldr r7, " FIELD(r0, TAPS_ARG_X) "\n"
        "adds r1, r1, r7\n"
        "str r1, " SLOT(TAPS_PAIRS_END) "\n"
        "ldr r6, " FIELD(r0, TAPS_ARG_PITCH) "\n"
        "adds r0, #" STRING(TAPS_ARG_W) "\n"
        "ldmia r0!, {r1-r5}\n"
        "mov r8, r1\n"
        "mov r9, r2\n"
        "mov r10, r3\n"
        "mov r11, r4\n"
        "mov r12, r5\n"
        "ldr r1, [r0]\n"
        "mov lr, r1\n"
        "movs r0, r7\n"
        "adds r1, r0, r6\n"
        "adds r2, r1, r6\n"
        "ldr r3, " SLOT(TAPS_PAIR) "\n"
        "bx r3\n"
        ".balign 4\n"
        "1:\n"
        "ldr r6, " SLOT(TAPS_BIAS) "\n"
        "movs r7, r6\n"
        TAPS("r0", "r8", "r9") TAPS("r1", "r10", "r11") TAPS("r2", "r12", "lr")
        "ldr r5, " SLOT(TAPS_ACC) "\n"
        "stmia r5!, {r6, r7}\n"
        "str r5, " SLOT(TAPS_ACC) "\n"
        "ldr r3, " SLOT(TAPS_PAIRS_END) "\n"
        "cmp r0, r3\n"
        "bne 1b\n"
        "b 4f\n"
        ".balign 4\n"
        "2:\n"
        "ldr r6, " SLOT(TAPS_BIAS) "\n"
        "movs r7, r6\n"
        TAPS_2("r0", "r8", "r9") TAPS_2("r1", "r10", "r11") TAPS_2("r2", "r12", "lr")
        "ldr r5, " SLOT(TAPS_ACC) "\n"
        "stmia r5!, {r6, r7}\n"
        "str r5, " SLOT(TAPS_ACC) "\n"
        "ldr r3, " SLOT(TAPS_PAIRS_END) "\n"
        "cmp r0, r3\n"
        "bne 2b\n"
        ".balign 4\n"
        "4:\n"
        "ldr r4, " SLOT(TAPS_ODD) "\n"
        "cmp r4, #0\n"
        "beq 3f\n"
        "ldr r6, " SLOT(TAPS_BIAS) "\n"
        TAP("r0", "r8", "r9") TAP("r1", "r10", "r11") TAP("r2", "r12", "lr")
        "ldr r5, " SLOT(TAPS_ACC) "\n"
        "stmia r5!, {r6}\n"
        "str r5, " SLOT(TAPS_ACC) "\n"
        "3:\n"
        "ldr r3, " SLOT(TAPS_ROWS) "\n"
        "subs r3, #1\n"
        "beq 5f\n"
        "str r3, " SLOT(TAPS_ROWS) "\n"
        "ldr r3, " SLOT(TAPS_NEXT_ROW) "\n"
        "adds r0, r0, r3\n"
        "adds r1, r1, r3\n"
        "adds r2, r2, r3\n"
        "ldr r3, " SLOT(TAPS_PAIRS_SIZE) "\n"
        "adds r3, r3, r0\n"
        "str r3, " SLOT(TAPS_PAIRS_END) "\n"
        "ldr r3, " SLOT(TAPS_PAIR) "\n"
        "bx r3\n"
        "5:\n"
        "add sp, #" STRING(TAPS_FRAME) "\n" RESTORE);
}

#endif
