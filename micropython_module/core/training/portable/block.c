// Values of error blocks.
// SPDX-License-Identifier: MIT

#include "training/store.h"

#ifndef __ARM_ARCH_6M__

#define STORE_VALUE(offset) \
    { \
        int32_t sign = *v >> 31; \
        uint32_t magnitude = ((uint32_t)((*v++ ^ sign) - sign) + (offset)) >> shift; \
        bits |= magnitude; \
        *q = (int8_t)(((int32_t)magnitude ^ sign) - sign); \
        q += step; \
    }

EDGELORA_KERNEL uint32_t edgelora_block_store(int8_t *q, uint32_t step, const int32_t *v,
    uint32_t n, int32_t shift, uint32_t offset, uint32_t next) {
    uint32_t bits = 0;
    const int32_t *end = v + n;
    if (n & 1) {
        uint32_t now = offset;
        STORE_VALUE(offset)
        offset = next;
        next = now;
    }
    while (v != end) {
        STORE_VALUE(offset)
        STORE_VALUE(next)
    }
    return bits;
}
#undef STORE_VALUE

#endif
