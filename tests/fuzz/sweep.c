// Runs a harness with every field of a model and of an adapter set to every value at which a check
// might fail, one at a time and in pairs, and with every byte flipped, with corrected CRCs. Flipped
// bytes with a stale CRC and cut files are refused.
// SPDX-License-Identifier: MIT
//
// Usage: sweep PAIRS SEED INPUT...: for each input all single fields, PAIRS random pairs of fields,
// then all bytes and lengths. Prints the number of executions.

#include "fields.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_FIELDS = 4000, WAYS = 3 * COUNT(LIMITS) + 4, FLIPS = 3 };

typedef struct {
    uint32_t at, width; // from the input's start
} place_t;

typedef struct {
    uint8_t *data;
    uint32_t size, model_size, adapter_size;
    place_t places[MAX_FIELDS];
    uint32_t count;
} sweep_t;

static uint64_t executions, drawn;

static uint32_t below(uint32_t count) {
    drawn = drawn * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(drawn >> 33) % count;
}

static void add(sweep_t *s, uint32_t begin, uint32_t end, uint32_t record, const field_t *fields,
    uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
        uint32_t at = begin + record + fields[i].at;
        if (record < end && at + fields[i].width <= end && s->count < MAX_FIELDS) {
            s->places[s->count++] = (place_t){at, fields[i].width};
        }
    }
}

#define ADD(s, begin, end, record, table) add(s, begin, end, record, table, COUNT(table))

static void find_places(sweep_t *s) {
    uint32_t model = INPUT_HEAD, adapter = model + s->model_size;
    edgelora_model_t m;
    edgelora_adapter_t a;
    memcpy(&m, s->data + model, sizeof m);
    ADD(s, model, adapter, 0, MODEL_FIELDS);
    for (uint32_t i = 0; i < m.tensor_count; ++i) {
        ADD(s, model, adapter, m.tensors + i * (uint32_t)sizeof(edgelora_tensor_t), TENSOR_FIELDS);
    }
    for (uint32_t i = 0; i < m.op_count; ++i) {
        ADD(s, model, adapter, m.ops + i * (uint32_t)sizeof(edgelora_op_t), OP_FIELDS);
    }
    if (m.signal) {
        ADD(s, model, adapter, 4u * m.signal, SIGNAL_FIELDS);
    }
    if (s->adapter_size >= sizeof a) {
        uint32_t end = adapter + s->adapter_size;
        memcpy(&a, s->data + adapter, sizeof a);
        ADD(s, adapter, end, 0, ADAPTER_FIELDS);
        for (uint32_t i = 0; i < a.layer_count; ++i) {
            ADD(s, adapter, end, (uint32_t)(sizeof a + i * sizeof(edgelora_adapter_layer_t)),
                LAYER_FIELDS);
        }
        if (a.flags & EDGELORA_RECORDS) {
            void *aligned = heap_copy(s->data + adapter, s->adapter_size);
            ADD(s, adapter, end, edgelora_adapter_ends(aligned).layers, RECORD_FIELDS);
            free(aligned);
        }
    }
}

static uint32_t value_of(uint32_t way, uint32_t old, uint32_t size) {
    const uint32_t others[] = {old - 1, old + 1, size, UINT32_MAX};
    return way < 3 * COUNT(LIMITS) ? LIMITS[way / 3] + way % 3 - 1
                                   : others[way - 3 * COUNT(LIMITS)];
}

// Sets a field to a value; returns the old one.
static uint32_t put(sweep_t *s, const uint8_t *data, place_t p, uint32_t way) {
    uint32_t old = 0, value;
    memcpy(&old, data + p.at, p.width);
    value = value_of(way, old, p.at < INPUT_HEAD + s->model_size ? s->model_size : s->adapter_size);
    memcpy(s->data + p.at, &value, p.width);
    return old;
}

static void run(sweep_t *s) {
    right_crc(s->data + INPUT_HEAD, s->model_size);
    right_crc(s->data + INPUT_HEAD + s->model_size, s->adapter_size);
    LLVMFuzzerTestOneInput(s->data, s->size);
    ++executions;
}

// Whether the check takes a file: an adapter of `base` or, if that is 0, a model.
static bool taken(const uint8_t *file, uint32_t size, const void *base) {
    void *copy = heap_copy(file, size);
    edgelora_session_t s = {.model = {.p = base}};
    edgelora_status_t status = base ? edgelora_adapter_check(&s, copy, size)
                                    : edgelora_model_check(copy, size);
    free(copy);
    return status == EDGELORA_OK;
}

// Flips bytes of the file of `size` bytes at `begin`, and cuts it.
static void damage(
    sweep_t *s, const uint8_t *data, uint32_t begin, uint32_t size, const void *base) {
    static const uint8_t flips[] = {0x01, 0x80, 0x02, 0xFF, 0x04, 0x40, 0x08, 0x7F, 0x10, 0x20};
    uint8_t *file = s->data + begin;
    CHECK(taken(file, size, base));
    for (uint32_t i = 0; i < FLIPS * size; ++i) {
        file[i / FLIPS] ^= flips[(below(3) + 3 * i) % COUNT(flips)];
        CHECK(!taken(file, size, base));
        run(s);
        memcpy(s->data, data, s->size);
    }
    for (uint32_t length = 0; length < size; ++length) {
        CHECK(!taken(file, length, base));
        if (length >= sizeof(edgelora_adapter_t)) { // also with that length in the header
            memcpy(file + 8, &length, 4);
            right_crc(file, length);
            CHECK(!taken(file, length, base));
            memcpy(file, data + begin, sizeof(edgelora_adapter_t));
        }
    }
}

static void sweep(const char *path, uint32_t pairs) {
    static sweep_t s;
    FILE *f = fopen(path, "rb");
    CHECK(f && !fseek(f, 0, SEEK_END));
    uint32_t size = (uint32_t)ftell(f);
    rewind(f);
    uint8_t *data = malloc(size + 4u);
    CHECK(fread(data, 1, size, f) == size);
    fclose(f);
    input_t in = input_of(data, size);
    CHECK(in.model_size >= sizeof(edgelora_model_t));
    s = (sweep_t){
        .data = malloc(size),
        .size = size,
        .model_size = in.model_size,
        .adapter_size = in.adapter_size};
    memcpy(s.data, data, size);
    find_places(&s);
    for (uint32_t i = 0; i < s.count; ++i) {
        for (uint32_t way = 0; way < WAYS; ++way) {
            put(&s, data, s.places[i], way);
            run(&s);
        }
        memcpy(s.data, data, size);
    }
    for (uint32_t i = 0; i < pairs; ++i) {
        for (uint32_t n = 2 + below(2); n; --n) {
            put(&s, data, s.places[below(s.count)], below(WAYS));
        }
        run(&s);
        memcpy(s.data, data, size);
    }
    void *model = heap_copy(in.model, in.model_size);
    damage(&s, data, INPUT_HEAD, in.model_size, 0);
    damage(&s, data, INPUT_HEAD + in.model_size, in.adapter_size, model);
    free(model);
    free(s.data);
    free(data);
}

int main(int argc, char **argv) {
    CHECK(argc > 3);
    drawn = strtoull(argv[2], 0, 10);
    for (int i = 3; i < argc; ++i) {
        sweep(argv[i], (uint32_t)strtoul(argv[1], 0, 10));
    }
    printf("%llu executions\n", (unsigned long long)executions);
    return 0;
}
