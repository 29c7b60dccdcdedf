// Dense and conv: the gradient of B. SPDX-License-Identifier: MIT
//
// Outputs take the place of positions, columns of t that of rows; the products go over positions, a
// chunk at a time.

#include "kernels/packed/parts.h"

typedef struct {
    // of a chunk; outputs / 4 and columns of t that are multiplied together
    uint32_t groups, quads, rows;
    uint32_t words, x, size;      // acc: s32 [rank, quads, 4]
} gradient_t;

static gradient_t gradient_layout(const edgelora_shape_t *g, uint32_t rank) {
    gradient_t l = {
        .groups = at_most((g->positions + 3) / 4, EDGELORA_CHUNK), .rows = at_most(rank, 4)};
    uint32_t fixed = 8 * l.groups * l.rows, quad = EDGELORA_GROUP_BYTES * l.groups + 16 * rank,
             all = (g->out_c + 3u) / 4;
    uint32_t fit = fixed + quad < EDGELORA_TILE_BYTES ? (EDGELORA_TILE_BYTES - fixed) / quad : 1;
    l.quads = at_most(fit, all);
    l.words = 16 * rank * l.quads;
    l.x = l.words + 8 * l.groups * l.rows;
    l.size = l.x + EDGELORA_GROUP_BYTES * l.groups * l.quads;
    return l;
}

uint32_t edgelora_b_gradient_packed_scratch(const edgelora_shape_t *g, uint32_t rank) {
    return rank ? gradient_layout(g, rank).size : 0;
}

// Packs column after column. e: s8 [positions, channels]; 4 columns are quads of `groups` groups.
EDGELORA_KERNEL static void pack_columns(uint32_t *quad, const int8_t *e, uint32_t channels,
    uint32_t columns, uint32_t positions, uint32_t groups) {
    for (uint32_t c = 0; c < columns; ++c, ++quad) {
        const int8_t *at = e + c;
        uint32_t *to = quad;
        for (uint32_t p = 0; p < 4 * groups; p += 4, to += EDGELORA_GROUP_WORDS) {
            uint32_t v[4] = {0};
            for (uint32_t k = 0; k < 4 && p + k < positions; ++k, at += channels) {
                v[k] = (uint32_t)(int32_t)*at;
            }
            to[0] = pair(v[2], v[0]);
            to[4] = pair(v[3], v[1]);
        }
        if ((c & 3) == 3) {
            quad += EDGELORA_GROUP_WORDS * groups - 4;
        }
    }
}

EDGELORA_HOT void edgelora_b_gradient_packed_s8(const edgelora_shape_t *g, uint32_t rank,
    const edgelora_error_t *error, const int8_t *t, int32_t *gradient, int32_t shift) {
    uint8_t *s = error->scratch;
    gradient_t l = gradient_layout(g, rank);
    int32_t *acc = (int32_t *)(void *)s, none[4] = {0};
    uint32_t *words = (uint32_t *)(void *)(s + l.words), *x = (uint32_t *)(void *)(s + l.x);
    for (uint32_t o = 0; o < g->out_c; o += 4 * l.quads) {
        uint32_t count = at_most(g->out_c - o, 4 * l.quads), padded = (count + 3) & ~3u;
        edgelora_tile_product_t row = {
            .x = x, .count = padded, .bias = none, .coding = EDGELORA_PAIRS, .weights = words};
        for (uint32_t p = 0; p < g->positions; p += 4 * EDGELORA_CHUNK) {
            uint32_t n = at_most(g->positions - p, 4 * EDGELORA_CHUNK);
            row.groups = (n + 3) / 4;
            pack_columns(x, error->e + p * g->out_c + o, g->out_c, count, n, row.groups);
            for (uint32_t j = 0; j < rank; j += row.rows) {
                row.rows = at_most(rank - j, l.rows);
                const uint8_t *columns = (const uint8_t *)t + p * rank + j;
                edgelora_unpack_taps_s8(
                    words, row.groups, columns, row.rows, 1, 0, n, rank, EDGELORA_SIGNED);
                row.acc = acc + j * padded;
                edgelora_tile_product_s8(&row);
            }
            row.add = 1;
        }
        for (uint32_t k = 0; k < count; ++k) {
            for (uint32_t j = 0; j < rank; ++j) {
                gradient[(o + k) * rank + j] += trunc_shift(acc[j * padded + k], shift);
            }
        }
    }
}
