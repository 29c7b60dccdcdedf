"""Looks for drift in a recording, without labels, by the device's own `Drift` on this computer (SPEC.md, section 13).

What is usual is learned from the first windows and kept in a file, with which the next recording goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.formats.files import read_bounded, write_atomic
from edgelora.core.twin import device
from edgelora.learn.training.data.base import Base, opened

from .decisions import Cutter, signal_of


@dataclass(frozen=True)
class Drifted:
    """What a recording tells. windows: looked at; left: still missing to know what is usual; new: of the latest ones,
    across recordings; alarm: whether these are too many; since: samples up to the end of the first window with an
    alarm, None if there is none; kept: the bytes of the file.
    """

    windows: int
    left: int
    new: int
    latest: int
    alarm: bool
    since: int | None
    kept: bytes

    def save(self, path: Path) -> None:
        """Writes the file atomically, unless there was no window. Raises OSError."""
        if self.windows:
            write_atomic(path, self.kept)


def look(base: Base, counts: NDArray[np.int16], path: Path, every: float = 0) -> Drifted:
    """Compares a recording's windows with those before. Writes nothing.

    counts: int16 [n, channels]; path: of the file, which may be missing; every: seconds from one window to the next,
    at least a window's length, so that none overlap. InputError for a damaged file or one of another base, and for a
    network whose sample is more than a window; OSError if the file can't be read.
    """
    signal, model = signal_of(base), opened(base, None)
    if model.sample_size != model.input_size:
        raise InputError(
            f"{base.name} is a streaming network, whose decisions depend on more than a window",
            remedy="look for drift with a base that decides on each window alone",
        )
    drift = _drift(model, path)
    model.infer = lambda x: 0  # only windows are needed, no decisions
    cutter, apart = Cutter(model, signal), max(signal.window, round(every * signal.rate))
    looked, due, since = 0, 0, None
    for window in cutter.windows(counts):
        end = cutter.pipeline.end
        if end < due:
            continue
        looked, due = looked + 1, end + apart
        if drift.add(window) and since is None:
            since = end
    latest = device.module("drift").LATEST
    return Drifted(looked, drift.left, drift.new, latest, drift.alarm, since, drift.kept)


def _drift(model: Any, path: Path) -> Any:
    """The device's `Drift`, which goes on with a file if there is one."""
    kept = None
    if path.exists():
        kept = read_bounded(path, 1024 * model.sample_size + 64)  # more than a device remembers
    try:
        with device.refusals():
            return device.module("drift").Drift(model, kept)
    except InputError as refusal:
        raise InputError(f"{path}: {refusal}", remedy="give --drift another file; this one was not changed") from None
