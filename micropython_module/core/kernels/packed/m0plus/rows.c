// The primitives of the fast kernels for Cortex-M0+ (RP2040). SPDX-License-Identifier: MIT
//
// Cycles are counted with loads of 2, ldm of 1 + n, taken branches of 2, everything else 1. `muls; asrs #16; adcs` adds two
// products to a sum: the shift leaves bit 15, the borrow's correction, in the carry.

#include "kernels/packed/primitives.h"

#ifdef EDGELORA_M0PLUS

#pragma GCC diagnostic ignored "-Wunused-parameter" // the assembly takes them from their registers

#define NAKED EDGELORA_KERNEL __attribute__((naked))

#define SAVE \
    "push {r4-r7, lr}\n" \
    "mov r4, r8\n" \
    "mov r5, r9\n" \
    "mov r6, r10\n" \
    "mov r7, r11\n" \
    "push {r4-r7}\n"
#define RESTORE \
    "pop {r4-r7}\n" \
    "mov r8, r4\n" \
    "mov r9, r5\n" \
    "mov r10, r6\n" \
    "mov r11, r7\n" \
    "pop {r4-r7, pc}\n"

// r7 = 0x00FF00FF, r6 = -0x00800080; r5 is lost
#define UNPACK_CONSTANTS \
    "movs r7, #255\n" \
    "lsls r6, r7, #16\n" \
    "orrs r7, r6\n" \
    "movs r6, #128\n" \
    "lsls r5, r6, #16\n" \
    "orrs r6, r5\n" \
    "rsbs r6, r6, #0\n"

#define UNPACK(flip) \
    "ldmia r1!, {r4}\n" flip \
    "lsrs r5, r4, #8\n" \
    "ands r4, r7\n" \
    "ands r5, r7\n" \
    "adds r4, r4, r6\n" \
    "adds r5, r5, r6\n" \
    "stmia r3!, {r4, r5}\n"

// sum += dot2(w, x); x is lost
#define DOT2(x, w, sum) \
    "muls " x ", " w "\n" \
    "asrs " x ", " x ", #16\n" \
    "adcs " sum ", " x "\n"

// 20 cycles for 8 products: the weight word at sp + w with 4 positions
#define QUAD_WORD(w) \
    "ldr r1, [sp, #" w "]\n" \
    "ldmia r0!, {r2, r3}\n" \
    DOT2("r2", "r1", "r4") DOT2("r3", "r1", "r5") \
    "ldmia r0!, {r2, r3}\n" \
    DOT2("r2", "r1", "r6") DOT2("r3", "r1", "r7")

// B t with two groups and with one, to be shifted by r1
#define UP(two, one) \
    ".balign 4\n" \
    two ":\n" QUAD_WORD("128") QUAD_WORD("132") \
    "b 1f\n" \
    ".balign 4\n" \
    one ":\n" \
    "1:\n" QUAD_WORD("136") QUAD_WORD("140") \
    "ldr r1, [sp, #144]\n"
#define UP_LEFT \
    "lsls r4, r1\n" \
    "lsls r5, r1\n" \
    "lsls r6, r1\n" \
    "lsls r7, r1\n" \
    "add r4, lr\n" \
    "add r5, lr\n" \
    "add r6, lr\n" \
    "add r7, lr\n"
#define UP_START(two, one) \
    "adr r5, " one "f\n" \
    "cmp r7, #1\n" \
    "beq 1f\n" \
    "adr r5, " two "f\n" \
    "1:\n"

