// An update whose length is bounded. SPDX-License-Identifier: MIT

#include "fleet/fleet.h"

// ceil(sqrt(value)) of a value up to 2^62
static uint32_t root_up(uint64_t value) {
    uint64_t root = 0, rest = value;
    for (uint64_t bit = (uint64_t)1 << 62; bit; bit >>= 2) {
        uint64_t trial = root + bit;
        root >>= 1;
        if (rest >= trial) {
            rest -= trial;
            root += bit;
        }
    }
    return (uint32_t)root + (rest != 0);
}

void edgelora_fleet_update(const int16_t *before, const int16_t *after, uint32_t n, uint32_t clip, int32_t *out) {
    uint64_t squares = 0;
    for (uint32_t i = 0; i < n; ++i) {
        int32_t d = after[i] - before[i];  // within +-65535
        uint32_t size = (uint32_t)(d < 0 ? -d : d);
        squares += size * size;  // below 2^32
        out[i] = d;
    }
    uint32_t norm = root_up(squares);
    if (norm <= clip) {
        return;
    }
    uint32_t factor = (clip << 16) / norm;  // Q16, below 1: truncation can only shorten
    for (uint32_t i = 0; i < n; ++i) {
        uint32_t size = (uint32_t)(out[i] < 0 ? -out[i] : out[i]);
        int32_t scaled = (int32_t)(size * factor >> 16);
        out[i] = out[i] < 0 ? -scaled : scaled;
    }
}
