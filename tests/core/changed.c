// Buffers that change after their check: no access out of bounds, whatever the results.
// SPDX-License-Identifier: MIT
//
// Usage: changed MODEL.elm ADAPTER.ela TIMES SEED. The adapter has classes. Every buffer has its
// exact size on the heap, under AddressSanitizer alone, since unchecked values may overflow sums
// harmlessly. Prints how often each was changed.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "graph.h"
#include "formats/formats.h"

static uint32_t state;

static uint32_t drawn(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return (state >> 4) % below;
}

static void *copy_of(const void *data, uint32_t size) {
    void *copy = malloc(size);
    memcpy(copy, data, size);
    return copy;
}

// Sets one to four fields of 1, 2 or 4 bytes, more often near the start, to values that are mostly
// invalid.
static void change(uint8_t *file, uint32_t size) {
    static const uint32_t values[] = {
        0, 1, 2, 3, 15, 16, 127, 128, 255, 256, 4096, 32767, 32768, 65535, 1u << 20, INT32_MAX,
        1u << 31, UINT32_MAX};
    for (uint32_t left = 1 + drawn(4); left; --left) {
        uint32_t width = 1u << drawn(3), places = (drawn(3) && size > 256 ? 256 : size) / width,
                 at = width * drawn(places);
        uint32_t value = drawn(4) ? values[drawn(sizeof(values) / sizeof(values[0]))]
                                  : drawn(UINT32_MAX);
        memcpy(file + at, &value, width);
    }
}

typedef struct {
    uint32_t arena_size, classes;
    void *model, *arena;
    edgelora_session_t *s;
    int8_t *x;
} world_t;

static edgelora_session_t *open_session(world_t *w, edgelora_mode_t mode) {
    uint8_t ranks[EDGELORA_MAX_OPS];
    const edgelora_model_t *m = w->model;
    for (uint32_t i = 0; i < m->op_count; ++i) {
        ranks[i] = mode != EDGELORA_INFER && edgelora_shape(w->model, i).is_matrix ? 2 : 0;
    }
    edgelora_config_t config = {
        .ranks = ranks, .mode = (uint8_t)mode, .micro_batch = 2, .frames = 1};
    edgelora_span_t *spans = malloc(m->op_count * EDGELORA_PLANNED * sizeof(*spans));
    int32_t size = edgelora_arena_size(w->model, &config, spans);
    free(spans);
    CHECK(size > 0);
    w->arena_size = (uint32_t)size + (drawn(2) ? edgelora_simd_room() : 0);
    w->arena = malloc(w->arena_size);
    CHECK(edgelora_init(w->arena, w->arena_size, w->model, &config) == EDGELORA_OK);
    return w->s = edgelora_session(w->arena, w->arena_size);
}

// What a session does with an adapter after accepting it.
static void work(world_t *w) {
    edgelora_session_t *s = w->s;
    uint32_t n = edgelora_class_count(s), size = edgelora_class_size(w->model);
    int32_t loss, best = edgelora_infer(s, w->x), *sums = calloc(size + 1, 4);
    uint16_t *p = malloc(2 * n);
    CHECK(best >= 0 && edgelora_probabilities(s, p) == EDGELORA_OK && n == w->classes);
    edgelora_infer_sample(s, w->x);
    edgelora_class_sample(s, w->x, sums);
    if (s->mode != EDGELORA_INFER) {
        edgelora_evaluate(s, w->x, drawn(EDGELORA_MAX_CLASSES), 0, &loss);
        for (uint32_t i = 0; s->begun && i < 3; ++i) {
            edgelora_train(s, w->x, i ? drawn(EDGELORA_MAX_CLASSES) : 0, 0, 6000, &loss);
        }
        if (s->begun && edgelora_flush(s, 6000) == EDGELORA_OK) {
            uint32_t room = edgelora_adapter_size(s, true);
            void *out = malloc(room);
            CHECK(edgelora_save(s, true, out, room) == (int32_t)room);
            free(out);
        }
    }
    uint32_t op = drawn(s->op_count), room = edgelora_merge_size(s, op);
    void *merged = malloc(room + 1);
    if (room && edgelora_merge(s, op, merged) == EDGELORA_OK) {
        memset(merged, (int)drawn(256), room);
        edgelora_infer(s, w->x);
        edgelora_use(s, 0, 0);
    }
    free(merged), free(p), free(sums);
}

