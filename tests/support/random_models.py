"""Random QuantModels, reproducible by seed, calibrated so that activations and adapter branches are not constant.

There are two sorts: *device* models use everything that `.elm` allows (any padding, odd zero points, edge multipliers);
*oracle* models use only what a `.tflite` file can express, with multipliers computed from the scales.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from random_ops import DrawnOp
from reference import (
    RECURRENT_KINDS,
    Trace,
    depthwise_sums,
    fresh_adapter,
    op_forward,
    patches,
    repeated,
    trainable,
    weight_matrix,
)

from edgelora.core.formats.ela import Adapter, AdapterLayer
from edgelora.core.formats.elm import base_id, pack_model
from edgelora.core.formats.fixed_point import (
    LOGISTIC_GRID,
    LOOKUPS,
    SOFTMAX_GRID,
    TANH_GRID,
    derive,
    logistic_table,
    quantize_multiplier,
)
from edgelora.core.formats.limits import MAX_FACTOR, MAX_PATCH
from edgelora.core.formats.network import (
    AXIS_KINDS,
    MASK_KINDS,
    PAIR_KINDS,
    POOL_KINDS,
    SAME_GRID_KINDS,
    TWO_INPUT_KINDS,
    WEIGHT_KINDS,
    WINDOW_KINDS,
    Op,
    QuantModel,
    Tensor,
    gather_axes,
    id_bytes,
    layer_size,
)


@dataclass(frozen=True)
class Plan:
    """Size ranges of a model."""

    height: int
    width: int
    channels: int
    outputs: int


SHAPES = {"small": Plan(6, 12, 4, 6), "medium": Plan(14, 40, 10, 24), "wide": Plan(6, 130, 5, 9)}
BLOCKS = {  # groups of ops that a chain can have in addition to single kinds
    "residual": ("depthwise or conv", "add"),
    "branches": ("conv", "conv", "concatenate"),
    "gate": ("lookup", "add"),
    "twice": ("concatenate", "conv", "add"),  # three readers of one tensor
    "autoencoder": ("dense", "reshape"),
    "svdf": ("svdf_features", "history", "svdf_time"),
}
CHAINS = {  # of kinds and BLOCKS, all of them
    "dense": ("dense",),
    "denses": ("dense", "dense", "dense"),
    "conv": ("conv", "dense"),
    "convs": ("conv", "conv", "mean"),
    "average_pool": ("conv", "average_pool", "dense"),
    "mean": ("conv", "mean", "dense"),
    "depthwise": ("conv", "depthwise", "depthwise", "dense"),
    "max_pool": ("conv", "max_pool", "dense"),
    "residual": ("conv", "residual", "residual", "dense"),
    "branches": ("conv", "branches", "concatenate", "dense"),
    "lookup": ("conv", "lookup", "dense", "lookup"),
    "softmax": ("conv", "softmax", "dense", "softmax"),
    "shapes": ("conv", "pad", "reshape", "slice", "conv", "slice", "dense"),
    "stream": ("history", "conv", "history", "depthwise", "conv", "history", "dense"),
    "autoencoder": ("conv", "dense", "autoencoder"),
    "products": ("conv", "multiply", "prelu", "multiply", "dense"),
    "sums": ("conv", "repeated", "difference", "dense"),
    "extremes": ("conv", "minimum", "conv", "maximum", "dense"),
    "differences": ("conv", "squared_difference", "conv", "dense"),
    "matmuls": ("conv", "matmul", "softmax", "matmul", "dense"),
    "moves": ("conv", "gather", "conv", "gather", "dense"),
    "transposed": ("conv", "transposed", "conv", "mean", "dense"),
    "recurrent": ("conv", "recurrent", "dense"),
    "svdf": ("conv", "svdf", "dense"),
}


def random_model(
    seed: int,
    size: str = "small",
    kinds: tuple[str, ...] | None = None,
    oracle: bool = False,
    edges: bool = True,
    loss: str = "cross_entropy",
) -> QuantModel:
    """A model of some ops, or of the given `kinds` and BLOCKS in order; `edges` adds edge-case values (device only).

    If the last op does not suit the loss, a dense layer is appended.
    """
    builder = Builder(np.random.default_rng(seed), SHAPES[size], oracle, edges)
    model = builder.model
    kinds = kinds or _random_kinds(builder.rng, loss, MIDDLE if oracle else (*MIDDLE, *FORWARD))
    for index, kind in enumerate(kinds):
        last = index == len(kinds) - 1
        if last and kind in ("softmax", "lookup"):
            builder.end_for(loss)
        builder.block(kind, last and builder.rng.random() < 0.8)
    model.loss, model.rounds = loss, seed // 2 % 2 == 1
    builder.end_for(loss)
    model.labels = [f"class {i}" for i in range(model.loss_tensor.shape[2])] if loss == "cross_entropy" else []
    return model


def model_of(drawn: DrawnOp) -> QuantModel:
    """A model whose last op is the drawn one; unless that is alone, 1x1 convolutions before it compute its inputs."""
    rng = np.random.default_rng(drawn.seed)
    first = (*drawn.source[:2], int(rng.integers(1, 4)))
    builder = Builder(rng, SHAPES["small"], drawn.tflite, drawn.edges, drawn.source if drawn.alone else first, inputs=2)
    if drawn.kind == "svdf_time":  # int16 has none
        builder.model.tensors[0] = Tensor(drawn.source, builder.model.input.scale, 0)
    if not drawn.alone:
        builder.op("conv", drawn=DrawnOp("conv", first, drawn.source))
        if drawn.source2:
            made = builder.model.tensors[1]
            same = drawn.kind in SAME_GRID_KINDS or (drawn.kind == "add" and rng.random() < 0.3)
            grid = (made.scale, made.zero_point) if same else None
            if drawn.known:
                builder.constant(drawn.source2, grid)
            elif drawn.source2[:2] == first[:2]:
                builder.op("conv", 0, grid=grid, drawn=DrawnOp("conv", first, drawn.source2))
            else:
                to = _rows_to if drawn.kind == "matmul" else _window_to
                builder.op("conv", 0, grid=grid, drawn=to(first, drawn.source2))
    end = len(builder.model.ops)
    builder.op(drawn.kind, end - 1 if drawn.source2 else end, end if drawn.source2 else None, drawn=drawn)
    if drawn.edges:
        _edge_sums(rng, builder.model.ops[-1])
    builder.model.loss, builder.model.rounds = "mean_squared_error", drawn.seed % 2 == 1
    return builder.model


def _window_to(source: Shape, target: Shape) -> DrawnOp:
    """A 1x1 convolution with stride, whose output is broadcast along axes."""
    stride = tuple(255 if target[i] == 1 else 1 for i in range(2))
    return DrawnOp("conv", source, target, stride=stride)


def _rows_to(source: Shape, target: Shape) -> DrawnOp:
    """A convolution whose output has fewer columns."""
    return DrawnOp("conv", source, target, kernel=(1, source[1] - target[1] + 1))


def random_target(rng: np.random.Generator, model: QuantModel) -> int | NDArray[np.int8]:
    """A label or, in a sequence, an id of each position; or a target for each value of the loss tensor."""
    if model.learns_sequences:
        return id_bytes(_random_ids(rng, model.classes, model.loss_tensor.positions), model.classes)
    if model.loss == "cross_entropy":
        return int(rng.integers(model.loss_tensor.size))
    low, high = (0, 2) if model.loss == "binary_cross_entropy" else (-128, 128)
    return rng.integers(low, high, model.loss_tensor.size).astype(np.int8)


def random_frames(rng: np.random.Generator, model: QuantModel) -> int:
    """A number of frames for a sample: 1 unless the model has history."""
    return int(rng.integers(1, 5)) if model.has_history else 1


def random_sample(rng: np.random.Generator, model: QuantModel, frames: int) -> NDArray[np.int8]:
    """Frames of random inputs, int8 [frames, height, width, channels]."""
    return np.stack([random_input(rng, model) for _ in range(frames)])


def random_input(rng: np.random.Generator, model: QuantModel) -> NDArray[np.int8]:
    """An int8 input: noise or one of the extremes, or ids."""
    if embed := next((op for op in model.ops if op.embedding is not None), None):
        ids = _random_ids(rng, len(embed.embedding), model.input.positions)
        return id_bytes(ids, len(embed.embedding)).reshape(model.input.shape)
    choice = rng.integers(0, 6)
    if choice == 0:
        return np.full(model.input.shape, rng.choice([-128, 127, model.input.zero_point]), np.int8)
    if choice == 1:
        return rng.choice(np.array([-128, 127], np.int8), model.input.shape)
    return rng.integers(-128, 128, model.input.shape).astype(np.int8)


def _random_ids(rng: np.random.Generator, symbols: int, count: int) -> NDArray[np.int64]:
    """Mostly ids of symbols, of which few are different in some inputs, and of none."""
    ids = rng.integers(0, rng.choice([1, 2, symbols, symbols]), count)
    most = 256 if symbols <= 256 else 65536
    return np.where(rng.random(count) < 0.1, rng.integers(min(symbols, most - 1), most, count), ids)


def random_ranks(rng: np.random.Generator, model: QuantModel) -> dict[int, int]:
    """Ranks for some of the layers that can have an adapter, at least one."""
    able = trainable(model)
    chosen = [index for index in able if rng.random() < 0.7] or able[:1]
    return {index: int(rng.integers(1, min(7, MAX_FACTOR // max(layer_size(model, index)) + 1))) for index in chosen}


def random_adapter(
    rng: np.random.Generator,
    model: QuantModel,
    trainable_a: bool = False,
    momentum: int = 0,
    ranks: dict[int, int] | None = None,
) -> Adapter:
    """An adapter as after long training: B and a trainable A are noise. Without training state; ranks: None: random."""
    seed = int(rng.integers(0, 2**32))
    ranks = ranks or random_ranks(rng, model)
    adapter = fresh_adapter(model, ranks, seed, base_id(pack_model(model)), trainable_a, momentum)
    for layer in adapter.layers:
        _fill(rng, layer, trainable_a)
    return adapter


def _fill(rng: np.random.Generator, layer: AdapterLayer, trainable_a: bool) -> None:
    size = int(rng.choice([10, 60, 127]))
    layer.b = rng.integers(-size, size + 1, layer.b.shape).astype(np.int8)
    if trainable_a:
        layer.a = rng.integers(-127, 128, layer.a.shape).astype(np.int8)


# --- TFLite's named settings as numbers ---


def fused_range(tensor: Tensor, mask_low: bool, mask_high: bool) -> tuple[int, int]:
    """act_min and act_max of a fused activation: NONE, RELU (low) or RELU6 (both)."""
    scale = np.float32(tensor.scale)
    six = tensor.zero_point + math.floor(float(np.float32(6.0) / scale) + 0.5)
    return max(-128, tensor.zero_point) if mask_low else -128, min(127, six) if mask_high else 127


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """(output size, padding before) of SAME."""
    out = -(-size // stride)
    return out, max(0, (out - 1) * stride + dilation * (kernel - 1) + 1 - size) // 2


NEAREST = ((False, False), (False, True), (True, False))  # align_corners and half_pixel_centers


def nearest(source: Shape, target: Shape, align: bool, half: bool) -> NDArray[np.uint16]:
    """The positions of a gather that resizes height and width, computed in float32 like TFLite's."""
    found = []
    for size, wanted in zip(source[:2], target[:2], strict=True):
        corners = align and wanted > 1
        scale = np.float32(size - 1) / np.float32(wanted - 1) if corners else np.float32(size) / np.float32(wanted)
        place = (np.arange(wanted).astype(np.float32) + np.float32(0.5 * half)) * scale
        found.append(np.minimum(np.floor(place + np.float32(0.5) if align else place), size - 1))
    return np.concatenate([*found, np.arange(source[2])]).astype(np.uint16)


