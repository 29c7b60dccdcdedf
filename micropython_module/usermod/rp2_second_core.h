// Core 1 of an RP2040 or RP2350, for halves of large ops.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_RP2_SECOND_CORE_H
#define EDGELORA_RP2_SECOND_CORE_H

#include "edgelora.h"
#include "py/mpthread.h"

extern const edgelora_second_t edgelora_second_core;

// Launches core 1 for a call of a session, with a stack that ends there. False: MicroPython's
// _thread has it.
bool edgelora_second_core_begin(void *stack);

#endif
