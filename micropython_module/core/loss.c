// Softmax cross-entropy in integers (SPEC.md, section 4). SPDX-License-Identifier: MIT

#include "internal.h"

// Q12, v >= 1
static int32_t log2_q12(uint32_t v) {
    int n = bit_length(v) - 1;
    uint32_t m = n > 15 ? v >> (n - 15) : v << (15 - n); // [2^15, 2^16)
    uint32_t bits = 0;
    for (int i = 0; i < 12; ++i) {
        m = (m * m) >> 15;
        bits <<= 1;
        if (m >> 16) {
            bits |= 1;
            m >>= 1;
        }
    }
    return (int32_t)(((uint32_t)n << 12) + bits);
}

int32_t edgelora_cross_entropy(
    const edgelora_model_t *model, const int8_t *logits, uint32_t n, uint32_t label, int32_t *row, int8_t *e, int32_t *exponent, bool *any) {
    int32_t top = -128;
    for (uint32_t i = 0; i < n; ++i) {
        top = logits[i] > top ? logits[i] : top;
    }
    uint32_t sum = 0; // <= 256 * 2^16
    for (uint32_t i = 0; i < n; ++i) {
        uint32_t d = (uint32_t)(top - logits[i]), w = 1u << 16;
        for (int j = 0; j < 8; ++j) {
            if (d >> j & 1) {
                w = (w * model->exp_table[j] + 32768u) >> 16;
            }
        }
        row[i] = (int32_t)w;
        sum += w;
    }
    for (uint32_t i = 0; i < n; ++i) {
        uint32_t p = (((uint32_t)row[i] << 15) + sum / 2) / sum;
        row[i] = (int32_t)p - (i == label ? 32768 : 0);
    }
    edgelora_block_t block = {e, 0, 0, false};
    edgelora_block_append(&block, row, n);
    *exponent = block.shift - 15;
    *any = block.any;
    uint32_t distance = (uint32_t)(top - logits[label]) * model->logit_scale;
    return (int32_t)((distance + 8) >> 4) + (((log2_q12(sum) - 16 * 4096) * 2839) >> 12);
}
