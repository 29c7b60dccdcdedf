// A session: inference, training, adapters. SPDX-License-Identifier: MIT

#include "internal.h"

edgelora_session_t *edgelora_session(void *arena, uint32_t arena_size) {
    edgelora_session_t *s = arena;
    bool ok = ((uintptr_t)arena & 7) == 0 && arena_size >= sizeof(*s) && s->self.p == arena && s->magic == 0x454C5331 &&
        s->arena_size == arena_size;
    return ok ? s : 0;
}

static void *at(edgelora_session_t *s, uint32_t offset) {
    return (uint8_t *)s + offset;
}

// The training adapter's part in an op.
static edgelora_branch_t own_branch(edgelora_session_t *s, const edgelora_layer_t *l) {
    return (edgelora_branch_t){at(s, l->matrix_a.weight), at(s, l->matrix_b.weight), l->rank, l->t_shift, l->branch_shift};
}

static edgelora_branch_t used_branch(const edgelora_layer_t *l) {
    return (edgelora_branch_t){l->a.p, l->b.p, l->used_rank, l->used_t_shift, l->used_branch_shift};
}

// train: with the training adapter, keeping what the backward pass needs.
static void forward(edgelora_session_t *s, const int8_t *x, bool train) {
    edgelora_layer_t *layers = session_layers(s);
    for (uint32_t i = 0; i < s->op_count; ++i) {
        edgelora_layer_t *l = &layers[i];
        edgelora_shape_t g = edgelora_shape(s->model.p, i);
        int8_t *y = at(s, l->span[EDGELORA_OUTPUT].offset);
        uint8_t *mask = train && l->span[EDGELORA_MASK].size ? at(s, l->span[EDGELORA_MASK].offset) : 0;
        if (g.is_matrix) {
            edgelora_branch_t branch = train ? own_branch(s, l) : used_branch(l);
            int8_t *t = train && l->rank ? at(s, l->span[EDGELORA_T].offset) : 0;
            edgelora_matrix_forward_s8(&g, &branch, x, y, t, mask, at(s, s->patch));
        } else {
            edgelora_pool_forward_s8(&g, x, y, mask);
        }
        x = y;
    }
}

const int8_t *edgelora_output(edgelora_session_t *s) {
    return at(s, session_layers(s)[s->op_count - 1].span[EDGELORA_OUTPUT].offset);
}

int32_t edgelora_infer(edgelora_session_t *s, const int8_t *x) {
    forward(s, x, false);
    const int8_t *y = edgelora_output(s);
    uint32_t n = edgelora_output_size(s->model.p), best = 0;
    for (uint32_t i = 1; i < n; ++i) {
        best = y[i] > y[best] ? i : best;
    }
    return (int32_t)best;
}

static bool any_s8(const int8_t *e, uint32_t n) {
    while (n--) {
        if (e[n]) {
            return true;
        }
    }
    return false;
}

