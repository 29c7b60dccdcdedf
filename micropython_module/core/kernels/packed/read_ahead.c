// Layers of one position whose weights are read ahead: while one block of rows is multiplied, the
// next one comes.
// SPDX-License-Identifier: MIT

#include "kernels/packed/read_ahead.h"

#ifdef EDGELORA_READS_AHEAD

enum {
    FIRST_ROWS = 4, // of the first block: nothing is computed while it comes
    BLOCK_ROWS = 16, // of the largest: each is a quarter larger than the one before
    SCALED_BLOCKS = 4, // of the largest, whose biases, multipliers and shifts come at a time
};

EDGELORA_HOT static void read_now(const void *from, void *to, uint32_t words) {
    edgelora_ahead_start(from, to, words);
    edgelora_ahead_wait();
}

// Reads what makes outputs of `count` rows from o on, a multiple of 4, but not a bias in RAM.
EDGELORA_HOT static void read_scales(edgelora_position_t *p, const edgelora_position_t *all,
    uint32_t o, uint32_t count, uint32_t *to) {
    p->bias = all->bias + o;
    if (edgelora_ahead_reads(p->bias)) {
        read_now(p->bias, to, count);
        p->bias = (const int32_t *)to;
        to += count;
    }
    read_now(all->multiplier + o, to, count);
    p->multiplier = (const int32_t *)to;
    to += count;
    read_now(all->shift + o, to, (count + 3) / 4);
    p->shift = (const int8_t *)to;
}

EDGELORA_HOT bool edgelora_position_outputs_ahead_s8(
    const edgelora_position_t *all, uint32_t *scratch) {
    if (!edgelora_ahead_begin()) {
        return false;
    }
    uint32_t most = at_most(
        2 * EDGELORA_AHEAD_BYTES / (2 * all->step + 9 * SCALED_BLOCKS), BLOCK_ROWS);
    uint32_t words = most * all->step / 4, *block[2] = {scratch, scratch + words},
             *scales = scratch + 2 * words;
    edgelora_position_t p = *all;
    uint32_t size = at_most(most, FIRST_ROWS), next = at_most(all->rows, size), scaled = 0;
    read_now(all->weights, block[0], next * all->step / 4);
    for (uint32_t k = 0, o = 0; next; ++k) {
        if (o == scaled) {
            scaled += SCALED_BLOCKS * most;
            read_scales(&p, all, o, at_most(all->rows, scaled) - o, scales);
        }
        p.rows = next;
        p.weights = (const uint8_t *)block[k & 1];
        p.y = all->y + o;
        p.values = all->values ? all->values + o : 0;
        o += p.rows;
        size = at_most(size + size / 4, most);
        next = at_most(at_most(all->rows - o, size), o < scaled ? scaled - o : size);
        if (next) {
            edgelora_ahead_start(all->weights + o * all->step, block[~k & 1], next * all->step / 4);
        }
        edgelora_position_outputs_s8(&p);
        p.bias += p.rows;
        p.multiplier += p.rows;
        p.shift += p.rows;
        if (next) {
            edgelora_ahead_wait();
        }
    }
    edgelora_ahead_end();
    return true;
}

#else

bool edgelora_position_outputs_ahead_s8(const edgelora_position_t *all, uint32_t *scratch) {
    (void)all;
    (void)scratch;
    return false;
}

#endif
