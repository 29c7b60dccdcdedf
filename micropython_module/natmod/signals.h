// Ctrl-C that waits until a call of the core is done.
// SPDX-License-Identifier: MIT
//
// Desktop MicroPython, as it is released, jumps out of whatever C code runs when its signal handler
// is called: a session would stay locked for good, with a sample learned in part. Linux holds the
// signal back meanwhile, and hands it over when the call is done. A native module has no C library
// to ask it by. Other systems on x64 are not asked: the first call finds out by `sys.platform`, in
// mpy_init.

#ifndef EDGELORA_SIGNALS_H
#define EDGELORA_SIGNALS_H

#include <stdbool.h>
#include <stdint.h>

extern bool edgelora_has_signals;

// how: 0 holds SIGINT back, 1 lets it come
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
