"""A live microphone and an owner who presses a button: enrolment, and corrections of what a wake word heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.front_ends import AUDIO_RATE
from edgelora.core.twin import device

from .recordings import Recordings
from .teaching import Pupil, Recorded, Sound
from .word import WakeWord

_wake = device.module("wake")
BEFORE = 3 * AUDIO_RATE  # samples that a press looks back
AFTER = AUDIO_RATE // 2  # samples after a wake in which windows of it end
STALE = AUDIO_RATE // 8  # samples that a board's driver may have kept from before a gap
LEAST_TALK = 3 * AUDIO_RATE  # samples of a piece of talk that is kept


class Sounding:
    """The newest sound of a stream, without gaps. heard: samples so far; lost: those too many for the board."""

    def __init__(self) -> None:
        self.heard = self.lost = 0
        self._kept = np.zeros(0, np.int16)
        self._stale = 0

    def hear(self, counts: NDArray[np.int16], lost: int) -> NDArray[np.int16]:
        """Adds samples, int16 [n, 1]. lost: in total; if some were lost, the sound begins anew.

        Returns those of the samples that the sound goes on with.
        """
        if lost > self.lost:
            self._kept, self._stale, self.lost = self._kept[:0], STALE, lost
        fresh = counts.reshape(-1)[self._stale :]
        self._stale = max(0, self._stale - len(counts))
        self._kept = np.concatenate([self._kept[-BEFORE - AFTER :], fresh])
        self.heard += len(counts)
        return fresh

    def before(self, end: int, begin: int = 0) -> Sound:
        """The sound up to sample `end`, as far as it goes back, but not before sample `begin`."""
        first = self.heard - len(self._kept)
        return self._kept[max(0, begin - first, end - BEFORE - first) : max(0, end - first)]


@dataclass(frozen=True)
class Wanted:
    """What an enrolment is to have: the word and close phrases, each so often, and seconds of other speech."""

    said: int = 10
    misses: int = 4
    talk: int = 60


class Enrolment:
    """Records an owner from a live microphone: the word and close phrases, each up to a press, then talk.

    A recording is in its file when `press` returns; talk is when it is complete, and at `close`. InputError of `press`
    if no word can be heard.
    """

    def __init__(self, word: WakeWord, recordings: Recordings, wanted: Wanted) -> None:
        self.recordings, self.new = recordings, list[Path]()
        self.sounding = Sounding()
        self._pupil = Pupil(word)
        self._left = {"said": wanted.said, "misses": wanted.misses, "talk": wanted.talk * AUDIO_RATE}
        self._pressed = 0  # up to here, sound is in a recording
        self._talk: list[NDArray[np.int16]] = []

    @property
    def kind(self) -> str | None:
        """What is recorded now; None at the end."""
        return next((kind for kind, left in self._left.items() if left > 0), None)

    @property
    def left(self) -> int:
        """How many recordings of this kind are missing, or seconds of talk."""
        kind = self.kind
        return 0 if kind is None else -(-self._left[kind] // (AUDIO_RATE if kind == "talk" else 1))

    def hear(self, counts: NDArray[np.int16], lost: int) -> None:
        """Adds the stream's next samples, int16 [n, 1]; lost: how many were lost in total."""
        if lost > self.sounding.lost:
            self.close()
        fresh = self.sounding.hear(counts, lost)
        if self.kind == "talk":
            self._talk.append(fresh)
            self._left["talk"] -= len(fresh)
            if self._left["talk"] <= 0:
                self.close()

    def press(self) -> Path | None:
        """The word, or a phrase, was just said: records it; during talk, nothing."""
        kind = self.kind
        if kind is None or kind == "talk":
            return None
        sound = self.sounding.before(self.sounding.heard, self._pressed)
        self._pressed = self.sounding.heard
        path = _said(self._pupil, self.recordings, kind, sound)
        self.new.append(path)
        self._left[kind] -= 1
        return path

    def undo(self) -> Path | None:
        """Removes the newest recording of this enrolment, and wants another one instead."""
        if not self.new or self.kind == "talk":
            return None
        path = self.new.pop()
        path.unlink(missing_ok=True)
        self._left[path.parent.name] += 1
        return path

    def skip(self) -> None:
        """Goes on to the next kind."""
        if kind := self.kind:
            self.close()
            self._left[kind] = 0

    def close(self) -> None:
        """Writes the talk so far, if there is enough of it."""
        talk, self._talk = self._talk, []
        if sum(map(len, talk)) >= LEAST_TALK:
            self.new.append(self.recordings.add("talk", np.concatenate(talk)))


class Corrections:
    """What a wake word hears in a live stream, by the deployed rule, and what its owner says of that by presses."""

    def __init__(self, word: WakeWord, recordings: Recordings) -> None:
        self.recordings, self.new = recordings, list[Path]()
        self.sounding = Sounding()
        self.wakes: list[int] = []  # samples up to each
        self._word, self._pupil = word, Pupil(word)
        self._rule = _wake.Rule(word.rule.steps, word.rule.window)
        self._wakes = False
        self._corrected = 0  # wakes and sound up to here are in a recording

    def hear(self, counts: NDArray[np.int16], lost: int, outputs: Sequence[tuple[int, int]]) -> list[int]:
        """Adds samples, int16 [n, 1], and the network's outputs: (samples up to its frame, probability in 1/255) each.

        Returns the samples up to each wake.
        """
        self.sounding.hear(counts, lost)
        found = []
        for end, p in outputs:
            now = self._rule.step(p)
            if now and not self._wakes:
                found.append(end)
            self._wakes = now
        self.wakes += found
        return found

    def press(self) -> Path:
        """Right after a wake, that it was none; else that the word was said and not heard: records either.

        InputError if no word can be heard.
        """
        now, reach = self.sounding.heard, round(_wake.RECENT * self._word.frame_seconds * AUDIO_RATE)
        woke = self.wakes[-1] if self.wakes else -1
        false_wake = woke > self._corrected and now - woke <= reach
        end = min(now, woke + AFTER) if false_wake else now
        sound = self.sounding.before(end, self._corrected)
        self._corrected = now
        path = _said(self._pupil, self.recordings, "misses" if false_wake else "said", sound)
        self.new.append(path)
        return path


def _said(pupil: Pupil, recordings: Recordings, kind: str, sound: Sound) -> Path:
    """Writes what was said, if the device's rule finds a word in it."""
    if not len(sound):
        raise InputError("nothing was said: say it, then press")
    pupil.enrol(Recorded("what was said", sound), said=kind == "said")
    return recordings.add(kind, sound)
