// EdgeLoRA: INT8 inference and low-rank adapter training in integers.
// SPDX-License-Identifier: MIT
//
// The caller owns all memory. `edgelora_arena_size` computes how many bytes a session needs, and
// `edgelora_init` lays the session out in the caller's arena; nothing is allocated and there are no
// globals. Arithmetic and formats: SPEC.md.
//
// Models and adapters are read in place from the caller's buffers. These buffers must neither move
// nor change:
//
//   the model            from `edgelora_init` on, as long as there is the session
//   an adapter           from `edgelora_use` on, until another or none is in use
//   one with records     from `edgelora_load` on, until the next `load` or `begin`: they are saved
//                        again
//   a buffer of `merge`  until `use`, `begin` or `load`
//
// Only the session uses the arena. No other buffer of a call may lie in it, and a call's output may
// not overlap its inputs: EDGELORA_ERR_ALIAS where sizes are known. Inputs may overlap: several
// sessions can use one adapter, and a file can lie within another.
//
// If the bytes change all the same, no call reads or writes outside these buffers: a session keeps
// its own copy of an adapter's counts, sizes and offsets. Results are undefined then, and a saved
// file may be refused. `edgelora_session` refuses an arena whose model's tables have changed.

#ifndef EDGELORA_H
#define EDGELORA_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "edgelora_limits.h"

#if INT_MAX < 0x7FFFFFFF
#error "EdgeLoRA needs a processor with an int of 32 bits: not an AVR"
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "EdgeLoRA needs a little-endian processor: it reads models and adapters in place"
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define EDGELORA_VERSION "0.1.0"
#define EDGELORA_MODEL_FORMAT 2
#define EDGELORA_ADAPTER_FORMAT 1
#define EDGELORA_RECORD_VERSION 1 // of each kind

// Error texts of front ends, whose native module has none of the others.
#define EDGELORA_TEXT_FRONTEND \
    "front end was not begun, or its settings are invalid: channels are 1 to 16 and the channel " \
    "one of them, frames a multiple of 8 up to 256, the scale a positive number"
#define EDGELORA_TEXT_SAMPLES \
    "front ends take `window` int16 samples, array('h') or bytes at an even address, and `size` " \
    "outputs: array('h'), or bytes if the values are int8"

// Every status: name, value, cause and remedy.
#define EDGELORA_STATUS_LIST(X) \
    X(OK, 0, "ok") \
    X(ERR_ALIGN, -1, \
        "buffer does not start at a multiple of 8 (arena), 4 (model, adapter) or 2 (features) " \
        "bytes: copy it to one that does") \
    X(ERR_TRUNCATED, -2, "file is shorter than its header says: transfer it again") \
    X(ERR_MAGIC, -3, "not an EdgeLoRA file of this kind: check the path") \
    X(ERR_VERSION, -4, \
        "file has a format version this firmware does not know: update the firmware or make the " \
        "file again") \
    X(ERR_CRC, -5, "CRC-32 does not match: the file is damaged, transfer it again") \
    X(ERR_FORMAT, -6, \
        "file is inconsistent (an offset, size or value is out of range): make it again") \
    X(ERR_UNSUPPORTED, -7, \
        "model has a layer or a loss that this build can't run (on stock RP2040 firmware lstm, " \
        "SVDF and attention too)") \
    X(ERR_BASE, -8, "adapter was made for another base model: use the one made for this base") \
    X(ERR_RANKS, -9, \
        "adapter's layers or ranks differ from the session's: open the model with the adapter's " \
        "ranks") \
    X(ERR_RANK, -10, \
        "rank must be 0 to 32 and 0 on layers without weights, one rank for each op, and a " \
        "layer's A and B have at most 65536 values each; to train, 0 on layers below an lstm " \
        "too, which passes no gradient") \
    X(ERR_CONFIG, -11, \
        "mode, micro_batch (1 to 255), momentum (0 to 8), threshold (0 to 16384) or frames (1 in " \
        "a model without history, else 1 to 32767 and at most 2^31 values in all tensors of all " \
        "frames) is out of range, or positions * frames * micro_batch of a layer is over 65536") \
    X(ERR_ARENA, -12, \
        "arena is too small, is not a session, or its model was changed in memory: call " \
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
        "adapter's frozen A has another seed than the one in training: use it in its own " \
        "session") \
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
        "and its matrices 65536 elements together, B within int8: give fewer, of lower ranks, " \
        "with smaller weights") \
    X(ERR_SIGNAL, -23, \
        "model doesn't describe its signal: make it from data that does, or quantize inputs by " \
        "its scale") \
    X(ERR_OUTPUTS, -24, "model's outputs are values, not probabilities: use them as they are") \
    X(ERR_COUNTS, -25, \
        "samples must be int16: array('h') or a memoryview of one; probabilities go into an " \
        "array('H')") \
    X(ERR_FRONTEND, -26, EDGELORA_TEXT_FRONTEND) \
    X(ERR_SAMPLES, -27, EDGELORA_TEXT_SAMPLES) \
    X(ERR_RECORD, -28, \
        "adapter has a record of a kind or version that this firmware does not know: update " \
        "the firmware, or make the adapter without it") \
    X(ERR_CLASSES, -29, \
        "class can't be made: the base needs statistics of its last layer's inputs (quantize it " \
        "with its training data), and a class takes 1 to 1024 samples") \
    X(ERR_ALIAS, -30, "buffers overlap each other or the arena: give each its own memory") \
    X(ERR_CORES, -31, \
        "this build computes on one core: two take EdgeLoRA's firmware for a Pico, or cores=1") \
    X(ERR_THREAD, -32, \
        "core 1 runs a thread of _thread: let it end first, or open the model with cores=1") \
    X(ERR_DECODE, -33, \
        "model can't run one row at a time: that takes ids, causal attention, ops that look at " \
        "one row, and cross-entropy; a session that does so takes ids and no samples") \
    X(ERR_FULL, -34, "window is full: reset, and begin with its last ids again")

