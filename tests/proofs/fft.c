// No sum and no product of the FFT overflows, for any samples.
// SPDX-License-Identifier: MIT

#include "signal/fft.c"

#include "proof.h"

void prove_halves(void) {
    int32_t x = nondet_s32();
    ASSUME(x >= -32768 && x <= 32767);
    PROVE(quarter(x) >= -8191 && quarter(x) <= 8191);
    PROVE(half(x) >= -16383 && half(x) <= 16383);
}

// A rotated quarter is within 16 bits, with room for sums of four.
void prove_turned(void) {
    word_t x;
    int32_t c = nondet_s32(), s = nondet_s32();
    ASSUME(c >= -32767 && c <= 32767 && s >= -32767 && s <= 32767);
    point_t p = turned(x, c, s);
    PROVE(p.r >= -16383 && p.r <= 16383 && p.i >= -16383 && p.i <= 16383);
}

// One group of butterflies without twiddle factors, with any allowed shift.
void prove_plain(void) {
    word_t words[FFT_POINTS];
    int32_t shift = nondet_s32();
    ASSUME(shift >= 0 && shift <= 15);
    plain(words, FFT_POINTS / 4, shift);
}

// Squares of 16-bit values, and their unsigned sum.
void prove_energy(void) {
    int32_t r = nondet_s32(), i = nondet_s32();
    ASSUME(r >= -32768 && r <= 32767 && i >= -32768 && i <= 32767);
    energy(r, i);
}
