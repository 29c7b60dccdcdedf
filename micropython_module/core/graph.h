// A checked model's graph: ops with their tensors, and the traits of each kind of op.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_GRAPH_H
#define EDGELORA_GRAPH_H

#include "edgelora.h"
#include "fixed.h"

// Traits of a kind of op.
enum {
    EDGELORA_IS_MATRIX = 1,     // dense, conv: can have an adapter
    EDGELORA_HAS_WEIGHTS = 2,   // weights, bias, and multiplier and shift for each channel
    EDGELORA_WHOLE_INPUT = 4,   // the kernel covers the input
    EDGELORA_TWO_INPUTS = 8,    // reads input2
    EDGELORA_READS_INPUT = 16,  // backward
    EDGELORA_READS_OUTPUT = 32, // backward
    EDGELORA_HAS_WINDOW = 64,   // uses kernel, stride and padding
    EDGELORA_HAS_RANGE = 128,   // uses act_min, act_max and the mask flags
    EDGELORA_COPIES = 256,      // output elements are copies of input elements
    EDGELORA_HAS_AXIS = 512,    // uses op_axis
    EDGELORA_KEEPS = 1024,      // output persists from one frame to the next
    EDGELORA_NO_INPUT = 2048,   // output is stored in the file
    // the backward pass of one input reads the other input; with READS_INPUT, the same input
    EDGELORA_READS_OTHER = 4096,
    EDGELORA_SCALES = 8192, // multiplier and shift scale the output, and first of all its error
    EDGELORA_NO_GRADIENT = 16384, // no backward pass: no layer below can train
    EDGELORA_ADDS = 32768, // output is a stream: input2, if not 0, plus what it computes
    EDGELORA_READS_STREAM = 65536, // input is a stream
    // reads input, input2 and a third one; its backward pass reads all and writes their errors at
    // once
    EDGELORA_THREE_INPUTS = 131072,
    EDGELORA_PLACED = 262144, // a row's output depends on its place
    EDGELORA_REPEATS = 524288, // input2 is repeated along its axes of size 1
    // each output position depends on the same position of the inputs alone: of two, if their
    // shapes are the same; of a matrix, if its kernel is one element, at the output's place
    EDGELORA_BY_ROWS = 2097152,
    EDGELORA_SAME_GRID = 1048576, // inputs and output share scale and zero point
};
uint32_t edgelora_traits(uint32_t kind); // 0: unknown kind

// Which builds have an op: a column of edgelora_ops.h.
#define EDGELORA_ALWAYS 1

// 0: a build without lstm and SVDF, whose kinds are unknown then.
#ifndef EDGELORA_RECURRENT
#define EDGELORA_RECURRENT 1
#endif

// 0: a build without streams, attention and products of activations as matrices.
#ifndef EDGELORA_ATTENTION
#define EDGELORA_ATTENTION 1
#endif

// Indices of an lstm's multipliers and shifts. Two for each gate, of its input term and its state
// term, in the order input, forget, cell, output; then those of the cell, its admitted update, and
// the output. After the multipliers: the cell's clip limit and the table of the logistic function.
enum {
    LSTM_CELL = 8,
    LSTM_ADMITTED = 9,
    LSTM_OUTPUT = 10,
    LSTM_SCALES = 11,
    LSTM_CLIP = 11,
    LSTM_TABLE = 12,
    LSTM_TABLE_SIZE = 256,
    // in the shifts only: the state's zero point, and the power of two from the cell to tanh's Q12
    LSTM_STATE_ZERO = 11,
    LSTM_TANH = 12,
};

