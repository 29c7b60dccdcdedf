// Vector code of ESP32-S3: copies, products, requantization.
// SPDX-License-Identifier: MIT
//
// Functions of the windowed ABI: a1 is the stack, a2 the argument, and a2 to a15 are free. A loop's
// first instruction lies at a multiple of 4; all instructions are 3 bytes long except the products
// that also load, which are 4.

#include "kernels/simd/pie.h"

#ifdef EDGELORA_PIE

#define FUNCTION(name) \
    ".text\n.balign 4\n.global " #name "\n.type " #name ", @function\n" #name ":\n" \
    "entry a1, 96\n"
#define LOAD(r, index) "l32i " r ", a2, 4*" #index "\n"

// clang-format off

// a3, a4: to and its step, a5, a6: from and its step, a7: last, a8: count, q7: flip
__asm(
    FUNCTION(edgelora_pie_copy)
    LOAD("a3", 0) LOAD("a4", 1) LOAD("a5", 2) LOAD("a6", 3) LOAD("a7", 4) LOAD("a8", 5)
    "addi a9, a2, 24\n"
    PIE_SPREAD_32(7, 9, 0)
    "nop\n"
    "nop\n"
    "loopnez a8, 1f\n"
    PIE_LOAD_USAR(0, 5, 0)
    "addi a9, a5, 15\n"
    "minu a9, a9, a7\n"
    PIE_LOAD(1, 9, 0)
    "add a5, a5, a6\n"
    PIE_ALIGN(2, 0, 1)
    PIE_XOR(2, 2, 7)
    PIE_STORE(2, 3, 0)
    "add a3, a3, a4\n"
    "1:\n"
    "retw\n");

// a2: to, a3: count, a4: the word's address
__asm(
    FUNCTION(edgelora_pie_fill)
    PIE_SPREAD_32(0, 4, 0)
    "nop\n"
    "loopnez a3, 1f\n"
    PIE_STORE(0, 2, 16)
    "1:\n"
    "retw\n");

// a3: w, a4, a5: x and its step, a6: vectors - 1, a7, a8: from and its step, a9, a10: acc and its
// step, a11: count, a12, a13: the next vectors of w and x, a14: from's value
__asm(
    FUNCTION(edgelora_pie_dots)
    LOAD("a3", 0) LOAD("a4", 1) LOAD("a5", 2) LOAD("a6", 3) LOAD("a7", 4) LOAD("a8", 5)
    LOAD("a9", 6) LOAD("a10", 7) LOAD("a11", 8)
    "addi a6, a6, -1\n"
    "j 1f\n"
    ".balign 4\n"
    "1:\n"
    "or a12, a3, a3\n"
    "or a13, a4, a4\n"
    PIE_LOAD(0, 13, 16)
    PIE_LOAD(1, 12, 16)
    PIE_ZERO_ACCX
    "l32i a14, a7, 0\n"
    "add a7, a7, a8\n"
    "loopnez a6, 2f\n"
    PIE_DOT_LOAD(0, 1, 0, 13, 16)
    PIE_LOAD(1, 12, 16)
    "2:\n"
    PIE_DOT(0, 1)
    "add a4, a4, a5\n"
    "addi a11, a11, -1\n"
    PIE_READ_ACCX(15)
    "add a15, a15, a14\n"
    "s32i a15, a9, 0\n"
    "add a9, a9, a10\n"
    "bnez a11, 1b\n"
    "retw\n");

