// Reading `.elm` (SPEC.md, section 8): every byte from outside is checked here.
// SPDX-License-Identifier: MIT

#include "formats/formats.h"

// Is [offset, offset + count * element) an aligned part of the file behind its header?
static bool array_in_file(uint32_t size, uint32_t offset, uint32_t count, uint32_t element) {
    return (offset & 3) == 0 && offset >= sizeof(edgelora_model_t) && offset <= size &&
        count <= (size - offset) / element;
}

static bool tensor_ok(const edgelora_tensor_t *t) {
    uint32_t positions = (uint32_t)t->height * t->width;
    return positions > 0 && positions <= 65535 && t->channels > 0 &&
        t->channels <= (1u << 20) / positions;
}

// A file and its size, for what follows.
typedef struct {
    const uint8_t *at;
    uint32_t size;
} file_t;

static bool in_s8(const file_t *file, uint32_t offset, uint32_t count, int32_t low, int32_t high) {
    if (!array_in_file(file->size, offset, count, 1)) {
        return false;
    }
    const int8_t *v = (const int8_t *)(file->at + offset);
    for (uint32_t i = 0; i < count; ++i) {
        if (v[i] < low || v[i] > high) {
            return false;
        }
    }
    return true;
}

static bool in_s32(const file_t *file, uint32_t offset, uint32_t count, int32_t low, int32_t high) {
    if (!array_in_file(file->size, offset, count, 4)) {
        return false;
    }
    const int32_t *v = (const int32_t *)(const void *)(file->at + offset);
    for (uint32_t i = 0; i < count; ++i) {
        if (v[i] < low || v[i] > high) {
            return false;
        }
    }
    return true;
}

static bool requantization_ok(
    const file_t *file, const edgelora_op_t *op, uint32_t count, int32_t max_shift) {
    return in_s32(file, op->multiplier, count, 0, INT32_MAX) &&
        in_s8(file, op->shift, count, -31, max_shift);
}

// Kernels read the last row of weights in pairs of words: a word more than there is may be read,
// and is not used.
enum { WEIGHTS_SLACK = 4 };

// Dense, conv, depthwise. Weights: u8 [count], count <= 2^30, 0 is not one.
static bool weights_ok(
    const file_t *file, const edgelora_op_t *op, uint32_t count, uint32_t outputs) {
    if (!array_in_file(file->size, op->weights, align4(count) + WEIGHTS_SLACK, 1) ||
        !in_s32(file, op->bias, outputs, -(1 << 30), 1 << 30)) {
        return false;
    }
    for (uint32_t i = 0; i < count; ++i) {
        if (!file->at[op->weights + i]) {
            return false;
        }
    }
    return requantization_ok(file, op, outputs, 30);
}

static bool matrix_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in,
    const edgelora_tensor_t *out) {
    bool dense = op->kind == EDGELORA_DENSE;
    uint32_t kernel = matrix_kernel(op, in);
    // < 2^32: tensors and kernels are below 2^16 positions and 2^16 channels
    uint32_t inputs = kernel * in->channels;
    return !(dense && (out->height != 1 || out->width != 1)) && kernel <= 65535 &&
        inputs <= 16384 && (uint32_t)out->channels * kernel <= 65536 &&
        weights_ok(file, op, out->channels * inputs, out->channels);
}

// The sum of a position's error over windows and multipliers is within O * kernel * 127 * 127.
static bool depthwise_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in,
    const edgelora_tensor_t *out) {
    uint32_t kernel = (uint32_t)op->kernel_h * op->kernel_w;
    return out->channels % in->channels == 0 && kernel <= 1024 && out->channels * kernel <= 65536 &&
        weights_ok(file, op, out->channels * kernel, out->channels);
}

// Along one axis: every window holds at least one input element.
static bool windows_ok(uint32_t stride, uint32_t pad, uint32_t kernel, uint32_t in, uint32_t out) {
    return kernel > pad && (out - 1) * stride < in + pad;
}

// 512: as many windows over one position keep the backward sum in 32 bits
static bool pool_ok(
    const edgelora_op_t *op, const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    return op->dilation_h == 1 && op->dilation_w == 1 &&
        (uint32_t)op->kernel_h * op->kernel_w <= 512 && in->channels == out->channels &&
        in->zero_point == out->zero_point &&
        windows_ok(op->stride_h, op->pad_top, op->kernel_h, in->height, out->height) &&
        windows_ok(op->stride_w, op->pad_left, op->kernel_w, in->width, out->width);
}

static bool same_shape(const edgelora_tensor_t *a, const edgelora_tensor_t *b) {
    return a->height == b->height && a->width == b->width && a->channels == b->channels;
}

