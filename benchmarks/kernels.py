"""`edgelora bench kernels`: cycles of each kernel on a board, portable and optimized.

Every kernel runs as a network of one op, through the same session, link and clock as any other network. The time of an
empty range of ops is subtracted. Multiply-accumulates exclude those on padding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from edgelora.base.progress import Progress, no_progress
from edgelora.board.link.client import Link
from edgelora.core.formats.elm import pack_model

from .networks import Shape, network

PATH = "/bench.elm"
RUNS = 20
VARIANTS = ("plain", "fast")
COUNTED = ("cortex-m33", "cortex-m55", "rv32imc", "rv32imc-zb", "esp32-s3")  # whose instructions `instructions` counts


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
    """One measurement. cycles: of one run on the board's clock, without call overhead."""

    op: str
    shape: str
    variant: str
    macs: int
    cycles: int
    cycles_per_mac: float


def bench_kernels(link: Link, clock_mhz: float, progress: Progress = no_progress) -> list[KernelTime]:
    """Runs every shape in both variants. The board needs space for a 40 KB file, which is removed afterwards."""
    times: list[KernelTime] = []
    try:
        for shape in SHAPES:
            link.put(PATH, pack_model(network([shape]), PATH))
            times += _both(link, shape, clock_mhz)
            progress(len(times) // 2, len(SHAPES), f"{shape.op} {shape.name}")
    finally:
        with contextlib.suppress(RuntimeError):  # the earlier error says more
            link.remove(PATH)
    return times


def _both(link: Link, shape: Shape, clock_mhz: float) -> Iterator[KernelTime]:
    for variant in VARIANTS:
        link.open_model(PATH, ranks=0, mode="infer", micro_batch=1, plain=variant == "plain")
        took = link.bench_ops(0, 1, RUNS).mean_us - link.bench_ops(0, 0, RUNS).mean_us
        cycles = round(took * clock_mhz)
        yield KernelTime(shape.op, shape.name, variant, shape.macs, cycles, round(cycles / shape.macs, 2))
