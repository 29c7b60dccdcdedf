// Verification of Ed25519 signatures (RFC 8032).
// SPDX-License-Identifier: MIT
//
// Points satisfy -x^2 + y^2 = 1 + d x^2 y^2. The formulas of Hisil, Wong, Carter and Dawson (2008)
// are complete: they hold for all pairs of points.

#include "crypto.h"
#include "field.h"

// Constants, little-endian.
static const uint8_t curve_d[32] = {
    // -121665 / 121666
    0xa3,
    0x78,
    0x59,
    0x13,
    0xca,
    0x4d,
    0xeb,
    0x75,
    0xab,
    0xd8,
    0x41,
    0x41,
    0x4d,
    0x0a,
    0x70,
    0x00,
    0x98,
    0xe8,
    0x79,
    0x77,
    0x79,
    0x40,
    0xc7,
    0x8c,
    0x73,
    0xfe,
    0x6f,
    0x2b,
    0xee,
    0x6c,
    0x03,
    0x52,
};
static const uint8_t root_of_minus_1[32] = {
    0xb0,
    0xa0,
    0x0e,
    0x4a,
    0x27,
    0x1b,
    0xee,
    0xc4,
    0x78,
    0xe4,
    0x2f,
    0xad,
    0x06,
    0x18,
    0x43,
    0x2f,
    0xa7,
    0xd7,
    0xfb,
    0x3d,
    0x99,
    0x00,
    0x4d,
    0x2b,
    0x0b,
    0xdf,
    0xc1,
    0x4f,
    0x80,
    0x24,
    0x83,
    0x2b,
};
static const uint8_t base_x[32] = {
    0x1a,
    0xd5,
    0x25,
    0x8f,
    0x60,
    0x2d,
    0x56,
    0xc9,
    0xb2,
    0xa7,
    0x25,
    0x95,
    0x60,
    0xc7,
    0x2c,
    0x69,
    0x5c,
    0xdc,
    0xd6,
    0xfd,
    0x31,
    0xe2,
    0xa4,
    0xc0,
    0xfe,
    0x53,
    0x6e,
    0xcd,
    0xd3,
    0x36,
    0x69,
    0x21,
};
static const uint8_t base_y[32] = {
    // 4 / 5
    0x58,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
    0x66,
};
static const uint8_t base_order[32] = {
    // L = 2^252 + 27742317777372353535851937790883648493
    0xed,
    0xd3,
    0xf5,
    0x5c,
    0x1a,
    0x63,
    0x12,
    0x58,
    0xd6,
    0x9c,
    0xf7,
    0xa2,
    0xde,
    0xf9,
    0xde,
    0x14,
    0x00,
    0x00,
    0x00,
    0x00,
    0x00,
    0x00,
    0x00,
    0x00,
    0x00,
    0x00,
    0x00,
    0x00,
    0x00,
    0x00,
    0x00,
    0x10,
};

static bool fe_equal(const edgelora_fe_t a, const edgelora_fe_t b) {
    uint8_t bytes_a[32], bytes_b[32];
    edgelora_fe_encode(bytes_a, a);
    edgelora_fe_encode(bytes_b, b);
    return edgelora_equal(bytes_a, bytes_b, 32);
}

// Points

typedef struct {
    edgelora_fe_t x, y, z;  // (x / z, y / z)
    edgelora_fe_t e, h; // e h / z is the product of both coordinates; only additions need it
} point_t;

typedef struct {
    edgelora_fe_t difference, sum, product; // of an affine point: (y - x) / 2, (y + x) / 2, d x y
} addend_t;

static void point_begin(point_t *p, const edgelora_fe_t x, const edgelora_fe_t y) {
    edgelora_fe_copy(p->x, x);
    edgelora_fe_copy(p->e, x);
    edgelora_fe_copy(p->y, y);
    edgelora_fe_copy(p->h, y);
    edgelora_fe_small(p->z, 1);
}

static void addend_begin(addend_t *q, const edgelora_fe_t x, const edgelora_fe_t y) {
    const edgelora_fe_t half = {-9u, -1u, -1u, -1u, -1u, -1u, -1u, -1u >> 2}; // 2^254 - 9
    edgelora_fe_t d;
    edgelora_fe_decode(d, curve_d);
    edgelora_fe_subtract(q->difference, y, x);
    edgelora_fe_multiply(q->difference, q->difference, half);
    edgelora_fe_add(q->sum, y, x);
    edgelora_fe_multiply(q->sum, q->sum, half);
    edgelora_fe_multiply(q->product, x, y);
    edgelora_fe_multiply(q->product, q->product, d);
}

