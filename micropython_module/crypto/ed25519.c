// Verification of Ed25519 signatures (RFC 8032). SPDX-License-Identifier: MIT
//
// Field elements, modulo p = 2^255 - 19, have 20 limbs of 13 bits, as then a column of 20 products fits 32 bits and nothing wider is
// needed. Points are those of -x^2 + y^2 = 1 + d x^2 y^2, with the formulas of Hisil, Wong, Carter and Dawson (2008), which
// hold for all pairs of points.

#include "crypto.h"

// The value is sum l[i] 2^(13 i); limbs are signed, as two's complement, so that sums and products may wrap on the way to a sum that fits.
// A product's limbs are at most 2^12 + 3 in size: "one term". Sums of more terms may be multiplied as they are, up to six terms in
// both factors together (2 by 3, 1 by 6): 6 * 20 * (2^12 + 4)^2 + 2^24 < 2^31. Elements decoded from bytes count as two.
enum { LIMBS = 20, LIMB_BITS = 13, LIMB_MASK = (1 << LIMB_BITS) - 1, COLUMNS = 2 * LIMBS };
typedef uint32_t fe_t[LIMBS];

// Constants, little-endian.
static const uint8_t curve_d[32] = {  // -121665 / 121666
    0xa3, 0x78, 0x59, 0x13, 0xca, 0x4d, 0xeb, 0x75, 0xab, 0xd8, 0x41, 0x41, 0x4d, 0x0a, 0x70, 0x00,
    0x98, 0xe8, 0x79, 0x77, 0x79, 0x40, 0xc7, 0x8c, 0x73, 0xfe, 0x6f, 0x2b, 0xee, 0x6c, 0x03, 0x52,
};
static const uint8_t root_of_minus_1[32] = {
    0xb0, 0xa0, 0x0e, 0x4a, 0x27, 0x1b, 0xee, 0xc4, 0x78, 0xe4, 0x2f, 0xad, 0x06, 0x18, 0x43, 0x2f,
    0xa7, 0xd7, 0xfb, 0x3d, 0x99, 0x00, 0x4d, 0x2b, 0x0b, 0xdf, 0xc1, 0x4f, 0x80, 0x24, 0x83, 0x2b,
};
static const uint8_t base_x[32] = {
    0x1a, 0xd5, 0x25, 0x8f, 0x60, 0x2d, 0x56, 0xc9, 0xb2, 0xa7, 0x25, 0x95, 0x60, 0xc7, 0x2c, 0x69,
    0x5c, 0xdc, 0xd6, 0xfd, 0x31, 0xe2, 0xa4, 0xc0, 0xfe, 0x53, 0x6e, 0xcd, 0xd3, 0x36, 0x69, 0x21,
};
static const uint8_t base_y[32] = {  // 4 / 5
    0x58, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
    0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
};
static const uint8_t base_order[32] = {  // L = 2^252 + 27742317777372353535851937790883648493
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10,
};

// Field

static void fe_copy(fe_t r, const fe_t a) {
    for (uint32_t i = 0; i < LIMBS; i++) {
        r[i] = a[i];
    }
}

static void fe_small(fe_t r, uint32_t value) {
    for (uint32_t i = 1; i < LIMBS; i++) {
        r[i] = 0;
    }
    r[0] = value;
}

static void fe_add(fe_t r, const fe_t a, const fe_t b) {
    for (uint32_t i = 0; i < LIMBS; i++) {
        r[i] = a[i] + b[i];
    }
}

static void fe_subtract(fe_t r, const fe_t a, const fe_t b) {
    for (uint32_t i = 0; i < LIMBS; i++) {
        r[i] = a[i] - b[i];
    }
}

typedef void product_function(uint32_t *r, const uint32_t *a, const uint32_t *b);

// Columns of products, without carries: r[k] = sum a[i] b[k - i], 9 from 5 x 5 limbs.
static void product5(uint32_t *r, const uint32_t *a, const uint32_t *b) {
    r[0] = a[0] * b[0];
    r[1] = a[0] * b[1] + a[1] * b[0];
    r[2] = a[0] * b[2] + a[1] * b[1] + a[2] * b[0];
    r[3] = a[0] * b[3] + a[1] * b[2] + a[2] * b[1] + a[3] * b[0];
    r[4] = a[0] * b[4] + a[1] * b[3] + a[2] * b[2] + a[3] * b[1] + a[4] * b[0];
    r[5] = a[1] * b[4] + a[2] * b[3] + a[3] * b[2] + a[4] * b[1];
    r[6] = a[2] * b[4] + a[3] * b[3] + a[4] * b[2];
    r[7] = a[3] * b[4] + a[4] * b[3];
    r[8] = a[4] * b[4];
}