typedef enum {
#define EDGELORA_STATUS_ENUM(name, value, text) EDGELORA_##name = value,
    EDGELORA_STATUS_LIST(EDGELORA_STATUS_ENUM)
#undef EDGELORA_STATUS_ENUM
} edgelora_status_t;

typedef enum {
#define OP(name, number, ...) EDGELORA_##name = number,
#include "edgelora_ops.h"
#undef OP
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
    EDGELORA_DECODE =
        3, // inference of one row at a time (edgelora_next); a session's mode is INFER
} edgelora_mode_t;

enum {
    EDGELORA_MASK_LOW = 1,
    EDGELORA_MASK_HIGH = 2,
    EDGELORA_CENTRED = 4, // norm: LayerNorm; else RMSNorm
    EDGELORA_CAUSAL = 8, // attend: a row reads itself and those before it
};
enum { EDGELORA_CLASS_STATS = 1, EDGELORA_ROUNDS = 2 }; // flags of a model
enum { EDGELORA_FRONT_NONE = 0, EDGELORA_FRONT_AUDIO = 1, EDGELORA_FRONT_SPECTRAL = 2 };
enum {
    EDGELORA_A_STORED = 1,
    EDGELORA_STATE = 2,
    EDGELORA_A_TRAINABLE = 4,
    EDGELORA_RECORDS = 8,
};

// Records that may follow an adapter's layers, each at most once, in this order.
typedef enum {
    EDGELORA_RECORD_CLASSES = 1, // rows for added classes and for classes of the base
    EDGELORA_RECORD_MONITOR = 2, // a monitor: what is normal for one machine
    EDGELORA_RECORD_KINDS, // end of the known kinds
} edgelora_record_kind_t;

// The structures of `.elm` and `.ela` as stored in the file (SPEC.md, sections 8 and 9).
typedef struct {
    uint8_t magic[4];
    uint16_t version, header_size;
    uint32_t file_size, crc;
    uint8_t base_id[8];
    uint16_t tensor_count, op_count;
    uint32_t tensors, ops, labels, labels_size, logit_scale;
    uint16_t exp_table[8];
    uint8_t loss;
    // EDGELORA_CLASS_STATS: class statistics lie directly before the labels; EDGELORA_ROUNDS:
    // errors are rounded, else truncated
    uint8_t flags;
    uint16_t signal; // offset of the signal record in words of 4 bytes, 0 = none
} edgelora_model_t;

typedef struct {
    uint16_t height, width, channels;
    int8_t zero_point;
    uint8_t wide; // 1: a stream, s16; 0: s8
    uint32_t scale; // f32 bits, for the host
} edgelora_tensor_t;

