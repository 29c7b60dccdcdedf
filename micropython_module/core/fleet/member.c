// A fleet member's state machine: messages it accepts and its replies.
// SPDX-License-Identifier: MIT

#include "fleet/internal.h"

enum {
    MEMBER_MAGIC = 0x314D4C45,  // "ELM1"
    HEADER_BYTES = 16,
    BODY_ROOM = EDGELORA_FLEET_ENVELOPE,
    ADVERT_BYTES = 2 + KEY_BYTES + TAG_BYTES,  // an entry of PEERS
    INPUT_BYTES = 2 + SEALED_BYTES,            // an entry of INPUT
    CONFIRM_BYTES = 2 + TAG_BYTES,             // an entry of UNMASK
    NOISE_STEP = 128,                          // values that get noise in one piece of work
};

static const uint8_t MAGIC[4] = {'E', 'L', 'F', '1'};
static const char ROUND[] = "edgelora round", SURVIVORS[] = "edgelora survivors";

// Flags of a neighbour.
enum { ADVERTISED = 1, SHARED = 2, ALIVE = 4 };

typedef struct {
    uint16_t index;
    uint8_t known;
    uint8_t unused;
    uint8_t pair[64];    // the pair key of pads; first the roster's public key
    uint8_t key[32];     // its mask key, then the seed of the common mask
    uint8_t shares[64];  // shares of its b and e, 32 each
} peer_t;

struct edgelora_member_state {
    uint32_t magic;
    uint16_t capacity, index;
    uint8_t next;          // edgelora_next_t
    uint8_t stage;         // of the last accepted message, 0 before the first
    bool keyed;            // `pair` is set
    uint8_t unused;
    uint16_t culprit;
    uint16_t neighbours;   // all other boards of the cohort
    uint16_t threshold;    // t
    uint16_t agreeing;     // u
    uint16_t place;        // the neighbour with the next key or work
    uint16_t pieces;       // finished pieces of an update's work
    uint32_t round, roster;
    uint64_t spent;
    edgelora_policy_t policy;
    edgelora_task_t task;
    uint8_t body[TASK_BYTES];  // of TASK as received
    uint8_t fleet[8];
    uint8_t tag[TAG_BYTES],
        tag_before[TAG_BYTES];  // of the last accepted message, and of the one before COHORT
    uint8_t server[32], secret[32];
    uint8_t pair[64];      // pair key with the server
    edgelora_random_t random;
    struct {
        uint8_t e[32], b[32], c[32], z[32];
    } keys;                // keys of this round
    uint8_t mask_key[32];  // E
    uint8_t context[32];   // digest of TASK, round and COHORT
    uint8_t survivors[32]; // digest of context and SURVIVORS
    edgelora_digits_t digits;
    uint32_t *values;      // u32[n], in the caller's reply
    peer_t peers[];        // ascending
};

uint32_t edgelora_member_size(uint32_t neighbours) {
    return (uint32_t)((sizeof(edgelora_member_t) + neighbours * sizeof(peer_t) + 7) & ~(size_t)7);
}

edgelora_member_t *edgelora_member(void *memory, uint32_t size) {
    edgelora_member_t *m = memory;
    bool holds = memory && (uintptr_t)memory % 8 == 0 && size >= sizeof *m &&
        m->magic == MEMBER_MAGIC;
    return holds && size >= edgelora_member_size(m->capacity) ? m : NULL;
}

edgelora_fleet_status_t edgelora_member_begin(
    void *memory, uint32_t size, const edgelora_board_t *board) {
    edgelora_member_t *m = memory;
    bool fits = memory && (uintptr_t)memory % 8 == 0 && size >= edgelora_member_size(0);
    if (!fits || board->index == EDGELORA_FLEET_SERVER) {
        return EDGELORA_FLEET_ERR_MEMBER;
    }
    uint32_t room = (size - (uint32_t)sizeof *m) / (uint32_t)sizeof(peer_t);
    while (edgelora_member_size(room) > size) {
        --room;
    }
    room = room < EDGELORA_FLEET_MAX_NEIGHBOURS ? room : EDGELORA_FLEET_MAX_NEIGHBOURS;
    edgelora_wipe(m, edgelora_member_size(room));
    m->capacity = (uint16_t)room;
    m->index = board->index;
    m->round = board->round;
    m->spent = board->spent;
    m->roster = board->roster;
    m->policy = board->policy;
    m->culprit = EDGELORA_FLEET_SERVER;
    m->next = EDGELORA_NEXT_WORK;
    __builtin_memcpy(m->fleet, board->fleet, sizeof m->fleet);
    __builtin_memcpy(m->server, board->server, sizeof m->server);
    __builtin_memcpy(m->secret, board->secret, sizeof m->secret);
    edgelora_random_seed(&m->random, board->seed);
    m->magic = MEMBER_MAGIC;
    return EDGELORA_FLEET_OK;
}

