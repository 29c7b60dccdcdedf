// Attention, on vector lanes.
// SPDX-License-Identifier: MIT
//
// Its products are of 16-bit values, two at a time: words of two neighbours meet words of a matrix,
// one in each lane. QUERIES rows of a head go together.
//
//                                words of two      lanes       sums over
//   scores, products of errors   channels          keys        channels
//   outputs, errors of queries   keys              channels    keys
//   errors of keys and values    queries           channels    queries

#ifndef EDGELORA_SIMD_ATTEND_H
#define EDGELORA_SIMD_ATTEND_H

#include "kernels/simd/elementwise.h"

enum { QUERIES = 4 };

// A head's keys and values as words, and room for QUERIES rows and for sums.
typedef struct {
    uint32_t keys, channels; // padded to whole vectors
    int32_t *k, *v; // [channels / 2, keys]: words of two channels
    int32_t *k_pairs, *v_pairs; // [panels, keys / 2, LANES]: words of two keys
    int32_t *q_pairs, *e_pairs; // [panels, QUERIES / 2, LANES]: words of two queries
    int32_t *weights, *w; // s32 [QUERIES, keys]: of a row, and its scores' errors
    int16_t *scores, *shares; // s16 [QUERIES, keys]: what is multiplied of them
    int32_t *score_pairs, *share_pairs; // [QUERIES / 2, keys]: words of two queries
    int16_t *q, *e; // s16 [QUERIES, channels]
    int32_t *sums; // s32 [panels, QUERIES, LANES]
    int32_t *of_k, *of_v; // s32 [panels, keys, LANES]
    int32_t far; // a score so far below the largest has the weight 0
} head_work_t;

static int32_t *take_words(int32_t **room, uint32_t words) {
    int32_t *at = *room;
    *room += words;
    return at;
}

// false: no room.
static bool head_work(const edgelora_shape_t *g, void *work, head_work_t *h) {
    int32_t *room = work;
    uint32_t keys = (g->positions + LANES - 1) / LANES * LANES,
             channels = ((uint32_t)(g->in_c / g->op->kernel_h) + LANES - 1) / LANES * LANES,
             matrix = keys * channels / 2, rows = QUERIES * keys,
             words = 4 * matrix + 4 * channels + 4 * rows + rows + 2 * channels + 4 * channels +
        2 * keys * channels;
    if (4 * words > sizeof(any_work_t)) {
        return false;
    }
    h->keys = keys;
    h->channels = channels;
    h->k = take_words(&room, matrix);
    h->v = take_words(&room, matrix);
    h->k_pairs = take_words(&room, matrix);
    h->v_pairs = take_words(&room, matrix);
    h->q_pairs = take_words(&room, QUERIES / 2 * channels);
    h->e_pairs = take_words(&room, QUERIES / 2 * channels);
    h->weights = take_words(&room, rows);
    h->w = take_words(&room, rows);
    h->scores = (int16_t *)(void *)take_words(&room, rows / 2);
    h->shares = (int16_t *)(void *)take_words(&room, rows / 2);
    h->score_pairs = take_words(&room, rows / 2);
    h->share_pairs = take_words(&room, rows / 2);
    h->q = (int16_t *)(void *)take_words(&room, QUERIES / 2 * channels);
    h->e = (int16_t *)(void *)take_words(&room, QUERIES / 2 * channels);
    h->sums = take_words(&room, QUERIES * channels);
    h->of_k = take_words(&room, keys * channels);
    h->of_v = take_words(&room, keys * channels);
    h->far = (int32_t)lesser(edgelora_attend_far(g), INT32_MAX);
    return true;
}

#ifndef EDGELORA_GATHERS // by the lanes
static inline lanes_t lanes_exponentials(lanes_t u) {
    int32_t each[WIDTH];
    lanes_store(each, u);
    for (uint32_t l = 0; l < WIDTH; ++l) {
        each[l] = edgelora_exponential((uint32_t)each[l]);
    }
    return lanes_load(each);
}
#endif

