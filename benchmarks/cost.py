"""`edgelora bench cost`: predictions of learn/planning/cost.py compared with a board's clock, and their calibration.

Small networks with every kernel at several shapes and ranks run on the board. Non-negative least squares on relative
errors fits the cycles of each term. Other, complete networks validate the fit.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, product
from math import prod

import numpy as np

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress
from edgelora.board.link.client import Link
from edgelora.board.profiles import BoardProfile
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.formats.network import MASK_KINDS, MATRIX_KINDS, POOL_KINDS, QuantModel
from edgelora.core.twin import regions
from edgelora.learn.planning.cost import passes_of, predict
from edgelora.learn.planning.zeros import SAMPLES, samples
from edgelora.learn.training.recipe import MODES, Settings
from edgelora.learn.training.run.recompute import choose_recompute, smallest_arena
from edgelora.model.floatnet.zoo import Transformer, ds_cnn, har_net

from .model import random_adapter
from .networks import RESIDUAL, Shape, dense_chain, image, language, network, quantized, tokens

ELM, ADAPTER = "/bench.elm", "/bench.ela"
BATCH = SAMPLES  # samples that are timed, and samples of a micro-batch
RATE = 100  # learning rate; any that changes the zeros of a trained A
RUNS = 2  # of an op
FEW_CYCLES = 500  # cycles; errors below are absolute, as calls and the clock's resolution add noise
SIZES = ((8, 8, 8), (1, 20, 3), (1, 1, 40))  # of element by element kernels
Pair = tuple[int, int]
Size = tuple[int, int, int]


@dataclass(frozen=True)
class Trial:
    """A network and a configuration to measure. apart: also each op's backward pass."""

    name: str
    elm: bytes
    ranks: bytes
    mode: str = "frozen_a"
    momentum: int = 0
    recompute: bytes | None = None
    frames: int = 1
    apart: bool = False

    @property
    def settings(self) -> Settings:
        return Settings(self.ranks, self.mode, BATCH, self.momentum, self.recompute, 0)


class Bench:
    """A trial on a board, with a random adapter; times are in cycles. Cleans up the board."""

    def __init__(self, link: Link, trial: Trial, clock_mhz: float) -> None:
        self._link, self._trial, self._clock_mhz = link, trial, clock_mhz
        rng, self._model = np.random.default_rng(0), unpack_model(trial.elm)
        self._x, self._y = samples(self._model, trial.frames)
        self._adapter = random_adapter(trial.elm, trial.ranks, trial.mode, rng)

    def __enter__(self) -> Bench:
        self._link.put(ELM, self._trial.elm)
        self._link.put(ADAPTER, self._adapter)
        return self

    def __exit__(self, *_: object) -> None:
        for path in (ELM, ADAPTER):
            with contextlib.suppress(RuntimeError):  # the earlier error says more
                self._link.remove(path)

    def open(self, micro_batch: int) -> int:
        """Opens a session; returns the bytes of its arena."""
        trial = self._trial
        settings = trial.settings._replace(micro_batch=micro_batch)
        info = self._link.open_model(ELM, *settings, frames=trial.frames)
        self._link.load(ADAPTER)
        return info.arena

    def ops(self) -> list[float]:
        """Cycles of each op in an inference."""
        call = self._link.bench_ops(0, 0).min_us
        ops = range(len(self._model.ops))
        return [(self._link.bench_ops(i, i + 1, RUNS).min_us - call) * self._clock_mhz for i in ops]

    def back(self) -> list[float]:
        """Cycles of each op's backward pass in a training step, which has to run before."""
        call = self._link.bench_ops(0, 0, backward=True).min_us
        ops = reversed(range(len(self._model.ops)))
        found = [self._link.bench_ops(i, i + 1, 1, backward=True).min_us - call for i in ops]
        return [us * self._clock_mhz for us in reversed(found)]

    def infer(self) -> float:
        return self._link.eval(self._x).elapsed_us * self._clock_mhz / BATCH

    def step(self) -> float:
        """Cycles of a training step, the mean of `BATCH`."""
        return self._link.train(self._x, self._y, RATE).elapsed_us * self._clock_mhz / BATCH


