// Depthwise 3x3 with stride 2 along a row: strips of non-overlapping pairs.
// SPDX-License-Identifier: MIT

#include "kernels/packed/extras.h"

#ifdef EDGELORA_M0PLUS

typedef struct {
    uint32_t width;      // of this strip
    edgelora_pairs_t in; // whole words
    // words of the plane with one input next to the edge, in the lower half, in the upper half; 0:
    // none. Their input columns
    uint32_t *first, *last;
    uint32_t first_column, last_column, column;
} pairs_strip_t;

// Columns [at, at + width) of the output; plane: its words, of the first row that is filled.
static pairs_strip_t pairs_strip(
    const edgelora_shape_t *g, uint32_t at, uint32_t width, uint32_t *plane) {
    int32_t start = (int32_t)(2 * at) - g->op->pad_left, inputs = g->in_w - start;
    uint32_t from = start < 0 ? (uint32_t)-start : 0, // elements of the strip with inputs
        to = inputs > 0 ? at_most((uint32_t)inputs, 2 * width + 2) : 0; // none behind the row's end
    pairs_strip_t s = {.width = width};
    uint32_t word = (from + 1) / 2;
    if (from & 1) {
        s.first = plane + from / 2;
    }
    if (to & 1) {
        s.last = plane + to / 2;
        s.last_column = (uint32_t)(start + (int32_t)to) - 1;
    }
    s.column = (uint32_t)(start + (int32_t)(2 * word));
    s.in.plane = plane + word;
    s.in.n = to / 2 > word ? to / 2 - word : 0;
    return s;
}

// One channel's rows.
EDGELORA_HOT static void fill_pairs(
    const edgelora_shape_t *g, pairs_strip_t *s, const int8_t *x, uint32_t rows) {
    uint32_t row = (uint32_t)g->in_w * g->in_c, edge = (uint32_t)(int32_t)g->zp_in;
    if (s->in.n && rows) {
        s->in.x = x + s->column * g->in_c;
        s->in.step = g->in_c;
        s->in.row = row;
        s->in.rows = rows;
        edgelora_pairs_s8(&s->in);
    }
    if (s->first) {
        const int8_t *from = x;
        for (uint32_t r = 0, *word = s->first; r < rows; ++r, word += EDGELORA_STRIP_PITCH) {
            *word = pair((uint32_t)*from, edge);
            from += row;
        }
    }
    if (s->last) {
        const int8_t *from = x + s->last_column * g->in_c;
        for (uint32_t r = 0, *word = s->last; r < rows; ++r, word += EDGELORA_STRIP_PITCH) {
            *word = pair(edge, (uint32_t)*from);
            from += row;
        }
    }
}

EDGELORA_HOT bool edgelora_pairs_forward(const edgelora_shape_t *g, const planes_t *l,
    const reach_t *reach, uint32_t rows, edgelora_requantize_t *requantize, const int8_t *x,
    int8_t *y, uint32_t *plane, int32_t *acc) {
    if (g->op->stride_w != 2 || g->out_w <= 2) { // rows of overlapping words are longer
        return false;
    }
    uint32_t each = g->out_c / g->in_c, padded = (requantize->count + 3) & ~3u,
             in_rows = reach->to > reach->from ? (uint32_t)(reach->to - reach->from) : 0;
    edgelora_strip_2_t strip = {.rows = rows, .x_step = 4 * EDGELORA_STRIP_PITCH * g->op->stride_h};
    x += (uint32_t)reach->from * g->in_w * g->in_c;
    for (uint32_t o = 0; o < g->out_c; o += requantize->rows) {
        requantize->rows = at_most(g->out_c - o, l->each);
        uint32_t *words = plane;
        for (uint32_t at = 0; at < g->out_w; at += EDGELORA_STRIP) {
            pairs_strip_t s = pairs_strip(g, at, at_most(g->out_w - at, EDGELORA_STRIP),
                words + reach->above * EDGELORA_STRIP_PITCH);
            strip.x = words;
            strip.out_w = s.width;
            strip.acc = acc + at;
            strip.gap = 4 * (g->out_w - s.width);
            for (uint32_t k = o, end = o + requantize->rows; k < end; ++k, strip.acc += padded) {
                if (each == 1) { // avoids a slow division
                    fill_pairs(g, &s, x + k, in_rows);
                } else if (k % each == 0 || k == o) { // outputs of one input channel share a plane
                    fill_pairs(g, &s, x + k / each, in_rows);
                }
                tap_words(strip.w, g->weights + k, g->out_c);
                strip.bias = g->bias[k];
                edgelora_strip_2_s8(&strip);
            }
            words += l->in_rows * EDGELORA_STRIP_PITCH;
        }
        edgelora_requantize_outputs_s8(g, o, requantize, y);
    }
    return true;
}

#endif
