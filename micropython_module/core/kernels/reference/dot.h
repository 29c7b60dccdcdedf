// The inner products everything is made of. SPDX-License-Identifier: MIT

#ifndef EDGELORA_DOT_H
#define EDGELORA_DOT_H

#include "kernels/packed/pair.h"

// acc[k] += rows[k * n ..] . (x - zp) for 4 rows of n elements; n >= 1. x, rows: s8; |acc| stays below 2^31.
void edgelora_dot4_s8(const int8_t *rows, uint32_t n, const int8_t *x, int32_t zp, int32_t *acc);

// acc[k] += rows[k * n ..] . (x - zp) for any number of rows
static inline void dot_rows_s8(const int8_t *rows, uint32_t count, uint32_t n, const int8_t *x, int32_t zp, int32_t *acc) {
    for (; count >= 4; count -= 4, rows += 4 * n, acc += 4) {
        edgelora_dot4_s8(rows, n, x, zp, acc);
    }
    for (; count; --count, rows += n, ++acc) {
        for (uint32_t i = 0; i < n; ++i) {
            *acc += rows[i] * (x[i] - zp);
        }
    }
}

#endif
