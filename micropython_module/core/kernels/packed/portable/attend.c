// Sums of attention's backward pass.
// SPDX-License-Identifier: MIT

#include "graph.h"
#include "kernels/packed/portable/portable.h"

#if !defined(EDGELORA_M0PLUS) && EDGELORA_ATTENTION

EDGELORA_WARM void edgelora_add_outer_s32(
    int32_t *sums, const int32_t *factors, const int32_t *values, uint32_t rows, uint32_t groups) {
    for (const int32_t *end = factors + 4 * rows; factors != end; factors += 4) {
        const int32_t *v = values;
        for (const int32_t *last = sums + 4 * groups; sums != last; sums += 4, v += 16) {
            for (uint32_t c = 0; c < 4; ++c) {
                sums[c] += factors[0] * v[c] + factors[1] * v[4 + c] + factors[2] * v[8 + c] +
                    factors[3] * v[12 + c];
            }
        }
    }
}

EDGELORA_WARM void edgelora_weigh_quads_s32(
    int32_t *sums, const int32_t *factors, const uint32_t *quads, uint32_t count, uint32_t groups) {
    for (uint32_t i = 0; i < groups; ++i, sums += 4) {
        const uint32_t *x = quads + 8 * i;
        int32_t a = 0, b = 0, c = 0, d = 0;
        for (const int32_t *f = factors, *end = f + 4 * count; f != end; f += 4, x += 8 * groups) {
            for (uint32_t p = 0; p < 4; ++p) {
                a += f[p] * upper_of_pair(x[p]);
                b += f[p] * upper_of_pair(x[p + 4]);
                c += f[p] * (int16_t)x[p];
                d += f[p] * (int16_t)x[p + 4];
            }
        }
        sums[0] = a;
        sums[1] = b;
        sums[2] = c;
        sums[3] = d;
    }
}

#endif
