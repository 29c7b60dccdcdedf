"""Networks of random weights for measurements, with realistic activations and errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import log2, prod

import numpy as np

from edgelora.core.formats.fixed_point import SOFTMAX_GRID, derive, quantize_multiplier
from edgelora.core.formats.network import (
    MATRIX_KINDS,
    SAME_GRID_KINDS,
    TWO_INPUT_KINDS,
    WEIGHT_KINDS,
    WINDOW_KINDS,
    Op,
    QuantModel,
    Tensor,
)
from edgelora.model.floatnet import balance
from edgelora.model.floatnet.layers import FloatNet, Layer, average_pool, build, conv, dense
from edgelora.model.floatnet.zoo import Transformer, compact, ds_cnn, encoder, language_model
from edgelora.model.quantization.quantize import quantize

SCALE, ZERO_POINT = 0.05, -3
SUM = 1500  # the usual size of a sum of one product, behind another layer


@dataclass(frozen=True)
class Shape:
    """One kernel at one size. size: height, width, channels of its input; same: SAME padding, else VALID.

    fused: a ReLU, whose errors are masked. bias: mean of the biases, relative to usual sums. second: the tensor that
    an add or a concatenation of channels reads besides the one before it. A pad adds a row and a column on each side, a
    reshape makes one position of all, a slice takes the first channels, a history holds two inputs.
    """

    op: str
    kind: str
    size: tuple[int, int, int]
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    same: bool = True
    fused: bool = False
    second: int = 0
    bias: float = 0.0

    @property
    def name(self) -> str:
        height, width, channels = self.size
        if self.kind == "dense":
            return f"{channels}x{self.outputs}"
        place = f"{width}" if height == 1 else f"{height}x{width}"
        return f"{place}x{channels}" + (f"x{self.outputs}" if self.kind == "conv" else "")

    @property
    def output(self) -> tuple[int, int, int]:
        if self.kind in ("dense", "mean", "reshape"):
            return (1, 1, self.outputs)
        if self.kind == "pad":
            return (self.size[0] + 2, self.size[1] + 2, self.outputs)
        if self.kind == "history":
            return (2 * self.size[0], self.size[1], self.outputs)
        axes = zip(self.size, self.kernel, self.stride, strict=False)
        height, width = (-(-n // s) if self.same else (n - k) // s + 1 for n, k, s in axes)
        return (height, width, self.outputs)

    @property
    def padding(self) -> tuple[int, int]:
        if self.kind == "pad":
            return (1, 1)
        if not self.same:
            return (0, 0)
        top, left = (
            max(0, (out - 1) * s + k - n) // 2
            for n, k, s, out in zip(self.size, self.kernel, self.stride, self.output, strict=False)
        )
        return (top, left)

    @property
    def macs(self) -> int:
        """Multiply-accumulates (for pools: additions) on elements inside the input."""
        if self.kind == "dense":
            return prod(self.size) * self.outputs
        if self.kind == "mean":
            return self.size[0] * self.size[1] * self.outputs
        inside = 1
        for n, k, s, out, pad in zip(self.size, self.kernel, self.stride, self.output, self.padding, strict=False):
            inside *= sum(0 <= o * s - pad + i < n for o in range(out) for i in range(k))
        return inside * self.outputs * (self.size[2] if self.kind == "conv" else 1)


def quantized(net: FloatNet, rng: np.random.Generator | None = None) -> QuantModel:
    """A float network of random weights, balanced and quantized on noise (rng: by default that of seed 0)."""
    x = (rng or np.random.default_rng(0)).normal(size=(32, *net.input_shape)).astype(np.float32)
    return quantize(balance.balanced(net, x), x)


def language(symbols: int, length: int, sizes: Transformer, seed: int = 0) -> QuantModel:
    """A language model of random weights, with its positions along height, so that it decodes."""
    ids = np.random.default_rng(seed).integers(0, symbols, (16, 1, length, 1))
    model = quantize(language_model(symbols, length, seed, sizes), ids.astype(np.float32))
    model.tensors = [replace(tensor, shape=(length, 1, tensor.shape[2])) for tensor in model.tensors]
    return model


def tokens(count: int, channels: int, sizes: Transformer, seed: int = 0) -> QuantModel:
    """An encoder of windows, of random weights, with so many tokens."""
    return quantized(encoder((1, 4 * count, channels), 5, seed, sizes=sizes))


def image(side: int, sizes: Transformer, seed: int = 0) -> QuantModel:
    """A compact convolutional transformer of square images, of random weights."""
    return quantized(compact((side, side, 3), 10, seed, sizes=sizes))


def keyword_networks() -> list[tuple[str, QuantModel]]:
    """MLPerf Tiny's DS-CNN, which peers publish, and the same layers on the project's own features of a second."""
    shapes = {"MLPerf Tiny's DS-CNN": (49, 10, 1), "keyword DS-CNN, 98x40 features": (98, 40, 1)}
    return [(name, quantized(ds_cnn(shape, 12, 0))) for name, shape in shapes.items()]


def keyword_network(seed: int = 0) -> QuantModel:
    """The DS-CNN of MLPerf Tiny's keyword spotting, with a pool and a softmax as there: 2.7 million products."""
    net = ds_cnn((49, 10, 1), 12, seed)
    layers = [*net.layers[:-2], average_pool((25, 5)), dense(12), Layer("softmax")]
    return quantized(build(net.input_shape, layers, seed))


