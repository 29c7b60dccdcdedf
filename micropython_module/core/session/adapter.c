// A session's adapters: begin, load, use, save.
// SPDX-License-Identifier: MIT

#include "session/adapter.h"
#include "session/classes.h"
#include "session/sketch.h"
#include "training/training.h"

// The class rows of an adapter that fits, or NULL.
static const edgelora_classes_t *adapter_classes(const void *adapter, uint32_t size) {
    const edgelora_record_t *r = edgelora_record(adapter, size, EDGELORA_RECORD_CLASSES);
    const void *body = r ? r + 1 : 0;
    return body;
}

// The low-rank part of op i if the session's adapter has a rank there.
static edgelora_lora_t *ranked_at(edgelora_session_t *s, uint32_t i) {
    edgelora_lora_t *l = session_lora(s, i);
    return l && l->rank ? l : 0;
}

// Generates A of a seed into the session's A matrices.
static void generate_a(edgelora_session_t *s, uint32_t seed) {
    for (uint32_t i = 0; i < s->op_count; ++i) {
        const edgelora_lora_t *l = ranked_at(s, i);
        if (l) {
            edgelora_shape_t g = edgelora_shape(session_model(s), i);
            edgelora_sketch_a(&g, stream(seed, i + 1), l->rank, arena_at(s, l->matrix_a.at));
        }
    }
    s->seed = seed;
    s->has_a = true;
}

// Puts the branches of an adapter that fits to use, and none on other layers. h NULL: none at all.
EDGELORA_HOT static void use_branches(edgelora_session_t *s, const edgelora_adapter_t *h) {
    bool stored = h && (h->flags & EDGELORA_A_STORED);
    adapter_reader_t r = h ? adapter_reader(h) : (adapter_reader_t){0};
    edgelora_op_state_t *op = session_ops(s);
    for (uint32_t i = 0; i < s->op_count; ++i, ++op) {
        edgelora_lora_t *l = op_lora(s, op);
        if (!l) {
            continue;
        }
        edgelora_branch_t branch = {0};
        if (r.layer < r.end && r.layer->op == i) {
            branch.rank = (uint8_t)r.layer->rank;
            branch.t_shift = r.layer->t_shift;
            branch.branch_shift = r.layer->branch_shift;
            branch.a = stored ? read_weights(&r, (uint32_t)branch.rank * r.layer->inputs)
                              : arena_at(s, l->matrix_a.at);
            branch.b = read_weights(&r, (uint32_t)branch.rank * r.layer->outputs);
            ++r.layer;
        }
        lora_use(l, &branch);
        op->flags &= 63u & ~(uint32_t)EDGELORA_OP_USED_CHOSEN;
    }
}

static void use_own(edgelora_session_t *s) {
    use_branches(s, 0);
    for (uint32_t i = 0; i < s->op_count; ++i) {
        edgelora_lora_t *l = ranked_at(s, i);
        if (l) {
            edgelora_branch_t own = lora_own(s, l);
            lora_use(l, &own);
        }
    }
}

// Do the adapter's layers and ranks equal the session's?
static bool same_ranks(edgelora_session_t *s, const void *adapter) {
    adapter_reader_t r = adapter_reader(adapter);
    for (uint32_t i = 0; i < s->op_count; ++i) {
        bool here = r.layer < r.end && r.layer->op == i;
        if (op_rank(s, &session_ops(s)[i]) != (here ? r.layer->rank : 0)) {
            return false;
        }
        r.layer += here;
    }
    return true;
}

