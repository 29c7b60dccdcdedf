// Runs parts of the Ed25519 verification on cases from standard input, for tests under sanitizers.
// SPDX-License-Identifier: MIT
//
// A case: kind ('v' verify: key, signature, message; 'd' decode: a point), u32 size, that many
// bytes. Prints a line for each.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ed25519.c"

static void *copy(const uint8_t *data, size_t size) {
    void *out = malloc(size);  // exactly this size, so that reads beyond it are detected
    if (size) {
        memcpy(out, data, size);
    }
    return out;
}

static void print_verdict(const uint8_t *data, size_t size) {
    uint8_t *key = copy(data, 32), *signature = copy(data + 32, 64),
            *message = copy(data + 96, size - 96);
    printf("%d\n", edgelora_ed25519_verify(key, message, size - 96, signature));
    free(key);
    free(signature);
    free(message);
}

int main(void) {
    int what;
    uint32_t size;
    while ((what = getchar()) != EOF && fread(&size, sizeof(size), 1, stdin) == 1) {
        uint8_t *data = malloc(size);
        if (fread(data, 1, size, stdin) != size) {
            return 2;
        }
        edgelora_fe_t x, y;
        switch (what) {
            case 'v':
                print_verdict(data, size);
                break;
            case 'd':
                printf("%d\n", point_decode(x, y, data));
                break;
            default:
                return 2;
        }
        free(data);
    }
    return 0;
}