# ---- the fit ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """Cycles of each term, and relative errors on the measurements they were fitted to."""

    networks: int
    measurements: int
    rms_error: float
    largest_error: float
    cycles: dict[str, float]

    def to_toml(self, board: str) -> str:
        """The text of a chip's `cycles.toml`."""
        head = f"# Written by `edgelora bench cost --fit --board {board}`: cycles of the terms of terms.py.\n"
        fitted: dict[str, float] = {"networks": self.networks, "measurements": self.measurements}
        fitted |= {"rms_error": self.rms_error, "largest_error": self.largest_error}
        lines = [head, "[fitted]", *(f"{name} = {value}" for name, value in fitted.items()), "", "[cycles]"]
        return "\n".join([*lines, *(f'"{name}" = {value}' for name, value in self.cycles.items())]) + "\n"


Term = tuple[str, float]
Row = tuple[dict[str, float], float]  # counts of terms, cycles


def rows_of(link: Link, trial: Trial, clock_mhz: float) -> list[Row]:
    """Measures a trial on the board: each op, an inference, steps with updates after `BATCH` samples and after each."""
    passes = passes_of(trial.elm, trial.settings, trial.frames)
    once = passes_of(trial.elm, trial.settings).infer if trial.frames > 1 else passes.infer
    step = list(chain(*passes.forward, *passes.backward, passes.loss))
    with Bench(link, trial, clock_mhz) as bench:
        bench.open(BATCH)
        rows = [(_counted(part), cycles) for part, cycles in zip(once, bench.ops(), strict=True)]
        rows.append((_counted(chain(passes.call, *passes.infer)), bench.infer()))
        rows.append((_counted(step, passes.update, share=1 / BATCH), bench.step()))
        if trial.apart:
            back = zip(passes.backward, bench.back(), strict=True)
            rows += [(_counted(part), cycles) for part, cycles in back if part]
        bench.open(1)
        rows.append((_counted(step, passes.update), bench.step()))
    return rows


def _counted(
    of: Iterable[tuple[str, float]], more: Iterable[tuple[str, float]] = (), share: float = 1
) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for name, count in of:
        counts[name] += count  # type: ignore[assignment]
    for name, count in more:
        counts[name] += count * share  # type: ignore[assignment]
    return dict(counts)


def fit(rows: Sequence[Row], networks: int) -> Fit:
    """Fits the cycles of each term to all rows, minimizing relative errors."""
    from scipy.optimize import nnls

    names = sorted({name for counts, _ in rows for name in counts})
    counts = np.array([[row.get(name, 0.0) for name in names] for row, _ in rows])
    cycles = np.array([value for _, value in rows])
    weights = 1 / np.maximum(cycles, FEW_CYCLES)
    scaled = counts * weights[:, None]
    sizes = np.linalg.norm(scaled, axis=0)
    sizes[sizes == 0] = 1
    found = nnls(scaled / sizes, cycles * weights)[0] / sizes
    errors = (counts @ found - cycles) * weights
    rounded = {name: float(f"{value:.4g}") for name, value in zip(names, found, strict=True)}
    rms, largest = float(np.sqrt(np.mean(errors**2))), float(np.abs(errors).max())
    return Fit(networks, len(rows), round(rms, 4), round(largest, 4), rounded)


def calibrate(link: Link, board: BoardProfile, progress: Progress) -> Fit:
    """Measures all of `calibration` on the board."""
    if board.clock_hz is None:
        raise InputError(f"{board.name} has no clock of its own to count cycles by: choose a microcontroller")
    trials, rows = calibration(), []
    for done, trial in enumerate(trials):
        progress(done, len(trials), trial.name)
        rows += rows_of(link, trial, board.clock_hz / 1e6)
    progress(len(trials), len(trials), "done")
    return fit(rows, len(trials))


