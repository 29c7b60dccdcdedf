// Reading a checked adapter file.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_ADAPTER_H
#define EDGELORA_ADAPTER_H

#include "formats/formats.h"

// Reads the arrays of a checked adapter in file order, layer by layer.
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

#endif
