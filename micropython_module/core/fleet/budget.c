// Privacy cost of rounds.
// SPDX-License-Identifier: MIT

#include "fleet/internal.h"

uint64_t edgelora_fleet_cost(uint32_t clip, uint32_t sigma, uint32_t honest) {
    uint64_t variance = (uint64_t)sigma * sigma * honest;  // below 2^48
    uint64_t squares = (uint64_t)clip * clip * 1000000;    // below 2^52
    uint64_t cost = 0, rest = 0;
    if (!variance) {
        return UINT64_MAX;
    }
    for (uint32_t bit = 52; bit-- > 0;) {  // long division: not every board has a 64-bit one
        rest = rest << 1 | (squares >> bit & 1);
        cost <<= 1;
        if (rest >= variance) {
            rest -= variance;
            cost |= 1;
        }
    }
    return cost + (rest != 0);
}

uint64_t edgelora_add_cost(uint64_t spent, uint64_t cost) {
    return cost > UINT64_MAX - spent ? UINT64_MAX : spent + cost;
}
