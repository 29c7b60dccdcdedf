// Makes constants and offsets of struct fields available to assembly.
// SPDX-License-Identifier: MIT
//
//     OFFSETS(frame_t, count, x)            at the start of a function of assembly
//     "sub sp, #" AT(frame_t) "\n"          the struct's size
//     "ldr r0, " SLOT(frame_t.count) "\n"   of the frame, from sp on
//     "ldr r1, " FIELD(r0, row_t.x) "\n"
//
// Each offset is a local symbol of the assembler, so that only the compiler lays out structs. The
// statements that define the symbols emit no code.

#ifndef EDGELORA_ASSEMBLY_H
#define EDGELORA_ASSEMBLY_H

#include <stddef.h>

#pragma GCC diagnostic ignored "-Wunused-parameter" // assembly reads arguments from registers

#define AT(name) ".L" #name
#define SLOT(name) "[sp, #" AT(name) "]"
#define FIELD(base, name) "[" #base ", #" AT(name) "]"

#define SET(name, value) __asm volatile(".set " AT(name) ", %c0" : : "i"(value))
#define SET_OFFSET(type, i, field) SET(type.field, offsetof(type, field));
#define OFFSETS(type, ...) \
    SET(type, sizeof(type)); \
    EACH(SET_OFFSET, type, __VA_ARGS__)

// Asserts that fields are consecutive words from the struct's start on, as `ldmia` requires.
#define ASSERT_WORD(type, i, field) \
    typedef char type##_##field##_is_word[offsetof(type, field) == 4 * (i) ? 1 : -1];
#define ASSERT_WORDS(type, ...) EACH(ASSERT_WORD, type, __VA_ARGS__)

// Applies m(t, place, field) to up to 16 fields.
// clang-format off
#define EACH(m, t, ...) \
    EACH_OF(__VA_ARGS__, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)(m, t, 0, __VA_ARGS__)
#define EACH_OF(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, count, ...) EACH_##count
#define EACH_1(m, t, i, a) m(t, i, a)
#define EACH_2(m, t, i, a, ...) m(t, i, a) EACH_1(m, t, i + 1, __VA_ARGS__)
#define EACH_3(m, t, i, a, ...) m(t, i, a) EACH_2(m, t, i + 1, __VA_ARGS__)
#define EACH_4(m, t, i, a, ...) m(t, i, a) EACH_3(m, t, i + 1, __VA_ARGS__)
#define EACH_5(m, t, i, a, ...) m(t, i, a) EACH_4(m, t, i + 1, __VA_ARGS__)
#define EACH_6(m, t, i, a, ...) m(t, i, a) EACH_5(m, t, i + 1, __VA_ARGS__)
#define EACH_7(m, t, i, a, ...) m(t, i, a) EACH_6(m, t, i + 1, __VA_ARGS__)
#define EACH_8(m, t, i, a, ...) m(t, i, a) EACH_7(m, t, i + 1, __VA_ARGS__)
#define EACH_9(m, t, i, a, ...) m(t, i, a) EACH_8(m, t, i + 1, __VA_ARGS__)
#define EACH_10(m, t, i, a, ...) m(t, i, a) EACH_9(m, t, i + 1, __VA_ARGS__)
#define EACH_11(m, t, i, a, ...) m(t, i, a) EACH_10(m, t, i + 1, __VA_ARGS__)
#define EACH_12(m, t, i, a, ...) m(t, i, a) EACH_11(m, t, i + 1, __VA_ARGS__)
#define EACH_13(m, t, i, a, ...) m(t, i, a) EACH_12(m, t, i + 1, __VA_ARGS__)
#define EACH_14(m, t, i, a, ...) m(t, i, a) EACH_13(m, t, i + 1, __VA_ARGS__)
#define EACH_15(m, t, i, a, ...) m(t, i, a) EACH_14(m, t, i + 1, __VA_ARGS__)
#define EACH_16(m, t, i, a, ...) m(t, i, a) EACH_15(m, t, i + 1, __VA_ARGS__)
// clang-format on

#endif