edgelora_next_t edgelora_member_next(const edgelora_member_t *m) {
    return (edgelora_next_t)m->next;
}

uint32_t edgelora_member_round(const edgelora_member_t *m) {
    return m->stage ? m->round : 0;
}

edgelora_stage_t edgelora_member_stage(const edgelora_member_t *m) {
    return (edgelora_stage_t)m->stage;
}

const edgelora_task_t *edgelora_member_task(const edgelora_member_t *m) {
    return &m->task;
}

uint16_t edgelora_member_culprit(const edgelora_member_t *m) {
    return m->culprit;
}

static edgelora_pad_context_t to_peer(const edgelora_member_t *m, uint32_t index) {
    return (edgelora_pad_context_t){m->fleet, m->round, m->index, index};
}

static edgelora_pad_context_t from_peer(const edgelora_member_t *m, uint32_t index) {
    return (edgelora_pad_context_t){m->fleet, m->round, index, m->index};
}

static bool knows(const peer_t *peer, uint32_t known) {
    return (peer->known & known) == known;
}

static uint32_t count_of(const edgelora_member_t *m, uint32_t known) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->neighbours; ++i) {
        count += knows(&m->peers[i], known);
    }
    return count;
}

// The place of the first neighbour from `place` on with all flags of `known`; `neighbours` if
// none.
static uint32_t next_of(const edgelora_member_t *m, uint32_t place, uint32_t known) {
    while (place < m->neighbours && !knows(&m->peers[place], known)) {
        ++place;
    }
    return place;
}

uint32_t edgelora_member_neighbours(const edgelora_member_t *m, uint16_t *indices) {
    for (uint32_t i = 0; i < m->neighbours; ++i) {
        indices[i] = m->peers[i].index;
    }
    return m->neighbours;
}

static void wait_for(edgelora_member_t *m, edgelora_next_t next) {
    m->next = (uint8_t)next;
    m->place = 0;
    m->pieces = 0;
}

// ---- messages

static bool in_range(const edgelora_member_t *m, const edgelora_task_t *t) {
    bool fits = t->parameters && t->parameters <= EDGELORA_FLEET_MAX_PARAMETERS && t->epochs &&
        t->least;
    fits = fits && t->clip && t->clip <= UINT16_MAX && t->masks <= 1;
    if (!t->masks) {
        return fits;
    }
    // the minimum of survivors fits a cohort, and a full cohort fits this member
    return fits && t->cohort >= 2 && t->least <= t->cohort && t->cohort <= m->capacity + 1u;
}

// Minimum of honest boards whose noise is in an opened sum; without masks, 1: the update of one
// board.
static uint32_t honest_of(const edgelora_policy_t *p, const edgelora_task_t *t) {
    uint32_t honest = t->least > p->colluders ? (uint32_t)(t->least - p->colluders) : 0;
    return t->masks ? honest : 1;
}

static bool allowed(const edgelora_policy_t *p, const edgelora_task_t *t) {
    uint32_t honest = honest_of(p, t);
    uint64_t sigma = (uint64_t)t->sigma * 100, least = (uint64_t)p->least_z * t->clip;
    bool private = honest && sigma * sigma * honest >= least * least &&
        t->least >= p->least_survivors;
    if (!t->masks) {
        return private && !p->masks;
    }
    return private && t->colluders >= p->colluders && t->cohort >= p->least_cohort;
}

// Total cost including this round.
static uint64_t spent_after(const edgelora_member_t *m, const edgelora_task_t *t) {
    return edgelora_add_cost(
        m->spent, edgelora_fleet_cost(t->clip, t->sigma, honest_of(&m->policy, t)));
}

uint64_t edgelora_member_spent(const edgelora_member_t *m) {
    return m->stage == EDGELORA_INPUT && m->values ? spent_after(m, &m->task) : m->spent;
}

