"""Records samples from a board's sensor: the newest window becomes a sample when the user labels it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.formats.signal import Signal
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.datasets.recordings import inputs_of

from .streaming import Cutter

LEAD_SECONDS = 0.5  # for a front end to adapt to a room's noise
QUIET_SECONDS = 0.125  # of a window, which represent that noise


class _Newest:
    """In a model's place in the device's pipeline: keeps the newest values that a window consists of, not quantized."""

    def __init__(self, signal: Signal, size: int) -> None:
        self.signal = signal if signal.front != "none" else replace(signal, hop=1)  # a window ends with each sample
        self.input_size = size
        self.reset()

    def reset(self) -> None:
        self._values = np.zeros(0, np.int16)

    def quantize_counts(self, counts: Any, out: Any) -> int:
        """Adds a row of a front end or, without one, a window."""
        kept = self._values[len(counts) :] if self.is_whole else self._values
        self._values = np.concatenate([kept, counts])
        return 0

    def infer(self, x: Any) -> int:
        return 0

    @property
    def is_whole(self) -> bool:
        return len(self._values) == self.input_size

    @property
    def rows(self) -> NDArray[np.int16]:
        """The values, with those of the signal's normalizations in a row."""
        return self._values.reshape(-1, self.signal.values)


@dataclass
class Takes:
    """Labelled windows of a stream of counts or, with a front end, of its outputs: then `shape` is the base's input,
    [height, width, channels].

    heard: sensor samples so far; lost: those that the board was too slow for. before: earlier data, part of `data`.
    """

    signal: Signal
    before: Dataset | None = None
    shape: tuple[int, ...] = ()
    heard: int = 0
    lost: int = 0
    _newest: _Newest = field(init=False)
    _cutter: Cutter = field(init=False)
    _taken: list[tuple[str, NDArray[np.float32]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.before and self.before.signal != self.signal:
            raise InputError("the file's samples have another signal: write to another file")
        if self.before and not self.before.labels:
            raise InputError("the file's samples have no class names: write to another file")
        if self.signal.front == "none":
            self.shape = (1, self.signal.window, self.signal.channels)
        self._newest = _Newest(self.signal, math.prod(self.shape))
        self._cutter = Cutter(self._newest, self.signal)

    def hear(self, counts: NDArray[np.int16], lost: int) -> None:
        """Adds the stream's next samples, int16 [n, channels]; lost: how many were lost in total."""
        if lost > self.lost:  # windows must have no gaps
            self._cutter.pipeline.reset()
            self.lost = lost
        self.heard += len(counts)
        deque(self._cutter.windows(counts), 0)

    @property
    def ready(self) -> bool:
        """Whether a whole window has arrived."""
        return self._newest.is_whole

    def take(self, label: str) -> bool:
        """Makes the newest window a sample. False if no window is complete yet."""
        if self.ready:
            self._taken.append((label, inputs_of(self._newest.rows, self.signal)))
        return self.ready

    def undo(self) -> str | None:
        """Removes the last sample taken here. Returns its label, None if there is none."""
        return self._taken.pop()[0] if self._taken else None

    @property
    def taken(self) -> int:
        """The number of samples taken here."""
        return len(self._taken)

    @property
    def counts(self) -> dict[str, int]:
        """The number of samples by class, earlier data included."""
        there = self.before
        counts = {name: int((there.y == i).sum()) for i, name in enumerate(there.labels)} if there else {}
        for label, _ in self._taken:
            counts[label] = counts.get(label, 0) + 1
        return counts

    @property
    def data(self) -> Dataset:
        """All samples, [N, 1, window, channels] or [N, *shape]; classes in the order of their first sample. InputError
        if there are none."""
        if not self.counts:
            raise InputError("no samples were taken")
        labels, there = list(self.counts), self.before
        x = np.array([window for _, window in self._taken], np.float32).reshape(-1, *self.shape)
        y = np.array([labels.index(label) for label, _ in self._taken], np.int64)
        if there:
            x, y = np.concatenate([there.x, x]), np.concatenate([there.y, y])
        return Dataset(x, y, labels, self.signal)


def alone(counts: NDArray[np.int16], signal: Signal, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The input [height, width, channels] of one window, int16 [window, channels], as if within a stream.

    A front end for sound needs to adapt to the room's noise, so `lead_of` precedes the window.
    """
    takes = Takes(signal, shape=shape)
    if signal.front == "audio":
        takes.hear(lead_of(counts, signal), 0)
    takes.hear(counts, 0)
    takes.take("")
    return np.asarray(takes.data.x[0])


def lead_of(counts: NDArray[np.int16], signal: Signal) -> NDArray[np.int16]:
    """The lead-in of a front end before a single window: its quietest part, repeated, int16 [n, channels]."""
    part = min(round(QUIET_SECONDS * signal.rate), len(counts))
    parts = counts[: len(counts) // part * part].reshape(-1, part, counts.shape[1])
    quietest = np.square(parts.astype(np.float64)).sum((1, 2)).argmin()
    return np.resize(parts[quietest], (round(LEAD_SECONDS * signal.rate), counts.shape[1]))
