// A function of libgcc, which the Xtensa tools used here lack.
// SPDX-License-Identifier: MIT

#include <stdint.h>

uint64_t __muldi3(uint64_t a, uint64_t b);

// A 64-bit product from 16-bit halves, so that the compiler does not turn it into a call of this
// function.
uint64_t __muldi3(uint64_t a, uint64_t b) {
    const uint32_t low = 0xFFFF, a0 = (uint32_t)a & low, a1 = (uint32_t)a >> 16,
                   b0 = (uint32_t)b & low, b1 = (uint32_t)b >> 16;
    uint32_t first = a0 * b0, left = a1 * b0, right = a0 * b1,
             middle = (first >> 16) + (left & low) + (right & low);
    uint32_t high = a1 * b1 + (left >> 16) + (right >> 16) + (middle >> 16);
    high += (uint32_t)a * (uint32_t)(b >> 32) + (uint32_t)(a >> 32) * (uint32_t)b;
    return (uint64_t)high << 32 | (middle << 16 | (first & low));
}
