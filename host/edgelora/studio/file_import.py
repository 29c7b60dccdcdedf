"""Import of dropped files, which are untrusted and read in a separate process. No pages in here."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.base.workers import apart
from edgelora.core.formats.files import MAX_RECORDING_BYTES
from edgelora.core.formats.npz import read_npz
from edgelora.core.formats.signal import Signal
from edgelora.core.twin import device
from edgelora.model.datasets.capture import Capture
from edgelora.model.datasets.dataset import load_dataset
from edgelora.model.datasets.recordings import NotCounts, Recording, load_capture, load_recording

from .word_segments import starts_of

MOST_DROPPED = 1000  # windows of one file
MOST_BYTES = 64 << 20  # of a dropped file
T = TypeVar("T")


def dropped_windows(name: str, content: bytes, label: str, signal: Signal) -> list[tuple[str, NDArray[np.int16]]]:
    """Labelled windows of a .csv, .wav, .npz, .json or .cbor, int16 [window, channels].

    label: of all windows, or "" to use the file's labels: a data set's own, else the part of the file's name before
    the first dot, as in `LABEL.what.ever`. InputError for invalid files.
    """
    if len(content) > MOST_BYTES:
        raise InputError(f"{name}: has {len(content)} bytes, the limit is {MOST_BYTES}: split it")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file_name(name)
        path.write_bytes(content)
        return told_of(path, lambda: apart(_windows, path, label, signal))


def file_name(name: str) -> str:
    """A given file's name without its folder and unusual characters."""
    return re.sub(r"[^\w.-]", "_", Path(name.replace("\\", "/")).name)[-80:].lstrip(".") or "file"


def check_recording(name: str, content: bytes) -> None:
    """Raises InputError if a file is not a recording."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        told_of(path, lambda: apart(_check, path))


def read_capture(path: Path) -> Capture:
    """A recording as stored in its file. InputError for invalid files."""
    return told_of(path, lambda: apart(load_capture, path))


def read_tape(path: Path, signal: Signal) -> NDArray[np.int16]:
    """A recording's counts, int16 [n, channels]. InputError for invalid files."""
    return told_of(path, lambda: apart(_read_recording, path, signal)).counts


def told_of(path: Path, read: Callable[[], T]) -> T:
    """Reads a file; errors name the file without its folder."""
    try:
        return read()
    except (EdgeloraError, OSError) as error:
        remedy = getattr(error, "remedy", "")
        what = str(error).replace(f"{path.parent}{os.sep}", "").removesuffix(f": {remedy}")
        what = what if what.startswith(path.name) else f"{path.name}: {what}"
        raise InputError(what, remedy=remedy) from error


# --- in the separate process


def _windows(path: Path, label: str, signal: Signal) -> list[tuple[str, NDArray[np.int16]]]:
    if path.suffix.lower() == ".npz" and "x" in read_npz(path, "give a data set or a recording", MAX_RECORDING_BYTES):
        found = _labelled(path, label, signal)
    else:
        counts, label = _read_recording(path, signal).counts, label or path.name.split(".")[0]
        starts = _starts(counts, signal)
        if not starts:
            raise InputError(
                f"{path}: has {len(counts)} samples, a window needs {signal.window}: give a longer recording"
            )
        found = [(label, counts[start : start + signal.window]) for start in starts[: MOST_DROPPED + 1]]
    if len(found) > MOST_DROPPED:
        raise InputError(f"{path}: makes more than {MOST_DROPPED} windows: split it")
    return found


def _starts(counts: NDArray[np.int16], signal: Signal) -> Sequence[int]:
    """Where windows begin: around words in sound, else one after the other."""
    if signal.front == "audio":
        return starts_of(counts[:, 0], signal.rate, signal.window, signal.hop)
    return range(0, len(counts) - signal.window + 1, signal.hop)


def _check(path: Path) -> None:
    load_capture(path)


def _read_recording(path: Path, signal: Signal) -> Recording:
    """Reads a recording: 16-bit integers are counts, other values are in units."""
    try:
        return load_recording(path, signal)
    except NotCounts:
        if path.suffix.lower() != ".csv":
            raise
        return load_recording(path, signal, units=True)


def _labelled(path: Path, label: str, signal: Signal) -> list[tuple[str, NDArray[np.int16]]]:
    """A data set's windows, as the counts of its inputs."""
    data = load_dataset(path)
    if signal.front != "none" or (data.signal and data.signal.front != "none"):
        raise InputError(f"{path}: has features of a front end, which can't be cut into windows: give recordings")
    if data.x[0].size != signal.window * signal.channels:
        raise InputError(
            f"{path}: has samples of {data.x.shape[1:]}, the base takes {signal.window} x {signal.channels}"
        )
    if data.signal and (why := unlike(data.signal, signal)):
        raise InputError(f"{path}: {why}")
    counts = signal.counts(data.x.reshape(len(data), signal.window, signal.channels))
    names = data.labels or [str(i) for i in range(data.classes)]
    return [(label or names[number], window) for number, window in zip(data.y, counts, strict=True)]


def unlike(mine: Signal, wanted: Signal) -> str:
    """Why signals differ, in words; "" if they match."""
    if (mine.channels, mine.front) != (wanted.channels, wanted.front) or mine.window < wanted.window:
        return f"has another signal ({mine})"
    far = device.module("pipeline").far
    if far(mine.rate, wanted.rate):
        return f"has {mine.rate:g} samples per second, {wanted.rate:g} are needed"
    if wanted.front == "none" and any(map(far, mine.scales, wanted.scales)):
        return "has counts of another size"
    return ""
