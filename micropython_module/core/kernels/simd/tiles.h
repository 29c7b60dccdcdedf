// Products whose sums stay in registers: tiles of few rows.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_TILES_H
#define EDGELORA_TILES_H

#include "kernels/simd/panels.h"

enum { // rows of smaller tiles
    MIDDLE = ROWS > 8 ? 8 : ROWS,
    FEW = ROWS > 4 ? 4 : ROWS,
};

// The product of rows with a panel, and where its sums go.
typedef struct {
    const rows_t *x;
    const weight_t *panel;
    int32_t start[LANES];
    int32_t *acc; // s32 [n, LANES]
    bool more;    // adds to acc
    // outputs: requantized, s8 [n, out_c]
    int8_t *y;
    uint32_t lanes;
    const rows_t *t; // of a branch; NULL: none
    const weight_t *b_panel;
    int32_t b_start[LANES], branch_shift;
    scales_t scales;
    range_t range;
    bool rectified;
    uint32_t pitch; // of y
} product_t;

static void copy_rows(int8_t *to, uint32_t pitch, const int8_t *from, uint32_t n, uint32_t rows) {
    for (; rows; --rows, to += pitch, from += LANES) {
        copy_run(to, from, n);
    }
}

// Requantizes sums of lanes and stores them.
static inline __attribute__((always_inline)) void outputs_store(
    const product_t *p, const lanes_t *sum, uint32_t row, const int rows, const bool rectified) {
    int8_t some[ROWS * LANES], *y = p->y + row * p->pitch;
    bool whole = p->lanes == LANES;
    uint32_t pitch = whole ? p->pitch : LANES;
    lanes_t v[ROWS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
        v[r] = (rectified ? lanes_rectified : lanes_requantize)(
            sum[r], p->scales.multiplier, p->scales.shift, p->scales.half);
    }
    rows_store(whole ? y : some, pitch, v, rows, &p->range);
    if (!whole) {
        copy_rows(y, p->pitch, some, p->lanes, (uint32_t)rows);
    }
}

// What tiles' sums are for.
enum { SUMS_OF = 0, OUTPUTS_OF = 1, RECTIFIED_OF = 2 };

// x: of the first of `rows` rows in a line, row `row` of all.
static inline __attribute__((always_inline)) void tile(
    const product_t *p, const unit_t *x, uint32_t row, const int rows, const int outputs) {
    lanes_t sum[ROWS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
        sum[r] = lanes_load(p->start);
    }
    if (outputs && p->t) {
        lanes_t branch[ROWS];
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            branch[r] = lanes_load(p->b_start);
        }
        products(branch, p->b_panel, p->t, p->t->units + row * p->t->step, rows);
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            sum[r] = lanes_add(sum[r], lanes_round_shift(branch[r], p->branch_shift));
        }
    }
    products(sum, p->panel, p->x, x, rows);
    if (outputs) {
        outputs_store(p, sum, row, rows, outputs == RECTIFIED_OF);
        return;
    }
    int32_t *acc = p->acc + row * LANES;
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r, acc += LANES) {
        lanes_store(acc, p->more ? lanes_add(sum[r], lanes_load(acc)) : sum[r]);
    }
}

static inline __attribute__((always_inline)) void tiles(const product_t *of, const int outputs) {
    const rows_t rows = *of->x, *x = &rows; // copies that stores can't change
    product_t product = *of;
    const product_t *p = &product;
    product.x = x;
    const unit_t *line = x->units + x->first / x->wide * x->line;
    uint32_t column = x->first % x->wide;
    for (uint32_t row = 0; row < x->n; column = 0, line += x->line) {
        const unit_t *at = line + column * x->step;
        uint32_t end = row + lesser(x->wide - column, x->n - row);
        for (; end - row >= ROWS; row += ROWS, at += ROWS * x->step) {
            tile(p, at, row, ROWS, outputs);
        }
        for (; end - row >= MIDDLE; row += MIDDLE, at += MIDDLE * x->step) {
            tile(p, at, row, MIDDLE, outputs);
        }
        for (; end - row >= FEW; row += FEW, at += FEW * x->step) {
            tile(p, at, row, FEW, outputs);
        }
        for (; end - row >= 2; row += 2, at += 2 * x->step) {
            tile(p, at, row, 2, outputs);
        }
        for (; row < end; ++row, at += x->step) {
            tile(p, at, row, 1, outputs);
        }
    }
}

// What sums of a panel's products start with.
static inline void start_of(
    int32_t *start, const int32_t *from, const weight_t *panel, const rows_t *x) {
    lanes_store(start, lanes_sub(lanes_load(from), panel_excess(panel, x->runs * x->groups)));
}

// acc [n, LANES] = start (NULL: acc) + products of all rows with a panel.
static void all_products(
    int32_t *acc, const int32_t *start, const weight_t *panel, uint32_t lanes, const rows_t *x) {
    (void)lanes;
    product_t p = {.x = x, .panel = panel, .acc = acc, .more = !start};
    start_of(p.start, start ? start : zeros, panel, x);
    tiles(&p, SUMS_OF);
}

// Outputs of all rows' products with a panel and, of a branch, with one of B.
static void product_outputs(product_t *p, const int32_t *bias) {
    start_of(p->start, bias, p->panel, p->x);
    if (p->t) {
        start_of(p->b_start, zeros, p->b_panel, p->t);
    }
#ifdef EDGELORA_RECTIFIES
    if (p->rectified) {
        tiles(p, RECTIFIED_OF);
        return;
    }
#endif
    tiles(p, OUTPUTS_OF);
}

#endif
