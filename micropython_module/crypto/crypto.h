// Ed25519 signatures (RFC 8032), verification only. SPDX-License-Identifier: MIT
//
// All that is read is public, so time and memory access depend on the data. No heap, no globals, no recursion.

#ifndef EDGELORA_CRYPTO_H
#define EDGELORA_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// True if `signature` (R, S) of `size` bytes of `message` is the key's. What is accepted:
// - the key A: a point of the curve in its one canonical encoding (y < p, no sign where x = 0), whose order is not small (8 A is
//   not the neutral element);
// - S < L, the order of the base point;
// - R: the canonical encoding of S B - k A with k = SHA-512(R, A, message) mod L, byte for byte. This is the equation without
//   cofactor: components of small order in A or R are not multiplied away.
bool edgelora_ed25519_verify(const uint8_t key[32], const uint8_t *message, size_t size, const uint8_t signature[64]);

// SHA-512 (FIPS 180-4) of bytes as they come: begin, add, end.
typedef struct {
    uint64_t state[8];
    uint64_t block[16];  // what was added since the last whole block, packed from the first word on
    size_t count;  // bytes added
} edgelora_sha512_t;

void edgelora_sha512_begin(edgelora_sha512_t *s);
void edgelora_sha512_add(edgelora_sha512_t *s, const uint8_t *data, size_t size);
void edgelora_sha512_end(edgelora_sha512_t *s, uint8_t digest[64]);

#endif
