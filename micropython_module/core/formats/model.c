// Reading `.elm` and `.ela` (SPEC.md, sections 8 and 9): every byte from outside is checked here, and
// nowhere else. SPDX-License-Identifier: MIT

#include "graph.h"

const char *edgelora_status_text(edgelora_status_t status) {
    switch (status) {
#define EDGELORA_STATUS_CASE(name, value, text) \
    case EDGELORA_##name: \
        return text;
        EDGELORA_STATUS_LIST(EDGELORA_STATUS_CASE)
    }
    return "unknown status";
}

// The CRC of each byte, reflected polynomial 0xEDB88320. Words: ESP32 reads native code's constants 32 bits at a time.
static const uint32_t crc_table[256] = {
    0x00000000, 0x77073096, 0xEE0E612C, 0x990951BA, 0x076DC419, 0x706AF48F, 0xE963A535, 0x9E6495A3,
    0x0EDB8832, 0x79DCB8A4, 0xE0D5E91E, 0x97D2D988, 0x09B64C2B, 0x7EB17CBD, 0xE7B82D07, 0x90BF1D91,
    0x1DB71064, 0x6AB020F2, 0xF3B97148, 0x84BE41DE, 0x1ADAD47D, 0x6DDDE4EB, 0xF4D4B551, 0x83D385C7,
    0x136C9856, 0x646BA8C0, 0xFD62F97A, 0x8A65C9EC, 0x14015C4F, 0x63066CD9, 0xFA0F3D63, 0x8D080DF5,
    0x3B6E20C8, 0x4C69105E, 0xD56041E4, 0xA2677172, 0x3C03E4D1, 0x4B04D447, 0xD20D85FD, 0xA50AB56B,
    0x35B5A8FA, 0x42B2986C, 0xDBBBC9D6, 0xACBCF940, 0x32D86CE3, 0x45DF5C75, 0xDCD60DCF, 0xABD13D59,
    0x26D930AC, 0x51DE003A, 0xC8D75180, 0xBFD06116, 0x21B4F4B5, 0x56B3C423, 0xCFBA9599, 0xB8BDA50F,
    0x2802B89E, 0x5F058808, 0xC60CD9B2, 0xB10BE924, 0x2F6F7C87, 0x58684C11, 0xC1611DAB, 0xB6662D3D,
    0x76DC4190, 0x01DB7106, 0x98D220BC, 0xEFD5102A, 0x71B18589, 0x06B6B51F, 0x9FBFE4A5, 0xE8B8D433,
    0x7807C9A2, 0x0F00F934, 0x9609A88E, 0xE10E9818, 0x7F6A0DBB, 0x086D3D2D, 0x91646C97, 0xE6635C01,
    0x6B6B51F4, 0x1C6C6162, 0x856530D8, 0xF262004E, 0x6C0695ED, 0x1B01A57B, 0x8208F4C1, 0xF50FC457,
    0x65B0D9C6, 0x12B7E950, 0x8BBEB8EA, 0xFCB9887C, 0x62DD1DDF, 0x15DA2D49, 0x8CD37CF3, 0xFBD44C65,
    0x4DB26158, 0x3AB551CE, 0xA3BC0074, 0xD4BB30E2, 0x4ADFA541, 0x3DD895D7, 0xA4D1C46D, 0xD3D6F4FB,
    0x4369E96A, 0x346ED9FC, 0xAD678846, 0xDA60B8D0, 0x44042D73, 0x33031DE5, 0xAA0A4C5F, 0xDD0D7CC9,
    0x5005713C, 0x270241AA, 0xBE0B1010, 0xC90C2086, 0x5768B525, 0x206F85B3, 0xB966D409, 0xCE61E49F,
    0x5EDEF90E, 0x29D9C998, 0xB0D09822, 0xC7D7A8B4, 0x59B33D17, 0x2EB40D81, 0xB7BD5C3B, 0xC0BA6CAD,
    0xEDB88320, 0x9ABFB3B6, 0x03B6E20C, 0x74B1D29A, 0xEAD54739, 0x9DD277AF, 0x04DB2615, 0x73DC1683,
    0xE3630B12, 0x94643B84, 0x0D6D6A3E, 0x7A6A5AA8, 0xE40ECF0B, 0x9309FF9D, 0x0A00AE27, 0x7D079EB1,
    0xF00F9344, 0x8708A3D2, 0x1E01F268, 0x6906C2FE, 0xF762575D, 0x806567CB, 0x196C3671, 0x6E6B06E7,
    0xFED41B76, 0x89D32BE0, 0x10DA7A5A, 0x67DD4ACC, 0xF9B9DF6F, 0x8EBEEFF9, 0x17B7BE43, 0x60B08ED5,
    0xD6D6A3E8, 0xA1D1937E, 0x38D8C2C4, 0x4FDFF252, 0xD1BB67F1, 0xA6BC5767, 0x3FB506DD, 0x48B2364B,
    0xD80D2BDA, 0xAF0A1B4C, 0x36034AF6, 0x41047A60, 0xDF60EFC3, 0xA867DF55, 0x316E8EEF, 0x4669BE79,
    0xCB61B38C, 0xBC66831A, 0x256FD2A0, 0x5268E236, 0xCC0C7795, 0xBB0B4703, 0x220216B9, 0x5505262F,
    0xC5BA3BBE, 0xB2BD0B28, 0x2BB45A92, 0x5CB36A04, 0xC2D7FFA7, 0xB5D0CF31, 0x2CD99E8B, 0x5BDEAE1D,
    0x9B64C2B0, 0xEC63F226, 0x756AA39C, 0x026D930A, 0x9C0906A9, 0xEB0E363F, 0x72076785, 0x05005713,
    0x95BF4A82, 0xE2B87A14, 0x7BB12BAE, 0x0CB61B38, 0x92D28E9B, 0xE5D5BE0D, 0x7CDCEFB7, 0x0BDBDF21,
    0x86D3D2D4, 0xF1D4E242, 0x68DDB3F8, 0x1FDA836E, 0x81BE16CD, 0xF6B9265B, 0x6FB077E1, 0x18B74777,
    0x88085AE6, 0xFF0F6A70, 0x66063BCA, 0x11010B5C, 0x8F659EFF, 0xF862AE69, 0x616BFFD3, 0x166CCF45,
    0xA00AE278, 0xD70DD2EE, 0x4E048354, 0x3903B3C2, 0xA7672661, 0xD06016F7, 0x4969474D, 0x3E6E77DB,
    0xAED16A4A, 0xD9D65ADC, 0x40DF0B66, 0x37D83BF0, 0xA9BCAE53, 0xDEBB9EC5, 0x47B2CF7F, 0x30B5FFE9,
    0xBDBDF21C, 0xCABAC28A, 0x53B39330, 0x24B4A3A6, 0xBAD03605, 0xCDD70693, 0x54DE5729, 0x23D967BF,
    0xB3667A2E, 0xC4614AB8, 0x5D681B02, 0x2A6F2B94, 0xB40BBE37, 0xC30C8EA1, 0x5A05DF1B, 0x2D02EF8D,
};

