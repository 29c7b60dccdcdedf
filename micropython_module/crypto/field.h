// The field of integers modulo p = 2^255 - 19, for Curve25519 and edwards25519.
// SPDX-License-Identifier: MIT
//
// Constant time. Results may overlap operands. An element is any integer below 2^256, so most
// values have two representations; only encoding reduces to the one below p.

#ifndef EDGELORA_CRYPTO_FIELD_H
#define EDGELORA_CRYPTO_FIELD_H

#include <stdbool.h>
#include <stdint.h>

#if defined(__ARM_ARCH_6M__) && !defined(EDGELORA_SMALL_FIELD)
// uses field_m0plus.c, which is faster and 1.9 KB larger
#define EDGELORA_FIELD_M0PLUS
#endif

enum { EDGELORA_FE_WORDS = 8 };
typedef uint32_t edgelora_fe_t[EDGELORA_FE_WORDS];  // little-endian

void edgelora_fe_copy(edgelora_fe_t r, const edgelora_fe_t a);
void edgelora_fe_small(edgelora_fe_t r, uint32_t value);
void edgelora_fe_add(edgelora_fe_t r, const edgelora_fe_t a, const edgelora_fe_t b);
void edgelora_fe_subtract(edgelora_fe_t r, const edgelora_fe_t a, const edgelora_fe_t b);
void edgelora_fe_multiply(edgelora_fe_t r, const edgelora_fe_t a, const edgelora_fe_t b);
void edgelora_fe_square(edgelora_fe_t r, const edgelora_fe_t a);
void edgelora_fe_multiply_a24(
    edgelora_fe_t r, const edgelora_fe_t a);  // times 121665 = (486662 - 2) / 4, of Curve25519
void edgelora_fe_power(
    edgelora_fe_t r, const edgelora_fe_t a);  // r = a^(2^252 - 3), which is a^((p - 5) / 8)
void edgelora_fe_invert(edgelora_fe_t r, const edgelora_fe_t a);  // 0 for a = 0
void edgelora_fe_swap(edgelora_fe_t a, edgelora_fe_t b, uint32_t swap); // swap: 0 or 1
void edgelora_fe_decode(edgelora_fe_t r, const uint8_t bytes[32]); // the low 255 bits
void edgelora_fe_encode(uint8_t bytes[32], const edgelora_fe_t a);

#endif
