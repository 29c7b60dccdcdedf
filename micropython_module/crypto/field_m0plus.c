// The field modulo 2^255 - 19 on a Cortex-M0+, which multiplies 32 by 32 bits to 32.
// SPDX-License-Identifier: MIT
//
// A product of 8 by 8 words takes three products of 4 by 4 (Karatsuba, with differences), each
// computed column by column; a product of two words takes four products of halves. Cycles: a
// product of 4 by 4 words 490, a square of 4 words 300, joining three of them 190, folding 190.
// Constant time: neither time nor addresses depend on operands. Stack: 220 bytes.

#include "field.h"

#ifdef EDGELORA_FIELD_M0PLUS

#pragma GCC diagnostic ignored "-Wunused-parameter"  // assembly reads arguments from registers

#define NAKED __attribute__((naked, noipa))

// Both halves of the words at A[i] and B[j], then (r0, r4), the 64 bits of their product. r1 to r3
// are lost.
#define WORD_PRODUCT(i, j) \
    "ldr r1, [sp, #4 * " #i "]\n" \
    "ldr r3, [sp, #16 + 4 * " #j "]\n" \
    "lsrs r2, r1, #16\n" \
    "uxth r1, r1\n" \
    "lsrs r4, r3, #16\n" \
    "uxth r3, r3\n" \
    "movs r0, r1\n" \
    "muls r0, r3\n" /* low low */ \
    "muls r1, r4\n" /* low high */ \
    "muls r4, r2\n" /* high high */ \
    "muls r2, r3\n" /* high low */ \
    "movs r3, #0\n" \
    "adds r1, r1, r2\n" \
    "adcs r3, r3\n" \
    "lsls r3, r3, #16\n" \
    "adds r4, r4, r3\n" \
    "lsls r2, r1, #16\n" \
    "lsrs r1, r1, #16\n" \
    "adds r0, r0, r2\n" \
    "adcs r4, r1\n"

// The square of A[i], whose two mixed products are equal.
#define WORD_SQUARE(i) \
    "ldr r1, [sp, #4 * " #i "]\n" \
    "lsrs r4, r1, #16\n" \
    "uxth r1, r1\n" \
    "movs r0, r1\n" \
    "muls r0, r0\n" \
    "muls r1, r4\n" \
    "muls r4, r4\n" \
    "lsls r2, r1, #17\n" \
    "lsrs r1, r1, #15\n" \
    "adds r0, r0, r2\n" \
    "adcs r4, r1\n"

// Adds a product to the column's sum (c0, c1, c2), once or twice.
#define ADD_PRODUCT(c0, c1, c2) \
    "movs r3, #0\n" \
    "adds " c0 ", " c0 ", r0\n" \
    "adcs " c1 ", r4\n" \
    "adcs " c2 ", r3\n"
#define ADD_AGAIN(c0, c1, c2) \
    "adds " c0 ", " c0 ", r0\n" \
    "adcs " c1 ", r4\n" \
    "adcs " c2 ", r3\n"
#define PRODUCT(i, j, column) WORD_PRODUCT(i, j) ADD_PRODUCT column
#define TWICE(i, j, column) WORD_PRODUCT(i, j) ADD_PRODUCT column ADD_AGAIN column
#define SQUARE(i, column) WORD_SQUARE(i) ADD_PRODUCT column

// Stores word k of the result, to r12; its register becomes the top of the next column.
#define STORE(k, c0) \
    "mov r0, r12\n" \
    "str " c0 ", [r0, #4 * " #k "]\n"
#define NEXT(k, c0) STORE(k, c0) "movs " c0 ", #0\n"

#define COLUMN_0 ("r5", "r6", "r7")  // 0, 3, 6
#define COLUMN_1 ("r6", "r7", "r5")
#define COLUMN_2 ("r7", "r5", "r6")

#define ZERO_SUMS \
    "movs r5, #0\n" \
    "movs r6, #0\n" \
    "movs r7, #0\n"

