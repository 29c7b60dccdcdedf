// Sequences of API calls on a model and adapters that the fuzzer mutates.
// SPDX-License-Identifier: MIT
//
// Every call is made on two sessions, one with portable kernels only and one with all kernels of
// this processor: they must agree. A refused call must leave the arena unchanged. Adapters that are
// saved, blended or given a record must pass the check. The program: 16 bytes of configuration,
// then commands of 4 bytes.

#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifndef __has_feature
#define __has_feature(x) 0
#endif
enum { UNINITIALIZED_IS_SEEN = __has_feature(memory_sanitizer) };

enum {
    SLOTS = 5,
    KEPT = 160,
    MAX_COMMANDS = 20,
    MAX_WORK = 1 << 10,
    MAX_VALUES = 1 << 10,
    MAX_ARENA = 1 << 15,
    CONFIG = 16,
    PREFERRED_OPS = 24,
};

typedef enum {
    INFER,
    INFER_SAMPLE,
    RESET,
    RANGES,
    BACKWARD,
    PROBABILITIES,
    USE,
    USE_NONE,
    BEGIN,
    LOAD,
    MERGE,
    BLEND,
    TRAIN,
    FLUSH,
    FEATURES,
    INFER_FEATURES,
    TRAIN_FEATURES,
    EVALUATE,
    CLASS_SAMPLE,
    CLASS_ROW,
    WITH_RECORD,
    SAVE,
    QUANTIZE,
    COPY,
    INIT,
    NEXT,
    CHOOSE,
    BACK,
    COMMANDS,
} command_t;

typedef struct {
    uint8_t *data;
    uint32_t size;
    bool right; // has passed the check
} slot_t;

typedef struct {
    const void *model;
    edgelora_config_t config;
    edgelora_session_t *s[2];
    uint32_t arena[2],
        given[2]; // compared bytes; the same plus the vector kernels' memory
    void *before[2];
    slot_t slots[SLOTS];
    void *kept[KEPT]; // buffers that a session may use: freed at the end
    uint32_t kept_count;
    int8_t *x, *target, *features;
    int32_t *sums[2];
    uint32_t summed;
    bool inferred; // outputs are from an inference
    bool trusted; // the adapter in use has passed the check
    bool strayed; // the stream or the window has values of an adapter that has not
    bool spoiled; // the training adapter has arbitrary values
} world_t;

static void *keep(world_t *w, void *buffer) {
    if (w->kept_count < KEPT) {
        w->kept[w->kept_count++] = buffer;
        return buffer;
    }
    free(buffer);
    return 0;
}

static bool room_left(const world_t *w) {
    return w->kept_count + 2 <= KEPT;
}

static void put_slot(world_t *w, uint32_t k, uint8_t *data, uint32_t size) {
    bool right = edgelora_adapter_check(w->s[0], data, size) == EDGELORA_OK;
    w->slots[k % SLOTS] = (slot_t){keep(w, data), size, right};
}

// Fills an input, a target or features.
static void fill(int8_t *v, uint32_t count, uint32_t pattern, bool bits) {
    for (uint32_t i = 0; i < count; ++i) {
        uint32_t drawn = (i + 1) * (2654435761u * (pattern | 1));
        uint32_t value = pattern == 0 ? 0x80u
            : pattern == 1            ? 0x7Fu
            : pattern == 2            ? 0
                                      : drawn >> 24;
        v[i] = (int8_t)(bits ? drawn >> 31 : value);
    }
}

static const int8_t *input_for(world_t *w, uint32_t pattern) {
    fill(w->x, w->config.frames * edgelora_input_size(w->model), pattern, false);
    return w->x;
}

static const int8_t *target_for(world_t *w, uint32_t pattern) {
    const edgelora_model_t *m = w->model;
    fill(w->target, edgelora_target_size(m), pattern,
        m->loss == EDGELORA_BINARY_CROSS_ENTROPY && pattern != 9);
    return pattern == 8 ? 0 : w->target;
}