EDGELORA_KERNEL uint32_t edgelora_crc32(uint32_t crc, const void *data, uint32_t size) {
    const uint8_t *p = data;
    crc = ~crc;
    for (; size && ((uintptr_t)p & 3); --size) {
        crc = (crc >> 8) ^ crc_table[(crc ^ *p++) & 255];
    }
    const uint32_t *word = (const uint32_t *)(const void *)p;
    for (; size >= 4; size -= 4) {
        crc ^= *word++;
        crc = (crc >> 8) ^ crc_table[crc & 255];
        crc = (crc >> 8) ^ crc_table[crc & 255];
        crc = (crc >> 8) ^ crc_table[crc & 255];
        crc = (crc >> 8) ^ crc_table[crc & 255];
    }
    for (p = (const uint8_t *)word; size; --size) {
        crc = (crc >> 8) ^ crc_table[(crc ^ *p++) & 255];
    }
    return ~crc;
}

// What both headers start with, but for the CRC. `size` is what the caller has.
static edgelora_status_t header_check(const void *file, uint32_t size, char kind, uint32_t version, uint32_t header_size) {
    const edgelora_model_t *h = file;
    if ((uintptr_t)file & 3) {
        return EDGELORA_ERR_ALIGN;
    }
    if (size < 16) {
        return EDGELORA_ERR_TRUNCATED;
    }
    if (h->magic[0] != 'E' || h->magic[1] != 'L' || h->magic[2] != kind || h->magic[3] != '1') {
        return EDGELORA_ERR_MAGIC;
    }
    if (h->version != version || h->header_size != header_size) {
        return EDGELORA_ERR_VERSION;
    }
    if (h->file_size > size || size < header_size) {
        return EDGELORA_ERR_TRUNCATED;
    }
    return h->file_size == size ? EDGELORA_OK : EDGELORA_ERR_SIZE;
}

