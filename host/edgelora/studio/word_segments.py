"""Where the words of a recording are. No pages in here."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

FRAME_SECONDS = 0.01
PAUSE_SECONDS = 0.25  # within a word, at most: longer ones are between words
LEAST_SECONDS = 0.05  # of a word: what is shorter is a click
ABOVE_NOISE, OF_LOUDEST = 4.0, 0.1  # times the root mean square that a word's frames have at least
QUIET_SHARE = 20  # % of the frames that are the room's noise


def starts_of(sound: NDArray[np.int16], rate: float, window: int, hop: int) -> list[int]:
    """Where windows of a sound, int16 [n], begin so that each has one word in its middle.

    A sound that goes on for longer than a window gives one every `hop`, and so does a recording of which nothing stands
    out, as of noise. At least one if the recording is as long as a window.
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
    """Parts that stand out of the noise, by their first sample and the one behind the last."""
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
