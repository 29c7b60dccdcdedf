// A session's memory: the buffers in its arena.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_ARENA_H
#define EDGELORA_ARENA_H

#include "formats/formats.h"
#include "kernels/split.h"

enum { SESSION_MAGIC = 0x454C5332 }; // identifies a session

// Flags of an op in a session.
enum {
    EDGELORA_OP_BOUNDED = 1,         // `bounded` of its shape
    EDGELORA_OP_LASTS = 2,           // its output persists from one frame to the next
    EDGELORA_OP_PACKED_FORWARD = 4,  // edgelora_op_is_packed with the training adapter,
    EDGELORA_OP_PACKED_BACKWARD = 8, // in a backward step
    // with the adapter in use; valid if USED_CHOSEN, which a change of adapter clears
    EDGELORA_OP_PACKED_USED = 16,
    EDGELORA_OP_USED_CHOSEN = 32,
};

// Locks the session for one call; false: another call holds it. `edgelora_leave` unlocks it and
// returns its argument.
bool edgelora_enter(edgelora_session_t *s);
int32_t edgelora_leave(edgelora_session_t *s, int32_t result);

// Does a buffer lie outside the arena?
static inline bool outside(const edgelora_session_t *s, const void *p, uint32_t size) {
    return apart(p, size, s, s->arena_size);
}

// May a call write there? Neither arena nor model.
static inline bool writable(const edgelora_session_t *s, const void *p, uint32_t size) {
    return outside(s, p, size) && apart(p, size, s->model.p, s->model_size);
}

static inline void copy_bytes(void *to, const void *from, uint32_t size) {
    uint8_t *out = to;
    const uint8_t *in = from;
    while (size--) {
        *out++ = *in++;
    }
}

static inline void *arena_at(edgelora_session_t *s, uint32_t offset) {
    EDGELORA_ASSERT(offset <= s->arena_size);
    return (uint8_t *)s + offset;
}

// Memory of vector kernels at the arena's end, within edgelora_simd_room bytes, aligned to 64; or
// the scratch. NULL: the session runs without vector kernels.
static inline void *simd_work(edgelora_session_t *s) {
    const edgelora_simd_t *simd = edgelora_simd_kernels(s->simd);
    uintptr_t end = (uintptr_t)s + s->arena_size;
    if (simd && !simd->work_size) {
        return arena_at(s, s->scratch);
    }
    return simd ? (void *)((end - simd->work_size) & ~(uintptr_t)63) : 0;
}

// Bytes that a session for two cores has before its scratch, a multiple of 8: an edgelora_ref_t, an
// edgelora_rooms_t of each op, and the second core's stack.
static inline uint32_t second_bytes(uint32_t op_count) {
    uint32_t rooms = op_count * (uint32_t)sizeof(edgelora_rooms_t);
    return ((uint32_t)sizeof(edgelora_ref_t) + rooms + EDGELORA_SECOND_STACK + 7) & ~7u;
}

// Where a session for two cores refers to the second one, or NULL.
static inline edgelora_ref_t *session_second(edgelora_session_t *s) {
    return EDGELORA_TWO_CORES && s->two_cores ? arena_at(s, s->scratch - second_bytes(s->op_count))
                                              : 0;
}

// The scratch of the ops of a session for two cores; NULL: it is for one.
static inline edgelora_rooms_t *session_rooms(edgelora_session_t *s) {
    edgelora_ref_t *second = session_second(s);
    return second ? (edgelora_rooms_t *)(second + 1) : 0;
}

// How ops run: on one core, or on two. room: bytes of scratch that each has in this step
static inline edgelora_split_t session_split(edgelora_session_t *s, uint32_t room) {
    const edgelora_ref_t *second = session_second(s);
    return (edgelora_split_t){
        .second = second ? second->p : 0,
        .scratch = (uint8_t *)s + s->scratch + room,
        .room = room,
        .plain = s->plain};
}

static inline edgelora_op_state_t *session_ops(edgelora_session_t *s) {
    return (edgelora_op_state_t *)(s + 1);
}

