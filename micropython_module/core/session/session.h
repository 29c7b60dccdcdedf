// A session's memory: what lies where in its arena. SPDX-License-Identifier: MIT

#ifndef EDGELORA_SESSION_H
#define EDGELORA_SESSION_H

#include "graph.h"
#include "training/training.h"

// What a session knows of an op: `right` of its shape; that its output lasts; fast kernels for its part of a training pass, forward and backward, and
// of an inference, if it is known yet (an adapter may have come into use since).
enum {
    EDGELORA_RIGHT = 1, EDGELORA_FAST_FORWARD = 2, EDGELORA_FAST_BACKWARD = 4, EDGELORA_FAST_USED = 8, EDGELORA_USED_KNOWN = 16,
    EDGELORA_LASTS = 32,
};

// Takes the session for one call; false: another one has it. `edgelora_leave` gives it back, and returns what it is given.
bool edgelora_enter(edgelora_session_t *s);
int32_t edgelora_leave(edgelora_session_t *s, int32_t result);

// Header, base and layer records of an adapter file, without CRC and values: nothing that is read by them lies outside.
// weights_end: offset behind A and B of all layers.
edgelora_status_t edgelora_adapter_fits(const edgelora_session_t *s, const void *adapter, uint32_t size, uint32_t *weights_end);

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

static inline edgelora_layer_t *session_layers(edgelora_session_t *s) {
    return (edgelora_layer_t *)(s + 1);
}

// NULL: the op is not dense or conv
static inline edgelora_lora_t *layer_lora(edgelora_session_t *s, const edgelora_layer_t *l) {
    return l->lora ? (edgelora_lora_t *)arena_at(s, l->lora) : 0;
}

// The rank of the session's adapter on an op.
static inline uint32_t layer_rank(edgelora_session_t *s, const edgelora_layer_t *l) {
    return l->lora ? layer_lora(s, l)->rank : 0;
}

#endif
