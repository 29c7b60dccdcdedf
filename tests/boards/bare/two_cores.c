// Core 0 launches core 1, and both use what each core has and what they share.
// SPDX-License-Identifier: MIT

#include "chip.h"

enum { ROUNDS = 500 };

typedef struct {
    volatile uint32_t done;               // of core 0
    volatile uint32_t numbers[2];         // each core's CPUID
    volatile uint32_t wrong[2];           // quotients that were not the core's own
    volatile uint32_t guarded, unguarded; // counts, with a spinlock and without
    volatile uint32_t ticks, words; // interrupts on core 1: SysTick, and words from the FIFO
    volatile uint32_t slept, woken; // core 1 before and behind its WFE
    volatile uint32_t held; // what core 1 counted in reset
    volatile uint32_t again, drained; // a second launch; what the boot ROM sends first
} result_t;

static result_t *const result = (result_t *)0x20020000u;
static uint32_t vectors[48] __attribute__((aligned(256)));
static uint64_t stack[64];

static void on_tick(void) {
    ++result->ticks;
}

static void on_word(void) {
    FIFO_ST = 0xFF; // the boot ROM reads the empty FIFO, which counts as an interrupt, too
    while (FIFO_ST & 1) {
        result->words += FIFO_RD;
    }
}

static void work(uint32_t core) {
    result->numbers[core] = CPUID;
    for (uint32_t i = 0; i < ROUNDS; ++i) {
        DIVIDER[0] = 1000 + i;
        DIVIDER[1] = 3 + core;
        for (volatile uint32_t n = 0; n < i % 7; ++n) {
        }
        result->wrong[core] += DIVIDER[5] != (1000 + i) % (3 + core) ||
            DIVIDER[4] != (1000 + i) / (3 + core);
        ++result->unguarded;
        while (!SPINLOCK(7)) {
        }
        ++result->guarded;
        SPINLOCK(7) = 0;
    }
}

static void second(void) {
    push(1);
    work(1);
    NVIC_ISER = 1u << 16; // SIO_IRQ_PROC1
    SYST_RVR = 999;
    SYST_CVR = 0;
    SYST_CSR = 7;
    while (result->ticks < 5 || result->words < 60) {
    }
    SYST_CSR = 0;
    result->slept = 1;
    wfe(); // the event of an interrupt before
    wfe();
    result->woken = 1;
    for (;;) {
        ++result->held;
    }
}

static void third(void) {
    result->again = CPUID + 1;
    for (;;) {
        wfe();
    }
}

void start(void) {
    vectors[15] = (uint32_t)(uintptr_t)on_tick;
    vectors[16 + 16] = (uint32_t)(uintptr_t)on_word;
    launch(vectors, stack + 64, second);
    pop();
    work(0);
    for (uint32_t i = 10; i <= 30; i += 10) {
        push(i);
    }
    while (!result->slept) {
    }
    for (volatile uint32_t n = 0; n < 100; ++n) {
    }
    while (!result->woken) {
        sev();
    }
    while (!result->held) {
    }
    PSM_FRCE_OFF |= PSM_PROC1;
    result->held = 0;
    for (volatile uint32_t n = 0; n < 100; ++n) {
    }
    PSM_FRCE_OFF &= ~PSM_PROC1;
    result->drained = pop() + 1;
    launch(vectors, stack + 64, third);
    while (!result->again) {
    }
    result->done = 1;
    for (;;) {
        wfe();
    }
}