// NULL: the op is not dense or conv
static inline edgelora_lora_t *op_lora(edgelora_session_t *s, const edgelora_op_state_t *l) {
    return l->lora ? (edgelora_lora_t *)arena_at(s, l->lora) : 0;
}

static inline bool op_state_has(const edgelora_op_state_t *l, uint32_t flag) {
    return l->flags & flag;
}

// Does a session's step read weights once, so that to read them ahead is worth its scratch?
// Training steps of many frames read them in each.
static inline bool reads_weights_once(uint32_t mode, uint32_t frames) {
    return mode == EDGELORA_INFER || frames == 1;
}

// The shape of op i in a session.
static inline void session_shape_into(edgelora_shape_t *g, edgelora_session_t *s, uint32_t i) {
    edgelora_shape_into(g, session_model(s), i);
    g->bounded = op_state_has(&session_ops(s)[i], EDGELORA_OP_BOUNDED);
    g->may_read_ahead = reads_weights_once(s->mode, s->frames);
}

// Does attention read this tensor as keys or values? A session that decodes keeps all its rows.
static inline bool is_cached(const void *model, uint32_t tensor) {
    const edgelora_model_t *m = model;
    for (uint32_t j = tensor; j < m->op_count; ++j) {
        const edgelora_op_t *op = model_op(model, j);
        if (op->kind == EDGELORA_ATTEND && (op->input2 == tensor || op_number(op) == tensor)) {
            return true;
        }
    }
    return false;
}

// A buffer of an op (EDGELORA_OUTPUT...), or NULL if it has none.
static inline void *op_buffer(edgelora_session_t *s, const edgelora_op_state_t *l, uint32_t which) {
    return l->at[which] ? arena_at(s, l->at[which]) : 0;
}

// A buffer, `size` bytes, that the forward pass of a frame leaves for its backward pass, or NULL.
static inline void *frame_buffer(edgelora_session_t *s, const edgelora_op_state_t *l,
    uint32_t which, uint32_t size, uint32_t age) {
    uint32_t at = l->at[which];
    return at ? arena_at(s, at + (s->keeps_frames ? age * align4(size) : 0)) : 0;
}

static inline int8_t *kept_t(edgelora_session_t *s, const edgelora_op_state_t *l,
    const edgelora_shape_t *g, uint32_t rank, uint32_t age) {
    return frame_buffer(s, l, EDGELORA_T, g->positions * rank, age);
}

static inline uint8_t *kept_mask(
    edgelora_session_t *s, const edgelora_op_state_t *l, const edgelora_shape_t *g, uint32_t age) {
    return frame_buffer(s, l, EDGELORA_MASK, (g->positions * g->out_c + 7) / 8, age);
}

// Bytes of a tensor's errors, behind which are the exponents of their groups if there are several.
static inline uint32_t error_size(const void *model, uint32_t positions, uint32_t channels) {
    uint32_t size = positions * channels, groups = group_count(model, positions);
    return groups > 1 ? align4(size) + 2 * groups : size;
}

// Sets the adapter of an op for inference: none (rank 0) or a branch.
static inline void lora_use(edgelora_lora_t *l, const edgelora_branch_t *branch) {
    l->a.p = branch->a;
    l->b.p = branch->b;
    l->used_rank = branch->rank;
    l->used_t_shift = branch->t_shift;
    l->used_branch_shift = branch->branch_shift;
    l->merged = false;
}

static inline edgelora_branch_t lora_used(const edgelora_lora_t *l) {
    return (edgelora_branch_t){l->a.p, l->b.p, l->used_rank, l->used_t_shift, l->used_branch_shift};
}

// The training adapter's branch.
static inline edgelora_branch_t lora_own(edgelora_session_t *s, const edgelora_lora_t *l) {
    if (!l || !l->rank) {
        return (edgelora_branch_t){0};
    }
    return (edgelora_branch_t){
        .a = arena_at(s, l->matrix_a.at),
        .b = arena_at(s, l->matrix_b.at),
        .rank = l->rank,
        .t_shift = l->t_shift,
        .branch_shift = l->branch_shift,
    };
}

