"""The samples of a project: recorded or dropped windows, by class. No pages in here.

Each sample is a file in `samples/`, `LABEL.ID.npz`: a recording of one window, as `edgelora convert --base` reads it.
The folder is the only state. A change writes or renames a file atomically, so the folder is consistent whenever the
studio ends. Removed samples stay in `samples/.removed` for a while.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import threading
import time
import unicodedata
import wave
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.core.formats.envelope import FormatError
from edgelora.core.formats.files import write_atomic
from edgelora.core.formats.npz import read_npz, write_npz
from edgelora.core.formats.signal import Signal
from edgelora.learn.streaming.sample_windows import alone
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.data.samples import Samples
from edgelora.model.datasets.dataset import Dataset, held_out
from edgelora.model.datasets.recordings import doubts, inputs_of

from .file_import import dropped_windows, unlike
from .spectrogram import FAST_RATE, Spectrogram

CLASSES_FILE = "classes.json"
REMOVED = ".removed"
MOST_LABEL = 40  # characters
MOST_SAMPLE = 4 << 20  # bytes of an unpacked sample: a signal's maximum and its metadata
MOST_REMOVED = 500  # files
MOST_UNDO = 100
ENOUGH = 8  # samples of a class that allow testing: a quarter is held out
UNEVEN = 3  # ratio of class sizes that counts as imbalanced
REMEDY = "remove the file from the project's folder samples"
NO_LABEL = re.compile(r'[./\\:*?"<>|]')


class HasFolder(Protocol):
    """The part of a project that its samples use."""

    folder: Path


@dataclass(frozen=True)
class Sample:
    """A sample of the project. id: its time in ms; samples of a dropped file count on. held: used for testing, not for
    training."""

    id: str
    label: str
    held: bool

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.label}.{self.id}.npz"


@dataclass(frozen=True)
class Class:
    """A class of the project: its numbers of training and test samples, and what is missing, in words, or ""."""

    label: str
    kept: int
    held: int
    missing: str


@dataclass(frozen=True)
class Window:
    """A sample's content: counts, int16 [window, channels], of a signal; shape: of the network's input."""

    counts: NDArray[np.int16]
    signal: Signal
    shape: tuple[int, ...]


class ProjectSamples:
    """The samples of a project, in order of time."""

    def __init__(self, project: HasFolder) -> None:
        self.folder = project.folder / "samples"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.version = 0  # rises at each change
        self.samples: tuple[Sample, ...] = ()
        self.labels: tuple[str, ...] = ()  # those named on the page first
        self._undo: deque[tuple[str, Callable[[], None]]] = deque(maxlen=MOST_UNDO)
        self._lock = threading.RLock()
        self._made: dict[tuple[int, str], tuple[Dataset | None, list[str], list[str]]] = {}  # the latest data set
        self._windows: dict[str, tuple[tuple[int, int], Window]] = {}  # by name, with the file's modification time
        self._last = 0
        self.reload()

    def reload(self) -> None:
        """Reads the folder again, as other programs may have changed it."""
        with self._lock:
            found = sorted(
                (parts[1], parts[0])
                for path in self.folder.glob("*.npz")
                if len(parts := path.name.split(".")) == 3 and parts[1].isdecimal() and not path.name.startswith(".")
            )
            named = _read_classes(self.folder / CLASSES_FILE)
            self.labels = tuple(dict.fromkeys([*named, *(label for _, label in found)]))
            y = np.array([self.labels.index(label) for _, label in found], np.int64)
            held = held_out(y)
            self.samples = tuple(Sample(i, label, bool(h)) for (i, label), h in zip(found, held, strict=True))
            names = {sample.name for sample in self.samples}
            self._windows = {name: read for name, read in self._windows.items() if name in names}
            self._last = max([self._last, *(int(sample.id) for sample in self.samples)])
            self.version += 1

    # --- queries

    def __len__(self) -> int:
        return len(self.samples)

    def of(self, label: str) -> list[Sample]:
        return [sample for sample in self.samples if sample.label == label]

    def sample(self, sample_id: str) -> Sample:
        """The sample with this id. InputError if it is gone."""
        for sample in self.samples:
            if sample.id == sample_id:
                return sample
        raise InputError("this sample no longer exists")

    def held(self) -> NDArray[np.bool_]:
        """Which samples are held out for testing."""
        return np.array([sample.held for sample in self.samples], bool)

    @property
    def classes(self) -> list[Class]:
        """Each class with its counts, and what is missing."""
        counts = {label: len(self.of(label)) for label in self.labels}
        most = max(counts.values(), default=0)
        made = []
        for label, count in counts.items():
            held = sum(sample.held for sample in self.of(label))
            missing = ""
            if count < ENOUGH:
                missing = f"{ENOUGH - count} more for testing" if count else f"no samples yet: record {ENOUGH} or more"
            elif most > UNEVEN * count:
                missing = f"few, compared with {most} of another class"
            made.append(Class(label, count - held, held, missing))
        return made

    @property
    def advice(self) -> str:
        """Advice on the next step."""
        if len(self.labels) < 2:
            return "Name at least two classes: the network learns to distinguish them."
        short = [entry.label for entry in self.classes if entry.missing]
        return f"Record more of: {', '.join(short)}." if short else "There are enough samples of each class to train."

    def window(self, sample: Sample) -> Window:
        """A sample's window, read on first use. InputError if its file is damaged or not a sample."""
        path = self.folder / sample.name
        try:
            there = path.stat()
        except OSError as error:
            raise InputError(f"{path.name}: {error.strerror}") from error
        stamp, known = (there.st_mtime_ns, there.st_size), self._windows.get(sample.name)
        if known is None or known[0] != stamp:
            known = self._windows[sample.name] = (stamp, self._read(path))
        return known[1]

    def _read(self, path: Path) -> Window:
        try:
            arrays = read_npz(path, REMEDY, MOST_SAMPLE)
        except OSError as error:
            raise InputError(f"{path.name}: {error.strerror}") from error
        try:
            signal = Signal.of_json(json.loads(str(arrays["signal"])))
            counts, shape = arrays["samples"], tuple(int(n) for n in arrays["shape"])
        except (KeyError, ValueError, TypeError, FormatError) as error:
            raise InputError(f"{path.name}: is not a sample of this project ({error})", remedy=REMEDY) from None
        if counts.dtype != np.int16 or counts.ndim != 2 or counts.shape != (signal.window, signal.channels):
            raise InputError(f"{path.name}: has counts {counts.shape}, {counts.dtype}", remedy=REMEDY)
        return Window(counts, signal, shape)

    @property
    def signal(self) -> Signal | None:
        """The newest sample's signal."""
        for sample in reversed(self.samples):
            with contextlib.suppress(EdgeloraError):
                return self.window(sample).signal
        return None

    def dataset(self, base: Base | None = None) -> Dataset | None:
        """All samples as a network's real inputs, in their order; None if there are none.

        base: its signal defines windows and normalization; None: the newest sample's. Samples of another signal
        and damaged ones are left out: see `left_out`.
        """
        return self._dataset(base)[0]  # read-only for the caller

    def samples_of(self, base: Base) -> tuple[Samples, NDArray[np.bool_]] | None:
        """The samples of a base's own classes, and which of them are held out for testing; None if there are none."""
        with self._lock:
            data, _, ids = self._dataset(base)
            held = {sample.id: sample.held for sample in self.samples}
        if data is None:
            return None
        numbers = {name: number for number, name in enumerate(base.model.labels)}
        y = np.array([numbers.get(data.labels[label], -1) for label in data.y], np.int64)
        known = Samples(base.model.input.quantize(data.x).reshape(-1, *base.model.input.shape), y)
        if not (y >= 0).any():
            return None
        return known.part(y >= 0), np.array([held[sample_id] for sample_id in ids])[y >= 0]

    def left_out(self, base: Base | None = None) -> list[str]:
        """Why samples are left out of `dataset`, in words."""
        return self._dataset(base)[1]

    def fitting(self, base: Base | None = None) -> list[str]:
        """Ids of the samples of `dataset`, in its order."""
        return self._dataset(base)[2]

    def _dataset(self, base: Base | None) -> tuple[Dataset | None, list[str], list[str]]:
        with self._lock:
            key = (self.version, base.base_id if base else "")
            if key not in self._made:
                self._made = {key: self._all(base)}
            return self._made[key]

    def _all(self, base: Base | None) -> tuple[Dataset | None, list[str], list[str]]:
        windows, problems = [], []
        for sample in self.samples:
            try:
                windows.append((sample, self.window(sample)))
            except EdgeloraError as error:
                problems.append(str(error))
        signal = base.model.signal if base else windows[-1][1].signal if windows else None
        if signal is None:
            return None, problems, []
        shape = base.model.input.shape if base else windows[-1][1].shape
        x, y, ids = [], [], []
        for sample, window in windows:
            if why := unlike(window.signal, signal):
                problems.append(f"{sample.name}: {why}")
                continue
            x.append(alone(window.counts[-signal.window :], signal, shape))
            y.append(self.labels.index(sample.label))
            ids.append(sample.id)
        if not x:
            return None, problems, []
        return Dataset(np.array(x, np.float32), np.array(y, np.int64), list(self.labels), signal), problems, ids

    # --- changes

    def name_class(self, label: str) -> str:
        """Adds a class without samples; returns its normalized name. InputError if it is invalid."""
        label = checked_label(label)
        with self._lock:
            if label not in self.labels:
                self._write_classes([*self.labels, label])
                self._undo.append((f"class {label}", lambda: self._forget_class(label)))
                self.reload()
        return label

    def adopt(self, labels: Sequence[str]) -> None:
        """Reads the folder again after samples were added, and adopts their class names."""
        with self._lock:
            known = [*self.labels, *(label for label in map(checked_label, labels) if label not in self.labels)]
            self._write_classes(dict.fromkeys(known))
            self.reload()

    def rename_class(self, label: str, to: str) -> None:
        """Renames a class with all its samples."""
        to = checked_label(to)
        if to in self.labels:
            raise InputError(f"class {to} exists already", remedy="relabel the samples instead")
        with self._lock:
            for sample in self.of(label):
                self._move(sample.name, Sample(sample.id, to, False).name)
            self._write_classes([to if name == label else name for name in self.labels])
            self._undo.append((f"class {label} was renamed", lambda: self.rename_class(to, label)))
            self.reload()

    def remove_class(self, label: str) -> None:
        """Removes a class with its samples."""
        with self._lock:
            names, before = [sample.name for sample in self.of(label)], self.labels
            self._remove(names)
            self._write_classes([name for name in self.labels if name != label])

            def back() -> None:
                self._restore(names)
                self._write_classes(before)

            self._undo.append((f"class {label}", back))
            self.reload()

    def take(self, label: str, counts: NDArray[np.int16], signal: Signal, shape: Sequence[int]) -> Sample:
        """Saves a window, int16 [window, channels], to disk before it returns."""
        return self.take_all([(label, counts)], signal, shape)[0]

    def take_all(
        self, windows: Sequence[tuple[str, NDArray[np.int16]]], signal: Signal, shape: Sequence[int]
    ) -> list[Sample]:
        """Saves several windows; one undo removes all of them."""
        for label, counts in windows:
            checked_label(label)
            if counts.shape != (signal.window, signal.channels):
                raise InputError(f"a window of {counts.shape}: give {signal.window} samples of {signal.channels}")
        arrays = {
            "rate": np.array(signal.rate),
            "signal": np.array(json.dumps(signal.as_json())),
            "shape": np.array(shape, np.int64),
        }
        self._check_folder()
        with self._lock:
            names = [Sample(self._next_id(), checked_label(label), False).name for label, _ in windows]
        try:  # without the lock, which pages wait for: writing a thousand files takes seconds
            for name, (_, counts) in zip(names, windows, strict=True):
                write_npz(self.folder / name, {"samples": counts.astype(np.int16), **arrays})
        except BaseException:  # all of them or none
            for name in names:
                (self.folder / name).unlink(missing_ok=True)
            self.reload()
            raise
        with self._lock:
            self._undo.append((_some(len(names)), lambda: self._remove(names)))
            self.reload()
            kept = {sample.name: sample for sample in self.samples}
            return [kept[name] for name in names]

    def relabel(self, ids: Sequence[str], label: str) -> None:
        """Changes the class of samples."""
        label = checked_label(label)
        with self._lock:
            moves = [(old.name, Sample(old.id, label, False).name) for old in map(self.sample, ids)]
            for old, new in moves:
                self._move(old, new)

            def back() -> None:
                for old, new in moves:
                    self._move(new, old)

            self._undo.append((f"the label of {_some(len(moves))}", back))
            self.reload()

    def remove(self, ids: Sequence[str]) -> None:
        """Removes samples from the project."""
        with self._lock:
            names = [self.sample(sample_id).name for sample_id in ids]
            self._remove(names)
            self._undo.append((f"{_some(len(names))} removed", lambda: self._restore(names)))
            self.reload()

    @property
    def can_undo(self) -> str:
        """What `undo` would revert, in words, or ""."""
        return self._undo[-1][0] if self._undo else ""

    def undo(self) -> str:
        """Reverts the last change; returns what it was, or "" if there is none."""
        with self._lock:
            if not self._undo:
                return ""
            what, back = self._undo.pop()
            count = len(self._undo)
            try:
                back()
            except OSError as error:
                raise InputError(f"{what} can't be undone: {error.strerror or error}") from error
            finally:
                while len(self._undo) > count:
                    self._undo.pop()
                self.reload()
            return what

    # --- dropped files

    def drop(self, name: str, content: bytes, label: str, base: Base) -> list[Sample]:
        """Saves a file's content as windows for a base; see `dropped_windows`. Takes a while.

        InputError for invalid files, of which nothing is kept.
        """
        signal = base.model.signal
        if signal is None:
            raise InputError(f"{base.name} does not describe its signal: choose another base")
        return self.take_all(dropped_windows(name, content, label, signal), signal, base.model.input.shape)

    def doubts(self, samples: Sequence[Sample]) -> str:
        """Why samples' values are unlikely for their signal, in words; "" if they are plausible."""
        windows = [self.window(sample) for sample in samples]
        return doubts(np.concatenate([one.counts for one in windows]), windows[0].signal) if windows else ""

    # --- for pages

    def thumbnail(self, sample: Sample, points: int = 64) -> dict[str, object]:
        """A thumbnail's data: rows of 0 to 255, of channels or of a spectrogram's bands."""
        window = self.window(sample)
        signal, counts = window.signal, window.counts
        seconds = signal.window / signal.rate
        if signal.rate >= FAST_RATE:
            columns = Spectrogram(signal.rate).feed(counts[:, 0])
            picked = columns[np.linspace(0, len(columns) - 1, min(points, len(columns))).astype(int)]
            return {"kind": "sound", "seconds": seconds, "rows": picked[:, 2:].T.tolist()}
        plain = signal.front == "none"
        real = inputs_of(counts, signal) if plain else counts / np.maximum(np.abs(counts).max(0), 1)
        picked = real[np.linspace(0, len(real) - 1, min(points, len(real))).astype(int)]
        return {
            "kind": "traces",
            "seconds": seconds,
            "rows": np.clip(127.5 + picked.T * 42, 0, 255).astype(np.uint8).tolist(),
        }

    def wav(self, sample: Sample) -> bytes:
        """A sample as sound, 16 bits."""
        window = self.window(sample)
        return wav_of(window.counts, window.signal.rate)

    # --- names of files

    def _check_folder(self) -> None:
        """Raises an error if the folder is gone, instead of creating it again."""
        if not self.folder.is_dir():
            raise InputError(
                f"{self.folder} no longer exists: nothing was saved",
                remedy="restore the project's folder, or restart the studio with the folder's new path",
            )

    def _next_id(self) -> str:
        self._last = max(self._last + 1, time.time_ns() // 1_000_000)
        return f"{self._last:013d}"

    def _move(self, name: str, to: str) -> None:
        if name != to:
            os.replace(self.folder / name, self.folder / to)

    def _remove(self, names: Sequence[str]) -> None:
        gone = self.folder / REMOVED
        gone.mkdir(exist_ok=True)
        for name in names:
            os.replace(self.folder / name, gone / name)
            os.utime(gone / name)
        kept = sorted(gone.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        for path in kept[: max(0, len(kept) - MOST_REMOVED)]:
            path.unlink(missing_ok=True)

    def _restore(self, names: Sequence[str]) -> None:
        for name in names:
            os.replace(self.folder / REMOVED / name, self.folder / name)

    def _forget_class(self, label: str) -> None:
        self._write_classes([name for name in self.labels if name != label])

    def _write_classes(self, labels: Iterable[str]) -> None:
        self._check_folder()
        write_atomic(self.folder / CLASSES_FILE, json.dumps(list(labels), ensure_ascii=False).encode())


def wav_of(counts: NDArray[np.int16], rate: float) -> bytes:
    """Counts [n, channels] as a .wav."""
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((counts.shape[1], 2, round(rate), len(counts), "NONE", ""))
        file.writeframes(counts.astype("<i2").tobytes())
    return made.getvalue()


def checked_label(text: str) -> str:
    """A normalized class name, which is part of file names. InputError if it is invalid."""
    label = unicodedata.normalize("NFC", text).strip()
    if not label or len(label) > MOST_LABEL or NO_LABEL.search(label) or not label.isprintable():
        raise InputError(
            f'{text[:60]!r} is not a class name: give 1 to {MOST_LABEL} characters, none of them . / \\ : * ? " < > |'
        )
    return label


def _read_classes(path: Path) -> list[str]:
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return []
    labels = []
    for name in said if isinstance(said, list) else []:
        with contextlib.suppress(InputError):
            labels.append(checked_label(str(name)))
    return labels


def _some(count: int) -> str:
    return "a sample" if count == 1 else f"{count} samples"
