// How long core 0 takes to read memory while core 1 sleeps, reads other memory, or the same.
// SPDX-License-Identifier: MIT

#include "chip.h"

enum { SRAM4 = 0x20040000, SRAM5 = 0x20041000, UNCACHED = 0x13000000 };
#define RESULTS ((volatile uint32_t *)0x20020000u)

static uint32_t stack[128], vectors[48] __attribute__((aligned(256)));
static volatile uint32_t wanted; // by core 1; 0: nothing

// Reads 48 words `times` times, in 60 cycles each.
__attribute__((noinline)) static void read_words(uint32_t from, uint32_t times) {
    __asm volatile("1:  .rept 8\n"
                   "    ldmia %0!, {r2-r7}\n"
                   "    .endr\n"
                   "    sub %0, #192\n"
                   "    sub %1, #1\n"
                   "    bne 1b\n"
        : "+l"(from), "+l"(times)
        :
        : "r2", "r3", "r4", "r5", "r6", "r7", "cc", "memory");
}

static void second(void) {
    for (;;) {
        if (wanted) {
            read_words(wanted, 25);
        } else {
            wfe();
        }
    }
}

static uint32_t cycles(uint32_t from, uint32_t other) {
    wanted = other;
    sev();
    read_words(from, 1); // core 1 is awake behind it
    const uint32_t then = SYST_CVR;
    read_words(from, 100);
    const uint32_t took = then - SYST_CVR;
    wanted = 0;
    read_words(SRAM4, 100); // core 1 sleeps
    return took & 0xFFFFFF;
}

void start(void) {
    launch(vectors, stack + 128, second);
    SYST_RVR = 0xFFFFFF;
    SYST_CVR = 0;
    SYST_CSR = 5;
    RESULTS[1] = cycles(SRAM4, 0);
    RESULTS[2] = cycles(SRAM4, SRAM5);
    RESULTS[3] = cycles(SRAM4, SRAM4);
    RESULTS[4] = cycles(UNCACHED, 0);
    RESULTS[5] = cycles(UNCACHED, SRAM4);
    RESULTS[6] = cycles(UNCACHED, UNCACHED);
    RESULTS[0] = 1;
    for (;;) {
        wfe();
    }
}
