// A fleet's member under the sanitizers, with messages from anyone who can reach it and from a
// malicious server: every message of a round mutated, as it is and with a corrected tag. Buffers
// have their exact size on the heap.
// SPDX-License-Identifier: MIT
//
// Usage: fuzz_fleet ROUND SEED COUNT. ROUND: secret[32], server's public key[32], fleet[8],
// seed[32], u16 index, u16 boards, u32 roster, public key[32] of each board, then the six messages
// to the board, each after its u32 size. Prints how many messages were refused, and how many of the
// corrected ones were accepted; a refused message must not change the member.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "fleet/internal.h"

typedef struct {
    const uint8_t *at;
    uint8_t pair[64]; // shared with the server
    uint32_t index, boards, size;
    const uint8_t *keys, *fleet;
} round_t;

static uint64_t drawn;

static uint32_t below(uint32_t count) {
    drawn = drawn * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(drawn >> 33) % count;
}

static void *copy_of(const void *data, size_t size) {
    void *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    return copy;
}

// Completes the steps up to the reply. Ends early if a neighbour is not in the roster.
static void answer(const round_t *r, edgelora_member_t *m) {
    uint16_t near[EDGELORA_FLEET_MAX_NEIGHBOURS];
    uint32_t count = edgelora_member_neighbours(m, near);
    for (uint32_t i = 0; edgelora_member_next(m) == EDGELORA_NEXT_KEYS && i < count; ++i) {
        uint8_t none[32] = {0};
        const uint8_t *key = near[i] < r->boards ? r->keys + 32 * near[i] : none;
        if (edgelora_member_key(m, i, key)) {
            return;
        }
    }
    uint32_t size = edgelora_member_reply_size(m), n = edgelora_member_task(m)->parameters;
    uint8_t *reply = malloc(size);
    if (edgelora_member_next(m) == EDGELORA_NEXT_UPDATE) {
        int16_t *before = malloc(2 * n), *after = malloc(2 * n);
        for (uint32_t i = 0; i < n; ++i) {
            before[i] = (int16_t)below(65536);
            after[i] = (int16_t)below(65536);
        }
        CHECK(!edgelora_member_update(m, before, after, n, reply, size));
        free(before);
        free(after);
    }
    while (edgelora_member_next(m) == EDGELORA_NEXT_WORK && edgelora_member_work(m) >= 0) {
    }
    int32_t written = edgelora_member_reply(m, reply, size);
    CHECK(edgelora_member_next(m) == EDGELORA_NEXT_OVER || written == (int32_t)size);
    free(reply);
}

static size_t mutate(uint8_t **message, size_t size) {
    uint32_t times = 1 + below(3);
    while (times-- && size) {
        uint32_t kind = below(6), at = below((uint32_t)size);
        if (kind == 0) {
            size = at;
        } else if (kind == 1) {
            size_t more = 1 + below(200);
            *message = realloc(*message, size + more);
            memset(*message + size, (int)below(256), more);
            size += more;
        } else if (kind == 2) {
            (*message)[at] = (uint8_t)below(256);
        } else if (kind == 3) {
            (*message)[at] ^= (uint8_t)(1 << below(8));
        } else if (kind == 4) {
            (*message)[at] = below(2) ? 0xFF : 0;
        } else {
            (*message)[below((uint32_t)size)] = (*message)[at];
        }
    }
    *message = realloc(*message, size ? size : 1);
    return size;
}

// Seals a message like the server: correct sizes, index and tag.
static void make_right(const round_t *r, uint8_t *message, size_t size, uint32_t number) {
    if (size < EDGELORA_FLEET_ENVELOPE) {
        return;
    }
    memcpy(message, "ELF1", 4);
    message[5] = 0;
    put_u16(message + 6, r->index);
    if (below(8)) {
        put_u32(message + 8, number);
    }
    put_u32(message + 12, (uint32_t)size - EDGELORA_FLEET_ENVELOPE);
    edgelora_pad_context_t context = {
        r->fleet, u32_at(message + 8), EDGELORA_FLEET_SERVER, r->index};
    edgelora_tag(r->pair, "msg", context, message, size - TAG_BYTES, message + size - TAG_BYTES);
}

int main(int argc, char **argv) {
    CHECK(argc == 4);
    FILE *f = fopen(argv[1], "rb");
    CHECK(f && !fseek(f, 0, SEEK_END));
    long length = ftell(f);
    rewind(f);
    uint8_t *data = malloc((size_t)length);
    CHECK(fread(data, 1, (size_t)length, f) == (size_t)length);
    fclose(f);
    drawn = strtoull(argv[2], NULL, 10);
    uint32_t count = (uint32_t)strtoul(argv[3], NULL, 10), refused = 0, taken = 0;

    round_t r = {
        .fleet = data + 64,
        .index = u16_at(data + 104),
        .boards = u16_at(data + 106),
        .keys = data + 112};
    edgelora_board_t board = {
        .secret = data, .server = data + 32, .fleet = data + 64, .seed = data + 72};
    board.index = (uint16_t)r.index;
    board.roster = u32_at(data + 108);
    CHECK(edgelora_pair_key(r.pair, data, data + 32));
    uint32_t size = edgelora_member_size(19);
    void *memory = malloc(size);
    CHECK(!edgelora_member(memset(memory, 0, size), size));
    CHECK(edgelora_member_begin(memory, edgelora_member_size(0) - 8, &board) ==
        EDGELORA_FLEET_ERR_MEMBER);
    CHECK(!edgelora_member_begin(memory, size, &board));
    edgelora_member_t *m = edgelora_member(memory, size);
    CHECK(m && !edgelora_member(memory, size - 8) && edgelora_member_reply_size(m) == 0);
    CHECK(edgelora_member_work(m) == 0);

    const uint8_t *at = r.keys + 32 * r.boards;
    uint32_t number = u32_at(at + 4 + 8);
    for (uint32_t stage = 0; stage < 6; ++stage) {
        uint32_t right = u32_at(at);
        for (uint32_t i = 0; i < count; ++i) {
            uint8_t *message = copy_of(at + 4, right);
            size_t changed = mutate(&message, right);
            if (i % 2) {
                make_right(&r, message, changed, number);
            }
            if (changed == right && !memcmp(message, at + 4, right)) {
                free(message);
                continue;
            }
            void *other = copy_of(memory, size);
            edgelora_member_t *o = edgelora_member(other, size);
            int32_t status = edgelora_member_receive(o, message, changed);
            free(message);
            if (status == EDGELORA_FLEET_OK) {
                CHECK(i % 2);
                ++taken;
                answer(&r, o);
            } else {
                ++refused;
                CHECK(!memcmp(other, memory, size));
            }
            free(other);
        }
        uint8_t *message = copy_of(at + 4, right);
        CHECK(edgelora_member_receive(m, message, right) == EDGELORA_FLEET_OK);
        free(message);
        answer(&r, m);
        at += 4 + right;
    }
    CHECK(edgelora_member_next(m) == EDGELORA_NEXT_OVER && at == data + length);
    printf("%u %u\n", (unsigned)refused, (unsigned)taken);
    free(memory);
    free(data);
    return 0;
}
