// A fleet's member against a server and neighbours that know every key: messages in any order and
// rounds, valid or flawed, with valid or invalid seals.
// SPDX-License-Identifier: MIT
//
// X25519 is replaced by a fast commutative stand-in, since the real one would take most of the
// time; tests/core/test_cores.py has a round with the real one. A refused message must not change
// the member.
// The program: 16 bytes of the board's settings, then commands of 8 bytes.

#include "fleet/internal.h"
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    BOARDS = 12,
    HEAD = 16,
    COMMAND = 8,
    MAX_COMMANDS = 40,
    MAX_VALUES = 70,
    MAX_MESSAGE = 4096
};
enum {
    BEGIN,
    TASK,
    COHORT,
    PEERS,
    INPUT,
    SURVIVORS,
    UNMASK,
    RAW,
    KEY,
    WORK,
    UPDATE,
    REPLY,
    ANSWER,
    COMMANDS
};

// ---- a group: numbers modulo 2^61 - 1

static uint64_t product(uint64_t a, uint64_t b) {
    unsigned __int128 p = (unsigned __int128)a * b;
    uint64_t sum = (uint64_t)(p & ((1ull << 61) - 1)) + (uint64_t)(p >> 61);
    return sum >= (1ull << 61) - 1 ? sum - ((1ull << 61) - 1) : sum;
}

static uint64_t number(const uint8_t *k) {
    uint64_t v;
    memcpy(&v, k, 8);
    return v & ((1ull << 61) - 1);
}

bool edgelora_x25519(uint8_t out[32], const uint8_t scalar[32], const uint8_t u[32]) {
    uint64_t v = product(number(scalar) | 1, number(u));
    memset(out, 0, 32);
    memcpy(out, &v, 8);
    return v != 0;
}

void edgelora_x25519_public(uint8_t out[32], const uint8_t scalar[32]) {
    const uint8_t base[32] = {9};
    edgelora_x25519(out, scalar, base);
}

// ---- the world around a member

typedef struct {
    edgelora_member_t *m;
    void *before;
    uint32_t size, index, round;
    uint8_t server[64]; // shared key with the server
    uint8_t lasting[BOARDS][64]; // long-term keys shared with each board
    uint8_t pairs[BOARDS][64]; // the same, bound to the round; from PEERS on, to mask keys
    uint8_t mask_key[32]; // of the member, from its reply to COHORT
    uint8_t body[TASK_BYTES]; // of the last accepted task
    uint8_t cohort[2 + 2 * BOARDS]; // body of the last accepted COHORT
    uint32_t cohort_size;
    uint8_t context[32], seen[32]; // hash of the two above; hash of SURVIVORS
    bool listed[BOARDS]; // in PEERS
    uint8_t *reply;
    uint32_t reply_size;
    uint32_t near_count; // number of others in the cohort
} world_t;

static const uint8_t FLEET[8] = "a fleet";

static void secret_of(uint32_t i, uint8_t out[32]) {
    memset(out, (int)(i * 37 + 11), 32);
}

static void public_of(uint32_t i, uint8_t out[32]) {
    uint8_t secret[32];
    secret_of(i, secret);
    edgelora_x25519_public(out, secret);
}

