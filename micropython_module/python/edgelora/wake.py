# SPDX-License-Identifier: MIT
"""A wake word that learns its owner: decides on a stream, and keeps what a person says as samples to learn from.

    model = edgelora.Model("/rom/nabu.elm", frames=54)              # frames of a sample: the network's memory
    samples = SampleFile.create("/me.eld", model)
    word = WakeWord(model, microphone, Rule.read("/rom/nabu.json"), samples)
    while True:
        if word.step():          # the word was heard
            answer()
        if button.pressed():     # right after a wake: it was none; else "that was me", after a word that was missed
            word.pressed()

`enrol` and `missed` keep windows of the word that was said last, `false_wake` those that woke it; with `talking` set,
other speech is kept as it comes. A `training.Run` learns from the file. `model.use` switches to another owner's adapter
between two steps, and the stream goes on.
"""

import json
from array import array

from . import _core
from .pipeline import Pipeline

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from collections.abc import Sequence
    from typing import Any

    from . import Model
    from ._types import AnySource, FrontEnd
    from .training import SampleFile

AFTER = (4, 7, 10, 13, 16)  # frames from the end of the word to the ends of windows that contain it
UNFINISHED = -12  # frames from the end of the word to the end of a window in which it is not complete
AROUND = (-3, 0, 3)  # frames from a wake to the ends of the windows that are kept of it
PAUSE = 12  # frames within a word that may be silent
TALK_EVERY = 12  # frames between windows of other speech
REACH = 80  # frames that `enrol` looks back for the word
RECENT: int = REACH + AROUND[0]  # frames after a wake in which it can be told to be none
LEAST_RISE = 64  # counts by which a word's level exceeds
LEAST_TIMES = 2  # that many times the level of what is around it


def cutoff_of(probability: float) -> int:
    """The cutoff of outputs, 0 to 255, for one of probabilities, 0 to 1: rounded down, as ESPHome does."""
    return int(probability * 255)


class Rule:
    """Decides that the word was said while the mean of the last `window` outputs is above a cutoff.

    cutoff: 0 to 255, for probabilities 0 to 1 (`cutoff_of`).
    """

    cutoff: int
    window: int

    def __init__(self, cutoff: int, window: int) -> None:
        if not 0 <= cutoff <= 255 or not 1 <= window <= 255:
            raise ValueError("cutoff %d of 255, window %d: give 0 to 255, and 1 to 255 frames" % (cutoff, window))
        self.cutoff, self.window = cutoff, window
        self._last = bytearray(window)
        self.reset()

    @classmethod
    def read(cls, path: str) -> "Rule":
        """The rule of a manifest, the .json that `edgelora build` puts beside a wake word's base."""
        with open(path) as file:
            try:
                micro = json.load(file)["micro"]
                rule = cutoff_of(micro["probability_cutoff"]), int(micro["sliding_window_size"])
            except (ValueError, KeyError, TypeError):
                raise ValueError(path + " is no wake word's manifest: `edgelora build --model` puts one on the board")
        return cls(*rule)

    def reset(self) -> None:
        """Begins a new stream."""
        self._sum = self._at = 0
        for i in range(self.window):
            self._last[i] = 0

    def step(self, p: int) -> bool:
        """Whether the word is heard at this frame, whose output is p, 0 to 255."""
        at = self._at
        self._sum += p - self._last[at]
        self._last[at] = p
        self._at = (at + 1) % self.window
        return self._sum > self.cutoff * self.window


def level_of(sound: Sequence[int]) -> int:
    """The level of a frame's sound: from its lowest to its highest sample. A microphone's offset does not count."""
    return max(sound) - min(sound)