# --- Building models ---

MIDDLE = (
    *("conv",) * 4,
    *("depthwise", "residual", "max_pool", "lookup", "gate", "twice") * 2,
    *("branches", "average_pool", "pad", "add", "concatenate", "reshape", "softmax", "slice"),
    *("history",) * 2,
    *("multiply", "minimum", "maximum", "prelu", "repeated", "difference", "gather", "transposed", "recurrent"),
)
FORWARD = ("lstm", "svdf")  # test_lstm.py and test_stream.py test those that TFLite can express


def _random_kinds(rng: np.random.Generator, loss: str, middle: tuple[str, ...]) -> tuple[str, ...]:
    """Kinds with at least one layer that can have an adapter."""
    body = [str(kind) for kind in rng.choice(middle, rng.integers(0, 6))]
    if loss == "mean_squared_error" and rng.random() < 0.7:
        return (*body, "dense", "autoencoder") if rng.random() < 0.5 else (*body, "conv")
    ending = ["mean"] if rng.random() < 0.4 else []
    if rng.random() < 0.2 and {"conv", "branches"} & set(body) and not {*FORWARD} & set(body):
        return (*body, "mean")
    head = {"cross_entropy": "softmax", "binary_cross_entropy": "lookup", "mean_squared_error": "lookup"}[loss]
    return (*body, *ending, "dense", *([head] if rng.random() < 0.3 else []))


