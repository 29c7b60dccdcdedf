// CMSIS-NN's kernels on an emulated Cortex-M, for tools/peers.py: counts instructions of one call
// of each shape, by the wrappers that its users call.
// SPDX-License-Identifier: MIT

#include "calls.h"

#include <arm_nnfunctions.h>

enum { DENSE, CONV, DEPTHWISE };
enum { ROOM = 65536, CHANNELS = 1024 };

// One shape of the calls, u32 each.
typedef struct {
    int32_t kind, in_h, in_w, in_c, out_h, out_w, out_c, kernel_h, kernel_w, stride_h, stride_w,
        pad_top, pad_left;
} shape_t;

static int8_t x[ROOM], weights[ROOM], y[ROOM];
static int32_t bias[CHANNELS], multiplier[CHANNELS], shift[CHANNELS];
static int32_t buffer[ROOM];

static int32_t count(const shape_t *s) {
    cmsis_nn_dims in = {1, s->in_h, s->in_w, s->in_c}, out = {1, s->out_h, s->out_w, s->out_c},
                  some = {1, 1, 1, s->out_c};
    cmsis_nn_activation range = {-128, 127};
    cmsis_nn_tile stride = {s->stride_w, s->stride_h}, pad = {s->pad_left, s->pad_top},
                  one = {1, 1};
    cmsis_nn_per_channel_quant_params scales = {multiplier, shift};
    cmsis_nn_context context = {buffer, sizeof buffer};
    arm_cmsis_nn_status status;
    start_counting();
    if (s->kind == DENSE) {
        cmsis_nn_dims filter = {s->in_c, 1, 1, s->out_c};
        cmsis_nn_fc_params params = {.output_offset = -3, .input_offset = 3, .activation = range};
        cmsis_nn_per_tensor_quant_params scale = {multiplier[0], shift[0]};
        status = arm_fully_connected_s8(
            &context, &params, &scale, &in, x, &filter, weights, &some, bias, &out, y);
    } else if (s->kind == CONV) {
        cmsis_nn_dims filter = {s->out_c, s->kernel_h, s->kernel_w, s->in_c};
        cmsis_nn_conv_params params = {3, -3, stride, pad, one, range};
        status = arm_convolve_wrapper_s8(
            &context, &params, &scales, &in, x, &filter, weights, &some, bias, &out, y);
    } else {
        cmsis_nn_dims filter = {1, s->kernel_h, s->kernel_w, s->out_c};
        cmsis_nn_dw_conv_params params = {3, -3, 1, stride, pad, one, range};
        status = arm_depthwise_conv_wrapper_s8(
            &context, &params, &scales, &in, x, &filter, weights, &some, bias, &out, y);
    }
    int32_t instructions = counted();
    return status == ARM_CMSIS_NN_SUCCESS ? instructions : -1;
}

// calls: number of shapes, then these; answers: s32 each, -1 if it was refused.
uint32_t carry_out(const void *calls, void *answers) {
    const uint32_t *word = calls;
    const shape_t *shapes = (const shape_t *)(const void *)(word + 1);
    for (int i = 0; i < ROOM; ++i) {
        x[i] = (int8_t)(i * 37);
        weights[i] = (int8_t)(i * 91 | 1);
    }
    for (int i = 0; i < CHANNELS; ++i) {
        multiplier[i] = 1 << 30;
        shift[i] = -8;
    }
    int32_t *to = answers;
    for (uint32_t i = 0; i < *word; ++i) {
        to[i] = count(shapes + i);
    }
    return 4 * *word;
}
