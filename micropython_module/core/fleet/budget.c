// What rounds cost a board. SPDX-License-Identifier: MIT

#include "fleet/parts.h"

uint64_t edgelora_fleet_cost(uint32_t clip, uint32_t sigma, uint32_t honest) {
    uint64_t variance = (uint64_t)sigma * sigma * honest;  // below 2^48
    uint64_t squares = (uint64_t)clip * clip * 1000000;    // below 2^52
    return variance ? (squares + variance - 1) / variance : UINT64_MAX;
}

uint64_t edgelora_add_cost(uint64_t spent, uint64_t cost) {
    return cost > UINT64_MAX - spent ? UINT64_MAX : spent + cost;
}
