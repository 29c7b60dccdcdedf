// Front ends: features of sound and vibration, in integers.
// SPDX-License-Identifier: MIT
//
// A front end is a plain struct in the caller's memory, at a multiple of 8 bytes. It allocates
// nothing and there is nothing to begin but `begin`; it is for one call at a time. Samples come in
// steps of equal size, each of bounded work. Arithmetic: SPEC.md, section 15.

#ifndef EDGELORA_SIGNAL_FRONTEND_H
#define EDGELORA_SIGNAL_FRONTEND_H

#include "edgelora.h"

// How values become int8. FEATURES_FIRMWARE is for the sound front end alone.
typedef enum {
    EDGELORA_FEATURES_RAW = 0,      // they stay 16 bits
    EDGELORA_FEATURES_FIRMWARE = 1, // (256 v + 333) / 666 - 128, as firmware of wake words has it
    EDGELORA_FEATURES_SCALED = 2,   // by the scale and zero point of a model's input
} edgelora_features_t;

typedef struct {
    int32_t multiplier; // [2^30, 2^31): a value's unit / scale = multiplier / 2^31 * 2^shift
    int8_t shift, zero_point;
    uint8_t kind; // edgelora_features_t
    uint8_t unused;
} edgelora_quantizer_t;

typedef union {
    uint32_t energy;
    struct {
        int16_t r, i; // the lower half and the upper one: all boards are little-endian
    } point;
} edgelora_word_t;

// ---- sound: 16 kHz, 40 values every 10 ms of the last 30 ms

enum { EDGELORA_AUDIO_STEP = 160, EDGELORA_AUDIO_SIZE = 40, EDGELORA_AUDIO_SPAN = 480 };

typedef struct {
    uint32_t magic;
    uint32_t steps; // of a window that are there, 0 to 2
    edgelora_quantizer_t quantizer;
    uint32_t noise[EDGELORA_AUDIO_SIZE]; // Q10, of each channel
    int16_t samples[EDGELORA_AUDIO_SPAN];
    edgelora_word_t words[256]; // of a step while it lasts
} edgelora_audio_t;

// scale: the bits of an f32; both are looked at with FEATURES_SCALED only. A value's unit is
// 0.0390625 (5 / 128). ERR_FRONTEND: a kind, scale or buffer that can't be.
edgelora_status_t edgelora_audio_begin(
    void *state, uint32_t size, uint32_t kind, uint32_t scale, int8_t zero_point);

// The front end in a buffer, or NULL if there is none.
edgelora_audio_t *edgelora_audio(void *state, uint32_t size);

// The next sample is the first.
void edgelora_audio_reset(edgelora_audio_t *audio);

// samples: s16 [160]. out: u16 [40], each at most 1420, or s8 [40] if the front end has a
// quantizer. Returns 1 if out was written, 0 while the first window is not full.
int32_t edgelora_audio_step(edgelora_audio_t *audio, const int16_t *samples, void *out);

// ---- vibration: bands, envelope and statistics of one channel

enum {
    EDGELORA_SPECTRAL_FRAME = 512,
    EDGELORA_SPECTRAL_BANDS = 40,
    EDGELORA_SPECTRAL_ENVELOPE = 24,
    EDGELORA_SPECTRAL_SIZE = 68, // bands, bands of the envelope, rms, peak, crest, kurtosis
    EDGELORA_SPECTRAL_MAX_FRAMES = 256,
    EDGELORA_SPECTRAL_MAX_CHANNELS = 16,
};

typedef struct {
    uint32_t magic;
    uint16_t frames, frame; // of a window, a multiple of 8; and which comes next
    uint8_t channels, channel;
    uint16_t peak;      // of the window so far
    int32_t before[2];  // the last two values, newest first, for the high-pass
    edgelora_quantizer_t quantizer;
    uint64_t squares;   // sum of y^2
    uint64_t fourths;   // sum of y^4, in units of 2^(28 - 4 * fourths_shift)
    uint32_t fourths_shift;
    uint32_t known; // of `before`, 0 to 2
    int32_t bands[EDGELORA_SPECTRAL_BANDS];       // sums of Q16 log2 of energies
    int32_t envelope[EDGELORA_SPECTRAL_ENVELOPE];
    int16_t envelopes[512]; // of 8 frames, >= 0, each shifted right by
    uint8_t shifts[8];       // so much
    edgelora_word_t words[256];     // of a step while it lasts
} edgelora_spectral_t;

// Takes channel `channel` of `channels` (1 to 16) that come interleaved. frames: of a window, a
// multiple of 8, at most 256. A value's unit is 1 / 256.
edgelora_status_t edgelora_spectral_begin(void *state, uint32_t size, uint32_t channels,
    uint32_t channel, uint32_t frames, uint32_t kind, uint32_t scale, int8_t zero_point);
edgelora_spectral_t *edgelora_spectral(void *state, uint32_t size);
void edgelora_spectral_reset(edgelora_spectral_t *spectral);

// samples: s16 [512, channels]. out: s16 [68] or, with a quantizer, s8 [68], layout and units in
// SPEC.md. Returns 1 if the frame was its window's last and out was written, else 0.
int32_t edgelora_spectral_step(edgelora_spectral_t *spectral, const int16_t *samples, void *out);

// Bytes of a front end, and of what a step takes and gives.
uint32_t edgelora_audio_state_size(void);
uint32_t edgelora_spectral_state_size(void);
uint32_t edgelora_audio_output_size(const edgelora_audio_t *audio);
uint32_t edgelora_spectral_input_size(const edgelora_spectral_t *spectral);
uint32_t edgelora_spectral_output_size(const edgelora_spectral_t *spectral);

#endif