typedef struct {
    uint8_t kind, flags;
    uint16_t input, output;
    // slice, embed, attend: both pads are its start, its number of symbols, its third input, as
    // u16; gather: kernel_h and kernel_w are the output axes of height and width, from 1; attend:
    // heads of queries and of keys; rotate: kernel_h is half a head's channels
    uint8_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
    int8_t act_min, act_max, t_shift, branch_shift;
    uint16_t input2; // of kinds with more than one input; 0: a kind that adds to a stream has none
    uint32_t weights, bias, multiplier, shift; // offsets from the file's start
} edgelora_op_t;

// The signal that an input comes from; edgelora_normal_t [values] and the text of the units follow.
typedef struct {
    uint8_t version, front;
    uint16_t channels; // values per sample
    uint32_t rate; // 1/1000 Hz
    uint32_t window, hop; // samples
    uint16_t values, units_size;
} edgelora_signal_t;

// Converts a count to an int8 input: clamp((count * multiplier + offset) >> shift).
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

// The header of a record after an adapter's layers; its body follows, zero-padded to 4 bytes.
typedef struct {
    uint16_t kind, version;
    uint32_t size; // of the body
} edgelora_record_t;

// Statistics of the last layer's inputs in pretraining: s32 biases [classes], s16 rows [classes,
// inputs] and s16 Q, the lower triangle of the inverse covariance, follow.
typedef struct {
    uint8_t version, row_shift;
    uint8_t exponent; // scale of scores: a nat is 2^exponent
    uint8_t unused;
} edgelora_class_stats_t;

// The body of a class record; edgelora_class_t [count] follow, each with its row.
typedef struct {
    uint16_t count, size; // size: inputs of the last layer
} edgelora_classes_t;

// A class: its score is row * (x - zp) + bias. s16 row [size] follows, padded to 4 bytes.
typedef struct {
    int32_t bias;
    uint16_t number; // below the base's class count: a class of the base
    uint16_t samples; // number of samples it was computed from
    uint8_t name[EDGELORA_MAX_NAME]; // UTF-8, zero-padded; empty for a class of the base
} edgelora_class_t;

// Determines a session's layout. ranks: one byte per op, 0 = no adapter.
typedef struct {
    const uint8_t *ranks;
    uint8_t mode; // edgelora_mode_t
    uint8_t micro_batch; // samples per update, 1..255
    uint8_t momentum; // shift of the running mean, 0 = none
    uint8_t plain; // 1: reference kernels only; the results are the same
    // Q11, 0..16384: an update skips elements whose scaled gradient is less; 0 = none
    uint16_t threshold;
    uint16_t frames; // per sample: 1, or up to EDGELORA_MAX_FRAMES in a model with history
    // one byte per op, or NULL: 1 = the backward pass recomputes the output instead of keeping it
    const uint8_t *recompute;
    uint8_t fixed; // 1: the model's buffer can't change, as in flash; changes are not checked for
    uint8_t vectors; // 1: the chip is an ESP32-S3, whose vector kernels to use; ignored elsewhere
    uint8_t cores; // 2: memory for a second core (edgelora_use_second), 0 or 1: for one
} edgelora_config_t;

enum { EDGELORA_SECOND_STACK = 2048 }; // bytes

// The second core of a chip, which the caller provides. start: runs work(with) there; wait: returns
// when that has ended, with all that it wrote visible. least: products of an op that are worth it.
typedef struct {
    void (*start)(void (*work)(void *), void *with);
    void (*wait)(void);
    uint32_t least;
} edgelora_second_t;

// A pointer of 8 bytes on every machine, so that an arena has the same size on 32 and 64 bits.
typedef union {
    const void *p;
    uint64_t bits;
} edgelora_ref_t;

// The planned buffers of an op.
enum {
    EDGELORA_OUTPUT, // s8 [positions, channels]: output; that of a history op persists
    // s8 [positions, channels]: the output recomputed for the backward pass; for a history op, its
    // output in training
    EDGELORA_RECOMPUTED,
    // s8 [positions, rank]: A x, kept for the backward pass; of each frame, if the session keeps
    // those
    EDGELORA_T,
    // s8 [frames - 1, input] of a history op: the values that left it with each of the last frames
    EDGELORA_LEFT = EDGELORA_T,
    EDGELORA_MASK, // one bit per output element: 1 = passes gradient; of each frame, as above
    EDGELORA_CARRY = EDGELORA_MASK, // of a history op: edgelora_carry_t
    EDGELORA_ERROR, // s8 [positions, channels]: error of the output
    // s8 [positions, rank]: error of t; then s8 [input]: an error to add to one already accumulated
    EDGELORA_WORK,
    EDGELORA_SPANS, // buffers above live within a pass, those below persist
    EDGELORA_A = EDGELORA_SPANS, // matrix and training state, see edgelora_matrix_t
    EDGELORA_B,
    // scratch of all cores, for one step each: when the output is recomputed, and backward
    EDGELORA_SCRATCH_AGAIN,
    EDGELORA_SCRATCH_BACK,
    EDGELORA_PLANNED,
};

