// Generates A from a seed.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_SKETCH_H
#define EDGELORA_SKETCH_H

#include "graph.h"

// A s8 [rank, K] of a layer. In a 1x1 convolution, where A would cost the most, each row covers a
// separate part of the inputs, in groups of 4; elsewhere each covers all inputs and is orthogonal
// to all rows before it.
void edgelora_sketch_a(const edgelora_shape_t *g, uint32_t numbers, uint32_t rank, int8_t *a);

#endif
