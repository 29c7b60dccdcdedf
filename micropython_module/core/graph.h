// What the core's files share. SPDX-License-Identifier: MIT

#ifndef EDGELORA_INTERNAL_H
#define EDGELORA_INTERNAL_H

#include "edgelora.h"
#include "fixed.h"

// What a kind of op has and needs.
enum {
    EDGELORA_IS_MATRIX = 1,     // dense, conv: can carry an adapter
    EDGELORA_HAS_WEIGHTS = 2,   // weights, bias, and multiplier and shift for each channel
    EDGELORA_WHOLE_INPUT = 4,   // the kernel covers the input
    EDGELORA_TWO_INPUTS = 8,    // reads input2
    EDGELORA_READS_INPUT = 16,  // backward
    EDGELORA_READS_OUTPUT = 32, // backward
    EDGELORA_HAS_WINDOW = 64,   // kernel, stride and padding mean something
    EDGELORA_HAS_RANGE = 128,   // act_min, act_max and the mask flags mean something
    EDGELORA_COPIES = 256,      // its output's elements are its inputs'
    EDGELORA_HAS_AXIS = 512,    // kernel_h is one: 1 height, 2 width, 3 channels
    EDGELORA_KEEPS = 1024,      // its output lasts from one frame to the next
};
uint32_t edgelora_traits(uint32_t kind); // 0: there is no such kind

// An op with its tensors, decoded from a checked model. A dense layer is a convolution whose kernel
// covers the whole input: one position.
typedef struct {
    const edgelora_op_t *op;
    const uint8_t *weights; // u8 = w + 128, |w| <= 127: [out_c, kernel_h, kernel_w, in_c], depthwise [kernel_h, kernel_w, out_c]
    const int8_t *table, *slope; // lookup: s8 [256], of x + 128
    const int8_t *initial;       // history: s8 [output - input], what it holds at first; NULL: the zero point
    const int32_t *bias;         // s32 [out_c], the input's zero point folded in
    const int32_t *multiplier;   // s32 [out_c]; mean [1], add [3], softmax [256]
    const int8_t *shift;         // s8 [out_c]; mean [1], add [3], lookup [1], softmax [2]
    uint32_t traits;
    uint32_t positions; // out_h * out_w
    uint32_t inputs;    // K = kernel_h * kernel_w * in_c
    uint16_t in_h, in_w, in_c, out_h, out_w, out_c, kernel_h, kernel_w;
    int8_t zp_in, zp_in2, zp_out;
    bool is_matrix; // dense or conv
    bool right;     // all shifts are <= 0 and biases within 2^28, so that |acc| < 2^30, merged too; false until a session says so
} edgelora_shape_t;

// An adapter's part in one op.
typedef struct {
    const int8_t *a, *b; // s8 [rank, K], s8 [out_c, rank]
    uint8_t rank;        // 0: none
    int8_t t_shift, branch_shift;
} edgelora_branch_t;

// What one op reads and writes in a forward pass.
typedef struct {
    const int8_t *x, *x2; // its inputs
    int8_t *y;            // its output
    int8_t *t;            // s8 [positions, rank] to keep, or NULL
    void *scratch;        // s32, edgelora_op_scratch bytes
    bool fast;            // the fast kernels: there are some, and the scratch suffices for them
} edgelora_pass_t;

// What meets at one op in its step of the backward pass.
typedef struct {
    const int8_t *e; // s8 [positions, out_c], behind the mask and, with weights and for mean, the output's multipliers
    int32_t exponent;
    const int8_t *u; // s8 [positions, rank], of t
    int32_t u_exponent;
    const int8_t *x, *y; // input and output, where traits say that they are read
    void *scratch;       // as above
    bool fast;
} edgelora_error_t;

// int8 values with one exponent, written piece by piece (SPEC.md: block).
typedef struct {
    int8_t *q;
    uint32_t count;
    int32_t shift;
} edgelora_block_t;