// Of a file whose header has passed.
static edgelora_status_t crc_check(const void *file, uint32_t size) {
    const edgelora_model_t *h = file;
    return edgelora_crc32(0, (const uint8_t *)file + 16, size - 16) == h->crc ? EDGELORA_OK : EDGELORA_ERR_CRC;
}

// Words, as in crc_table.
static const uint32_t traits[] = {
    [EDGELORA_DENSE] = EDGELORA_IS_MATRIX | EDGELORA_HAS_WEIGHTS | EDGELORA_WHOLE_INPUT | EDGELORA_HAS_RANGE,
    [EDGELORA_CONV] = EDGELORA_IS_MATRIX | EDGELORA_HAS_WEIGHTS | EDGELORA_HAS_WINDOW | EDGELORA_HAS_RANGE,
    [EDGELORA_AVERAGE_POOL] = EDGELORA_HAS_WINDOW | EDGELORA_HAS_RANGE,
    [EDGELORA_MEAN] = EDGELORA_WHOLE_INPUT | EDGELORA_HAS_RANGE,
    [EDGELORA_DEPTHWISE] = EDGELORA_HAS_WEIGHTS | EDGELORA_HAS_WINDOW | EDGELORA_HAS_RANGE,
    [EDGELORA_MAX_POOL] = EDGELORA_HAS_WINDOW | EDGELORA_HAS_RANGE | EDGELORA_READS_INPUT,
    [EDGELORA_ADD] = EDGELORA_TWO_INPUTS | EDGELORA_HAS_RANGE,
    [EDGELORA_CONCATENATE] = EDGELORA_TWO_INPUTS | EDGELORA_HAS_AXIS | EDGELORA_COPIES,
    [EDGELORA_PAD] = EDGELORA_COPIES,
    [EDGELORA_RESHAPE] = EDGELORA_COPIES,
    [EDGELORA_LOOKUP] = EDGELORA_READS_INPUT,
    [EDGELORA_SOFTMAX] = EDGELORA_READS_OUTPUT,
    [EDGELORA_HISTORY] = EDGELORA_KEEPS | EDGELORA_COPIES,
    [EDGELORA_SLICE] = EDGELORA_HAS_AXIS | EDGELORA_COPIES,
};

uint32_t edgelora_traits(uint32_t kind) {
    return kind < sizeof(traits) / sizeof(traits[0]) ? traits[kind] : 0;
}

// Is [offset, offset + count * element) an aligned part of the file behind its header?
static bool array_in_file(uint32_t size, uint32_t offset, uint32_t count, uint32_t element) {
    return (offset & 3) == 0 && offset >= sizeof(edgelora_model_t) && offset <= size && count <= (size - offset) / element;
}

