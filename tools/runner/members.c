// Calls of front ends and of a fleet's member.
// SPDX-License-Identifier: MIT

#include "calls.h"

#include <stddef.h>

#include "fleet/fleet.h"
#include "signal/frontend.h"

// In the order of cores.py
enum { AUDIO, SPECTRAL };
enum { BEGIN, RECEIVE, KEY, WORK, UPDATE, REPLY };

enum { MOST_PARAMETERS = 1024 };

// settings: AUDIO or SPECTRAL, then what its `begin` takes. samples: whole steps. Writes the
// features of all steps.
uint32_t front_end_call(
    const uint32_t *settings, const int16_t *samples, uint32_t size, uint8_t *out) {
    static union {
        edgelora_audio_t audio;
        edgelora_spectral_t spectral;
        uint64_t aligned;
    } state;
    const int16_t *end = samples + size / 2;
    uint32_t written = 0;
    if (settings[0] == AUDIO) {
        if (edgelora_audio_begin(
                &state, sizeof state.audio, settings[1], settings[2], (int8_t)settings[3])) {
            return 0;
        }
        for (; samples < end; samples += EDGELORA_AUDIO_STEP) {
            if (edgelora_audio_step(&state.audio, samples, out + written) > 0) {
                written += edgelora_audio_output_size(&state.audio);
            }
        }
        return written;
    }
    if (edgelora_spectral_begin(&state, sizeof state.spectral, settings[1], settings[2],
            settings[3], settings[4], settings[5], (int8_t)settings[6])) {
        return 0;
    }
    for (; samples < end; samples += EDGELORA_SPECTRAL_FRAME * settings[1]) {
        if (edgelora_spectral_step(&state.spectral, samples, out + written) > 0) {
            written += edgelora_spectral_output_size(&state.spectral);
        }
    }
    return written;
}

// secret[32], server[32], fleet[8], seed[32], u32 roster, u32 index
static int32_t begin(void *memory, uint32_t size, const uint8_t *data) {
    edgelora_board_t board = {
        .secret = data, .server = data + 32, .fleet = data + 64, .seed = data + 72};
    uint32_t numbers[2];
    __builtin_memcpy(numbers, data + 104, sizeof numbers);
    board.roster = numbers[0];
    board.index = (uint16_t)numbers[1];
    return edgelora_member_begin(memory, size, &board);
}

// One member. data: what `begin` above, a message, u32 place and key[32], nothing, s16 masters
// before and after, nothing. Writes the reply, or an s32 status.
uint32_t member_call(uint32_t what, const uint8_t *data, uint32_t size, uint8_t *out) {
    static uint64_t memory[2048], reply[(EDGELORA_FLEET_ENVELOPE + 4 * MOST_PARAMETERS) / 8 + 256];
    static uint8_t message[8192];
    edgelora_member_t *m = (edgelora_member_t *)(void *)memory;
    uint32_t place, n = size / 4;
    int32_t status = -100;
    switch (what) {
        case BEGIN:
            status = begin(memory, sizeof memory, data);
            break;
        case RECEIVE:
            if (size <= sizeof message) {
                __builtin_memcpy(message, data, size);
                status = edgelora_member_receive(m, message, size);
            }
            break;
        case KEY:
            __builtin_memcpy(&place, data, 4);
            status = edgelora_member_key(m, place, data + 4);
            break;
        case WORK:
            status = edgelora_member_work(m);
            break;
        case UPDATE:
            if (n <= MOST_PARAMETERS) {
                const int16_t *before = (const int16_t *)(const void *)data;
                status = edgelora_member_update(m, before, before + n, n, reply, sizeof reply);
            }
            break;
        case REPLY:
            status = edgelora_member_reply(m, reply, sizeof reply);
            if (status > 0) {
                __builtin_memcpy(out, reply, (uint32_t)status);
                return (uint32_t)status;
            }
            break;
    }
    __builtin_memcpy(out, &status, 4);
    return 4;
}
