// Sum of rows of weights, each times one value.
// SPDX-License-Identifier: MIT

#include "kernels/packed/portable/portable.h"

#ifndef EDGELORA_M0PLUS

// Sums of words with two products each, of bytes 0 and 2 or 1 and 3, and sums of their upper
// halves.
typedef struct {
    uint32_t even, odd, even_high, odd_high;
} pair_sums_t;

static inline void add_pairs(pair_sums_t *sum, const edgelora_row_t *row, const edgelora_row_t *end,
    uint32_t i, uint32_t coding) {
    const uint32_t mask = 0x00FF00FF;
    for (; row != end; row += 2) {
        uint32_t a = word_at(row[0].row + i) ^ coding, b = word_at(row[1].row + i) ^ coding,
                 even = (a & mask) * row[0].value + (b & mask) * row[1].value,
                 odd = (a >> 8 & mask) * row[0].value + (b >> 8 & mask) * row[1].value;
        sum->even += even;
        sum->odd += odd;
        sum->even_high += even >> 16;
        sum->odd_high += odd >> 16;
    }
}

EDGELORA_HOT void edgelora_add_rows_s8(const edgelora_rows_t *r) {
    EDGELORA_ASSERT(r->columns && r->columns % 4 == 0);
    EDGELORA_ASSERT((r->plus_end - r->plus) % 2 == 0 && (r->minus_end - r->minus) % 2 == 0);
    uint32_t *acc = (uint32_t *)(void *)r->acc, offset = (uint32_t)r->offset;
    for (uint32_t i = 0; i < r->columns; i += 4, acc += 4) {
        pair_sums_t plus = {0}, minus = {0};
        add_pairs(&plus, r->plus, r->plus_end, i, r->coding);
        add_pairs(&minus, r->minus, r->minus_end, i, r->coding);
        uint32_t even_high = plus.even_high - minus.even_high,
                 odd_high = plus.odd_high - minus.odd_high;
        acc[0] += plus.even - minus.even - (even_high << 16) - offset;
        acc[1] += plus.odd - minus.odd - (odd_high << 16) - offset;
        acc[2] += even_high - offset;
        acc[3] += odd_high - offset;
    }
}

#endif
