// Layout of planes in the forward kernels of depthwise 3x3.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_PLANES_H
#define EDGELORA_PLANES_H

#include "kernels/packed/internal.h"

typedef struct {
    uint32_t left;         // words of a plane before the first column
    uint32_t pitch;        // words of a plane's row
    uint32_t parts, width; // stride 1: number of parts, columns of all but the last; else 1, 0
    uint32_t rows, in_rows; // of output, of a plane
    uint32_t each;         // number of channels requantized together
    uint32_t acc;          // bytes of the planes; then s32 [each, rows * out_w, padded]
    uint32_t size;
} planes_t;

// Input rows [from, to) that a range of output rows reads; `above`: rows of the plane before them.
typedef struct {
    int32_t from, to;
    uint32_t above, below;
} reach_t;

#endif