EDGELORA_HOT static edgelora_status_t use(
    edgelora_session_t *s, const void *adapter, uint32_t size) {
    const edgelora_adapter_t *h = adapter;
    bool stored = h && (h->flags & EDGELORA_A_STORED);
    if (h && !stored && h->layer_count) {
        if (!same_ranks(s, adapter)) {
            return EDGELORA_ERR_RANKS;
        }
        if (!s->has_a || s->seed != h->seed) {
            if (s->begun) {
                return EDGELORA_ERR_SEED;
            }
            generate_a(s, h->seed);
        }
    }
    use_branches(s, h);
    bool records = h && (h->flags & EDGELORA_RECORDS);
    const edgelora_classes_t *classes = records ? adapter_classes(adapter, size) : 0;
    s->classes.p = classes;
    s->used_classes = classes ? edgelora_classes_count(session_model(s), classes)
                              : (edgelora_class_counts_t){0, 0};
    return EDGELORA_OK;
}

EDGELORA_HOT edgelora_status_t edgelora_use(
    edgelora_session_t *s, const void *adapter, uint32_t size) {
    if (!edgelora_enter(s)) {
        return EDGELORA_ERR_BUSY;
    }
    edgelora_ends_t ends;
    edgelora_status_t status = !adapter ? EDGELORA_OK
                                        : edgelora_adapter_fits(s, adapter, size, &ends);
    return edgelora_leave(s, status == EDGELORA_OK ? use(s, adapter, size) : status);
}

// Initializes a matrix's training state from its weights: masters; no scale, momentum or gradient.
static void matrix_start(edgelora_session_t *s, edgelora_matrix_t *m) {
    if (m->trains) { // otherwise it has no such arrays
        const int8_t *weight = arena_at(s, m->at);
        int16_t *master = arena_at(s, matrix_master(m)),
                *momentum = arena_at(s, matrix_momentum(m));
        for (uint32_t i = 0; i < m->count; ++i) {
            master[i] = (int16_t)(weight[i] * 256);
            if (s->momentum) {
                momentum[i] = 0;
            }
        }
    }
    m->scale = 0;
    m->scale_exponent = 0;
    m->is_set = false;
}

static void training_start(edgelora_session_t *s) {
    for (uint32_t i = 0; i < s->op_count; ++i) {
        edgelora_lora_t *l = ranked_at(s, i);
        if (l) {
            matrix_start(s, &l->matrix_a);
            matrix_start(s, &l->matrix_b);
        }
    }
    s->draws = s->updates = s->samples = s->pending = 0;
    s->records.p = s->classes.p = 0;
    s->records_size = 0;
    s->trained_classes = s->used_classes = (edgelora_class_counts_t){0, 0};
    s->begun = true;
    use_own(s);
}

static edgelora_status_t begin(edgelora_session_t *s, uint32_t seed) {
    if (s->mode == EDGELORA_INFER) {
        return EDGELORA_ERR_MODE;
    }
    generate_a(s, seed);
    for (uint32_t i = 0; i < s->op_count; ++i) {
        edgelora_lora_t *l = ranked_at(s, i);
        if (l) {
            const edgelora_op_t *op = model_op(session_model(s), i);
            int8_t *b = arena_at(s, l->matrix_b.at);
            for (uint32_t n = 0; n < l->matrix_b.count; ++n) {
                b[n] = 0;
            }
            l->t_shift = op->t_shift;
            l->branch_shift = op->branch_shift;
        }
    }
    training_start(s);
    s->a_is_seeded = s->mode == EDGELORA_FROZEN_A;
    s->has_a = s->a_is_seeded;
    return EDGELORA_OK;
}

edgelora_status_t edgelora_begin(edgelora_session_t *s, uint32_t seed) {
    return edgelora_enter(s) ? edgelora_leave(s, begin(s, seed)) : EDGELORA_ERR_BUSY;
}

static void read_state(edgelora_session_t *s, adapter_reader_t *r, edgelora_matrix_t *m) {
    copy_bytes(&m->scale, r->weights, 2);
    copy_bytes(&m->scale_exponent, r->weights + 2, 2);
    copy_bytes(arena_at(s, matrix_master(m)), r->weights + 4, 2 * m->count);
    r->weights += 4 + align4(2 * m->count);
    if (s->momentum) {
        copy_bytes(arena_at(s, matrix_momentum(m)), r->weights, 2 * m->count);
        r->weights += align4(2 * m->count);
    }
}