static uint32_t change_adapter(world_t *w, const void *file, uint32_t size) {
    uint8_t *adapter = copy_of(file, size);
    bool load = drawn(2) && w->s->mode != EDGELORA_INFER;
    CHECK((load ? edgelora_load : edgelora_use)(w->s, adapter, size) == EDGELORA_OK);
    w->classes = edgelora_class_count(w->s);
    CHECK(w->classes > edgelora_output_size(w->model));
    change(adapter, size);
    // refused or not: no read beyond its size
    edgelora_record(adapter, size, EDGELORA_RECORD_CLASSES);
    edgelora_record(adapter, drawn(size), EDGELORA_RECORD_MONITOR);
    work(w);
    edgelora_use(w->s, adapter, size);
    if (w->s->mode != EDGELORA_INFER) {
        edgelora_begin(w->s, 1);
    }
    edgelora_use(w->s, 0, 0);
    free(adapter);
    return 1;
}

// A session refuses to run if a part of the model that it relies on has changed; otherwise it runs.
static uint32_t change_model(world_t *w, uint32_t size, uint32_t structure) {
    uint8_t *before = copy_of(w->model, size);
    w->classes = edgelora_class_count(w->s);
    change(w->model, size);
    bool same = !memcmp(before, w->model, structure);
    CHECK(same || !edgelora_session(w->arena, w->arena_size));
    if (edgelora_session(w->arena, w->arena_size)) {
        work(w);
    }
    memcpy(w->model, before, size);
    CHECK(edgelora_session(w->arena, w->arena_size) == w->s);
    free(before);
    return !same;
}

static int32_t *words_of(void *bytes) {
    return bytes;
}

// Merged weights are refused wherever they touch the adapter in use, merged weights or records.
static void refuse_merges(world_t *w, const void *file, uint32_t size) {
    edgelora_session_t *s = w->s;
    uint32_t most = 0, merged = 0;
    for (uint32_t op = 0; op < s->op_count; ++op) {
        uint32_t bytes = edgelora_merge_size(s, op);
        most = bytes > most ? bytes : most;
    }
    uint8_t *room = malloc(most + size + most), *own = room + ((most + 3) & ~3u);
    uint8_t *apart_from_all = malloc(s->op_count * most);
    memcpy(own, file, size);
    CHECK(edgelora_use(s, own, size) == EDGELORA_OK);
    for (uint32_t op = 0; op < s->op_count; ++op) {
        int32_t bytes = (int32_t)edgelora_merge_size(s, op);
        uint8_t *place = apart_from_all + merged * most;
        if (!bytes) {
            continue;
        }
        for (int32_t at = 4 - bytes; at < (int32_t)size; at += 4) {
            CHECK(edgelora_merge(s, op, own + at) == EDGELORA_ERR_ALIAS);
        }
        for (uint32_t before = 0; before < merged; ++before) {
            CHECK(edgelora_merge(s, op, apart_from_all + before * most) == EDGELORA_ERR_ALIAS);
        }
        CHECK(!memcmp(own, file, size) && edgelora_merge(s, op, place) == EDGELORA_OK);
        ++merged;
    }
    CHECK(merged && edgelora_use(s, 0, 0) == EDGELORA_OK);
    free(room), free(apart_from_all);
}

