// Validates `.elm` files (SPEC.md, section 8): every byte of a file is checked here.
// SPDX-License-Identifier: MIT

#include "formats/formats.h"

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

// Bounds the products that an input element's error sums up. A dense layer has one position: each
// output reads each input once.
static bool matrix_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in,
    const edgelora_tensor_t *out) {
    bool dense = op->kind == EDGELORA_DENSE;
    uint32_t inputs = matrix_inputs(op, in), kernel = (uint32_t)op->kernel_h * op->kernel_w;
    return !(dense && (out->height != 1 || out->width != 1)) && inputs <= EDGELORA_MAX_PATCH &&
        out->channels * kernel <= EDGELORA_MAX_WEIGHT_ROWS &&
        weights_ok(file, op, out->channels * inputs, out->channels) &&
        requantization_ok(file, op, out->channels);
}

// The sum of a position's error over windows and multipliers is at most O * kernel * 127 * 127.
static bool depthwise_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in,
    const edgelora_tensor_t *out) {
    uint32_t kernel = (uint32_t)op->kernel_h * op->kernel_w;
    return out->channels % in->channels == 0 && kernel <= EDGELORA_MAX_DEPTHWISE &&
        out->channels * kernel <= EDGELORA_MAX_WEIGHT_ROWS &&
        weights_ok(file, op, out->channels * kernel, out->channels) &&
        requantization_ok(file, op, out->channels);
}

// Along one axis: does every window contain at least one input element?
static bool windows_ok(uint32_t stride, uint32_t pad, uint32_t kernel, uint32_t in, uint32_t out) {
    return kernel > pad && (out - 1) * stride < in + pad;
}

// At most as many windows cover a position as a window has elements: the backward sum fits 32 bits.
static bool pool_ok(
    const edgelora_op_t *op, const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    return op->dilation_h == 1 && op->dilation_w == 1 &&
        (uint32_t)op->kernel_h * op->kernel_w <= EDGELORA_MAX_POOLED &&
        in->channels == out->channels && in->zero_point == out->zero_point &&
        windows_ok(op->stride_h, op->pad_top, op->kernel_h, in->height, out->height) &&
        windows_ok(op->stride_w, op->pad_left, op->kernel_w, in->width, out->width);
}

static bool same_shape(const edgelora_tensor_t *a, const edgelora_tensor_t *b) {
    return a->height == b->height && a->width == b->width && a->channels == b->channels;
}

// Elementwise ops: the first input has the output's shape; each side of the second is equal or 1.
// The error of a repeated element sums one product per repetition.
static bool pair_ok(
    const edgelora_tensor_t *a, const edgelora_tensor_t *b, const edgelora_tensor_t *out) {
    uint32_t parts = (uint32_t)b->height * b->width * b->channels;
    return same_shape(a, out) && (b->height == out->height || b->height == 1) &&
        (b->width == out->width || b->width == 1) &&
        (b->channels == out->channels || b->channels == 1) &&
        (uint32_t)out->height * out->width * out->channels / parts <= EDGELORA_MAX_REPEATED;
}

// Two images of as many rows as the output has rows and columns; sums stay within 31 bits.
static bool matmul_ok(
    const edgelora_tensor_t *a, const edgelora_tensor_t *b, const edgelora_tensor_t *out) {
    return a->height == out->height && b->height == out->height && a->width == out->width &&
        b->width == out->channels && a->channels == b->channels &&
        a->channels <= EDGELORA_MAX_PATCH;
}

static bool same_grid(
    const edgelora_tensor_t *a, const edgelora_tensor_t *b, const edgelora_tensor_t *out) {
    return a->zero_point == out->zero_point && b->zero_point == out->zero_point;
}

// Each axis of the input becomes one of the output. A table lists the input positions along it;
// without a table both sides are equal.
static bool gather_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in,
    const edgelora_tensor_t *out) {
    const uint32_t from[3] = {in->height, in->width, in->channels},
                   to[3] = {out->height, out->width, out->channels};
    const uint16_t *positions = (const uint16_t *)(const void *)(file->at + op->weights);
    if (op->kernel_h == op->kernel_w || in->zero_point != out->zero_point ||
        (op->weights &&
            !array_in_file(file->size, op->weights, to[0] + to[1] + to[2], sizeof(*positions)))) {
        return false;
    }
    for (uint32_t i = 0; i < 3; ++i) {
        uint32_t count = to[gather_axis(op, i)];
        if (!op->weights && count != from[i]) {
            return false;
        }
        for (uint32_t k = 0; k < count && op->weights; ++k) {
            if (*positions++ >= from[i]) {
                return false;
            }
        }
    }
    return true;
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
    uint32_t start = op_number(op);
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
        op->pad_top + (in->height - 1u) * op->stride_h < out->height &&
        op->pad_left + (in->width - 1u) * op->stride_w < out->width;
}

