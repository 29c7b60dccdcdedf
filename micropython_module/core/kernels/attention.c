// Attention: what all its kernels share (SPEC.md: attend).
// SPDX-License-Identifier: MIT

#include "kernels/attention.h"

const uint32_t edgelora_exponentials[128] = {
    0x7F287F80,
    0x7E787ED0,
    0x7DC97E20,
    0x7D1B7D72,
    0x7C6E7CC5,
    0x7BC27C18,
    0x7B177B6D,
    0x7A6D7AC2,
    0x79C47A18,
    0x791B796F,
    0x787478C7,
    0x77CD7820,
    0x7728777A,
    0x768376D5,
    0x75DF7631,
    0x753C758E,
    0x749A74EB,
    0x73F97449,
    0x735973A9,
    0x72B97309,
    0x721A726A,
    0x717D71CB,
    0x70E0712E,
    0x70447092,
    0x6FA96FF6,
    0x6F0E6F5B,
    0x6E756EC1,
    0x6DDC6E28,
    0x6D446D90,
    0x6CAD6CF8,
    0x6C176C62,
    0x6B816BCC,
    0x6AED6B37,
    0x6A596AA3,
    0x69C66A0F,
    0x6934697D,
    0x68A268EB,
    0x6811685A,
    0x678267C9,
    0x66F2673A,
    0x666466AB,
    0x65D7661D,
    0x654A6590,
    0x64BE6504,
    0x64326478,
    0x63A863ED,
    0x631E6363,
    0x629562DA,
    0x620D6251,
    0x618561C9,
    0x60FE6142,
    0x607860BB,
    0x5FF36036,
    0x5F6E5FB1,
    0x5EEA5F2C,
    0x5E675EA9,
    0x5DE55E26,
    0x5D635DA4,
    0x5CE25D22,
    0x5C615CA1,
    0x5BE25C21,
    0x5B635BA2,
    0x5AE45B23,
    0x5A675AA5,
    0x59EA5A28,
    0x596D59AB,
    0x58F2592F,
    0x587758B4,
    0x57FC5839,
    0x578357BF,
    0x570A5746,
    0x569156CD,
    0x561A5655,
    0x55A355DE,
    0x552C5567,
    0x54B754F1,
    0x5441547C,
    0x53CD5407,
    0x53595393,
    0x52E6531F,
    0x527352AC,
    0x5201523A,
    0x519051C8,
    0x511F5157,
    0x50AF50E7,
    0x503F5077,
    0x4FD05008,
    0x4F624F99,
    0x4EF44F2B,
    0x4E874EBE,
    0x4E1B4E51,
    0x4DAF4DE5,
    0x4D434D79,
    0x4CD84D0E,
    0x4C6E4CA3,
    0x4C044C39,
    0x4B9B4BD0,
    0x4B334B67,
    0x4ACB4AFF,
    0x4A634A97,
    0x49FD4A30,
    0x499649C9,
    0x49314963,
    0x48CB48FE,
    0x48674899,
    0x48034835,
    0x479F47D1,
    0x473C476E,
    0x46DA470B,
    0x467846A9,
    0x46164647,
    0x45B545E6,
    0x45554585,
    0x44F54525,
    0x449644C5,
    0x44374466,
    0x43D94408,
    0x437B43AA,
    0x431E434C,
    0x42C142EF,
    0x42644293,
    0x42094237,
    0x41AD41DB,
    0x41534180,
    0x40F84125,
    0x409E40CB,
    0x40454072,
    0x3FEC4019,
};

edgelora_attend_row_t edgelora_attend_row(const edgelora_shape_t *g, const int8_t *const x[3],
    uint32_t head, uint32_t i, int32_t *weights) {
    uint32_t heads = g->op->kernel_h, keys = g->op->kernel_w, channels = g->in_c / heads,
             at = head * keys / heads * channels;
    return (edgelora_attend_row_t){
        .q = x[0] + i * g->in_c + head * channels,
        .k = x[1] + at,
        .v = x[2] + at,
        .channels = channels,
        .step = keys * channels,
        .reads = g->op->flags & EDGELORA_CAUSAL ? i + 1 : g->positions,
        .weights = weights};
}

