// Helpers of the primitives for cores with DSP instructions (Cortex-M4, M7, M33).
// SPDX-License-Identifier: MIT
//
// Loops that need all 14 registers are in assembly: the compiler would spill sums. `ldrd` loads two
// 4-aligned words.
//
// Test: tests/core/test_cores.py. Instructions: `make ledger`.

#ifndef EDGELORA_DSP_H
#define EDGELORA_DSP_H

#include "kernels/packed/portable/portable.h"

#ifdef EDGELORA_DSP

#include "kernels/packed/dsp/thumb2.h"

// sum += both products of the pairs
#define DOT2(w, x, sum) "smladx " sum ", " w ", " x ", " sum "\n"

// Can half of 2^-shift and zero point * 2^-shift be added before the shift?
static inline uint32_t rounds_at_once(int32_t shift) {
    return shift < 0 && shift >= -21;
}

#endif

#endif
