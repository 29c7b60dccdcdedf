// The limits of the formats, written by `make tables` from host/edgelora/core/formats/limits.py.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_LIMITS_H
#define EDGELORA_LIMITS_H

// ops of a model: the steps of a training pass, 0 to 3 * ops, fit 11 bits
#define EDGELORA_MAX_OPS 511
// elements of a tensor
#define EDGELORA_MAX_ELEMENTS 1048576
// positions of a tensor
#define EDGELORA_MAX_POSITIONS 65535
// inputs K of a dense or conv output: for any values, a sum stays within 2^28 of its bias
#define EDGELORA_MAX_PATCH 16384
// O * kernel_h * kernel_w (1x1 for dense): products summed for an error
#define EDGELORA_MAX_WEIGHT_ROWS 65536
// kernel_h * kernel_w of depthwise
#define EDGELORA_MAX_DEPTHWISE 1024
// absolute value of a bias with the zero point folded in
#define EDGELORA_MAX_BIAS 1073741824
// least shift of a multiplier
#define EDGELORA_MIN_SHIFT (-31)
// largest shift of a multiplier
#define EDGELORA_MAX_SHIFT 30
// largest shift of an add's multiplier
#define EDGELORA_MAX_ADD_SHIFT 0
// positions of a pool's window
#define EDGELORA_MAX_POOLED 512
// outputs for which an element of a second input is repeated
#define EDGELORA_MAX_REPEATED 65535
// channels of softmax
#define EDGELORA_MAX_SOFTMAX 1024
// least power of two that scales an lstm's cell to Q12
#define EDGELORA_MIN_TANH_SHIFT (-15)
// largest power of two that scales an lstm's cell to Q12
#define EDGELORA_MAX_TANH_SHIFT 14
// least t_shift
#define EDGELORA_MIN_T_SHIFT 0
// largest t_shift
#define EDGELORA_MAX_T_SHIFT 24
// least branch_shift
#define EDGELORA_MIN_BRANCH_SHIFT (-15)
// largest branch_shift
#define EDGELORA_MAX_BRANCH_SHIFT 8
// channels of cross_entropy's loss tensor, at least 2; an added class's number is below it
#define EDGELORA_MAX_CLASSES 256
// elements of binary_cross_entropy's loss tensor
#define EDGELORA_MAX_BINARY 256
// elements of mean_squared_error's loss tensor
#define EDGELORA_MAX_VALUES 65536
// channels of a stream
#define EDGELORA_MAX_STREAM 256
// symbols of embed; channels of cross_entropy's loss tensor if it has several positions
#define EDGELORA_MAX_SYMBOLS 1024
// rows of attend; positions of cross_entropy's loss tensor
#define EDGELORA_MAX_ATTENDED 256
// channels of a head of attend
#define EDGELORA_MAX_HEAD 64
// least logit_scale, except with mean_squared_error: 16 / 255 nats a step
#define EDGELORA_MIN_LOGIT_SCALE 4112
// largest logit_scale: 128 nats a step
#define EDGELORA_MAX_LOGIT_SCALE 8388608
// channels of a signal
#define EDGELORA_MAX_CHANNELS 256
// window * channels of a signal
#define EDGELORA_MAX_WINDOW 1048576
// hop of a signal
#define EDGELORA_MAX_HOP 16777216
// absolute value of a normalization's multiplier
#define EDGELORA_MAX_NORMAL_MULTIPLIER 32767
// absolute value of a normalization's offset
#define EDGELORA_MAX_NORMAL_OFFSET 1073741824
// shift of a normalization
#define EDGELORA_MAX_NORMAL_SHIFT 30
// classes that an adapter adds to the base's
#define EDGELORA_MAX_ADDED 16
// inputs of a last layer that can have added classes: scores stay within 32 bits
#define EDGELORA_MAX_CLASS_INPUTS 128
// absolute value of a class's bias
#define EDGELORA_MAX_CLASS_BIAS 536870912
// exponent of class statistics
#define EDGELORA_MAX_SCORE 12
// row_shift of class statistics
#define EDGELORA_MAX_ROW_SHIFT 24
// samples from which a class is made
#define EDGELORA_MAX_CLASS_SAMPLES 1024
// bytes of an added class's name
#define EDGELORA_MAX_NAME 24
// rank of a layer's adapter
#define EDGELORA_MAX_RANK 32
// elements of A, and of B
#define EDGELORA_MAX_FACTOR 65536
// rank * positions of a layer
#define EDGELORA_MAX_T 1048576
// positions * frames * micro_batch of a layer with an adapter: products summed for a gradient
#define EDGELORA_MAX_SUMMED 65536
// frames of a sample
#define EDGELORA_MAX_FRAMES 32767
// in training, frames of a history's output * elements of its input
#define EDGELORA_MAX_LEFT 4194300
// shift of the momentum
#define EDGELORA_MAX_MOMENTUM 8
// threshold
#define EDGELORA_MAX_THRESHOLD 16384
// absolute value of a master
#define EDGELORA_MAX_MASTER 32512
// absolute value of a running mean n
#define EDGELORA_MAX_MEAN 16384
// absolute value of vx
#define EDGELORA_MAX_SCALE_EXPONENT 8192
// adapters in a sum
#define EDGELORA_MAX_PARTS 8
// absolute value of an adapter's weight in a sum, in 1/4096
#define EDGELORA_MAX_PART_WEIGHT 32767

#endif
