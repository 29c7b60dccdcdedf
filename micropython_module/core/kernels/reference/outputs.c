// Common to all kinds: masks, and scaling of errors by the output's multipliers.
// SPDX-License-Identifier: MIT

#include "kernels/reference/reference.h"

uint32_t edgelora_reference_scratch(const edgelora_shape_t *g, uint32_t rank, bool backward) {
    if (g->op->kind == EDGELORA_ATTEND) {
        uint32_t sums = g->in_c / g->op->kernel_h;
        return 4 * g->positions * (backward ? 2 + sums : 1);
    }
    if (g->op->kind == EDGELORA_NORM) {
        return backward ? edgelora_norm_scratch(g) : 0;
    }
    uint32_t patch = g->is_matrix && g->op->kind != EDGELORA_DENSE ? g->inputs
        : g->op->kind == EDGELORA_LSTM                             ? 3u * g->out_c
                                                                   : 0;
    bool sums = backward &&
        ((g->traits & (EDGELORA_HAS_WEIGHTS | EDGELORA_HAS_WINDOW)) ||
            g->op->kind == EDGELORA_GATHER);
    uint32_t row = sums ? 4u * g->in_c * (rank ? 2 : 1) : 0;
    return patch > row ? patch : row;
}

void edgelora_mask_s8(const int8_t *y, uint32_t count, int32_t low, int32_t high, uint8_t *mask) {
    for (uint32_t i = 0; i < (count + 7) / 8; ++i) {
        mask[i] = 0;
    }
    for (uint32_t i = 0; i < count; ++i) {
        if (y[i] > low && y[i] < high) {
            mask[i / 8] = (uint8_t)(mask[i / 8] | 1u << i % 8);
        }
    }
}

void edgelora_mask_backward_s8(int8_t *e, uint32_t count, const uint8_t *mask) {
    for (uint32_t i = 0; i < count; ++i) {
        if (!(mask[i / 8] >> i % 8 & 1)) {
            e[i] = 0;
        }
    }
}

// Q15 relative to 2^top, < 2^15.
static int32_t relative_multiplier(int32_t multiplier, int shift, int top) {
    int n = 16 + top - shift;
    return n > 31 ? 0 : multiplier >> n;
}

// What the error of value i is multiplied by: a norm's gain, or an output multiplier.
static int32_t factor_of(const edgelora_shape_t *g, uint32_t i, uint32_t multipliers, int top) {
    uint32_t k = i % multipliers;
    return g->op->kind == EDGELORA_NORM ? g->taps[i % g->out_c]
                                        : relative_multiplier(g->multiplier[k], g->shift[k], top);
}

int32_t edgelora_requantize_backward_s8(const edgelora_shape_t *g, int8_t *e, int32_t exponent) {
    uint32_t count = g->positions * g->out_c,
             multipliers = g->traits & EDGELORA_HAS_WEIGHTS ? g->out_c : 1;
    bool gains = g->op->kind == EDGELORA_NORM;
    int top = -128;
    for (uint32_t k = 0; k < multipliers; ++k) {
        top = g->shift[k] > top ? g->shift[k] : top;
    }
    int32_t n = 0, more;
    do {
        uint32_t bits = 0;
        for (uint32_t i = 0; i < count; ++i) {
            bits |= edgelora_block_magnitude(
                e[i] * factor_of(g, i, multipliers, top), n, i, g->rounds);
        }
        more = edgelora_block_more(bits);
        n += more;
    } while (more);
    for (uint32_t i = 0; i < count; ++i) {
        int32_t v = e[i] * factor_of(g, i, multipliers, top);
        e[i] = with_sign(edgelora_block_magnitude(v, n, i, g->rounds), v);
    }
    return exponent + n + (gains ? -top : top - 15);
}
