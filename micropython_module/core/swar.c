// The primitives of the fast kernels in plain C. SPDX-License-Identifier: MIT

#include "swar.h"

#if !defined(__ARM_ARCH_6M__) || defined(EDGELORA_PLAIN)

// a * c + b * d of w = a + b * 2^16, x = c * 2^16 + d
static inline int32_t dot2(uint32_t w, uint32_t x) {
    uint32_t product = w * x;
    return ((int32_t)product >> 16) + (int32_t)(product >> 15 & 1);
}

static inline uint32_t pair(int32_t low, int32_t high) {
    return (uint32_t)low + ((uint32_t)high << 16);
}

// Weight word k of a row: E of group k / 2 for even k, else O.
static inline uint32_t weight_word(const void *weights, uint32_t flip, uint32_t k) {
    if (flip == 1) {
        return ((const uint32_t *)weights)[k];
    }
    const uint8_t *w = (const uint8_t *)weights + (k >> 1) * 4 + (k & 1);
    return pair((int32_t)(w[0] ^ (flip & 0x80)) - 128, (int32_t)(w[2] ^ (flip & 0x80)) - 128);
}

static void pack(uint32_t *e, const int8_t *x, uint32_t groups, uint32_t o, uint32_t step) {
    for (; groups; --groups, x += 4, e += step) {
        e[0] = pair(x[2], x[0]);
        e[o] = pair(x[3], x[1]);
    }
}

void edgelora_pack_quad_s8(uint32_t *quad, const int8_t *x, uint32_t groups) {
    pack(quad, x, groups, 4, 8);
}

void edgelora_pack_quads_s8(uint32_t *quad, uint32_t stride, const int8_t *x, uint32_t positions, uint32_t groups) {
    for (uint32_t p = 0; p < positions; ++p) {
        edgelora_pack_quad_s8(quad + (p >> 2) * (stride / 4) + (p & 3), x + 4 * p * groups, groups);
    }
}

void edgelora_low_row_s8(int8_t *t, uint32_t step, const int32_t *acc, uint32_t count, int32_t shift) {
    for (uint32_t i = 0; i < count; ++i) {
        t[i * step] = (int8_t)clamp_s32(round_shift(acc[i], shift), -127, 127);
    }
}

void edgelora_pack_row_s8(uint32_t *pairs, const int8_t *x, uint32_t groups) {
    pack(pairs, x, groups, 1, 2);
}

static void one_row(const edgelora_row_t *row, const void *weights, int32_t bias, const uint32_t *up_words, int32_t *acc) {
    const uint32_t *x = row->x;
    for (const int32_t *end = acc + row->count; acc < end; acc += 4) {
        int32_t up[4] = {0};
        for (uint32_t k = 0; k < 2 * row->up_groups; ++k, x += 4) {
            for (uint32_t p = 0; p < 4; ++p) {
                up[p] += dot2(up_words[k], x[p]);
            }
        }
        for (uint32_t p = 0; p < 4; ++p) {
            uint32_t low = row->up_groups ? (uint32_t)round_shift(up[p], row->up_shift) : 0;
            acc[p] = row->add ? acc[p] : (int32_t)((uint32_t)bias + low);
        }
        for (uint32_t k = 0; k < 2 * row->groups; ++k, x += 4) {
            uint32_t w = weight_word(weights, row->flip, k);
            for (uint32_t p = 0; p < 4; ++p) {
                acc[p] += dot2(w, x[p]);
            }
        }
        x = (const uint32_t *)(const void *)((const uint8_t *)x + row->skip);
    }
}

void edgelora_row_s8(const edgelora_row_t *row) {
    const uint8_t *weights = row->weights;
    uint32_t step = row->groups * (row->flip == 1 ? 8 : 4) + row->gap;
    for (uint32_t r = 0; r < row->rows; ++r, weights += step) {
        const uint32_t *up = row->up_groups ? row->up + r * 2 * row->up_groups : 0;
        one_row(row, weights, row->add ? 0 : row->bias[r], up, row->acc + r * row->count);
    }
}

static inline int8_t output(int32_t acc, int32_t multiplier, int n, int32_t zero_point, int32_t low, int32_t high) {
    return (int8_t)clamp_s32(requantize(acc, multiplier, -n) + zero_point, low, high);
}

void edgelora_requantize_rows_s8(const edgelora_output_t *o) {
    for (uint32_t r = 0; r < o->rows; ++r) {
        const int32_t *acc = o->acc + r * ((o->count + 3) & ~3u);
        for (uint32_t i = 0; i < o->count; ++i) {
            o->y[i * o->step + r] = output(acc[i], o->multiplier[r], -o->shift[r], o->zero_point, o->low, o->high);
        }
    }
}

