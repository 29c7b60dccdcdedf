// Requantizes accumulators to outputs: 34 cycles each, 25 if all fit 22 bits. With a ReLU (minimum
// = zero point): 21 then, and 7 to 8 for sums that are not above 0.
// SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

// The stack frame: state for the next row.
typedef struct {
    uint32_t multiplier, shift, y, rows; // rows: left
    uint32_t count, zero_point, in_22_bits;
    uint32_t padding; // bytes of acc after a row
    uint32_t min;
} output_frame_t;

// In the order of `ldmia`.
ASSERT_WORDS(edgelora_requantize_t, acc, count, rows, step, multiplier, shift, y, zero_point, min,
    max, in_22_bits)

// r1: acc; r5, r6: multiplier; r7: y; r8: n, r9: zero point, r10: max, r11: min, r12: step.
// Subtracts 1 from a negative value first to round it away from 0; if n is 0, the carry adds it
// back.
#define OUTPUT(over, back, in) \
    "ldmia r0!, {r1}\n" \
    HIGH_MUL("r1", "r2", "r3", "movs r3, r5\nmuls r3, r2\n", "movs r4, r5\nmuls r4, r1\n", "r6", \
        "r4") \
    "asrs r2, r1, #31\n" \
    "adds r1, r1, r2\n" \
    "mov r2, r8\n" \
    "asrs r1, r2\n" \
    "mov r2, r9\n" \
    "adcs r1, r2\n" \
    "cmp r1, r10\n" \
    "bgt " over "f\n" \
    back ":\n" \
    "cmp r1, r11\n" \
    "bge " in "f\n" \
    "mov r1, r11\n" \
    in ":\n" \
    "strb r1, [r7]\n" \
    "add r7, r12\n"

// The same for |acc| < 2^21 - 2^12 with m = r5 * 2^21 + r9 * 2^11 + r8, -2^10 <= r8 < 2^10, r9 <
// 2^10: every product stays in 32 bits, and floors of floors are floors. r4: zero point, r6: n. The
// sign is taken before the rounding bit is added: a value that this makes 0 gives -1, which the
// carry of the last shift corrects. 44 bytes, 24 cycles.
#define SHORT_OUTPUT(over, back, in) \
    "ldmia r0!, {r1}\n" \
    "mov r2, r8\n" \
    "muls r2, r1\n" \
    "asrs r2, r2, #11\n" \
    "mov r3, r9\n" \
    "muls r3, r1\n" \
    "adds r2, r2, r3\n" \
    "asrs r2, r2, #10\n" \
    "muls r1, r5\n" \
    "adds r1, r1, r2\n" \
    "asrs r2, r1, #31\n" \
    "asrs r1, r1, #10\n" \
    "adcs r1, r2\n" \
    "asrs r1, r6\n" \
    "adcs r1, r4\n" \
    "cmp r1, r10\n" \
    "bgt " over "f\n" \
    back ":\n" \
    "cmp r1, r11\n" \
    "bge " in "f\n" \
    "mov r1, r11\n" \
    in ":\n" \
    "strb r1, [r7]\n" \
    "add r7, r12\n"
// The same for a ReLU: a sum that is not above 0 becomes the zero point at once, others need no
// sign. Both roundings are one addition, r11: floors of floors are floors. r6: n + 10. Sums are
// below 2^32.
#define POSITIVE_OUTPUT(k) \
    "ldmia r0!, {r1}\n" \
    "cmp r1, #0\n" \
    "ble 7" k "f\n" \
    "10" k ":\n" \
    "mov r2, r8\n" \
    "muls r2, r1\n" \
    "asrs r2, r2, #11\n" \
    "mov r3, r9\n" \
    "muls r3, r1\n" \
    "adds r2, r2, r3\n" \
    "asrs r2, r2, #10\n" \
    "muls r1, r5\n" \
    "adds r1, r1, r2\n" \
    "add r1, r11\n" \
    "lsrs r1, r6\n" \
    "adds r1, r1, r4\n" \
    "cmp r1, r10\n" \
    "bgt 8" k "f\n" \
    "9" k ":\n" \
    "strb r1, [r7]\n" \
    "add r7, r12\n"
#define NOT_POSITIVE(k) \
    "7" k ":\n" \
    "strb r4, [r7]\n" \
    "add r7, r12\n"
// Loads the next sum; continues at `products` or at the next NOT_POSITIVE
#define NEXT_SUM(products) \
    "ldmia r0!, {r1}\n" \
    "cmp r1, #0\n" \
    "bgt " products "b\n"
#define TOO_HIGH(over, back) \
    over ":\n" \
    "mov r1, r10\n" \
    "b " back "b\n"

