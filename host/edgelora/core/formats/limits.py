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
MAX_STREAM = 256
MAX_SYMBOLS = 1024
MAX_ATTENDED = 256
MAX_HEAD = 64
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
MAX_FRAMES = 32767
MAX_LEFT = (1 << 22) - 4
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
    "MAX_OPS": "ops of a model: the steps of a training pass, 0 to 3 * ops, fit 11 bits",
    "MAX_ELEMENTS": "elements of a tensor",
    "MAX_POSITIONS": "positions of a tensor",
    "MAX_PATCH": "inputs K of a dense or conv output: for any values, a sum stays within 2^28 of its bias",
    "MAX_WEIGHT_ROWS": "O * kernel_h * kernel_w (1x1 for dense): products summed for an error",
    "MAX_DEPTHWISE": "kernel_h * kernel_w of depthwise",
    "MAX_BIAS": "absolute value of a bias with the zero point folded in",
    "MIN_SHIFT": "least shift of a multiplier",
    "MAX_SHIFT": "largest shift of a multiplier",
    "MAX_ADD_SHIFT": "largest shift of an add's multiplier",
    "MAX_POOLED": "positions of a pool's window",
    "MAX_REPEATED": "outputs for which an element of a second input is repeated",
    "MAX_SOFTMAX": "channels of softmax",
    "MIN_TANH_SHIFT": "least power of two that scales an lstm's cell to Q12",
    "MAX_TANH_SHIFT": "largest power of two that scales an lstm's cell to Q12",
    "MIN_T_SHIFT": "least t_shift",
    "MAX_T_SHIFT": "largest t_shift",
    "MIN_BRANCH_SHIFT": "least branch_shift",
    "MAX_BRANCH_SHIFT": "largest branch_shift",
    "MAX_CLASSES": "channels of cross_entropy's loss tensor, at least 2; an added class's number is below it",
    "MAX_BINARY": "elements of binary_cross_entropy's loss tensor",
    "MAX_VALUES": "elements of mean_squared_error's loss tensor",
    "MAX_STREAM": "channels of a stream",
    "MAX_SYMBOLS": "symbols of embed; channels of cross_entropy's loss tensor if it has several positions",
    "MAX_ATTENDED": "rows of attend; positions of cross_entropy's loss tensor",
    "MAX_HEAD": "channels of a head of attend",
    "MIN_LOGIT_SCALE": "least logit_scale, except with mean_squared_error: 16 / 255 nats a step",
    "MAX_LOGIT_SCALE": "largest logit_scale: 128 nats a step",
    "MAX_CHANNELS": "channels of a signal",
    "MAX_WINDOW": "window * channels of a signal",
    "MAX_HOP": "hop of a signal",
    "MAX_NORMAL_MULTIPLIER": "absolute value of a normalization's multiplier",
    "MAX_NORMAL_OFFSET": "absolute value of a normalization's offset",
    "MAX_NORMAL_SHIFT": "shift of a normalization",
    "MAX_ADDED": "classes that an adapter adds to the base's",
    "MAX_CLASS_INPUTS": "inputs of a last layer that can have added classes: scores stay within 32 bits",
    "MAX_CLASS_BIAS": "absolute value of a class's bias",
    "MAX_SCORE": "exponent of class statistics",
    "MAX_ROW_SHIFT": "row_shift of class statistics",
    "MAX_CLASS_SAMPLES": "samples from which a class is made",
    "MAX_NAME": "bytes of an added class's name",
    "MAX_RANK": "rank of a layer's adapter",
    "MAX_FACTOR": "elements of A, and of B",
    "MAX_T": "rank * positions of a layer",
    "MAX_SUMMED": "positions * frames * micro_batch of a layer with an adapter: products summed for a gradient",
    "MAX_FRAMES": "frames of a sample",
    "MAX_LEFT": "in training, frames of a history's output * elements of its input",
    "MAX_MOMENTUM": "shift of the momentum",
    "MAX_THRESHOLD": "threshold",
    "MAX_MASTER": "absolute value of a master",
    "MAX_MEAN": "absolute value of a running mean n",
    "MAX_SCALE_EXPONENT": "absolute value of vx",
    "MAX_PARTS": "adapters in a sum",
    "MAX_PART_WEIGHT": "absolute value of an adapter's weight in a sum, in 1/4096",
}
