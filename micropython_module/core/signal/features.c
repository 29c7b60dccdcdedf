// Helpers of all front ends: logarithm and quantization.
// SPDX-License-Identifier: MIT

#include "signal/internal.h"
#include "fixed.h"
#include "signal/tables.h"

enum {
    LOG_BITS = 16,
    LINE_BITS = 9, // bits of a segment of the table
    LARGEST_SHIFT = 15, // keeps a value of 15 bits within 30
};

EDGELORA_WARM uint32_t edgelora_log2(uint32_t x) {
    EDGELORA_ASSERT(x);
    int whole = bit_length(x) - 1;
    uint32_t rest = x - (1u << whole); // fraction of x / 2^whole, Q16
    rest = whole < LOG_BITS ? rest << (LOG_BITS - whole) : rest >> (whole - LOG_BITS);
    uint32_t line = rest >> LINE_BITS;
    int32_t start = edgelora_logarithms[line], rise = edgelora_logarithms[line + 1] - start;
    int32_t bend = start + (rise * (int32_t)(rest & ((1u << LINE_BITS) - 1)) >> LOG_BITS);
    return ((uint32_t)whole << LOG_BITS) + rest + (uint32_t)bend;
}

bool edgelora_holds_frontend(const void *state, uint32_t size, uint32_t expected) {
    return size == expected && !((uintptr_t)state & 7);
}

// unit / 2^unit_bits / scale as a multiplier in [2^30, 2^31) and a shift, rounded to nearest.
// scale: bits of a normal, positive f32 m * 2^(e - 150), m in [2^23, 2^24).
static bool ratio(edgelora_quantizer_t *q, uint32_t unit, int unit_bits, uint32_t scale) {
    uint32_t e = scale >> 23, m = (scale & 0x7FFFFFu) | 1u << 23, quotient = 0, rest = unit;
    if (e < 1 || e > 254) { // the sign is bit 8 of e
        return false;
    }
    int shift = 31 + 150 - unit_bits - (int)e;
    for (; quotient < 1u << 30; --shift) { // adds one bit of unit / m
        rest <<= 1;
        quotient = quotient << 1 | (rest >= m);
        rest -= rest >= m ? m : 0;
    }
    quotient += 2 * rest >= m;
    if (quotient == 1u << 31) {
        quotient >>= 1;
        ++shift;
    }
    q->multiplier = (int32_t)quotient;
    q->shift = (int8_t)shift;
    return shift >= -31 && shift <= LARGEST_SHIFT;
}

bool edgelora_quantizer(edgelora_quantizer_t *q, uint32_t kind, uint32_t unit, int unit_bits,
    uint32_t scale, int8_t zero_point) {
    *q = (edgelora_quantizer_t){0, 0, zero_point, (uint8_t)kind, 0};
    return kind <= EDGELORA_FEATURES_FIRMWARE ||
        (kind == EDGELORA_FEATURES_SCALED && ratio(q, unit, unit_bits, scale));
}

// |value| < 2^15; with FEATURES_FIRMWARE value >= 0
void edgelora_put_feature(const edgelora_quantizer_t *q, void *out, uint32_t i, int32_t value) {
    if (q->kind == EDGELORA_FEATURES_RAW) {
        ((int16_t *)out)[i] = (int16_t)value;
        return;
    }
    if (q->kind == EDGELORA_FEATURES_FIRMWARE) {
        // 666 = 25.6 * 26, rounded, as TFLite Micro's micro_speech divides
        value = (int32_t)((256 * (uint32_t)value + 666 / 2) / 666) - 128;
    } else {
        value = requantize(value, q->multiplier, q->shift) + q->zero_point;
    }
    ((int8_t *)out)[i] = (int8_t)clamp_s32(value, -128, 127);
}
