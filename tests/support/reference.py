"""SPEC.md's arithmetic in plain NumPy: the oracle the C core must equal bit for bit.

Written from SPEC.md alone, for clarity. Everything is int64, and `int32` asserts that no sum leaves the 32 bits the
device has. Activations are [positions, channels] here, in row-major order of the positions.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.classes import ClassRow, ClassStats
from edgelora.core.formats.ela import Adapter, AdapterLayer, TensorState
from edgelora.core.formats.network import PAIR_KINDS, Op, QuantModel

Ints = NDArray[np.int64]
GOLDEN = 0x9E3779B9
FORWARD_KINDS = ("lstm",)  # pass no gradient: layers below them can't train
RECURRENT_KINDS = ("lstm", "svdf_features", "svdf_time")  # with 16 bits of state
GROUP = 16  # positions of a sequence whose errors share an exponent


# --- 1. Conventions ---


def int32(v: Ints) -> Ints:
    """v itself; it must fit in 32 bits."""
    assert v.size == 0 or (v.min() >= -(2**31) and v.max() < 2**31), f"{v.min()}..{v.max()} leaves 32 bits"
    return v


def wrap32(v: Ints) -> Ints:
    return (v + 2**31) % 2**32 - 2**31


def round_shift(a: Ints, n: int) -> Ints:
    if n > 0:
        return int32(a + 2 ** (n - 1)) >> n
    return int32(a * 2**-n)


def trunc_shift(a: Ints, n: int) -> Ints:
    return np.zeros_like(a) if n > 31 else np.sign(a) * (np.abs(a) >> n)


def block(v: Ints, x: int, rounds: bool = False) -> tuple[Ints, int]:
    """q and exponent such that v * 2^x ~ q * 2^exponent, with q within +-127; rounds: of a model that has this flag."""
    n, divide = 0, rounded if rounds else trunc_shift
    while np.abs(divide(int32(v), n)).max() > 127:
        n += 1
    return divide(v, n), x + n


def rounded(v: Ints, n: int, shifted: int = 0) -> Ints:
    """v / 2^n, rounded by the offset of each value's place; of values that were already divided by 2^shifted, too."""
    offset = np.where(np.arange(v.size) % 2 == 0, 0xAAAAAAAA, 0x55555555).reshape(v.shape) >> shifted
    return np.sign(v) * ((np.abs(v) + offset % 2**n) >> n)


# --- 2. Base network, 3. Adapter branch ---


def trainable(model: QuantModel) -> list[int]:
    """The ops that can train an adapter: those with weights that get a gradient."""
    cut: set[int] = set()  # tensors without a gradient
    for op in reversed(model.ops):
        if op.kind in FORWARD_KINDS or op.output in cut:
            cut.update(op.inputs)
    return [index for index, op in enumerate(model.ops) if op.is_matrix and op.output not in cut]


def high_multiply(a: Ints, b: Ints) -> Ints:
    """floor((a * b + 2^30) / 2^31), saturating."""
    return np.minimum((a * b + 2**30) >> 31, 2**31 - 1)


def round_divide(a: Ints, n: Ints) -> Ints:
    """a / 2^n, halves away from 0."""
    mask = (np.int64(1) << n) - 1
    return (a >> n) + ((a & mask) > (mask >> 1) + (a < 0))


def requantize(acc: Ints, multiplier: Ints, shift: Ints) -> Ints:
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    return round_divide(high_multiply(wrap32(acc << left), multiplier), right)


def taps(model: QuantModel, op: Op) -> NDArray[np.intp]:
    """Input position of each kernel element of each output position, [positions, kernel]; outside the input: the
    number of input positions."""
    sizes = model.tensors[op.input].shape[:2], model.tensors[op.output].shape[:2], op.kernel
    return _taps(*(tuple(map(int, pair)) for pair in (*sizes, op.stride, op.padding, op.dilation)))