// A buffer of the arena and its lifetime within a training pass, by the pass's steps: op i runs
// forward at step i, and the loss at n. Then the ops run backward, the last one first, a step each,
// and before each of them those whose outputs are recomputed for it. words 0: no buffer.
typedef struct {
    uint32_t offset; // bytes
    uint32_t words : 21; // of 4 bytes
    uint32_t birth : 11;
    uint16_t death; // from step birth to step death
    uint16_t next; // used by the planner alone; of EDGELORA_A: the op's `frames`
} edgelora_span_t;

// One adapter matrix in the arena. From `at` on: s8 weights, which the kernels use; if the matrix
// trains, s16 masters (256 * weight plus fraction), s32 gradients in units of 2^exponent and, with
// momentum, s16 running means, Q11. Each array has `count` elements and is padded to 4 bytes.
typedef struct {
    uint32_t count, at;
    int16_t exponent;
    uint16_t scale; // running scale of the gradient, [2^15, 2^16) * 2^scale_exponent; 0 = none yet
    int16_t scale_exponent;
    uint8_t is_set; // gradient holds a product of this micro-batch
    uint8_t trains;
} edgelora_matrix_t;

// The low-rank part of a dense or conv op.
typedef struct {
    // branch in use: A s8 [rank, K], B s8 [O, rank]; merged: weights u8 [O, K] and behind them bias
    // s32 [O], and the adapter's file, or NULL if that is the one in training
    edgelora_ref_t a, b;
    uint8_t used_rank; // rank of the branch in use, 0 = none
    int8_t used_t_shift, used_branch_shift;
    uint8_t merged;
    uint8_t rank; // rank of the session's adapter; 0 = none, and the fields below do not exist
    int8_t t_shift, branch_shift;
    uint8_t unused;
    edgelora_matrix_t matrix_a, matrix_b;
} edgelora_lora_t;

// A session's state of an op.
typedef struct {
    uint32_t at[EDGELORA_SPANS]; // offsets of its buffers, 0 = none
    uint16_t lora; // offset of its edgelora_lora_t, 0 = not dense or conv
    int16_t exponent; // exponent of the error
    // index of the op before whose backward step the output is recomputed; EDGELORA_MAX_OPS = none
    uint32_t recomputed_for : 9;
    uint32_t requires_grad : 1; // runs backward
    uint32_t arrived : 1; // the error holds a contribution
    uint32_t flags : 6; // EDGELORA_OP_BOUNDED and others, see session/arena.h
    uint32_t frames : 15; // of a sample's last ones: those whose loss its output affects
} edgelora_op_state_t;

// Bytes of scratch that an op has on each of two cores, when it is recomputed and backward.
typedef struct {
    uint32_t again, back;
} edgelora_rooms_t;

// Class counts of an adapter, read when it was loaded or put to use.
typedef struct {
    uint16_t own : 10; // rows for classes of the base, first
    uint16_t added : 6; // rows for added classes, after those
} edgelora_class_counts_t;

