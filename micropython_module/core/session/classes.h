// Classes of adapters.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_SESSION_CLASSES_H
#define EDGELORA_SESSION_CLASSES_H

#include "session/arena.h"

// The class rows of an adapter's record and their counts when it was loaded; the record may have
// changed since. record NULL: none.
typedef struct {
    const edgelora_classes_t *record;
    uint32_t own, added;
} classes_t;

// Counts the classes of a record that fits the model, or of NULL.
edgelora_class_counts_t edgelora_classes_count(
    const edgelora_model_t *m, const edgelora_classes_t *record);

// The class of the last inference if classes are in use, from the inputs x of the last op. Leaves
// the scores in scratch as logits, s8 [class count].
int32_t edgelora_classes_decide(edgelora_session_t *s, const int8_t *x);
const int8_t *edgelora_class_logits(edgelora_session_t *s);
// The index of a class; UINT32_MAX if unknown. Without a record only labels of the base are valid.
uint32_t edgelora_class_place(const edgelora_model_t *m, const classes_t *classes, uint32_t label);
// The loss of a sample over all classes, from the inputs x of the last op, which has run. place:
// index of the sample's class. Writes the error of the last op and, through the rows, of the op
// below that writes x; below NULL: that op has no backward pass.
int32_t edgelora_classes_loss(edgelora_session_t *s, const classes_t *classes, uint32_t place,
    const int8_t *x, edgelora_op_state_t *last, edgelora_op_state_t *below);

// Classes of the adapter in use, and of the training adapter: the first of its records, as kinds
// ascend.
static inline classes_t used_classes(const edgelora_session_t *s) {
    return (classes_t){s->classes.p, s->used_classes.own, s->used_classes.added};
}

static inline classes_t trained_classes(const edgelora_session_t *s) {
    uint32_t own = s->trained_classes.own, added = s->trained_classes.added;
    const void *body = (own + added) ? (const edgelora_record_t *)s->records.p + 1 : 0;
    return (classes_t){body, own, added};
}

#endif
