// Compiles code for a processor that the build's options don't select.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_TARGET_H
#define EDGELORA_TARGET_H

#define EDGELORA_PRAGMA(text) _Pragma(#text)
#ifdef __clang__
#define EDGELORA_TARGET_BEGIN(name) \
    EDGELORA_PRAGMA(clang attribute push(__attribute__((target(name))), apply_to = function))
#define EDGELORA_TARGET_END EDGELORA_PRAGMA(clang attribute pop)
#else
#define EDGELORA_TARGET_BEGIN(name) \
    EDGELORA_PRAGMA(GCC push_options) EDGELORA_PRAGMA(GCC target(name))
#define EDGELORA_TARGET_END EDGELORA_PRAGMA(GCC pop_options)
#endif

#endif