// One op's step of the backward pass. x: its input. Returns the exponent of its input's error.
static int32_t op_backward(edgelora_session_t *s, uint32_t i, const int8_t *x, int32_t exponent) {
    edgelora_layer_t *layers = session_layers(s), *l = &layers[i];
    edgelora_shape_t g = edgelora_shape(s->model.p, i);
    int8_t *e = at(s, l->span[EDGELORA_ERROR].offset), *u = at(s, l->span[EDGELORA_U].offset);
    int8_t *dx = i > s->lowest ? at(s, l[-1].span[EDGELORA_ERROR].offset) : 0;
    int32_t *row = at(s, s->row);
    if (l->span[EDGELORA_MASK].size) {
        edgelora_mask_backward_s8(e, g.positions * g.out_c, at(s, l->span[EDGELORA_MASK].offset));
    }
    if (!g.is_matrix) {
        if (g.op->kind == EDGELORA_MEAN) {
            exponent = edgelora_requantize_backward_s8(e, 1, g.out_c, g.multiplier, g.shift, false, l->shift_top, exponent);
        }
        return edgelora_pool_backward_s8(&g, e, exponent, dx, row);
    }
    edgelora_branch_t branch = own_branch(s, l);
    bool trains_a = s->mode == EDGELORA_TRAINABLE_A && l->rank;
    if (l->rank) {
        int32_t *gradient = at(s, l->matrix_b.gradient);
        int32_t shift = edgelora_gradient_open(&l->matrix_b, gradient, exponent);
        edgelora_b_gradient_s8(&g, l->rank, e, at(s, l->span[EDGELORA_T].offset), gradient, shift);
    }
    if (!trains_a && !dx) {
        return exponent;
    }
    exponent = edgelora_requantize_backward_s8(
        e, g.positions, g.out_c, g.multiplier, g.shift, true, l->shift_top, exponent);
    int32_t u_exponent = exponent;
    if (l->rank) {
        u_exponent = edgelora_branch_backward_s8(&g, &branch, e, u, exponent);
    }
    if (trains_a) {
        int32_t *gradient = at(s, l->matrix_a.gradient);
        int32_t shift = edgelora_gradient_open(&l->matrix_a, gradient, u_exponent);
        edgelora_a_gradient_s8(&g, l->rank, u, x, gradient, shift);
    }
    return dx ? edgelora_input_backward_s8(&g, &branch, e, exponent, u, u_exponent, dx, row) : exponent;
}

static void update(edgelora_session_t *s, uint16_t learning_rate) {
    edgelora_step_t step_a = {stream(s->seed, 0), &s->draws, learning_rate, 15, s->momentum}, step_b = step_a;
    step_b.shift = 16;
    edgelora_layer_t *layers = session_layers(s);
    for (uint32_t i = s->lowest; i < s->op_count; ++i) {
        if (layers[i].rank) {
            if (s->mode == EDGELORA_TRAINABLE_A) {
                edgelora_matrix_update((uint8_t *)s, &layers[i].matrix_a, &step_a);
            }
            edgelora_matrix_update((uint8_t *)s, &layers[i].matrix_b, &step_b);
        }
    }
    s->steps += 1;
    s->pending = 0;
}

edgelora_status_t edgelora_train(edgelora_session_t *s, const int8_t *x, uint32_t label, uint16_t learning_rate, int32_t *loss) {
    if (!s->begun) {
        return s->mode == EDGELORA_INFER ? EDGELORA_ERR_MODE : EDGELORA_ERR_NOT_BEGUN;
    }
    uint32_t classes = edgelora_output_size(s->model.p);
    if (label >= classes) {
        return EDGELORA_ERR_LABEL;
    }
    edgelora_layer_t *layers = session_layers(s);
    forward(s, x, true);
    int32_t exponent;
    bool any;
    int8_t *e = at(s, layers[s->op_count - 1].span[EDGELORA_ERROR].offset);
    *loss = edgelora_cross_entropy(s->model.p, edgelora_output(s), classes, label, at(s, s->row), e, &exponent, &any);
    for (uint32_t i = s->op_count; any && i-- > s->lowest;) {
        exponent = op_backward(s, i, i ? at(s, layers[i - 1].span[EDGELORA_OUTPUT].offset) : x, exponent);
        if (i > s->lowest) {
            const edgelora_span_t *below = &layers[i - 1].span[EDGELORA_ERROR];
            edgelora_shape_t g = edgelora_shape(s->model.p, i - 1);
            any = any_s8(at(s, below->offset), g.positions * g.out_c);
        }
    }
    s->samples += 1;
    if (++s->pending >= s->micro_batch) {
        update(s, learning_rate);
    }
    return EDGELORA_OK;
}

edgelora_status_t edgelora_flush(edgelora_session_t *s, uint16_t learning_rate) {
    if (!s->begun) {
        return s->mode == EDGELORA_INFER ? EDGELORA_ERR_MODE : EDGELORA_ERR_NOT_BEGUN;
    }
    if (s->pending) {
        update(s, learning_rate);
    }
    return EDGELORA_OK;
}

