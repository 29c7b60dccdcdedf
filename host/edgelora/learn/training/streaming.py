"""From a sensor's samples to decisions, on a board or on the host twin: the same, byte for byte."""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, untold
from edgelora.board.link.client import Link
from edgelora.board.link.replies import Decision, LinkError, ListenReply
from edgelora.core.formats.signal import Signal
from edgelora.core.front_ends import AudioFrontEnd, SpectralFrontEnd
from edgelora.core.twin.session import Session

from .base import Base, WorkflowError, adapter_ranks
from .board_learner import BoardLearner
from .board_paths import ADAPTER_PATH, SWITCHED_PATH
from .recipe import Recipe
from .samples import Samples

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


Switches = Sequence[tuple[int, int]]  # (sample, number): what infers windows that end behind it; 0: the bare base


def listen_on_board(
    link: Link,
    base: Base,
    adapters: Sequence[bytes],
    counts: NDArray[np.int16],
    vote: Vote = Vote(),
    switches: Switches = (),
) -> Iterator[ListenReply]:
    """What a board says of samples, int16 [n, channels], part by part, as they are sent.

    The board cuts them into windows, normalizes and infers: with the first of the adapters, from 1, until `switches`,
    in their order, say another. The sound goes on meanwhile, and so does what the network remembers.
    """
    signal_of(base)
    BoardLearner(link, base, Recipe(), ranks=_ranks_of_all(base, adapters))
    paths = [None, *(SWITCHED_PATH.format(number) for number in range(1, len(adapters) + 1))]
    for path, adapter in zip(paths[1:], adapters, strict=True):
        link.put(str(path), adapter)
    link.listen((vote.least, vote.windows))
    try:
        for number, start, end in _stretches(len(counts), adapters, switches):
            link.use(paths[number])
            yield from link.hear(counts[start:end])
    finally:
        with contextlib.suppress(LinkError):
            for path in paths[1:]:
                link.remove(str(path))


def listen_on_twin(
    base: Base,
    adapters: Sequence[bytes],
    counts: NDArray[np.int16],
    vote: Vote = Vote(),
    switches: Switches = (),
) -> Iterator[ListenReply]:
    """The same on the host twin, a reply for each window."""
    signal_of(base)
    session = Session(base.elm, _ranks_of_all(base, adapters), "infer", 1)
    seen: deque[int] = deque(maxlen=vote.windows)
    stretches = _stretches(len(counts), adapters, switches)
    number, _, until = next(stretches)
    session.use([None, *adapters][number])
    for end, x, clipped in _inputs(base, session, counts):
        while end > until:
            number, _, until = next(stretches)
            session.use([None, *adapters][number])
        seen.append(session.infer(x.reshape(-1)))
        decision = Decision(end, seen[-1], vote.of(seen), _certainty(base, session, seen[-1]), session.logits)
        yield ListenReply([decision], 0, clipped)


def _stretches(samples: int, adapters: Sequence[bytes], switches: Switches) -> Iterator[tuple[int, int, int]]:
    """(adapter's number, first sample, end) of each stretch of a recording."""
    turns = [(0, int(bool(adapters))), *((min(at, samples), number) for at, number in switches)]
    for i, (start, number) in enumerate(turns):
        end = turns[i + 1][0] if i + 1 < len(turns) else samples
        if not 0 <= number <= len(adapters) or end < start:
            raise InputError(
                f"switches {list(switches)}: give times that rise, adapters from 0, the bare base, to {len(adapters)}"
            )
        yield number, start, end


def _ranks_of_all(base: Base, adapters: Sequence[bytes]) -> bytes:
    """The rank of every op, which these adapters have in common: sessions switch among such. InputError if not."""
    ranks = [adapter_ranks(base, adapter) for adapter in adapters or (None,)]
    if len(set(ranks)) > 1:
        raise InputError(
            f"the adapters have other ranks than one another: {'; '.join(str(list(r)) for r in ranks)}",
            remedy="train them with the same rank and placement",
        )
    return ranks[0]


@dataclass(frozen=True)
class Take:
    """Samples, int16 [n, channels], of a class: their last window, or where all are asked for each of them."""

    counts: NDArray[np.int16]
    label: int


