// A 3x3 kernel over a plane: 18 cycles per kernel row and two outputs.
// SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

// The stack frame.
typedef struct {
    uint32_t acc, bias;
    uint32_t pairs_end, pairs_size; // inputs of a row's pairs of outputs
    uint32_t next_row;              // bytes from there to the next row
    uint32_t rows;                  // left
    uint32_t odd;                   // 1: a row has one output more than its pairs
    uint32_t pair;                  // code of one
} taps_frame_t;


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

// A single output
#define TAP(p, w, w2) \
    "ldr r3, [" p "]\n" \
    "mov r5, " w "\n" \
    DOT2("r3", "r5", "r6") \
    "ldr r3, [" p ", #8]\n" \
    "mov r5, " w2 "\n" \
    DOT2("r3", "r5", "r6")

NAKED void edgelora_taps_s8(const edgelora_taps_t *taps) {
    OFFSETS(taps_frame_t, acc, bias, rows, odd, pair, pairs_size, next_row, pairs_end)
    OFFSETS(edgelora_taps_t, acc, bias, out_h, out_w, stride, out_pitch, x, pitch, w)
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" AT(taps_frame_t) "\n"
        "ldr r1, " FIELD(r0, edgelora_taps_t.acc) "\n"
        "str r1, " SLOT(taps_frame_t.acc) "\n"
        "ldr r1, " FIELD(r0, edgelora_taps_t.bias) "\n"
        "str r1, " SLOT(taps_frame_t.bias) "\n"
        "ldr r1, " FIELD(r0, edgelora_taps_t.out_h) "\n"
        "str r1, " SLOT(taps_frame_t.rows) "\n"
        "ldr r1, " FIELD(r0, edgelora_taps_t.out_w) "\n"   // out_w
        "movs r2, #1\n"
        "ands r2, r1\n"
        "str r2, " SLOT(taps_frame_t.odd) "\n"
        "lsrs r1, r1, #1\n"
        "lsls r1, r1, #3\n"
        "adr r3, 1f\n"
        "ldr r2, " FIELD(r0, edgelora_taps_t.stride) "\n"   // stride
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
        "str r3, " SLOT(taps_frame_t.pair) "\n"
        "str r1, " SLOT(taps_frame_t.pairs_size) "\n"
        "ldr r2, " FIELD(r0, edgelora_taps_t.out_pitch) "\n"
        "subs r2, r2, r1\n"
        "str r2, " SLOT(taps_frame_t.next_row) "\n"
        "ldr r7, " FIELD(r0, edgelora_taps_t.x) "\n"
        "adds r1, r1, r7\n"
        "str r1, " SLOT(taps_frame_t.pairs_end) "\n"
        "ldr r6, " FIELD(r0, edgelora_taps_t.pitch) "\n"
        "adds r0, #" AT(edgelora_taps_t.w) "\n"
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
        "ldr r3, " SLOT(taps_frame_t.pair) "\n"
        "bx r3\n"
        ".balign 4\n"
        "1:\n"
        "ldr r6, " SLOT(taps_frame_t.bias) "\n"
        "movs r7, r6\n"
        TAPS("r0", "r8", "r9") TAPS("r1", "r10", "r11") TAPS("r2", "r12", "lr")
        "ldr r5, " SLOT(taps_frame_t.acc) "\n"
        "stmia r5!, {r6, r7}\n"
        "str r5, " SLOT(taps_frame_t.acc) "\n"
        "ldr r3, " SLOT(taps_frame_t.pairs_end) "\n"
        "cmp r0, r3\n"
        "bne 1b\n"
        "b 4f\n"
        ".balign 4\n"
        "2:\n"
        "ldr r6, " SLOT(taps_frame_t.bias) "\n"
        "movs r7, r6\n"
        TAPS_2("r0", "r8", "r9") TAPS_2("r1", "r10", "r11") TAPS_2("r2", "r12", "lr")
        "ldr r5, " SLOT(taps_frame_t.acc) "\n"
        "stmia r5!, {r6, r7}\n"
        "str r5, " SLOT(taps_frame_t.acc) "\n"
        "ldr r3, " SLOT(taps_frame_t.pairs_end) "\n"
        "cmp r0, r3\n"
        "bne 2b\n"
        ".balign 4\n"
        "4:\n"
        "ldr r4, " SLOT(taps_frame_t.odd) "\n"
        "cmp r4, #0\n"
        "beq 3f\n"
        "ldr r6, " SLOT(taps_frame_t.bias) "\n"
        TAP("r0", "r8", "r9") TAP("r1", "r10", "r11") TAP("r2", "r12", "lr")
        "ldr r5, " SLOT(taps_frame_t.acc) "\n"
        "stmia r5!, {r6}\n"
        "str r5, " SLOT(taps_frame_t.acc) "\n"
        "3:\n"
        "ldr r3, " SLOT(taps_frame_t.rows) "\n"
        "subs r3, #1\n"
        "beq 5f\n"
        "str r3, " SLOT(taps_frame_t.rows) "\n"
        "ldr r3, " SLOT(taps_frame_t.next_row) "\n"
        "adds r0, r0, r3\n"
        "adds r1, r1, r3\n"
        "adds r2, r2, r3\n"
        "ldr r3, " SLOT(taps_frame_t.pairs_size) "\n"
        "adds r3, r3, r0\n"
        "str r3, " SLOT(taps_frame_t.pairs_end) "\n"
        "ldr r3, " SLOT(taps_frame_t.pair) "\n"
        "bx r3\n"
        "5:\n"
        "add sp, #" AT(taps_frame_t) "\n" RESTORE);
}

#endif
