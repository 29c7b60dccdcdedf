// Core 0 erases a sector by the boot ROM's functions, while core 1 counts in RAM, or reads flash.
// SPDX-License-Identifier: MIT

#include "chip.h"

enum { READS = 0, SECTOR = 4096, BLOCK = 65536, ERASE_BLOCK = 0xD8 };
#define RESULTS ((volatile uint32_t *)0x20020000u) // done, counted before, counted behind

typedef void (*function_t)(void);
typedef void (*erase_t)(uint32_t offset, uint32_t size, uint32_t block, uint32_t command);
typedef void *(*find_t)(const uint16_t *table, uint32_t code);

static uint32_t stack[128], vectors[48] __attribute__((aligned(256)));
static volatile uint32_t counted;

static void *rom(char first, char second) {
    const volatile uint16_t *words = (const volatile uint16_t *)0x14u;
    find_t find = (find_t)(uintptr_t)words[2];
    return find((const uint16_t *)(uintptr_t)words[0], (uint32_t)(first | second << 8));
}

static void second(void) {
    for (;;) {
        ++counted;
        if (READS) {
            (void)REGISTER(0x10000000u);
        }
    }
}

void start(void) {
    launch(vectors, stack + 128, second);
    const erase_t erase = (erase_t)rom('R', 'E');
    const function_t connect = (function_t)rom('I', 'F'), leave = (function_t)rom('E', 'X'),
                     flush = (function_t)rom('F', 'C');
    while (counted < 10) {
    }
    connect();
    leave();
    RESULTS[1] = counted;
    erase(BLOCK, SECTOR, BLOCK, ERASE_BLOCK);
    RESULTS[2] = counted;
    flush();
    RESULTS[0] = 1;
    for (;;) {
    }
}