// Frame: 128 bytes of weight words and 16 of B's, both at their end; 144 shift of B t, then of the next row: 148 weights, 152
// flip, 156 gap, 160 bias, 164 bytes of acc, 168 x, 172 rows left, 176 up, 180 bytes of it, 184 where words start; 188 lr, if B t goes
// to the left: then r11 is 0 and lr the bias.
// r0: x; r4-r7: sums; r8: acc, r9: end, r10: code behind the start of a quad, r11: bias, r12: skip, lr: code of the first
// weight word.
NAKED void edgelora_row_s8(const edgelora_row_t *row) {
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #192\n"
        "ldmia r0!, {r1, r2, r3, r4, r5, r6, r7}\n" // x, acc, count, weights, groups, flip, skip
        "mov r8, r2\n"
        "mov r12, r7\n"
        "str r1, [sp, #168]\n"
        "lsls r3, r3, #2\n"
        "str r3, [sp, #164]\n"
        "str r4, [sp, #148]\n"
        "str r6, [sp, #152]\n"
        "lsls r2, r5, #3\n"
        "movs r3, #128\n"
        "subs r3, r3, r2\n"
        "add r3, sp\n"
        "str r3, [sp, #184]\n"
        "movs r4, #60\n"        // bytes of code a group
        "muls r4, r5\n"
        "movs r5, #241\n"
        "lsls r5, r5, #2\n"     // 964: all groups, + 4
        "subs r5, r5, r4\n"
        "adr r4, 8f\n"
        "adds r5, r5, r4\n"
        "subs r5, #3\n"         // - 4 + Thumb
        "mov lr, r5\n"
        "ldmia r0!, {r1, r2, r3, r4, r6, r7}\n" // bias, add, rows, gap, up, up_groups
        "str r1, [sp, #160]\n"
        "str r3, [sp, #172]\n"
        "str r4, [sp, #156]\n"
        "str r6, [sp, #176]\n"
        "lsls r3, r7, #3\n"
        "str r3, [sp, #180]\n"
        "ldr r1, [r0, #0]\n"
        "str r1, [sp, #144]\n"
        "cmp r2, #0\n"
        "beq 1f\n"
        "adr r5, 6f\n"
        "adds r5, #1\n"
        "1:\n"
        "cmp r7, #0\n"
        "beq 2f\n"
        "cmp r1, #0\n"
        "ble 3f\n"
        "mov r11, r7\n" UP_START("30", "31")
        "b 4f\n"
        "3:\n"
        "rsbs r1, r1, #0\n"
        "str r1, [sp, #144]\n"
        "movs r1, #0\n"
        "mov r11, r1\n"
        "str r5, [sp, #188]\n"
        "adr r4, 8f\n"
        "adds r4, #1\n"
        "cmp r5, r4\n"
        "beq 3f\n" UP_START("32", "33")
        "b 4f\n"
        "3:\n" UP_START("34", "35")
        "4:\n"
        "adds r5, #1\n"
        "2:\n"
        "mov r10, r5\n"
        "20:\n"                 // a row: weights
        "add r0, sp, #128\n"    // where the words end
        "ldr r1, [sp, #148]\n"
        "ldr r2, [sp, #152]\n"
        "ldr r3, [sp, #184]\n"
        "cmp r2, #1\n"
        "beq 3f\n" UNPACK_CONSTANTS
        "cmp r2, #0\n"
        "bne 4f\n"
        "subs r4, r0, r3\n"
        "lsls r4, r4, #27\n"    // whole fours of groups?
        "bne 2f\n"
        "1:\n"
        UNPACK("") UNPACK("") UNPACK("") UNPACK("")
        "cmp r3, r0\n"
        "bne 1b\n"
        "b 9f\n"
        "2:\n"
        UNPACK("")
        "cmp r3, r0\n"
        "bne 2b\n"
        "b 9f\n"
        "3:\n"                  // pair words as they are
        "ldmia r1!, {r4, r5}\n"
        "stmia r3!, {r4, r5}\n"
        "cmp r3, r0\n"
        "bne 3b\n"
        "b 9f\n"
        "4:\n"
        UNPACK("eors r4, r2\n")
        "cmp r3, r0\n"
        "bne 4b\n"
        "9:\n"
        "ldr r2, [sp, #156]\n"
        "adds r1, r1, r2\n"
        "str r1, [sp, #148]\n"
        "ldr r1, [sp, #160]\n"
        "ldmia r1!, {r7}\n"
        "str r1, [sp, #160]\n"
        "ldr r2, [sp, #180]\n"
        "cmp r2, #0\n"
        "beq 2f\n"
        "ldr r1, [sp, #176]\n"  // B
        "adds r0, #16\n"
        "subs r3, r0, r2\n"
        "1:\n"
        "ldmia r1!, {r4, r5}\n"
        "stmia r3!, {r4, r5}\n"
        "cmp r3, r0\n"
        "bne 1b\n"
        "str r1, [sp, #176]\n"
        "mov r1, r11\n"
        "cmp r1, #0\n"
        "beq 3f\n"
        "ldr r1, [sp, #144]\n"  // to the right: sums start from (bias + 1 / 2) * 2^up_shift
        "lsls r7, r7, #1\n"
        "adds r7, #1\n"
        "subs r1, #1\n"
        "lsls r7, r1\n"
        "2:\n"
        "mov r11, r7\n"
        "b 4f\n"
        "3:\n"
        "mov lr, r7\n"
        "4:\n"
        "ldr r1, [sp, #164]\n"
        "add r1, r8\n"
        "mov r9, r1\n"
        "ldr r0, [sp, #168]\n"
        "b 5f\n"
        ".balign 4\n"
        "6:\n"                  // what is there in place of the bias
        "mov r1, r8\n"
        "ldmia r1!, {r4-r7}\n"
        "bx lr\n"
        UP("30", "31")
        "asrs r4, r1\n"
        "asrs r5, r1\n"
        "asrs r6, r1\n"
        "asrs r7, r1\n"
        "bx lr\n" UP("32", "33")
        UP_LEFT
        "ldr r1, [sp, #188]\n"
        "bx r1\n" UP("34", "35") UP_LEFT // to the first word, as there are all
        ".balign 4\n"
        "8:\n"
        ".irp k, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
        QUAD_WORD("4 * \\k")
        ".endr\n"
        "mov r1, r8\n"
        "stmia r1!, {r4-r7}\n"
        "mov r8, r1\n"
        "add r0, r12\n"
        "cmp r1, r9\n"
        "bhs 1f\n"
        "5:\n"
        "mov r4, r11\n"
        "mov r5, r4\n"
        "mov r6, r4\n"
        "mov r7, r4\n"
        "bx r10\n"
        "1:\n"
        "ldr r1, [sp, #172]\n"
        "subs r1, #1\n"
        "str r1, [sp, #172]\n"
        "beq 1f\n"
        "b 20b\n"
        "1:\n"
        "add sp, #192\n" RESTORE);
}

// a = requantize's high = floor((a * m + 2^30) / 2^31), |a| < 1.5 * 2^30; m = mh * 2^16 + ml, -2^15 <= ml < 2^15. t, q, p are
// lost. With a = ah * 2^16 + al likewise, |al * mh| <= 2^30, |ah * ml| <= 0.75 * 2^30 and |al * ml >> 16| <= 2^14 stay in 32 bits.
// So do they with 0 <= ml < 2^16 if |a| < 2^30.
#define HIGH_MUL(a, t, q, ml_mul_q_t, ml_mul_p_a, mh, p) \
    "sxth " t ", " a "\n" \
    "subs " a ", " a ", " t "\n" \
    "asrs " a ", " a ", #16\n" \
    ml_mul_q_t \
    "asrs " q ", " q ", #16\n" \
    ml_mul_p_a \
    "adds " q ", " q ", " p "\n" \
    "muls " t ", " mh "\n" \
    "adds " q ", " q ", " t "\n" \
    "muls " a ", " mh "\n" \
    "adds " a ", " a ", " a "\n" \
    "asrs " q ", " q ", #15\n" \
    "adcs " a ", " q "\n"

// r1: acc; r5, r6: multiplier; r7: y; r8: n, r9: zero point, r10: high, r11: low, r12: step. A negative value is
// rounded away from 0 by taking 1 off first; where n is 0 the carry of that gives it back.
#define OUTPUT(over, back, in) \
    "ldmia r0!, {r1}\n" \
    HIGH_MUL("r1", "r2", "r3", "movs r3, r5\nmuls r3, r2\n", "movs r4, r5\nmuls r4, r1\n", "r6", "r4") \
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

