// Validates `.ela` files (SPEC.md, section 9): every byte of a file is checked here.
// SPDX-License-Identifier: MIT

#include "formats/formats.h"

enum { ALL_FLAGS = EDGELORA_A_STORED | EDGELORA_STATE | EDGELORA_A_TRAINABLE | EDGELORA_RECORDS };

// Checks one matrix's training state from `at` on; false if a value is out of range.
static bool state_ok(const uint8_t *at, uint32_t count, bool momentum) {
    uint16_t scale = *(const uint16_t *)(const void *)at;
    int16_t exponent = *(const int16_t *)(const void *)(at + 2);
    const int16_t *master = (const int16_t *)(const void *)(at + 4);
    const int16_t *mean = (const int16_t *)(const void *)(at + 4 + align4(2 * count));
    if ((scale && scale < 32768) || exponent < -EDGELORA_MAX_SCALE_EXPONENT ||
        exponent > EDGELORA_MAX_SCALE_EXPONENT) {
        return false;
    }
    for (uint32_t i = 0; i < count; ++i) {
        if (abs_u32(master[i]) > EDGELORA_MAX_MASTER ||
            (momentum && abs_u32(mean[i]) > EDGELORA_MAX_MEAN)) {
            return false;
        }
    }
    return true;
}

static inline edgelora_status_t header_check(
    const edgelora_session_t *s, const void *adapter, uint32_t size) {
    return apart(adapter, size, s, s->arena_size)
        ? edgelora_header_check(
              adapter, size, 'A', EDGELORA_ADAPTER_FORMAT, sizeof(edgelora_adapter_t))
        : EDGELORA_ERR_ALIAS;
}

bool edgelora_rank_fits(const edgelora_model_t *m, const edgelora_op_t *op, uint32_t rank) {
    const edgelora_tensor_t *in = model_tensor(m, op->input), *out = model_tensor(m, op->output);
    return op_has(op, EDGELORA_IS_MATRIX) &&
        rank_ok(rank, matrix_inputs(op, in), out->channels, (uint32_t)out->height * out->width);
}

// Checks a layer record against its op.
EDGELORA_KERNEL static bool layer_ok(const edgelora_model_t *m, const edgelora_adapter_layer_t *l) {
    if (l->op >= m->op_count || !shifts_ok(l->t_shift, l->branch_shift)) {
        return false;
    }
    const edgelora_op_t *op = model_op(m, l->op); // not edgelora_shape: each use() runs this
    const edgelora_tensor_t *in = model_tensor(m, op->input), *out = model_tensor(m, op->output);
    bool is_matrix = op->kind == EDGELORA_DENSE || op->kind == EDGELORA_CONV ||
        op->kind == EDGELORA_PROJECT;
    return is_matrix && l->outputs == out->channels && l->inputs == matrix_inputs(op, in) &&
        rank_ok(l->rank, l->inputs, l->outputs, (uint32_t)out->height * out->width);
}

// Adds a layer to where the weights and, as `layers`, the training state of those before it end.
static inline edgelora_ends_t behind_layer(
    edgelora_ends_t ends, const edgelora_adapter_t *h, const edgelora_adapter_layer_t *l) {
    uint32_t count_a = (uint32_t)l->rank * l->inputs, count_b = (uint32_t)l->rank * l->outputs;
    // < 2^27 for EDGELORA_MAX_OPS layers, and the state < 2^29: no overflow
    ends.weights += (h->flags & EDGELORA_A_STORED ? align4(count_a) : 0) + align4(count_b);
    if (h->flags & EDGELORA_STATE) {
        ends.layers += (h->flags & EDGELORA_A_TRAINABLE ? matrix_state_size(count_a, h->momentum)
                                                        : 0) +
            matrix_state_size(count_b, h->momentum);
    }
    return ends;
}

static inline uint32_t layers_end(const edgelora_adapter_t *h) {
    return (uint32_t)sizeof(*h) + h->layer_count * (uint32_t)sizeof(edgelora_adapter_layer_t);
}

edgelora_ends_t edgelora_adapter_ends(const edgelora_adapter_t *h) {
    const edgelora_adapter_layer_t *layers = adapter_layers(h);
    edgelora_ends_t ends = {layers_end(h), 0};
    for (uint32_t i = 0; i < h->layer_count; ++i) {
        ends = behind_layer(ends, h, &layers[i]);
    }
    return (edgelora_ends_t){ends.weights, ends.weights + ends.layers};
}

bool edgelora_body_fits(
    const edgelora_model_t *m, uint32_t kind, const void *body, uint32_t body_size) {
    return kind != EDGELORA_RECORD_CLASSES || edgelora_classes_fit(m, body, body_size);
}

// Checks that the records from `at` to the file's end are complete, known, ascending and
// zero-padded.
static edgelora_status_t records_fit(
    const edgelora_model_t *m, const uint8_t *file, uint32_t at, uint32_t size) {
    uint32_t last = 0;
    do {
        if (size - at < sizeof(edgelora_record_t)) {
            return EDGELORA_ERR_FORMAT;
        }
        const edgelora_record_t *r = (const edgelora_record_t *)(const void *)(file + at);
        if (r->kind >= EDGELORA_RECORD_KINDS || r->version != EDGELORA_RECORD_VERSION) {
            return EDGELORA_ERR_RECORD;
        }
        uint32_t left = size - at - (uint32_t)sizeof(*r); // a multiple of 4, as all before it is
        if (r->kind <= last || r->size > left || align4(r->size) > left) {
            return EDGELORA_ERR_FORMAT;
        }
        if (!edgelora_body_fits(m, r->kind, r + 1, r->size)) {
            return EDGELORA_ERR_FORMAT;
        }
        at += (uint32_t)sizeof(*r) + r->size;
        for (; at & 3; ++at) {
            if (file[at]) {
                return EDGELORA_ERR_FORMAT;
            }
        }
        last = r->kind;
    } while (at < size);
    return EDGELORA_OK;
}

