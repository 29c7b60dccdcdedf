// Core 1 of an RP2040 or RP2350, for halves of large ops.
// SPDX-License-Identifier: MIT
//
// Each call of a session launches core 1 anew by the boot ROM's protocol, so there is nothing to
// lose: MicroPython resets it when a thread begins and at a soft reset. Between parts of ops, and
// between calls, core 1 sleeps in RAM with no interrupt enabled, so flash may be written. Between
// calls it does not touch its stack, which lies in the session's arena: `park` keeps all in
// registers, so the arena may become anything else.

#include "rp2_second_core.h"

#ifndef NO_QSTR // the qstr search does not know the SDK's folders
#include "hardware/structs/scb.h"
#include "hardware/sync.h"
#include "pico/multicore.h"
#endif

enum {
    DEEP_SLEEP = 4,     // of the system control register: a board may sleep as deep as without us
    LEAST_WORK = 4096,  // handing over takes as long as a tenth of these products
};

// What core 1 is to do, NULL: nothing.
static void (*volatile work)(void *);
static void *volatile with;

static void __not_in_flash_func(park)(void) {
    scb_hw->scr = DEEP_SLEEP;
    for (;;) {
        if (work != NULL) {
            __dmb();
            work(with);
            __dmb();
            work = NULL;
            __sev();
        } else {
            __wfe();
        }
    }
}

static void __not_in_flash_func(start)(void (*what)(void *), void *on) {
    with = on;
    __dmb();
    work = what;
    __sev();
}

static void __not_in_flash_func(wait)(void) {
    while (work != NULL) {
        __wfe();
    }
    __dmb();
}

const edgelora_second_t edgelora_second_core = {start, wait, LEAST_WORK};

bool edgelora_second_core_begin(void *stack) {
    if (core1_entry != NULL || get_core_num() != 0) {
        return false;
    }
    work = NULL;
    multicore_reset_core1();
    multicore_launch_core1_raw(park, stack, scb_hw->vtor);
    return true;
}
