// Added classes and personalized classes of the base: one row each, computed from a few samples
// (SPEC.md, section 3).
// SPDX-License-Identifier: MIT

#include "session/classes.h"
#include "training/training.h"
#include "training/block.h"

// The rounded mean of n values below 256, in 1/16, from their sum.
static int32_t class_mean(int32_t sum, uint32_t n) {
    int32_t twice = 2 * (int32_t)n, v = 32 * sum + (int32_t)n;
    return v >= 0 ? v / twice : -((twice - 1 - v) / twice);
}

// Q [i, j], which is symmetric: its lower triangle is stored.
static int32_t inverse_at(const int16_t *q, uint32_t i, uint32_t j) {
    return i > j ? q[i * (i + 1) / 2 + j] : q[j * (j + 1) / 2 + i];
}

edgelora_status_t edgelora_class_row(
    edgelora_session_t *s, int32_t *sums, uint32_t n, edgelora_class_t *out) {
    const void *model = session_model(s);
    uint32_t size = edgelora_class_size(model);
    if (!size) {
        return EDGELORA_ERR_CLASSES;
    }
    if (!n || n > EDGELORA_MAX_CLASS_SAMPLES) {
        return EDGELORA_ERR_CLASSES;
    }
    if (((uintptr_t)out | (uintptr_t)sums) & 3) {
        return EDGELORA_ERR_ALIGN;
    }
    if (!writable(s, out, class_span(size)) || !writable(s, sums, 4 * size) ||
        !apart(out, class_span(size), sums, 4 * size)) {
        return EDGELORA_ERR_ALIAS;
    }
    class_stats_t stats = model_class_stats(model);
    void *behind = out + 1;
    int16_t *row = behind;
    int32_t bias = 0;
    for (uint32_t j = 0; j < size; ++j) {
        sums[j] = class_mean(sums[j], n);
    }
    for (uint32_t i = 0; i < align4(2 * size) / 2; ++i) {
        int32_t sum = 0; // of 128 products within 2^23
        for (uint32_t j = 0; i < size && j < size; ++j) {
            sum += (inverse_at(stats.inverse, i, j) * sums[j] + 8) >> 4;
        }
        row[i] = (int16_t)clamp_s32(round_shift(sum, stats.head->row_shift), -32767, 32767);
    }
    for (uint32_t j = 0; j < size; ++j) {
        bias += (row[j] * sums[j] + 8) >> 4;
    }
    out->bias = -((bias + 1) >> 1);
    out->samples = (uint16_t)n;
    return EDGELORA_OK;
}

edgelora_class_counts_t edgelora_classes_count(
    const edgelora_model_t *m, const edgelora_classes_t *record) {
    uint32_t known = edgelora_output_size(m), added = 0, count = record ? record->count : 0;
    const edgelora_class_t *c = count ? first_class(record) : 0;
    for (uint32_t left = count; left; --left, c = next_class(c, record->size)) {
        added += c->number >= known;
    }
    return (edgelora_class_counts_t){(count - added) & 1023, added & 63}; // at most 512 and 16
}

static int32_t score(const int16_t *row, int32_t bias, const int8_t *x, int32_t zp, uint32_t size) {
    for (uint32_t i = 0; i < size; ++i) {
        bias += row[i] * (x[i] - zp);
    }
    return bias;
}

// Converts scores to logits in place: distances from the largest in steps of the loss tensor, s8,
// the largest at 127.
static void as_logits(
    const edgelora_model_t *m, int32_t *scores, uint32_t n, int32_t top, uint32_t exponent) {
    int8_t *q = (int8_t *)scores;
    uint32_t most = (255u * m->logit_scale) >> (16 - exponent);
    for (uint32_t i = 0; i < n; ++i) {
        uint32_t below = (uint32_t)top - (uint32_t)scores[i];
        uint32_t steps = below >= most ? 255 : (below << (16 - exponent)) / m->logit_scale;
        q[i] = (int8_t)(127 - (int32_t)steps);
    }
}

// Iterates over rows by place: classes of the base, with the adapter's row if it has one, else the
// base's; then added classes.
typedef struct {
    class_stats_t stats;
    const edgelora_class_t *next, *added; // rows of the adapter, ascending
    uint32_t own, known, size, place; // own: rows left before the added ones
} class_rows_t;

typedef struct {
    const int16_t *row; // [size]
    int32_t bias;
} row_t;

// Class `place` of an adapter's record, or its end; size: inputs of the last layer.
static const edgelora_class_t *class_at(const classes_t *classes, uint32_t size, uint32_t place) {
    EDGELORA_ASSERT(classes->record && place <= classes->own + classes->added);
    const void *at = (const uint8_t *)first_class(classes->record) + place * class_span(size);
    return at;
}

static class_rows_t walk_rows(const edgelora_model_t *m, const classes_t *classes) {
    uint32_t size = edgelora_class_size(m);
    return (class_rows_t){
        model_class_stats(m), class_at(classes, size, 0), class_at(classes, size, classes->own),
        classes->own, edgelora_output_size(m), size, 0};
}

static row_t next_row(class_rows_t *w) {
    uint32_t place = w->place++;
    w->next = place == w->known ? w->added : w->next;
    if (place < w->known && (!w->own || w->next->number != place)) {
        return (row_t){w->stats.rows + place * w->size, w->stats.biases[place]};
    }
    row_t row = {class_row(w->next), w->next->bias};
    w->next = next_class(w->next, w->size);
    w->own -= place < w->known;
    return row;
}

static uint32_t class_of(const int8_t *q, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; ++i) {
        best = q[i] > q[best] ? i : best;
    }
    return best;
}

