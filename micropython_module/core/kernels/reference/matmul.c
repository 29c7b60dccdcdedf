// Products of two activations as matrices, as attention has them in TensorFlow Lite: for each image
// of height, rows of the first with rows of the second.
// SPDX-License-Identifier: MIT

#include "kernels/reference/reference.h"

// x, x2: s8 [out_h, rows, in_c], rows of the one the output's width, of the other its channels
void edgelora_matmul_forward_s8(
    const edgelora_shape_t *g, const int8_t *x, const int8_t *x2, int8_t *y) {
    uint32_t n = g->in_c;
    for (uint32_t i = 0; i < g->positions; ++i, x += n) {
        const int8_t *b = x2 + i / g->out_w * g->out_c * n;
        int32_t sum = 0;
        for (uint32_t c = 0; c < n; ++c) {
            sum += x[c] - g->zp_in;
        }
        for (uint32_t o = 0; o < g->out_c; ++o, b += n) {
            int32_t acc = -g->zp_in2 * sum; // |acc| <= 255^2 * 2^14, below 2^30
            for (uint32_t c = 0; c < n; ++c) {
                acc += (x[c] - g->zp_in) * b[c];
            }
            *y++ = requantize_output(g, acc, 0);
        }
    }
}

// The error of a row of one input, from those of its outputs, `step` apart, and as many rows of the
// other input.
static void matmul_row_backward(edgelora_block_t *block, const int8_t *e, uint32_t step,
    uint32_t rows, const int8_t *other, int32_t zero, uint32_t n) {
    int32_t v[EDGELORA_PIECE]; // |v| <= 127 * 255 * 65535
    for (uint32_t from = 0; from < n; from += EDGELORA_PIECE) {
        uint32_t count = n - from < EDGELORA_PIECE ? n - from : EDGELORA_PIECE;
        for (uint32_t c = 0; c < count; ++c) {
            v[c] = 0;
        }
        for (uint32_t j = 0; j < rows; ++j) {
            int32_t share = e[j * step];
            const int8_t *row = other + j * n + from;
            for (uint32_t c = 0; share && c < count; ++c) {
                v[c] += share * (row[c] - zero);
            }
        }
        edgelora_block_append(block, v, count);
    }
}

int32_t edgelora_matmul_backward_s8(
    const edgelora_shape_t *g, const edgelora_error_t *error, uint32_t k, int8_t *dx) {
    uint32_t mine = k ? g->out_c : g->out_w, theirs = k ? g->out_w : g->out_c, n = g->in_c;
    int32_t zero = k ? g->zp_in : g->zp_in2;
    edgelora_block_t block = {dx, 0, 0, g->rounds};
    for (uint32_t i = 0; i < g->out_h * mine; ++i) {
        uint32_t image = i / mine, row = i % mine;
        const int8_t *e = error->e + image * mine * theirs + (k ? row : row * theirs),
                     *other = (k ? error->x : error->x2) + image * theirs * n;
        matmul_row_backward(&block, e, k ? mine : 1, theirs, other, zero, n);
    }
    return error->exponent + block.shift;
}
