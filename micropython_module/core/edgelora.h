// EdgeLoRA: INT8 inference and low-rank adapter training in integers.
// SPDX-License-Identifier: MIT
//
// The caller owns all memory. `edgelora_arena_size` tells how much a session needs, `edgelora_init`
// lays it out in the caller's arena; nothing is allocated and there are no globals. Arithmetic and
// formats: SPEC.md.
//
// Models and adapters are read in place from the caller's buffers. What has to stay, where it is
// and as it is:
//
//   the model            from `edgelora_init` on, as long as there is the session
//   an adapter           from `edgelora_use` on, until another or none is in use
//   one with records     from `edgelora_load` on, until the next `load` or `begin`: they are saved
//                        again
//   a buffer of `merge`  until `use`, `begin` or `load`
//
// The arena is the session's alone. No model, adapter or buffer that a call writes to may lie in
// it, and what is written may overlap nothing that the call reads: EDGELORA_ERR_ALIAS where sizes
// are known. All others may overlap: one adapter in several sessions, a file within another.
//
// Should the bytes change all the same, nothing outside of these buffers is read or written.
// Counts, sizes and places of an adapter are the session's own: results are anything, what is saved
// may be refused. `edgelora_session` refuses an arena whose model's tables have changed.

#ifndef EDGELORA_H
#define EDGELORA_H

#include <stdbool.h>
#include <stdint.h>

#include "edgelora_limits.h"

#define EDGELORA_VERSION "0.1.0"
#define EDGELORA_MODEL_FORMAT 2
#define EDGELORA_ADAPTER_FORMAT 1
#define EDGELORA_RECORD_VERSION 1 // of each kind

// The texts of front ends, which a native module of their own has without the others.
#define EDGELORA_TEXT_FRONTEND \
    "not a front end that was begun, or one that can't be: channels are 1 to 16 and the channel " \
    "one of them, frames a multiple of 8 up to 256, the scale a positive number"
#define EDGELORA_TEXT_SAMPLES \
    "front ends take int16 samples, array('h') or bytes at an even address, as many as window " \
    "says, and size outputs: array('h'), or bytes if the values are int8"