static bool concatenate_ok(const edgelora_op_t *op, const edgelora_tensor_t *a,
    const edgelora_tensor_t *b, const edgelora_tensor_t *out) {
    bool h = op->kernel_h == 1, w = op->kernel_h == 2, c = op->kernel_h == 3;
    return (uint32_t)a->height + (h ? b->height : 0) == out->height &&
        (uint32_t)a->width + (w ? b->width : 0) == out->width &&
        (uint32_t)a->channels + (c ? b->channels : 0) == out->channels &&
        (h || b->height == out->height) && (w || b->width == out->width) &&
        (c || b->channels == out->channels) && a->zero_point == out->zero_point &&
        b->zero_point == out->zero_point;
}

static bool slice_ok(
    const edgelora_op_t *op, const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    uint32_t start = slice_start(op);
    bool h = op->kernel_h == 1, w = op->kernel_h == 2, c = op->kernel_h == 3;
    return (h ? start + out->height <= in->height : out->height == in->height) &&
        (w ? start + out->width <= in->width : out->width == in->width) &&
        (c ? start + out->channels <= in->channels : out->channels == in->channels) &&
        in->zero_point == out->zero_point;
}

static bool history_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in,
    const edgelora_tensor_t *out) {
    uint32_t newest = (uint32_t)in->height * in->width * in->channels,
             all = (uint32_t)out->height * out->width * out->channels;
    return newest < all && in->zero_point == out->zero_point &&
        (!op->weights || array_in_file(file->size, op->weights, all - newest, 1));
}

static bool pad_ok(
    const edgelora_op_t *op, const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    return in->channels == out->channels && in->zero_point == out->zero_point &&
        (uint32_t)op->pad_top + in->height <= out->height &&
        (uint32_t)op->pad_left + in->width <= out->width;
}

// With the largest exponential at least 1/2 a position's outputs add up to about 256, whatever the
// others are.
static bool softmax_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in) {
    return in->channels <= 1024 && in_s32(file, op->multiplier, 256, 0, INT32_MAX) &&
        in_s32(file, op->multiplier, 1, 1 << 30, INT32_MAX) &&
        in_s8(file, op->shift, 2, -31, 127) && in_s8(file, op->shift, 1, 64, 127) &&
        ((const int8_t *)file->at)[op->shift + 1] <= 30;
}

// Fields that a kind does not use hold 1 (kernel, stride, dilation), 0 (padding, flags) or the
// whole range.
static bool unused_ok(const edgelora_op_t *op, uint32_t has) {
    bool window = has & EDGELORA_HAS_WINDOW, range = has & EDGELORA_HAS_RANGE;
    bool unit = op->stride_h == 1 && op->stride_w == 1 && op->dilation_h == 1 &&
        op->dilation_w == 1 && op->kernel_w == 1 &&
        (op->kernel_h == 1 || ((has & EDGELORA_HAS_AXIS) && op->kernel_h <= 3)) &&
        ((!op->pad_top && !op->pad_left) || op->kind == EDGELORA_PAD || op->kind == EDGELORA_SLICE);
    return (window || unit) &&
        (range || (op->act_min == -128 && op->act_max == 127 && !op->flags)) && op->flags <= 3 &&
        ((has & EDGELORA_TWO_INPUTS) || !op->input2) &&
        ((has & EDGELORA_IS_MATRIX) || (!op->t_shift && !op->branch_shift));
}

static edgelora_status_t op_check(
    const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *tensors) {
    uint32_t has = edgelora_traits(op->kind);
    if (!has) {
        return EDGELORA_ERR_UNSUPPORTED;
    }
    if (!op->kernel_h || !op->kernel_w || !op->stride_h || !op->stride_w || !op->dilation_h ||
        !op->dilation_w || op->act_min > op->act_max || op->t_shift < 0 || op->t_shift > 24 ||
        op->branch_shift < -15 || op->branch_shift > 8 || !unused_ok(op, has)) {
        return EDGELORA_ERR_FORMAT;
    }
    const edgelora_tensor_t *in = &tensors[op->input], *in2 = &tensors[op->input2],
                            *out = &tensors[op->output];
    bool ok = false;
    switch (op->kind) {
        case EDGELORA_DENSE:
        case EDGELORA_CONV:
            ok = matrix_ok(file, op, in, out);
            break;
        case EDGELORA_AVERAGE_POOL:
        case EDGELORA_MAX_POOL:
            ok = pool_ok(op, in, out);
            break;
        case EDGELORA_MEAN:
            ok = in->channels == out->channels && out->height == 1 && out->width == 1 &&
                requantization_ok(file, op, 1, 30);
            break;
        case EDGELORA_DEPTHWISE:
            ok = depthwise_ok(file, op, in, out);
            break;
        case EDGELORA_ADD:
            ok = same_shape(in, out) && same_shape(in2, out) && requantization_ok(file, op, 3, 0);
            break;
        case EDGELORA_CONCATENATE:
            ok = concatenate_ok(op, in, in2, out);
            break;
        case EDGELORA_SLICE:
            ok = slice_ok(op, in, out);
            break;
        case EDGELORA_HISTORY:
            ok = history_ok(file, op, in, out);
            break;
        case EDGELORA_PAD:
            ok = pad_ok(op, in, out);
            break;
        case EDGELORA_RESHAPE:
            ok = (uint32_t)in->height * in->width * in->channels ==
                    (uint32_t)out->height * out->width * out->channels &&
                in->zero_point == out->zero_point;
            break;
        case EDGELORA_LOOKUP:
            ok = same_shape(in, out) && array_in_file(file->size, op->weights, 256, 1) &&
                in_s8(file, op->bias, 256, -127, 127) && in_s8(file, op->shift, 1, -31, 30);
            break;
        case EDGELORA_SOFTMAX:
            ok = same_shape(in, out) && softmax_ok(file, op, in);
            break;
    }
    return ok ? EDGELORA_OK : EDGELORA_ERR_FORMAT;
}

