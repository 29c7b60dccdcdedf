// Fuzzes the checks of .elm and .ela, and the readers of files that have passed them.
// SPDX-License-Identifier: MIT

#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// A session with only the parts that checks of adapters read.
static edgelora_session_t session_of(const void *model) {
    edgelora_session_t s = {.model = {.p = model}};
    return s;
}

static void read_model(const void *model) {
    const edgelora_model_t *m = model;
    volatile uint32_t seen = edgelora_input_size(model) + edgelora_output_size(model) +
        edgelora_target_size(model) + edgelora_class_size(model);
    for (uint32_t i = 0; i < m->op_count; ++i) {
        edgelora_shape_t g = edgelora_shape(model, i);
        seen += g.positions * g.out_c;
    }
    const edgelora_signal_t *signal = edgelora_signal(model);
    if (signal && signal->values <= 64) {
        int16_t counts[64];
        int8_t out[64];
        for (uint32_t i = 0; i < signal->values; ++i) {
            counts[i] = (int16_t)(i & 1 ? 32767 - i : i * 40503u);
        }
        CHECK(edgelora_quantize(model, counts, signal->values, out) <= signal->values);
        CHECK(signal->values == 1 ||
            edgelora_quantize(model, counts, signal->values + 1u, out) == EDGELORA_ERR_SIZE);
    } else {
        CHECK(signal || edgelora_quantize(model, 0, 0, 0) == EDGELORA_ERR_SIGNAL);
    }
}

static void read_adapter(const edgelora_session_t *s, const void *adapter, uint32_t size) {
    for (uint32_t kind = EDGELORA_RECORD_CLASSES; kind < EDGELORA_RECORD_KINDS; ++kind) {
        const edgelora_record_t *r = edgelora_record(adapter, size, kind);
        if (r) {
            const uint8_t *end = (const uint8_t *)(r + 1) + r->size;
            CHECK((const uint8_t *)r > (const uint8_t *)adapter &&
                end <= (const uint8_t *)adapter + size);
            CHECK(edgelora_body_fits(s->model.p, kind, r + 1, r->size));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t in = input_of(data, size);
    void *model = heap_copy(in.model, in.model_size);
    if (edgelora_model_check(model, in.model_size) == EDGELORA_OK) {
        read_model(model);
        void *adapter = heap_copy(in.adapter, in.adapter_size);
        edgelora_session_t s = session_of(model);
        edgelora_ends_t ends;
        bool fits = edgelora_adapter_fits(&s, adapter, in.adapter_size, &ends) == EDGELORA_OK;
        if (fits) {
            CHECK(ends.weights <= ends.layers && ends.layers <= in.adapter_size);
            read_adapter(&s, adapter, in.adapter_size);
        }
        CHECK(edgelora_adapter_check(&s, adapter, in.adapter_size) != EDGELORA_OK || fits);
        free(adapter);
    }
    free(model);
    return 0;
}
