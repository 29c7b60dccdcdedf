// Gradient accumulation and the update rule (SPEC.md, sections 5 and 6).
// SPDX-License-Identifier: MIT

#include "training/training.h"

int32_t edgelora_gradient_open(edgelora_matrix_t *m, int32_t *gradient, int32_t exponent) {
    if (!m->is_set) {
        for (uint32_t i = 0; i < m->count; ++i) {
            gradient[i] = 0;
        }
        m->exponent = (int16_t)exponent;
        m->is_set = true;
    } else if (exponent > m->exponent) {
        for (uint32_t i = 0; i < m->count; ++i) {
            gradient[i] = trunc_shift(gradient[i], exponent - m->exponent);
        }
        m->exponent = (int16_t)exponent;
    }
    return m->exponent - exponent;
}

// The tensor's scale follows the gradient's mean magnitude: up at once, down by 1/1024 an update.
static void scale_follow(edgelora_matrix_t *m, uint32_t mean, int32_t exponent) {
    int z = 16 - bit_length(mean);
    uint32_t mantissa = mean << z;
    exponent -= z;
    if (m->scale) {
        uint32_t v = m->scale - (m->scale >> 10u);
        int32_t vx = m->scale_exponent;
        if (v < 32768) {
            v *= 2;
            vx -= 1;
        }
        if (exponent < vx || (exponent == vx && mantissa <= v)) {
            mantissa = v;
            exponent = vx;
        }
    }
    m->scale = (uint16_t)mantissa;
    m->scale_exponent = (int16_t)exponent;
}

EDGELORA_HOT void edgelora_matrix_update(
    uint8_t *arena, edgelora_matrix_t *m, const edgelora_step_t *step) {
    int32_t *gradient = (int32_t *)(void *)(arena + matrix_gradient(m));
    if (!m->is_set) {
        return;
    }
    m->is_set = false;
    uint32_t bits = 0;
    for (uint32_t i = 0; i < m->count; ++i) {
        bits |= abs_u32(gradient[i]);
    }
    if (!bits) {
        return;
    }
    int32_t h = bit_length(bits) - 15;
    h = h < 0 ? 0 : h;
    int32_t exponent = m->exponent + h;
    uint32_t sum = 0; // < 2^15 * 2^16
    for (uint32_t i = 0; i < m->count; ++i) {
        sum += abs_u32(gradient[i]) >> h;
    }
    scale_follow(m, (sum + m->count - 1) / m->count, exponent);

    int32_t reciprocal = (int32_t)(0x80000000u / m->scale); // (2^15, 2^16]
    int32_t s = 20 + m->scale_exponent - exponent;
    int16_t *master = (int16_t *)(void *)(arena + matrix_master(m));
    int16_t *momentum = (int16_t *)(void *)(arena + matrix_momentum(m));
    int8_t *weight = (int8_t *)(arena + m->at);
    uint32_t draws = *step->draws;
    for (uint32_t i = 0; i < m->count; ++i) {
        int32_t g = trunc_shift(gradient[i], h);
        int32_t u = s >= 0 ? trunc_shift(g * reciprocal, s) : g > 0 ? 16384 : g < 0 ? -16384 : 0;
        u = clamp_s32(u, -16384, 16384);
        if (abs_u32(u) < step->threshold) {
            continue;
        }
        if (step->momentum) {
            u = clamp_s32(
                momentum[i] + round_shift(u - momentum[i], step->momentum), -16384, 16384);
            momentum[i] = (int16_t)u;
        }
        uint32_t draw = mix(step->stream + draws++ * EDGELORA_GOLDEN) >> (32 - step->shift);
        // |u * rate| <= 2^30
        int32_t delta = (u * (int32_t)step->learning_rate + (int32_t)draw) >> step->shift;
        int32_t v = clamp_s32(master[i] - delta, -32512, 32512);
        master[i] = (int16_t)v;
        weight[i] = (int8_t)((v + 128) >> 8);
    }
    *step->draws = draws;
}