// A buffer that a call fills on each side; both must be equal.
typedef struct {
    uint8_t *of[2];
    uint32_t size;
} pair_t;

static pair_t make_pair(uint32_t size) {
    pair_t p = {{0}, size};
    for (int k = 0; k < 2; ++k) {
        p.of[k] = malloc(size ? size : 1);
        CHECK(p.of[k]);
    }
    return p;
}

static void free_pair(pair_t p) {
    free(p.of[0]);
    free(p.of[1]);
}

static bool same(pair_t p) {
    return !p.size || !memcmp(p.of[0], p.of[1], p.size);
}

static void before_call(world_t *w, int k) {
    if (!UNINITIALIZED_IS_SEEN) {
        memcpy(w->before[k], w->s[k], w->arena[k]);
    }
}

static void after_call(world_t *w, int k, int32_t result) {
    CHECK(result >= 0 || UNINITIALIZED_IS_SEEN || !memcmp(w->before[k], w->s[k], w->arena[k]));
}

#define BOTH(result, call) \
    do { \
        for (int k = 0; k < 2; ++k) { \
            edgelora_session_t *s = w->s[k]; \
            before_call(w, k); \
            (result)[k] = (int32_t)(call); \
            after_call(w, k, (result)[k]); \
        } \
    } while (0)

static void comparable(const int32_t *r, bool known) {
    CHECK((r[0] < 0) == (r[1] < 0));
    CHECK(r[0] >= 0 || r[0] == r[1]);
    CHECK(!known || r[0] == r[1]);
}

static void outputs_same(world_t *w) {
    CHECK(!memcmp(
        edgelora_output(w->s[0]), edgelora_output(w->s[1]), edgelora_output_size(w->model)));
}

// fresh: it began with a reset
static void after_inference(world_t *w, const int32_t *r, bool fresh) {
    if (r[0] >= 0) {
        w->strayed = !w->trusted || (w->strayed && !fresh);
    }
    comparable(r, !w->strayed);
    if (r[0] >= 0) {
        w->inferred = true;
        if (!w->strayed) {
            outputs_same(w);
        }
    }
}

static void ranges(world_t *w, const uint8_t *c) {
    uint32_t n = ((const edgelora_model_t *)w->model)->op_count, middle = c[2] % (n + 1);
    int32_t r[2];
    const int8_t *x = input_for(w, c[1]);
    BOTH(r, edgelora_forward_range(s, x, 0, middle));
    BOTH(r, edgelora_forward_range(s, x, middle, n + c[3]));
    comparable(r, true);
    BOTH(r, edgelora_forward_range(s, x, n, c[3]));
    if (r[0] != EDGELORA_OK) {
        return;
    }
    w->strayed |= !w->trusted;
    if (!w->strayed) {
        outputs_same(w);
    }
    w->inferred = false; // no class was chosen
}

static void features(world_t *w, const uint8_t *c) {
    pair_t p = make_pair(edgelora_feature_size(w->s[0]));
    CHECK(p.size == edgelora_feature_size(w->s[1]));
    const int8_t *x = input_for(w, c[1]);
    int32_t r[2];
    BOTH(r, edgelora_features(s, x, (int8_t *)p.of[k]));
    comparable(r, true);
    if (r[0] == EDGELORA_OK) {
        CHECK(same(p));
        w->inferred = false;
        free(w->features);
        w->features = (int8_t *)p.of[0];
        p.of[0] = 0;
    }
    free_pair(p);
}

