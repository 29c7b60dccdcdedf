// A fleet member: the board's side of secure aggregation, and differential privacy of its update.
// SPDX-License-Identifier: MIT
//
// A member is in the caller's memory, at a multiple of 8 bytes; it allocates nothing. Messages,
// checks and arithmetic: SPEC.md, section 17. The caller's loop is the same for every message;
// edgelora_member_next returns what to do:
//
//     begin(...)
//     for each message:
//         receive(message)        0: accepted; 1: repeated, send the last reply again; below 0:
//                                 refused, state unchanged
//         TRAIN   after TASK      train as long as it takes, then `reply`
//         KEYS    after COHORT    `key` for each of `neighbours`, from the roster
//         UPDATE  after INPUT     `update` with masters before and after, and memory for the reply
//         WORK                    `work`: each call takes about as long as one X25519
//         REPLY                   `reply`; keep it until the next message is accepted
//         OVER                    the round is over for this board: wait for a later TASK
//
// Write the round's number to flash before sending the reply to COHORT (or to INPUT, in a round
// without masks), and the total cost before sending the reply to INPUT. `begin` takes both, and the
// member refuses any TASK of that round or an earlier one. After a reset before that nothing is
// lost: begin, and receive the same TASK again.

#ifndef EDGELORA_FLEET_H
#define EDGELORA_FLEET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EDGELORA_FLEET_MAX_NEIGHBOURS 64 // other boards of a cohort
#define EDGELORA_FLEET_MAX_PARAMETERS 65536
#define EDGELORA_FLEET_SERVER 0xFFFF // the server's index
#define EDGELORA_FLEET_ENVELOPE 32 // bytes of a message around its body

// Every status: name, value, cause and remedy.
#define EDGELORA_FLEET_LIST(X) \
    X(OK, 0, "ok") \
    X(AGAIN, 1, "the last message was repeated: send the last reply again") \
    X(ERR_MEMBER, -1, \
        "member was not begun, or its memory is too small or not at a multiple of 8 " \
        "bytes: call member_size and begin") \
    X(ERR_ORDER, -2, "not this member's turn: do what `next` says") \
    X(ERR_MESSAGE, -3, \
        "not a message of this fleet's server to this board, or damaged: send it again") \
    X(ERR_ROUND, -4, \
        "message of a past round, or of another than the current one: begin a round with a " \
        "higher number") \
    X(ERR_ROSTER, -5, \
        "the round is made for another roster than this board has: send the board the newest " \
        "roster") \
    X(ERR_TASK, -6, "the task has a value out of range (SPEC.md, section 17): make it again") \
    X(ERR_POLICY, -7, \
        "the task is less private than this board's own policy allows: give more noise, " \
        "more survivors, a larger cohort, more colluders, or masks") \
    X(ERR_COHORT, -8, \
        "the cohort is not ascending, lacks this board, or has fewer boards than the task and " \
        "this board's policy require") \
    X(ERR_REVOKED, -9, \
        "a neighbour is revoked in this board's roster: leave it out of the cohort") \
    X(ERR_PEER, -10, \
        "a neighbour's message is not from it, or not from a neighbour: leave that board out") \
    X(ERR_FEW, -11, "too few boards of the cohort are left to agree: the round can't continue") \
    X(ERR_KEY, -12, "a key is invalid (X25519 gives zero): revoke the board that `culprit` names") \
    X(ERR_SIZE, -13, \
        "memory for the reply is too small, not at a multiple of 4 bytes, or the number " \
        "of masters differs from the task's") \
    X(ERR_BUDGET, -14, \
        "the round costs more than is left of this board's budget: it joins no more rounds with " \
        "this noise")

typedef enum {
#define EDGELORA_FLEET_ENUM(name, value, text) EDGELORA_FLEET_##name = value,
    EDGELORA_FLEET_LIST(EDGELORA_FLEET_ENUM)
#undef EDGELORA_FLEET_ENUM
} edgelora_fleet_status_t;

const char *edgelora_fleet_text(int32_t status);

// Stages of a round; boards send those with even numbers.
typedef enum {
    EDGELORA_TASK = 1,
    EDGELORA_READY = 2,
    EDGELORA_COHORT = 3,
    EDGELORA_ADVERT = 4,
    EDGELORA_PEERS = 5,
    EDGELORA_SHARES = 6,
    EDGELORA_INPUT = 7,
    EDGELORA_MASKED = 8,
    EDGELORA_SURVIVORS = 9,
    EDGELORA_CONFIRM = 10,
    EDGELORA_UNMASK = 11,
    EDGELORA_OPENED = 12,
} edgelora_stage_t;

// The next action of a member's caller.
typedef enum {
    EDGELORA_NEXT_MESSAGE = 0,
    EDGELORA_NEXT_WORK = 1,
    EDGELORA_NEXT_TRAIN = 2,
    EDGELORA_NEXT_KEYS = 3,
    EDGELORA_NEXT_UPDATE = 4,
    EDGELORA_NEXT_REPLY = 5,
    EDGELORA_NEXT_OVER = 6,
} edgelora_next_t;

// A board's requirements for every task. All zero: only those that SPEC.md has for all tasks.
typedef struct {
    uint16_t least_survivors; // minimum of a task's m
    uint16_t least_z; // minimum of sigma sqrt(m - colluders) / clip, in hundredths
    uint16_t least_cohort, most_cohort; // boards of a cohort; 0: no limit
    // boards of the cohort that may collude with the server; minimum of a task's value. Their noise
    // is not counted
    uint16_t colluders;
    uint8_t survivors_percent; // minimum share of survivors in the cohort
    uint8_t masks; // 1: only tasks with masks
    // maximum total cost of all rounds, see edgelora_fleet_cost; 0: unlimited
    uint32_t budget;
} edgelora_policy_t;

