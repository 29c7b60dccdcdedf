// Assertions of the core's internal contracts: shapes, ranges, alignment, bounds of the arena.
// SPDX-License-Identifier: MIT
//
// Checked in tests, under sanitizers and in fuzzers (-DEDGELORA_ASSERTS); other builds compile no
// code for them. Errors that a user or a file can cause return a status instead.

#ifndef EDGELORA_CONTRACT_H
#define EDGELORA_CONTRACT_H

#ifdef EDGELORA_ASSERTS
#undef NDEBUG
#include <assert.h>
#define EDGELORA_ASSERT(condition) assert(condition)
#else
#define EDGELORA_ASSERT(condition) ((void)sizeof((condition) ? 1 : 0))
#endif

#endif
