// Adapters added up, each times a weight, as one adapter file.
// SPDX-License-Identifier: MIT

#include "session/adapter.h"
#include "session/arena.h"
#include "session/sketch.h"

// The layers of all adapters for one op.
typedef struct {
    uint32_t op, rank, inputs, outputs; // rank: of the sum
    int32_t t_shift;                    // of the sum: the largest of all
    struct {
        const edgelora_adapter_layer_t *layer; // NULL: this adapter has none
        const int8_t *a, *b; // s8 [rank, K], NULL: from the seed; s8 [O, rank]
        uint8_t column; // its first column in the sum's B
        uint8_t leads; // no earlier adapter has the same A
        int8_t exponent; // of B, for the sum's A
    } of[EDGELORA_MAX_PARTS];
} sum_t;

// Iterates over the layers of all adapters.
typedef struct {
    edgelora_session_t *session;
    const edgelora_part_t *parts;
    uint32_t count;
    adapter_reader_t readers[EDGELORA_MAX_PARTS];
} walk_t;

static void walk_begin(walk_t *w) {
    for (uint32_t k = 0; k < w->count; ++k) {
        w->readers[k] = adapter_reader(w->parts[k].adapter);
    }
}

static bool same_bytes(const int8_t *a, const int8_t *b, uint32_t n) {
    while (n--) {
        if (a[n] != b[n]) {
            return false;
        }
    }
    return true;
}

// Do layers j and k have the same A? Then t is the same, and their B's can be added.
static bool same_a(const walk_t *w, const sum_t *m, uint32_t j, uint32_t k) {
    const edgelora_adapter_layer_t *one = m->of[j].layer, *other = m->of[k].layer;
    if (one->rank != other->rank || one->t_shift != other->t_shift) {
        return false;
    }
    const int8_t *a = m->of[j].a, *b = m->of[k].a;
    if (!a && !b) {
        return w->readers[j].header->seed == w->readers[k].header->seed;
    }
    return a && b && same_bytes(a, b, one->rank * m->inputs);
}

// The first adapter with the same A as k; k if there is none before.
static uint32_t leader(const walk_t *w, const sum_t *m, uint32_t k) {
    for (uint32_t j = 0; j < k; ++j) {
        if (m->of[j].layer && m->of[j].leads && same_a(w, m, j, k)) {
            return j;
        }
    }
    return k;
}

// Advances to the next op with a layer in any adapter; false at the end.
static bool walk_next(walk_t *w, sum_t *m) {
    uint32_t op = EDGELORA_MAX_OPS;
    for (uint32_t k = 0; k < w->count; ++k) {
        const adapter_reader_t *r = &w->readers[k];
        op = r->layer < r->end && r->layer->op < op ? r->layer->op : op;
    }
    *m = (sum_t){.op = op};
    for (uint32_t k = 0; k < w->count; ++k) {
        adapter_reader_t *r = &w->readers[k];
        if (r->layer == r->end || r->layer->op != op) {
            continue;
        }
        const edgelora_adapter_layer_t *l = m->of[k].layer = r->layer++;
        m->inputs = l->inputs;
        m->outputs = l->outputs;
        m->t_shift = l->t_shift > m->t_shift ? l->t_shift : m->t_shift;
        bool stored = r->header->flags & EDGELORA_A_STORED;
        m->of[k].a = stored ? read_weights(r, (uint32_t)l->rank * l->inputs) : 0;
        m->of[k].b = read_weights(r, (uint32_t)l->rank * l->outputs);
        uint32_t first = leader(w, m, k);
        m->of[k].leads = first == k;
        m->of[k].column = first == k ? (uint8_t)m->rank : m->of[first].column;
        m->rank += first == k ? l->rank : 0u; // <= 8 * 32
    }
    return op < EDGELORA_MAX_OPS;
}

// The layout of the sum's file: bytes of all A, bytes of the rest, layers, and whether it stores A.
typedef struct {
    uint32_t a_size, size;
    uint16_t layers;
    bool stored;
} extent_t;