// The same for |acc| < 2^21 - 2^12 with m = r5 * 2^21 + r9 * 2^11 + r8, -2^10 <= r8 < 2^10, r9 < 2^10: every product stays in
// 32 bits, and floors of floors are floors. r4: zero point, r6: n. The sign is taken before the rounding bit is added: what
// that makes 0 comes out as -1, and the carry of the last shift gives it back. 44 bytes, 24 cycles.
#define SMALL_OUTPUT(over, back, in) \
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
#define TOO_HIGH(over, back) \
    over ":\n" \
    "mov r1, r10\n" \
    "b " back "b\n"

// Frame of the next row: 0 multiplier, 4 shift, 8 y, 12 rows left, 16 positions, 20 zero point, 24 is_small, 28
// bytes of acc beyond them.
// 34 cycles an output, 25 a small one.
NAKED void edgelora_requantize_rows_s8(const edgelora_output_t *output) {
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #32\n"
        "ldmia r0!, {r1, r2, r3, r4, r5, r6, r7}\n" // acc, count, rows, step, multiplier, shift, y
        "mov r12, r4\n"
        "str r5, [sp, #0]\n"
        "str r6, [sp, #4]\n"
        "str r7, [sp, #8]\n"
        "str r3, [sp, #12]\n"
        "str r2, [sp, #16]\n"
        "rsbs r2, r2, #0\n"
        "lsls r2, r2, #30\n"
        "lsrs r2, r2, #28\n"
        "str r2, [sp, #28]\n"
        "ldmia r0!, {r3, r4, r5, r6}\n" // zero point, low, high, is_small
        "str r3, [sp, #20]\n"
        "str r6, [sp, #24]\n"
        "mov r11, r4\n"
        "mov r10, r5\n"
        "movs r0, r1\n"
        "9:\n"
        "ldr r1, [sp, #0]\n"
        "ldmia r1!, {r6}\n"     // multiplier
        "str r1, [sp, #0]\n"
        "ldr r1, [sp, #4]\n"
        "movs r2, #0\n"
        "ldrsb r3, [r1, r2]\n"
        "rsbs r3, r3, #0\n"     // n
        "adds r1, #1\n"
        "str r1, [sp, #4]\n"
        "ldr r7, [sp, #8]\n"
        "adds r1, r7, #1\n"
        "str r1, [sp, #8]\n"
        "ldr r4, [sp, #20]\n"   // zero point
        "ldr r2, [sp, #16]\n"
        "lsls r1, r2, #2\n"
        "adds r1, r1, r0\n"
        "mov lr, r1\n"
        "ldr r1, [sp, #24]\n"
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
        "ldr r1, [sp, #28]\n"
        "adds r0, r0, r1\n"
        "ldr r1, [sp, #12]\n"
        "subs r1, #1\n"
        "str r1, [sp, #12]\n"
        "bne 9b\n"
        "add sp, #32\n" RESTORE
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
        "movs r6, r3\n"
        "rsbs r2, r2, #0\n"     // the first time around -count % 4 of 4 are left out
        "lsls r2, r2, #30\n"
        "lsrs r2, r2, #30\n"
        "movs r1, #44\n"
        "muls r2, r1\n"
        "adr r1, 1f\n"
        "adds r1, r1, r2\n"
        "adds r1, #1\n"
        "bx r1\n"
        ".balign 4\n"
        "1:\n" SMALL_OUTPUT("30", "31", "32") SMALL_OUTPUT("40", "41", "42") SMALL_OUTPUT("50", "51", "52") SMALL_OUTPUT("60", "61", "62")
        "cmp r0, lr\n"
        "bne 1b\n"
        "b 4b\n"
        TOO_HIGH("30", "31") TOO_HIGH("40", "41") TOO_HIGH("50", "51") TOO_HIGH("60", "61"));
}

// r7: mask; r8: what makes the bytes signed
#define SPLIT(w, o) \
    "lsrs " o ", " w ", #8\n" \
    "ands " w ", r7\n" \
    "ands " o ", r7\n" \
    "add " w ", r8\n" \
    "add " o ", r8\n"

