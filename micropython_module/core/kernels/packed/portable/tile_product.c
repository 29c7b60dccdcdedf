// Rows of weights times a tile: two rows and four positions at a time, which fits cores with at
// least 16 registers.
// SPDX-License-Identifier: MIT

#include "kernels/packed/portable/portable.h"

#if !defined(EDGELORA_M0PLUS) && !defined(EDGELORA_DSP)

// Unpacks a row's E and O; consecutive words are `rows` words apart.
static inline void unpack_row(
    uint32_t *words, const uint32_t *weights, uint32_t groups, uint32_t coding, uint32_t rows) {
    for (; groups; --groups, words += 2 * rows) {
        uint32_t e = *weights++;
        words[0] = coding == EDGELORA_PAIRS ? e : evens(e ^ coding);
        words[rows] = coding == EDGELORA_PAIRS ? *weights++ : odds(e ^ coding);
    }
}

typedef struct {
    int32_t a, b, c, d; // of the 4 positions of a quad
} quad_t;

static inline void add_products(quad_t *sum, uint32_t w, const uint32_t *x) {
    sum->a = dot2(w, x[0], sum->a);
    sum->b = dot2(w, x[1], sum->b);
    sum->c = dot2(w, x[2], sum->c);
    sum->d = dot2(w, x[3], sum->d);
}

static inline void add_word(
    quad_t *first, quad_t *second, const uint32_t *w, const uint32_t *x, uint32_t rows) {
    add_products(first, w[0], x);
    if (rows == 2) {
        add_products(second, w[1], x);
    }
}

// After B t; for a right shift, sums started from (bias + 1 / 2) * 2^shift
static inline void shift_quad(quad_t *sum, int32_t shift, int32_t bias) {
    if (shift > 0) {
        *sum = (quad_t){sum->a >> shift, sum->b >> shift, sum->c >> shift, sum->d >> shift};
    } else {
        *sum = (quad_t){
            (int32_t)((uint32_t)sum->a << -shift) + bias,
            (int32_t)((uint32_t)sum->b << -shift) + bias,
            (int32_t)((uint32_t)sum->c << -shift) + bias,
            (int32_t)((uint32_t)sum->d << -shift) + bias};
    }
}

static inline quad_t trunc_quad(const quad_t *acc, int32_t n, int32_t mask) {
    return (quad_t){
        trunc_mask(acc->a, n, mask), trunc_mask(acc->b, n, mask), trunc_mask(acc->c, n, mask),
        trunc_mask(acc->d, n, mask)};
}

// Row r, and the next one if `rows` is 2, a compile-time constant.
static inline __attribute__((always_inline)) void rows_with_quads(
    const edgelora_tile_product_t *row, uint32_t r, const uint32_t rows) {
    uint32_t words[2 * 2 * (EDGELORA_B_GROUPS + EDGELORA_CHUNK)],
        *main_words = words + 2 * rows * row->b_groups;
    const uint32_t *end = main_words + 2 * rows * row->groups,
                   size = row->groups * (row->coding == EDGELORA_PAIRS ? 8 : 4) + row->gap;
    const uint32_t *fours = main_words + 2 * rows * (row->groups & 3);
    int32_t bias[2] = {0}, start[2] = {0}, mask = row->add ? shift_mask(row->b_shift) : 0;
    for (uint32_t k = 0; k < rows; ++k) {
        if (row->b_groups) {
            unpack_row(words + k, row->b + (r + k) * 2 * row->b_groups, row->b_groups,
                EDGELORA_PAIRS, rows);
        }
        unpack_row(main_words + k,
            (const uint32_t *)(const void *)((const uint8_t *)row->weights + (r + k) * size),
            row->groups, row->coding, rows);
        bias[k] = row->add ? 0 : row->bias[r + k];
        start[k] = !row->b_groups ? bias[k]
            : row->b_shift > 0    ? (int32_t)((uint32_t)(2 * bias[k] + 1) << (row->b_shift - 1))
                                  : 0;
    }
    const uint32_t *x = row->x;
    quad_t *acc = (quad_t *)(void *)(row->acc + r * row->count),
           *next = (quad_t *)(void *)((int32_t *)(void *)acc + row->count);
    for (const quad_t *last = acc + row->count / 4; acc != last; ++acc, ++next) {
        quad_t first = {start[0], start[0], start[0], start[0]},
               second = {start[1], start[1], start[1], start[1]};
        const uint32_t *w = words;
        if (row->add) {
            first = trunc_quad(acc, row->b_shift, mask);
            second = rows == 2 ? trunc_quad(next, row->b_shift, mask) : first;
        } else if (row->b_groups) {
            for (; w != main_words; w += rows, x += 4) {
                add_word(&first, &second, w, x, rows);
            }
            shift_quad(&first, row->b_shift, bias[0]);
            shift_quad(&second, row->b_shift, bias[1]);
        }
        for (; w != fours; w += rows, x += 4) {
            add_word(&first, &second, w, x, rows);
        }
        while (w != end) {
#pragma GCC unroll 8
            for (uint32_t k = 0; k < 8; ++k, w += rows, x += 4) {
                add_word(&first, &second, w, x, rows);
            }
        }
        *acc = first;
        if (rows == 2) {
            *next = second;
        }
        x = (const uint32_t *)(const void *)((const uint8_t *)x + row->skip);
    }
}

EDGELORA_KERNEL static void two_rows(const edgelora_tile_product_t *row, uint32_t r) {
    rows_with_quads(row, r, 2);
}

EDGELORA_KERNEL static void one_row(const edgelora_tile_product_t *row, uint32_t r) {
    rows_with_quads(row, r, 1);
}

EDGELORA_HOT void edgelora_tile_product_s8(const edgelora_tile_product_t *row) {
    EDGELORA_ASSERT(row->rows && row->count % 4 == 0 && is_aligned(row->weights));
    EDGELORA_ASSERT(
        row->groups && row->groups <= EDGELORA_CHUNK && row->b_groups <= EDGELORA_B_GROUPS);
    EDGELORA_ASSERT(row->add ? row->b_shift >= 0 && row->b_shift <= 31 && !row->b_groups
                             : row->b_shift >= -8 && row->b_shift <= 15);
    uint32_t r = 0;
    for (; r + 2 <= row->rows; r += 2) {
        two_rows(row, r);
    }
    if (r < row->rows) {
        one_row(row, r);
    }
}

#endif
