"""From a sensor's samples to decisions, on a board or on the host twin: the same, byte for byte."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.board.link.client import Link
from edgelora.board.link.replies import Decision, LinkError, ListenReply
from edgelora.core.formats.signal import Signal
from edgelora.core.twin import device
from edgelora.learn.training.board.board_learner import BoardLearner
from edgelora.learn.training.board.board_paths import ADAPTER_PATH, SWITCHED_PATH
from edgelora.learn.training.data.base import Base, WorkflowError, adapter_ranks, opened
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.recipe import inference


@dataclass(frozen=True)
class Vote:
    """The decision is a class if at least `least` of the last `windows` windows are of it."""

    least: int = 1
    windows: int = 1


def signal_of(base: Base) -> Signal:
    """The sensor signal of the base's input. WorkflowError if the base has none."""
    if base.model.signal is None:
        raise WorkflowError(
            f"{base.name} doesn't describe its signal: quantize or import it with --data that has one, such as har:3"
        )
    return base.model.signal


Switches = Sequence[tuple[int, int]]  # (sample, adapter number for windows that end after it; 0: the base alone)


def listen_on_board(
    link: Link,
    base: Base,
    adapters: Sequence[bytes],
    counts: NDArray[np.int16],
    vote: Vote = Vote(),
    switches: Switches = (),
) -> Iterator[ListenReply]:
    """A board's decisions on samples, int16 [n, channels], part by part, as they are sent.

    The board cuts them into windows, normalizes and infers: with adapter 1 until `switches`, in their order, name
    another. Switching interrupts neither the stream nor the network's history.
    """
    signal_of(base)
    BoardLearner(link, base, inference(ranks_of_all(base, adapters)))
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
    """`listen_on_board` by the board's own Python on this computer, with a reply for each window."""
    signal = signal_of(base)
    model = device.module().Model(base.elm, ranks_of_all(base, adapters), "infer", 1)
    used = [None, *map(model.adapter, adapters)]
    cutter = Cutter(model, signal, vote)
    pipeline = cutter.pipeline
    for number, start, end in _stretches(len(counts), adapters, switches):
        model.use(used[number])
        for _ in cutter.windows(counts[start:end]):
            outputs = np.frombuffer(bytes(model.output), np.int8)
            decision = Decision(pipeline.end, pipeline.seen, pipeline.label, _certainty(base, pipeline), outputs)
            yield ListenReply([decision], 0, pipeline.clipped)


