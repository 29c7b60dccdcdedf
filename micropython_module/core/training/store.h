// Stores values of an error block, on each processor in its own way.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_STORE_H
#define EDGELORA_STORE_H

#include "fixed.h"

// Writes v, s32 [n], as values of a block, one every `step` bytes; offset, next: of the first and
// every second value from it on, and of the others. Returns the OR of their magnitudes.
uint32_t edgelora_block_store(int8_t *q, uint32_t step, const int32_t *v, uint32_t n, int32_t shift,
    uint32_t offset, uint32_t next);

#endif