static void begin(world_t *w, const uint8_t *p) {
    uint8_t secret[32], server[32], seed[32], key[32];
    w->index = p[0] % BOARDS;
    secret_of(w->index, secret);
    public_of(EDGELORA_FLEET_SERVER, server);
    if (p[1] == 255) {
        memset(server, 0, 32);
    }
    memset(seed, p[2], 32);
    edgelora_board_t board = {
        .secret = secret,
        .server = server,
        .fleet = FLEET,
        .seed = seed,
        .round = p[3] & 1,
        .roster = 7,
        .index = (uint16_t)(p[1] == 254 ? EDGELORA_FLEET_SERVER : w->index)};
    board.policy = (edgelora_policy_t){
        .least_survivors = p[4] & 3,
        .least_z = p[5] & 63,
        .least_cohort = p[12] & 7,
        .most_cohort = p[12] & 8 ? p[12] >> 4 : 0,
        .colluders = p[13] & 3,
        .survivors_percent = p[14] & 63,
        .masks = (p[8] & 7) == 1,
        .budget = p[9] & 3 ? 0 : p[9] * 10000u};
    board.spent = p[15] == 255 ? UINT64_MAX : p[15];
    w->m = 0;
    edgelora_fleet_status_t status = edgelora_member_begin(w->before, w->size, &board);
    CHECK((status == EDGELORA_FLEET_OK) ==
        (w->size >= edgelora_member_size(0) && board.index != EDGELORA_FLEET_SERVER));
    uint8_t *odd = (uint8_t *)w->before + 4;
    CHECK(!edgelora_member(0, w->size) && !edgelora_member(odd, w->size - 4));
    CHECK(edgelora_member_begin(0, w->size, &board) == EDGELORA_FLEET_ERR_MEMBER);
    CHECK(edgelora_member_begin(odd, w->size - 4, &board) == EDGELORA_FLEET_ERR_MEMBER);
    if (status == EDGELORA_FLEET_OK) {
        void *memory = w->before;
        w->m = edgelora_member(memory, w->size);
        CHECK(w->m && edgelora_member_next(w->m) == EDGELORA_NEXT_WORK &&
            !edgelora_member(memory, w->size - 8 * (w->size / 8)));
        CHECK(edgelora_member_round(w->m) == 0 && edgelora_member_reply_size(w->m) == 0);
    }
    edgelora_pair_key(w->server, secret, server);
    for (uint32_t i = 0; i < BOARDS; ++i) {
        public_of(i, key);
        edgelora_pair_key(w->lasting[i], secret, key);
        memcpy(w->pairs[i], w->lasting[i], 64);
    }
}

static edgelora_pad_context_t from(const world_t *w, uint32_t index) {
    return (edgelora_pad_context_t){FLEET, w->round, index, w->index};
}

// Seals the body at message + 16 and sends the message; true if it was accepted.
static bool send(
    world_t *w, uint32_t stage, uint8_t *message, uint32_t body_size, const uint8_t *c) {
    uint32_t size = body_size + EDGELORA_FLEET_ENVELOPE, flaw = c[1];
    if (flaw & 1) {
        message[16 + (c[7] * 5u) % (body_size + 1)] ^= (uint8_t)(1 << (c[6] & 7));
    }
    memcpy(message, "ELF1", 4);
    message[4] = (uint8_t)stage;
    message[5] = 0;
    put_u16(message + 6, w->index);
    put_u32(message + 8,
        (flaw & 14) == 2       ? w->round - 1
            : (flaw & 14) == 4 ? UINT32_MAX
                               : w->round);
    put_u32(message + 12, body_size);
    if ((flaw & 14) == 6) {
        message[c[7] & 15] = c[6];
    }
    edgelora_pad_context_t context = {FLEET, u32_at(message + 8), EDGELORA_FLEET_SERVER, w->index};
    edgelora_tag(w->server, "msg", context, message, size - TAG_BYTES, message + size - TAG_BYTES);
    if ((flaw & 14) == 8) {
        message[(c[7] * 3u) % size] ^= (uint8_t)(1 << (c[6] & 7));
    }
    if ((flaw & 14) == 10) {
        size = c[7] % size;
    }
    uint8_t *exact = heap_copy(message, size), *before = heap_copy(w->m, w->size);
    edgelora_fleet_status_t status = edgelora_member_receive(w->m, exact, size);
    CHECK(status <= EDGELORA_FLEET_AGAIN && *edgelora_fleet_text(status));
    CHECK(status == EDGELORA_FLEET_OK || !memcmp(before, w->m, w->size));
    if (status == EDGELORA_FLEET_OK) { // repeated
        memcpy(exact, message, size);
        CHECK(edgelora_member_receive(w->m, exact, size) == EDGELORA_FLEET_AGAIN);
        CHECK(edgelora_member_stage(w->m) == (edgelora_stage_t)stage || (flaw & 14) == 6);
    }
    free(exact);
    free(before);
    return status == EDGELORA_FLEET_OK;
}

