// The input of the fuzzers of files and sessions: a model, an adapter and a program of API calls.
// SPDX-License-Identifier: MIT
//
// An input is u16 model size, u16 adapter size (little-endian), the model, the adapter; the rest is
// the program.

#ifndef EDGELORA_FUZZ_INPUT_H
#define EDGELORA_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/formats.h"

#define CHECK(what) \
    do { \
        if (!(what)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); \
            abort(); \
        } \
    } while (0)

enum { INPUT_HEAD = 4 };

typedef struct {
    const uint8_t *model, *adapter, *program;
    uint32_t model_size, adapter_size, program_size;
} input_t;

static inline uint32_t smaller(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

// Accepts any bytes: parts that exceed the input are cut.
static inline input_t input_of(const uint8_t *data, size_t size) {
    input_t in = {0};
    if (size < INPUT_HEAD) {
        return in;
    }
    uint32_t left = (uint32_t)size - INPUT_HEAD;
    in.model_size = smaller(data[0] + 256u * data[1], left);
    in.adapter_size = smaller(data[2] + 256u * data[3], left - in.model_size);
    in.program_size = left - in.model_size - in.adapter_size;
    in.model = data + INPUT_HEAD;
    in.adapter = in.model + in.model_size;
    in.program = in.adapter + in.adapter_size;
    return in;
}

// A copy on the heap of exactly this size, so that AddressSanitizer detects every read beyond it.
static inline void *heap_copy(const void *data, uint32_t size) {
    void *copy = malloc(size ? size : 1);
    CHECK(copy);
    if (size) {
        memcpy(copy, data, size);
    }
    return copy;
}

#endif