// a3: x, a4, a5: w and its step, a6: last, a7: vectors, a8, a9: from and its step, a10: acc, a11:
// count, a12, a13: the next vectors of x and w, a14: from's value, q7: flip
__asm(
    FUNCTION(edgelora_pie_rows)
    LOAD("a3", 0) LOAD("a4", 1) LOAD("a5", 2) LOAD("a6", 3) LOAD("a7", 4) LOAD("a8", 5)
    LOAD("a9", 6) LOAD("a10", 7) LOAD("a11", 8)
    "addi a12, a2, 36\n"
    PIE_SPREAD_32(7, 12, 0)
    "j 1f\n"
    ".balign 4\n"
    "1:\n"
    "or a12, a3, a3\n"
    "or a13, a4, a4\n"
    PIE_LOAD(3, 12, 16)
    PIE_ZERO_ACCX
    "l32i a14, a8, 0\n"
    "add a8, a8, a9\n"
    "add a4, a4, a5\n"
    "loopnez a7, 2f\n"
    PIE_LOAD_USAR(0, 13, 16)
    "minu a15, a13, a6\n"
    PIE_LOAD(1, 15, 0)
    PIE_ALIGN(2, 0, 1)
    PIE_XOR(2, 2, 7)
    PIE_DOT_LOAD(2, 3, 3, 12, 16)
    "2:\n"
    "addi a11, a11, -1\n"
    PIE_READ_ACCX(15)
    "add a15, a15, a14\n"
    "s32i a15, a10, 0\n"
    "addi a10, a10, 4\n"
    "bnez a11, 1b\n"
    "retw\n");

// Stores QACC to the stack. a15: lost
#define STORE_QACC \
    "or a15, a1, a1\n" \
    PIE_STORE_LOW_128(15, 16) \
    PIE_STORE_LOW_32(15, 16) \
    PIE_STORE_HIGH_128(15, 16) \
    PIE_STORE_HIGH_32(15, 0)

// Eight sums of 20 bits in five words on the stack, from `at` on, one after the other through `put`
// as number `first` and following, which takes a12. a12 to a14: lost
#define EIGHT_SUMS(at, first, put) \
    "l32i a13, a1, " #at "\n" \
    "l32i a14, a1, " #at "+4\n" \
    "sext a12, a13, 19\n" put(first) \
    "ssai 20\n" \
    "src a12, a14, a13\n" \
    "l32i a13, a1, " #at "+8\n" \
    "sext a12, a12, 19\n" put(first + 1) \
    "slli a12, a14, 4\n" \
    "srai a12, a12, 12\n" put(first + 2) \
    "ssai 28\n" \
    "src a12, a13, a14\n" \
    "l32i a14, a1, " #at "+12\n" \
    "sext a12, a12, 19\n" put(first + 3) \
    "ssai 16\n" \
    "src a12, a14, a13\n" \
    "l32i a13, a1, " #at "+16\n" \
    "sext a12, a12, 19\n" put(first + 4) \
    "slli a12, a14, 8\n" \
    "srai a12, a12, 12\n" put(first + 5) \
    "ssai 24\n" \
    "src a12, a13, a14\n" \
    "sext a12, a12, 19\n" put(first + 6) \
    "srai a12, a13, 12\n" put(first + 7)

// a3: v, a4, a5: s and its step, a6: n - 1, a8, a9: acc and its step
#define ADD_TO_ACC(k) \
    "l32i a10, a8, 0\n" \
    "add a12, a12, a10\n" \
    "s32i a12, a8, 0\n" \
    "add a8, a8, a9\n"
__asm(
    FUNCTION(edgelora_pie_columns)
    LOAD("a3", 0) LOAD("a4", 1) LOAD("a5", 2) LOAD("a6", 3) LOAD("a8", 4) LOAD("a9", 5)
    PIE_ZERO_QACC
    PIE_LOAD(0, 3, 16)
    PIE_SPREAD_8(1, 4, 0)
    "addi a6, a6, -1\n"
    "loopnez a6, 1f\n"
    "add a4, a4, a5\n"
    PIE_PRODUCTS_LOAD(0, 1, 0, 3, 16)
    PIE_SPREAD_8(1, 4, 0)
    "1:\n"
    PIE_PRODUCTS(0, 1)
    STORE_QACC
    EIGHT_SUMS(0, 0, ADD_TO_ACC)
    EIGHT_SUMS(32, 8, ADD_TO_ACC)
    "retw\n");

// QACC: products of the window at a3 with nine taps. Those of taps 5 to 8 stay in q2 to q5; the
// others are read each time, two products ahead, as the inputs are. a4, a12 to a15: lost
#define KEEP_TAPS \
    LOAD("a4", 3) \
    "addi a4, a4, 80\n" \
    PIE_LOAD(2, 4, 16) \
    PIE_LOAD(3, 4, 16) \
    PIE_LOAD(4, 4, 16) \
    PIE_LOAD(5, 4, 16)
