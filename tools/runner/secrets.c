// Calls of the cryptography.
// SPDX-License-Identifier: MIT

#include "calls.h"

#include <stddef.h>

#include "crypto.h"
#include "field.h"

// In the order of cores.py
enum { X25519, PUBLIC, XOR, ADD, SUBTRACT, HMAC, RANDOM, VERIFY, FIELD };

static void copy(uint8_t *to, const uint8_t *from, uint32_t size) {
    __builtin_memcpy(to, from, size);
}

// r: what `with` says of a and b, as bytes of the result in its range
static void field(uint8_t *out, const uint8_t *data, uint32_t size) {
    edgelora_fe_t a, b, r;
    copy((uint8_t *)a, data + 1, 32);
    copy((uint8_t *)b, data + 1 + (size > 33 ? 32 : 0), 32);
    switch (data[0]) {
        case 0:
            edgelora_fe_add(r, a, b);
            break;
        case 1:
            edgelora_fe_subtract(r, a, b);
            break;
        case 2:
            edgelora_fe_multiply(r, a, b);
            break;
        case 3:
            edgelora_fe_square(r, a);
            break;
        case 4:
            edgelora_fe_multiply_a24(r, a);
            break;
        case 5:
            edgelora_fe_invert(r, a);
            break;
        case 6:
            edgelora_fe_multiply(a, a, b);
            edgelora_fe_copy(r, a);
            break;
        case 7:
            edgelora_fe_multiply(b, a, b);
            edgelora_fe_copy(r, b);
            break;
        case 8:
            edgelora_fe_square(a, a);
            edgelora_fe_copy(r, a);
            break;
        default:
            edgelora_fe_decode(r, data + 1);
            break;
    }
    edgelora_fe_encode(out, r);
}

// Streams: key[32], nonce[12], u32 counter, data of which they take `words` or bytes.
static uint32_t stream(uint32_t what, const uint8_t *data, uint32_t size, uint8_t *out) {
    edgelora_chacha20_t c;
    uint32_t counter, words[512];
    copy((uint8_t *)&counter, data + 44, 4);
    data += 48;
    size -= 48;
    edgelora_chacha20_begin(&c, data - 48, data - 16, counter);
    if (what == XOR) {
        copy(out, data, size);
        edgelora_chacha20_xor(&c, out, size);
        return size;
    }
    copy((uint8_t *)words, data, size);
    (what == ADD ? edgelora_chacha20_add : edgelora_chacha20_subtract)(&c, words, size / 4);
    copy(out, (uint8_t *)words, size);
    return size;
}

// key, in u32 size; data in parts of 1, 2, 3, ... bytes
static void authenticate(const uint8_t *data, uint32_t size, uint8_t *out) {
    uint32_t key;
    edgelora_hmac_t h;
    copy((uint8_t *)&key, data, 4);
    edgelora_hmac_begin(&h, data + 4, key);
    data += 4 + key;
    size -= 4 + key;
    for (uint32_t part = 1; size; part++) {
        uint32_t n = part < size ? part : size;
        edgelora_hmac_add(&h, data, n);
        data += n;
        size -= n;
    }
    edgelora_hmac_end(&h, out);
}

// seed[32], u8 sizes of requests, 0: of one number of 64 bits
static uint32_t draw(const uint8_t *data, uint32_t size, uint8_t *out) {
    edgelora_random_t r;
    uint32_t at = 0;
    edgelora_random_seed(&r, data);
    for (uint32_t i = 32; i < size; i++) {
        uint64_t number = data[i] ? 0 : edgelora_random_u64(&r);
        if (data[i]) {
            edgelora_random_bytes(&r, out + at, data[i]);
        } else {
            copy(out + at, (uint8_t *)&number, 8);
        }
        at += data[i] ? data[i] : 8;
    }
    return at;
}

uint32_t crypto_call(uint32_t what, const uint8_t *data, uint32_t size, uint8_t *out) {
    switch (what) {
        case X25519:
            out[32] = edgelora_x25519(out, data, data + 32);
            return 33;
        case PUBLIC:
            edgelora_x25519_public(out, data);
            return 32;
        case HMAC:
            authenticate(data, size, out);
            return 64;
        case RANDOM:
            return draw(data, size, out);
        case VERIFY:
            out[0] = edgelora_ed25519_verify(data, data + 96, size - 96, data + 32);
            return 1;
        case FIELD:
            field(out, data, size);
            return 32;
        default:
            return stream(what, data, size, out);
    }
}
