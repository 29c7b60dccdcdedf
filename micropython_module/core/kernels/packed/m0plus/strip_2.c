// A 3x3 kernel with stride 2 over a strip of columns, in non-overlapping pairs: 31 cycles per
// output, 8.5 per pair.
// SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS



// to = a pair of neighbours
#define PAIR(to, temp) \
    "ldrsb " to ", [r1, r5]\n" \
    "ldrsb " temp ", [r1, r2]\n" \
    "add r1, r8\n" \
    "lsls " to ", " to ", #16\n" \
    "adds " to ", " to ", " temp "\n"

// r0: plane, r1: x, r2: step, r5: 0, r8: 2 * step, r9, r10: from the end of a row of x, of the
// plane, to the next one, r11: code of a row's twos of pairs, r12: of a row, lr: end of x.
NAKED void edgelora_pairs_s8(const edgelora_pairs_t *pairs) {
    OFFSETS(edgelora_pairs_t, x, step, n, row, rows, plane)
    SET(STRIP_PITCH, 4 * EDGELORA_STRIP_PITCH);
    __asm volatile(
        ".syntax unified\n" SAVE
        "ldr r1, " FIELD(r0, edgelora_pairs_t.x) "\n"
        "ldr r2, " FIELD(r0, edgelora_pairs_t.step) "\n"
        "lsls r3, r2, #1\n"
        "mov r8, r3\n"
        "ldr r4, " FIELD(r0, edgelora_pairs_t.n) "\n"
        "ldr r5, " FIELD(r0, edgelora_pairs_t.row) "\n"
        "ldr r6, " FIELD(r0, edgelora_pairs_t.rows) "\n"
        "muls r6, r5\n"
        "adds r6, r6, r1\n"
        "mov lr, r6\n"
        "muls r3, r4\n"
        "subs r5, r5, r3\n"
        "mov r9, r5\n"
        "movs r5, #" AT(STRIP_PITCH) "\n"
        "lsls r6, r4, #2\n"
        "subs r5, r5, r6\n"
        "mov r10, r5\n"
        "ldr r0, " FIELD(r0, edgelora_pairs_t.plane) "\n"
        "lsrs r3, r4, #1\n"
        "movs r5, #4\n"         // twos of 4 to leave out
        "subs r5, r5, r3\n"
        "movs r6, #22\n"        // bytes of code each
        "muls r5, r6\n"
        "adr r6, 3f\n"
        "adds r5, r5, r6\n"
        "adds r5, #1\n"
        "mov r11, r5\n"
        "mov r12, r5\n"
        "lsls r4, r4, #31\n"
        "beq 1f\n"
        "adr r6, 2f\n"
        "adds r6, #1\n"
        "mov r12, r6\n"
        "1:\n"
        "movs r5, #0\n"
        "bx r12\n"
        ".balign 4\n"
        "2:\n"                  // an odd one
        PAIR("r3", "r4")
        "stmia r0!, {r3}\n"
        "bx r11\n"
        ".balign 4\n"
        "3:\n"
        ".rept 4\n" PAIR("r3", "r4") PAIR("r4", "r6")
        "stmia r0!, {r3, r4}\n"
        ".endr\n"
        "add r1, r9\n"
        "add r0, r10\n"
        "cmp r1, lr\n"
        "beq 4f\n"
        "bx r12\n"
        "4:\n" RESTORE);
}

// The stack frame.
typedef struct {
    uint32_t outputs, first; // code of a row's outputs; bytes to the first one's word
    uint32_t gap, x_step;
    uint32_t acc_end;
} strip_2_frame_t;


// Computes one output at a time. The word between two outputs is loaded once, for the one that ends
// there and the one that begins. `cur` of column \k ends, `next` begins: 31 cycles.
#define WORD(row, word) "ldr r2, [r0, #" AT(STRIP_PITCH) " * " row " + 4 * " word "]\n"
#define THIRD(w2, cur) \
    "mov r3, " w2 "\n" \
    "muls r3, r2\n" \
    "asrs r3, r3, #16\n" \
    "adcs " cur ", r3\n"
#define LAST_PAIR(sum) "mov r3, r11\n" DOT2("r2", "r3", sum)
#define OUTPUT(word, cur, next) \
    WORD("0", word) THIRD("r8", cur) \
    "mov " next ", r12\n" DOT2("r2", "r4", next) \
    WORD("1", word) THIRD("r9", cur) DOT2("r2", "r5", next) \
    WORD("2", word) THIRD("r10", cur) LAST_PAIR(next) \
    "stmia r1!, {" cur "}\n"
