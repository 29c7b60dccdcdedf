// A board in a fleet that learns together: its side of secure aggregation, and the privacy of its
// update.
// SPDX-License-Identifier: MIT
//
// A member is in the caller's memory, at a multiple of 8 bytes; it allocates nothing. Messages,
// checks and arithmetic: SPEC.md, section 17. The drive is the same for each message, and the
// member tells what comes next:
//
//     begin(...)
//     for each message:
//         receive(message)        0: taken; 1: the last one again, send the last reply again; below
//                                 0: refused, nothing changed
//         TRAIN   after TASK      train as long as it takes, then `reply`
//         KEYS    after COHORT    `key` for each of `neighbours`, from the roster
//         UPDATE  after INPUT     `update` with masters before and after, in the memory of the
//                                 reply
//         WORK                    `work`: one X25519, or about as much, a call
//         REPLY                   `reply`, kept until the next message is taken
//         OVER                    this round is over for this board: a TASK of a later round begins
//                                 the next
//
// The round's number goes to flash before the reply to COHORT (or to INPUT, in a round without
// masks) leaves the board, and what it costs before the reply to INPUT does: `begin` takes both,
// and no TASK of that round or an earlier one is taken again. A reset before that costs nothing:
// begin, and receive the same TASK again.

#ifndef EDGELORA_FLEET_H
#define EDGELORA_FLEET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EDGELORA_FLEET_MAX_NEIGHBOURS 64 // others of a cohort
#define EDGELORA_FLEET_MAX_PARAMETERS 65536
#define EDGELORA_FLEET_SERVER 0xFFFF // the server's index
#define EDGELORA_FLEET_ENVELOPE 32 // bytes of a message around its body

// Every status: name, value, what went wrong and the remedy.
#define EDGELORA_FLEET_LIST(X) \
    X(OK, 0, "ok") \
    X(AGAIN, 1, "the last message once more: send the last reply again") \
    X(ERR_MEMBER, -1, \
        "not a member that was begun, or its memory is too small or not at a multiple of 8 " \
        "bytes: ask member_size and begin") \
    X(ERR_ORDER, -2, "not this member's turn: do what `next` says") \
    X(ERR_MESSAGE, -3, \
        "not a message of this fleet's server to this board, or damaged: send it again") \
    X(ERR_ROUND, -4, \
        "message of a round that is past, or of another one than is running: begin a round with " \
        "a higher number") \
    X(ERR_ROSTER, -5, \
        "the round is made for another roster than this board has: send the board the newest " \
        "roster") \
    X(ERR_TASK, -6, "the task has a value out of range (SPEC.md, section 17): make it anew") \
    X(ERR_POLICY, -7, \
        "the task is less private than this board's own policy allows: more noise, more " \
        "survivors, a larger cohort, more colluders, or masks") \
    X(ERR_COHORT, -8, \
        "the cohort is not ascending, lacks this board, or has not as many boards as the task " \
        "and this board's policy ask for") \
    X(ERR_REVOKED, -9, \
        "a neighbour is revoked in this board's roster: leave it out of the cohort") \
    X(ERR_PEER, -10, \
        "a neighbour's part is not from it, or not one of the neighbours: leave that board out") \
    X(ERR_FEW, -11, \
        "fewer boards of the cohort are left than have to agree: the round can't go on") \
    X(ERR_KEY, -12, \
        "a key is worthless (X25519 gives zero): revoke the board that `culprit` names") \
    X(ERR_SIZE, -13, \
        "memory for the reply is too small, not at a multiple of 4 bytes, or masters are not as " \
        "many as the task says") \
    X(ERR_BUDGET, -14, \
        "the round costs more than is left of this board's budget: it takes part in none of this " \
        "noise any more")

typedef enum {
#define EDGELORA_FLEET_ENUM(name, value, text) EDGELORA_FLEET_##name = value,
    EDGELORA_FLEET_LIST(EDGELORA_FLEET_ENUM)
#undef EDGELORA_FLEET_ENUM
} edgelora_fleet_status_t;

const char *edgelora_fleet_text(int32_t status);

// Stages of a round: even ones come from boards.
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

// What a member waits for.
typedef enum {
    EDGELORA_NEXT_MESSAGE = 0,
    EDGELORA_NEXT_WORK = 1,
    EDGELORA_NEXT_TRAIN = 2,
    EDGELORA_NEXT_KEYS = 3,
    EDGELORA_NEXT_UPDATE = 4,
    EDGELORA_NEXT_REPLY = 5,
    EDGELORA_NEXT_OVER = 6,
} edgelora_next_t;

// What a board asks of every task, whoever sends it. All zero: nothing but what SPEC.md asks of all
// tasks.
typedef struct {
    uint16_t least_survivors; // a task's m is at least this
    uint16_t least_z; // hundredths: sigma sqrt(m - colluders) / clip is at least this
    uint16_t least_cohort, most_cohort; // boards of a cohort; 0: as many as there are
    // of the cohort, so many may work for the server: a task's is at least this, and their noise
    // counts for nothing
    uint16_t colluders;
    uint8_t survivors_percent; // survivors are at least this share of the cohort
    uint8_t masks; // 1: only tasks with masks
    // the most that all rounds together may cost, see edgelora_fleet_cost; 0: no end
    uint32_t budget;
} edgelora_policy_t;

