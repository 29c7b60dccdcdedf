// A session's second core is a thread here: under ThreadSanitizer, no two parts of an op may touch
// the same memory, and what is learned is what one core learns that recomputes nothing.
// SPDX-License-Identifier: MIT
//
// Usage: two_cores MODEL.elm...: prints how many parts ran on the second core. A file's number
// chooses ranks, modes and what is recomputed.

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "formats/formats.h"

enum { SAMPLES = 2, RATE = 9000, SAVED = 1 << 20 };

static sem_t begun, ended;
static void (*the_work)(void *);
static void *the_data;
static uint64_t ran;

static void *second_core(void *none) {
    for (;;) {
        sem_wait(&begun);
        if (!the_work) {
            return none;
        }
        the_work(the_data);
        sem_post(&ended);
    }
}

static void start(void (*work)(void *), void *with) {
    the_work = work;
    the_data = with;
    ++ran;
    sem_post(&begun);
}

static void wait(void) {
    sem_wait(&ended);
}

static const edgelora_second_t second = {start, wait, 0};

static uint32_t rank_for(const edgelora_model_t *m, const edgelora_op_t *op, uint32_t wanted) {
    while (wanted && !edgelora_rank_fits(m, op, wanted)) {
        --wanted;
    }
    return wanted;
}

// Trains on a few samples; returns the adapter's size, or 0 if the model can't be trained so.
static int32_t trained(const edgelora_model_t *m, const edgelora_config_t *config, uint8_t *saved) {
    edgelora_span_t *spans = malloc(m->op_count * EDGELORA_PLANNED * sizeof(*spans));
    int32_t size = edgelora_arena_size(m, config, spans);
    free(spans);
    if (size < 0) {
        return 0;
    }
    void *arena = malloc((uint32_t)size);
    CHECK(edgelora_init(arena, (uint32_t)size, m, config) == EDGELORA_OK);
    edgelora_session_t *s = edgelora_session(arena, (uint32_t)size);
    CHECK(edgelora_use_second(s, config->cores == 2 ? &second : 0) == EDGELORA_OK);
    CHECK(edgelora_begin(s, 3) == EDGELORA_OK);
    uint32_t n = edgelora_input_size(m) * config->frames;
    int8_t *x = malloc(n), *target = malloc(edgelora_target_size(m) + 1);
    int32_t losses[SAMPLES];
    for (uint32_t i = 0; i < edgelora_target_size(m); ++i) {
        target[i] = m->loss == EDGELORA_MEAN_SQUARED_ERROR ? 90 : i & 1;
    }
    for (uint32_t k = 0; k < SAMPLES; ++k) {
        for (uint32_t i = 0; i < n; ++i) {
            x[i] = (int8_t)((i + k) * 37 + (i * i >> 7));
        }
        CHECK(edgelora_train(s, x, 1, target, RATE, &losses[k]) == EDGELORA_OK);
    }
    int32_t bytes = edgelora_save(s, true, saved, SAVED - sizeof(losses));
    CHECK(bytes > 0);
    memcpy(saved + bytes, losses, sizeof(losses));
    free(arena), free(x), free(target);
    return bytes + (int32_t)sizeof(losses);
}

int main(int argc, char **argv) {
    static uint8_t one[SAVED], two[SAVED], ranks[EDGELORA_MAX_OPS], again[EDGELORA_MAX_OPS];
    pthread_t thread;
    CHECK(!sem_init(&begun, 0, 0) && !sem_init(&ended, 0, 0));
    CHECK(!pthread_create(&thread, 0, second_core, 0));
    for (int k = 1; k < argc; ++k) {
        uint32_t size, draw = (uint32_t)k;
        const edgelora_model_t *m = read_file(argv[k], &size);
        CHECK(edgelora_model_check(m, size) == EDGELORA_OK);
        bool remembers = false;
        for (uint32_t i = 0; i < m->op_count; ++i) {
            draw = draw * 1664525 + 1013904223;
            ranks[i] = (uint8_t)rank_for(m, model_op(m, i), draw >> 27 & 3 ? 1 + (draw >> 29) : 0);
            again[i] = draw >> 24 & 1;
            remembers = remembers || op_has(model_op(m, i), EDGELORA_KEEPS);
        }
        edgelora_config_t config = {
            .ranks = ranks,
            .mode = k & 1 ? EDGELORA_TRAINABLE_A : EDGELORA_FROZEN_A,
            .micro_batch = 2,
            .momentum = draw >> 30,
            .frames = remembers && k % 3 ? 3 : 1,
            .plain = k % 5 == 0};
        int32_t alone = trained(m, &config, one);
        config.recompute = again;
        config.cores = 2;
        int32_t both = trained(m, &config, two);
        if (alone != both || memcmp(one, two, (size_t)alone)) {
            fprintf(stderr, "%s: two cores differ\n", argv[k]);
            return 1;
        }
        free((void *)(uintptr_t)m);
    }
    the_work = 0;
    sem_post(&begun);
    CHECK(!pthread_join(thread, 0));
    printf("%llu\n", (unsigned long long)ran);
    return 0;
}
