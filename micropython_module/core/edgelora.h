// EdgeLoRA: INT8 inference and low-rank adapter training in integers. SPDX-License-Identifier: MIT
//
// The caller owns all memory. `edgelora_arena_size` tells how much a session needs, `edgelora_init`
// lays it out in the caller's arena; nothing is allocated and there are no globals. Models and
// adapters are read in place from the caller's buffers, which must stay where they are while in use.
// Arithmetic and formats: SPEC.md.

#ifndef EDGELORA_H
#define EDGELORA_H

#include <stdbool.h>
#include <stdint.h>

#define EDGELORA_VERSION "0.1.0"
#define EDGELORA_MODEL_FORMAT 1
#define EDGELORA_ADAPTER_FORMAT 1
#define EDGELORA_MAX_OPS 64
#define EDGELORA_MAX_RANK 32
#define EDGELORA_MAX_CLASSES 256

// Every status: name, value, what went wrong and the remedy.
#define EDGELORA_STATUS_LIST(X) \
    X(OK, 0, "ok") \
    X(ERR_ALIGN, -1, "buffer does not start at a multiple of 8 (arena) or 4 (model, adapter) bytes: copy it to one that does") \
    X(ERR_TRUNCATED, -2, "file is shorter than its header says: transfer it again") \
    X(ERR_MAGIC, -3, "not an EdgeLoRA file of this kind: check the path") \
    X(ERR_VERSION, -4, "file has a format version this firmware does not know: update the firmware or make the file anew") \
    X(ERR_CRC, -5, "CRC-32 does not match: the file is damaged, transfer it again") \
    X(ERR_FORMAT, -6, "file is inconsistent (an offset, size or value is out of range): make it anew") \
    X(ERR_UNSUPPORTED, -7, "model has a layer this version can't run") \
    X(ERR_BASE, -8, "adapter was made for another base model: use the one made for this base") \
    X(ERR_RANKS, -9, "adapter's layers or ranks differ from the session's: open the model with the adapter's ranks") \
    X(ERR_RANK, -10, "rank must be 0 to 32 and 0 on layers without weights, one rank for each op") \
    X(ERR_CONFIG, -11, "mode, micro_batch (1 to 255) or momentum (0 to 8) is out of range, or positions * micro_batch of a layer is over 65536") \
    X(ERR_ARENA, -12, "arena is too small, or is not a session: ask arena_size and open the model again") \
    X(ERR_SIZE, -13, "buffer has the wrong size for this model's input or this adapter") \
    X(ERR_LABEL, -14, "label is not a class of this model") \
    X(ERR_MODE, -15, "session can't train: open the model in mode frozen_a or trainable_a, with a rank on some layer") \
    X(ERR_NOT_BEGUN, -16, "no training adapter yet: call begin or load first") \
    X(ERR_PENDING, -17, "samples are pending: flush before saving the training state") \
    X(ERR_SEED, -18, "adapter's frozen A has another seed than the one in training: use it in a session of its own")

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
} edgelora_kind_t;

typedef enum {
    EDGELORA_INFER = 0,
    EDGELORA_FROZEN_A = 1,
    EDGELORA_TRAINABLE_A = 2,
} edgelora_mode_t;

enum { EDGELORA_MASK_LOW = 1, EDGELORA_MASK_HIGH = 2 };
enum { EDGELORA_A_STORED = 1, EDGELORA_STATE = 2, EDGELORA_A_TRAINABLE = 4 };

// The records of `.elm` and `.ela` as they lie in the file (SPEC.md, sections 8 and 9).
typedef struct {
    uint8_t magic[4];
    uint16_t version, header_size;
    uint32_t file_size, crc;
    uint8_t base_id[8];
    uint16_t tensor_count, op_count;
    uint32_t tensors, ops, labels, labels_size, logit_scale;
    uint16_t exp_table[8];
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
    uint8_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
    int8_t act_min, act_max, t_shift, branch_shift;
    uint16_t unused;
    uint32_t weights, bias, multiplier, shift; // offsets from the file's start
} edgelora_op_t;

typedef struct {
    uint8_t magic[4];
    uint16_t version, header_size;
    uint32_t file_size, crc;
    uint8_t base_id[8];
    uint32_t seed;
    uint16_t flags, layer_count;
    uint32_t steps, draws;
    uint16_t momentum, unused;
    uint32_t samples;
} edgelora_adapter_t;

typedef struct {
    uint16_t op, rank, outputs, inputs;
    int8_t t_shift, branch_shift;
    uint16_t unused;
} edgelora_adapter_layer_t;

// What a session is laid out for. ranks: one byte for each op, 0 = no adapter.
typedef struct {
    const uint8_t *ranks;
    uint8_t mode;        // edgelora_mode_t
    uint8_t micro_batch; // samples an update, 1..255
    uint8_t momentum;    // shift of the running mean, 0 = none
} edgelora_config_t;

// A pointer that takes 8 bytes everywhere, so that arenas have one size on 32- and 64-bit machines.
typedef union {
    const void *p;
    uint64_t bits;
} edgelora_ref_t;

