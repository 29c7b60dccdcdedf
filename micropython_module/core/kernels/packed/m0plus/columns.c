// Converts sums to values of an error block: 11 cycles each to store, 11.5 to add two sums, 11.75
// to add a product.
// SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"
#include "training/block.h"

#ifdef EDGELORA_M0PLUS

// Stores a value `v` and ORs its magnitude into the bits. r0: q, r1: bits, r7: shift, r8: step; r3,
// r5 are lost. v + sign, shifted, is the complement of the magnitude where v < 0.
#define STORE(v) \
    "asrs r5, " v ", #31\n" \
    "adds " v ", " v ", r5\n" \
    "asrs " v ", r7\n" \
    "subs r3, " v ", r5\n" \
    "strb r3, [r0]\n" \
    "eors r5, " v "\n" \
    "orrs r1, r5\n" \
    "add r0, r8\n"

// r2: v, r9: end
NAKED uint32_t edgelora_store_column_s8(
    int8_t *q, uint32_t step, const int32_t *v, uint32_t n, int32_t shift) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "mov r4, r8\n"
        "mov r5, r9\n"
        "push {r4, r5}\n"
        "ldr r7, [sp, #28]\n"  // shift, above 7 registers
        "mov r8, r1\n"
        "movs r1, #0\n"
        "lsls r6, r3, #2\n"
        "adds r6, r6, r2\n"
        "mov r9, r6\n"
        "lsrs r3, r3, #1\n"
        "bcc 1f\n"
        "ldmia r2!, {r4}\n" STORE("r4")
        "cmp r2, r9\n"
        "beq 4f\n"
        "1:\n"                 // an even number remains: an odd number of pairs?
        "mov r6, r9\n"
        "subs r6, r6, r2\n"
        "lsls r6, r6, #28\n"
        "lsrs r6, r6, #31\n"
        "beq 3f\n"
        "ldmia r2!, {r4, r6}\n" STORE("r4") STORE("r6")
        "cmp r2, r9\n"
        "beq 4f\n"
        "3:\n"
        "ldmia r2!, {r4, r6}\n" STORE("r4") STORE("r6")
        "ldmia r2!, {r4, r6}\n" STORE("r4") STORE("r6")
        "cmp r2, r9\n"
        "bne 3b\n"
        "4:\n"
        "movs r0, r1\n"
        "pop {r4, r5}\n"
        "mov r8, r4\n"
        "mov r9, r5\n"
        "pop {r4-r7, pc}\n");
}

#define BITS(offset) \
    "ldr r6, [r0, " offset "]\n" \
    "lsls r7, r6, #1\n" \
    "eors r7, r6\n" \
    "orrs r5, r7\n"

// 6 cycles for 4 values. r1, r3, r4: 1 to 3 steps, r12: 4 steps, r2: fours of rows
NAKED uint32_t edgelora_columns_bits_s8(const int8_t *e, uint32_t step, uint32_t rows) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "movs r5, #0\n"
        "movs r3, #0\n"
        "lsls r4, r2, #30\n"
        "lsrs r4, r4, #30\n"
        "beq 2f\n"
        "1:\n" BITS("r3")
        "adds r0, r0, r1\n"
        "subs r4, #1\n"
        "bne 1b\n"
        "2:\n"
        "lsrs r2, r2, #2\n"
        "beq 4f\n"
        "lsls r3, r1, #1\n"
        "adds r4, r3, r1\n"
        "lsls r6, r1, #2\n"
        "mov r12, r6\n"
        "3:\n" BITS("#0") BITS("r1") BITS("r3") BITS("r4")
        "add r0, r12\n"
        "subs r2, #1\n"
        "bne 3b\n"
        "4:\n"
        "movs r0, r5\n"
        "pop {r4-r7, pc}\n");
}

