// Front ends: features of sound and vibration, in integers.
// SPDX-License-Identifier: MIT
//
// A front end is a plain struct in the caller's memory, at a multiple of 8 bytes. It allocates
// nothing and `begin` is its only initialization; it handles one call at a time. Samples come in
// steps of equal size, each with bounded work. Arithmetic: SPEC.md, section 15.

#ifndef EDGELORA_SIGNAL_FRONTEND_H
#define EDGELORA_SIGNAL_FRONTEND_H

#include "edgelora.h"

#ifdef __cplusplus
extern "C" {
#endif

// Output format. FEATURES_FIRMWARE is for the sound front end only.
typedef enum {
    EDGELORA_FEATURES_RAW = 0,      // 16 bits
    EDGELORA_FEATURES_FIRMWARE = 1, // (256 v + 333) / 666 - 128, as in wake-word firmware
    EDGELORA_FEATURES_SCALED = 2,   // with scale and zero point of a model's input
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
    uint32_t steps; // of a window received so far, 0 to 2
    edgelora_quantizer_t quantizer;
    uint32_t noise[EDGELORA_AUDIO_SIZE]; // Q10, of each channel
    int16_t samples[EDGELORA_AUDIO_SPAN];
    edgelora_word_t words[256]; // during a step only
} edgelora_audio_t;

// scale: bits of an f32. Only FEATURES_SCALED uses scale and zero point. A value's unit is
// 0.0390625 (5 / 128). ERR_FRONTEND: invalid kind, scale or buffer.
edgelora_status_t edgelora_audio_begin(
    void *state, uint32_t size, uint32_t kind, uint32_t scale, int8_t zero_point);

// The front end in a buffer, or NULL if there is none.
edgelora_audio_t *edgelora_audio(void *state, uint32_t size);

// Restarts: the next sample counts as the first.
void edgelora_audio_reset(edgelora_audio_t *audio);

// samples: s16 [160]. out: u16 [40], each at most 1420, or s8 [40] if the front end has a
// quantizer. Returns 1 if out was written, 0 while the first window is incomplete.
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
    uint16_t frames, frame; // per window, a multiple of 8; index of the next one
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
    int16_t envelopes[512]; // of 8 frames, >= 0, each shifted right by its
    uint8_t shifts[8];       // shift
    edgelora_word_t words[256];     // during a step only
} edgelora_spectral_t;

// Uses channel `channel` of `channels` (1 to 16) interleaved ones. frames: per window, a multiple
// of 8, at most 256. A value's unit is 1 / 256.
edgelora_status_t edgelora_spectral_begin(void *state, uint32_t size, uint32_t channels,
    uint32_t channel, uint32_t frames, uint32_t kind, uint32_t scale, int8_t zero_point);
edgelora_spectral_t *edgelora_spectral(void *state, uint32_t size);
void edgelora_spectral_reset(edgelora_spectral_t *spectral);

// samples: s16 [512, channels]. out: s16 [68] or, with a quantizer, s8 [68], layout and units in
// SPEC.md. Returns 1 if the frame was its window's last and out was written, else 0.
int32_t edgelora_spectral_step(edgelora_spectral_t *spectral, const int16_t *samples, void *out);

// Bytes of a front end, and of a step's input and output.
uint32_t edgelora_audio_state_size(void);
uint32_t edgelora_spectral_state_size(void);
uint32_t edgelora_audio_output_size(const edgelora_audio_t *audio);
uint32_t edgelora_spectral_input_size(const edgelora_spectral_t *spectral);
uint32_t edgelora_spectral_output_size(const edgelora_spectral_t *spectral);

#ifdef __cplusplus
}
#endif

#endif
