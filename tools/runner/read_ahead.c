// Reads ahead as the RP2040's port does, from any memory: words arrive only when they are waited
// for.
// SPDX-License-Identifier: MIT

#include "kernels/packed/read_ahead.h"

#ifdef EDGELORA_READS_AHEAD

static const uint32_t *source;
static uint32_t *target, left;

bool edgelora_ahead_reads(const void *from) {
    return is_aligned(from);
}

bool edgelora_ahead_begin(void) {
    return true;
}

void edgelora_ahead_start(const void *from, uint32_t *to, uint32_t words) {
    source = from;
    target = to;
    left = words;
    for (uint32_t i = 0; i < words; ++i) {
        to[i] = 0x5A5A5A5Au;
    }
}

void edgelora_ahead_wait(void) {
    for (; left; --left) {
        *target++ = *source++;
    }
}

void edgelora_ahead_end(void) {
    EDGELORA_ASSERT(!left);
}

#endif
