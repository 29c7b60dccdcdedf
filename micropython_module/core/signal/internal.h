// Helpers of all front ends: FFT, logarithms, quantization. SPEC.md, section 15.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_SIGNAL_INTERNAL_H
#define EDGELORA_SIGNAL_INTERNAL_H

#include "signal/frontend.h"

enum { FFT_POINTS = 256, SPECTRUM_BINS = 256 };

// A value of the FFT; in the output, the energy of a bin.
typedef edgelora_word_t word_t;

// The place of input value n, [0, 256), in the FFT: its four base-4 digits reversed.
static inline uint32_t fft_place(uint32_t n) {
    return (n & 3) << 6 | (n & 12) << 2 | (n >> 2 & 12) | n >> 6;
}

// Transforms in place. In: [256] points at their places, from 512 real values x (even ones are real
// parts), which it shifts left by `shift`. Out: u32 [256], energies |X[k]|^2 of bins `first` to
// 255, where X[k] = sum x[n] e^(-2 pi i k n / 512) / 512; words below `first` are undefined. 1 <=
// first.
void edgelora_fft_energies(word_t *words, int shift, uint32_t first);

// Q16 log2(x), x >= 1, by linear interpolation in a table of 128 segments.
uint32_t edgelora_log2(uint32_t x);

// Can a buffer hold a front end of `expected` bytes?
bool edgelora_holds_frontend(const void *state, uint32_t size, uint32_t expected);

// Initializes a quantizer of values in units of unit / 2^unit_bits; false if kind or scale is
// invalid.
bool edgelora_quantizer(edgelora_quantizer_t *q, uint32_t kind, uint32_t unit, int unit_bits,
    uint32_t scale, int8_t zero_point);

// Writes value i of an output: s16, or s8 with a quantizer.
void edgelora_put_feature(const edgelora_quantizer_t *q, void *out, uint32_t i, int32_t value);

#endif
