// Classes beside the base's, which adapters bring.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_SESSION_CLASSES_H
#define EDGELORA_SESSION_CLASSES_H

#include "session/arena.h"

// Classes beside the base's: rows of an adapter's record, which may have changed since, and how
// many there were. record NULL: none.
typedef struct {
    const edgelora_classes_t *record;
    uint32_t own, added;
} classes_t;

// Those of a record that fits the model, or NULL.
edgelora_class_counts_t edgelora_classes_count(
    const edgelora_model_t *m, const edgelora_classes_t *record);

// The class that the last inference says where classes are in use, from the inputs x of the last
// op. Scores are then in scratch as logits, s8 [class count].
int32_t edgelora_classes_decide(edgelora_session_t *s, const int8_t *x);
const int8_t *edgelora_class_logits(edgelora_session_t *s);
// Where a class is among these; UINT32_MAX: it is none. Without a record a label of the base is all
// there is.
uint32_t edgelora_class_place(const edgelora_model_t *m, const classes_t *classes, uint32_t label);
// The loss of a sample over all classes, from the inputs x of the last op, which has run; `place`
// is the right one's. Its error goes to the last op and, through the rows, to the op
// that makes x; NULL: none runs backward there.
int32_t edgelora_classes_loss(edgelora_session_t *s, const classes_t *classes, uint32_t place,
    const int8_t *x, edgelora_op_state_t *last, edgelora_op_state_t *below);

// Those of the adapter in use, and those that the training adapter was loaded with: the first of
// its records, as kinds ascend.
static inline classes_t used_classes(const edgelora_session_t *s) {
    return (classes_t){s->classes.p, s->used_classes.own, s->used_classes.added};
}

static inline classes_t trained_classes(const edgelora_session_t *s) {
    uint32_t own = s->trained_classes.own, added = s->trained_classes.added;
    const void *body = (own + added) ? (const edgelora_record_t *)s->records.p + 1 : 0;
    return (classes_t){body, own, added};
}

#endif
