// Input rows of a matrix product, in units.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_ROWS_H
#define EDGELORA_ROWS_H

#include <stddef.h>
#include <stdint.h>

#ifndef UNIT
#define UNIT int16_t
#endif

#ifndef CHUNK
#define CHUNK 256 // groups of a panel at a time
#endif

typedef UNIT unit_t; // inputs

// Rows of inputs: `runs` runs of whole groups each, `pitch` units apart. Rows may overlap, and a
// run may go on behind what its row needs, where weights are 0. Row k is that of place first + k of
// an area: its columns are `step` units apart, its lines, of `wide` places, `line` units.
typedef struct {
    const unit_t *units;
    uint32_t runs, groups, pitch;
    uint32_t n, first, wide, step, line;
} rows_t;

static inline const unit_t *row_at(const rows_t *rows, uint32_t k) {
    uint32_t place = rows->first + k;
    return rows->units + place / rows->wide * rows->line + place % rows->wide * rows->step;
}

#endif
