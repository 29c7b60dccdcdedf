// Sums that become a block's values. SPDX-License-Identifier: MIT

#include "kernels/packed/portable/portable.h"

#ifndef EDGELORA_M0PLUS

// v + sign, shifted, is trunc_shift(v, shift) but for the sign: one below it where v < 0, the
// complement of the magnitude.
EDGELORA_HOT uint32_t edgelora_store_column_s8(
    int8_t *q, uint32_t step, const int32_t *v, uint32_t n, int32_t shift) {
    uint32_t bits = 0;
#pragma GCC unroll 4
    for (const int32_t *end = v + n; v != end; q += step) {
        int32_t sign = *v >> 31, below = (*v++ + sign) >> shift;
        *q = (int8_t)(below - sign);
        bits |= (uint32_t)(below ^ sign);
    }
    return bits;
}

EDGELORA_HOT void edgelora_add_shifted_s32(
    int32_t *v, const int32_t *w, int32_t n, uint32_t count) {
    for (const int32_t *end = w + count; w != end; ++v) {
        int32_t sign = *w >> 31;
        *v += ((*w++ + sign) >> n) - sign;
    }
}

#endif