@lru_cache(256)
def _taps(
    source: tuple[int, ...],
    target: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> NDArray[np.intp]:
    (in_h, in_w), (out_h, out_w) = source, target
    y = np.arange(out_h)[:, None] * stride[0] - padding[0] + np.arange(kernel[0]) * dilation[0]
    x = np.arange(out_w)[:, None] * stride[1] - padding[1] + np.arange(kernel[1]) * dilation[1]
    y, x = y[:, None, :, None], x[None, :, None, :]  # [out_h, out_w, kernel_h, kernel_w]
    inside = (y >= 0) & (y < in_h) & (x >= 0) & (x < in_w)
    result = np.where(inside, y * in_w + x, in_h * in_w).reshape(out_h * out_w, -1)
    result.flags.writeable = False
    return result


def patches(model: QuantModel, op: Op, x: Ints) -> Ints:
    """x - zp_in of every patch, [positions, K]."""
    centred = x - model.tensors[op.input].zero_point
    if op.kind == "dense":
        return centred.reshape(1, -1)
    padded = np.vstack([centred, np.zeros_like(centred[:1])])
    rows = padded[taps(model, op)]
    return rows.reshape(len(rows), -1)


@dataclass
class Trace:
    """The results of a forward pass: y[i] is tensor i [positions, channels]; t and branch by op index.

    held: by op index, the content of histories; a stream's frames share it.
    """

    y: list[Ints]
    held: dict[int, Ints] = field(default_factory=dict)
    patches: dict[int, Ints] = field(default_factory=dict)
    t: dict[int, Ints] = field(default_factory=dict)
    branch: dict[int, Ints] = field(default_factory=dict)

    @property
    def logits(self) -> Ints:
        """The output, flattened."""
        return self.y[-1].reshape(-1)


def forward(
    model: QuantModel, x: NDArray, adapter: Adapter | None = None, held: dict[int, Ints] | None = None
) -> Trace:
    """Runs the int8 input x, of the model's input shape, through the base and, if given, the adapter.

    held: of the stream to which x is the next frame, empty before the first; None: x begins a stream.
    """
    layers = {layer.op: layer for layer in adapter.layers} if adapter else {}
    trace = Trace([np.asarray(x, np.int64).reshape(-1, model.input.shape[2])], {} if held is None else held)
    for index in range(len(model.ops)):
        trace.y.append(op_forward(model, index, trace, layers.get(index)))
    return trace


def forward_frames(model: QuantModel, x: NDArray, adapter: Adapter | None = None) -> list[Trace]:
    """The forward passes of all frames of a sample, int8 [frames, *input shape], which begins a stream."""
    held: dict[int, Ints] = {}
    return [forward(model, frame, adapter, held) for frame in x.reshape(-1, *model.input.shape)]


def forward_sample(model: QuantModel, x: NDArray, adapter: Adapter | None = None) -> Trace:
    """The forward pass of the last frame of a sample, int8 [frames, *input shape], which begins a stream."""
    return forward_frames(model, x, adapter)[-1]


def op_forward(model: QuantModel, index: int, trace: Trace, layer: AdapterLayer | None = None) -> Ints:
    """The output of one op whose inputs are in the trace."""
    op = model.ops[index]
    x, other = trace.y[op.input], trace.y[op.input2]
    if op.kind in ("conv", "dense", "project"):
        return matrix_forward(model, index, layer, trace)
    if op.kind in ("embed", "widen"):
        return added_to_stream(op, trace, embedded(op, x) if op.kind == "embed" else widened(model, op, x))
    if op.kind == "norm":
        return norm_forward(model, op, x)
    if op.kind == "rotate":
        return np.clip(round_shift(turned(op, x, 1), 15), -128, 127)
    if op.kind == "attend":
        return attend_forward(model, op, trace)
    if op.kind == "depthwise":
        return to_output(model, op, depthwise_sums(model, op, x))
    if op.kind == "mean":
        acc = int32((x - model.tensors[op.input].zero_point).sum(axis=0, keepdims=True))
        return to_output(model, op, acc)
    if op.kind == "average_pool":
        return average_pool_forward(model, op, x)
    if op.kind == "max_pool":
        return np.clip(windows(model, op, x, -128).max(axis=1), op.act_min, op.act_max)
    if op.kind in PAIR_KINDS:
        return pair_forward(model, op, x, other)
    if op.kind == "matmul":
        a, b = (
            image(model, op.input, centred(model, op.input, x)),
            image(model, op.input2, centred(model, op.input2, other)),
        )
        return to_output(model, op, int32(a @ b.transpose(0, 2, 1)).reshape(len(x), -1))
    if op.kind == "constant":
        return op.values.astype(np.int64).reshape(-1, op.values.shape[2])
    if op.kind == "gather":
        return gathered(model, op, image(model, op.input, x)).reshape(-1, model.tensors[op.output].shape[2])
    if op.kind == "concatenate":
        joined = np.concatenate([image(model, op.input, x), image(model, op.input2, other)], axis=op.axis - 1)
        return joined.reshape(-1, joined.shape[2])
    if op.kind == "slice":
        part = np.take(image(model, op.input, x), sliced(model, op), axis=op.axis - 1)
        return part.reshape(-1, part.shape[2])
    if op.kind == "history":
        trace.held[index] = history_forward(model, op, trace.held.get(index), x)
        return trace.held[index]
    if op.kind == "pad":
        height, width, channels = model.tensors[op.output].shape
        y = np.full((height, width, channels), model.tensors[op.output].zero_point)
        y[inner(model, op)] = image(model, op.input, x)
        return y.reshape(-1, channels)
    if op.kind == "reshape":
        return x.reshape(-1, model.tensors[op.output].shape[2])
    if op.kind == "lookup":
        return op.table.astype(np.int64)[x + 128]
    if op.kind == "lstm":
        return lstm_forward(model, op, x)
    if op.kind == "svdf_features":
        return svdf_features(model, op, x)
    if op.kind == "svdf_time":
        return svdf_time(model, op, x)
    return softmax_forward(op, x)


def int16(v: Ints) -> Ints:
    """v, saturated at 16 bits."""
    return np.clip(v, -(2**15), 2**15 - 1)


def lstm_forward(model: QuantModel, op: Op, x: Ints) -> Ints:
    """The state after every position, or after the last."""
    units = model.tensors[op.output].shape[2]
    zero = int(op.shift[11])
    state, cell, states = np.full(units, zero, np.int64), np.zeros(units, np.int64), []
    for row in x:
        state, cell = lstm_step(op, row, state, cell)
        states.append(state)
    return np.stack(states)[-model.tensors[op.output].positions :]


def lstm_step(op: Op, x: Ints, state: Ints, cell: Ints) -> tuple[Ints, Ints]:
    """State and cell [units] after one position x [inputs]."""
    weights, bias = op.weights.astype(np.int64), op.bias.astype(np.int64)
    pairs = list(zip(op.multiplier[:11].astype(np.int64), op.shift[:11].astype(np.int64), strict=True))
    gates = []
    for gate in range(4):
        own = int32(weights[:, gate, : len(x)] @ x + bias[:, gate, 0])
        back = int32(weights[:, gate, len(x) :] @ state + bias[:, gate, 1])
        parts = (int16(requantize(v, *pairs[2 * gate + k])) for k, v in enumerate((own, back)))
        gates.append(int16(sum(parts)))
    admit, keep, out = (logistic_16(op, gates[gate]) for gate in (0, 1, 3))
    fresh = tanh_16(op, gates[2], 0)
    kept, admitted = int16(requantize(keep * cell, *pairs[8])), int16(requantize(admit * fresh, *pairs[9]))
    clip = int(op.multiplier[11])
    cell = np.clip(int16(kept + admitted), -clip, clip)
    made = requantize(out * tanh_16(op, cell, int(op.shift[12])), *pairs[10])
    return np.clip(made + int(op.shift[11]), -128, 127), cell


def logistic_q25(op: Op, y: Ints, most: int) -> Ints:
    """2^25 times the logistic function at y / 2^9 / 24 >= 0, interpolated in the table."""
    table = op.multiplier[12:].astype(np.int64)
    at = np.minimum(y >> 9, 254)
    between = table[at] * 512 + (y & 511) * (table[at + 1] - table[at])
    return np.where(y >> 9 >= 255, most, between)


def logistic_16(op: Op, v: Ints) -> Ints:
    """The logistic function, Q15, of v, Q12."""
    p = logistic_q25(op, np.abs(3 * v), 0x7FFF << 10)
    return np.where(v >= 0, p + 512, (1 << 25) - p + 511) >> 10


def tanh_16(op: Op, v: Ints, power: int) -> Ints:
    """tanh, Q15, of v * 2^power, Q12: tanh v = 2 * logistic(2 v) - 1."""
    v = round_shift(3 * v, -power) if power < 0 else int32(3 * v << power)
    p = logistic_q25(op, 2 * np.abs(v), 0xFFFF << 9) >> 1
    return np.where(v >= 0, p - (1 << 23) + 128, (1 << 23) - p + 127) >> 8


def svdf_features(model: QuantModel, op: Op, x: Ints) -> Ints:
    """The features int16 [filters], as two bytes each."""
    acc = int32((x.reshape(-1) - model.tensors[op.input].zero_point) @ op.weights.astype(np.int64).T + op.bias)
    values = int16(requantize(acc, *(array.astype(np.int64) for array in (op.multiplier, op.shift))))
    return values.astype("<i2").view(np.int8).astype(np.int64)[None]


def svdf_time(model: QuantModel, op: Op, x: Ints) -> Ints:
    """The output of an SVDF's time filter. Sums over time and rank wrap around."""
    units, memory, rank = op.taps.shape
    rows = np.ascontiguousarray(x.astype(np.int8)).view("<i2").astype(np.int64).reshape(memory, units, rank)
    acc = wrap32(op.bias + (op.taps.astype(np.int64) * rows.transpose(1, 0, 2)).sum(axis=(1, 2)))
    made = requantize(acc, *(array.astype(np.int64) for array in (op.multiplier, op.shift)))
    return np.clip(made + model.tensors[op.output].zero_point, -128, 127)[None]


def centred(model: QuantModel, index: int, values: Ints) -> Ints:
    """Values of tensor `index` less its zero point."""
    return values - model.tensors[index].zero_point


def image(model: QuantModel, index: int, values: Ints) -> Ints:
    """Values of tensor `index` as [height, width, channels]."""
    return values.reshape(model.tensors[index].shape)


def sliced(model: QuantModel, op: Op) -> NDArray[np.intp]:
    """The positions that a slice takes along its axis."""
    return op.start + np.arange(model.tensors[op.output].shape[op.axis - 1])


def history_forward(model: QuantModel, op: Op, held: Ints | None, x: Ints) -> Ints:
    """The newest values of the history with x appended. held: None before the first frame."""
    target = model.tensors[op.output]
    if held is None:
        held = np.full(target.size - x.size, target.zero_point) if op.initial is None else op.initial.astype(np.int64)
    return np.concatenate([held.reshape(-1), x.reshape(-1)])[-target.size :].reshape(-1, target.shape[2])


def inner(model: QuantModel, op: Op) -> tuple[slice, slice]:
    """The slices of a pad's output that hold its input."""
    shape = model.tensors[op.input].shape
    ends = [op.padding[i] + (shape[i] - 1) * op.stride[i] + 1 for i in range(2)]
    return slice(op.padding[0], ends[0], op.stride[0]), slice(op.padding[1], ends[1], op.stride[1])


def windows(model: QuantModel, op: Op, x: Ints, outside: int) -> Ints:
    """The window of every output position, [positions, kernel, channels]."""
    return np.vstack([x, np.full_like(x[:1], outside)])[taps(model, op)]


def depthwise_sums(model: QuantModel, op: Op, x: Ints) -> Ints:
    outputs = model.tensors[op.output].shape[2]
    source = model.tensors[op.input]
    rows = windows(model, op, x - source.zero_point, 0).repeat(outputs // source.shape[2], axis=2)
    return int32(op.bias.astype(np.int64) + (rows * op.weights.astype(np.int64).reshape(-1, outputs)).sum(axis=1))


def gathered(model: QuantModel, op: Op, whole: Ints) -> Ints:
    """The output of a gather from [height, width, channels]."""
    height, width = (axis - 1 for axis in op.axes)
    order = [height, width, 3 - height - width]
    counts = [model.tensors[op.output].shape[axis] for axis in order]
    if op.positions is not None:
        rows, columns, channels = np.split(op.positions.astype(np.int64), np.cumsum(counts)[:2])
        whole = whole[np.ix_(rows, columns, channels)]
    return whole.transpose(np.argsort(order))


def repeated(model: QuantModel, op: Op, values: Ints) -> Ints:
    """A second input, broadcast to the shape of the output, [positions, channels]."""
    target = model.tensors[op.output].shape
    return np.broadcast_to(image(model, op.input2, values), target).reshape(-1, target[2])


def pair_forward(model: QuantModel, op: Op, a: Ints, b: Ints) -> Ints:
    b = repeated(model, op, b)
    if op.kind in ("minimum", "maximum"):
        return (np.minimum if op.kind == "minimum" else np.maximum)(a, b)
    multiplier, shift = op.multiplier.astype(np.int64), op.shift.astype(np.int64)
    a, b = a - model.tensors[op.input].zero_point, b - model.tensors[op.input2].zero_point
    if op.kind == "add":
        size, sign = np.abs(multiplier), np.sign(multiplier)
        s = sum(sign[k] * requantize(x << 20, size[k], shift[k]) for k, x in enumerate((a, b)))
        scaled = requantize(int32(s), multiplier[2], shift[2])
    elif op.kind == "squared_difference":
        scaled = requantize(apart(op, a, b) ** 2, multiplier[2], shift[2])
    else:
        scaled = requantize(a * b, multiplier[-1], shift[-1])
    if op.kind == "prelu":
        scaled = np.where(a < 0, scaled, requantize(a, multiplier[0], shift[0]))
    return np.clip(scaled + model.tensors[op.output].zero_point, op.act_min, op.act_max)


def apart(op: Op, a: Ints, b: Ints) -> Ints:
    """What a squared difference squares, int16."""
    multiplier, shift = op.multiplier.astype(np.int64), op.shift.astype(np.int64)
    return int16(requantize(a << 7, multiplier[0], shift[0]) - requantize(b << 7, multiplier[1], shift[1]))


def softmax_forward(op: Op, x: Ints) -> Ints:
    ex = op.exponentials.astype(np.int64)[x.max(axis=1, keepdims=True) - x]
    total = round_divide(ex, 12).sum(axis=1, keepdims=True)
    h = np.array([32 - int(v).bit_length() for v in total[:, 0]])[:, None]  # clz32
    reciprocal = one_over_one_plus(int32((total << h) - 2**31))
    y = round_divide(high_multiply(reciprocal, ex), 12 - h + 31 - 8) - 128
    return np.where(ex == 0, -128, np.clip(y, -128, 127))


def one_over_one_plus(a: Ints) -> Ints:
    """2^31 / (1 + a / 2^31) for 0 <= a < 2^31, by three Newton steps (gemmlowp's)."""
    half = (a + 2**31) >> 1  # Q31, in [1/2, 1)
    x = 1515870810 + high_multiply(half, np.int64(-1010580540))  # Q29: 48/17 - 32/17 * half
    for _ in range(3):
        x = x + (high_multiply(x, 2**29 - high_multiply(half, x)) << 2)
    return np.minimum(x << 1, 2**31 - 1)


def matrix_forward(model: QuantModel, index: int, layer: AdapterLayer | None, trace: Trace) -> Ints:
    op = model.ops[index]
    rows = trace.patches[index] = patches(model, op, trace.y[op.input])
    acc = int32(op.bias.astype(np.int64) + rows @ weight_matrix(op).T)
    if layer is not None:
        a, b = layer.a.astype(np.int64), layer.b.astype(np.int64)
        t = np.clip(round_shift(int32(rows @ a.T), layer.t_shift), -127, 127)
        trace.t[index], trace.branch[index] = t, round_shift(int32(t @ b.T), -layer.branch_shift)
        acc = int32(acc + trace.branch[index])
    if op.kind == "project":
        return added_to_stream(op, trace, requantized(op, acc))
    return to_output(model, op, acc)


def weight_matrix(op: Op) -> Ints:
    """W as [O, K]."""
    return op.weights.astype(np.int64).reshape(len(op.weights), -1)


def requantized(op: Op, acc: Ints) -> Ints:
    return requantize(acc, op.multiplier.astype(np.int64), op.shift.astype(np.int64))


def to_output(model: QuantModel, op: Op, acc: Ints) -> Ints:
    return np.clip(requantized(op, acc) + model.tensors[op.output].zero_point, op.act_min, op.act_max)


def average_pool_forward(model: QuantModel, op: Op, x: Ints) -> Ints:
    window = taps(model, op)
    count = window_counts(window, len(x))
    s = windows(model, op, x, 0).sum(axis=1)
    half = count // 2
    y = np.where(s > 0, (s + half) // count, -((half - s) // count))  # both truncate toward zero
    return np.clip(y, op.act_min, op.act_max)


def window_counts(window: NDArray[np.intp], positions: int) -> Ints:
    """Elements inside the input of each window, [positions, 1]."""
    return (window < positions).sum(axis=1, keepdims=True)


# --- 2. Streams and attention ---


def added_to_stream(op: Op, trace: Trace, values: Ints) -> Ints:
    before = trace.y[op.input2] if op.input2 else 0
    return int16(before + int16(values))


def ids_of(values: Ints) -> Ints:
    """The ids in int8 [positions, 1 or 2]: unsigned bytes, little-endian."""
    return sum((values[:, i] & 255) << 8 * i for i in range(values.shape[1]))


def embedded(op: Op, x: Ints) -> Ints:
    ids = ids_of(x)
    known = ids < len(op.embedding)
    rows = requantized(op, op.embedding.astype(np.int64)[np.where(known, ids, 0)])
    return np.where(known[:, None], rows, 0)


def widened(model: QuantModel, op: Op, x: Ints) -> Ints:
    return requantized(op, x - model.tensors[op.input].zero_point)


def bits(v: int) -> int:
    return int(v).bit_length()


def normalized(op: Op, x: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """r, k / 2 and F, each [rows, 1], and the normalized rows with fractions of F bits."""
    d, rows, found = x.shape[1], [], []
    for row in x:
        total = int(row.sum()) if op.centred else 0
        n = d * int((row * row).sum()) - total**2 + int(op.multiplier[0])
        assert 0 < n < 2**63
        k = (32 - bits(n)) // 2 * 2
        scaled = n << k if k >= 0 else n >> -k
        assert 2**30 <= scaled < 2**32
        r = 2**31 // math.isqrt(scaled)
        c = d * row - total
        p = max(0, bits(np.abs(int32(c)).max()) - 15)
        size, whole = np.abs(round_shift(c, p)) * r, 31 - k // 2 - p
        fraction = next((f for f in (13, 12) if size.max() >> whole - f < 2**15), 11)
        by = whole - fraction
        assert by > 0 and size.max() + 2 ** (by - 1) < 2**32
        rows.append(np.clip(np.sign(c) * ((size + 2 ** (by - 1)) >> by), -(2**15), 2**15 - 1))
        found.append((r, k // 2, fraction))
    r, half, fractions = np.array(found).T[..., None]
    return r, half, fractions, np.stack(rows)


def norm_forward(model: QuantModel, op: Op, x: Ints) -> Ints:
    fraction, xh = normalized(op, x)[2:]
    bias = op.bias.astype(np.int64) << fraction - 11
    shift = int(op.shift[0]) + fraction
    y = int32(int32(xh * op.gain.astype(np.int64) + bias) + (1 << shift - 1)) >> shift
    return np.clip(y + model.tensors[op.output].zero_point, -128, 127)


def turned(op: Op, x: Ints, sign: int) -> Ints:
    """Pairs of channels turned by their row's angles, in Q15; sign -1: back."""
    half = op.angles.shape[1]
    a, b = x.reshape(len(x), -1, 2, half).transpose(2, 0, 1, 3)  # [rows, heads, half]
    c, s = op.angles.astype(np.int64).transpose(2, 0, 1)[:, :, None]
    return np.stack([a * c - sign * b * s, b * c + sign * a * s], axis=2).reshape(x.shape)


EXPONENTIALS = np.array([math.floor(255 * 128 * 2 ** (-f / 256) + 0.5) for f in range(256)])


@dataclass
class Head:
    """Of a head of an attend: its channels in q, and in k and v; e and p [rows, rows], r and h [rows, 1]."""

    own: slice
    shared: slice
    e: Ints
    p: Ints
    r: Ints
    h: Ints


def heads_of(model: QuantModel, op: Op, trace: Trace) -> list[Head]:
    (heads, shared), size = op.heads, model.tensors[op.input].shape[2] // op.heads[0]
    found = []
    for head in range(heads):
        other = head * shared // heads
        own, theirs = slice(head * size, (head + 1) * size), slice(other * size, (other + 1) * size)
        s = int32(trace.y[op.input][:, own] @ trace.y[op.input2][:, theirs].T)
        seen = np.tri(len(s), dtype=bool) if op.causal else np.ones(s.shape, bool)
        d = np.where(seen, s, -(2**31)).max(axis=1, keepdims=True) - s
        u = np.minimum(d * int(op.multiplier[0]) >> int(op.shift[0]), 2304)
        u = np.where(seen, u, 2304)
        e = np.where(seen, ((EXPONENTIALS[u & 255] >> (u >> 8)) + 64) >> 7, 0)
        total = e.sum(axis=1, keepdims=True)
        h = np.array([[16 - bits(row)] for row in total[:, 0]])
        assert (total << h >= 2**15).all() and (total << h < 2**16).all()
        r = 2**31 // (total << h)
        p = int32(e * r + 2 ** (15 - h)) >> 16 - h
        found.append(Head(own, theirs, e, p, r, h))
    return found


def attend_forward(model: QuantModel, op: Op, trace: Trace) -> Ints:
    y = np.zeros(trace.y[op.input].shape, np.int64)
    for head in heads_of(model, op, trace):
        acc = int32(head.e @ trace.y[op.input3][:, head.shared] << head.h)
        multiplier = int32(int32(int(op.multiplier[1]) * head.r) >> 15 << 15)
        y[:, head.own] = requantize(acc, multiplier, np.int64(op.shift[1]) - 15)
    return np.clip(y, -128, 127)


# --- 4. Loss ---


def step_in_nats(model: QuantModel) -> float:
    """The value of a step of the loss tensor: its scale, stored as float32; at least 16 / 255 nats for logits."""
    s = float(np.float32(model.loss_tensor.scale))
    return s if model.loss == "mean_squared_error" else max(s, 16 / 255)


def softmax_constants(model: QuantModel) -> tuple[int, list[int]]:
    """logit_scale and E."""
    s = step_in_nats(model)
    exponentials = [math.floor(2**16 * math.exp(-s * 2**j) + 0.5) for j in range(8)]
    return math.floor(2**16 * s + 0.5), [min(65535, value) for value in exponentials]


def log2_q12(v: int) -> int:
    n = v.bit_length() - 1
    m = (v << 15) >> n
    bits = 0
    for _ in range(12):
        m = (m * m) >> 15
        bits = 2 * bits + (m >= 2**16)
        m >>= m >= 2**16
    return n * 2**12 + bits


def loss(model: QuantModel, q: Ints, target: int | NDArray) -> tuple[int, Error]:
    """The loss and the error of the loss tensor, given flattened as q.

    target: a label for cross_entropy, or the ids of its positions; else as many values as q has.
    """
    shape = model.loss_tensor.positions, -1
    if model.loss == "cross_entropy" and model.loss_tensor.positions > 1:
        goal = np.asarray(target, np.int64).reshape(shape)
        return cross_entropy_of_rows(model, q.reshape(shape), ids_of(goal))
    if model.loss == "cross_entropy":
        value, e, x = cross_entropy(model, q, int(target))
    else:
        goal = np.asarray(target, np.int64).reshape(-1)
        of = binary_cross_entropy if model.loss == "binary_cross_entropy" else mean_squared_error
        value, e, x = of(model, q, goal)
    return value, [(e.reshape(shape), x)]


def within_grid(v: Ints, q: Ints) -> Ints:
    """Errors, set to 0 if they push q beyond the int8 grid."""
    return np.where((q == 127) & (v < 0) | (q == -128) & (v > 0), 0, v)


def exponential(model: QuantModel, d: Ints) -> Ints:
    """2^16 * exp(-s * d) for 0 <= d <= 255."""
    w = np.full_like(d, 2**16)
    for j, factor in enumerate(softmax_constants(model)[1]):
        w = np.where(d >> j & 1, (w * factor + 2**15) >> 16, w)
    return w


def logarithm(v: int) -> int:
    """ln(v / 2^16), Q12."""
    return ((log2_q12(v) - 16 * 2**12) * 2839) >> 12


def cross_entropy(model: QuantModel, q: Ints, label: int) -> tuple[int, Ints, int]:
    value, v = softmax_error(model, q, label)
    e, x = block(v, -15, model.rounds)
    return value, e, x


def cross_entropy_of_rows(model: QuantModel, q: Ints, ids: Ints) -> tuple[int, Error]:
    """The loss of all rows [positions, symbols] whose id is that of a symbol."""
    v, values = np.zeros_like(q), []
    for place, label in enumerate(ids):
        if label < q.shape[1]:
            value, v[place] = softmax_error(model, q[place], int(label))
            values.append(value)
    return sum(values) // max(1, len(values)), [block(v[rows], -15, model.rounds) for rows in groups(model, len(v))]


def softmax_error(model: QuantModel, q: Ints, label: int) -> tuple[int, Ints]:
    """The loss of a position's logits, and their error in Q15."""
    d = q.max() - q
    w = exponential(model, d)
    total = int(w.sum())
    p = (w * 2**15 + total // 2) // total
    onehot = np.arange(len(d)) == label
    scaled = int32(np.array(d[label] * softmax_constants(model)[0] + 8)) >> 4
    return int(scaled) + logarithm(total), within_grid(p - 2**15 * onehot, q)


def class_rows(stats: ClassStats, classes: list[ClassRow]) -> list[tuple[Ints, int]]:
    """Row and bias of every class: first the base's classes, with the adapter's row if it has one; then added ones."""
    own = {row.number: (row.row.astype(np.int64), row.bias) for row in classes}
    known = [own.pop(k, (stats.rows[k].astype(np.int64), int(stats.biases[k]))) for k in range(len(stats.biases))]
    return known + [own[number] for number in sorted(own)]


def class_logits(model: QuantModel, rows: list[tuple[Ints, int]], x: Ints, q: Ints) -> Ints:
    """Logits of all classes from the last layer's inputs x, minus their zero point, and its outputs q."""
    assert model.class_stats
    scale, exponent = softmax_constants(model)[0], model.class_stats.exponent
    scores = np.array([int((row * x).sum()) + bias for row, bias in rows])
    scores[: len(q)] -= ((q.max() - q) * scale) >> (16 - exponent)
    below = scores.max() - scores
    most = (255 * scale) >> (16 - exponent)
    return 127 - np.where(below >= most, 255, (np.minimum(below, most) << (16 - exponent)) // scale)


def class_loss(
    model: QuantModel, classes: list[ClassRow], x: Ints, q: Ints, label: int
) -> tuple[int, GroupError, GroupError]:
    """The loss over all classes, and the errors of the last layer's outputs q and, through rows, of its inputs x."""
    assert model.class_stats
    rows, known = class_rows(model.class_stats, classes), len(q)
    place = label if label < known else known + sorted(c.number for c in classes if c.number >= known).index(label)
    logits = class_logits(model, rows, x, q)
    scale = softmax_constants(model)[0]
    w = exponential(model, logits.max() - logits)
    total = int(w.sum())
    d = (w * 2**15 + total // 2) // total - 2**15 * (np.arange(len(rows)) == place)
    value = (int((logits.max() - logits[place]) * scale + 8) >> 4) + logarithm(total)
    outputs = d[:known].copy()
    outputs[int(q.argmax())] -= d[:known].sum()
    bits = scale.bit_length()
    mantissa = scale >> (bits - 16) if bits > 16 else scale << (16 - bits)
    g = trunc_shift(int32(d * (2**30 // mantissa)), 16)
    inputs = int32((g[:, None] * np.array([row for row, _ in rows])).sum(axis=0))
    return (
        value,
        block(within_grid(outputs, q), -15, model.rounds),
        block(inputs, 3 - bits - model.class_stats.exponent, model.rounds),
    )


def binary_cross_entropy(model: QuantModel, q: Ints, goal: Ints) -> tuple[int, Ints, int]:
    d = q - model.loss_tensor.zero_point
    w = exponential(model, np.abs(d))
    positive = 2**31 // (2**16 + w)
    p = np.where(d >= 0, positive, 2**15 - positive)
    e, x = block(within_grid(p - 2**15 * goal, q), -15, model.rounds)
    wrong = (d != 0) & ((d > 0) != (goal == 1))
    scaled = int32(np.abs(d) * softmax_constants(model)[0] + 8) >> 4
    value = sum(logarithm(2**16 + int(v)) for v in w) + int(scaled[wrong].sum())
    return min(value, 2**31 - 1), e, x


def mean_squared_error(model: QuantModel, q: Ints, goal: Ints) -> tuple[int, Ints, int]:
    e, x = block(q - goal, 0, model.rounds)
    total, n = int(((q - goal) ** 2).sum()), len(q)
    return total // n * 16 + total % n * 16 // n, e, x


# --- 5. Backward pass ---


@dataclass
class Gradient:
    """A tensor times 2^exponent: G of a micro-batch, or the product of one sample."""

    value: Ints
    exponent: int


Gradients = dict[tuple[int, str], Gradient]  # by op index and "a" or "b"


GroupError = tuple[Ints, int]  # int8 values of some positions, or all, and their exponent
Error = list[GroupError]  # of a tensor, by groups of positions
NOTHING = -(2**15)  # the exponent of a group that nothing has arrived at


def groups(model: QuantModel, positions: int) -> list[slice]:
    """The positions whose errors share an exponent: all, or a sequence's in groups."""
    step = GROUP if model.rounds and model.learns_sequences else positions
    return [slice(first, min(first + step, positions)) for first in range(0, positions, step)]


def backward(
    model: QuantModel, adapter: Adapter, traces: list[Trace], error: Error, below: GroupError | None = None
) -> list[Gradients]:
    """dB and, for a trainable A, dA of every layer that a sample's error reaches, by frame, the last first, and
    group of positions.

    traces: of its frames; error: of the loss tensor in the last; below: of the last op's input.
    """
    needs = needed(model, {layer.op: layer for layer in adapter.layers})
    errors: dict[int, Error] = {}
    head = model.ops[-1].input
    if below is not None and head and needs[head - 1]:
        merge_error(model, errors, head, 0, (below[0].reshape(traces[-1].y[head].shape), below[1]))
    for group, part in enumerate(error):
        merge_error(model, errors, model.loss_index, group, part)
    carries: dict[int, GroupError] = {}
    found = []
    for trace in reversed(traces):
        for products in frame_backward(model, adapter, trace, errors, carries):
            found.append({key: product for key, product in products.items() if adapter.trainable_a or key[1] == "b"})
        errors = {}
    return found


def frame_backward(
    model: QuantModel, adapter: Adapter, trace: Trace, errors: dict[int, Error], carries: dict[int, GroupError]
) -> list[Gradients]:
    """The products of one frame, by groups. errors: by tensor, where the loss meets the network.

    carries: by op, of a history's output from the frame behind; replaced by those for the frame before.
    """
    layers = {layer.op: layer for layer in adapter.layers}
    needs, products = needed(model, layers), [Gradients() for _ in groups(model, most_positions(model))]

    def passes(index: int, parts: list[GroupError], only: int | None = None) -> None:
        """Merges errors of an op's inputs, of all groups or of one alone."""
        for source, (e, x) in zip(model.ops[index].inputs, parts, strict=True):
            if source > 0 and needs[source - 1]:
                for group, rows in enumerate(groups(model, model.tensors[source].positions)):
                    if only is None:
                        merge_error(model, errors, source, group, (e[rows], x))
                    elif only == group:
                        merge_error(model, errors, source, group, (e, x))

    for index in reversed(range(model.training_ops)):
        arrived, op = errors.pop(index + 1, None), model.ops[index]
        if arrived is not None and not any(e.any() for e, _ in arrived):
            arrived = None
        if not needs[index] or (arrived is None and index not in carries):
            continue
        if op.kind == "history":
            passed = history_backward(model, index, joined(arrived) if arrived else None, carries)
            passes(index, [passed])
        elif len(arrived) > 1 and goes_by_rows(model, op):
            for group, (rows, part) in enumerate(zip(groups(model, len(trace.y[index + 1])), arrived, strict=True)):
                own, its = some_rows(model, index, trace, rows)
                error = masked(op, its.y[index + 1], part)
                if error[0].any():
                    passed = op_backward(own, index, layers.get(index), its, error, products[group])
                    passes(index, passed, group)
        elif op.kind == "attend":
            of_rows = zip(groups(model, len(trace.y[index + 1])), arrived, strict=True)
            error = [masked(op, trace.y[index + 1][rows], part) for rows, part in of_rows]
            for source, parts in zip(op.inputs, attend_backward(model, op, trace, error), strict=True):
                for group, part in enumerate(parts):
                    if source > 0 and needs[source - 1]:
                        merge_error(model, errors, source, group, part)
        else:
            error = masked(op, trace.y[index + 1], joined(arrived))
            passes(index, op_backward(model, index, layers.get(index), trace, error, products[0]))
    return products


def most_positions(model: QuantModel) -> int:
    return max(tensor.positions for tensor in model.tensors)


def joined(error: Error) -> GroupError:
    """Errors of all groups with one exponent, the largest of those that are not 0 everywhere."""
    if len(error) == 1:
        return error[0]
    top = max(x for e, x in error if e.any())
    return np.concatenate([rounded(e, min(top - x, 31)) if e.any() else e for e, x in error]), top


def goes_by_rows(model: QuantModel, op: Op) -> bool:
    """Does each position of the output depend on the same position of the inputs alone?"""
    if op.kind in ("conv", "project"):
        same = model.tensors[op.input].shape[:2] == model.tensors[op.output].shape[:2]
        return same and op.kernel == op.stride == (1, 1) and op.padding == (0, 0)
    if op.kind in ("add", "multiply"):
        return model.tensors[op.input2].shape == model.tensors[op.output].shape
    return op.kind in ("embed", "widen", "norm", "rotate", "lookup")


def some_rows(model: QuantModel, index: int, trace: Trace, rows: slice) -> tuple[QuantModel, Trace]:
    """The model and the trace of some positions of an op that goes by rows."""
    op, own = model.ops[index], copy.copy(model)
    own.ops, own.tensors, its = list(model.ops), list(model.tensors), Trace(list(trace.y))
    own.ops[index] = copy.copy(op)
    if op.angles is not None:
        own.ops[index].angles = op.angles[rows]
    for tensor in {*op.inputs, op.output}:
        its.y[tensor] = trace.y[tensor][rows]
        shape = len(its.y[tensor]), 1, model.tensors[tensor].shape[2]
        own.tensors[tensor] = replace(model.tensors[tensor], shape=shape)
    its.patches = {i: patch[rows] for i, patch in trace.patches.items() if i == index}
    its.t = {i: t[rows] for i, t in trace.t.items() if i == index}
    return own, its


def history_backward(
    model: QuantModel, index: int, arrived: GroupError | None, carries: dict[int, GroupError]
) -> GroupError:
    """The error of a history's input. What belongs to inputs of frames before becomes its carry."""
    op = model.ops[index]
    target, source = model.tensors[op.output], model.tensors[op.input]
    carried = carries.pop(index, None)
    parts = [carried] if carried else []
    if arrived:
        parts.append((arrived[0].reshape(-1) * 128, arrived[1] - 7))
    x = max(exponent for _, exponent in parts)
    v = sum((trunc_shift(part, x - exponent) for part, exponent in parts), start=0 * parts[0][0])
    older, newest = np.split(v, [target.size - source.size])
    if older.any():
        n = max(0, int(np.abs(older).max()).bit_length() - 14)
        carries[index] = np.concatenate([0 * v[: source.size], trunc_shift(older, n)]), x + n
    q, exponent = block(newest, x, model.rounds)
    return q.reshape(-1, source.shape[2]), exponent


def needed(model: QuantModel, layers: dict[int, AdapterLayer]) -> list[bool]:
    """For each op, whether its output requires grad."""
    needs: list[bool] = []
    for index, op in enumerate(model.ops):
        needs.append(index in layers or any(source > 0 and needs[source - 1] for source in op.inputs))
    return needs


def merge_error(model: QuantModel, errors: dict[int, Error], tensor: int, group: int, new: GroupError) -> None:
    """Adds a contribution to the error of a group of a tensor; one that is 0 everywhere changes nothing."""
    if not new[0].any():
        return
    if tensor not in errors:
        size = model.tensors[tensor].shape[2]
        rows = groups(model, model.tensors[tensor].positions)
        errors[tensor] = [(np.zeros((part.stop - part.start, size), np.int64), NOTHING) for part in rows]
    (q1, x1), (q2, x2) = errors[tensor][group], new
    if x1 != NOTHING:
        x = max(x1, x2)
        new = block(trunc_shift(q1, x - x1) + trunc_shift(q2, x - x2), x, model.rounds)
    errors[tensor][group] = new


def masked(op: Op, y: Ints, error: GroupError) -> GroupError:
    blocked = (op.mask_low & (y == op.act_min)) | (op.mask_high & (y == op.act_max))
    return np.where(blocked, 0, error[0]), error[1]


def op_backward(
    model: QuantModel, index: int, layer: AdapterLayer | None, trace: Trace, error: GroupError, products: Gradients
) -> list[GroupError]:
    """The errors of an op's inputs from the error of its output, with the mask applied; adds to `products`."""
    op, (e, x) = model.ops[index], error
    if op.kind in ("embed", "project", "widen"):
        if op.kind == "project":
            below = matrix_backward(model, index, layer, trace, e, x, products)
        elif op.kind == "widen":
            below = block(e * (int(op.multiplier[0]) >> 16), x + int(op.shift[0]) - 15, model.rounds)
        else:
            below = np.zeros_like(trace.y[0]), x
        return [below, error][: len(op.inputs)]
    if op.kind == "norm":
        return [norm_backward(model, op, trace.y[op.input], e, x)]
    if op.kind == "rotate":
        return [block(turned(op, e, -1), x - 15, model.rounds)]
    if op.kind in ("conv", "dense"):
        return [matrix_backward(model, index, layer, trace, e, x, products)]
    if op.kind == "depthwise":
        return [depthwise_backward(model, op, e, x)]
    if op.kind == "mean":
        q, x = block(e * (int(op.multiplier[0]) >> 16), x + int(op.shift[0]) - 15, model.rounds)
        return [(np.broadcast_to(q, trace.y[op.input].shape), x)]
    if op.kind == "average_pool":
        return [average_pool_backward(model, op, e, x)]
    if op.kind == "max_pool":
        return [max_pool_backward(model, op, trace.y[op.input], e, x)]
    if op.kind in PAIR_KINDS:
        return [pair_backward(model, op, k, trace, e, x) for k in range(2)]
    if op.kind == "matmul":
        q, x = block(e * (int(op.multiplier[0]) >> 16), x + int(op.shift[0]) - 15, model.rounds)
        q = image(model, op.output, q)
        a, b = (image(model, i, centred(model, i, trace.y[i])) for i in op.inputs)
        made = (int32(q @ b), int32(q.transpose(0, 2, 1) @ a))
        return [block(v.reshape(-1, v.shape[2]), x, model.rounds) for v in made]
    if op.kind == "gather":
        places = gathered(model, op, np.arange(trace.y[op.input].size).reshape(model.tensors[op.input].shape))
        v = np.zeros(trace.y[op.input].size, e.dtype)
        np.add.at(v, places.reshape(-1), e.reshape(-1))
        return [block(v.reshape(trace.y[op.input].shape), x, model.rounds)]
    if op.kind == "concatenate":
        at = model.tensors[op.input].shape[op.axis - 1]
        slices = np.split(image(model, op.output, e), [at], axis=op.axis - 1)
        return [(part.reshape(-1, part.shape[2]), x) for part in slices]
    if op.kind == "slice":
        whole = np.zeros(model.tensors[op.input].shape, e.dtype)
        along = tuple(sliced(model, op) if axis == op.axis - 1 else slice(None) for axis in range(3))
        whole[along] = image(model, op.output, e)
        return [(whole.reshape(trace.y[op.input].shape), x)]
    if op.kind == "pad":
        return [(image(model, op.output, e)[inner(model, op)].reshape(-1, e.shape[1]), x)]
    if op.kind == "reshape":
        return [(e.reshape(trace.y[op.input].shape), x)]
    if op.kind in ("svdf_features", "svdf_time"):
        return [svdf_backward(model, op, e, x)]
    if op.kind == "lookup":
        return [block(e * op.slope.astype(np.int64)[trace.y[op.input] + 128], x + int(op.shift[0]), model.rounds)]
    p = trace.y[index + 1] + 128
    spread = int32(p * (256 * e - (p * e).sum(axis=1, keepdims=True)))
    return [block(trunc_shift(spread, 8) * int(op.shift[0]), x - 8 + int(op.shift[1]), model.rounds)]


def svdf_backward(model: QuantModel, op: Op, e: Ints, x: int) -> GroupError:
    """Errors of 16-bit values are those of their second bytes, in whose unit they are."""
    q, x = block(e.reshape(-1) * (int(op.multiplier[0]) >> 16), x + int(op.shift[0]) - 15, model.rounds)
    height, width, channels = model.tensors[op.input].shape
    if op.kind == "svdf_features":
        v = int32(q[1::2] @ op.weights.astype(np.int64))
        q, x = block(v, x - 8, model.rounds)
    else:
        v = q[:, None, None] * op.taps.astype(np.int64)  # [units, memory, rank]
        values = np.stack([0 * v, v], axis=-1).transpose(1, 0, 2, 3)
        q, x = block(values, x + 8, model.rounds)
    return q.reshape(height * width, channels), x


def pair_backward(model: QuantModel, op: Op, k: int, trace: Trace, e: Ints, x: int) -> GroupError:
    """The error of input k of an op of two inputs."""
    if op.kind == "prelu" and k:  # a constant
        return np.zeros_like(trace.y[op.input2]), x
    first, second = trace.y[op.input], repeated(model, op, trace.y[op.input2])
    a, b = first - model.tensors[op.input].zero_point, second - model.tensors[op.input2].zero_point
    if op.kind == "multiply":
        e, x = block(e * (int(op.multiplier[0]) >> 16), x + int(op.shift[0]) - 15, model.rounds)
        e = e * (a if k else b)
    elif op.kind == "squared_difference":
        e = e * round_shift(apart(op, a, b), 7)
    elif op.kind in ("minimum", "maximum"):
        takes = first <= second if op.kind == "minimum" else first >= second
        e = np.where(takes != bool(k), e, 0)
    elif op.kind == "prelu":
        m, s = op.multiplier.astype(np.int64) >> 16, op.shift.astype(int)
        top = max(s[0], s[1] + 8)
        e = e * np.where(a >= 0, trunc_shift(m[0], top - s[0]), trunc_shift(m[1] * b, top - s[1]))
        x = x + int(top) - 15
    if k and (shape := model.tensors[op.input2].shape) != model.tensors[op.output].shape:
        whole = image(model, op.output, e)
        e = whole.sum(axis=tuple(i for i in range(3) if shape[i] == 1), keepdims=True).reshape(-1, shape[2])
        if op.kind == "add":
            e, x = block(e, x, model.rounds)
    if op.kind in ("add", "squared_difference"):
        units, sign = 20, int(np.sign(op.multiplier[k]))
        if op.kind == "squared_difference":
            (e, x), units, sign = block(e, x, model.rounds), 15, 1 - 2 * k
        high = np.abs(op.multiplier.astype(np.int64)) >> 16
        factor = sign * (high[k] * high[2] >> 15)
        return block(e * factor, x - 15 + units + int(op.shift[k]) + int(op.shift[2]), model.rounds)
    return block(e, x, model.rounds)


def norm_backward(model: QuantModel, op: Op, rows: Ints, e: Ints, x: int) -> GroupError:
    r, half, fraction, xh = normalized(op, rows)
    d = rows.shape[1]
    a, x = block(e * op.gain.astype(np.int64), x - int(op.shift[0]), model.rounds)
    products = int32((a * xh).sum(axis=1, keepdims=True))
    m2 = np.sign(products) * (np.abs(products) >> fraction)
    m1 = a.sum(axis=1, keepdims=True) if op.centred else 0
    v = int32(int32(d * a - m1 << fraction) - int32(xh * m2))
    n = np.array([[max(0, bits(row.max()) - 15)] for row in np.abs(v)])
    w = int32(np.sign(v) * (np.abs(v) >> n) * r)
    size = n + half - fraction
    top = int(size.max())
    by = np.minimum(top - size, 62)
    return block(np.sign(w) * (np.abs(w) >> by), x + top - 31, model.rounds)


def attend_backward(model: QuantModel, op: Op, trace: Trace, error: Error) -> list[Error]:
    """The errors of queries, keys and values."""
    q, k, v = (trace.y[i] for i in op.inputs)
    (_, m, factor), (_, t, xk) = op.multiplier.tolist(), op.shift.tolist()
    heads = heads_of(model, op, trace)
    x = max(exponent for e, exponent in error if e.any())
    lower = np.concatenate([np.full((len(e), 1), min(x - exponent, 31)) for e, exponent in error])
    e = np.concatenate([e for e, _ in error])
    n = max(0, bits(127 * 128 * (q.shape[1] // op.heads[0])) - 14)
    weights = []
    for head in heads:
        products = trunc_shift(int32(e[:, head.own] @ v[:, head.shared].T), n)
        mean = trunc_shift(int32((head.p * products).sum(axis=1, keepdims=True)), 15)
        w = int32(head.p * (products - mean))
        weights.append(np.sign(w) * (np.abs(w) >> lower))
    b = max(0, bits(np.abs(weights).max()) - 14)
    dq, dk, dv = (np.zeros_like(array) for array in (q, k, v))
    for head, w in zip(heads, weights, strict=True):
        g = trunc_shift(int32(trunc_shift(w, b) * factor), 15)
        dq[:, head.own] = int32(g @ k[:, head.shared])
        dk[:, head.shared] = int32(dk[:, head.shared] + g.T @ q[:, head.own])
        p = trunc_shift(int32(head.p * m), 15) >> lower
        dv[:, head.shared] = int32(dv[:, head.shared] + p.T @ e[:, head.own])
    score = x + n - 15 + b + xk
    exponents = (score, score, x - 15 + t)
    return [
        [block(array[rows], y, model.rounds) for rows in groups(model, len(array))]
        for array, y in zip((dq, dk, dv), exponents, strict=True)
    ]


def max_pool_backward(model: QuantModel, op: Op, source: Ints, e: Ints, x: int) -> GroupError:
    first = windows(model, op, source, -129).argmax(axis=1)  # [positions, channels]
    winners = np.take_along_axis(taps(model, op), first, axis=1)
    v = np.zeros(source.shape, e.dtype)
    np.add.at(v, (winners, np.arange(e.shape[1])), e)
    return block(v, x, model.rounds)


def depthwise_backward(model: QuantModel, op: Op, e: Ints, x: int) -> GroupError:
    height, width, channels = model.tensors[op.input].shape
    a, xa = accumulator_error(model, op, e, x)
    window = taps(model, op)
    parts = a[:, None, :] * op.weights.astype(np.int64).reshape(1, -1, a.shape[1])
    v = np.zeros((height * width + 1, channels), a.dtype)
    np.add.at(v, window, parts.reshape(*window.shape, channels, -1).sum(axis=3))
    return block(v[:-1], xa, model.rounds)


def accumulator_error(model: QuantModel, op: Op, e: Ints, x: int) -> GroupError:
    top = int(op.shift.max())
    by = 16 + top - op.shift.astype(np.int64)
    m = np.where(by > 31, 0, op.multiplier.astype(np.int64) >> np.minimum(by, 31))
    return block(e * m, x + top - 15, model.rounds)


def average_pool_backward(model: QuantModel, op: Op, e: Ints, x: int) -> tuple[Ints, int]:
    positions = model.tensors[op.input].shape[0] * model.tensors[op.input].shape[1]
    window = taps(model, op)
    count = window_counts(window, positions)
    share = e * ((2**15 + count // 2) // count)
    v = np.zeros((positions + 1, e.shape[1]), e.dtype)
    np.add.at(v, window, share[:, None, :])
    return block(v[:positions], x - 15, model.rounds)


def matrix_backward(
    model: QuantModel, index: int, layer: AdapterLayer | None, trace: Trace, e: Ints, x: int, products: Gradients
) -> tuple[Ints, int]:
    """Adds the layer's dB and dA to `products`; returns the error of its input."""
    op, rows = model.ops[index], trace.patches[index]
    if layer is not None:
        products[index, "b"] = Gradient(int32(e.T @ trace.t[index]), x)
    a, xa = accumulator_error(model, op, e, x)
    base = input_sums(model, op, a @ weight_matrix(op))
    if layer is None:
        return block(base, xa, model.rounds)
    u, xu = block(int32(a @ layer.b.astype(np.int64)), xa, model.rounds)
    products[index, "a"] = Gradient(int32(u.T @ rows), xu)
    low = input_sums(model, op, u @ layer.a.astype(np.int64))
    xl = xu + layer.branch_shift - layer.t_shift
    xm = max(xa, xl)
    return block(int32(trunc_shift(base, xm - xa) + trunc_shift(low, xm - xl)), xm, model.rounds)


def input_sums(model: QuantModel, op: Op, by_patch: Ints) -> Ints:
    """Sums [positions, K] over all entries that read the same input element: [input positions, C]."""
    height, width, channels = model.tensors[op.input].shape
    if op.kind == "dense":
        return int32(by_patch.reshape(height * width, channels))
    window = taps(model, op)
    sums = np.zeros((height * width + 1, channels), by_patch.dtype)
    np.add.at(sums, window, by_patch.reshape(*window.shape, channels))
    return int32(sums[:-1])


def accumulate(total: Gradient | None, product: Gradient) -> Gradient:
    if total is None:
        return product
    if product.exponent > total.exponent:
        old = trunc_shift(total.value, product.exponent - total.exponent)
        return Gradient(int32(old + product.value), product.exponent)
    new = trunc_shift(product.value, total.exponent - product.exponent)
    return Gradient(int32(total.value + new), total.exponent)


# --- 6. Update ---


def mean_size(g: Ints, x: int) -> tuple[int, int]:
    """(am, ax): mantissa in [2^15, 2^16) and exponent of the mean magnitude of g * 2^x, rounded up."""
    am, ax = -(-int(np.abs(g).sum()) // g.size), x
    while am < 2**15:
        am, ax = 2 * am, ax - 1
    return am, ax


def follow(vm: int, vx: int, am: int, ax: int) -> tuple[int, int]:
    """The tensor's scale after a gradient of mean size (am, ax)."""
    if vm == 0:
        return am, ax
    vm -= vm >> 5
    if vm < 2**15:
        vm, vx = 2 * vm, vx - 1
    return (am, ax) if (ax, am) > (vx, vm) else (vm, vx)


def update(
    state: TensorState, gradient: Gradient, momentum: int, threshold: int, learning_rate: int, draws: Ints, k: int
) -> int:
    """Updates one tensor; returns how many of `draws` it used, at most one for each element."""
    h = max(0, int(np.abs(gradient.value).max()).bit_length() - 15)
    g, x = trunc_shift(gradient.value, h), gradient.exponent + h
    state.vm, state.vx = follow(state.vm, state.vx, *mean_size(g, x))
    s = 20 + state.vx - x
    u = np.sign(g) * 2**14 if s < 0 else trunc_shift(int32(g * (2**31 // state.vm)), s)
    u = np.clip(u, -(2**14), 2**14)
    taken = np.abs(u) >= threshold
    step = u = u[taken]
    if momentum > 0:
        n = state.momentum[taken].astype(np.int64)
        step = np.clip(n + round_shift(u - n, momentum), -(2**14), 2**14)
        state.momentum[taken] = step
    if k == 16:  # weight decay of B
        step = step + round_shift(state.master[taken].astype(np.int64), 6)
    delta = int32(step * learning_rate + (draws[: len(step)] >> (32 - k))) >> k
    state.master[taken] = np.clip(state.master[taken] - delta, -32512, 32512)
    return len(step)


def weights_of(master: NDArray[np.int16]) -> NDArray[np.int8]:
    return ((master.astype(np.int64) + 128) >> 8).astype(np.int8)


# --- 7. Random numbers ---


def mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    low = np.uint64(2**32 - 1)
    z = (z ^ z >> np.uint64(16)) * np.uint64(0x85EBCA6B) & low
    z = (z ^ z >> np.uint64(13)) * np.uint64(0xC2B2AE35) & low
    return z ^ z >> np.uint64(16)


def numbers(seed: int, k: int, first: int, count: int) -> Ints:
    """`count` numbers of stream(seed, k), from number `first` on."""
    stream = int(mix(np.array((seed + k * GOLDEN) % 2**32, np.uint64)))
    n = (first + np.arange(count, dtype=np.uint64)) & np.uint64(2**32 - 1)
    return mix((np.uint64(stream) + n * np.uint64(GOLDEN)) & np.uint64(2**32 - 1)).astype(np.int64)


def initial_a(seed: int, index: int, rank: int, weights: Ints, pointwise: bool) -> NDArray[np.int8]:
    """A of an op with weights [O, K]: signed sums of all rows of W, on disjoint parts of the inputs or orthogonal."""
    signs = 2 * (numbers(seed, index + 1, 0, rank * len(weights)) >> 31) - 1
    groups = -(-weights.shape[1] // 4)
    part = np.arange(weights.shape[1]) // 4
    rows: list[Ints] = []
    for j, sign in enumerate(signs.reshape(rank, -1)):
        row = sign @ weights
        if pointwise and groups >= rank:
            mine = (part >= j * groups // rank) & (part < (j + 1) * groups // rank)
            rows.append(block(np.where(mine, row, 0), 0)[0])
            continue
        row = block(row, 0)[0]
        for other in rows:
            norm = int(other @ other) // 128
            if norm:
                along = int(row @ other)
                row = block(128 * row - abs(along) // norm * (1 if along > 0 else -1) * other, 0)[0]
        rows.append(row)
    return np.stack(rows).astype(np.int8)


# --- Training ---


def fresh_adapter(
    model: QuantModel,
    ranks: dict[int, int],
    seed: int,
    base_id: bytes,
    trainable_a: bool = False,
    momentum: int = 0,
    threshold: int = 0,
) -> Adapter:
    """An untrained adapter with a rank for each op of `ranks`, and fresh training state."""
    adapter = Adapter(base_id, seed, [], trainable_a, trainable_a, momentum=momentum, threshold=threshold)
    for index, rank in sorted(ranks.items()):
        op = model.ops[index]
        weights = weight_matrix(op)
        pointwise = op.kind in ("conv", "project") and op.kernel == (1, 1)
        a, b = initial_a(seed, index, rank, weights, pointwise), np.zeros((len(weights), rank), np.int8)
        adapter.layers.append(AdapterLayer(index, a, b, op.t_shift, op.branch_shift))
    return adapter


def fresh_state(weights: NDArray[np.int8], momentum: int) -> TensorState:
    master = (256 * np.maximum(weights.astype(np.int64), -127)).astype(np.int16)
    return TensorState(0, 0, master, np.zeros_like(master) if momentum else None)


class Trainer:
    """Trains a copy of `adapter`, in its own mode and momentum unless others are given.

    It continues from the adapter's training state; without state, or with another mode or momentum, it starts afresh.
    """

    def __init__(
        self,
        model: QuantModel,
        adapter: Adapter,
        micro_batch: int = 1,
        trainable_a: bool | None = None,
        momentum: int | None = None,
    ) -> None:
        self.model, self.micro_batch, self.pending = model, micro_batch, 0
        self.adapter = copy.deepcopy(adapter)
        self.gradients: Gradients = {}
        mode = (
            adapter.trainable_a if trainable_a is None else trainable_a,
            adapter.momentum if momentum is None else momentum,
        )
        if not adapter.has_state or mode != (adapter.trainable_a, adapter.momentum):
            self._start_anew(*mode)

    def _start_anew(self, trainable_a: bool, momentum: int) -> None:
        adapter = self.adapter
        adapter.trainable_a, adapter.momentum = trainable_a, momentum
        adapter.a_stored |= trainable_a
        adapter.updates = adapter.draws = adapter.samples = 0
        for layer in adapter.layers:
            layer.b_state = fresh_state(layer.b, momentum)
            layer.b = weights_of(layer.b_state.master)
            layer.a_state = fresh_state(layer.a, momentum) if trainable_a else None
            if layer.a_state is not None:
                layer.a = weights_of(layer.a_state.master)

    def train(self, x: NDArray, target: int | NDArray, learning_rate: int) -> int:
        """Learns one sample (see `loss` for its target) and returns its loss before the update."""
        traces = forward_frames(self.model, x, self.adapter)
        trace = traces[-1]
        q, below = trace.y[self.model.loss_index].reshape(-1), None
        if self.adapter.classes:
            head = self.model.ops[-1].input
            inputs = trace.y[head].reshape(-1) - self.model.tensors[head].zero_point
            value, (e, exponent), below = class_loss(self.model, self.adapter.classes, inputs, q, int(target))
            error = [(e.reshape(1, -1), exponent)]
        else:
            value, error = loss(self.model, q, target)
        for products in backward(self.model, self.adapter, traces, error, below):
            for key, product in products.items():
                self.gradients[key] = accumulate(self.gradients.get(key), product)
        self.adapter.samples = (self.adapter.samples + 1) % 2**32
        self.pending += 1
        if self.pending == self.micro_batch:
            self.flush(learning_rate)
        return value

    def flush(self, learning_rate: int) -> None:
        """Updates with the samples since the last update, if there are any."""
        if self.pending == 0:
            return
        for layer in self.adapter.layers:
            if layer.a_state is not None:
                self._update(layer.op, "a", layer.a_state, learning_rate)
                layer.a = weights_of(layer.a_state.master)
            self._update(layer.op, "b", layer.b_state, learning_rate)
            layer.b = weights_of(layer.b_state.master)
        self.gradients, self.pending = {}, 0
        self.adapter.updates = (self.adapter.updates + 1) % 2**32

    def _update(self, index: int, which: str, state: TensorState, learning_rate: int) -> None:
        gradient = self.gradients.get((index, which))
        if gradient is None or not gradient.value.any():
            return
        adapter, count = self.adapter, gradient.value.size
        draws = numbers(adapter.seed, 0, adapter.draws, count)
        settings = (adapter.momentum, adapter.threshold, learning_rate)
        taken = update(state, gradient, *settings, draws, 15 if which == "a" else 16)
        adapter.draws = (adapter.draws + taken) % 2**32

    def export(self, state: bool = True) -> Adapter:
        """The current adapter, with or without training state."""
        adapter = copy.deepcopy(self.adapter)
        if not state:
            for layer in adapter.layers:
                layer.a_state = layer.b_state = None
        return adapter


# --- Feature cache, merge ---


def cut(model: QuantModel, lowest: int) -> list[int]:
    """The tensors before op `lowest` that it and later ops read, ascending."""
    read = {source for op in model.ops[lowest:] for source in op.inputs if source <= lowest}
    return sorted(source for source in read if not source or model.ops[source - 1].kind != "constant")


def merge(model: QuantModel, layer: AdapterLayer) -> QuantModel:
    """The model with a layer's branch rounded into its weights."""
    merged = copy.deepcopy(model)
    op = merged.ops[layer.op]
    product = layer.b.astype(np.int64) @ layer.a.astype(np.int64)
    n = layer.t_shift - layer.branch_shift
    change = (product + 2 ** (n - 1)) >> n if n > 0 else product << -n
    op.weights = np.clip(weight_matrix(op) + change, -127, 127).astype(np.int8).reshape(op.weights.shape)
    return merged


# --- Sums of adapters (section 3) ---


def blend(model: QuantModel, adapters: list[Adapter], weights: list[int], fine: bool = True) -> Adapter | None:
    """The sum of adapters, each times its weight in 1/4096; None if it can't be expressed as an adapter."""
    stored = any(adapter.a_stored or adapter.seed != adapters[0].seed for adapter in adapters)
    layers = []
    for index in sorted({layer.op for adapter in adapters for layer in adapter.layers}):
        parts = [
            (a, layer, w) for a, w in zip(adapters, weights, strict=True) for layer in a.layers if layer.op == index
        ]
        groups = same_as(parts)
        stored |= len(groups) > 1
        layer = blended_layer(index, groups, fine)
        if layer is None or not fits(model, layer):
            return None
        layers.append(layer)
    return Adapter(adapters[0].base_id, adapters[0].seed, layers, a_stored=bool(stored))


Part = tuple[Adapter, AdapterLayer, int]  # an adapter, its layer, and its weight


def same_as(parts: list[Part]) -> list[list[Part]]:
    """Groups of parts with the same A, in the order of their first part."""
    groups: list[list[Part]] = []
    for part in parts:
        for group in groups:
            (one, its, _), (other, mine, _) = group[0], part
            same = its.a.shape == mine.a.shape and its.t_shift == mine.t_shift and one.a_stored == other.a_stored
            if same and (np.array_equal(its.a, mine.a) if one.a_stored else one.seed == other.seed):
                group.append(part)
                break
        else:
            groups.append([part])
    return groups


def blended_layer(index: int, groups: list[list[Part]], fine: bool) -> AdapterLayer | None:
    t_shift = max(layer.t_shift for group in groups for _, layer, _ in group)
    rows, columns = [], []
    for group in groups:
        a, coarser = group[0][1].a.astype(np.int64), t_shift - group[0][1].t_shift
        n = max(n for n in range(coarser + 1) if n == 0 or np.abs(a).max() * 2**n <= 127)
        rows.append(a * 2**n)
        columns.append([(layer.b.astype(np.int64) * w, layer.branch_shift + coarser - n) for _, layer, w in group])
    exponents = [x for column in columns for _, x in column]
    top = max(exponents)
    sums = [sum(round_shift(v, min(top - x, 31)) for v, x in column) for column in columns]
    b = np.concatenate(sums, axis=1)
    shift = max(-15 if fine else min(*exponents, 8), top - 12)
    while shift <= 8 and round_shift(np.abs(b), 12 + shift - top).max() > 127:
        shift += 1
    if shift > 8:
        return None
    b = round_shift(b, 12 + shift - top)
    return AdapterLayer(index, np.concatenate(rows).astype(np.int8), b.astype(np.int8), t_shift, shift)


def fits(model: QuantModel, layer: AdapterLayer) -> bool:
    rank, positions = len(layer.a), model.tensors[model.ops[layer.op].output].positions
    return rank <= 32 and max(layer.a.size, layer.b.size) <= 65536 and rank * positions <= 2**20
