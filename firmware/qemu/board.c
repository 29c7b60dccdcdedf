// The parts of a board that MicroPython's QEMU port lacks, for QEMU's `virt` machine.
// SPDX-License-Identifier: MIT
//
// The linker replaces functions of the port (--wrap), so that its sources stay unchanged.

#include <stdint.h>

#include "py/mphal.h"
#include "py/ringbuf.h"
#include "py/runtime.h"
#include "py/stream.h"
#include "shared/runtime/interrupt_char.h"
#include "shared/runtime/pyexec.h"

#define REG32(address) (*(volatile uint32_t *)(address))
#define REG8(address) (*(volatile uint8_t *)(address))

#define RESET REG32(0x00100000)
#define RESET_NOW 0x7777
#define TIMER_COMPARE_LOW REG32(0x02004000)
#define TIMER_COMPARE_HIGH REG32(0x02004004)
#define TIMER_LOW REG32(0x0200bff8)
#define TIMER_HIGH REG32(0x0200bffc)
#define TICKS_PER_US 10
#define UART_IRQ 10
#define IRQ_PRIORITY(irq) REG32(0x0c000000 + 4 * (irq))
#define IRQ_ENABLED REG32(0x0c002000)
#define IRQ_CLAIM REG32(0x0c200004)
#define UART_DATA REG8(0x10000000)
#define UART_INTERRUPTS REG8(0x10000001)
#define UART_FIFO REG8(0x10000002)
#define UART_LINE REG8(0x10000003)
#define UART_STATUS REG8(0x10000005)
#define UART_HAS_INPUT 1
#define TIMER_INTERRUPT (1 << 7)
#define EXTERNAL_INTERRUPT (1 << 11)

static uint8_t input_memory[512];
static ringbuf_t input = {input_memory, sizeof(input_memory), 0, 0};

// Interrupts only end a wait: they stay masked and have no handler.
static void init_wait(void) {
    __asm volatile("csrci mstatus, 8");
    IRQ_PRIORITY(UART_IRQ) = 1;
    IRQ_ENABLED = 1 << UART_IRQ;
    // With a FIFO threshold of 14, QEMU delivers up to 14 bytes at once; fewer arrive four
    // characters later.
    UART_FIFO = 0xc1;
    UART_LINE = 0x83; // maps the next two registers to the clock divisor
    UART_DATA = 1;
    UART_INTERRUPTS = 0;
    UART_LINE = 3; // 8 bits; maps the two registers to data and interrupts again
    UART_INTERRUPTS = UART_HAS_INPUT;
    __asm volatile("csrw mie, %0" : : "r"(EXTERNAL_INTERRUPT | TIMER_INTERRUPT));
}

// -> ticks since reset
static uint64_t now(void) {
    uint32_t high, low;
    do {
        high = TIMER_HIGH;
        low = TIMER_LOW;
    } while (high != TIMER_HIGH);
    return (uint64_t)high << 32 | low;
}

// While Ctrl-C is an ordinary byte, as in a program that the REPL reads, only as much input is
// taken as is read: a Ctrl-C after the end of the program must interrupt it.
static bool wants_input(void) {
    return mp_interrupt_char < 0 ? !ringbuf_avail(&input) : ringbuf_free(&input) > 0;
}

// Moves input to the read buffer, and handles Ctrl-C.
void board_poll(void) {
    while (wants_input() && (UART_STATUS & UART_HAS_INPUT)) {
        int c = UART_DATA;
        if (c == mp_interrupt_char) {
            mp_sched_keyboard_interrupt();
        } else {
            ringbuf_put(&input, c);
        }
    }
}

// Sleeps until there is input, or for timeout_ms unless that is negative.
void board_wait(int timeout_ms) {
    uint64_t until = timeout_ms < 0 ? UINT64_MAX
                                    : now() + (uint64_t)timeout_ms * (1000 * TICKS_PER_US);
    TIMER_COMPARE_HIGH = UINT32_MAX;
    TIMER_COMPARE_LOW = (uint32_t)until;
    TIMER_COMPARE_HIGH = (uint32_t)(until >> 32);
    if (!ringbuf_avail(&input)) {
        __asm volatile("wfi");
    }
    uint32_t irq = IRQ_CLAIM;
    if (irq) {
        IRQ_CLAIM = irq;
    }
}

int __wrap_uart_rx_chr(void) {
    board_poll();
    if (!ringbuf_avail(&input)) {
        mp_event_wait_indefinite();
    }
    return ringbuf_get(&input);
}

uintptr_t __wrap_mp_hal_stdio_poll(uintptr_t flags) {
    board_poll();
    return (flags & MP_STREAM_POLL_WR) | (ringbuf_avail(&input) ? flags & MP_STREAM_POLL_RD : 0);
}

mp_uint_t mp_hal_ticks_us(void) {
    return now() / TICKS_PER_US;
}

mp_uint_t mp_hal_ticks_ms(void) {
    return now() / (1000 * TICKS_PER_US);
}

mp_uint_t mp_hal_ticks_cpu(void) {
    return now();
}

// There is no real-time clock: the epoch is the last reset.
uint64_t mp_hal_time_ns(void) {
    return now() * (1000 / TICKS_PER_US);
}

void mp_hal_delay_us(mp_uint_t us) {
    for (uint64_t until = now() + (uint64_t)us * TICKS_PER_US; now() < until;) {
    }
}

void mp_hal_delay_ms(mp_uint_t ms) {
    for (uint64_t until = now() + (uint64_t)ms * 1000 * TICKS_PER_US; now() < until;) {
        mp_event_wait_ms(1);
    }
}

// machine.reset() calls exit(): restarts the machine and keeps its serial port.
void __wrap_exit(int status) {
    (void)status;
    RESET = RESET_NOW;
    for (;;) {
    }
}

// Runs after power-up and at each soft reset.
void __real_mp_init(void);
void __wrap_mp_init(void) {
    init_wait();
    __real_mp_init();
    pyexec_frozen_module("_boot.py", false);
    int ended = pyexec_file_if_exists("boot.py");
    if (pyexec_mode_kind == PYEXEC_MODE_FRIENDLY_REPL && !(ended & PYEXEC_FORCED_EXIT)) {
        pyexec_file_if_exists("main.py");
    }
}
