// The primitives of the fast kernels in C, for cores with registers enough for what two rows and four positions have in hand.
// SPDX-License-Identifier: MIT

#include "kernels/packed/primitives.h"

#ifndef EDGELORA_M0PLUS

static inline uint32_t word_at(const void *p) {
    return *(const uint32_t *)p;
}

EDGELORA_KERNEL static void pack(uint32_t *e, const int8_t *x, uint32_t groups, uint32_t o, uint32_t step) {
    for (; groups; --groups, x += 4, e += step) {
        uint32_t four = word_at(x) ^ 0x80808080u, turned = four << 16 | four >> 16;
        e[0] = evens(turned);
        e[o] = odds(turned);
    }
}

EDGELORA_HOT void edgelora_pack_quad_s8(uint32_t *quad, const int8_t *x, uint32_t groups) {
    pack(quad, x, groups, 4, 8);
}

EDGELORA_HOT void edgelora_pack_quads_s8(uint32_t *quad, uint32_t stride, const int8_t *x, uint32_t positions, uint32_t groups) {
    for (uint32_t p = 0; p < positions; ++p) {
        edgelora_pack_quad_s8(quad + (p >> 2) * (stride / 4) + (p & 3), x + 4 * p * groups, groups);
    }
}

EDGELORA_HOT void edgelora_pack_row_s8(uint32_t *pairs, const int8_t *x, uint32_t groups) {
    pack(pairs, x, groups, 1, 2);
}

EDGELORA_HOT void edgelora_low_row_s8(int8_t *t, uint32_t step, const int32_t *acc, uint32_t count, int32_t shift) {
    int32_t half = (1 << shift) >> 1;
    for (; count; --count, t += step) {
        *t = (int8_t)clamp_s32((*acc++ + half) >> shift, -127, 127);
    }
}

// A row's E and O, `rows` words from one to the next.
static inline void unpack_row(uint32_t *words, const uint32_t *weights, uint32_t groups, uint32_t flip, uint32_t rows) {
    for (; groups; --groups, words += 2 * rows) {
        uint32_t e = *weights++;
        words[0] = flip == 1 ? e : evens(e ^ flip);
        words[rows] = flip == 1 ? *weights++ : odds(e ^ flip);
    }
}

typedef struct {
    int32_t a, b, c, d; // of the 4 positions of a quad
} quad_t;

static inline void add_products(quad_t *sum, uint32_t w, const uint32_t *x) {
    sum->a = dot2(w, x[0], sum->a);
    sum->b = dot2(w, x[1], sum->b);
    sum->c = dot2(w, x[2], sum->c);
    sum->d = dot2(w, x[3], sum->d);
}

static inline void add_word(quad_t *first, quad_t *second, const uint32_t *w, const uint32_t *x, uint32_t rows) {
    add_products(first, w[0], x);
    if (rows == 2) {
        add_products(second, w[1], x);
    }
}

// Behind B t, which for a shift to the right started from (bias + 1 / 2) * 2^shift
static inline void shift_quad(quad_t *sum, int32_t shift, int32_t bias) {
    if (shift > 0) {
        *sum = (quad_t){sum->a >> shift, sum->b >> shift, sum->c >> shift, sum->d >> shift};
    } else {
        *sum = (quad_t){(int32_t)((uint32_t)sum->a << -shift) + bias, (int32_t)((uint32_t)sum->b << -shift) + bias,
            (int32_t)((uint32_t)sum->c << -shift) + bias, (int32_t)((uint32_t)sum->d << -shift) + bias};
    }
}