// The common end of both operations; e and h are already in p.
static void point_end(point_t *p, const edgelora_fe_t f, const edgelora_fe_t g) {
    edgelora_fe_multiply(p->x, p->e, f);
    edgelora_fe_multiply(p->y, p->h, g);
    edgelora_fe_multiply(p->z, f, g);
}

static void point_double(point_t *p) {
    edgelora_fe_t f, g, b;
    edgelora_fe_add(p->e, p->x, p->y);
    edgelora_fe_square(p->e, p->e);
    edgelora_fe_square(f, p->x);
    edgelora_fe_square(b, p->y);
    edgelora_fe_subtract(g, b, f); // g = y^2 - x^2
    edgelora_fe_add(p->h, b, f);
    edgelora_fe_subtract(p->e, p->e, p->h); // e = 2 x y
    edgelora_fe_small(b, 0);
    edgelora_fe_subtract(p->h, b, p->h); // h = -x^2 - y^2
    edgelora_fe_square(f, p->z);
    edgelora_fe_add(f, f, f);
    edgelora_fe_subtract(f, g, f); // f = g - 2 z^2
    point_end(p, f, g);
}

// p + q, or p - q
static void point_add(point_t *p, const addend_t *q, bool minus) {
    edgelora_fe_t a, c;
    edgelora_fe_multiply(c, p->e, p->h);
    edgelora_fe_multiply(c, c, q->product);
    edgelora_fe_subtract(a, p->y, p->x);
    edgelora_fe_multiply(a, a, minus ? q->sum : q->difference);
    edgelora_fe_add(p->h, p->y, p->x);
    edgelora_fe_multiply(p->h, p->h, minus ? q->difference : q->sum);
    edgelora_fe_subtract(p->e, p->h, a);
    edgelora_fe_add(p->h, p->h, a);
    edgelora_fe_subtract(a, p->z, c);
    edgelora_fe_add(c, p->z, c);
    if (minus) {
        point_end(p, c, a);
    } else {
        point_end(p, a, c);
    }
}

static void point_encode(uint8_t bytes[32], const edgelora_fe_t x, const edgelora_fe_t y) {
    uint8_t bytes_x[32];
    edgelora_fe_encode(bytes_x, x);
    edgelora_fe_encode(bytes, y);
    bytes[31] |= (uint8_t)(bytes_x[0] << 7);
}

// Decodes affine coordinates; false if the bytes do not encode a point. x = sqrt(u / v), u = y^2 -
// 1, v = d y^2 + 1.
static bool point_decode(edgelora_fe_t x, edgelora_fe_t y, const uint8_t bytes[32]) {
    edgelora_fe_t u, v, t, one;
    uint8_t encoded[32];
    edgelora_fe_decode(y, bytes);
    edgelora_fe_square(u, y);
    edgelora_fe_decode(v, curve_d);
    edgelora_fe_multiply(v, v, u);
    edgelora_fe_small(one, 1);
    edgelora_fe_subtract(u, u, one);
    edgelora_fe_add(v, v, one);
    edgelora_fe_square(t, v);
    edgelora_fe_multiply(t, t, v);
    edgelora_fe_multiply(x, t, u); // u v^3
    edgelora_fe_multiply(t, t, x);
    edgelora_fe_multiply(t, t, v); // u v^7
    edgelora_fe_power(t, t);
    edgelora_fe_multiply(x, x, t); // if u / v is a square, the root of it or of its negative
    for (uint32_t tries = 0;; tries++) {
        edgelora_fe_square(t, x);
        edgelora_fe_multiply(t, t, v);
        if (fe_equal(t, u)) {
            break;
        }
        if (tries) {
            return false;
        }
        edgelora_fe_decode(t, root_of_minus_1);
        edgelora_fe_multiply(x, x, t);
    }
    point_encode(encoded, x, y);
    if ((encoded[31] ^ bytes[31]) & 128) {
        edgelora_fe_small(t, 0);
        edgelora_fe_subtract(x, t, x);
        point_encode(encoded, x, y);
    }
    return edgelora_equal(encoded, bytes, 32);
}

static bool is_small_order(const edgelora_fe_t x, const edgelora_fe_t y) {
    point_t p;
    edgelora_fe_t zero;
    point_begin(&p, x, y);
    for (uint32_t i = 0; i < 3; i++) {
        point_double(&p);
    }
    edgelora_fe_small(zero, 0);
    return fe_equal(p.x, zero); // only (0, 1), not (0, -1), is 8 times a point
}