// The same from three products of halves (Karatsuba), of at most LIMBS / 2 limbs.
static inline __attribute__((always_inline)) void karatsuba(
    uint32_t *r, const uint32_t *a, const uint32_t *b, uint32_t half, product_function *product) {
    uint32_t sum_a[LIMBS / 2], sum_b[LIMBS / 2], middle[LIMBS - 1];
    for (uint32_t i = 0; i < half; i++) {
        sum_a[i] = a[i] + a[half + i];
        sum_b[i] = b[i] + b[half + i];
    }
    product(r, a, b);
    r[2 * half - 1] = 0;
    product(r + 2 * half, a + half, b + half);
    product(middle, sum_a, sum_b);
    for (uint32_t i = 0; i < 2 * half - 1; i++) {
        middle[i] -= r[i] + r[2 * half + i];
    }
    for (uint32_t i = 0; i < 2 * half - 1; i++) {
        r[half + i] += middle[i];
    }
}

static void product10(uint32_t *r, const uint32_t *a, const uint32_t *b) {
    karatsuba(r, a, b, 5, product5);
}

// Makes `count` columns limbs of 13 bits, |limb| <= 2^12; returns the carry, whose weight is that of the column behind them.
static uint32_t carried(uint32_t *r, uint32_t count) {
    int32_t carry = 0;
    for (uint32_t i = 0; i < count; i++) {
        int32_t v = (int32_t)r[i] + carry;
        carry = (v + (1 << (LIMB_BITS - 1))) >> LIMB_BITS;
        r[i] = (uint32_t)v - ((uint32_t)carry << LIMB_BITS);
    }
    return (uint32_t)carry;
}

// r = a b; may be one of them. A limb of 2^260 is 19 * 2^5 = 608 of 1.
static void fe_multiply(fe_t r, const fe_t a, const fe_t b) {
    uint32_t columns[COLUMNS];
    karatsuba(columns, a, b, LIMBS / 2, product10);
    columns[COLUMNS - 1] = 0;
    columns[COLUMNS - 1] = carried(columns + LIMBS, LIMBS - 1);
    for (uint32_t i = 0; i < LIMBS; i++) {
        r[i] = columns[i] + 608 * columns[LIMBS + i];
    }
    r[0] += 608 * carried(r, LIMBS);
    r[2] += carried(r, 2);
}

// r = a^(2^252 - 3), which is a^((p - 5) / 8). From a^(2^k - 1) come those of 2 k and k + 1, along the bits of 250.
static void fe_power(fe_t r, const fe_t a) {
    fe_t x, before;
    fe_copy(x, a);
    uint32_t k = 1;
    for (uint32_t rest = 250 & 127, bit = 64; bit; bit >>= 1) {
        fe_copy(before, x);
        for (uint32_t i = 0; i < k; i++) {
            fe_multiply(x, x, x);
        }
        fe_multiply(x, x, before);
        k *= 2;
        if (rest & bit) {
            fe_multiply(x, x, x);
            fe_multiply(x, x, a);
            k++;
        }
    }
    fe_multiply(x, x, x);
    fe_multiply(x, x, x);
    fe_multiply(r, x, a);
}

// r = 1 / a = a^(p - 2) = (a^(2^252 - 3))^8 a^3
static void fe_invert(fe_t r, const fe_t a) {
    fe_t x;
    fe_power(x, a);
    for (uint32_t i = 0; i < 3; i++) {
        fe_multiply(x, x, x);
    }
    for (uint32_t i = 0; i < 3; i++) {
        fe_multiply(x, x, a);
    }
    fe_copy(r, x);
}