// A s8 [rank, K]: each row the sum of all rows of W with random signs, scaled down to int8. Such a sketch looks at the
// input through the directions that the layer itself uses.
static void sketch(const edgelora_shape_t *g, uint32_t from, uint32_t rank, int8_t *a) {
    enum { TILE = 16 };
    for (uint32_t j = 0; j < rank; ++j) {
        edgelora_block_t row = {a + j * g->inputs, 0, 0, false};
        while (row.count < g->inputs) {
            uint32_t n = g->inputs - row.count < TILE ? g->inputs - row.count : TILE;
            int32_t sum[TILE] = {0}; // |sum| <= 128 * out_c
            for (uint32_t o = 0; o < g->out_c; ++o) {
                bool plus = mix(from + (j * g->out_c + o) * EDGELORA_GOLDEN) >> 31;
                const int8_t *w = g->weights + o * g->inputs + row.count;
                for (uint32_t i = 0; i < n; ++i) {
                    sum[i] += plus ? w[i] : -w[i];
                }
            }
            edgelora_block_append(&row, sum, n);
        }
    }
}

// Makes the A of a seed in the session's A matrices.
static void generate_a(edgelora_session_t *s, uint32_t seed) {
    edgelora_layer_t *layers = session_layers(s);
    for (uint32_t i = 0; i < s->op_count; ++i) {
        if (layers[i].rank) {
            edgelora_shape_t g = edgelora_shape(s->model.p, i);
            sketch(&g, stream(seed, i + 1), layers[i].rank, at(s, layers[i].matrix_a.weight));
        }
    }
    s->seed = seed;
    s->has_a = true;
}

static void use_own(edgelora_session_t *s) {
    edgelora_layer_t *layers = session_layers(s);
    for (uint32_t i = 0; i < s->op_count; ++i) {
        edgelora_layer_t *l = &layers[i];
        l->a.p = l->rank ? at(s, l->matrix_a.weight) : 0;
        l->b.p = l->rank ? at(s, l->matrix_b.weight) : 0;
        l->used_rank = l->rank;
        l->used_t_shift = l->t_shift;
        l->used_branch_shift = l->branch_shift;
    }
}

// Walks the arrays of a checked adapter.
typedef struct {
    const edgelora_adapter_t *header;
    const edgelora_adapter_layer_t *layer, *end;
    const uint8_t *weights;
} adapter_reader_t;

static adapter_reader_t adapter_reader(const void *adapter) {
    const edgelora_adapter_t *h = adapter;
    const edgelora_adapter_layer_t *layers = (const edgelora_adapter_layer_t *)(const void *)(h + 1);
    return (adapter_reader_t){h, layers, layers + h->layer_count, (const uint8_t *)(layers + h->layer_count)};
}

static const int8_t *read_weights(adapter_reader_t *r, uint32_t count) {
    const int8_t *p = (const int8_t *)r->weights;
    r->weights += align4(count);
    return p;
}

// Do the adapter's layers and ranks equal the session's?
static bool same_ranks(edgelora_session_t *s, const void *adapter) {
    adapter_reader_t r = adapter_reader(adapter);
    edgelora_layer_t *layers = session_layers(s);
    for (uint32_t i = 0; i < s->op_count; ++i) {
        bool here = r.layer < r.end && r.layer->op == i;
        if (layers[i].rank != (here ? r.layer->rank : 0)) {
            return false;
        }
        r.layer += here;
    }
    return true;
}