// What a session knows of an op: `right` of its shape; that its output lasts; fast kernels for its part of a training pass, forward and backward, and
// of an inference, if it is known yet (an adapter may have come into use since).
enum {
    EDGELORA_RIGHT = 1, EDGELORA_FAST_FORWARD = 2, EDGELORA_FAST_BACKWARD = 4, EDGELORA_FAST_USED = 8, EDGELORA_USED_KNOWN = 16,
    EDGELORA_LASTS = 32,
};

enum { EDGELORA_TILE = 16 }; // values that go into a block at a time where no row suggests itself

void edgelora_shape_into(edgelora_shape_t *g, const void *model, uint32_t i);

static inline edgelora_shape_t edgelora_shape(const void *model, uint32_t i) {
    edgelora_shape_t g;
    edgelora_shape_into(&g, model, i);
    return g;
}

// Takes the session for one call; false: another one has it. `edgelora_leave` gives it back, and returns what it is given.
bool edgelora_enter(edgelora_session_t *s);
int32_t edgelora_leave(edgelora_session_t *s, int32_t result);

// format.c: header, base and layer records of an adapter file, without CRC and values: nothing that is read by them lies outside.
// weights_end: offset behind A and B of all layers.
edgelora_status_t edgelora_adapter_fits(const edgelora_session_t *s, const void *adapter, uint32_t size, uint32_t *weights_end);

// ops.c: an op as a whole.
// Has an op of this shape fast kernels, and are `room` bytes of scratch enough for them with a branch of this rank? That of an
// adapter in use may be higher than planned for.
bool edgelora_op_is_fast(const edgelora_shape_t *g, uint32_t rank, bool backward, uint32_t room);
void edgelora_op_forward(const edgelora_shape_t *g, const edgelora_branch_t *branch, const edgelora_pass_t *pass);
// dx: s8, the error of input k (0 or 1). Returns its exponent.
int32_t edgelora_op_backward(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const edgelora_error_t *error, uint32_t k, int8_t *dx);
// u: s8 [positions, rank] = B^T e; returns its exponent.
int32_t edgelora_op_branch_backward(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const edgelora_error_t *error, int8_t *u);
int32_t edgelora_op_requantize_backward(const edgelora_shape_t *g, int8_t *e, int32_t exponent, bool plain);
// Adds the error's and t's product to the micro-batch's gradient of B, s32 [O, rank].
void edgelora_op_b_gradient(
    const edgelora_shape_t *g, uint32_t rank, const edgelora_error_t *error, const int8_t *t, int32_t *gradient, int32_t shift);
// Bytes of scratch that one op needs, with a branch of this rank; backward: also in its backward step.
uint32_t edgelora_op_scratch(const edgelora_shape_t *g, uint32_t rank, bool backward, bool plain);

// forward.c: dense and conv. patch: s8 [K] scratch.
void edgelora_matrix_forward_s8(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const int8_t *x, int8_t *y, int8_t *t, int8_t *patch);
bool edgelora_needs_patch(const edgelora_shape_t *g);
// mask: bit i = low < y[i] < high
void edgelora_mask_s8(const int8_t *y, uint32_t count, int32_t low, int32_t high, uint8_t *mask);

// backward.c
void edgelora_block_append(edgelora_block_t *block, const int32_t *v, uint32_t n);
// e: s8 [count], exponent, += more; returns the new exponent
int32_t edgelora_error_add_s8(int8_t *e, uint32_t count, int32_t exponent, const int8_t *more, int32_t more_exponent);
void edgelora_mask_backward_s8(int8_t *e, uint32_t count, const uint8_t *mask);
// e: s8 [positions, out_c], times the channel's output multiplier (mean: times the only one); returns the new exponent.
int32_t edgelora_requantize_backward_s8(const edgelora_shape_t *g, int8_t *e, int32_t exponent);
// u: s8 [positions, rank] = B^T a; returns its exponent.
int32_t edgelora_branch_backward_s8(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const int8_t *a, int8_t *u, int32_t exponent);
// dx: s8 [in_h, in_w, in_c] = W^T a + A^T u; row: s32 [2, in_c]. Returns its exponent.
int32_t edgelora_matrix_backward_s8(
    const edgelora_shape_t *g, const edgelora_branch_t *branch, const edgelora_error_t *error, int8_t *dx, int32_t *row);