static edgelora_fleet_status_t take_task(
    edgelora_member_t *m, uint32_t round, const uint8_t *body, size_t size) {
    if (size != TASK_BYTES) {
        return EDGELORA_FLEET_ERR_TASK;
    }
    edgelora_task_t t = {
        .roster = u32_at(body),
        .parameters = u32_at(body + 44),
        .epochs = (uint16_t)u16_at(body + 48),
        .learning_rate = (uint16_t)u16_at(body + 50),
        .seed = u32_at(body + 52),
        .clip = u32_at(body + 56),
        .sigma = (uint16_t)u16_at(body + 60),
        .least = (uint16_t)u16_at(body + 62),
        .cohort = (uint16_t)u16_at(body + 64),
        .colluders = (uint16_t)u16_at(body + 66),
        .masks = (uint16_t)u16_at(body + 68),
    };
    __builtin_memcpy(t.base, body + 4, sizeof t.base);
    __builtin_memcpy(t.adapter, body + 12, sizeof t.adapter);
    uint32_t rest = 0;
    for (uint32_t i = 70; i < TASK_BYTES; ++i) {
        rest |= body[i];
    }
    if (t.roster != m->roster) {
        return EDGELORA_FLEET_ERR_ROSTER;
    }
    if (rest || !in_range(m, &t)) {
        return EDGELORA_FLEET_ERR_TASK;
    }
    if (!allowed(&m->policy, &t)) {
        return EDGELORA_FLEET_ERR_POLICY;
    }
    if (m->policy.budget && spent_after(m, &t) > m->policy.budget) {
        return EDGELORA_FLEET_ERR_BUDGET;
    }
    m->task = t;
    m->round = round;
    m->neighbours = 0;
    m->values = NULL;
    __builtin_memcpy(m->body, body, sizeof m->body);
    edgelora_random_bytes(&m->random, (uint8_t *)&m->keys, sizeof m->keys);
    wait_for(m, EDGELORA_NEXT_TRAIN);
    return EDGELORA_FLEET_OK;
}

static bool is_cohort(const edgelora_member_t *m, const uint8_t *body, size_t size) {
    if (size < 2 || size != 2 + 2 * u16_at(body)) {
        return false;
    }
    uint32_t count = u16_at(body), last = 0;
    bool ascending = true, own = false;
    for (uint32_t i = 0; i < count; ++i) {
        uint32_t index = u16_at(body + 2 + 2 * i);
        ascending = ascending && (i == 0 || index > last);
        own = own || index == m->index;
        last = index;
    }
    bool fits = count >= m->policy.least_cohort &&
        (!m->policy.most_cohort || count <= m->policy.most_cohort);
    fits = fits && count >= 2 && count >= m->task.least && count <= m->task.cohort;
    return ascending && own && fits && last != EDGELORA_FLEET_SERVER;
}

// label: a string, hashed without its terminating 0.
static void begin_digest(
    edgelora_sha512_t *s, const char *label, size_t label_size, const void *data, size_t size) {
    edgelora_sha512_begin(s);
    edgelora_sha512_add(s, (const uint8_t *)label, label_size - 1);
    edgelora_sha512_add(s, data, size);
}

static void end_digest(edgelora_sha512_t *s, uint8_t out[32]) {
    uint8_t digest[64];
    edgelora_sha512_end(s, digest);
    __builtin_memcpy(out, digest, 32);
}

// Digest of what all boards of a round must agree on: task, round number and cohort.
static void context_of(
    const edgelora_member_t *m, const uint8_t *cohort, size_t size, uint8_t out[32]) {
    uint8_t round[4];
    edgelora_sha512_t s;
    put_u32(round, m->round);
    begin_digest(&s, ROUND, sizeof ROUND, m->body, sizeof m->body);
    edgelora_sha512_add(&s, round, sizeof round);
    edgelora_sha512_add(&s, cohort, size);
    end_digest(&s, out);
}

// Sets both thresholds above half of the others plus colluders. If the server sends different
// survivors to two groups of boards, at most one group can open anything; and only boards that
// share a mask with a board open its secret, each of which has seen at least the task's minimum of
// survivors. False if the cohort is too small.
static bool set_thresholds(edgelora_member_t *m, uint32_t others) {
    uint32_t half = (others + m->task.colluders) / 2 + 1;
    uint32_t agreeing = half + 1 > m->task.least ? half : m->task.least - 1u;
    if (agreeing > others) {
        return false;
    }
    m->threshold = (uint16_t)half;
    m->agreeing = (uint16_t)agreeing;
    return true;
}

static edgelora_fleet_status_t take_cohort(edgelora_member_t *m, const uint8_t *body, size_t size) {
    if (!is_cohort(m, body, size) || !set_thresholds(m, u16_at(body) - 1)) {
        return EDGELORA_FLEET_ERR_COHORT;
    }
    context_of(m, body, size, m->context);
    for (const uint8_t *p = body + 2; p < body + size; p += 2) {
        if (u16_at(p) != m->index) {
            m->peers[m->neighbours++] = (peer_t){.index = (uint16_t)u16_at(p)};
        }
    }
    __builtin_memcpy(m->tag_before, m->tag, sizeof m->tag);
    wait_for(m, EDGELORA_NEXT_KEYS);
    return EDGELORA_FLEET_OK;
}

