"""What recordings of a person teach a wake word: windows that the device's own `WakeWord` keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.front_ends import AUDIO_RATE
from edgelora.core.twin import device
from edgelora.learn.streaming.decisions import Pieces, signal_of
from edgelora.learn.training.data.samples import Samples

from .word import WakeWord

_wake = device.module("wake")
LEAD = 3 * AUDIO_RATE  # samples before each recording, in which the front end learns what noise is
TAIL = AUDIO_RATE * 5 // 8  # samples after it, in which windows of its end complete
BLOCK = AUDIO_RATE // 10  # samples
Sound = NDArray[np.int16]  # [n], 16 kHz


@dataclass(frozen=True)
class Recorded:
    """A recording with its name."""

    name: str
    sound: Sound


@dataclass(frozen=True)
class Owner:
    """A person's recordings: the word, several times; phrases close to it; other speech."""

    enrolments: Sequence[Recorded]
    misses: Sequence[Recorded] = ()
    talk: Sequence[Recorded] = ()


class _Kept:
    """Samples in RAM, in place of a board's file."""

    def __init__(self, model: Any) -> None:
        self.base_id, self.sample_size = model.base_id, model.sample_size
        self.windows: list[bytes] = []
        self.answers: list[int] = []

    def append(self, sample: bytearray, target: bytearray) -> None:
        self.windows.append(bytes(sample))
        self.answers.append(target[0])


class Pupil:
    """The device's `WakeWord` on this computer, which keeps what recordings teach, each a stream of its own."""

    def __init__(self, word: WakeWord) -> None:
        self._word = word
        elm = word.base.elm
        with device.refusals():
            model = device.module().Model(elm, bytes(len(word.base.model.ops)), "infer", 1, frames=word.frames)
            self._kept, self._source = _Kept(model), Pieces(signal_of(word.base))
            rule = _wake.Rule(word.rule.steps, word.rule.window)
            self._device = _wake.WakeWord(model, self._source, rule, self._kept, chunk=AUDIO_RATE // 100)

    def _hear(self, sound: Sound) -> None:
        self._device.reset()
        self._source.give(sound[:, None])
        while not self._device.ended:
            self._device.step()

    def enrol(self, recorded: Recorded, said: bool = True) -> None:
        """Keeps windows of the word in a recording; said: False for a phrase close to it."""
        try:
            self._hear(self.up_to_word(recorded.sound))
            self._device.enrol(said)
        except ValueError:
            remedy = "record it again, closer, with a moment of quiet before and after the word"
            raise InputError(f"{recorded.name}: no word can be heard in it: {remedy}") from None

    def up_to_word(self, sound: Sound) -> Sound:
        """What a board hears before its owner tells it that the word was said: a recording up to shortly after it.

        ValueError if there is no word in it.
        """
        sound, frame = surrounded(sound.ravel()), round(self._word.frame_seconds * AUDIO_RATE)
        before = LEAD // frame
        frames = sound[before * frame :][: (len(sound) // frame - before) * frame].reshape(-1, frame)
        end = before + _wake.word_end([_wake.level_of(one.tolist()) for one in frames]) + _wake.AFTER[-1] + 2
        return sound[: end * frame]

    def listen(self, recorded: Recorded) -> None:
        """Keeps windows of other speech."""
        self._hear(surrounded(recorded.sound.ravel())[: LEAD // 2])
        self._device.talking = True
        self._source.give(recorded.sound.ravel()[:, None])
        while not self._device.ended:
            self._device.step()
        self._device.talking = False

    @property
    def samples(self) -> Samples:
        """All that was kept, targets included."""
        return of_windows(self._word, self._kept.windows, self._kept.answers)


def surrounded(sound: Sound) -> Sound:
    """The sound with its quietest moment repeated, `LEAD` before it and `TAIL` after it."""
    blocks = sound[: len(sound) // BLOCK * BLOCK].reshape(-1, BLOCK)
    quiet = np.zeros(BLOCK, np.int16)
    if len(blocks):
        quiet = blocks[np.square(blocks.astype(np.float64)).sum(axis=1).argmin()]
    return np.concatenate([np.resize(quiet, LEAD), sound, np.resize(quiet, TAIL)])


def of_windows(word: WakeWord, windows: Sequence[bytes], answers: Sequence[int]) -> Samples:
    """Windows of `word.frames` frames as samples, with 1 for the word and 0 for all else."""
    shape = (len(windows), word.frames, *word.base.model.input.shape)
    y = np.array(answers, np.int64)
    return Samples(np.frombuffer(b"".join(windows), np.int8).reshape(shape), y, y.astype(np.int8)[:, None])


def joined(parts: Sequence[Samples]) -> Samples:
    """Samples with targets, one part after another."""
    x, y = np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts])
    return Samples(x, y, y.astype(np.int8)[:, None])


def lessons(word: WakeWord, owner: Owner) -> Samples:
    """All that an owner's recordings teach."""
    pupil = Pupil(word)
    for recorded in owner.enrolments:
        pupil.enrol(recorded)
    for recorded in owner.misses:
        pupil.enrol(recorded, said=False)
    for recorded in owner.talk:
        pupil.listen(recorded)
    return pupil.samples