// Adds a sample's products to the micro-batch's gradients, s32 [O, rank] and s32 [rank, K].
void edgelora_b_gradient_s8(
    const edgelora_shape_t *g, uint32_t rank, const int8_t *e, const int8_t *t, int32_t *gradient, int32_t shift);
void edgelora_a_gradient_s8(
    const edgelora_shape_t *g, uint32_t rank, const int8_t *u, const int8_t *x, int32_t *gradient, int32_t shift);

// depthwise.c, pool.c. row: s32 [in_c] scratch.
void edgelora_depthwise_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y);
int32_t edgelora_depthwise_backward_s8(const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx, int32_t *row);
void edgelora_pool_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y);
int32_t edgelora_pool_backward_s8(const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx, int32_t *row);

// elementwise.c, softmax.c
void edgelora_copy_s8(int8_t *to, const int8_t *from, uint32_t count);
void edgelora_add_forward_s8(const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, int8_t *y);
int32_t edgelora_add_backward_s8(const edgelora_shape_t *g, const edgelora_error_t *error, uint32_t k, int8_t *dx);
void edgelora_concatenate_forward_s8(const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, int8_t *y);
void edgelora_concatenate_backward_s8(const edgelora_shape_t *g, const int8_t *e, uint32_t k, int8_t *dx);
void edgelora_slice_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y);
void edgelora_slice_backward_s8(const edgelora_shape_t *g, const int8_t *e, int8_t *dx);
// y: what the frame before left there; x joins it behind, and as much of the oldest leaves.
void edgelora_history_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y);
void edgelora_history_backward_s8(const edgelora_shape_t *g, const int8_t *e, int8_t *dx);
void edgelora_history_reset_s8(const edgelora_shape_t *g, int8_t *y);
void edgelora_pad_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y);
void edgelora_pad_backward_s8(const edgelora_shape_t *g, const int8_t *e, int8_t *dx);
void edgelora_lookup_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y);
int32_t edgelora_lookup_backward_s8(const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx);
void edgelora_softmax_forward_s8(const edgelora_shape_t *g, const int8_t *x, int8_t *y);
int32_t edgelora_softmax_backward_s8(const edgelora_shape_t *g, const edgelora_error_t *error, int8_t *dx);

// loss.c. The loss tensor q, s8 [n] with zero point zp, and what it should be. e: s8 [n], its error; row: s32 [n] scratch
// for cross-entropy. Returns the loss.
typedef struct {
    const int8_t *q;
    uint32_t n;
    int32_t zp;
    uint32_t label;       // cross-entropy
    const int8_t *target; // s8 [n], the others
} edgelora_judged_t;
int32_t edgelora_loss(const edgelora_model_t *model, const edgelora_judged_t *judged, int32_t *row, int8_t *e, int32_t *exponent);

// update.c
// Makes room for a product of this exponent; returns the shift that brings the product to the gradient's.
int32_t edgelora_gradient_open(edgelora_matrix_t *m, int32_t *gradient, int32_t exponent);
typedef struct {
    uint32_t stream;
    uint32_t *draws;
    uint16_t learning_rate;
    uint16_t threshold;
    uint8_t shift; // of the learning rate: 16 for B, 15 for A
    uint8_t momentum;
} edgelora_step_t;
void edgelora_matrix_update(uint8_t *arena, edgelora_matrix_t *m, const edgelora_step_t *step);

static inline const void *model_at(const void *model, uint32_t offset) {
    return (const uint8_t *)model + offset;
}

