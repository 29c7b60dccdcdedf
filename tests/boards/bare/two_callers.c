// Both cores ask for one session's lock again and again.
// SPDX-License-Identifier: MIT

#include "chip.h"
#include "session/arena.h"

enum { ROUNDS = 2000 };

typedef struct {
    volatile uint32_t done, inside, together; // cores that hold the lock; times that both did
    volatile uint32_t held[2];
} result_t;

static result_t *const result = (result_t *)0x20020000u;
static uint32_t vectors[48] __attribute__((aligned(256)));
static uint64_t stack[64];
static edgelora_session_t session;

static void ask(uint32_t core) {
    for (uint32_t i = 0; i < ROUNDS; ++i) {
        if (edgelora_enter(&session)) {
            result->together += result->inside++ != 0;
            ++result->held[core];
            for (volatile uint32_t n = 0; n < i % 5; ++n) {
            }
            --result->inside;
            edgelora_leave(&session, 0);
        }
        for (volatile uint32_t n = 0; n < (i * 7 + core * 3) % 11; ++n) {
        }
    }
}

static void second(void) {
    push(1);
    ask(1);
    push(1);
    for (;;) {
        wfe();
    }
}

void start(void) {
    launch(vectors, stack + 64, second);
    pop();
    ask(0);
    pop();
    result->done = 1;
    for (;;) {
        wfe();
    }
}
