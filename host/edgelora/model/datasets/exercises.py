"""Normal and unusual exercises of a person, from seglearn's recordings, for anomaly detection.

Five of the seven exercises are what is normal, two are unseen. A window of 3 s is described by 69 values that a board
could compute: of each axis the mean, the spread and the energy of seven bands, and correlations of axes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError

from .har import _load_watch, _Recording

EXERCISE_PEOPLE = tuple(range(1, 11))
EXERCISES = 7
WINDOW, HOP, TEST_HOP = 150, 12, 50  # samples of 50 Hz
_BANDS = (1, 2, 3, 4, 6, 9, 13, 20)  # edges: bins of a third of a hertz
_PARTS = (0.0, 0.3, 0.45, 0.65, 1.0)  # shares of each recording: training, validation, residuals, test


@dataclass(frozen=True)
class Exercises:
    """Values of windows [N, 69], int16 in 1/256: of a person's normal exercises by the part of each recording, and of
    the unseen ones, which test.
    """

    learn: NDArray[np.int16]
    residuals: NDArray[np.int16]
    normal: NDArray[np.int16]
    unseen: NDArray[np.int16]


def load_exercises(person: int, unseen: tuple[int, int]) -> Exercises:
    """A person's windows, 1 to 10, with two exercises, 0 to 6, that are not normal. Parts are cut by time."""
    mine, normal = _recordings(person), _others(unseen)
    learned, judging, residuals, tested = (
        _values(mine, normal, start, end, TEST_HOP if end == 1 else HOP) for start, end in pairwise(_PARTS)
    )
    learn = np.concatenate([learned, judging])  # its last quarter validates: of every exercise, by time
    return Exercises(learn, residuals, tested, _values(mine, unseen, 0.0, 1.0, TEST_HOP))


def load_normal_exercises(person: int, unseen: tuple[int, int]) -> NDArray[np.int16]:
    """All windows [N, 69] of a person without these two exercises, to pretrain a base for others."""
    return _values(_recordings(person), _others(unseen), 0.0, 1.0, HOP)


def _others(unseen: Iterable[int]) -> tuple[int, ...]:
    return tuple(label for label in range(EXERCISES) if label not in unseen)


def _recordings(person: int) -> list[_Recording]:
    if person not in EXERCISE_PEOPLE:
        raise InputError(f"person {person}: choose one of {EXERCISE_PEOPLE[0]} to {EXERCISE_PEOPLE[-1]}")
    return [each for each in _load_watch(EXERCISE_PEOPLE)[0] if each.subject == person]


def _values(
    recordings: list[_Recording], labels: tuple[int, ...], start: float, end: float, hop: int
) -> NDArray[np.int16]:
    windows = []
    for each in recordings:
        if each.label in labels:
            count = len(each.samples)
            part = each.samples[round(start * count) : round(end * count)]
            windows += [part[at : at + WINDOW] for at in range(0, len(part) - WINDOW + 1, hop)]
    if not windows:
        raise InputError(
            f"recordings are shorter than a window of {WINDOW} samples from {start:.0%} to {end:.0%} of them"
        )
    described = _described(np.array(windows, np.float64))
    return np.clip(np.rint(256 * described), -32768, 32767).astype(np.int16)


def _described(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of windows [N, WINDOW, 6]: values [N, 69]."""
    means = windows.mean(1)
    apart = windows - means[:, None]
    spread = apart.std(1)
    tapered = np.fft.rfft(apart * np.hanning(WINDOW)[None, :, None], axis=1)
    energy = np.square(np.abs(tapered)) / WINDOW
    bands = [_log(energy[:, low:high].mean(1)) for low, high in pairwise(_BANDS)]
    unit = apart / (spread[:, None] + 0.05)
    together = np.stack([(unit[:, :, i] * unit[:, :, k]).mean(1) for i, k in combinations(range(6), 2)], 1)
    return np.concatenate([means, _log(spread), *bands, together], 1)


def _log(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log2(values + 1e-3)
