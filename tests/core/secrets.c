// Calls whose secrets are marked as uninitialized for valgrind, which reports every branch and
// address that depends on them.
// SPDX-License-Identifier: MIT
//
// Standard input: calls, each u32 kind, u32 what, u32 size, data, and a byte for each byte of data:
// 1 if it is secret. Standard output: u32 size of each answer, and its bytes.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"
#include "declassify.h"
#include "fleet/internal.h"

enum { CRYPTO, MEMBER, CLIP, SHARE, NOISE, LEAK }; // in the order of test_secrets.py
enum { MOST = 65536 };

static const uint8_t table[256] = {1};

static uint32_t call(
    uint32_t kind, uint32_t what, const uint8_t *data, uint32_t size, uint8_t *out) {
    const int16_t *masters = (const int16_t *)(const void *)data;
    switch (kind) {
        case CRYPTO:
            return crypto_call(what, data, size, out);
        case MEMBER:
            return member_call(what, data, size, out);
        case CLIP: // s16 before[n], after[n]; what: the clip
            edgelora_fleet_update(
                masters, masters + size / 4, size / 4, what, (int32_t *)(void *)out);
            return size;
        case SHARE: // key[32], secret[64]; what: x and 256 times the threshold
            edgelora_share(data, what >> 8, what & 255, data + 32, out);
            return 64;
        case NOISE: // key[32]; what: sigma
            memset(out, 0, 400);
            edgelora_fleet_noise(data, what, (int32_t *)(void *)out, 100);
            return 400;
        default: // for the test to detect: 0: a branch, else an address
            out[0] = what ? table[data[0]] : 7;
            if (!what && data[0] & 1) {
                puts("odd");
            }
            return 1;
    }
}

static void *room(size_t size) {
    void *made = malloc(size + 8);
    if (!made) {
        exit(2);
    }
    return made;
}

int main(void) {
    uint32_t head[3];
    uint8_t *out = room(MOST * 4);
    while (fread(head, sizeof head, 1, stdin) == 1) {
        uint8_t *data = room(head[2]), *secret = room(head[2]);
        if (fread(data, 1, head[2], stdin) != head[2] ||
            fread(secret, 1, head[2], stdin) != head[2]) {
            return 2;
        }
        for (uint32_t i = 0; i < head[2]; ++i) {
            if (secret[i]) {
                VALGRIND_MAKE_MEM_UNDEFINED(data + i, 1);
            }
        }
        uint32_t size = call(head[0], head[1], data, head[2], out);
        VALGRIND_MAKE_MEM_DEFINED(&size, sizeof size);
        VALGRIND_MAKE_MEM_DEFINED(out, MOST * 4);
        fwrite(&size, sizeof size, 1, stdout);
        fwrite(out, 1, size, stdout);
        free(data);
        free(secret);
    }
    return 0;
}