static inline int32_t word_of(int32_t first, int32_t second) {
    return (int32_t)(((uint32_t)first & 0xFFFF) | (uint32_t)second << 16);
}

// Words of two channels of rows `step` bytes apart: [whole pairs, keys], 0 behind the rows.
static void channels_as_words(
    int32_t *to, const int8_t *x, uint32_t step, uint32_t rows, uint32_t channels, uint32_t keys) {
    for (uint32_t c = 0; c < channels; c += 2, to += keys) {
        bool two = c + 1 < channels;
        const int8_t *v = x + c;
        for (uint32_t j = 0; j < rows; ++j, v += step) {
            to[j] = word_of(v[0], two ? v[1] : 0);
        }
        for (uint32_t j = rows; j < keys; ++j) {
            to[j] = 0;
        }
    }
}

// Words of two rows: [panels, keys / 2, LANES], 0 behind the rows and the channels.
static void row_pairs_as_words(
    int32_t *to, const int8_t *x, uint32_t step, uint32_t rows, uint32_t channels, uint32_t keys) {
    static const int8_t nothing[LANES];
    for (uint32_t c = 0; c < channels; c += LANES) {
        uint32_t lanes = lesser(channels - c, LANES);
        for (uint32_t j = 0; j < keys; j += 2, to += LANES) {
            const int8_t *v = j < rows ? x + j * step + c : nothing,
                         *w = j + 1 < rows ? x + (j + 1) * step + c : nothing;
            for (uint32_t l = 0; l < lanes; ++l) {
                to[l] = word_of(v[l], w[l]);
            }
            for (uint32_t l = lanes; l < LANES; ++l) {
                to[l] = 0;
            }
        }
    }
}

// QUERIES rows, s16 [QUERIES, channels], of a head, from row i on; behind the last row its copies.
static void queries_of(const edgelora_shape_t *g, const head_work_t *h, uint32_t head, uint32_t i,
    const int8_t *x, int16_t *to) {
    uint32_t channels = g->in_c / g->op->kernel_h;
    for (uint32_t r = 0; r < QUERIES; ++r, to += h->channels) {
        const int8_t *from = x + lesser(i + r, g->positions - 1) * g->in_c + head * channels;
        widen(to, from, channels);
        if (channels & 1) { // the last word
            to[channels] = 0;
        }
    }
}

static inline lanes_t word_everywhere(const int16_t *x) {
    int32_t word;
    __builtin_memcpy(&word, x, 4);
    return lanes_of(word);
}

// out, s32 [QUERIES, out_step] = products of rows, s16 [QUERIES, x_step], with `words` rows of
// words, `step` apart, in `lanes` lanes.
static void query_products(int32_t *out, uint32_t out_step, const int16_t *x, uint32_t x_step,
    const int32_t *matrix, uint32_t step, uint32_t words, uint32_t lanes) {
    for (uint32_t l = 0; l < lanes; l += WIDTH) {
        lanes_t sum[QUERIES];
#pragma GCC unroll 4
        for (uint32_t r = 0; r < QUERIES; ++r) {
            sum[r] = lanes_of(0);
        }
        const int32_t *at = matrix + l;
        for (uint32_t k = 0; k < words; ++k, at += step) {
            lanes_t w = lanes_load(at);
#pragma GCC unroll 4
            for (uint32_t r = 0; r < QUERIES; ++r) {
                sum[r] = lanes_dot2(sum[r], w, word_everywhere(x + r * x_step + 2 * k));
            }
        }
#pragma GCC unroll 4
        for (uint32_t r = 0; r < QUERIES; ++r) {
            lanes_store(out + r * out_step + l, sum[r]);
        }
    }
}