// The start of the arena; edgelora_op_state_t [op_count] follow.
typedef struct {
    edgelora_ref_t self; // the arena's address: identifies a session
    edgelora_ref_t model; // the .elm
    uint32_t magic, arena_size;
    // memory for one op while it runs, and the bytes that each core has of it in a forward pass; in
    // other steps, an op's own scratch begins at the same place
    uint32_t scratch, scratch_size;
    uint32_t seed; // seed of A in matrix_a
    uint32_t draws, updates, samples;
    uint16_t pending; // samples since the last update; if the session decodes: rows so far
    uint16_t threshold; // of config
    uint32_t op_count : 10;
    uint32_t lowest : 10; // lowest op with an adapter; op_count = none
    // number of ops in the training pass; the loss takes the output of the last one
    uint32_t trained : 10;
    uint32_t decodes : 1; // EDGELORA_DECODE of config
    uint8_t mode, micro_batch, momentum; // of config
    uint8_t plain : 1; // of config
    uint8_t simd : 2; // edgelora_simd_level, 0 if plain
    uint8_t has_a : 1; // matrix_a holds the A of `seed`
    uint8_t begun : 1; // a training adapter exists
    uint8_t a_is_seeded : 1; // the training adapter's A is that of `seed`
    // the backward pass of a frame needs no more than t and masks, which are kept of all frames;
    // else each frame before the last is computed again
    uint8_t keeps_frames : 1;
    // of config: there is twice the scratch memory, and before it an edgelora_ref_t to the
    // edgelora_second_t, or NULL, an edgelora_rooms_t of each op, and the second core's stack
    uint8_t two_cores : 1;
    uint16_t busy; // not 0 during a call
    uint16_t frames; // of config
    edgelora_ref_t records; // records of the training adapter, in its .ela, or NULL
    edgelora_ref_t classes; // edgelora_classes_t of the adapter in use, or NULL
    uint32_t records_size; // bytes
    edgelora_class_counts_t trained_classes, used_classes; // of records; of classes
    uint32_t model_size, stamp; // stamp: edgelora_model_stamp; 0: the model is fixed
} edgelora_session_t;

const char *edgelora_status_text(edgelora_status_t status);

// CRC-32 (IEEE) continued over data; crc: CRC of the data before it, 0 at the start.
uint32_t edgelora_crc32(uint32_t crc, const void *data, uint32_t size);

// The sample at `place` (< count) of an epoch's order, a permutation of `count` samples, 1 to 2^31.
uint32_t edgelora_order(uint32_t seed, uint32_t epoch, uint32_t count, uint32_t place);

// A uniformly distributed number below `count`: number n of stream k of a seed, scaled down.
uint32_t edgelora_draw(uint32_t seed, uint32_t k, uint32_t n, uint32_t count);

// Validates a whole model file: after OK every offset and value in it is safe to use.
edgelora_status_t edgelora_model_check(const void *model, uint32_t size);

// Elements of a checked model's input, output and target; target 0: the loss takes a label.
uint32_t edgelora_input_size(const void *model);
uint32_t edgelora_output_size(const void *model);
uint32_t edgelora_target_size(const void *model);

// The signal record of a checked model, or NULL if it has none.
const edgelora_signal_t *edgelora_signal(const void *model);

// Quantizes raw sensor samples, s16 [count], or a front end's outputs if the model has one, to int8
// inputs by the model's signal record. count is a multiple of the record's `values`. Returns the
// number of clipped values, or a status < 0.
int32_t edgelora_quantize(const void *model, const int16_t *counts, uint32_t count, int8_t *out);

// Turns vectors of three axes by a matrix s16 [3, 3] of rows in 1/16384: s8 [count / 3, 3] around
// `zero`, a step of the input. Saturates. count is a multiple of 3; out may be x.
void edgelora_turn(
    int8_t *out, const int8_t *x, uint32_t count, int32_t zero, const int16_t *matrix);

// Copies `count` elements of `width` bytes, every step-th element at `from`. With step 1 the
// buffers may overlap.
void edgelora_take(uint8_t *to, const uint8_t *from, uint32_t step, uint32_t count, uint32_t width);

// Plans a session: fills spans [op_count, EDGELORA_PLANNED] and returns the arena's size in bytes,
// or a status < 0. The model must have passed edgelora_model_check.
int32_t edgelora_arena_size(
    const void *model, const edgelora_config_t *config, edgelora_span_t *spans);

// Extra arena bytes for this processor's vector kernels; a session with a smaller arena runs
// without them. 0: this processor has none.
uint32_t edgelora_simd_room(void);

// Begins a session; earlier contents of the arena are lost. A session handles one call at a time:
// while one runs, all others return EDGELORA_ERR_BUSY, except those that only return sizes.
edgelora_status_t edgelora_init(
    void *arena, uint32_t arena_size, const void *model, const edgelora_config_t *config);

// Lets a second core compute a part of each large op, with the same results; NULL: one core does
// all. It needs a session for two cores, and may be in use only in this session's calls.
edgelora_status_t edgelora_use_second(edgelora_session_t *s, const edgelora_second_t *second);

// Where the stack of a second core ends, EDGELORA_SECOND_STACK bytes of the arena, or NULL: the
// session uses none. Of use in this session's calls alone.
void *edgelora_second_stack(const edgelora_session_t *s);