void edgelora_attend_scores(const edgelora_attend_row_t *row) {
    for (uint32_t j = 0; j < row->reads; ++j) {
        row->weights[j] = edgelora_dot_s8(row->q, row->k + j * row->step, row->channels);
    }
}

EDGELORA_WARM void edgelora_attend_weights(const edgelora_shape_t *g, edgelora_attend_row_t *row) {
    uint32_t factor = (uint32_t)g->multiplier[0], sum = 0; // sum: 255 .. 255 * 256
    uint32_t far = edgelora_attend_far(g);
    int32_t top = INT32_MIN, shift = g->shift[0];
    int32_t *end = row->weights + row->reads;
    for (const int32_t *s = row->weights; s != end; ++s) {
        top = *s > top ? *s : top;
    }
    for (int32_t *s = row->weights; s != end; ++s) {
        uint32_t below = (uint32_t)(top - *s);
        *s = below >= far ? 0 : edgelora_exponential(below * factor >> shift);
        sum += (uint32_t)*s;
    }
    edgelora_attend_scale(g, row, sum);
}

EDGELORA_WARM void edgelora_attend_scale(
    const edgelora_shape_t *g, edgelora_attend_row_t *row, uint32_t sum) {
    sum += !sum; // 0 only if the model was changed in memory
    row->shift = 16 - bit_length(sum);
    row->inverse = 0x80000000u / (sum << row->shift);
    row->mean = ((uint32_t)g->multiplier[1] * row->inverse) >> 15; // < 2^16
}

int8_t edgelora_attend_mean(
    const edgelora_shape_t *g, const edgelora_attend_row_t *row, int32_t sum) {
    int32_t mean = requantize(
        sum * (1 << row->shift), (int32_t)(row->mean << 15), g->shift[1] - 15);
    return (int8_t)clamp_s32(mean, -128, 127);
}

int32_t edgelora_attend_value_shift(uint32_t channels) {
    int32_t bits = bit_length(127 * 128 * channels) - 14;
    return bits > 0 ? bits : 0;
}

EDGELORA_WARM void edgelora_attend_score_errors(const edgelora_attend_row_t *row, int32_t *w) {
    int32_t most = edgelora_attend_value_shift(row->channels), mask = shift_mask(most), mean = 0,
            shift = 16 - row->shift, *p = row->weights, *end = w + row->reads;
    uint32_t half = 1u << (shift - 1), inverse = row->inverse;
    for (int32_t *v = w; v != end; ++v, ++p) {
        *p = (int32_t)(((uint32_t)*p * inverse + half) >> shift);
        *v = trunc_mask(*v, most, mask);
        mean += *p * *v; // |mean| < 2^30
    }
    mean = trunc_shift(mean, 15);
    p = row->weights;
    for (int32_t *v = w; v != end; ++v) {
        *v = *p++ * (*v - mean);
    }
}

// A part's channels in the rows of its errors, from one row on; a part with all channels takes all
// rows as one.
typedef struct {
    int8_t *first;
    uint32_t count, step, rows; // values of a row, and from one row to the next
} columns_of_part_t;

static columns_of_part_t columns_of(
    const edgelora_attend_part_t *part, uint32_t k, uint32_t row, uint32_t rows) {
    const edgelora_shape_t *g = part->g;
    uint32_t step = part->steps[k], each = step / g->op->kernel_w, // channels of a head of keys
        count = (part->keys.to - part->keys.from) * each;
    bool all = count == step;
    return (columns_of_part_t){
        part->dx[k] + row * step + part->keys.from * each, all ? rows * count : count, step,
        all ? 1 : rows};
}

static uint32_t groups_of(const edgelora_attend_part_t *part) {
    return part->error->groups ? (part->g->positions + EDGELORA_GROUP - 1) / EDGELORA_GROUP : 1;
}

static columns_of_part_t columns_of_group(
    const edgelora_attend_part_t *part, uint32_t k, uint32_t group) {
    uint32_t first = group * EDGELORA_GROUP, rows = part->g->positions - first;
    bool more = part->error->groups && rows > EDGELORA_GROUP;
    return columns_of(part, k, first, more ? EDGELORA_GROUP : rows);
}

