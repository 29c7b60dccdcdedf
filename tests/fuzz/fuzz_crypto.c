// Fuzzes crypto: hashes, tags, streams and random numbers must not depend on how the input is
// split. Arbitrary signatures and points are accepted or refused; a changed signature is never
// accepted.
// SPDX-License-Identifier: MIT

#include "crypto.h"
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hashes(const uint8_t *data, size_t size, size_t piece) {
    uint8_t whole[64], parts[64];
    edgelora_sha512_t s;
    edgelora_sha512_begin(&s);
    edgelora_sha512_add(&s, data, size);
    edgelora_sha512_end(&s, whole);
    edgelora_sha512_begin(&s);
    for (size_t at = 0; at < size; at += piece) {
        uint8_t *copy = heap_copy(data + at, smaller((uint32_t)(size - at), (uint32_t)piece));
        edgelora_sha512_add(&s, copy, smaller((uint32_t)(size - at), (uint32_t)piece));
        free(copy);
    }
    edgelora_sha512_end(&s, parts);
    CHECK(edgelora_equal(whole, parts, 64));
}

static void tags(const uint8_t *data, size_t size, size_t key) {
    uint8_t whole[64], parts[64];
    edgelora_hmac_t h;
    edgelora_hmac_begin(&h, data, key);
    edgelora_hmac_add(&h, data + key, size - key);
    edgelora_hmac_end(&h, whole);
    edgelora_hmac_begin(&h, data, key);
    edgelora_hmac_add(&h, data + key, (size - key) / 2);
    edgelora_hmac_add(&h, data + key + (size - key) / 2, size - key - (size - key) / 2);
    edgelora_hmac_end(&h, parts);
    CHECK(edgelora_equal(whole, parts, 64));
}

// Subtracting the stream restores the words; the stream is the sequence of its blocks.
static void streams(const uint8_t *data, size_t size) {
    uint8_t *copy = heap_copy(data, (uint32_t)size);
    uint32_t words[40] = {1, 2, 3}, block[16];
    edgelora_chacha20_t one, two;
    edgelora_chacha20_begin(&one, data, data + 32, data[0] == 255 ? UINT32_MAX : data[44]);
    two = one;
    edgelora_chacha20_add(&one, words, data[1] % 41u);
    edgelora_chacha20_subtract(&two, words, data[1] % 41u);
    CHECK(words[0] == 1 && words[1] == 2 && words[2] == 3 && !words[39]);
    CHECK(!memcmp(&one, &two, sizeof one));
    edgelora_chacha20_block(&two, block);
    edgelora_chacha20_xor(&one, copy, size);
    for (size_t i = 0; i < 64 && i < size; ++i) {
        CHECK((copy[i] ^ data[i]) == ((const uint8_t *)block)[i]);
    }
    free(copy);
}

static void numbers(const uint8_t *data) {
    edgelora_random_t r, other;
    uint8_t out[70], again[70];
    edgelora_random_seed(&r, data);
    edgelora_random_seed(&other, data);
    edgelora_random_bytes(&r, out, data[33] % 71u);
    edgelora_random_bytes(&other, again, data[33] % 71u);
    CHECK(edgelora_equal(out, again, data[33] % 71u));
    for (int i = 0; i < 5; ++i) {
        CHECK(edgelora_random_u64(&r) == edgelora_random_u64(&other));
    }
}

// An arbitrary key, signature and message.
static void signatures(const uint8_t *data, size_t size) {
    bool taken = edgelora_ed25519_verify(data, data + 96, size - 96, data + 32);
    uint8_t changed[64];
    memcpy(changed, data + 32, 64);
    changed[data[0] & 63] ^= 1;
    CHECK(!taken || !edgelora_ed25519_verify(data, data + 96, size - 96, changed));
}

static void points(const uint8_t *data) {
    uint8_t a[32], b[32], one[32], other[32];
    edgelora_x25519_public(a, data);
    edgelora_x25519_public(b, data + 32);
    bool worth = edgelora_x25519(one, data, b), same = edgelora_x25519(other, data + 32, a);
    CHECK(worth && same && edgelora_equal(one, other, 32));
    edgelora_x25519(one, data, data + 32); // any point
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 100) {
        return 0;
    }
    hashes(data, size, 1 + data[2] % 200u);
    tags(data, size, data[3] % 100u);
    streams(data, size);
    numbers(data);
    if (data[4] < 4) { // these take a hundred times as long
        signatures(data, size);
        points(data);
    }
    return 0;
}
