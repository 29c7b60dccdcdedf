// What a program without a system needs of the RP2040: both cores, FIFO, spinlocks, events.
// SPDX-License-Identifier: MIT

#include <stdbool.h>
#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define CPUID REGISTER(0xD0000000u)
#define FIFO_ST REGISTER(0xD0000050u)
#define FIFO_WR REGISTER(0xD0000054u)
#define FIFO_RD REGISTER(0xD0000058u)
#define DIVIDER \
    ((volatile uint32_t *)0xD0000060u) // dividend, divisor, ..., [4] quotient, [5] remainder
#define SPINLOCK(n) REGISTER(0xD0000100u + 4 * (n))
#define PSM_FRCE_OFF REGISTER(0x40010004u)
#define PSM_PROC1 (1u << 16)
#define SYST_CSR REGISTER(0xE000E010u)
#define SYST_RVR REGISTER(0xE000E014u)
#define SYST_CVR REGISTER(0xE000E018u)
#define NVIC_ISER REGISTER(0xE000E100u)

static inline void sev(void) {
    __asm volatile("sev" ::: "memory");
}
static inline void wfe(void) {
    __asm volatile("wfe" ::: "memory");
}

static inline void push(uint32_t value) {
    while (!(FIFO_ST & 2)) {
    }
    FIFO_WR = value;
    sev();
}

static inline uint32_t pop(void) {
    while (!(FIFO_ST & 1)) {
        wfe();
    }
    return FIFO_RD;
}

// Launches core 1 by the boot ROM's protocol (RP2040 Datasheet, 2.8.2).
static inline void launch(const void *vectors, void *stack_end, void (*entry)(void)) {
    const uint32_t words[] = {
        0, 0, 1, (uint32_t)(uintptr_t)vectors, (uint32_t)(uintptr_t)stack_end,
        (uint32_t)(uintptr_t)entry};
    for (uint32_t i = 0; i < 6;) {
        if (!words[i]) {
            while (FIFO_ST & 1) {
                (void)FIFO_RD;
            }
            sev();
        }
        push(words[i]);
        i = pop() == words[i] ? i + 1 : 0;
    }
}
