// ESP32-S3's vector instructions (PIE), and the kernels written with them.
// SPDX-License-Identifier: MIT
//
// Assemblers for other Xtensa cores do not know these instructions, so they are given as bytes,
// from the bit fields that the chip's Technical Reference Manual lists for each.
//
//   q0..q7  128 bits: 16 values
//   ACCX    one sum of 40 bits: of the 16 products of two vectors
//   QACC    16 sums of 20 bits, one for each lane. They saturate: QACC_PRODUCTS products fit.
//
// Loads and stores take whole vectors and drop the lower four bits of an address.

#ifndef EDGELORA_PIE_H
#define EDGELORA_PIE_H

#include "kernels/simd/simd.h"

#ifdef EDGELORA_PIE

// A field's bits, from one of the value to one of the instruction.
#define PIE_BIT(value, from, to) "(((" #value ")>>" #from "&1)<<" #to ")"
// q: a vector register in bits 15, 20, 21
#define PIE_Q(q) PIE_BIT(q, 0, 15) "|" PIE_BIT(q, 1, 20) "|" PIE_BIT(q, 2, 21)
// Operands of products, and of functions of two vectors: bits 8 to 10; 11, 12, 14
#define PIE_X(q) PIE_BIT(q, 0, 8) "|" PIE_BIT(q, 1, 9) "|" PIE_BIT(q, 2, 10)
#define PIE_Y(q) PIE_BIT(q, 0, 11) "|" PIE_BIT(q, 1, 12) "|" PIE_BIT(q, 2, 14)
// a: an address register in bits 4 to 7
#define PIE_A(a) "((" #a ")<<4)"
// Added to the address: 8 bits, in units of `unit` bytes
#define PIE_STEP(bytes, unit) "(((" #bytes ")/" #unit "&127)<<8)|" PIE_BIT((bytes) / unit, 7, 22)

#define PIE_3(code) ".byte (" code ")&255,(" code ")>>8&255,(" code ")>>16&255\n"
#define PIE_4(code) ".byte (" code ")&255,(" code ")>>8&255,(" code ")>>16&255,(" code ")>>24&255\n"

// Loads and stores of the vector at address register a, to which `bytes` are then added.
#define PIE_LOAD(q, a, bytes) PIE_3("0x830004|" PIE_Q(q) "|" PIE_A(a) "|" PIE_STEP(bytes, 16))
#define PIE_STORE(q, a, bytes) PIE_3("0x8a0004|" PIE_Q(q) "|" PIE_A(a) "|" PIE_STEP(bytes, 16))
// Also keeps the address's lower four bits for PIE_ALIGN.
#define PIE_LOAD_USAR(q, a, bytes) PIE_3("0x810004|" PIE_Q(q) "|" PIE_A(a) "|" PIE_STEP(bytes, 16))
// All lanes: the byte, the word at the address.
#define PIE_SPREAD_8(q, a, bytes) PIE_3("0xc50004|" PIE_Q(q) "|" PIE_A(a) "|((" #bytes ")<<8)")
#define PIE_SPREAD_32(q, a, bytes) PIE_3("0x820004|" PIE_Q(q) "|" PIE_A(a) "|((" #bytes ")/4<<8)")
// q: 16 bytes of low and high, from the kept byte on
#define PIE_ALIGN(q, low, high) PIE_3("0xcc0304|(" #q "<<4)|(" #low "<<12)|" PIE_Q(high))
#define PIE_XOR(q, x, y) \
    PIE_3("0xcd3104|" PIE_Q(q) "|" PIE_BIT(x, 0, 4) "|" PIE_BIT(x, 1, 6) "|" PIE_BIT( \
        x, 2, 7) "|" PIE_BIT(y, 0, 5) "|" PIE_BIT(y, 1, 10) "|" PIE_BIT(y, 2, 11))

#define PIE_ZERO_ACCX PIE_3("0x250804")
#define PIE_ZERO_QACC PIE_3("0x250844")
#define PIE_DOT(x, y) PIE_3("0x1a00c4|" PIE_X(x) "|" PIE_Y(y))      // ACCX += products
#define PIE_PRODUCTS(x, y) PIE_3("0x1a20c4|" PIE_X(x) "|" PIE_Y(y)) // QACC += products
// The same, and a load of q for later
#define PIE_AND_LOAD(code, x, y, q, a, bytes) \
    PIE_4(code "|" PIE_BIT(x, 0, 14) "|" PIE_BIT(x, 1, 15) "|" PIE_BIT(x, 2, 0) "|" PIE_BIT(y, 0, \
        23) "|" PIE_BIT(y, 1, 12) "|" PIE_BIT(y, 2, 13) "|" PIE_BIT(q, 0, 19) "|" PIE_BIT(q, 1, \
        24) "|" PIE_BIT(q, 2, 25) "|" PIE_A(a) "|(((" #bytes ")/16&15)<<8)|" PIE_BIT((bytes) / 16, \
        4, 26) "|" PIE_BIT((bytes) / 16, 5, 27))
