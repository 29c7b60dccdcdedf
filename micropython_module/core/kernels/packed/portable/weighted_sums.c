// Rows of values, each times its weight, summed by columns.
// SPDX-License-Identifier: MIT

#include "kernels/packed/portable/portable.h"

#ifndef EDGELORA_M0PLUS

EDGELORA_HOT void edgelora_weighted_sums_s8(const edgelora_weighted_sums_t *of) {
    EDGELORA_ASSERT(of->rows && of->rows <= 256 && of->step % 4 == 0 && is_aligned(of->values));
    const uint32_t lower = 0x00FF00FF;
    for (uint32_t group = 0; group < of->groups; ++group) {
        const int8_t *v = of->values + 4 * group;
        uint32_t a = 0, b = 0, c = 0, d = 0;
        for (uint32_t j = 0; j < of->rows; ++j, v += of->step) {
            uint32_t weight = (uint32_t)of->weights[j], four = word_at(v) ^ 0x80808080u;
            uint32_t even = (four & lower) * weight, odd = (four >> 8 & lower) * weight;
            a += even & 0xFFFF;
            b += odd & 0xFFFF;
            c += even >> 16;
            d += odd >> 16;
        }
        int32_t *sums = of->sums + 4 * group;
        sums[0] = (int32_t)a;
        sums[1] = (int32_t)b;
        sums[2] = (int32_t)c;
        sums[3] = (int32_t)d;
    }
}

#endif