static bool is_tag(const uint8_t pair[64], const char *label, edgelora_pad_context_t context,
    const uint8_t *data, size_t size, const uint8_t *tag) {
    uint8_t right[TAG_BYTES];
    edgelora_tag(pair, label, context, data, size, right);
    return edgelora_equal(right, tag, sizeof right);
}

// The place of a neighbour, from `from` on; `neighbours` if it is none.
static uint32_t place_of(const edgelora_member_t *m, uint32_t from, uint32_t index) {
    while (from < m->neighbours && m->peers[from].index < index) {
        ++from;
    }
    return from < m->neighbours && m->peers[from].index == index ? from : m->neighbours;
}

static edgelora_fleet_status_t take_peers(edgelora_member_t *m, const uint8_t *body, size_t size) {
    uint32_t place = 0;
    for (const uint8_t *p = body; p < body + size; p += ADVERT_BYTES, ++place) {
        place = size % ADVERT_BYTES ? m->neighbours : place_of(m, place, u16_at(p));
        const peer_t *peer = &m->peers[place];
        if (place == m->neighbours ||
            !is_tag(peer->pair, "advert", from_peer(m, peer->index), p + 2, KEY_BYTES,
                p + 2 + KEY_BYTES)) {
            return EDGELORA_FLEET_ERR_PEER;
        }
    }
    if (size / ADVERT_BYTES < m->agreeing) {
        return EDGELORA_FLEET_ERR_FEW;
    }
    for (const uint8_t *p = body; p < body + size; p += ADVERT_BYTES) {
        peer_t *peer = &m->peers[place_of(m, 0, u16_at(p))];
        __builtin_memcpy(peer->key, p + 2, KEY_BYTES);
        peer->known |= ADVERTISED;
    }
    wait_for(m, EDGELORA_NEXT_WORK);
    m->place = (uint16_t)next_of(m, 0, ADVERTISED);
    return EDGELORA_FLEET_OK;
}

static edgelora_fleet_status_t take_input(edgelora_member_t *m, const uint8_t *body, size_t size) {
    uint32_t count = size < 2 ? 0 : u16_at(body), place = 0;
    if (size < 2 || size != 2 + INPUT_BYTES * (size_t)count) {
        return EDGELORA_FLEET_ERR_MESSAGE;
    }
    if (!m->task.masks) {
        if (count) {
            return EDGELORA_FLEET_ERR_PEER;
        }
        wait_for(m, EDGELORA_NEXT_UPDATE);
        return EDGELORA_FLEET_OK;
    }
    for (const uint8_t *p = body + 2; p < body + size; p += INPUT_BYTES, ++place) {
        place = place_of(m, place, u16_at(p));
        const peer_t *peer = &m->peers[place];
        if (place == m->neighbours || !knows(peer, ADVERTISED) ||
            !is_tag(peer->pair, "sharetag", from_peer(m, peer->index), p + 2, SHARE_BYTES,
                p + 2 + SHARE_BYTES)) {
            return EDGELORA_FLEET_ERR_PEER;
        }
    }
    if (count < m->agreeing) {
        return EDGELORA_FLEET_ERR_FEW;
    }
    for (const uint8_t *p = body + 2; p < body + size; p += INPUT_BYTES) {
        peer_t *peer = &m->peers[place_of(m, 0, u16_at(p))];
        uint8_t pad[SHARE_BYTES];
        edgelora_pad(peer->pair, "share", from_peer(m, peer->index), pad);
        for (uint32_t i = 0; i < SHARE_BYTES; ++i) {
            peer->shares[i] = p[2 + i] ^ pad[i];
        }
        edgelora_wipe(pad, sizeof pad);
        peer->known |= SHARED;
    }
    wait_for(m, EDGELORA_NEXT_UPDATE);
    return EDGELORA_FLEET_OK;
}

static bool is_bit(const uint8_t *bits, uint32_t i) {
    return bits[i / 8] >> i % 8 & 1;
}

