// Traits of each kind of op, and the decoded shape of an op.
// SPDX-License-Identifier: MIT

#include "graph.h"

// 32 bits each: ESP32 can read constants of native code only as words.
static const uint32_t traits[] = {
    [EDGELORA_DENSE] = EDGELORA_IS_MATRIX | EDGELORA_HAS_WEIGHTS | EDGELORA_WHOLE_INPUT |
        EDGELORA_HAS_RANGE | EDGELORA_SCALES,
    [EDGELORA_CONV] = EDGELORA_IS_MATRIX | EDGELORA_HAS_WEIGHTS | EDGELORA_HAS_WINDOW |
        EDGELORA_HAS_RANGE | EDGELORA_SCALES,
    [EDGELORA_AVERAGE_POOL] = EDGELORA_HAS_WINDOW | EDGELORA_HAS_RANGE,
    [EDGELORA_MEAN] = EDGELORA_WHOLE_INPUT | EDGELORA_HAS_RANGE | EDGELORA_SCALES,
    [EDGELORA_DEPTHWISE] = EDGELORA_HAS_WEIGHTS | EDGELORA_HAS_WINDOW | EDGELORA_HAS_RANGE |
        EDGELORA_SCALES,
    [EDGELORA_MAX_POOL] = EDGELORA_HAS_WINDOW | EDGELORA_HAS_RANGE | EDGELORA_READS_INPUT,
    [EDGELORA_ADD] = EDGELORA_TWO_INPUTS | EDGELORA_HAS_RANGE,
    [EDGELORA_CONCATENATE] = EDGELORA_TWO_INPUTS | EDGELORA_HAS_AXIS | EDGELORA_COPIES,
    [EDGELORA_PAD] = EDGELORA_COPIES,
    [EDGELORA_RESHAPE] = EDGELORA_COPIES,
    [EDGELORA_LOOKUP] = EDGELORA_READS_INPUT,
    [EDGELORA_SOFTMAX] = EDGELORA_READS_OUTPUT,
    [EDGELORA_HISTORY] = EDGELORA_KEEPS | EDGELORA_COPIES,
    [EDGELORA_SLICE] = EDGELORA_HAS_AXIS | EDGELORA_COPIES,
    [EDGELORA_CONSTANT] = EDGELORA_NO_INPUT,
    [EDGELORA_MULTIPLY] = EDGELORA_TWO_INPUTS | EDGELORA_HAS_RANGE | EDGELORA_SCALES |
        EDGELORA_READS_OTHER,
    [EDGELORA_MINIMUM] = EDGELORA_TWO_INPUTS | EDGELORA_READS_INPUT | EDGELORA_READS_OTHER,
    [EDGELORA_MAXIMUM] = EDGELORA_TWO_INPUTS | EDGELORA_READS_INPUT | EDGELORA_READS_OTHER,
    [EDGELORA_PRELU] = EDGELORA_TWO_INPUTS | EDGELORA_READS_INPUT | EDGELORA_READS_OTHER,
    [EDGELORA_GATHER] = EDGELORA_COPIES,
    [EDGELORA_LSTM] = EDGELORA_NO_GRADIENT,
    [EDGELORA_SVDF_FEATURES] = EDGELORA_WHOLE_INPUT | EDGELORA_SCALES,
    [EDGELORA_SVDF_TIME] = EDGELORA_SCALES,
    [EDGELORA_EMBED] = EDGELORA_ADDS,
    [EDGELORA_PROJECT] = EDGELORA_IS_MATRIX | EDGELORA_HAS_WEIGHTS | EDGELORA_HAS_WINDOW |
        EDGELORA_SCALES | EDGELORA_ADDS,
    [EDGELORA_WIDEN] = EDGELORA_SCALES | EDGELORA_ADDS,
    [EDGELORA_NORM] = EDGELORA_SCALES | EDGELORA_READS_STREAM | EDGELORA_READS_INPUT,
    [EDGELORA_ROTATE] = EDGELORA_PLACED,
    [EDGELORA_ATTEND] = EDGELORA_THREE_INPUTS | EDGELORA_PLACED,
    [EDGELORA_SQUARED_DIFFERENCE] = EDGELORA_TWO_INPUTS | EDGELORA_READS_INPUT |
        EDGELORA_READS_OTHER,
    [EDGELORA_MATMUL] = EDGELORA_TWO_INPUTS | EDGELORA_SCALES | EDGELORA_READS_OTHER,
};