// Turns a row's scores into weights, 0 from its last key up to `count` keys, whole vectors.
static void weights_of_row(
    const edgelora_shape_t *g, const head_work_t *h, edgelora_attend_row_t *row, uint32_t count) {
    int32_t *s = row->weights;
    for (uint32_t j = row->reads; j < count; ++j) {
        s[j] = s[0];
    }
    lanes_t most = lanes_load(s), sum = lanes_of(0);
    for (uint32_t j = WIDTH; j < count; j += WIDTH) {
        most = lanes_max(most, lanes_load(s + j));
    }
    const lanes_t top = lanes_of(lanes_largest(most)), far = lanes_of(h->far),
                  factor = lanes_of(g->multiplier[0]), farthest = lanes_of(EDGELORA_FARTHEST);
    for (uint32_t j = 0; j < count; j += WIDTH) {
        lanes_t below = lanes_min(lanes_sub(top, lanes_load(s + j)), far);
        lanes_t u = lanes_shift_down(lanes_mul(below, factor), g->shift[0]);
        lanes_t e = lanes_exponentials(lanes_min(u, farthest));
        sum = lanes_add(sum, e);
        lanes_store(s + j, e);
    }
    edgelora_attend_scale(
        g, row, (uint32_t)(lanes_sum(sum) - (int32_t)(count - row->reads) * s[0]));
    for (uint32_t j = row->reads; j < count; ++j) {
        s[j] = 0;
    }
}

// Keys that some of the QUERIES rows from i on read, in whole vectors.
static uint32_t keys_read(const edgelora_shape_t *g, uint32_t i) {
    uint32_t reads = g->op->flags & EDGELORA_CAUSAL ? lesser(i + QUERIES, g->positions)
                                                    : g->positions;
    return (reads + WIDTH - 1) / WIDTH * WIDTH;
}

// The weights of QUERIES rows of a head from i on; behind the last row its copies.
static void query_weights(const edgelora_shape_t *g, const head_work_t *h, const int8_t *q,
    uint32_t head, uint32_t i, edgelora_attend_row_t rows[QUERIES]) {
    uint32_t count = keys_read(g, i), words = (g->in_c / g->op->kernel_h + 1u) / 2;
    queries_of(g, h, head, i, q, h->q);
    query_products(h->weights, h->keys, h->q, h->channels, h->k, h->keys, words, count);
    for (uint32_t r = 0; r < QUERIES; ++r) {
        uint32_t at = lesser(i + r, g->positions - 1);
        rows[r] = edgelora_attend_row(
            g, (const int8_t *const[3]){q, q, q}, head, at, h->weights + r * h->keys);
        weights_of_row(g, h, &rows[r], count);
    }
}

// s32 to s16 values of QUERIES rows of keys
static void narrow_rows(const head_work_t *h, int16_t *to, const int32_t *from, uint32_t count) {
    for (uint32_t r = 0; r < QUERIES; ++r, to += h->keys, from += h->keys) {
        for (uint32_t j = 0; j < count; j += WIDTH) {
            lanes_store_s16(to + j, lanes_load(from + j));
        }
    }
}

static bool attend_forward(const edgelora_shape_t *g, const edgelora_pass_t *pass) {
    uint32_t heads = g->op->kernel_h, keys = g->op->kernel_w, channels = g->in_c / heads,
             step = keys * channels;
    head_work_t h;
    if (!head_work(g, pass->work, &h)) {
        return false;
    }
    for (uint32_t head = 0; head < heads; ++head) {
        uint32_t key = head * keys / heads * channels;
        if (head % (heads / keys) == 0) {
            channels_as_words(h.k, pass->x2 + key, step, g->positions, channels, h.keys);
            row_pairs_as_words(h.v_pairs, pass->x3 + key, step, g->positions, channels, h.keys);
        }
        for (uint32_t i = 0; i < g->positions; i += QUERIES) {
            edgelora_attend_row_t rows[QUERIES];
            uint32_t count = keys_read(g, i), n = lesser(g->positions - i, QUERIES);
            query_weights(g, &h, pass->x, head, i, rows);
            narrow_rows(&h, h.scores, h.weights, count);
            for (uint32_t c = 0; c < channels; c += LANES) {
                query_products(h.sums, LANES, h.scores, h.keys, h.v_pairs + c * h.keys / 2, LANES,
                    count / 2, LANES);
                for (uint32_t r = 0; r < n; ++r) {
                    int8_t *y = pass->y + (i + r) * g->in_c + head * channels + c;
                    for (uint32_t l = 0; l < LANES && c + l < channels; l += WIDTH) {
                        lanes_t v = lanes_shift_left(
                            lanes_load(h.sums + r * LANES + l), rows[r].shift);
                        v = lanes_scaled(v, (int32_t)(rows[r].mean << 15), g->shift[1] - 15);
                        v = lanes_max(lanes_min(v, lanes_of(127)), lanes_of(-128));
                        lanes_store_first(y + l, v, lesser(channels - c - l, WIDTH));
                    }
                }
            }
        }
    }
    return true;
}