static bool measure(walk_t *w, extent_t *e) {
    const edgelora_model_t *model = session_model(w->session);
    *e = (extent_t){.size = sizeof(edgelora_adapter_t)};
    for (uint32_t k = 0; k < w->count; ++k) {
        const edgelora_adapter_t *h = w->parts[k].adapter, *first = w->parts[0].adapter;
        e->stored |= (h->flags & EDGELORA_A_STORED) || h->seed != first->seed;
    }
    sum_t m;
    walk_begin(w);
    while (walk_next(w, &m)) {
        uint32_t leaders = 0;
        for (uint32_t k = 0; k < w->count; ++k) {
            leaders += m.of[k].leads;
        }
        if (!edgelora_rank_fits(model, model_op(model, m.op), m.rank)) {
            return false;
        }
        e->stored |= leaders > 1;
        e->layers += 1;
        e->a_size += align4(m.rank * m.inputs);
        e->size += (uint32_t)sizeof(edgelora_adapter_layer_t) + align4(m.rank * m.outputs);
    }
    e->size += e->stored ? e->a_size : 0;
    return e->layers; // adapters that only have records can't be added
}

// Multiplies an A by the largest power of two, up to 2^most, that fits int8. Returns the exponent.
static int32_t scale_up(int8_t *a, uint32_t count, int32_t most) {
    int32_t peak = 0, n = 0;
    for (uint32_t i = 0; i < count; ++i) {
        int32_t size = a[i] < 0 ? -a[i] : a[i];
        peak = size > peak ? size : peak;
    }
    while (n < most && peak << (n + 1) <= 127) {
        ++n;
    }
    for (uint32_t i = 0; n && i < count; ++i) {
        a[i] = (int8_t)(a[i] * (1 << n));
    }
    return n;
}

// Copies each A into its rows of the sum's A, and sets the exponents of the B's that use it. a: s8
// [rank, K], or NULL if A is not stored; then all have the same A.
static void sum_a(const walk_t *w, sum_t *m, int8_t *a) {
    for (uint32_t k = 0; k < w->count; ++k) {
        const edgelora_adapter_layer_t *l = m->of[k].layer;
        if (!l) {
            continue;
        }
        int32_t coarser = m->t_shift - l->t_shift, n = 0;
        if (a && m->of[k].leads) {
            int8_t *rows = a + m->of[k].column * m->inputs;
            uint32_t count = l->rank * m->inputs;
            if (m->of[k].a) {
                copy_bytes(rows, m->of[k].a, count);
            } else {
                edgelora_shape_t g = edgelora_shape(session_model(w->session), m->op);
                edgelora_sketch_a(&g, stream(w->readers[k].header->seed, m->op + 1), l->rank, rows);
            }
            n = scale_up(rows, count, coarser);
        }
        m->of[k].exponent = (int8_t)(l->branch_shift + coarser - n);
        for (uint32_t j = 0; j < k && !m->of[k].leads; ++j) {
            if (m->of[j].leads && m->of[j].column == m->of[k].column) { // the same A and t_shift
                m->of[k].exponent = (int8_t)(l->branch_shift + m->of[j].exponent -
                    m->of[j].layer->branch_shift);
            }
        }
    }
}

// Element [o, c] of the sum's B, Q12 times 2^top; < 2^25.
static int32_t element(const walk_t *w, const sum_t *m, uint32_t o, uint32_t c, int32_t top) {
    int32_t sum = 0;
    for (uint32_t k = 0; k < w->count; ++k) {
        const edgelora_adapter_layer_t *l = m->of[k].layer;
        uint32_t j = c - m->of[k].column; // wraps around if c is before its columns
        if (l && j < l->rank) {
            int32_t shift = top - m->of[k].exponent;
            sum += round_shift(
                w->parts[k].weight * m->of[k].b[o * l->rank + j], shift > 31 ? 31 : shift);
        }
    }
    return sum;
}

