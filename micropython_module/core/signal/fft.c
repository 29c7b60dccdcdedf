// A real FFT of 512 points in 16 bits, bit-exact with kissfft in TFLite Micro's front end.
// SPDX-License-Identifier: MIT

#include "fixed.h"
#include "signal/internal.h"
#include "signal/tables.h"

typedef struct {
    int32_t r, i;
} point_t;

// x / 4 and x / 2 of s16, as products with 32767 / 4 and 32767 / 2: |.| <= 8191, 16383
static inline int32_t quarter(int32_t x) {
    return (x * 8191 + (1 << 14)) >> 15;
}

static inline int32_t half(int32_t x) {
    return (x * 16383 + (1 << 14)) >> 15;
}

static inline void put(word_t *x, int32_t r, int32_t i) {
    x->point.r = (int16_t)r;
    x->point.i = (int16_t)i;
}

// Butterflies without rotation (the twiddle (32767, 0) does not change |x| <= 8191): those of the
// first stage and the first of each group. Inputs are `apart` words apart, shifted left by `shift`.
EDGELORA_KERNEL static void plain(word_t *x, uint32_t apart, int shift) {
    for (const word_t *end = x + FFT_POINTS; x < end; x += 4 * apart) {
        int32_t r[4], i[4];
        for (uint32_t k = 0; k < 4; ++k) {
            uint32_t word = x[k * apart].energy;
            r[k] = quarter((int16_t)(word << shift));
            i[k] = quarter((int32_t)(word >> 16 << 16 << shift) >> 16);
        }
        put(x, r[0] + r[2] + r[1] + r[3], i[0] + i[2] + i[1] + i[3]);
        put(x + 2 * apart, r[0] + r[2] - r[1] - r[3], i[0] + i[2] - i[1] - i[3]);
        put(x + apart, r[0] - r[2] + i[1] - i[3], i[0] - i[2] - r[1] + r[3]);
        put(x + 3 * apart, r[0] - r[2] - i[1] + i[3], i[0] - i[2] + r[1] - r[3]);
    }
}

// x e^(-i a) / 4 with the Q15 cosine and sine of a
static inline point_t turned(word_t x, int32_t cosine, int32_t sine) {
    int32_t r = quarter((int16_t)x.energy), i = quarter((int32_t)x.energy >> 16);
    return (point_t){
        (r * cosine + i * sine + (1 << 14)) >> 15, (i * cosine - r * sine + (1 << 14)) >> 15};
}

// The remaining butterflies, which combine transforms of m points into transforms of 4 m. Sums wrap
// around to 16 bits.
EDGELORA_KERNEL static void turning(word_t *words, uint32_t m, uint32_t turn) {
    const int16_t *sine = edgelora_sines, *cosine = edgelora_sines + 128;
    for (uint32_t k = 1, at = turn; k < m; ++k, at += turn) {
        int32_t c1 = cosine[at], s1 = sine[at], c2 = cosine[2 * at], s2 = sine[2 * at],
                c3 = cosine[3 * at], s3 = sine[3 * at];
        for (word_t *x = words + k; x < words + FFT_POINTS; x += 4 * m) {
            word_t *x1 = x + m, *x2 = x1 + m, *x3 = x2 + m;
            int32_t r = quarter((int16_t)x->energy), i = quarter((int32_t)x->energy >> 16);
            point_t c = turned(*x2, c2, s2), even = {r + c.r, i + c.i}, across = {r - c.r, i - c.i};
            point_t b = turned(*x1, c1, s1), d = turned(*x3, c3, s3);
            r = b.r + d.r, i = b.i + d.i;
            put(x, even.r + r, even.i + i);
            put(x2, even.r - r, even.i - i);
            r = b.r - d.r, i = b.i - d.i;
            put(x1, across.r + i, across.i - r);
            put(x3, across.r - i, across.i + r);
        }
    }
}

static inline uint32_t energy(int32_t r, int32_t i) {
    return (uint32_t)(r * r) + (uint32_t)(i * i);
}

// Converts the transform of 256 complex values to the energies of the transform of 512 real values.
EDGELORA_KERNEL static void unpack(word_t *x, uint32_t first) {
    const int16_t *sine = edgelora_sines + first;
    word_t *low = x + first, *high = x + FFT_POINTS - first;
    for (; low <= high; ++low, --high, ++sine) {
        int32_t ar = half((int16_t)low->energy), ai = half((int32_t)low->energy >> 16);
        int32_t br = half((int16_t)high->energy),
                bi = half((int16_t)-high->point.i); // -(-32768) is -32768
        int32_t sum_r = ar + br, sum_i = ai + bi, r = ar - br, i = ai - bi; // s16
        int32_t s = sine[0], c = sine[128];
        int32_t turned_r = (int16_t)((i * c - r * s + (1 << 14)) >> 15);
        int32_t turned_i = (int16_t)((-i * s - r * c + (1 << 14)) >> 15);
        low->energy = energy((sum_r + turned_r) >> 1, (sum_i + turned_i) >> 1);
        high->energy = energy((sum_r - turned_r) >> 1, (turned_i - sum_i) >> 1);
    }
}

void edgelora_fft_energies(word_t *words, int shift, uint32_t first) {
    plain(words, 1, shift);
    for (uint32_t m = 4; m < FFT_POINTS; m *= 4) { // joins transforms of m points
        plain(words, m, 0);
        turning(words, m, 2 * (FFT_POINTS / 4 / m));
    }
    unpack(words, first);
}
