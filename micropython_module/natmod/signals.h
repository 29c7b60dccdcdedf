// Delays Ctrl-C until a call of the core returns.
// SPDX-License-Identifier: MIT
//
// The signal handler of released desktop MicroPython jumps out of any C code: a session would stay
// locked forever, with a sample half learned. So the signal is blocked during the call, and Linux
// delivers it afterwards. A native module has no C library, hence the system call. Other x64
// systems don't block it: mpy_init checks `sys.platform` at the first call.

#ifndef EDGELORA_SIGNALS_H
#define EDGELORA_SIGNALS_H

#include <stdbool.h>
#include <stdint.h>

extern bool edgelora_has_signals
    __attribute__((externally_visible)); // mpy_ld.py forbids static variables that start as 0

// how: 0 blocks SIGINT, 1 unblocks it
static inline void edgelora_mask_sigint(long how) {
    const uint64_t interrupt = 1u << (2 - 1);
    if (edgelora_has_signals) {
        long result = 14; // rt_sigprocmask(how, set, NULL, bytes of a set)
        register long set_size __asm("r10") = sizeof interrupt;
        __asm volatile("syscall"
            : "+a"(result)
            : "D"(how), "S"(&interrupt), "d"(0L), "r"(set_size)
            : "rcx", "r11", "memory");
    }
}

#define EDGELORA_HOLD_SIGNALS() edgelora_mask_sigint(0)
#define EDGELORA_LET_SIGNALS_COME() edgelora_mask_sigint(1)

#endif
