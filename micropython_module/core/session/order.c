// The order in which a board takes its samples, and other draws (SPEC.md, sections 7 and 13).
// SPDX-License-Identifier: MIT

#include "edgelora.h"
#include "fixed.h"

enum { ROUNDS = 24, FIRST_STREAM = 1 << 16 };

// Multiplies 16-bit halves, as Cortex-M0+ has no 64-bit product.
uint32_t edgelora_draw(uint32_t seed, uint32_t k, uint32_t n, uint32_t count) {
    uint32_t v = mix(stream(seed, k) + n * EDGELORA_GOLDEN), low = v & 0xFFFF, high = v >> 16;
    uint32_t c0 = count & 0xFFFF, c1 = count >> 16;
    uint32_t m1 = high * c0 + (low * c0 >> 16), m2 = low * c1 + (m1 & 0xFFFF);
    return high * c1 + (m1 >> 16) + (m2 >> 16);
}

// The swap-or-not shuffle (Hoang, Morris, Rogaway). Each round pairs all numbers, x with k - x, and
// swaps each pair if its random bit is 1. It works for any count, and every place takes the same
// time.
uint32_t edgelora_order(uint32_t seed, uint32_t epoch, uint32_t count, uint32_t place) {
    uint32_t key = stream(seed, FIRST_STREAM + epoch), x = place;
    for (uint32_t round = 0; round < ROUNDS; ++round) {
        uint32_t k = mix(key + 2 * round * EDGELORA_GOLDEN) % count;
        uint32_t other = x <= k ? k - x : k + count - x;
        uint32_t coins = mix(key + (2 * round + 1) * EDGELORA_GOLDEN), pair = x < other ? other : x;
        if (mix(coins + pair * EDGELORA_GOLDEN) >> 31) {
            x = other;
        }
    }
    return x;
}