EDGELORA_HOT edgelora_status_t edgelora_adapter_fits(
    const edgelora_session_t *s, const void *adapter, uint32_t size, edgelora_ends_t *ends) {
    edgelora_status_t status = header_check(s, adapter, size);
    if (status != EDGELORA_OK) {
        return status;
    }
    const edgelora_adapter_t *h = adapter;
    const edgelora_model_t *m = session_model(s);
    const uint32_t *base = (const uint32_t *)(const void *)h->base_id;
    const uint32_t *wanted = (const uint32_t *)(const void *)m->base_id;
    if (base[0] != wanted[0] || base[1] != wanted[1]) {
        return EDGELORA_ERR_BASE;
    }
    bool stored = h->flags & EDGELORA_A_STORED, trainable = h->flags & EDGELORA_A_TRAINABLE,
         records = h->flags & EDGELORA_RECORDS;
    if ((h->flags & ~ALL_FLAGS) || (trainable && !stored) || h->momentum > EDGELORA_MAX_MOMENTUM ||
        h->threshold > EDGELORA_MAX_THRESHOLD || h->layer_count > m->op_count ||
        (!h->layer_count && h->flags != EDGELORA_RECORDS) || size < layers_end(h)) {
        return EDGELORA_ERR_FORMAT;
    }
    const edgelora_adapter_layer_t *l = adapter_layers(h), *end = l + h->layer_count;
    edgelora_ends_t at = {layers_end(h), 0};
    for (uint32_t least = 0; l < end; least = l++->op + 1u) {
        if (l->op < least || !layer_ok(m, l)) {
            return EDGELORA_ERR_FORMAT;
        }
        at = behind_layer(at, h, l);
    }
    at.layers += at.weights;
    *ends = at;
    if (records && at.layers < size) {
        return records_fit(m, adapter, at.layers, size);
    }
    return !records && at.layers == size ? EDGELORA_OK : EDGELORA_ERR_FORMAT;
}

const edgelora_record_t *edgelora_record(
    const void *adapter, uint32_t size, edgelora_record_kind_t kind) {
    const edgelora_adapter_t *h = adapter;
    if (((uintptr_t)adapter & 3) || size < sizeof(*h) || !(h->flags & EDGELORA_RECORDS) ||
        size < layers_end(h)) {
        return 0;
    }
    for (uint32_t at = edgelora_adapter_ends(h).layers;
        at <= size && size - at >= sizeof(edgelora_record_t);) {
        const void *here = (const uint8_t *)adapter + at;
        const edgelora_record_t *r = here;
        uint32_t left = size - at - (uint32_t)sizeof(*r);
        if (r->size > left) {
            return 0;
        }
        if (r->kind == kind) {
            return r;
        }
        if (align4(r->size) > left) {
            return 0;
        }
        at += record_span(r->size);
    }
    return 0;
}

// Is any byte of these words -128?
EDGELORA_KERNEL static bool any_lowest(const void *from, const void *end) {
    uint32_t found = 0;
    for (const uint32_t *word = from; word != end; ++word) {
        // top bit of each byte: set if any of its lower 7 bits is
        uint32_t low_bits = (*word & 0x7F7F7F7Fu) + 0x7F7F7F7Fu;
        found |= *word & ~low_bits;
    }
    return found & 0x80808080u;
}

edgelora_status_t edgelora_adapter_check(
    const edgelora_session_t *s, const void *adapter, uint32_t size) {
    edgelora_status_t status = header_check(s, adapter, size);
    // before the base id: a damaged file must not be reported as one for another base
    status = status == EDGELORA_OK ? edgelora_crc_check(adapter, size) : status;
    edgelora_ends_t ends = {0};
    status = status == EDGELORA_OK ? edgelora_adapter_fits(s, adapter, size, &ends) : status;
    if (status != EDGELORA_OK) {
        return status;
    }
    const edgelora_adapter_t *h = adapter;
    const edgelora_adapter_layer_t *layers = adapter_layers(h);
    // Weights are above -128; their padding, which brings every matrix to whole words, is 0.
    if (any_lowest(layers + h->layer_count, (const uint8_t *)adapter + ends.weights)) {
        return EDGELORA_ERR_FORMAT;
    }
    if (h->flags & EDGELORA_STATE) {
        bool trainable = h->flags & EDGELORA_A_TRAINABLE;
        const uint8_t *at = (const uint8_t *)adapter + ends.weights;
        for (uint32_t i = 0; i < h->layer_count; ++i) {
            const uint32_t counts[2] = {
                trainable ? (uint32_t)layers[i].rank * layers[i].inputs : 0,
                (uint32_t)layers[i].rank * layers[i].outputs};
            for (int k = 0; k < 2; ++k) {
                if (counts[k]) {
                    if (!state_ok(at, counts[k], h->momentum)) {
                        return EDGELORA_ERR_FORMAT;
                    }
                    at += matrix_state_size(counts[k], h->momentum);
                }
            }
        }
    }
    return EDGELORA_OK;
}