static void train(world_t *w, const uint8_t *c, bool from_features) {
    uint32_t label = c[2] == 255 ? UINT32_MAX : c[2] & 31u;
    const int8_t *x = from_features ? 0 : input_for(w, c[1]), *target = target_for(w, c[2]);
    uint16_t rate = (uint16_t)(c[3] * 257);
    int32_t r[2], loss[2] = {0};
    if (from_features) {
        BOTH(r, edgelora_train_features(s, w->features, label, target, rate, &loss[k]));
    } else {
        BOTH(r, edgelora_train(s, x, label, target, rate, &loss[k]));
    }
    comparable(r, true);
    CHECK(w->spoiled || loss[0] == loss[1]);
    w->strayed |= w->spoiled;
    w->inferred &= r[0] != EDGELORA_OK;
}

static void merge(world_t *w, const uint8_t *c) {
    uint32_t op = c[1] % (((const edgelora_model_t *)w->model)->op_count + 1u);
    if (!room_left(w)) {
        return;
    }
    pair_t p = make_pair(edgelora_merge_size(w->s[0], op));
    memset(p.of[0], 0, p.size); // padding after the weights is not written
    memset(p.of[1], 0, p.size);
    int32_t r[2];
    BOTH(r, edgelora_merge(s, op, p.of[k]));
    comparable(r, true);
    CHECK(r[0] != EDGELORA_OK || w->spoiled || same(p));
    keep(w, p.of[0]);
    keep(w, p.of[1]);
}

static void blend(world_t *w, const uint8_t *c) {
    edgelora_part_t parts[EDGELORA_MAX_PARTS + 1];
    uint32_t count = c[1] % (EDGELORA_MAX_PARTS + 2u);
    bool right = true;
    for (uint32_t i = 0; i < count; ++i) {
        const slot_t *slot = &w->slots[(c[2] + i * (c[2] >> 4)) % SLOTS];
        int32_t weight = (int32_t)(int8_t)c[3] * 258 * (i & 1 ? -1 : 1);
        parts[i] = (edgelora_part_t){slot->data, slot->size, c[3] == 128 ? -32768 : weight};
        right = right && slot->right;
    }
    bool fine = c[1] & 64;
    int32_t size[2], r[2];
    BOTH(size, edgelora_blend(s, parts, count, fine, 0, 0));
    comparable(size, true);
    if (size[0] <= 0 || size[0] > MAX_ARENA || !room_left(w)) {
        return;
    }
    pair_t p = make_pair((uint32_t)size[0]);
    BOTH(r, edgelora_blend(s, parts, count, fine, p.of[k], p.size - (c[1] >> 7)));
    comparable(r, true);
    if (r[0] > 0) {
        CHECK(r[0] == size[0] && same(p));
        CHECK(!right || edgelora_adapter_check(w->s[0], p.of[0], p.size) == EDGELORA_OK);
        put_slot(w, c[2] >> 3, p.of[0], p.size);
        p.of[0] = 0;
    }
    free_pair(p);
}

static void with_record(world_t *w, const slot_t *slot, uint32_t kind, const void *body,
    uint32_t body_size, uint32_t to) {
    int32_t size[2], r[2];
    BOTH(size,
        edgelora_with_record(
            s, slot->data, slot->size, (edgelora_record_kind_t)kind, body, body_size, 0, 0));
    comparable(size, true);
    if (size[0] <= 0 || !room_left(w)) {
        return;
    }
    pair_t p = make_pair((uint32_t)size[0]);
    BOTH(r,
        edgelora_with_record(s, slot->data, slot->size, (edgelora_record_kind_t)kind, body,
            body_size, p.of[k], p.size));
    comparable(r, true);
    if (r[0] > 0) {
        CHECK(r[0] == size[0] && same(p));
        CHECK((slot->data && !slot->right) ||
            edgelora_adapter_check(w->s[0], p.of[0], p.size) == EDGELORA_OK);
        put_slot(w, to, p.of[0], p.size);
        p.of[0] = 0;
    }
    free_pair(p);
}