// body: the body of COHORT again, so that boards need not store it, and one bit per board.
static edgelora_fleet_status_t take_survivors(
    edgelora_member_t *m, const uint8_t *body, size_t size) {
    uint8_t context[32];
    uint32_t count = size < 2 ? 0 : u16_at(body);
    size_t cohort = 2 + 2 * (size_t)count;
    if (size < 2 || size != cohort + (count + 7) / 8 ||
        (count % 8 && body[size - 1] >> count % 8)) {
        return EDGELORA_FLEET_ERR_MESSAGE;
    }
    context_of(m, body, cohort, context);
    if (!edgelora_equal(context, m->context, sizeof context)) {
        return EDGELORA_FLEET_ERR_COHORT;
    }
    uint32_t place = 0, alive = 0, agreeing = 0;
    bool own = false;
    for (uint32_t i = 0; i < count; ++i) {
        uint32_t index = u16_at(body + 2 + 2 * i), found = place_of(m, place, index);
        bool bit = is_bit(body + cohort, i);
        alive += bit;
        own = own || (bit && index == m->index);
        agreeing += bit && found < m->neighbours && knows(&m->peers[found], SHARED);
    }
    if (!own || alive < m->task.least ||
        alive * 100 < (uint32_t)m->policy.survivors_percent * count || agreeing < m->agreeing) {
        return EDGELORA_FLEET_ERR_FEW;
    }
    for (uint32_t i = 0; i < count; ++i) {
        place = place_of(m, 0, u16_at(body + 2 + 2 * i));
        if (is_bit(body + cohort, i) && place < m->neighbours && knows(&m->peers[place], SHARED)) {
            m->peers[place].known |= ALIVE;
        }
    }
    edgelora_sha512_t s;
    begin_digest(&s, SURVIVORS, sizeof SURVIVORS, m->context, sizeof m->context);
    edgelora_sha512_add(&s, body + cohort, size - cohort);
    end_digest(&s, m->survivors);
    wait_for(m, EDGELORA_NEXT_REPLY);
    return EDGELORA_FLEET_OK;
}

// A board releases shares only after enough others have confirmed the same survivors.
static edgelora_fleet_status_t take_unmask(edgelora_member_t *m, const uint8_t *body, size_t size) {
    uint32_t place = 0;
    if (size % CONFIRM_BYTES) {
        return EDGELORA_FLEET_ERR_MESSAGE;
    }
    for (const uint8_t *p = body; p < body + size; p += CONFIRM_BYTES, ++place) {
        place = place_of(m, place, u16_at(p));
        const peer_t *peer = &m->peers[place];
        if (place == m->neighbours || !knows(peer, ALIVE) ||
            !is_tag(peer->pair, "confirm", from_peer(m, peer->index), m->survivors,
                sizeof m->survivors, p + 2)) {
            return EDGELORA_FLEET_ERR_PEER;
        }
    }
    if (size / CONFIRM_BYTES < m->agreeing) {
        return EDGELORA_FLEET_ERR_FEW;
    }
    wait_for(m, EDGELORA_NEXT_REPLY);
    return EDGELORA_FLEET_OK;
}

// The stage after the last accepted message of the current round.
static uint32_t expected(const edgelora_member_t *m) {
    return m->stage == EDGELORA_TASK && !m->task.masks ? EDGELORA_INPUT : m->stage + 2u;
}

static edgelora_fleet_status_t take_body(
    edgelora_member_t *m, uint32_t stage, uint8_t *body, size_t size) {
    switch (stage) {
        case EDGELORA_COHORT:
            return take_cohort(m, body, size);
        case EDGELORA_PEERS:
            return take_peers(m, body, size);
        case EDGELORA_INPUT:
            return take_input(m, body, size);
        case EDGELORA_SURVIVORS:
            return take_survivors(m, body, size);
        case EDGELORA_UNMASK:
            return take_unmask(m, body, size);
        default:
            return EDGELORA_FLEET_ERR_ORDER;
    }
}

static bool is_from_server(const edgelora_member_t *m, const uint8_t *message, size_t size) {
    if (size < EDGELORA_FLEET_ENVELOPE || !edgelora_equal(message, MAGIC, sizeof MAGIC) ||
        message[5]) {
        return false;
    }
    if (u16_at(message + 6) != m->index || u32_at(message + 12) != size - EDGELORA_FLEET_ENVELOPE) {
        return false;
    }
    edgelora_pad_context_t context = {
        m->fleet, u32_at(message + 8), EDGELORA_FLEET_SERVER, m->index};
    return is_tag(m->pair, "msg", context, message, size - TAG_BYTES, message + size - TAG_BYTES);
}

