// Comparing and wiping secrets.
// SPDX-License-Identifier: MIT

#include "crypto.h"

bool edgelora_equal(const void *a, const void *b, size_t size) {
    const uint8_t *bytes_a = a, *bytes_b = b;
    uint32_t differ = 0;
    for (size_t i = 0; i < size; i++) {
        differ |= bytes_a[i] ^ bytes_b[i];
    }
    EDGELORA_DECLASSIFY(differ); // the caller's reaction is public: it accepts or refuses a tag
    return differ == 0;
}

void edgelora_wipe(void *secret, size_t size) {
    volatile uint8_t *bytes = secret;
    for (size_t i = 0; i < size; i++) {
        bytes[i] = 0;
    }
}