// As the largest exponential is 1, a position's outputs add up to about 256, for any values of the
// others.
static bool softmax_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in,
    const edgelora_tensor_t *out) {
    return in->channels <= EDGELORA_MAX_SOFTMAX && out->zero_point == -128 &&
        in_s32(file, op->multiplier, 256, 0, INT32_MAX) &&
        in_s32(file, op->multiplier, 1, INT32_MAX, INT32_MAX) &&
        in_s8(file, op->shift, 2, EDGELORA_MIN_SHIFT, 127) && in_s8(file, op->shift, 1, 64, 127) &&
        ((const int8_t *)file->at)[op->shift + 1] <= EDGELORA_MAX_SHIFT;
}

// The output is the state after every position or after the last. Weights: u8 [units, 4, inputs +
// units]; bias: s32 [units, 4, 2].
static bool lstm_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in,
    const edgelora_tensor_t *out) {
    uint32_t units = out->channels, inputs = in->channels + units,
             clip = op->multiplier + 4 * LSTM_CLIP;
    bool all = out->height == in->height && out->width == in->width;
    return (all || (out->height == 1 && out->width == 1)) && inputs <= EDGELORA_MAX_PATCH &&
        weights_ok(file, op, 4 * units * inputs, 8 * units) &&
        requantization_ok(file, op, LSTM_SCALES) && in_s32(file, clip, 1, 0, 1 << 15) &&
        in_s32(file, clip + 4, LSTM_TABLE_SIZE, 1 << 15, (1 << 16) - 1) &&
        in_s8(file, op->shift + LSTM_TANH, 1, EDGELORA_MIN_TANH_SHIFT, EDGELORA_MAX_TANH_SHIFT);
}

// The output is s16 [filters].
static bool svdf_features_ok(const file_t *file, const edgelora_op_t *op,
    const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    uint32_t inputs = (uint32_t)in->height * in->width * in->channels, filters = out->channels / 2u;
    return out->height == 1 && out->width == 1 && out->channels % 2 == 0 && out->zero_point == 0 &&
        inputs <= EDGELORA_MAX_PATCH && weights_ok(file, op, filters * inputs, filters) &&
        requantization_ok(file, op, 1);
}

// The input is s16 [memory, filters]; taps: s16 [units, memory, rank], with filters = units * rank.
static bool svdf_time_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in,
    const edgelora_tensor_t *out) {
    return in->width == 1 && out->height == 1 && out->width == 1 && in->zero_point == 0 &&
        in->channels % (2u * out->channels) == 0 &&
        array_in_file(file->size, op->weights, in->height * (in->channels / 2u), sizeof(int16_t)) &&
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

// Ids are bytes, or two of them.
static bool embed_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in,
    const edgelora_tensor_t *out) {
    uint32_t symbols = op_number(op);
    return !op->input && symbols && symbols <= EDGELORA_MAX_SYMBOLS &&
        in->channels == id_bytes(symbols) && in->height == out->height && in->width == out->width &&
        array_in_file(file->size, op->weights, symbols * out->channels, 1) &&
        requantization_ok(file, op, 1);
}

static bool norm_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in,
    const edgelora_tensor_t *out) {
    return same_shape(in, out) && in_s16(file, op->weights, in->channels) &&
        in_s32(file, op->bias, in->channels, -(1 << 27), 1 << 27) &&
        in_s32(file, op->multiplier, 1, 1, INT32_MAX) && in_s8(file, op->shift, 1, -10, 17);
}

static bool rotate_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in,
    const edgelora_tensor_t *out) {
    uint32_t half = op->kernel_h, rows = (uint32_t)in->height * in->width;
    return same_shape(in, out) && half <= EDGELORA_MAX_HEAD / 2 && in->channels % (2 * half) == 0 &&
        !in->zero_point && !out->zero_point && in_s16(file, op->weights, rows * 2 * half);
}