edgelora_fleet_status_t edgelora_member_receive(
    edgelora_member_t *m, uint8_t *message, size_t size) {
    if (!m->keyed) {
        return EDGELORA_FLEET_ERR_ORDER;
    }
    if (!is_from_server(m, message, size)) {
        return EDGELORA_FLEET_ERR_MESSAGE;
    }
    const uint8_t *tag = message + size - TAG_BYTES;
    if (m->stage && edgelora_equal(m->tag, tag, TAG_BYTES)) {
        return EDGELORA_FLEET_AGAIN;
    }
    uint32_t stage = message[4], round = u32_at(message + 8);
    uint8_t *body = message + HEADER_BYTES;
    edgelora_fleet_status_t status;
    if (stage == EDGELORA_TASK) {
        status = round > m->round ? take_task(m, round, body, size - EDGELORA_FLEET_ENVELOPE)
                                  : EDGELORA_FLEET_ERR_ROUND;
    } else if (!m->stage || round != m->round) {
        status = EDGELORA_FLEET_ERR_ROUND;
    } else if (m->next != EDGELORA_NEXT_MESSAGE || stage != expected(m)) {
        status = EDGELORA_FLEET_ERR_ORDER;
    } else {
        status = take_body(m, stage, body, size - EDGELORA_FLEET_ENVELOPE);
    }
    if (status == EDGELORA_FLEET_OK) {
        m->stage = (uint8_t)stage;
        __builtin_memcpy(m->tag, tag, TAG_BYTES);
    }
    return status;
}

edgelora_fleet_status_t edgelora_member_key(
    edgelora_member_t *m, uint32_t place, const uint8_t key[32]) {
    if (m->next != EDGELORA_NEXT_KEYS ||
        place > m->place) { // a key may be repeated for an earlier place
        return EDGELORA_FLEET_ERR_ORDER;
    }
    uint32_t any = 0;
    for (uint32_t i = 0; i < KEY_BYTES; ++i) {
        any |= key[i];
    }
    if (!any) {  // back to the state before COHORT
        m->stage = EDGELORA_TASK;
        m->neighbours = 0;
        __builtin_memcpy(m->tag, m->tag_before, sizeof m->tag);
        wait_for(m, EDGELORA_NEXT_MESSAGE);
        return EDGELORA_FLEET_ERR_REVOKED;
    }
    __builtin_memcpy(m->peers[place].pair, key, KEY_BYTES);
    m->place = (uint16_t)(place + 1 > m->place ? place + 1 : m->place);
    if (m->place == m->neighbours) {
        wait_for(m, EDGELORA_NEXT_WORK);
    }
    return EDGELORA_FLEET_OK;
}

// ---- work

static int32_t leave(edgelora_member_t *m, uint32_t culprit) {
    m->culprit = (uint16_t)culprit;
    wait_for(m, EDGELORA_NEXT_OVER);
    edgelora_wipe(&m->keys, sizeof m->keys);
    return EDGELORA_FLEET_ERR_KEY;
}

// Computes the pair key with the server.
static int32_t work_begin(edgelora_member_t *m) {
    if (!edgelora_pair_key(m->pair, m->secret, m->server)) {
        return leave(m, EDGELORA_FLEET_SERVER);
    }
    m->keyed = true;
    wait_for(m, EDGELORA_NEXT_MESSAGE);
    return 0;
}

// Computes the pair key with each neighbour, bound to the round; then this round's mask key.
static int32_t work_cohort(edgelora_member_t *m) {
    if (m->place == m->neighbours) {
        edgelora_x25519_public(m->mask_key, m->keys.e);
        wait_for(m, EDGELORA_NEXT_REPLY);
        return 0;
    }
    peer_t *peer = &m->peers[m->place++];
    uint8_t key[KEY_BYTES];
    __builtin_memcpy(key, peer->pair, KEY_BYTES);
    if (!edgelora_pair_key(peer->pair, m->secret, key)) {
        return leave(m, peer->index);
    }
    edgelora_bind(peer->pair, m->context);
    return (int32_t)(m->neighbours - m->place + 1u);
}

// Computes the common mask seed with each neighbour that advertised a mask key.
static int32_t work_peers(edgelora_member_t *m) {
    peer_t *peer = &m->peers[m->place];
    uint8_t shared[KEY_BYTES];
    bool worth = edgelora_x25519(shared, m->keys.e, peer->key);
    edgelora_bind(peer->pair, shared);
    edgelora_mask_seed(shared, peer->key);
    edgelora_wipe(shared, sizeof shared);
    if (!worth) {
        return leave(m, peer->index);
    }
    m->place = (uint16_t)next_of(m, m->place + 1u, ADVERTISED);
    int32_t left = 0;
    for (uint32_t i = m->place; i < m->neighbours; ++i) {
        left += knows(&m->peers[i], ADVERTISED);
    }
    if (left == 0) {
        wait_for(m, EDGELORA_NEXT_REPLY);
    }
    return left;
}

static void add_mask(const edgelora_member_t *m, const uint8_t seed[32], bool plus) {
    uint8_t nonce[12] = {0};
    edgelora_chacha20_t stream;
    put_u32(nonce, m->round);
    edgelora_chacha20_begin(&stream, seed, nonce, 0);
    (plus ? edgelora_chacha20_add : edgelora_chacha20_subtract)(
        &stream, m->values, m->task.parameters);
    edgelora_wipe(&stream, sizeof stream);
}

