// The core as WebAssembly: how a page opens a session (docs/try/core.js). It calls the other
// functions directly; exports.txt names them.
// SPDX-License-Identifier: MIT

#include "edgelora.h"

static edgelora_config_t config(const uint8_t *ranks, uint32_t mode, uint32_t momentum) {
    return (edgelora_config_t){
        .ranks = ranks,
        .mode = (uint8_t)mode,
        .micro_batch = 8,
        .momentum = (uint8_t)momentum,
        .frames = 1,
        .fixed = 1,
        .cores = 1,
    };
}

// Bytes of scratch memory that `page_arena_size` takes for a checked model.
uint32_t page_scratch_size(const edgelora_model_t *model) {
    return model->op_count * EDGELORA_PLANNED * (uint32_t)sizeof(edgelora_span_t);
}

// Bytes of an arena, with room for the vector kernels, or a status < 0. ranks: u8 [ops].
int32_t page_arena_size(
    const void *model, const uint8_t *ranks, uint32_t mode, uint32_t momentum, void *scratch) {
    edgelora_config_t c = config(ranks, mode, momentum);
    int32_t size = edgelora_arena_size(model, &c, scratch);
    return size < 0 ? size : size + (int32_t)edgelora_simd_room();
}

edgelora_status_t page_init(void *arena, uint32_t size, const void *model, const uint8_t *ranks,
    uint32_t mode, uint32_t momentum) {
    edgelora_config_t c = config(ranks, mode, momentum);
    return edgelora_init(arena, size, model, &c);
}