static inline uint32_t align4(uint32_t n) {
    return (n + 3) & ~3u;
}

// An accumulator of output channel o, requantized.
static inline int8_t requantize_output(const edgelora_shape_t *g, int32_t acc, uint32_t o) {
    uint32_t y = (uint32_t)requantize(acc, g->multiplier[o], g->shift[o]) + (uint32_t)g->zp_out;
    return (int8_t)clamp_s32((int32_t)y, g->op->act_min, g->op->act_max);
}

static inline void *arena_at(edgelora_session_t *s, uint32_t offset) {
    return (uint8_t *)s + offset;
}

static inline edgelora_layer_t *session_layers(edgelora_session_t *s) {
    return (edgelora_layer_t *)(s + 1);
}

// NULL: the op is not dense or conv
static inline edgelora_lora_t *layer_lora(edgelora_session_t *s, const edgelora_layer_t *l) {
    return l->lora ? (edgelora_lora_t *)arena_at(s, l->lora) : 0;
}

// The rank of the session's adapter on an op.
static inline uint32_t layer_rank(edgelora_session_t *s, const edgelora_layer_t *l) {
    return l->lora ? layer_lora(s, l)->rank : 0;
}

// Offsets of a matrix's training state in the arena.
static inline uint32_t matrix_master(const edgelora_matrix_t *m) {
    return m->at + align4(m->count);
}

static inline uint32_t matrix_gradient(const edgelora_matrix_t *m) {
    return matrix_master(m) + align4(2 * m->count);
}

static inline uint32_t matrix_momentum(const edgelora_matrix_t *m) {
    return matrix_gradient(m) + 4 * m->count;
}

static inline uint32_t matrix_size(uint32_t count, bool trains, bool momentum) {
    return align4(count) + (trains ? align4(2 * count) + 4 * count + (momentum ? align4(2 * count) : 0) : 0);
}

static inline const edgelora_tensor_t *model_tensor(const void *model, uint32_t i) {
    return (const edgelora_tensor_t *)model_at(model, ((const edgelora_model_t *)model)->tensors) + i;
}

static inline const edgelora_op_t *model_op(const void *model, uint32_t i) {
    return (const edgelora_op_t *)model_at(model, ((const edgelora_model_t *)model)->ops) + i;
}

static inline uint32_t tensor_size(const void *model, uint32_t i) {
    const edgelora_tensor_t *t = model_tensor(model, i);
    return (uint32_t)t->height * t->width * t->channels;
}

static inline bool op_has(const edgelora_op_t *op, uint32_t trait) {
    return edgelora_traits(op->kind) & trait;
}

// The first position of a slice, along its axis.
static inline uint32_t slice_start(const edgelora_op_t *op) {
    return op->pad_top + 256u * op->pad_left;
}

// Does op i read this tensor?
static inline bool op_reads(const edgelora_op_t *op, uint32_t tensor) {
    return op->input == tensor || (op_has(op, EDGELORA_TWO_INPUTS) && op->input2 == tensor);
}

// How many of the first ops an older frame of a sample runs, whose ops are `count`: those up to the last history.
static inline uint32_t remembering_ops(const void *model, uint32_t count) {
    while (count && !op_has(model_op(model, count - 1), EDGELORA_KEEPS)) {
        --count;
    }
    return count;
}

// How many ops a training pass runs: all but a last softmax or logistic that is part of the loss.
static inline uint32_t trained_ops(const void *model) {
    const edgelora_model_t *m = model;
    uint32_t last = model_op(model, m->op_count - 1u)->kind;
    bool folded = (m->loss == EDGELORA_CROSS_ENTROPY && last == EDGELORA_SOFTMAX) ||
        (m->loss == EDGELORA_BINARY_CROSS_ENTROPY && last == EDGELORA_LOOKUP);
    return m->op_count - (folded ? 1u : 0u);
}

#endif
