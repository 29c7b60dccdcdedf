// A 3x3 kernel over a strip of columns: 57 cycles for two outputs, with two kernel rows 38.
// SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

// The stack frame. There are three kinds of rows: with all kernel rows, without the last, without
// the first.
typedef struct {
    uint32_t rows_end;                // of x, of the rows of this kind
    uint32_t pairs;                   // code of a row's pairs of outputs
    uint32_t gap;
    uint32_t rest;                    // code of what follows the pairs
    uint32_t bottom, x;               // of the strip
    uint32_t next_kind;               // code
    uint32_t pairs_of_2, rest_of_2;   // pairs and rest with two kernel rows
    uint32_t pairs_of_3, rest_of_3;   // and with three
    uint32_t bias_top, bias_bottom;   // without the first kernel row, without the last
    uint32_t zero_point, bias;
    uint32_t weights, next_bias;      // of the next channel
    uint32_t channels;                // left
    uint32_t plane, step, acc_step;   // of the strip
    uint32_t acc;                     // of the next channel
    // rows with all kernel rows: bytes of acc before them, the end of x, and x
    uint32_t before_middle, middle_end, middle;
} strip_frame_t;



// Products of kernel row 0 plus bias for the outputs r6 and r7 of columns 2 * \k and 2 * \k + 1: 11
// cycles
#define STRIP_FIRST_PAIR(w) \
    "ldr r6, [r0, #8 * \\k]\n" \
    "ldr r7, [r0, #8 * \\k + 4]\n" \
    "mov r5, " w "\n" \
    FIRST_DOT2("r6", "r5", "r2") FIRST_DOT2("r7", "r5", "r2")

// The same of kernel row k, added
#define STRIP_PAIR(k, w) \
    "ldr r3, [r0, #" AT(STRIP_PITCH) " * " k " + 8 * \\k]\n" \
    "ldr r4, [r0, #" AT(STRIP_PITCH) " * " k " + 8 * \\k + 4]\n" \
    "mov r5, " w "\n" \
    DOT2("r3", "r5", "r6") DOT2("r4", "r5", "r7")

// to = x[row k, two columns on] * third weight: one product for each output; two of them fit 16
// bits
#define STRIP_THIRD(k, w, to) \
    "ldr " to ", [r0, #" AT(STRIP_PITCH) " * " k " + 8 * \\k + 8]\n" \
    "mov r5, " w "\n" \
    "muls " to ", r5\n"
#define STRIP_ADD \
    "sxth r4, r3\n" \
    "adds r7, r7, r4\n" \
    "asrs r3, r3, #16\n" \
    "adcs r6, r3\n"

// Only the output r6 of column 8
#define STRIP_FIRST_SINGLE(w) \
    "ldr r6, [r0, #32]\n" \
    "mov r5, " w "\n" \
    FIRST_DOT2("r6", "r5", "r2")
#define STRIP_SINGLE(k, w) \
    "ldr r3, [r0, #" AT(STRIP_PITCH) " * " k " + 32]\n" \
    "mov r5, " w "\n" \
    DOT2("r3", "r5", "r6")
#define STRIP_SINGLE_THIRD(k, w, to) \
    "ldr " to ", [r0, #" AT(STRIP_PITCH) " * " k " + 40]\n" \
    "mov r5, " w "\n" \
    "muls " to ", r5\n"

// Weight words of a kernel row; r1: weights, r2: step, r6: 0x00800080
#define ROW_WEIGHTS(sum, first, third) \
    "ldrb r3, [r1]\n" \
    "adds r1, r1, r2\n" \
    "ldrb r4, [r1]\n" \
    "adds r1, r1, r2\n" \
    "ldrb r5, [r1]\n" \
    "adds r1, r1, r2\n" \
    sum \
    "lsls r4, r4, #16\n" \
    "adds r3, r3, r4\n" \
    "subs r3, r3, r6\n" \
    "mov " first ", r3\n" \
    "subs r5, #128\n" \
    "mov " third ", r5\n"
