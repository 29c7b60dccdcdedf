// Weights that are read once a pass, copied to RAM ahead of their use, on chips whose flash is
// slower than their core.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_READ_AHEAD_H
#define EDGELORA_READ_AHEAD_H

#include "kernels/packed/internal.h"

enum {
    EDGELORA_AHEAD_BYTES = 2048, // half of the scratch: two blocks, and what makes outputs of them
    EDGELORA_AHEAD_LEAST = 4096, // bytes of weights; fewer stay in a cache
};

// Bytes of scratch for two blocks of rows of a layer with one position; 0: it does not read ahead,
// also where its other scratch leaves no room for them. The same on every machine.
static inline uint32_t edgelora_ahead_scratch(const edgelora_shape_t *g) {
    uint32_t inputs = g->inputs, outputs = g->out_c;
    bool reads = g->may_read_ahead && g->is_matrix && g->positions == 1 && (inputs & 3) == 0 &&
        inputs + 18 <= EDGELORA_AHEAD_BYTES &&
        3 * inputs + 4 * outputs <= EDGELORA_PACKED_BYTES / 2 &&
        inputs * outputs >= EDGELORA_AHEAD_LEAST;
    return reads ? 2 * EDGELORA_AHEAD_BYTES : 0;
}

#ifdef EDGELORA_READS_AHEAD // a port that has these functions

// Can words from `from` on be read ahead now?
bool edgelora_ahead_reads(const void *from);
// False: it is not possible at the moment. Else until `_end` nothing else reads flash between a
// `_start` and its `_wait`: neither code, nor interrupts, nor another core.
bool edgelora_ahead_begin(void);
void edgelora_ahead_start(const void *from, uint32_t *to, uint32_t words);
void edgelora_ahead_wait(void);
void edgelora_ahead_end(void);

#endif

// Are this layer's weights read ahead? By one core, which is then as fast as flash.
static inline bool edgelora_is_read_ahead(const edgelora_shape_t *g) {
#ifdef EDGELORA_READS_AHEAD
    return edgelora_ahead_scratch(g) && edgelora_ahead_reads(g->weights);
#else
    (void)g;
    return false;
#endif
}

// edgelora_position_outputs_s8 of contiguous rows, block by block; false: they can't be read now.
// scratch: edgelora_ahead_scratch bytes; shifts: 4-aligned.
bool edgelora_position_outputs_ahead_s8(const edgelora_position_t *all, uint32_t *scratch);

#endif
