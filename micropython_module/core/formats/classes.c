// Validates class statistics of `.elm` and class records of `.ela` (SPEC.md, sections 8 and 9).
// SPDX-License-Identifier: MIT

#include "formats/formats.h"

enum { CLASS_STATS_VERSION = 1 };

// Inputs of the last op; 0 if the model can't have added classes.
static uint32_t head_inputs(const edgelora_model_t *m) {
    const edgelora_op_t *op = model_op(m, m->op_count - 1u);
    uint32_t size = tensor_size(m, op->input);
    bool head = m->loss == EDGELORA_CROSS_ENTROPY && op->kind == EDGELORA_DENSE;
    return head && size <= EDGELORA_MAX_CLASS_INPUTS ? size : 0;
}

// Bytes of the statistics: header, biases, rows, triangle.
static uint32_t class_stats_size(uint32_t inputs, uint32_t classes) {
    return (uint32_t)sizeof(edgelora_class_stats_t) + 4 * classes + align4(2 * classes * inputs) +
        align4(inputs * (inputs + 1));
}

uint32_t edgelora_class_size(const void *model) {
    const edgelora_model_t *m = model;
    return m->flags & EDGELORA_CLASS_STATS ? head_inputs(m) : 0;
}

class_stats_t model_class_stats(const void *model) {
    const edgelora_model_t *m = model;
    uint32_t inputs = head_inputs(m), classes = tensor_size(m, m->op_count);
    const edgelora_class_stats_t *head = model_at(
        model, m->labels - class_stats_size(inputs, classes));
    const void *biases = head + 1, *rows = (const int32_t *)biases + classes;
    const void *inverse = (const uint8_t *)rows + align4(2 * classes * inputs);
    return (class_stats_t){head, biases, rows, inverse};
}

edgelora_status_t edgelora_class_stats_check(const void *model) {
    const edgelora_model_t *m = model;
    if (m->flags & ~(EDGELORA_CLASS_STATS | EDGELORA_ROUNDS)) {
        return EDGELORA_ERR_FORMAT;
    }
    if (!(m->flags & EDGELORA_CLASS_STATS)) {
        return EDGELORA_OK;
    }
    uint32_t inputs = head_inputs(m), classes = tensor_size(m, m->op_count);
    if (!inputs || (m->labels & 3) || m->labels < sizeof(*m) + class_stats_size(inputs, classes)) {
        return EDGELORA_ERR_FORMAT;
    }
    class_stats_t stats = model_class_stats(model);
    if (stats.head->version != CLASS_STATS_VERSION) {
        return EDGELORA_ERR_UNSUPPORTED;
    }
    bool ok = stats.head->row_shift <= EDGELORA_MAX_ROW_SHIFT &&
        stats.head->exponent <= EDGELORA_MAX_SCORE && !stats.head->unused;
    for (uint32_t k = 0; k < classes; ++k) {
        ok = ok && abs_u32(stats.biases[k]) <= EDGELORA_MAX_CLASS_BIAS;
    }
    return ok ? EDGELORA_OK : EDGELORA_ERR_FORMAT;
}

bool edgelora_classes_fit(const edgelora_model_t *m, const void *body, uint32_t body_size) {
    uint32_t size = edgelora_class_size(m), known = tensor_size(m, m->op_count);
    const edgelora_classes_t *record = body;
    if (!size || body_size < sizeof(*record) || record->size != size || !record->count ||
        record->count > EDGELORA_MAX_CLASSES ||
        body_size != sizeof(*record) + record->count * class_span(size)) {
        return false;
    }
    const edgelora_class_t *c = first_class(record);
    uint32_t added = 0;
    for (uint32_t i = 0, least = 0; i < record->count; ++i, c = next_class(c, size)) {
        bool is_added = c->number >= known;
        added += is_added;
        if (c->number < least || c->number >= EDGELORA_MAX_CLASSES || !c->samples ||
            abs_u32(c->bias) > EDGELORA_MAX_CLASS_BIAS || is_added != (c->name[0] != 0) ||
            ((size & 1) && class_row(c)[size])) {
            return false;
        }
        least = c->number + 1u;
    }
    return added <= EDGELORA_MAX_ADDED;
}
