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

EDGELORA_RAM bool edgelora_is_feature(const edgelora_session_t *s, uint32_t tensor) {
    if (constant_at(s, tensor)) {
        return false;
    }
    for (uint32_t i = s->lowest; tensor <= s->lowest && i < s->op_count; ++i) {
        if (op_reads(model_op(session_model(s), i), tensor)) {
            return true;
        }
    }
    return false;
}

EDGELORA_RAM uint32_t edgelora_has_wide_features(const edgelora_session_t *s) {
    for (uint32_t i = 0; EDGELORA_ATTENTION && i <= s->lowest; ++i) {
        if (model_tensor(session_model(s), i)->wide && edgelora_is_feature(s, i)) {
            return 1;
        }
    }
    return 0;
}

EDGELORA_RAM uint32_t edgelora_feature_offset(const edgelora_session_t *s, uint32_t tensor) {
    uint32_t offset = 0, odd = edgelora_has_wide_features(s);
    for (uint32_t i = 0; i < tensor; ++i) {
        offset += edgelora_is_feature(s, i) ? tensor_bytes(session_model(s), i) : 0;
        offset += offset & odd;
    }
    return offset;
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
