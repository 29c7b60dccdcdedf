"""Learns one machine's normal operation, by the device's own `Monitor` on this computer (SPEC.md, section 16).

    values --(mean, spread)--> int8 --(base, adapter)--> residuals --(mean, spread)--> score --(threshold)--> alarm

Each stage calibrates on separate windows of normal operation, so that no window validates what it trained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.formats.ela import MONITOR
from edgelora.core.formats.envelope import FormatError
from edgelora.core.formats.monitor import (
    Monitor,
    check_monitored,
    unpack_monitor,
)
from edgelora.core.twin import device
from edgelora.learn.training.data.base import Base, opened
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.judge.early_stopping import Verdict
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.run.host_run import as_board
from edgelora.learn.training.twin.loop import Run

SCORE_ONE = 1024  # the score of residuals as large as in normal operation


@dataclass(frozen=True)
class Phases:
    """The number of windows for each stage of a calibration, and the settings of alarms.

    scale: for mean and spread of values; learn: for the adapter, the last quarter held out; residuals: for mean and
    spread of errors; threshold: its highest scores set the threshold, so that one normal window in `one_in` exceeds it.
    An alarm: `least` of the last `votes` windows exceed the threshold.
    """

    scale: int = 48
    learn: int = 192
    residuals: int = 64
    threshold: int = 149
    one_in: int = 50
    least: int = 3
    votes: int = 5

    def __post_init__(self) -> None:
        own = device.module("monitor")
        with device.refusals():
            own.check_alarm(self.least, self.votes, self.one_in)
            for name in ("scale", "learn", "residuals", "threshold"):
                own.check_windows(name, getattr(self, name), self.one_in)

    @property
    def total(self) -> int:
        return self.scale + self.learn + self.residuals + self.threshold

    def cut(self, values: NDArray[np.int16]) -> Normal:
        """A stream's first windows [N, values], stage by stage. InputError for fewer than `total`."""
        if len(values) < self.total:
            raise InputError(f"{len(values)} windows of normal operation, these stages need {self.total}")
        ends = np.cumsum([self.scale, self.learn, self.residuals, self.threshold])
        return Normal(*np.split(values, ends)[:4])


@dataclass(frozen=True)
class Normal:
    """Windows of normal operation by stage, int16 [N, values]; only those of `scale` may also be another stage's."""

    scale: NDArray[np.int16]
    learn: NDArray[np.int16]
    residuals: NDArray[np.int16]
    threshold: NDArray[np.int16]


class _Kept:
    """Collects the samples that a board's monitor writes to a file while it learns."""

    def __init__(self) -> None:
        self.windows: list[bytes] = []

    def append(self, x: bytearray, target: bytearray) -> None:
        self.windows.append(bytes(x))


class Watch:
    """The device's `Monitor` on this computer, for a base with an adapter; None: the base alone."""

    def __init__(self, base: Base, adapter: bytes | None, phases: Phases) -> None:
        check_monitored(base.model, base.name)
        self._base = base
        self._model = opened(base, adapter)
        self._own = device.module("monitor").Monitor(self._model, phases.least, phases.votes, phases.one_in)

    def take(self, adapter: bytes) -> None:
        """Watches the machine whose `.ela` this is."""
        self._own.use(self._model.adapter(adapter))

    def _stage(self, name: str, values: NDArray[np.int16], samples: _Kept | None = None) -> None:
        with device.refusals():
            self._own.calibrate(name, len(values), samples)
        for row in values.tolist():
            self._own.update(row)

    def learn(self, normal: Normal) -> Samples:
        """Runs the first two stages. Returns the second one's samples, each its own target."""
        kept = _Kept()
        self._stage("scale", normal.scale)
        self._stage("learn", normal.learn, kept)
        x = np.frombuffer(b"".join(kept.windows), np.int8).reshape(len(normal.learn), 1, 1, -1)
        return Samples(x, np.zeros(len(x), np.int64), x.reshape(len(x), -1))

    def settle(self, normal: Normal) -> None:
        """Runs the last two stages, and then watches."""
        self._stage("residuals", normal.residuals)
        self._stage("threshold", normal.threshold)
        self._own.calibrate("watch")

    @property
    def monitor(self) -> Monitor:
        """The calibration, as in its record."""
        return unpack_monitor(bytes(self._own.record()), self._base.model)

    @property
    def ela(self) -> bytes:
        """The machine's `.ela`: the adapter with that record."""
        return bytes(self._own.adapter().buffer)

    def inputs(self, values: NDArray[np.int16]) -> NDArray[np.int8]:
        """Int8 inputs of values [N, n]."""
        out = np.zeros(values.shape, np.int8)
        for row, made in zip(values.tolist(), out.view(np.uint8), strict=True):
            self._own.quantize_counts(row, made)
        return out

    def watched(self, values: NDArray[np.int16]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Scores [N], 1/1024, of the windows [N, n] of a stream, and whether there is an alarm after each."""
        self._own.reset()
        found = [(self._own.update(row), self._own.alarm) for row in values.tolist()]
        return np.array([score for score, _ in found], np.int64), np.array([alarm for _, alarm in found], bool)

    def scores(self, values: NDArray[np.int16]) -> NDArray[np.int64]:
        return self.watched(values)[0]


def watch_of(base: Base, adapter: bytes, name: str = "adapter") -> Watch:
    """The watch that a machine's `.ela` describes. FormatError without a monitor record, or with another base's."""
    found = base.adapter(adapter, name)
    body = found.records.get(MONITOR)
    if body is None:
        raise FormatError(f"{name}: has no record of a machine: calibrate a monitor with it")
    unpack_monitor(body, base.model, name)
    watch = Watch(base, adapter, Phases())
    watch.take(adapter)
    return watch


@dataclass(frozen=True)
class Machine:
    """One machine learned on the twin. run: the adapter's; own: watches with it; plain: watches with the base alone.

    activated: the adapter was better on held-out normal windows, so that `own` is in use.
    """

    run: Run
    own: Watch
    plain: Watch
    activated: bool

    @property
    def watch(self) -> Watch:
        return self.own if self.activated else self.plain


def learn_machine(base: Base, normal: Normal, recipe: Recipe, phases: Phases) -> Machine:
    """Runs all stages on the twin, as a board does on its own."""
    plain = Watch(base, None, phases)
    run = as_board(base.elm, plain.learn(normal), replace(recipe, on_board=True))
    own = Watch(base, run.adapter, phases)
    own.learn(normal)
    for watch in (plain, own):
        watch.settle(normal)
    return Machine(run, own, plain, run.verdict is Verdict.BETTER)