// H(label || a || word, if given || b)[:32]
static void digest(const char *label, const void *a, size_t a_size, const void *b, size_t b_size,
    const uint8_t *word, uint8_t out[32]) {
    uint8_t whole[64];
    edgelora_sha512_t h;
    edgelora_sha512_begin(&h);
    edgelora_sha512_add(&h, (const uint8_t *)label, strlen(label));
    edgelora_sha512_add(&h, a, a_size);
    if (word) {
        edgelora_sha512_add(&h, word, 4);
    }
    edgelora_sha512_add(&h, b, b_size);
    edgelora_sha512_end(&h, whole);
    memcpy(out, whole, 32);
}

static void bind_to_round(world_t *w) {
    uint8_t word[4];
    put_u32(word, edgelora_member_round(w->m));
    digest("edgelora round", w->body, sizeof w->body, w->cohort, w->cohort_size, word, w->context);
    for (uint32_t i = 0; i < BOARDS; ++i) {
        memcpy(w->pairs[i], w->lasting[i], 64);
        edgelora_bind(w->pairs[i], w->context);
    }
}

static void task(world_t *w, const uint8_t *c) {
    static const uint32_t counts[] = {0, 1, 2, 3, 17, 64, 65536, 65537};
    static const uint32_t clips[] = {0, 1, 2000, 65535, 65536, 40, 3, UINT32_MAX};
    static const uint16_t sigmas[] = {0, 1, 3, 37, 400, 65535, 256, 12};
    uint8_t message[MAX_MESSAGE] = {0}, *body = message + 16;
    put_u32(body, c[7] == 255 ? 8 : 7);
    put_u32(body + 44, counts[c[2] & 7]);
    put_u16(body + 48, c[2] != 255);
    put_u32(body + 56, clips[c[3] & 7]);
    put_u16(body + 60, sigmas[(c[3] >> 3) & 7]);
    put_u16(body + 62, (c[4] >> 5) + (c[4] != 255));
    put_u16(body + 64, c[4] & 31);
    put_u16(body + 66, c[5] & 3);
    put_u16(body + 68, c[5] >> 6 == 3 ? 2 : !(c[5] & 32));
    w->round += c[7] & 1;
    if (send(w, EDGELORA_TASK, message, TASK_BYTES + (c[6] == 255), c)) {
        memcpy(w->body, body, sizeof w->body);
        w->near_count = 0;
    }
}

static void cohort(world_t *w, const uint8_t *c) {
    uint8_t message[MAX_MESSAGE] = {0}, *body = message + 16;
    uint32_t wanted = c[2] | (uint32_t)c[3] << 8, count = 0;
    for (uint32_t i = 0; i < BOARDS; ++i) {
        if (wanted >> i & 1 || (i == w->index && c[4] != 255)) {
            put_u16(body + 2 + 2 * count++, i);
        }
    }
    put_u16(body, count + (c[5] == 255));
    if (send(w, EDGELORA_COHORT, message, 2 + 2 * count, c)) {
        w->cohort_size = 2 + 2 * count;
        memcpy(w->cohort, body, w->cohort_size);
        bind_to_round(w);
        uint16_t near[EDGELORA_FLEET_MAX_NEIGHBOURS];
        w->near_count = edgelora_member_neighbours(w->m, near);
        CHECK(w->near_count == count - 1);
        for (uint32_t i = 0; i < w->near_count; ++i) {
            CHECK(near[i] != w->index && (!i || near[i] > near[i - 1]));
        }
    }
}

// Whether the member knows of a board, or the command forces it.
static bool is_told(const world_t *w, uint32_t stage, uint32_t i, const uint8_t *c) {
    if (i == w->index) {
        return c[7] == 255;
    }
    if (stage != EDGELORA_PEERS) {
        return w->listed[i];
    }
    for (uint32_t at = 2; at < w->cohort_size; at += 2) {
        if (u16_at(w->cohort + at) == i) {
            return true;
        }
    }
    return c[7] == 254;
}

