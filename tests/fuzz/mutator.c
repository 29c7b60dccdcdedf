// Mutates inputs field by field and corrects the CRCs: otherwise the CRC check would refuse nearly
// every changed file.
// SPDX-License-Identifier: MIT

#include "fields.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if __has_feature(memory_sanitizer)
#include <sanitizer/msan_interface.h>
#endif

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *two,
    size_t two_size, uint8_t *out, size_t max_size, unsigned int seed);

enum { MAX_PART = 6000, MAX_PROGRAM = 400, COMMAND = 4 };

typedef struct {
    uint8_t model[MAX_PART], adapter[MAX_PART], program[MAX_PROGRAM];
    uint32_t model_size, adapter_size, program_size;
    uint64_t drawn;
} work_t;

static uint32_t below(work_t *w, uint32_t count) {
    w->drawn = (w->drawn * 48271u + 11u) % 0x7FFFFFFFu;
    return count ? (uint32_t)(w->drawn % count) : 0;
}

// libFuzzer's own mutations, whose writes MemorySanitizer does not see.
static uint32_t mutate(uint8_t *data, uint32_t size, uint32_t room) {
    uint32_t changed = (uint32_t)LLVMFuzzerMutate(data, size, room);
#if __has_feature(memory_sanitizer)
    __msan_unpoison(data, changed);
#endif
    return changed;
}

static uint32_t get(const uint8_t *at, uint32_t width) {
    uint32_t value = 0;
    memcpy(&value, at, width);
    return value;
}

static uint32_t value_for(
    work_t *w, const uint8_t *file, uint32_t size, uint32_t width, uint32_t old) {
    switch (below(w, 8)) {
        case 0:
        case 1:
        case 2:
            return (uint32_t)((uint64_t)LIMITS[below(w, COUNT(LIMITS))] + below(w, 3) + UINT32_MAX);
        case 3:
            return (uint32_t)((uint64_t)old + (below(w, 2) ? 1 : UINT32_MAX));
        case 4:
            return (uint32_t)((uint64_t)old + 4 * below(w, 33) + UINT32_MAX - 63);
        case 5:
            return (uint32_t)((uint64_t)size + below(w, 9) + UINT32_MAX - 3);
        case 6: // the value at another place
            return size > 8 ? get(file + 2 * below(w, (size - 4) / 2), width) : 0;
        default:
            return old ^ 1u << below(w, 8 * width);
    }
}

static void change_field(work_t *w, uint8_t *file, uint32_t size, uint32_t record, field_t f) {
    if (record <= size && size - record >= (uint32_t)f.at + f.width) {
        uint8_t *at = file + record + f.at;
        uint32_t value = value_for(w, file, size, f.width, get(at, f.width));
        memcpy(at, &value, f.width);
    }
}

#define CHANGE(w, file, size, record, table) \
    change_field(w, file, size, record, (table)[below(w, COUNT(table))])

// Changes an element of an op's array.
static void change_array(work_t *w, uint32_t op) {
    static const field_t POINTERS[] = {
        FIELD(edgelora_op_t, weights), FIELD(edgelora_op_t, bias), FIELD(edgelora_op_t, multiplier),
        FIELD(edgelora_op_t, shift)};
    uint32_t which = below(w, COUNT(POINTERS)), at = get(w->model + op + POINTERS[which].at, 4);
    uint32_t width = which == 1 || which == 2 ? 4 : 1, element = below(w, below(w, 4) ? 8 : 300);
    change_field(
        w, w->model, w->model_size, at, (field_t){(uint16_t)(width * element), (uint16_t)width});
}

static void change_model(work_t *w) {
    const uint32_t size = w->model_size;
    if (size < sizeof(edgelora_model_t)) {
        return;
    }
    edgelora_model_t m;
    memcpy(&m, w->model, sizeof m);
    uint64_t op = m.ops + (uint64_t)sizeof(edgelora_op_t) * below(w, m.op_count);
    uint64_t tensor = m.tensors + (uint64_t)sizeof(edgelora_tensor_t) * below(w, m.op_count + 1u);
    bool op_inside = op + sizeof(edgelora_op_t) <= size;
    uint32_t kind = below(w, 10);
    if (kind < 2) {
        CHANGE(w, w->model, size, 0, MODEL_FIELDS);
    } else if (kind < 5 && op_inside) {
        CHANGE(w, w->model, size, (uint32_t)op, OP_FIELDS);
    } else if (kind < 6 && tensor < size) {
        CHANGE(w, w->model, size, (uint32_t)tensor, TENSOR_FIELDS);
    } else if (kind < 7) {
        CHANGE(w, w->model, size, 4u * m.signal, SIGNAL_FIELDS);
    } else if (kind < 8 && m.labels >= 400) { // class statistics are before the labels
        change_field(
            w, w->model, size, m.labels - 4 * below(w, 100), (field_t){0, below(w, 2) ? 4 : 1});
    } else if (op_inside) {
        change_array(w, (uint32_t)op);
    }
}