class Pieces:
    """A device's source of samples that come in pieces, int16 [n, channels], with the rate of a signal."""

    scales, overruns = None, 0

    def __init__(self, signal: Signal) -> None:
        self.rate, self.channels = signal.rate, signal.channels
        self._left = np.zeros((0, signal.channels), np.int16)

    def give(self, counts: NDArray[np.int16]) -> None:
        """The stream's next samples, when those before were read."""
        self._left = counts

    @property
    def ended(self) -> bool:
        return not len(self._left)

    def read_into(self, buffer: memoryview) -> int:
        taken = self._left[: len(buffer) // self.channels]
        self._left = self._left[len(taken) :]
        np.frombuffer(buffer, np.int16)[: taken.size] = taken.reshape(-1)
        return len(taken)


class Cutter(Pieces):
    """The device's `pipeline`, and its source: samples that come in pieces.

    model: the device's, or what has as much of it as the pipeline uses. InputError if the signal does not fit it.
    """

    def __init__(self, model: Any, signal: Signal, vote: Vote = Vote()) -> None:
        super().__init__(signal)
        with device.refusals():
            self.pipeline = device.module("pipeline").Pipeline(
                model, self, vote=(vote.least, vote.windows), chunk=max(signal.hop, signal.window)
            )

    def windows(self, counts: NDArray[np.int16]) -> Iterator[memoryview]:
        """The int8 input of each window that ends in these samples, int16 [n, channels], the stream's next.

        Valid until the next one.
        """
        self.give(counts)
        while not self.pipeline.ended:
            if self.pipeline.step():
                yield memoryview(self.pipeline.x)


def _stretches(samples: int, adapters: Sequence[bytes], switches: Switches) -> Iterator[tuple[int, int, int]]:
    """(adapter's number, first sample, end) of each stretch of a recording."""
    turns = [(0, int(bool(adapters))), *((min(at, samples), number) for at, number in switches)]
    for i, (start, number) in enumerate(turns):
        end = turns[i + 1][0] if i + 1 < len(turns) else samples
        if not 0 <= number <= len(adapters) or end < start:
            raise InputError(
                f"switches {list(switches)}: give ascending times, and adapters from 0 (the base alone) to "
                f"{len(adapters)}"
            )
        yield number, start, end


def ranks_of_all(base: Base, adapters: Sequence[bytes]) -> bytes:
    """The rank of every op, which all adapters of a session must share. InputError if they don't."""
    ranks = [adapter_ranks(base, adapter) for adapter in adapters or (None,)]
    if len(set(ranks)) > 1:
        raise InputError(
            f"the adapters differ in ranks: {'; '.join(str(list(r)) for r in ranks)}",
            remedy="train them with the same rank and placement",
        )
    return ranks[0]


@dataclass(frozen=True)
class Take:
    """Samples, int16 [n, channels], of a class; functions use their last window or all of them."""

    counts: NDArray[np.int16]
    label: int


def record_on_board(link: Link, base: Base, path: str, takes: Sequence[Take], progress: Progress = no_progress) -> None:
    """Sends takes to a board, which writes its front end's outputs for each one's last window to a sample file."""
    signal_of(base)
    BoardLearner(link, base, inference(adapter_ranks(base, None)))
    link.listen(path=path)
    for done, take in enumerate(takes, 1):
        deque(link.hear(take.counts, anew=True, label=take.label), 0)
        progress(done, len(takes), "recordings")


def hear_on_board(
    link: Link, base: Base, adapter: bytes | None, takes: Sequence[Take], progress: Progress = no_progress
) -> NDArray[np.int64]:
    """A board's class for each take's last window [takes]. adapter: None for the base alone; not sent if the board's
    flash already holds it at `ADAPTER_PATH`."""
    board = BoardLearner(link, base, inference(adapter_ranks(base, adapter)))
    if adapter and link.holds(ADAPTER_PATH, adapter):
        link.use(ADAPTER_PATH)
    else:
        board.use(adapter)
    return np.array([decisions[-1].seen for decisions in _decisions(link, takes, progress)], np.int64)


def hear_all(link: Link, takes: Sequence[Take], progress: Progress = no_progress) -> NDArray[np.int64]:
    """A board's class for every window of these takes [windows], with its open model and the adapter in use."""
    heard = _decisions(link, takes, progress)
    return np.array([decision.seen for decisions in heard for decision in decisions], np.int64)


def _decisions(link: Link, takes: Sequence[Take], progress: Progress) -> Iterator[list[Decision]]:
    link.listen()
    for done, take in enumerate(takes, 1):
        yield [decision for reply in link.hear(take.counts, anew=True) for decision in reply.decisions]
        progress(done, len(takes), "recordings")


def as_recorded(base: Base, takes: Sequence[Take]) -> Samples:
    """The samples that `record_on_board` keeps of these takes, by the host twin: each one's last window."""
    return _heard(base, takes, last=True)


def as_heard(base: Base, takes: Sequence[Take]) -> Samples:
    """Every window of these takes as a board computes it from their counts, by the host twin."""
    return _heard(base, takes, last=False)


def _heard(base: Base, takes: Sequence[Take], last: bool) -> Samples:
    model = opened(base, None)
    model.infer = lambda x: 0  # only windows are needed, no decisions
    cutter = Cutter(model, signal_of(base))
    x: list[bytes] = []
    y: list[int] = []
    for take in takes:
        cutter.pipeline.reset()
        windows = deque(map(bytes, cutter.windows(take.counts)), 1 if last else None)
        x += windows
        y += [take.label] * len(windows)
    values = np.frombuffer(b"".join(x), np.int8).reshape(-1, *base.model.input.shape)
    return Samples(values, np.array(y, np.int64))


def _certainty(base: Base, pipeline: Any) -> float | None:
    if base.model.learns_values:
        return None
    p, seen = pipeline.probabilities(), pipeline.seen
    return int(p[seen] if len(p) > 1 else p[0] if seen else 32768 - p[0]) / 32768
