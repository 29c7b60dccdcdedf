// Differences from MicroPython's MPS2 boards: the serial port's address and an FPU or vectors.
// SPDX-License-Identifier: MIT

#include <stddef.h>
#include <stdint.h>

#include "uart.h"

typedef struct {
    volatile uint32_t data, state, control, interrupts, divider;
} uart_t;

static uart_t *const UART = (uart_t *)BOARD_UART;
static volatile uint32_t *const COPROCESSORS = (volatile uint32_t *)0xE000ED88;

enum { OUTPUT_FULL = 1, INPUT_FULL = 2, BOTH_ON = 3 };

void uart_init(void) {
    *COPROCESSORS |= 0xFu << 20; // enable the FPU and vectors
    UART->divider = 16;
    UART->control = BOTH_ON;
}

int uart_rx_chr(void) {
    return UART->state & INPUT_FULL ? (int)UART->data : UART_RX_NO_CHAR;
}

void uart_tx_strn(const char *text, size_t size) {
    for (; size; --size) {
        while (UART->state & OUTPUT_FULL) {
        }
        UART->data = (uint8_t)*text++;
    }
}