static void record(world_t *w, const uint8_t *c) {
    static const slot_t bare = {0};
    uint8_t *body = malloc(c[3] + 1u);
    memset(body, c[2], c[3]);
    const slot_t *slot = c[1] & 8 ? &bare : &w->slots[c[1] % SLOTS];
    with_record(w, slot, (c[1] >> 4) & 3, c[2] == 255 ? 0 : body, c[3], c[2]);
    free(body);
}

static void class_sample(world_t *w, const uint8_t *c) {
    const int8_t *x = input_for(w, c[1]);
    int32_t r[2];
    BOTH(r, edgelora_class_sample(s, x, w->sums[k]));
    comparable(r, true);
    if (r[0] == EDGELORA_OK) {
        w->summed += 1;
        w->strayed = !w->trusted;
        w->inferred = false;
        CHECK(!w->trusted || !memcmp(w->sums[0], w->sums[1], 4 * edgelora_class_size(w->model)));
    }
}

// Adds a class computed from the samples so far to an adapter.
static void class_row_of(world_t *w, const uint8_t *c) {
    uint32_t inputs = edgelora_class_size(w->model),
             size = (uint32_t)sizeof(edgelora_classes_t) + class_span(inputs);
    pair_t p = make_pair(size);
    uint32_t n = c[1] == 255 ? 1025 : w->summed;
    int32_t r[2];
    memset(p.of[0], 0, size);
    memset(p.of[1], 0, size);
    BOTH(r, edgelora_class_row(s, w->sums[k], n, (void *)(p.of[k] + sizeof(edgelora_classes_t))));
    comparable(r, true);
    if (r[0] == EDGELORA_OK) {
        CHECK(!w->trusted || same(p));
        edgelora_classes_t *head = (void *)p.of[0];
        edgelora_class_t *made = (void *)(head + 1);
        *head = (edgelora_classes_t){1, (uint16_t)inputs};
        made->number = (uint16_t)(c[1] & 31);
        made->name[0] = made->number < edgelora_output_size(w->model) ? 0 : 'x';
        with_record(w, &w->slots[c[2] % SLOTS], EDGELORA_RECORD_CLASSES, head, size, c[3]);
        memset(w->sums[0], 0, 4 * inputs);
        memset(w->sums[1], 0, 4 * inputs);
        w->summed = 0;
    }
    free_pair(p);
}

static void save(world_t *w, const uint8_t *c) {
    bool state = c[1] & 1;
    pair_t p = make_pair(edgelora_adapter_size(w->s[0], state));
    CHECK(p.size == edgelora_adapter_size(w->s[1], state));
    int32_t r[2];
    BOTH(r, edgelora_save(s, state, p.of[k], p.size - (c[1] >> 7)));
    comparable(r, true);
    if (r[0] > 0) {
        CHECK((uint32_t)r[0] == p.size);
        CHECK(edgelora_adapter_check(w->s[0], p.of[0], p.size) == EDGELORA_OK);
        CHECK(w->spoiled || same(p));
        if (room_left(w)) {
            put_slot(w, c[2], p.of[0], p.size);
            p.of[0] = 0;
        }
    }
    free_pair(p);
}

static void copy(world_t *w, const uint8_t *c) {
    const slot_t *slot = &w->slots[c[1] % SLOTS];
    if (!slot->data || slot->size < 17 || !room_left(w)) {
        return;
    }
    uint8_t *data = heap_copy(slot->data, slot->size);
    data[(c[2] * (c[1] & 128 ? 37u : 1)) % slot->size] = c[3];
    uint32_t crc = edgelora_crc32(0, data + 16, slot->size - 16);
    memcpy(data + 12, &crc, 4);
    put_slot(w, c[1] >> 4, data, slot->size);
}

static void use(world_t *w, const slot_t *slot) {
    int32_t r[2];
    BOTH(r, edgelora_use(s, slot->data, slot->size));
    comparable(r, true);
    if (r[0] == EDGELORA_OK) {
        w->trusted = slot->right || !slot->data;
        w->inferred = false;
    }
}

