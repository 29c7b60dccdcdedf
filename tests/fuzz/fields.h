// The fields of .elm and .ela, and values at which a check might fail.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_FUZZ_FIELDS_H
#define EDGELORA_FUZZ_FIELDS_H

#include "input.h"

// A field of a record: offset and width in bytes.
typedef struct {
    uint16_t at, width;
} field_t;

#define FIELD(type, name) {offsetof(type, name), sizeof(((type *)0)->name)}
#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static const field_t MODEL_FIELDS[] = {
    FIELD(edgelora_model_t, version),
    FIELD(edgelora_model_t, header_size),
    FIELD(edgelora_model_t, file_size),
    FIELD(edgelora_model_t, tensor_count),
    FIELD(edgelora_model_t, op_count),
    FIELD(edgelora_model_t, tensors),
    FIELD(edgelora_model_t, ops),
    FIELD(edgelora_model_t, labels),
    FIELD(edgelora_model_t, labels_size),
    FIELD(edgelora_model_t, logit_scale),
    FIELD(edgelora_model_t, exp_table[0]),
    FIELD(edgelora_model_t, exp_table[7]),
    FIELD(edgelora_model_t, loss),
    FIELD(edgelora_model_t, flags),
    FIELD(edgelora_model_t, signal),
};
static const field_t TENSOR_FIELDS[] = {
    FIELD(edgelora_tensor_t, height),
    FIELD(edgelora_tensor_t, width),
    FIELD(edgelora_tensor_t, channels),
    FIELD(edgelora_tensor_t, zero_point),
    FIELD(edgelora_tensor_t, wide),
    FIELD(edgelora_tensor_t, scale),
};
static const field_t OP_FIELDS[] = {
    FIELD(edgelora_op_t, kind),
    FIELD(edgelora_op_t, flags),
    FIELD(edgelora_op_t, input),
    FIELD(edgelora_op_t, output),
    FIELD(edgelora_op_t, kernel_h),
    FIELD(edgelora_op_t, kernel_w),
    FIELD(edgelora_op_t, stride_h),
    FIELD(edgelora_op_t, stride_w),
    FIELD(edgelora_op_t, dilation_h),
    FIELD(edgelora_op_t, dilation_w),
    FIELD(edgelora_op_t, pad_top),
    FIELD(edgelora_op_t, pad_left),
    FIELD(edgelora_op_t, act_min),
    FIELD(edgelora_op_t, act_max),
    FIELD(edgelora_op_t, t_shift),
    FIELD(edgelora_op_t, branch_shift),
    FIELD(edgelora_op_t, input2),
    FIELD(edgelora_op_t, weights),
    FIELD(edgelora_op_t, bias),
    FIELD(edgelora_op_t, multiplier),
    FIELD(edgelora_op_t, shift),
};
static const field_t SIGNAL_FIELDS[] = {
    FIELD(edgelora_signal_t, version),
    FIELD(edgelora_signal_t, front),
    FIELD(edgelora_signal_t, channels),
    FIELD(edgelora_signal_t, rate),
    FIELD(edgelora_signal_t, window),
    FIELD(edgelora_signal_t, hop),
    FIELD(edgelora_signal_t, values),
    FIELD(edgelora_signal_t, units_size),
    {sizeof(edgelora_signal_t) + offsetof(edgelora_normal_t, offset), 4},
    {sizeof(edgelora_signal_t) + offsetof(edgelora_normal_t, multiplier), 2},
    {sizeof(edgelora_signal_t) + offsetof(edgelora_normal_t, shift), 1},
};
static const field_t ADAPTER_FIELDS[] = {
    FIELD(edgelora_adapter_t, version),
    FIELD(edgelora_adapter_t, header_size),
    FIELD(edgelora_adapter_t, file_size),
    FIELD(edgelora_adapter_t, seed),
    FIELD(edgelora_adapter_t, flags),
    FIELD(edgelora_adapter_t, layer_count),
    FIELD(edgelora_adapter_t, updates),
    FIELD(edgelora_adapter_t, draws),
    FIELD(edgelora_adapter_t, momentum),
    FIELD(edgelora_adapter_t, threshold),
    FIELD(edgelora_adapter_t, samples),
};
static const field_t LAYER_FIELDS[] = {
    FIELD(edgelora_adapter_layer_t, op),
    FIELD(edgelora_adapter_layer_t, rank),
    FIELD(edgelora_adapter_layer_t, outputs),
    FIELD(edgelora_adapter_layer_t, inputs),
    FIELD(edgelora_adapter_layer_t, t_shift),
    FIELD(edgelora_adapter_layer_t, branch_shift),
    FIELD(edgelora_adapter_layer_t, unused),
};
static const field_t RECORD_FIELDS[] = {
    FIELD(edgelora_record_t, kind),
    FIELD(edgelora_record_t, version),
    FIELD(edgelora_record_t, size),
    {8, 2},
    {10, 2},
    {12, 4},
    {16, 2},
    {18, 2},
    {20, 1},
};

// Limits of SPEC.md; each is also tried minus 1 and plus 1.
static const uint32_t LIMITS[] = {
    0,
    1,
    2,
    8,
    16,
    24,
    30,
    31,
    32,
    127,
    128,
    250,
    256,
    512,
    1024,
    4096,
    8192,
    16384,
    32512,
    32767,
    65535,
    65536,
    128u << 16,
    1u << 20,
    1u << 24,
    1u << 28,
    1u << 29,
    1u << 30,
    INT32_MAX,
    0x80000000u,
    UINT32_MAX,
};

// Corrects a file's CRC.
static inline void right_crc(uint8_t *file, uint32_t size) {
    if (size >= sizeof(edgelora_adapter_t)) {
        uint32_t crc = edgelora_crc32(0, file + 16, size - 16);
        memcpy(file + offsetof(edgelora_model_t, crc), &crc, 4);
    }
}

#endif