// Every status: name, value, what went wrong and the remedy.
#define EDGELORA_STATUS_LIST(X) \
    X(OK, 0, "ok") \
    X(ERR_ALIGN, -1, \
        "buffer does not start at a multiple of 8 (arena) or 4 (model, adapter) bytes: copy it " \
        "to one that does") \
    X(ERR_TRUNCATED, -2, "file is shorter than its header says: transfer it again") \
    X(ERR_MAGIC, -3, "not an EdgeLoRA file of this kind: check the path") \
    X(ERR_VERSION, -4, \
        "file has a format version this firmware does not know: update the firmware or make the " \
        "file anew") \
    X(ERR_CRC, -5, "CRC-32 does not match: the file is damaged, transfer it again") \
    X(ERR_FORMAT, -6, \
        "file is inconsistent (an offset, size or value is out of range): make it anew") \
    X(ERR_UNSUPPORTED, -7, \
        "model has a layer or a loss that this build can't run (on stock RP2040 firmware lstm " \
        "and SVDF too)") \
    X(ERR_BASE, -8, "adapter was made for another base model: use the one made for this base") \
    X(ERR_RANKS, -9, \
        "adapter's layers or ranks differ from the session's: open the model with the adapter's " \
        "ranks") \
    X(ERR_RANK, -10, \
        "rank must be 0 to 32 and 0 on layers without weights, one rank for each op, and a " \
        "layer's A and B have at most 65536 values each; to train, 0 on layers below an lstm or " \
        "SVDF too, which pass no gradient") \
    X(ERR_CONFIG, -11, \
        "mode, micro_batch (1 to 255), momentum (0 to 8), threshold (0 to 16384) or frames (1 in " \
        "a model without history, and at most 2^31 values in all tensors of all frames) is out " \
        "of range, or positions * micro_batch of a layer is over 65536") \
    X(ERR_ARENA, -12, \
        "arena is too small, is not a session, or its model was changed in memory: ask " \
        "arena_size and open the model again") \
    X(ERR_SIZE, -13, \
        "buffer has the wrong size for this model's input, target or features, or for this " \
        "adapter") \
    X(ERR_LABEL, -14, \
        "label is not a class of this model, or its loss asks for a target buffer (binary: of 0 " \
        "and 1)") \
    X(ERR_MODE, -15, \
        "session can't train: open the model in mode frozen_a or trainable_a, with a rank on " \
        "some layer") \
    X(ERR_NOT_BEGUN, -16, "no training adapter yet: call begin or load first") \
    X(ERR_PENDING, -17, "samples are pending: flush before saving the training state") \
    X(ERR_SEED, -18, \
        "adapter's frozen A has another seed than the one in training: use it in a session of " \
        "its own") \
    X(ERR_MERGE, -19, \
        "op has no adapter in use to merge: it must be dense or conv, and the adapter in use " \
        "must have a rank there") \
    X(ERR_BUSY, -20, \
        "session is in another call, on another core, thread or interrupt: wait for it, or open " \
        "a session for each") \
    X(ERR_TYPE, -21, \
        "buffer must hold bytes or int8: bytes, bytearray, array('b'), array('B') or a " \
        "memoryview of one") \
    X(ERR_BLEND, -22, \
        "adapters can't be added up: 1 to 8 at once, weights from -8 to 8, a layer's ranks 32 " \
        "and its matrices 65536 elements together, B within int8: take fewer, of lower ranks, " \
        "with smaller weights") \
    X(ERR_SIGNAL, -23, \
        "model says nothing of its signal: make it from data that does, or quantize inputs by " \
        "its scale") \
    X(ERR_OUTPUTS, -24, "model's outputs are values, no probabilities: take them as they are") \
    X(ERR_COUNTS, -25, \
        "samples must be int16: array('h') or a memoryview of one; probabilities go into an " \
        "array('H')") \
    X(ERR_FRONTEND, -26, EDGELORA_TEXT_FRONTEND) \
    X(ERR_SAMPLES, -27, EDGELORA_TEXT_SAMPLES) \
    X(ERR_RECORD, -28, \
        "adapter has a record that this firmware does not know, or of a version that it does not " \
        "know: update the firmware, or make the adapter without it") \
    X(ERR_CLASSES, -29, \
        "no class can be made: the base must say how its last layer's inputs spread (quantize it " \
        "with the data it was trained on), and a class takes 1 to 1024 samples") \
    X(ERR_ALIAS, -30, \
        "buffers overlap: none may lie in the arena, and what is written in none that is read, " \
        "so give each a buffer of its own")

typedef enum {
#define EDGELORA_STATUS_ENUM(name, value, text) EDGELORA_##name = value,
    EDGELORA_STATUS_LIST(EDGELORA_STATUS_ENUM)
#undef EDGELORA_STATUS_ENUM
} edgelora_status_t;

typedef enum {
    EDGELORA_DENSE = 1,
    EDGELORA_CONV = 2,
    EDGELORA_AVERAGE_POOL = 3,
    EDGELORA_MEAN = 4,
    EDGELORA_DEPTHWISE = 5,
    EDGELORA_MAX_POOL = 6,
    EDGELORA_ADD = 7,
    EDGELORA_CONCATENATE = 8,
    EDGELORA_PAD = 9,
    EDGELORA_RESHAPE = 10,
    EDGELORA_LOOKUP = 11,
    EDGELORA_SOFTMAX = 12,
    EDGELORA_HISTORY = 13,
    EDGELORA_SLICE = 14,
    EDGELORA_CONSTANT = 15,
    EDGELORA_MULTIPLY = 16,
    EDGELORA_MINIMUM = 17,
    EDGELORA_MAXIMUM = 18,
    EDGELORA_PRELU = 19,
    EDGELORA_GATHER = 20,
    EDGELORA_LSTM = 21,
    EDGELORA_SVDF_FEATURES = 22,
    EDGELORA_SVDF_TIME = 23,
} edgelora_kind_t;

