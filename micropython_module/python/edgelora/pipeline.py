# SPDX-License-Identifier: MIT
"""From a sensor to a decision: source, window, front end, int8 input, inference or learning.

All memory is allocated when a pipeline is created; `step` allocates none.
"""

import gc
from array import array

from . import _core

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from collections.abc import AsyncIterator, Callable
    from typing import Any

    from . import Model, Signal
    from ._types import AnySource, FrontEnd

_CHUNK = 128  # default for the most samples that a step reads
NEAR = 0.05  # relative difference allowed between a source's rate and scales and the base's
_IDLE_MS = 5  # pause after a source had no samples


def far(a: float, b: float) -> bool:
    """Whether a rate or a scale differs too much from a base's."""
    return abs(a - b) > NEAR * abs(b)


def check_vote(least: int, windows: int) -> None:
    """ValueError unless `least` of the last `windows` windows can be a vote."""
    if not 0 < least <= windows <= 255:
        raise ValueError("vote %d of %d: k of the last n windows, from 1 to 255" % (least, windows))


def _front_of(model, signal):
    # Returns the front end that a base names, with 16-bit outputs, which the base's normalizations are for.
    try:
        from .frontend import Audio, Spectral
    except ImportError:
        raise ValueError("this base takes a front end, and this board has no edgelora.frontend: give one")
    if signal.front == "audio":
        return Audio()
    rows = max(model.input_size // Spectral.size, 1)
    return Spectral(signal.channels, 0, signal.window // (Spectral.window * rows))


class Pipeline:
    """Decides on a source's samples as the base's signal describes. ValueError if source and base don't fit.

    All memory is allocated here: `step` works under `micropython.heap_lock()`. front: replaces the one that the base
    names, from `edgelora.frontend` (vibration: of channel 0). vote: (k, n), a class is decided on if k of the last n
    windows predict it; if several are, the one predicted last. chunk: most samples per read.

        for a loop:        if pipeline.step(): print(pipeline.name)
        under asyncio:     async for now in pipeline: print(now.name)
    """

    model: Model
    source: AnySource
    front: FrontEnd | None
    signal: Signal
    x: bytearray  # the int8 input of the last window
    label: int | None  # what the vote decided; None: nothing yet
    seen: int | None  # class of the last window alone; None: nothing yet
    infer: Callable[[bytearray], int]  # classifies an input: `model.infer`, or `learner.infer`
    teach: Any  # None, or the label (or target) that steps learn instead of inferring, with `model.learning_rate`
    loss: int | None  # loss of the last window learned
    windows: int  # windows processed
    clipped: int  # values clipped to the input's range
    samples: int  # taken from the source
    end: int  # samples up to the end of the last window

    def __init__(
        self,
        model: Model,
        source: AnySource,
        front: FrontEnd | None = None,
        vote: tuple[int, int] | None = None,
        chunk: int | None = None,
    ) -> None:
        signal = model.signal
        if signal is None:
            raise ValueError("this base doesn't describe its signal: make it from data that does")
        channels = signal.channels
        if source.channels != channels:
            raise ValueError("the source has %d channels, the base takes %d" % (source.channels, channels))
        if far(source.rate, signal.rate):
            raise ValueError("the source has %s samples per second, the base takes %s" % (source.rate, signal.rate))
        if front is None and signal.front != "none":
            front = _front_of(model, signal)
        if front is None and source.scales:
            for mine, wanted in zip(source.scales, signal.scales):
                if far(mine, wanted):
                    raise ValueError(
                        "the source's counts are of %s, the base's of %s: make the source with scales=signal.scales"
                        % (mine, wanted)
                    )
        gc.collect()
        self.model, self.source, self.front, self.signal = model, source, front, signal
        self.infer = model.infer
        self.label = None  # what the vote decided: a class, or None for none yet
        self.seen = None  # class of the last window alone
        self.teach = None  # a label or target that steps learn instead of inferring
        self.loss = None  # loss of the last window learned
        self.windows = self.clipped = self.end = self.samples = 0
        self.x = bytearray(model.input_size)
        self._channels = channels
        self._need, self._hop, self._rows, self._every = signal.window, signal.hop, 1, 1
        if front:
            self._cut(model, front, signal)
        self._window = array("h", bytes(2 * self._need * channels))
        self._view = memoryview(self._window)
        chunk = chunk or min(_CHUNK, self._need)
        self._chunk = array("h", bytes(2 * chunk * channels))
        self._inbox = memoryview(self._chunk)
        self._least, votes = vote or (1, 1)
        check_vote(self._least, votes)
        self._votes = bytearray(votes)
        self.reset()

    def _cut(self, model, front, signal):
        # The input consists of rows of the front end's outputs, the newest last.
        size = front.size
        self._need, self._hop = front.window, front.hop
        self._rows = model.input_size // size
        stride = getattr(front, "stride", front.hop)  # samples from one output to the next
        self._every = signal.hop // stride
        covered = getattr(front, "span", front.window) + (self._rows - 1) * stride
        if model.input_size % size or signal.values not in (1, size):
            raise ValueError("the front end has %d outputs, which do not make up the base's input" % size)
        if covered != signal.window or signal.hop % stride:
            raise ValueError(
                "the front end covers %d samples with a hop of %d, the base takes %d, %d"
                % (covered, stride, signal.window, signal.hop)
            )
        self._row = bytearray(size)
        ready = getattr(front, "typecode", "h") == "b"  # the front end's outputs are already int8 input values
        self._out = self._row if ready else array("h", bytes(2 * size))

    def reset(self) -> None:
        """Starts a new stream: resets the windows, the votes, the model's history and the front end."""
        self._have = self._skip = self._left = self._at = self._turn = 0
        self._missing = self._rows  # outputs of the front end until the next decision
        self.label = self.seen = None
        self.model.reset()
        if self.front:
            self.front.reset()

    @property
    def ended(self) -> bool:
        """Whether the source has ended, and all its samples were processed."""
        return not self._left and self.source.ended

    @property
    def pending(self) -> bool:
        """Whether samples were read that `step` has not processed yet."""
        return self._left > 0

    @property
    def overruns(self) -> int:
        return self.source.overruns

    @property
    def name(self) -> str | None:
        """The name of `label`, or None."""
        label = self.label
        if label is None:
            return None
        labels = self.model.labels
        return labels[label] if label < len(labels) else str(label)

    def probabilities(self) -> Any:
        """Returns `Model.probabilities` of the last window."""
        return self.model.probabilities()

    def step(self) -> bool:
        """Reads one chunk and processes one window at most. Returns whether it decided on or learned a window."""
        if not self._left:
            self._left = self.source.read_into(self._inbox)
            self._at = 0
        if self._skip:
            count = min(self._skip, self._left)
            self._skip -= count
        else:
            count = min(self._need - self._have, self._left)
            channels = self._channels
            _core.take(self._window, self._have * channels, self._chunk, self._at * channels, 1, count * channels, 2)
            self._have += count
        self._at += count
        self._left -= count
        self.samples += count
        if self._have < self._need:
            return False
        whole = self._made()
        keep = max(self._need - self._hop, 0)
        if keep:
            _core.take(self._window, 0, self._window, self._hop * channels, 1, keep * channels, 2)
        self._have = keep
        self._skip = self._hop - self._need + keep
        if whole:
            self.end = self.samples
            self.windows += 1
            self._decide()
        return whole

    def _made(self):
        # Computes the input from a whole window; returns whether a decision is due.
        model = self.model
        if not self.front:
            self.clipped += model.quantize_counts(self._window, self.x)
            return True
        size, row = len(self._row), self._row
        if self.front.step(self._view, self._out) == 0:
            return False  # no output yet
        if self._out is not row:
            self.clipped += model.quantize_counts(self._out, row)
        keep = len(self.x) - size
        if keep:
            _core.take(self.x, 0, self.x, size, 1, keep, 1)
        _core.take(self.x, keep, row, 0, 1, size, 1)
        self._missing -= 1
        if self._missing:
            return False
        self._missing = self._every
        return True

    def _decide(self):
        if self.teach is not None:
            self.loss = self.model.train(self.x, self.teach, self.model.learning_rate)
            return
        seen = self.infer(self.x)
        votes = self._votes
        votes[self._turn % len(votes)] = seen
        self._turn += 1
        self.seen = seen
        self.label = self._voted(min(self._turn, len(votes)))

    def _voted(self, had):
        # Returns the class that at least `_least` of these windows predicted; if several, the one predicted last.
        votes = self._votes
        for i in range(had):
            label = votes[(self._turn - 1 - i) % len(votes)]
            count = 0
            for k in range(had):
                count += votes[k] == label
            if count >= self._least:
                return label
        return None

    async def decision(self) -> "Pipeline | None":
        """Waits for the next decision and returns the pipeline; None if the source has ended."""
        import asyncio

        while not self.step():
            if self.ended:
                return None
            await asyncio.sleep_ms(0 if self._left else _IDLE_MS)
        return self

    def __aiter__(self) -> "AsyncIterator[Pipeline]":
        return self

    async def __anext__(self) -> "Pipeline":
        if await self.decision() is None:
            raise StopAsyncIteration
        return self
