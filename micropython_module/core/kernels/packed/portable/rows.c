// Rows of weights, each times one value: their sum. SPDX-License-Identifier: MIT

#include "kernels/packed/portable/portable.h"

#ifndef EDGELORA_M0PLUS

EDGELORA_HOT void edgelora_add_rows_s8(int32_t *acc, uint32_t columns, const edgelora_row_t *rows,
    const edgelora_row_t *end, int32_t low, uint32_t coding) {
    const uint32_t mask = 0x00FF00FF;
    for (uint32_t i = 0; i < columns; i += 4, acc += 4) {
        uint32_t s0 = (uint32_t)(acc[0] - low), s1 = (uint32_t)(acc[1] - low);
        int32_t s2 = acc[2], s3 = acc[3];
        for (const edgelora_row_t *r = rows; r != end;) {
            uint32_t even = (uint32_t)r->value, odd = even;
            const edgelora_row_t *next = r + 1 + group_rows(r);
            for (++r; r != next; ++r) {
                uint32_t four = word_at((const uint8_t *)r->row + i) ^ coding;
                even += (four & mask) * (uint32_t)r->value;
                odd += (four >> 8 & mask) * (uint32_t)r->value;
            }
            s0 += even & 0xFFFF;
            s1 += odd & 0xFFFF;
            s2 += (int32_t)even >> 16;
            s3 += (int32_t)odd >> 16;
        }
        acc[0] = (int32_t)s0;
        acc[1] = (int32_t)s1;
        acc[2] = s2;
        acc[3] = s3;
    }
}

#endif