// An op with its tensors, decoded from a checked model. A dense layer is a convolution whose kernel
// covers the whole input, with one position.
typedef struct {
    const edgelora_op_t *op;
    // u8 = w + 128, |w| <= 127: [out_c, kernel_h, kernel_w, in_c], depthwise [kernel_h, kernel_w,
    // out_c], lstm [out_c, 4, in_c + out_c], svdf features [out_c / 2, K]
    const uint8_t *weights;
    // lookup: s8 [256], indexed by x + 128; embed: table is s8 [symbols, out_c]
    const int8_t *table, *slope;
    // history: s8 [output - input], the initial contents; NULL: the zero point
    const int8_t *initial;
    // gather: u16, input positions along height, width and channels; NULL: all, in order
    const uint16_t *gathered;
    // svdf time: s16 [out_c, memory, rank]; norm: gain, s16 [in_c]; rotate: cosine and sine, Q15,
    // s16 [positions, half, 2]
    const int16_t *taps;
    const int32_t *bias; // s32 [out_c], the input's zero point folded in; lstm [out_c, 4, 2]
    // s32 [out_c]; mean, multiply, embed, widen, norm, matmul [1], prelu [2], add, squared
    // difference, attend [3], softmax [256]
    const int32_t *multiplier;
    // s8 [out_c]; mean, multiply, lookup, embed, widen, norm, matmul [1], prelu, softmax [2], add,
    // squared difference, attend [3]
    const int8_t *shift;
    uint32_t traits;
    uint32_t positions; // out_h * out_w
    uint32_t inputs; // K = kernel_h * kernel_w * in_c
    uint16_t in_h, in_w, in_c, out_h, out_w, out_c, kernel_h, kernel_w;
    uint16_t in2_h, in2_w, in2_c; // but of matmul: each is the output's, or 1 if repeated
    int8_t zp_in, zp_in2, zp_out;
    bool is_matrix; // dense, conv or project
    bool rounds; // errors are rounded, else truncated
    // all shifts are <= 0 and biases within 2^28, so that |acc| < 2^30, also with merged weights;
    // false until a session sets it
    bool bounded;
    bool may_read_ahead; // weights, while they are multiplied; true until a session sets it
} edgelora_shape_t;

void edgelora_shape_into(edgelora_shape_t *g, const void *model, uint32_t i);

static inline edgelora_shape_t edgelora_shape(const void *model, uint32_t i) {
    edgelora_shape_t g;
    edgelora_shape_into(&g, model, i);
    return g;
}

static inline const void *model_at(const void *model, uint32_t offset) {
    return (const uint8_t *)model + offset;
}

static inline const edgelora_model_t *session_model(const edgelora_session_t *s) {
    return s->model.p;
}

static inline const edgelora_tensor_t *model_tensor(const void *model, uint32_t i) {
    return (const edgelora_tensor_t *)model_at(model, ((const edgelora_model_t *)model)->tensors) +
        i;
}

static inline const edgelora_op_t *model_op(const void *model, uint32_t i) {
    return (const edgelora_op_t *)model_at(model, ((const edgelora_model_t *)model)->ops) + i;
}

// Values of a tensor; its errors are as many.
static inline uint32_t tensor_size(const void *model, uint32_t i) {
    const edgelora_tensor_t *t = model_tensor(model, i);
    return (uint32_t)t->height * t->width * t->channels;
}

static inline uint32_t tensor_bytes(const void *model, uint32_t i) {
    return tensor_size(model, i) << model_tensor(model, i)->wide;
}

static inline bool model_rounds(const void *model) {
    return ((const edgelora_model_t *)model)->flags & EDGELORA_ROUNDS;
}

static inline bool op_has(const edgelora_op_t *op, uint32_t trait) {
    return edgelora_traits(op->kind) & trait;
}

// The axis of a slice or concatenate: 1 height, 2 width, 3 channels.
static inline uint32_t op_axis(const edgelora_op_t *op) {
    return op->kernel_h;
}

// The u16 in both pads: a slice's first position along its axis, an embed's number of symbols, an
// attend's third input.
static inline uint32_t op_number(const edgelora_op_t *op) {
    return op->pad_top + 256u * op->pad_left;
}

// Number of tensors that an op reads, and which they are.
uint32_t op_inputs(const edgelora_op_t *op);
uint32_t op_input(const edgelora_op_t *op, uint32_t k);

// Do both inputs have the same shape? Otherwise the second is repeated along its axes of size 1.
static inline bool is_flat(const edgelora_shape_t *g) {
    return g->in2_h == g->out_h && g->in2_w == g->out_w && g->in2_c == g->out_c;
}

// The axis of a gather's output for an axis of its input: 0 height, 1 width, 2 channels.
static inline uint32_t gather_axis(const edgelora_op_t *op, uint32_t axis) {
    uint32_t height = op->kernel_h - 1u, width = op->kernel_w - 1u;
    return axis == 0 ? height : axis == 1 ? width : 3 - height - width;
}

// Does an op read this tensor?
bool op_reads(const edgelora_op_t *op, uint32_t tensor);

