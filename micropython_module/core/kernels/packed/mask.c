// Which outputs pass gradient. SPDX-License-Identifier: MIT

#include "kernels/packed/parts.h"

EDGELORA_HOT void edgelora_mask_packed_s8(
    const int8_t *y, uint32_t count, int32_t low, int32_t high, uint8_t *mask) {
    uint32_t whole = count >> 3, width = high > low + 1 ? (uint32_t)(high - low - 1) : 0, rest = 0;
    if (whole) {
        edgelora_mask_bytes_s8(mask, y, whole, low + 1, width);
    }
    for (uint32_t i = 8 * whole; i < count; ++i) {
        rest |= (uint32_t)(y[i] > low && y[i] < high) << (i & 7);
    }
    if (count & 7) {
        mask[whole] = (uint8_t)rest;
    }
}

// 255 in the bytes whose bits are set, of 4.
static inline uint32_t bytes_of_bits(uint32_t bits) {
    uint32_t ones = bits * 0x00204081u & 0x01010101u;
    return (ones << 8) - ones;
}

EDGELORA_HOT void edgelora_mask_backward_packed_s8(int8_t *e, uint32_t count, const uint8_t *mask) {
    uint32_t *word = (uint32_t *)(void *)e; // an error buffer is 4-aligned
    for (const uint8_t *end = mask + count / 8; mask != end; word += 2) {
        uint32_t bits = *mask++;
        word[0] &= bytes_of_bits(bits & 15);
        word[1] &= bytes_of_bits(bits >> 4);
    }
    e += count & ~7u;
    for (uint32_t i = 0; i < (count & 7); ++i) {
        if (!(*mask >> i & 1)) {
            e[i] = 0;
        }
    }
}
