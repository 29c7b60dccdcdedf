// Validates `.elm` files (SPEC.md, section 8): every byte of a file is checked here.
// SPDX-License-Identifier: MIT

#include "formats/formats.h"
#include "formats/fits.h"

// Is [offset, offset + count * element) aligned, within the file and after its header?
static bool array_in_file(uint32_t size, uint32_t offset, uint32_t count, uint32_t element) {
    return (offset & 3) == 0 && offset >= sizeof(edgelora_model_t) && offset <= size &&
        count <= (size - offset) / element;
}

static bool tensor_ok(const edgelora_tensor_t *t) {
    uint32_t positions = (uint32_t)t->height * t->width;
    return positions > 0 && positions <= EDGELORA_MAX_POSITIONS && t->channels > 0 &&
        t->channels <= EDGELORA_MAX_ELEMENTS / positions &&
        (!t->wide || (t->wide == 1 && !t->zero_point && t->channels <= EDGELORA_MAX_STREAM));
}

// The file under check.
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

static bool requantization_ok(const file_t *file, const edgelora_op_t *op, uint32_t count) {
    return in_s32(file, op->multiplier, count, 0, INT32_MAX) &&
        in_s8(file, op->shift, count, EDGELORA_MIN_SHIFT, EDGELORA_MAX_SHIFT);
}

// Checks an add's multipliers; a negative one subtracts its input.
static bool add_ok(const file_t *file, const edgelora_op_t *op) {
    return in_s32(file, op->multiplier, 3, -INT32_MAX, INT32_MAX) &&
        ((const int32_t *)(const void *)(file->at + op->multiplier))[2] >= 0 &&
        in_s8(file, op->shift, 3, EDGELORA_MIN_SHIFT, EDGELORA_MAX_ADD_SHIFT);
}

// Kernels read the last row of weights in pairs of words: they may read one word after it, and
// ignore its value.
enum { WEIGHTS_SLACK = 4 };

static bool in_s8_at(const file_t *file, uint32_t offset, int32_t low, int32_t high) {
    int8_t v = ((const int8_t *)file->at)[offset];
    return v >= low && v <= high;
}

// Weights: u8 [count], count <= 2^30, value 0 is not allowed. Biases: s32 [biases].
static bool weights_ok(
    const file_t *file, const edgelora_op_t *op, uint32_t count, uint32_t biases) {
    if (!array_in_file(file->size, op->weights, align4(count) + WEIGHTS_SLACK, 1) ||
        !in_s32(file, op->bias, biases, -EDGELORA_MAX_BIAS, EDGELORA_MAX_BIAS)) {
        return false;
    }
    for (uint32_t i = 0; i < count; ++i) {
        if (!file->at[op->weights + i]) {
            return false;
        }
    }
    return true;
}

// What the ops' records call for arrays in the file, each once that op's tensors fit.

static bool matrix_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in,
    const edgelora_tensor_t *out) {
    return weights_ok(file, op, out->channels * matrix_inputs(op, in), out->channels) &&
        requantization_ok(file, op, out->channels);
}

static bool depthwise_ok(
    const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *out) {
    uint32_t kernel = (uint32_t)op->kernel_h * op->kernel_w;
    return weights_ok(file, op, out->channels * kernel, out->channels) &&
        requantization_ok(file, op, out->channels);
}

static bool gather_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in,
    const edgelora_tensor_t *out) {
    const uint32_t from[3] = {in->height, in->width, in->channels},
                   to[3] = {out->height, out->width, out->channels};
    const uint16_t *positions = (const uint16_t *)(const void *)(file->at + op->weights);
    if (!op->weights) {
        return true;
    }
    if (!array_in_file(file->size, op->weights, to[0] + to[1] + to[2], sizeof(*positions))) {
        return false;
    }
    for (uint32_t i = 0; i < 3; ++i) {
        for (uint32_t k = to[gather_axis(op, i)]; k-- > 0;) {
            if (*positions++ >= from[i]) {
                return false;
            }
        }
    }
    return true;
}

static bool history_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in,
    const edgelora_tensor_t *out) {
    return !op->weights || array_in_file(file->size, op->weights, elements(out) - elements(in), 1);
}

static bool lookup_ok(const file_t *file, const edgelora_op_t *op) {
    return array_in_file(file->size, op->weights, 256, 1) &&
        in_s8(file, op->bias, 256, -127, 127) &&
        in_s8(file, op->shift, 1, EDGELORA_MIN_SHIFT, EDGELORA_MAX_SHIFT);
}

