// Input rows of a matrix product, in the including file's `unit_t`.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_ROWS_H
#define EDGELORA_ROWS_H

#ifndef CHUNK
#define CHUNK 256 // groups of a panel at a time
#endif

// Rows of inputs: `runs` runs of whole groups each, `pitch` units apart. Rows may overlap.
typedef struct {
    const unit_t *units;
    const uint32_t *at;    // [n]: start of each row
    const int32_t *offset; // [n]: excess of products with each row
    uint32_t runs, groups, pitch, n;
} rows_t;

#endif