// The low 255 bits of 32 bytes.
static void fe_decode(fe_t r, const uint8_t bytes[32]) {
    uint32_t bits = 0, count = 0, limb = 0;
    for (uint32_t i = 0; i < 32; i++) {
        bits |= (uint32_t)bytes[i] << count;
        count += 8;
        if (count >= LIMB_BITS) {
            r[limb++] = bits & LIMB_MASK;
            bits >>= LIMB_BITS;
            count -= LIMB_BITS;
        }
    }
    r[limb] = bits & 255;
}

// The value in [0, p), of an element of any sum of terms that may be multiplied.
static void fe_encode(uint8_t bytes[32], const fe_t a) {
    fe_t v;
    fe_copy(v, a);
    int32_t carry = 0;  // of 2^255, which are 19; after three passes none, and v in [0, 2^255)
    for (uint32_t pass = 0; pass < 5; pass++) {
        carry = 19 * (carry + (pass == 3) - (pass == 4));  // v + 19 has a carry if v >= p; if not, 19 are taken away again
        for (uint32_t i = 0; i < LIMBS; i++) {
            uint32_t width = i < LIMBS - 1 ? LIMB_BITS : 8;
            carry += (int32_t)v[i];
            v[i] = (uint32_t)carry & ((1u << width) - 1);
            carry >>= width;
        }
    }
    uint32_t bits = 0, count = 0, limb = 0;
    for (uint32_t i = 0; i < 32; i++) {
        if (count < 8) {
            bits |= v[limb++] << count;
            count += LIMB_BITS;
        }
        bytes[i] = (uint8_t)bits;
        bits >>= 8;
        count -= 8;
    }
}

static bool equal_bytes(const uint8_t a[32], const uint8_t b[32]) {
    uint32_t differ = 0;
    for (uint32_t i = 0; i < 32; i++) {
        differ |= a[i] ^ b[i];
    }
    return differ == 0;
}

static bool fe_equal(const fe_t a, const fe_t b) {
    uint8_t bytes_a[32], bytes_b[32];
    fe_encode(bytes_a, a);
    fe_encode(bytes_b, b);
    return equal_bytes(bytes_a, bytes_b);
}

// Points

typedef struct {
    fe_t x, y, z;  // (x / z, y / z)
    fe_t e, h;  // e h / z is the product of the two coordinates, which only additions need
} point_t;

typedef struct {
    fe_t difference, sum, product;  // of an affine point: (y - x) / 2, (y + x) / 2, d x y
} addend_t;

static void point_begin(point_t *p, const fe_t x, const fe_t y) {
    fe_copy(p->x, x);
    fe_copy(p->e, x);
    fe_copy(p->y, y);
    fe_copy(p->h, y);
    fe_small(p->z, 1);
}

static void addend_begin(addend_t *q, const fe_t x, const fe_t y) {
    fe_t half, d;
    fe_small(half, -9u);
    half[LIMBS - 1] = 1 << 7;  // 2^254 - 9
    fe_decode(d, curve_d);
    fe_subtract(q->difference, y, x);
    fe_multiply(q->difference, q->difference, half);
    fe_add(q->sum, y, x);
    fe_multiply(q->sum, q->sum, half);
    fe_multiply(q->product, x, y);
    fe_multiply(q->product, q->product, d);
}

// The end of both operations, e and h already in p.
static void point_end(point_t *p, const fe_t f, const fe_t g) {
    fe_multiply(p->x, p->e, f);
    fe_multiply(p->y, p->h, g);
    fe_multiply(p->z, f, g);
}

static void point_double(point_t *p) {
    fe_t f, g, b;
    fe_add(p->e, p->x, p->x);
    fe_multiply(p->e, p->e, p->y);  // e = 2 x y: one term
    fe_multiply(f, p->x, p->x);
    fe_multiply(b, p->y, p->y);
    fe_subtract(g, b, f);  // g = y^2 - x^2: two
    fe_subtract(p->h, g, b);
    fe_subtract(p->h, p->h, b);  // h = -x^2 - y^2: two
    fe_add(f, p->z, p->z);
    fe_multiply(f, f, p->z);
    fe_subtract(f, g, f);  // f = g - 2 z^2: three
    point_end(p, f, g);
}