// The session in an arena; NULL if the buffer holds none or its model's tables have changed.
edgelora_session_t *edgelora_session(void *arena, uint32_t arena_size);

// x: s8 [input]. Returns a class: the index of the largest output or, if the adapter in use has
// classes, of the largest score, which may belong to an added class. A model with binary
// cross-entropy and one output returns 1 if the probability is above 1/2, else 0. `edgelora_output`
// then points at all outputs, s8 [output]. In a model with history, x is the next frame of a
// stream; only `edgelora_reset` and `edgelora_init` begin a new stream.
int32_t edgelora_infer(edgelora_session_t *s, const int8_t *x);
edgelora_status_t edgelora_reset(edgelora_session_t *s);

// Takes the next id of a window in a session that decodes, and computes the outputs of its row as
// inference of the whole window does; earlier keys and values are kept. Returns the likeliest next
// id, EDGELORA_ERR_LABEL for one of more bytes than the model's ids have. `edgelora_output` then
// points at this row's outputs, s8 [channels]. `edgelora_reset` begins a new window.
int32_t edgelora_next(edgelora_session_t *s, uint32_t id);

// A symbol drawn to follow the last one taken, likely ones more often: number `place` of the seed's
// draws (SPEC.md: sampling). temperature: in 1/256, 1..65535.
int32_t edgelora_choose(edgelora_session_t *s, uint32_t temperature, uint32_t seed, uint32_t place);

// Takes back the last `count` ids of the window, or all if there are fewer; returns how many are
// left. The next id is computed as if they had not come.
int32_t edgelora_back(edgelora_session_t *s, uint32_t count);

// Like edgelora_infer, for a sample x, s8 [frames, input]: resets the stream, runs all frames and
// returns the class of the last one.
int32_t edgelora_infer_sample(edgelora_session_t *s, const int8_t *x);
const int8_t *edgelora_output(edgelora_session_t *s);

// Probabilities of the last inference, u16 [class count], Q15: of each class or, with binary
// cross-entropy, of each output being 1. They are those of the loss, or of a last softmax or
// logistic op. With classes in use, those of the base come first, then the added ones.
edgelora_status_t edgelora_probabilities(edgelora_session_t *s, uint16_t *p);

// Runs ops [from, to) of an inference, for measurements; the ops before them must have run.
edgelora_status_t edgelora_forward_range(
    edgelora_session_t *s, const int8_t *x, uint32_t from, uint32_t to);

// Runs the backward steps of ops [from, to), last op first, on the current contents of the buffers,
// for measurements. Needs a training adapter and corrupts it: call begin or load afterwards.
edgelora_status_t edgelora_backward_range(
    edgelora_session_t *s, const int8_t *x, uint32_t from, uint32_t to);

// Validates a whole adapter file for this session's model, including CRC and all values. Call it
// once, when a file arrives.
edgelora_status_t edgelora_adapter_check(
    const edgelora_session_t *s, const void *adapter, uint32_t size);

// Switches inference to an adapter file, read in place; NULL: the base alone. Checks only header
// and layer records, which is fast, and refuses an adapter whose base, size or ranks don't fit;
// `edgelora_adapter_check` checks CRC and values. The file must stay in memory.
edgelora_status_t edgelora_use(edgelora_session_t *s, const void *adapter, uint32_t size);

// Starts training a new adapter (begin) or an existing one (load), which is checked like
// `edgelora_adapter_check` does and copied. Its records are not copied: `edgelora_save` reads them
// from the file, so a file with records must stay in memory. A file without layers starts a new
// adapter with its seed and records.
edgelora_status_t edgelora_begin(edgelora_session_t *s, uint32_t seed);
edgelora_status_t edgelora_load(edgelora_session_t *s, const void *adapter, uint32_t size);

// Merges the adapter in use into an op's weights, W + B A, in a buffer of edgelora_merge_size bytes
// at a multiple of 4 (size 0: the op has no weights to merge). Inference uses the buffer until
// `edgelora_use`, `begin` or `load`. Each op needs a separate buffer.
uint32_t edgelora_merge_size(edgelora_session_t *s, uint32_t op);
edgelora_status_t edgelora_merge(edgelora_session_t *s, uint32_t op, void *buffer);

// An adapter to blend. weight: Q12, -32767 to 32767.
typedef struct {
    const void *adapter;
    uint32_t size;
    int32_t weight;
} edgelora_part_t;

