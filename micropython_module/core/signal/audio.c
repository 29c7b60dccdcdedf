// The sound front end: bit-exact with TFLite Micro's "micro frontend" as configured for wake
// words.
// SPDX-License-Identifier: MIT

#include <stddef.h>

#include "fixed.h"
#include "signal/internal.h"
#include "signal/tables.h"

enum {
    AUDIO_MAGIC = 0x31415545, // "EUA1"
    STEPS = EDGELORA_AUDIO_SPAN / EDGELORA_AUDIO_STEP,
    FIRST_BIN = 5,
    NOISE_BITS = 10,  // fraction bits of the noise
    SMOOTH_BITS = 14, // fraction bits of the factors below
    // even_smoothing 0.025, odd_smoothing 0.06 and min_signal_remaining 0.05 of TFLite Micro's
    // front end
    SMOOTH_EVEN = (1 << SMOOTH_BITS) * 25 / 1000,
    SMOOTH_ODD = (1 << SMOOTH_BITS) * 60 / 1000,
    LEAST_SIGNAL = (1 << SMOOTH_BITS) * 50 / 1000,
    SNR_SHIFT = 6,
    SNR_BITS = 12,
    OUTPUT_BITS = 6,
    LOG_SHIFT = 3, // 9 bits of the FFT's size, minus half of the 12 of the weights
    LN_2 = 45426,  // 2^16 ln 2
};

edgelora_status_t edgelora_audio_begin(
    void *state, uint32_t size, uint32_t kind, uint32_t scale, int8_t zero_point) {
    edgelora_audio_t *audio = state;
    edgelora_quantizer_t quantizer;
    if (!edgelora_holds_frontend(state, size, sizeof *audio) ||
        !edgelora_quantizer(&quantizer, kind, 5, 7, scale, zero_point)) {
        return EDGELORA_ERR_FRONTEND;
    }
    audio->magic = AUDIO_MAGIC;
    audio->quantizer = quantizer;
    edgelora_audio_reset(audio);
    return EDGELORA_OK;
}

edgelora_audio_t *edgelora_audio(void *state, uint32_t size) {
    edgelora_audio_t *audio = state;
    bool begun = edgelora_holds_frontend(state, size, sizeof *audio) &&
        audio->magic == AUDIO_MAGIC && audio->steps < STEPS;
    return begun ? audio : NULL;
}

void edgelora_audio_reset(edgelora_audio_t *audio) {
    audio->steps = 0;
    __builtin_memset(audio->noise, 0, sizeof audio->noise);
}

uint32_t edgelora_audio_state_size(void) {
    return sizeof(edgelora_audio_t);
}

uint32_t edgelora_audio_output_size(const edgelora_audio_t *audio) {
    return audio->quantizer.kind ? EDGELORA_AUDIO_SIZE : 2 * EDGELORA_AUDIO_SIZE;
}

// Windows 480 samples into the FFT's input places; the last 32 of 512 are 0. Returns the left
// shift with which the largest fills 16 bits.
EDGELORA_WARM __attribute__((noinline)) static int apply_window(
    const int16_t *samples, word_t *words) {
    const int16_t *window = edgelora_audio_window, *end = window + EDGELORA_AUDIO_SPAN;
    uint32_t bits = 0; // OR of all magnitudes; ignores bit 15, the magnitude of -32768
    uint32_t n = 0;
    for (; window < end; n += 4) {
        word_t *x = words + fft_place(n);
        for (const word_t *last = x + FFT_POINTS; x < last; x += FFT_POINTS / 4) {
            int32_t even = samples[0] * window[0] >> 12, odd = samples[1] * window[1] >> 12; // s16
            samples += 2;
            window += 2;
            bits |= abs_u32(even) | abs_u32(odd);
            x->point.r = (int16_t)even;
            x->point.i = (int16_t)odd;
        }
    }
    for (; n < FFT_POINTS; ++n) {
        words[fft_place(n)].energy = 0;
    }
    return 15 - bit_length(bits & 0x7FFF);
}

// The weighted sum of a flank's energies for its rising channel.
EDGELORA_WARM __attribute__((noinline)) static uint64_t weighted(
    const word_t *energies, const uint16_t *weights, uint32_t bins) {
    uint32_t low = 0, high = 0; // sums of up to 16 products of 12 and 16 bits
    for (const word_t *end = energies + bins; energies < end; ++energies, ++weights) {
        low += (energies->energy & 0xFFFF) * *weights;
        high += (energies->energy >> 16) * *weights;
    }
    return ((uint64_t)high << 16) + low;
}

static inline uint64_t total(const word_t *energies, uint32_t bins) {
    uint64_t sum = 0;
    for (const word_t *end = energies + bins; energies < end; ++energies) {
        sum += energies->energy;
    }
    return sum;
}

// Extends a square root by `pairs` bits; each takes the next two bits of the number from the top
// of `word`.
EDGELORA_WARM __attribute__((noinline)) static uint32_t root_bits(
    uint32_t word, int pairs, uint32_t root, uint32_t *rest) {
    uint32_t r = *rest; // <= 2 root < 2^26
    for (; pairs > 0; --pairs) {
        r = r << 2 | word >> 30;
        word <<= 2;
        root <<= 1;
        if (r > 2 * root) {
            r -= 2 * root + 1;
            ++root;
        }
    }
    *rest = r;
    return root;
}