// e * (m + 1) >> 24 is trunc_shift(e * m, 24), or one less for a negative product: the added e is
// less than a product's lowest bit. Zeros, which are frequent after a mask, are skipped. r0: e, r5:
// m + 1
#define SCALE(offset) \
    "ldrsb r6, [r0, " offset "]\n" \
    "muls r6, r5\n" \
    "beq 9f\n" \
    "lsrs r7, r6, #31\n" \
    "asrs r6, r6, #24\n" \
    "adds r6, r6, r7\n" \
    "strb r6, [r0, " offset "]\n" \
    "9:\n"

// 10 cycles per value, 6 for a 0. r1: 0, r2-r4: 1 to 3 steps, r8: 4 steps, r9: end of the fours,
// r12: end.
NAKED void edgelora_scale_column_s8(int8_t *e, uint32_t step, uint32_t n, int32_t m) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "mov r4, r8\n"
        "mov r5, r9\n"
        "push {r4, r5}\n"
        "adds r5, r3, #1\n"
        "lsrs r6, r2, #2\n"
        "lsls r7, r1, #2\n"
        "mov r8, r7\n"
        "muls r6, r7\n"
        "adds r6, r6, r0\n"
        "mov r9, r6\n"
        "muls r2, r1\n"
        "adds r2, r2, r0\n"
        "mov r12, r2\n"
        "movs r2, r1\n"
        "lsls r3, r1, #1\n"
        "adds r4, r3, r1\n"
        "movs r1, #0\n"
        "cmp r0, r9\n"
        "beq 2f\n"
        "1:\n" SCALE("r1") SCALE("r2") SCALE("r3") SCALE("r4")
        "add r0, r8\n"
        "cmp r0, r9\n"
        "bne 1b\n"
        "2:\n"
        "cmp r0, r12\n"
        "beq 4f\n"
        "3:\n" SCALE("r1")
        "adds r0, r0, r2\n"
        "cmp r0, r12\n"
        "bne 3b\n"
        "4:\n"
        "pop {r4, r5}\n"
        "mov r8, r4\n"
        "mov r9, r5\n"
        "pop {r4-r7, pc}\n");
}

// `to` += trunc_shift(from, r2)
#define ADD_SHIFTED(to, from) \
    "asrs r3, " from ", #31\n" \
    "adds " from ", " from ", r3\n" \
    "asrs " from ", r2\n" \
    "adds " to ", " to ", " from "\n" \
    "subs " to ", " to ", r3\n"

// v = [r0 + at] op v; `was` is lost
#define ADD_ONE(op, v, at, was) \
    "ldr " was ", [r0, #" at "]\n" \
    op " " v ", " was ", " v "\n"

// r0: v, r1: w, r12: end of v
NAKED void edgelora_add_shifted_s32(int32_t *v, const int32_t *w, int32_t n, uint32_t count) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "lsls r4, r3, #2\n"
        "adds r4, r4, r0\n"
        "mov r12, r4\n"
        "lsls r5, r3, #30\n"   // fours without a shift: 6.25 each
        "orrs r5, r2\n"
        "beq 4f\n"
        "lsrs r3, r3, #1\n"
        "bcc 1f\n"
        "ldmia r1!, {r4}\n"
        "ldr r6, [r0]\n" ADD_SHIFTED("r6", "r4")
        "stmia r0!, {r6}\n"
        "1:\n"
        "cmp r0, r12\n"
        "beq 3f\n"
        "2:\n"
        "ldmia r1!, {r4, r5}\n"
        "ldr r6, [r0]\n"
        "ldr r7, [r0, #4]\n" ADD_SHIFTED("r6", "r4") ADD_SHIFTED("r7", "r5")
        "stmia r0!, {r6, r7}\n"
        "cmp r0, r12\n"
        "bne 2b\n"
        "3:\n"
        "pop {r4-r7, pc}\n"
        "4:\n"
        "ldmia r1!, {r4, r5, r6, r7}\n" ADD_ONE("adds", "r4", "0", "r2")
        ADD_ONE("adds", "r5", "4", "r2") ADD_ONE("adds", "r6", "8", "r2")
        ADD_ONE("adds", "r7", "12", "r2")
        "stmia r0!, {r4, r5, r6, r7}\n"
        "cmp r0, r12\n"
        "bne 4b\n"
        "pop {r4-r7, pc}\n");
}

