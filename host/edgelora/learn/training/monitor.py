"""One machine and what is usual for it: the arithmetic of monitors (SPEC.md, section 16), and a run on the twin.

    values --(mean, spread)--> int8 --(base, adapter)--> residuals --(mean, spread)--> score --(threshold)--> alarm

Each arrow is learned from windows of its own, of the machine as it normally is: what judges has never trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.formats.ela import MONITOR, unpack_adapter
from edgelora.core.formats.elm import base_id
from edgelora.core.formats.envelope import FormatError
from edgelora.core.formats.monitor import (
    MAX_GAIN,
    MAX_RESIDUAL_GAIN,
    MAX_VOTES,
    MAX_WINDOWS,
    Monitor,
    check_monitored,
    pack_monitor,
    unpack_monitor,
)
from edgelora.core.twin.session import Session

from .base import Base, adapter_ranks
from .early_stopping import Verdict
from .host_run import as_board
from .loop import Run
from .recipe import Recipe
from .samples import Samples

SCORE_ONE = 1024  # a score of residuals that are as large as usual
MOST_SCORE = 65535
_MOST_Z = 2047  # 1/64 spread
_LEAST_SPREAD = 2  # windows from which there is one


@dataclass(frozen=True)
class Phases:
    """How many windows each stage of a calibration takes, and what alarms are to be.

    scale: for mean and spread of values; learn: for the adapter, of which the last quarter judges it; residuals: for
    mean and spread of errors; threshold: for the scores of which the highest set it, so that one normal window in
    `one_in` is above it. An alarm is `least` of the last `votes` windows above it.
    """

    scale: int = 48
    learn: int = 192
    residuals: int = 64
    threshold: int = 149
    one_in: int = 50
    least: int = 3
    votes: int = 5

    def __post_init__(self) -> None:
        for name in ("scale", "learn", "residuals", "threshold"):
            if not _LEAST_SPREAD <= getattr(self, name) <= MAX_WINDOWS:
                raise InputError(f"{name}: {getattr(self, name)} windows, {_LEAST_SPREAD} to {MAX_WINDOWS} can be")
        if self.one_in < 2 or self.threshold + 1 < self.one_in:
            least = max(self.one_in, 2) - 1
            raise InputError(f"one window in {self.one_in} above a threshold of {self.threshold}: give {least} or more")
        if not 1 <= self.least <= self.votes <= MAX_VOTES:
            raise InputError(f"{self.least} of {self.votes} windows: give 1 to {MAX_VOTES}")

    @property
    def total(self) -> int:
        return self.scale + self.learn + self.residuals + self.threshold

    def cut(self, values: NDArray[np.int16]) -> Normal:
        """A stream's first windows [N, values], stage by stage. InputError for fewer than `total`."""
        if len(values) < self.total:
            raise InputError(f"{len(values)} windows of normal operation, these stages take {self.total}")
        ends = np.cumsum([self.scale, self.learn, self.residuals, self.threshold])
        return Normal(*np.split(values, ends)[:4])


@dataclass(frozen=True)
class Normal:
    """Windows of normal operation by stage, int16 [N, values]: no stage's are another's, but for `scale`."""

    scale: NDArray[np.int16]
    learn: NDArray[np.int16]
    residuals: NDArray[np.int16]
    threshold: NDArray[np.int16]


# ---- arithmetic ------------------------------------------------------------------------------------------------------


def usual(values: NDArray[np.int16]) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """Means and gains of values [N, n], each of which the board takes as its distance from the first."""
    first = values[0].astype(np.int64)
    means, gains = _statistics(np.clip(values - first, -32767, 32767), 1, 34, MAX_GAIN)
    return (first + means).astype(np.int16), gains.astype(np.uint16)


def usual_residuals(residuals: NDArray[np.int64]) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """Means, 1/16 step, and gains of residuals [N, outputs]."""
    means, gains = _statistics(residuals, 16, 28, MAX_RESIDUAL_GAIN)
    return means.astype(np.int16), gains.astype(np.uint16)