// Writes B and returns its branch_shift: the finest that fits int8 and, unless `fine`, no finer
// than that of the finest adapter. A result above EDGELORA_MAX_BRANCH_SHIFT means that none fits.
static int32_t sum_b(const walk_t *w, const sum_t *m, bool fine, int8_t *b) {
    int32_t top = -128, low = fine ? EDGELORA_MIN_BRANCH_SHIFT : EDGELORA_MAX_BRANCH_SHIFT,
            peak = 0;
    for (uint32_t k = 0; k < w->count; ++k) {
        if (m->of[k].layer) {
            top = m->of[k].exponent > top ? m->of[k].exponent : top;
            low = m->of[k].exponent < low ? m->of[k].exponent : low;
        }
    }
    for (uint32_t i = 0; i < m->outputs * m->rank; ++i) {
        int32_t v = (int32_t)abs_u32(element(w, m, i / m->rank, i % m->rank, top));
        peak = v > peak ? v : peak;
    }
    low = low < top - 12 ? top - 12 : low; // elements have no finer bits
    while (low <= EDGELORA_MAX_BRANCH_SHIFT && round_shift(peak, 12 + low - top) > 127) {
        ++low;
    }
    for (uint32_t i = 0; low <= EDGELORA_MAX_BRANCH_SHIFT && i < m->outputs * m->rank; ++i) {
        int32_t v = element(w, m, i / m->rank, i % m->rank, top);
        b[i] = (int8_t)round_shift(v, 12 + low - top);
    }
    return low;
}

static uint8_t *pad4(uint8_t *at, uint32_t size) {
    for (; size & 3; ++size) {
        *at++ = 0;
    }
    return at;
}

static int32_t blend(walk_t *w, bool fine, void *out, uint32_t room) {
    for (uint32_t k = 0; k < w->count && k < EDGELORA_MAX_PARTS; ++k) {
        edgelora_ends_t ends;
        edgelora_status_t status = edgelora_adapter_fits(
            w->session, w->parts[k].adapter, w->parts[k].size, &ends);
        if (status != EDGELORA_OK) {
            return status;
        }
        if (abs_u32(w->parts[k].weight) > EDGELORA_MAX_PART_WEIGHT) {
            return EDGELORA_ERR_BLEND;
        }
    }
    extent_t extent;
    if (!w->count || w->count > EDGELORA_MAX_PARTS || !measure(w, &extent)) {
        return EDGELORA_ERR_BLEND;
    }
    if (!out) {
        return (int32_t)extent.size;
    }
    if (room < extent.size) {
        return EDGELORA_ERR_SIZE;
    }
    if ((uintptr_t)out & 3) {
        return EDGELORA_ERR_ALIGN;
    }
    bool alone = writable(w->session, out, extent.size);
    for (uint32_t k = 0; k < w->count; ++k) {
        alone = alone && apart(out, extent.size, w->parts[k].adapter, w->parts[k].size);
    }
    if (!alone) {
        return EDGELORA_ERR_ALIAS;
    }
    const edgelora_adapter_t *first = w->parts[0].adapter;
    edgelora_adapter_t *h = out;
    edgelora_adapter_header(h, session_model(w->session), extent.size);
    h->seed = first->seed;
    h->flags = extent.stored ? EDGELORA_A_STORED : 0;
    h->layer_count = extent.layers;
    edgelora_adapter_layer_t *record = (edgelora_adapter_layer_t *)(h + 1);
    uint8_t *at = (uint8_t *)(record + extent.layers);
    sum_t m;
    walk_begin(w);
    for (; walk_next(w, &m); ++record) {
        sum_a(w, &m, extent.stored ? (int8_t *)at : 0);
        if (extent.stored) {
            at = pad4(at + m.rank * m.inputs, m.rank * m.inputs);
        }
        int32_t branch_shift = sum_b(w, &m, fine, (int8_t *)at);
        if (branch_shift > EDGELORA_MAX_BRANCH_SHIFT) {
            return EDGELORA_ERR_BLEND;
        }
        at = pad4(at + m.rank * m.outputs, m.rank * m.outputs);
        *record = (edgelora_adapter_layer_t){
            (uint16_t)m.op, (uint16_t)m.rank, (uint16_t)m.outputs, (uint16_t)m.inputs,
            (int8_t)m.t_shift, (int8_t)branch_shift, 0};
    }
    edgelora_crc_write(out, extent.size);
    return (int32_t)extent.size;
}

int32_t edgelora_blend(edgelora_session_t *s, const edgelora_part_t *parts, uint32_t count,
    bool fine, void *out, uint32_t room) {
    walk_t w = {.session = s, .parts = parts, .count = count};
    return edgelora_enter(s) ? edgelora_leave(s, blend(&w, fine, out, room)) : EDGELORA_ERR_BUSY;
}
