// The signal record: samples of a network's input and their normalization (SPEC.md, section 8).
// SPDX-License-Identifier: MIT

#include "formats/formats.h"

enum { SIGNAL_VERSION = 1, TURN_SHIFT = 14, TURN_HALF = 1 << (TURN_SHIFT - 1) };

static uint32_t signal_offset(const edgelora_model_t *m) {
    return 4u * m->signal;
}

const edgelora_signal_t *edgelora_signal(const void *model) {
    const edgelora_model_t *m = model;
    return m->signal ? model_at(model, signal_offset(m)) : 0;
}

static const edgelora_normal_t *normals(const edgelora_signal_t *signal) {
    const void *behind = signal + 1;
    return behind;
}

// |count * multiplier + offset| < 2^31 for every int16 count.
static bool normal_ok(const edgelora_normal_t *n) {
    return abs_u32(n->multiplier) <= EDGELORA_MAX_NORMAL_MULTIPLIER &&
        abs_u32(n->offset) <= EDGELORA_MAX_NORMAL_OFFSET && n->shift <= EDGELORA_MAX_NORMAL_SHIFT &&
        !n->unused;
}

// Without a front end the samples are the input; with one, its outputs are.
static bool values_ok(const edgelora_signal_t *signal, uint32_t input) {
    if (signal->front == EDGELORA_FRONT_NONE) {
        return signal->window * signal->channels == input && signal->values == signal->channels;
    }
    return signal->values && input % signal->values == 0;
}

edgelora_status_t edgelora_signal_check(const void *model, uint32_t size) {
    const edgelora_model_t *m = model;
    uint32_t at = signal_offset(m);
    if (!at) {
        return EDGELORA_OK;
    }
    if (at < sizeof(*m) || at > size || size - at < sizeof(edgelora_signal_t)) {
        return EDGELORA_ERR_FORMAT;
    }
    const edgelora_signal_t *signal = model_at(model, at);
    if (signal->version != SIGNAL_VERSION || signal->front > EDGELORA_FRONT_SPECTRAL) {
        return EDGELORA_ERR_UNSUPPORTED;
    }
    uint32_t behind = signal->values * (uint32_t)sizeof(edgelora_normal_t) + signal->units_size;
    if (!signal->channels || signal->channels > EDGELORA_MAX_CHANNELS || !signal->rate ||
        signal->rate > INT32_MAX || !signal->window ||
        signal->window > EDGELORA_MAX_WINDOW / signal->channels || !signal->hop ||
        signal->hop > EDGELORA_MAX_HOP || behind > size - at - sizeof(*signal) ||
        !values_ok(signal, tensor_size(model, 0))) {
        return EDGELORA_ERR_FORMAT;
    }
    for (uint32_t i = 0; i < signal->values; ++i) {
        if (!normal_ok(&normals(signal)[i])) {
            return EDGELORA_ERR_FORMAT;
        }
    }
    return EDGELORA_OK;
}

int32_t edgelora_quantize(const void *model, const int16_t *counts, uint32_t count, int8_t *out) {
    const edgelora_signal_t *signal = edgelora_signal(model);
    if (!signal) {
        return EDGELORA_ERR_SIGNAL;
    }
    if (count % signal->values) {
        return EDGELORA_ERR_SIZE;
    }
    if (!apart(out, count, counts, 2 * count) ||
        !apart(out, count, model, ((const edgelora_model_t *)model)->file_size)) {
        return EDGELORA_ERR_ALIAS;
    }
    int32_t clipped = 0;
    for (uint32_t i = 0; i < count; i += signal->values) {
        const edgelora_normal_t *n = normals(signal);
        for (uint32_t end = i + signal->values, k = i; k < end; ++k, ++n) {
            int32_t q = (counts[k] * n->multiplier + n->offset) >> n->shift;
            int32_t within = clamp_s32(q, -128, 127);
            clipped += q != within;
            out[k] = (int8_t)within;
        }
    }
    return clipped;
}

void edgelora_turn(
    int8_t *out, const int8_t *x, uint32_t count, int32_t zero, const int16_t *matrix) {
    for (uint32_t i = 0; i < count; i += 3) {
        const int32_t v[3] = {x[i] - zero, x[i + 1] - zero, x[i + 2] - zero};
        for (uint32_t k = 0; k < 3; ++k) {
            const int16_t *m = &matrix[3 * k];
            int32_t sum = m[0] * v[0] + m[1] * v[1] + m[2] * v[2];
            out[i + k] = (int8_t)clamp_s32(zero + ((sum + TURN_HALF) >> TURN_SHIFT), -128, 127);
        }
    }
}

void edgelora_take(
    uint8_t *to, const uint8_t *from, uint32_t step, uint32_t count, uint32_t width) {
    if (step == 1) {
        __builtin_memmove(to, from, count * width);
        return;
    }
    for (uint32_t i = 0; i < count; ++i, from += (step - 1) * width) {
        for (uint32_t k = 0; k < width; ++k) {
            *to++ = *from++;
        }
    }
}