// Row r, and the next one if `rows` is 2, which the compiler knows.
static inline __attribute__((always_inline)) void rows_with_quads(const edgelora_row_t *row, uint32_t r, const uint32_t rows) {
    uint32_t words[2 * 2 * (EDGELORA_UP_GROUPS + EDGELORA_CHUNK)], *main_words = words + 2 * rows * row->up_groups;
    const uint32_t *end = main_words + 2 * rows * row->groups, size = row->groups * (row->flip == 1 ? 8 : 4) + row->gap;
    const uint32_t *fours = main_words + 2 * rows * (row->groups & 3);
    int32_t bias[2] = {0}, start[2] = {0};
    for (uint32_t k = 0; k < rows; ++k) {
        if (row->up_groups) {
            unpack_row(words + k, row->up + (r + k) * 2 * row->up_groups, row->up_groups, 1, rows);
        }
        unpack_row(main_words + k, (const uint32_t *)(const void *)((const uint8_t *)row->weights + (r + k) * size), row->groups, row->flip, rows);
        bias[k] = row->add ? 0 : row->bias[r + k];
        start[k] = !row->up_groups ? bias[k] : row->up_shift > 0 ? (int32_t)((uint32_t)(2 * bias[k] + 1) << (row->up_shift - 1)) : 0;
    }
    const uint32_t *x = row->x;
    quad_t *acc = (quad_t *)(void *)(row->acc + r * row->count), *next = (quad_t *)(void *)((int32_t *)(void *)acc + row->count);
    for (const quad_t *last = acc + row->count / 4; acc != last; ++acc, ++next) {
        quad_t first = {start[0], start[0], start[0], start[0]}, second = {start[1], start[1], start[1], start[1]};
        const uint32_t *w = words;
        if (row->add) {
            first = *acc;
            second = rows == 2 ? *next : first;
        } else if (row->up_groups) {
            for (; w != main_words; w += rows, x += 4) {
                add_word(&first, &second, w, x, rows);
            }
            shift_quad(&first, row->up_shift, bias[0]);
            shift_quad(&second, row->up_shift, bias[1]);
        }
        for (; w != fours; w += rows, x += 4) {
            add_word(&first, &second, w, x, rows);
        }
        while (w != end) {
#pragma GCC unroll 8
            for (uint32_t k = 0; k < 8; ++k, w += rows, x += 4) {
                add_word(&first, &second, w, x, rows);
            }
        }
        *acc = first;
        if (rows == 2) {
            *next = second;
        }
        x = (const uint32_t *)(const void *)((const uint8_t *)x + row->skip);
    }
}

EDGELORA_KERNEL static void two_rows(const edgelora_row_t *row, uint32_t r) {
    rows_with_quads(row, r, 2);
}

EDGELORA_KERNEL static void one_row(const edgelora_row_t *row, uint32_t r) {
    rows_with_quads(row, r, 1);
}

EDGELORA_HOT void edgelora_row_s8(const edgelora_row_t *row) {
    uint32_t r = 0;
    for (; r + 2 <= row->rows; r += 2) {
        two_rows(row, r);
    }
    if (r < row->rows) {
        one_row(row, r);
    }
}

// requantize for |acc| < 2^30 and shift <= 0; half: of 2^-shift. A negative value is rounded away from 0 by taking 1 off first, unless
// the shift is 0; the accumulator's sign tells, as what is rounded to 0 stays 0.
static inline int8_t output(int32_t acc, int32_t multiplier, int32_t shift, int32_t half, int32_t zero_point, int32_t low, int32_t high) {
    int32_t v = add_high_mul(half + ((acc & shift) >> 31), acc, multiplier) >> -shift;
    return (int8_t)clamp_s32(v + zero_point, low, high);
}

static inline int32_t half_of(int32_t shift) {
    return (int32_t)((1u << -shift) >> 1);
}

EDGELORA_HOT void edgelora_requantize_rows_s8(const edgelora_output_t *o) {
    const int32_t *acc = o->acc, zero_point = o->zero_point, low = o->low, high = o->high;
    const uint32_t step = o->step;
    for (uint32_t r = 0; r < o->rows; ++r, acc += -o->count & 3) {
        const int32_t multiplier = o->multiplier[r], shift = o->shift[r], half = half_of(shift);
        int8_t *y = o->y + r;
        for (const int32_t *end = acc + o->count; acc != end; y += step) {
            *y = output(*acc++, multiplier, shift, half, zero_point, low, high);
        }
    }
}

