// ESP-NN's kernels on an emulated ESP32-S3, for tools/peers.py: one call of each shape between
// start and end of counting. ESP_NN: a function's name with the suffix of the kernels that are
// counted.
// SPDX-License-Identifier: MIT

#include "calls.h"

#include <stdbool.h>

#include <esp_nn_defs.h>
#include ESP_NN_HEADER

enum { DENSE, CONV, DEPTHWISE };
enum { ROOM = 65536, CHANNELS = 1024 };

// One shape of the calls, u32 each.
typedef struct {
    int32_t kind, in_h, in_w, in_c, out_h, out_w, out_c, kernel_h, kernel_w, stride_h, stride_w,
        pad_top, pad_left;
} shape_t;

static int8_t x[ROOM] __attribute__((aligned(16))), weights[ROOM] __attribute__((aligned(16))),
    y[ROOM] __attribute__((aligned(16))), scratch[4 * ROOM] __attribute__((aligned(16)));
static int32_t bias[CHANNELS], multiplier[CHANNELS], shift[CHANNELS];

// Scratch memory is set up outside of what is counted, as users do once. False: it is too small.
static bool count(const shape_t *s) {
    data_dims_t in = {s->in_w, s->in_h, s->in_c, 1}, out = {s->out_w, s->out_h, s->out_c, 1};
    data_dims_t filter = {s->kernel_w, s->kernel_h, s->in_c, 1};
    data_2d_t stride = {s->stride_w, s->stride_h}, pad = {s->pad_left, s->pad_top}, one = {1, 1};
    act_params_t range = {-128, 127};
    quant_data_t scales = {shift, multiplier};
    conv_params_t conv = {3, -3, stride, pad, one, range};
    dw_conv_params_t depthwise = {3, -3, 1, stride, pad, one, range};
    int32_t size = 0;
    if (s->kind == CONV) {
        size = ESP_NN(esp_nn_get_conv_scratch_size)(&in, &filter, &out, &conv);
        ESP_NN(esp_nn_set_conv_scratch_buf)(scratch);
    } else if (s->kind == DEPTHWISE) {
        size = ESP_NN(esp_nn_get_depthwise_conv_scratch_size)(&in, &filter, &out, &depthwise);
        ESP_NN(esp_nn_set_depthwise_conv_scratch_buf)(scratch);
    }
    if (size > (int32_t)sizeof scratch) {
        return false;
    }
    start_counting();
    if (s->kind == DENSE) {
        ESP_NN(esp_nn_fully_connected_s8)(x, 3, (uint16_t)s->in_c, weights, 0, bias, y,
            (uint16_t)s->out_c, -3, shift[0], multiplier[0], -128, 127);
    } else if (s->kind == CONV) {
        ESP_NN(esp_nn_conv_s8)(&in, x, &filter, weights, bias, &out, y, &conv, &scales);
    } else {
        ESP_NN(esp_nn_depthwise_conv_s8)(
            &in, x, &filter, weights, bias, &out, y, &depthwise, &scales);
    }
    counted();
    return true;
}

// calls: number of shapes, then these; no answers.
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
    (void)answers;
    uint32_t i = 0;
    while (i < *word && count(shapes + i)) {
        ++i;
    }
    return 0;
}
