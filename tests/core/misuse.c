// Invalid uses that the core must refuse, under the sanitizers: every buffer has its exact size on
// the heap.
// SPDX-License-Identifier: MIT
//
// Usage: misuse MODEL.elm OTHER.ela...: adapters of another base or with other shapes. The model
// has rank 2 on all dense and conv ops. Prints the status of `use` for each; exits with 0 if all
// other checks pass.

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "fleet/fleet.h"
#include "formats/formats.h"
#include "graph.h"
#include "signal/frontend.h"

enum { SAMPLES = 40, LEARNING_RATE = 20000 };

static edgelora_session_t *open_session(const void *model, uint32_t *size) {
    uint32_t count = ((const edgelora_model_t *)model)->op_count;
    uint8_t ranks[EDGELORA_MAX_OPS];
    for (uint32_t i = 0; i < count; ++i) {
        ranks[i] = edgelora_shape(model, i).is_matrix ? 2 : 0;
    }
    edgelora_config_t config = {
        .ranks = ranks, .mode = EDGELORA_FROZEN_A, .micro_batch = 2, .frames = 1};
    edgelora_span_t *spans = malloc(count * EDGELORA_PLANNED * sizeof(*spans));
    int32_t found = edgelora_arena_size(model, &config, spans);
    free(spans);
    CHECK(found > 0);
    *size = (uint32_t)found + edgelora_simd_room();
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

// A call while another one runs is refused and changes nothing.
static void refuse_while_busy(edgelora_session_t *s, uint32_t arena_size) {
    const void *model = s->model.p;
    uint32_t room = edgelora_adapter_size(s, false), op = s->lowest;
    int8_t *x = sample_of(model, 1), *features = calloc(edgelora_feature_size(s), 1);
    edgelora_part_t part = {.size = room, .weight = 4096};
    uint16_t probable[256];
    void *file = malloc(room), *merged = malloc(edgelora_merge_size(s, op)),
         *before = malloc(arena_size);
    int32_t loss;
    part.adapter = file;
    CHECK(edgelora_save(s, false, file, room) == (int32_t)room);
    CHECK(edgelora_blend(s, &part, 1, true, 0, 0) == (int32_t)room);
    s->busy = 1;
    memcpy(before, s, arena_size);
    int32_t found[] = {
        edgelora_infer(s, x),
        edgelora_infer_sample(s, x),
        edgelora_infer_features(s, features),
        edgelora_features(s, x, features),
        edgelora_reset(s),
        edgelora_forward_range(s, x, 0, 1),
        edgelora_backward_range(s, x, 0, 1),
        edgelora_use(s, 0, 0),
        edgelora_use(s, file, room),
        edgelora_begin(s, 1),
        edgelora_load(s, file, room),
        edgelora_merge(s, op, merged),
        edgelora_train(s, x, 0, 0, 1, &loss),
        edgelora_train_features(s, features, 0, 0, 1, &loss),
        edgelora_flush(s, 1),
        edgelora_save(s, false, file, room),
        edgelora_blend(s, &part, 1, true, before, arena_size),
        edgelora_with_record(s, file, room, EDGELORA_RECORD_MONITOR, x, 1, before, arena_size),
        edgelora_probabilities(s, probable),
        edgelora_evaluate(s, x, 0, 0, &loss),
    };
    for (uint32_t i = 0; i < sizeof(found) / sizeof(found[0]); ++i) {
        CHECK(found[i] == EDGELORA_ERR_BUSY);
    }
    CHECK(!memcmp(before, s, arena_size));
    s->busy = 0;
    // an error does not leave the session busy
    CHECK(edgelora_train(s, x, 9999, 0, 1, &loss) == EDGELORA_ERR_LABEL);
    CHECK(edgelora_load(s, x, 0) < 0 && edgelora_use(s, file, room - 4) < 0 &&
        edgelora_merge(s, 9999, merged) < 0);
    CHECK(edgelora_save(s, false, file, 0) == EDGELORA_ERR_SIZE && !s->busy);
    CHECK(edgelora_blend(s, &part, 0, true, 0, 0) == EDGELORA_ERR_BLEND && !s->busy);
    CHECK(edgelora_blend(s, &part, 1, true, before, room - 1) == EDGELORA_ERR_SIZE && !s->busy);
    CHECK(edgelora_blend(s, &part, 1, true, (char *)before + 1, room) == EDGELORA_ERR_ALIGN &&
        !s->busy);
    CHECK(edgelora_infer(s, x) >= 0);
    free(x), free(features), free(file), free(merged), free(before);
}

// Invalid arguments: each returns its own error status and changes nothing.
static void refuse_wrong_arguments(edgelora_session_t *s, uint32_t arena_size) {
    const void *model = s->model.p;
    uint32_t room = edgelora_adapter_size(s, true), op = s->lowest,
             merge_size = edgelora_merge_size(s, op), whole = room + 12;
    uint8_t *before = malloc(arena_size), *file = malloc(room + 4),
            *merged = malloc(merge_size + 4), *out = malloc(whole + 4);
    int8_t *x = sample_of(model, 3);
    int32_t loss;
    const edgelora_record_kind_t MONITOR = EDGELORA_RECORD_MONITOR;
    CHECK(
        edgelora_begin(s, 5) == EDGELORA_OK && edgelora_train(s, x, 0, 0, 1, &loss) == EDGELORA_OK);
    CHECK(edgelora_save(s, true, file, room) ==
        EDGELORA_ERR_PENDING); // only one of two samples of the update
    CHECK(
        edgelora_flush(s, 1) == EDGELORA_OK && edgelora_save(s, true, file, room) == (int32_t)room);
    CHECK(edgelora_use(s, file, room) == EDGELORA_OK);
    CHECK(edgelora_with_record(s, file, room, MONITOR, "bye", 3, 0, 0) == (int32_t)whole);
    memcpy(before, s, arena_size);
    const struct {
        int32_t found, wanted;
    } calls[] = {
        {edgelora_model_check((const char *)model + 1, 1000), EDGELORA_ERR_ALIGN},
        {edgelora_model_check(model, 15), EDGELORA_ERR_TRUNCATED},
        {edgelora_adapter_check(s, file + 1, room), EDGELORA_ERR_ALIGN},
        {edgelora_use(s, file + 2, room), EDGELORA_ERR_ALIGN},
        {edgelora_save(s, true, file, room - 1), EDGELORA_ERR_SIZE},
        {edgelora_save(s, true, file + 2, room), EDGELORA_ERR_ALIGN},
        {edgelora_merge(s, op, merged + 1), EDGELORA_ERR_ALIGN},
        {edgelora_merge(s, s->op_count, merged), EDGELORA_ERR_MERGE},
        {(int32_t)edgelora_merge_size(s, s->op_count), 0},
        {edgelora_with_record(s, file, room, (edgelora_record_kind_t)0, "bye", 3, out, whole),
            EDGELORA_ERR_RECORD},
        {edgelora_with_record(s, file, room, EDGELORA_RECORD_KINDS, "bye", 3, out, whole),
            EDGELORA_ERR_RECORD},
        {edgelora_with_record(s, file, room, MONITOR, "bye", 1u << 24, out, whole),
            EDGELORA_ERR_RECORD},
        {edgelora_with_record(s, file, room, MONITOR, "bye", 3, out, whole - 1), EDGELORA_ERR_SIZE},
        {edgelora_with_record(s, file, room, MONITOR, "bye", 3, out + 1, whole),
            EDGELORA_ERR_ALIGN},
        {edgelora_with_record(s, file, room, MONITOR, "bye", 3, s, whole), EDGELORA_ERR_ALIAS},
        {edgelora_with_record(s, file, room, MONITOR, out + 8, 3, out, whole), EDGELORA_ERR_ALIAS},
        {edgelora_with_record(s, 0, 0, MONITOR, 0, 0, out, whole), 0}, // the base alone
    };
    for (uint32_t i = 0; i < sizeof(calls) / sizeof(calls[0]); ++i) {
        if (calls[i].found != calls[i].wanted) {
            fprintf(stderr, "call %u: %d\n", i, calls[i].found);
            exit(1);
        }
    }
    CHECK(!memcmp(before, s, arena_size) && edgelora_merge(s, op, merged) == EDGELORA_OK &&
        edgelora_use(s, 0, 0) == EDGELORA_OK);
    free(before), free(file), free(merged), free(out), free(x);
}

// Invalid settings; sessions for inference only, which refuse to train; memory without a session.
static void refuse_wrong_settings(const void *model, uint32_t op) {
    uint32_t count = ((const edgelora_model_t *)model)->op_count, no_matrix = 0;
    uint8_t none[EDGELORA_MAX_OPS] = {0}, one[EDGELORA_MAX_OPS] = {0},
            wrong[EDGELORA_MAX_OPS] = {0}, large[EDGELORA_MAX_OPS] = {0};
    while (edgelora_shape(model, no_matrix).is_matrix) {
        ++no_matrix;
    }
    one[op] = 1, wrong[no_matrix] = 1, large[op] = 33;
    const edgelora_config_t good = {
        .ranks = one, .mode = EDGELORA_FROZEN_A, .micro_batch = 1, .frames = 1};
    edgelora_config_t all[10];
    for (uint32_t i = 0; i < 10; ++i) {
        all[i] = good;
    }
    all[0].mode = EDGELORA_DECODE + 1, all[1].micro_batch = 0,
    all[2].momentum = EDGELORA_MAX_MOMENTUM + 1;
    all[3].threshold = EDGELORA_MAX_THRESHOLD + 1, all[4].frames = 0,
    all[5].frames = 2; // for a model without history
    all[6].ranks = none, all[7].ranks = wrong, all[8].ranks = large;
    static const int32_t wanted[10] = {
        EDGELORA_ERR_CONFIG, EDGELORA_ERR_CONFIG, EDGELORA_ERR_CONFIG, EDGELORA_ERR_CONFIG,
        EDGELORA_ERR_CONFIG, EDGELORA_ERR_CONFIG, EDGELORA_ERR_MODE, EDGELORA_ERR_RANK,
        EDGELORA_ERR_RANK};
    edgelora_span_t *spans = malloc(count * EDGELORA_PLANNED * sizeof(*spans));
    uint32_t size = (uint32_t)edgelora_arena_size(model, &good, spans);
    uint8_t *arena = malloc(size);
    for (uint32_t i = 0; i < 9; ++i) {
        CHECK(edgelora_arena_size(model, &all[i], spans) == wanted[i]);
        CHECK(edgelora_init(arena, size, model, &all[i]) == (edgelora_status_t)wanted[i] &&
            !edgelora_session(arena, size));
    }
    CHECK(edgelora_init(arena + 4, size - 4, model, &good) == EDGELORA_ERR_ALIGN);
    CHECK(edgelora_init(arena, 64, model, &good) == EDGELORA_ERR_ARENA);
    CHECK(edgelora_init(arena, size - 1, model, &good) == EDGELORA_ERR_ARENA);
    all[9].mode = EDGELORA_INFER, all[9].ranks = none, all[9].fixed = true;
    int8_t *x = sample_of(model, 0), *features = calloc(edgelora_input_size(model), 1);
    int32_t loss;
    CHECK(edgelora_init(arena, size, model, &all[9]) == EDGELORA_OK);
    edgelora_session_t *s = edgelora_session(arena, size);
    CHECK(s && edgelora_begin(s, 1) == EDGELORA_ERR_MODE &&
        edgelora_load(s, x, 0) == EDGELORA_ERR_MODE);
    CHECK(edgelora_save(s, false, arena, 0) == EDGELORA_ERR_MODE &&
        edgelora_flush(s, 1) == EDGELORA_ERR_MODE);
    CHECK(edgelora_train(s, x, 0, 0, 1, &loss) == EDGELORA_ERR_MODE &&
        edgelora_evaluate(s, x, 0, 0, &loss) == EDGELORA_ERR_MODE);
    CHECK(edgelora_features(s, x, features) == EDGELORA_ERR_MODE &&
        edgelora_infer_features(s, features) == EDGELORA_ERR_MODE);
    CHECK(edgelora_backward_range(s, x, 0, 1) == EDGELORA_ERR_MODE && edgelora_infer(s, x) >= 0);
    CHECK(!edgelora_session(arena + 4, size) && !edgelora_session(arena, 8) &&
        !edgelora_session(arena, size + 8));
    s->magic ^= 1;
    CHECK(!edgelora_session(arena, size));
    s->magic ^= 1;
    s->self.p = arena + 8;
    CHECK(!edgelora_session(arena, size));
    // exactly the needed size, without memory for vectors: the same results
    CHECK(edgelora_init(arena, size, model, &good) == EDGELORA_OK &&
        edgelora_save(s, false, arena, 0) == EDGELORA_ERR_NOT_BEGUN);
    CHECK(edgelora_flush(s, 1) == EDGELORA_ERR_NOT_BEGUN &&
        edgelora_backward_range(s, x, 0, 1) == EDGELORA_ERR_NOT_BEGUN);
    free(arena), free(spans), free(x), free(features);
}

// Elements of any width with any stride; texts of valid and invalid statuses; memory without a
// front end.
static void take_texts_and_front_ends(void) {
    uint8_t from[64], to[64];
    for (uint32_t i = 0; i < sizeof from; ++i) {
        from[i] = (uint8_t)(i * 7);
    }
    for (uint32_t step = 1; step < 4; ++step) {
        for (uint32_t width = 1; width < 4; ++width) {
            uint32_t count = 60 / (step * width);
            memset(to, 0, sizeof to);
            edgelora_take(to, from, step, count, width);
            for (uint32_t i = 0; i < count * width; ++i) {
                CHECK(to[i] == from[i / width * step * width + i % width]);
            }
            CHECK(!to[count * width]);
        }
    }
    CHECK(!strcmp(edgelora_status_text((edgelora_status_t)-9999), "unknown status"));
    CHECK(!strcmp(edgelora_fleet_text(-9999), "unknown status"));
    uint32_t sizes[2] = {edgelora_audio_state_size(), edgelora_spectral_state_size()};
    uint64_t *state = calloc((sizes[0] > sizes[1] ? sizes[0] : sizes[1]) / 8 + 2, 8);
    void *odd = (char *)state + 4;
    CHECK(!edgelora_audio(state, sizes[0]) && !edgelora_spectral(state, sizes[1])); // no magic
    CHECK(
        edgelora_audio_begin(odd, sizes[0], EDGELORA_FEATURES_RAW, 0, 0) == EDGELORA_ERR_FRONTEND);
    CHECK(edgelora_spectral_begin(state, sizes[1] - 8, 1, 0, 8, EDGELORA_FEATURES_RAW, 0, 0) ==
        EDGELORA_ERR_FRONTEND);
    CHECK(edgelora_spectral_begin(state, sizes[1], 3, 2, 8, EDGELORA_FEATURES_RAW, 0, 0) ==
        EDGELORA_OK);
    edgelora_spectral_t *s = edgelora_spectral(state, sizes[1]);
    CHECK(s && edgelora_spectral_output_size(s) == 2 * EDGELORA_SPECTRAL_SIZE &&
        !edgelora_spectral(odd, sizes[1]));
    CHECK(edgelora_spectral_input_size(s) == 2 * 3 * EDGELORA_SPECTRAL_FRAME &&
        !edgelora_spectral(state, sizes[1] - 8));
    CHECK(edgelora_spectral_begin(
              state, sizes[1], 1, 0, 8, EDGELORA_FEATURES_SCALED, 0x3F800000, 0) == EDGELORA_OK);
    CHECK(edgelora_spectral_output_size(edgelora_spectral(state, sizes[1])) ==
        EDGELORA_SPECTRAL_SIZE);
    free(state);
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

// The adapter of a run, with or without another thread interfering; a refused sample is repeated.
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
            while ((status = edgelora_train(s, x, i & 1, 0, LEARNING_RATE, &loss)) ==
                EDGELORA_ERR_BUSY) {
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
        CHECK(edgelora_infer(s, x) == best); // with the previous adapter
        free(other);
    }
    refuse_while_busy(s, arena_size);
    refuse_wrong_arguments(s, arena_size);
    refuse_wrong_settings(model, s->lowest);
    take_texts_and_front_ends();
    second_t second = {.s = s};
    void *disturbed = run(s, &second, &size2);
    CHECK(size == size2 && !memcmp(alone, disturbed, size));
    CHECK(edgelora_use(s, alone, size) == EDGELORA_OK && edgelora_infer(s, x) >= 0);
    free(alone), free(disturbed), free(x), free(s), free(model);
    return 0;
}