// Frame: 0 gap between rows; ends of 4 multiplier, 8 shift; 12 zero point - low, 16 high - low, 20 low; 24 end of y, 28 first
// pair's code. r0: x, r1: weights, r6: sum; r9: start of x, r10: first pair's code, or what gets to it over the gap, r11: end
// of bias, r12: index * 4, from -rows * 4 to 0; lr: end of x.
// 31 cycles for 8 products, 56 for a row.
NAKED void edgelora_rows_s8(const edgelora_rows_t *rows) {
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #32\n"
        "ldr r1, [r0, #16]\n"   // rows
        "lsls r2, r1, #2\n"
        "ldr r3, [r0, #20]\n"
        "adds r3, r3, r2\n"
        "mov r11, r3\n"
        "ldr r3, [r0, #28]\n"
        "adds r3, r3, r1\n"
        "str r3, [sp, #8]\n"
        "ldr r3, [r0, #32]\n"
        "adds r3, r3, r1\n"
        "str r3, [sp, #24]\n"
        "ldr r3, [r0, #36]\n"
        "ldr r4, [r0, #40]\n"
        "ldr r5, [r0, #44]\n"
        "subs r3, r3, r4\n"
        "str r3, [sp, #12]\n"
        "subs r5, r5, r4\n"
        "str r5, [sp, #16]\n"
        "str r4, [sp, #20]\n"
        "ldr r3, [r0, #24]\n"
        "adds r3, r3, r2\n"
        "str r3, [sp, #4]\n"
        "rsbs r2, r2, #0\n"
        "mov r12, r2\n"
        "ldr r1, [r0, #8]\n"    // pairs
        "lsls r2, r1, #3\n"     // their bytes of weights
        "ldr r3, [r0, #12]\n"
        "subs r3, r3, r2\n"
        "str r3, [sp, #0]\n"
        "lsls r2, r2, #1\n"
        "ldr r4, [r0, #0]\n"
        "mov r9, r4\n"
        "adds r2, r2, r4\n"
        "adds r2, #4\n"
        "mov lr, r2\n"
        "subs r1, #1\n"         // the first time around: 8 - (pairs - 1) % 8 - 1 pairs are left out
        "movs r2, #7\n"
        "bics r2, r1\n"
        "movs r1, #50\n"        // bytes of code a pair
        "muls r2, r1\n"
        "adr r1, 3f\n"
        "adds r2, r2, r1\n"
        "adds r2, #1\n"
        "str r2, [sp, #28]\n"
        "cmp r3, #0\n"
        "beq 1f\n"
        "adr r2, 10f\n"
        "adds r2, #1\n"
        "1:\n"
        "mov r10, r2\n"
        "ldr r1, [r0, #4]\n"
        "subs r1, r1, r3\n"
        "movs r7, #128\n"
        "lsls r2, r7, #16\n"
        "orrs r7, r2\n"
        "rsbs r7, r7, #0\n"
        "mov r8, r7\n"
        "movs r7, #255\n"
        "lsls r2, r7, #16\n"
        "orrs r7, r2\n"
        "mov r3, r12\n"
        "b 5f\n"
        ".balign 4\n"
        "10:\n"
        "ldr r2, [sp, #0]\n"
        "adds r1, r1, r2\n"
        "ldr r2, [sp, #28]\n"
        "bx r2\n"
        ".balign 4\n"
        "3:\n"                  // r5 holds the first group's E
        ".rept 8\n"
        "ldmia r1!, {r2, r3}\n"
        SPLIT("r2", "r4")
        DOT2("r2", "r5", "r6")
        "ldmia r0!, {r2, r5}\n"
        DOT2("r4", "r2", "r6")
        SPLIT("r3", "r2")
        DOT2("r3", "r5", "r6")
        "ldmia r0!, {r3, r5}\n"
        DOT2("r2", "r3", "r6")
        ".endr\n"
        "cmp r0, lr\n"
        "bne 8f\n"
        "mov r0, r12\n"
        "ldr r4, [sp, #4]\n"
        "ldr r4, [r4, r0]\n"
        "uxth r5, r4\n"        // |acc| < 2^30, thus |ah * ml| < 2^30
        "lsrs r4, r4, #16\n"
        HIGH_MUL("r6", "r2", "r3", "movs r3, r5\nmuls r3, r2\n", "muls r5, r6\n", "r4", "r5")
        "asrs r0, r0, #2\n"
        "ldr r2, [sp, #8]\n"
        "ldrsb r2, [r2, r0]\n"
        "rsbs r2, r2, #0\n"
        "asrs r4, r6, #31\n"
        "adds r6, r6, r4\n"
        "asrs r6, r2\n"
        "add r3, sp, #12\n"
        "ldmia r3, {r2, r3, r4, r5}\n"
        "adcs r6, r2\n"
        "cmp r6, r3\n"
        "bhi 9f\n"
        "6:\n"
        "adds r6, r6, r4\n"
        "strb r6, [r5, r0]\n"
        "adds r0, #1\n"
        "lsls r3, r0, #2\n"
        "mov r12, r3\n"
        "beq 1f\n"
        "5:\n"
        "mov r2, r11\n"
        "ldr r6, [r2, r3]\n"
        "mov r0, r9\n"
        "ldmia r0!, {r5}\n"
        "bx r10\n"
        "1:\n"
        "add sp, #32\n" RESTORE
        "9:\n"                  // outside: below 0, or above the range
        "asrs r6, r6, #31\n"
        "bics r3, r6\n"
        "movs r6, r3\n"
        "b 6b\n"
        "8:\n"
        "b 3b\n");
}

// One kernel row with two neighbouring outputs, sums r6 and r7: 18 cycles. The third weight's product holds one value
// for each output.
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

