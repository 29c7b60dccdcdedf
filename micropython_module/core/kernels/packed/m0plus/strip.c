// A 3x3 kernel over a strip of columns: 57 cycles for two outputs, with two kernel rows 38.
// SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

// The frame. A row is of one of three kinds: all kernel rows, without the last one, without the
// first one.
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
#define STRIP_ROWS_END 0
#define STRIP_PAIRS 4
#define STRIP_GAP 8
#define STRIP_REST 12
#define STRIP_BOTTOM 16
#define STRIP_X 20
#define STRIP_NEXT_KIND 24
#define STRIP_PAIRS_OF_2 28
#define STRIP_REST_OF_2 32
#define STRIP_PAIRS_OF_3 36
#define STRIP_REST_OF_3 40
#define STRIP_BIAS_TOP 44
#define STRIP_BIAS_BOTTOM 48
#define STRIP_ZERO_POINT 52
#define STRIP_BIAS 56
#define STRIP_WEIGHTS 60
#define STRIP_NEXT_BIAS 64
#define STRIP_CHANNELS 68
#define STRIP_PLANE 72
#define STRIP_STEP 76
#define STRIP_ACC_STEP 80
#define STRIP_ACC 84
#define STRIP_BEFORE_MIDDLE 88
#define STRIP_MIDDLE_END 92
#define STRIP_MIDDLE 96
#define STRIP_FRAME 100
ASSERT_OFFSET(strip_frame_t, rows_end, STRIP_ROWS_END)
ASSERT_OFFSET(strip_frame_t, pairs, STRIP_PAIRS)
ASSERT_OFFSET(strip_frame_t, rest, STRIP_REST)
ASSERT_OFFSET(strip_frame_t, gap, STRIP_GAP)
ASSERT_OFFSET(strip_frame_t, bottom, STRIP_BOTTOM)
ASSERT_OFFSET(strip_frame_t, x, STRIP_X)
ASSERT_OFFSET(strip_frame_t, next_kind, STRIP_NEXT_KIND)
ASSERT_OFFSET(strip_frame_t, pairs_of_2, STRIP_PAIRS_OF_2)
ASSERT_OFFSET(strip_frame_t, rest_of_2, STRIP_REST_OF_2)
ASSERT_OFFSET(strip_frame_t, pairs_of_3, STRIP_PAIRS_OF_3)
ASSERT_OFFSET(strip_frame_t, rest_of_3, STRIP_REST_OF_3)
ASSERT_OFFSET(strip_frame_t, bias_top, STRIP_BIAS_TOP)
ASSERT_OFFSET(strip_frame_t, bias_bottom, STRIP_BIAS_BOTTOM)
ASSERT_OFFSET(strip_frame_t, zero_point, STRIP_ZERO_POINT)
ASSERT_OFFSET(strip_frame_t, bias, STRIP_BIAS)
ASSERT_OFFSET(strip_frame_t, weights, STRIP_WEIGHTS)
ASSERT_OFFSET(strip_frame_t, next_bias, STRIP_NEXT_BIAS)
ASSERT_OFFSET(strip_frame_t, plane, STRIP_PLANE)
ASSERT_OFFSET(strip_frame_t, step, STRIP_STEP)
ASSERT_OFFSET(strip_frame_t, acc_step, STRIP_ACC_STEP)
ASSERT_OFFSET(strip_frame_t, middle, STRIP_MIDDLE)
ASSERT_OFFSET(strip_frame_t, middle_end, STRIP_MIDDLE_END)
ASSERT_OFFSET(strip_frame_t, acc, STRIP_ACC)
ASSERT_OFFSET(strip_frame_t, before_middle, STRIP_BEFORE_MIDDLE)
ASSERT_OFFSET(strip_frame_t, channels, STRIP_CHANNELS)
ASSERT_SIZE(strip_frame_t, STRIP_FRAME)

