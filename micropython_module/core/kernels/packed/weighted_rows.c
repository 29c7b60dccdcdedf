// Sums of rows of bytes, each times one value.
// SPDX-License-Identifier: MIT

#include "kernels/packed/internal.h"

enum { LISTED = EDGELORA_LIST_BYTES / sizeof(edgelora_row_t) }; // for pointers of 4 or 8 bytes

// acc, s32 [count], += columns [i, i + count) of the rows times their values. After a mask, most
// values are 0.
EDGELORA_HOT static void add_odd_rows(
    const edgelora_weighted_rows_t *w, uint32_t inputs, uint32_t i, uint32_t count, int32_t *acc) {
    const uint8_t *row = w->rows + i;
    uint32_t flip = (uint32_t)w->coding & 255;
    for (uint32_t r = 0; r < w->count; ++r, row += inputs) {
        int32_t v = w->values[r];
        for (uint32_t c = 0; v && c < count; ++c) {
            acc[c] += ((int32_t)(row[c] ^ flip) - 128) * v;
        }
    }
}

// The remaining weighted rows, from a column on.
typedef struct {
    const uint8_t *row;
    const int8_t *values, *end;
    uint32_t inputs;
} rows_left_t;

// Lists as many of them as always fit, by sign: negative ones from the front, the others up to
// where all of them and two more end; an even number of each, padded with a row of value 0.
EDGELORA_KERNEL static void list_rows(
    rows_left_t *rows, edgelora_row_t *list, edgelora_rows_t *listed) {
    const uint8_t *row = rows->row;
    const int8_t *values = rows->values,
                 *const end = values + at_most((uint32_t)(rows->end - values), LISTED - 2);
    const uint32_t inputs = rows->inputs;
    edgelora_row_t *minus = list, *plus = list + (end - values) + 2;
    int32_t sum = 0;
    listed->plus_end = plus;
    for (; values != end; ++values, row += inputs) {
        int32_t v = *values;
        if (v < 0) {
            minus->row = row;
            minus->value = (uint32_t)-v;
            ++minus;
            sum += v;
        } else if (v) {
            --plus;
            plus->row = row;
            plus->value = (uint32_t)v;
            sum += v;
        }
    }
    if ((minus - list) & 1) {
        *minus++ = (edgelora_row_t){rows->row, 0};
    }
    if ((listed->plus_end - plus) & 1) {
        *--plus = (edgelora_row_t){rows->row, 0};
    }
    listed->minus = list;
    listed->minus_end = minus;
    listed->plus = plus;
    listed->offset = 128 * sum;
    rows->row = row;
    rows->values = values;
}

// Whole words are added two rows at a time.
EDGELORA_HOT void edgelora_add_weighted_rows(const edgelora_weighted_rows_t *w, uint32_t inputs,
    uint32_t i, uint32_t count, int32_t *acc, edgelora_row_t *list) {
    if (inputs & 3) {
        add_odd_rows(w, inputs, i, count, acc);
        return;
    }
    rows_left_t left = {w->rows + i, w->values, w->values + w->count, inputs};
    edgelora_rows_t rows; // field by field, to avoid a call of memset
    rows.acc = acc;
    rows.columns = count;
    rows.coding = (uint32_t)w->coding;
    while (left.values != left.end) {
        list_rows(&left, list, &rows);
        edgelora_add_rows_s8(&rows);
    }
}