static void load(world_t *w, const slot_t *slot) {
    int32_t r[2];
    BOTH(r, edgelora_load(s, slot->data, slot->size));
    comparable(r, true);
    if (r[0] == EDGELORA_OK) {
        CHECK(slot->right);
        w->trusted = true;
        w->inferred = w->spoiled = false;
    }
}

static void begin(world_t *w, const uint8_t *c) {
    int32_t r[2];
    BOTH(r, edgelora_begin(s, c[1] & 7 ? c[1] : c[2] * 0x1010101u));
    comparable(r, true);
    if (r[0] == EDGELORA_OK) {
        w->trusted = true;
        w->inferred = w->spoiled = false;
    }
}

static void probabilities(world_t *w) {
    int32_t r[2];
    uint32_t count = edgelora_class_count(w->s[0]);
    CHECK(count == edgelora_class_count(w->s[1]));
    pair_t p = make_pair(2 * count);
    BOTH(r, edgelora_probabilities(s, (uint16_t *)(void *)p.of[k]));
    comparable(r, true);
    CHECK(r[0] != EDGELORA_OK || w->strayed || same(p));
    free_pair(p);
}

static void quantize(world_t *w, const uint8_t *c) {
    const edgelora_signal_t *signal = edgelora_signal(w->model);
    uint32_t count = signal ? signal->values * (c[1] % 3u) + (c[2] == 255) : c[1];
    if (count > MAX_VALUES) {
        return;
    }
    int16_t *counts = malloc(2 * count + 1);
    int8_t *out = malloc(count + 1);
    for (uint32_t i = 0; i < count; ++i) {
        counts[i] = (int16_t)(c[3] & 1 ? (i & 1 ? 32767 : -32768)
                                       : (int32_t)((i + c[2]) * 40503u & 0xFFFF) - 32768);
    }
    int32_t clipped = edgelora_quantize(w->model, counts, count, out);
    CHECK(clipped <= (int32_t)count);
    free(counts);
    free(out);
}

static void init(world_t *w) {
    for (int k = 0; k < 2; ++k) {
        w->config.plain = k == 0;
        int32_t status = edgelora_init(w->s[k], w->given[k], w->model, &w->config);
        CHECK(status == EDGELORA_OK && edgelora_session(w->s[k], w->given[k]) == w->s[k]);
    }
    w->trusted = true;
    w->inferred = w->spoiled = w->strayed = false;
}

static void next(world_t *w, const uint8_t *c) {
    const edgelora_model_t *m = w->model;
    uint32_t symbols = model_tensor(m, m->op_count)->channels;
    int32_t r[2];
    BOTH(r, edgelora_next(s, c[1] + 256u * c[2]));
    if (r[0] >= 0) {
        w->strayed |= !w->trusted;
        CHECK(r[0] < (int32_t)symbols && r[1] < (int32_t)symbols);
        CHECK(w->strayed || !memcmp(edgelora_output(w->s[0]), edgelora_output(w->s[1]), symbols));
        w->inferred = true;
    }
    comparable(r, !w->strayed);
}

static void choose(world_t *w, const uint8_t *c) {
    const edgelora_model_t *m = w->model;
    int32_t r[2], symbols = model_tensor(m, m->op_count)->channels;
    BOTH(r, edgelora_choose(s, c[1] + 256u * c[2], c[3], c[1]));
    comparable(r, !w->strayed);
    CHECK(r[0] < symbols && r[1] < symbols);
}

static void backward_range(world_t *w, const uint8_t *c) {
    if (UNINITIALIZED_IS_SEEN) { // it reads whatever its buffers hold
        return;
    }
    int32_t r[2];
    const int8_t *x = input_for(w, c[1]);
    BOTH(r, edgelora_backward_range(s, x, c[2] & 7, c[3]));
    comparable(r, true);
    if (r[0] == EDGELORA_OK) {
        w->spoiled = true;
        w->inferred = w->trusted = false;
    }
}

