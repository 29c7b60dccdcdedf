// HMAC-SHA-512 (RFC 2104).
// SPDX-License-Identifier: MIT

#include "crypto.h"

enum { HMAC_BLOCK = 128, HMAC_DIGEST = 64, HMAC_INNER = 0x36, HMAC_OUTER = 0x5c };

// Begins a hash with the key's block, each byte XOR pad.
static void add_key(edgelora_sha512_t *s, const uint8_t *key, size_t size, uint8_t pad) {
    edgelora_sha512_begin(s);
    for (size_t i = 0; i < HMAC_BLOCK; i++) {
        uint8_t byte = (i < size ? key[i] : 0) ^ pad;
        edgelora_sha512_add(s, &byte, 1);
    }
}

void edgelora_hmac_begin(edgelora_hmac_t *h, const uint8_t *key, size_t size) {
    uint8_t digest[HMAC_DIGEST];
    if (size > HMAC_BLOCK) {
        edgelora_sha512_begin(&h->inner);
        edgelora_sha512_add(&h->inner, key, size);
        edgelora_sha512_end(&h->inner, digest);
        key = digest;
        size = HMAC_DIGEST;
    }
    add_key(&h->inner, key, size, HMAC_OUTER);
    for (uint32_t i = 0; i < 8; i++) {
        h->outer[i] = h->inner.state[i];
    }
    add_key(&h->inner, key, size, HMAC_INNER);
    edgelora_wipe(digest, sizeof(digest));
}

void edgelora_hmac_add(edgelora_hmac_t *h, const uint8_t *data, size_t size) {
    edgelora_sha512_add(&h->inner, data, size);
}

void edgelora_hmac_end(edgelora_hmac_t *h, uint8_t tag[64]) {
    edgelora_sha512_end(&h->inner, tag);
    for (uint32_t i = 0; i < 8; i++) {
        h->inner.state[i] = h->outer[i];
    }
    h->inner.count = HMAC_BLOCK;
    edgelora_sha512_add(&h->inner, tag, HMAC_DIGEST);
    edgelora_sha512_end(&h->inner, tag);
    edgelora_wipe(h, sizeof(*h));
}