// As the largest exponential is 1, a position's outputs add up to about 256, for any values of the
// others.
static bool softmax_ok(const file_t *file, const edgelora_op_t *op) {
    return in_s32(file, op->multiplier, 256, 0, INT32_MAX) &&
        in_s32(file, op->multiplier, 1, INT32_MAX, INT32_MAX) &&
        in_s8(file, op->shift, 2, EDGELORA_MIN_SHIFT, 127) && in_s8(file, op->shift, 1, 64, 127) &&
        ((const int8_t *)file->at)[op->shift + 1] <= EDGELORA_MAX_SHIFT;
}

// Weights: u8 [units, 4, inputs + units]; bias: s32 [units, 4, 2].
static bool lstm_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in,
    const edgelora_tensor_t *out) {
    uint32_t units = out->channels, inputs = in->channels + units,
             clip = op->multiplier + 4 * LSTM_CLIP;
    return weights_ok(file, op, 4 * units * inputs, 8 * units) &&
        requantization_ok(file, op, LSTM_SCALES) && in_s32(file, clip, 1, 0, 1 << 15) &&
        in_s32(file, clip + 4, LSTM_TABLE_SIZE, 1 << 15, (1 << 16) - 1) &&
        in_s8(file, op->shift + LSTM_TANH, 1, EDGELORA_MIN_TANH_SHIFT, EDGELORA_MAX_TANH_SHIFT);
}

static bool svdf_features_ok(const file_t *file, const edgelora_op_t *op,
    const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    uint32_t filters = out->channels / 2u;
    return weights_ok(file, op, filters * elements(in), filters) && requantization_ok(file, op, 1);
}

static bool svdf_time_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in,
    const edgelora_tensor_t *out) {
    return array_in_file(
               file->size, op->weights, in->height * (in->channels / 2u), sizeof(int16_t)) &&
        array_in_file(file->size, op->bias, out->channels, sizeof(int32_t)) &&
        requantization_ok(file, op, 1);
}

// Values are within 2^15 - 1.
static bool in_s16(const file_t *file, uint32_t offset, uint32_t count) {
    if (!array_in_file(file->size, offset, count, sizeof(int16_t))) {
        return false;
    }
    const int16_t *v = (const int16_t *)(const void *)(file->at + offset);
    for (uint32_t i = 0; i < count; ++i) {
        if (v[i] == INT16_MIN) {
            return false;
        }
    }
    return true;
}

static bool embed_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *out) {
    return array_in_file(file->size, op->weights, op_number(op) * out->channels, 1) &&
        requantization_ok(file, op, 1);
}

static bool norm_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in) {
    return in_s16(file, op->weights, in->channels) &&
        in_s32(file, op->bias, in->channels, -(1 << 27), 1 << 27) &&
        in_s32(file, op->multiplier, 1, 1, INT32_MAX) && in_s8(file, op->shift, 1, -10, 17);
}

static bool rotate_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in) {
    return in_s16(file, op->weights, 2u * in->height * in->width * op->kernel_h);
}

static bool attend_ok(const file_t *file, const edgelora_op_t *op) {
    return in_s32(file, op->multiplier, 1, 1, UINT16_MAX) &&
        in_s32(file, op->multiplier + 4, 2, 0, INT16_MAX) && in_s8(file, op->shift, 1, 0, 20) &&
        in_s8_at(file, op->shift + 1, -16, 15) && in_s8_at(file, op->shift + 2, -64, 63);
}

// Unused fields of a kind must be 1 (kernel, stride, dilation), 0 (padding, flags) or the full
// range.
static bool unused_ok(const edgelora_op_t *op, uint32_t has) {
    bool window = has & EDGELORA_HAS_WINDOW, range = has & EDGELORA_HAS_RANGE;
    bool pad = op->kind == EDGELORA_PAD, gather = op->kind == EDGELORA_GATHER;
    bool heads = op->kind == EDGELORA_ATTEND, half = op->kind == EDGELORA_ROTATE || heads;
    bool number = op->kind == EDGELORA_SLICE || op->kind == EDGELORA_EMBED || heads;
    bool unit = ((op->stride_h == 1 && op->stride_w == 1) || pad) && op->dilation_h == 1 &&
        op->dilation_w == 1 && (op->kernel_w == 1 || heads || (gather && op->kernel_w <= 3)) &&
        (op->kernel_h == 1 || half ||
            ((gather || (has & EDGELORA_HAS_AXIS)) && op->kernel_h <= 3)) &&
        ((!op->pad_top && !op->pad_left) || pad || number);
    uint32_t flags = range          ? EDGELORA_MASK_LOW | EDGELORA_MASK_HIGH
        : heads                     ? EDGELORA_CAUSAL
        : op->kind == EDGELORA_NORM ? EDGELORA_CENTRED
                                    : 0;
    return (window || unit) && (range || (op->act_min == -128 && op->act_max == 127)) &&
        !(op->flags & ~flags) &&
        ((has & (EDGELORA_TWO_INPUTS | EDGELORA_ADDS | EDGELORA_THREE_INPUTS)) || !op->input2) &&
        (!(has & EDGELORA_NO_INPUT) || !op->input) &&
        ((has & EDGELORA_IS_MATRIX) || (!op->t_shift && !op->branch_shift));
}

