"""Finding words in a recording. No pages in here."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

FRAME_SECONDS = 0.01
PAUSE_SECONDS = 0.25  # longest pause within a word
LEAST_SECONDS = 0.05  # shortest word: shorter sounds are clicks
ABOVE_NOISE, OF_LOUDEST = 4.0, 0.1  # ratio of a word's root mean square to the noise, at least
QUIET_SHARE = 20  # % of the frames assumed to be the room's noise


def starts_of(sound: NDArray[np.int16], rate: float, window: int, hop: int) -> list[int]:
    """Start indices of windows of a sound, int16 [n], each with one word in its middle.

    A sound longer than a window gives one every `hop`, and so does a recording in which nothing stands
    out, such as noise. At least one if the recording is as long as a window.
    """
    last = len(sound) - window
    if last < 0:
        return []
    runs = _loud(sound, rate)
    if not runs:
        return list(range(0, last + 1, hop))
    starts: list[int] = []
    for begin, end in runs:
        if end - begin > window:
            starts += range(begin, min(end - window, last) + 1, hop)
        else:
            starts.append(min(max((begin + end - window) // 2, 0), last))
    return starts


def _loud(sound: NDArray[np.int16], rate: float) -> list[tuple[int, int]]:
    """Parts that stand out of the noise, as (first sample, sample after the last)."""
    frame = max(1, round(FRAME_SECONDS * rate))
    frames = sound[: len(sound) // frame * frame].reshape(-1, frame).astype(np.float64)
    level = np.sqrt((frames**2).mean(1))
    loud = np.flatnonzero(level > max(ABOVE_NOISE * np.percentile(level, QUIET_SHARE), OF_LOUDEST * level.max()))
    if not len(loud):
        return []
    pause = round(PAUSE_SECONDS * rate / frame)
    cuts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(loud)) if b - a > pause), len(loud)]
    parts = [(int(loud[a]) * frame, (int(loud[b - 1]) + 1) * frame) for a, b in pairwise(cuts)]
    return [(begin, end) for begin, end in parts if end - begin >= LEAST_SECONDS * rate]
