// Every op stays within its own scratch, forward and backward, with all kernels of a processor: the
// memory after it is guarded and, under AddressSanitizer, poisoned.
// SPDX-License-Identifier: MIT
//
// Usage: scratch MODEL.elm...: prints how many ops ran.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "formats/formats.h"
#include "kernels/dispatch.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(from, size) ((void)(from), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(from, size) ((void)(from), (void)(size))
#endif

enum { GUARD = 4096, GUARD_BYTE = 0xA5, RATE = 9000 };

typedef struct {
    const void *model;
    edgelora_session_t *s;
    uint8_t *scratch, ranks[EDGELORA_MAX_OPS];
    uint32_t bytes, used; // after the arena; by the running op
} world_t;

static uint64_t ran;

// Provides `size` bytes of scratch, followed by a guard.
static void give(world_t *w, uint32_t size) {
    CHECK(size <= w->bytes - GUARD);
    w->used = size;
    ASAN_UNPOISON_MEMORY_REGION(w->scratch, w->bytes);
    memset(w->scratch, 0x5A, size);
    memset(w->scratch + size, GUARD_BYTE, w->bytes - size);
    ASAN_POISON_MEMORY_REGION(w->scratch + size, w->bytes - size);
}

static void look(world_t *w, const char *what, uint32_t op) {
    ASAN_UNPOISON_MEMORY_REGION(w->scratch, w->bytes);
    for (uint32_t i = w->used; i < w->bytes; ++i) {
        if (w->scratch[i] != GUARD_BYTE) {
            fprintf(stderr, "%s of op %u wrote %u bytes behind its %u bytes of scratch\n", what, op,
                i - w->used + 1, w->used);
            exit(1);
        }
    }
    ++ran;
}

static uint32_t rank_for(const edgelora_model_t *m, const edgelora_op_t *op, uint32_t wanted) {
    while (wanted && !edgelora_rank_fits(m, op, wanted)) {
        --wanted;
    }
    return wanted;
}

static uint32_t planned(const edgelora_span_t *spans, uint32_t op, uint32_t which) {
    return 4u * spans[op * EDGELORA_PLANNED + which].words;
}

static uint32_t most_scratch(const edgelora_session_t *s, const edgelora_span_t *spans) {
    uint32_t most = s->scratch_size;
    for (uint32_t i = 0; i < s->op_count; ++i) {
        uint32_t back = planned(spans, i, EDGELORA_SCRATCH_BACK);
        most = back > most ? back : most;
    }
    return most;
}

static void run(world_t *w, edgelora_mode_t mode, bool plain, bool vectors) {
    const edgelora_model_t *m = w->model;
    uint8_t all[EDGELORA_MAX_OPS];
    memset(all, 1, sizeof(all));
    edgelora_config_t config = {
        .ranks = w->ranks,
        .mode = (uint8_t)mode,
        .micro_batch = 1,
        .frames = 1,
        .plain = plain,
        .recompute = all};
    edgelora_span_t *spans = malloc(m->op_count * EDGELORA_PLANNED * sizeof(*spans));
    int32_t size = edgelora_arena_size(m, &config, spans);
    if (size < 0) { // too many positions for a gradient's sum, or nothing to train
        free(spans);
        return;
    }
    uint32_t arena = ((uint32_t)size + (vectors ? edgelora_simd_room() : 0) + 63) & ~63u,
             target_size = edgelora_target_size(m);
    uint8_t *room = malloc(2 * arena + GUARD);
    CHECK(edgelora_init(room, arena, m, &config) == EDGELORA_OK);
    edgelora_session_t *s = w->s = edgelora_session(room, arena);
    w->scratch = room + arena;
    w->bytes = arena + GUARD;
    s->scratch = arena; // moved from its planned place to after the arena
    int8_t *x = malloc(edgelora_input_size(m)), *target = calloc(target_size + 1, 1);
    for (uint32_t i = 0; i < edgelora_input_size(m); ++i) {
        x[i] = (int8_t)(i * 37 + 11);
    }
    int32_t loss;
    give(w, most_scratch(s, spans));
    CHECK(edgelora_begin(s, 3) == EDGELORA_OK &&
        edgelora_train(s, x, 1, target, RATE, &loss) == EDGELORA_OK);
    look(w, "training", 0);
    for (uint32_t i = 0; i < m->op_count; ++i) {
        edgelora_shape_t g = edgelora_shape(m, i);
        uint32_t again = planned(spans, i, EDGELORA_SCRATCH_AGAIN),
                 needed = edgelora_op_scratch(&g, w->ranks[i], false, plain);
        CHECK(!again || again == ((needed + 3) & ~3u));
        give(w, needed);
        edgelora_forward_range(s, x, i, i + 1);
        look(w, "inference", i);
    }
    for (uint32_t i = m->op_count; i-- > 0;) {
        give(w, planned(spans, i, EDGELORA_SCRATCH_BACK));
        edgelora_backward_range(s, x, i, i + 1);
        look(w, "the backward step", i);
    }
    free(room), free(x), free(target), free(spans);
}

int main(int argc, char **argv) {
    for (int k = 1; k < argc; ++k) {
        uint32_t size;
        void *model = read_file(argv[k], &size);
        CHECK(edgelora_model_check(model, size) == EDGELORA_OK);
        world_t w = {.model = model};
        for (uint32_t i = 0; i < ((const edgelora_model_t *)model)->op_count; ++i) {
            edgelora_shape_t g = edgelora_shape(model, i);
            w.ranks[i] = (uint8_t)rank_for(model, g.op, 1 + (i + (uint32_t)k) % 6);
        }
        for (uint32_t way = 0; way < 6; ++way) {
            run(&w, way & 1 ? EDGELORA_TRAINABLE_A : EDGELORA_FROZEN_A, way / 2 == 0, way / 2 == 2);
        }
        free(model);
    }
    printf("%llu\n", (unsigned long long)ran);
    return 0;
}
