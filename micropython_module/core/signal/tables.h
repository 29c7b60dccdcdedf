// Constant tables of the front ends, written by tools/signal_tables.py.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_SIGNAL_TABLES_H
#define EDGELORA_SIGNAL_TABLES_H

#include <stdint.h>

// Q15 sin(pi j / 256). The FFT's twiddle e^(-2 pi i k / 256) is ([2k + 128], -[2k]).
extern const int16_t edgelora_sines[507];

extern const int16_t edgelora_audio_window[480]; // Hann, Q12
// Flanks of the mel triangles: number of bins of each, from bin 5 on; and the weight of each bin,
// Q12, on its rising flank (4096 minus the weight on the falling one).
extern const uint8_t edgelora_audio_widths[41];
extern const uint16_t edgelora_audio_weights[236];
// PCAN's gain by noise: at 0, at 1, then start, slope, curvature, 0 for bit lengths 2 to 32
extern const int16_t edgelora_audio_gains[125];
extern const uint16_t edgelora_logarithms[129]; // Q16 log2(1 + i / 128) - i / 128

// Number of bins of each band, from bin 1 on, 255 in total.
extern const uint8_t edgelora_spectral_widths[40];
extern const uint8_t edgelora_envelope_widths[24];

#endif