typedef enum {
    EDGELORA_CROSS_ENTROPY = 0,
    EDGELORA_BINARY_CROSS_ENTROPY = 1,
    EDGELORA_MEAN_SQUARED_ERROR = 2,
} edgelora_loss_t;

typedef enum {
    EDGELORA_INFER = 0,
    EDGELORA_FROZEN_A = 1,
    EDGELORA_TRAINABLE_A = 2,
} edgelora_mode_t;

enum { EDGELORA_MASK_LOW = 1, EDGELORA_MASK_HIGH = 2 };
enum { EDGELORA_FRONT_NONE = 0, EDGELORA_FRONT_AUDIO = 1, EDGELORA_FRONT_SPECTRAL = 2 };
enum {
    EDGELORA_A_STORED = 1,
    EDGELORA_STATE = 2,
    EDGELORA_A_TRAINABLE = 4,
    EDGELORA_RECORDS = 8,
};

// What records an adapter may have beside its layers, each once, in this order.
typedef enum {
    EDGELORA_RECORD_CLASSES = 1, // rows for classes: added ones, and those of the base
    EDGELORA_RECORD_MONITOR = 2, // what is usual for one machine
    EDGELORA_RECORD_KINDS, // those above are below this
} edgelora_record_kind_t;

// The records of `.elm` and `.ela` as they lie in the file (SPEC.md, sections 8 and 9).
typedef struct {
    uint8_t magic[4];
    uint16_t version, header_size;
    uint32_t file_size, crc;
    uint8_t base_id[8];
    uint16_t tensor_count, op_count;
    uint32_t tensors, ops, labels, labels_size, logit_scale;
    uint16_t exp_table[8];
    uint8_t loss;
    uint8_t class_stats; // 1: class statistics lie right before the labels
    uint16_t signal; // offset of the signal record in words of 4 bytes, 0 = none
} edgelora_model_t;

typedef struct {
    uint16_t height, width, channels;
    int8_t zero_point;
    uint8_t unused;
    uint32_t scale; // f32 bits, for the host
} edgelora_tensor_t;

typedef struct {
    uint8_t kind, flags;
    uint16_t input, output;
    // slice: its start is both pads, as u16; gather: kernel is what height and width become
    uint8_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
    int8_t act_min, act_max, t_shift, branch_shift;
    uint16_t input2; // of kinds with two inputs
    uint32_t weights, bias, multiplier, shift; // offsets from the file's start
} edgelora_op_t;

// What an input is made of; edgelora_normal_t [values] follow, and the units' text.
typedef struct {
    uint8_t version, front;
    uint16_t channels; // values of a sample
    uint32_t rate; // 1/1000 Hz
    uint32_t window, hop; // samples
    uint16_t values, units_size;
} edgelora_signal_t;

// A count becomes an int8 of the input: clamp((count * multiplier + offset) >> shift).
typedef struct {
    uint32_t scale, mean, std; // f32 bits, for the host
    int32_t offset;
    int16_t multiplier;
    uint8_t shift, unused;
} edgelora_normal_t;

typedef struct {
    uint8_t magic[4];
    uint16_t version, header_size;
    uint32_t file_size, crc;
    uint8_t base_id[8];
    uint32_t seed;
    uint16_t flags, layer_count;
    uint32_t updates, draws;
    uint16_t momentum, threshold;
    uint32_t samples;
} edgelora_adapter_t;

typedef struct {
    uint16_t op, rank, outputs, inputs;
    int8_t t_shift, branch_shift;
    uint16_t unused;
} edgelora_adapter_layer_t;

// The head of a record behind an adapter's layers; its body follows, padded with 0 to 4 bytes.
typedef struct {
    uint16_t kind, version;
    uint32_t size; // of the body
} edgelora_record_t;

// How the inputs of the last layer spread in pretraining: s32 biases [classes], s16 rows [classes,
// inputs] and s16 Q, the lower triangle of the inverse covariance, follow.
typedef struct {
    uint8_t version, row_shift;
    uint8_t exponent; // of scores: a nat is 2^exponent
    uint8_t unused;
} edgelora_class_stats_t;

