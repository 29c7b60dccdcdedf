// Dense layers whose weights are read ahead: while one block of rows is multiplied, the next one
// comes.
// SPDX-License-Identifier: MIT

#include "kernels/packed/read_ahead.h"

#ifdef EDGELORA_READS_AHEAD

// A block: weights, bias, multipliers, shifts of `rows` rows.
typedef struct {
    uint32_t *weights;
    uint32_t rows;
} block_t;

static inline int32_t *bias_of(const block_t *b, uint32_t inputs) {
    return (int32_t *)(void *)(b->weights + b->rows * inputs / 4);
}

// Copies what requantizes rows [o, o + rows), and starts to read their weights.
EDGELORA_HOT static void fill(
    const block_t *b, const edgelora_position_t *p, uint32_t inputs, uint32_t o) {
    int32_t *to = bias_of(b, inputs);
    int8_t *shift = (int8_t *)(to + 2 * b->rows);
    for (uint32_t i = 0; i < b->rows; ++i) {
        to[i] = p->bias[o + i];
        to[b->rows + i] = p->multiplier[o + i];
        shift[i] = p->shift[o + i];
    }
    edgelora_ahead_start(p->weights + o * inputs, b->weights, b->rows * inputs / 4);
}

EDGELORA_HOT bool edgelora_position_outputs_ahead_s8(
    const edgelora_position_t *rows, uint32_t inputs, uint32_t *blocks) {
    if (!edgelora_ahead_begin()) {
        return false;
    }
    edgelora_position_t p = *rows;
    uint32_t most = EDGELORA_AHEAD_BYTES / (inputs + 9);
    // a shift is a byte: rows of shifts need not end at a word
    most = most * (inputs + 8) + ((most + 3) & ~3u) > EDGELORA_AHEAD_BYTES ? most - 1 : most;
    block_t block = {blocks, most < rows->rows ? most : rows->rows}, next = block;
    fill(&block, rows, inputs, 0);
    edgelora_ahead_wait();
    for (uint32_t o = 0; o < rows->rows; o += block.rows, block = next) {
        uint32_t from = o + block.rows, left = rows->rows - from;
        if (left) {
            next.weights = blocks + (block.weights == blocks ? EDGELORA_AHEAD_BYTES / 4 : 0);
            next.rows = left < most ? left : most;
            fill(&next, rows, inputs, from);
        }
        p.weights = (const uint8_t *)block.weights;
        p.rows = block.rows;
        p.bias = bias_of(&block, inputs);
        p.multiplier = p.bias + block.rows;
        p.shift = (const int8_t *)(p.multiplier + block.rows);
        p.y = rows->y + o;
        edgelora_position_outputs_s8(&p);
        if (left) {
            edgelora_ahead_wait();
        }
    }
    edgelora_ahead_end();
    return true;
}

#else

bool edgelora_position_outputs_ahead_s8(
    const edgelora_position_t *rows, uint32_t inputs, uint32_t *blocks) {
    (void)rows;
    (void)inputs;
    (void)blocks;
    return false;
}

#endif