// A board's entry in PEERS, INPUT or UNMASK, after its index.
static uint32_t entry(const world_t *w, uint32_t stage, uint32_t i, uint8_t *p) {
    if (stage == EDGELORA_PEERS) {
        uint8_t e[32];
        memset(e, (int)(i + 1), 32);
        edgelora_x25519_public(p, e);
        edgelora_tag(w->pairs[i], "advert", from(w, i), p, KEY_BYTES, p + KEY_BYTES);
        return KEY_BYTES + TAG_BYTES;
    }
    if (stage == EDGELORA_UNMASK) {
        edgelora_tag(w->pairs[i], "confirm", from(w, i), w->seen, sizeof w->seen, p);
        return TAG_BYTES;
    }
    memset(p, (int)i, SHARE_BYTES);
    edgelora_tag(w->pairs[i], "sharetag", from(w, i), p, SHARE_BYTES, p + SHARE_BYTES);
    return SEALED_BYTES;
}

// The entries of all boards that the command does not omit, ascending or descending.
static uint32_t entries(
    world_t *w, uint32_t stage, uint8_t *body, const uint8_t *c, uint32_t *count) {
    uint32_t wanted = ~(c[2] | (uint32_t)c[3] << 8), size = 0;
    for (uint32_t n = 0; n < BOARDS; ++n) {
        uint32_t i = c[4] == 255 ? BOARDS - 1 - n : n;
        if (is_told(w, stage, i, c) && wanted >> (i % 16) & 1) {
            put_u16(body + size, i);
            size += 2 + entry(w, stage, i, body + size + 2);
            ++*count;
        }
    }
    return size;
}

static void peers(world_t *w, const uint8_t *c) {
    uint8_t message[MAX_MESSAGE] = {0};
    uint32_t count = 0, size = entries(w, EDGELORA_PEERS, message + 16, c, &count);
    if (!send(w, EDGELORA_PEERS, message, size, c)) {
        return;
    }
    memset(w->listed, 0, sizeof w->listed);
    for (uint32_t at = 0; at + 50 <= size; at += 50) {
        uint32_t i = u16_at(message + 16 + at) % BOARDS;
        uint8_t e[32], shared[32];
        memset(e, (int)(i + 1), 32);
        w->listed[i] = true;
        edgelora_x25519(shared, e, w->mask_key);
        edgelora_bind(w->pairs[i], shared);
    }
}

static void input(world_t *w, const uint8_t *c) {
    uint8_t message[MAX_MESSAGE] = {0};
    uint32_t count = 0, size = 0;
    if (edgelora_member_task(w->m)->masks) {
        size = entries(w, EDGELORA_INPUT, message + 18, c, &count);
    } else if (c[2] & 1) { // a share, though the task has no masks
        size = 2 + SEALED_BYTES;
    }
    put_u16(message + 16, count + (c[6] == 254));
    send(w, EDGELORA_INPUT, message, 2 + size, c);
}

static void survivors(world_t *w, const uint8_t *c) {
    uint8_t message[MAX_MESSAGE] = {0}, *bits = message + 16 + w->cohort_size;
    uint32_t count = u16_at(w->cohort), size = (count + 7) / 8, lost = c[2] | (uint32_t)c[3] << 8;
    memcpy(message + 16, w->cohort, w->cohort_size);
    for (uint32_t i = 0; i < count; ++i) {
        bits[i / 8] |= (uint8_t)(!(lost >> i & 1) << i % 8);
    }
    if (c[4] == 255 && size) {
        bits[size - 1] |= 0x80;
    }
    if (send(w, EDGELORA_SURVIVORS, message, w->cohort_size + size, c)) {
        digest("edgelora survivors", w->context, sizeof w->context, bits, size, 0, w->seen);
    }
}

static void unmask(world_t *w, const uint8_t *c) {
    uint8_t message[MAX_MESSAGE] = {0};
    uint32_t count = 0, size = entries(w, EDGELORA_UNMASK, message + 16, c, &count);
    send(w, EDGELORA_UNMASK, message, size, c);
}

static void give_key(world_t *w, uint32_t place, uint32_t kind) {
    uint16_t near[EDGELORA_FLEET_MAX_NEIGHBOURS];
    uint32_t count = edgelora_member_neighbours(w->m, near);
    uint8_t key[32] = {0};
    if (place < count && kind != 255) {
        public_of(near[place], key);
    }
    edgelora_fleet_status_t status = edgelora_member_key(w->m, place, key);
    CHECK(status == EDGELORA_FLEET_OK || status == EDGELORA_FLEET_ERR_ORDER ||
        status == EDGELORA_FLEET_ERR_REVOKED);
}

