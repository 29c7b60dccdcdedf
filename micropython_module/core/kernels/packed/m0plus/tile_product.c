// Rows of weights times a tile: 20 cycles for 8 products.
// SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

// The stack frame: weight words of the row, which end at the same place, and state for the next
// row.
typedef struct {
    // both are aligned to the end of their array
    uint32_t words[2 * EDGELORA_CHUNK], b_words[2 * EDGELORA_B_GROUPS];
    int32_t b_shift;                         // of B t
    uint32_t weights, coding, gap, bias;     // of the next row
    uint32_t acc_bytes, x, rows, b, b_bytes; // rows: left; b: of the next row
    uint32_t words_start;
    uint32_t first_word; // its code, if B t is shifted left: then r11 is 0 and lr the bias
} product_frame_t;

// In the order of `ldmia`.
ASSERT_WORDS(edgelora_tile_product_t, x, acc, count, weights, groups, coding, skip, bias, add, rows,
    gap, b, b_groups, b_shift, b_is_small, one_left)


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
    two ":\n" QUAD_WORD(AT(product_frame_t.b_words)) QUAD_WORD(AT(product_frame_t.b_words) " + 4") \
    ".balign 4\n" \
    one ":\n" QUAD_WORD(AT(product_frame_t.b_words) " + 8") \
    QUAD_WORD(AT(product_frame_t.b_words) " + 12") \
    "ldr r1, " SLOT(product_frame_t.b_shift) "\n"
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

// B t with one group, if a row's products fit 16 bits: adds them before separating the halves; 27
// cycles and 10 more
#define SMALL_UP \
    "ldr r1, [sp, #" AT(product_frame_t.b_words) " + 8]\n" \
    "ldmia r0!, {r2-r5}\n" \
    "muls r2, r1\n" \
    "muls r3, r1\n" \
    "muls r4, r1\n" \
    "muls r5, r1\n" \
    "ldr r1, [sp, #" AT(product_frame_t.b_words) " + 12]\n" \
    "ldmia r0!, {r6, r7}\n" \
    "muls r6, r1\n" \
    "muls r7, r1\n" \
    "adds r2, r2, r6\n" \
    "adds r3, r3, r7\n" \
    "ldmia r0!, {r6, r7}\n" \
    "muls r6, r1\n" \
    "muls r7, r1\n" \
    "adds r4, r4, r6\n" \
    "adds r5, r5, r7\n" \
    "movs r1, #0\n" \
    "asrs r7, r5, #16\n" \
    "adcs r7, r1\n" \
    "asrs r6, r4, #16\n" \
    "adcs r6, r1\n" \
    "asrs r5, r3, #16\n" \
    "adcs r5, r1\n" \
    "asrs r4, r2, #16\n" \
    "adcs r4, r1\n" \
    "ldr r1, " SLOT(product_frame_t.b_shift) "\n"

// sum = trunc_shift(sum, r1)
#define CUT(sum) \
    "asrs r2, " sum ", #31\n" \
    "adds " sum ", " sum ", r2\n" \
    "asrs " sum ", r1\n" \
    "subs " sum ", " sum ", r2\n"

// A group of the quad at r0 + `at`, only its first position: r6 += products
#define ONE_GROUP(at) \
    "ldmia r1!, {r4, r5}\n" \
    "ldr r2, [r0, #" at "]\n" \
    "ldr r3, [r0, #" at " + 16]\n" \
    DOT2("r2", "r4", "r6") DOT2("r3", "r5", "r6")

