// Carries out the calls that cores.py packs.
// SPDX-License-Identifier: MIT

#include "calls.h"

#include <stddef.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(from, size) ((void)(from), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(from, size) ((void)(from), (void)(size))
#endif

// In the order of cores.py
enum {
    OPEN,
    BEGIN,
    LOAD,
    USE,
    MERGE,
    TRAIN,
    FLUSH,
    SAVE,
    INFER,
    COUNT,
    CRYPTO,
    FRONT_END,
    MEMBER,
    SESSION
};

enum { GUARD = 64, GUARD_BYTE = 0xA5, WROTE_BEHIND_ARENA = -1000, NO_ROOM = -1001 };

static uint64_t arena_room[(ARENA_ROOM + GUARD) / 8];
static uint32_t arena_size, given_size; // as planned, and with what is behind it

static const uint32_t *at;
static uint8_t *to, *end;

static uint32_t word(void) {
    return *at++;
}

typedef struct {
    const void *data;
    uint32_t size;
} blob_t;

// Bytes, padded to 4; NULL if there are none
static blob_t blob(void) {
    blob_t b = {at + 1, *at};
    at += 1 + (b.size + 3) / 4;
    b.data = b.size ? b.data : 0;
    return b;
}

static void answer(const void *data, uint32_t size) {
    if (!to || size + 4 > (uint32_t)(end - to)) {
        to = 0;
        return;
    }
    __builtin_memcpy(to, &size, 4);
    __builtin_memcpy(to + 4, data, size);
    to += 4 + size;
}

// An input, `shift` bytes behind a multiple of 4; its size if that is wanted.
static const int8_t *input(uint32_t *size) {
    static uint32_t room[(1 << 20) / 4 + 1];
    blob_t x = blob();
    uint8_t *copy = (uint8_t *)room + word(), *behind = copy + x.size;
    ASAN_UNPOISON_MEMORY_REGION(room, sizeof(room));
    __builtin_memcpy(copy, x.data, x.size);
    if (size) {
        *size = x.size;
    }
    ASAN_POISON_MEMORY_REGION(behind, (uint32_t)((uint8_t *)room + sizeof(room) - behind));
    return (const int8_t *)copy;
}

static const void *model;
static void *merged; // where the next merged weights go: behind the arena and its guard

// Works at once instead of beside the caller: what a session does with two cores is the same.
static void start(void (*work)(void *), void *with) {
    work(with);
}

static void wait(void) {
}

static const edgelora_second_t second = {start, wait, 0};

static int32_t open_model(void) {
    blob_t file = blob(), ranks = blob();
    edgelora_config_t config = {.ranks = ranks.data};
    config.mode = (uint8_t)word();
    config.micro_batch = (uint8_t)word();
    config.momentum = (uint8_t)word();
    config.threshold = (uint16_t)word();
    config.frames = (uint16_t)word();
    uint32_t kind = word();
    config.plain = kind & 1;
    config.cores = kind & 2 ? 2 : 1;
#ifdef ESP32_S3
    config.vectors = 1;
#endif
    static edgelora_span_t spans[EDGELORA_MAX_OPS * EDGELORA_PLANNED];
    model = file.data;
    int32_t size = edgelora_model_check(model, file.size);
    size = size < 0 ? size : edgelora_arena_size(model, &config, spans);
    if (size < 0 || size > ARENA_ROOM) {
        return size < 0 ? size : NO_ROOM;
    }
    // behind its guard is what vector kernels work in, if there are any
    uint32_t vectors = edgelora_simd_room();
    arena_size = (uint32_t)size;
    given_size = arena_size + (vectors ? GUARD + vectors : 0);
    if (given_size > ARENA_ROOM) {
        return NO_ROOM;
    }
    int32_t status = edgelora_init(arena_room, given_size, model, &config);
    if (!status && config.cores == 2) {
        status = edgelora_use_second((edgelora_session_t *)(void *)arena_room, &second);
    }
    merged = (uint8_t *)arena_room + arena_size;
    __builtin_memset(merged, GUARD_BYTE, GUARD);
    merged = (uint8_t *)arena_room + given_size + (vectors ? 0 : GUARD);
    return status;
}

static int32_t merge(edgelora_session_t *s, uint32_t op) {
    uint32_t size = edgelora_merge_size(s, op);
    void *buffer = merged;
    if (size > sizeof(arena_room) - (uint32_t)((uint8_t *)buffer - (uint8_t *)arena_room)) {
        return NO_ROOM;
    }
    merged = (uint8_t *)merged + (size + 3) / 4 * 4;
    return edgelora_merge(s, op, buffer);
}

