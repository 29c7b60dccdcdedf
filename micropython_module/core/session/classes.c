// Classes that the base does not have, and a person's own picture of those that it has: a row each,
// made from a few samples (SPEC.md, section 3). SPDX-License-Identifier: MIT

#include "session/session.h"

// A mean of n values below 256 in 1/16, rounded, from their sum.
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
    space_t space = model_space(model);
    void *behind = out + 1;
    int16_t *row = behind;
    int32_t bias = 0;
    for (uint32_t j = 0; j < size; ++j) {
        sums[j] = class_mean(sums[j], n);
    }
    for (uint32_t i = 0; i < align4(2 * size) / 2; ++i) {
        int32_t sum = 0; // of 128 values within 2^23
        for (uint32_t j = 0; i < size && j < size; ++j) {
            sum += (inverse_at(space.inverse, i, j) * sums[j] + 8) >> 4;
        }
        row[i] = (int16_t)clamp_s32(round_shift(sum, space.head->row_shift), -32767, 32767);
    }
    for (uint32_t j = 0; j < size; ++j) {
        bias += (row[j] * sums[j] + 8) >> 4;
    }
    out->bias = -((bias + 1) >> 1);
    out->samples = (uint16_t)n;
    return EDGELORA_OK;
}

static int32_t score(const int16_t *row, int32_t bias, const int8_t *x, int32_t zp, uint32_t size) {
    for (uint32_t i = 0; i < size; ++i) {
        bias += row[i] * (x[i] - zp);
    }
    return bias;
}

// Scores beneath the largest in steps of the loss tensor, as int8 below 127, in place of the scores.
static void as_logits(const edgelora_model_t *m, int32_t *scores, uint32_t n, int32_t top,
    uint32_t exponent) {
    int8_t *q = (int8_t *)scores;
    uint32_t most = (255u * m->logit_scale) >> (16 - exponent);
    for (uint32_t i = 0; i < n; ++i) {
        uint32_t below = (uint32_t)top - (uint32_t)scores[i];
        uint32_t steps = below >= most ? 255 : (below << (16 - exponent)) / m->logit_scale;
        q[i] = (int8_t)(127 - (int32_t)steps);
    }
}

int32_t edgelora_classes_decide(edgelora_session_t *s, const int8_t *x) {
    const edgelora_model_t *m = session_model(s);
    uint32_t size = edgelora_class_size(m), known = edgelora_output_size(m), n = known, best = 0;
    const edgelora_tensor_t *t = model_tensor(m, model_op(m, s->op_count - 1u)->input);
    space_t space = model_space(m);
    const int8_t *q = edgelora_output(s);
    int32_t *scores = arena_at(s, s->scratch), zp = t->zero_point, top = -128;
    for (uint32_t k = 0; k < known; ++k) {
        top = q[k] > top ? q[k] : top;
        scores[k] = score(space.rows + k * size, space.biases[k], x, zp, size);
    }
    const edgelora_classes_t *record = s->classes.p;
    const edgelora_class_t *c = first_class(record);
    uint32_t number = 0;
    for (uint32_t i = 0; i < record->count; ++i, c = next_class(c, size)) {
        uint32_t k = c->number < known ? c->number : n++;
        scores[k] = score(class_row(c), c->bias, x, zp, size);
    }
    for (uint32_t k = 0; k < known; ++k) { // what the last layer says of known classes
        uint32_t below = (uint32_t)(top - q[k]) * m->logit_scale; // Q16 nats, < 2^31
        scores[k] -= (int32_t)(below >> (16 - space.head->exponent));
    }
    for (uint32_t k = 1; k < n; ++k) {
        best = scores[k] > scores[best] ? k : best;
    }
    as_logits(m, scores, n, scores[best], space.head->exponent);
    c = first_class(record);
    for (uint32_t i = 0, k = known; i < record->count; ++i, c = next_class(c, size)) {
        if (c->number >= known && k++ == best) {
            number = c->number;
        }
    }
    return (int32_t)(best < known ? best : number);
}

const int8_t *edgelora_class_logits(edgelora_session_t *s) {
    return arena_at(s, s->scratch);
}

uint32_t edgelora_class_count(edgelora_session_t *s) {
    uint32_t known = edgelora_output_size(session_model(s)), n = known;
    const edgelora_classes_t *record = s->classes.p;
    const edgelora_class_t *c = record ? first_class(record) : 0;
    for (uint32_t i = 0; record && i < record->count; ++i, c = next_class(c, record->size)) {
        n += c->number >= known;
    }
    return n;
}

uint32_t edgelora_class_place(edgelora_session_t *s, uint32_t label) {
    uint32_t known = edgelora_output_size(session_model(s)), n = known;
    const edgelora_classes_t *record = s->classes.p;
    if (label < known || !record) {
        return label;
    }
    const edgelora_class_t *c = first_class(record);
    for (uint32_t i = 0; i < record->count; ++i, c = next_class(c, record->size)) {
        if (c->number == label) {
            return n;
        }
        n += c->number >= known;
    }
    return UINT32_MAX;
}
