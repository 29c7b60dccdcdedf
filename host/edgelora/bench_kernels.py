"""`edgelora bench kernels`: cycles of each kernel on a board, the portable one and the board's own.

Every kernel runs as a network of one op, through the same session, link and clock as any other network; the call's own
time, that of an empty range of ops, is taken off. Multiply-accumulates are counted without those on padding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from . import formats
from .link import Link
from .model import Op, QuantModel, Tensor
from .tflite_math import quantize_multiplier

PATH = "/bench.elm"
RUNS = 20
VARIANTS = ("plain", "fast")


@dataclass(frozen=True)
class Shape:
    """One kernel at one size. size: height, width, channels of its input; same: SAME padding, else VALID."""

    op: str
    kind: str
    size: tuple[int, int, int]
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    same: bool = True

    @property
    def name(self) -> str:
        height, width, channels = self.size
        if self.kind == "dense":
            return f"{channels}x{self.outputs}"
        place = f"{width}" if height == 1 else f"{height}x{width}"
        return f"{place}x{channels}" + (f"x{self.outputs}" if self.kind == "conv" else "")

    @property
    def output(self) -> tuple[int, int, int]:
        if self.kind in ("dense", "mean"):
            return (1, 1, self.outputs)
        axes = zip(self.size, self.kernel, self.stride, strict=False)
        height, width = (-(-n // s) if self.same else (n - k) // s + 1 for n, k, s in axes)
        return (height, width, self.outputs)

    @property
    def padding(self) -> tuple[int, int]:
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
            return self.size[2] * self.outputs
        if self.kind == "mean":
            return self.size[0] * self.size[1] * self.outputs
        inside = 1
        for n, k, s, out, pad in zip(self.size, self.kernel, self.stride, self.output, self.padding, strict=False):
            inside *= sum(0 <= o * s - pad + i < n for o in range(out) for i in range(k))
        return inside * self.outputs * (self.size[2] if self.kind == "conv" else 1)


def _pointwise(positions: int, channels: int, outputs: int) -> Shape:
    return Shape("conv1x1", "conv", (1, positions, channels), outputs)


SHAPES = (
    *(Shape("dense", "dense", (1, 1, n), out) for n, out in ((64, 64), (128, 64), (256, 32))),
    _pointwise(49, 64, 64),
    _pointwise(16, 32, 64),
    _pointwise(125, 64, 64),
    Shape("conv3x3", "conv", (8, 8, 16), 32, (3, 3)),
    Shape("conv10x4", "conv", (49, 10, 1), 64, (10, 4), (2, 2)),
    Shape("conv1x5", "conv", (1, 100, 6), 16, (1, 5), (1, 2)),
    *(Shape("depthwise3x3", "depthwise", size, size[2], (3, 3)) for size in ((7, 7, 64), (8, 8, 32), (25, 5, 64))),
    Shape("depthwise3x3s2", "depthwise", (16, 16, 32), 32, (3, 3), (2, 2)),
    Shape("average_pool", "average_pool", (25, 5, 64), 64, (25, 5), same=False),
    Shape("max_pool", "max_pool", (8, 8, 32), 32, (2, 2), (2, 2)),
    Shape("mean", "mean", (25, 5, 64), 64),
)


@dataclass(frozen=True)
class KernelTime:
    """One measurement. cycles: of one run on the board's clock, without the call."""

    op: str
    shape: str
    variant: str
    macs: int
    cycles: int
    cycles_per_mac: float


def bench_kernels(
    link: Link, clock_mhz: float, progress: Callable[[int, int, str], None] | None = None
) -> list[KernelTime]:
    """Runs every shape in both variants. The board needs room for a file of some 40 KB, which is removed after."""
    times: list[KernelTime] = []
    try:
        for shape in SHAPES:
            link.put(PATH, formats.pack_model(one_op_model(shape), PATH))
            times += _both(link, shape, clock_mhz)
            if progress:
                progress(len(times) // 2, len(SHAPES), f"{shape.op} {shape.name}")
    finally:
        with contextlib.suppress(RuntimeError):  # what went wrong before says more
            link.remove(PATH)
    return times


def _both(link: Link, shape: Shape, clock_mhz: float) -> Iterator[KernelTime]:
    for variant in VARIANTS:
        link.open_model(PATH, ranks=0, mode="infer", micro_batch=1, plain=variant == "plain")
        took = link.bench_ops(0, 1, RUNS).mean_us - link.bench_ops(0, 0, RUNS).mean_us
        cycles = round(took * clock_mhz)
        yield KernelTime(shape.op, shape.name, variant, shape.macs, cycles, round(cycles / shape.macs, 2))


def one_op_model(shape: Shape, seed: int = 0) -> QuantModel:
    """A network of this op with random weights, ReLU, and outputs in the middle of their range."""
    rng = np.random.default_rng(seed)
    source = Tensor(shape.size, 0.05, -3)
    op = Op(shape.kind, 0, 1, shape.kernel, shape.stride, padding=shape.padding)
    target = Tensor(shape.output, 0.05, -3)
    if shape.kind in ("dense", "conv", "depthwise"):
        size = (shape.outputs, *shape.kernel, shape.size[2])
        op.weights = rng.integers(
            -127, 128, size if shape.kind != "depthwise" else (*shape.kernel, shape.outputs)
        ).astype(np.int8)
        op.bias = rng.integers(-3000, 3000, shape.outputs).astype(np.int32)
        inputs = op.weights.size // shape.outputs
        pairs = [quantize_multiplier(rng.uniform(0.5, 1) / (70 * np.sqrt(inputs) * 2)) for _ in range(shape.outputs)]
        op.multiplier, op.shift = np.array([m for m, _ in pairs], np.int32), np.array([s for _, s in pairs], np.int8)
        target = Tensor(shape.output, 0.05, -128)
        op.act_min = -128
    elif shape.kind == "mean":
        multiplier, shift = quantize_multiplier(1 / (shape.size[0] * shape.size[1]))
        op.multiplier, op.shift = np.array([multiplier], np.int32), np.array([shift], np.int8)
    return QuantModel([source, target], [op], loss="mean_squared_error")
