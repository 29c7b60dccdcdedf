// What checks of files share with the rest of the core. SPDX-License-Identifier: MIT

#ifndef EDGELORA_FORMATS_H
#define EDGELORA_FORMATS_H

#include "graph.h"

// An adapter's layer records [layer_count].
static inline const edgelora_adapter_layer_t *adapter_layers(const edgelora_adapter_t *h) {
    const void *behind = h + 1;
    return behind;
}

// Elements of a dense or conv op's kernel.
static inline uint32_t matrix_kernel(const edgelora_op_t *op, const edgelora_tensor_t *in) {
    return op->kind == EDGELORA_DENSE ? (uint32_t)in->height * in->width
                                      : (uint32_t)op->kernel_h * op->kernel_w;
}

// What both headers start with, but for the CRC. size: what the caller has.
edgelora_status_t edgelora_header_check(
    const void *file, uint32_t size, char kind, uint32_t version, uint32_t header_size);
// The CRC of a file whose header has passed.
edgelora_status_t edgelora_crc_check(const void *file, uint32_t size);
// Bytes of a record in its file.
static inline uint32_t record_span(uint32_t body_size) {
    return (uint32_t)sizeof(edgelora_record_t) + align4(body_size);
}

// Where the parts of an adapter file end, in bytes from its start.
typedef struct {
    uint32_t weights; // A and B of all layers
    uint32_t layers;  // and their training state: its records follow
} edgelora_ends_t;

// Those of a file whose header and layer records are right.
edgelora_ends_t edgelora_adapter_ends(const edgelora_adapter_t *h);
// Header, base, layer records and the heads of other records of an adapter file, without CRC and
// values: nothing that is read by them lies outside.
edgelora_status_t edgelora_adapter_fits(
    const edgelora_session_t *s, const void *adapter, uint32_t size, edgelora_ends_t *ends);
// The signal record of a model file whose tensors have passed, if it has one.
edgelora_status_t edgelora_signal_check(const void *model, uint32_t size);

#endif
