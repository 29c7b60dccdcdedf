// File checks, and helpers that the rest of the core shares with them.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_FORMATS_H
#define EDGELORA_FORMATS_H

#include "graph.h"

// An adapter's layer records [layer_count].
static inline const edgelora_adapter_layer_t *adapter_layers(const edgelora_adapter_t *h) {
    const void *behind = h + 1;
    return behind;
}

// K of a dense or conv op; < 2^32, as tensors and kernels are below 2^16 positions and 2^16
// channels.
static inline uint32_t matrix_inputs(const edgelora_op_t *op, const edgelora_tensor_t *in) {
    bool dense = op->kind == EDGELORA_DENSE;
    return (dense ? (uint32_t)in->height * in->width : (uint32_t)op->kernel_h * op->kernel_w) *
        in->channels;
}

// Can an adapter have this rank on a dense or conv op with K inputs?
static inline bool rank_ok(uint32_t rank, uint32_t k, uint32_t outputs, uint32_t positions) {
    return rank && rank <= EDGELORA_MAX_RANK && rank * k <= EDGELORA_MAX_FACTOR &&
        rank * outputs <= EDGELORA_MAX_FACTOR && rank * positions <= EDGELORA_MAX_T;
}

// The same of any op.
bool edgelora_rank_fits(const edgelora_model_t *m, const edgelora_op_t *op, uint32_t rank);

static inline bool shifts_ok(int32_t t_shift, int32_t branch_shift) {
    return t_shift >= EDGELORA_MIN_T_SHIFT && t_shift <= EDGELORA_MAX_T_SHIFT &&
        branch_shift >= EDGELORA_MIN_BRANCH_SHIFT && branch_shift <= EDGELORA_MAX_BRANCH_SHIFT;
}

// Checks the common start of both headers, except the CRC. size: bytes that the caller has.
edgelora_status_t edgelora_header_check(
    const void *file, uint32_t size, char kind, uint32_t version, uint32_t header_size);
// Checks the CRC of a file with a valid header; writes the CRC of a finished file.
edgelora_status_t edgelora_crc_check(const void *file, uint32_t size);
void edgelora_crc_write(void *file, uint32_t size);
// Initializes an adapter header for this base, with no layers, flags or counts.
void edgelora_adapter_header(edgelora_adapter_t *h, const edgelora_model_t *m, uint32_t file_size);

// Bytes of a matrix's training state in a file: scale, masters and, with momentum, running
// means.
static inline uint32_t matrix_state_size(uint32_t count, bool momentum) {
    return 4 + (momentum ? 2 : 1) * align4(2 * count);
}

// The class statistics of a checked model that has them.
typedef struct {
    const edgelora_class_stats_t *head;
    const int32_t *biases; // [classes]
    const int16_t *rows;   // [classes, inputs]
    const int16_t *inverse;
} class_stats_t;

class_stats_t model_class_stats(const void *model);
edgelora_status_t edgelora_class_stats_check(const void *model);
// Checks the body of a class record for this model.
bool edgelora_classes_fit(const edgelora_model_t *m, const void *body, uint32_t body_size);
// Checks the body of a record of a known kind for this model; body: at a multiple of 4.
bool edgelora_body_fits(
    const edgelora_model_t *m, uint32_t kind, const void *body, uint32_t body_size);

static inline uint32_t class_span(uint32_t size) {
    return (uint32_t)sizeof(edgelora_class_t) + align4(2 * size);
}

static inline const edgelora_class_t *first_class(const edgelora_classes_t *record) {
    const void *behind = record + 1;
    return behind;
}

static inline const edgelora_class_t *next_class(const edgelora_class_t *c, uint32_t size) {
    const void *behind = (const uint8_t *)c + class_span(size);
    return behind;
}

static inline const int16_t *class_row(const edgelora_class_t *c) {
    const void *behind = c + 1;
    return behind;
}

// Bytes of a record in a file.
static inline uint32_t record_span(uint32_t body_size) {
    return (uint32_t)sizeof(edgelora_record_t) + align4(body_size);
}

// Where the parts of an adapter file end, in bytes from its start.
typedef struct {
    uint32_t weights; // A and B of all layers
    uint32_t layers;  // training state of all layers; records follow
} edgelora_ends_t;

// The ends of a file with valid header and layer records.
edgelora_ends_t edgelora_adapter_ends(const edgelora_adapter_t *h);
// Checks header, base id, layer records and headers of other records of an adapter file, so that
// every read they imply stays within the file. Checks neither CRC nor values.
edgelora_status_t edgelora_adapter_fits(
    const edgelora_session_t *s, const void *adapter, uint32_t size, edgelora_ends_t *ends);
// A hash of what a session relies on in a model's buffer: header, tables, positions of gathers,
// the header of the signal record. It differs, or is 0, if any of it has changed since the model
// was checked; for an unchanged model it is never 0. size: file size when checked.
uint32_t edgelora_model_stamp(const void *model, uint32_t size);
// Checks the signal record, if any, of a model file with valid tensors.
edgelora_status_t edgelora_signal_check(const void *model, uint32_t size);

#endif
