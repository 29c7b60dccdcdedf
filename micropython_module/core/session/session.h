// A session's memory: what lies where in its arena.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_SESSION_H
#define EDGELORA_SESSION_H

#include "formats/formats.h"
#include "kernels/dispatch.h"
#include "training/training.h"

// What a session knows of an op.
enum {
    EDGELORA_OP_BOUNDED = 1,         // `bounded` of its shape
    EDGELORA_OP_LASTS = 2,           // its output stays from one frame to the next
    EDGELORA_OP_PACKED_FORWARD = 4,  // edgelora_op_is_packed with the training adapter,
    EDGELORA_OP_PACKED_BACKWARD = 8, // in a backward step
    // with the adapter in use, if USED_CHOSEN: since that came into use it has been asked
    EDGELORA_OP_PACKED_USED = 16,
    EDGELORA_OP_USED_CHOSEN = 32,
};

// Takes the session for one call; false: another one has it. `edgelora_leave` gives it back, and
// returns what it is given.
bool edgelora_enter(edgelora_session_t *s);
int32_t edgelora_leave(edgelora_session_t *s, int32_t result);

// Classes beside the base's: rows of an adapter's record, which may have changed since, and how
// many there were. record NULL: none.
typedef struct {
    const edgelora_classes_t *record;
    uint32_t own, added;
} classes_t;

// Those of a record that fits the model, or NULL.
edgelora_told_t edgelora_classes_told(const edgelora_model_t *m, const edgelora_classes_t *record);

// The class that the last inference says where classes are in use, from the inputs x of the last
// op. Scores are then in scratch as logits, s8 [class count].
int32_t edgelora_classes_decide(edgelora_session_t *s, const int8_t *x);
const int8_t *edgelora_class_logits(edgelora_session_t *s);
// Where a class is among these; UINT32_MAX: it is none. Without a record a label of the base is all
// there is.
uint32_t edgelora_class_place(const edgelora_model_t *m, const classes_t *classes, uint32_t label);
// The loss of a sample over all classes, from the inputs x of the last op, which has run; `place`
// is the right one's. Its error goes to the last op's layer and, through the rows, to the layer
// that makes x; NULL: none runs backward there.
int32_t edgelora_classes_loss(edgelora_session_t *s, const classes_t *classes, uint32_t place,
    const int8_t *x, edgelora_layer_t *last, edgelora_layer_t *below);

// A s8 [rank, K] of a layer. In a 1x1 convolution, where A would cost the most, each row looks at
// its own part of the inputs, whole groups of 4; elsewhere at all, across the rows before it.
void edgelora_sketch_a(const edgelora_shape_t *g, uint32_t numbers, uint32_t rank, int8_t *a);

// The classes of an adapter that fits; NULL: it has none, or is NULL.
static inline const edgelora_classes_t *adapter_classes(const void *adapter, uint32_t size) {
    const edgelora_record_t *r = adapter ? edgelora_record(adapter, size, EDGELORA_RECORD_CLASSES)
                                         : 0;
    const void *body = r ? r + 1 : 0;
    return body;
}

// Those of the adapter in use, and those that the training adapter was loaded with: the first of
// its records, as kinds ascend.
static inline classes_t used_classes(const edgelora_session_t *s) {
    return (classes_t){s->classes.p, s->used_classes.own, s->used_classes.added};
}

static inline classes_t trained_classes(const edgelora_session_t *s) {
    uint32_t own = s->trained_classes.own, added = s->trained_classes.added;
    const void *body = own + added ? (const edgelora_record_t *)s->records.p + 1 : 0;
    return (classes_t){body, own, added};
}

// Do [a, a + n) and [b, b + m) have no byte in common?
static inline bool apart(const void *a, uint32_t n, const void *b, uint32_t m) {
    uintptr_t first = (uintptr_t)a, second = (uintptr_t)b;
    return first < second ? second - first >= n : first - second >= m;
}

// Does a buffer lie outside the arena?
static inline bool outside(const edgelora_session_t *s, const void *p, uint32_t size) {
    return apart(p, size, s, s->arena_size);
}

// May a call write there? Neither arena nor model.
static inline bool writable(const edgelora_session_t *s, const void *p, uint32_t size) {
    return outside(s, p, size) && apart(p, size, s->model.p, s->model_size);
}