// Packs what the heads of a key read.
static void key_as_words(
    const edgelora_shape_t *g, const head_work_t *h, const edgelora_error_t *error, uint32_t key) {
    uint32_t channels = g->in_c / g->op->kernel_h, step = g->op->kernel_w * channels,
             at = key * channels;
    channels_as_words(h->k, error->x2 + at, step, g->positions, channels, h->keys);
    channels_as_words(h->v, error->x3 + at, step, g->positions, channels, h->keys);
    row_pairs_as_words(h->k_pairs, error->x2 + at, step, g->positions, channels, h->keys);
}

// Like edgelora_attend_score_errors, for `count` keys.
static void row_score_errors(const edgelora_attend_row_t *row, int32_t *w, uint32_t count) {
    int32_t shift = 16 - row->shift, cut = edgelora_attend_value_shift(row->channels);
    const lanes_t inverse = lanes_of((int32_t)row->inverse), half = lanes_of(1 << (shift - 1));
    lanes_t products = lanes_of(0);
    for (uint32_t j = 0; j < count; j += WIDTH) {
        lanes_t p = lanes_add(lanes_mul(lanes_load(row->weights + j), inverse), half),
                of_p = lanes_trunc_shift(lanes_load(w + j), cut);
        p = lanes_shift_right(p, shift);
        products = lanes_add(products, lanes_mul(p, of_p));
        lanes_store(row->weights + j, p);
        lanes_store(w + j, of_p);
    }
    const lanes_t mean = lanes_of(trunc_shift(lanes_sum(products), 15));
    for (uint32_t j = 0; j < count; j += WIDTH) {
        lanes_t p = lanes_load(row->weights + j);
        lanes_store(w + j, lanes_mul(p, lanes_sub(lanes_load(w + j), mean)));
    }
}

// The probabilities and scores' errors of QUERIES rows of a head from i on.
static void query_errors(const edgelora_shape_t *g, const head_work_t *h,
    const edgelora_error_t *error, uint32_t head, uint32_t i) {
    edgelora_attend_row_t rows[QUERIES];
    uint32_t count = keys_read(g, i), words = (g->in_c / g->op->kernel_h + 1u) / 2;
    query_weights(g, h, error->x, head, i, rows);
    queries_of(g, h, head, i, error->e, h->e);
    query_products(h->w, h->keys, h->e, h->channels, h->v, h->keys, words, count);
    for (uint32_t r = 0; r < QUERIES; ++r) {
        row_score_errors(&rows[r], h->w + r * h->keys, count);
    }
}