// Adds up adapters of this session's model, each times its weight, into one adapter file without
// training state. out: at a multiple of 4, not overlapping any of them. The session does not
// change. If all adapters share one A, their B's are added; otherwise their ranks are. fine: B has
// the finest scale that fits int8, for inference; otherwise the scale of the finest adapter,
// because training moves by steps. Returns the file's size (out NULL: only the size) or a status <
// 0. Checks the files like `edgelora_use` does.
int32_t edgelora_blend(edgelora_session_t *s, const edgelora_part_t *parts, uint32_t count,
    bool fine, void *out, uint32_t room);

// Trains on one sample, s8 [frames, input], and updates the adapter when micro_batch samples are
// pending. The loss is that of the last frame; gradients go through histories to all frames that
// affect it. The stream of `edgelora_infer` is not affected. label: for cross-entropy, a class of
// the base or the training adapter; the loss covers all of these. target: s8 [target], for the
// other losses. loss: of the sample before the update, in 1/4096 nat or 1/16 squared step of the
// output.
edgelora_status_t edgelora_train(edgelora_session_t *s, const int8_t *x, uint32_t label,
    const int8_t *target, uint16_t learning_rate, int32_t *loss);
edgelora_status_t edgelora_flush(edgelora_session_t *s, uint16_t learning_rate);

// Features: outputs of the ops below the lowest adapter that ops above read, s8 [feature size].
// Training does not change them, so they can be cached for each sample; training and inference from
// them are bit-exact with those from x (if the adapter in use has no layer below either). They
// cover all frames if an op above has a history, otherwise the last frame. Without adapters the
// size is 0. Features with streams, of 16-bit values, begin at even addresses.
uint32_t edgelora_feature_size(const edgelora_session_t *s);
edgelora_status_t edgelora_features(edgelora_session_t *s, const int8_t *x, int8_t *out);
int32_t edgelora_infer_features(edgelora_session_t *s, const int8_t *features);
edgelora_status_t edgelora_train_features(edgelora_session_t *s, const int8_t *features,
    uint32_t label, const int8_t *target, uint16_t learning_rate, int32_t *loss);

// Like `edgelora_infer_sample`, and computes the loss of the adapter in use, without training; only
// in a session that can train. label and target: as for `edgelora_train`. Overwrites the output.
int32_t edgelora_evaluate(
    edgelora_session_t *s, const int8_t *x, uint32_t label, const int8_t *target, int32_t *loss);

// Inputs of the last layer of a checked model with class statistics; 0: no classes can be added.
uint32_t edgelora_class_size(const void *model);

// Runs a sample like `edgelora_infer_sample` does and adds the last layer's inputs, less their zero
// point, to sums, s32 [class size].
edgelora_status_t edgelora_class_sample(edgelora_session_t *s, const int8_t *x, int32_t *sums);

// Computes row, bias and sample count of a class from the sums of n samples, and overwrites the
// sums. The caller sets its number and name.
edgelora_status_t edgelora_class_row(
    edgelora_session_t *s, int32_t *sums, uint32_t n, edgelora_class_t *out);

// Number of classes in inference: those of the base and those that the adapter in use adds.
uint32_t edgelora_class_count(edgelora_session_t *s);

// The record of a kind in an adapter file, or NULL. The file need not have been checked.
const edgelora_record_t *edgelora_record(
    const void *adapter, uint32_t size, edgelora_record_kind_t kind);

// Copies an adapter file with its record of this kind replaced by body, u8 [body_size], or removed
// if body is NULL. adapter NULL: the base alone. out: at a multiple of 4, not overlapping these.
// Returns the file's size (out NULL: only the size), 0 if nothing but the base remains, or a status
// < 0. Checks the adapter like `edgelora_use` does.
int32_t edgelora_with_record(edgelora_session_t *s, const void *adapter, uint32_t size,
    edgelora_record_kind_t kind, const void *body, uint32_t body_size, void *out, uint32_t room);

// Saves the training adapter as a .ela file, with training state if `state` is set. Sizes in bytes;
// `edgelora_save` returns the size or a status < 0.
uint32_t edgelora_adapter_size(edgelora_session_t *s, bool state);
int32_t edgelora_save(edgelora_session_t *s, bool state, void *out, uint32_t room);

#ifdef __cplusplus
}
#endif

#endif
