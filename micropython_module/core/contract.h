// What the core's own callers must keep: shapes, ranges, alignment, bounds of the arena.
// SPDX-License-Identifier: MIT
//
// Checked in tests, under sanitizers and in fuzzers (-DEDGELORA_ASSERTS); elsewhere nothing is
// compiled. What a user or a file can bring about gets a status instead.

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
