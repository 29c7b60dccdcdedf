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

void edgelora_shape_row(edgelora_shape_t *g, uint32_t t) {
    g->in_h = g->out_h = g->in2_h = 1;
    g->in_w = g->out_w = g->in2_w = 1;
    g->positions = 1;
    if (g->op->kind == EDGELORA_ROTATE) {
        g->taps += 2 * t * g->op->kernel_h;
    }
}