// Adds noise in pieces, then the board's own mask, then the mask with each neighbour.
static int32_t work_input(edgelora_member_t *m) {
    uint32_t n = m->task.parameters, steps = m->task.sigma ? (n + NOISE_STEP - 1) / NOISE_STEP : 0;
    uint32_t masks = m->task.masks ? 1 + count_of(m, SHARED) : 0, done = m->pieces;
    if (done < steps) {
        uint32_t first = done * NOISE_STEP, rest = n - first,
                 count = rest < NOISE_STEP ? rest : NOISE_STEP;
        edgelora_digits_add_noise(&m->digits, m->task.sigma, (int32_t *)m->values + first, count);
    } else if (done == steps) {
        add_mask(m, m->keys.b, true);
    } else {
        peer_t *peer = &m->peers[next_of(m, m->place, SHARED)];
        add_mask(m, peer->key, m->index < peer->index);
        m->place = (uint16_t)(peer - m->peers + 1);
    }
    m->pieces = (uint16_t)(done + 1);
    if (m->pieces == steps + masks) {
        edgelora_wipe(&m->digits, sizeof m->digits);
        wait_for(m, EDGELORA_NEXT_REPLY);
        return 0;
    }
    return (int32_t)(steps + masks - m->pieces);
}

int32_t edgelora_member_work(edgelora_member_t *m) {
    if (m->next != EDGELORA_NEXT_WORK) {
        return 0;
    }
    switch (m->stage) {
        case EDGELORA_COHORT:
            return work_cohort(m);
        case EDGELORA_PEERS:
            return work_peers(m);
        case EDGELORA_INPUT:
            return work_input(m);
        default:
            return work_begin(m);
    }
}

edgelora_fleet_status_t edgelora_member_update(edgelora_member_t *m, const int16_t *before,
    const int16_t *after, uint32_t n, void *reply, size_t capacity) {
    if (m->next != EDGELORA_NEXT_UPDATE) {
        return EDGELORA_FLEET_ERR_ORDER;
    }
    bool fits = n == m->task.parameters && capacity >= BODY_ROOM + 4 * (size_t)n &&
        (uintptr_t)reply % 4 == 0;
    if (!fits) {
        return EDGELORA_FLEET_ERR_SIZE;
    }
    m->values = (uint32_t *)((uint8_t *)reply + HEADER_BYTES);
    edgelora_fleet_update(before, after, n, m->task.clip, (int32_t *)m->values);
    edgelora_digits_begin(&m->digits, m->keys.z);
    wait_for(m, m->task.sigma || m->task.masks ? EDGELORA_NEXT_WORK : EDGELORA_NEXT_REPLY);
    return EDGELORA_FLEET_OK;
}

// ---- replies

static uint32_t body_size(const edgelora_member_t *m) {
    switch (m->stage) {
        case EDGELORA_COHORT:
            return KEY_BYTES + m->neighbours * (uint32_t)TAG_BYTES;
        case EDGELORA_PEERS:
            return count_of(m, ADVERTISED) * SEALED_BYTES;
        case EDGELORA_INPUT:
            return 4 * m->task.parameters;
        case EDGELORA_SURVIVORS:
            return count_of(m, ALIVE) * TAG_BYTES;
        case EDGELORA_UNMASK:
            return count_of(m, SHARED) * KEY_BYTES;
        default:
            return 0;
    }
}

static void write_advert(const edgelora_member_t *m, uint8_t *body) {
    __builtin_memcpy(body, m->mask_key, KEY_BYTES);
    body += KEY_BYTES;
    for (uint32_t i = 0; i < m->neighbours; ++i, body += TAG_BYTES) {
        const peer_t *peer = &m->peers[i];
        edgelora_tag(peer->pair, "advert", to_peer(m, peer->index), m->mask_key, KEY_BYTES, body);
    }
}

static void write_shares(const edgelora_member_t *m, uint8_t *body) {
    uint8_t secret[SHARE_BYTES], pad[SHARE_BYTES];
    __builtin_memcpy(secret, m->keys.b, KEY_BYTES);
    __builtin_memcpy(secret + KEY_BYTES, m->keys.e, KEY_BYTES);
    for (uint32_t place = 0; (place = next_of(m, place, ADVERTISED)) < m->neighbours;
        ++place, body += SEALED_BYTES) {
        const peer_t *peer = &m->peers[place];
        edgelora_pad_context_t context = to_peer(m, peer->index);
        edgelora_share(m->keys.c, m->threshold, place + 1, secret, body);
        edgelora_pad(peer->pair, "share", context, pad);
        for (uint32_t i = 0; i < SHARE_BYTES; ++i) {
            body[i] ^= pad[i];
        }
        edgelora_tag(peer->pair, "sharetag", context, body, SHARE_BYTES, body + SHARE_BYTES);
    }
    edgelora_wipe(secret, sizeof secret);
    edgelora_wipe(pad, sizeof pad);
}