// The body of a record of classes; edgelora_class_t [count] follow, each with its row.
typedef struct {
    uint16_t count, size; // size: inputs of the last layer
} edgelora_classes_t;

// A class: its score is row * (x - zp) + bias. s16 row [size] follows, padded to 4 bytes.
typedef struct {
    int32_t bias;
    uint16_t number; // below the base's classes: one of those
    uint16_t samples; // that it was made from
    uint8_t name[EDGELORA_MAX_NAME]; // UTF-8, padded with 0; empty for one of the base's
} edgelora_class_t;

// What a session is laid out for. ranks: one byte for each op, 0 = no adapter.
typedef struct {
    const uint8_t *ranks;
    uint8_t mode; // edgelora_mode_t
    uint8_t micro_batch; // samples an update, 1..255
    uint8_t momentum; // shift of the running mean, 0 = none
    uint8_t plain; // 1: reference kernels only; the results are the same
    // Q11, 0..16384: an update leaves elements with less than this alone; 0 = none
    uint16_t threshold;
    uint16_t frames; // of a sample: 1 or, in a model with history, more
    // one byte for each op, or NULL: 1 = the backward pass computes the output again instead of
    // keeping it
    const uint8_t *recompute;
    uint8_t fixed; // 1: the model's buffer can't change, as in flash; nothing looks whether it did
} edgelora_config_t;

// A pointer that takes 8 bytes everywhere, so that arenas have one size on 32- and 64-bit machines.
typedef union {
    const void *p;
    uint64_t bits;
} edgelora_ref_t;

// The planned buffers of an op.
enum {
    EDGELORA_OUTPUT, // s8 [positions, channels]: the op's output; a history's lasts
    // s8 [positions, channels]: the output computed again for the backward pass; a history's in
    // training
    EDGELORA_RECOMPUTED,
    EDGELORA_T, // s8 [positions, rank]: A x, kept for the backward pass
    EDGELORA_MASK, // bits, one an output element: 1 = passes gradient
    EDGELORA_ERROR, // s8 [positions, channels]: error of the output
    // s8 [positions, rank]: error of t; behind it s8 [input]: an error to be added to one that is
    // there
    EDGELORA_WORK,
    EDGELORA_SPANS, // of a pass; the rest lasts
    EDGELORA_A = EDGELORA_SPANS, // a matrix and its training state, see edgelora_matrix_t
    EDGELORA_B,
    EDGELORA_PLANNED,
};

// A buffer of the arena and the times of a training pass in which it is needed. Times: op i runs
// forward at i, the loss at n, op i runs backward at 2n - i. size 0: not there.
typedef struct {
    uint32_t offset; // bytes
    uint32_t size : 22; // bytes; of two tensors at most
    uint32_t birth : 10;
    uint16_t death; // from time birth to time death
    uint16_t next; // the planner's own
} edgelora_span_t;

// One adapter matrix in the arena. From `at` on: s8 weight, what the kernels use; if it trains, s16
// master = 256 * weight and its fraction, s32 gradient * 2^exponent and, if there is momentum, s16
// of it, Q11. Each has `count` elements and is padded to 4 bytes.
typedef struct {
    uint32_t count, at;
    int16_t exponent;
    uint16_t scale; // running scale of the gradient, [2^15, 2^16) * 2^scale_exponent; 0 = none yet
    int16_t scale_exponent;
    uint8_t is_set; // the micro-batch has put something into gradient
    uint8_t trains;
} edgelora_matrix_t;

// The low-rank part of a dense or conv op.
typedef struct {
    // branch in use: s8 [rank, K], s8 [O, rank]; merged: u8 [O, K] weights, s32 [O] bias
    edgelora_ref_t a, b;
    uint8_t used_rank; // of the branch in use, 0 = none
    int8_t used_t_shift, used_branch_shift;
    uint8_t merged;
    uint8_t rank; // of the session's adapter, 0 = none: then the rest is not there
    int8_t t_shift, branch_shift;
    uint8_t unused;
    edgelora_matrix_t matrix_a, matrix_b;
} edgelora_lora_t;