// Tensors come before their readers, and all but the last have one.
static bool graph_ok(const edgelora_model_t *m, const edgelora_op_t *ops) {
    for (uint32_t i = 0; i < m->op_count; ++i) {
        if (ops[i].input > i || ops[i].input2 > i || ops[i].output != i + 1) {
            return false;
        }
        bool read = i + 1 == m->op_count;
        for (uint32_t j = i + 1; j < m->op_count; ++j) {
            read |= op_reads(&ops[j], i + 1);
        }
        if (!read) {
            return false;
        }
    }
    return true;
}

static edgelora_status_t loss_check(const edgelora_model_t *m) {
    if (m->loss > EDGELORA_MEAN_SQUARED_ERROR) {
        return EDGELORA_ERR_UNSUPPORTED;
    }
    const edgelora_tensor_t *t = model_tensor(m, trained_ops(m));
    uint32_t size = tensor_size(m, trained_ops(m));
    bool ok = m->logit_scale <= 128u << 16; // the loss of the farthest logit stays in 32 bits
    if (m->loss == EDGELORA_CROSS_ENTROPY) {
        ok = ok && t->height == 1 && t->width == 1 && size >= 2 && size <= EDGELORA_MAX_CLASSES;
    } else {
        ok = ok && size <= (m->loss == EDGELORA_BINARY_CROSS_ENTROPY ? 256 : 65536);
    }
    return ok ? EDGELORA_OK : EDGELORA_ERR_FORMAT;
}

edgelora_status_t edgelora_model_check(const void *model, uint32_t size) {
    edgelora_status_t status = edgelora_header_check(
        model, size, 'M', EDGELORA_MODEL_FORMAT, sizeof(edgelora_model_t));
    status = status == EDGELORA_OK ? edgelora_crc_check(model, size) : status;
    if (status != EDGELORA_OK) {
        return status;
    }
    const edgelora_model_t *m = model;
    if (m->op_count < 1 || m->op_count > EDGELORA_MAX_OPS || m->tensor_count != m->op_count + 1 ||
        !array_in_file(size, m->tensors, m->tensor_count, sizeof(edgelora_tensor_t)) ||
        !array_in_file(size, m->ops, m->op_count, sizeof(edgelora_op_t)) ||
        !array_in_file(size, m->labels, m->labels_size, 1)) {
        return EDGELORA_ERR_FORMAT;
    }
    const edgelora_tensor_t *tensors = model_at(model, m->tensors);
    const edgelora_op_t *ops = model_at(model, m->ops);
    for (uint32_t i = 0; i < m->tensor_count; ++i) {
        if (!tensor_ok(&tensors[i])) {
            return EDGELORA_ERR_FORMAT;
        }
    }
    if (!graph_ok(m, ops)) {
        return EDGELORA_ERR_FORMAT;
    }
    file_t file = {model, size};
    for (uint32_t i = 0; i < m->op_count; ++i) {
        status = op_check(&file, &ops[i], tensors);
        if (status != EDGELORA_OK) {
            return status;
        }
    }
    return loss_check(m);
}

uint32_t edgelora_input_size(const void *model) {
    return tensor_size(model, 0);
}

uint32_t edgelora_output_size(const void *model) {
    return tensor_size(model, ((const edgelora_model_t *)model)->op_count);
}

uint32_t edgelora_target_size(const void *model) {
    return ((const edgelora_model_t *)model)->loss == EDGELORA_CROSS_ENTROPY
        ? 0
        : tensor_size(model, trained_ops(model));
}