// Merged weights, u8 [O, K], and behind them biases, s32 [O]. file: of the adapter, or NULL
static inline void lora_use_merged(edgelora_lora_t *l, const void *merged, const void *file) {
    l->a.p = merged;
    l->b.p = file;
    l->used_rank = 0;
    l->merged = true;
}

static inline const int32_t *merged_bias(const edgelora_shape_t *g, const void *merged) {
    return model_at(merged, align4(g->out_c * g->inputs));
}

static inline uint32_t merged_size(const edgelora_shape_t *g) {
    return align4(g->out_c * g->inputs) + 4u * g->out_c;
}

// The low-rank part of op i, or NULL.
static inline edgelora_lora_t *session_lora(edgelora_session_t *s, uint32_t i) {
    return op_lora(s, &session_ops(s)[i]);
}

// The rank of the session's adapter on an op.
static inline uint32_t op_rank(edgelora_session_t *s, const edgelora_op_state_t *l) {
    return l->lora ? op_lora(s, l)->rank : 0;
}

// Is there an adapter in training?
static inline edgelora_status_t training_status(const edgelora_session_t *s) {
    return s->begun                 ? EDGELORA_OK
        : s->mode == EDGELORA_INFER ? EDGELORA_ERR_MODE
                                    : EDGELORA_ERR_NOT_BEGUN;
}

// The start of a pass: the network's input or a sample's features.
typedef struct {
    const int8_t *x, *features; // of one frame
    uint32_t age;               // frames behind it in a sample
} source_t;

// A sample: its first frame, and how to get to the next.
typedef struct {
    source_t first;
    uint32_t frames, step; // step: bytes from one frame to the next
    uint32_t from;         // the first op that runs on it
} sample_t;

// The frame that is `age` frames before the last.
static inline source_t sample_frame(const sample_t *sample, uint32_t age) {
    uint32_t at = (sample->frames - 1 - age) * sample->step;
    const source_t *first = &sample->first;
    return (source_t){
        first->x ? first->x + at : 0, first->features ? first->features + at : 0, age};
}

// Selects the adapter that an op runs with and the buffer of its output.
typedef enum {
    INFERENCE, // the adapter in use
    TRAINING,  // the training adapter, keeping what the backward pass needs
    RECOMPUTING,     // the training adapter, for the backward pass
} purpose_t;

// Offset of an op's output. Histories have a separate one in training, so that training does not
// disturb the stream of inference.
static inline uint32_t output_at(const edgelora_op_state_t *l, purpose_t purpose) {
    bool other = purpose == RECOMPUTING ||
        (purpose == TRAINING && op_state_has(l, EDGELORA_OP_LASTS));
    return l->at[other && l->at[EDGELORA_RECOMPUTED] ? EDGELORA_RECOMPUTED : EDGELORA_OUTPUT];
}

// The values of a tensor in a pass.
const int8_t *edgelora_tensor_at(
    edgelora_session_t *s, const source_t *source, uint32_t tensor, purpose_t purpose);

// Is this tensor a feature, written below the lowest adapter and read above?
bool edgelora_is_feature(const edgelora_session_t *s, uint32_t tensor);
// 1 if streams, of 16-bit values, are among the features, else 0. If so, all have even sizes, so
// that streams are aligned.
uint32_t edgelora_has_wide_features(const edgelora_session_t *s);
// Offset of this tensor among a frame's features.
uint32_t edgelora_feature_offset(const edgelora_session_t *s, uint32_t tensor);

// The tensor that the last layer reads, and its values.
static inline uint32_t head_tensor(const edgelora_session_t *s) {
    return model_op(session_model(s), s->op_count - 1u)->input;
}

static inline const int8_t *head_input(
    edgelora_session_t *s, const source_t *source, purpose_t purpose) {
    return edgelora_tensor_at(s, source, head_tensor(s), purpose);
}

#endif