// p + q, or p - q
static void point_add(point_t *p, const addend_t *q, bool minus) {
    fe_t a, c;
    fe_multiply(c, p->e, p->h);
    fe_multiply(c, c, q->product);
    fe_subtract(a, p->y, p->x);
    fe_multiply(a, a, minus ? q->sum : q->difference);
    fe_add(p->h, p->y, p->x);
    fe_multiply(p->h, p->h, minus ? q->difference : q->sum);
    fe_subtract(p->e, p->h, a);
    fe_add(p->h, p->h, a);
    fe_subtract(a, p->z, c);
    fe_add(c, p->z, c);
    if (minus) {
        point_end(p, c, a);
    } else {
        point_end(p, a, c);
    }
}

static void point_encode(uint8_t bytes[32], const fe_t x, const fe_t y) {
    uint8_t bytes_x[32];
    fe_encode(bytes_x, x);
    fe_encode(bytes, y);
    bytes[31] |= (uint8_t)(bytes_x[0] << 7);
}

// Affine coordinates; false if the bytes are no point's encoding. x = sqrt(u / v), u = y^2 - 1, v = d y^2 + 1.
static bool point_decode(fe_t x, fe_t y, const uint8_t bytes[32]) {
    fe_t u, v, t;
    uint8_t encoded[32];
    fe_decode(y, bytes);
    fe_multiply(u, y, y);
    fe_decode(v, curve_d);
    fe_multiply(v, v, u);
    u[0] -= 1;
    v[0] += 1;
    fe_multiply(t, v, v);
    fe_multiply(t, t, v);
    fe_multiply(x, t, u);  // u v^3
    fe_multiply(t, t, x);
    fe_multiply(t, t, v);  // u v^7
    fe_power(t, t);
    fe_multiply(x, x, t);  // if u / v is a square, a root of it or of its negative
    for (uint32_t tries = 0;; tries++) {
        fe_multiply(t, x, x);
        fe_multiply(t, t, v);
        if (fe_equal(t, u)) {
            break;
        }
        if (tries) {
            return false;
        }
        fe_decode(t, root_of_minus_1);
        fe_multiply(x, x, t);
    }
    point_encode(encoded, x, y);
    if ((encoded[31] ^ bytes[31]) & 128) {
        fe_small(t, 0);
        fe_subtract(x, t, x);
        point_encode(encoded, x, y);
    }
    return equal_bytes(encoded, bytes);
}

static bool is_small_order(const fe_t x, const fe_t y) {
    point_t p;
    fe_t zero;
    point_begin(&p, x, y);
    for (uint32_t i = 0; i < 3; i++) {
        point_double(&p);
    }
    fe_small(zero, 0);
    return fe_equal(p.x, zero);  // of (0, 1) and (0, -1) only the first is 8 times a point
}

// Scalars, in 33 bytes

enum { SCALAR_BYTES = 33 };

// r - n L; returns what there is to borrow, < 0 if the result is negative.
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

// r = digest mod L, byte by byte from the last. 256 r + byte < 2^261 lacks less than one L after the multiple its upper bits tell.
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

// Digit i, -1, 0 or 1, of the non-adjacent form of a: the bits of 3 a less those of a, halved.
static int32_t scalar_digit(const uint8_t *a, const uint8_t *triple, uint32_t i) {
    i++;
    return (triple[i / 8] >> i % 8 & 1) - (a[i / 8] >> i % 8 & 1);
}

// Signatures

// s B - k A, encoded
static void combine(uint8_t bytes[32], const uint8_t *s, const uint8_t *k, const fe_t key_x, const fe_t key_y) {
    uint8_t triple_s[SCALAR_BYTES], triple_k[SCALAR_BYTES];
    addend_t base, key;
    point_t p;
    scalar_triple(triple_s, s);
    scalar_triple(triple_k, k);
    addend_begin(&key, key_x, key_y);
    fe_decode(p.x, base_x);
    fe_decode(p.y, base_y);
    addend_begin(&base, p.x, p.y);
    fe_small(p.x, 0);
    fe_small(p.y, 1);
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
    fe_invert(p.z, p.z);
    fe_multiply(p.x, p.x, p.z);
    fe_multiply(p.y, p.y, p.z);
    point_encode(bytes, p.x, p.y);
}

bool edgelora_ed25519_verify(const uint8_t key[32], const uint8_t *message, size_t size, const uint8_t signature[64]) {
    uint8_t s[SCALAR_BYTES], k[SCALAR_BYTES], digest[64], encoded[32];
    fe_t x, y;
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
    return equal_bytes(encoded, signature);
}