// Do inputs and output share the zero point, where the op demands it?
static bool grid_ok(const edgelora_op_t *op, const edgelora_tensor_t *tensors) {
    for (uint32_t k = op_inputs(op); k-- > 0 && op_has(op, EDGELORA_SAME_GRID);) {
        if (tensors[op_input(op, k)].zero_point != tensors[op->output].zero_point) {
            return false;
        }
    }
    return true;
}

// Streams are written by ops that add to one, and by constants; only those and norm read them.
static bool streams_ok(const edgelora_op_t *op, const edgelora_tensor_t *tensors) {
    bool adds = op_has(op, EDGELORA_ADDS);
    const edgelora_tensor_t *out = &tensors[op->output];
    for (uint32_t k = op_inputs(op); k-- > 0;) {
        const edgelora_tensor_t *in = &tensors[op_input(op, k)];
        bool reads = k ? adds : op_has(op, EDGELORA_READS_STREAM);
        if (in->wide != reads || (adds && k && !same_shape(in, out))) {
            return false;
        }
    }
    return out->wide == adds || op->kind == EDGELORA_CONSTANT;
}

static edgelora_status_t op_check(
    const file_t *file, const edgelora_op_t *ops, uint32_t i, const edgelora_tensor_t *tensors) {
    const edgelora_op_t *op = &ops[i];
    uint32_t has = edgelora_traits(op->kind);
    if (!has) {
        return EDGELORA_ERR_UNSUPPORTED;
    }
    if (!op->kernel_h || !op->kernel_w || !op->stride_h || !op->stride_w || !op->dilation_h ||
        !op->dilation_w || op->act_min > op->act_max || !shifts_ok(op->t_shift, op->branch_shift) ||
        !unused_ok(op, has)) {
        return EDGELORA_ERR_FORMAT;
    }
    const edgelora_tensor_t *in = &tensors[op->input], *in2 = &tensors[op->input2],
                            *in3 = &tensors[op_inputs(op) == 3 ? op_number(op) : 0],
                            *out = &tensors[op->output];
    bool ok = false;
    switch (op->kind) {
#define OP(name, number, build, traits, shapes, arrays, ...) \
    case number: \
        ok = EDGELORA_##build && (shapes) && (arrays); \
        break;
#include "edgelora_ops.h"
#undef OP
    }
    ok = ok && grid_ok(op, tensors) && streams_ok(op, tensors);
    return ok ? EDGELORA_OK : EDGELORA_ERR_FORMAT;
}

// Are an attend's inputs earlier tensors, all different, that no other op reads? So each has one
// error.
static bool attends_alone(const edgelora_model_t *m, const edgelora_op_t *ops, uint32_t i) {
    if (ops[i].kind != EDGELORA_ATTEND) {
        return true;
    }
    uint32_t q = ops[i].input, k = ops[i].input2, v = op_number(&ops[i]);
    bool alone = v <= i && q != k && q != v && k != v;
    for (uint32_t j = 0; j < m->op_count; ++j) {
        alone = alone &&
            (j == i || !(op_reads(&ops[j], q) || op_reads(&ops[j], k) || op_reads(&ops[j], v)));
    }
    return alone;
}

// Every tensor comes before its readers; all except the last have a reader, and the last is
// computed.
static bool graph_ok(const edgelora_model_t *m, const edgelora_op_t *ops) {
    for (uint32_t i = 0; i < m->op_count; ++i) {
        if (ops[i].input > i || ops[i].input2 > i || ops[i].output != i + 1) {
            return false;
        }
        uint32_t readers = i + 1 == m->op_count;
        for (uint32_t j = i + 1; j < m->op_count; ++j) {
            readers += op_reads(&ops[j], i + 1);
        }
        if (!readers || !attends_alone(m, ops, i)) {
            return false;
        }
    }
    return ops[m->op_count - 1].kind != EDGELORA_CONSTANT && !model_tensor(m, m->op_count)->wide &&
        !model_tensor(m, 0)->wide;
}