// r[8] = a[4] b[4]; r may be one of them.
NAKED static void product4(uint32_t *r, const uint32_t *a, const uint32_t *b) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "mov r12, r0\n"
        "ldmia r2!, {r4-r7}\n"
        "push {r4-r7}\n"  // B
        "ldmia r1!, {r4-r7}\n"
        "push {r4-r7}\n"  // A
        ZERO_SUMS
        PRODUCT(0, 0, COLUMN_0)
        NEXT(0, "r5")
        PRODUCT(0, 1, COLUMN_1)
        PRODUCT(1, 0, COLUMN_1)
        NEXT(1, "r6")
        PRODUCT(0, 2, COLUMN_2)
        PRODUCT(1, 1, COLUMN_2)
        PRODUCT(2, 0, COLUMN_2)
        NEXT(2, "r7")
        PRODUCT(0, 3, COLUMN_0)
        PRODUCT(1, 2, COLUMN_0)
        PRODUCT(2, 1, COLUMN_0)
        PRODUCT(3, 0, COLUMN_0)
        NEXT(3, "r5")
        PRODUCT(1, 3, COLUMN_1)
        PRODUCT(2, 2, COLUMN_1)
        PRODUCT(3, 1, COLUMN_1)
        NEXT(4, "r6")
        PRODUCT(2, 3, COLUMN_2)
        PRODUCT(3, 2, COLUMN_2)
        NEXT(5, "r7")
        PRODUCT(3, 3, COLUMN_0)
        STORE(6, "r5")
        "str r6, [r0, #28]\n"
        "add sp, #32\n"
        "pop {r4-r7, pc}\n");
}

// r[8] = a[4]^2
NAKED static void square4(uint32_t *r, const uint32_t *a) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "mov r12, r0\n"
        "ldmia r1!, {r4-r7}\n"
        "push {r4-r7}\n"  // B is A, too
        "push {r4-r7}\n"
        ZERO_SUMS
        SQUARE(0, COLUMN_0)
        NEXT(0, "r5")
        TWICE(0, 1, COLUMN_1)
        NEXT(1, "r6")
        TWICE(0, 2, COLUMN_2)
        SQUARE(1, COLUMN_2)
        NEXT(2, "r7")
        TWICE(0, 3, COLUMN_0)
        TWICE(1, 2, COLUMN_0)
        NEXT(3, "r5")
        TWICE(1, 3, COLUMN_1)
        SQUARE(2, COLUMN_1)
        NEXT(4, "r6")
        TWICE(2, 3, COLUMN_2)
        NEXT(5, "r7")
        SQUARE(3, COLUMN_0)
        STORE(6, "r5")
        "str r6, [r0, #28]\n"
        "add sp, #32\n"
        "pop {r4-r7, pc}\n");
}

// r[4] = |a[4] - b[4]|; returns -1 if a < b, else 0.
NAKED static uint32_t difference4(uint32_t *r, const uint32_t *a, const uint32_t *b) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "ldmia r1!, {r4-r7}\n"
        "ldmia r2!, {r1, r3}\n"
        "subs r4, r4, r1\n"
        "sbcs r5, r3\n"
        "ldmia r2!, {r1, r3}\n"
        "sbcs r6, r1\n"
        "sbcs r7, r3\n"
        "sbcs r1, r1\n"
        "eors r4, r1\n"
        "eors r5, r1\n"
        "eors r6, r1\n"
        "eors r7, r1\n"
        "subs r4, r4, r1\n"
        "sbcs r5, r1\n"
        "sbcs r6, r1\n"
        "sbcs r7, r1\n"
        "stmia r0!, {r4-r7}\n"
        "movs r0, r1\n"
        "pop {r4-r7, pc}\n");
}

// Two words: those at r6 = those at r0 + those at r1.
#define SUM_2(first, change) \
    "ldmia r1!, {r4, r5}\n" \
    "ldmia r0!, {r3, r7}\n" change first " r4, r3\n" \
    "adcs r5, r7\n" \
    "stmia r6!, {r4, r5}\n"
#define SUM_8(first, change) \
    SUM_2(first, change) SUM_2("adcs", change) SUM_2("adcs", change) SUM_2("adcs", change)
#define NEGATED \
    "eors r4, r2\n" \
    "eors r5, r2\n"

