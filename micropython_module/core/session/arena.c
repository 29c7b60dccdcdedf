// Finds a session in its arena, and tensors in it.
// SPDX-License-Identifier: MIT

#include "session/arena.h"

EDGELORA_RAM edgelora_session_t *edgelora_session(void *arena, uint32_t arena_size) {
    edgelora_session_t *s = arena;
    bool ok = ((uintptr_t)arena & 7) == 0 && arena_size >= sizeof(*s) && s->self.p == arena &&
        s->magic == SESSION_MAGIC && s->arena_size == arena_size &&
        (!s->stamp || s->stamp == edgelora_model_stamp(s->model.p, s->model_size));
    return ok ? s : 0;
}

// Address of a tensor that is stored in the model file; NULL: it is in the arena.
EDGELORA_RAM static const int8_t *constant_at(const edgelora_session_t *s, uint32_t tensor) {
    const edgelora_op_t *op = tensor ? model_op(session_model(s), tensor - 1) : 0;
    return op && op->kind == EDGELORA_CONSTANT ? model_at(session_model(s), op->weights) : 0;
}

// Does an op from the lowest adapter on, before op `end`, read this tensor?
EDGELORA_RAM static bool is_read_before(
    const edgelora_session_t *s, uint32_t end, uint32_t tensor) {
    for (uint32_t i = s->lowest; i < end; ++i) {
        if (op_reads(model_op(session_model(s), i), tensor)) {
            return true;
        }
    }
    return false;
}

EDGELORA_RAM static bool may_be_feature(const edgelora_session_t *s, uint32_t tensor) {
    return tensor <= s->lowest && !constant_at(s, tensor);
}

EDGELORA_RAM bool edgelora_is_feature(const edgelora_session_t *s, uint32_t tensor) {
    return may_be_feature(s, tensor) && is_read_before(s, s->op_count, tensor);
}

typedef struct {
    uint32_t bytes; // of features before a tensor
    uint32_t odd;   // how many of those have an odd size
    bool wide;      // are there streams among all features?
} features_t;

// Finds the features by the ops that read them, which are fewer than the tensors below.
EDGELORA_RAM static features_t features_before(const edgelora_session_t *s, uint32_t tensor) {
    features_t found = {0};
    for (uint32_t i = s->lowest; i < s->op_count; ++i) {
        const edgelora_op_t *op = model_op(session_model(s), i);
        for (uint32_t k = 0, inputs = op_inputs(op); k < inputs; ++k) {
            uint32_t read = op_input(op, k);
            bool again = (k && read == op_input(op, 0)) || (k > 1 && read == op_input(op, 1));
            if (again || !may_be_feature(s, read) || is_read_before(s, i, read)) {
                continue;
            }
            uint32_t bytes = read < tensor ? tensor_bytes(session_model(s), read) : 0;
            found.bytes += bytes;
            found.odd += bytes & 1;
            found.wide |= model_tensor(session_model(s), read)->wide;
        }
    }
    return found;
}

EDGELORA_RAM uint32_t edgelora_has_wide_features(const edgelora_session_t *s) {
    return EDGELORA_ATTENTION && features_before(s, 0).wide;
}

EDGELORA_RAM uint32_t edgelora_feature_offset(const edgelora_session_t *s, uint32_t tensor) {
    features_t before = features_before(s, tensor);
    return before.bytes + (EDGELORA_ATTENTION && before.wide ? before.odd : 0);
}

EDGELORA_RAM const int8_t *edgelora_tensor_at(
    edgelora_session_t *s, const source_t *source, uint32_t tensor, purpose_t purpose) {
    const int8_t *constant = constant_at(s, tensor);
    if (constant) {
        return constant;
    }
    if (source->features && tensor <= s->lowest) {
        return source->features + edgelora_feature_offset(s, tensor);
    }
    if (!tensor) {
        return source->x;
    }
    return arena_at(s, output_at(&session_ops(s)[tensor - 1], purpose));
}

const int8_t *edgelora_output(edgelora_session_t *s) {
    return arena_at(s, session_ops(s)[s->op_count - 1].at[EDGELORA_OUTPUT]);
}