static void step(world_t *w, const uint8_t *c) {
    static const slot_t bare = {0};
    int32_t r[2] = {0}, loss[2] = {0};
    switch ((command_t)(c[0] % COMMANDS)) {
        case INFER: {
            const int8_t *x = input_for(w, c[1]);
            BOTH(r, edgelora_infer(s, x));
            after_inference(w, r, false);
            break;
        }
        case INFER_SAMPLE: {
            const int8_t *x = input_for(w, c[1]);
            BOTH(r, edgelora_infer_sample(s, x));
            after_inference(w, r, true);
            break;
        }
        case RESET:
            BOTH(r, edgelora_reset(s));
            w->strayed = false;
            break;
        case RANGES:
            ranges(w, c);
            break;
        case BACKWARD:
            backward_range(w, c);
            break;
        case PROBABILITIES:
            if (w->inferred) {
                probabilities(w);
            }
            break;
        case USE:
            use(w, &w->slots[c[1] % SLOTS]);
            break;
        case USE_NONE:
            use(w, &bare);
            break;
        case BEGIN:
            begin(w, c);
            break;
        case LOAD:
            load(w, &w->slots[c[1] % SLOTS]);
            break;
        case MERGE:
            merge(w, c);
            break;
        case BLEND:
            blend(w, c);
            break;
        case TRAIN:
            train(w, c, false);
            break;
        case FLUSH:
            BOTH(r, edgelora_flush(s, (uint16_t)(c[1] * 257)));
            comparable(r, true);
            break;
        case FEATURES:
            features(w, c);
            break;
        case INFER_FEATURES:
            if (w->features) {
                BOTH(r, edgelora_infer_features(s, w->features));
                after_inference(w, r, false);
                w->inferred = false; // outputs before the features are from another sample
            }
            break;
        case TRAIN_FEATURES:
            if (w->features) {
                train(w, c, true);
            }
            break;
        case EVALUATE: {
            const int8_t *x = input_for(w, c[1]), *target = target_for(w, c[2]);
            BOTH(r, edgelora_evaluate(s, x, c[2] & 31u, target, &loss[k]));
            comparable(r, w->trusted);
            CHECK(!w->trusted || loss[0] == loss[1]);
            w->strayed = r[0] >= 0 ? !w->trusted : w->strayed;
            w->inferred &= r[0] < 0;
            break;
        }
        case CLASS_SAMPLE:
            class_sample(w, c);
            break;
        case CLASS_ROW:
            class_row_of(w, c);
            break;
        case WITH_RECORD:
            record(w, c);
            break;
        case SAVE:
            save(w, c);
            break;
        case QUANTIZE:
            quantize(w, c);
            break;
        case COPY:
            copy(w, c);
            break;
        case INIT:
            if (c[1] > 200) {
                init(w);
            }
            break;
        case NEXT:
            next(w, c);
            break;
        case CHOOSE:
            choose(w, c);
            break;
        case BACK:
            BOTH(r, edgelora_back(s, c[1]));
            comparable(r, true);
            break;
        case COMMANDS:
            break;
    }
}

// Limits of size, so that an input takes microseconds.
static bool is_small(const void *model) {
    const edgelora_model_t *m = model;
    uint64_t macs = 0, values = edgelora_input_size(model);
    for (uint32_t i = 0; i < m->op_count; ++i) {
        edgelora_shape_t g = edgelora_shape(model, i);
        uint64_t kernel = g.op->kind == EDGELORA_DENSE
            ? g.inputs
            : (uint64_t)g.kernel_h * g.kernel_w * (g.is_matrix ? g.in_c : 1);
        macs += (uint64_t)g.positions * g.out_c * kernel;
        if (g.op->kind == EDGELORA_LSTM) {
            macs += 4ull * g.in_h * g.in_w * g.out_c * (g.in_c + g.out_c);
        } else if (g.op->kind == EDGELORA_SVDF_FEATURES) {
            macs += (uint64_t)g.out_c * g.inputs;
        } else if (g.op->kind == EDGELORA_SVDF_TIME) {
            macs += (uint64_t)g.in_h * g.in_c;
        }
        values += (uint64_t)g.positions * g.out_c;
    }
    return macs <= MAX_WORK && values <= MAX_VALUES && m->op_count <= PREFERRED_OPS;
}

