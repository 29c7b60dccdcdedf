// A function of libgcc, which Xtensa's assemblers and linkers come without here.
// SPDX-License-Identifier: MIT

#include <stdint.h>

uint64_t __muldi3(uint64_t a, uint64_t b);

// A product of 64 bits from those of half words: nothing that the compiler would make a call of
// this from.
uint64_t __muldi3(uint64_t a, uint64_t b) {
    const uint32_t low = 0xFFFF, a0 = (uint32_t)a & low, a1 = (uint32_t)a >> 16,
                   b0 = (uint32_t)b & low, b1 = (uint32_t)b >> 16;
    uint32_t first = a0 * b0, left = a1 * b0, right = a0 * b1,
             middle = (first >> 16) + (left & low) + (right & low);
    uint32_t high = a1 * b1 + (left >> 16) + (right >> 16) + (middle >> 16);
    high += (uint32_t)a * (uint32_t)(b >> 32) + (uint32_t)(a >> 32) * (uint32_t)b;
    return (uint64_t)high << 32 | (middle << 16 | (first & low));
}
