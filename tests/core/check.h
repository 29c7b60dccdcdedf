// What the C programs of these tests hold: else they end with its line.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_TEST_CHECK_H
#define EDGELORA_TEST_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(what) \
    do { \
        if (!(what)) { \
            fprintf(stderr, "line %d: %s\n", __LINE__, #what); \
            exit(1); \
        } \
    } while (0)

#endif