static void new_reply(world_t *w) {
    free(w->reply);
    w->reply_size = edgelora_member_reply_size(w->m);
    w->reply = malloc(w->reply_size + 1);
}

static void update(world_t *w, const uint8_t *c) {
    uint32_t n = edgelora_member_task(w->m)->parameters;
    if (n > MAX_VALUES) {
        return;
    }
    int16_t before[MAX_VALUES + 1], after[MAX_VALUES + 1];
    for (uint32_t i = 0; i <= n; ++i) {
        before[i] = (int16_t)(c[2] & 1 ? (i & 1 ? 32767 : -32768) : (int32_t)(i * c[3]));
        after[i] = (int16_t)(c[2] & 1 ? (i & 1 ? -32768 : 32767) : (int32_t)(i * c[4]));
    }
    if (edgelora_member_next(w->m) == EDGELORA_NEXT_UPDATE) {
        new_reply(w);
        CHECK(edgelora_member_update(w->m, before, after, n + 1, w->reply, w->reply_size) ==
            EDGELORA_FLEET_ERR_SIZE);
        CHECK(edgelora_member_update(w->m, before, after, n, w->reply, w->reply_size - 1) ==
            EDGELORA_FLEET_ERR_SIZE);
        CHECK(edgelora_member_update(w->m, before, after, n, w->reply + 2, w->reply_size) ==
            EDGELORA_FLEET_ERR_SIZE);
    }
    edgelora_fleet_status_t status = edgelora_member_update(w->m, before, after, n + (c[5] == 255),
        w->reply, w->reply_size - (c[6] == 255 && w->reply_size));
    CHECK(status == EDGELORA_FLEET_OK || status == EDGELORA_FLEET_ERR_ORDER ||
        status == EDGELORA_FLEET_ERR_SIZE);
}

static void reply(world_t *w, const uint8_t *c) {
    edgelora_next_t next = edgelora_member_next(w->m);
    if (next == EDGELORA_NEXT_TRAIN ||
        (next == EDGELORA_NEXT_REPLY && edgelora_member_stage(w->m) != EDGELORA_INPUT)) {
        new_reply(w);
    }
    edgelora_stage_t stage = edgelora_member_stage(w->m);
    // too little room; an update must be in the reply's memory
    if (next == EDGELORA_NEXT_REPLY) {
        CHECK(edgelora_member_reply(w->m, w->reply, edgelora_member_reply_size(w->m) - 1) ==
            EDGELORA_FLEET_ERR_SIZE);
        uint8_t *elsewhere = malloc(w->reply_size + 1);
        CHECK(stage != EDGELORA_INPUT ||
            edgelora_member_reply(w->m, elsewhere, w->reply_size) == EDGELORA_FLEET_ERR_SIZE);
        free(elsewhere);
    }
    int32_t size = edgelora_member_reply(
        w->m, w->reply, w->reply_size - (c[2] == 255 && w->reply_size));
    if (size > 0) {
        CHECK((uint32_t)size == w->reply_size && w->reply[4] == stage + 1);
        if (stage == EDGELORA_COHORT) {
            memcpy(w->mask_key, w->reply + 16, 32);
        }
    } else {
        CHECK(size == EDGELORA_FLEET_ERR_ORDER || size == EDGELORA_FLEET_ERR_SIZE);
    }
}

// Completes all steps up to the reply, correctly.
static void answer(world_t *w, const uint8_t *c) {
    for (uint32_t i = 0; edgelora_member_next(w->m) == EDGELORA_NEXT_KEYS; ++i) {
        const uint8_t key[32] = {9};
        CHECK(edgelora_member_key(w->m, EDGELORA_FLEET_MAX_NEIGHBOURS, key) ==
                EDGELORA_FLEET_ERR_ORDER &&
            edgelora_member_reply_size(w->m));
        give_key(w, i, 0);
    }
    update(w, c);
    while (edgelora_member_next(w->m) == EDGELORA_NEXT_WORK &&
        edgelora_member_task(w->m)->parameters <= MAX_VALUES && edgelora_member_work(w->m) >= 0) {
    }
    reply(w, c);
}