#define WINDOW \
    LOAD("a15", 2) \
    LOAD("a4", 3) \
    "or a12, a3, a3\n" \
    "add a13, a3, a15\n" \
    "add a14, a13, a15\n" \
    PIE_LOAD(0, 12, 16) \
    PIE_LOAD(6, 4, 16) \
    PIE_LOAD(1, 12, 16) \
    PIE_LOAD(7, 4, 16) \
    PIE_ZERO_QACC \
    PIE_PRODUCTS_LOAD(0, 6, 0, 12, 0) \
    PIE_LOAD(6, 4, 16) \
    PIE_PRODUCTS_LOAD(1, 7, 1, 13, 16) \
    PIE_LOAD(7, 4, 16) \
    PIE_PRODUCTS_LOAD(0, 6, 0, 13, 16) \
    PIE_LOAD(6, 4, 0) \
    PIE_PRODUCTS_LOAD(1, 7, 1, 13, 0) \
    PIE_PRODUCTS_LOAD(0, 6, 0, 14, 16) \
    PIE_PRODUCTS_LOAD(1, 2, 1, 14, 16) \
    PIE_PRODUCTS_LOAD(0, 3, 0, 14, 0) \
    PIE_PRODUCTS(1, 4) \
    PIE_PRODUCTS(0, 5)
// On to the next window, unless the one at a3 was the last. a4, a5: lost
#define NEXT_WINDOW \
    LOAD("a4", 1) \
    LOAD("a5", 4) \
    "add a3, a3, a4\n" \
    "sub a5, a5, a3\n" \
    "bnez a5, 1b\n"

// a3: x, a8, a9: acc and its step
#define STORE_IN_ACC(k) \
    "s32i a12, a10, 0\n" \
    "add a10, a10, a9\n"
__asm(
    FUNCTION(edgelora_pie_window_sums)
    LOAD("a3", 0) LOAD("a8", 5) LOAD("a9", 6)
    KEEP_TAPS
    "1:\n"
    WINDOW
    STORE_QACC
    "or a10, a8, a8\n"
    EIGHT_SUMS(0, 0, STORE_IN_ACC)
    EIGHT_SUMS(32, 8, STORE_IN_ACC)
    "addi a8, a8, 4\n"
    NEXT_WINDOW
    "retw\n");

// a3: x, a7: scales, a8: y, a9: zero point, a10, a11: min, max. No value is needed by the
// instruction behind its load or its product.
#define STORE_OUTPUT(k) \
    "l32i a4, a7, 20*(" #k ")\n" \
    "l32i a5, a7, 20*(" #k ")+4\n" \
    "addx2 a12, a12, a4\n" \
    "l32i a4, a7, 20*(" #k ")+8\n" \
    "mull a6, a12, a5\n" \
    "mulsh a5, a12, a5\n" \
    "l32i a15, a7, 20*(" #k ")+12\n" \
    "extui a6, a6, 31, 1\n" \
    "add a5, a5, a6\n" \
    "l32i a6, a7, 20*(" #k ")+16\n" \
    "movltz a4, a15, a12\n" \
    "add a5, a5, a4\n" \
    "ssr a6\n" \
    "sra a5, a5\n" \
    "add a5, a5, a9\n" \
    "max a5, a5, a10\n" \
    "min a5, a5, a11\n" \
    "s8i a5, a8, " #k "\n"
__asm(
    FUNCTION(edgelora_pie_window_outputs)
    LOAD("a3", 0) LOAD("a7", 5) LOAD("a8", 6) LOAD("a9", 8) LOAD("a10", 9) LOAD("a11", 10)
    KEEP_TAPS
    "1:\n"
    WINDOW
    STORE_QACC
    EIGHT_SUMS(0, 0, STORE_OUTPUT)
    EIGHT_SUMS(32, 8, STORE_OUTPUT)
    LOAD("a6", 7)
    "add a8, a8, a6\n"
    NEXT_WINDOW
    "retw\n");

