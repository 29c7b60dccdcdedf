// An emulated board without an operating system that runs a sketch as Arduino would: `setup`, then
// `loop` up to its first `delay`. What it prints, and its adapter, leave by semihosting.
// SPDX-License-Identifier: MIT

#include <Arduino.h>

#include SKETCH

SerialPort Serial;

enum { SYS_OPEN = 1, SYS_CLOSE = 2, SYS_WRITE0 = 4, SYS_WRITE = 5, SYS_EXIT = 0x18 };
static const uintptr_t ENDED_WELL = 0x20026;

static uintptr_t semihost(uintptr_t what, const void *arguments) {
#ifdef __riscv
    register uintptr_t a0 __asm("a0") = what;
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
#else
    register uintptr_t r0 __asm("r0") = what;
    register const void *r1 __asm("r1") = arguments;
    __asm volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
#endif
}

void SerialPort::print(const char *text) {
    semihost(SYS_WRITE0, text);
}

void SerialPort::print(int number) {
    char text[12], *at = text + sizeof(text);
    unsigned rest = number < 0 ? -(unsigned)number : (unsigned)number;
    *--at = 0;
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (number < 0) {
        *--at = '-';
    }
    print(at);
}

void SerialPort::print(double number, int digits) {
    int whole = (int)number;
    print(whole);
    print(".");
    for (double rest = number - whole; digits > 0; --digits) {
        rest *= 10;
        print((int)rest);
        rest -= (int)rest;
    }
}

static void write_adapter() {
    const uintptr_t opened[] = {(uintptr_t)"adapter.ela", 5, 11};
    uintptr_t file = semihost(SYS_OPEN, opened);
    const uintptr_t written[] = {file, (uintptr_t)adapter, sizeof(adapter)};
    semihost(SYS_WRITE, written);
    semihost(SYS_CLOSE, &file);
}

void delay(unsigned long) {
    write_adapter();
    semihost(SYS_EXIT, (const void *)ENDED_WELL);
}

int main() {
    setup();
    for (;;) {
        loop();
    }
}

#ifdef __arm__

extern "C" {
extern uint32_t data_start[], data_end[], data_in_flash[], bss_start[], bss_end[], stack_end[];
void reset();
}

extern "C" void reset() {
    const uint32_t *from = data_in_flash;
    for (uint32_t *to = data_start; to < data_end;) {
        *to++ = *from++;
    }
    for (uint32_t *to = bss_start; to < bss_end;) {
        *to++ = 0;
    }
    main();
}

static void fault() {
    semihost(SYS_EXIT, NULL);
}

__attribute__((section(".vectors"), used)) static const void *const vectors[] = {
    stack_end, (const void *)reset, (const void *)fault, (const void *)fault};

#endif