// What a board is. Pointers are looked at during `begin` only.
typedef struct {
    const uint8_t *secret; // u8[32] X25519 secret of this board
    const uint8_t *server; // u8[32] the server's public key, from the roster
    const uint8_t *fleet; // u8[8] fleet id
    const uint8_t *seed; // u8[32] fresh from the board's generator, never used again
    uint32_t round; // the last one that this board took part in, from flash; 0: none
    uint64_t spent; // what all rounds so far have cost, from flash
    uint32_t roster; // its number
    uint16_t index; // of this board in it, below 0xFFFF
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
    uint16_t least; // m, survivors of a cohort below which nothing is opened
    uint16_t cohort; // boards of a cohort at most, 2 to 65
    // of the others in a cohort, so many may work for the server: thresholds are made for them
    uint16_t colluders;
    uint16_t masks; // 1; 0 in a round without masks
} edgelora_task_t;

typedef struct edgelora_member edgelora_member_t;

// Bytes of a member with room for so many others of its cohort, 64 at most.
uint32_t edgelora_member_size(uint32_t neighbours);

// The first work is the key that it has with the server. ERR_MEMBER: memory or index.
edgelora_fleet_status_t edgelora_member_begin(
    void *memory, uint32_t size, const edgelora_board_t *board);

// The member in memory, or NULL if there is none.
edgelora_member_t *edgelora_member(void *memory, uint32_t size);

edgelora_next_t edgelora_member_next(const edgelora_member_t *m);

// Of the round that runs, 0 before the first TASK. The stage is that of the last message that was
// taken.
uint32_t edgelora_member_round(const edgelora_member_t *m);
edgelora_stage_t edgelora_member_stage(const edgelora_member_t *m);
const edgelora_task_t *edgelora_member_task(const edgelora_member_t *m);

// What all rounds have cost, that of this one included once its update has left or, with `update`,
// is about to leave.
uint64_t edgelora_member_spent(const edgelora_member_t *m);

// A whole message; its memory serves as room to work in: what was taken is not the same afterwards.
// OK, AGAIN or an error, after which the state is what it was.
edgelora_fleet_status_t edgelora_member_receive(
    edgelora_member_t *m, uint8_t *message, size_t size);

// Writes the indices of the neighbours, which are all others of the cohort, u16[64] at most,
// ascending. Their number, 0 before COHORT.
uint32_t edgelora_member_neighbours(const edgelora_member_t *m, uint16_t *indices);

// The public key of the neighbour at a place in that list, as the roster has it: in order; one that
// was given may be given again. ERR_REVOKED (it is all zero) leaves the member where it was before
// COHORT.
edgelora_fleet_status_t edgelora_member_key(
    edgelora_member_t *m, uint32_t place, const uint8_t key[32]);

// Does one piece of work. Pieces left, 0 if none is; ERR_KEY: the round is over, `culprit` is whose
// key it was (0xFFFF: the server's).
int32_t edgelora_member_work(edgelora_member_t *m);
uint16_t edgelora_member_culprit(const edgelora_member_t *m);

// before, after: s16 [n], masters of the global adapter and of the trained one, in the file's
// order. reply: memory of the reply, 32 + 4 n bytes at a multiple of 4, stays in use until `reply`
// has been called with it.
edgelora_fleet_status_t edgelora_member_update(edgelora_member_t *m, const int16_t *before,
    const int16_t *after, uint32_t n, void *reply, size_t capacity);

// Bytes of the reply to the message that was taken last; 0 before the first and once it was
// written.
uint32_t edgelora_member_reply_size(const edgelora_member_t *m);

// Writes the reply, once. Its size, or an error.
int32_t edgelora_member_reply(edgelora_member_t *m, void *reply, size_t capacity);

// ---- what an update is made of

// out: s32 [n] = after - before, scaled down so that the sum of squares is at most clip^2. clip: 1
// to 65535.
void edgelora_fleet_update(
    const int16_t *before, const int16_t *after, uint32_t n, uint32_t clip, int32_t *out);

// Adds a discrete Gaussian of standard deviation sigma (0 to 65535) to each, drawn from the key's
// stream.
void edgelora_fleet_noise(const uint8_t key[32], uint32_t sigma, int32_t *values, uint32_t n);

// What a round costs a board: 1 / z^2 in millionths, rounded up, where z = sigma sqrt(honest) /
// clip is the noise in clips of the sum that can be opened. Costs add up: rounds tell no more
// together than one sum with the noise of their total. clip, sigma, honest: up to 65535. UINT64_MAX
// without noise.
uint64_t edgelora_fleet_cost(uint32_t clip, uint32_t sigma, uint32_t honest);

#endif