// Buffers that must not overlap are refused if they do.
static void refuse_overlaps(world_t *w, const void *file, uint32_t size) {
    edgelora_session_t *s = w->s;
    uint8_t *arena = w->arena, *model = w->model;
    uint8_t *own = copy_of(file, size);
    uint8_t *weights = own + sizeof(edgelora_adapter_t) +
        ((edgelora_adapter_t *)(void *)own)->layer_count * sizeof(edgelora_adapter_layer_t);
    edgelora_part_t part = {own, size, 4096};
    const int8_t *x = (const int8_t *)arena + 128;
    int32_t loss;
    CHECK(edgelora_load(s, own, size) == EDGELORA_OK && edgelora_use(s, own, size) == EDGELORA_OK);
    uint8_t *records = own + (((const uint8_t *)s->records.p - own) & ~3);
    uint32_t room = edgelora_adapter_size(s, true), op = s->lowest;
    uint8_t *out = malloc(size + room);
    int32_t sum = edgelora_blend(s, &part, 1, true, 0, 0);
    CHECK(sum > 0 && edgelora_merge_size(s, op));
    memcpy(out, own, size);
    part.adapter = out;
    int32_t found[] = {
        edgelora_use(s, arena + 128, size),
        edgelora_load(s, arena + 128, size),
        edgelora_merge(s, op, arena + 128),
        edgelora_merge(s, op, weights),
        edgelora_save(s, true, arena + 128, room),
        edgelora_save(s, true, records, room),
        edgelora_save(s, true, model, room),
        edgelora_blend(s, &part, 1, true, arena + 128, (uint32_t)sum),
        edgelora_blend(s, &part, 1, true, out + 4, (uint32_t)sum),
        edgelora_with_record(s, out, size, EDGELORA_RECORD_MONITOR, "usual", 5, out, size + room),
        edgelora_with_record(s, own, size, EDGELORA_RECORD_MONITOR, arena, 5, out, size + room),
        edgelora_adapter_check(s, arena + 128, size),
        edgelora_features(s, w->x, (int8_t *)arena),
        edgelora_features(s, w->x, w->x),
        edgelora_class_sample(s, w->x, (int32_t *)(void *)arena),
        edgelora_class_sample(s, w->x, words_of(w->x)),
        edgelora_probabilities(s, (uint16_t *)(void *)arena),
        edgelora_infer(s, x),
        edgelora_infer_sample(s, x),
        edgelora_infer_features(s, x),
        edgelora_forward_range(s, x, 0, 1),
        edgelora_backward_range(s, x, 0, 1),
        edgelora_features(s, x, w->x),
        edgelora_class_sample(s, x, words_of(out)),
        edgelora_train(s, x, 0, 0, 1, &loss),
        edgelora_train(s, w->x, 0, 0, 1, words_of(arena)),
        edgelora_train(s, w->x, 0, 0, 1, words_of(w->x)),
        edgelora_train_features(s, x, 0, 0, 1, &loss),
        edgelora_evaluate(s, x, 0, 0, &loss),
        edgelora_evaluate(s, w->x, 0, 0, words_of(arena)),
        edgelora_evaluate(s, w->x, 0, 0, words_of(w->x)),
        edgelora_init(model, w->arena_size, model,
            &(edgelora_config_t){.ranks = own, .micro_batch = 1, .frames = 1}),
        edgelora_init(arena, w->arena_size, model,
            &(edgelora_config_t){.ranks = arena, .micro_batch = 1, .frames = 1}),
        edgelora_init(arena, w->arena_size, model,
            &(edgelora_config_t){.ranks = own, .recompute = arena, .micro_batch = 1, .frames = 1}),
        edgelora_arena_size(model,
            &(edgelora_config_t){.ranks = own, .micro_batch = 1, .frames = 1}, (void *)model),
    };
    for (uint32_t i = 0; i < sizeof(found) / sizeof(found[0]); ++i) {
        if (found[i] != EDGELORA_ERR_ALIAS) {
            fprintf(stderr, "overlap %u: %d\n", i, found[i]);
            exit(1);
        }
    }
    uint32_t inputs = edgelora_class_size(w->model), bytes = class_span(inputs);
    int32_t *sums = calloc(inputs + bytes / 4 + 1, 4);
    uint8_t *row = (uint8_t *)(sums + inputs);
    const int32_t rows[] = {
        edgelora_class_row(s, sums, 1, (void *)(row + 2)),
        edgelora_class_row(s, (void *)((char *)sums + 2), 1, (void *)row),
        edgelora_class_row(s, sums, 1, (void *)arena),
        edgelora_class_row(s, (void *)arena, 1, (void *)row),
        edgelora_class_row(s, sums, 1, (void *)(row - 4)),
        edgelora_class_row(s, sums, 0, (void *)row),
        edgelora_class_row(s, sums, EDGELORA_MAX_CLASS_SAMPLES + 1, (void *)row),
        edgelora_class_row(s, sums, 1, (void *)row),
        edgelora_class_sample(s, w->x, (void *)((char *)sums + 1)),
    };
    static const int32_t wanted[] = {
        EDGELORA_ERR_ALIGN, EDGELORA_ERR_ALIGN, EDGELORA_ERR_ALIAS, EDGELORA_ERR_ALIAS,
        EDGELORA_ERR_ALIAS, EDGELORA_ERR_CLASSES, EDGELORA_ERR_CLASSES, EDGELORA_OK,
        EDGELORA_ERR_ALIGN};
    CHECK(!memcmp(rows, wanted, sizeof wanted));
    s->busy = 1;
    CHECK(edgelora_class_sample(s, w->x, sums) == EDGELORA_ERR_BUSY);
    s->busy = 0;
    CHECK(edgelora_infer(s, w->x) >= 0);
    edgelora_begin(s, 1);
    free(own), free(out), free(sums);
}