// A position of add_scaled: r0: acc, r1: from v + step on, r2: step, r3: shift, r4: factor
#define ADD_SCALED(acc) \
    "asrs r7, " acc ", #31\n" \
    "adds " acc ", " acc ", r7\n" \
    "asrs " acc ", r3\n" \
    "subs " acc ", " acc ", r7\n" \
    "ldrsb r7, [r1, r2]\n" \
    "adds r1, r1, r2\n" \
    "muls r7, r4\n" \
    "adds " acc ", " acc ", r7\n"

// 14 cycles per value. r12: end of acc
NAKED void edgelora_add_scaled_s32(int32_t *acc, uint32_t count, int32_t shift, const int8_t *v,
    uint32_t step, int32_t factor) {
    __asm volatile(
        ".syntax unified\n"
        "push {r4-r7, lr}\n"
        "movs r5, r1\n"
        "movs r1, r3\n"
        "movs r3, r2\n"
        "ldr r2, [sp, #20]\n"  // step and factor, above 5 registers
        "ldr r4, [sp, #24]\n"
        "lsls r6, r5, #2\n"
        "adds r6, r6, r0\n"
        "mov r12, r6\n"
        "subs r1, r1, r2\n"
        "lsrs r5, r5, #1\n"
        "bcc 2f\n"
        "ldr r5, [r0]\n" ADD_SCALED("r5")
        "stmia r0!, {r5}\n"
        "2:\n"
        "cmp r0, r12\n"
        "beq 4f\n"
        "3:\n"
        "ldr r5, [r0]\n"
        "ldr r6, [r0, #4]\n" ADD_SCALED("r5") ADD_SCALED("r6")
        "stmia r0!, {r5, r6}\n"
        "cmp r0, r12\n"
        "bne 3b\n"
        "4:\n"
        "pop {r4-r7, pc}\n");
}

// In the order of `ldmia`.
ASSERT_WORDS(edgelora_outer_t, gradient, gap, factor, rows, v, count, shift, signs)

// The stack frame.
typedef struct {
    uint32_t count;
    uint32_t fours; // code of the rest of a row before its fours
} outer_frame_t;

// v = trunc_shift(v * r3, r2); sign is lost
#define PRODUCT(v, sign) \
    "muls " v ", r3\n" \
    "asrs " sign ", " v ", #31\n" \
    "adds " v ", " v ", " sign "\n" \
    "asrs " v ", r2\n" \
    "subs " v ", " v ", " sign "\n"
#define TWO_PRODUCTS \
    "ldmia r1!, {r4, r5}\n" PRODUCT("r4", "r6") PRODUCT("r5", "r7") \
    "ldr r6, [r0]\n" \
    "ldr r7, [r0, #4]\n" \
    "adds r6, r6, r4\n" \
    "adds r7, r7, r5\n" \
    "stmia r0!, {r6, r7}\n"
// Four products, shifted by `shift`; `was` is lost
#define FOUR(op, shift, was) \
    "ldmia r1!, {r4, r5, r6, r7}\n" \
    "muls r4, r3\n" \
    "muls r5, r3\n" \
    "muls r6, r3\n" \
    "muls r7, r3\n" \
    shift \
    ADD_ONE(op, "r4", "0", was) ADD_ONE(op, "r5", "4", was) \
    ADD_ONE(op, "r6", "8", was) ADD_ONE(op, "r7", "12", was) \
    "stmia r0!, {r4, r5, r6, r7}\n"
#define SHIFT_FOUR \
    "lsrs r4, r2\n" \
    "lsrs r5, r2\n" \
    "lsrs r6, r2\n" \
    "lsrs r7, r2\n"

