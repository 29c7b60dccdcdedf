"""The limits of the formats: what the host checks, what the core checks and the table of SPEC.md, section 8.

This module is their only source. `make tables` generates the core's `edgelora_limits.h` and SPEC's table from it, and
`tests/formats/test_limits.py` compares both with it.
"""

from __future__ import annotations

# Models
MAX_OPS = 511
MAX_ELEMENTS = 1 << 20
MAX_POSITIONS = 65535
MAX_PATCH = 16384
MAX_WEIGHT_ROWS = 65536
MAX_DEPTHWISE = 1024
MAX_BIAS = 1 << 30
MIN_SHIFT, MAX_SHIFT = -31, 30
MAX_ADD_SHIFT = 0
MAX_POOLED = 512
MAX_REPEATED = 65535
MAX_SOFTMAX = 1024
MIN_TANH_SHIFT, MAX_TANH_SHIFT = -15, 14
MIN_T_SHIFT, MAX_T_SHIFT = 0, 24
MIN_BRANCH_SHIFT, MAX_BRANCH_SHIFT = -15, 8
T_SHIFTS, BRANCH_SHIFTS = (MIN_T_SHIFT, MAX_T_SHIFT), (MIN_BRANCH_SHIFT, MAX_BRANCH_SHIFT)
MAX_CLASSES = 256
MAX_BINARY = 256
MAX_VALUES = 65536
MIN_LOGIT_SCALE, MAX_LOGIT_SCALE = 4112, 1 << 23

# Signals
MAX_CHANNELS = 256
MAX_WINDOW = 1 << 20
MAX_HOP = 1 << 24
MAX_NORMAL_MULTIPLIER, MAX_NORMAL_OFFSET, MAX_NORMAL_SHIFT = 32767, 1 << 30, 30

# Classes added by adapters
MAX_ADDED = 16
MAX_CLASS_INPUTS = 128
MAX_CLASS_BIAS = 1 << 29
MAX_SCORE = 12
MAX_ROW_SHIFT = 24
MAX_CLASS_SAMPLES = 1024
MAX_NAME = 24

# Adapters and training
MAX_RANK = 32
MAX_FACTOR = 65536
MAX_T = 1 << 20
MAX_SUMMED = 65536
MAX_MOMENTUM = 8
MAX_THRESHOLD = 1 << 14
MAX_MASTER = 32512
MAX_MEAN = 1 << 14
MAX_SCALE_EXPONENT = 8192
MAX_PARTS = 8
MAX_PART_WEIGHT = 32767

MAX_UPDATE = 1 << 20  # bytes of an update's bundle and of the adapter in it; boards set lower limits

# The meaning of each limit, and its reason if not obvious.
TABLE = {
    "MAX_OPS": "ops of a model: the times of a training pass, 0 to 2 * ops, have 10 bits",
    "MAX_ELEMENTS": "elements of a tensor",
    "MAX_POSITIONS": "positions of a tensor",
    "MAX_PATCH": "K of dense and conv: with any weights and inputs a sum stays within 2^28 of its bias",
    "MAX_WEIGHT_ROWS": "O * kernel_h * kernel_w, of dense 1x1: so many products an error sums",
    "MAX_DEPTHWISE": "kernel_h * kernel_w of depthwise",
    "MAX_BIAS": "size of a bias with the zero point folded in",
    "MIN_SHIFT": "shift of a multiplier, at least",
    "MAX_SHIFT": "the same, at most",
    "MAX_ADD_SHIFT": "the same of an add, at most",
    "MAX_POOLED": "elements of a pool's window",
    "MAX_REPEATED": "outputs for which an element of a second input is repeated",
    "MAX_SOFTMAX": "channels of softmax",
    "MIN_TANH_SHIFT": "power of two from an lstm's cell to Q12, at least",
    "MAX_TANH_SHIFT": "the same, at most",
    "MIN_T_SHIFT": "t_shift, at least",
    "MAX_T_SHIFT": "the same, at most",
    "MIN_BRANCH_SHIFT": "branch_shift, at least",
    "MAX_BRANCH_SHIFT": "the same, at most",
    "MAX_CLASSES": "channels of cross_entropy's loss tensor, which are at least 2; number of a class added is below",
    "MAX_BINARY": "elements of binary_cross_entropy's loss tensor",
    "MAX_VALUES": "elements of mean_squared_error's loss tensor",
    "MIN_LOGIT_SCALE": "logit_scale, at least, but with mean_squared_error: 16 / 255 nats a step",
    "MAX_LOGIT_SCALE": "the same, at most: 128 nats a step",
    "MAX_CHANNELS": "channels of a signal",
    "MAX_WINDOW": "window * channels of a signal",
    "MAX_HOP": "hop of a signal",
    "MAX_NORMAL_MULTIPLIER": "size of a normalization's multiplier",
    "MAX_NORMAL_OFFSET": "size of its offset",
    "MAX_NORMAL_SHIFT": "its shift",
    "MAX_ADDED": "classes that an adapter adds to the base's",
    "MAX_CLASS_INPUTS": "inputs of the last layer, for classes to be added: scores stay within 32 bits",
    "MAX_CLASS_BIAS": "size of a class's bias",
    "MAX_SCORE": "exponent of class statistics",
    "MAX_ROW_SHIFT": "row_shift of class statistics",
    "MAX_CLASS_SAMPLES": "samples that a class is made from",
    "MAX_NAME": "bytes of an added class's name",
    "MAX_RANK": "rank of a layer's adapter",
    "MAX_FACTOR": "elements of A, and of B",
    "MAX_T": "rank * positions of a layer",
    "MAX_SUMMED": "positions * micro_batch of a layer with an adapter: so many products a gradient sums",
    "MAX_MOMENTUM": "shift of the momentum",
    "MAX_THRESHOLD": "threshold",
    "MAX_MASTER": "size of a master",
    "MAX_MEAN": "size of a running mean n",
    "MAX_SCALE_EXPONENT": "size of vx",
    "MAX_PARTS": "adapters that are added up at once",
    "MAX_PART_WEIGHT": "size of a weight in such a sum, 1/4096",
}