// The halves of product[16] are the products of low and of high words. Adds their sum and
// middle[8], negated if sign is -1, at word 4; the total is not negative. middle is lost.
NAKED static void join(uint32_t *product, uint32_t *middle, uint32_t sign) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "movs r6, r1\n"
        "lsrs r3, r2, #1\n"  // -x is ~x + 1 - 2^256
        SUM_8("adcs", NEGATED)  // with the low product
        "movs r3, #0\n"
        "adcs r2, r3\n"
        "subs r1, #32\n"
        "subs r6, #32\n"
        SUM_8("adds", "")  // with the high one
        "movs r3, #0\n"
        "adcs r2, r3\n"  // 2^256 of the sum: 0 or 1
        "subs r1, #32\n"
        "subs r0, #48\n"
        "movs r6, r0\n"
        SUM_8("adds", "")
        "ldmia r0!, {r1, r3, r4, r5}\n"
        "adcs r1, r2\n"
        "movs r2, #0\n"
        "adcs r3, r2\n"
        "adcs r4, r2\n"
        "adcs r5, r2\n"
        "stmia r6!, {r1, r3, r4, r5}\n"
        "pop {r4-r7, pc}\n");
}

// Adds 38 times the word 8 places higher to a word of the product, with the carry of the previous
// word. r5: 38, r6: 0
#define FOLD_WORD(i, carry, next) \
    "ldr r3, [r1, #32 + 4 * " #i "]\n" \
    "lsrs " next ", r3, #16\n" \
    "uxth r3, r3\n" \
    "muls r3, r5\n" \
    "muls " next ", r5\n" \
    "adds r3, r3, " carry "\n" \
    "lsls r7, " next ", #16\n" \
    "lsrs " next ", " next ", #16\n" \
    "adds r3, r3, r7\n" \
    "ldr r7, [r1, #4 * " #i "]\n" \
    "adcs " next ", r6\n" \
    "adds r3, r3, r7\n" \
    "adcs " next ", r6\n" \
    "stmia r0!, {r3}\n"

// Adds 38 r2 to the 8 words before r0, and 38 to the first if that carries. r6: 0
#define FOLD_CARRY \
    "movs r5, #38\n" \
    "muls r2, r5\n" \
    "subs r0, #32\n" \
    "movs r1, r0\n" \
    "ldmia r1!, {r3, r4, r5, r7}\n" \
    "adds r3, r3, r2\n" \
    "adcs r4, r6\n" \
    "adcs r5, r6\n" \
    "adcs r7, r6\n" \
    "stmia r0!, {r3, r4, r5, r7}\n" \
    "ldmia r1!, {r3, r4, r5, r7}\n" \
    "adcs r3, r6\n" \
    "adcs r4, r6\n" \
    "adcs r5, r6\n" \
    "adcs r7, r6\n" \
    "stmia r0!, {r3, r4, r5, r7}\n" \
    "adcs r6, r6\n" \
    "movs r5, #38\n" \
    "muls r6, r5\n" \
    "subs r0, #32\n" \
    "ldr r3, [r0]\n" \
    "adds r3, r3, r6\n" \
    "str r3, [r0]\n"

// r[8] = product[16] modulo 2^256 - 38
NAKED static void fold(uint32_t *r, const uint32_t *product) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "movs r2, #0\n"
        "movs r5, #38\n"
        "movs r6, #0\n"
        FOLD_WORD(0, "r2", "r4")
        FOLD_WORD(1, "r4", "r2")
        FOLD_WORD(2, "r2", "r4")
        FOLD_WORD(3, "r4", "r2")
        FOLD_WORD(4, "r2", "r4")
        FOLD_WORD(5, "r4", "r2")
        FOLD_WORD(6, "r2", "r4")
        FOLD_WORD(7, "r4", "r2")
        FOLD_CARRY
        "pop {r4-r7, pc}\n");
}

NAKED void edgelora_fe_add(edgelora_fe_t r, const edgelora_fe_t a, const edgelora_fe_t b) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "movs r6, r0\n"
        "movs r0, r2\n"
        SUM_8("adds", "")
        "movs r0, r6\n"
        "movs r6, #0\n"
        "movs r2, #0\n"
        "adcs r2, r2\n"
        FOLD_CARRY
        "pop {r4-r7, pc}\n");
}

