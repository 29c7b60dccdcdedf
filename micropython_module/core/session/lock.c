// A session is for one call at a time.
// SPDX-License-Identifier: MIT

#include "session/arena.h"

// 0 -> not 0 of `busy`, if no other call has done so.
//
// An interrupt's call is over before the one below it goes on, so that on one core a look and a
// store suffice (so they do on an ESP32, where MicroPython's threads never run side by side). Two
// cores or threads need an exchange in one step. The RP2040's cores have none: both may have seen
// 0, and the last to store has it. What each stores is its own, from where its stack is; between
// look and store are 4 cycles without interrupts, and the wait outlasts them.
#if __GCC_ATOMIC_SHORT_LOCK_FREE == 2 && !defined(__XTENSA__)
#define HAS_EXCHANGE
#endif

EDGELORA_HOT static bool take(uint16_t *busy) {
#ifdef HAS_EXCHANGE
    return !__atomic_exchange_n(busy, 1, __ATOMIC_ACQUIRE);
#elif defined(__ARM_ARCH_6M__)
    uint32_t found, enabled, mine = (uint16_t)((uintptr_t)__builtin_frame_address(0) >> 3 | 1);
    __asm volatile(".syntax unified\n"
                   "mrs %1, primask\n"
                   "cpsid i\n"
                   ".balign 8\n" // one line of the flash's cache
                   "ldrh %0, [%2]\n"
                   "cmp %0, #0\n"
                   "bne 1f\n"
                   "strh %3, [%2]\n"
                   "1: msr primask, %1\n"
                   "movs %1, #8\n" // the wait, of 32 cycles
                   "2: subs %1, #1\n"
                   "bne 2b\n"
        : "=&l"(found), "=&l"(enabled)
        : "l"(busy), "l"(mine)
        : "memory", "cc");
    return !found && *(volatile uint16_t *)busy == mine;
#else
    bool free = !*(volatile uint16_t *)busy;
    if (free) {
        *(volatile uint16_t *)busy = 1;
    }
    __asm volatile("" ::: "memory");
    return free;
#endif
}

// What keeps an interrupt that jumps from jumping out of a call: nothing, as on boards it waits.
// `natmod/signals.h` has that of a system where it does.
#ifndef EDGELORA_HOLD_SIGNALS
#define EDGELORA_HOLD_SIGNALS()
#define EDGELORA_LET_SIGNALS_COME()
#endif

EDGELORA_HOT bool edgelora_enter(edgelora_session_t *s) {
    EDGELORA_HOLD_SIGNALS();
    if (take(&s->busy)) {
        return true;
    }
    EDGELORA_LET_SIGNALS_COME();
    return false;
}

EDGELORA_HOT int32_t edgelora_leave(edgelora_session_t *s, int32_t result) {
    EDGELORA_ASSERT(s->busy);
#ifdef HAS_EXCHANGE
    __atomic_store_n(&s->busy, 0, __ATOMIC_RELEASE);
#else
    __asm volatile("" ::: "memory");
    *(volatile uint16_t *)&s->busy = 0;
#endif
    EDGELORA_LET_SIGNALS_COME();
    return result;
}
