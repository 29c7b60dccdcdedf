"""Windows of a sensor's stream as samples: of a board's, when the user labels the newest one, or of recordings."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.formats.network import window_shape
from edgelora.core.formats.signal import Signal
from edgelora.core.twin import device
from edgelora.learn.training.data.base import Base
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.datasets.recordings import Recording, check_windows, inputs_of

from .decisions import Cutter, signal_of

LEAD_SECONDS = 0.5  # for a front end to adapt to a room's noise
QUIET_SECONDS = 0.125  # of a window, which represent that noise


@dataclass(frozen=True)
class Window:
    """What a network takes of a stream as one sample: `frames` inputs, one every `signal.hop` sensor samples.

    input: the shape of one of them, [height, width, channels]; without a front end, of [window, channels].
    """

    signal: Signal
    input: tuple[int, ...]
    frames: int = 1

    @staticmethod
    def of(base: Base, frames: int | None = None) -> Window:
        """The windows of a base: by default as many frames as an output depends on. InputError without history for
        several, WorkflowError without a signal."""
        signal, model = signal_of(base), base.model
        if frames not in (None, 1) and not model.has_history:
            raise InputError(f"{base.name} has no history: its samples are single inputs, omit --frames")
        shape = model.input.shape if signal.front != "none" else (1, signal.window, signal.channels)
        return Window(signal, shape, model.reach if frames is None else frames)

    @property
    def span(self) -> int:
        """Sensor samples."""
        return self.signal.window + (self.frames - 1) * self.signal.hop

    @property
    def shape(self) -> tuple[int, int, int]:
        return window_shape(self.input, self.frames)

    @property
    def size(self) -> int:
        """How many values the rows of a window have."""
        row, frame, every = self._rows
        return row * (frame + (self.frames - 1) * every)

    @property
    def stride(self) -> int:
        """Sensor samples from a row to the next."""
        return self.signal.hop // self._rows[2]

    @property
    def _rows(self) -> tuple[int, int, int]:
        """(values of a row, rows of a frame, rows from a frame to the next). A row is a front end's output or, without
        one, a sensor sample."""
        signal, size = self.signal, math.prod(self.input)
        if signal.front == "none":
            return signal.channels, signal.window, signal.hop
        front = device.module("pipeline")._front_of(SimpleNamespace(input_size=size), signal)
        return front.size, size // front.size, signal.hop // getattr(front, "stride", front.hop)

    def sample(self, values: NDArray[np.int16]) -> NDArray[np.float32]:
        """The real inputs [*shape] that rows of int16 values [size] are."""
        row, frame, every = self._rows
        real = inputs_of(values.reshape(-1, self.signal.values), self.signal).reshape(-1, row)
        return np.stack([real[i * every : i * every + frame] for i in range(self.frames)]).reshape(self.shape)


class _Newest:
    """In a model's place in the device's pipeline: keeps the newest values that a window consists of, not quantized."""

    def __init__(self, window: Window, hop: int | None = None) -> None:
        """hop: sensor samples from one of the pipeline's windows to the next (without a front end one, with it the
        signal's)."""
        hop = hop or (1 if window.signal.front == "none" else window.signal.hop)
        self.signal = replace(window.signal, window=window.span, hop=hop)
        self.input_size = window.size
        self.reset()

    def reset(self) -> None:
        self.values = np.zeros(0, np.int16)

    def quantize_counts(self, counts: Any, out: Any) -> int:
        """Adds a row of a front end or, without one, a window."""
        kept = self.values[len(counts) :] if self.is_whole else self.values
        self.values = np.concatenate([kept, counts])
        return 0

    def infer(self, x: Any) -> int:
        return 0

    @property
    def is_whole(self) -> bool:
        return len(self.values) == self.input_size


