// Widen: there are 256 inputs, and more values, so that each is requantized once.
// SPDX-License-Identifier: MIT

#include "kernels/packed/internal.h"

enum { INPUTS = 256 };
enum { LEAST_VALUES = 512 }; // so that a table pays

uint32_t edgelora_widen_packed_scratch(const edgelora_shape_t *g) {
    return g->positions * g->out_c < LEAST_VALUES ? 0 : 2 * INPUTS;
}

#if EDGELORA_ATTENTION
// y, s16 [count], = h plus what x adds. added: of input 0
EDGELORA_WARM __attribute__((noinline)) static void add_inputs(
    const int16_t *added, const int8_t *x, const int16_t *h, int16_t *y, uint32_t count) {
#pragma GCC unroll 2
    for (const int8_t *end = x + count; x != end; ++x) {
        int32_t v = *h++ + added[*x];
        *y++ = (int16_t)(v == (int16_t)v ? v : clamp_s16(v));
    }
}

EDGELORA_WARM bool edgelora_widen_forward_packed_s16(
    const edgelora_shape_t *g, const int8_t *x, const int16_t *h, int16_t *y, int16_t *scratch) {
    uint32_t count = g->positions * g->out_c;
    if (count < LEAST_VALUES) {
        return false;
    }
    int16_t *added = scratch + INPUTS / 2;
    for (int32_t v = -128; v < 128; ++v) {
        added[v] = (int16_t)clamp_s16(requantize(v - g->zp_in, g->multiplier[0], g->shift[0]));
    }
    if (h) {
        add_inputs(added, x, h, y, count);
        return true;
    }
    for (const int8_t *end = x + count; x != end; ++x) {
        *y++ = added[*x];
    }
    return true;
}
#endif