// Sends the valid message of the next stage, or answers it, so that random commands reach every
// stage.
static void go_on(world_t *w, const uint8_t *c) {
    edgelora_next_t next = edgelora_member_next(w->m);
    uint32_t sigma = c[3] % 3 ? 3 + c[3] % 2 : 0, all = (1u << BOARDS) - 1;
    const uint8_t right[COMMAND] = {
        0, 0, 2 + (c[2] & 2), (uint8_t)(1 | sigma << 3), (uint8_t)((c[5] & 3) << 5 | BOARDS),
        (uint8_t)(c[6] % 3 ? c[4] & 3 : 32), 0, 1};
    const uint8_t cohort_of[COMMAND] = {0, 0, (uint8_t)all, (uint8_t)(all >> 8)},
                  every[COMMAND] = {0};
    if (next != EDGELORA_NEXT_MESSAGE && next != EDGELORA_NEXT_OVER) {
        answer(w, every);
        return;
    }
    switch (next == EDGELORA_NEXT_OVER ? 0 : (uint32_t)edgelora_member_stage(w->m)) {
        case EDGELORA_TASK:
            if (edgelora_member_task(w->m)->masks) {
                cohort(w, cohort_of);
                break;
            }
            input(w, c[2] == 1 ? right : every);
            break;
        case EDGELORA_COHORT:
            peers(w, every);
            break;
        case EDGELORA_PEERS:
            input(w, every);
            break;
        case EDGELORA_INPUT:
            survivors(w, every);
            break;
        case EDGELORA_SURVIVORS:
            unmask(w, every);
            break;
        default:
            task(w, right);
    }
}

static void step(world_t *w, const uint8_t *c) {
    switch (c[0] & 128 ? BEGIN : c[0] % COMMANDS) {
        case TASK:
            task(w, c);
            break;
        case COHORT:
            cohort(w, c);
            break;
        case PEERS:
            peers(w, c);
            break;
        case INPUT:
            input(w, c);
            break;
        case SURVIVORS:
            survivors(w, c);
            break;
        case UNMASK:
            unmask(w, c);
            break;
        case RAW: {
            uint8_t message[MAX_MESSAGE];
            memset(message, c[2], sizeof message);
            send(w, c[3] & 15, message, c[4], c);
            break;
        }
        case KEY:
            give_key(w, c[2], c[3]);
            break;
        case WORK:
            if (edgelora_member_task(w->m)->parameters <= MAX_VALUES ||
                edgelora_member_stage(w->m) != EDGELORA_INPUT) {
                int32_t left = edgelora_member_work(w->m);
                CHECK(left >= 0 ||
                    (left == EDGELORA_FLEET_ERR_KEY &&
                        edgelora_member_next(w->m) == EDGELORA_NEXT_OVER));
            }
            break;
        case UPDATE:
            update(w, c);
            break;
        case REPLY:
            reply(w, c);
            break;
        case ANSWER:
            answer(w, c);
            break;
        default:
            go_on(w, c);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < HEAD) {
        return 0;
    }
    world_t w = {.round = 1};
    w.size = edgelora_member_size(data[10] & 15) - (data[11] == 255 ? 8 : data[11] & 32 ? 4 : 0);
    w.before = malloc(w.size);
    memset(w.before, 0, w.size);
    CHECK(!edgelora_member(w.before, w.size));
    begin(&w, data);
    size_t end = size < HEAD + COMMAND * MAX_COMMANDS ? size : HEAD + COMMAND * MAX_COMMANDS;
    for (size_t at = HEAD; w.m && at + COMMAND <= end; at += COMMAND) {
        if (data[at] % COMMANDS == BEGIN && data[at + 1] > 200 && at + HEAD <= size) {
            begin(&w, data + at); // the next command belongs to it
        } else {
            step(&w, data + at);
        }
    }
    free(w.reply);
    free(w.before);
    return 0;
}