// Frame: 0 acc, 4 bias, 8 end of the pairs of a row, 12 their size, 16 from there to the next row, 20 rows left, 24 an odd
// width, 28 code of a pair.
NAKED void edgelora_taps_s8(const edgelora_taps_t *taps) {
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #32\n"
        "ldr r1, [r0, #24]\n"
        "str r1, [sp, #0]\n"
        "ldr r1, [r0, #28]\n"
        "str r1, [sp, #4]\n"
        "ldr r1, [r0, #16]\n"
        "str r1, [sp, #20]\n"
        "ldr r1, [r0, #20]\n"   // out_w
        "movs r2, #1\n"
        "ands r2, r1\n"
        "str r2, [sp, #24]\n"
        "lsrs r1, r1, #1\n"
        "lsls r1, r1, #3\n"
        "adr r3, 1f\n"
        "ldr r2, [r0, #12]\n"   // stride
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
        "str r3, [sp, #28]\n"
        "str r1, [sp, #12]\n"
        "ldr r2, [r0, #8]\n"
        "subs r2, r2, r1\n"
        "str r2, [sp, #16]\n"
        "ldr r7, [r0, #0]\n"
        "adds r1, r1, r7\n"
        "str r1, [sp, #8]\n"
        "ldr r6, [r0, #4]\n"
        "adds r0, #32\n"
        "ldmia r0!, {r1-r5}\n"
        "mov r8, r1\n"
        "mov r9, r2\n"
        "mov r10, r3\n"
        "mov r11, r4\n"
        "mov r12, r5\n"
        "ldr r1, [r0, #0]\n"
        "mov lr, r1\n"
        "movs r0, r7\n"
        "adds r1, r0, r6\n"
        "adds r2, r1, r6\n"
        "ldr r3, [sp, #28]\n"
        "bx r3\n"
        ".balign 4\n"
        "1:\n"
        "ldr r6, [sp, #4]\n"
        "movs r7, r6\n"
        TAPS("r0", "r8", "r9") TAPS("r1", "r10", "r11") TAPS("r2", "r12", "lr")
        "ldr r5, [sp, #0]\n"
        "stmia r5!, {r6, r7}\n"
        "str r5, [sp, #0]\n"
        "ldr r3, [sp, #8]\n"
        "cmp r0, r3\n"
        "bne 1b\n"
        "b 4f\n"
        ".balign 4\n"
        "2:\n"
        "ldr r6, [sp, #4]\n"
        "movs r7, r6\n"
        TAPS_2("r0", "r8", "r9") TAPS_2("r1", "r10", "r11") TAPS_2("r2", "r12", "lr")
        "ldr r5, [sp, #0]\n"
        "stmia r5!, {r6, r7}\n"
        "str r5, [sp, #0]\n"
        "ldr r3, [sp, #8]\n"
        "cmp r0, r3\n"
        "bne 2b\n"
        ".balign 4\n"
        "4:\n"
        "ldr r4, [sp, #24]\n"
        "cmp r4, #0\n"
        "beq 3f\n"
        "ldr r6, [sp, #4]\n"
        TAP("r0", "r8", "r9") TAP("r1", "r10", "r11") TAP("r2", "r12", "lr")
        "ldr r5, [sp, #0]\n"
        "stmia r5!, {r6}\n"
        "str r5, [sp, #0]\n"
        "3:\n"
        "ldr r3, [sp, #20]\n"
        "subs r3, #1\n"
        "beq 5f\n"
        "str r3, [sp, #20]\n"
        "ldr r3, [sp, #16]\n"
        "adds r0, r0, r3\n"
        "adds r1, r1, r3\n"
        "adds r2, r2, r3\n"
        "ldr r3, [sp, #12]\n"
        "adds r3, r3, r0\n"
        "str r3, [sp, #8]\n"
        "ldr r3, [sp, #28]\n"
        "bx r3\n"
        "5:\n"
        "add sp, #32\n" RESTORE);
}

// The words of kernel row k for the outputs r6 and r7 of columns 2 * \k and 2 * \k + 1: 11 cycles
#define STRIP_PAIR(k, w) \
    "ldr r3, [r0, #40 * " k " + 8 * \\k]\n" \
    "ldr r4, [r0, #40 * " k " + 8 * \\k + 4]\n" \
    "mov r5, " w "\n" \
    DOT2("r3", "r5", "r6") DOT2("r4", "r5", "r7")

// to = x[row k, two columns on] * third weight: one product for each output; two such fit 16 bits
#define STRIP_THIRD(k, w, to) \
    "ldr " to ", [r0, #40 * " k " + 8 * \\k + 8]\n" \
    "mov r5, " w "\n" \
    "muls " to ", r5\n"
#define STRIP_ADD \
    "sxth r4, r3\n" \
    "adds r7, r7, r4\n" \
    "asrs r3, r3, #16\n" \
    "adcs r6, r3\n"

// The output r6 of column 8 alone
#define STRIP_SINGLE(k, w) \
    "ldr r3, [r0, #40 * " k " + 32]\n" \
    "mov r5, " w "\n" \
    DOT2("r3", "r5", "r6")
#define STRIP_SINGLE_THIRD(k, w, to) \
    "ldr " to ", [r0, #40 * " k " + 40]\n" \
    "mov r5, " w "\n" \
    "muls " to ", r5\n"

// Weight words of a kernel row; r1: weights, r2: step, r6: 0x00800080
#define STRIP_WEIGHTS(sum, first, third) \
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
#define STRIP_BIAS(at) \
    "adds r7, r3, r4\n" \
    "adds r7, r7, r5\n" \
    "subs r7, #192\n" \
    "subs r7, #192\n" \
    "ldr r0, [sp, #52]\n" \
    "muls r7, r0\n" \
    "ldr r0, [sp, #56]\n" \
    "adds r7, r7, r0\n" \
    "str r7, [sp, #" at "]\n"

