// Masks of outputs that pass gradient.
// SPDX-License-Identifier: MIT

#include "kernels/packed/internal.h"

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

EDGELORA_HOT void edgelora_mask_backward_packed_s8(int8_t *e, uint32_t count, const uint8_t *mask) {
    uint32_t whole = count >> 3;
    if (whole) {
        edgelora_apply_mask_s8(e, mask, whole);
    }
    for (uint32_t i = 8 * whole; i < count; ++i) {
        if (!(mask[whole] >> (i & 7) & 1)) {
            e[i] = 0;
        }
    }
}
