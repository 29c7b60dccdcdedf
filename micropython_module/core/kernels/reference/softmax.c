// Softmax over the channels of each position, as TFLite computes it in integers.
// SPDX-License-Identifier: MIT

#include "kernels/reference/reference.h"

// floor((a * b + 2^30) / 2^31) unless a = b = -2^31: gemmlowp's SaturatingRoundingDoublingHighMul
static int32_t doubling_high_mul(int32_t a, int32_t b) {
    if (b >= 0) {
        return rounding_high_mul(a, b);
    }
    return rounding_high_mul(b, a); // one operand is never negative here
}

// 1 / (1 + x) in Q31 for x in [0, 1), Q31: gemmlowp's Newton steps, values of Q29.
static int32_t reciprocal_of_one_plus(int32_t x) {
    int32_t half_denominator = (x >> 1) + (1 << 30);
    int32_t v = 1515870810 + doubling_high_mul(half_denominator, -1010580540); // 48/17 - 32/17 d
    for (int i = 0; i < 3; ++i) {
        int32_t rest = (1 << 29) - doubling_high_mul(half_denominator, v);
        v += doubling_high_mul(rest, v) * 4;
    }
    return v >= 1 << 30 ? INT32_MAX : v * 2;
}

static int32_t largest(const int8_t *x, uint32_t n) {
    int32_t top = -128;
    for (uint32_t i = 0; i < n; ++i) {
        top = x[i] > top ? x[i] : top;
    }
    return top;
}

void edgelora_softmax_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y) {
    const int32_t *exponential = g->multiplier; // Q31, of d = max - x
    for (uint32_t p = 0; p < g->positions; ++p, x += g->out_c, y += g->out_c) {
        int32_t top = largest(x, g->out_c);
        uint32_t sum = 0; // Q19, [2^18, 1024 * 2^19]
        for (uint32_t c = 0; c < g->out_c; ++c) {
            sum += (uint32_t)round_divide(exponential[top - x[c]], 12);
        }
        int headroom = 32 - bit_length(sum);
        int32_t scale = reciprocal_of_one_plus((int32_t)((sum << headroom) - 0x80000000u));
        int shift = 12 - headroom + 31 - 8; // 22..33
        for (uint32_t c = 0; c < g->out_c; ++c) {
            int32_t v = doubling_high_mul(scale, exponential[top - x[c]]);
            v = shift > 31 ? 0 : round_divide(v, shift);
            y[c] = (int8_t)clamp_s32(v - 128, -128, 127);
        }
    }
}

// With p = y + 128, in 1/256: p_i (e_i - sum p_j e_j), times scale_in / scale_out
int32_t edgelora_softmax_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    const int8_t *e = error->e, *y = error->y;
    int32_t v[EDGELORA_PIECE];
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    for (uint32_t p = 0; p < g->positions; ++p, e += g->out_c, y += g->out_c) {
        int32_t sum = 0; // |sum| <= 127 * (256 + channels / 2)
        for (uint32_t c = 0; c < g->out_c; ++c) {
            sum += (y[c] + 128) * e[c];
        }
        for (uint32_t c = 0; c < g->out_c; c += EDGELORA_PIECE) {
            uint32_t n = g->out_c - c < EDGELORA_PIECE ? g->out_c - c : EDGELORA_PIECE;
            for (uint32_t i = 0; i < n; ++i) {
                v[i] = trunc_shift((y[c + i] + 128) * (256 * e[c + i] - sum), 8) * g->shift[0];
            }
            edgelora_block_append(&block, v, n);
        }
    }
    return error->exponent - 8 + g->shift[1] + block.shift;
}
