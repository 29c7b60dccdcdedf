// Ctrl-C as boards have it: it waits until the C code that runs is done.
// SPDX-License-Identifier: MIT
//
// Desktop MicroPython raises KeyboardInterrupt out of its signal handler, in the middle of whatever
// C code runs: the core's, a filesystem's or the collector's, which all leave behind what they were
// changing. Or, without MICROPY_ASYNC_KBD_INTR, it ends at a second Ctrl-C that comes before the
// first was heard.

#include <signal.h>

#include "py/mphal.h"
#include "py/runtime.h"

// in place of mp_hal_set_interrupt_char, see mpconfigvariant.mk
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
