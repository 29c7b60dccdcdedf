// Helpers of the portable primitives.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_PORTABLE_H
#define EDGELORA_PORTABLE_H

#include "kernels/packed/primitives.h"

static inline uint32_t word_at(const void *p) {
    return *(const uint32_t *)p;
}

// requantize for |acc| < 2^30 and shift <= 0; half: of 2^-shift. Subtracts 1 from a negative value
// first to round it away from 0, unless the shift is 0. The accumulator's sign decides, as a value
// rounded to 0 stays 0.
static inline int32_t scaled_output(int32_t acc, int32_t multiplier, int32_t shift, int32_t half) {
    return add_high_mul(half + ((acc & shift) >> 31), acc, multiplier) >> -shift;
}

static inline int8_t output(int32_t acc, int32_t multiplier, int32_t shift, int32_t half,
    int32_t zero_point, int32_t min, int32_t max) {
    return (int8_t)clamp_s32(scaled_output(acc, multiplier, shift, half) + zero_point, min, max);
}

static inline int32_t half_of(int32_t shift) {
    return (int32_t)((1u << -shift) >> 1);
}

static inline void put_output(const edgelora_position_t *r, uint32_t i, int32_t acc) {
    int32_t v = scaled_output(acc, r->multiplier[i], r->shift[i], half_of(r->shift[i]));
    if (r->values) {
        r->values[i] = v;
    } else {
        r->y[i] = (int8_t)clamp_s32(v + r->zero_point, r->min, r->max);
    }
}

#endif