#define STRIP_ARG_X 0
#define STRIP_ARG_OUT_W 4
#define STRIP_ARG_ACC 8
#define STRIP_ARG_GAP 12
#define STRIP_ARG_TOP 16
#define STRIP_ARG_MIDDLE 20
#define STRIP_ARG_BOTTOM 24
#define STRIP_ARG_WEIGHTS 28
#define STRIP_ARG_STEP 32
#define STRIP_ARG_BIAS 36
#define STRIP_ARG_ZERO_POINT 40
#define STRIP_ARG_CHANNELS 44
#define STRIP_ARG_ACC_STEP 48
#define STRIP_ARG_PLANE 52
ASSERT_OFFSET(edgelora_strip_t, x, STRIP_ARG_X)
ASSERT_OFFSET(edgelora_strip_t, out_w, STRIP_ARG_OUT_W)
ASSERT_OFFSET(edgelora_strip_t, acc, STRIP_ARG_ACC)
ASSERT_OFFSET(edgelora_strip_t, gap, STRIP_ARG_GAP)
ASSERT_OFFSET(edgelora_strip_t, top, STRIP_ARG_TOP)
ASSERT_OFFSET(edgelora_strip_t, middle, STRIP_ARG_MIDDLE)
ASSERT_OFFSET(edgelora_strip_t, bottom, STRIP_ARG_BOTTOM)
ASSERT_OFFSET(edgelora_strip_t, weights, STRIP_ARG_WEIGHTS)
ASSERT_OFFSET(edgelora_strip_t, step, STRIP_ARG_STEP)
ASSERT_OFFSET(edgelora_strip_t, bias, STRIP_ARG_BIAS)
ASSERT_OFFSET(edgelora_strip_t, zero_point, STRIP_ARG_ZERO_POINT)
ASSERT_OFFSET(edgelora_strip_t, channels, STRIP_ARG_CHANNELS)
ASSERT_OFFSET(edgelora_strip_t, acc_step, STRIP_ARG_ACC_STEP)
ASSERT_OFFSET(edgelora_strip_t, plane, STRIP_ARG_PLANE)
#define PLANE_ARG_X 8
ASSERT_OFFSET(edgelora_plane_t, x, PLANE_ARG_X)

#define STRIP_PITCH 40 // bytes
ASSERT(strip_pitch_as_in_c, STRIP_PITCH == 4 * EDGELORA_STRIP_PITCH)

// The words of kernel row 0 for the outputs r6 and r7 of columns 2 * \k and 2 * \k + 1, with their
// bias: 11 cycles
#define STRIP_FIRST_PAIR(w) \
    "ldr r6, [r0, #8 * \\k]\n" \
    "ldr r7, [r0, #8 * \\k + 4]\n" \
    "mov r5, " w "\n" \
    FIRST_DOT2("r6", "r5", "r2") FIRST_DOT2("r7", "r5", "r2")

// The same of kernel row k, added
#define STRIP_PAIR(k, w) \
    "ldr r3, [r0, #" STRING(STRIP_PITCH) " * " k " + 8 * \\k]\n" \
    "ldr r4, [r0, #" STRING(STRIP_PITCH) " * " k " + 8 * \\k + 4]\n" \
    "mov r5, " w "\n" \
    DOT2("r3", "r5", "r6") DOT2("r4", "r5", "r7")

// to = x[row k, two columns on] * third weight: one product for each output; two such fit 16 bits
#define STRIP_THIRD(k, w, to) \
    "ldr " to ", [r0, #" STRING(STRIP_PITCH) " * " k " + 8 * \\k + 8]\n" \
    "mov r5, " w "\n" \
    "muls " to ", r5\n"
#define STRIP_ADD \
    "sxth r4, r3\n" \
    "adds r7, r7, r4\n" \
    "asrs r3, r3, #16\n" \
    "adcs r6, r3\n"

// The output r6 of column 8 alone
#define STRIP_FIRST_SINGLE(w) \
    "ldr r6, [r0, #32]\n" \
    "mov r5, " w "\n" \
    FIRST_DOT2("r6", "r5", "r2")
#define STRIP_SINGLE(k, w) \
    "ldr r3, [r0, #" STRING(STRIP_PITCH) " * " k " + 32]\n" \
    "mov r5, " w "\n" \
    DOT2("r3", "r5", "r6")
#define STRIP_SINGLE_THIRD(k, w, to) \
    "ldr " to ", [r0, #" STRING(STRIP_PITCH) " * " k " + 40]\n" \
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
// The bias with the products of a row of zero points
#define ROW_BIAS(at) \
    "adds r7, r3, r4\n" \
    "adds r7, r7, r5\n" \
    "subs r7, #192\n" \
    "subs r7, #192\n" \
    "ldr r0, " SLOT(STRIP_ZERO_POINT) "\n" \
    "muls r7, r0\n" \
    "ldr r0, " SLOT(STRIP_BIAS) "\n" \
    "adds r7, r7, r0\n" \
    "str r7, " SLOT(at) "\n"