static edgelora_status_t load_layers(edgelora_session_t *s, const void *adapter) {
    const edgelora_adapter_t *h = adapter;
    if (!h->layer_count) {
        return begin(s, h->seed);
    }
    if (!same_ranks(s, adapter)) {
        return EDGELORA_ERR_RANKS;
    }
    bool stored = h->flags & EDGELORA_A_STORED;
    bool trainable = s->mode == EDGELORA_TRAINABLE_A;
    if (!stored) {
        generate_a(s, h->seed);
    }
    adapter_reader_t r = adapter_reader(adapter);
    for (; r.layer < r.end; ++r.layer) {
        edgelora_lora_t *l = session_lora(s, r.layer->op);
        if (stored) {
            copy_bytes(arena_at(s, l->matrix_a.at), read_weights(&r, l->matrix_a.count),
                l->matrix_a.count);
        }
        copy_bytes(
            arena_at(s, l->matrix_b.at), read_weights(&r, l->matrix_b.count), l->matrix_b.count);
        l->t_shift = r.layer->t_shift;
        l->branch_shift = r.layer->branch_shift;
    }
    training_start(s);
    s->seed = h->seed;
    s->a_is_seeded = !stored && !trainable;
    s->has_a = s->a_is_seeded;
    bool same_mode = !(h->flags & EDGELORA_A_TRAINABLE) == !trainable && h->momentum == s->momentum;
    if ((h->flags & EDGELORA_STATE) && same_mode) {
        for (uint32_t i = 0; i < s->op_count; ++i) {
            edgelora_lora_t *l = ranked_at(s, i);
            if (l) {
                if (trainable) {
                    read_state(s, &r, &l->matrix_a);
                }
                read_state(s, &r, &l->matrix_b);
            }
        }
        s->draws = h->draws;
        s->updates = h->updates;
        s->samples = h->samples;
    }
    return EDGELORA_OK;
}

static edgelora_status_t load(edgelora_session_t *s, const void *adapter, uint32_t size) {
    edgelora_status_t status = s->mode == EDGELORA_INFER ? EDGELORA_ERR_MODE
                                                         : edgelora_adapter_check(s, adapter, size);
    status = status == EDGELORA_OK ? load_layers(s, adapter) : status;
    const edgelora_adapter_t *h = adapter;
    if (status == EDGELORA_OK && (h->flags & EDGELORA_RECORDS)) {
        uint32_t at = edgelora_adapter_ends(h).layers;
        const edgelora_classes_t *classes = adapter_classes(adapter, size);
        s->records.p = (const uint8_t *)adapter + at;
        s->records_size = size - at;
        s->classes.p = classes;
        s->trained_classes = s->used_classes = edgelora_classes_count(session_model(s), classes);
    }
    return status;
}

edgelora_status_t edgelora_load(edgelora_session_t *s, const void *adapter, uint32_t size) {
    return edgelora_enter(s) ? edgelora_leave(s, load(s, adapter, size)) : EDGELORA_ERR_BUSY;
}

static uint32_t state_size(const edgelora_session_t *s, const edgelora_matrix_t *m) {
    return m->trains ? matrix_state_size(m->count, s->momentum) : 0;
}

static uint32_t adapter_size(edgelora_session_t *s, bool a_stored, bool state) {
    uint32_t size = sizeof(edgelora_adapter_t);
    for (uint32_t i = 0; i < s->op_count; ++i) {
        const edgelora_lora_t *l = ranked_at(s, i);
        if (l) {
            size += (uint32_t)sizeof(edgelora_adapter_layer_t) +
                (a_stored ? align4(l->matrix_a.count) : 0) + align4(l->matrix_b.count);
            size += state ? state_size(s, &l->matrix_a) + state_size(s, &l->matrix_b) : 0;
        }
    }
    return size;
}

