// Which tensors and fields an op may have, beside its traits: what edgelora_ops.h calls for
// `shapes`.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_FITS_H
#define EDGELORA_FITS_H

#include "formats/formats.h"

static uint32_t elements(const edgelora_tensor_t *t) {
    return (uint32_t)t->height * t->width * t->channels;
}

static bool one_position(const edgelora_tensor_t *t) {
    return t->height == 1 && t->width == 1;
}

static bool same_shape(const edgelora_tensor_t *a, const edgelora_tensor_t *b) {
    return a->height == b->height && a->width == b->width && a->channels == b->channels;
}

// Bounds the products that an input element's error sums up. A dense layer has one position: each
// output reads each input once.
static bool matrix_fits(
    const edgelora_op_t *op, const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    return matrix_inputs(op, in) <= EDGELORA_MAX_PATCH &&
        (uint32_t)out->channels * op->kernel_h * op->kernel_w <= EDGELORA_MAX_WEIGHT_ROWS;
}

// The sum of a position's error over windows and multipliers is at most O * kernel * 127 * 127.
static bool depthwise_fits(
    const edgelora_op_t *op, const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    uint32_t kernel = (uint32_t)op->kernel_h * op->kernel_w;
    return out->channels % in->channels == 0 && kernel <= EDGELORA_MAX_DEPTHWISE &&
        out->channels * kernel <= EDGELORA_MAX_WEIGHT_ROWS;
}

// Along one axis: does every window contain at least one input element?
static bool windows_ok(uint32_t stride, uint32_t pad, uint32_t kernel, uint32_t in, uint32_t out) {
    return kernel > pad && (out - 1) * stride < in + pad;
}

// At most as many windows cover a position as a window has elements: the backward sum fits 32 bits.
static bool pool_fits(
    const edgelora_op_t *op, const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    return op->dilation_h == 1 && op->dilation_w == 1 &&
        (uint32_t)op->kernel_h * op->kernel_w <= EDGELORA_MAX_POOLED &&
        in->channels == out->channels &&
        windows_ok(op->stride_h, op->pad_top, op->kernel_h, in->height, out->height) &&
        windows_ok(op->stride_w, op->pad_left, op->kernel_w, in->width, out->width);
}

// Elementwise ops: the first input has the output's shape; each side of the second is equal or 1.
// The error of a repeated element sums one product per repetition.
static bool pair_fits(
    const edgelora_tensor_t *a, const edgelora_tensor_t *b, const edgelora_tensor_t *out) {
    return same_shape(a, out) && (b->height == out->height || b->height == 1) &&
        (b->width == out->width || b->width == 1) &&
        (b->channels == out->channels || b->channels == 1) &&
        elements(out) / elements(b) <= EDGELORA_MAX_REPEATED;
}

// Two images of as many rows as the output has rows and columns; sums stay within 31 bits.
static bool matmul_fits(
    const edgelora_tensor_t *a, const edgelora_tensor_t *b, const edgelora_tensor_t *out) {
    return a->height == out->height && b->height == out->height && a->width == out->width &&
        b->width == out->channels && a->channels == b->channels &&
        a->channels <= EDGELORA_MAX_PATCH;
}

// Each axis of the input becomes one of the output. A table lists the input positions along it;
// without a table both sides are equal.
static bool gather_fits(
    const edgelora_op_t *op, const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    const uint32_t from[3] = {in->height, in->width, in->channels},
                   to[3] = {out->height, out->width, out->channels};
    if (op->kernel_h == op->kernel_w) {
        return false;
    }
    for (uint32_t i = 0; i < 3; ++i) {
        if (!op->weights && to[gather_axis(op, i)] != from[i]) {
            return false;
        }
    }
    return true;
}

static bool concatenate_fits(const edgelora_op_t *op, const edgelora_tensor_t *a,
    const edgelora_tensor_t *b, const edgelora_tensor_t *out) {
    bool h = op->kernel_h == 1, w = op->kernel_h == 2, c = op->kernel_h == 3;
    return (uint32_t)a->height + (h ? b->height : 0) == out->height &&
        (uint32_t)a->width + (w ? b->width : 0) == out->width &&
        (uint32_t)a->channels + (c ? b->channels : 0) == out->channels &&
        (h || b->height == out->height) && (w || b->width == out->width) &&
        (c || b->channels == out->channels);
}

static bool slice_fits(
    const edgelora_op_t *op, const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    uint32_t start = op_number(op);
    bool h = op->kernel_h == 1, w = op->kernel_h == 2, c = op->kernel_h == 3;
    return (h ? start + out->height <= in->height : out->height == in->height) &&
        (w ? start + out->width <= in->width : out->width == in->width) &&
        (c ? start + out->channels <= in->channels : out->channels == in->channels);
}

static bool pad_fits(
    const edgelora_op_t *op, const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    return in->channels == out->channels &&
        op->pad_top + (in->height - 1u) * op->stride_h < out->height &&
        op->pad_left + (in->width - 1u) * op->stride_w < out->width;
}

static bool softmax_fits(const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    return in->channels <= EDGELORA_MAX_SOFTMAX && out->zero_point == -128;
}

// The output is the state after every position or after the last.
static bool lstm_fits(const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    bool all = out->height == in->height && out->width == in->width;
    return (all || one_position(out)) && in->channels + out->channels <= EDGELORA_MAX_PATCH;
}

// The output is s16 [filters].
static bool svdf_features_fit(const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    return one_position(out) && out->channels % 2 == 0 && !out->zero_point &&
        elements(in) <= EDGELORA_MAX_PATCH;
}

// The input is s16 [memory, filters]; taps: s16 [units, memory, rank], with filters = units * rank.
static bool svdf_time_fits(const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    return in->width == 1 && one_position(out) && !in->zero_point &&
        in->channels % (2u * out->channels) == 0;
}

// Ids are bytes, or two of them.
static bool embed_fits(
    const edgelora_op_t *op, const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    uint32_t symbols = op_number(op);
    return !op->input && symbols && symbols <= EDGELORA_MAX_SYMBOLS &&
        in->channels == id_bytes(symbols) && in->height == out->height && in->width == out->width;
}

static bool rotate_fits(
    const edgelora_op_t *op, const edgelora_tensor_t *in, const edgelora_tensor_t *out) {
    uint32_t half = op->kernel_h;
    return same_shape(in, out) && half <= EDGELORA_MAX_HEAD / 2 && in->channels % (2 * half) == 0 &&
        !in->zero_point;
}

// Sums over the rows and heads that read a key or value stay within 32 bits.
static bool attend_fits(const edgelora_op_t *op, const edgelora_tensor_t *q,
    const edgelora_tensor_t *k, const edgelora_tensor_t *v, const edgelora_tensor_t *out) {
    uint32_t heads = op->kernel_h, keys = op->kernel_w, rows = (uint32_t)q->height * q->width;
    return same_shape(q, out) && same_shape(k, v) && k->height == q->height &&
        k->width == q->width && rows <= EDGELORA_MAX_ATTENDED && q->channels % heads == 0 &&
        q->channels / heads <= EDGELORA_MAX_HEAD && k->channels == q->channels / heads * keys &&
        heads % keys == 0 && rows * (heads / keys) <= 2 * EDGELORA_MAX_ATTENDED && !q->zero_point &&
        !k->zero_point && !v->zero_point && !out->zero_point;
}

#endif
