// Ctrl-C as on boards: it waits until the running C code returns.
// SPDX-License-Identifier: MIT
//
// Desktop MicroPython raises KeyboardInterrupt from its signal handler, in the middle of any C
// code: the core, a filesystem or the garbage collector, whose data it leaves half-changed. Without
// MICROPY_ASYNC_KBD_INTR, it exits at a second Ctrl-C before the first is handled.

#include <signal.h>

#include "py/mphal.h"
#include "py/runtime.h"

// replaces mp_hal_set_interrupt_char, see mpconfigvariant.mk
void __wrap_mp_hal_set_interrupt_char(char c);

static void interrupt(int signal_number) {
    (void)signal_number;
    mp_sched_keyboard_interrupt();
}

void __wrap_mp_hal_set_interrupt_char(char c) {
    struct sigaction action = {.sa_handler = c == CHAR_CTRL_C ? interrupt : SIG_DFL};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}
