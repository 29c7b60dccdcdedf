"""Samples of one user, and the order in which a run takes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.network import Tensor
from edgelora.core.twin import binding, device
from edgelora.learn.training.recipe import RunSettings


@dataclass(frozen=True)
class Clipping:
    """Clipping of real values from `low` to `high` by a grid: share of values that are beyond it."""

    share: float
    low: float
    high: float

    @staticmethod
    def of(tensor: Tensor, real: NDArray[np.floating]) -> Clipping:
        return Clipping(tensor.clipped(real), float(np.min(real)), float(np.max(real)))


@dataclass(frozen=True)
class Samples:
    """Quantized windows of one user: x int8 [N, height, width, channels], y [N].

    With history x is [N, frames, height, width, channels]. targets: what training aims at, y by default. clipping: of
    the real values that x was quantized from; target_clipping: of those of the targets.
    """

    x: NDArray[np.int8]
    y: NDArray[np.int64]
    given_targets: NDArray[np.int8] | None = None
    clipping: Clipping | None = None
    target_clipping: Clipping | None = None

    @property
    def targets(self) -> NDArray[Any]:
        return self.y if self.given_targets is None else self.given_targets

    @property
    def frames(self) -> int:
        return self.x.shape[1] if self.x.ndim == 5 else 1

    @property
    def of_epoch(self) -> NDArray[np.int64]:
        """The samples of an epoch, by index, before they are put in order (SPEC.md, 13).

        Each occurs once; then those of rare classes occur again. Samples without classes occur once.
        """
        again = device.module("training").repeated(*self._as_source()) if len(self) else []
        return np.concatenate([np.arange(len(self)), np.array(again, np.int64)])

    @cached_property
    def have_classes(self) -> bool:
        """Whether they have labels, or single targets that say no or yes, instead of values to aim at."""
        return device.module("training").labels_of(*self._as_source()) is not None

    def _as_source(self) -> tuple[Source, int, bytearray, int]:
        source = Source(self)
        return source, source.count, bytearray(source.sample_size), source.target_size

    def part(self, chosen: NDArray[np.bool_]) -> Samples:
        """The chosen samples."""
        given = None if self.given_targets is None else self.given_targets[chosen]
        return replace(self, x=self.x[chosen], y=self.y[chosen], given_targets=given)

    def __len__(self) -> int:
        return len(self.y)


class Source:
    """Samples as the device's Python takes them."""

    def __init__(self, samples: Samples) -> None:
        self.count = len(samples)
        self._x = [x.tobytes() for x in samples.x]
        given = samples.given_targets
        self._answers = [int(y) for y in samples.y] if given is None else [target.tobytes() for target in given]
        self.sample_size = samples.x[0].size if self.count else 0
        self.target_size = given[0].size if given is not None and self.count else 0

    def read(self, i: int, buffer: bytearray) -> int | bytes:
        buffer[:] = self._x[i]
        return self._answers[i]


@dataclass(frozen=True)
class MicroBatch:
    """The samples of one update, by index, and its learning rate."""

    picked: NDArray[np.int64]
    learning_rate: int
    epoch: int


def schedule(samples: Samples, settings: RunSettings) -> list[MicroBatch]:
    """The updates of a run over samples. Each epoch has a new order, and micro-batches may span two epochs."""
    of_epoch, size = samples.of_epoch, settings.session.micro_batch
    count = len(of_epoch)
    order = of_epoch[np.concatenate(list(_orders(count, settings)))]
    starts = range(0, len(order), size)
    falling_rate = device.module("training").falling_rate
    return [
        MicroBatch(order[at : at + size], falling_rate(settings.learning_rate, step, len(starts)), at // count)
        for step, at in enumerate(starts)
    ]


def _orders(count: int, settings: RunSettings) -> Iterator[NDArray[np.int64]]:
    """The permutation of each epoch: the board's own, or one that the host draws."""
    rng = np.random.default_rng(settings.seed)
    for epoch in range(settings.epochs):
        yield binding.order(settings.seed, epoch, count) if settings.on_board else rng.permutation(count)
