"""Activity recognition: seglearn's smartwatch recordings, by person."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError, MissingPackage
from edgelora.core.formats.signal import Normal, Signal

from .dataset import Dataset

HAR_SUBJECTS = (1, 2, 3, 4, 5, 6)
HAR_PEOPLE = tuple(range(1, 11))  # including those that settings were chosen on
HAR_RATE = 50  # samples a second
ARMS = ("left", "right")
HAR_WINDOW = 100  # samples: 2 s
HAR_HOP = 50  # samples: 1 s
HAR_TRAIN_HOP = 25  # of the held-out person's training windows, as there is little data
TRAIN, TEST = (0.0, 0.3), (0.4, 1.0)  # shares of a recording's time that the held-out person trains and tests with
HAR_UNITS = np.array([1, 1, 1, 4, 4, 4], np.float32)  # accelerometer in g; gyroscope in 4 rad/s, to share one scale
# As an MPU-6050 counts with ranges of 8 g and 2000 degrees a second.
HAR_SCALES = (1 / 4096, math.radians(1 / 16.4))
GESTURES = {"circle": 0, "wave": 2, "shake": 4, "knock": 6}  # and the exercises that represent them
HAR_SIGNAL = Signal(
    HAR_RATE,
    6,
    HAR_WINDOW,
    HAR_HOP,
    tuple(Normal(HAR_SCALES[axis // 3], 0, float(HAR_UNITS[axis])) for axis in range(6)),
    units="g, then rad/s",
)


@dataclass
class HarData:
    """Activity recognition with one person held out.

    pretrain: windows of the other people; train, test: the held-out person's, from the first 30 % and the last 60 %
    of each recording.
    """

    subject: int
    pretrain: Dataset
    train: Dataset
    test: Dataset

    @property
    def labels(self) -> list[str]:
        return self.pretrain.labels


# ---- the demo's data -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Recording:
    subject: int
    label: int
    samples: NDArray[np.float32]  # [time, 6]
    arm: str = ""  # left or right


def load_har(subject: int) -> HarData:
    """Smartwatch windows [N, 1, 100, 6] of 2 s, one per second (two for training), with `subject` (1 to 6) held out.

    Channels are three of acceleration in g and three of rotation in units of 4 rad/s. Recordings are cut by time
    before windowing, so that no window lies in two parts. Raises ModuleNotFoundError without seglearn.
    """
    if subject not in HAR_SUBJECTS:
        raise InputError(f"subject {subject}: choose one of {HAR_SUBJECTS[0]} to {HAR_SUBJECTS[-1]}")
    recordings, labels = _load_watch(HAR_SUBJECTS)
    others = [r for r in recordings if r.subject != subject]
    own = [r for r in recordings if r.subject == subject]
    return HarData(
        subject,
        _windowed(others, 0.0, 1.0, HAR_HOP, labels),
        _windowed(own, *TRAIN, HAR_TRAIN_HOP, labels),
        _windowed(own, *TEST, HAR_HOP, labels),
    )


def har_takes(subject: int, part: str) -> list[tuple[NDArray[np.int16], int]]:
    """A person's watch data in counts, int16 [n, 6], with labels: windows of `train`, whole recordings of `test`.

    They are those of `load_har`; the windows of a `test` recording are one after the other, HAR_HOP apart.
    """
    if part == "train":
        train = load_har(subject).train
        return [(HAR_SIGNAL.counts(x[0]), int(y)) for x, y in zip(train.x, train.y, strict=True)]
    own = [recording for recording in _load_watch(HAR_SUBJECTS)[0] if recording.subject == subject]
    return [(HAR_SIGNAL.counts(_part(recording, *TEST)), recording.label) for recording in own]


def demo_motion(name: str) -> NDArray[np.float64]:
    """A recording for a simulated sensor, HAR_RATE rows per second: g and rad/s, [n, 6]. InputError for other names.

    An exercise of person 3 represents each gesture of the guide: "circle" is the first 40 % of its longest recording,
    "circle-later" the rest, and "" all of them, one after the other.
    """
    gesture, _, part = name.partition("-")
    if name and (gesture not in GESTURES or part not in ("", "later")):
        raise InputError(
            f"there is no recording {name!r}", remedy=f"give one of {', '.join(GESTURES)}, or circle-later"
        )
    recordings = _load_watch(HAR_SUBJECTS)[0]
    shares = (0.0, 1.0) if not name else (0.4, 1.0) if part else (0.0, 0.4)
    motion = []
    for label in [GESTURES[gesture]] if name else GESTURES.values():
        longest = max((r for r in recordings if (r.subject, r.label) == (3, label)), key=lambda r: len(r.samples))
        motion.append(_part(longest, *shares).astype(np.float64) * HAR_UNITS)
    return np.concatenate(motion)


def load_har_arm(subject: int, arm: str) -> tuple[Dataset, Dataset]:
    """Training and test windows of a person, 1 to 10, and the "left" or "right" arm, cut as `load_har` cuts them."""
    recordings, labels = _load_watch(HAR_PEOPLE)
    own = [r for r in recordings if (r.subject, r.arm) == (subject, arm)]
    return _windowed(own, *TRAIN, HAR_TRAIN_HOP, labels), _windowed(own, *TEST, HAR_HOP, labels)


def load_har_people(subjects: tuple[int, ...]) -> Dataset:
    """All windows of these people, 1 to 10, to pretrain on."""
    recordings, labels = _load_watch(HAR_PEOPLE)
    return _windowed([r for r in recordings if r.subject in subjects], 0.0, 1.0, HAR_HOP, labels)


@functools.lru_cache(maxsize=2)
def _load_watch(subjects: tuple[int, ...]) -> tuple[list[_Recording], list[str]]:
    """Recordings of `subjects`, and the exercises' names.

    Reads the file that `seglearn.datasets.load_watch` reads: importing seglearn needs pandas, which it doesn't declare.
    """
    spec = find_spec("seglearn")
    if spec is None or spec.origin is None:
        raise MissingPackage("the demo data is in the package seglearn: pip install 'edgelora[demo]'")
    raw = np.load(Path(spec.origin).parent / "data" / "watch_dataset.npy", allow_pickle=True).item()
    recordings = [
        _Recording(int(who), int(label), (samples / HAR_UNITS).astype(np.float32), ARMS[int(side)])
        for who, label, side, samples in zip(raw["subject"], raw["y"], raw["side"], raw["X"], strict=True)
        if who in subjects
    ]
    return recordings, [str(name) for name in raw["y_labels"]]


def _part(recording: _Recording, start: float, end: float) -> NDArray[np.float32]:
    """Samples between the shares `start` and `end` of a recording's time."""
    count = len(recording.samples)
    return recording.samples[round(start * count) : round(end * count)]


def _windowed(recordings: list[_Recording], start: float, end: float, hop: int, labels: list[str]) -> Dataset:
    """Windows of each recording's part between the shares `start` and `end` of its time."""
    x, y = [], []
    for recording in recordings:
        part = _part(recording, start, end)
        windows = [part[i : i + HAR_WINDOW] for i in range(0, len(part) - HAR_WINDOW + 1, hop)]
        x += windows
        y += [recording.label] * len(windows)
    return Dataset(np.array(x, np.float32)[:, None], np.array(y, np.int64), labels, HAR_SIGNAL)
