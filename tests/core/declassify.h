// Tells valgrind about secrets; included before every file of the program secrets.c.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_TESTS_DECLASSIFY_H
#define EDGELORA_TESTS_DECLASSIFY_H

#include <valgrind/memcheck.h>

#define EDGELORA_DECLASSIFY(value) ((void)VALGRIND_MAKE_MEM_DEFINED(&(value), sizeof(value)))

#endif
