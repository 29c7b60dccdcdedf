// Clips an update to a bounded norm. Constant time: no branch and no address depends on a value or
// on the norm.
// SPDX-License-Identifier: MIT

#include "fleet/fleet.h"
#include "words.h"

enum { MOST_BITS = 48 };  // bits of a sum of squares: 65536 values within +-65535

// ceil(sqrt(value)) of a value below 2^MOST_BITS
static uint32_t root_up(uint64_t value) {
    uint64_t root = 0, rest = value;
    for (uint64_t bit = (uint64_t)1 << (MOST_BITS - 2); bit; bit >>= 2) {
        uint64_t left = edgelora_difference64(rest, root | bit);  // root is a multiple of 4 bit
        uint32_t less = edgelora_mask_of((uint32_t)(left >> 63));
        uint64_t mask = (uint64_t)less << 32 | less;
        root = root >> 1 | (bit & ~mask);
        rest = (left & ~mask) | (rest & mask);
    }
    uint32_t any = (uint32_t)rest | (uint32_t)(rest >> 32);
    return (uint32_t)root + ((any | (0 - any)) >> 31);
}

// min(2^16, floor(2^16 clip / norm)); clip: 1 to 65535, norm: 0 to 2^24. Bit by bit: division by
// the core or compiler may take data-dependent time.
static uint32_t factor_of(uint32_t clip, uint32_t norm) {
    uint32_t quotient = 0, rest = clip;
    uint32_t over = edgelora_mask_of(
        (clip - norm) >> 31);  // norm > clip, and the quotient is below 2^16
    for (uint32_t i = 0; i < 16; ++i) {
        uint32_t left = 2 * rest - norm;
        uint32_t less = edgelora_mask_of(left >> 31);
        quotient = 2 * quotient | (~less & 1);
        rest = (left & ~less) | (2 * rest & less);
    }
    return (quotient & over) | ((uint32_t)1 << 16 & ~over);
}

void edgelora_fleet_update(
    const int16_t *before, const int16_t *after, uint32_t n, uint32_t clip, int32_t *out) {
    uint64_t squares = 0;
    for (uint32_t i = 0; i < n; ++i) {
        int32_t d = after[i] - before[i];  // within +-65535
        squares = edgelora_sum64(
            squares, (uint32_t)d * (uint32_t)d);  // below 2^32, whatever its sign
        out[i] = d;
    }
    uint32_t factor = factor_of(clip, root_up(squares)); // Q16; 2^16 leaves the update unchanged
    for (uint32_t i = 0; i < n; ++i) {
        uint32_t minus = edgelora_mask_of((uint32_t)out[i] >> 31);
        uint32_t size = ((uint32_t)out[i] ^ minus) - minus;
        uint32_t scaled = size * factor >> 16; // below 2^32; truncation can only shorten
        out[i] = (int32_t)((scaled ^ minus) - minus);
    }
}
