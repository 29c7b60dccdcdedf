// Traits of each kind of op, and the decoded shape of an op.
// SPDX-License-Identifier: MIT

#include "graph.h"

#define T1(a) EDGELORA_##a
#define T2(a, b) T1(a) | T1(b)
#define T3(a, b, c) T2(a, b) | T1(c)
#define T4(a, b, c, d) T3(a, b, c) | T1(d)
#define T5(a, b, c, d, e) T4(a, b, c, d) | T1(e)
#define T6(a, b, c, d, e, f) T5(a, b, c, d, e) | T1(f)

// 32 bits each: ESP32 can read constants of native code only as words. 0: not in this build
static const uint32_t traits[] = {
#define OP(name, number, build, traits, ...) [number] = EDGELORA_##build ? (traits) : 0,
#include "edgelora_ops.h"
#undef OP
};

EDGELORA_RAM uint32_t edgelora_traits(uint32_t kind) {
    return kind < sizeof(traits) / sizeof(traits[0]) ? traits[kind] : 0;
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

// A matrix whose kernel is one element, at the output's place.
static bool is_pointwise(const edgelora_shape_t *g) {
    const edgelora_op_t *op = g->op;
    return g->inputs == g->in_c && !op->pad_top && !op->pad_left && op->stride_h == 1 &&
        op->stride_w == 1 && g->out_h == g->in_h && g->out_w == g->in_w;
}

bool edgelora_goes_by_rows(const edgelora_shape_t *g) {
    return (g->traits & EDGELORA_BY_ROWS) && (!g->is_matrix || is_pointwise(g)) &&
        (!(g->traits & EDGELORA_REPEATS) || is_flat(g));
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