def record_on_board(link: Link, base: Base, path: str, takes: Sequence[Take], progress: Progress = untold) -> None:
    """Has a board hear these, and keep what its front end makes of each take's last window, in a sample file."""
    signal_of(base)
    BoardLearner(link, base, Recipe(), ranks=adapter_ranks(base, None))
    link.listen(path=path)
    for done, take in enumerate(takes, 1):
        deque(link.hear(take.counts, anew=True, label=take.label), 0)
        progress(done, len(takes), "recordings")


def hear_on_board(
    link: Link, base: Base, adapter: bytes | None, takes: Sequence[Take], progress: Progress = untold
) -> NDArray[np.int64]:
    """What a board says of each take's last window [takes]. adapter: None for the bare base; one that the board has, if
    its flash holds it at `ADAPTER_PATH`, is not sent."""
    board = BoardLearner(link, base, Recipe(), ranks=adapter_ranks(base, adapter))
    if adapter and link.holds(ADAPTER_PATH, adapter):
        link.use(ADAPTER_PATH)
    else:
        board.use(adapter)
    return np.array([decisions[-1].seen for decisions in _decisions(link, takes, progress)], np.int64)


def hear_all(link: Link, takes: Sequence[Take], progress: Progress = untold) -> NDArray[np.int64]:
    """What a board says of every window of these takes, with what it has open and in use [windows]."""
    told = _decisions(link, takes, progress)
    return np.array([decision.seen for decisions in told for decision in decisions], np.int64)


def _decisions(link: Link, takes: Sequence[Take], progress: Progress) -> Iterator[list[Decision]]:
    link.listen()
    for done, take in enumerate(takes, 1):
        yield [decision for reply in link.hear(take.counts, anew=True) for decision in reply.decisions]
        progress(done, len(takes), "recordings")


def as_recorded(base: Base, takes: Sequence[Take]) -> Samples:
    """What a board that records keeps of these takes, by the host twin: the last window of each."""
    return _heard(base, takes, last=True)


def as_heard(base: Base, takes: Sequence[Take]) -> Samples:
    """Every window of these takes as a board makes it of their counts, by the host twin."""
    return _heard(base, takes, last=False)


def _heard(base: Base, takes: Sequence[Take], last: bool) -> Samples:
    session = Session(base.elm, bytes(len(base.model.ops)), "infer", 1)
    x: list[NDArray[np.int8]] = []
    y: list[int] = []
    for take in takes:
        windows = deque((window for _, window, _ in _inputs(base, session, take.counts)), 1 if last else None)
        x += windows
        y += [take.label] * len(windows)
    return Samples(np.array(x).reshape(-1, *base.model.input.shape), np.array(y, np.int64))


def _inputs(base: Base, session: Session, counts: NDArray[np.int16]) -> Iterator[tuple[int, NDArray[np.int8], int]]:
    """Each window: samples up to its end, the input, and values clipped so far."""
    signal, clipped, done = signal_of(base), 0, 0
    if signal.front == "none":
        for end in range(signal.window, len(counts) + 1, signal.hop):
            x, beyond = session.quantize(counts[end - signal.window : end])
            clipped += beyond
            yield end, x, clipped
        return
    front = front_end_of(signal, base.model.input.size)
    found, rows = front.feed(counts), base.model.input.size // front.size
    if base.model.input.size % front.size or signal.hop % front.stride:
        raise WorkflowError(f"{base.name}: its signal does not fit the front end {signal.front}: correct its data")
    for last in range(rows, len(found) + 1, signal.hop // front.stride):
        clipped += session.quantize(found[done:last])[1]
        done = last
        yield front.span + (last - 1) * front.stride, session.quantize(found[last - rows : last])[0], clipped


def front_end_of(signal: Signal, inputs: int) -> AudioFrontEnd | SpectralFrontEnd:
    """The one that boards take for a signal."""
    if signal.front == "audio":
        return AudioFrontEnd()
    rows = max(inputs // SPECTRAL_SIZE, 1)
    return SpectralFrontEnd(signal.channels, 0, signal.window // (SPECTRAL_FRAME * rows))


def _certainty(base: Base, session: Session, seen: int) -> float | None:
    if base.model.learns_values:
        return None
    p = session.probabilities()
    return int(p[seen] if len(p) > 1 else p[0] if seen else 32768 - int(p[0])) / 32768
