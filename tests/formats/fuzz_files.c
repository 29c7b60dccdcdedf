// Runs the core on damaged files under the sanitizers: every byte of a model and of an adapter
// flipped in several of ten ways, with a stale and with a corrected CRC, and every truncation.
// Files that pass the checks are used: inference, training, saving.
// SPDX-License-Identifier: MIT
//
// Usage: fuzz_files MODEL.elm ADAPTER.ela WAYS SEED. WAYS: how many of the ten flips each byte
// gets; SEED selects the first. Prints counts; a crash or a sanitizer report is a failure.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph.h"

enum { MAX_ARENA = 4 << 20 };

typedef struct {
    unsigned stale_accepted, refused, accepted, ran;
} counts_t;

static uint8_t *read_file(const char *path, uint32_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END)) {
        perror(path);
        exit(2);
    }
    *size = (uint32_t)ftell(f);
    rewind(f);
    uint8_t *data = malloc(*size);
    if (fread(data, 1, *size, f) != *size) {
        perror(path);
        exit(2);
    }
    fclose(f);
    return data;
}

static void make_crc_right(uint8_t *file, uint32_t size) {
    uint32_t crc = edgelora_crc32(0, file + 16, size - 16);
    memcpy(file + 12, &crc, 4);
}

static int64_t work(const void *model) {
    int64_t macs = 0;
    for (uint32_t i = 0; i < ((const edgelora_model_t *)model)->op_count; ++i) {
        edgelora_shape_t g = edgelora_shape(model, i);
        macs += (int64_t)g.positions * g.out_c * g.inputs;
    }
    return macs;
}

// Blends a file that may be an adapter with itself and with one of another seed: all reads are in
// bounds, and the blend of an accepted adapter is accepted.
static void blend(edgelora_session_t *s, const void *adapter, uint32_t size, bool accepted) {
    uint8_t *other = malloc(size);
    memcpy(other, adapter, size);
    if (size > 24) {
        other[24] ^= 1;
    }
    edgelora_part_t parts[] = {{adapter, size, 4096}, {adapter, size, -1234}, {other, size, 32767}};
    for (uint32_t count = 1; count <= 3; ++count) {
        int32_t room = edgelora_blend(s, parts, count, true, 0, 0);
        for (int fine = 0; room > 0 && fine < 2; ++fine) {
            void *out = malloc((size_t)room);
            int32_t made = edgelora_blend(s, parts, count, fine, out, (uint32_t)room);
            if (made > 0 && accepted &&
                edgelora_adapter_check(s, out, (uint32_t)room) != EDGELORA_OK) {
                abort();
            }
            free(out);
        }
    }
    free(other);
}

// Adding, replacing or removing a record of an accepted adapter yields an accepted adapter.
static void change_records(
    edgelora_session_t *s, const void *adapter, uint32_t size, bool accepted) {
    static const uint32_t body[2] = {1, 2};
    for (uint32_t k = 0; k < 2 * EDGELORA_RECORD_KINDS; ++k) {
        edgelora_record_kind_t kind = (edgelora_record_kind_t)(k / 2);
        const void *given = k & 1 ? body : 0;
        int32_t room = edgelora_with_record(s, adapter, size, kind, given, 5, 0, 0);
        if (room > 0) {
            void *out = malloc((size_t)room);
            int32_t made = edgelora_with_record(
                s, adapter, size, kind, given, 5, out, (uint32_t)room);
            // an invalid body for this model is refused
            bool none = given && made == EDGELORA_ERR_FORMAT;
            if (!none &&
                (made != room ||
                    (accepted && edgelora_adapter_check(s, out, (uint32_t)room) != EDGELORA_OK))) {
                abort();
            }
            free(out);
        }
    }
}