EDGELORA_RAM uint32_t edgelora_traits(uint32_t kind) {
    bool recurrent = kind >= EDGELORA_LSTM && kind <= EDGELORA_SVDF_TIME,
         attention = kind >= EDGELORA_EMBED;
    bool known = kind < sizeof(traits) / sizeof(traits[0]) && (EDGELORA_RECURRENT || !recurrent) &&
        (EDGELORA_ATTENTION || !attention);
    return known ? traits[kind] : 0;
}

EDGELORA_RAM uint32_t op_inputs(const edgelora_op_t *op) {
    uint32_t has = edgelora_traits(op->kind);
    if (has & EDGELORA_NO_INPUT) {
        return 0;
    }
    if (has & EDGELORA_THREE_INPUTS) {
        return 3;
    }
    return has & EDGELORA_TWO_INPUTS || (has & EDGELORA_ADDS && op->input2) ? 2 : 1;
}

EDGELORA_RAM uint32_t op_input(const edgelora_op_t *op, uint32_t k) {
    return k == 0 ? op->input : k == 1 ? op->input2 : op_number(op);
}

EDGELORA_RAM bool op_reads(const edgelora_op_t *op, uint32_t tensor) {
    for (uint32_t k = op_inputs(op); k-- > 0;) {
        if (op_input(op, k) == tensor) {
            return true;
        }
    }
    return false;
}

EDGELORA_HOT void edgelora_shape_into(edgelora_shape_t *g, const void *model, uint32_t i) {
    const edgelora_op_t *op = model_op(model, i);
    const edgelora_tensor_t *in = model_tensor(model, op->input),
                            *in2 = model_tensor(model, op->input2),
                            *out = model_tensor(model, op->output);
    uint32_t has = edgelora_traits(op->kind);
    g->op = op;
    g->traits = has;
    g->weights = model_at(model, op->weights);
    g->table = model_at(model, op->weights);
    g->slope = model_at(model, op->bias);
    g->taps = model_at(model, op->weights);
    g->initial = op->weights ? model_at(model, op->weights) : 0;
    g->gathered = op->weights ? model_at(model, op->weights) : 0;
    g->bias = model_at(model, op->bias);
    g->multiplier = model_at(model, op->multiplier);
    g->shift = model_at(model, op->shift);
    g->in_h = in->height;
    g->in_w = in->width;
    g->in_c = in->channels;
    g->in2_h = in2->height;
    g->in2_w = in2->width;
    g->in2_c = in2->channels;
    g->out_h = out->height;
    g->out_w = out->width;
    g->out_c = out->channels;
    g->kernel_h = has & EDGELORA_WHOLE_INPUT ? in->height : op->kernel_h;
    g->kernel_w = has & EDGELORA_WHOLE_INPUT ? in->width : op->kernel_w;
    g->zp_in = in->zero_point;
    g->zp_in2 = in2->zero_point;
    g->zp_out = out->zero_point;
    g->is_matrix = has & EDGELORA_IS_MATRIX;
    g->bounded = false;
    g->may_read_ahead = true;
    g->rounds = model_rounds(model);
    g->positions = (uint32_t)g->out_h * g->out_w;
    g->inputs = (uint32_t)g->kernel_h * g->kernel_w * g->in_c;
}

bool edgelora_goes_by_rows(const edgelora_shape_t *g) {
    const edgelora_op_t *op = g->op;
    switch (op->kind) {
        case EDGELORA_ADD:
        case EDGELORA_MULTIPLY:
            return is_flat(g);
        case EDGELORA_CONV:
        case EDGELORA_PROJECT:
            return g->inputs == g->in_c && !op->pad_top && !op->pad_left && op->stride_h == 1 &&
                op->stride_w == 1 && g->out_h == g->in_h && g->out_w == g->in_w;
        case EDGELORA_LOOKUP:
        case EDGELORA_EMBED:
        case EDGELORA_WIDEN:
        case EDGELORA_NORM:
        case EDGELORA_ROTATE:
            return true;
        default:
            return false;
    }
}

void edgelora_shape_rows(edgelora_shape_t *g, uint32_t from, uint32_t count) {
    g->in_h = g->out_h = g->in2_h = (uint16_t)count;
    g->in_w = g->out_w = g->in2_w = 1;
    g->positions = count;
    if (g->op->kind == EDGELORA_ROTATE) {
        g->taps += 2 * from * g->op->kernel_h;
    }
}

void edgelora_shape_backward(edgelora_shape_t *g, const void *model) {
    uint32_t rows = backward_rows(model, g);
    if (rows < g->positions) {
        edgelora_shape_rows(g, 0, rows);
    }
}