// A board's identity and state. Pointers are only used during `begin`.
typedef struct {
    const uint8_t *secret; // u8[32] X25519 secret of this board
    const uint8_t *server; // u8[32] the server's public key, from the roster
    const uint8_t *fleet; // u8[8] fleet id
    const uint8_t *seed; // u8[32] fresh random bytes, never reused
    uint32_t round; // last round this board took part in, from flash; 0: none
    uint64_t spent; // total cost of all rounds so far, from flash
    uint32_t roster; // number of the roster
    uint16_t index; // index of this board in the roster, below 0xFFFF
    edgelora_policy_t policy;
} edgelora_board_t;

// The body of TASK.
typedef struct {
    uint32_t roster;
    uint8_t base[8]; // the model's id
    uint8_t adapter[32]; // SHA-256 of the global adapter's file
    uint32_t parameters; // n, 1 to 65536
    uint16_t epochs, learning_rate;
    uint32_t seed;
    uint32_t clip; // C, 1 to 65535
    uint16_t sigma;
    uint16_t least; // m, the minimum of survivors; with fewer nothing is opened
    uint16_t cohort; // maximum of boards in a cohort, 2 to 65
    // boards of the cohort that may collude with the server; thresholds account for them
    uint16_t colluders;
    uint16_t masks; // 1; 0 in a round without masks
} edgelora_task_t;

typedef struct edgelora_member_state edgelora_member_t;

// Bytes of a member with room for `neighbours` other boards of its cohort, at most 64.
uint32_t edgelora_member_size(uint32_t neighbours);

// The first piece of work computes the pair key with the server. ERR_MEMBER: invalid memory or
// index.
edgelora_fleet_status_t edgelora_member_begin(
    void *memory, uint32_t size, const edgelora_board_t *board);

// The member in memory, or NULL if there is none.
edgelora_member_t *edgelora_member(void *memory, uint32_t size);

edgelora_next_t edgelora_member_next(const edgelora_member_t *m);

// Number of the current round, 0 before the first TASK; stage of the last accepted message.
uint32_t edgelora_member_round(const edgelora_member_t *m);
edgelora_stage_t edgelora_member_stage(const edgelora_member_t *m);
const edgelora_task_t *edgelora_member_task(const edgelora_member_t *m);

// Total cost of all rounds. It includes the current round from `edgelora_member_update` on.
uint64_t edgelora_member_spent(const edgelora_member_t *m);

// Receives a whole message, and overwrites it if accepted. Returns OK, AGAIN or an error, which
// leaves the state unchanged.
edgelora_fleet_status_t edgelora_member_receive(
    edgelora_member_t *m, uint8_t *message, size_t size);

// Writes the indices of the neighbours, i.e. all other boards of the cohort, at most u16[64],
// ascending. Returns their number, 0 before COHORT.
uint32_t edgelora_member_neighbours(const edgelora_member_t *m, uint16_t *indices);

// Sets the public key, from the roster, of the neighbour at a place in that list. Call it in order;
// repeated calls are allowed. ERR_REVOKED (an all-zero key) returns the member to its state before
// COHORT.
edgelora_fleet_status_t edgelora_member_key(
    edgelora_member_t *m, uint32_t place, const uint8_t key[32]);

// Does one piece of work and returns the number of pieces left. ERR_KEY: the round is over;
// `culprit` is the index of the board with the bad key (0xFFFF: the server).
int32_t edgelora_member_work(edgelora_member_t *m);
uint16_t edgelora_member_culprit(const edgelora_member_t *m);

// before, after: s16 [n], masters of the global and the trained adapter, in the file's order.
// reply: memory for the reply, 32 + 4 n bytes at a multiple of 4, in use until
// `edgelora_member_reply` has been called with it.
edgelora_fleet_status_t edgelora_member_update(edgelora_member_t *m, const int16_t *before,
    const int16_t *after, uint32_t n, void *reply, size_t capacity);

// Bytes of the reply to the last accepted message; 0 before the first one and after the reply was
// written.
uint32_t edgelora_member_reply_size(const edgelora_member_t *m);

// Writes the reply, once. Returns its size or an error.
int32_t edgelora_member_reply(edgelora_member_t *m, void *reply, size_t capacity);

// ---- parts of an update

// out: s32 [n] = after - before, scaled down so that the sum of squares is at most clip^2. clip: 1
// to 65535.
void edgelora_fleet_update(
    const int16_t *before, const int16_t *after, uint32_t n, uint32_t clip, int32_t *out);

// Adds discrete Gaussian noise with standard deviation sigma (0 to 65535), drawn from the key's
// stream, to each value.
void edgelora_fleet_noise(const uint8_t key[32], uint32_t sigma, int32_t *values, uint32_t n);

// Privacy cost of a round for a board: 1 / z^2 in millionths, rounded up, where z = sigma
// sqrt(honest) / clip is the noise of the opened sum in units of clip. Costs add up: several rounds
// reveal no more than one sum with noise for their total cost. clip, sigma, honest: up to 65535.
// UINT64_MAX without noise.
uint64_t edgelora_fleet_cost(uint32_t clip, uint32_t sigma, uint32_t honest);

#ifdef __cplusplus
}
#endif

#endif
