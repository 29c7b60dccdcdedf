// A runner on an emulated Cortex-M or RV32 without an operating system, where instructions can be
// counted: reads calls from a file and writes answers to another one, by semihosting.
// SPDX-License-Identifier: MIT

#include "calls.h"

#include <string.h>

enum { SYS_OPEN = 1, SYS_CLOSE = 2, SYS_WRITE = 5, SYS_READ = 6, SYS_EXIT = 0x18 };
enum { ENDED_WELL = 0x20026, NO_ROOM = 0x20024 };

static uint64_t calls[CALLS_ROOM / 8], answers[ANSWERS_ROOM / 8];

#ifdef __riscv

static uint32_t semihost(uint32_t what, const void *arguments) {
    register uint32_t a0 __asm("a0") = what;
    register const void *a1 __asm("a1") = arguments;
    __asm volatile(".option push\n"
                   ".option norvc\n"
                   ".balign 16\n"
                   "slli x0, x0, 0x1f\n"
                   "ebreak\n"
                   "srai x0, x0, 7\n"
                   ".option pop\n"
        : "+r"(a0)
        : "r"(a1)
        : "memory");
    return a0;
}

static uint32_t started;

static uint32_t instructions(void) {
    uint32_t n;
    __asm volatile("csrr %0, minstret" : "=r"(n));
    return n;
}

void start_counting(void) {
    started = instructions();
}

int32_t counted(void) {
    return (int32_t)(instructions() - started);
}

#else

static uint32_t semihost(uint32_t what, const void *arguments) {
    register uint32_t r0 __asm("r0") = what;
    register const void *r1 __asm("r1") = arguments;
    __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

// The timer ticks every TICK_PS of emulated time, of which an instruction takes 64 ns.
static volatile uint32_t *const TIMER = (volatile uint32_t *)0xE000E010;

void start_counting(void) {
    TIMER[1] = 0xFFFFFF;
    TIMER[2] = 0;
    TIMER[0] = 5;
}

int32_t counted(void) {
    uint32_t ticks = 0xFFFFFF - TIMER[2];
    return TIMER[0] & 0x10000 ? -1 : (int32_t)((uint64_t)ticks * TICK_PS / 64000);
}

extern const uint8_t stack_end[]; // by the linker's command line
int main(void);

__attribute__((section(".vectors"), used)) static const void *const vectors[] = {
    stack_end, (const void *)main};

#endif

static uint32_t open_file(const char *name, uint32_t mode) {
    const uint32_t arguments[3] = {(uint32_t)name, mode, strlen(name)};
    return semihost(SYS_OPEN, arguments);
}

// Not inlined: it may save registers of the vectors, which are off at reset.
static __attribute__((noinline)) void run(void) {
    uint32_t file = open_file("calls", 1);
    semihost(SYS_READ, (const uint32_t[3]){file, (uint32_t)calls, sizeof calls});
    uint32_t size = carry_out(calls, answers);
    file = open_file("answers", 5);
    semihost(SYS_WRITE, (const uint32_t[3]){file, (uint32_t)answers, size});
    semihost(SYS_CLOSE, &file);
    semihost(SYS_EXIT, (const void *)(size ? ENDED_WELL : NO_ROOM));
}

int main(void) {
#ifdef __ARM_FP
    *(volatile uint32_t *)0xE000ED88 |= 0xF << 20; // CPACR: coprocessors 10 and 11
    __asm volatile("dsb\nisb");
#endif
    run();
    return 0;
}