static bool tensor_ok(const edgelora_tensor_t *t) {
    uint32_t positions = (uint32_t)t->height * t->width;
    return positions > 0 && positions <= 65535 && t->channels > 0 && t->channels <= (1u << 20) / positions;
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

static bool requantization_ok(const file_t *file, const edgelora_op_t *op, uint32_t count, int32_t max_shift) {
    return in_s32(file, op->multiplier, count, 0, INT32_MAX) && in_s8(file, op->shift, count, -31, max_shift);
}

// Kernels read the last row of weights in pairs of words: a word more than there is may be read, and is not used.
enum { WEIGHTS_SLACK = 4 };

// Dense, conv, depthwise. Weights: u8 [count], count <= 2^30, 0 is not one.
static bool weights_ok(const file_t *file, const edgelora_op_t *op, uint32_t count, uint32_t outputs) {
    if (!array_in_file(file->size, op->weights, align4(count) + WEIGHTS_SLACK, 1) || !in_s32(file, op->bias, outputs, -(1 << 30), 1 << 30)) {
        return false;
    }
    for (uint32_t i = 0; i < count; ++i) {
        if (!file->at[op->weights + i]) {
            return false;
        }
    }
    return requantization_ok(file, op, outputs, 30);
}

static bool matrix_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    bool dense = op->kind == EDGELORA_DENSE;
    uint32_t kernel = dense ? (uint32_t)in->height * in->width : (uint32_t)op->kernel_h * op->kernel_w;
    uint32_t inputs = kernel * in->channels; // < 2^32: tensors and kernels are below 2^16 positions and 2^16 channels
    return !(dense && (out->height != 1 || out->width != 1)) && kernel <= 65535 && inputs <= 16384 &&
        (uint32_t)out->channels * kernel <= 65536 && weights_ok(file, op, out->channels * inputs, out->channels);
}

// The sum of a position's error over windows and multipliers is within O * kernel * 127 * 127.
static bool depthwise_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    uint32_t kernel = (uint32_t)op->kernel_h * op->kernel_w;
    return out->channels % in->channels == 0 && kernel <= 1024 && out->channels * kernel <= 65536 &&
        weights_ok(file, op, out->channels * kernel, out->channels);
}

// Along one axis: every window holds at least one input element.
static bool windows_ok(uint32_t stride, uint32_t pad, uint32_t kernel, uint32_t in, uint32_t out) {
    return kernel > pad && (out - 1) * stride < in + pad;
}

// 512: as many windows over one position keep the backward sum in 32 bits
static bool pool_ok(const edgelora_op_t *op, const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    return op->dilation_h == 1 && op->dilation_w == 1 && (uint32_t)op->kernel_h * op->kernel_w <= 512 && in->channels == out->channels &&
        in->zero_point == out->zero_point && windows_ok(op->stride_h, op->pad_top, op->kernel_h, in->height, out->height) &&
        windows_ok(op->stride_w, op->pad_left, op->kernel_w, in->width, out->width);
}

static bool same_shape(const edgelora_tensor_t *a, const edgelora_tensor_t *b) {
    return a->height == b->height && a->width == b->width && a->channels == b->channels;
}

static bool concatenate_ok(const edgelora_op_t *op, const edgelora_tensor_t *a, const edgelora_tensor_t *b, const edgelora_tensor_t *out) {
    bool h = op->kernel_h == 1, w = op->kernel_h == 2, c = op->kernel_h == 3;
    return (uint32_t)a->height + (h ? b->height : 0) == out->height && (uint32_t)a->width + (w ? b->width : 0) == out->width &&
        (uint32_t)a->channels + (c ? b->channels : 0) == out->channels && (h || b->height == out->height) && (w || b->width == out->width) &&
        (c || b->channels == out->channels) && a->zero_point == out->zero_point && b->zero_point == out->zero_point;
}

static bool slice_ok(const edgelora_op_t *op, const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    uint32_t start = slice_start(op);
    bool h = op->kernel_h == 1, w = op->kernel_h == 2, c = op->kernel_h == 3;
    return (h ? start + out->height <= in->height : out->height == in->height) && (w ? start + out->width <= in->width : out->width == in->width) &&
        (c ? start + out->channels <= in->channels : out->channels == in->channels) && in->zero_point == out->zero_point;
}