def _statistics(values: NDArray[np.int64], unit: int, bits: int, most: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Means in 1 / unit, and 2^(bits / 2) over spreads, 1 to `most`: of whole numbers [N, n]."""
    count = len(values)
    sums = values.sum(0)
    apart = count * np.square(values).sum(0) - np.square(sums)  # count^2 times the variance
    means = np.floor_divide(2 * unit * sums + count, 2 * count)
    gains = [min(max(math.isqrt((count * count << bits) // max(int(d), 1)), 1), most) for d in apart]
    return means, np.array(gains)


def inputs_of(monitor: Monitor, values: NDArray[np.int16]) -> NDArray[np.int8]:
    """Int8 inputs of values [N, n]."""
    apart = np.clip(values.astype(np.int64) - monitor.means, -16383, 16383)
    inputs: NDArray[np.int8] = np.clip((apart * monitor.gains + 2048) >> 12, -128, 127).astype(np.int8)
    return inputs


def scores_of(monitor: Monitor, residuals: NDArray[np.int64]) -> NDArray[np.int64]:
    """Scores, 1/1024, of residuals [N, outputs]: their mean square in spreads."""
    z = (16 * residuals - monitor.residual_means) * monitor.residual_gains.astype(np.int64)
    z = np.clip((z + 2048) >> 12, -_MOST_Z, _MOST_Z)
    scores: NDArray[np.int64] = np.minimum(np.square(z).sum(1) // residuals.shape[1] >> 2, MOST_SCORE)
    return scores


def threshold_of(scores: NDArray[np.int64], one_in: int) -> int:
    """The least score that at most one window in `one_in` is above, of normal ones: of N scores the
    floor((N + 1) / one_in)-th largest. That many in N + 1 are above it on average, whatever their distribution.
    """
    return int(np.sort(scores)[-((len(scores) + 1) // one_in)])


def alarms_of(monitor: Monitor, scores: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether there is an alarm after each window of a stream."""
    above = np.cumsum(np.concatenate([np.zeros(monitor.votes, np.int64), scores > monitor.threshold]))
    alarms: NDArray[np.bool_] = above[monitor.votes :] - above[: -monitor.votes] >= monitor.least
    return alarms


# ---- on the twin -----------------------------------------------------------------------------------------------------


class Watch:
    """A base and an adapter of the twin that watch a machine."""

    def __init__(self, base: Base, adapter: bytes | None, monitor: Monitor) -> None:
        check_monitored(base.model, base.name)
        self.monitor = monitor
        self._session = Session(base.elm, adapter_ranks(base, adapter), "infer", 1)
        self._session.use(adapter)

    def residuals(self, values: NDArray[np.int16]) -> NDArray[np.int64]:
        """What the network gives back less its input, in steps, of windows [N, values]."""
        rows = inputs_of(self.monitor, values)
        given = np.zeros(rows.shape, np.int64)
        for i, row in enumerate(rows):
            self._session.infer(row)
            given[i] = self._session.logits
        return given - rows

    def scores(self, values: NDArray[np.int16]) -> NDArray[np.int64]:
        return scores_of(self.monitor, self.residuals(values))


def calibrated(base: Base, adapter: bytes | None, monitor: Monitor, normal: Normal, phases: Phases) -> Watch:
    """The last two stages: residuals and threshold, of a monitor whose values are scaled."""
    watch = Watch(base, adapter, monitor)
    means, gains = usual_residuals(watch.residuals(normal.residuals))
    watch.monitor = replace(watch.monitor, residual_means=means, residual_gains=gains)
    threshold = threshold_of(watch.scores(normal.threshold), phases.one_in)
    watch.monitor = replace(watch.monitor, threshold=threshold, windows=len(normal.threshold))
    return watch


def scaled(base: Base, normal: Normal, phases: Phases) -> Monitor:
    """The first stage: a monitor that knows the spread of values alone."""
    means, gains = usual(normal.scale)
    size = base.model.output.size
    none, one = np.zeros(size, np.int16), np.ones(size, np.uint16)
    return Monitor(means, gains, none, one, 0, phases.least, phases.votes, phases.one_in, phases.threshold)


def samples_of(monitor: Monitor, values: NDArray[np.int16]) -> Samples:
    """Windows [N, values] to learn: each is its own target."""
    x = inputs_of(monitor, values).reshape(len(values), 1, 1, -1)
    return Samples(x, np.zeros(len(x), np.int64), x.reshape(len(x), -1))


def with_monitor(base: Base, adapter: bytes | None, watch: Watch) -> bytes:
    """The `.ela` of a machine: an adapter, None: the bare base, and what is usual with it."""
    session = Session(base.elm, adapter_ranks(base, adapter), "infer", 1)
    return session.with_record(adapter, MONITOR, pack_monitor(watch.monitor))


def watch_of(base: Base, adapter: bytes, name: str = "adapter") -> Watch:
    """The watch that a machine's `.ela` describes. FormatError without a monitor record, or with another base's."""
    found = unpack_adapter(adapter, base.model, base_id(base.elm), name)
    body = found.records.get(MONITOR)
    if body is None:
        raise FormatError(f"{name}: has no record of a machine: calibrate a monitor with it")
    return Watch(base, adapter, unpack_monitor(body, base.model, name))


@dataclass(frozen=True)
class Machine:
    """One machine learned on the twin. run: of its adapter; own: with that; plain: with the base alone.

    activated: the adapter was better on normal windows that it had not learned, and is what watches.
    """

    run: Run
    own: Watch
    plain: Watch
    activated: bool

    @property
    def watch(self) -> Watch:
        return self.own if self.activated else self.plain


def learn_machine(base: Base, normal: Normal, recipe: Recipe, phases: Phases) -> Machine:
    """All stages on the twin, as a board does them by itself."""
    monitor = scaled(base, normal, phases)
    run = as_board(base.elm, samples_of(monitor, normal.learn), replace(recipe, on_board=True))
    plain = calibrated(base, None, monitor, normal, phases)
    own = calibrated(base, run.adapter, monitor, normal, phases)
    return Machine(run, own, plain, run.verdict is Verdict.BETTER)