static bool guard_is_whole(void) {
    const uint8_t *guard = (const uint8_t *)arena_room + arena_size;
    uint32_t i = 0;
    while (i < GUARD && guard[i] == GUARD_BYTE) {
        ++i;
    }
    return i == GUARD;
}

// each call's answer is how many bytes of stack it took, those of this runner's steps included
#ifdef EDGELORA_STACKS
enum { PAINTED = 8192, PAINT = 0xC5 };

// Both have one frame at one place, below that of who calls them.
__attribute__((noinline, noclone)) static void paint(void) {
    volatile uint8_t room[PAINTED];
    for (uint32_t i = 0; i < PAINTED; ++i) {
        room[i] = PAINT;
    }
    __asm volatile("" : : "r"(room) : "memory");
}

__attribute__((noinline, noclone)) static int32_t stack_taken(void) {
    volatile uint8_t room[PAINTED];
    uint32_t i = 0;
    __asm volatile("" : : "r"(room) : "memory");
    while (i < PAINTED && room[i] == PAINT) {
        ++i;
    }
    return (int32_t)(PAINTED - i);
}
#endif

uint32_t carry_out(const void *calls, void *answers) {
    edgelora_session_t *s = (edgelora_session_t *)(void *)arena_room;
    static uint64_t saved[(1 << 20) / 8];
    at = calls;
    to = answers;
    end = to + ANSWERS_ROOM;
    for (uint32_t left = word(); left; --left) {
        int32_t status = 0, loss = 0;
        const void *data = &status;
        uint32_t size = 4;
#ifdef EDGELORA_STACKS
        paint();
#endif
        switch (word()) {
            case OPEN:
                status = open_model();
                break;
            case BEGIN:
                status = edgelora_begin(s, word());
                break;
            case LOAD: {
                blob_t adapter = blob();
                status = edgelora_adapter_check(s, adapter.data, adapter.size);
                status = status ? status : edgelora_load(s, adapter.data, adapter.size);
                break;
            }
            case USE: {
                blob_t adapter = blob();
                status = adapter.data ? edgelora_adapter_check(s, adapter.data, adapter.size) : 0;
                status = status ? status : edgelora_use(s, adapter.data, adapter.size);
                break;
            }
            case MERGE:
                status = merge(s, word());
                break;
            case TRAIN: {
                const int8_t *x = input(0);
                blob_t target = blob();
                uint32_t label = word();
                status = edgelora_train(s, x, label, target.data, (uint16_t)word(), &loss);
                status = status ? status : loss;
                break;
            }
            case FLUSH:
                status = edgelora_flush(s, (uint16_t)word());
                break;
            case SAVE: {
                int32_t bytes = edgelora_save(s, word(), saved, sizeof saved);
                data = saved;
                size = bytes < 0 ? 0 : (uint32_t)bytes;
                break;
            }
            case INFER:
                status = edgelora_infer(s, input(0));
                data = edgelora_output(s);
                size = edgelora_output_size(model);
                break;
            case COUNT: {
                const int8_t *x = input(0);
                uint32_t from = word(), stop = word(), backward = word();
                start_counting();
                (backward ? edgelora_backward_range : edgelora_forward_range)(s, x, from, stop);
                status = counted();
                break;
            }
            case CRYPTO: {
                uint32_t what = word();
                const int8_t *x = input(&size);
                size = crypto_call(what, (const uint8_t *)x, size, (uint8_t *)saved);
                data = saved;
                break;
            }
            case FRONT_END: {
                blob_t settings = blob(), samples = blob();
                size = front_end_call(settings.data, samples.data, samples.size, (uint8_t *)saved);
                data = saved;
                break;
            }
            case SESSION: {
                uint32_t what = word();
                const int8_t *x = input(0);
                blob_t target = blob();
                size = session_call(s, model, what, x, word(), target.data, (uint8_t *)saved);
                data = saved;
                break;
            }
            case MEMBER: {
                uint32_t what = word();
                blob_t given = blob();
                size = member_call(what, given.data, given.size, (uint8_t *)saved);
                data = saved;
                break;
            }
        }
#ifdef EDGELORA_STACKS
        status = stack_taken();
        data = &status;
        size = 4;
#endif
        if (arena_size && !guard_is_whole()) {
            status = WROTE_BEHIND_ARENA;
            data = &status;
            size = 4;
        }
        answer(data, size);
    }
    return to ? (uint32_t)(to - (uint8_t *)answers) : 0;
}