// A buffer of the arena and the steps of a training pass in which it is needed. Steps: op i runs
// forward at i, the loss at n, op i runs backward at 2n - i.
typedef struct {
    uint32_t offset, size; // bytes
    uint16_t birth, death; // first and last step
} edgelora_span_t;

// The planned buffers of an op.
enum {
    EDGELORA_OUTPUT, // s8 [positions, channels]: the op's output
    EDGELORA_T,      // s8 [positions, rank]: A x, kept for the backward pass
    EDGELORA_MASK,   // bits, one an output element: 1 = passes gradient
    EDGELORA_ERROR,  // s8 [positions, channels]: error of the output
    EDGELORA_U,      // s8 [positions, rank]: error of t
    EDGELORA_SPANS,
};

// One adapter matrix in training; offsets into the arena, 0 = not there.
typedef struct {
    uint32_t count;    // elements
    uint32_t weight;   // s8, what the kernels use
    uint32_t master;   // s16 = 256 * weight and its fraction
    uint32_t gradient; // s32 * 2^exponent
    uint32_t momentum; // s16, Q11
    int32_t exponent;
    uint16_t scale;       // running scale of the gradient, [2^15, 2^16) * 2^scale_exponent; 0 = none yet
    int16_t scale_exponent;
    uint32_t is_set;      // the micro-batch has put something into gradient
} edgelora_matrix_t;

typedef struct {
    edgelora_ref_t a, b; // branch in use: s8 [rank, K], s8 [O, rank]; b.p = 0: none
    edgelora_matrix_t matrix_a, matrix_b;
    edgelora_span_t span[EDGELORA_SPANS];
    uint8_t rank;       // of the session's adapter
    uint8_t used_rank;  // of the branch in use
    int8_t used_t_shift, used_branch_shift;
    int8_t t_shift, branch_shift; // of the session's adapter
    int8_t shift_top;             // largest output shift of the op
    uint8_t unused;
} edgelora_layer_t;

// The start of the arena.
typedef struct {
    edgelora_ref_t self;  // the arena's own address: tells a session from any other buffer
    edgelora_ref_t model; // the .elm
    uint32_t magic, arena_size;
    uint32_t layers, patch, row; // offsets: layers [ops], s8 [max K], s32 [2, max channels or classes]
    uint32_t seed;        // of A in the layers' matrix_a
    uint32_t draws, steps, samples;
    uint16_t pending;      // samples since the last update
    uint16_t op_count;
    uint16_t lowest; // lowest op with an adapter; op_count = none
    uint8_t mode, micro_batch, momentum;
    uint8_t has_a;       // matrix_a holds the A of `seed`
    uint8_t begun;       // there is a training adapter
    uint8_t a_is_seeded; // its A is that of `seed`
} edgelora_session_t;

const char *edgelora_status_text(edgelora_status_t status);

// CRC-32 (IEEE) of data behind data whose CRC is `crc`; 0 to begin with.
uint32_t edgelora_crc32(uint32_t crc, const void *data, uint32_t size);

// Checks a whole model file: after OK every offset and value in it can be relied on.
edgelora_status_t edgelora_model_check(const void *model, uint32_t size);

// Elements of a checked model's input and output.
uint32_t edgelora_input_size(const void *model);
uint32_t edgelora_output_size(const void *model);

// Plans a session: fills layers [op_count] and returns the arena's size in bytes, or a status < 0.
// The model must have passed edgelora_model_check.
int32_t edgelora_arena_size(const void *model, const edgelora_config_t *config, edgelora_layer_t *layers);

edgelora_status_t edgelora_init(void *arena, uint32_t arena_size, const void *model, const edgelora_config_t *config);

// The session in an arena, or NULL if the buffer holds none.
edgelora_session_t *edgelora_session(void *arena, uint32_t arena_size);

// x: s8 [input]. Returns the class; the logits, s8 [output], are then at `edgelora_output`.
int32_t edgelora_infer(edgelora_session_t *s, const int8_t *x);
const int8_t *edgelora_output(edgelora_session_t *s);

// A whole adapter file against this session's model, before `edgelora_use` or `edgelora_load`.
edgelora_status_t edgelora_adapter_check(const edgelora_session_t *s, const void *adapter, uint32_t size);

// Switches inference to a checked adapter, in place; NULL: the bare base.
edgelora_status_t edgelora_use(edgelora_session_t *s, const void *adapter);

// Training: a fresh adapter, or a checked one to go on from.
edgelora_status_t edgelora_begin(edgelora_session_t *s, uint32_t seed);
edgelora_status_t edgelora_load(edgelora_session_t *s, const void *adapter);

// One sample; an update when micro_batch are pending. loss: 1/4096 nat, of the sample before the update.
edgelora_status_t edgelora_train(edgelora_session_t *s, const int8_t *x, uint32_t label, uint16_t learning_rate, int32_t *loss);
edgelora_status_t edgelora_flush(edgelora_session_t *s, uint16_t learning_rate);

// The training adapter as a .ela file. Sizes in bytes; `edgelora_save` returns the size or a status < 0.
uint32_t edgelora_adapter_size(edgelora_session_t *s, bool state);
int32_t edgelora_save(edgelora_session_t *s, bool state, void *out, uint32_t room);

#endif