// A model's stamp is never 0, which means unchecked. The last word is chosen so that the hash is 0.
static void no_stamp_is_0(void) {
    enum { SIGNAL = 40, WORDS = SIGNAL + sizeof(edgelora_signal_t) / 4 };
    uint32_t file[WORDS] = {0}, factor = mix_constants().first, inverse = factor;
    edgelora_model_t *m = (void *)file;
    *m = (edgelora_model_t){
        .tensor_count = 2,
        .op_count = 1,
        .tensors = sizeof(*m),
        .ops = sizeof(*m) + 2 * sizeof(edgelora_tensor_t),
        .signal = SIGNAL};
    for (int i = 0; i < 5; ++i) {
        inverse *= 2 - factor * inverse; // modulo 2^32
    }
    uint32_t turned = edgelora_model_stamp(file, sizeof(file)) *
        inverse; // the hash before the last word
    file[WORDS - 1] = turned >> 13 | turned << 19;
    CHECK(inverse * factor == 1 && edgelora_model_stamp(file, sizeof(file)) == 1);
    file[WORDS - 1] ^= 1;
    CHECK(edgelora_model_stamp(file, sizeof(file)) > 1);
}

int main(int argc, char **argv) {
    CHECK(argc == 5);
    no_stamp_is_0();
    uint32_t model_size, size, times = (uint32_t)strtoul(argv[3], 0, 10), changed[2] = {0};
    world_t w = {.model = read_file(argv[1], &model_size)};
    void *file = read_file(argv[2], &size);
    state = (uint32_t)strtoul(argv[4], 0, 10) | 1;
    CHECK(edgelora_model_check(w.model, model_size) == EDGELORA_OK);
    const edgelora_model_t *m = w.model;
    uint32_t structure = m->ops + m->op_count * (uint32_t)sizeof(edgelora_op_t);
    w.x = malloc(edgelora_input_size(w.model));
    memset(w.x, 77, edgelora_input_size(w.model));
    for (edgelora_mode_t mode = EDGELORA_INFER; mode <= EDGELORA_TRAINABLE_A; ++mode) {
        open_session(&w, mode);
        for (uint32_t i = 0; i < times; ++i) {
            changed[0] += change_adapter(&w, file, size);
            changed[1] += change_model(&w, model_size, structure);
        }
        if (mode != EDGELORA_INFER) {
            refuse_overlaps(&w, file, size);
            refuse_merges(&w, file, size);
        }
        free(w.arena);
    }
    printf("%u %u\n", changed[0], changed[1]);
    free(w.model), free(w.x), free(file);
    return 0;
}
