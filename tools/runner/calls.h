// The core's functions as calls in a buffer: what the runners on all cores share.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_CALLS_H
#define EDGELORA_CALLS_H

#include <stdint.h>

#include "edgelora.h"

// Rooms in bytes; a runner with little memory sets its own.
#ifndef CALLS_ROOM
#define CALLS_ROOM (16 << 20)
#define ANSWERS_ROOM (16 << 20)
#define ARENA_ROOM (16 << 20)
#endif

// Carries out calls (a number of them, then the calls) and writes their answers, each behind its
// size. Returns the answers' size, or 0 if they need more than ANSWERS_ROOM.
uint32_t carry_out(const void *calls, void *answers);

// A function of the cryptography: writes its answer, whose size it returns. data: of 64 KB at most,
// not aligned.
uint32_t crypto_call(uint32_t what, const uint8_t *data, uint32_t size, uint8_t *out);

// Of front ends and of one member of a fleet: as crypto_call, but data is at a multiple of 4.
uint32_t front_end_call(
    const uint32_t *settings, const int16_t *samples, uint32_t size, uint8_t *out);
uint32_t member_call(uint32_t what, const uint8_t *data, uint32_t size, uint8_t *out);

// What boards do with one sample (s8 [frames, input]) or with what was learned; model: that of the
// session.
uint32_t session_call(edgelora_session_t *s, const void *model, uint32_t what, const int8_t *x,
    uint32_t label, const int8_t *target, uint8_t *out);

// Of the runner: instructions since the last start, -1 if it can't tell; on an ESP32-S3, those that
// the handler carried out.
void start_counting(void);
int32_t counted(void);

// Of an ESP32-S3 (esp32s3.c): from here on, its vector instructions are carried out.
void emulate_vectors(void);

#endif
