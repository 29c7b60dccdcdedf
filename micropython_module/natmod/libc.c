// C library functions that compilers call implicitly; a native module has no libc to link to.
// SPDX-License-Identifier: MIT

#include "py/dynruntime.h"

void *memset(void *s, int c, size_t n) {
    return mp_fun_table.memset_(s, c, n);
}

void *memmove(void *dest, const void *src, size_t n) {
    return mp_fun_table.memmove_(dest, src, n);
}

// Must differ from memmove: gcc would merge two equal functions into one, and inlined memcpy does
// not allow overlap.
void *memcpy(void *dest, const void *src, size_t n) {
    mp_fun_table.memmove_(dest, src, n);
    return dest;
}

int memcmp(const void *a, const void *b, size_t n) {
    const unsigned char *p = a, *q = b;
    for (; n != 0; --n, ++p, ++q) {
        if (*p != *q) {
            return *p < *q ? -1 : 1;
        }
    }
    return 0;
}

size_t strlen(const char *s) {
    const volatile char *end = s; // else compilers make a call of strlen of the loop
    while (*end) {
        ++end;
    }
    return (size_t)(end - s);
}
