// Rows of a plane: 8.5 cycles a word, 6 in rows of up to 11.
// SPDX-License-Identifier: MIT

#include "kernels/packed/m0plus/m0plus.h"

#ifdef EDGELORA_M0PLUS

#define PLANE_PLANE 0
#define PLANE_PITCH 4
#define PLANE_X 8
#define PLANE_STEP 12
#define PLANE_ROW 16
#define PLANE_N 20
#define PLANE_ROWS 24
#define PLANE_EDGE 28
ASSERT_OFFSET(edgelora_plane_t, plane, PLANE_PLANE)
ASSERT_OFFSET(edgelora_plane_t, pitch, PLANE_PITCH)
ASSERT_OFFSET(edgelora_plane_t, x, PLANE_X)
ASSERT_OFFSET(edgelora_plane_t, step, PLANE_STEP)
ASSERT_OFFSET(edgelora_plane_t, row, PLANE_ROW)
ASSERT_OFFSET(edgelora_plane_t, n, PLANE_N)
ASSERT_OFFSET(edgelora_plane_t, rows, PLANE_ROWS)
ASSERT_OFFSET(edgelora_plane_t, edge, PLANE_EDGE)

// The frame, of short rows.
#define PLANE_X_END 0
#define PLANE_FRAME 4

// r0: plane, r1: x, r2: step, r3: x[i - 1] * 2^16, r4: end of the row's x, r5: 0, r12: its size,
// r8: from its end to the next row, r9: from the end of a row of the plane to the next one, r10:
// edge, r11: rows. Of short rows: r12 is the code of a row's pairs, lr of a row, r8 2 * step, r11
// what r8 is, the slot what r4 is.
NAKED void edgelora_plane_s8(const edgelora_plane_t *plane) {
    __asm volatile(".syntax unified\n" SAVE "bl edgelora_plane_rows\n" RESTORE);
}

// The same for assembly, which has saved what it needs: all registers are lost.
NAKED void edgelora_plane_rows(const edgelora_plane_t *plane) {
    __asm volatile(
        ".syntax unified\n"
        "push {lr}\n"
        "ldr r1, " FIELD(r0, PLANE_X) "\n"
        "ldr r2, " FIELD(r0, PLANE_STEP) "\n"   // step
        "ldr r3, " FIELD(r0, PLANE_N) "\n"   // n
        "cmp r3, #11\n"
        "bls 10f\n"
        "movs r4, r3\n"
        "muls r4, r2\n"
        "mov r12, r4\n"
        "ldr r5, " FIELD(r0, PLANE_ROW) "\n"
        "subs r5, r5, r4\n"
        "mov r8, r5\n"
        "adds r4, r4, r1\n"
        "lsls r5, r3, #2\n"
        "adds r5, #4\n"
        "ldr r6, " FIELD(r0, PLANE_PITCH) "\n"
        "subs r6, r6, r5\n"
        "mov r9, r6\n"
        "ldr r6, " FIELD(r0, PLANE_EDGE) "\n"
        "mov r10, r6\n"
        "ldr r6, " FIELD(r0, PLANE_ROWS) "\n"
        "mov r11, r6\n"
        "ldr r0, " FIELD(r0, PLANE_PLANE) "\n"
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
        "bne 7b\n"
        "pop {pc}\n"
        "10:\n"
        "sub sp, #" STRING(PLANE_FRAME) "\n"
        "lsls r4, r2, #1\n"
        "mov r8, r4\n"
        "movs r4, r3\n"
        "muls r4, r2\n"
        "ldr r5, " FIELD(r0, PLANE_ROW) "\n"
        "ldr r6, " FIELD(r0, PLANE_ROWS) "\n"
        "muls r6, r5\n"
        "adds r6, r6, r1\n"
        "str r6, " SLOT(PLANE_X_END) "\n"
        "subs r5, r5, r4\n"
        "mov r11, r5\n"
        "lsls r5, r3, #2\n"
        "adds r5, #4\n"
        "ldr r6, " FIELD(r0, PLANE_PITCH) "\n"
        "subs r6, r6, r5\n"
        "mov r9, r6\n"
        "ldr r6, " FIELD(r0, PLANE_EDGE) "\n"
        "mov r10, r6\n"
        "ldr r0, " FIELD(r0, PLANE_PLANE) "\n"
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
        "ldr r6, " SLOT(PLANE_X_END) "\n"
        "cmp r1, r6\n"
        "bne 7b\n"
        "add sp, #" STRING(PLANE_FRAME) "\n"
        "pop {pc}\n");
}

#endif
