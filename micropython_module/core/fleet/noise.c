// Discrete Gaussian noise, exact and in integers, after Canonne, Kamath and Steinke (2020):
// rejection sampling from a discrete Laplace distribution. Here the Laplace's scale t is a power
// of two, so that its lower part is uniform bits; Bernoulli draws compare the first digits of a
// uniform number, mostly one digit, without division.
// SPDX-License-Identifier: MIT

#include "fleet/internal.h"

enum { DIGIT_BITS = 8, DIGITS = 64 };  // per block

void edgelora_digits_begin(edgelora_digits_t *d, const uint8_t key[32]) {
    const uint8_t nonce[12] = {0};
    edgelora_chacha20_begin(&d->stream, key, nonce, 0);
    d->at = DIGITS;
}

static uint32_t next_digit(edgelora_digits_t *d) {
    if (d->at == DIGITS) {
        edgelora_chacha20_block(&d->stream, d->block);
        // rejections: the number of draws depends on the noise (SPEC.md, section 17)
        EDGELORA_DECLASSIFY(d->block);
        d->at = 0;
    }
    return ((const uint8_t *)d->block)[d->at++]; // all boards are little-endian
}

// True with probability a / d; 0 < a < d < 2^24.
static bool short_chance(edgelora_digits_t *digits, uint32_t a, uint32_t d) {
    EDGELORA_ASSERT(a && a < d && d < 1u << 24);
    for (;;) {
        uint32_t below = next_digit(digits) * d;
        a <<= DIGIT_BITS;
        if (below + d <= a) {
            return true;
        }
        if (below > a) {
            return false;
        }
        a -= below;
    }
}

// True with probability a / d; a <= d < 2^55. Compares a uniform number with a / d digit by
// digit, until one differs.
static bool chance(edgelora_digits_t *digits, uint64_t a, uint64_t d) {
    EDGELORA_ASSERT(a <= d && d < (uint64_t)1 << 55);
    if (a == 0 || a == d) {
        return a != 0;
    }
    if (d >> 24 == 0) {
        return short_chance(digits, (uint32_t)a, (uint32_t)d);
    }
    for (;;) {
        uint64_t below = next_digit(digits) * d;
        a <<= DIGIT_BITS;
        if (below + d <= a) {
            return true;
        }
        if (below > a) {
            return false;
        }
        a -= below;
    }
}

// True with probability e^(-a / d); a <= d < 2^32.
static bool decay(edgelora_digits_t *digits, uint32_t a, uint32_t d) {
    uint64_t times = d;
    bool odd = true;
    while (chance(digits, a, times)) {
        times += d;
        odd = !odd;
    }
    return odd;
}

// True with probability e^(-x^2 / 2), x = a / d < 1.
static bool half_square(edgelora_digits_t *digits, uint32_t a, uint32_t d) {
    EDGELORA_ASSERT(a < d);
    uint64_t times = 2 * (uint64_t)d;
    bool odd = true;
    while (chance(digits, a, d) && chance(digits, a, times)) {
        times += 2 * (uint64_t)d;
        odd = !odd;
    }
    return odd;
}

// True with probability e^(-(q + r / d)^2 / 2), computed as a product.
static bool accepted(edgelora_digits_t *digits, uint32_t q, uint32_t r, uint32_t d) {
    for (uint32_t i = 0; i < q * q; ++i) {
        if (!decay(digits, 1, 2)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < q; ++i) {
        if (!decay(digits, r, d)) {
            return false;
        }
    }
    return half_square(digits, r, d);
}

// sigma: 1 to 65535; scale: the power of two nearest to it, 1 to 65536.
static int32_t draw(edgelora_digits_t *digits, uint32_t sigma, uint32_t scale) {
    EDGELORA_ASSERT(
        sigma >= 1 && sigma <= 65535 && scale && !(scale & (scale - 1)) && scale <= 65536);
    uint32_t d = sigma * scale; // below 2^32
    for (;;) {
        uint32_t low, high = 0;
        do {
            low = next_digit(digits);
            low |= scale > 1 << DIGIT_BITS ? next_digit(digits) << DIGIT_BITS : 0;
            low &= scale - 1;
        } while (!decay(digits, low, scale));
        while (decay(digits, 1, 1)) {
            ++high;
        }
        uint32_t size = low + high * scale;
        bool minus = next_digit(digits) & 1;
        if (minus && size == 0) {
            continue;
        }
        int64_t off = (int64_t)((uint64_t)size * scale) - (int64_t)((uint64_t)sigma * sigma);
        uint64_t rest = (uint64_t)(off < 0 ? -off : off);
        uint32_t q = 0;
        for (; rest >= d; rest -= d) {
            ++q;
        }
        if (accepted(digits, q, (uint32_t)rest, d)) {
            return minus ? -(int32_t)size : (int32_t)size;
        }
    }
}

void edgelora_digits_add_noise(
    edgelora_digits_t *digits, uint32_t sigma, int32_t *values, uint32_t n) {
    uint32_t scale = 1;
    while (2 * (uint64_t)scale * scale < (uint64_t)sigma * sigma) {
        scale *= 2;
    }
    for (uint32_t i = 0; sigma && i < n; ++i) {
        values[i] += draw(digits, sigma, scale);
    }
}

void edgelora_fleet_noise(const uint8_t key[32], uint32_t sigma, int32_t *values, uint32_t n) {
    edgelora_digits_t digits;
    edgelora_digits_begin(&digits, key);
    edgelora_digits_add_noise(&digits, sigma, values, n);
    edgelora_wipe(&digits, sizeof digits);
}
