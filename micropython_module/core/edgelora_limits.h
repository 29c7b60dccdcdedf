// The limits of the formats, written by `make tables` from host/edgelora/core/formats/limits.py.
// SPDX-License-Identifier: MIT

#ifndef EDGELORA_LIMITS_H
#define EDGELORA_LIMITS_H

// ops of a model: the times of a training pass, 0 to 2 * ops, have 10 bits
#define EDGELORA_MAX_OPS 511
// elements of a tensor
#define EDGELORA_MAX_ELEMENTS 1048576
// positions of a tensor
#define EDGELORA_MAX_POSITIONS 65535
// K of dense and conv: with any weights and inputs a sum stays within 2^28 of its bias
#define EDGELORA_MAX_PATCH 16384
// O * kernel_h * kernel_w, of dense 1x1: so many products an error sums
#define EDGELORA_MAX_WEIGHT_ROWS 65536
// kernel_h * kernel_w of depthwise
#define EDGELORA_MAX_DEPTHWISE 1024
// size of a bias with the zero point folded in
#define EDGELORA_MAX_BIAS 1073741824
// shift of a multiplier, at least
#define EDGELORA_MIN_SHIFT (-31)
// the same, at most
#define EDGELORA_MAX_SHIFT 30
// the same of an add, at most
#define EDGELORA_MAX_ADD_SHIFT 0
// elements of a pool's window
#define EDGELORA_MAX_POOLED 512
// outputs for which an element of a second input is repeated
#define EDGELORA_MAX_REPEATED 65535
// channels of softmax
#define EDGELORA_MAX_SOFTMAX 1024
// power of two from an lstm's cell to Q12, at least
#define EDGELORA_MIN_TANH_SHIFT (-15)
// the same, at most
#define EDGELORA_MAX_TANH_SHIFT 14
// t_shift, at least
#define EDGELORA_MIN_T_SHIFT 0
// the same, at most
#define EDGELORA_MAX_T_SHIFT 24
// branch_shift, at least
#define EDGELORA_MIN_BRANCH_SHIFT (-15)
// the same, at most
#define EDGELORA_MAX_BRANCH_SHIFT 8
// channels of cross_entropy's loss tensor, which are at least 2; number of a class added is below
#define EDGELORA_MAX_CLASSES 256
// elements of binary_cross_entropy's loss tensor
#define EDGELORA_MAX_BINARY 256
// elements of mean_squared_error's loss tensor
#define EDGELORA_MAX_VALUES 65536
// logit_scale, at least, but with mean_squared_error: 16 / 255 nats a step
#define EDGELORA_MIN_LOGIT_SCALE 4112
// the same, at most: 128 nats a step
#define EDGELORA_MAX_LOGIT_SCALE 8388608
// channels of a signal
#define EDGELORA_MAX_CHANNELS 256
// window * channels of a signal
#define EDGELORA_MAX_WINDOW 1048576
// hop of a signal
#define EDGELORA_MAX_HOP 16777216
// size of a normalization's multiplier
#define EDGELORA_MAX_NORMAL_MULTIPLIER 32767
// size of its offset
#define EDGELORA_MAX_NORMAL_OFFSET 1073741824
// its shift
#define EDGELORA_MAX_NORMAL_SHIFT 30
// classes that an adapter adds to the base's
#define EDGELORA_MAX_ADDED 16
// inputs of the last layer, for classes to be added: scores stay within 32 bits
#define EDGELORA_MAX_CLASS_INPUTS 128
// size of a class's bias
#define EDGELORA_MAX_CLASS_BIAS 536870912
// exponent of class statistics
#define EDGELORA_MAX_SCORE 12
// row_shift of class statistics
#define EDGELORA_MAX_ROW_SHIFT 24
// samples that a class is made from
#define EDGELORA_MAX_CLASS_SAMPLES 1024
// bytes of an added class's name
#define EDGELORA_MAX_NAME 24
// rank of a layer's adapter
#define EDGELORA_MAX_RANK 32
// elements of A, and of B
#define EDGELORA_MAX_FACTOR 65536
// rank * positions of a layer
#define EDGELORA_MAX_T 1048576
// positions * micro_batch of a layer with an adapter: so many products a gradient sums
#define EDGELORA_MAX_SUMMED 65536
// shift of the momentum
#define EDGELORA_MAX_MOMENTUM 8
// threshold
#define EDGELORA_MAX_THRESHOLD 16384
// size of a master
#define EDGELORA_MAX_MASTER 32512
// size of a running mean n
#define EDGELORA_MAX_MEAN 16384
// size of vx
#define EDGELORA_MAX_SCALE_EXPONENT 8192
// adapters that are added up at once
#define EDGELORA_MAX_PARTS 8
// size of a weight in such a sum, 1/4096
#define EDGELORA_MAX_PART_WEIGHT 32767

#endif
