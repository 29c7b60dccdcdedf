// From accumulators to outputs, and back for errors. SPDX-License-Identifier: MIT

#include "kernels/packed/parts.h"

enum { MAX_PRODUCT = 127 * 128 };

EDGELORA_HOT bool edgelora_biases_within(const edgelora_shape_t *g, int32_t limit) {
    for (uint32_t o = 0; o < g->out_c; ++o) {
        if (g->bias[o] > limit || g->bias[o] < -limit) {
            return false;
        }
    }
    return true;
}

EDGELORA_HOT bool edgelora_fits_22_bits(
    const edgelora_shape_t *g, const edgelora_branch_t *branch) {
    // of an output
    uint32_t inputs = g->is_matrix ? g->inputs : (uint32_t)g->kernel_h * g->kernel_w;
    uint32_t sum = inputs * MAX_PRODUCT, branch_sum = branch ? 127 * 127 * branch->rank : 0;
    uint32_t scaled = branch_sum ? (uint32_t)round_shift((int32_t)branch_sum, -branch->branch_shift)
                                 : 0;
    return edgelora_biases_within(g, (int32_t)(EDGELORA_22_BITS - 1 - sum - scaled));
}

EDGELORA_HOT edgelora_requantize_t edgelora_requantize_of(
    const edgelora_shape_t *g, const int32_t *acc) {
    return (edgelora_requantize_t){.acc = acc,
        .step = g->out_c,
        .zero_point = g->zp_out,
        .min = g->op->act_min,
        .max = g->op->act_max};
}

EDGELORA_HOT void edgelora_requantize_outputs_s8(
    const edgelora_shape_t *g, uint32_t o, edgelora_requantize_t *r, int8_t *y) {
    if (g->bounded) {
        r->multiplier = g->multiplier + o;
        r->shift = g->shift + o;
        r->y = y + o;
        edgelora_requantize_rows_s8(r);
        return;
    }
    const int32_t *acc = r->acc;
    for (uint32_t end = o + r->rows; o < end; ++o, acc += (r->count + 3) & ~3u) {
        for (uint32_t p = 0; p < r->count; ++p) {
            y[p * g->out_c + o] = requantize_output(g, acc[p], o);
        }
    }
}

// The OR of |e * m| of a column; end: its rows * step.
EDGELORA_KERNEL static uint32_t column_bits(
    const int8_t *e, uint32_t step, uint32_t end, int32_t m) {
    uint32_t bits = 0;
    for (uint32_t i = 0; i < end; i += step) {
        int32_t v = e[i] * m, sign = v >> 31;
        bits |= (uint32_t)((v ^ sign) - sign);
    }
    return bits;
}

EDGELORA_KERNEL static void scale_column(
    int8_t *e, uint32_t step, uint32_t end, int32_t m, int32_t shift) {
    int32_t mask = shift_mask(shift);
    for (uint32_t i = 0; i < end; i += step) {
        e[i] = (int8_t)trunc_mask(e[i] * m, shift, mask);
    }
}

EDGELORA_HOT int32_t edgelora_requantize_backward_packed_s8(
    const edgelora_shape_t *g, int8_t *e, int32_t exponent) {
    uint32_t channels = g->out_c, end = g->positions * channels,
             multipliers = g->traits & EDGELORA_HAS_WEIGHTS ? channels : 1;
    int32_t n = 0, top = -128;
    for (uint32_t k = 0; k < multipliers; ++k) {
        top = g->shift[k] > top ? g->shift[k] : top;
    }
    for (int pass = 0; pass < 2; ++pass) { // first the magnitude, then the values
        uint32_t bits = 0;
        for (uint32_t c = 0; c < channels; ++c) {
            uint32_t k = c < multipliers ? c : 0;
            int right = 16 + top - g->shift[k];
            int32_t m = right > 31 ? 0 : g->multiplier[k] >> right;
            if (pass) {
                scale_column(e + c, channels, end, m, n);
            } else {
                bits |= column_bits(e + c, channels, end, m);
            }
        }
        if (!pass) {
            n = bit_length(bits) - 7;
            n = n < 0 ? 0 : n;
        }
    }
    return exponent + top - 15 + n;
}