// Frame: 0 end of x of the rows of one kind, 4 code of a row's pairs, 8 of what follows them, 12 gap, 16 strip, 20 x of the next kind,
// 24 code for it; 28, 32: code of pairs and what follows with two kernel rows, 36, 40: with three; 44, 48: bias without the first,
// the last row, 52 zero point, 56 bias; of the next channel: 60 weights, 64 bias, 68 acc; 72 channels left.
// r0: x, so that a row's pairs end before column 8; r1: acc, r2: bias; r8-r12, lr: weights.
// A pair of outputs takes 59 cycles, with two kernel rows 40.
NAKED void edgelora_strip_s8(const edgelora_strip_t *strip) {
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #76\n"
        "str r0, [sp, #16]\n"
        "ldr r1, [r0, #12]\n"
        "str r1, [sp, #12]\n"
        "ldr r3, [r0, #4]\n"    // out_w
        "lsrs r4, r3, #1\n"
        "movs r5, #4\n"
        "subs r5, r5, r4\n"     // pairs of 4 to leave out
        "lsls r6, r5, #3\n"
        "ldr r7, [r0, #0]\n"
        "subs r7, r7, r6\n"
        "str r7, [sp, #20]\n"
        "lsls r6, r5, #6\n"     // 64 bytes of code a pair
        "adr r4, 2f\n"
        "adds r6, r6, r4\n"
        "adds r6, #1\n"
        "str r6, [sp, #28]\n"
        "movs r6, #96\n"
        "muls r6, r5\n"
        "adr r4, 3f\n"
        "adds r6, r6, r4\n"
        "adds r6, #1\n"
        "str r6, [sp, #36]\n"
        "adr r4, 9f\n"
        "movs r5, r4\n"
        "lsls r3, r3, #31\n"
        "beq 1f\n"
        "adr r4, 12f\n"
        "adr r5, 13f\n"
        "1:\n"
        "adds r4, #1\n"
        "adds r5, #1\n"
        "str r4, [sp, #32]\n"
        "str r5, [sp, #40]\n"
        "ldr r1, [r0, #28]\n"
        "str r1, [sp, #60]\n"
        "ldr r1, [r0, #36]\n"
        "str r1, [sp, #64]\n"
        "ldr r1, [r0, #8]\n"
        "str r1, [sp, #68]\n"
        "ldr r1, [r0, #40]\n"
        "str r1, [sp, #52]\n"
        "ldr r1, [r0, #44]\n"
        "str r1, [sp, #72]\n"
        "26:\n"                 // a channel
        "ldr r0, [sp, #16]\n"
        "ldr r4, [r0, #52]\n"
        "cmp r4, #0\n"
        "beq 1f\n"
        "movs r0, r4\n"
        "bl edgelora_plane_s8\n"
        "ldr r1, [r4, #8]\n"
        "adds r1, #1\n"
        "str r1, [r4, #8]\n"
        "1:\n"
        "ldr r0, [sp, #64]\n"
        "ldmia r0!, {r1}\n"
        "str r0, [sp, #64]\n"
        "str r1, [sp, #56]\n"
        "ldr r1, [sp, #60]\n"
        "adds r2, r1, #1\n"
        "str r2, [sp, #60]\n"
        "ldr r0, [sp, #16]\n"
        "ldr r2, [r0, #32]\n"   // step
        "movs r6, #128\n"
        "lsls r5, r6, #16\n"
        "orrs r6, r5\n"
        STRIP_WEIGHTS(STRIP_BIAS("44"), "r8", "r9") STRIP_WEIGHTS("", "r10", "r11") STRIP_WEIGHTS(STRIP_BIAS("48"), "r12", "lr")
        "ldr r0, [sp, #16]\n"
        "ldr r1, [sp, #68]\n"
        "ldr r7, [sp, #20]\n"
        "ldr r3, [r0, #16]\n"   // top: comes last
        "cmp r3, #0\n"
        "beq 1f\n"
        "ldr r3, [r0, #4]\n"
        "lsls r3, r3, #2\n"
        "adds r1, r1, r3\n"
        "ldr r3, [sp, #12]\n"
        "adds r1, r1, r3\n"
        "adds r7, #40\n"
        "1:\n"
        "ldr r3, [r0, #20]\n"   // all kernel rows
        "cmp r3, #0\n"
        "beq 22f\n"
        "movs r4, #40\n"
        "muls r4, r3\n"
        "adds r4, r4, r7\n"
        "str r4, [sp, #0]\n"
        "ldr r2, [sp, #56]\n"
        "adr r4, 21f\n"
        "adds r4, #1\n"
        "str r4, [sp, #24]\n"
        "ldr r3, [sp, #36]\n"
        "ldr r4, [sp, #40]\n"
        "b 23f\n"
        ".balign 4\n"
        "21:\n"
        "movs r7, r0\n"
        "22:\n"                 // without the last one
        "ldr r0, [sp, #16]\n"
        "ldr r3, [r0, #24]\n"
        "cmp r3, #0\n"
        "beq 25f\n"
        "ldr r2, [sp, #48]\n"
        "adr r3, 25f\n"
        "b 20f\n"
        ".balign 4\n"
        "25:\n"                 // without the first one
        "ldr r0, [sp, #16]\n"
        "ldr r3, [r0, #16]\n"
        "cmp r3, #0\n"
        "beq 24f\n"
        "mov r8, r10\n"
        "mov r9, r11\n"
        "mov r10, r12\n"
        "mov r11, lr\n"
        "ldr r1, [sp, #68]\n"
        "ldr r7, [sp, #20]\n"
        "adds r7, #40\n"
        "ldr r2, [sp, #44]\n"
        "adr r3, 24f\n"
        "20:\n"                 // a row at r7
        "adds r3, #1\n"
        "str r3, [sp, #24]\n"
        "movs r3, #40\n"
        "adds r3, r3, r7\n"
        "str r3, [sp, #0]\n"
        "ldr r3, [sp, #28]\n"
        "ldr r4, [sp, #32]\n"
        "23:\n"
        "str r3, [sp, #4]\n"
        "str r4, [sp, #8]\n"
        "movs r0, r7\n"
        "bx r3\n"
        ".balign 4\n"
        "24:\n"
        "ldr r1, [sp, #72]\n"
        "subs r1, #1\n"
        "str r1, [sp, #72]\n"
        "beq 1f\n"
        "ldr r0, [sp, #16]\n"
        "ldr r1, [sp, #68]\n"
        "ldr r2, [r0, #48]\n"
        "adds r1, r1, r2\n"
        "str r1, [sp, #68]\n"
        "b 26b\n"
        "1:\n"
        "add sp, #76\n" RESTORE
        ".balign 4\n"
        "13:\n"
        "movs r6, r2\n"
        STRIP_SINGLE("0", "r8") STRIP_SINGLE("1", "r10") STRIP_SINGLE("2", "r12")
        STRIP_SINGLE_THIRD("2", "lr", "r3")
        "asrs r3, r3, #16\n"
        "adcs r6, r3\n"
        "b 1f\n"
        ".balign 4\n"
        "12:\n"
        "movs r6, r2\n"
        STRIP_SINGLE("0", "r8") STRIP_SINGLE("1", "r10")
        "1:\n"
        STRIP_SINGLE_THIRD("0", "r9", "r3") STRIP_SINGLE_THIRD("1", "r11", "r4")
        "adds r3, r3, r4\n"
        "asrs r3, r3, #16\n"
        "adcs r6, r3\n"
        "stmia r1!, {r6}\n"
        ".balign 4\n"
        "9:\n"                  // the next row
        "ldr r3, [sp, #12]\n"
        "adds r1, r1, r3\n"
        "adds r0, #40\n"
        "ldr r3, [sp, #0]\n"
        "cmp r0, r3\n"
        "beq 1f\n"
        "ldr r3, [sp, #4]\n"
        "bx r3\n"
        "1:\n"
        "ldr r3, [sp, #24]\n"
        "bx r3\n"
        ".balign 4\n"
        "2:\n"
        ".irp k, 0,1,2,3\n"
        "movs r6, r2\n"
        "movs r7, r2\n"
        STRIP_PAIR("0", "r8") STRIP_PAIR("1", "r10")
        STRIP_THIRD("0", "r9", "r3") STRIP_THIRD("1", "r11", "r4")
        "adds r3, r3, r4\n" STRIP_ADD
        "stmia r1!, {r6, r7}\n"
        ".endr\n"
        "ldr r3, [sp, #8]\n"
        "bx r3\n"
        ".balign 4\n"
        "3:\n"
        ".irp k, 0,1,2,3\n"
        "movs r6, r2\n"
        "movs r7, r2\n"
        STRIP_PAIR("0", "r8") STRIP_PAIR("1", "r10") STRIP_PAIR("2", "r12")
        STRIP_THIRD("0", "r9", "r3") STRIP_THIRD("1", "r11", "r4")
        "adds r3, r3, r4\n" STRIP_ADD
        STRIP_THIRD("2", "lr", "r3") STRIP_ADD
        "stmia r1!, {r6, r7}\n"
        ".endr\n"
        "ldr r3, [sp, #8]\n"
        "bx r3\n");
}