// The shift that leaves 14 bits of all scores' errors.
static int32_t attend_shift(
    const edgelora_shape_t *g, const head_work_t *h, const edgelora_error_t *error) {
    uint32_t heads = g->op->kernel_h, keys = g->op->kernel_w;
    lanes_t all = lanes_of(0);
    for (uint32_t head = 0; head < heads; ++head) {
        if (head % (heads / keys) == 0) {
            key_as_words(g, h, error, head * keys / heads);
        }
        for (uint32_t i = 0; i < g->positions; i += QUERIES) { // which are of one group
            int32_t lower = edgelora_attend_lower(error, i);
            query_errors(g, h, error, head, i);
            for (uint32_t r = 0; r < QUERIES; ++r) {
                for (uint32_t j = 0; j < keys_read(g, i); j += WIDTH) {
                    lanes_t w = lanes_abs(lanes_load(h->w + r * h->keys + j));
                    all = lanes_or(all, lanes_shift_right(w, lower));
                }
            }
        }
    }
    return edgelora_attend_shift(lanes_bits(all));
}

// Factors of n rows of a head: the errors of scores and the shares of probabilities, as s16, and as
// words of two queries; 0 for rows behind the last. lower: theirs
static void query_factors(const edgelora_shape_t *g, const head_work_t *h, uint32_t n,
    int32_t shift, int32_t lower, uint32_t count) {
    int32_t of_score = shift + lower < 31 ? shift + lower : 31,
            of_share = edgelora_attend_share_shift(lower);
    const lanes_t of_p = lanes_of(g->multiplier[1]), of_w = lanes_of(g->multiplier[2]);
    for (uint32_t r = 0; r < QUERIES; ++r) {
        for (uint32_t j = 0, at = r * h->keys; j < count; j += WIDTH, at += WIDTH) {
            lanes_t w = lanes_mul(lanes_trunc_shift(lanes_load(h->w + at), of_score), of_w),
                    p = lanes_shift_right(lanes_mul(lanes_load(h->weights + at), of_p), of_share);
            lanes_store_s16(h->scores + at, r < n ? lanes_trunc_shift(w, 15) : lanes_of(0));
            lanes_store_s16(h->shares + at, r < n ? p : lanes_of(0));
        }
    }
    for (uint32_t r = 0; r < QUERIES; r += 2) {
        const int16_t *s = h->scores + r * h->keys, *p = h->shares + r * h->keys;
        int32_t *scores = h->score_pairs + r / 2 * h->keys,
                *shares = h->share_pairs + r / 2 * h->keys;
        for (uint32_t j = 0; j < count; ++j) {
            scores[j] = word_of(s[j], s[j + h->keys]);
            shares[j] = word_of(p[j], p[j + h->keys]);
        }
    }
}

// sums, s32 [keys, LANES], += products of words of QUERIES factors of `count` keys with `matrix`,
// words [QUERIES / 2, LANES].
static void key_products(const head_work_t *h, int32_t *sums, const int32_t *pairs,
    const int32_t *matrix, uint32_t count) {
    for (uint32_t l = 0; l < LANES; l += WIDTH) {
        const lanes_t first = lanes_load(matrix + l), second = lanes_load(matrix + LANES + l);
        int32_t *to = sums + l;
        for (uint32_t j = 0; j < count; ++j, to += LANES) {
            lanes_t v = lanes_dot2(lanes_load(to), first, lanes_of(pairs[j]));
            lanes_store(to, lanes_dot2(v, second, lanes_of(pairs[h->keys + j])));
        }
    }
}

// Errors of q, k or v. shifts: by groups of positions
typedef struct {
    int8_t *dx;
    uint32_t step; // values of a row
    uint8_t *shifts;
} attend_errors_t;

// Writes acc [n, LANES] as errors of n <= QUERIES rows, of one group, from channel `first` on.
static void put_rows(const edgelora_shape_t *g, const edgelora_error_t *error,
    const attend_errors_t *of, const int32_t *acc, uint32_t row, uint32_t n, uint32_t first,
    uint32_t lanes) {
    uint32_t group = error->groups ? row / EDGELORA_GROUP : 0, start = group * EDGELORA_GROUP,
             rows = error->groups ? lesser(g->positions - start, EDGELORA_GROUP) : g->positions;
    block_t block = {
        of->dx + start * of->step, rows * of->step, g->rounds, true, of->shifts[group]};
    row -= start;
    const uint32_t places[QUERIES] = {row, row + 1, row + 2, row + 3};
    block_put(&block, acc, n, places, of->step, first, lanes);
    of->shifts[group] = (uint8_t)block.shift;
}