@dataclass
class Takes:
    """Labelled windows of a stream of counts or, with a front end, of its outputs.

    heard: sensor samples so far; lost: those that the board was too slow for. before: earlier data, part of `data`.
    """

    window: Window
    before: Dataset | None = None
    heard: int = 0
    lost: int = 0
    _newest: _Newest = field(init=False)
    _cutter: Cutter = field(init=False)
    _taken: list[tuple[str, NDArray[np.float32]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.before and self.before.signal != self.window.signal:
            raise InputError("the file's samples have another signal: write to another file")
        if self.before and self.before.x.shape[1:] != self.window.shape:
            raise InputError(
                f"the file's samples have shape {self.before.x.shape[1:]}, those of {self.window.frames} frames "
                f"{self.window.shape}: write to another file, or give --frames as then"
            )
        if self.before and not self.before.labels:
            raise InputError("the file's samples have no class names: write to another file")
        self._newest = _Newest(self.window)
        self._cutter = Cutter(self._newest, self._newest.signal)

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
            self._taken.append((label, self.window.sample(self._newest.values)))
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
        """All samples, [N, *window.shape]; classes in the order of their first sample. InputError if there are none."""
        if not self.counts:
            raise InputError("no samples were taken")
        labels, there = list(self.counts), self.before
        x = np.array([window for _, window in self._taken], np.float32).reshape(-1, *self.window.shape)
        y = np.array([labels.index(label) for label, _ in self._taken], np.int64)
        if there:
            x, y = np.concatenate([there.x, x]), np.concatenate([there.y, y])
        return Dataset(x, y, labels, self.window.signal)


def alone(counts: NDArray[np.int16], signal: Signal, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The input [height, width, channels] of one window, int16 [window, channels], as if within a stream.

    A front end for sound needs to adapt to the room's noise, so `lead_of` precedes the window.
    """
    takes = Takes(Window(signal, shape if signal.front != "none" else (1, signal.window, signal.channels)))
    if signal.front == "audio":
        takes.hear(lead_of(counts, signal), 0)
    takes.hear(counts, 0)
    takes.take("")
    return np.asarray(takes.data.x[0])


def lead_of(counts: NDArray[np.int16], signal: Signal, samples: int = 0) -> NDArray[np.int16]:
    """The lead-in of a front end before a recording: its quietest part, repeated, int16 [n, channels].

    samples: its length (`LEAD_SECONDS`).
    """
    part = min(round(QUIET_SECONDS * signal.rate), len(counts))
    parts = counts[: len(counts) // part * part].reshape(-1, part, counts.shape[1])
    quietest = np.square(parts.astype(np.float64)).sum((1, 2)).argmin()
    return np.resize(parts[quietest], (samples or round(LEAD_SECONDS * signal.rate), counts.shape[1]))


def windows_of(
    recordings: Sequence[tuple[str, Recording]], window: Window, hop: int | None = None, last: Container[str] = ()
) -> Dataset:
    """Labelled recordings as samples, by the board's own pipeline; classes in order of names.

    hop: sensor samples from a window to the next (the signal's). last: classes whose recordings give only the window
    that ends with each. A recording of sound that is shorter begins with its quietest part (`lead_of`), which also
    precedes longer ones, for the front end to adapt to. InputError for recordings that are all too short, or make more
    windows than memory holds.
    """
    hop, span = hop or window.signal.hop, window.span
    if hop % window.stride:
        raise InputError(
            f"a hop of {hop} samples: the front end has an output every {window.stride}", remedy="give a multiple of it"
        )
    whole = [max(0, len(r.counts) - span + hop) // hop for _, r in recordings]
    if window.signal.front == "audio":
        whole = [max(1, count) for count in whole]
    whole = [min(count, 1) if label in last else count for (label, _), count in zip(recordings, whole, strict=True)]
    check_windows(sum(whole), span, math.prod(window.shape))
    labels = sorted({label for label, _ in recordings})
    found = [(labels.index(label), x) for label, r in recordings for x in _cut(r.counts, window, hop, label in last)]
    x, y = np.array([x for _, x in found], np.float32), np.array([y for y, _ in found], np.int64)
    return Dataset(x, y, labels, window.signal)


def _cut(counts: NDArray[np.int16], window: Window, hop: int, last: bool) -> Iterator[NDArray[np.float32]]:
    signal, missing = window.signal, max(0, window.span - len(counts))
    last = last or missing > 0
    lead = counts[:0]
    if signal.front == "audio":
        enough = round(LEAD_SECONDS * signal.rate)
        lead = lead_of(counts, signal, enough + missing if last else -(-enough // hop) * hop)
    elif signal.front == "none" and last:
        counts = counts[-window.span :]
    newest = _Newest(window, hop)
    cutter = Cutter(newest, newest.signal)
    for _ in cutter.windows(np.concatenate([lead, counts])):
        if not last and cutter.pipeline.end >= len(lead) + window.span:
            yield window.sample(newest.values)
    if last and newest.is_whole:
        yield window.sample(newest.values)