// Writes the logits of all n classes to scratch; returns the first class with the largest score.
static uint32_t put_logits(
    edgelora_session_t *s, const classes_t *classes, uint32_t n, const int8_t *x) {
    const edgelora_model_t *m = session_model(s);
    class_rows_t walk = walk_rows(m, classes);
    const int8_t *q = edgelora_output(s);
    int32_t *scores = arena_at(s, s->scratch), top = q[class_of(q, walk.known)];
    int32_t zp = model_tensor(m, model_op(m, s->op_count - 1u)->input)->zero_point;
    uint32_t exponent = walk.stats.head->exponent, best = 0;
    for (uint32_t k = 0; k < n; ++k) {
        row_t row = next_row(&walk);
        scores[k] = score(row.row, row.bias, x, zp, walk.size);
        if (k < walk.known) { // the last layer's output for this class
            uint32_t below = (uint32_t)(top - q[k]) * m->logit_scale; // Q16 nats, < 2^31
            scores[k] -= (int32_t)(below >> (16 - exponent));
        }
        best = scores[k] > scores[best] ? k : best;
    }
    as_logits(m, scores, n, scores[best], exponent);
    return best;
}

int32_t edgelora_classes_decide(edgelora_session_t *s, const int8_t *x) {
    const classes_t classes = used_classes(s);
    const edgelora_model_t *m = session_model(s);
    uint32_t known = edgelora_output_size(m);
    uint32_t best = put_logits(s, &classes, known + classes.added, x);
    return best < known
        ? (int32_t)best
        : class_at(&classes, edgelora_class_size(m), classes.own + best - known)->number;
}

// The error of the last layer's outputs from the errors d of all classes, s32, Q15. Logits are
// distances from the largest output, which therefore receives minus the sum of d.
static void output_error(const int32_t *d, const int8_t *q, uint32_t known, edgelora_block_t *e) {
    uint32_t top = class_of(q, known);
    int32_t sum = 0;
    for (uint32_t k = 0; k < known; ++k) {
        sum += d[k];
    }
    for (uint32_t k = 0; k < known; ++k) {
        int32_t v = edgelora_within_grid(d[k] - (k == top ? sum : 0), q[k]);
        edgelora_block_append(e, &v, 1);
    }
}

// The error of the last layer's inputs through the rows, in the same unit, from the errors d of all
// n classes, s32, Q15, which it overwrites. Returns its exponent.
static int32_t input_error(
    const edgelora_model_t *m, const classes_t *classes, int32_t *d, uint32_t n, int8_t *e) {
    uint32_t size = edgelora_class_size(m);
    int32_t bits = bit_length(m->logit_scale), v[EDGELORA_PIECE];
    uint32_t scale = bits > 16 ? m->logit_scale >> (bits - 16) : m->logit_scale << (16 - bits);
    int32_t inverse = (int32_t)((1u << 30) / scale); // (2^14, 2^15]
    for (uint32_t k = 0; k < n; ++k) {
        d[k] = trunc_shift(d[k] * inverse, 16);
    }
    edgelora_block_t block = {e, 0, 0, model_rounds(m)};
    while (block.count < size) {
        uint32_t left = size - block.count, count = left < EDGELORA_PIECE ? left : EDGELORA_PIECE;
        class_rows_t walk = walk_rows(m, classes);
        for (uint32_t i = 0; i < count; ++i) {
            v[i] = 0;
        }
        for (uint32_t k = 0; k < n; ++k) {
            const int16_t *row = next_row(&walk).row + block.count;
            for (uint32_t i = 0; i < count; ++i) {
                v[i] += d[k] * row[i]; // < 2^31: the sum of all |d| is at most 2^15 + n
            }
        }
        edgelora_block_append(&block, v, count);
    }
    return block.shift + 3 - bits - model_class_stats(m).head->exponent;
}

int32_t edgelora_classes_loss(edgelora_session_t *s, const classes_t *classes, uint32_t place,
    const int8_t *x, edgelora_op_state_t *last, edgelora_op_state_t *below) {
    const edgelora_model_t *m = session_model(s);
    uint32_t n = edgelora_output_size(m) + classes->added;
    int32_t *d = arena_at(s, s->scratch);
    put_logits(s, classes, n, x);
    int32_t loss = edgelora_logits_error(m, arena_at(s, s->scratch), n, place, d);
    edgelora_block_t e = {arena_at(s, last->at[EDGELORA_ERROR]), 0, 0, model_rounds(m)};
    output_error(d, edgelora_output(s), edgelora_output_size(m), &e);
    last->exponent = (int16_t)(e.shift - 15);
    if (below) {
        int8_t *error = arena_at(s, below->at[EDGELORA_ERROR]);
        below->exponent = (int16_t)input_error(m, classes, d, n, error);
    }
    return loss;
}

const int8_t *edgelora_class_logits(edgelora_session_t *s) {
    return arena_at(s, s->scratch);
}

uint32_t edgelora_class_count(edgelora_session_t *s) {
    return output_classes(session_model(s)) + s->used_classes.added;
}

EDGELORA_RAM uint32_t edgelora_class_place(
    const edgelora_model_t *m, const classes_t *classes, uint32_t label) {
    uint32_t known = edgelora_output_size(m), size = edgelora_class_size(m);
    if (label < known) {
        return label;
    }
    for (uint32_t k = 0; k < classes->added; ++k) {
        if (class_at(classes, size, classes->own + k)->number == label) {
            return known + k;
        }
    }
    return UINT32_MAX;
}