static bool history_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    uint32_t newest = (uint32_t)in->height * in->width * in->channels, all = (uint32_t)out->height * out->width * out->channels;
    return newest < all && in->zero_point == out->zero_point && (!op->weights || array_in_file(file->size, op->weights, all - newest, 1));
}

static bool pad_ok(const edgelora_op_t *op, const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    return in->channels == out->channels && in->zero_point == out->zero_point && (uint32_t)op->pad_top + in->height <= out->height &&
        (uint32_t)op->pad_left + in->width <= out->width;
}

// With the largest exponential at least 1/2 a position's outputs add up to about 256, whatever the others are.
static bool softmax_ok(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *in) {
    return in->channels <= 1024 && in_s32(file, op->multiplier, 256, 0, INT32_MAX) && in_s32(file, op->multiplier, 1, 1 << 30, INT32_MAX) &&
        in_s8(file, op->shift, 2, -31, 127) && in_s8(file, op->shift, 1, 64, 127) && ((const int8_t *)file->at)[op->shift + 1] <= 30;
}

// Fields that a kind does not use hold 1 (kernel, stride, dilation), 0 (padding, flags) or the whole range.
static bool unused_ok(const edgelora_op_t *op, uint32_t has) {
    bool window = has & EDGELORA_HAS_WINDOW, range = has & EDGELORA_HAS_RANGE;
    bool unit = op->stride_h == 1 && op->stride_w == 1 && op->dilation_h == 1 && op->dilation_w == 1 && op->kernel_w == 1 &&
        (op->kernel_h == 1 || ((has & EDGELORA_HAS_AXIS) && op->kernel_h <= 3)) &&
        ((!op->pad_top && !op->pad_left) || op->kind == EDGELORA_PAD || op->kind == EDGELORA_SLICE);
    return (window || unit) && (range || (op->act_min == -128 && op->act_max == 127 && !op->flags)) && op->flags <= 3 &&
        ((has & EDGELORA_TWO_INPUTS) || !op->input2) && ((has & EDGELORA_IS_MATRIX) || (!op->t_shift && !op->branch_shift));
}