// r0: x; r4-r7: sums; r8: acc, r9: end, r10: code after the start of a quad, r11: bias, r12: skip,
// lr: code of the first weight word.
NAKED void edgelora_tile_product_s8(const edgelora_tile_product_t *row) {
    OFFSETS(product_frame_t, x, acc_bytes, weights, coding, b_words, words_start, bias, rows,
        gap, b, b_bytes, b_shift, first_word)
    SET(EDGELORA_PAIRS, EDGELORA_PAIRS);
    SET(EDGELORA_OFFSET, EDGELORA_OFFSET);
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" AT(product_frame_t) "\n"
        "ldmia r0!, {r1, r2, r3, r4, r5, r6, r7}\n" // x, acc, count, weights, groups, coding, skip
        "mov r8, r2\n"
        "mov r12, r7\n"
        "str r1, " SLOT(product_frame_t.x) "\n"
        "lsls r3, r3, #2\n"
        "ldr r2, [r0, #32]\n"  // one_left: excludes its four; adds 2 as a flag
        "movs r7, #18\n"
        "muls r2, r7\n"
        "subs r3, r3, r2\n"
        "str r3, " SLOT(product_frame_t.acc_bytes) "\n"
        "str r4, " SLOT(product_frame_t.weights) "\n"
        "str r6, " SLOT(product_frame_t.coding) "\n"
        "lsls r2, r5, #3\n"
        "movs r3, #" AT(product_frame_t.b_words) "\n"
        "subs r3, r3, r2\n"
        "add r3, sp\n"
        "str r3, " SLOT(product_frame_t.words_start) "\n"
        "movs r4, #60\n"        // bytes of code per group
        "muls r4, r5\n"
        "movs r5, #241\n"
        "lsls r5, r5, #2\n"     // 964: all groups, + 4
        "subs r5, r5, r4\n"
        "adr r4, 8f\n"
        "adds r5, r5, r4\n"
        "subs r5, #3\n"         // - 4 + Thumb
        "mov lr, r5\n"
        "ldmia r0!, {r1, r2, r3, r4, r6, r7}\n" // bias, add, rows, gap, b, b_groups
        "str r1, " SLOT(product_frame_t.bias) "\n"
        "str r3, " SLOT(product_frame_t.rows) "\n"
        "str r4, " SLOT(product_frame_t.gap) "\n"
        "str r6, " SLOT(product_frame_t.b) "\n"
        "lsls r3, r7, #3\n"
        "str r3, " SLOT(product_frame_t.b_bytes) "\n"
        "ldr r1, [r0]\n"        // b_shift
        "str r1, " SLOT(product_frame_t.b_shift) "\n"
        "cmp r2, #0\n"
        "beq 1f\n"
        "adr r5, 6f\n"
        "cmp r1, #0\n"
        "beq 2f\n"
        "adr r5, 36f\n"
        "2:\n"
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
        "str r1, " SLOT(product_frame_t.b_shift) "\n"
        "movs r1, #0\n"
        "mov r11, r1\n"
        "str r5, " SLOT(product_frame_t.first_word) "\n"
        "adr r4, 8f\n"
        "adds r4, #1\n"
        "cmp r5, r4\n"
        "beq 3f\n" UP_START("32", "33")
        "b 4f\n"
        "3:\n" UP_START("34", "35")
        "cmp r7, #1\n"
        "bne 4f\n"
        "ldr r4, [r0, #4]\n"   // b_is_small
        "cmp r4, #0\n"
        "beq 4f\n"
        "adr r5, 37f\n"
        "4:\n"
        "adds r5, #1\n"
        "2:\n"
        "mov r10, r5\n"
        "20:\n"                 // a row: weights
        "add r0, sp, #" AT(product_frame_t.b_words) "\n"    // end of the words
        "ldr r1, " SLOT(product_frame_t.weights) "\n"
        "ldr r2, " SLOT(product_frame_t.coding) "\n"
        "ldr r3, " SLOT(product_frame_t.words_start) "\n"
        "cmp r2, #" AT(EDGELORA_PAIRS) "\n"
        "beq 3f\n" UNPACK_CONSTANTS
        "cmp r2, #" AT(EDGELORA_OFFSET) "\n"
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
        "subs r4, r0, r3\n"
        "lsls r4, r4, #28\n"   // whole twos of groups?
        "beq 5f\n"
        "ldmia r1!, {r4, r5}\n"
        "stmia r3!, {r4, r5}\n"
        "cmp r3, r0\n"
        "beq 9f\n"
        "5:\n"
        "ldmia r1!, {r4, r5, r6, r7}\n"
        "stmia r3!, {r4, r5, r6, r7}\n"
        "cmp r3, r0\n"
        "bne 5b\n"
        "b 9f\n"
        "4:\n"
        UNPACK("eors r4, r2\n")
        "cmp r3, r0\n"
        "bne 4b\n"
        "9:\n"
        "ldr r2, " SLOT(product_frame_t.gap) "\n"
        "adds r1, r1, r2\n"
        "str r1, " SLOT(product_frame_t.weights) "\n"
        "ldr r1, " SLOT(product_frame_t.bias) "\n"
        "ldmia r1!, {r7}\n"
        "str r1, " SLOT(product_frame_t.bias) "\n"
        "ldr r2, " SLOT(product_frame_t.b_bytes) "\n"
        "cmp r2, #0\n"
        "beq 2f\n"
        "ldr r1, " SLOT(product_frame_t.b) "\n"  // B
        "adds r0, #" AT(product_frame_t.b_shift) " - " AT(product_frame_t.b_words) "\n"
        "subs r3, r0, r2\n"
        "1:\n"
        "ldmia r1!, {r4, r5}\n"
        "stmia r3!, {r4, r5}\n"
        "cmp r3, r0\n"
        "bne 1b\n"
        "str r1, " SLOT(product_frame_t.b) "\n"
        "mov r1, r11\n"
        "cmp r1, #0\n"
        "beq 3f\n"
        "ldr r1, " SLOT(product_frame_t.b_shift) "\n" // to the right: sums start from
        // (bias + 1 / 2) * 2^b_shift
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
        "ldr r1, " SLOT(product_frame_t.acc_bytes) "\n"
        "add r1, r8\n"
        "mov r9, r1\n"
        "ldr r0, " SLOT(product_frame_t.x) "\n"
        "b 5f\n"
        ".balign 4\n"
        "6:\n"                  // starts from acc instead of the bias
        "mov r1, r8\n"
        "ldmia r1!, {r4-r7}\n"
        "bx lr\n"
        ".balign 4\n"
        "36:\n"                // the same, truncated
        "mov r1, r8\n"
        "ldmia r1!, {r4-r7}\n"
        "ldr r1, " SLOT(product_frame_t.b_shift) "\n" CUT("r4") CUT("r5") CUT("r6") CUT("r7")
        "bx lr\n"
        UP("30", "31")
        "asrs r4, r1\n"
        "asrs r5, r1\n"
        "asrs r6, r1\n"
        "asrs r7, r1\n"
        "bx lr\n" UP("32", "33")
        UP_LEFT
        "ldr r1, " SLOT(product_frame_t.first_word) "\n"
        "bx r1\n" UP("34", "35") UP_LEFT
        "b 8f\n"
        ".balign 4\n"
        "37:\n" SMALL_UP
        UP_LEFT
        ".balign 4\n"
        "8:\n"
        ".irp k, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,"
        "16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
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
        "bhi 40f\n"
        "41:\n"
        "ldr r1, " SLOT(product_frame_t.rows) "\n"
        "subs r1, #1\n"
        "str r1, " SLOT(product_frame_t.rows) "\n"
        "beq 1f\n"
        "b 20b\n"
        "1:\n"
        "add sp, #" AT(product_frame_t) "\n" RESTORE
        "40:\n"                // one position: r1: words, r7: their end, r6: its sum
        "mov r6, r11\n"
        "ldr r2, " SLOT(product_frame_t.b_bytes) "\n"
        "cmp r2, #0\n"
        "bne 5f\n"
        "cmp r10, lr\n"
        "beq 4f\n"
        "mov r3, r8\n"         // adds to acc
        "ldr r6, [r3]\n"
        "ldr r1, " SLOT(product_frame_t.b_shift) "\n" CUT("r6")
        "4:\n"
        "ldr r1, " SLOT(product_frame_t.words_start) "\n"
        "add r7, sp, #" AT(product_frame_t.b_words) "\n"
        "b 6f\n"
        "5:\n"
        "add r7, sp, #" AT(product_frame_t.b_shift) "\n"
        "subs r1, r7, r2\n"
        "6:\n"
        "subs r2, r7, r1\n"
        "lsls r2, r2, #28\n"   // an odd number of groups?
        "beq 1f\n"
        "subs r0, #32\n"
        "b 2f\n"
        "1:\n"
        ONE_GROUP("0")
        "2:\n"
        ONE_GROUP("32")
        "adds r0, #64\n"
        "cmp r1, r7\n"
        "bne 1b\n"
        "add r2, sp, #" AT(product_frame_t.b_words) "\n"
        "cmp r7, r2\n"
        "beq 3f\n"
        "ldr r1, " SLOT(product_frame_t.b_shift) "\n" // behind B t
        "mov r2, r11\n"
        "cmp r2, #0\n"
        "beq 2f\n"
        "asrs r6, r1\n"
        "b 4b\n"
        "2:\n"
        "lsls r6, r1\n"
        "add r6, lr\n"
        "b 4b\n"
        "3:\n"
        "mov r1, r8\n"
        "str r6, [r1]\n"
        "adds r1, #16\n"
        "mov r8, r1\n"
        "b 41b\n");
}

#endif