// The bias plus the products of a row of zero points
#define ROW_BIAS(at) \
    "adds r7, r3, r4\n" \
    "adds r7, r7, r5\n" \
    "subs r7, #192\n" \
    "subs r7, #192\n" \
    "ldr r0, " SLOT(strip_frame_t.zero_point) "\n" \
    "muls r7, r0\n" \
    "ldr r0, " SLOT(strip_frame_t.bias) "\n" \
    "adds r7, r7, r0\n" \
    "str r7, " SLOT(at) "\n"

// r0: x, so that a row's pairs end before column 8; r1: acc, r2: bias; r8-r12, lr: weights.
NAKED void edgelora_strip_s8(const edgelora_strip_t *strip) {
    OFFSETS(strip_frame_t, gap, x, pairs_of_2, pairs_of_3, rest_of_2, rest_of_3, weights,
        next_bias, acc, zero_point, channels, plane, step, acc_step, bottom, before_middle)
    OFFSETS(strip_frame_t, middle, middle_end, bias, bias_top, bias_bottom, rows_end, next_kind,
        pairs, rest)
    OFFSETS(edgelora_strip_t, gap, out_w, x, weights, bias, acc, zero_point, channels, plane,
        step, acc_step, bottom, top, middle)
    SET(STRIP_PITCH, 4 * EDGELORA_STRIP_PITCH);
    OFFSETS(edgelora_plane_t, x)
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" AT(strip_frame_t) "\n"
        "ldr r1, " FIELD(r0, edgelora_strip_t.gap) "\n"
        "str r1, " SLOT(strip_frame_t.gap) "\n"
        "ldr r3, " FIELD(r0, edgelora_strip_t.out_w) "\n"    // out_w
        "lsrs r4, r3, #1\n"
        "movs r5, #4\n"
        "subs r5, r5, r4\n"     // pairs of 4 to leave out
        "lsls r6, r5, #3\n"
        "ldr r7, " FIELD(r0, edgelora_strip_t.x) "\n"
        "subs r7, r7, r6\n"
        "str r7, " SLOT(strip_frame_t.x) "\n"
        "movs r6, #60\n"        // bytes of code a pair
        "muls r6, r5\n"
        "adr r4, 2f\n"
        "adds r6, r6, r4\n"
        "adds r6, #1\n"
        "str r6, " SLOT(strip_frame_t.pairs_of_2) "\n"
        "movs r6, #92\n"
        "muls r6, r5\n"
        "adr r4, 3f\n"
        "adds r6, r6, r4\n"
        "adds r6, #1\n"
        "str r6, " SLOT(strip_frame_t.pairs_of_3) "\n"
        "adr r4, 9f\n"
        "movs r5, r4\n"
        "lsls r3, r3, #31\n"
        "beq 1f\n"
        "adr r4, 12f\n"
        "adr r5, 13f\n"
        "1:\n"
        "adds r4, #1\n"
        "adds r5, #1\n"
        "str r4, " SLOT(strip_frame_t.rest_of_2) "\n"
        "str r5, " SLOT(strip_frame_t.rest_of_3) "\n"
        "ldr r1, " FIELD(r0, edgelora_strip_t.weights) "\n"
        "str r1, " SLOT(strip_frame_t.weights) "\n"
        "ldr r1, " FIELD(r0, edgelora_strip_t.bias) "\n"
        "str r1, " SLOT(strip_frame_t.next_bias) "\n"
        "ldr r1, " FIELD(r0, edgelora_strip_t.acc) "\n"
        "str r1, " SLOT(strip_frame_t.acc) "\n"
        "ldr r1, " FIELD(r0, edgelora_strip_t.zero_point) "\n"
        "str r1, " SLOT(strip_frame_t.zero_point) "\n"
        "ldr r1, " FIELD(r0, edgelora_strip_t.channels) "\n"
        "str r1, " SLOT(strip_frame_t.channels) "\n"
        "ldr r1, " FIELD(r0, edgelora_strip_t.plane) "\n"
        "str r1, " SLOT(strip_frame_t.plane) "\n"
        "ldr r1, " FIELD(r0, edgelora_strip_t.step) "\n"
        "str r1, " SLOT(strip_frame_t.step) "\n"
        "ldr r1, " FIELD(r0, edgelora_strip_t.acc_step) "\n"
        "str r1, " SLOT(strip_frame_t.acc_step) "\n"
        "ldr r1, " FIELD(r0, edgelora_strip_t.bottom) "\n"
        "str r1, " SLOT(strip_frame_t.bottom) "\n"
        "movs r2, #0\n"
        "ldr r3, " FIELD(r0, edgelora_strip_t.top) "\n"   // top: comes last
        "cmp r3, #0\n"
        "beq 1f\n"
        "ldr r2, " FIELD(r0, edgelora_strip_t.out_w) "\n"
        "lsls r2, r2, #2\n"
        "ldr r3, " SLOT(strip_frame_t.gap) "\n"
        "adds r2, r2, r3\n"
        "adds r7, #" AT(STRIP_PITCH) "\n"      // x
        "1:\n"
        "str r2, " SLOT(strip_frame_t.before_middle) "\n"
        "str r7, " SLOT(strip_frame_t.middle) "\n"
        "ldr r3, " FIELD(r0, edgelora_strip_t.middle) "\n"
        "movs r4, #" AT(STRIP_PITCH) "\n"
        "muls r4, r3\n"
        "adds r7, r7, r4\n"
        "str r7, " SLOT(strip_frame_t.middle_end) "\n"
        "26:\n"                 // a channel
        "ldr r0, " SLOT(strip_frame_t.plane) "\n"
        "cmp r0, #0\n"
        "beq 1f\n"
        "bl edgelora_plane_rows\n"
        "ldr r4, " SLOT(strip_frame_t.plane) "\n"
        "ldr r1, " FIELD(r4, edgelora_plane_t.x) "\n"
        "adds r1, #1\n"
        "str r1, " FIELD(r4, edgelora_plane_t.x) "\n"
        "1:\n"
        "ldr r0, " SLOT(strip_frame_t.next_bias) "\n"
        "ldmia r0!, {r1}\n"
        "str r0, " SLOT(strip_frame_t.next_bias) "\n"
        "str r1, " SLOT(strip_frame_t.bias) "\n"
        "ldr r1, " SLOT(strip_frame_t.weights) "\n"
        "adds r2, r1, #1\n"
        "str r2, " SLOT(strip_frame_t.weights) "\n"
        "ldr r2, " SLOT(strip_frame_t.step) "\n"
        "movs r6, #128\n"
        "lsls r5, r6, #16\n"
        "orrs r6, r5\n"
        ROW_WEIGHTS(ROW_BIAS(strip_frame_t.bias_top), "r8", "r9") ROW_WEIGHTS("", "r10", "r11")
        ROW_WEIGHTS(ROW_BIAS(strip_frame_t.bias_bottom), "r12", "lr")
        "add r3, sp, #" AT(strip_frame_t.acc) "\n"
        "ldmia r3!, {r4, r5, r6, r7}\n" // acc, what is before the middle, its end, itself
        "adds r1, r4, r5\n"
        "cmp r7, r6\n"         // all kernel rows
        "beq 22f\n"
        "str r6, " SLOT(strip_frame_t.rows_end) "\n"
        "ldr r2, " SLOT(strip_frame_t.bias) "\n"
        "adr r4, 21f\n"
        "adds r4, #1\n"
        "str r4, " SLOT(strip_frame_t.next_kind) "\n"
        "ldr r3, " SLOT(strip_frame_t.pairs_of_3) "\n"
        "ldr r4, " SLOT(strip_frame_t.rest_of_3) "\n"
        "b 23f\n"
        ".balign 4\n"
        "21:\n"
        "movs r7, r0\n"
        "22:\n"                 // without the last one
        "ldr r3, " SLOT(strip_frame_t.bottom) "\n"
        "cmp r3, #0\n"
        "beq 25f\n"
        "ldr r2, " SLOT(strip_frame_t.bias_bottom) "\n"
        "adr r3, 25f\n"
        "b 20f\n"
        ".balign 4\n"
        "25:\n"                 // without the first one
        "ldr r3, " SLOT(strip_frame_t.before_middle) "\n"
        "cmp r3, #0\n"
        "beq 24f\n"
        "mov r8, r10\n"
        "mov r9, r11\n"
        "mov r10, r12\n"
        "mov r11, lr\n"
        "ldr r1, " SLOT(strip_frame_t.acc) "\n"
        "ldr r7, " SLOT(strip_frame_t.x) "\n"
        "adds r7, #" AT(STRIP_PITCH) "\n"
        "ldr r2, " SLOT(strip_frame_t.bias_top) "\n"
        "adr r3, 24f\n"
        "20:\n"                 // a row at r7
        "adds r3, #1\n"
        "str r3, " SLOT(strip_frame_t.next_kind) "\n"
        "movs r3, #" AT(STRIP_PITCH) "\n"
        "adds r3, r3, r7\n"
        "str r3, " SLOT(strip_frame_t.rows_end) "\n"
        "ldr r3, " SLOT(strip_frame_t.pairs_of_2) "\n"
        "ldr r4, " SLOT(strip_frame_t.rest_of_2) "\n"
        "23:\n"
        "str r3, " SLOT(strip_frame_t.pairs) "\n"
        "str r4, " SLOT(strip_frame_t.rest) "\n"
        "movs r0, r7\n"
        "bx r3\n"
        ".balign 4\n"
        "24:\n"
        "ldr r1, " SLOT(strip_frame_t.channels) "\n"
        "subs r1, #1\n"
        "str r1, " SLOT(strip_frame_t.channels) "\n"
        "beq 1f\n"
        "ldr r1, " SLOT(strip_frame_t.acc) "\n"
        "ldr r2, " SLOT(strip_frame_t.acc_step) "\n"
        "adds r1, r1, r2\n"
        "str r1, " SLOT(strip_frame_t.acc) "\n"
        "b 26b\n"
        "1:\n"
        "add sp, #" AT(strip_frame_t) "\n" RESTORE
        ".balign 4\n"
        "12:\n"
        STRIP_FIRST_SINGLE("r8") STRIP_SINGLE("1", "r10")
        "b 1f\n"
        ".balign 4\n"
        "13:\n"
        STRIP_FIRST_SINGLE("r8") STRIP_SINGLE("1", "r10") STRIP_SINGLE("2", "r12")
        STRIP_SINGLE_THIRD("2", "lr", "r3")
        "asrs r3, r3, #16\n"
        "adcs r6, r3\n"
        "1:\n"
        STRIP_SINGLE_THIRD("0", "r9", "r3") STRIP_SINGLE_THIRD("1", "r11", "r4")
        "adds r3, r3, r4\n"
        "asrs r3, r3, #16\n"
        "adcs r6, r3\n"
        "stmia r1!, {r6}\n"
        ".balign 4\n"
        "9:\n"                  // the next row
        "mov r7, sp\n"
        "ldmia r7!, {r3, r4, r5}\n" // rows_end, pairs, gap
        "adds r1, r1, r5\n"
        "adds r0, #" AT(STRIP_PITCH) "\n"
        "cmp r0, r3\n"
        "beq 1f\n"
        "bx r4\n"
        "1:\n"
        "ldr r3, " SLOT(strip_frame_t.next_kind) "\n"
        "bx r3\n"
        ".balign 4\n"
        "2:\n"
        ".irp k, 0,1,2,3\n"
        STRIP_FIRST_PAIR("r8") STRIP_PAIR("1", "r10")
        STRIP_THIRD("0", "r9", "r3") STRIP_THIRD("1", "r11", "r4")
        "adds r3, r3, r4\n" STRIP_ADD
        "stmia r1!, {r6, r7}\n"
        ".endr\n"
        "ldr r3, " SLOT(strip_frame_t.rest) "\n"
        "bx r3\n"
        ".balign 4\n"
        "3:\n"
        ".irp k, 0,1,2,3\n"
        STRIP_FIRST_PAIR("r8") STRIP_PAIR("1", "r10") STRIP_PAIR("2", "r12")
        STRIP_THIRD("0", "r9", "r3") STRIP_THIRD("1", "r11", "r4")
        "adds r3, r3, r4\n" STRIP_ADD
        STRIP_THIRD("2", "lr", "r3") STRIP_ADD
        "stmia r1!, {r6, r7}\n"
        ".endr\n"
        "ldr r3, " SLOT(strip_frame_t.rest) "\n"
        "bx r3\n");
}

#endif
