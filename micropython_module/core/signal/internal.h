// What the front ends share: the FFT, logarithms, quantization. SPEC.md, section 15.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_SIGNAL_INTERNAL_H
#define EDGELORA_SIGNAL_INTERNAL_H

#include "signal/frontend.h"

enum { FFT_POINTS = 256, SPECTRUM_BINS = 256 };

// A value of the FFT, and at last a bin's energy.
typedef edgelora_word_t word_t;

// Where the FFT wants value n of its input, [0, 256): the four digits of base 4 in reverse.
static inline uint32_t fft_place(uint32_t n) {
    return (n & 3) << 6 | (n & 12) << 2 | (n >> 2 & 12) | n >> 6;
}

// In place: [256] points at their places, of 512 real values x (even ones are real parts),
// each shifted left by `shift` first. Out: [256] u32, the energies |X[k]|^2 of bins `first` to 255,
// where X[k] = sum x[n] e^(-2 pi i k n / 512) / 512; below `first` the words mean nothing. 1 <=
// first.
void edgelora_fft_energies(word_t *words, int shift, uint32_t first);

// Q16 log2(x), x >= 1, by a table of 128 lines.
uint32_t edgelora_log2(uint32_t x);

// Whether a front end of `expected` bytes can be in a buffer.
bool edgelora_holds_frontend(const void *state, uint32_t size, uint32_t expected);

// Of values in units of unit / 2^unit_bits; false if the kind or the scale can't be.
bool edgelora_quantizer(edgelora_quantizer_t *q, uint32_t kind, uint32_t unit, int unit_bits,
    uint32_t scale, int8_t zero_point);

// Writes value i of an output: s16, or s8 if there is a quantizer.
void edgelora_put_feature(const edgelora_quantizer_t *q, void *out, uint32_t i, int32_t value);

#endif