// r0: plane, r1: x, r2: step, r3: x[i - 1] * 2^16, r4: end of the row's x, r5: 0, r12: its size, r8: from its end to the
// next row, r9: from the end of a row of the plane to the next one, r10: edge, r11: rows. 8.5 cycles a word. Of short rows
// 6: there r12 is the code of a row's pairs, lr of a row, r8 2 * step, r11 what r8 and sp at 0 the end what r4 is.
NAKED void edgelora_plane_s8(const edgelora_plane_t *plane) {
    __asm volatile(
        ".syntax unified\n" SAVE
        "ldr r1, [r0, #8]\n"
        "ldr r2, [r0, #12]\n"   // step
        "ldr r3, [r0, #20]\n"   // n
        "cmp r3, #11\n"
        "bls 10f\n"
        "movs r4, r3\n"
        "muls r4, r2\n"
        "mov r12, r4\n"
        "ldr r5, [r0, #16]\n"
        "subs r5, r5, r4\n"
        "mov r8, r5\n"
        "adds r4, r4, r1\n"
        "lsls r5, r3, #2\n"
        "adds r5, #4\n"
        "ldr r6, [r0, #4]\n"
        "subs r6, r6, r5\n"
        "mov r9, r6\n"
        "ldr r6, [r0, #28]\n"
        "mov r10, r6\n"
        "ldr r6, [r0, #24]\n"
        "mov r11, r6\n"
        "ldr r0, [r0, #0]\n"
        "subs r0, #4\n"
        "movs r5, #0\n"
        "lsrs r6, r3, #1\n"     // an odd n?
        "bcc 1f\n"
        "adr r7, 4f\n"
        "b 2f\n"
        "1:\n"
        "adr r7, 3f\n"
        "2:\n"
        "adds r7, #1\n"
        "mov lr, r7\n"
        "7:\n"
        "mov r6, r10\n"
        "lsls r3, r6, #16\n"
        "bx lr\n"
        ".balign 4\n"
        "4:\n"
        "movs r7, r3\n"
        "b 5f\n"
        ".balign 4\n"
        "3:\n"
        "ldrsb r6, [r1, r5]\n"
        "add r1, r2\n"
        "adds r3, r3, r6\n"
        "stmia r0!, {r3}\n"
        "lsls r7, r6, #16\n"
        "5:\n"
        "ldrsb r6, [r1, r5]\n"
        "add r1, r2\n"
        "adds r7, r7, r6\n"
        "stmia r0!, {r7}\n"
        "lsls r3, r6, #16\n"
        "cmp r1, r4\n"
        "bne 3b\n"
        "add r3, r10\n"
        "stmia r0!, {r3}\n"
        "add r1, r8\n"
        "mov r4, r12\n"
        "adds r4, r4, r1\n"
        "add r0, r9\n"
        "mov r6, r11\n"
        "subs r6, #1\n"
        "mov r11, r6\n"
        "bne 7b\n" RESTORE
        "10:\n"
        "sub sp, #4\n"
        "lsls r4, r2, #1\n"
        "mov r8, r4\n"
        "movs r4, r3\n"
        "muls r4, r2\n"
        "ldr r5, [r0, #16]\n"
        "ldr r6, [r0, #24]\n"
        "muls r6, r5\n"
        "adds r6, r6, r1\n"
        "str r6, [sp, #0]\n"
        "subs r5, r5, r4\n"
        "mov r11, r5\n"
        "lsls r5, r3, #2\n"
        "adds r5, #4\n"
        "ldr r6, [r0, #4]\n"
        "subs r6, r6, r5\n"
        "mov r9, r6\n"
        "ldr r6, [r0, #28]\n"
        "mov r10, r6\n"
        "ldr r0, [r0, #0]\n"
        "subs r0, #4\n"
        "lsrs r3, r3, #1\n"
        "movs r4, #5\n"        // pairs of 5 to leave out, 16 bytes of code each
        "bcs 1f\n"
        "subs r4, r4, r3\n"
        "lsls r4, r4, #4\n"
        "adr r5, 3f\n"
        "adds r4, r4, r5\n"
        "adds r4, #1\n"
        "mov lr, r4\n"
        "b 2f\n"
        "1:\n"
        "subs r4, r4, r3\n"
        "lsls r4, r4, #4\n"
        "adr r5, 3f\n"
        "adds r4, r4, r5\n"
        "adds r4, #1\n"
        "mov r12, r4\n"
        "adr r5, 4f\n"
        "adds r5, #1\n"
        "mov lr, r5\n"
        "2:\n"
        "movs r5, #0\n"
        "7:\n"
        "mov r6, r10\n"
        "lsls r3, r6, #16\n"
        "bx lr\n"
        ".balign 4\n"
        "4:\n"                  // an odd one
        "ldrsb r6, [r1, r5]\n"
        "add r1, r2\n"
        "adds r3, r3, r6\n"
        "stmia r0!, {r3}\n"
        "lsls r3, r6, #16\n"
        "bx r12\n"
        ".balign 4\n"
        "3:\n"
        ".rept 5\n"
        "ldrsb r6, [r1, r5]\n"
        "ldrsb r7, [r1, r2]\n"
        "adds r3, r3, r6\n"
        "lsls r4, r6, #16\n"
        "adds r4, r4, r7\n"
        "stmia r0!, {r3, r4}\n"
        "lsls r3, r7, #16\n"
        "add r1, r8\n"
        ".endr\n"
        "add r3, r10\n"
        "stmia r0!, {r3}\n"
        "add r1, r11\n"
        "add r0, r9\n"
        "ldr r6, [sp, #0]\n"
        "cmp r1, r6\n"
        "bne 7b\n"
        "add sp, #4\n" RESTORE);
}

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