static void change_adapter(work_t *w) {
    static const uint16_t widths[] = {1, 2, 4};
    const uint32_t size = w->adapter_size;
    if (size < sizeof(edgelora_adapter_t)) {
        return;
    }
    uint32_t layers = get(w->adapter + offsetof(edgelora_adapter_t, layer_count), 2),
             kind = below(w, 8);
    uint32_t layer = (uint32_t)(sizeof(edgelora_adapter_t) +
        sizeof(edgelora_adapter_layer_t) * below(w, layers));
    if (kind < 3) {
        CHANGE(w, w->adapter, size, 0, ADAPTER_FIELDS);
    } else if (kind < 5) {
        CHANGE(w, w->adapter, size, layer, LAYER_FIELDS);
    } else if (kind < 6) {
        CHANGE(w, w->adapter, size, size - 4 * below(w, size / 4), RECORD_FIELDS);
    } else if (kind < 7) {
        change_field(w, w->adapter, size, 4 * below(w, size / 4),
            (field_t){0, widths[below(w, COUNT(widths))]});
    } else if (below(w, 2) || size + 4 > MAX_PART) {
        w->adapter_size -= 4 * below(w, 4);
    } else {
        memset(w->adapter + size, 0, 4);
        w->adapter_size += 4;
    }
}

static void change_program(work_t *w) {
    uint32_t commands = w->program_size / COMMAND, at = COMMAND * below(w, commands);
    uint32_t more = COMMAND * (1 + below(w, 3)), behind = w->program_size - at, kind = below(w, 5);
    if (kind < 2 && w->program_size + more <= MAX_PROGRAM &&
        behind >= more) { // new commands, or copies of others
        bool copies = below(w, 2);
        memmove(w->program + at + more, w->program + at, behind);
        w->program_size += more;
        for (uint32_t i = 0; i < more && !copies; ++i) {
            w->program[at + i] = (uint8_t)below(w, 256);
        }
    } else if (kind == 2 && behind > more) {
        memmove(w->program + at, w->program + at + more, behind - more);
        w->program_size -= more;
    } else if (kind == 3 && w->program_size) {
        w->program[below(w, w->program_size)] = (uint8_t)below(w, below(w, 2) ? 256 : 40);
    } else {
        w->program_size = mutate(w->program, w->program_size, MAX_PROGRAM);
    }
}

static void make_right(work_t *w) {
    right_crc(w->model, w->model_size);
    if (w->adapter_size >= sizeof(edgelora_adapter_t)) {
        if (w->model_size >= sizeof(edgelora_model_t) && below(w, 16)) {
            memcpy(w->adapter + offsetof(edgelora_adapter_t, base_id),
                w->model + offsetof(edgelora_model_t, base_id), 8);
        }
        if (below(w, 16)) {
            memcpy(w->adapter + offsetof(edgelora_adapter_t, file_size), &w->adapter_size, 4);
        }
        right_crc(w->adapter, w->adapter_size);
    }
}

static void take(work_t *w, input_t in) {
    w->model_size = smaller(in.model_size, MAX_PART);
    w->adapter_size = smaller(in.adapter_size, MAX_PART);
    w->program_size = smaller(in.program_size, MAX_PROGRAM);
    if (in.model) {
        memcpy(w->model, in.model, w->model_size);
        memcpy(w->adapter, in.adapter, w->adapter_size);
        memcpy(w->program, in.program, w->program_size);
    }
}

static size_t give(const work_t *w, uint8_t *data, size_t size, size_t max_size) {
    size_t all = (size_t)INPUT_HEAD + w->model_size + w->adapter_size + w->program_size;
    if (all > max_size) {
        return size;
    }
    data[0] = (uint8_t)(w->model_size & 255);
    data[1] = (uint8_t)(w->model_size >> 8);
    data[2] = (uint8_t)(w->adapter_size & 255);
    data[3] = (uint8_t)(w->adapter_size >> 8);
    memcpy(data + INPUT_HEAD, w->model, w->model_size);
    memcpy(data + INPUT_HEAD + w->model_size, w->adapter, w->adapter_size);
    memcpy(data + INPUT_HEAD + w->model_size + w->adapter_size, w->program, w->program_size);
    return all;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed) {
    static work_t w;
    w.drawn = seed % 0x7FFFFFFEu + 1;
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

// Combines the model and adapter, or only the model, of one input with the rest of the other.
size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *two,
    size_t two_size, uint8_t *out, size_t max_size, unsigned int seed) {
    static work_t w;
    w.drawn = seed % 0x7FFFFFFEu + 1;
    input_t a = input_of(one, one_size), b = input_of(two, two_size);
    if (!a.model || !b.model) {
        return 0;
    }
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
    take(&w, b);
    make_right(&w);
    return give(&w, out, 0, max_size);
}