static inline void copy_bytes(void *to, const void *from, uint32_t size) {
    uint8_t *out = to;
    const uint8_t *in = from;
    while (size--) {
        *out++ = *in++;
    }
}

static inline void *arena_at(edgelora_session_t *s, uint32_t offset) {
    return (uint8_t *)s + offset;
}

// What vector kernels work in, at the arena's end: of edgelora_vector_room bytes so many that it
// begins at a multiple of 64. NULL: the session runs without them.
static inline void *wide_work(edgelora_session_t *s) {
    const edgelora_wide_t *wide = edgelora_wide(s->wide);
    uintptr_t end = (uintptr_t)s + s->arena_size;
    return wide ? (void *)((end - wide->work_size) & ~(uintptr_t)63) : 0;
}

static inline edgelora_layer_t *session_layers(edgelora_session_t *s) {
    return (edgelora_layer_t *)(s + 1);
}

// NULL: the op is not dense or conv
static inline edgelora_lora_t *layer_lora(edgelora_session_t *s, const edgelora_layer_t *l) {
    return l->lora ? (edgelora_lora_t *)arena_at(s, l->lora) : 0;
}

static inline bool layer_has(const edgelora_layer_t *l, uint32_t flag) {
    return l->flags & flag;
}

// A buffer of an op (EDGELORA_OUTPUT...), or NULL: it has none.
static inline void *layer_buffer(edgelora_session_t *s, const edgelora_layer_t *l, uint32_t which) {
    return l->at[which] ? arena_at(s, l->at[which]) : 0;
}

// Walks the arrays of a checked adapter: those of a layer are read before the next one's.
typedef struct {
    const edgelora_adapter_t *header;
    const edgelora_adapter_layer_t *layer, *end;
    const uint8_t *weights;
} adapter_reader_t;

static inline adapter_reader_t adapter_reader(const void *adapter) {
    const edgelora_adapter_t *h = adapter;
    const edgelora_adapter_layer_t *layers = adapter_layers(h);
    return (adapter_reader_t){
        h, layers, layers + h->layer_count, (const uint8_t *)(layers + h->layer_count)};
}

static inline const int8_t *read_weights(adapter_reader_t *r, uint32_t count) {
    const int8_t *p = (const int8_t *)r->weights;
    r->weights += align4(count);
    return p;
}

static const edgelora_branch_t no_branch;

// What an op runs with in inference: nothing but its weights (rank 0), a branch of the adapter in
// use, or other weights and bias, into which that has been merged.
static inline void lora_use(edgelora_lora_t *l, const edgelora_branch_t *branch) {
    l->a.p = branch->a;
    l->b.p = branch->b;
    l->used_rank = branch->rank;
    l->used_t_shift = branch->t_shift;
    l->used_branch_shift = branch->branch_shift;
    l->merged = false;
}

static inline edgelora_branch_t lora_used(const edgelora_lora_t *l) {
    return (edgelora_branch_t){l->a.p, l->b.p, l->used_rank, l->used_t_shift, l->used_branch_shift};
}

// The training adapter's branch; rank > 0.
static inline edgelora_branch_t lora_own(edgelora_session_t *s, const edgelora_lora_t *l) {
    return (edgelora_branch_t){
        arena_at(s, l->matrix_a.at), arena_at(s, l->matrix_b.at), l->rank, l->t_shift,
        l->branch_shift};
}

static inline void lora_use_merged(
    edgelora_lora_t *l, const uint8_t *weights, const int32_t *bias) {
    l->a.p = weights;
    l->b.p = bias;
    l->used_rank = 0;
    l->merged = true;
}

static inline const uint8_t *lora_merged_weights(const edgelora_lora_t *l) {
    return l->a.p;
}

static inline const int32_t *lora_merged_bias(const edgelora_lora_t *l) {
    return l->b.p;
}

// The low-rank part of op i, or NULL.
static inline edgelora_lora_t *session_lora(edgelora_session_t *s, uint32_t i) {
    return layer_lora(s, &session_layers(s)[i]);
}

// The rank of the session's adapter on an op.
static inline uint32_t layer_rank(edgelora_session_t *s, const edgelora_layer_t *l) {
    return l->lora ? layer_lora(s, l)->rank : 0;
}

#endif
