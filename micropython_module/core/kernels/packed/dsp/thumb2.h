// Functions of assembly on cores with Thumb-2.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_THUMB2_H
#define EDGELORA_THUMB2_H

#include "kernels/packed/assembly.h"

// noipa: otherwise the compiler would assume that the assembly preserves all registers.
#define NAKED EDGELORA_KERNEL __attribute__((naked, noipa))

#define SAVE "push {r4-r11, lr}\n"
#define RESTORE "pop {r4-r11, pc}\n"

#endif
