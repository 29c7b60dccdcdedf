// Sums of attention's backward pass.
// SPDX-License-Identifier: MIT

#include "graph.h"
#include "kernels/packed/portable/portable.h"

#if !defined(EDGELORA_M0PLUS) && EDGELORA_ATTENTION

EDGELORA_WARM void edgelora_weigh_rows_s32(int32_t *sums, const int32_t *factors,
    const int32_t *values, uint32_t count, uint32_t groups, uint32_t step) {
    for (const int32_t *last = sums + 4 * groups; sums != last; sums += 4, values += step / 4) {
        int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
        const int32_t *v = values;
        for (const int32_t *f = factors, *end = f + count; f != end; ++f, v += 4) {
            a += *f * v[0];
            b += *f * v[1];
            c += *f * v[2];
            d += *f * v[3];
        }
        sums[0] = a;
        sums[1] = b;
        sums[2] = c;
        sums[3] = d;
    }
}

#endif
