// What a matrix product reads, of an including file's `unit_t`.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_ROWS_H
#define EDGELORA_ROWS_H

// Rows of inputs as a product takes them: `runs` of whole groups each, `pitch` units apart. Rows
// may overlap.
typedef struct {
    const unit_t *units;
    const uint32_t *at;    // [n]: where a row begins
    const int32_t *offset; // [n]: what products with a row have too much
    uint32_t runs, groups, pitch, n;
} rows_t;

#endif
