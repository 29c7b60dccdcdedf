// The assertion of these C programs: a failure prints its line and exits.
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
