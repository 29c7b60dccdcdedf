// What the host checks before it trusts the compiled core: made from which sources, with which records.
// SPDX-License-Identifier: MIT

#include "edgelora.h"
#include "graph.h"
#include "twin_sources.h" // EDGELORA_SOURCES, made by CMake

typedef struct {
    uint32_t size;          // bytes of this record
    uint32_t span, config;  // bytes of edgelora_span_t and edgelora_config_t
    uint32_t shape;         // bytes of edgelora_shape_t
    const char *version;    // EDGELORA_VERSION
    const char *sources;    // SHA-256 of the core's sources, in hex
    const char *statuses;   // a line "NAME VALUE" for each
} edgelora_twin_t;

#define STATUS_LINE(name, value, text) #name " " #value "\n"

static const edgelora_twin_t twin = {
    sizeof(edgelora_twin_t),
    sizeof(edgelora_span_t),
    sizeof(edgelora_config_t),
    sizeof(edgelora_shape_t),
    EDGELORA_VERSION,
    EDGELORA_SOURCES,
    EDGELORA_STATUS_LIST(STATUS_LINE),
};

const edgelora_twin_t *edgelora_twin(void);
const edgelora_twin_t *edgelora_twin(void) {
    return &twin;
}