def image_network(seed: int = 0) -> QuantModel:
    """The ResNet of MLPerf Tiny's image classification: 12.5 million products."""
    layers, x = [conv(16, (3, 3))], 1
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        layers.append(replace(conv(channels, (3, 3), (stride, stride)), inputs=(x,)))
        layers.append(conv(channels, (3, 3), activation="none"))
        y = len(layers)
        if stride > 1:
            layers.append(replace(conv(channels, (1, 1), (stride, stride), activation="none"), inputs=(x,)))
            x = len(layers)
        layers.append(Layer("add", activation="relu", inputs=(x, y)))
        x = len(layers)
    return quantized(build((32, 32, 3), [*layers, average_pool((8, 8)), dense(10), Layer("softmax")], seed))


def network(shapes: Sequence[Shape], loss: str = "mean_squared_error", seed: int = 0) -> QuantModel:
    """A chain of these ops."""
    model = QuantModel([Tensor(shapes[0].size, SCALE, ZERO_POINT)], [], loss=loss)
    rng = np.random.default_rng(seed)
    for shape in shapes:
        _append(model, shape, rng)
    if loss == "cross_entropy":
        model.labels = [f"class {i}" for i in range(model.loss_tensor.size)]
    return model


def dense_chain(*widths: int) -> list[Shape]:
    """Dense layers of these widths, all but the last with a ReLU."""
    last = len(widths) - 2
    return [Shape("dense", "dense", (1, 1, n), out, fused=i < last) for i, (n, out) in enumerate(pairwise(widths))]


def _append(model: QuantModel, shape: Shape, rng: np.random.Generator) -> None:
    at = len(model.ops)
    source, op = model.tensors[at], Op(shape.kind, at, at + 1)
    if shape.kind in (*WINDOW_KINDS, "pad"):
        op.kernel, op.stride, op.padding = shape.kernel, shape.stride, shape.padding
    if shape.kind in TWO_INPUT_KINDS:
        op.input2 = shape.second
    op.mask_low = shape.fused
    grid = (SCALE, -128 if shape.fused or shape.kind in WEIGHT_KINDS else ZERO_POINT)
    if shape.kind in SAME_GRID_KINDS:
        grid = (source.scale, source.zero_point)
    elif shape.kind == "softmax":
        grid = SOFTMAX_GRID
    model.ops.append(op)
    model.tensors.append(Tensor(shape.output, *grid))
    if shape.kind in WEIGHT_KINDS:
        _weights(op, shape, rng)
    else:
        derive(model, op)


def _weights(op: Op, shape: Shape, rng: np.random.Generator) -> None:
    """Random weights; multipliers that put outputs in the middle of their range, and an adapter's branch too."""
    depth = (prod(shape.size),) if shape.kind == "dense" else (shape.size[2],)
    size = (*shape.kernel, shape.outputs) if shape.kind == "depthwise" else (shape.outputs, *op.kernel, *depth)
    op.weights = rng.integers(-127, 128, size).astype(np.int8)
    inputs = op.weights.size // shape.outputs
    op.bias = (rng.integers(-3000, 3000, shape.outputs) + round(shape.bias * SUM * inputs**0.5)).astype(np.int32)
    pairs = [quantize_multiplier(rng.uniform(0.5, 1) / (140 * inputs**0.5)) for _ in range(shape.outputs)]
    op.multiplier, op.shift = np.array([m for m, _ in pairs], np.int32), np.array([s for _, s in pairs], np.int8)
    if shape.kind in MATRIX_KINDS:
        op.t_shift, op.branch_shift = round(7 + log2(inputs) / 2), 3


RESIDUAL = (
    Shape("conv", "conv", (16, 16, 3), 16, (3, 3), (2, 2), fused=True),
    Shape("depthwise", "depthwise", (8, 8, 16), 16, (3, 3), fused=True),
    Shape("conv", "conv", (8, 8, 16), 16),
    Shape("add", "add", (8, 8, 16), 16, second=1, fused=True),
    Shape("max_pool", "max_pool", (8, 8, 16), 16, (2, 2), (2, 2)),
    Shape("conv", "conv", (4, 4, 16), 32, (3, 3), fused=True),
    Shape("average_pool", "average_pool", (4, 4, 32), 32, (4, 4), (4, 4)),
    Shape("dense", "dense", (1, 1, 32), 10),
    Shape("softmax", "softmax", (1, 1, 10), 10),
)
