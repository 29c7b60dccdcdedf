// Locks a session for one call at a time.
// SPDX-License-Identifier: MIT

#include "session/arena.h"

// Sets `busy` from 0 to nonzero; fails if another call holds it.
//
// A call in an interrupt ends before the interrupted call continues, so on one core a load and a
// store suffice (also on an ESP32, where MicroPython's threads never run in parallel). Two cores or
// threads need an atomic exchange. The RP2040's cores have none: both may load 0, and the last one
// to store holds the lock. Each stores its own value, derived from its stack address, waits and
// compares. Load and store are 4 cycles apart with interrupts disabled; the wait is longer.
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
                   ".balign 8\n" // within one cache line of the flash
                   "ldrh %0, [%2]\n"
                   "cmp %0, #0\n"
                   "bne 1f\n"
                   "strh %3, [%2]\n"
                   "1: msr primask, %1\n"
                   "movs %1, #8\n" // wait 32 cycles
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

// Keeps a signal handler from jumping out of a call. Empty on boards, where interrupts wait;
// `natmod/signals.h` defines it for systems whose handlers jump.
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