EDGELORA_HOT edgelora_status_t edgelora_use(edgelora_session_t *s, const void *adapter) {
    edgelora_layer_t *layers = session_layers(s);
    const edgelora_adapter_t *h = adapter;
    bool stored = h && (h->flags & EDGELORA_A_STORED);
    if (h && !stored) {
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
    for (uint32_t i = 0; i < s->op_count; ++i) {
        layers[i].a.p = 0;
        layers[i].b.p = 0;
        layers[i].used_rank = 0;
    }
    if (h) {
        adapter_reader_t r = adapter_reader(adapter);
        for (; r.layer < r.end; ++r.layer) {
            edgelora_layer_t *l = &layers[r.layer->op];
            l->a.p = stored ? read_weights(&r, (uint32_t)r.layer->rank * r.layer->inputs) : at(s, l->matrix_a.weight);
            l->b.p = read_weights(&r, (uint32_t)r.layer->rank * r.layer->outputs);
            l->used_rank = (uint8_t)r.layer->rank;
            l->used_t_shift = r.layer->t_shift;
            l->used_branch_shift = r.layer->branch_shift;
        }
    }
    return EDGELORA_OK;
}

// A matrix in training starts from its weights: masters, no scale, no momentum, no gradient.
static void matrix_start(edgelora_session_t *s, edgelora_matrix_t *m) {
    const int8_t *weight = at(s, m->weight);
    int16_t *master = at(s, m->master), *momentum = at(s, m->momentum);
    for (uint32_t i = 0; i < m->count; ++i) {
        master[i] = (int16_t)(clamp_s32(weight[i], -127, 127) * 256);
        if (m->momentum) {
            momentum[i] = 0;
        }
    }
    m->scale = 0;
    m->scale_exponent = 0;
    m->is_set = false;
}

static void training_start(edgelora_session_t *s) {
    edgelora_layer_t *layers = session_layers(s);
    for (uint32_t i = 0; i < s->op_count; ++i) {
        if (layers[i].matrix_a.master) {
            matrix_start(s, &layers[i].matrix_a);
        }
        if (layers[i].matrix_b.master) {
            matrix_start(s, &layers[i].matrix_b);
        }
    }
    s->draws = s->steps = s->samples = s->pending = 0;
    s->begun = true;
    use_own(s);
}

edgelora_status_t edgelora_begin(edgelora_session_t *s, uint32_t seed) {
    if (s->mode == EDGELORA_INFER) {
        return EDGELORA_ERR_MODE;
    }
    generate_a(s, seed);
    edgelora_layer_t *layers = session_layers(s);
    for (uint32_t i = 0; i < s->op_count; ++i) {
        edgelora_layer_t *l = &layers[i];
        if (l->rank) {
            const edgelora_op_t *op = edgelora_shape(s->model.p, i).op;
            int8_t *b = at(s, l->matrix_b.weight);
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

static void copy(void *to, const void *from, uint32_t size) {
    uint8_t *out = to;
    const uint8_t *in = from;
    while (size--) {
        *out++ = *in++;
    }
}

static void read_state(edgelora_session_t *s, adapter_reader_t *r, edgelora_matrix_t *m) {
    copy(&m->scale, r->weights, 2);
    copy(&m->scale_exponent, r->weights + 2, 2);
    copy(at(s, m->master), r->weights + 4, 2 * m->count);
    r->weights += 4 + align4(2 * m->count);
    if (m->momentum) {
        copy(at(s, m->momentum), r->weights, 2 * m->count);
        r->weights += align4(2 * m->count);
    }
}

edgelora_status_t edgelora_load(edgelora_session_t *s, const void *adapter) {
    const edgelora_adapter_t *h = adapter;
    if (s->mode == EDGELORA_INFER) {
        return EDGELORA_ERR_MODE;
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
    edgelora_layer_t *layers = session_layers(s);
    for (; r.layer < r.end; ++r.layer) {
        edgelora_layer_t *l = &layers[r.layer->op];
        if (stored) {
            copy(at(s, l->matrix_a.weight), read_weights(&r, l->matrix_a.count), l->matrix_a.count);
        }
        copy(at(s, l->matrix_b.weight), read_weights(&r, l->matrix_b.count), l->matrix_b.count);
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
            if (layers[i].rank) {
                if (trainable) {
                    read_state(s, &r, &layers[i].matrix_a);
                }
                read_state(s, &r, &layers[i].matrix_b);
            }
        }
        s->draws = h->draws;
        s->steps = h->steps;
        s->samples = h->samples;
    }
    return EDGELORA_OK;
}

static uint32_t matrix_state_size(const edgelora_matrix_t *m) {
    return 4 + (m->momentum ? 2 : 1) * align4(2 * m->count);
}

static uint32_t adapter_size(edgelora_session_t *s, bool a_stored, bool state) {
    edgelora_layer_t *layers = session_layers(s);
    uint32_t size = sizeof(edgelora_adapter_t);
    for (uint32_t i = 0; i < s->op_count; ++i) {
        const edgelora_layer_t *l = &layers[i];
        if (l->rank) {
            size += (uint32_t)sizeof(edgelora_adapter_layer_t) + (a_stored ? align4(l->matrix_a.count) : 0) + align4(l->matrix_b.count);
            if (state) {
                size += (l->matrix_a.master ? matrix_state_size(&l->matrix_a) : 0) + matrix_state_size(&l->matrix_b);
            }
        }
    }
    return size;
}

uint32_t edgelora_adapter_size(edgelora_session_t *s, bool state) {
    return adapter_size(s, !s->a_is_seeded, state);
}

static uint8_t *put(uint8_t *out, const void *from, uint32_t size) {
    copy(out, from, size);
    for (out += size; size & 3; ++size) {
        *out++ = 0;
    }
    return out;
}

static uint8_t *put_state(edgelora_session_t *s, uint8_t *out, const edgelora_matrix_t *m) {
    copy(out, &m->scale, 2);
    copy(out + 2, &m->scale_exponent, 2);
    out = put(out + 4, at(s, m->master), 2 * m->count);
    return m->momentum ? put(out, at(s, m->momentum), 2 * m->count) : out;
}

int32_t edgelora_save(edgelora_session_t *s, bool state, void *buffer, uint32_t room) {
    if (!s->begun) {
        return s->mode == EDGELORA_INFER ? EDGELORA_ERR_MODE : EDGELORA_ERR_NOT_BEGUN;
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
    bool stored = !s->a_is_seeded, trainable = s->mode == EDGELORA_TRAINABLE_A;
    edgelora_layer_t *layers = session_layers(s);
    edgelora_adapter_t h = {
        .magic = {'E', 'L', 'A', '1'}, .version = EDGELORA_ADAPTER_FORMAT, .header_size = sizeof(h), .file_size = size, .seed = s->seed,
        .flags = (uint16_t)((stored ? EDGELORA_A_STORED : 0) | (state ? EDGELORA_STATE : 0) | (trainable ? EDGELORA_A_TRAINABLE : 0)),
        .steps = s->steps, .draws = s->draws, .momentum = s->momentum, .samples = s->samples,
    };
    copy(h.base_id, ((const edgelora_model_t *)s->model.p)->base_id, 8);
    uint8_t *out = (uint8_t *)buffer + sizeof(h);
    for (uint32_t i = 0; i < s->op_count; ++i) {
        const edgelora_layer_t *l = &layers[i];
        if (l->rank) {
            edgelora_shape_t g = edgelora_shape(s->model.p, i);
            edgelora_adapter_layer_t record = {(uint16_t)i, l->rank, g.out_c, (uint16_t)g.inputs, l->t_shift, l->branch_shift, 0};
            out = put(out, &record, sizeof(record));
            h.layer_count += 1;
        }
    }
    for (uint32_t i = 0; i < s->op_count; ++i) {
        if (layers[i].rank) {
            if (stored) {
                out = put(out, at(s, layers[i].matrix_a.weight), layers[i].matrix_a.count);
            }
            out = put(out, at(s, layers[i].matrix_b.weight), layers[i].matrix_b.count);
        }
    }
    for (uint32_t i = 0; state && i < s->op_count; ++i) {
        if (layers[i].rank) {
            if (trainable) {
                out = put_state(s, out, &layers[i].matrix_a);
            }
            out = put_state(s, out, &layers[i].matrix_b);
        }
    }
    copy(buffer, &h, sizeof(h));
    ((edgelora_adapter_t *)buffer)->crc = edgelora_crc32(0, (uint8_t *)buffer + 16, size - 16);
    return (int32_t)size;
}