void edgelora_attend_open(edgelora_attend_part_t *part, const edgelora_shape_t *g,
    const edgelora_error_t *error, int8_t *const dx[3], edgelora_range_t keys) {
    uint32_t rows_bits = error->groups ? EDGELORA_GROUP_BITS : 31;
    *part = (edgelora_attend_part_t){.g = g, .error = error, .keys = keys, .rows_bits = rows_bits};
    for (uint32_t k = 0; k < 3; ++k) {
        part->dx[k] = dx[k];
        part->steps[k] = k ? (uint32_t)(g->in_c / g->op->kernel_h * g->op->kernel_w) : g->in_c;
    }
}

void edgelora_attend_clear(const edgelora_attend_part_t *part) {
    for (uint32_t k = 0; k < 3; ++k) {
        if (!part->dx[k]) {
            continue;
        }
        columns_of_part_t of = columns_of(part, k, 0, part->g->positions);
        for (uint32_t i = 0; i < of.rows; ++i) {
            int8_t *row = of.first + i * of.step;
            for (uint32_t c = 0; c < of.count; ++c) {
                row[c] = 0;
            }
        }
    }
}

// Gives the part's errors of a group of input k a larger shift.
static void lift(edgelora_attend_part_t *part, uint32_t k, uint32_t group, int32_t shift) {
    int32_t before = part->shifts[k][group];
    if (shift == before) {
        return;
    }
    columns_of_part_t of = columns_of_group(part, k, group);
    for (uint32_t i = 0; i < of.rows; ++i) {
        edgelora_block_shift(
            of.first + i * of.step, of.count, shift - before, before, part->g->rounds);
    }
    part->shifts[k][group] = (uint8_t)shift;
}

void edgelora_attend_store(edgelora_attend_part_t *part, uint32_t k, uint32_t row, uint32_t first,
    const int32_t *v, uint32_t n) {
    uint32_t group = row >> part->rows_bits, at = row * part->steps[k] + first;
    // count 0: it shifts no values but those that it writes
    edgelora_block_t block = {part->dx[k], 0, part->shifts[k][group], part->g->rounds};
    edgelora_block_put(&block, at, v, n);
    if (block.shift != part->shifts[k][group]) { // the others have to follow
        lift(part, k, group, block.shift);
        edgelora_block_put(&block, at, v, n);
    }
}

void edgelora_attend_put(
    edgelora_attend_part_t *part, uint32_t k, const int32_t *sums, uint32_t key) {
    const edgelora_shape_t *g = part->g;
    uint32_t channels = g->in_c / g->op->kernel_h;
    for (uint32_t j = 0; part->dx[k] && j < g->positions; ++j) {
        edgelora_attend_store(part, k, j, key * channels, sums + j * channels, channels);
    }
}

void edgelora_attend_exponents(const edgelora_shape_t *g, const edgelora_error_t *error,
    int32_t shift, uint8_t shifts[3][EDGELORA_MAX_ATTENDED / EDGELORA_GROUP],
    int16_t *const exponents[3]) {
    int32_t score = error->exponent + edgelora_attend_value_shift(g->in_c / g->op->kernel_h) - 15 +
        shift + g->shift[2];
    uint32_t groups = error->groups ? (g->positions + EDGELORA_GROUP - 1) / EDGELORA_GROUP : 1;
    for (uint32_t k = 0; k < 3; ++k) {
        int32_t first = k < 2 ? score : error->exponent - 15 + g->shift[1];
        for (uint32_t i = 0; exponents[k] && i < groups; ++i) {
            exponents[k][i] = (int16_t)(first + shifts[k][i]);
        }
    }
}

void edgelora_attend_join(
    edgelora_attend_part_t *first, edgelora_attend_part_t *second, int16_t *const exponents[3]) {
    for (uint32_t k = 0; k < 3; ++k) {
        for (uint32_t i = 0; exponents[k] && i < groups_of(first); ++i) {
            int32_t a = first->shifts[k][i], b = second->shifts[k][i], top = a > b ? a : b;
            lift(first, k, i, top);
            lift(second, k, i, top);
        }
    }
    edgelora_attend_exponents(first->g, first->error, first->shift, first->shifts, exponents);
}

int32_t edgelora_attend_shift(uint32_t bits) {
    int32_t shift = bit_length(bits) - 14;
    return shift > 0 ? shift : 0;
}