// Frame: 0 positions. r0: quad, r1: x, r2: code of a position's groups, lr: end of its x, r8: its size, r9: from behind the last
// position of a quad to the next quad, r10: positions done, r11: from the end of a position to the next one in the quad, down.
// 14 cycles a group.
NAKED void edgelora_pack_quads_s8(uint32_t *quad, uint32_t stride, const int8_t *x, uint32_t positions, uint32_t groups) {
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #4\n"
        "str r3, [sp, #0]\n"
        "subs r1, #16\n"
        "mov r9, r1\n"
        "movs r1, r2\n"
        "ldr r4, [sp, #40]\n"
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
        "2:\n" PACK_GROUP("0", "16") PACK_GROUP("32", "48") PACK_GROUP("64", "80") PACK_GROUP("96", "112")
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
        "ldr r7, [sp, #0]\n"
        "cmp r6, r7\n"
        "bne 1b\n"
        "add sp, #4\n" RESTORE);
}

// r4: acc, r3: half of 2^shift, r7: shift. Values outside are brought in range behind the loop.
#define LOW(over, back) \
    "ldmia r2!, {r4}\n" \
    "adds r4, r4, r3\n" \
    "asrs r4, r7\n" \
    "movs r5, r4\n" \
    "adds r5, #127\n" \
    "cmp r5, #254\n" \
    "bhi " over "f\n" \
    back ":\n" \
    "strb r4, [r0]\n" \
    "adds r0, r0, r1\n"
#define LOW_OVER(over, back) \
    over ":\n" \
    "asrs r4, r4, #31\n"  \
    "movs r5, #127\n" \
    "eors r4, r5\n"        /* 127 or -128 */ \
    "lsrs r5, r4, #31\n" \
    "adds r4, r4, r5\n" \
    "b " back "b\n"

// 11 cycles a value
NAKED void edgelora_low_row_s8(int8_t *t, uint32_t step, const int32_t *acc, uint32_t count, int32_t shift) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "ldr r7, [sp, #20]\n"
        "lsls r6, r3, #2\n"
        "adds r6, r6, r2\n"
        "movs r3, #1\n"
        "lsls r3, r7\n"
        "lsrs r3, r3, #1\n"
        "1:\n" LOW("10", "11") LOW("20", "21") LOW("30", "31") LOW("40", "41")
        "cmp r2, r6\n"
        "bne 1b\n"
        "pop {r4-r7, pc}\n" LOW_OVER("10", "11") LOW_OVER("20", "21") LOW_OVER("30", "31") LOW_OVER("40", "41"));
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

// Pair words of 4 columns at once: rows 0 and 2 (or 1 and 3) of a group are words of 4 bytes each.
EDGELORA_KERNEL void edgelora_unpack_columns_s8(
    uint32_t *words, uint32_t stride, const uint8_t *from, uint32_t step, uint32_t groups, uint32_t flip) {
    const uint32_t mask = 0x00FF00FF, sign = 0x00800080;
    for (; groups; --groups, words += 2) {
        uint32_t *to = words;
        for (uint32_t k = 0; k < 2; ++k, from += step, ++to) {
            uint32_t a = *(const uint32_t *)(const void *)from ^ flip;
            uint32_t b = *(const uint32_t *)(const void *)(from + 2 * step) ^ flip;
            uint32_t a02 = a & mask, b02 = b & mask, a13 = a >> 8 & mask, b13 = b >> 8 & mask;
            uint32_t *at = to;
            *at = ((a02 & 0xFFFF) | (b02 << 16)) - sign;
            at = (uint32_t *)(void *)((uint8_t *)at + stride);
            *at = ((a13 & 0xFFFF) | (b13 << 16)) - sign;
            at = (uint32_t *)(void *)((uint8_t *)at + stride);
            *at = ((a02 >> 16) | (b02 >> 16 << 16)) - sign;
            at = (uint32_t *)(void *)((uint8_t *)at + stride);
            *at = ((a13 >> 16) | (b13 >> 16 << 16)) - sign;
        }
        from += 2 * step;
    }
}

// From the last of 8 values to the first: the carry of each comparison, set outside the range, is shifted in.
NAKED void edgelora_mask_bytes_s8(uint8_t *mask, const int8_t *y, uint32_t bytes, int32_t from, uint32_t width) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r6, lr}\n"
        "ldr r4, [sp, #16]\n"
        "1:\n"
        ".irp k, 7,6,5,4,3,2,1,0\n"
        "ldrb r5, [r1, #\\k]\n"
        "subs r5, r5, r3\n"
        "uxtb r5, r5\n"
        "cmp r5, r4\n"
        "adcs r6, r6\n"
        ".endr\n"
        "mvns r5, r6\n"
        "strb r5, [r0]\n"
        "adds r0, #1\n"
        "adds r1, #8\n"
        "subs r2, #1\n"
        "bne 1b\n"
        "pop {r4-r6, pc}\n");
}

#endif