// What a session keeps of an op.
typedef struct {
    uint32_t at[EDGELORA_SPANS]; // offsets of its buffers, 0 = not there
    uint16_t lora; // offset of its edgelora_lora_t, 0 = not dense or conv
    int16_t exponent; // of the error
    // before this op's backward step the output is computed again; EDGELORA_MAX_OPS = it is not
    uint16_t recomputed_for;
    uint8_t requires_grad : 1; // runs backward
    uint8_t arrived : 1; // the error has received something
    uint8_t flags; // EDGELORA_OP_BOUNDED and more, in session/arena.h
} edgelora_op_state_t;

// The classes of an adapter, as they were when it came in.
typedef struct {
    uint16_t own : 10; // rows for classes of the base
    uint16_t added : 6; // behind them
} edgelora_class_counts_t;

// The start of the arena; the states of its ops [op_count] follow.
typedef struct {
    edgelora_ref_t self; // the arena's own address: tells a session from any other buffer
    edgelora_ref_t model; // the .elm
    uint32_t magic, arena_size;
    uint32_t scratch, scratch_size; // what one op needs while it runs
    uint32_t seed; // of A in the matrix_a
    uint32_t draws, updates, samples;
    uint16_t pending; // samples since the last update
    uint16_t threshold; // of config
    uint32_t op_count : 10;
    uint32_t lowest : 10; // lowest op with an adapter; op_count = none
    // the training pass runs this many ops: its loss is on the output of the last of them
    uint32_t trained : 10;
    uint8_t mode, micro_batch, momentum; // of config
    uint8_t plain : 1; // of config
    uint8_t simd : 2; // edgelora_simd_level, 0 if plain
    uint8_t has_a : 1; // matrix_a holds the A of `seed`
    uint8_t begun : 1; // there is a training adapter
    uint8_t a_is_seeded : 1; // its A is that of `seed`
    uint16_t busy; // not 0 while a call is under way
    uint16_t frames; // of config
    edgelora_ref_t records; // those that go with the training adapter, in its .ela, or NULL
    edgelora_ref_t classes; // edgelora_classes_t of the adapter in use, or NULL
    uint32_t records_size; // bytes
    edgelora_class_counts_t trained_classes, used_classes; // of records, and of classes
    uint32_t model_size, stamp; // edgelora_model_stamp; 0: the model is fixed
} edgelora_session_t;

const char *edgelora_status_text(edgelora_status_t status);

// CRC-32 (IEEE) of data behind data whose CRC is `crc`; 0 to begin with.
uint32_t edgelora_crc32(uint32_t crc, const void *data, uint32_t size);

// Which of `count` samples (at least 1, at most 2^31) an epoch has at `place` of its order, a
// permutation: place < count.
uint32_t edgelora_order(uint32_t seed, uint32_t epoch, uint32_t count, uint32_t place);

// A number below `count`, as likely as any other: number n of stream k of a seed, scaled down.
uint32_t edgelora_draw(uint32_t seed, uint32_t k, uint32_t n, uint32_t count);

// Checks a whole model file: after OK every offset and value in it can be relied on.
edgelora_status_t edgelora_model_check(const void *model, uint32_t size);

// Elements of a checked model's input and output, and of the target that its loss takes (0: it
// takes a label).
uint32_t edgelora_input_size(const void *model);
uint32_t edgelora_output_size(const void *model);
uint32_t edgelora_target_size(const void *model);

// The signal record of a checked model, or NULL if it has none.
const edgelora_signal_t *edgelora_signal(const void *model);

// Samples as a sensor counts them, s16 [count], made into the input's int8 values by the model's
// signal record; with a front end these are its outputs. Whole samples: count is a multiple of the
// record's values. Returns how many were beyond the grid, or a status < 0.
int32_t edgelora_quantize(const void *model, const int16_t *counts, uint32_t count, int8_t *out);

// Copies `count` elements of `width` bytes, every step-th of those at `from`; where step is 1 the
// two may overlap.
void edgelora_take(uint8_t *to, const uint8_t *from, uint32_t step, uint32_t count, uint32_t width);