// r0: x, so that a row's pairs end before column 8; r1: acc, r2: bias; r8-r12, lr: weights.
NAKED void edgelora_strip_s8(const edgelora_strip_t *strip) {
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" STRING(STRIP_FRAME) "\n"
        "ldr r1, " FIELD(r0, STRIP_ARG_GAP) "\n"
        "str r1, " SLOT(STRIP_GAP) "\n"
        "ldr r3, " FIELD(r0, STRIP_ARG_OUT_W) "\n"    // out_w
        "lsrs r4, r3, #1\n"
        "movs r5, #4\n"
        "subs r5, r5, r4\n"     // pairs of 4 to leave out
        "lsls r6, r5, #3\n"
        "ldr r7, " FIELD(r0, STRIP_ARG_X) "\n"
        "subs r7, r7, r6\n"
        "str r7, " SLOT(STRIP_X) "\n"
        "movs r6, #60\n"        // bytes of code a pair
        "muls r6, r5\n"
        "adr r4, 2f\n"
        "adds r6, r6, r4\n"
        "adds r6, #1\n"
        "str r6, " SLOT(STRIP_PAIRS_OF_2) "\n"
        "movs r6, #92\n"
        "muls r6, r5\n"
        "adr r4, 3f\n"
        "adds r6, r6, r4\n"
        "adds r6, #1\n"
        "str r6, " SLOT(STRIP_PAIRS_OF_3) "\n"
        "adr r4, 9f\n"
        "movs r5, r4\n"
        "lsls r3, r3, #31\n"
        "beq 1f\n"
        "adr r4, 12f\n"
        "adr r5, 13f\n"
        "1:\n"
        "adds r4, #1\n"
        "adds r5, #1\n"
        "str r4, " SLOT(STRIP_REST_OF_2) "\n"
        "str r5, " SLOT(STRIP_REST_OF_3) "\n"
        "ldr r1, " FIELD(r0, STRIP_ARG_WEIGHTS) "\n"
        "str r1, " SLOT(STRIP_WEIGHTS) "\n"
        "ldr r1, " FIELD(r0, STRIP_ARG_BIAS) "\n"
        "str r1, " SLOT(STRIP_NEXT_BIAS) "\n"
        "ldr r1, " FIELD(r0, STRIP_ARG_ACC) "\n"
        "str r1, " SLOT(STRIP_ACC) "\n"
        "ldr r1, " FIELD(r0, STRIP_ARG_ZERO_POINT) "\n"
        "str r1, " SLOT(STRIP_ZERO_POINT) "\n"
        "ldr r1, " FIELD(r0, STRIP_ARG_CHANNELS) "\n"
        "str r1, " SLOT(STRIP_CHANNELS) "\n"
        "ldr r1, " FIELD(r0, STRIP_ARG_PLANE) "\n"
        "str r1, " SLOT(STRIP_PLANE) "\n"
        "ldr r1, " FIELD(r0, STRIP_ARG_STEP) "\n"
        "str r1, " SLOT(STRIP_STEP) "\n"
        "ldr r1, " FIELD(r0, STRIP_ARG_ACC_STEP) "\n"
        "str r1, " SLOT(STRIP_ACC_STEP) "\n"
        "ldr r1, " FIELD(r0, STRIP_ARG_BOTTOM) "\n"
        "str r1, " SLOT(STRIP_BOTTOM) "\n"
        "movs r2, #0\n"
        "ldr r3, " FIELD(r0, STRIP_ARG_TOP) "\n"   // top: comes last
        "cmp r3, #0\n"
        "beq 1f\n"
        "ldr r2, " FIELD(r0, STRIP_ARG_OUT_W) "\n"
        "lsls r2, r2, #2\n"
        "ldr r3, " SLOT(STRIP_GAP) "\n"
        "adds r2, r2, r3\n"
        "adds r7, #" STRING(STRIP_PITCH) "\n"      // x
        "1:\n"
        "str r2, " SLOT(STRIP_BEFORE_MIDDLE) "\n"
        "str r7, " SLOT(STRIP_MIDDLE) "\n"
        "ldr r3, " FIELD(r0, STRIP_ARG_MIDDLE) "\n"
        "movs r4, #" STRING(STRIP_PITCH) "\n"
        "muls r4, r3\n"
        "adds r7, r7, r4\n"
        "str r7, " SLOT(STRIP_MIDDLE_END) "\n"
        "26:\n"                 // a channel
        "ldr r0, " SLOT(STRIP_PLANE) "\n"
        "cmp r0, #0\n"
        "beq 1f\n"
        "bl edgelora_plane_rows\n"
        "ldr r4, " SLOT(STRIP_PLANE) "\n"
        "ldr r1, " FIELD(r4, PLANE_ARG_X) "\n"
        "adds r1, #1\n"
        "str r1, " FIELD(r4, PLANE_ARG_X) "\n"
        "1:\n"
        "ldr r0, " SLOT(STRIP_NEXT_BIAS) "\n"
        "ldmia r0!, {r1}\n"
        "str r0, " SLOT(STRIP_NEXT_BIAS) "\n"
        "str r1, " SLOT(STRIP_BIAS) "\n"
        "ldr r1, " SLOT(STRIP_WEIGHTS) "\n"
        "adds r2, r1, #1\n"
        "str r2, " SLOT(STRIP_WEIGHTS) "\n"
        "ldr r2, " SLOT(STRIP_STEP) "\n"
        "movs r6, #128\n"
        "lsls r5, r6, #16\n"
        "orrs r6, r5\n"
        ROW_WEIGHTS(ROW_BIAS(STRIP_BIAS_TOP), "r8", "r9") ROW_WEIGHTS("", "r10", "r11")
        ROW_WEIGHTS(ROW_BIAS(STRIP_BIAS_BOTTOM), "r12", "lr")
        "add r3, sp, #" STRING(STRIP_ACC) "\n"
        "ldmia r3!, {r4, r5, r6, r7}\n" // acc, what is before the middle, its end, itself
        "adds r1, r4, r5\n"
        "cmp r7, r6\n"         // all kernel rows
        "beq 22f\n"
        "str r6, " SLOT(STRIP_ROWS_END) "\n"
        "ldr r2, " SLOT(STRIP_BIAS) "\n"
        "adr r4, 21f\n"
        "adds r4, #1\n"
        "str r4, " SLOT(STRIP_NEXT_KIND) "\n"
        "ldr r3, " SLOT(STRIP_PAIRS_OF_3) "\n"
        "ldr r4, " SLOT(STRIP_REST_OF_3) "\n"
        "b 23f\n"
        ".balign 4\n"
        "21:\n"
        "movs r7, r0\n"
        "22:\n"                 // without the last one
        "ldr r3, " SLOT(STRIP_BOTTOM) "\n"
        "cmp r3, #0\n"
        "beq 25f\n"
        "ldr r2, " SLOT(STRIP_BIAS_BOTTOM) "\n"
        "adr r3, 25f\n"
        "b 20f\n"
        ".balign 4\n"
        "25:\n"                 // without the first one
        "ldr r3, " SLOT(STRIP_BEFORE_MIDDLE) "\n"
        "cmp r3, #0\n"
        "beq 24f\n"
        "mov r8, r10\n"
        "mov r9, r11\n"
        "mov r10, r12\n"
        "mov r11, lr\n"
        "ldr r1, " SLOT(STRIP_ACC) "\n"
        "ldr r7, " SLOT(STRIP_X) "\n"
        "adds r7, #" STRING(STRIP_PITCH) "\n"
        "ldr r2, " SLOT(STRIP_BIAS_TOP) "\n"
        "adr r3, 24f\n"
        "20:\n"                 // a row at r7
        "adds r3, #1\n"
        "str r3, " SLOT(STRIP_NEXT_KIND) "\n"
        "movs r3, #" STRING(STRIP_PITCH) "\n"
        "adds r3, r3, r7\n"
        "str r3, " SLOT(STRIP_ROWS_END) "\n"
        "ldr r3, " SLOT(STRIP_PAIRS_OF_2) "\n"
        "ldr r4, " SLOT(STRIP_REST_OF_2) "\n"
        "23:\n"
        "str r3, " SLOT(STRIP_PAIRS) "\n"
        "str r4, " SLOT(STRIP_REST) "\n"
        "movs r0, r7\n"
        "bx r3\n"
        ".balign 4\n"
        "24:\n"
        "ldr r1, " SLOT(STRIP_CHANNELS) "\n"
        "subs r1, #1\n"
        "str r1, " SLOT(STRIP_CHANNELS) "\n"
        "beq 1f\n"
        "ldr r1, " SLOT(STRIP_ACC) "\n"
        "ldr r2, " SLOT(STRIP_ACC_STEP) "\n"
        "adds r1, r1, r2\n"
        "str r1, " SLOT(STRIP_ACC) "\n"
        "b 26b\n"
        "1:\n"
        "add sp, #" STRING(STRIP_FRAME) "\n" RESTORE
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
        "adds r0, #" STRING(STRIP_PITCH) "\n"
        "cmp r0, r3\n"
        "beq 1f\n"
        "bx r4\n"
        "1:\n"
        "ldr r3, " SLOT(STRIP_NEXT_KIND) "\n"
        "bx r3\n"
        ".balign 4\n"
        "2:\n"
        ".irp k, 0,1,2,3\n"
        STRIP_FIRST_PAIR("r8") STRIP_PAIR("1", "r10")
        STRIP_THIRD("0", "r9", "r3") STRIP_THIRD("1", "r11", "r4")
        "adds r3, r3, r4\n" STRIP_ADD
        "stmia r1!, {r6, r7}\n"
        ".endr\n"
        "ldr r3, " SLOT(STRIP_REST) "\n"
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
        "ldr r3, " SLOT(STRIP_REST) "\n"
        "bx r3\n");
}

#endif
