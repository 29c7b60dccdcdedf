// The core used in ways that it must refuse, under the sanitizers: every buffer is of exactly its size on the heap.
// SPDX-License-Identifier: MIT
//
// Usage: misuse MODEL.elm OTHER.ela...: adapters that are of another base or don't fit. The model has ranks 2 on all its dense and conv
// ops. Prints the status of `use` for each; exits with 0 if all else holds.

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph.h"

enum { SAMPLES = 40, LEARNING_RATE = 20000 };

#define CHECK(what) \
    do { \
        if (!(what)) { \
            fprintf(stderr, "line %d: %s\n", __LINE__, #what); \
            exit(1); \
        } \
    } while (0)

static void *read_file(const char *path, uint32_t *size) {
    FILE *f = fopen(path, "rb");
    CHECK(f && !fseek(f, 0, SEEK_END));
    *size = (uint32_t)ftell(f);
    rewind(f);
    void *data = malloc(*size);
    CHECK(fread(data, 1, *size, f) == *size);
    fclose(f);
    return data;
}

static edgelora_session_t *open_session(const void *model, uint32_t *size) {
    uint32_t count = ((const edgelora_model_t *)model)->op_count;
    uint8_t ranks[EDGELORA_MAX_OPS];
    for (uint32_t i = 0; i < count; ++i) {
        ranks[i] = edgelora_shape(model, i).is_matrix ? 2 : 0;
    }
    edgelora_config_t config = {.ranks = ranks, .mode = EDGELORA_FROZEN_A, .micro_batch = 2, .frames = 1};
    edgelora_span_t *spans = malloc(count * EDGELORA_PLANNED * sizeof(*spans));
    int32_t found = edgelora_arena_size(model, &config, spans);
    free(spans);
    CHECK(found > 0);
    *size = (uint32_t)found + edgelora_vector_room();
    void *arena = malloc(*size);
    CHECK(edgelora_init(arena, *size, model, &config) == EDGELORA_OK);
    return edgelora_session(arena, *size);
}

static int8_t *sample_of(const void *model, uint32_t k) {
    int8_t *x = malloc(edgelora_input_size(model));
    for (uint32_t i = 0; i < edgelora_input_size(model); ++i) {
        x[i] = (int8_t)((i + 7 * k) * 37);
    }
    return x;
}

// A call while another is under way is refused, and changes nothing.
static void refuse_while_busy(edgelora_session_t *s, uint32_t arena_size) {
    const void *model = s->model.p;
    uint32_t room = edgelora_adapter_size(s, false), op = s->lowest;
    int8_t *x = sample_of(model, 1), *features = calloc(edgelora_feature_size(s), 1);
    edgelora_part_t part = {.size = room, .weight = 4096};
    void *file = malloc(room), *merged = malloc(edgelora_merge_size(s, op)), *before = malloc(arena_size);
    int32_t loss;
    part.adapter = file;
    CHECK(edgelora_save(s, false, file, room) == (int32_t)room);
    CHECK(edgelora_blend(s, &part, 1, true, 0, 0) == (int32_t)room);
    s->busy = 1;
    memcpy(before, s, arena_size);
    int32_t found[] = {
        edgelora_infer(s, x), edgelora_infer_sample(s, x), edgelora_infer_features(s, features), edgelora_features(s, x, features),
        edgelora_reset(s), edgelora_forward_range(s, x, 0, 1), edgelora_backward_range(s, x, 0, 1), edgelora_use(s, 0, 0),
        edgelora_use(s, file, room), edgelora_begin(s, 1), edgelora_load(s, file, room), edgelora_merge(s, op, merged),
        edgelora_train(s, x, 0, 0, 1, &loss), edgelora_train_features(s, features, 0, 0, 1, &loss), edgelora_flush(s, 1),
        edgelora_save(s, false, file, room), edgelora_blend(s, &part, 1, true, before, arena_size),
        edgelora_with_record(s, file, room, EDGELORA_RECORD_MONITOR, x, 1, before, arena_size),
    };
    for (uint32_t i = 0; i < sizeof(found) / sizeof(found[0]); ++i) {
        CHECK(found[i] == EDGELORA_ERR_BUSY);
    }
    CHECK(!memcmp(before, s, arena_size));
    s->busy = 0;
    // nor does an error leave a session busy
    CHECK(edgelora_train(s, x, 9999, 0, 1, &loss) == EDGELORA_ERR_LABEL);
    CHECK(edgelora_load(s, x, 0) < 0 && edgelora_use(s, file, room - 4) < 0 && edgelora_merge(s, 9999, merged) < 0);
    CHECK(edgelora_save(s, false, file, 0) == EDGELORA_ERR_SIZE && !s->busy);
    CHECK(edgelora_blend(s, &part, 0, true, 0, 0) == EDGELORA_ERR_BLEND && !s->busy);
    CHECK(edgelora_blend(s, &part, 1, true, before, room - 1) == EDGELORA_ERR_SIZE && !s->busy);
    CHECK(edgelora_blend(s, &part, 1, true, (char *)before + 1, room) == EDGELORA_ERR_ALIGN && !s->busy);
    CHECK(edgelora_infer(s, x) >= 0);
    free(x), free(features), free(file), free(merged), free(before);
}

typedef struct {
    edgelora_session_t *s;
    volatile bool done;
} second_t;

static void *infer_meanwhile(void *arg) {
    second_t *second = arg;
    int8_t *x = sample_of(second->s->model.p, 99);
    while (!second->done) {
        int32_t best = edgelora_infer(second->s, x);
        CHECK(best >= 0 || best == EDGELORA_ERR_BUSY);
    }
    free(x);
    return 0;
}

// A run's adapter, with another thread in the way or not; every refused sample is given again.
static void *run(edgelora_session_t *s, second_t *second, uint32_t *size) {
    pthread_t thread;
    CHECK(!second || !pthread_create(&thread, 0, infer_meanwhile, second));
    bool met = !second;
    do {
        while (edgelora_begin(s, 5) == EDGELORA_ERR_BUSY) {
        }
        for (uint32_t i = 0; i < SAMPLES; ++i) {
            int8_t *x = sample_of(s->model.p, i);
            int32_t loss, status;
            while ((status = edgelora_train(s, x, i & 1, 0, LEARNING_RATE, &loss)) == EDGELORA_ERR_BUSY) {
                met = true;
            }
            CHECK(status == EDGELORA_OK);
            free(x);
        }
    } while (!met);
    if (second) {
        second->done = true;
        pthread_join(thread, 0);
    }
    *size = edgelora_adapter_size(s, true);
    void *file = malloc(*size);
    CHECK(edgelora_save(s, true, file, *size) == (int32_t)*size);
    return file;
}

int main(int argc, char **argv) {
    uint32_t model_size, arena_size, size, size2;
    void *model = read_file(argv[1], &model_size);
    CHECK(edgelora_model_check(model, model_size) == EDGELORA_OK);
    edgelora_session_t *s = open_session(model, &arena_size);
    int8_t *x = sample_of(model, 0);
    void *alone = run(s, 0, &size);
    for (int i = 2; i < argc; ++i) {
        uint32_t other_size;
        void *other = read_file(argv[i], &other_size);
        int32_t best = edgelora_infer(s, x);
        printf("%d\n", edgelora_use(s, other, other_size));
        CHECK(edgelora_infer(s, x) == best); // with the one before
        free(other);
    }
    refuse_while_busy(s, arena_size);
    second_t second = {.s = s};
    void *disturbed = run(s, &second, &size2);
    CHECK(size == size2 && !memcmp(alone, disturbed, size));
    CHECK(edgelora_use(s, alone, size) == EDGELORA_OK && edgelora_infer(s, x) >= 0);
    free(alone), free(disturbed), free(x), free(s), free(model);
    return 0;
}
