// X25519 (RFC 7748).
// SPDX-License-Identifier: MIT

#include "crypto.h"
#include "field.h"

// A step of the Montgomery ladder: with (x3 : z3) - (x2 : z2) = the point at x1, replaces (x2 : z2)
// by its double and (x3 : z3) by the sum of both.
static void ladder_step(const edgelora_fe_t x1, edgelora_fe_t x2, edgelora_fe_t z2,
    edgelora_fe_t x3, edgelora_fe_t z3, edgelora_fe_t a, edgelora_fe_t b) {
    edgelora_fe_add(a, x2, z2);
    edgelora_fe_subtract(z2, x2, z2);
    edgelora_fe_add(x2, x3, z3);
    edgelora_fe_subtract(z3, x3, z3);
    edgelora_fe_multiply(z3, z3, a);
    edgelora_fe_multiply(x2, x2, z2);
    edgelora_fe_add(x3, z3, x2);
    edgelora_fe_square(x3, x3);
    edgelora_fe_subtract(z3, z3, x2);
    edgelora_fe_square(z3, z3);
    edgelora_fe_multiply(z3, z3, x1);
    edgelora_fe_square(a, a);
    edgelora_fe_square(z2, z2);
    edgelora_fe_multiply(x2, a, z2);
    edgelora_fe_subtract(z2, a, z2);
    edgelora_fe_multiply_a24(b, z2);
    edgelora_fe_add(b, b, a);
    edgelora_fe_multiply(z2, z2, b);
}

// Bit i of a scalar, 0 to 255, clamped: bits 0 to 2 and 255 count as 0, bit 254 as 1.
static uint32_t scalar_bit(const uint8_t scalar[32], uint32_t i) {
    return i < 3 || i > 254 ? 0 : i == 254 ? 1 : (uint32_t)(scalar[i / 8] >> i % 8 & 1);
}

bool edgelora_x25519(uint8_t out[32], const uint8_t scalar[32], const uint8_t u[32]) {
    struct {
        edgelora_fe_t x1, x2, z2, x3, z3, a, b;
    } f;
    edgelora_fe_decode(f.x1, u);
    edgelora_fe_copy(f.x3, f.x1);
    edgelora_fe_small(f.z3, 1);
    edgelora_fe_small(f.x2, 1);
    edgelora_fe_small(f.z2, 0);
    for (uint32_t i = 255; i-- > 0;) {
        uint32_t swap = scalar_bit(scalar, i) ^ scalar_bit(scalar, i + 1);
        edgelora_fe_swap(f.x2, f.x3, swap);
        edgelora_fe_swap(f.z2, f.z3, swap);
        ladder_step(f.x1, f.x2, f.z2, f.x3, f.z3, f.a, f.b);
    }  // the last bit is 0: no final swap
    edgelora_fe_invert(f.z2, f.z2);
    edgelora_fe_multiply(f.x2, f.x2, f.z2);
    edgelora_fe_encode(out, f.x2);
    edgelora_wipe(&f, sizeof(f));
    uint32_t any = 0;
    for (uint32_t i = 0; i < 32; i++) {
        any |= out[i];
    }
    any = (0 - any) >> 31;
    EDGELORA_DECLASSIFY(any);  // public: the sender knows whether its point has small order
    return any != 0;
}

void edgelora_x25519_public(uint8_t out[32], const uint8_t scalar[32]) {
    uint8_t base[32] = {9};
    edgelora_x25519(out, scalar, base);
}