#define OUTPUT_CODE 54 // bytes
#define LAST_OUTPUT(word, cur) \
    WORD("0", word) THIRD("r8", cur) WORD("1", word) THIRD("r9", cur) WORD("2", word) \
    THIRD("r10", cur) \
    "stmia r1!, {" cur "}\n"
// A row's first output begins.
#define FIRST(sum) \
    "ldr r3, " SLOT(strip_2_frame_t.first) "\n" \
    "adds r3, r3, r0\n" \
    "mov " sum ", r12\n" \
    "ldr r2, [r3]\n" DOT2("r2", "r4", sum) \
    "ldr r2, [r3, #" AT(STRIP_PITCH) "]\n" DOT2("r2", "r5", sum) \
    "ldr r2, [r3, #" AT(STRIP_PITCH) " * 2]\n" LAST_PAIR(sum) \
    "ldr r3, " SLOT(strip_2_frame_t.outputs) "\n" \
    "bx r3\n"

// r0: x, so that a row ends before column 8; r1: acc, r4, r5, r11: pairs of weights, r8-r10: third
// ones, r12: bias, lr: code of a row.
NAKED void edgelora_strip_2_s8(const edgelora_strip_2_t *strip) {
    OFFSETS(strip_2_frame_t, gap, x_step, acc_end, first, outputs)
    SET(STRIP_PITCH, 4 * EDGELORA_STRIP_PITCH);
    __asm volatile(
        ".syntax unified\n" SAVE
        "sub sp, #" AT(strip_2_frame_t) "\n"
        "ldmia r0!, {r1-r7}\n"  // x, out_w, acc, gap, rows, x_step, bias
        "mov r12, r7\n"
        "str r4, " SLOT(strip_2_frame_t.gap) "\n"
        "str r6, " SLOT(strip_2_frame_t.x_step) "\n"
        "lsls r6, r2, #2\n"
        "adds r4, r4, r6\n"     // bytes of a row of acc
        "muls r5, r4\n"
        "adds r5, r5, r3\n"
        "str r5, " SLOT(strip_2_frame_t.acc_end) "\n"
        "movs r5, #32\n"        // words of 8 to leave out
        "subs r5, r5, r6\n"
        "str r5, " SLOT(strip_2_frame_t.first) "\n"
        "subs r1, r1, r5\n"
        "lsrs r5, r5, #2\n"
        "movs r6, #" STRING(OUTPUT_CODE) "\n"
        "muls r5, r6\n"
        "adr r6, 2f\n"
        "adds r5, r5, r6\n"
        "adds r5, #1\n"
        "str r5, " SLOT(strip_2_frame_t.outputs) "\n"
        "adr r6, 3f\n"
        "lsls r2, r2, #31\n"
        "beq 1f\n"
        "adr r6, 4f\n"          // an odd number begins in r7
        "1:\n"
        "adds r6, #1\n"
        "mov lr, r6\n"
        "ldmia r0!, {r4, r5, r6, r7}\n" // weights
        "mov r8, r5\n"
        "mov r9, r7\n"
        "movs r5, r6\n"
        "ldmia r0!, {r6, r7}\n"
        "mov r11, r6\n"
        "mov r10, r7\n"
        "movs r0, r1\n"
        "movs r1, r3\n"
        "bx lr\n"
        ".balign 4\n"
        "3:\n" FIRST("r6")
        ".balign 4\n"
        "4:\n" FIRST("r7")
        ".balign 4\n"
        "2:\n" OUTPUT("1", "r6", "r7") OUTPUT("2", "r7", "r6") OUTPUT("3", "r6", "r7")
        OUTPUT("4", "r7", "r6") OUTPUT("5", "r6", "r7") OUTPUT("6", "r7", "r6")
        OUTPUT("7", "r6", "r7") LAST_OUTPUT("8", "r7")
        "ldr r3, " SLOT(strip_2_frame_t.gap) "\n"
        "adds r1, r1, r3\n"
        "ldr r3, " SLOT(strip_2_frame_t.x_step) "\n"
        "adds r0, r0, r3\n"
        "ldr r3, " SLOT(strip_2_frame_t.acc_end) "\n"
        "cmp r1, r3\n"
        "beq 1f\n"
        "bx lr\n"
        "1:\n"
        "add sp, #" AT(strip_2_frame_t) "\n" RESTORE);
}

#endif
