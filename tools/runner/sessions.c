// Calls of a session that add up to what a board does with a sample, beside those of calls.c.
// SPDX-License-Identifier: MIT

#include "calls.h"

#include "edgelora.h"

// In the order of cores.py
enum { PROBABILITIES, FEATURES, EVALUATE, CLASSES, BLEND, RECORD, RESET, NEXT };

enum { ROOM = 1 << 16 };

static uint64_t room[2][ROOM / 8];

static uint32_t number(uint8_t *out, int32_t value) {
    __builtin_memcpy(out, &value, 4);
    return 4;
}

// Inference and a step of training from a sample's features; writes the class and the loss.
static uint32_t features(
    edgelora_session_t *s, const int8_t *x, uint32_t label, const int8_t *target, uint8_t *out) {
    int8_t *kept = (int8_t *)room[0];
    int32_t answers[3] = {0};
    if (edgelora_feature_size(s) > ROOM) {
        return 0;
    }
    answers[0] = edgelora_features(s, x, kept);
    if (!answers[0]) {
        answers[0] = edgelora_infer_features(s, kept);
        answers[1] = edgelora_train_features(s, kept, label, target, 9000, &answers[2]);
    }
    __builtin_memcpy(out, answers, sizeof answers);
    return sizeof answers;
}

// The row that a class has after one sample.
static uint32_t classes(edgelora_session_t *s, const void *model, const int8_t *x, uint8_t *out) {
    int32_t *sums = (int32_t *)room[0];
    edgelora_class_t *row = (edgelora_class_t *)room[1];
    uint32_t size = edgelora_class_size(model);
    if (!size || 4 * size > ROOM) {
        return 0;
    }
    __builtin_memset(sums, 0, 4 * size);
    __builtin_memset(room[1], 0, sizeof room[1]);
    int32_t status = edgelora_class_sample(s, x, sums);
    status = status < 0 ? status : edgelora_class_row(s, sums, 1, row);
    __builtin_memcpy(out, row, sizeof *row + 2 * size);
    return status < 0 ? number(out, status) : (uint32_t)sizeof *row + 2 * size;
}

// The training adapter, saved, and half of it added to half of it; or saved, with its record of
// classes left out.
static uint32_t made_of_saved(edgelora_session_t *s, bool sum, uint8_t *out) {
    int32_t size = edgelora_save(s, false, room[0], ROOM), written = size;
    if (size >= 0) {
        const edgelora_part_t half = {room[0], (uint32_t)size, 2048}, parts[2] = {half, half};
        written = sum ? edgelora_blend(s, parts, 2, true, room[1], ROOM)
                      : edgelora_with_record(s, room[0], (uint32_t)size, EDGELORA_RECORD_CLASSES, 0,
                            0, room[1], ROOM);
    }
    if (written < 0) {
        return number(out, written);
    }
    __builtin_memcpy(out, room[1], (uint32_t)written);
    return (uint32_t)written;
}

uint32_t session_call(edgelora_session_t *s, const void *model, uint32_t what, const int8_t *x,
    uint32_t label, const int8_t *target, uint8_t *out) {
    int32_t answers[2] = {0};
    uint32_t count = edgelora_class_count(s);
    switch (what) {
        case PROBABILITIES:
            answers[0] = edgelora_infer_sample(s, x);
            answers[1] = edgelora_probabilities(s, (uint16_t *)room[0]);
            if (answers[1] < 0) {
                break;
            }
            __builtin_memcpy(out, room[0], 2 * count);
            return 2 * count;
        case FEATURES:
            return features(s, x, label, target, out);
        case EVALUATE:
            answers[0] = edgelora_evaluate(s, x, label, target, &answers[1]);
            break;
        case CLASSES:
            return classes(s, model, x, out);
        case BLEND:
        case RECORD:
            return made_of_saved(s, what == BLEND, out);
        case RESET:
            answers[0] = edgelora_reset(s);
            break;
        case NEXT: // also draws number 5 of a seed
            answers[0] = edgelora_next(s, label);
            answers[1] = edgelora_choose(s, 300, label, 5);
            if (answers[0] < 0) {
                break;
            }
            __builtin_memcpy(out, answers, sizeof answers);
            __builtin_memcpy(out + sizeof answers, edgelora_output(s), count);
            return (uint32_t)sizeof answers + count;
    }
    __builtin_memcpy(out, answers, sizeof answers);
    return sizeof answers;
}