// Everything a session can do with a checked model and, if given, a file that may be an adapter.
static bool run(const void *model, const void *adapter, uint32_t adapter_size, edgelora_mode_t mode,
    uint8_t rank) {
    const edgelora_model_t *m = model;
    uint8_t ranks[EDGELORA_MAX_OPS], ones[EDGELORA_MAX_OPS];
    memset(ones, 1, sizeof(ones));
    for (uint32_t i = 0; i < m->op_count; ++i) {
        ranks[i] = edgelora_shape(model, i).is_matrix ? rank : 0;
    }
    edgelora_config_t config = {
        .ranks = ranks,
        .mode = (uint8_t)mode,
        .micro_batch = 2,
        .recompute = rank == 3 ? ones : 0,
        .frames = (uint16_t)(remembering_ops(model, m->op_count) ? 5 : 1)};
    edgelora_span_t *spans = malloc(m->op_count * EDGELORA_PLANNED * sizeof(*spans));
    int32_t size = edgelora_arena_size(model, &config, spans);
    free(spans);
    if (size < 0 || size > MAX_ARENA || work(model) > 1 << 16) {
        return false;
    }
    size += (int32_t)edgelora_simd_room();
    void *arena = malloc((size_t)size);
    uint32_t sample = config.frames * edgelora_input_size(model);
    int8_t *x = malloc(sample);
    for (uint32_t i = 0; i < sample; ++i) {
        x[i] = (int8_t)(i * 37);
    }
    bool accepted = true;
    if (edgelora_init(arena, (uint32_t)size, model, &config) != EDGELORA_OK) {
        abort();
    }
    edgelora_session_t *s = edgelora_session(arena, (uint32_t)size);
    edgelora_infer(s, x);
    if (adapter) {
        accepted = edgelora_adapter_check(s, adapter, adapter_size) == EDGELORA_OK;
        if (accepted) {
            edgelora_load(s, adapter, adapter_size);
        }
        // `use` checks neither values nor CRC; reads must still be in bounds
        if (edgelora_use(s, adapter, adapter_size) == EDGELORA_OK) {
            edgelora_infer(s, x);
        }
        blend(s, adapter, adapter_size, accepted);
        change_records(s, adapter, adapter_size, accepted);
    } else {
        edgelora_begin(s, 3);
    }
    int32_t loss;
    uint32_t target_size = edgelora_target_size(model);
    int8_t *target = malloc(target_size ? target_size : 1);
    for (uint32_t i = 0; i < target_size; ++i) {
        target[i] = (int8_t)(m->loss == EDGELORA_BINARY_CROSS_ENTROPY ? i & 1 : i * 29);
    }
    for (uint32_t i = 0; accepted && i < 4; ++i) {
        edgelora_train(s, x, i % edgelora_output_size(model), target, 65535, &loss);
        if (edgelora_feature_size(s) && edgelora_feature_size(s) < 1 << 20) {
            int8_t *f = malloc(edgelora_feature_size(s));
            if (edgelora_features(s, x, f) != EDGELORA_OK)
                abort();
            edgelora_train_features(s, f, i % edgelora_output_size(model), target, 65535, &loss);
            edgelora_infer_features(s, f);
            free(f);
        }
    }
    void *merged[EDGELORA_MAX_OPS] = {0};
    for (uint32_t i = 0; accepted && i < m->op_count; ++i) {
        if (edgelora_merge_size(s, i)) {
            merged[i] = malloc(edgelora_merge_size(s, i));
            edgelora_merge(s, i, merged[i]);
        }
    }
    if (accepted) {
        edgelora_infer(s, x);
        edgelora_infer_sample(s, x);
    }
    for (uint32_t i = 0; i < m->op_count; ++i) {
        free(merged[i]);
    }
    free(target);
    if (s->begun) {
        uint32_t room = edgelora_adapter_size(s, true);
        void *out = malloc(room);
        if (edgelora_save(s, true, out, room) != (int32_t)room ||
            edgelora_adapter_check(s, out, room) != EDGELORA_OK) {
            abort(); // it must accept what it saves
        }
        free(out);
    }
    free(arena);
    free(x);
    return accepted;
}

static bool model_accepted(const uint8_t *file, uint32_t size, counts_t *counts) {
    if (edgelora_model_check(file, size) != EDGELORA_OK) {
        return false;
    }
    counts->ran += run(file, 0, 0, EDGELORA_FROZEN_A, 2);
    run(file, 0, 0, EDGELORA_TRAINABLE_A, 3);
    run(file, 0, 0, EDGELORA_INFER, 0);
    return true;
}

static const uint8_t *base; // the base of adapters

static bool adapter_accepted(const uint8_t *file, uint32_t size, counts_t *counts) {
    bool frozen = run(base, file, size, EDGELORA_FROZEN_A, 2);
    bool trainable = run(base, file, size, EDGELORA_TRAINABLE_A, 2);
    counts->ran += frozen && trainable;
    return frozen;
}

static counts_t damage(const uint8_t *file, uint32_t size,
    bool (*accepted)(const uint8_t *, uint32_t, counts_t *), uint32_t ways, uint32_t seed) {
    counts_t counts = {0};
    static const uint8_t flips[] = {0x01, 0x80, 0x02, 0xFF, 0x04, 0x40, 0x08, 0x7F, 0x10, 0x20};
    for (uint32_t at = 0; at < size; ++at) {
        for (uint32_t k = 0; k < ways; ++k) {
            uint8_t *copy = malloc(size);
            memcpy(copy, file, size);
            copy[at] ^= flips[(seed + 3 * at + k) % sizeof(flips)];
            counts.stale_accepted += accepted(copy, size, &counts);
            if (at >= 16) {
                make_crc_right(copy, size);
                if (accepted(copy, size, &counts)) {
                    counts.accepted += 1;
                } else {
                    counts.refused += 1;
                }
            }
            free(copy);
        }
    }
    for (uint32_t length = 0; length < size; ++length) {
        uint8_t *copy = malloc(length ? length : 1);
        memcpy(copy, file, length);
        counts.stale_accepted += accepted(copy, length, &counts);
        if (length >= 16) { // also with that length in the header
            memcpy(copy + 8, &length, 4);
            make_crc_right(copy, length);
            counts.stale_accepted += accepted(copy, length, &counts);
        }
        free(copy);
    }
    return counts;
}

static void print(const char *what, counts_t c) {
    printf("%s: stale_accepted %u refused %u accepted %u ran %u\n", what, c.stale_accepted,
        c.refused, c.accepted, c.ran);
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: fuzz_files MODEL ADAPTER WAYS SEED\n");
        return 2;
    }
    uint32_t model_size, adapter_size;
    uint8_t *model = read_file(argv[1], &model_size), *adapter = read_file(argv[2], &adapter_size);
    uint32_t ways = (uint32_t)strtoul(argv[3], 0, 10), seed = (uint32_t)strtoul(argv[4], 0, 10);
    base = model;
    counts_t counts = {0};
    if (!model_accepted(model, model_size, &counts) ||
        !adapter_accepted(adapter, adapter_size, &counts)) {
        fprintf(stderr, "the files are not right to begin with\n");
        return 1;
    }
    print("model", damage(model, model_size, model_accepted, ways, seed));
    print("adapter", damage(adapter, adapter_size, adapter_accepted, ways, seed));
    free(model);
    free(adapter);
    return 0;
}
