// Rows of A times one position, and B times t of the position.
// SPDX-License-Identifier: MIT

#include "kernels/packed/portable/portable.h"

#ifndef EDGELORA_M0PLUS

EDGELORA_HOT void edgelora_row_products_s8(const edgelora_row_products_t *r) {
    EDGELORA_ASSERT(r->groups && r->groups <= EDGELORA_ROW_GROUPS && r->rows);
    EDGELORA_ASSERT(is_aligned(r->values) && r->gap % 4 == 0);
    const uint32_t *end = r->x + 2 * r->groups, ones = pair(1, 1);
    const int8_t *v = r->values;
    for (uint32_t i = 0; i < r->rows; ++i, v += r->gap) {
        int32_t sum = r->acc[i], values = 0;
#pragma GCC unroll 4
        for (const uint32_t *x = r->x; x != end; x += 2, v += 4) {
            uint32_t four = word_at(v) ^ 0x80808080u, e = evens(four), o = odds(four);
            sum = dot2(o, x[1], dot2(e, x[0], sum));
            values = dot2(o, ones, dot2(e, ones, values));
        }
        r->acc[i] = sum - r->zero_point * values;
    }
}

EDGELORA_HOT void edgelora_branch_up_s8(const edgelora_branch_up_t *up) {
    EDGELORA_ASSERT(up->groups && up->groups <= EDGELORA_B_GROUPS && up->outputs);
    EDGELORA_ASSERT(up->shift >= -8 && up->shift <= 31);
    const uint32_t *b = up->b, *t = up->t;
    const int32_t n = up->shift, half = n > 0 ? 1 << (n - 1) : 0;
    for (uint32_t o = 0; o < up->outputs; ++o) {
        int32_t v = half;
        for (uint32_t k = 0; k < 2 * up->groups; k += 2) {
            uint32_t four = *b++ ^ 0x80808080u;
            v = dot2(odds(four), t[k + 1], dot2(evens(four), t[k], v));
        }
        up->sums[o] = up->bias[o] + (n > 0 ? v >> n : (int32_t)((uint32_t)v << -n));
    }
}

#endif