// 34 cycles per output, 25 within 22 bits.
NAKED void edgelora_requantize_rows_s8(const edgelora_requantize_t *output) {
    OFFSETS(output_frame_t, multiplier, shift, y, rows, count, padding, zero_point, in_22_bits,
        min)
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" AT(output_frame_t) "\n"
        "ldmia r0!, {r1, r2, r3, r4, r5, r6, r7}\n" // acc, count, rows, step, multiplier, shift, y
        "mov r12, r4\n"
        "str r5, " SLOT(output_frame_t.multiplier) "\n"
        "str r6, " SLOT(output_frame_t.shift) "\n"
        "str r7, " SLOT(output_frame_t.y) "\n"
        "str r3, " SLOT(output_frame_t.rows) "\n"
        "str r2, " SLOT(output_frame_t.count) "\n"
        "rsbs r2, r2, #0\n"
        "lsls r2, r2, #30\n"
        "lsrs r2, r2, #28\n"
        "str r2, " SLOT(output_frame_t.padding) "\n"
        "ldmia r0!, {r3, r4, r5, r6}\n" // zero point, min, max, in_22_bits
        "str r3, " SLOT(output_frame_t.zero_point) "\n"
        "str r6, " SLOT(output_frame_t.in_22_bits) "\n"
        "str r4, " SLOT(output_frame_t.min) "\n"
        "mov r11, r4\n"
        "mov r10, r5\n"
        "movs r0, r1\n"
        "9:\n"
        "ldr r1, " SLOT(output_frame_t.multiplier) "\n"
        "ldmia r1!, {r6}\n"     // multiplier
        "str r1, " SLOT(output_frame_t.multiplier) "\n"
        "ldr r1, " SLOT(output_frame_t.shift) "\n"
        "movs r2, #0\n"
        "ldrsb r3, [r1, r2]\n"
        "rsbs r3, r3, #0\n"     // n
        "adds r1, #1\n"
        "str r1, " SLOT(output_frame_t.shift) "\n"
        "ldr r7, " SLOT(output_frame_t.y) "\n"
        "adds r1, r7, #1\n"
        "str r1, " SLOT(output_frame_t.y) "\n"
        "ldr r4, " SLOT(output_frame_t.zero_point) "\n"   // zero point
        "ldr r2, " SLOT(output_frame_t.count) "\n"
        "lsls r1, r2, #2\n"
        "adds r1, r1, r0\n"
        "mov lr, r1\n"
        "ldr r1, " SLOT(output_frame_t.in_22_bits) "\n"
        "cmp r1, #0\n"
        "bne 3f\n"
        "mov r8, r3\n"
        "mov r9, r4\n"
        "sxth r5, r6\n"
        "subs r6, r6, r5\n"
        "lsrs r6, r6, #16\n"
        "lsrs r2, r2, #1\n"
        "bcs 2f\n"
        "1:\n" OUTPUT("10", "11", "12")
        "2:\n" OUTPUT("20", "21", "22")
        "cmp r0, lr\n"
        "bne 1b\n"
        "4:\n"
        "ldr r1, " SLOT(output_frame_t.padding) "\n"
        "adds r0, r0, r1\n"
        "ldr r1, " SLOT(output_frame_t.rows) "\n"
        "subs r1, #1\n"
        "str r1, " SLOT(output_frame_t.rows) "\n"
        "bne 9b\n"
        "add sp, #" AT(output_frame_t) "\n" RESTORE
        TOO_HIGH("10", "11") TOO_HIGH("20", "21")
        "3:\n"
        "lsls r5, r6, #21\n"
        "asrs r5, r5, #21\n"
        "mov r8, r5\n"
        "subs r6, r6, r5\n"
        "lsrs r5, r6, #21\n"
        "lsls r6, r6, #11\n"
        "lsrs r6, r6, #22\n"
        "mov r9, r6\n"
        "rsbs r2, r2, #0\n"     // the first time around -count % 4 of 4 are left out
        "lsls r2, r2, #30\n"
        "lsrs r2, r2, #30\n"
        "ldr r1, " SLOT(output_frame_t.min) "\n"
        "cmp r4, r1\n"
        "beq 5f\n"
        "movs r6, r3\n"
        "movs r1, #44\n"
        "muls r2, r1\n"
        "adr r1, 1f\n"
        "adds r1, r1, r2\n"
        "adds r1, #1\n"
        "bx r1\n"
        ".balign 4\n"
        "1:\n" SHORT_OUTPUT("30", "31", "32") SHORT_OUTPUT("40", "41", "42")
        SHORT_OUTPUT("50", "51", "52") SHORT_OUTPUT("60", "61", "62")
        "cmp r0, lr\n"
        "bne 1b\n"
        "b 4b\n"
        TOO_HIGH("30", "31") TOO_HIGH("40", "41") TOO_HIGH("50", "51") TOO_HIGH("60", "61")
        "5:\n"
        "movs r1, #1\n"         // r11: 2^9 and, unless n is 0, 2^(n + 9)
        "lsls r1, r1, #9\n"
        "cmp r3, #0\n"
        "beq 1f\n"
        "movs r6, r1\n"
        "lsls r6, r3\n"
        "adds r1, r1, r6\n"
        "1:\n"
        "mov r11, r1\n"
        "movs r6, r3\n"
        "adds r6, #10\n"
        "movs r1, #38\n"
        "muls r2, r1\n"
        "adr r1, 1f\n"
        "adds r1, r1, r2\n"
        "adds r1, #1\n"
        "bx r1\n"
        ".balign 4\n"
        "1:\n" POSITIVE_OUTPUT("1") POSITIVE_OUTPUT("2") POSITIVE_OUTPUT("3")
        POSITIVE_OUTPUT("4")
        "cmp r0, lr\n"
        "bne 1b\n"
        "6:\n"
        "b 4b\n"
        NOT_POSITIVE("1") NEXT_SUM("102") NOT_POSITIVE("2") NEXT_SUM("103")
        NOT_POSITIVE("3") NEXT_SUM("104") NOT_POSITIVE("4")
        "cmp r0, lr\n"
        "beq 6b\n" NEXT_SUM("101")
        "b 71b\n"
        TOO_HIGH("81", "91") TOO_HIGH("82", "92") TOO_HIGH("83", "93") TOO_HIGH("84", "94"));
}

#undef OUTPUT
#endif