// Sums over the rows and heads that read a key or value stay within 32 bits.
static bool attend_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *q,
    const edgelora_tensor_t *k, const edgelora_tensor_t *v, const edgelora_tensor_t *out) {
    uint32_t heads = op->kernel_h, keys = op->kernel_w, rows = (uint32_t)q->height * q->width;
    return same_shape(q, out) && same_shape(k, v) && k->height == q->height &&
        k->width == q->width && rows <= EDGELORA_MAX_ATTENDED && q->channels % heads == 0 &&
        q->channels / heads <= EDGELORA_MAX_HEAD && k->channels == q->channels / heads * keys &&
        heads % keys == 0 && rows * (heads / keys) <= 2 * EDGELORA_MAX_ATTENDED && !q->zero_point &&
        !k->zero_point && !v->zero_point && !out->zero_point &&
        in_s32(file, op->multiplier, 1, 1, UINT16_MAX) &&
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
                            *out = &tensors[op->output];
    bool ok = false;
    switch (op->kind) {
        case EDGELORA_DENSE:
        case EDGELORA_CONV:
        case EDGELORA_PROJECT:
            ok = matrix_ok(file, op, in, out);
            break;
        case EDGELORA_AVERAGE_POOL:
        case EDGELORA_MAX_POOL:
            ok = pool_ok(op, in, out);
            break;
        case EDGELORA_MEAN:
            ok = in->channels == out->channels && out->height == 1 && out->width == 1 &&
                requantization_ok(file, op, 1);
            break;
        case EDGELORA_DEPTHWISE:
            ok = depthwise_ok(file, op, in, out);
            break;
        case EDGELORA_ADD:
            ok = pair_ok(in, in2, out) && add_ok(file, op);
            break;
        case EDGELORA_MULTIPLY:
            ok = pair_ok(in, in2, out) && requantization_ok(file, op, 1);
            break;
        case EDGELORA_SQUARED_DIFFERENCE:
            ok = pair_ok(in, in2, out) && in_s32(file, op->multiplier, 3, 0, INT32_MAX) &&
                add_ok(file, op);
            break;
        case EDGELORA_MATMUL:
            ok = matmul_ok(in, in2, out) && requantization_ok(file, op, 1);
            break;
        case EDGELORA_MINIMUM:
        case EDGELORA_MAXIMUM:
            ok = pair_ok(in, in2, out) && same_grid(in, in2, out);
            break;
        case EDGELORA_PRELU: // slopes are stored in the file: they get no error
            ok = pair_ok(in, in2, out) && requantization_ok(file, op, 2) && op->input2 &&
                ops[op->input2 - 1].kind == EDGELORA_CONSTANT;
            break;
        case EDGELORA_CONSTANT:
            ok = array_in_file(file->size, op->weights,
                (uint32_t)out->height * out->width * out->channels, 1u + out->wide);
            break;
        case EDGELORA_GATHER:
            ok = gather_ok(file, op, in, out);
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
                in_s8(file, op->bias, 256, -127, 127) &&
                in_s8(file, op->shift, 1, EDGELORA_MIN_SHIFT, EDGELORA_MAX_SHIFT);
            break;
        case EDGELORA_SOFTMAX:
            ok = same_shape(in, out) && softmax_ok(file, op, in, out);
            break;
        case EDGELORA_LSTM:
            ok = EDGELORA_RECURRENT && lstm_ok(file, op, in, out);
            break;
        case EDGELORA_SVDF_FEATURES:
            ok = EDGELORA_RECURRENT && svdf_features_ok(file, op, in, out);
            break;
        case EDGELORA_SVDF_TIME:
            ok = EDGELORA_RECURRENT && svdf_time_ok(file, op, in, out);
            break;
        case EDGELORA_EMBED:
            ok = EDGELORA_ATTENTION && embed_ok(file, op, in, out);
            break;
        case EDGELORA_WIDEN:
            ok = same_shape(in, out) && requantization_ok(file, op, 1);
            break;
        case EDGELORA_NORM:
            ok = EDGELORA_ATTENTION && norm_ok(file, op, in, out);
            break;
        case EDGELORA_ROTATE:
            ok = EDGELORA_ATTENTION && rotate_ok(file, op, in, out);
            break;
        case EDGELORA_ATTEND:
            ok = EDGELORA_ATTENTION && attend_ok(file, op, in, in2, &tensors[op_number(op)], out);
            break;
    }
    return ok && streams_ok(op, tensors) ? EDGELORA_OK : EDGELORA_ERR_FORMAT;
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
