// A runner as a Linux program, native or under qemu's user mode, or as WebAssembly (wasm.mjs):
// reads calls from its input and writes answers to its output, each behind their size, until the
// input ends.
// SPDX-License-Identifier: MIT

#include "calls.h"

#include <stdint.h>
#include <stddef.h>

static uint64_t calls[CALLS_ROOM / 8], answers[ANSWERS_ROOM / 8];

#ifndef ESP32_S3

void start_counting(void) {
}

int32_t counted(void) {
    return -1;
}

#endif

#if __STDC_HOSTED__

#include <unistd.h>

#else

#if defined(__wasm__)
long read(int file, void *data, uint32_t size);
long write(int file, const void *data, uint32_t size);
#else

long system_call(long number, long a, long b, long c);

#if defined(__arm__)
enum { READ = 3, WRITE = 4, EXIT = 1 };
__attribute__((naked)) long system_call(long number, long a, long b, long c) {
    (void)number, (void)a, (void)b, (void)c;
    __asm volatile("push {r7, lr}\n"
                   "mov r7, r0\n"
                   "mov r0, r1\n"
                   "mov r1, r2\n"
                   "mov r2, r3\n"
                   "svc 0\n"
                   "pop {r7, pc}\n");
}
#elif defined(__riscv)
enum { READ = 63, WRITE = 64, EXIT = 93 };
long system_call(long number, long a, long b, long c) {
    register long a0 __asm("a0") = a, a1 __asm("a1") = b, a2 __asm("a2") = c,
                     a7 __asm("a7") = number;
    __asm volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a7) : "memory");
    return a0;
}
#else // Xtensa
enum { READ = 12, WRITE = 13, EXIT = 118 };
long xtensa_syscall(long number, ...);
long system_call(long number, long a, long b, long c) {
    return xtensa_syscall(number, a, b, c);
}

#endif

static long read(int file, void *data, uint32_t size) {
    return system_call(READ, file, (long)data, (long)size);
}

static long write(int file, const void *data, uint32_t size) {
    return system_call(WRITE, file, (long)data, (long)size);
}

#endif

// What compilers call by themselves
void *memcpy(void *dest, const void *src, size_t n) {
    uint8_t *to = dest;
    for (const uint8_t *from = src; n; --n) {
        __asm volatile("");
        *to++ = *from++;
    }
    return dest;
}

void *memmove(void *dest, const void *src, size_t n) {
    const uint8_t *from = src;
    uint8_t *to = dest;
    if (to <= from) {
        return memcpy(dest, src, n);
    }
    while (n--) {
        __asm volatile("");
        to[n] = from[n];
    }
    return dest;
}

void *memset(void *dest, int value, size_t n) {
    for (uint8_t *to = dest; n; --n) {
        __asm volatile("");
        *to++ = (uint8_t)value;
    }
    return dest;
}

#endif

static int whole(long (*move)(int, void *, uint32_t), int file, void *data, uint32_t size) {
    uint8_t *at = data;
    while (size) {
        long n = move(file, at, size);
        if (n <= 0) {
            return 0;
        }
        at += n;
        size -= (uint32_t)n;
    }
    return 1;
}

static long get(int file, void *data, uint32_t size) {
    return read(file, data, size);
}

static long put(int file, void *data, uint32_t size) {
    return write(file, data, size);
}

int main(void) {
    uint32_t size;
    while (whole(get, 0, &size, 4) && size <= CALLS_ROOM && whole(get, 0, calls, size)) {
        size = carry_out(calls, answers);
        if (!whole(put, 1, &size, 4) || !whole(put, 1, answers, size)) {
            return 1;
        }
    }
    return 0;
}

#if !__STDC_HOSTED__
#if defined(__wasm__)
__attribute__((export_name("run"))) int run(void) {
    return main();
}
#else
#if defined(__xtensa__)
void xtensa_main(void) {
#ifdef ESP32_S3
    emulate_vectors();
#endif
#else
void _start(void) {
#endif
    system_call(EXIT, main(), 0, 0);
}
#endif
#endif