uint32_t edgelora_adapter_size(edgelora_session_t *s, bool state) {
    return adapter_size(s, !s->a_is_seeded, state) + s->records_size;
}

static uint8_t *put(uint8_t *out, const void *from, uint32_t size) {
    copy_bytes(out, from, size);
    for (out += size; size & 3; ++size) {
        *out++ = 0;
    }
    return out;
}

static uint8_t *put_state(edgelora_session_t *s, uint8_t *out, const edgelora_matrix_t *m) {
    if (!m->trains) {
        return out;
    }
    copy_bytes(out, &m->scale, 2);
    copy_bytes(out + 2, &m->scale_exponent, 2);
    out = put(out + 4, arena_at(s, matrix_master(m)), 2 * m->count);
    return s->momentum ? put(out, arena_at(s, matrix_momentum(m)), 2 * m->count) : out;
}

static int32_t save(edgelora_session_t *s, bool state, void *buffer, uint32_t room) {
    edgelora_status_t status = training_status(s);
    if (status != EDGELORA_OK) {
        return status;
    }
    if (state && s->pending) {
        return EDGELORA_ERR_PENDING;
    }
    uint32_t size = edgelora_adapter_size(s, state);
    if (room < size) {
        return EDGELORA_ERR_SIZE;
    }
    if ((uintptr_t)buffer & 3) {
        return EDGELORA_ERR_ALIGN;
    }
    if (!writable(s, buffer, size) || !apart(buffer, size, s->records.p, s->records_size)) {
        return EDGELORA_ERR_ALIAS;
    }
    bool stored = !s->a_is_seeded, trainable = s->mode == EDGELORA_TRAINABLE_A;
    edgelora_adapter_t h;
    edgelora_adapter_header(&h, session_model(s), size);
    h.seed = s->seed;
    h.flags = (uint16_t)((stored ? EDGELORA_A_STORED : 0) | (state ? EDGELORA_STATE : 0) |
        (trainable ? EDGELORA_A_TRAINABLE : 0) | (s->records.p ? EDGELORA_RECORDS : 0));
    h.updates = s->updates;
    h.draws = s->draws;
    h.momentum = s->momentum;
    h.threshold = s->threshold;
    h.samples = s->samples;
    uint8_t *out = (uint8_t *)buffer + sizeof(h);
    for (uint32_t i = 0; i < s->op_count; ++i) {
        const edgelora_lora_t *l = ranked_at(s, i);
        if (l) {
            edgelora_shape_t g = edgelora_shape(session_model(s), i);
            edgelora_adapter_layer_t record = {
                (uint16_t)i, l->rank, g.out_c, (uint16_t)g.inputs, l->t_shift, l->branch_shift, 0};
            out = put(out, &record, sizeof(record));
            h.layer_count += 1;
        }
    }
    for (uint32_t i = 0; i < s->op_count; ++i) {
        const edgelora_lora_t *l = ranked_at(s, i);
        if (l) {
            out = stored ? put(out, arena_at(s, l->matrix_a.at), l->matrix_a.count) : out;
            out = put(out, arena_at(s, l->matrix_b.at), l->matrix_b.count);
        }
    }
    for (uint32_t i = 0; state && i < s->op_count; ++i) {
        const edgelora_lora_t *l = ranked_at(s, i);
        if (l) {
            out = put_state(s, out, &l->matrix_a);
            out = put_state(s, out, &l->matrix_b);
        }
    }
    copy_bytes(out, s->records.p, s->records_size);
    copy_bytes(buffer, &h, sizeof(h));
    edgelora_crc_write(buffer, size);
    return (int32_t)size;
}

int32_t edgelora_save(edgelora_session_t *s, bool state, void *buffer, uint32_t room) {
    return edgelora_enter(s) ? edgelora_leave(s, save(s, state, buffer, room)) : EDGELORA_ERR_BUSY;
}