static edgelora_status_t loss_check(const edgelora_model_t *m) {
    if (m->loss > EDGELORA_MEAN_SQUARED_ERROR) {
        return EDGELORA_ERR_UNSUPPORTED;
    }
    const edgelora_tensor_t *t = model_tensor(m, trained_ops(m));
    uint32_t size = tensor_size(m, trained_ops(m));
    // class scores are divided by it; the loss of the farthest logit fits 32 bits
    bool ok = m->logit_scale >= EDGELORA_MIN_LOGIT_SCALE &&
        m->logit_scale <= EDGELORA_MAX_LOGIT_SCALE;
    if (m->loss == EDGELORA_CROSS_ENTROPY) {
        bool many = size != t->channels;
        ok = ok && t->channels >= 2 &&
            t->channels <= (many ? EDGELORA_MAX_SYMBOLS : EDGELORA_MAX_CLASSES) &&
            size / t->channels <= EDGELORA_MAX_ATTENDED;
    } else if (m->loss == EDGELORA_BINARY_CROSS_ENTROPY) {
        ok = ok && size <= EDGELORA_MAX_BINARY;
    } else {
        ok = size <= EDGELORA_MAX_VALUES;
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
    if (!EDGELORA_ATTENTION && model_rounds(m)) {
        return EDGELORA_ERR_UNSUPPORTED;
    }
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
        status = op_check(&file, ops, i, tensors);
        if (status != EDGELORA_OK) {
            return status;
        }
    }
    status = edgelora_signal_check(model, size);
    status = status == EDGELORA_OK ? edgelora_class_stats_check(model) : status;
    return status == EDGELORA_OK ? loss_check(m) : status;
}

// Runs before every call of a session whose model can change. The factor stays in a register:
// compilers for Cortex-M0+ would replace a constant factor with a dozen shifts and additions.
EDGELORA_KERNEL static uint32_t stamp_words(uint32_t h, const void *from, uint32_t words) {
    uint32_t factor = mix_constants().first;
#pragma GCC unroll 4
    for (const uint32_t *v = from, *end = v + words; v != end; ++v) {
        h ^= *v;
        h = (h << 13 | h >> 19) * factor;
    }
    return h;
}

// Finds each table by the values of earlier ones, which are unchanged. Offsets are still checked
// against the size, as an equal hash is no proof.
EDGELORA_RAM uint32_t edgelora_model_stamp(const void *model, uint32_t size) {
    const edgelora_model_t *m = model;
    uint32_t h = stamp_words(size, m, sizeof(*m) / 4);
    if (!m->op_count || m->op_count > EDGELORA_MAX_OPS || m->tensor_count != m->op_count + 1 ||
        !array_in_file(size, m->tensors, m->tensor_count, sizeof(edgelora_tensor_t)) ||
        !array_in_file(size, m->ops, m->op_count, sizeof(edgelora_op_t))) {
        return 0;
    }
    const edgelora_op_t *ops = model_at(model, m->ops);
    h = stamp_words(
        h, model_at(model, m->tensors), m->tensor_count * (uint32_t)sizeof(edgelora_tensor_t) / 4);
    h = stamp_words(h, ops, m->op_count * (uint32_t)sizeof(edgelora_op_t) / 4);
    for (uint32_t i = 0; i < m->op_count; ++i) {
        if (ops[i].kind == EDGELORA_GATHER && ops[i].weights) {
            if (ops[i].output >= m->tensor_count) {
                return 0;
            }
            const edgelora_tensor_t *to = model_tensor(model, ops[i].output);
            uint32_t count = (uint32_t)to->height + to->width + to->channels;
            if (!array_in_file(size, ops[i].weights, count, sizeof(uint16_t))) {
                return 0;
            }
            h = stamp_words(h, model_at(model, ops[i].weights), count / 2);
            h ^= count & 1 ? ((const uint16_t *)model_at(model, ops[i].weights))[count - 1] : 0u;
        }
    }
    if (m->signal) {
        if (!array_in_file(size, 4u * m->signal, 1, sizeof(edgelora_signal_t))) {
            return 0;
        }
        h = stamp_words(h, model_at(model, 4u * m->signal), sizeof(edgelora_signal_t) / 4);
    }
    return h ? h : 1;
}

uint32_t edgelora_input_size(const void *model) {
    return tensor_size(model, 0);
}

EDGELORA_RAM uint32_t edgelora_output_size(const void *model) {
    return tensor_size(model, ((const edgelora_model_t *)model)->op_count);
}

EDGELORA_RAM uint32_t edgelora_target_size(const void *model) {
    uint32_t size = tensor_size(model, trained_ops(model)), channels = loss_channels(model);
    return ((const edgelora_model_t *)model)->loss != EDGELORA_CROSS_ENTROPY ? size
        : size == channels                                                   ? 0
                           : size / channels * id_bytes(channels);
}