static void write_confirms(const edgelora_member_t *m, uint8_t *body) {
    for (uint32_t place = 0; (place = next_of(m, place, ALIVE)) < m->neighbours;
        ++place, body += TAG_BYTES) {
        const peer_t *peer = &m->peers[place];
        edgelora_tag(peer->pair, "confirm", to_peer(m, peer->index), m->survivors,
            sizeof m->survivors, body);
    }
}

static void write_opened(const edgelora_member_t *m, uint8_t *body) {
    const uint8_t nonce[12] = {0};
    edgelora_chacha20_t stream;
    uint8_t pad[64], *end = body;
    for (uint32_t place = 0; (place = next_of(m, place, SHARED)) < m->neighbours;
        ++place, end += KEY_BYTES) {
        const peer_t *peer = &m->peers[place];
        __builtin_memcpy(end, peer->shares + (peer->known & ALIVE ? 0 : KEY_BYTES), KEY_BYTES);
    }
    edgelora_pad(m->pair, "open", to_peer(m, EDGELORA_FLEET_SERVER), pad);
    edgelora_chacha20_begin(&stream, pad, nonce, 0);
    edgelora_chacha20_xor(&stream, body, (size_t)(end - body));
    edgelora_wipe(&stream, sizeof stream);
    edgelora_wipe(pad, sizeof pad);
}

// Wipes secrets that are no longer needed.
static void forget(edgelora_member_t *m) {
    if (m->stage == EDGELORA_INPUT) {
        edgelora_wipe(&m->keys, sizeof m->keys);
        for (uint32_t i = 0; i < m->neighbours; ++i) {
            edgelora_wipe(m->peers[i].key, KEY_BYTES);
        }
    } else if (m->stage == EDGELORA_UNMASK) {
        for (uint32_t i = 0; i < m->neighbours; ++i) {
            edgelora_wipe(m->peers[i].pair, sizeof m->peers[i].pair);
            edgelora_wipe(m->peers[i].shares, SHARE_BYTES);
        }
    }
}

uint32_t edgelora_member_reply_size(const edgelora_member_t *m) {
    switch (m->next) {
        case EDGELORA_NEXT_TRAIN:
        case EDGELORA_NEXT_KEYS:
        case EDGELORA_NEXT_UPDATE:
        case EDGELORA_NEXT_WORK:
        case EDGELORA_NEXT_REPLY:
            return m->stage ? EDGELORA_FLEET_ENVELOPE + body_size(m) : 0;
        default:
            return 0;
    }
}

int32_t edgelora_member_reply(edgelora_member_t *m, void *reply, size_t capacity) {
    if (m->next != EDGELORA_NEXT_TRAIN && m->next != EDGELORA_NEXT_REPLY) {
        return EDGELORA_FLEET_ERR_ORDER;
    }
    uint32_t size = edgelora_member_reply_size(m);
    uint8_t *message = reply, *body = message + HEADER_BYTES;
    bool masked = m->stage == EDGELORA_INPUT;
    if (capacity < size || (masked && (uint8_t *)m->values != body)) {
        return EDGELORA_FLEET_ERR_SIZE;
    }
    if (m->stage == EDGELORA_COHORT) {
        write_advert(m, body);
    } else if (m->stage == EDGELORA_PEERS) {
        write_shares(m, body);
    } else if (m->stage == EDGELORA_SURVIVORS) {
        write_confirms(m, body);
    } else if (m->stage == EDGELORA_UNMASK) {
        write_opened(m, body);
    }
    __builtin_memcpy(message, MAGIC, sizeof MAGIC);
    message[4] = (uint8_t)(m->stage + 1);
    message[5] = 0;
    put_u16(message + 6, m->index);
    put_u32(message + 8, m->round);
    put_u32(message + 12, size - EDGELORA_FLEET_ENVELOPE);
    uint8_t *tag = message + size - TAG_BYTES;
    edgelora_tag(m->pair, "msg", to_peer(m, EDGELORA_FLEET_SERVER), message, size - TAG_BYTES, tag);
    forget(m);
    if (masked) {
        m->spent = spent_after(m, &m->task);
    }
    m->values = NULL;
    bool over = m->stage == EDGELORA_UNMASK || (masked && !m->task.masks);
    wait_for(m, over ? EDGELORA_NEXT_OVER : EDGELORA_NEXT_MESSAGE);
    return (int32_t)size;
}
