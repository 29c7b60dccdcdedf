// What the twin has beside the core: what the host checks before it trusts it (made from which
// sources, with which records), and samples one after the other in one call.
// SPDX-License-Identifier: MIT

#include <stddef.h>

#include "crypto.h"
#include "edgelora.h"
#include "graph.h"
#include "twin_sources.h" // EDGELORA_SOURCES, made by CMake

typedef struct {
    uint32_t size;          // bytes of this record
    uint32_t span, config;  // bytes of edgelora_span_t and edgelora_config_t
    uint32_t shape;         // bytes of edgelora_shape_t
    uint32_t sizes, hash;   // bytes of edgelora_sizes_t and edgelora_sha512_t
    const char *version;    // EDGELORA_VERSION
    const char *sources;    // SHA-256 of the core's sources, in hex
    const char *statuses;   // a line "NAME VALUE" for each
} edgelora_twin_t;

// What the board's binding takes from a session, in one call.
typedef struct {
    const void *model;
    uint32_t ops, input, sample, target, class_size; // elements
    uint32_t updates, samples, pending;
} edgelora_sizes_t;

#define STATUS_LINE(name, value, text) #name " " #value "\n"

static const edgelora_twin_t twin = {
    sizeof(edgelora_twin_t),
    sizeof(edgelora_span_t),
    sizeof(edgelora_config_t),
    sizeof(edgelora_shape_t),
    sizeof(edgelora_sizes_t),
    sizeof(edgelora_sha512_t),
    EDGELORA_VERSION,
    EDGELORA_SOURCES,
    EDGELORA_STATUS_LIST(STATUS_LINE),
};

const edgelora_twin_t *edgelora_twin(void);
const edgelora_twin_t *edgelora_twin(void) {
    return &twin;
}

// Whether the buffer holds a session; then its sizes.
bool edgelora_twin_sizes(void *arena, uint32_t arena_size, edgelora_sizes_t *sizes);
bool edgelora_twin_sizes(void *arena, uint32_t arena_size, edgelora_sizes_t *sizes) {
    const edgelora_session_t *s = edgelora_session(arena, arena_size);
    if (s) {
        uint32_t input = edgelora_input_size(s->model.p);
        *sizes = (edgelora_sizes_t){
            .model = s->model.p,
            .ops = s->op_count,
            .input = input,
            .sample = s->frames * input,
            .target = edgelora_target_size(s->model.p),
            .class_size = edgelora_class_size(s->model.p),
            .updates = s->updates,
            .samples = s->samples,
            .pending = s->pending,
        };
    }
    return s != NULL;
}

// Samples, s8 [count, size], each with its label or, where labels are NULL, its target, s8
// [target_size].
typedef struct {
    const int8_t *x;
    const uint32_t *labels;
    const int8_t *targets;
    uint32_t size, target_size, count;
} edgelora_samples_t;

typedef edgelora_status_t (*edgelora_trains_t)(edgelora_session_t *s, const int8_t *x,
    uint32_t label, const int8_t *target, uint16_t learning_rate, int32_t *loss);

// losses: s32 [count], of those up to the first that fails.
edgelora_status_t edgelora_twin_train(edgelora_session_t *s, const edgelora_samples_t *samples,
    bool features, uint16_t learning_rate, int32_t *losses);
edgelora_status_t edgelora_twin_train(edgelora_session_t *s, const edgelora_samples_t *samples,
    bool features, uint16_t learning_rate, int32_t *losses) {
    edgelora_trains_t train = features ? edgelora_train_features : edgelora_train;
    edgelora_status_t status = EDGELORA_OK;
    for (uint32_t i = 0; i < samples->count && status == EDGELORA_OK; ++i) {
        status = train(s, samples->x + (size_t)i * samples->size,
            samples->labels ? samples->labels[i] : 0,
            samples->labels ? 0 : samples->targets + (size_t)i * samples->target_size,
            learning_rate, losses + i);
    }
    return status;
}

// best, losses: s32 [count]; losses NULL: only the classes, without labels.
int32_t edgelora_twin_infer(
    edgelora_session_t *s, const edgelora_samples_t *samples, int32_t *best, int32_t *losses);
int32_t edgelora_twin_infer(
    edgelora_session_t *s, const edgelora_samples_t *samples, int32_t *best, int32_t *losses) {
    for (uint32_t i = 0; i < samples->count; ++i) {
        const int8_t *x = samples->x + (size_t)i * samples->size;
        best[i] = losses
            ? edgelora_evaluate(s, x, samples->labels ? samples->labels[i] : 0,
                  samples->labels ? 0 : samples->targets + (size_t)i * samples->target_size,
                  losses + i)
            : edgelora_infer_sample(s, x);
        if (best[i] < 0) {
            return best[i];
        }
    }
    return EDGELORA_OK;
}