// The high half of the doubled sum's product with the multiplier is rounded by the bit below it,
// then shifted; halves go away from zero. a3: acc, a4, a14, a15: lost, a5, a6: y and its step, a7:
// bias, doubled, a8: multiplier, a9: half of 2^shift, a10: what it is for negative sums, a11: zero
// point, a12, a13: min, max
#define NEXT(r, load, index, bytes) \
    "l32i a14, a2, 4*" #index "\n" \
    load " " r ", a14, 0\n" \
    "addi a14, a14, " #bytes "\n" \
    "s32i a14, a2, 4*" #index "\n"
__asm(
    FUNCTION(edgelora_pie_outputs)
    LOAD("a3", 0) LOAD("a6", 3) LOAD("a11", 8) LOAD("a12", 9) LOAD("a13", 10)
    "j 1f\n"
    ".balign 4\n"
    "1:\n"
    NEXT("a7", "l32i", 4, 4)
    NEXT("a8", "l32i", 5, 4)
    NEXT("a15", "l8ui", 6, 1)
    LOAD("a5", 2)
    "add a7, a7, a7\n"
    "addi a14, a5, 1\n"
    "s32i a14, a2, 8\n"
    "movi a9, 0\n"
    "neg a15, a15\n"
    "movi a10, 0\n"
    "beqz a15, 2f\n"
    "addi a14, a15, -1\n"
    "ssl a14\n"
    "movi a9, 1\n"
    "sll a9, a9\n"
    "addi a10, a9, -1\n"
    "2:\n"
    "ssr a15\n"
    LOAD("a4", 1)
    "loopnez a4, 3f\n"
    "l32i a14, a3, 0\n"
    "addi a3, a3, 4\n"
    "addx2 a14, a14, a7\n"
    "mull a15, a14, a8\n"
    "mulsh a4, a14, a8\n"
    "extui a15, a15, 31, 1\n"
    "add a4, a4, a15\n"
    "or a15, a9, a9\n"
    "movltz a15, a10, a14\n"
    "add a4, a4, a15\n"
    "sra a4, a4\n"
    "add a4, a4, a11\n"
    "max a4, a4, a12\n"
    "min a4, a4, a13\n"
    "s8i a4, a5, 0\n"
    "add a5, a5, a6\n"
    "3:\n"
    LOAD("a14", 7)
    "addi a14, a14, -1\n"
    "s32i a14, a2, 28\n"
    "bnez a14, 1b\n"
    "retw\n");

// a3: acc, a4: multiplier, a5: shift, a6: y, a7: count, a8: zero point, a9, a10: min, max. The last
// bit of the shift rounds.
__asm(
    FUNCTION(edgelora_pie_channels)
    LOAD("a3", 0) LOAD("a4", 1) LOAD("a5", 2) LOAD("a6", 3) LOAD("a7", 4) LOAD("a8", 5)
    LOAD("a9", 6) LOAD("a10", 7)
    "nop\n"
    "nop\n"
    "loopnez a7, 1f\n"
    "l32i a12, a3, 0\n"
    "addi a3, a3, 4\n"
    "l32i a13, a4, 0\n"
    "add a12, a12, a12\n"
    "mull a14, a12, a13\n"
    "mulsh a12, a12, a13\n"
    "l8ui a15, a5, 0\n"
    "extui a14, a14, 31, 1\n"
    "add a12, a12, a14\n"
    "addi a5, a5, 1\n"
    "addi a4, a4, 4\n"
    "beqz a15, 2f\n"
    "neg a15, a15\n"
    "addi a15, a15, -1\n"
    "ssr a15\n"
    "srai a14, a12, 31\n"
    "add a12, a12, a14\n"
    "sra a12, a12\n"
    "addi a12, a12, 1\n"
    "srai a12, a12, 1\n"
    "2:\n"
    "add a12, a12, a8\n"
    "max a12, a12, a9\n"
    "min a12, a12, a10\n"
    "s8i a12, a6, 0\n"
    "addi a6, a6, 1\n"
    "1:\n"
    "retw\n");

// clang-format on

#endif