#define SUBTRACT_2(first) \
    "ldmia r1!, {r4, r5}\n" \
    "ldmia r2!, {r3, r7}\n" first " r4, r3\n" \
    "sbcs r5, r7\n" \
    "stmia r6!, {r4, r5}\n"

// A borrow from 2^256 makes the result 38 too large: subtracts 38, and again 38 from the first word
// if that borrows.
NAKED void edgelora_fe_subtract(edgelora_fe_t r, const edgelora_fe_t a, const edgelora_fe_t b) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "movs r6, r0\n"
        SUBTRACT_2("subs") SUBTRACT_2("sbcs") SUBTRACT_2("sbcs") SUBTRACT_2("sbcs")
        "sbcs r2, r2\n"
        "movs r6, #38\n"
        "ands r2, r6\n"
        "movs r6, #0\n"
        "movs r1, r0\n"
        "ldmia r1!, {r3, r4, r5, r7}\n"
        "subs r3, r3, r2\n"
        "sbcs r4, r6\n"
        "sbcs r5, r6\n"
        "sbcs r7, r6\n"
        "stmia r0!, {r3, r4, r5, r7}\n"
        "ldmia r1!, {r3, r4, r5, r7}\n"
        "sbcs r3, r6\n"
        "sbcs r4, r6\n"
        "sbcs r5, r6\n"
        "sbcs r7, r6\n"
        "stmia r0!, {r3, r4, r5, r7}\n"
        "sbcs r2, r2\n"
        "movs r6, #38\n"
        "ands r2, r6\n"
        "subs r0, #32\n"
        "ldr r3, [r0]\n"
        "subs r3, r3, r2\n"
        "str r3, [r0]\n"
        "pop {r4-r7, pc}\n");
}

// A word (high, low) times 2^16 + r5 is high 2^32 + (high r5 + low) 2^16 + low r5, none of which is
// above 2^32.
#define A24_WORD(carry, next) \
    "ldmia r1!, {r3}\n" \
    "lsrs r4, r3, #16\n" \
    "uxth r3, r3\n" \
    "movs " next ", r4\n" \
    "muls r4, r5\n" \
    "adds r4, r4, r3\n" \
    "muls r3, r5\n" \
    "adds r3, r3, " carry "\n" \
    "lsls r7, r4, #16\n" \
    "lsrs r4, r4, #16\n" \
    "adds r3, r3, r7\n" \
    "adcs " next ", r4\n" \
    "stmia r0!, {r3}\n"

NAKED void edgelora_fe_multiply_a24(edgelora_fe_t r, const edgelora_fe_t a) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "movs r2, #0\n"
        "ldr r5, 1f\n"
        A24_WORD("r2", "r6")
        A24_WORD("r6", "r2")
        A24_WORD("r2", "r6")
        A24_WORD("r6", "r2")
        A24_WORD("r2", "r6")
        A24_WORD("r6", "r2")
        A24_WORD("r2", "r6")
        A24_WORD("r6", "r2")
        "movs r6, #0\n"
        FOLD_CARRY
        "pop {r4-r7, pc}\n"
        ".balign 4\n"
        "1: .word 121665 - 65536\n");
}

// The middle term of (a_0 + a_1 2^128) (b_0 + b_1 2^128) is (a_0 - a_1) (b_1 - b_0) + a_0 b_0 + a_1
// b_1.
void edgelora_fe_multiply(edgelora_fe_t r, const edgelora_fe_t a, const edgelora_fe_t b) {
    uint32_t product[16], middle[8], other[4];
    uint32_t sign = difference4(middle, a, a + 4) ^ difference4(other, b + 4, b);
    product4(middle, middle, other);
    product4(product, a, b);
    product4(product + 8, a + 4, b + 4);
    join(product, middle, sign);
    fold(r, product);
}

void edgelora_fe_square(edgelora_fe_t r, const edgelora_fe_t a) {
    uint32_t product[16], middle[8];
    difference4(middle, a, a + 4);
    square4(middle, middle);
    square4(product, a);
    square4(product + 8, a + 4);
    join(product, middle, -1u);
    fold(r, product);
}

#undef STORE
#endif