static void run(const void *model, const input_t *in) {
    const edgelora_model_t *m = model;
    const uint8_t *p = in->program;
    uint8_t ranks[EDGELORA_MAX_OPS], recompute[EDGELORA_MAX_OPS];
    for (uint32_t i = 0; i < m->op_count; ++i) {
        uint32_t wanted = p[8 + (i & 7)];
        ranks[i] = (uint8_t)(wanted == 255           ? 33
                : edgelora_shape(model, i).is_matrix ? wanted & 3
                                                     : wanted == 254);
        recompute[i] = (p[7] >> (i & 7)) & 1;
    }
    world_t w = {.model = model};
    w.config = (edgelora_config_t){
        .ranks = ranks,
        .mode = p[0] & 3,
        .micro_batch = p[1],
        .momentum = p[2] & 15,
        .threshold = (uint16_t)(p[4] + 256 * p[5]),
        .frames = p[3] & 7,
        .recompute = p[6] & 1 ? recompute : 0};
    edgelora_span_t *spans = malloc(m->op_count * EDGELORA_PLANNED * sizeof(*spans));
    int32_t size[2];
    for (int k = 0; k < 2; ++k) {
        w.config.plain = k == 0;
        size[k] = edgelora_arena_size(model, &w.config, spans);
    }
    free(spans);
    CHECK((size[0] < 0) == (size[1] < 0));
    if (size[0] < 0 || size[0] > MAX_ARENA || size[1] > MAX_ARENA) {
        return;
    }
    for (int k = 0; k < 2; ++k) {
        w.arena[k] = (uint32_t)size[k];
        w.given[k] = w.arena[k] + (k ? edgelora_simd_room() : 0);
        w.s[k] = malloc(w.given[k]);
        w.before[k] = malloc(w.arena[k]);
        w.sums[k] = calloc(edgelora_class_size(model) + 1, 4);
        if (!UNINITIALIZED_IS_SEEN) {
            memset(w.s[k], 0xA5, w.arena[k]);
        }
        w.config.plain = k == 0;
        CHECK(edgelora_init(w.s[k], w.arena[k] - 1, model, &w.config) == EDGELORA_ERR_ARENA);
    }
    init(&w);
    w.x = malloc(w.config.frames * edgelora_input_size(model));
    w.target = malloc(edgelora_target_size(model) + 1);
    put_slot(&w, 0, heap_copy(in->adapter, in->adapter_size), in->adapter_size);
    for (uint32_t k = 1; k < SLOTS; ++k) {
        w.slots[k] = w.slots[0];
    }
    uint32_t end = smaller(in->program_size, CONFIG + 4 * MAX_COMMANDS);
    for (uint32_t at = CONFIG; at + 4 <= end; at += 4) {
        step(&w, p + at);
    }
    for (uint32_t i = 0; i < w.kept_count; ++i) {
        free(w.kept[i]);
    }
    for (int k = 0; k < 2; ++k) {
        free(w.s[k]);
        free(w.before[k]);
        free(w.sums[k]);
    }
    free(w.x);
    free(w.target);
    free(w.features);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input_t in = input_of(data, size);
    if (in.program_size < CONFIG) {
        return 0;
    }
    void *model = heap_copy(in.model, in.model_size);
    if (edgelora_model_check(model, in.model_size) == EDGELORA_OK && is_small(model)) {
        run(model, &in);
    }
    free(model);
    return 0;
}