def _scale(rng: np.random.Generator) -> float:
    return float(np.float32(np.exp(rng.uniform(-5, -1.5))))


def _zero_point(rng: np.random.Generator) -> int:
    return int(rng.choice([-128, 127, 0, *rng.integers(-128, 128, 5)]))


Shape = tuple[int, int, int]


@dataclass
class Builder:
    """Appends ops; a few inputs calibrate each, so that its output uses the int8 range."""

    rng: np.random.Generator
    plan: Plan
    oracle: bool
    edges: bool
    source: Shape | None = None
    inputs: int = 4
    model: QuantModel = field(init=False)
    traces: list[Trace] = field(init=False)

    def __post_init__(self) -> None:
        rng, plan = self.rng, self.plan
        height = 1 if rng.random() < 0.5 else int(rng.integers(2, plan.height + 1))
        shape = (height, int(rng.integers(3, plan.width + 1)), int(rng.integers(1, plan.channels + 1)))
        shape = self.source or shape
        self.model = QuantModel([Tensor(shape, _scale(rng), _zero_point(rng))], [])
        batch = rng.integers(-128, 128, (self.inputs, shape[0] * shape[1], shape[2]))
        self.traces = [Trace([x.astype(np.int64)]) for x in batch]

    @property
    def shape(self) -> Shape:
        return self.model.tensors[-1].shape

    def end_for(self, loss: str) -> None:
        """Appends an op if the last output does not suit the loss."""
        one = self.shape[0] * self.shape[1] == 1 and self.shape[2] >= 2
        if not one and loss == "cross_entropy" or not self.model.ops or math.prod(self.shape) > 250:
            self._dense(last=True)

    def _dense(self, last: bool, shape: Shape | None = None) -> None:
        """Appends a dense layer, after a mean over positions if there are too many inputs."""
        if math.prod(self.shape) > MAX_PATCH:
            self.op("mean")
        self.op("dense", shape=shape, last=last)

    def block(self, kind: str, last: bool = False) -> None:
        """Appends a kind or one of BLOCKS to the last tensor."""
        end, shape = len(self.model.ops), self.shape
        if kind in ("residual", "gate"):
            inner = str(self.rng.choice(["conv", "depthwise"])) if kind == "residual" else "lookup"
            self.op(inner, shape=shape)
            self.op("add", end + 1, end, last=last)
        elif kind == "twice":
            self.op("concatenate", end, end, axis=3)
            self.op("conv", shape=shape)
            self.op("add", end + 2, end, last=last)
        elif kind == "branches":
            axis = int(self.rng.integers(1, 4))
            wanted = [*shape[:2], int(self.rng.integers(1, self.plan.outputs + 1))]
            self.op("conv", shape=tuple(wanted))
            first = self.model.tensors[-1]
            wanted[axis - 1] = wanted[axis - 1] if axis < 3 else int(self.rng.integers(1, self.plan.outputs + 1))
            self.op("conv", end, shape=tuple(wanted), grid=(first.scale, first.zero_point))
            self.op("concatenate", end + 1, end + 2, axis=axis)
        elif kind == "autoencoder":
            self._dense(last, (1, 1, self.model.input.size))
            self.op("reshape", shape=self.model.input.shape)
        elif kind == "transposed":
            self._transposed(last)
        elif kind == "recurrent":
            self._recurrent()
        elif kind == "svdf":
            self._svdf()
        elif kind == "lstm" and (shape[2] > 60 or shape[0] * shape[1] > 150):
            self._dense(last)
        elif kind == "matmul":
            self.op("conv", shape=shape)
            self.op("matmul", end, end + 1, last=last)
        elif kind in PAIR_KINDS and kind != "add" or kind == "repeated":
            self._pair(kind if kind != "repeated" else str(self.rng.choice(["add", "multiply"])), last)
        elif kind == "difference":
            self._pair("add", last, int(self.rng.integers(0, 2)))
        elif kind == "dense":
            self._dense(last)
        else:
            self.op(kind, last=last)

    def _recurrent(self) -> None:
        """Two steps of a gated recurrent unit over halves of the input, unrolled as converters do it."""
        source, units = len(self.model.ops), int(self.rng.integers(2, 5))
        along = next((i for i in range(3) if self.shape[i] > 1), 2)
        state = None
        for step in range(2):
            sides = list(self.model.tensors[source].shape)
            start = step * (sides[along] // 2)
            sides[along] = max(1, sides[along] // 2)
            drawn = DrawnOp("slice", (1, 1, 1), tuple(sides), axis=along + 1, start=start)
            self.op("slice", source, drawn=drawn)
            self.op("dense", shape=(1, 1, 3 * units))
            new = self._gates(units, range(3) if step else (2,))
            if state is None:
                state = self._made("lookup", new[0], function="tanh")
                continue
            self.op("dense", state, shape=(1, 1, 3 * units))
            held = self._gates(units, range(3))
            keep, reset = (
                self._made("lookup", self._made("add", new[i], held[i]), function="logistic") for i in range(2)
            )
            fresh = self._made("add", new[2], self._made("multiply", reset, held[2]))
            fresh = self._made("lookup", fresh, function="tanh")
            change = self._made("add", fresh, state, takes_off=1)
            state = self._made("add", state, self._made("multiply", keep, change))

    def _svdf(self) -> None:
        """Appends an SVDF layer with int16 state."""
        if math.prod(self.shape) > MAX_PATCH:
            self.op("mean")
        units, rank, memory = (int(self.rng.integers(1, most)) for most in (7, 4, 6))
        self.op("svdf_features", shape=(1, 1, 2 * units * rank))
        if memory > 1:
            wide = self.shape
            self.op("history", drawn=DrawnOp("history", wide, (memory, 1, wide[2])))
        self.op("svdf_time", shape=(1, 1, units))

    def _gates(self, units: int, parts: Iterable[int]) -> list[int]:
        """Some of the three parts of the last tensor's channels."""
        whole = len(self.model.ops)
        shape = self.model.tensors[whole].shape
        return [
            self._made("slice", whole, drawn=DrawnOp("slice", shape, (1, 1, units), start=i * units)) for i in parts
        ]

    def _made(
        self,
        kind: str,
        source: int,
        other: int | None = None,
        function: str | None = None,
        takes_off: int = -1,
        drawn: DrawnOp | None = None,
    ) -> int:
        """Appends an op and returns the tensor that it writes."""
        shape = self.model.tensors[source].shape
        drawn = drawn or DrawnOp(kind, shape, shape, source2=shape, takes_off=takes_off)
        self.op(kind, source, other, drawn=drawn, function=function)
        return len(self.model.ops)

    def _transposed(self, last: bool) -> None:
        """Appends a transposed convolution: a pad that inserts zeros between positions, and a convolution."""
        rng, source = self.rng, self.shape
        if source[0] * source[1] > 100:
            return self.op("conv", last=last)
        stride = (1, int(rng.integers(2, 4))) if source[0] == 1 else (int(rng.integers(2, 4)), int(rng.integers(1, 4)))
        kernel = tuple(int(rng.integers(1, 6)) for _ in range(2))
        parted = tuple((source[i] - 1) * stride[i] + 1 for i in range(2))
        same = rng.random() < 0.5  # SAME of the output: a convolution of that has the input's size
        spare = [int(rng.integers(0, stride[i])) for i in range(2)]
        if same:
            out = [source[i] * stride[i] - spare[i] for i in range(2)]
            before = [same_padding(out[i], kernel[i], stride[i], 1)[1] for i in range(2)]
        else:
            out, before = [(source[i] - 1) * stride[i] + kernel[i] + spare[i] for i in range(2)], (0, 0)
        padding = (kernel[0] - 1 - before[0], kernel[1] - 1 - before[1])
        outputs = int(rng.integers(1, self.plan.outputs + 1))
        self.op("pad", drawn=DrawnOp("pad", source, (*parted, source[2]), stride=stride))
        drawn = DrawnOp("conv", (*parted, source[2]), (*out, outputs), kernel, padding=padding)
        self.op("conv", drawn=drawn, last=last)

    def _pair(self, kind: str, last: bool, takes_off: int = -1) -> None:
        """Appends an op of two inputs: with a constant, or with another op of the same tensor; one may be broadcast."""
        rng, end, shape = self.rng, len(self.model.ops), self.shape
        made = self.model.tensors[end]
        grid = (made.scale, made.zero_point) if kind in SAME_GRID_KINDS else None
        if kind == "prelu" or rng.random() < 0.3:
            self.constant(tuple(1 if rng.random() < 0.5 else side for side in shape), grid)
        elif rng.random() < 0.5:
            self.op("dense", shape=(1, 1, shape[2]), grid=grid)
        else:
            self.op("conv", shape=shape, grid=grid)
        self.op(kind, end, end + 1, last=last, takes_off=takes_off)

    def op(
        self,
        kind: str,
        source: int | None = None,
        source2: int | None = None,
        shape: Shape | None = None,
        grid: tuple[float, int] | None = None,
        axis: int | None = None,
        last: bool = False,
        drawn: DrawnOp | None = None,
        function: str | None = None,
        takes_off: int = -1,
    ) -> None:
        """Appends one op; arguments that are None are random. A window kind with a given shape has stride 1."""
        end = len(self.model.ops)
        op = Op(kind, end if source is None else source, end + 1)
        if kind in TWO_INPUT_KINDS:
            op.input2 = self._partner(op) if source2 is None else source2
        op.axis = axis or (int(self.rng.integers(1, 4)) if kind in AXIS_KINDS else 3)
        target = _as_drawn(op, drawn) if drawn else self._shape(op, shape)
        origin = self.model.tensors[op.input]
        self.model.ops.append(op)
        self.model.tensors.append(Tensor(target, origin.scale, origin.zero_point))
        fused = int(self.rng.integers(0, 3)) if self.rng.random() < 0.8 and not last else 0
        clamps = kind in MASK_KINDS and not (kind == "mean" and self.oracle)
        if clamps:
            op.mask_low, op.mask_high = fused > 0, fused > 1
        if kind not in SAME_GRID_KINDS:
            self._quantize(op, grid, function)
        if clamps:
            op.act_min, op.act_max = _range(self.rng, op, self.model.tensors[-1], self.oracle)
        self.edge(op)
        takes_off = drawn.takes_off if drawn else takes_off
        if takes_off >= 0:
            op.multiplier[takes_off] *= -1
        if kind == "gather" and not self.oracle and (target != _turned(op, origin.shape) or self.rng.random() < 0.5):
            counts = [target[axis] for axis in gather_axes(op)]
            parts = [self.rng.integers(0, size, count) for size, count in zip(origin.shape, counts, strict=True)]
            op.positions = np.concatenate(parts).astype(np.uint16)
        if kind == "history" and self.rng.random() < 0.4:
            op.initial = self.rng.integers(-128, 128, math.prod(target) - origin.size).astype(np.int8)
        for trace in self.traces:
            trace.y.append(op_forward(self.model, end, trace))

    def constant(self, shape: Shape, grid: tuple[float, int] | None) -> None:
        """Appends a constant."""
        scale, zero_point = grid or (_scale(self.rng), _zero_point(self.rng))
        op = Op("constant", 0, len(self.model.ops) + 1, values=self.rng.integers(-128, 128, shape).astype(np.int8))
        self.model.ops.append(op)
        self.model.tensors.append(Tensor(shape, scale, zero_point))
        for trace in self.traces:
            trace.y.append(op_forward(self.model, op.output - 1, trace))

    def _partner(self, op: Op) -> int:
        """A second input: any tensor of the same shape if grids may differ, else the first input again."""
        shape = self.model.tensors[op.input].shape
        parted = {made.output for made in self.model.ops if made.kind == "pad" and made.stride != (1, 1)}
        unsaid = parted if self.oracle else set()  # inside a TRANSPOSE_CONV, which no other operator can read
        same = [i for i, tensor in enumerate(self.model.tensors) if tensor.shape == shape and i not in unsaid]
        return int(self.rng.choice(same)) if op.kind in ("add", "multiply") else op.input

    def _shape(self, op: Op, wanted: Shape | None) -> Shape:
        """The output's shape; sets the op's geometry. A window kind with `wanted` keeps the input's positions."""
        rng, source = self.rng, self.model.tensors[op.input].shape
        if op.kind in WINDOW_KINDS:
            height, width = self._same_geometry(op) if wanted else _geometry(rng, op, source, self.oracle)
            channels = int(rng.integers(1 if op.output > 1 else 2, self.plan.outputs + 1))
            if op.kind == "depthwise":
                channels = source[2] * int(rng.integers(1, max(1, self.plan.outputs // source[2]) + 1))
            return wanted or (height, width, channels if op.kind not in POOL_KINDS else source[2])
        if op.kind == "lstm":
            all_of_them = rng.random() < 0.5
            return wanted or (*(source[:2] if all_of_them else (1, 1)), int(rng.integers(1, self.plan.outputs + 1)))
        if op.kind in ("svdf_features", "svdf_time"):
            assert wanted
            return wanted
        if op.kind in ("dense", "mean"):
            channels = int(rng.integers(2, self.plan.outputs + 1)) if op.kind == "dense" else source[2]
            return wanted or (1, 1, channels)
        if op.kind == "concatenate":
            other = self.model.tensors[op.input2].shape
            return tuple(n + other[i] if i == op.axis - 1 else n for i, n in enumerate(source))
        if op.kind == "slice":
            sides = list(source)
            sides[op.axis - 1] = int(rng.integers(1, source[op.axis - 1] + 1))
            op.start = int(rng.integers(0, source[op.axis - 1] - sides[op.axis - 1] + 1))
            return tuple(sides)
        if op.kind == "history":  # along the first axis longer than 1, or one before it
            along = int(rng.integers(0, 1 + next((i for i in range(3) if source[i] > 1), 2)))
            return tuple(n + int(rng.integers(1, 2 * n + 4)) if i == along else n for i, n in enumerate(source))
        if op.kind == "pad":
            op.padding = tuple(int(v) for v in rng.integers(0, 3, 2))
            return tuple(source[i] + op.padding[i] + int(rng.integers(0, 3)) for i in range(2)) + source[2:]
        if op.kind == "gather":
            if self.oracle and rng.random() < 0.5:
                target = tuple(int(min(rng.integers(1, 3 * n + 1), 40)) for n in source[:2])
                op.positions = nearest(source, (*target, source[2]), *NEAREST[rng.integers(3)])
                return (*target, source[2])
            op.axes = tuple(int(axis) for axis in rng.permutation([1, 2, 3])[:2])
            if self.oracle:
                return _turned(op, source)
            more = rng.integers(1, 3, 3) if rng.random() < 0.5 else (1, 1, 1)
            return tuple(int(min(n * by, 60)) for n, by in zip(_turned(op, source), more, strict=True))
        if op.kind == "matmul":
            return (*source[:2], self.model.tensors[op.input2].shape[1])
        if op.kind == "reshape":
            size = math.prod(source)
            factors = [n for n in range(1, size + 1) if size % n == 0 and size // n <= 64]
            width = int(rng.choice(factors))
            return wanted or (1, width, size // width)
        return source

    def _same_geometry(self, op: Op) -> tuple[int, int]:
        """Stride 1 and padding so that the output has the input's positions."""
        source = self.model.tensors[op.input].shape
        op.kernel = tuple(int(self.rng.integers(1, min(4, size) + 1)) for size in source[:2])
        op.padding = tuple((kernel - 1) // 2 for kernel in op.kernel)
        return source[:2]

    def _quantize(self, op: Op, grid: tuple[float, int] | None, function: str | None = None) -> None:
        """Sets an op's weights and its output's grid, and derives the rest."""
        rng, model, source = self.rng, self.model, self.model.tensors[op.input]
        function = function or str(rng.choice(LOOKUPS))
        fixed = {"softmax": SOFTMAX_GRID, "logistic": LOGISTIC_GRID, "tanh": TANH_GRID}
        name = function if op.kind == "lookup" else op.kind
        if op.kind in RECURRENT_KINDS:
            return _forward_op(rng, model, op, self.edges and not self.oracle)
        if op.kind in WEIGHT_KINDS:
            spread = self.weigh(op)
            grid = grid or (_scale(rng), self._zero_point(op))
            unit = grid[0] * float(rng.uniform(25, 60)) / spread / source.scale
            outputs = len(op.bias)
            many = op.kind != "dense" or rng.random() < 0.5
            ratios = np.exp(rng.uniform(-0.7, 0.7, outputs)) if many else np.ones(outputs)
            op.weight_scale = (unit * ratios).astype(np.float32).astype(np.float64)
        elif name in fixed:
            grid = fixed[name]
        else:
            grid = grid or (self._real_spread(op) / float(rng.uniform(25, 60)), self._zero_point(op))
        model.tensors[-1] = Tensor(model.tensors[-1].shape, float(np.float32(grid[0])), grid[1])
        derive(model, op, function)

    def _zero_point(self, op: Op) -> int:
        """A random zero point; a low one for a fused activation."""
        if op.mask_low:
            return -128 if self.rng.random() < 0.7 else int(self.rng.integers(-128, 0))
        return _zero_point(self.rng)

    def weigh(self, op: Op) -> float:
        """Sets random weights, a bias that centers the accumulators, adapter shifts; the accumulators' spread."""
        rng, model = self.rng, self.model
        outputs = model.tensors[op.output].shape[2]
        source = model.tensors[op.input]
        depth = source.size if op.kind == "dense" else source.shape[2]
        shape = (*op.kernel, outputs) if op.kind == "depthwise" else (outputs, *op.kernel, depth)
        op.weights = np.clip(np.rint(rng.normal(0, 45, shape)), -127, 127).astype(np.int8)
        op.bias = np.zeros(outputs, np.int32)
        inputs = [trace.y[op.input] for trace in self.traces]
        if op.kind == "depthwise":
            acc = np.stack([depthwise_sums(model, op, x) for x in inputs])
        else:
            acc = np.stack([patches(model, op, x) @ weight_matrix(op).T for x in inputs])
            _branch_shifts(rng, model, op, inputs, acc)
        spread = float(acc.std()) + 1
        op.bias = np.rint(-acc.mean(axis=(0, 1)) + rng.normal(0, 0.5, outputs) * spread).astype(np.int32)
        return spread

    def _real_spread(self, op: Op) -> float:
        """The standard deviation of an op's real output, for kinds without weights; with a lower limit."""
        real = [[self._real(i, trace) for i in op.inputs] for trace in self.traces]
        if op.kind in ("multiply", "prelu"):
            real = [[pair[0] * repeated(self.model, op, pair[1])] for pair in real]
        elif op.kind == "add":
            real = [[pair[0] + repeated(self.model, op, pair[1])] for pair in real]
        elif op.kind == "squared_difference":
            real = [[np.square(pair[0] - repeated(self.model, op, pair[1]))] for pair in real]
        elif op.kind == "matmul":
            images = [self.model.tensors[i].shape for i in op.inputs]
            pairs = [[x.reshape(shape) for x, shape in zip(pair, images, strict=True)] for pair in real]
            real = [[a @ b.transpose(0, 2, 1)] for a, b in pairs]
        values = [pair[0].mean(axis=0) if op.kind == "mean" else pair[0] for pair in real]
        scales = [self.model.tensors[i].scale for i in op.inputs]
        least = max(scales) ** 2 if op.kind == "squared_difference" else max(scales)
        return max(float(np.std(values)), least)

    def _real(self, index: int, trace: Trace) -> NDArray[np.float64]:
        tensor = self.model.tensors[index]
        return tensor.scale * (trace.y[index] - tensor.zero_point)

    def edge(self, op: Op) -> None:
        """Sets values that no quantizer would choose, if the model is to have some."""
        if self.oracle or not self.edges:
            return
        if op.kind in WEIGHT_KINDS or op.kind in ("multiply", "matmul", "prelu") and self.rng.random() < 0.3:
            _edge_multipliers(self.rng, op)
        elif op.kind == "lookup" and self.rng.random() < 0.3:
            op.table = self.rng.integers(-128, 128, 256).astype(np.int8)
            op.slope = self.rng.integers(-127, 128, 256).astype(np.int8) * np.int8(self.rng.integers(0, 2))
            op.shift[0] += self.rng.integers(0, 9)


def _forward_op(rng: np.random.Generator, model: QuantModel, op: Op, edges: bool) -> None:
    """Sets the arrays of an lstm or SVDF, with values that use the range, and its output's grid."""
    source, target = model.tensors[op.input], model.tensors[op.output]
    zero_point = 0 if op.kind == "svdf_features" else _zero_point(rng)
    model.tensors[op.output] = Tensor(target.shape, _scale(rng), zero_point)
    if op.kind == "lstm":
        return _lstm_arrays(rng, op, source, target.shape[2], edges)
    if op.kind == "svdf_features":
        op.weights = rng.integers(-127, 128, (target.shape[2] // 2, source.size)).astype(np.int8)
        op.bias = rng.integers(-3000, 3000, len(op.weights)).astype(np.int32)
        ratio = float(rng.uniform(0.5, 4)) * 2 / math.sqrt(source.size)
    else:
        memory, _, wide = source.shape
        units = target.shape[2]
        op.taps = rng.integers(-(2**15), 2**15, (units, memory, wide // 2 // units)).astype(np.int16)
        op.bias = rng.integers(-(2**31), 2**31, units).astype(np.int32) >> int(rng.choice([0, 4, 16]))
        ratio = float(rng.uniform(0.3, 3)) * 2**-24
    pair = quantize_multiplier(ratio)
    op.multiplier, op.shift = np.array([pair[0]], np.int32), np.array([pair[1]], np.int8)
    if edges and rng.random() < 0.3:
        _edge_multipliers(rng, op)


def _lstm_arrays(rng: np.random.Generator, op: Op, source: Tensor, units: int, edges: bool) -> None:
    inputs = source.shape[2]
    op.weights = rng.integers(-127, 128, (units, 4, inputs + units)).astype(np.int8)
    op.bias = rng.integers(-5000, 5000, (units, 4, 2)).astype(np.int32)
    gain = float(rng.choice([0.3, 1, 4]))
    gates = [gain / math.sqrt(n) * float(rng.uniform(0.5, 2)) for _ in range(4) for n in (inputs, units)]
    power = int(rng.integers(-5, 3))  # exponent from the cell's grid to Q12
    reals = [*gates, 2.0**-15, 2.0 ** -(30 - 12 + power), float(rng.uniform(100, 300)) * 2.0**-30]
    pairs = np.array([quantize_multiplier(real) for real in reals])
    clip = int(rng.choice([2**15, 2**15 - 1, 3000, 0], p=[0.5, 0.3, 0.15, 0.05]))
    op.multiplier = np.array([*pairs[:, 0], clip, *logistic_table()], np.int32)
    op.shift = np.array([*pairs[:, 1], _zero_point(rng), power], np.int8)
    if edges and rng.random() < 0.3:
        scales = Op("lstm", 0, 1, multiplier=op.multiplier[:11], shift=op.shift[:11])  # views
        _edge_multipliers(rng, scales)
        op.shift[12] = rng.choice([-15, 14, power])
        op.bias = np.where(rng.random(op.bias.shape) < 0.1, rng.choice([-(2**30), 2**30]), op.bias).astype(np.int32)
        if rng.random() < 0.5:
            op.multiplier[12:] = rng.integers(2**15, 2**16, 256)


def _as_drawn(op: Op, drawn: DrawnOp) -> Shape:
    op.kernel, op.stride, op.dilation, op.padding = drawn.kernel, drawn.stride, drawn.dilation, drawn.padding
    op.axis, op.start, op.axes = drawn.axis, drawn.start, drawn.axes
    return drawn.target


def _turned(op: Op, shape: Shape) -> Shape:
    """The output of a gather without positions."""
    axes = gather_axes(op)
    return tuple(shape[axes.index(axis)] for axis in range(3))


def _geometry(rng: np.random.Generator, op: Op, source: Shape, oracle: bool) -> tuple[int, int]:
    """Sets kernel, stride, dilation and padding; returns the output's height and width."""
    plan = [_axis(rng, source[axis], op.kind, oracle) for axis in range(2)]
    if oracle:  # one padding type and, in TFLite, no dilation with stride; pools have no dilation at all
        same = bool(rng.random() < 0.5)
        plan = [_tflite_axis(size, *axis[:3], same) for size, axis in zip(source[:2], plan, strict=True)]
    op.kernel, op.stride, op.dilation, op.padding, out = (tuple(axis[i] for axis in plan) for i in range(5))
    return out


def _axis(rng: np.random.Generator, size: int, kind: str, oracle: bool) -> tuple[int, int, int, int, int]:
    """(kernel, stride, dilation, padding before, output size) of one axis."""
    kernel, stride = int(rng.integers(1, min(5, size) + 1)), int(rng.integers(1, 4))
    reach = (size - 1) // (kernel - 1) if kernel > 1 else 1
    dilation = int(rng.integers(1, min(3, reach) + 1)) if kind not in POOL_KINDS else 1  # pools have none
    span = dilation * (kernel - 1) + 1
    before = int(rng.integers(0, kernel))
    after = int(rng.integers(0, kernel))
    out = max(1, (size + before + after - span) // stride + 1)
    if kind in POOL_KINDS:  # every window must touch the input
        while not _touches(size, kernel, stride, dilation, before, out):
            before, out = max(0, before - 1), max(1, out - 1)
    return kernel, stride, dilation, before, out


def _touches(size: int, kernel: int, stride: int, dilation: int, before: int, out: int) -> bool:
    element = np.arange(out)[:, None] * stride - before + np.arange(kernel) * dilation
    return bool(((element >= 0) & (element < size)).any(axis=1).all())


def _tflite_axis(size: int, kernel: int, stride: int, dilation: int, same: bool) -> tuple[int, int, int, int, int]:
    span = dilation * (kernel - 1) + 1
    out, before = same_padding(size, kernel, stride, dilation) if same else ((size - span) // stride + 1, 0)
    return kernel, stride, dilation, before, out


def _branch_shifts(rng: np.random.Generator, model: QuantModel, op: Op, inputs: list[NDArray], acc: NDArray) -> None:
    """Sets t_shift so that t has a standard deviation of about 40; branch_shift, so that a full B's branch has the
    accumulators' deviation."""
    a = rng.integers(-127, 128, (4, weight_matrix(op).shape[1]))
    spread = np.std([patches(model, op, x) @ a.T for x in inputs])
    op.t_shift = int(np.clip(np.rint(np.log2(spread / 40 + 1)), 0, 24))
    op.branch_shift = int(np.clip(np.rint(np.log2((acc.std() + 1) / (60 * 40))), -15, 8))


def _range(rng: np.random.Generator, op: Op, target: Tensor, oracle: bool) -> tuple[int, int]:
    low, high = fused_range(target, op.mask_low, op.mask_high)
    if oracle or low < high and rng.random() < 0.5:
        return low, high
    low = int(rng.integers(-128, 0)) if op.mask_low else -128
    return low, int(rng.integers(low, 128)) if op.mask_high else 127


def _edge_sums(rng: np.random.Generator, op: Op) -> None:
    """Sets biases up to the limit, and any shifts of the branch."""
    if op.kind in WEIGHT_KINDS and rng.random() < 0.7:
        large = rng.integers(-(2**30), 2**30 + 1, len(op.bias)) >> rng.integers(0, 14, len(op.bias))
        op.bias = np.where(rng.random(len(op.bias)) < rng.choice([0.1, 1]), large, op.bias).astype(np.int32)
    if op.is_matrix and rng.random() < 0.7:
        op.t_shift, op.branch_shift = int(rng.integers(0, 25)), int(rng.integers(-15, 9))


def _edge_multipliers(rng: np.random.Generator, op: Op) -> None:
    """Sets multipliers of a few channels that no float quantizer would choose, and left shifts."""
    for channel in range(len(op.multiplier)):
        choice = rng.integers(0, 40)
        if choice < 4:  # the same factor, written with a left shift
            left = int(rng.integers(1, 9))
            shift = int(op.shift[channel])
            op.multiplier[channel] >>= min(31, left - shift) if shift < left else 0
            op.shift[channel] = max(shift, left)
        elif choice == 4:
            op.multiplier[channel], op.shift[channel] = 0, rng.integers(-31, 31)
        elif choice == 5:
            op.multiplier[channel] = 2**31 - 1
        elif choice == 6:
            op.shift[channel] = rng.choice([-31, 30])


def ranks_of(model: QuantModel, ranks: dict[int, int]) -> bytes:
    """The rank of each op, one byte each, as sessions take them."""
    return bytes(ranks.get(i, 0) for i in range(len(model.ops)))
