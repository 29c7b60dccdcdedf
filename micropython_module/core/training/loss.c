// Losses in integers (SPEC.md, section 4).
// SPDX-License-Identifier: MIT

#include "graph.h"
#include "training/block.h"
#include "training/training.h"

enum { LN_2 = 2839 }; // 2^12 ln 2

// log2(v), Q12, v >= 1
EDGELORA_RAM static int32_t log2_q12(uint32_t v) {
    EDGELORA_ASSERT(v >= 1);
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

// exp(-d * scale), Q16, for d <= 255
EDGELORA_RAM static uint32_t exp_q16(const edgelora_model_t *model, uint32_t d) {
    EDGELORA_ASSERT(d <= 255);
    uint32_t w = 1u << 16;
    for (int j = 0; j < 8; ++j) {
        uint32_t smaller = (w * model->exp_table[j] + 32768u) >> 16;
        // without a branch on computers
        w = d >> j & 1 ? smaller : w;
    }
    return w;
}

// Q12: d * scale + log(v / 2^16) in nats; d * logit_scale <= 255 * 2^23
EDGELORA_RAM static int32_t nats(const edgelora_model_t *model, uint32_t d, uint32_t v) {
    return (int32_t)((d * model->logit_scale + 8) >> 4) +
        (((log2_q12(v) - 16 * 4096) * LN_2) >> 12);
}

static int32_t largest_logit(const int8_t *q, uint32_t n) {
    int32_t top = -128;
    for (uint32_t i = 0; i < n; ++i) {
        top = q[i] > top ? q[i] : top;
    }
    return top;
}

// Sum of exp(-(top - q) * scale) over q, s8 [n], Q16.
EDGELORA_RAM static uint32_t weight_sum(
    const edgelora_model_t *model, const int8_t *q, uint32_t n, int32_t top) {
    uint32_t sum = 0;
    for (uint32_t i = 0; i < n; ++i) {
        sum += exp_q16(model, (uint32_t)(top - q[i]));
    }
    return sum;
}

// w / sum, Q15; w: Q16, sum: Q16, at most 1024 * 2^16
static uint32_t probability(uint32_t w, uint32_t sum) {
    EDGELORA_ASSERT(sum && w <= 1u << 16 && sum <= (uint32_t)EDGELORA_MAX_SYMBOLS << 16);
    return ((w << 15) + sum / 2) / sum;
}

EDGELORA_RAM int32_t edgelora_logits_error(
    const edgelora_model_t *model, const int8_t *q, uint32_t n, uint32_t label, int32_t *error) {
    EDGELORA_ASSERT(label < n && n <= EDGELORA_MAX_SYMBOLS);
    int32_t top = largest_logit(q, n);
    uint32_t sum = 0, below = (uint32_t)(top - q[label]);
    for (uint32_t i = n; i-- > 0;) { // last first, as error may overlap q
        uint32_t w = exp_q16(model, (uint32_t)(top - q[i]));
        sum += w;
        error[i] = (int32_t)w;
    }
    for (uint32_t i = 0; i < n; ++i) {
        error[i] = (int32_t)probability((uint32_t)error[i], sum) - (i == label ? 32768 : 0);
    }
    return nats(model, below, sum);
}

EDGELORA_RAM static int32_t cross_entropy(const edgelora_model_t *model, const int8_t *q,
    uint32_t n, uint32_t label, int32_t *row, edgelora_block_t *e) {
    int32_t loss = edgelora_logits_error(model, q, n, label, row);
    for (uint32_t i = 0; i < n; ++i) {
        row[i] = edgelora_within_grid(row[i], q[i]);
    }
    edgelora_block_append(e, row, n);
    return loss;
}

// Cross-entropy at each position that has an id below the number of channels: the mean loss.
static int32_t cross_entropies(const edgelora_model_t *model, const edgelora_loss_input_t *input,
    int32_t *row, int8_t *e, int16_t *exponents) {
    uint32_t channels = input->channels, bytes = id_bytes(channels),
             positions = input->n / channels, rows = group_rows(model, positions);
    edgelora_block_t block = {0};
    uint32_t counted = 0, mean = 0, rest = 0; // the losses' sum is mean * counted + rest
    for (uint32_t p = 0; p < positions; ++p) {
        counted += id_at(input->target, bytes, p) < channels;
    }
    for (uint32_t p = 0; p < positions; ++p) {
        uint32_t id = id_at(input->target, bytes, p);
        if (p % rows == 0) {
            block = (edgelora_block_t){e + p * channels, 0, 0, model_rounds(model)};
        }
        if (id < channels) {
            uint32_t loss = (uint32_t)cross_entropy(
                model, input->q + p * channels, channels, id, row, &block);
            mean += loss / counted;
            rest += loss % counted;
        } else {
            for (uint32_t i = 0; i < channels; ++i) {
                row[i] = 0;
            }
            edgelora_block_append(&block, row, channels);
        }
        exponents[p / rows] = (int16_t)(block.shift - 15);
    }
    return (int32_t)(counted ? mean + rest / counted : 0);
}

// Sigmoid of a logit d, Q15; w = 2^16 + exp(-|d|), Q16
static int32_t sigmoid(int32_t d, uint32_t w) {
    int32_t positive = (int32_t)(0x80000000u / w); // [2^14, 2^15]
    return d >= 0 ? positive : 32768 - positive;
}

// Loss of a logit d = q - zp for target g in {0, 1}; p: sigmoid minus g, Q15
static int32_t binary_cross_entropy(
    const edgelora_model_t *model, int32_t d, int32_t g, int32_t *p) {
    uint32_t v = abs_u32(d), w = (1u << 16) + exp_q16(model, v);
    *p = sigmoid(d, w) - 32768 * g;
    return nats(model, (d > 0) != (g == 1) ? v : 0, w);
}

int32_t edgelora_logits_loss(
    const edgelora_model_t *model, const int8_t *q, uint32_t n, uint32_t label) {
    int32_t top = largest_logit(q, n);
    return nats(model, (uint32_t)(top - q[label]), weight_sum(model, q, n, top));
}

void edgelora_logits_probable(
    const edgelora_model_t *model, const int8_t *q, uint32_t n, int32_t zp, uint16_t *p) {
    bool binary = model->loss == EDGELORA_BINARY_CROSS_ENTROPY;
    int32_t top = largest_logit(q, n);
    uint32_t sum = binary ? 0 : weight_sum(model, q, n, top);
    for (uint32_t i = 0; i < n; ++i) {
        int32_t d = q[i] - zp;
        p[i] = (uint16_t)(binary ? (uint32_t)sigmoid(d, (1u << 16) + exp_q16(model, abs_u32(d)))
                                 : probability(exp_q16(model, (uint32_t)(top - q[i])), sum));
    }
}

EDGELORA_RAM int32_t edgelora_loss(const edgelora_model_t *model,
    const edgelora_loss_input_t *input, int32_t *row, int8_t *e, int16_t *exponents) {
    uint32_t n = input->n;
    edgelora_block_t block = {e, 0, 0, model_rounds(model)};
    if (model->loss == EDGELORA_CROSS_ENTROPY && n != input->channels) {
        return cross_entropies(model, input, row, e, exponents);
    }
    if (model->loss == EDGELORA_CROSS_ENTROPY) {
        int32_t loss = cross_entropy(model, input->q, n, input->label, row, &block);
        *exponents = (int16_t)(block.shift - 15);
        return loss;
    }
    bool binary = model->loss == EDGELORA_BINARY_CROSS_ENTROPY;
    uint32_t sum = 0; // nats, Q12, saturating at 2^31 - 1; squares: <= 2^16 * 255^2
    int32_t v[EDGELORA_PIECE];
    while (block.count < n) {
        uint32_t count = n - block.count < EDGELORA_PIECE ? n - block.count : EDGELORA_PIECE;
        for (uint32_t i = 0; i < count; ++i) {
            int32_t q = input->q[block.count + i], target = input->target[block.count + i];
            if (binary) {
                sum += (uint32_t)binary_cross_entropy(model, q - input->zp, target, &v[i]);
                v[i] = edgelora_within_grid(v[i], (int8_t)q);
                sum = sum > INT32_MAX ? INT32_MAX : sum;
            } else {
                v[i] = q - target;
                sum += (uint32_t)(v[i] * v[i]);
            }
        }
        edgelora_block_append(&block, v, count);
    }
    *exponents = (int16_t)(block.shift - (binary ? 15 : 0));
    return (int32_t)(binary ? sum : sum / n * 16 + sum % n * 16 / n);
}
