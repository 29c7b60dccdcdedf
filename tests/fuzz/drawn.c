// Runs a harness on random bytes, without libFuzzer.
// SPDX-License-Identifier: MIT
//
// Usage: drawn COUNT SEED SIZE: COUNT inputs of up to SIZE bytes.

#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv) {
    CHECK(argc == 4);
    uint64_t drawn = strtoull(argv[2], 0, 10);
    uint32_t count = (uint32_t)strtoul(argv[1], 0, 10), room = (uint32_t)strtoul(argv[3], 0, 10);
    for (uint32_t n = 0; n < count; ++n) {
        uint32_t size = room / 2 + n % (room / 2 + 1);
        uint8_t *data = malloc(size + 1);
        for (uint32_t i = 0; i < size; ++i) {
            drawn = drawn * 6364136223846793005u + 1442695040888963407u;
            data[i] = (uint8_t)(drawn >> 35 & 1 ? drawn >> 40
                                                : (drawn >> 40) % 13); // small numbers do more
        }
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    printf("%u executions\n", count);
    return 0;
}
