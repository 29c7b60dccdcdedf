// The outputs of one position, two rows at a time.
// SPDX-License-Identifier: MIT

#include "kernels/packed/portable/portable.h"

#if !defined(EDGELORA_M0PLUS) && !defined(EDGELORA_DSP)

EDGELORA_HOT void edgelora_position_outputs_s8(const edgelora_position_t *r) {
    EDGELORA_ASSERT(
        r->pairs && r->rows && (r->rows == 1 || r->step % 4 == 0) && is_aligned(r->weights));
    uint32_t groups = 2 * r->pairs;
    while (groups > 1 && !(r->x[2 * groups - 1] | r->x[2 * groups - 2])) {
        --groups; // weights after the row may not exist
    }
    const uint32_t *end = r->x + 2 * groups;
    for (uint32_t i = 0; i < r->rows; ++i) {
        uint32_t other = i + 1 < r->rows; // 0: repeats the same row
        const uint8_t *w = r->weights + i * r->step;
        int32_t first = r->bias[i], second = r->bias[i + other];
        const uint8_t *next = w + other * r->step;
#pragma GCC unroll 4
        for (const uint32_t *x = r->x; x != end; x += 2, w += 4, next += 4) {
            uint32_t a = word_at(w), b = word_at(next);
            first = dot2(odds(a), x[1], dot2(evens(a), x[0], first));
            second = dot2(odds(b), x[1], dot2(evens(b), x[0], second));
        }
        put_output(r, i, first);
        i += other;
        put_output(r, i, second);
    }
}

#endif