#define PIE_DOT_LOAD(x, y, q, a, bytes) PIE_AND_LOAD("0xf002000e", x, y, q, a, bytes)
#define PIE_PRODUCTS_LOAD(x, y, q, a, bytes) PIE_AND_LOAD("0xf003000e", x, y, q, a, bytes)
#define PIE_READ_ACCX(r) PIE_3("0xe30000|(" #r "<<12)") // the lower 32 bits
// Stores of QACC's lower and upper eight sums: 128 bits, then the other 32
#define PIE_STORE_LOW_128(a, bytes) PIE_3("0x0c0004|" PIE_A(a) "|" PIE_STEP(bytes, 16))
#define PIE_STORE_LOW_32(a, bytes) PIE_3("0x1d0004|" PIE_A(a) "|" PIE_STEP(bytes, 4))
#define PIE_STORE_HIGH_128(a, bytes) PIE_3("0x0d0004|" PIE_A(a) "|" PIE_STEP(bytes, 16))
#define PIE_STORE_HIGH_32(a, bytes) PIE_3("0x120004|" PIE_A(a) "|" PIE_STEP(bytes, 4))

enum {
    PIE_LANES = 16,
    QACC_PRODUCTS = 32, // 32 * 127 * 128 < 2^19
    TAPS = 9,
};

// Copies `count` vectors and flips bits of theirs.
typedef struct {
    int8_t *to;         // 16-aligned
    uint32_t to_step;   // a multiple of 16
    const int8_t *from; // of any alignment
    uint32_t from_step;
    // the last byte that may be read: vectors that begin before it are copied up to it, and end
    // undefined
    const int8_t *last;
    uint32_t count; // >= 1
    uint32_t flip;  // of each word
} pie_copy_t;

// Products of a row with `count` others.
typedef struct {
    const int8_t *w;    // s8 [vectors, 16], 16-aligned
    const int8_t *x;    // the same, `x_step` bytes apart
    uint32_t x_step;    // a multiple of 16
    uint32_t vectors;   // >= 1
    const int32_t *from; // acc = from + products; `from_step` bytes apart, may be acc
    uint32_t from_step;
    int32_t *acc; // `acc_step` bytes apart
    uint32_t acc_step;
    uint32_t count; // >= 1
} pie_dots_t;

// Products of rows that lie anywhere with one vector of inputs.
typedef struct {
    const int8_t *x;      // s8 [vectors, 16], 16-aligned; the 16 bytes behind it are read
    const void *w;        // rows, `w_step` bytes apart
    uint32_t w_step;
    const int8_t *last;   // of the bytes that may be read
    uint32_t vectors;     // >= 1; where a row is shorter, x is 0
    const int32_t *from;  // acc = from + products; `from_step` bytes apart, may be acc
    uint32_t from_step;
    int32_t *acc;         // s32 [count]
    uint32_t count;       // >= 1
    uint32_t flip;        // of each word of w
} pie_rows_t;

// acc, s32 [16], += sums over n of vectors times values.
typedef struct {
    const int8_t *v; // s8 [n, 16], 16-aligned
    const int8_t *s; // s8 [n], `s_step` bytes apart
    uint32_t s_step;
    uint32_t n;   // 1..QACC_PRODUCTS
    int32_t *acc; // `acc_step` bytes apart
    uint32_t acc_step;
} pie_columns_t;

// Windows of 3x3 vectors of a plane, and the weights that they meet.
typedef struct {
    const int8_t *x; // 16-aligned; of the first window
    uint32_t x_step; // bytes from one window to the next, a multiple of 16
    uint32_t pitch;  // bytes from one row of the plane to the next, a multiple of 16
    const int8_t *w; // s8 [TAPS, 16], 16-aligned
    const int8_t *end; // of the window behind the last one
} pie_windows_t;

// acc, s32 [16, ...], = sums over taps of vectors times weights, for consecutive windows.
typedef struct {
    pie_windows_t in;
    int32_t *acc;
    uint32_t acc_step; // bytes from one lane to the next
} pie_window_sums_t;

// What makes an output of a sum: requantize of sum + bias.
typedef struct {
    int32_t bias; // doubled
    int32_t multiplier;
    int32_t half, low; // of 2^shift; low: for negative sums, less by 1 unless the shift is 0
    uint32_t shift;
} pie_scale_t;

// 16 outputs of each window, |sum + bias| < 2^30.
typedef struct {
    pie_windows_t in;
    const pie_scale_t *scales; // [16]
    int8_t *y;       // of the first window
    uint32_t y_step; // bytes from one window's to the next
    int32_t zero_point, min, max;
} pie_window_outputs_t;

// Requantizes acc + bias, |acc + bias| < 2^30, of consecutive outputs. The pointers advance.
typedef struct {
    const int32_t *acc; // s32 [outputs, count]
    uint32_t count;     // of positions, >= 1
    int8_t *y;          // of the first output
    uint32_t y_step;    // bytes from one position to the next
    const int32_t *bias, *multiplier;
    const int8_t *shift; // <= 0
    uint32_t outputs;    // >= 1
    int32_t zero_point, min, max;
} pie_outputs_t;

// The same for consecutive outputs of one position, |acc| < 2^30.
typedef struct {
    const int32_t *acc, *multiplier;
    const int8_t *shift; // <= 0
    int8_t *y;
    uint32_t count; // >= 1
    int32_t zero_point, min, max;
} pie_channels_t;

void edgelora_pie_copy(const pie_copy_t *copy);
void edgelora_pie_fill(int8_t *to, uint32_t count, const uint32_t *word); // `count` vectors of it
void edgelora_pie_dots(const pie_dots_t *dots);
void edgelora_pie_rows(const pie_rows_t *rows);
void edgelora_pie_columns(const pie_columns_t *columns);
void edgelora_pie_window_sums(const pie_window_sums_t *sums);
void edgelora_pie_window_outputs(const pie_window_outputs_t *outputs);
void edgelora_pie_outputs(pie_outputs_t *outputs);
void edgelora_pie_channels(const pie_channels_t *channels);

#endif

#endif
