"""The shipped replay set: other voices that say known wake words, and speech without them, as features of sound.

It is made by `tools/wake_replay.py` from synthesized speech alone. Replayed in training, it keeps other voices heard
and other speech refused; voices that are held out judge.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.npz import read_npz
from edgelora.core.twin import device
from edgelora.learn.training.data.samples import Samples

from .teaching import of_windows
from .word import Frames, WakeWord

_wake = device.module("wake")
Rows = NDArray[np.int16]  # [rows, 40]: the sound front end's values
FILE = Path(__file__).with_name("replay.npz")
STEP = 16  # of a value in the file: stored bytes are values / STEP, rounded
ROWS_AFTER = 3 * (_wake.AFTER[-1] + 1)  # rows of a saying after the word's end
FOLDS = 5  # of cross-validation


@dataclass(frozen=True)
class Replay:
    """sayings: of the word by other voices, each ending `ROWS_AFTER` rows after it; speech: without the word."""

    sayings: Sequence[Rows] = ()
    speech: Sequence[Rows] = ()

    def split(self, fold: int) -> tuple[Replay, Replay]:
        """(to learn, to judge): one in `FOLDS` voices judges in each fold.

        Speech does not judge: it was searched for among hours, so its false accepts are no measure.
        """
        known, judging = (
            [rows for i, rows in enumerate(self.sayings) if (i % FOLDS == fold) == held] for held in (False, True)
        )
        return Replay(known, self.speech), Replay(judging)

    def samples(self, word: WakeWord) -> Samples | None:
        """Windows to learn; None if there are none."""
        windows: list[bytes] = []
        answers: list[int] = []
        for rows in self.sayings:
            frames = word.inputs(rows)
            end = len(frames) - ROWS_AFTER // 3
            for after, said in [(after, 1) for after in _wake.AFTER[::2]] + [(_wake.UNFINISHED, 0)]:
                windows.append(_ending(frames, end + after, word.frames))
                answers.append(said)
        for rows in self.speech:
            frames = word.inputs(rows)
            windows += [_ending(frames, end, word.frames) for end in range(len(frames), 0, -_wake.TALK_EVERY)]
        answers += [0] * (len(windows) - len(answers))
        return of_windows(word, windows, answers) if windows else None


def _ending(frames: Frames, end: int, count: int) -> bytes:
    """The window of `count` frames that ends before frame number `end`; silence before the stream."""
    window = frames[max(end - count, 0) : end]
    silence = np.full((count - len(window), frames.shape[1]), -128, np.int8)
    return bytes(np.concatenate([silence, window]).tobytes())


def shipped(name: str) -> Replay:
    """The replay set for a wake word of this name; other words have speech alone."""
    arrays = _arrays()
    sayings = _pieces(arrays[f"{name}.sayings"]) if f"{name}.sayings" in arrays else []
    known = [f"{name}.speech"] if sayings else [key for key in arrays if key.endswith(".speech")]
    return Replay(sayings, [rows for key in known for rows in _pieces(arrays[key])])


@functools.cache
def _arrays() -> dict[str, NDArray[Any]]:
    return read_npz(FILE, "install EdgeLoRA again")


def _pieces(stored: NDArray[np.uint8]) -> list[Rows]:
    return list(stored.astype(np.int16) * STEP)
