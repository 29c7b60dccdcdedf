"""From a sensor's samples to decisions, on a board or on the host twin: the same, byte for byte."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import twin
from ..formats import Signal
from ..link import Decision, Link, ListenReply
from ..signal import AudioFrontEnd, SpectralFrontEnd
from .base import Base, WorkflowError, adapter_ranks
from .board_learner import BoardLearner
from .recipe import Recipe

SPECTRAL_FRAME, SPECTRAL_SIZE = 512, 68  # samples, values of a row


@dataclass(frozen=True)
class Vote:
    """A class is decided on when at least `least` of the last `windows` windows are of it."""

    least: int = 1
    windows: int = 1

    def of(self, seen: deque[int]) -> int | None:
        """The class that these windows, the newest last, decide on, if any; of several the one that was seen last."""
        counts = Counter(seen)
        return next((label for label in reversed(seen) if counts[label] >= self.least), None)


def signal_of(base: Base) -> Signal:
    """What the base's input is made of. WorkflowError if it doesn't say."""
    if base.model.signal is None:
        raise WorkflowError(
            f"{base.name} says nothing of its signal: quantize or import it with --data that has one, such as har:3"
        )
    return base.model.signal


def listen_on_board(
    link: Link, base: Base, adapter: bytes | None, counts: NDArray[np.int16], vote: Vote = Vote()
) -> Iterator[ListenReply]:
    """What a board says of samples, int16 [n, channels], part by part, as they are sent.

    The board cuts them into windows, normalizes and infers.
    """
    signal_of(base)
    board = BoardLearner(link, base, Recipe(), ranks=adapter_ranks(base, adapter))
    board.use(adapter)
    link.listen((vote.least, vote.windows))
    yield from link.hear(counts)


def listen_on_twin(
    base: Base, adapter: bytes | None, counts: NDArray[np.int16], vote: Vote = Vote()
) -> Iterator[ListenReply]:
    """The same on the host twin, a reply for each window."""
    signal_of(base)
    session = twin.Session(base.elm, adapter_ranks(base, adapter), "infer", 1)
    session.use(adapter)
    seen: deque[int] = deque(maxlen=vote.windows)
    for end, x, clipped in _inputs(base, session, counts):
        seen.append(session.infer(x.reshape(-1)))
        decision = Decision(end, seen[-1], vote.of(seen), _certainty(base, session, seen[-1]), session.logits)
        yield ListenReply([decision], 0, clipped)


def _inputs(
    base: Base, session: twin.Session, counts: NDArray[np.int16]
) -> Iterator[tuple[int, NDArray[np.int8], int]]:
    """Each window: samples up to its end, the input, and values clipped so far."""
    signal, clipped, done = signal_of(base), 0, 0
    if signal.front == "none":
        for end in range(signal.window, len(counts) + 1, signal.hop):
            x, beyond = session.quantize(counts[end - signal.window : end])
            clipped += beyond
            yield end, x, clipped
        return
    front = _front_end(signal, base.model.input.size)
    found, rows = front.feed(counts), base.model.input.size // front.size
    if base.model.input.size % front.size or signal.hop % front.stride:
        raise WorkflowError(f"{base.name}: its signal does not fit the front end {signal.front}: correct its data")
    for last in range(rows, len(found) + 1, signal.hop // front.stride):
        clipped += session.quantize(found[done:last])[1]
        done = last
        yield front.span + (last - 1) * front.stride, session.quantize(found[last - rows : last])[0], clipped


def _front_end(signal: Signal, inputs: int) -> AudioFrontEnd | SpectralFrontEnd:
    """The one that boards take for a signal."""
    if signal.front == "audio":
        return AudioFrontEnd()
    rows = max(inputs // SPECTRAL_SIZE, 1)
    return SpectralFrontEnd(signal.channels, 0, signal.window // (SPECTRAL_FRAME * rows))


def _certainty(base: Base, session: twin.Session, seen: int) -> float | None:
    if base.model.learns_values:
        return None
    p = session.probabilities()
    return int(p[seen] if len(p) > 1 else p[0] if seen else 32768 - int(p[0])) / 32768
