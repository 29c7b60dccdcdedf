// The assertion of these C programs: a failure prints its line and exits. And their files.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_TEST_CHECK_H
#define EDGELORA_TEST_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(what) \
    do { \
        if (!(what)) { \
            fprintf(stderr, "line %d: %s\n", __LINE__, #what); \
            exit(1); \
        } \
    } while (0)

static inline void *read_file(const char *path, uint32_t *size) {
    FILE *f = fopen(path, "rb");
    CHECK(f && !fseek(f, 0, SEEK_END));
    *size = (uint32_t)ftell(f);
    rewind(f);
    void *data = malloc(*size);
    CHECK(fread(data, 1, *size, f) == *size);
    fclose(f);
    return data;
}

#endif