// Plans a session: fills spans [op_count, EDGELORA_PLANNED] and returns the arena's size in bytes,
// or a status < 0. The model must have passed edgelora_model_check.
int32_t edgelora_arena_size(
    const void *model, const edgelora_config_t *config, edgelora_span_t *spans);

// Bytes that an arena takes more, so that a session runs on this processor's vector kernels; with
// less it runs without them. 0: there are none.
uint32_t edgelora_simd_room(void);

// Begins a session, whatever the arena held. A session is for one call at a time: all that take it,
// but for those that only tell its sizes, answer EDGELORA_ERR_BUSY while another one is under way.
edgelora_status_t edgelora_init(
    void *arena, uint32_t arena_size, const void *model, const edgelora_config_t *config);

// The session in an arena, or NULL if the buffer holds none, or tables of its model have changed.
edgelora_session_t *edgelora_session(void *arena, uint32_t arena_size);

// x: s8 [input]. Returns the number of a class: the index of the largest output or, where the
// adapter in use has classes, that of the largest score, which may be a class that the adapter
// adds. A single output of a model with binary cross-entropy is a class: 1 if it says more than
// 1/2, else 0. All outputs, s8 [output], are then at `edgelora_output`. In a model with history x
// is a stream's next frame; `edgelora_reset` begins a new stream, as does `edgelora_init`, and
// nothing else.
int32_t edgelora_infer(edgelora_session_t *s, const int8_t *x);
edgelora_status_t edgelora_reset(edgelora_session_t *s);

// The same of a sample, s8 [frames, input], which is a stream of its own: the last frame's.
int32_t edgelora_infer_sample(edgelora_session_t *s, const int8_t *x);
const int8_t *edgelora_output(edgelora_session_t *s);

// Probabilities of the last inference's outputs, u16 [class count], Q15: of classes or, with binary
// cross-entropy, of each yes. As the loss counts them, or as a last softmax or logistic says; with
// classes in use, the base's first, then the added ones.
edgelora_status_t edgelora_probabilities(edgelora_session_t *s, uint16_t *p);

// Ops [from, to) of an inference, after those before them: to measure one at a time.
edgelora_status_t edgelora_forward_range(
    edgelora_session_t *s, const int8_t *x, uint32_t from, uint32_t to);

// The backward steps of ops [from, to), from the last down, on whatever the buffers hold: to
// measure them. Needs an adapter in training, which it spoils: begin or load anew.
edgelora_status_t edgelora_backward_range(
    edgelora_session_t *s, const int8_t *x, uint32_t from, uint32_t to);

// A whole adapter file against this session's model, its CRC and every value included: once, when a
// file comes in.
edgelora_status_t edgelora_adapter_check(
    const edgelora_session_t *s, const void *adapter, uint32_t size);

// Switches inference to an adapter file, in place; NULL: the bare base. Looks at its header and
// layer records, which is quick, and refuses one whose base, size or ranks don't fit; its CRC and
// values are `edgelora_adapter_check`'s. The file must stay.
edgelora_status_t edgelora_use(edgelora_session_t *s, const void *adapter, uint32_t size);

// Training: a fresh adapter, or one to go on from, which is checked as by `edgelora_adapter_check`
// and copied. Its records are not copied, but saved again from where they are: a file that has some
// must stay. One without layers is a fresh adapter of its seed, with its records.
edgelora_status_t edgelora_begin(edgelora_session_t *s, uint32_t seed);
edgelora_status_t edgelora_load(edgelora_session_t *s, const void *adapter, uint32_t size);

// Makes W + B A of the adapter in use the weights of an op, in a buffer of edgelora_merge_size
// bytes (0: the op has no weights to merge) at a multiple of 4. Inference uses the buffer until
// `edgelora_use`, `begin` or `load`. Each op has one of its own.
uint32_t edgelora_merge_size(edgelora_session_t *s, uint32_t op);
edgelora_status_t edgelora_merge(edgelora_session_t *s, uint32_t op, void *buffer);

// An adapter of a sum. weight: Q12, -32767 to 32767.
typedef struct {
    const void *adapter;
    uint32_t size;
    int32_t weight;
} edgelora_part_t;