EDGELORA_HOT void edgelora_rows_s8(const edgelora_rows_t *r) {
    uint32_t groups = 2 * r->pairs;
    while (groups > 1 && !(r->x[2 * groups - 1] | r->x[2 * groups - 2])) {
        --groups; // weights beside the row may not be there at all
    }
    const uint32_t *end = r->x + 2 * groups;
    for (uint32_t i = 0; i < r->rows; ++i) {
        uint32_t other = i + 1 < r->rows; // 0: the same row again
        const uint8_t *w = r->weights + i * r->step;
        int32_t first = r->bias[i], second = r->bias[i + other];
        const uint8_t *next = w + other * r->step;
#pragma GCC unroll 4
        for (const uint32_t *x = r->x; x != end; x += 2, w += 4, next += 4) {
            uint32_t a = word_at(w), b = word_at(next);
            first = dot2(odds(a), x[1], dot2(evens(a), x[0], first));
            second = dot2(odds(b), x[1], dot2(evens(b), x[0], second));
        }
        r->y[i] = output(first, r->multiplier[i], r->shift[i], half_of(r->shift[i]), r->zero_point, r->low, r->high);
        i += other;
        r->y[i] = output(second, r->multiplier[i], r->shift[i], half_of(r->shift[i]), r->zero_point, r->low, r->high);
    }
}

// `gap`: bytes from the end of a row of acc to the next one. The compiler may know pitch and stride.
static inline __attribute__((always_inline)) void taps_with(const edgelora_taps_t *t, uint32_t pitch, uint32_t stride, uint32_t gap) {
    // The third weight meets the low half of the next word: word 2 may be the first one of the row below.
    const uint32_t w[6] = {t->w[0], t->w[1] << 16, t->w[2], t->w[3] << 16, t->w[4], t->w[5] << 16};
    const int32_t bias = t->bias;
    int32_t *acc = t->acc;
    for (uint32_t oy = 0; oy < t->out_h; ++oy, acc += gap / 4) {
        const uint32_t *x = t->x + oy * (t->down / 4);
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
    taps_with(t, t->pitch, t->stride, 0);
}

EDGELORA_HOT void edgelora_plane_s8(const edgelora_plane_t *p) {
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

EDGELORA_HOT void edgelora_strip_s8(const edgelora_strip_t *s) {
    edgelora_taps_t taps = {.x = s->x, .down = 4 * EDGELORA_STRIP_PITCH, .out_h = s->top + s->middle + s->bottom, .out_w = s->out_w, .acc = s->acc};
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

EDGELORA_HOT void edgelora_unpack_columns_s8(uint32_t *words, uint32_t stride, const uint8_t *from, uint32_t step, uint32_t groups, uint32_t flip) {
    uint32_t *columns[4] = {words, words + stride / 4, words + 2 * (stride / 4), words + 3 * (stride / 4)};
    for (uint32_t k = 0; k < 2 * groups; ++k, from += k & 1 ? step : 3 * step) { // rows 0 and 2 of a group, then 1 and 3
        uint32_t a = word_at(from) ^ flip, b = word_at(from + 2 * step) ^ flip;
        uint32_t low = (a & 0xFFFF) | b << 16, high = a >> 16 | (b & 0xFFFF0000u);
        columns[0][k] = evens(low);
        columns[1][k] = odds(low);
        columns[2][k] = evens(high);
        columns[3][k] = odds(high);
    }
}

EDGELORA_HOT void edgelora_mask_bytes_s8(uint8_t *mask, const int8_t *y, uint32_t bytes, int32_t from, uint32_t width) {
    for (; bytes; --bytes, y += 8) {
        uint32_t bits = 0;
        for (uint32_t k = 0; k < 8; ++k) {
            bits |= (uint32_t)((uint8_t)(y[k] - from) < width) << k;
        }
        *mask++ = (uint8_t)bits;
    }
}

#endif
