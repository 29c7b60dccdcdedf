// Trains an adapter of a model on a file of samples, saves it, and uses the saved file.
// SPDX-License-Identifier: MIT
//
// Usage: train MODEL.elm SAMPLES.eld ADAPTER.ela

#include <edgelora.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANK = 8, MICRO_BATCH = 8, MOMENTUM = 2, EPOCHS = 16, SEED = 1, LEARNING_RATE = 6000 };
enum { HEADER = 32 }; // of a sample file

// Samples with labels, as they lie in a sample file: u8 label, s8 [size], u32 CRC-32.
typedef struct {
    const uint8_t *records;
    uint32_t count, size;
} samples_t;

static int32_t checked(int32_t status, const char *what) {
    if (status < 0) {
        fprintf(stderr, "%s: %s\n", what, edgelora_status_text((edgelora_status_t)status));
        exit(1);
    }
    return status;
}

static void *memory(size_t size) {
    void *found = malloc(size); // at a multiple of 8 at least
    if (!found) {
        fprintf(stderr, "no memory for %zu bytes\n", size);
        exit(1);
    }
    return found;
}

static void *read_file(const char *path, uint32_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) {
        perror(path);
        exit(1);
    }
    *size = (uint32_t)ftell(file);
    void *data = memory(*size);
    rewind(file);
    if (fread(data, 1, *size, file) != *size) {
        perror(path);
        exit(1);
    }
    fclose(file);
    return data;
}

static void write_file(const char *path, const void *data, uint32_t size) {
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file)) {
        perror(path);
        exit(1);
    }
}

static uint32_t u32_at(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static const uint8_t *record(const samples_t *samples, uint32_t i) {
    return samples->records + (size_t)i * (1 + samples->size + 4);
}

// The samples of a file that was made for this model.
static samples_t read_samples(const char *path, const edgelora_model_t *model) {
    uint32_t size, input = edgelora_input_size(model);
    const uint8_t *file = read_file(path, &size);
    if (size < HEADER || memcmp(file, "ELD1", 4) ||
        u32_at(file + 28) != edgelora_crc32(0, file, 28) || memcmp(file + 8, model->base_id, 8) ||
        u32_at(file + 16) != input || u32_at(file + 20) || size < HEADER + 1 + input + 4) {
        fprintf(stderr, "%s: no samples with labels for this model\n", path);
        exit(1);
    }
    samples_t samples = {file + HEADER, (size - HEADER) / (1 + input + 4), input};
    for (uint32_t i = 0; i < samples.count; ++i) {
        const uint8_t *at = record(&samples, i);
        if (u32_at(at + 1 + input) != edgelora_crc32(0, at, 1 + input)) {
            fprintf(stderr, "%s: sample %u is damaged\n", path, (unsigned)i);
            exit(1);
        }
    }
    return samples;
}

// The rank of each op's adapter: RANK for those with weights that can have one. (In a model with an
// lstm, ops below it need 0: no gradient comes through.)
static void choose_ranks(const edgelora_model_t *model, uint8_t *ranks) {
    const edgelora_op_t *ops = (const void *)((const uint8_t *)model + model->ops);
    for (uint32_t i = 0; i < model->op_count; ++i) {
        uint8_t kind = ops[i].kind;
        bool fits = kind == EDGELORA_DENSE || kind == EDGELORA_CONV || kind == EDGELORA_PROJECT;
        ranks[i] = fits ? RANK : 0;
    }
}

// Prints how many samples are classified right, and their mean loss, with what is in use.
static void report(edgelora_session_t *s, const samples_t *samples, const char *name) {
    uint32_t right = 0;
    double sum = 0;
    for (uint32_t i = 0; i < samples->count; ++i) {
        const uint8_t *at = record(samples, i);
        int32_t loss;
        int32_t found = edgelora_evaluate(s, (const int8_t *)at + 1, *at, NULL, &loss);
        right += (uint32_t)checked(found, "evaluate") == *at;
        sum += loss / 4096.0;
    }
    printf("%s: %u of %u right, loss %.3f\n", name, right, samples->count, sum / samples->count);
}

// A session that trains adapters of this model, in memory of its own.
static edgelora_session_t *open_session(const edgelora_model_t *model) {
    uint8_t ranks[EDGELORA_MAX_OPS]; // not needed any more behind `edgelora_init`
    choose_ranks(model, ranks);
    edgelora_config_t config = {
        .ranks = ranks,
        .mode = EDGELORA_FROZEN_A,
        .micro_batch = MICRO_BATCH,
        .momentum = MOMENTUM,
        .frames = 1};
    edgelora_span_t *spans = memory(model->op_count * EDGELORA_PLANNED * sizeof(*spans));
    int32_t planned = checked(edgelora_arena_size(model, &config, spans), "arena");
    free(spans);
    uint32_t room = (uint32_t)planned + edgelora_simd_room();
    void *arena = memory(room);
    checked(edgelora_init(arena, room, model, &config), "session");
    return edgelora_session(arena, room);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: train MODEL.elm SAMPLES.eld ADAPTER.ela\n");
        return 2;
    }
    uint32_t size;
    const edgelora_model_t *model = read_file(argv[1], &size);
    checked(edgelora_model_check(model, size), argv[1]);
    edgelora_session_t *s = open_session(model);
    const samples_t samples = read_samples(argv[2], model);
    report(s, &samples, "base");

    // Train a new adapter: each epoch takes the samples in another order.
    checked(edgelora_begin(s, SEED), "begin");
    for (uint32_t i = 0; i < EPOCHS * samples.count; ++i) {
        uint32_t epoch = i / samples.count, place = i % samples.count;
        const uint8_t *at = record(&samples, edgelora_order(SEED, epoch, samples.count, place));
        int32_t loss;
        const int8_t *x = (const int8_t *)at + 1;
        checked(edgelora_train(s, x, *at, NULL, LEARNING_RATE, &loss), "train");
    }
    checked(edgelora_flush(s, LEARNING_RATE), "flush");

    // Save it, and use it as a later run would.
    size = edgelora_adapter_size(s, false);
    void *saved = memory(size);
    write_file(argv[3], saved, (uint32_t)checked(edgelora_save(s, false, saved, size), "save"));
    const void *adapter = read_file(argv[3], &size);
    checked(edgelora_adapter_check(s, adapter, size), argv[3]);
    checked(edgelora_use(s, adapter, size), argv[3]);
    report(s, &samples, "adapter");
    return 0;
}