// Adds adapters of this session's model up, each times its weight, as one adapter file without
// training state, in a buffer at a multiple of 4 that none of them lies in; what the session has is
// left alone. Where all have one A, B's add up; else ranks do. fine: B is as fine as int8 holds,
// for inference; else its steps are those of the finest adapter, as training moves by steps.
// Returns the file's size (out NULL: the size alone) or a status < 0. Looks at the files as
// `edgelora_use` does.
int32_t edgelora_blend(edgelora_session_t *s, const edgelora_part_t *parts, uint32_t count,
    bool fine, void *out, uint32_t room);

// One sample, s8 [frames, input]; an update when micro_batch are pending. Only its last frame is
// learned; what histories hold of the others is taken as given, and the stream that
// `edgelora_infer` is in goes on. label: a class of the base or of the training adapter, for
// cross-entropy, which is over all of these; target: s8 [target], for the
// other losses. loss, of the sample before the update: 1/4096 nat, or 1/16 squared step of the
// output.
edgelora_status_t edgelora_train(edgelora_session_t *s, const int8_t *x, uint32_t label,
    const int8_t *target, uint16_t learning_rate, int32_t *loss);
edgelora_status_t edgelora_flush(edgelora_session_t *s, uint16_t learning_rate);

// Features: what the ops below the lowest adapter hand to those above, s8 [feature size]. They
// never change, so a sample's can be kept; training and inference from them equal those from its x,
// bit for bit (with an adapter in use that has nothing below). Those of all frames, if an op above
// has a history, else of the last. Without adapters the size is 0.
uint32_t edgelora_feature_size(const edgelora_session_t *s);
edgelora_status_t edgelora_features(edgelora_session_t *s, const int8_t *x, int8_t *out);
int32_t edgelora_infer_features(edgelora_session_t *s, const int8_t *features);
edgelora_status_t edgelora_train_features(edgelora_session_t *s, const int8_t *features,
    uint32_t label, const int8_t *target, uint16_t learning_rate, int32_t *loss);

// `edgelora_infer_sample`, and what the loss is of it, without learning: with the adapter in use,
// in a session that can train. Label and target are as `edgelora_train` takes them. The output is
// gone.
int32_t edgelora_evaluate(
    edgelora_session_t *s, const int8_t *x, uint32_t label, const int8_t *target, int32_t *loss);

// Inputs of the last layer, if a checked model says how they spread; 0: it has no room for classes.
uint32_t edgelora_class_size(const void *model);

// Runs a sample as `edgelora_infer_sample` does and adds the last layer's inputs, without their
// zero point, to sums, s32 [class size].
edgelora_status_t edgelora_class_sample(edgelora_session_t *s, const int8_t *x, int32_t *sums);

// Row, bias and count of a class from the sums of n samples, which are spent; its number and name
// are the caller's.
edgelora_status_t edgelora_class_row(
    edgelora_session_t *s, int32_t *sums, uint32_t n, edgelora_class_t *out);

// Classes that inference tells apart: the base's and those that the adapter in use adds.
uint32_t edgelora_class_count(edgelora_session_t *s);

// The record of a kind in an adapter file, or NULL; one that has not been checked may have none.
const edgelora_record_t *edgelora_record(
    const void *adapter, uint32_t size, edgelora_record_kind_t kind);

// An adapter file as it is, but for its record of this kind: body, u8 [body_size], takes its place;
// NULL: it is left out. adapter NULL: the bare base. Into a buffer at a multiple of 4 that is none
// of these. Returns the file's size (out NULL: the size alone), 0 where nothing is left but the
// bare base, or a status < 0. The adapter is looked at as by `edgelora_use`.
int32_t edgelora_with_record(edgelora_session_t *s, const void *adapter, uint32_t size,
    edgelora_record_kind_t kind, const void *body, uint32_t body_size, void *out, uint32_t room);

// The training adapter as a .ela file. Sizes in bytes; `edgelora_save` returns the size or a status
// < 0.
uint32_t edgelora_adapter_size(edgelora_session_t *s, bool state);
int32_t edgelora_save(edgelora_session_t *s, bool state, void *out, uint32_t room);

#endif
