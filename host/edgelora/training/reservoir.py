"""The twin of a board's reservoir: a bounded, class-balanced memory of samples (SPEC.md, section 13)."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from .. import twin
from ..errors import InputError
from ..formats import pack_reservoir
from .guard import LEAST_JUDGED
from .samples import Samples

STREAM = 131072  # of draws
HELD = 4  # one slot in so many holds a sample that judges
EMPTY = -1


class Reservoir:
    """Samples of a shape, int8, of `classes` classes, added ones among them, in a fixed number of slots.

    The same as a board's, draw by draw. x: int8 [slots, *shape]; labels: [slots], EMPTY where there is none; seen:
    [classes], how many have come.
    """

    def __init__(self, shape: tuple[int, ...], slots: int, classes: int, seed: int = 0) -> None:
        if not 1 <= slots <= 32767:
            raise InputError(f"{slots} slots: give 1 to 32767")
        self.x = np.zeros((slots, *shape), np.int8)
        self.labels = np.full(slots, EMPTY, np.int64)
        self.seen = np.zeros(classes, np.int64)
        self.seed, self.slots = seed, slots
        self._first_held = slots - slots // HELD

    def judges(self, label: int) -> bool:
        """Whether the next sample of this class will be one that judges."""
        return self.slots >= HELD and self.seen[label] % 8 >= 6

    def add(self, sample: NDArray[np.int8], label: int) -> int | None:
        """Takes a sample in, or not. The slot that it got."""
        slot = self._choose(label)
        if slot is not None:
            self.x[slot], self.labels[slot] = sample.reshape(self.x.shape[1:]), label
        self.seen[label] += 1
        return slot

    def _choose(self, label: int) -> int | None:
        came = int(self.seen[label])
        held = 2 * (came // 8) + max(0, came % 8 - 6) if self.slots >= HELD else 0
        learns = np.arange(self.slots) < self._first_held
        among, came = (~learns, held) if self.judges(label) else (learns, came - held)
        here = np.flatnonzero(among)
        empty = here[self.labels[here] == EMPTY]
        if len(empty):
            return int(empty[0])
        kept = np.bincount(self.labels[here], minlength=len(self.seen))
        most, mine, turn = kept.max(), kept[label], 2 * int(self.seen.sum())
        if mine > 0 and (mine == most or came > mine):  # it is, or was, among the largest classes: it grows no more
            if twin.draw(self.seed, STREAM, turn, came + 1) >= mine:
                return None
            victims = here[self.labels[here] == label]
        else:
            victims = here[kept[self.labels[here]] == most]
        return int(victims[twin.draw(self.seed, STREAM, turn + 1, len(victims))])

    def forget(self, label: int) -> None:
        """As if none of this class had come."""
        self.labels[self.labels == label] = EMPTY
        self.seen[label] = 0

    def parts(self, classes: Collection[int] | None = None) -> tuple[Samples, Samples | None]:
        """What is learned, and what judges: None if that is too little, or of one class. classes: of these alone."""
        full = self.labels != EMPTY
        if classes is not None:
            full &= np.isin(self.labels, list(classes))
        held = full & (np.arange(self.slots) >= self._first_held)
        few = held.sum() < LEAST_JUDGED or len(np.unique(self.labels[held])) < 2
        return self._samples(full & ~held), None if few else self._samples(held)

    def _samples(self, chosen: NDArray[np.bool_]) -> Samples:
        return Samples(self.x[chosen], self.labels[chosen])

    def pack(self, base_id: bytes) -> bytes:
        """The file that a board has after the same samples, if it wrote them in one life."""
        return pack_reservoir(self.x, self.labels, self.seen, self.seed, base_id)