def calibration() -> list[Trial]:
    """Every kernel at several shapes: alone, and after a convolution with an adapter, so that it propagates errors."""
    trials = []
    for number, shape in enumerate(KERNELS):
        momentum, fusible = 3 * (number % 2), shape.kind in MASK_KINDS
        if shape.kind in MATRIX_KINDS:
            most = max(1, LARGEST_A // (shape.kernel[0] * shape.kernel[1] * shape.size[2]))
            ranks = [min(RANKS[(times * number + at) % len(RANKS)], most) for times, at in ((1, 0), (2, 3), (4, 5))]
            trials.append(_above_a_convolution(shape, ranks[0], "frozen_a", momentum, number % 3 > 0))
            trials.append(_above_a_convolution(shape, ranks[1], "trainable_a", 3 - momentum, number % 3 != 1))
            trials.append(_alone(shape, ranks[2], MODES[number % 2], momentum))
        trials.append(_above_a_convolution(shape, 0, "frozen_a", 0, fusible and number % 2 > 0))
        if shape.kind == "history":
            trials.append(replace(trials[-1], name=f"{trials[-1].name}, 3 frames", frames=3))
    for number, (shape, bias) in enumerate(product(SPARSE_KERNELS, (-0.3, -0.8))):
        rank, mode = ((4, "frozen_a"), (4, "frozen_a"), (8, "trainable_a"))[number % 3]
        trial = _above_a_convolution(replace(shape, bias=bias), rank, mode, 3, True)
        trials.append(replace(trial, name=f"{trial.name}, bias {bias}"))
    for loss, outputs in LOSSES_OF:
        trials.append(_alone(Shape(loss, "dense", (1, 1, 24), outputs), 2, "frozen_a", 0, loss))
    for number, model in enumerate(_transformers()):
        for mode, mixed in zip(MODES, ((4,), (5, 0, 1, 3, 2, 8, 4)), strict=True):
            of_op = bytes(mixed[(i + number) % len(mixed)] if op.is_matrix else 0 for i, op in enumerate(model.ops))
            name = f"transformer {number} {mode}"
            trials.append(Trial(name, pack_model(model), of_op, mode, 3 * (number % 2), apart=True))
    return trials


def _transformers() -> list[QuantModel]:
    """Small ones with every kernel of attention, also those that pairs of channels and scratch memory do not suit."""
    return [
        language(20, 12, Transformer(16, 1, (2, 1), 24)),
        language(50, 24, Transformer(32, 1, (4, 4), 40)),
        language(30, 32, Transformer(24, 1, (2, 2), 20)),
        language(300, 8, Transformer(32, 1, (2, 1), 64)),
        language(96, 40, Transformer(48, 1, (6, 3), 140)),
        language(40, 16, Transformer(64, 1, (1, 1), 32)),
        tokens(12, 3, Transformer(16, 1, (2, 2), 32)),
        tokens(25, 6, Transformer(32, 1, (4, 2), 64)),
        tokens(16, 4, Transformer(36, 1, (4, 4), 24)),
        tokens(20, 6, Transformer(66, 1, (2, 1), 40)),
        tokens(48, 3, Transformer(64, 1, (1, 1), 16)),
        image(16, Transformer(32, 1, (2, 2), 32)),
    ]


def _alone(shape: Shape, rank: int, mode: str, momentum: int, loss: str = "mean_squared_error") -> Trial:
    model = network([shape], loss, seed=rank)
    return Trial(f"{shape.op} {shape.name} rank {rank} {mode} alone", pack_model(model), bytes([rank]), mode, momentum)


def _above_a_convolution(shape: Shape, rank: int, mode: str, momentum: int, fused: bool) -> Trial:
    height, width, channels = shape.size
    below = Shape("conv", "conv", (height, width, 2), channels)
    model = network([below, replace(shape, fused=fused, second=1)], seed=rank)
    name = f"{shape.op} {shape.name} rank {rank} {mode}"
    return Trial(name, pack_model(model), bytes((1, rank)), mode, momentum)


def _conv(size: Size, outputs: int, kernel: Pair = (1, 1), stride: Pair = (1, 1)) -> Shape:
    return Shape("conv", "conv", size, outputs, kernel, stride)


def _window(
    kind: str, size: tuple[int, int, int], kernel: Pair = (1, 1), stride: Pair = (1, 1), times: int = 1
) -> Shape:
    return Shape(kind, kind, size, size[2] * times, kernel, stride, same=kind == "depthwise")


LARGEST_A = 8192  # elements, of what else needs too much RAM
RANKS = (4, 1, 8, 3, 2, 5, 16, 6, 12)
LOSSES_OF = (
    *(("cross_entropy", n) for n in (3, 12, 40)),
    *(("binary_cross_entropy", n) for n in (12, 60)),
    ("mean_squared_error", 40),
)
KERNELS = (
    _conv((7, 7, 64), 64),
    _conv((1, 16, 32), 64),
    _conv((5, 5, 16), 8),
    _conv((8, 8, 8), 16),
    _conv((3, 3, 64), 12),
    _conv((5, 6, 10), 6),
    _conv((3, 4, 96), 24),
    _conv((10, 10, 4), 20),
    _conv((8, 8, 16), 16, (1, 1), (2, 2)),
    _conv((1, 2, 24), 16),
    _conv((8, 8, 16), 32, (3, 3)),
    _conv((8, 8, 3), 8, (3, 3)),
    _conv((6, 6, 24), 7, (3, 3)),
    _conv((4, 4, 20), 60, (3, 3)),
    _conv((12, 12, 1), 8, (3, 3), (2, 2)),
    _conv((9, 9, 12), 20, (2, 2), (2, 2)),
    _conv((1, 50, 6), 16, (1, 5), (1, 2)),
    _conv((1, 24, 16), 24, (1, 5), (1, 3)),
    _conv((1, 6, 6), 10, (1, 5)),
    _conv((1, 40, 3), 9, (1, 7), (1, 2)),
    _conv((20, 10, 1), 24, (10, 4), (2, 2)),
    _conv((2, 2, 64), 4, (6, 6)),  # too large for the fast kernels
    _conv((3, 3, 2), 240, (3, 3)),  # the same, backward
    _conv((1, 6, 512), 6, (1, 5)),
    _conv((1, 150, 8), 16),
    _conv((12, 12, 4), 40),
    *(
        Shape("dense", "dense", size, outputs)
        for size, outputs in (
            *(((1, 1, n), outputs) for n, outputs in ((64, 64), (128, 32), (256, 16), (32, 12), (63, 20), (30, 10))),
            *(((1, 1, n), outputs) for n, outputs in ((10, 100), (16, 4), (40, 40))),
            ((5, 5, 16), 10),
            ((3, 3, 5), 24),
        )
    ),
    *(_window("depthwise", size, (3, 3)) for size in ((7, 7, 32), (8, 8, 16), (25, 5, 16), (6, 20, 6), (4, 4, 24))),
    *(_window("depthwise", size, (3, 3), (2, 2)) for size in ((16, 16, 8), (12, 8, 12), (9, 9, 8))),
    _window("depthwise", (1, 20, 8), (1, 3)),
    _window("depthwise", (8, 8, 4), (5, 5)),
    _window("depthwise", (3, 30, 5), (3, 1)),
    _window("depthwise", (6, 6, 4), (3, 3), times=2),
    *(
        _window(kind, size, kernel, stride)
        for kind in POOL_KINDS
        for size, kernel, stride in (
            ((8, 8, 8), (2, 2), (2, 2)),
            ((9, 9, 4), (3, 3), (2, 2)),
            ((1, 30, 8), (1, 3), (1, 3)),
            ((8, 8, 4), (2, 2), (1, 1)),
            ((5, 5, 16), (5, 5), (1, 1)),
        )
    ),
    *(_window("mean", size) for size in ((5, 5, 16), (1, 40, 6), (12, 12, 4))),
    *(_window(kind, size) for kind in ("add", "multiply", "lookup", "pad", "softmax", "history") for size in SIZES),
    *(_window("concatenate", size, times=2) for size in SIZES),
    *(Shape("slice", "slice", size, outputs) for size, outputs in zip(SIZES, (4, 1, 16), strict=True)),
    *(Shape("reshape", "reshape", size, prod(size)) for size in SIZES),
)
SPARSE_KERNELS = (  # whose errors are mostly 0
    *(_conv(size, n) for size, n in (((7, 7, 64), 64), ((1, 16, 32), 64), ((10, 10, 16), 24), ((4, 4, 96), 48))),
    _conv((8, 8, 16), 32, (3, 3)),
    _conv((1, 50, 16), 32, (1, 5), (1, 2)),
    _conv((4, 4, 24), 40, (3, 3)),
    *(Shape("dense", "dense", (1, 1, n), outputs) for n, outputs in ((64, 64), (128, 96))),
)


# ---- the check -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """Predicted and measured cycles of a network, and the arena's bytes. Errors are relative to the measurement."""

    network: str
    mode: str
    ranks: tuple[int, ...]
    recompute: tuple[int, ...]
    arena: int
    predicted_arena: int
    infer: int
    predicted_infer: int
    step: int
    predicted_step: int

    @property
    def infer_error(self) -> float:
        return round(self.predicted_infer / self.infer - 1, 4)

    @property
    def step_error(self) -> float:
        return round(self.predicted_step / self.step - 1, 4)

    def as_json(self) -> dict[str, object]:
        return asdict(self) | {"infer_error": self.infer_error, "step_error": self.step_error}


def check(link: Link, trial: Trial, board: BoardProfile) -> Check:
    """Measures a trial and compares it with the prediction. ValueError if the board is not calibrated."""
    predicted = predict(trial.elm, trial.settings, board)
    if predicted is None:
        raise InputError(f"{board.name} was not measured: `edgelora bench cost --fit` does it")
    with Bench(link, trial, predicted.clock_hz / 1e6) as bench:
        arena, infer, step = bench.open(BATCH), bench.infer(), bench.step()
    return Check(
        trial.name,
        trial.mode,
        tuple(trial.ranks),
        tuple(trial.recompute or ()),
        arena,
        regions.layout(trial.elm, *trial.settings).arena_bytes,
        round(infer),
        predicted.infer_cycles,
        round(step),
        predicted.step_cycles,
    )


def check_all(link: Link, board: BoardProfile, progress: Progress) -> list[Check]:
    """Checks all of `held_out`."""
    trials, checks = held_out(), list[Check]()
    for trial in trials:
        progress(len(checks), len(trials), trial.name)
        checks.append(check(link, trial, board))
    progress(len(checks), len(trials), "done")
    return checks


def held_out() -> list[Trial]:
    """Complete networks that are not used for the fit: with frozen A and one rank; with trained A, several ranks,
    little RAM.
    """
    trials = []
    for name, model in _networks():
        elm = pack_model(model)
        alike, mixed = (
            tuple(ranks[i % len(ranks)] if op.is_matrix else 0 for i, op in enumerate(model.ops))
            for ranks in ((4,), (5, 0, 1, 3, 2, 6))
        )
        trials.append(Trial(name, elm, bytes(alike), momentum=3))
        settings = Settings(bytes(mixed), "trainable_a", BATCH, 1, None, 0)
        again = choose_recompute(elm, settings, smallest_arena(elm, settings))
        trials.append(Trial(name, elm, settings.ranks, settings.mode, settings.momentum, again))
    return trials


def _networks() -> list[tuple[str, QuantModel]]:
    noise = np.random.default_rng(0)

    return [
        ("HAR network", quantized(har_net((1, 100, 6), 7, 0), noise)),
        ("keyword DS-CNN", quantized(ds_cnn((49, 10, 1), 12, 0), noise)),
        ("autoencoder", network(dense_chain(128, 48, 24, 8, 24, 48, 128))),
        ("residual graph", network(RESIDUAL, "cross_entropy")),
        ("perceptron", network(dense_chain(30, 50, 25, 6), "cross_entropy")),
    ]
