// Mutates inputs by what their fields mean, and makes the CRCs right again: else nearly every change of a file is refused for
// its CRC. SPDX-License-Identifier: MIT

#include "fields.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if __has_feature(memory_sanitizer)
#include <sanitizer/msan_interface.h>
#endif

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    static work_t w;
    w.drawn = seed;
    take(&w, input_of(data, size));
    for (uint32_t times = 1 + below(&w, 3); times; --times) {
        uint32_t kind = below(&w, 16);
        if (kind < 7) {
            change_program(&w);
        } else if (kind < 11) {
            change_model(&w);
        } else if (kind < 15) {
            change_adapter(&w);
        } else if (below(&w, 2)) {
            w.adapter_size = mutate(w.adapter, w.adapter_size, MAX_PART);
        } else {
            w.model_size = mutate(w.model, w.model_size, MAX_PART);
        }
    }
    make_right(&w);
    return give(&w, data, size, max_size);
}

// The model and adapter of one, or its model alone, with the rest of the other.
size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *two, size_t two_size, uint8_t *out,
    size_t max_size, unsigned int seed) {
    static work_t w;
    w.drawn = seed;
    input_t a = input_of(one, one_size), b = input_of(two, two_size);
    if (below(&w, 2)) {
        b.program = a.program;
        b.program_size = a.program_size;
    } else if (below(&w, 2)) {
        b.adapter = a.adapter;
        b.adapter_size = a.adapter_size;
    } else {
        b.model = a.model;
        b.model_size = a.model_size;
    }
    if (!a.model || !b.model) {
        return 0;
    }
    take(&w, b);
    make_right(&w);
    return give(&w, out, 0, max_size);
}