static edgelora_status_t op_check(const file_t *file, const edgelora_op_t *op, const edgelora_tensor_t *tensors) {
    uint32_t has = edgelora_traits(op->kind);
    if (!has) {
        return EDGELORA_ERR_UNSUPPORTED;
    }
    if (!op->kernel_h || !op->kernel_w || !op->stride_h || !op->stride_w || !op->dilation_h || !op->dilation_w || op->act_min > op->act_max ||
        op->t_shift < 0 || op->t_shift > 24 || op->branch_shift < -15 || op->branch_shift > 8 || !unused_ok(op, has)) {
        return EDGELORA_ERR_FORMAT;
    }
    const edgelora_tensor_t *in = &tensors[op->input], *in2 = &tensors[op->input2], *out = &tensors[op->output];
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
            ok = in->channels == out->channels && out->height == 1 && out->width == 1 && requantization_ok(file, op, 1, 30);
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
            ok = (uint32_t)in->height * in->width * in->channels == (uint32_t)out->height * out->width * out->channels &&
                in->zero_point == out->zero_point;
            break;
        case EDGELORA_LOOKUP:
            ok = same_shape(in, out) && array_in_file(file->size, op->weights, 256, 1) && in_s8(file, op->bias, 256, -127, 127) &&
                in_s8(file, op->shift, 1, -31, 30);
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
    edgelora_status_t status = header_check(model, size, 'M', EDGELORA_MODEL_FORMAT, sizeof(edgelora_model_t));
    status = status == EDGELORA_OK ? crc_check(model, size) : status;
    if (status != EDGELORA_OK) {
        return status;
    }
    const edgelora_model_t *m = model;
    if (m->op_count < 1 || m->op_count > EDGELORA_MAX_OPS || m->tensor_count != m->op_count + 1 ||
        !array_in_file(size, m->tensors, m->tensor_count, sizeof(edgelora_tensor_t)) ||
        !array_in_file(size, m->ops, m->op_count, sizeof(edgelora_op_t)) || !array_in_file(size, m->labels, m->labels_size, 1)) {
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
    return ((const edgelora_model_t *)model)->loss == EDGELORA_CROSS_ENTROPY ? 0 : tensor_size(model, trained_ops(model));
}

EDGELORA_HOT void edgelora_shape_into(edgelora_shape_t *g, const void *model, uint32_t i) {
    const edgelora_op_t *op = model_op(model, i);
    const edgelora_tensor_t *in = model_tensor(model, op->input), *out = model_tensor(model, op->output);
    uint32_t has = edgelora_traits(op->kind);
    g->op = op;
    g->traits = has;
    g->weights = model_at(model, op->weights);
    g->table = model_at(model, op->weights);
    g->slope = model_at(model, op->bias);
    g->initial = op->weights ? model_at(model, op->weights) : 0;
    g->bias = model_at(model, op->bias);
    g->multiplier = model_at(model, op->multiplier);
    g->shift = model_at(model, op->shift);
    g->in_h = in->height;
    g->in_w = in->width;
    g->in_c = in->channels;
    g->out_h = out->height;
    g->out_w = out->width;
    g->out_c = out->channels;
    g->kernel_h = has & EDGELORA_WHOLE_INPUT ? in->height : op->kernel_h;
    g->kernel_w = has & EDGELORA_WHOLE_INPUT ? in->width : op->kernel_w;
    g->zp_in = in->zero_point;
    g->zp_in2 = model_tensor(model, op->input2)->zero_point;
    g->zp_out = out->zero_point;
    g->is_matrix = has & EDGELORA_IS_MATRIX;
    g->right = false;
    g->positions = (uint32_t)g->out_h * g->out_w;
    g->inputs = (uint32_t)g->kernel_h * g->kernel_w * g->in_c;
}

// The arrays of one matrix's training state from `at` on; false if a value can't be.
static bool state_ok(const uint8_t *at, uint32_t count, bool momentum) {
    uint16_t scale = *(const uint16_t *)(const void *)at;
    int16_t exponent = *(const int16_t *)(const void *)(at + 2);
    const int16_t *master = (const int16_t *)(const void *)(at + 4);
    const int16_t *mean = (const int16_t *)(const void *)(at + 4 + align4(2 * count));
    if ((scale && scale < 32768) || exponent < -8192 || exponent > 8192) {
        return false;
    }
    for (uint32_t i = 0; i < count; ++i) {
        if (master[i] < -32512 || master[i] > 32512 || (momentum && (mean[i] < -16384 || mean[i] > 16384))) {
            return false;
        }
    }
    return true;
}

// One layer's record against its op.
static bool layer_ok(const edgelora_model_t *m, const edgelora_adapter_layer_t *l) {
    if (l->op >= m->op_count || !l->rank || l->rank > EDGELORA_MAX_RANK || l->t_shift < 0 || l->t_shift > 24 || l->branch_shift < -15 ||
        l->branch_shift > 8) {
        return false;
    }
    edgelora_shape_t g = edgelora_shape(m, l->op);
    return g.is_matrix && l->outputs == g.out_c && l->inputs == g.inputs && (uint32_t)l->rank * g.inputs <= 65536 &&
        (uint32_t)l->rank * g.out_c <= 65536 && l->rank * g.positions <= 1u << 20;
}

edgelora_status_t edgelora_adapter_fits(const edgelora_session_t *s, const void *adapter, uint32_t size, uint32_t *weights_end) {
    edgelora_status_t status = header_check(adapter, size, 'A', EDGELORA_ADAPTER_FORMAT, sizeof(edgelora_adapter_t));
    if (status != EDGELORA_OK) {
        return status;
    }
    const edgelora_adapter_t *h = adapter;
    const edgelora_model_t *m = s->model.p;
    for (int i = 0; i < 8; ++i) {
        if (h->base_id[i] != m->base_id[i]) {
            return EDGELORA_ERR_BASE;
        }
    }
    bool stored = h->flags & EDGELORA_A_STORED, state = h->flags & EDGELORA_STATE, trainable = h->flags & EDGELORA_A_TRAINABLE;
    if (h->flags > 7 || (trainable && !stored) || h->momentum > 8 || h->threshold > 16384 || h->layer_count > m->op_count || !h->layer_count ||
        (size - sizeof(*h)) / sizeof(edgelora_adapter_layer_t) < h->layer_count) {
        return EDGELORA_ERR_FORMAT;
    }
    const edgelora_adapter_layer_t *layers = (const edgelora_adapter_layer_t *)(const void *)(h + 1);
    uint32_t end = (uint32_t)sizeof(*h) + h->layer_count * (uint32_t)sizeof(*layers), state_size = 0, copies = h->momentum ? 2 : 1;
    for (uint32_t i = 0; i < h->layer_count; ++i) {
        const edgelora_adapter_layer_t *l = &layers[i];
        if ((i && l->op <= l[-1].op) || !layer_ok(m, l)) {
            return EDGELORA_ERR_FORMAT;
        }
        uint32_t count_a = (uint32_t)l->rank * l->inputs, count_b = (uint32_t)l->rank * l->outputs;
        end += (stored ? align4(count_a) : 0) + align4(count_b); // < 2^25 for EDGELORA_MAX_OPS layers, and the state < 2^27: no overflow
        state_size += (trainable ? 4 + copies * align4(2 * count_a) : 0) + 4 + copies * align4(2 * count_b);
    }
    *weights_end = end;
    return end + (state ? state_size : 0) == size ? EDGELORA_OK : EDGELORA_ERR_FORMAT;
}

edgelora_status_t edgelora_adapter_check(const edgelora_session_t *s, const void *adapter, uint32_t size) {
    edgelora_status_t status = header_check(adapter, size, 'A', EDGELORA_ADAPTER_FORMAT, sizeof(edgelora_adapter_t));
    status = status == EDGELORA_OK ? crc_check(adapter, size) : status; // first: a damaged file is not called one of another base
    uint32_t end = 0;
    status = status == EDGELORA_OK ? edgelora_adapter_fits(s, adapter, size, &end) : status;
    if (status != EDGELORA_OK) {
        return status;
    }
    const edgelora_adapter_t *h = adapter;
    const edgelora_adapter_layer_t *layers = (const edgelora_adapter_layer_t *)(const void *)(h + 1);
    // Weights are above -128; their padding, which brings every matrix to whole words, is 0.
    for (const uint32_t *word = (const uint32_t *)(const void *)(layers + h->layer_count); word < (const uint32_t *)adapter + end / 4; ++word) {
        uint32_t low_bits = (*word & 0x7F7F7F7Fu) + 0x7F7F7F7Fu; // of each byte its top bit: one of the others is set
        if (*word & ~low_bits & 0x80808080u) {
            return EDGELORA_ERR_FORMAT;
        }
    }
    if (h->flags & EDGELORA_STATE) {
        bool trainable = h->flags & EDGELORA_A_TRAINABLE;
        const uint8_t *at = (const uint8_t *)adapter + end;
        for (uint32_t i = 0; i < h->layer_count; ++i) {
            uint32_t counts[2] = {trainable ? (uint32_t)layers[i].rank * layers[i].inputs : 0, (uint32_t)layers[i].rank * layers[i].outputs};
            for (int k = 0; k < 2; ++k) {
                if (counts[k]) {
                    if (!state_ok(at, counts[k], h->momentum)) {
                        return EDGELORA_ERR_FORMAT;
                    }
                    at += 4 + (h->momentum ? 2 : 1) * align4(2 * counts[k]);
                }
            }
        }
    }
    return EDGELORA_OK;
}