void edgelora_rows_s8(const edgelora_rows_t *r) {
    for (uint32_t i = 0; i < r->rows; ++i) {
        int32_t acc = r->bias[i];
        for (uint32_t k = 0; k < 4 * r->pairs; ++k) {
            if (r->x[k]) { // what is beside the row may not be there at all
                acc += dot2(weight_word(r->weights + i * r->step, 0, k), r->x[k]);
            }
        }
        r->y[i] = output(acc, r->multiplier[i], -r->shift[i], r->zero_point, r->low, r->high);
    }
}

void edgelora_taps_s8(const edgelora_taps_t *t) {
    uint32_t pitch = t->pitch / 4;
    for (uint32_t oy = 0; oy < t->out_h; ++oy) {
        for (uint32_t ox = 0; ox < t->out_w; ++ox) {
            const uint32_t *x = t->x + oy * (t->down / 4) + ox * t->stride;
            int32_t acc = t->bias;
            for (uint32_t k = 0; k < 3; ++k, x += pitch) {
                acc += dot2(t->w[2 * k], x[0]) + dot2(t->w[2 * k + 1], x[2]);
            }
            t->acc[oy * t->out_w + ox] = acc;
        }
    }
}

void edgelora_plane_s8(const edgelora_plane_t *p) {
    uint32_t *plane = p->plane;
    const int8_t *x = p->x;
    for (uint32_t r = 0; r < p->rows; ++r, plane += p->pitch / 4, x += p->row) {
        plane[-1] = pair(*x, p->edge);
        for (uint32_t i = 0; i < p->n; ++i) {
            plane[i] = pair(i + 1 < p->n ? x[(i + 1) * p->step] : p->edge, x[i * p->step]);
        }
    }
}

static void strip_channel(const edgelora_strip_t *s, const uint8_t *weights, int32_t from_bias, int32_t *acc) {
    const uint32_t *x = s->x;
    int32_t w[9];
    for (uint32_t k = 0; k < 9; ++k) {
        w[k] = weights[k * s->step] - 128;
    }
    for (uint32_t oy = 0; oy < s->top + s->middle + s->bottom; ++oy, x += EDGELORA_STRIP_PITCH, acc += s->gap / 4) {
        uint32_t first = oy < s->top, last = oy >= s->top + s->middle;
        int32_t bias = from_bias + (first ? s->zero_point * (w[0] + w[1] + w[2]) : 0) + (last ? s->zero_point * (w[6] + w[7] + w[8]) : 0);
        for (uint32_t ox = 0; ox < s->out_w; ++ox) {
            *acc = bias;
            for (uint32_t k = first; k < 3 - last; ++k) {
                const uint32_t *in = x + k * EDGELORA_STRIP_PITCH + ox;
                *acc += dot2(pair(w[3 * k], w[3 * k + 1]), in[0]) + dot2((uint32_t)w[3 * k + 2], in[2]);
            }
            ++acc;
        }
    }
}

void edgelora_strip_s8(const edgelora_strip_t *s) {
    for (uint32_t c = 0; c < s->channels; ++c) {
        if (s->plane) {
            edgelora_plane_s8(s->plane);
            ++s->plane->x;
        }
        strip_channel(s, s->weights + c, s->bias[c], s->acc + c * (s->acc_step / 4));
    }
}

void edgelora_unpack_columns_s8(uint32_t *words, uint32_t stride, const uint8_t *from, uint32_t step, uint32_t groups, uint32_t flip) {
    for (; groups; --groups, words += 2, from += 4 * step) {
        for (uint32_t c = 0; c < 4; ++c) {
            int32_t v[4];
            for (uint32_t k = 0; k < 4; ++k) {
                v[k] = (int32_t)(from[k * step + c] ^ (flip & 0x80)) - 128;
            }
            words[c * (stride / 4)] = pair(v[0], v[2]);
            words[c * (stride / 4) + 1] = pair(v[1], v[3]);
        }
    }
}

void edgelora_mask_bytes_s8(uint8_t *mask, const int8_t *y, uint32_t bytes, int32_t from, uint32_t width) {
    for (; bytes; --bytes, y += 8) {
        uint32_t bits = 0;
        for (uint32_t k = 0; k < 8; ++k) {
            bits |= (uint32_t)((uint8_t)(y[k] - from) < width) << k;
        }
        *mask++ = (uint8_t)bits;
    }
}

#endif
