// Sum of rows of weights, each times one value: 28 cycles for 8 products, 34 for s8.
// SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

// In the order of `ldmia`.
ASSERT_WORDS(edgelora_row_t, row, value)
ASSERT_WORDS(edgelora_rows_t, acc, columns, minus, minus_end, plus, plus_end, offset, coding)

// The stack frame: `ldmia` loads the state of a sign and, with the first, the initial sums.
typedef struct {
    uint32_t minus;     // rows
    uint32_t low, high; // initial sums of words and of their upper halves
    uint32_t minus_end, minus_entry, minus_exit; // code
    uint32_t plus, plus_end, plus_entry, plus_exit;
    uint32_t acc, columns, coding; // columns: bytes; r5 of them are done
} rows_frame_t;

// r0: rows, r1: sums of two rows' even bytes, r6: of their odd ones, r5: bytes that are done, r7:
// 0x00FF00FF, r8: sum of all r1, r9: of all r6, r10, r11: sums of their upper halves, r12: code
// after the rows, lr: their end. r8 and r9 without the upper halves are the sums of the lower
// halves. flip: instruction that makes the word offset binary.
#define TWO_ROWS(flip) \
    "ldmia r0!, {r1, r3}\n" \
    "ldr r1, [r1, r5]\n" flip("r1") \
    "lsrs r6, r1, #8\n" \
    "ands r1, r7\n" \
    "ands r6, r7\n" \
    "muls r1, r3\n" \
    "muls r6, r3\n" \
    "ldmia r0!, {r2, r3}\n" \
    "ldr r2, [r2, r5]\n" flip("r2") \
    "lsrs r4, r2, #8\n" \
    "ands r2, r7\n" \
    "ands r4, r7\n" \
    "muls r2, r3\n" \
    "muls r4, r3\n" \
    "adds r1, r1, r2\n" \
    "adds r6, r6, r4\n" \
    "add r8, r1\n" \
    "add r9, r6\n" \
    "lsrs r1, r1, #16\n" \
    "lsrs r6, r6, #16\n" \
    "add r10, r1\n" \
    "add r11, r6\n"
#define TWO_ROWS_CODE 44 // bytes, of OFFSET
#define OFFSET(word)
#define SIGNED(word) \
    "ldr r4, " SLOT(rows_frame_t.coding) "\n" \
    "eors " word ", r4\n"

// The state of a sign, with rows from r0 to r1: entry to r4, exit to r5; `none`: code if it has no
// rows. r6: coding.
#define SIGN(none) \
    "adr r5, " none "f\n" \
    "adds r5, #1\n" \
    "movs r4, r5\n" \
    "subs r3, r1, r0\n" \
    "beq 2f\n" \
    "adr r4, 4f\n" \
    "cmp r6, #0\n" \
    "bne 1f\n" \
    "lsrs r3, r3, #4\n"  /* the first time around -pairs % 4 of 4 are left out */ \
    "rsbs r3, r3, #0\n" \
    "lsls r3, r3, #30\n" \
    "lsrs r3, r3, #30\n" \
    "movs r4, #" STRING(TWO_ROWS_CODE) "\n" \
    "muls r3, r4\n" \
    "adr r4, 3f\n" \
    "adds r4, r4, r3\n" \
    "1:\n" \
    "adds r4, #1\n" \
    "2:\n"

#define NEGATE(sum) \
    "mov r1, " sum "\n" \
    "rsbs r1, r1, #0\n" \
    "mov " sum ", r1\n"

NAKED void edgelora_add_rows_s8(const edgelora_rows_t *rows) {
    OFFSETS(rows_frame_t, acc, columns, coding, plus)
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" AT(rows_frame_t) "\n"
        "mov r8, r0\n"
        "ldmia r0!, {r1, r2}\n"
        "str r1, " SLOT(rows_frame_t.acc) "\n"
        "str r2, " SLOT(rows_frame_t.columns) "\n"
        "ldr r3, [r0, #16]\n"   // offset
        "ldr r6, [r0, #20]\n"   // coding
        "str r6, " SLOT(rows_frame_t.coding) "\n"
        "lsls r4, r3, #16\n"
        "adds r4, r4, r3\n"
        "mov r7, r8\n"
        "ldr r0, [r7, #8]\n"
        "ldr r1, [r7, #12]\n"
        "mov r2, sp\n"
        "stmia r2!, {r0}\n"
        "stmia r2!, {r4}\n"
        "stmia r2!, {r3}\n" SIGN("5")
        "stmia r2!, {r1, r4, r5}\n"
        "ldr r0, [r7, #16]\n"
        "ldr r1, [r7, #20]\n" SIGN("6")
        "stmia r2!, {r0, r1, r4, r5}\n"
        "movs r5, #0\n"
        "movs r7, #255\n"
        "lsls r4, r7, #16\n"
        "orrs r7, r4\n"
        "b 7f\n"
        ".balign 4\n"
        "3:\n"
        ".rept 4\n" TWO_ROWS(OFFSET) ".endr\n"
        "cmp r0, lr\n"
        "bne 3b\n"
        "bx r12\n"
        ".balign 4\n"
        "4:\n" TWO_ROWS(SIGNED)
        "cmp r0, lr\n"
        "bne 4b\n"
        "bx r12\n"
        ".balign 4\n"
        "5:\n" NEGATE("r8") NEGATE("r9") NEGATE("r10") NEGATE("r11")
        "add r1, sp, #" AT(rows_frame_t.plus) "\n"
        "ldmia r1!, {r0, r2, r3, r4}\n"
        "mov lr, r2\n"
        "mov r12, r4\n"
        "bx r3\n"
        ".balign 4\n"
        "6:\n"
        "ldr r0, " SLOT(rows_frame_t.acc) "\n"
        "ldmia r0!, {r1, r2, r3, r4}\n"
        "subs r0, #16\n"
        "add r1, r8\n"
        "add r2, r9\n"
        "add r3, r10\n"
        "add r4, r11\n"
        "mov r6, r10\n"
        "lsls r6, r6, #16\n"
        "subs r1, r1, r6\n"
        "mov r6, r11\n"
        "lsls r6, r6, #16\n"
        "subs r2, r2, r6\n"
        "stmia r0!, {r1, r2, r3, r4}\n"
        "str r0, " SLOT(rows_frame_t.acc) "\n"
        "adds r5, #4\n"
        "ldr r2, " SLOT(rows_frame_t.columns) "\n"
        "cmp r5, r2\n"
        "beq 8f\n"
        "7:\n"                  // 4 columns
        "mov r1, sp\n"
        "ldmia r1, {r0, r1, r2, r3, r4, r6}\n"
        "mov r8, r1\n"
        "mov r9, r1\n"
        "mov r10, r2\n"
        "mov r11, r2\n"
        "mov lr, r3\n"
        "mov r12, r6\n"
        "bx r4\n"
        "8:\n"
        "add sp, #" AT(rows_frame_t) "\n" RESTORE);
}

#endif