// Elements of a history's input, which are the last of its output.
static inline uint32_t history_input(const edgelora_shape_t *g) {
    return (uint32_t)g->in_h * g->in_w * g->in_c;
}

// Number of frames whose input a history's output holds, at least a part of it.
static inline uint32_t history_span(const edgelora_shape_t *g) {
    uint32_t input = history_input(g);
    return (g->positions * g->out_c + input - 1) / input;
}

// Ops that all frames but a sample's last one have to run, of the first `count`: those up to the
// last history.
static inline uint32_t remembering_ops(const void *model, uint32_t count) {
    while (count && !op_has(model_op(model, count - 1), EDGELORA_KEEPS)) {
        --count;
    }
    return count;
}

// Ops in a training pass: all, except a last softmax or logistic that is part of the loss.
static inline uint32_t trained_ops(const void *model) {
    const edgelora_model_t *m = model;
    uint32_t last = model_op(model, m->op_count - 1u)->kind;
    bool folded = (m->loss == EDGELORA_CROSS_ENTROPY && last == EDGELORA_SOFTMAX) ||
        (m->loss == EDGELORA_BINARY_CROSS_ENTROPY && last == EDGELORA_LOOKUP);
    return m->op_count - (folded ? 1u : 0u);
}

// Bytes of an id of so many symbols.
static inline uint32_t id_bytes(uint32_t symbols) {
    return symbols > 256 ? 2 : 1;
}

static inline uint32_t id_at(const int8_t *ids, uint32_t bytes, uint32_t i) {
    const uint8_t *id = (const uint8_t *)ids + bytes * i;
    return id[0] + (bytes > 1 ? 256u * id[1] : 0);
}

// Channels of the loss tensor.
static inline uint32_t loss_channels(const void *model) {
    return model_tensor(model, trained_ops(model))->channels;
}

// Classes of an output: its channels where each position has a loss of its own.
static inline uint32_t output_classes(const void *model) {
    const edgelora_model_t *m = model;
    const edgelora_tensor_t *t = model_tensor(model, m->op_count);
    return m->loss == EDGELORA_CROSS_ENTROPY ? t->channels : tensor_size(model, m->op_count);
}

// Does each output position depend on the same position of the inputs alone?
bool edgelora_goes_by_rows(const edgelora_shape_t *g);
// The shape of some rows, positions, of an op that goes by rows, from one on. Tensors are at that
// row.
void edgelora_shape_rows(edgelora_shape_t *g, uint32_t from, uint32_t count);

// Errors have an exponent for each group of positions: 16 of a sequence, whose positions have a
// loss each, if they are rounded; else all. NO_ERROR: of a group that is 0 everywhere.
enum { EDGELORA_GROUP_BITS = 4, EDGELORA_GROUP = 16, EDGELORA_NO_ERROR = INT16_MIN };

static inline bool has_groups(const void *model) {
    const edgelora_model_t *m = model;
    if (!model_rounds(model) || m->loss != EDGELORA_CROSS_ENTROPY) {
        return false;
    }
    const edgelora_tensor_t *t = model_tensor(model, trained_ops(model));
    return (uint32_t)t->height * t->width > 1;
}

// Positions of a group, and the number of groups, of so many positions.
static inline uint32_t group_rows(const void *model, uint32_t positions) {
    return positions > EDGELORA_GROUP && has_groups(model) ? EDGELORA_GROUP : positions;
}

// Positions that an op's backward pass takes at once.
static inline uint32_t backward_rows(const void *model, const edgelora_shape_t *g) {
    return edgelora_goes_by_rows(g) ? group_rows(model, g->positions) : g->positions;
}

// Makes a shape that of the first positions that an op's backward pass takes at once.
void edgelora_shape_backward(edgelora_shape_t *g, const void *model);

static inline uint32_t group_count(const void *model, uint32_t positions) {
    uint32_t rows = group_rows(model, positions);
    return (positions + rows - 1) / rows;
}

// Requantizes an accumulator of output channel o.
static inline int8_t requantize_output(const edgelora_shape_t *g, int32_t acc, uint32_t o) {
    uint32_t y = (uint32_t)requantize(acc, g->multiplier[o], g->shift[o]) + (uint32_t)g->zp_out;
    return (int8_t)clamp_s32((int32_t)y, g->op->act_min, g->op->act_max);
}

#endif
