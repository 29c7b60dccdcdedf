// Lays a session out in its arena. Buffers of one pass share memory when their lifetimes allow: the
// largest is placed first, each at the lowest offset free throughout its life. SPDX-License-Identifier: MIT

#include "internal.h"

static bool needs_patch(const edgelora_shape_t *g) {
    const edgelora_op_t *op = g->op;
    return op->kind == EDGELORA_CONV && !(g->kernel_h == 1 && (g->kernel_w == 1 || op->dilation_w == 1) && !op->pad_top && !op->pad_left &&
        (uint32_t)(g->out_h - 1) * op->stride_h < g->in_h && (uint32_t)(g->out_w - 1) * op->stride_w + g->kernel_w <= g->in_w);
}

static edgelora_status_t config_check(const void *model, const edgelora_config_t *config) {
    const edgelora_model_t *m = model;
    if (config->mode > EDGELORA_TRAINABLE_A || config->micro_batch < 1 || config->momentum > 8) {
        return EDGELORA_ERR_CONFIG;
    }
    bool any = false;
    for (uint32_t i = 0; i < m->op_count; ++i) {
        uint32_t rank = config->ranks[i];
        if (!rank) {
            continue;
        }
        any = true;
        edgelora_shape_t g = edgelora_shape(model, i);
        if (rank > EDGELORA_MAX_RANK || !g.is_matrix || rank * g.inputs > 65536 || rank * g.out_c > 65536 ||
            rank * g.positions > 1u << 20) {
            return EDGELORA_ERR_RANK;
        }
        if (config->mode != EDGELORA_INFER && g.positions * config->micro_batch > 65536) {
            return EDGELORA_ERR_CONFIG;
        }
    }
    return any || config->mode == EDGELORA_INFER ? EDGELORA_OK : EDGELORA_ERR_MODE;
}

static edgelora_span_t span(uint32_t size, uint32_t birth, uint32_t death) {
    return (edgelora_span_t){0, align4(size), (uint16_t)birth, (uint16_t)death};
}

// Sizes and lifetimes of op i's buffers. n ops, the lowest with an adapter is `lowest`.
static void op_spans(const void *model, const edgelora_config_t *config, uint32_t n, uint32_t lowest, uint32_t i, edgelora_layer_t *layer) {
    edgelora_shape_t g = edgelora_shape(model, i);
    uint32_t size = g.positions * g.out_c, rank = config->ranks[i];
    bool trains = config->mode != EDGELORA_INFER, backward = trains && i >= lowest;
    uint32_t read = i + 1, back = 2 * n - i; // op i + 1 reads the output; op i's own backward step
    if (trains && config->mode == EDGELORA_TRAINABLE_A && i + 1 < n && config->ranks[i + 1]) {
        read = back - 1; // dA of op i + 1
    }
    bool is_last = i + 1 == n;
    layer->span[EDGELORA_OUTPUT] = span(size, i, is_last ? 2 * n + 1 : read);
    layer->span[EDGELORA_T] = span(backward ? g.positions * rank : 0, i, back);
    layer->span[EDGELORA_MASK] = span(backward && g.op->flags ? (size + 7) / 8 : 0, i, back);
    layer->span[EDGELORA_ERROR] = span(backward ? size : 0, is_last ? n : back - 1, back);
    bool needs_u = backward && rank && (config->mode == EDGELORA_TRAINABLE_A || i > lowest);
    layer->span[EDGELORA_U] = span(needs_u ? g.positions * rank : 0, back, back);
}

static bool overlap(const edgelora_span_t *a, const edgelora_span_t *b) {
    return a->birth <= b->death && b->birth <= a->death && a->offset < b->offset + b->size && b->offset < a->offset + a->size;
}

// Places every span at or behind `base`; returns the end. Unplaced spans have offset 0.
static uint32_t place(edgelora_layer_t *layers, uint32_t n, uint32_t base) {
    uint32_t end = base, count = n * EDGELORA_SPANS;
    for (;;) {
        edgelora_span_t *next = 0;
        for (uint32_t i = 0; i < count; ++i) {
            edgelora_span_t *s = &layers[i / EDGELORA_SPANS].span[i % EDGELORA_SPANS];
            if (s->size && !s->offset && (!next || s->size > next->size)) {
                next = s;
            }
        }
        if (!next) {
            return end;
        }
        next->offset = base;
        for (uint32_t i = 0; i < count; ++i) {
            const edgelora_span_t *s = &layers[i / EDGELORA_SPANS].span[i % EDGELORA_SPANS];
            if (s != next && s->offset && overlap(s, next)) {
                next->offset = s->offset + s->size;
                i = (uint32_t)-1; // again from the start: an earlier one may be in the way now
            }
        }
        if (next->offset + next->size > end) {
            end = next->offset + next->size;
        }
    }
}

