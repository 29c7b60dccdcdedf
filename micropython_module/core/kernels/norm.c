// What normalizes a row of a stream (SPEC.md: norm).
// SPDX-License-Identifier: MIT

#include "kernels/norm.h"

// floor(sqrt(v)), a bit at a time; v >= 2^30
static uint32_t root(uint32_t v) {
    uint32_t result = 0;
    for (uint32_t bit = 1u << 30; bit; bit >>= 2) {
        if (v >= result + bit) {
            v -= result + bit;
            result = (result >> 1) + bit;
        } else {
            result >>= 1;
        }
    }
    return result;
}

// The most fraction bits, 11 to 13, with which the row's normalized values fit 16 bits: theirs are
// within sqrt(256), most rows' within 4.
static int8_t fraction_of(const edgelora_norm_row_t *row, int32_t most) {
    uint32_t product = (uint32_t)round_shift(most, row->shift) * row->root; // <= 2^31
    int32_t over = bit_length(product >> (18 - row->half - row->shift)) - 15;
    return (int8_t)(over <= 0 ? 13 : over == 1 ? 12 : 11);
}

EDGELORA_WARM edgelora_norm_row_t edgelora_norm_row(
    const edgelora_shape_t *g, const edgelora_norm_sums_t *sums) {
    int32_t d = g->in_c, sum = g->op->flags & EDGELORA_CENTRED ? sums->sum : 0;
    // >= 1, as d * squares >= sum^2; < 2^47
    uint64_t n = (uint32_t)d * sums->squares - (uint64_t)((int64_t)sum * sum) +
        (uint32_t)g->multiplier[0];
    uint32_t high = (uint32_t)(n >> 32);
    int32_t half = 0;
    while (high) { // k < 0
        n >>= 2;
        high >>= 2;
        --half;
    }
    uint32_t v = (uint32_t)n;
    while (v < 1u << 30) {
        v <<= 2;
        ++half;
    }
    uint32_t below = abs_u32(d * sums->least - sum), above = abs_u32(d * sums->most - sum);
    int32_t most = (int32_t)(below > above ? below : above); // <= 2^24
    int32_t shift = bit_length((uint32_t)most) - 15;
    edgelora_norm_row_t row;
    row.sum = sum;
    row.root = 0x80000000u / root(v); // (2^15, 2^16]
    row.mean = row.size = row.cut = 0;
    row.half = (int8_t)half;
    row.shift = (int8_t)(shift > 0 ? shift : 0);
    row.fraction = fraction_of(&row, most);
    return row;
}
