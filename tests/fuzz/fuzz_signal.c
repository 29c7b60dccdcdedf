// Front ends with arbitrary settings and samples, and steps and resets in any order.
// SPDX-License-Identifier: MIT
//
// The program: front end, kind, scale, zero point, frames, channels; then steps of 2 bytes, whose
// samples are random.

#include "input.h"
#include "signal/frontend.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD = 12, MAX_STEPS = 24, MAX_CHANNELS_RUN = 3 };

// Noise, the extremes, a tone, silence, a click.
static void samples_of(int16_t *v, uint32_t count, uint32_t pattern, uint32_t level) {
    uint32_t drawn = level + 1;
    for (uint32_t i = 0; i < count; ++i) {
        drawn = drawn * 1664525u + 1013904223u;
        int32_t noise = (int32_t)(drawn >> 16) - 32768, shift = (int32_t)(level & 15);
        switch (pattern & 7) {
            case 0:
                v[i] = (int16_t)(noise >> shift);
                break;
            case 1:
                v[i] = (int16_t)(drawn >> 31 ? 32767 : -32768);
                break;
            case 2:
                v[i] = (int16_t)(i / (shift + 1u) & 1 ? 32767 : -32768);
                break;
            case 3:
                v[i] = (int16_t)(i == level ? 32767 : 0);
                break;
            case 4:
                v[i] = -32768;
                break;
            case 5:
                v[i] = 32767;
                break;
            case 6:
                v[i] = 0;
                break;
            default:
                v[i] = (int16_t)((i * level) << 4);
        }
    }
}

static void sound(const uint8_t *data, size_t size) {
    uint32_t scale, kind = data[1] & 3;
    memcpy(&scale, data + 4, 4);
    void *state = malloc(edgelora_audio_state_size());
    CHECK(edgelora_audio_begin(state, edgelora_audio_state_size() - 1, kind, scale,
              (int8_t)data[2]) == EDGELORA_ERR_FRONTEND);
    edgelora_status_t status = edgelora_audio_begin(
        state, edgelora_audio_state_size(), kind, scale, (int8_t)data[2]);
    if (status == EDGELORA_OK) {
        edgelora_audio_t *audio = edgelora_audio(state, edgelora_audio_state_size());
        CHECK(audio && !edgelora_audio(state, 8));
        uint32_t bytes = edgelora_audio_output_size(audio), steps = 0;
        CHECK(bytes == EDGELORA_AUDIO_SIZE * (kind == EDGELORA_FEATURES_RAW ? 2u : 1u));
        for (size_t at = HEAD; at + 2 <= size && at < HEAD + 2 * MAX_STEPS; at += 2) {
            if (data[at] == 255) {
                edgelora_audio_reset(audio);
                steps = 0;
                continue;
            }
            int16_t *samples = malloc(2 * EDGELORA_AUDIO_STEP);
            uint16_t *out = malloc(bytes);
            samples_of(samples, EDGELORA_AUDIO_STEP, data[at], data[at + 1]);
            CHECK(edgelora_audio_step(audio, samples, out) == (++steps >= 3));
            for (uint32_t i = 0;
                kind == EDGELORA_FEATURES_RAW && steps >= 3 && i < EDGELORA_AUDIO_SIZE; ++i) {
                CHECK(out[i] <= 1420);
            }
            free(samples);
            free(out);
        }
    } else {
        CHECK(status == EDGELORA_ERR_FRONTEND && kind >= EDGELORA_FEATURES_SCALED);
    }
    free(state);
}

static void vibration(const uint8_t *data, size_t size) {
    uint32_t scale, kind = data[1] & 3, frames = data[3];
    uint32_t channels = data[8] & 64 ? data[8] : data[8] & 3,
             channel = data[9] & 64 ? data[9] : data[9] % (channels + 1);
    memcpy(&scale, data + 4, 4);
    frames = data[10] & 1 ? frames & ~7u : frames + (data[10] == 254 ? 65536u : 0);
    void *state = malloc(edgelora_spectral_state_size());
    edgelora_status_t status = edgelora_spectral_begin(state, edgelora_spectral_state_size(),
        channels, channel, frames, kind, scale, (int8_t)data[2]);
    bool right = channels >= 1 && channels <= EDGELORA_SPECTRAL_MAX_CHANNELS &&
        channel < channels && frames && frames % 8 == 0 && frames <= EDGELORA_SPECTRAL_MAX_FRAMES &&
        kind != EDGELORA_FEATURES_FIRMWARE;
    CHECK(right || status == EDGELORA_ERR_FRONTEND);
    if (status == EDGELORA_OK && channels <= MAX_CHANNELS_RUN) {
        edgelora_spectral_t *spectral = edgelora_spectral(state, edgelora_spectral_state_size());
        CHECK(spectral && !edgelora_spectral(state, 8));
        uint32_t bytes = edgelora_spectral_output_size(spectral), steps = 0,
                 count = EDGELORA_SPECTRAL_FRAME * channels;
        CHECK(bytes == EDGELORA_SPECTRAL_SIZE * (kind == EDGELORA_FEATURES_RAW ? 2u : 1u));
        CHECK(edgelora_spectral_input_size(spectral) == 2 * count);
        for (size_t at = HEAD; at + 2 <= size && at < HEAD + 2 * MAX_STEPS; at += 2) {
            if (data[at] == 255) {
                edgelora_spectral_reset(spectral);
                steps = 0;
                continue;
            }
            int16_t *samples = malloc(2 * count);
            void *out = malloc(bytes);
            samples_of(samples, count, data[at], data[at + 1]);
            CHECK(edgelora_spectral_step(spectral, samples, out) == (++steps % frames == 0));
            free(samples);
            free(out);
        }
    }
    free(state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size >= HEAD) {
        (data[0] & 1 ? vibration : sound)(data, size);
    }
    return 0;
}