static uint32_t take(uint32_t *end, uint32_t size) {
    uint32_t at = *end;
    *end += align4(size);
    return at;
}

static void matrix_plan(edgelora_matrix_t *m, uint32_t count, bool weight, bool trains, bool momentum, uint32_t *end) {
    *m = (edgelora_matrix_t){.count = count};
    m->weight = weight ? take(end, count) : 0;
    if (trains) {
        m->master = take(end, 2 * count);
        m->gradient = take(end, 4 * count);
        m->momentum = momentum ? take(end, 2 * count) : 0;
    }
}

// Fills the layers and the session's layout; returns the arena's size or a status.
static int32_t plan(const void *model, const edgelora_config_t *config, edgelora_layer_t *layers, edgelora_session_t *s) {
    edgelora_status_t status = config_check(model, config);
    if (status != EDGELORA_OK) {
        return status;
    }
    const edgelora_model_t *m = model;
    uint32_t n = m->op_count, patch = 0, row = edgelora_shape(model, n - 1).out_c;
    s->op_count = (uint16_t)n;
    s->lowest = (uint16_t)n;
    for (uint32_t i = n; i-- > 0;) {
        edgelora_shape_t g = edgelora_shape(model, i);
        if (config->ranks[i]) {
            s->lowest = (uint16_t)i;
        }
        if (needs_patch(&g) && g.inputs > patch) {
            patch = g.inputs;
        }
        if (2u * g.in_c > row) {
            row = 2u * g.in_c;
        }
    }
    s->layers = sizeof(edgelora_session_t);
    uint32_t end = s->layers + n * (uint32_t)sizeof(edgelora_layer_t);
    s->patch = take(&end, patch);
    s->row = take(&end, config->mode == EDGELORA_INFER ? 0 : 4 * row);
    for (uint32_t i = 0; i < n; ++i) {
        layers[i] = (edgelora_layer_t){.rank = config->ranks[i]};
        op_spans(model, config, n, s->lowest, i, &layers[i]);
    }
    end = place(layers, n, end);
    bool trains = config->mode != EDGELORA_INFER;
    for (uint32_t i = 0; i < n; ++i) {
        uint32_t rank = config->ranks[i];
        if (rank) {
            edgelora_shape_t g = edgelora_shape(model, i);
            matrix_plan(&layers[i].matrix_a, rank * g.inputs, true, config->mode == EDGELORA_TRAINABLE_A, config->momentum, &end);
            matrix_plan(&layers[i].matrix_b, rank * g.out_c, trains, trains, config->momentum, &end);
        }
    }
    return (int32_t)((end + 7) & ~7u);
}

int32_t edgelora_arena_size(const void *model, const edgelora_config_t *config, edgelora_layer_t *layers) {
    edgelora_session_t s;
    return plan(model, config, layers, &s);
}

edgelora_status_t edgelora_init(void *arena, uint32_t arena_size, const void *model, const edgelora_config_t *config) {
    const edgelora_model_t *m = model;
    if ((uintptr_t)arena & 7) {
        return EDGELORA_ERR_ALIGN;
    }
    if (arena_size < sizeof(edgelora_session_t) + m->op_count * sizeof(edgelora_layer_t)) {
        return EDGELORA_ERR_ARENA;
    }
    edgelora_session_t *s = arena;
    *s = (edgelora_session_t){.model = {.p = model}, .arena_size = arena_size, .mode = config->mode,
        .micro_batch = config->micro_batch, .momentum = config->momentum};
    edgelora_layer_t *layers = (edgelora_layer_t *)(s + 1);
    int32_t size = plan(model, config, layers, s);
    if (size < 0) {
        return (edgelora_status_t)size;
    }
    if ((uint32_t)size > arena_size) {
        return EDGELORA_ERR_ARENA;
    }
    for (uint32_t i = 0; i < m->op_count; ++i) {
        edgelora_shape_t g = edgelora_shape(model, i);
        uint32_t channels = g.is_matrix ? g.out_c : g.op->kind == EDGELORA_MEAN ? 1 : 0;
        layers[i].shift_top = -128;
        for (uint32_t o = 0; o < channels; ++o) {
            layers[i].shift_top = g.shift[o] > layers[i].shift_top ? g.shift[o] : layers[i].shift_top;
        }
        layers[i].t_shift = g.op->t_shift;
        layers[i].branch_shift = g.op->branch_shift;
    }
    s->self.p = arena; // from here on it is a session
    s->magic = 0x454C5331;
    return EDGELORA_OK;
}