// r0: gradient, r1: v, r2: shift, r3: factor, r8: gap, r9: factors, r10: their end, r11: v's start,
// r12: v's end.
NAKED void edgelora_outer_s32(const edgelora_outer_t *outer) {
    OFFSETS(outer_frame_t, count, fours)
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" AT(outer_frame_t) "\n"
        "ldmia r0!, {r1, r2, r3, r4, r5, r6, r7}\n"
        "mov r8, r2\n"
        "mov r9, r3\n"
        "adds r3, r3, r4\n"
        "mov r10, r3\n"
        "mov r11, r5\n"
        "str r6, " SLOT(outer_frame_t.count) "\n"
        "lsls r6, r6, #2\n"
        "adds r5, r5, r6\n"
        "mov r12, r5\n"
        "movs r2, r7\n"
        "ldr r7, [r0]\n"
        "movs r0, r1\n"
        "adr r4, 6f\n"         // no shift
        "cmp r2, #0\n"
        "beq 8f\n"
        "adr r4, 4f\n"         // shifts that round toward 0: plain ones if all v are >= 0
        "cmp r7, #0\n"
        "bmi 8f\n"
        "adr r4, 7f\n"
        "8:\n"
        "adds r4, #1\n"
        "str r4, " SLOT(outer_frame_t.fours) "\n"
        "1:\n"
        "mov r1, r11\n"
        "mov r4, r9\n"
        "movs r3, #0\n"
        "ldrsb r3, [r4, r3]\n"
        "adds r4, #1\n"
        "mov r9, r4\n"
        "ldr r5, " SLOT(outer_frame_t.count) "\n"
        "cmp r3, #0\n"
        "bne 2f\n"
        "lsls r5, r5, #2\n"
        "adds r0, r0, r5\n"
        "b 5f\n"
        "2:\n"
        "lsrs r5, r5, #1\n"
        "bcc 3f\n"
        "ldmia r1!, {r4}\n" PRODUCT("r4", "r6")
        "ldr r6, [r0]\n"
        "adds r6, r6, r4\n"
        "stmia r0!, {r6}\n"
        "3:\n"
        "lsrs r5, r5, #1\n"
        "bcc 9f\n" TWO_PRODUCTS
        "9:\n"
        "cmp r1, r12\n"
        "beq 5f\n"
        "ldr r4, " SLOT(outer_frame_t.fours) "\n"
        "bx r4\n"
        ".balign 4\n"
        "4:\n" TWO_PRODUCTS TWO_PRODUCTS
        "cmp r1, r12\n"
        "bne 4b\n"
        "5:\n"
        "add r0, r8\n"
        "cmp r9, r10\n"
        "bne 1b\n"
        "add sp, #" AT(outer_frame_t) "\n" RESTORE
        ".balign 4\n"
        "6:\n"                  // an odd number of fours?
        "ldr r5, " SLOT(outer_frame_t.count) "\n"
        "lsrs r5, r5, #3\n"
        "bcs 9f\n"
        "8:\n" FOUR("adds", "", "r2")
        "9:\n" FOUR("adds", "", "r2")
        "cmp r1, r12\n"
        "bne 8b\n"
        "movs r2, #0\n"
        "b 5b\n"
        ".balign 4\n"
        "7:\n"
        "cmp r3, #0\n"
        "bmi 9f\n"
        "mov lr, r3\n"
        "8:\n" FOUR("adds", SHIFT_FOUR, "r3")
        "mov r3, lr\n"
        "cmp r1, r12\n"
        "bne 8b\n"
        "b 5b\n"
        "9:\n"                  // subtracts products by the factor's magnitude
        "rsbs r3, r3, #0\n"
        "mov lr, r3\n"
        "8:\n" FOUR("subs", SHIFT_FOUR, "r3")
        "mov r3, lr\n"
        "cmp r1, r12\n"
        "bne 8b\n"
        "b 5b\n");
}

#undef STORE
#endif
