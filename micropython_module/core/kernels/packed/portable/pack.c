// Packs inputs, unpacks columns of weights.
// SPDX-License-Identifier: MIT

#include "kernels/packed/portable/portable.h"

#ifndef EDGELORA_M0PLUS

EDGELORA_KERNEL static void pack(
    uint32_t *e, const int8_t *x, uint32_t groups, uint32_t o, uint32_t step) {
    for (; groups; --groups, x += 4, e += step) {
        uint32_t four = word_at(x);
        e[0] = crossed_evens(four);
        e[o] = crossed_odds(four);
    }
}

EDGELORA_HOT void edgelora_pack_quad_s8(uint32_t *quad, const int8_t *x, uint32_t groups) {
    EDGELORA_ASSERT(is_aligned(x));
    pack(quad, x, groups, 4, 8);
}

EDGELORA_HOT void edgelora_pack_quads_s8(
    uint32_t *quad, uint32_t stride, const int8_t *x, uint32_t positions, uint32_t groups) {
    EDGELORA_ASSERT(is_aligned(x) && stride % 4 == 0);
    for (uint32_t p = 0; p < positions; ++p) {
        edgelora_pack_quad_s8(quad + (p >> 2) * (stride / 4) + (p & 3), x + 4 * p * groups, groups);
    }
}

EDGELORA_HOT void edgelora_pack_row_s8(uint32_t *pairs, const int8_t *x, uint32_t groups) {
    EDGELORA_ASSERT(is_aligned(x));
    pack(pairs, x, groups, 1, 2);
}

EDGELORA_HOT void edgelora_pack_columns_s8(
    uint32_t *quad, uint32_t step, const int8_t *const rows[4], uint32_t quads) {
    EDGELORA_ASSERT(step % 4 == 0);
    for (uint32_t k = 0; k < 2; ++k, quad += 4) {
        const int8_t *upper = rows[k], *lower = rows[k + 2];
        uint32_t *to = quad;
        for (uint32_t i = 0; i < 4 * quads; i += 4, to += step / 4) {
            uint32_t a = word_at(upper + i) ^ 0x80808080u, b = word_at(lower + i) ^ 0x80808080u;
            uint32_t low = a << 16 | (b & 0xFFFF), high = (a & 0xFFFF0000u) | b >> 16;
            to[0] = evens(low);
            to[1] = odds(low);
            to[2] = evens(high);
            to[3] = odds(high);
        }
    }
}

EDGELORA_HOT void edgelora_unpack_columns_s8(uint32_t *words, uint32_t stride, const uint8_t *from,
    uint32_t step, uint32_t groups, uint32_t coding) {
    EDGELORA_ASSERT(is_aligned(from) && step % 4 == 0 && stride % 4 == 0);
    EDGELORA_ASSERT(coding != EDGELORA_PAIRS);
    uint32_t *columns[4] = {
        words, words + stride / 4, words + 2 * (stride / 4), words + 3 * (stride / 4)};
    // rows 0 and 2 of a group, then 1 and 3
    for (uint32_t k = 0; k < 2 * groups; ++k, from += k & 1 ? step : 3 * step) {
        uint32_t a = word_at(from) ^ coding, b = word_at(from + 2 * step) ^ coding;
        uint32_t low = (a & 0xFFFF) | b << 16, high = a >> 16 | (b & 0xFFFF0000u);
        columns[0][k] = evens(low);
        columns[1][k] = odds(low);
        columns[2][k] = evens(high);
        columns[3][k] = odds(high);
    }
}

#endif
