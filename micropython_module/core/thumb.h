// What functions of assembly have in common, on Cortex-M0+.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_THUMB_H
#define EDGELORA_THUMB_H

#include "fixed.h"

#pragma GCC diagnostic ignored "-Wunused-parameter" // assembly reads arguments from registers

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)

// noipa: otherwise the compiler would assume that the assembly preserves all registers.
#define NAKED EDGELORA_KERNEL __attribute__((naked, noipa))

#define SAVE \
    "push {r4-r7, lr}\n" \
    "mov r4, r8\n" \
    "mov r5, r9\n" \
    "mov r6, r10\n" \
    "mov r7, r11\n" \
    "push {r4-r7}\n"
#define SAVED 36 // bytes
#define RESTORE \
    "pop {r4-r7}\n" \
    "mov r8, r4\n" \
    "mov r9, r5\n" \
    "mov r10, r6\n" \
    "mov r11, r7\n" \
    "pop {r4-r7, pc}\n"

#endif
