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
from .base import Base, WorkflowError, adapter_ranks
from .board_learner import BoardLearner
from .recipe import Recipe


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
    """The same on the host twin, a reply for each window. WorkflowError for a base with a front end."""
    signal = signal_of(base)
    if signal.front != "none":
        raise WorkflowError(f"{base.name} takes the front end {signal.front}: listen on a board")
    session = twin.Session(base.elm, adapter_ranks(base, adapter), "infer", 1)
    session.use(adapter)
    seen: deque[int] = deque(maxlen=vote.windows)
    clipped = 0
    for end in range(signal.window, len(counts) + 1, signal.hop):
        x, beyond = session.quantize(counts[end - signal.window : end])
        clipped += beyond
        seen.append(session.infer(x.reshape(-1)))
        decision = Decision(end, seen[-1], vote.of(seen), _certainty(base, session, seen[-1]), session.logits)
        yield ListenReply([decision], 0, clipped)


def _certainty(base: Base, session: twin.Session, seen: int) -> float | None:
    if base.model.learns_values:
        return None
    p = session.probabilities()
    return int(p[seen] if len(p) > 1 else p[0] if seen else 32768 - int(p[0])) / 32768
