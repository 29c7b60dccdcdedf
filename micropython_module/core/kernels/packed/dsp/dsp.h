// What the primitives for cores with DSP instructions (Cortex-M4, M7, M33) share.
// SPDX-License-Identifier: MIT
//
// Loops that need all 14 registers are assembly: what the compiler makes of them spills sums.
// `ldrd` takes two words that are 4-aligned.
//
// Test: tests/core/test_cores.py. Instructions: `make ledger`.

#ifndef EDGELORA_DSP_H
#define EDGELORA_DSP_H

#include "kernels/packed/assembly.h"
#include "kernels/packed/portable/portable.h"

#ifdef EDGELORA_DSP

// noipa: the compiler would take the assembly to leave all registers as they are.
#define NAKED EDGELORA_KERNEL __attribute__((naked, noipa))

#define SAVE "push {r4-r11, lr}\n"
#define RESTORE "pop {r4-r11, pc}\n"

// sum += both products of the pairs
#define DOT2(w, x, sum) "smladx " sum ", " w ", " x ", " sum "\n"

// Whether half of 2^-shift and the zero point times 2^-shift can be added before the shift.
static inline uint32_t rounds_at_once(int32_t shift) {
    return shift < 0 && shift >= -21;
}

#endif

#endif
