// The inputs of a depthwise op in one direction.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_SIMD_PLANE_H
#define EDGELORA_SIMD_PLANE_H

#include "kernels/simd/panels.h"

// Geometry of one direction: for each kernel element, output (y, x) reads at (y * stride_h, x *
// stride_w) plus the element's offset.
typedef struct {
    uint32_t out_h, out_w, channels, stride_h, stride_w;
    uint32_t reach_h, width; // rows that an output reads; values of a row
    uint32_t taps;
    uint32_t tap_y[MOST_TAPS], tap_x[MOST_TAPS];
    // of the input: row y, column x is at (y * apart_h + top, x * apart_w + left)
    const int8_t *in;
    uint32_t in_h, in_w, apart_h, apart_w;
    int32_t top, left;
    int8_t edge;
} plane_t;

#endif
