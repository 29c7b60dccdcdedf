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
#ifdef EDGELORA_M0PLUS
    // of an output
    uint32_t inputs = g->is_matrix ? g->inputs : (uint32_t)g->kernel_h * g->kernel_w;
    uint32_t sum = inputs * MAX_PRODUCT, branch_sum = branch ? 127 * 127 * branch->rank : 0;
    uint32_t scaled = branch_sum ? (uint32_t)round_shift((int32_t)branch_sum, -branch->branch_shift)
                                 : 0;
    return edgelora_biases_within(g, (int32_t)(EDGELORA_22_BITS - 1 - sum - scaled));
#else // others have no use for it
    (void)g, (void)branch;
    return false;
#endif
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

// A value's multiplier, Q15 relative to 2^top.
static inline int32_t shared_multiplier(const edgelora_shape_t *g, uint32_t k, int32_t top) {
    return g->multiplier[k] >> at_most_31(16 + top - g->shift[k]);
}

// Does a magnitude of a column, times m, reach `least`? end: its rows * step.
EDGELORA_KERNEL static bool column_reaches(
    const int8_t *e, uint32_t step, uint32_t end, int32_t m, int32_t least) {
    for (uint32_t i = 0; i < end; i += step) {
        int32_t v = e[i] * m;
        if (v >= least || v <= -least) {
            return true;
        }
    }
    return false;
}

// The OR of the magnitudes of 4 columns, a byte each. end: rows * step.
EDGELORA_KERNEL static uint32_t four_columns_bits(const int8_t *e, uint32_t step, uint32_t end) {
    uint32_t bits = 0;
    for (uint32_t i = 0; i < end; i += step) {
        uint32_t four = *(const uint32_t *)(const void *)(e + i), negative = four >> 7 & 0x01010101;
        bits |= (four ^ ((negative << 8) - negative)) + negative;
    }
    return bits;
}

EDGELORA_KERNEL static uint32_t column_bits(const int8_t *e, uint32_t step, uint32_t end) {
    uint32_t bits = 0;
    for (uint32_t i = 0; i < end; i += step) {
        bits |= abs_u32(e[i]);
    }
    return bits;
}

// What the product of a column's largest magnitude and m is at most, and more than half of: m times
// the OR of its magnitudes. four: those of a group of columns, found with the first of them.
EDGELORA_HOT static int32_t product_bound(
    const int8_t *e, uint32_t channels, uint32_t end, uint32_t c, int32_t m, uint32_t *four) {
    if (channels & 3) {
        return (int32_t)column_bits(e + c, channels, end) * m;
    }
    *four = c & 3 ? *four >> 8 : four_columns_bits(e + c, channels, end);
    return (int32_t)(*four & 255) * m;
}

// The bits of the largest |e * m|: as many as its bound has, or one less. channels: that have a
// multiplier each.
EDGELORA_HOT static int32_t product_bits(
    const edgelora_shape_t *g, const int8_t *e, uint32_t channels, uint32_t end, int32_t top) {
    uint32_t four = 0, likely = 0, all = 0;
    if (end == channels) {
        for (uint32_t c = 0; c < channels; ++c) {
            all |= abs_u32(e[c] * shared_multiplier(g, c, top));
        }
        return bit_length(all);
    }
    int32_t largest = 0;
    for (uint32_t c = 0; c < channels; ++c) {
        int32_t m = shared_multiplier(g, c, top);
        int32_t bound = product_bound(e, channels, end, c, m, &four);
        if (bound > largest) {
            largest = bound;
            likely = c;
        }
    }
    int32_t bits = bit_length((uint32_t)largest), least = bits ? 1 << (bits - 1) : INT32_MAX;
    if (column_reaches(e + likely, channels, end, shared_multiplier(g, likely, top), least)) {
        return bits;
    }
    for (uint32_t c = 0; c < channels; ++c) {
        int32_t m = shared_multiplier(g, c, top);
        if (product_bound(e, channels, end, c, m, &four) >= least &&
            column_reaches(e + c, channels, end, m, least)) {
            return bits;
        }
    }
    return bits - 1;
}

EDGELORA_KERNEL static void scale_column(
    int8_t *e, uint32_t step, uint32_t end, int32_t m, int32_t shift) {
    int32_t mask = shift_mask(shift);
#pragma GCC unroll 4
    for (uint32_t i = 0; i < end; i += step) {
        e[i] = (int8_t)trunc_mask(e[i] * m, shift, mask);
    }
}

EDGELORA_HOT int32_t edgelora_requantize_backward_packed_s8(
    const edgelora_shape_t *g, int8_t *e, int32_t exponent) {
    // what has one multiplier is one column
    uint32_t channels = g->traits & EDGELORA_HAS_WEIGHTS ? g->out_c : 1,
             end = g->positions * g->out_c;
    int32_t top = -128;
    for (uint32_t c = 0; c < channels; ++c) {
        top = g->shift[c] > top ? g->shift[c] : top;
    }
    int32_t n = product_bits(g, e, channels, end, top) - 7;
    n = n < 0 ? 0 : n;
    int32_t mask = shift_mask(n);
    for (uint32_t c = 0; c < channels; ++c) {
        int32_t m = shared_multiplier(g, c, top);
        if (end == channels) {
            e[c] = (int8_t)trunc_mask(e[c] * m, n, mask);
        } else {
            scale_column(e + c, channels, end, m, n);
        }
    }
    return exponent + top - 15 + n;
}
