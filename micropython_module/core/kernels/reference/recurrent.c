// Recurrent ops with 16-bit state: lstm and the two halves of an SVDF.
// SPDX-License-Identifier: MIT

#include "kernels/reference/reference.h"

// Small rather than fast: everything except the products runs once per unit.
#define SMALL __attribute__((noinline))

SMALL static int32_t scaled(const edgelora_shape_t *g, int32_t v, uint32_t k) {
    return requantize(v, g->multiplier[k], g->shift[k]);
}

SMALL static int32_t scaled_s16(const edgelora_shape_t *g, int32_t v, uint32_t k) {
    return clamp_s16(scaled(g, v, k));
}

static int8_t to_s8(int32_t v, int32_t zero_point) {
    return (int8_t)clamp_s32((int32_t)((uint32_t)v + (uint32_t)zero_point), -128, 127);
}

// acc + sum (w - 128) * x over n elements; |sum| < 2^28
EDGELORA_WARM SMALL static int32_t products(
    const uint8_t *w, const int8_t *x, uint32_t n, int32_t acc) {
#pragma GCC unroll 4
    for (uint32_t i = 0; i < n; ++i) {
        acc += (w[i] - 128) * x[i];
    }
    return acc;
}

// 2^25 times the logistic function of y / 2^9 / 24, interpolated in the table; `most` beyond its
// end.
SMALL static int32_t logistic_q25(const edgelora_shape_t *g, uint32_t y, int32_t most) {
    const int32_t *table = g->multiplier + LSTM_TABLE;
    uint32_t at = y >> 9;
    int32_t part = (int32_t)(y & 511);
    return at >= LSTM_TABLE_SIZE - 1 ? most : table[at] * 512 + part * (table[at + 1] - table[at]);
}

// v: Q12; returns Q15
SMALL static int32_t logistic(const edgelora_shape_t *g, int32_t v) {
    int32_t p = logistic_q25(g, abs_u32(v * 3), 0x7FFF << 10);
    return (v >= 0 ? p + 512 : (1 << 25) - p + 511) >> 10;
}

// v: Q12 / 2^power; returns Q15. tanh v = 2 * logistic(2 v) - 1
SMALL static int32_t tanh_q15(const edgelora_shape_t *g, int32_t v, int power) {
    v = power < 0 ? round_shift(v * 3, -power) : v * (3 << power);
    int32_t p = logistic_q25(g, 2 * abs_u32(v), 0xFFFF << 9) >> 1;
    return (v >= 0 ? p - (1 << 23) + 128 : (1 << 23) - p + 127) >> 8;
}

// A gate before its activation, Q12. w: u8 [in_c + out_c], bias: s32 [2]
static int32_t gate(const edgelora_shape_t *g, uint32_t k, const uint8_t *w, const int32_t *bias,
    const int8_t *x, const int8_t *held) {
    int32_t own = products(w, x, g->in_c, bias[0]),
            back = products(w + g->in_c, held, g->out_c, bias[1]);
    return clamp_s16(scaled_s16(g, own, k) + scaled_s16(g, back, k + 1));
}

// One step of a unit: updates its cell and returns its state.
static int8_t unit(
    const edgelora_shape_t *g, uint32_t u, const int8_t *x, const int8_t *held, int16_t *cell) {
    uint32_t inputs = g->in_c + (uint32_t)g->out_c;
    const uint8_t *w = g->weights + 4 * u * inputs;
    const int32_t *bias = g->bias + 8 * u;
    int32_t gates[4]; // input, forget, cell, output
    for (uint32_t k = 0; k < 4; ++k, w += inputs, bias += 2) {
        int32_t v = gate(g, 2 * k, w, bias, x, held);
        gates[k] = k == 2 ? tanh_q15(g, v, 0) : logistic(g, v);
    }
    int32_t clip = g->multiplier[LSTM_CLIP], kept = scaled_s16(g, gates[1] * *cell, LSTM_CELL),
            admitted = scaled_s16(g, gates[0] * gates[2], LSTM_ADMITTED);
    *cell = (int16_t)clamp_s32(clamp_s16(kept + admitted), -clip, clip);
    int32_t v = gates[3] * tanh_q15(g, *cell, g->shift[LSTM_TANH]);
    return to_s8(scaled(g, v, LSTM_OUTPUT), g->shift[LSTM_STATE_ZERO]);
}

void edgelora_lstm_forward_s8(
    const edgelora_shape_t *g, const int8_t *x, int8_t *y, int16_t *work) {
    uint32_t units = g->out_c, row = g->positions > 1 ? units : 0;
    int8_t *held = (int8_t *)(work + units); // the state after the previous position
    for (uint32_t u = 0; u < units; ++u) {
        work[u] = 0;
        held[u] = g->shift[LSTM_STATE_ZERO];
    }
    for (uint32_t i = (uint32_t)g->in_h * g->in_w; i; --i, x += g->in_c, y += row) {
        for (uint32_t u = 0; u < units; ++u) {
            y[u] = unit(g, u, x, held, &work[u]);
        }
        edgelora_copy_s8(held, y, units);
    }
}

void edgelora_svdf_features_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y) {
    const uint8_t *w = g->weights;
    for (uint32_t f = 0; f < g->out_c / 2u; ++f, w += g->inputs) {
        int32_t v = scaled_s16(g, products(w, x, g->inputs, g->bias[f]), 0);
        *y++ = (int8_t)(v & 255);
        *y++ = (int8_t)(v >> 8);
    }
}

// Sums wrap around, as in TensorFlow Lite Micro.
void edgelora_svdf_time_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y) {
    const int16_t *taps = g->taps;
    uint32_t row = g->in_c / (uint32_t)g->out_c; // bytes of a unit's filters
    for (uint32_t u = 0; u < g->out_c; ++u) {
        uint32_t acc = (uint32_t)g->bias[u];
        for (uint32_t m = 0; m < g->in_h; ++m) {
            const int8_t *of = x + m * g->in_c + u * row;
            for (uint32_t r = 0; r < row; r += 2) {
                int32_t v = (uint8_t)of[r] + 256 * of[r + 1];
                acc += (uint32_t)(v * *taps++);
            }
        }
        y[u] = to_s8(scaled(g, (int32_t)acc, 0), g->zp_out);
    }
}

// Errors of 16-bit values are those of their second bytes; first bytes have none. Each second byte
// is read by one unit.
int32_t edgelora_svdf_time_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    uint32_t filters = g->in_c / (2u * g->out_c); // of a unit
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    for (uint32_t m = 0; m < g->in_h; ++m) {
        for (uint32_t u = 0; u < g->out_c; ++u) {
            const int16_t *taps = g->taps + (u * g->in_h + m) * filters;
            for (uint32_t r = 0; r < filters; ++r) {
                const int32_t v[2] = {0, error->e[u] * taps[r]}; // |v| < 2^22
                edgelora_block_append(&block, v, 2);
            }
        }
    }
    return error->exponent + 8 + block.shift; // a step of a second byte is 2^8 of the value
}

int32_t edgelora_svdf_features_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx) {
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    for (uint32_t i = 0; i < g->inputs; ++i) {
        int32_t v = 0; // |v| <= 127^2 * filters
        for (uint32_t f = 0; f < g->out_c / 2u; ++f) {
            v += error->e[2 * f + 1] * (g->weights[f * g->inputs + i] - 128);
        }
        edgelora_block_append(&block, &v, 1);
    }
    return error->exponent - 8 + block.shift;
}
