// Signatures, shared secrets, streams, authentication, random numbers.
// SPDX-License-Identifier: MIT
//
// No heap, no globals, no recursion. Everything except signature verification, which only handles
// public data, is constant time: no branch and no address depends on a secret. (Cores whose
// multiplication time depends on the operands, like the Cortex-M3, still leak.)

#ifndef EDGELORA_CRYPTO_H
#define EDGELORA_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// True if `signature` (R, S) of `message`, `size` bytes, is valid for the key. Accepts only:
// - the key A: a point of the curve in its one canonical encoding (y < p, no sign where x = 0),
// whose order is not small (8 A is
//   not the neutral element);
// - S < L, the order of the base point;
// - R: the canonical encoding of S B - k A with k = SHA-512(R, A, message) mod L, byte for byte.
// This is the equation without
//   cofactor: components of small order in A or R are not multiplied away.
bool edgelora_ed25519_verify(
    const uint8_t key[32], const uint8_t *message, size_t size, const uint8_t signature[64]);

// Incremental SHA-512 (FIPS 180-4): begin, add, end.
typedef struct {
    uint64_t state[8];
    uint64_t block[16]; // bytes since the last whole block, packed from the first word on
    size_t count; // bytes added
} edgelora_sha512_t;

void edgelora_sha512_begin(edgelora_sha512_t *s);
void edgelora_sha512_add(edgelora_sha512_t *s, const uint8_t *data, size_t size);
void edgelora_sha512_end(edgelora_sha512_t *s, uint8_t digest[64]);

#ifdef __ARM_ARCH_6M__
#define EDGELORA_SHA512_M0PLUS // the next two functions are in sha512_m0plus.c
#endif

// Eight rounds on a to h in v[0..7], with their words w[8] and constants k[8]. Each round writes
// its a below the previous one, so v[-8..-1] are a to h afterwards.
void edgelora_sha512_rounds(uint64_t *v, const uint64_t *w, const uint64_t *k);
void edgelora_sha512_schedule(uint64_t *w); // w[16..31] from w[0..15]

// Incremental HMAC-SHA-512 (RFC 2104, RFC 4231), with a key of any size.
typedef struct {
    edgelora_sha512_t inner;
    uint64_t outer[8]; // state after the outer hash's first block
} edgelora_hmac_t;

void edgelora_hmac_begin(edgelora_hmac_t *h, const uint8_t *key, size_t size);
void edgelora_hmac_add(edgelora_hmac_t *h, const uint8_t *data, size_t size);
void edgelora_hmac_end(edgelora_hmac_t *h, uint8_t tag[64]); // wipes the key from h

// X25519 (RFC 7748): out = the u-coordinate of scalar times the point at u. As in the RFC, scalar
// can be any 32 bytes, and u any value; its top bit is ignored. False if out is all zero, as for
// points of small order: then there is no shared secret. out may be scalar or u. Stack: about 700
// bytes.
bool edgelora_x25519(uint8_t out[32], const uint8_t scalar[32], const uint8_t u[32]);
void edgelora_x25519_public(uint8_t out[32], const uint8_t scalar[32]); // for the base point, u = 9

#ifdef __ARM_ARCH_6M__
#define EDGELORA_CHACHA20_M0PLUS // rounds of chacha20_m0plus.c
#endif

// ChaCha20 (RFC 8439). A block is 16 words; as bytes they are little-endian. The counter wraps
// around after 2^32 blocks.
typedef struct {
    uint32_t state[16]; // constants, key[8], counter, nonce[3]
} edgelora_chacha20_t;

void edgelora_chacha20_begin(
    edgelora_chacha20_t *c, const uint8_t key[32], const uint8_t nonce[12], uint32_t counter);
void edgelora_chacha20_block(edgelora_chacha20_t *c, uint32_t block[16]); // the next block
void edgelora_chacha20_rounds(const uint32_t state[16], uint32_t block[16]); // the block of a state
// Both use the stream from the next block on, and discard the rest of the last block. words: added
// modulo 2^32, in the core's byte order.
void edgelora_chacha20_xor(edgelora_chacha20_t *c, uint8_t *data, size_t size);
void edgelora_chacha20_add(edgelora_chacha20_t *c, uint32_t *words, size_t count);
void edgelora_chacha20_subtract(edgelora_chacha20_t *c, uint32_t *words, size_t count);

// Random numbers by fast key erasure: each request runs ChaCha20 (nonce 0, from block 0); the first
// 32 bytes become the next key, the following ones are the output. So earlier output can't be
// recovered from the state.
typedef struct {
    uint8_t key[32];
    uint64_t pool[4]; // output of a request of 32 bytes
    uint32_t left; // unused words at the end of pool; the others are 0
} edgelora_random_t;

void edgelora_random_seed(edgelora_random_t *r, const uint8_t seed[32]);
void edgelora_random_bytes(
    edgelora_random_t *r, uint8_t *out, size_t size); // one request, up to 2^38 bytes
uint64_t edgelora_random_u64(edgelora_random_t *r); // little-endian, four per request of 32 bytes

// Declares that a value derived from secrets is public from here on, so that code may branch on it.
// It has an effect only in tests/core/test_secrets.py, which runs the code on marked secrets; a
// comment at each use gives the reason.
#ifndef EDGELORA_DECLASSIFY
#define EDGELORA_DECLASSIFY(value) ((void)(value))
#endif

// True if two secrets are equal; its time depends only on `size`.
bool edgelora_equal(const void *a, const void *b, size_t size);

// Overwrites a secret; compilers can't optimize it away.
void edgelora_wipe(void *secret, size_t size);

#ifdef __cplusplus
}
#endif

#endif