// Adds the shares of QUERIES rows of a head from i on to the sums of keys and values, and puts the
// errors of its queries.
static void query_backward(const edgelora_shape_t *g, const head_work_t *h,
    const edgelora_error_t *error, uint32_t head, uint32_t i, int32_t shift,
    const attend_errors_t *of_q) {
    uint32_t channels = g->in_c / g->op->kernel_h, at = i * g->in_c + head * channels,
             count = keys_read(g, i), n = lesser(g->positions - i, QUERIES);
    query_errors(g, h, error, head, i);
    query_factors(g, h, n, shift, edgelora_attend_lower(error, i), count);
    row_pairs_as_words(h->q_pairs, error->x + at, g->in_c, n, channels, QUERIES);
    row_pairs_as_words(h->e_pairs, error->e + at, g->in_c, n, channels, QUERIES);
    for (uint32_t c = 0; c < channels; c += LANES) {
        uint32_t pairs = c * QUERIES / 2;
        key_products(h, h->of_k + c * h->keys, h->score_pairs, h->q_pairs + pairs, count);
        key_products(h, h->of_v + c * h->keys, h->share_pairs, h->e_pairs + pairs, count);
        if (of_q->dx) {
            query_products(h->sums, LANES, h->scores, h->keys, h->k_pairs + c * h->keys / 2, LANES,
                count / 2, LANES);
            put_rows(
                g, error, of_q, h->sums, i, n, head * channels + c, lesser(channels - c, LANES));
        }
    }
}

// Puts the errors of a key's rows.
static void put_key(const edgelora_shape_t *g, const head_work_t *h, const edgelora_error_t *error,
    const attend_errors_t *of, const int32_t *sums, uint32_t key) {
    uint32_t channels = g->in_c / g->op->kernel_h;
    for (uint32_t c = 0; of->dx && c < channels; c += LANES) {
        for (uint32_t j = 0; j < g->positions; j += QUERIES) {
            put_rows(g, error, of, sums + (c / LANES * h->keys + j) * LANES, j,
                lesser(g->positions - j, QUERIES), key * channels + c, lesser(channels - c, LANES));
        }
    }
}

static bool attend_backward(const edgelora_shape_t *g, const edgelora_error_t *error,
    int8_t *const dx[3], int16_t *const exponents[3]) {
    uint32_t heads = g->op->kernel_h, keys = g->op->kernel_w, group = heads / keys;
    head_work_t h;
    if (!head_work(g, error->work, &h)) {
        return false;
    }
    int32_t shift = attend_shift(g, &h, error);
    attend_errors_t of[3];
    uint8_t shifts[3][EDGELORA_MAX_ATTENDED / EDGELORA_GROUP] = {{0}};
    for (uint32_t k = 0; k < 3; ++k) {
        uint32_t step = g->in_c / heads * (k ? keys : heads);
        of[k] = (attend_errors_t){dx[k], step, shifts[k]};
        if (dx[k]) { // what is not written yet is shifted together with the rest
            __builtin_memset(dx[k], 0, g->positions * step);
        }
    }
    for (uint32_t key = 0; key < keys; ++key) {
        key_as_words(g, &h, error, key);
        __builtin_memset(h.of_k, 0, 2 * 4 * h.keys * h.channels);
        for (uint32_t head = key * group; head < (key + 1) * group; ++head) {
            for (uint32_t i = 0; i < g->positions; i += QUERIES) {
                query_backward(g, &h, error, head, i, shift, &of[0]);
            }
        }
        put_key(g, &h, error, &of[1], h.of_k, key);
        put_key(g, &h, error, &of[2], h.of_v, key);
    }
    edgelora_attend_exponents(g, error, shift, shifts, exponents);
    return true;
}

#endif