// Scalars, 33 bytes

enum { SCALAR_BYTES = 33 };

// r -= n L; returns the borrow, < 0 if the result is negative.
static int32_t scalar_subtract(uint8_t *r, int32_t n) {
    int32_t carry = 0;
    for (uint32_t i = 0; i < SCALAR_BYTES; i++) {
        carry += r[i] - (i < 32 ? n * base_order[i] : 0);
        r[i] = (uint8_t)carry;
        carry >>= 8;
    }
    return carry;
}

static bool scalar_decode(uint8_t *r, const uint8_t bytes[32]) {
    uint8_t difference[SCALAR_BYTES];
    for (uint32_t i = 0; i < 32; i++) {
        r[i] = difference[i] = bytes[i];
    }
    r[32] = difference[32] = 0;
    return scalar_subtract(difference, 1) < 0;
}

// r = digest mod L, byte by byte from the last. Subtracting the multiple of L that the upper bits
// of 256 r + byte < 2^261 give leaves at least -L.
static void scalar_reduce(uint8_t *r, const uint8_t digest[64]) {
    for (uint32_t i = 0; i < SCALAR_BYTES; i++) {
        r[i] = 0;
    }
    for (uint32_t i = 64; i-- > 0;) {
        for (uint32_t j = SCALAR_BYTES - 1; j > 0; j--) {
            r[j] = r[j - 1];
        }
        r[0] = digest[i];
        if (scalar_subtract(r, r[32] << 4 | r[31] >> 4) < 0) {
            scalar_subtract(r, -1);
        }
    }
}

static void scalar_triple(uint8_t *r, const uint8_t *a) {
    uint32_t carry = 0;
    for (uint32_t i = 0; i < SCALAR_BYTES; i++) {
        carry += 3u * a[i];
        r[i] = (uint8_t)carry;
        carry >>= 8;
    }
}

// Digit i, -1, 0 or 1, of the non-adjacent form of a: the bits of 3 a minus those of a, halved.
static int32_t scalar_digit(const uint8_t *a, const uint8_t *triple, uint32_t i) {
    i++;
    return (triple[i / 8] >> i % 8 & 1) - (a[i / 8] >> i % 8 & 1);
}

// Signatures

// s B - k A, encoded
static void combine(uint8_t bytes[32], const uint8_t *s, const uint8_t *k,
    const edgelora_fe_t key_x, const edgelora_fe_t key_y) {
    uint8_t triple_s[SCALAR_BYTES], triple_k[SCALAR_BYTES];
    addend_t base, key;
    point_t p;
    scalar_triple(triple_s, s);
    scalar_triple(triple_k, k);
    addend_begin(&key, key_x, key_y);
    edgelora_fe_decode(p.x, base_x);
    edgelora_fe_decode(p.y, base_y);
    addend_begin(&base, p.x, p.y);
    edgelora_fe_small(p.x, 0);
    edgelora_fe_small(p.y, 1);
    point_begin(&p, p.x, p.y);
    for (uint32_t i = 254; i-- > 0;) {
        point_double(&p);
        int32_t digit = scalar_digit(s, triple_s, i);
        if (digit) {
            point_add(&p, &base, digit < 0);
        }
        digit = scalar_digit(k, triple_k, i);
        if (digit) {
            point_add(&p, &key, digit > 0);
        }
    }
    edgelora_fe_invert(p.z, p.z);
    edgelora_fe_multiply(p.x, p.x, p.z);
    edgelora_fe_multiply(p.y, p.y, p.z);
    point_encode(bytes, p.x, p.y);
}

bool edgelora_ed25519_verify(
    const uint8_t key[32], const uint8_t *message, size_t size, const uint8_t signature[64]) {
    uint8_t s[SCALAR_BYTES], k[SCALAR_BYTES], digest[64], encoded[32];
    edgelora_fe_t x, y;
    if (!scalar_decode(s, signature + 32) || !point_decode(x, y, key) || is_small_order(x, y)) {
        return false;
    }
    edgelora_sha512_t hash;
    edgelora_sha512_begin(&hash);
    edgelora_sha512_add(&hash, signature, 32);
    edgelora_sha512_add(&hash, key, 32);
    edgelora_sha512_add(&hash, message, size);
    edgelora_sha512_end(&hash, digest);
    scalar_reduce(k, digest);
    combine(encoded, s, k, x, y);
    return edgelora_equal(encoded, signature, 32);
}