// The square root of v < 2^48, rounded to nearest; at most 65535 if v has 32 bits.
static inline uint32_t rounded_root(uint64_t v) {
    uint32_t high = (uint32_t)(v >> 32), low = (uint32_t)v, rest = 0;
    uint32_t first = high ? high : low, most = high ? UINT32_MAX : 0xFFFF;
    int pairs = (bit_length(first) + 1) / 2;
    uint32_t root = pairs ? root_bits(first << (32 - 2 * pairs), pairs, 0, &rest) : 0;
    if (high) {
        root = root_bits(low, 16, root, &rest);
    }
    return root + (rest > root && root != most);
}

// floor(a * b / 2^bits) to 32 bits; b < 2^16, bits <= 16
static inline uint32_t scaled(uint32_t a, uint32_t b, int bits) {
    return ((a >> 16) * b << (16 - bits)) + ((a & 0xFFFF) * b >> bits);
}

// Updates the channel's noise estimate and returns the signal minus the noise.
static inline uint32_t without_noise(uint32_t *noise, uint32_t signal, uint32_t smoothing) {
    uint32_t fine = signal << NOISE_BITS, rest = (1 << SMOOTH_BITS) - smoothing, last = *noise;
    // (fine * smoothing + last * rest) / 2^14: the upper halves' products are whole multiples of
    // 2^16
    uint32_t high = (fine >> 16) * smoothing + (last >> 16) * rest;
    uint32_t low = (fine & 0xFFFF) * smoothing + (last & 0xFFFF) * rest;
    uint32_t estimate = (high << (16 - SMOOTH_BITS)) + (low >> SMOOTH_BITS);
    *noise = estimate;
    uint32_t left = estimate < fine ? (fine - estimate) >> NOISE_BITS : 0;
    uint32_t least = scaled(signal, LEAST_SIGNAL, SMOOTH_BITS);
    return left > least ? left : least;
}

// PCAN's gain for a noise level: one parabola per bit length.
static inline uint32_t gain_at(uint32_t noise) {
    if (noise <= 2) {
        return (uint32_t)edgelora_audio_gains[noise];
    }
    int bits = bit_length(noise);
    const int16_t *curve = edgelora_audio_gains + 4 * bits - 6;
    int32_t place = (int32_t)(bits < 11 ? noise << (11 - bits) : noise >> (bits - 11)) & 0x3FF;
    int32_t slope = (curve[2] * place >> 5) + curve[1] * 32;
    return (uint32_t)(((slope * place + (1 << 14)) >> 15) + curve[0]);
}

// Automatic gain; quadratic below a ratio of 2 to 1, linear above.
static inline uint32_t compressed(uint32_t signal, uint32_t noise) {
    uint32_t ratio = scaled(signal, gain_at(noise), SNR_SHIFT);
    if (ratio < 2u << SNR_BITS) {
        return ratio * ratio >> (2 + 2 * SNR_BITS - OUTPUT_BITS);
    }
    return (ratio >> (SNR_BITS - OUTPUT_BITS)) - (1u << OUTPUT_BITS);
}

// 64 ln(8 v), 0 for 0; at most 1420
static inline uint32_t logarithm(uint32_t v) {
    v <<= LOG_SHIFT;
    if (v <= 1) {
        return 0;
    }
    uint32_t log2 = edgelora_log2(v);
    uint32_t natural = LN_2 * (log2 >> 16) + ((LN_2 * (log2 & 0xFFFF) + (1u << 15)) >> 16); // Q16
    return ((natural << 6) + (1u << 15)) >> 16;
}

EDGELORA_WARM static void features(edgelora_audio_t *audio, int shift, void *out) {
    const word_t *energies = audio->words + FIRST_BIN;
    const uint16_t *weights = edgelora_audio_weights;
    uint64_t falling = 0; // this channel's share of the previous flank
    for (uint32_t i = 0; i <= EDGELORA_AUDIO_SIZE; ++i) {
        uint32_t bins = edgelora_audio_widths[i];
        uint64_t rising = weighted(energies, weights, bins), sum = falling + rising;
        falling = (total(energies, bins) << 12) - rising;
        energies += bins;
        weights += bins;
        if (!i) {
            continue; // the first flank only falls
        }
        uint32_t channel = i - 1, signal = rounded_root(sum) >> shift;
        signal = without_noise(
            &audio->noise[channel], signal, channel & 1 ? SMOOTH_ODD : SMOOTH_EVEN);
        uint32_t value = logarithm(compressed(signal, audio->noise[channel]));
        edgelora_put_feature(&audio->quantizer, out, channel, (int32_t)value);
    }
}

int32_t edgelora_audio_step(edgelora_audio_t *audio, const int16_t *samples, void *out) {
    int16_t *window = audio->samples;
    __builtin_memcpy(window + audio->steps * EDGELORA_AUDIO_STEP, samples,
        EDGELORA_AUDIO_STEP * sizeof *samples);
    if (audio->steps < STEPS - 1) {
        ++audio->steps;
        return 0;
    }
    int shift = apply_window(window, audio->words);
    __builtin_memmove(window, window + EDGELORA_AUDIO_STEP,
        (EDGELORA_AUDIO_SPAN - EDGELORA_AUDIO_STEP) * sizeof *window);
    edgelora_fft_energies(audio->words, shift, FIRST_BIN);
    features(audio, shift, out);
    return 1;
}
