// 3x3 kernels over a plane of one channel.
// SPDX-License-Identifier: MIT

#include "kernels/packed/portable/portable.h"

#ifndef EDGELORA_M0PLUS

EDGELORA_HOT void edgelora_plane_s8(const edgelora_plane_t *p) {
    EDGELORA_ASSERT(p->n && p->rows && p->pitch % 4 == 0);
    uint32_t *plane = p->plane, step = p->step;
    const int8_t *x = p->x;
    for (uint32_t r = 0; r < p->rows; ++r, plane += p->pitch / 4, x += p->row) {
        uint32_t before = (uint32_t)p->edge, *to = plane - 1;
        const int8_t *from = x;
#pragma GCC unroll 4
        for (const uint32_t *end = to + p->n; to != end; from += step) {
            uint32_t v = (uint32_t)(int32_t)*from;
            *to++ = pair(v, before);
            before = v;
        }
        *to = pair((uint32_t)p->edge, before);
    }
}

// `gap`: bytes from the end of a row of acc to the next one. pitch and stride may be compile-time
// constants.
static inline __attribute__((always_inline)) void taps_with(
    const edgelora_taps_t *t, uint32_t pitch, uint32_t stride, uint32_t gap) {
    // The third weight multiplies the low half of the next word, not the high half of word 2, which
    // may belong to the row below.
    const uint32_t w[6] = {t->w[0], t->w[1] << 16, t->w[2], t->w[3] << 16, t->w[4], t->w[5] << 16};
    const int32_t bias = t->bias;
    int32_t *acc = t->acc;
    for (uint32_t oy = 0; oy < t->out_h; ++oy, acc += gap / 4) {
        const uint32_t *x = t->x + oy * (t->out_pitch / 4);
#pragma GCC unroll 2
        for (const int32_t *end = acc + t->out_w; acc != end; x += stride) {
            const uint32_t *x1 = x + pitch / 4, *x2 = x + pitch / 2;
            int32_t sum = dot2(w[1], x[1], dot2(w[0], x[0], bias));
            sum = dot2(w[3], x1[1], dot2(w[2], x1[0], sum));
            *acc++ = dot2(w[5], x2[1], dot2(w[4], x2[0], sum));
        }
    }
}

EDGELORA_HOT void edgelora_taps_s8(const edgelora_taps_t *t) {
    EDGELORA_ASSERT(t->stride == 1 || t->stride == 2);
    EDGELORA_ASSERT(t->pitch % 4 == 0 && t->out_pitch % 4 == 0);
    taps_with(t, t->pitch, t->stride, 0);
}

EDGELORA_HOT void edgelora_strip_s8(const edgelora_strip_t *s) {
    EDGELORA_ASSERT(s->out_w >= 1 && s->out_w <= EDGELORA_STRIP && s->top <= 1 && s->bottom <= 1);
    EDGELORA_ASSERT(s->channels && s->gap % 4 == 0 && s->acc_step % 4 == 0);
    edgelora_taps_t taps = {
        .x = s->x,
        .out_pitch = 4 * EDGELORA_STRIP_PITCH,
        .out_h = s->top + s->middle + s->bottom,
        .out_w = s->out_w,
        .acc = s->acc};
    for (uint32_t c = 0; c < s->channels; ++c, taps.acc += s->acc_step / 4) {
        if (s->plane) {
            edgelora_plane_s8(s->plane);
            ++s->plane->x;
        }
        tap_words(taps.w, s->weights + c, s->step);
        taps.bias = s->bias[c];
        taps_with(&taps, 4 * EDGELORA_STRIP_PITCH, 1, s->gap);
    }
}

#endif
