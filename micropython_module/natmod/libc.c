// The C library functions that compilers call by themselves; a native module has no libc to link to.
// SPDX-License-Identifier: MIT

#include "py/dynruntime.h"

void *memset(void *s, int c, size_t n) {
    return mp_fun_table.memset_(s, c, n);
}

void *memmove(void *dest, const void *src, size_t n) {
    return mp_fun_table.memmove_(dest, src, n);
}

// Other words than memmove's: of two equal functions gcc makes one a call of the other, and memcpy's, inline, allows no overlap.
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

// volatile: else gcc makes of it a call of itself.
size_t strlen(const char *s) {
    const volatile char *end = s;
    while (*end) {
        ++end;
    }
    return (size_t)((const char *)end - s);
}

#ifdef __XTENSA__
// A product of 64 bits from those of half words: nothing that the compiler would make a call of this from.
uint64_t __muldi3(uint64_t a, uint64_t b) {
    const uint32_t low = 0xFFFF, a0 = (uint32_t)a & low, a1 = (uint32_t)a >> 16, b0 = (uint32_t)b & low, b1 = (uint32_t)b >> 16;
    uint32_t first = a0 * b0, left = a1 * b0, right = a0 * b1, middle = (first >> 16) + (left & low) + (right & low);
    uint32_t high = a1 * b1 + (left >> 16) + (right >> 16) + (middle >> 16);
    high += (uint32_t)a * (uint32_t)(b >> 32) + (uint32_t)(a >> 32) * (uint32_t)b;
    return (uint64_t)high << 32 | (middle << 16 | (first & low));
}
#endif
