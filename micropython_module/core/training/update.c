// Gradient accumulation and the update rule (SPEC.md, sections 5 and 6).
// SPDX-License-Identifier: MIT

#include "training/training.h"

// Keeps a constant in a register: compilers for Cortex-M0+ would rebuild it for each element of a
// loop.
#define IN_REGISTER(v) __asm("" : "+r"(v))

EDGELORA_RAM int32_t edgelora_gradient_open(
    edgelora_matrix_t *m, int32_t *gradient, int32_t exponent) {
    EDGELORA_ASSERT(m->trains && exponent == (int16_t)exponent);
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

// The matrix's scale follows the gradient's mean magnitude: up at once, down by 1/32 per update.
static void scale_follow(edgelora_matrix_t *m, uint32_t mean, int32_t exponent) {
    EDGELORA_ASSERT(mean && mean <= 1u << 15);
    int z = 16 - bit_length(mean);
    uint32_t mantissa = mean << z;
    exponent -= z;
    if (m->scale) {
        uint32_t v = m->scale - (m->scale >> EDGELORA_SCALE_FALL);
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

// The OR of all magnitudes.
EDGELORA_KERNEL static uint32_t gradient_bits(const int32_t *v, uint32_t count) {
    uint32_t bits = 0;
#pragma GCC unroll 4
    for (const int32_t *end = v + count; v != end; ++v) {
        bits |= abs_u32(*v);
    }
    return bits;
}

EDGELORA_KERNEL static uint32_t gradient_sum(const int32_t *v, uint32_t count, int32_t h) {
    uint32_t sum = 0; // < 2^15 * 2^16
#pragma GCC unroll 4
    for (const int32_t *end = v + count; v != end; ++v) {
        sum += abs_u32(*v) >> h;
    }
    return sum;
}

// The update rule, in three loops: the registers of a Cortex-M0+ suffice for one step at a time.

enum { MAX_U = EDGELORA_MAX_MEAN, MAX_MASTER = EDGELORA_MAX_MASTER };

// Normalizes the gradient in place to u, Q11, in units of its scale. |gradient >> h| < 2^15;
// reciprocal: up to 2^16; n: 0..31
EDGELORA_KERNEL static void normalize(
    int32_t *gradient, uint32_t count, int32_t h, uint32_t reciprocal, int32_t n) {
    EDGELORA_ASSERT(h >= 0 && h <= 16 && n >= 0 && n <= 31);
    uint32_t limit = MAX_U;
    IN_REGISTER(limit);
    for (int32_t *v = gradient, *end = v + count; v != end; ++v) {
        uint32_t sign = (uint32_t)(*v >> 31),
                 magnitude = ((((uint32_t)*v + sign) ^ sign) >> h) * reciprocal >> n;
        if (magnitude > limit) {
            magnitude = limit;
        }
        *v = (int32_t)((magnitude ^ sign) - sign);
    }
}

// Updates the running mean and replaces u by it; the new mean lies between the old one and u.
EDGELORA_KERNEL static void smooth(int32_t *u, int16_t *mean, uint32_t count, int32_t momentum) {
    EDGELORA_ASSERT(momentum >= 1 && momentum <= EDGELORA_MAX_MOMENTUM);
    const int32_t half = 1 << (momentum - 1);
    for (const int32_t *end = u + count; u != end; ++u, ++mean) {
        *u = *mean + ((*u - *mean + half) >> momentum);
        *mean = (int16_t)*u;
    }
}

// Moves the masters against u, |u| <= MAX_U, plus weight decay toward 0, the base, if `decays`. z:
// stream state of the first draw; a draw's upper 16 bits are those of its last product.
EDGELORA_KERNEL static void move(int16_t *master, int8_t *weight, const int32_t *u, uint32_t count,
    uint32_t z, const edgelora_update_t *update) {
    const int32_t rate = update->learning_rate, shift = update->shift,
                  decays = -(int32_t)update->decays;
    const mix_t factors = mix_constants();
    uint32_t golden = EDGELORA_GOLDEN, limit = MAX_MASTER;
    IN_REGISTER(golden);
    IN_REGISTER(limit);
    for (const int32_t *end = u + count; u != end; z += golden) {
        uint32_t draw = (z ^ z >> 16) * factors.first;
        draw = (draw ^ draw >> 13) * factors.second >> (32 - shift);
        int32_t v = *master,
                decay = round_shift(v, EDGELORA_WEIGHT_DECAY) & decays; // |u + decay| < 2^15
        v -= ((*u++ + decay) * rate + (int32_t)draw) >> shift;
        if ((uint32_t)v + limit > 2 * limit) {
            v = v < 0 ? -MAX_MASTER : MAX_MASTER;
        }
        *master++ = (int16_t)v;
        *weight++ = (int8_t)((v + 128) >> 8);
    }
}

// Length of the leading run of elements that move (move true) or stay (move false).
EDGELORA_HOT static uint32_t run_of(
    const int32_t *u, uint32_t count, uint32_t threshold, bool move) {
    const int32_t *at = u, *end = u + count;
    while (at != end && (abs_u32(*at) >= threshold) == move) {
        ++at;
    }
    return (uint32_t)(at - u);
}

EDGELORA_HOT void edgelora_matrix_update(
    uint8_t *arena, edgelora_matrix_t *m, const edgelora_update_t *update) {
    EDGELORA_ASSERT(m->trains && update->shift >= 15 && update->shift <= 16);
    EDGELORA_ASSERT(
        update->threshold <= EDGELORA_MAX_THRESHOLD && update->momentum <= EDGELORA_MAX_MOMENTUM);
    int32_t *gradient = (int32_t *)(void *)(arena + matrix_gradient(m));
    if (!m->is_set) {
        return;
    }
    m->is_set = false; // from here on the gradient's memory holds u
    uint32_t bits = gradient_bits(gradient, m->count);
    if (!bits) {
        return;
    }
    int32_t h = bit_length(bits) - 15;
    h = h < 0 ? 0 : h;
    int32_t exponent = m->exponent + h;
    uint32_t sum = gradient_sum(gradient, m->count, h);
    scale_follow(m, (sum + m->count - 1) / m->count, exponent);

    // n < 0: the gradient exceeds 2^31 times its scale, so that any nonzero element saturates
    int32_t n = 20 + m->scale_exponent - exponent;
    normalize(gradient, m->count, h, n < 0 ? MAX_U : 0x80000000u / m->scale, clamp_s32(n, 0, 31));
    int16_t *master = (int16_t *)(void *)(arena + matrix_master(m));
    int16_t *momentum = (int16_t *)(void *)(arena + matrix_momentum(m));
    int8_t *weight = (int8_t *)(arena + m->at);
    for (uint32_t i = 0, moving; i < m->count; i += moving) {
        int32_t *u = gradient + i;
        moving = m->count - i;
        if (update->threshold) {
            uint32_t alone = run_of(u, moving, update->threshold, false);
            u += alone;
            i += alone;
            moving = run_of(u, moving - alone, update->threshold, true);
        }
        if (moving && update->momentum) {
            smooth(u, momentum + i, moving, update->momentum);
        }
        if (moving) {
            move(master + i, weight + i, u, moving,
                update->stream + *update->draws * EDGELORA_GOLDEN, update);
            *update->draws += moving;
        }
    }
}
