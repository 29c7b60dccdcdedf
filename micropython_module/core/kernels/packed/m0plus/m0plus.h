// Helpers of the primitives for Cortex-M0+ (RP2040).
// SPDX-License-Identifier: MIT
//
// Cycle counts: loads take 2, ldm 1 + n, taken branches 2, everything else 1. `muls; asrs #16;
// adcs` adds two products to a sum: the shift leaves bit 15, the borrow's correction, in the carry.
//
// Test: tests/device/test_device.py, on the virtual Pico. Time: `edgelora bench kernels --board
// virtual-pico`.

#ifndef EDGELORA_M0PLUS_H
#define EDGELORA_M0PLUS_H

#include "kernels/packed/assembly.h"
#include "kernels/packed/primitives.h"

#ifdef EDGELORA_M0PLUS

#include "thumb.h"

// plane.c
void edgelora_plane_rows(const edgelora_plane_t *plane);

// sum += dot2(w, x); x is lost
#define DOT2(x, w, sum) \
    "muls " x ", " w "\n" \
    "asrs " x ", " x ", #16\n" \
    "adcs " sum ", " x "\n"

// x = dot2(w, x) + start
#define FIRST_DOT2(x, w, start) \
    "muls " x ", " w "\n" \
    "asrs " x ", " x ", #16\n" \
    "adcs " x ", " start "\n"

// a = requantize's high = floor((a * m + 2^30) / 2^31), |a| < 1.5 * 2^30; m = mh * 2^16 + ml, -2^15
// <= ml < 2^15. t, q, p are lost. With a = ah * 2^16 + al likewise, |al * mh| <= 2^30, |ah * ml| <=
// 0.75 * 2^30 and |al * ml >> 16| <= 2^14 stay in 32 bits. So do they with 0 <= ml < 2^16 if |a| <
// 2^30.
#define HIGH_MUL(a, t, q, ml_mul_q_t, ml_mul_p_a, mh, p) \
    "sxth " t ", " a "\n" \
    "subs " a ", " a ", " t "\n" \
    "asrs " a ", " a ", #16\n" ml_mul_q_t "asrs " q ", " q ", #16\n" ml_mul_p_a "adds " q ", " q \
    ", " p "\n" \
    "muls " t ", " mh "\n" \
    "adds " q ", " q ", " t "\n" \
    "muls " a ", " mh "\n" \
    "adds " a ", " a ", " a "\n" \
    "asrs " q ", " q ", #15\n" \
    "adcs " a ", " q "\n"

#endif

#endif