def word_end(levels: Sequence[int]) -> int:
    """The frame that ends the word among frames of these levels: the last loud one of the stretch with most sound.

    levels: `level_of` each frame. Loud is a quarter of the way from the quiet frames to the loudest; pauses of up to
    `PAUSE` frames belong to a word. ValueError if none is clearly louder than the quiet ones.
    """
    quiet = sorted(levels)[len(levels) // 4] if levels else 0
    if not levels or max(levels) < LEAST_TIMES * quiet + LEAST_RISE:
        raise ValueError("no word was said in the last seconds: say it, wait half a second, and call again")
    last, quiet = len(levels) - 1, 3 * quiet
    smooth = [levels[max(i - 1, 0)] + levels[i] + levels[min(i + 1, last)] for i in range(last + 1)]
    loud = quiet + (max(smooth) - quiet) // 4
    most, found, total, before = -1, last, 0, -PAUSE
    for i in range(last + 1):
        if smooth[i] > loud:
            if i - before > PAUSE:
                total = 0
            total += smooth[i] - quiet
            before = i
            if total > most:
                most, found = total, i
    return found


class WakeWord(Pipeline):
    """A `Pipeline` for a wake word: a streaming network with one output, the probability that the word was just said.

    model: with `frames` for samples; rule: a `Rule`; samples: a `SampleFile` of the model, opened for appending, or
    None to only listen. ValueError if they do not fit. `step` allocates nothing, except when it keeps a sample.
    """

    rule: Rule
    heard: bool  # whether the word is heard now
    wakes: int  # how often it was
    talking: bool  # whether steps keep windows of other speech
    kept: int  # samples kept

    def __init__(
        self,
        model: Model,
        source: AnySource,
        rule: Rule,
        samples: SampleFile | Any = None,
        front: FrontEnd | None = None,
        chunk: int | None = None,
    ) -> None:
        if model.output_size != 1 or model.target_size != 1:
            raise ValueError("a wake word has one output, the probability that it was said: this base has others")
        if samples and (samples.base_id, samples.sample_size) != (model.base_id, model.sample_size):
            raise ValueError("the samples are another base's, or have another size: create another file for them")
        self.rule, self._samples = rule, samples
        size = model.input_size
        self._frames = model.sample_size // size
        # the longest window that ends before a word that `enrol` finds
        self._past = bytearray((self._frames + REACH - UNFINISHED) * size if samples else 0)
        self._levels = array("H", bytes(2 * REACH if samples else 0))  # of the latest frames
        self._sample = bytearray(model.sample_size if samples else 0)
        self.wakes = self.kept = 0
        self.talking = False
        super().__init__(model, source, front, None, chunk)
        self._one = bytearray(1)

    def reset(self) -> None:
        """Starts a new stream."""
        super().reset()
        self.rule.reset()
        self.heard = self._woke = False
        self._count = 0  # frames so far
        self._wake = -1  # the frame at which the word was heard last
        for i in range(len(self._past)):
            self._past[i] = 128

    def step(self) -> bool:
        """Processes a chunk of sound. True if it is now that the word was heard."""
        self._woke = False
        super().step()
        return self._woke

    def _decide(self):
        size = len(self.x)
        if self._past:
            _core.take(self._past, self._count % (len(self._past) // size) * size, self.x, 0, 1, size, 1)
            self._levels[self._count % REACH] = level_of(self._window)
        self._count += 1
        self.model.infer(self.x)
        heard = self.rule.step(self.model.output[0] ^ 128 & 255)
        self._woke = heard and not self.heard
        self.heard = heard
        if self._woke:
            self.wakes += 1
            self._wake = self._count
        if self.talking and self._samples and self._count % TALK_EVERY == 0:
            self._keep(self._count, 0)

    # --- what a person says of it

    def enrol(self, said: bool = True) -> int:
        """Keeps windows of the word that was just said; returns how many. said: False for a phrase close to the word.

        Call it when the person is silent again, 0.5 to 1.5 s after the word. ValueError if there was none.
        """
        end, before = self._said(), self.kept
        for after in AFTER:
            if end + after <= self._count:
                self._keep(end + after, 1 if said else 0)
        if said:
            self._keep(end + UNFINISHED, 0)
        return self.kept - before

    def missed(self) -> int:
        """`enrol`, after a word that was not heard: "that was me"."""
        return self.enrol()

    def false_wake(self) -> int:
        """Keeps the windows that woke it last, as other speech; returns how many. ValueError if nothing did."""
        if not self._woke_lately():
            raise ValueError("nothing woke it in the last seconds: call false_wake() right after a wake")
        before = self.kept
        for after in AROUND:
            if self._wake + after <= self._count:
                self._keep(self._wake + after, 0)
        return self.kept - before

    def pressed(self) -> int:
        """For a single button: `false_wake` right after a wake, else `missed`."""
        return self.false_wake() if self._woke_lately() else self.missed()

    def _woke_lately(self):
        return self._wake >= 0 and self._count - self._wake <= RECENT

    def _said(self):
        # Returns the number of frames up to the end of the last word.
        if not self._samples:
            raise ValueError("a WakeWord without samples keeps nothing: give it a SampleFile")
        reach = min(REACH, self._count)
        levels = [self._levels[frame % REACH] for frame in range(self._count - reach, self._count)]
        return self._count - reach + word_end(levels) + 1

    def _keep(self, end, target):
        # Keeps the window that ends before frame number `end`.
        if not self._samples:
            raise ValueError("a WakeWord without samples keeps nothing: give it a SampleFile")
        size, frames = len(self.x), self._frames
        ring = len(self._past) // size
        for i in range(frames):
            frame = end - frames + i
            if frame < 0:
                continue
            _core.take(self._sample, i * size, self._past, frame % ring * size, 1, size, 1)
        for i in range(min(max(frames - end, 0), frames) * size):
            self._sample[i] = 128
        self._one[0] = target
        self._samples.append(self._sample, self._one)
        self.kept += 1
