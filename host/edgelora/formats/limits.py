"""The limits of the formats (SPEC.md, section 10): one home for what a model and an adapter may be."""

from __future__ import annotations

MAX_OPS = 127
MAX_ELEMENTS = 1 << 20
MAX_POSITIONS = 65535
MAX_PATCH = 16384
MAX_WEIGHT_ROWS = 65536  # O * kernel_h * kernel_w
MAX_DEPTHWISE = 1024  # elements of its kernel
MAX_BIAS = 1 << 30  # with the zero point folded in
MAX_CLASSES = 256
MAX_ADDED = 16  # classes that an adapter adds to the base's
MAX_CLASS_INPUTS = 128  # of the last layer, for classes to be added: scores stay within 32 bits, and so with
MAX_CLASS_BIAS = 1 << 29
MAX_SCORE = 12  # a nat of a score is 2^this at most
MAX_ROW_SHIFT = 24
MAX_CLASS_SAMPLES = 1024
MAX_NAME = 24  # bytes of an added class's name
MAX_LOGIT_SCALE = 128.0  # the loss of section 4 stays within 32 bits
MAX_TARGETS = {"binary_cross_entropy": 256, "mean_squared_error": 65536}  # elements of the loss tensor
MAX_POOL = 512  # elements of a window: so does the gradient of section 5
MAX_REPEATED = 65535  # times that an element of a second input is: so many products an error sums
MAX_SOFTMAX = 1024  # channels
MAX_RANK = 32
MAX_FACTOR = 65536  # elements of one adapter matrix
MAX_SUMMED = 65536  # positions * micro_batch of an adapted layer: what a gradient's sum holds
MAX_MOMENTUM = 8
MAX_THRESHOLD = 1 << 14
MAX_UPDATE = 1 << 20  # bytes of an update's bundle, and of the adapter in it
T_SHIFTS = (0, 24)
BRANCH_SHIFTS = (-15, 8)
