// Dense and conv: the gradient of B.
// SPDX-License-Identifier: MIT

#include "kernels/packed/gradient.h"

static gradient_t b_layout(const edgelora_shape_t *g, uint32_t rank) {
    uint32_t all = (g->out_c + 3u) / 4;
    gradient_t l = edgelora_gradient_layout(g->positions, all, rank, 0, EDGELORA_TILE_BYTES);
    return l.quads ? l : edgelora_gradient_layout(g->positions, 1, rank, 0, UINT32_MAX);
}

uint32_t edgelora_b_gradient_packed_scratch(const edgelora_shape_t *g, uint32_t rank) {
    return rank && g->op->kind != EDGELORA_DENSE ? b_layout(g, rank).size : 0;
}

// edgelora_pack_columns_s8 one value at a time, for positions `channels` apart; those from `count`
// on are 0. step: words.
EDGELORA_KERNEL static void pack_odd_columns(uint32_t *quad, uint32_t step, const int8_t *e,
    uint32_t channels, uint32_t columns, uint32_t count) {
    for (uint32_t c = 0; c < columns; ++c, ++quad) {
        const int8_t *at = e + c;
        uint32_t v[4] = {0};
        for (uint32_t k = 0; k < 4 && k < count; ++k, at += channels) {
            v[k] = (uint32_t)(int32_t)*at;
        }
        quad[0] = pair(v[2], v[0]);
        quad[4] = pair(v[3], v[1]);
        if ((c & 3) == 3) {
            quad += step - 4;
        }
    }
}

EDGELORA_HOT void edgelora_b_gradient_packed_s8(const edgelora_shape_t *g, uint32_t rank,
    const edgelora_error_t *error, const int8_t *t, int32_t *gradient, int32_t shift,
    edgelora_range_t of) {
    static const int32_t none[EDGELORA_MAX_RANK];
    gradient += of.from * rank;
    if (g->op->kind == EDGELORA_DENSE) {
        edgelora_outer_gradient(error->e + of.from, of.to - of.from, t, 0, rank,
            (edgelora_range_t){0, rank}, gradient, shift, error->scratch);
        return;
    }
    uint8_t *s = error->scratch;
    gradient_t l = b_layout(g, rank);
    const int32_t *acc = (const int32_t *)(const void *)s;
    uint32_t channels = g->out_c;
    factor_t factor = {t, rank, none};
    for (uint32_t o = of.from; o < of.to; o += 4 * l.quads) {
        uint32_t count = at_most(of.to - o, 4 * l.quads), padded = (count + 3) & ~3u;
        products_t what = products_of(&l, s, padded);
        for (uint32_t p = 0; p < g->positions; p += 4 * EDGELORA_CHUNK) {
            uint32_t n = at_most(g->positions - p, 4 * EDGELORA_CHUNK),
                     step = EDGELORA_GROUP_WORDS * ((n + 3) / 4);
            uint32_t *x = (uint32_t *)(void *)(s + l.x);
            const int8_t *e = error->e + p * channels + o;
            for (uint32_t k = 0; k < n; k += 4, x += EDGELORA_GROUP_WORDS, e += 4 * channels) {
                if (k + 4 <= n && !(channels & 3)) {
                    const int8_t *third = e + 2 * channels,
                                 *const rows[4] = {e, e + channels, third, third + channels};
                    edgelora_pack_columns_s8(x, 4 * step, rows, padded / 4);
                } else {
                    pack_odd_columns(x, step, e, channels, count, n - k);
                }
            }
            what.p = p;
            what.n = n;
            what.add = p > 0;
            edgelora_gradient_products(&factor, &what);
        }
        int32_t right = at_most_31(shift), mask = shift_mask(right);
        for (uint32_t k = 0; k < count; ++k) {
            const int32_t *sum = acc + k;
#pragma GCC unroll 4
            for (const int32_t *end = gradient + rank; gradient != end; sum += padded) {
                *gradient++ += trunc_mask(*sum, right, mask);
            }
        }
    }
}
