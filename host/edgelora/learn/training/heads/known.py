"""Detects windows unlike all samples: the rule by which a board says "nothing" (edgelora.known on the device).

A window is compared with the samples of its predicted class: by the inputs of the network's last layer, and by how much
each input value moves. Both are distances in spreads, in the integers that a board computes. A window beyond the limit
is "nothing"; the user's own samples, each left out in turn, set the limit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.twin import device
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.base import Base, adapter_ranks
from edgelora.model.datasets.dataset import Dataset, held_out

from .new_classes import numbers_of

_known = device.module("known")
NOTHING: str = _known.NOTHING
VERSION: int = _known.VERSION
LEAST_OF_CLASS = 2  # samples: each is compared with the others
LEAST_OF_LIMIT = 4  # samples for a class's own limit; smaller classes take that of all samples
ROOM_LAST, ROOM_MOVES = 1.5, 5.0  # limit / squared distance of the farthest own sample
FLOOR = 0.1  # of the mean variance: the least variance of each value
LARGEST_GAIN = 32767
UNIT = 1 << 18  # gain * spread in 1/16


@dataclass(frozen=True)
class Near:
    """Distances of values from a class: means int16 [classes, n], 1/16; gains uint16 [n], 2^18 over their spread in
    1/16; limits [classes]: of the mean squared distance, in 1/1024 of a spread's square."""

    means: NDArray[np.int16]
    gains: NDArray[np.uint16]
    limits: tuple[int, ...]

    def accepts(self, values: NDArray[np.integer], place: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which of the values [N, n], 1/16, are near the class at their place [N]; as the device computes it."""
        scores = _scores(values, self.means[place].astype(np.int64), self.gains)
        return np.asarray(scores <= np.array(self.limits)[place], bool)


def _scores(values: NDArray[np.integer], means: NDArray[np.int64], gains: NDArray[np.uint16]) -> NDArray[np.int64]:
    distance, spreads = _known.distance, gains.tolist()
    pairs = zip(values.tolist(), means.tolist(), strict=True)
    return np.array([distance(mine, others, spreads) for mine, others in pairs], np.int64)


def _near(values: NDArray[np.integer], y: NDArray[np.integer], room: float) -> Near:
    """For values [N, n], 1/16, of classes 0, 1, ...; limits: from each sample's distance to the others of its class."""
    count = int(y.max()) + 1
    sums = np.array([values[y == k].sum(0) for k in range(count)])
    sizes = np.bincount(y, minlength=count)[:, None]
    means = sums / sizes
    variance = ((values - means[y]) ** 2).sum(0) / max(len(y) - count, 1)
    spread = np.sqrt(np.maximum(variance + FLOOR * variance.mean(), 1.0))
    gains = np.clip(np.round(UNIT / spread), 1, LARGEST_GAIN).astype(np.uint16)
    judged = sizes[y, 0] >= LEAST_OF_CLASS
    others = (sums[y] - values)[judged] / (sizes[y, 0] - 1)[judged, None]
    scores = _scores(values[judged], np.round(others).astype(np.int64), gains)
    mine = [scores[y[judged] == k] for k in range(count)]
    farthest = [int((one if len(one) >= LEAST_OF_LIMIT else scores).max()) for one in mine]
    return Near(_int16(means), gains, tuple(int(room * one) for one in farthest))


def _int16(values: NDArray[np.floating]) -> NDArray[np.int16]:
    return np.clip(np.round(values), -32768, 32767).astype(np.int16)


@dataclass(frozen=True)
class Rule:
    """Decides whether windows are like samples of a class. classes: the known classes' numbers; others are "nothing".

    adapter_id: of the adapter that the rule was made with, see `adapter_id`. last: compares the last layer's inputs,
    None for a base without class statistics; moves: compares how much input values move.
    """

    base_id: str
    adapter_id: str
    classes: tuple[int, ...]
    last: Near | None
    moves: Near

    def text(self) -> str:
        """The rule as the board reads it: JSON."""
        said = {"version": VERSION, "base": self.base_id, "adapter": self.adapter_id, "classes": list(self.classes)}
        for name, near in (("last", self.last), ("moves", self.moves)):
            said[name] = near and {
                "means": near.means.tolist(),
                "gains": near.gains.tolist(),
                "limits": list(near.limits),
            }
        return json.dumps(said, separators=(",", ":")) + "\n"

    @classmethod
    def of_json(cls, said: dict[str, Any]) -> Rule:
        """A rule from the parsed JSON of `text`; for trusted files of this package only."""
        nears = [
            near
            and Near(
                np.array(near["means"], np.int16), np.array(near["gains"], np.uint16), tuple(map(int, near["limits"]))
            )
            for near in (said["last"], said["moves"])
        ]
        return cls(said["base"], said["adapter"], tuple(map(int, said["classes"])), *nears)

    def accepts(self, seen: Seen, said: Sequence[int] | None = None) -> NDArray[np.bool_]:
        """Which windows are not "nothing". said: classes to compare with instead of the predicted ones."""
        said = seen.said if said is None else said
        places = np.array([self.classes.index(k) if k in self.classes else -1 for k in said], np.int64)
        like = (places >= 0) & self.moves.accepts(seen.moves, places)
        return like & self.last.accepts(seen.last, places) if self.last else like


@dataclass(frozen=True)
class Seen:
    """A network's view of windows. said: predicted classes, logits: int8 [N, outputs]; last, moves: as `Rule`, 1/16."""

    said: list[int]
    logits: NDArray[np.int8]
    last: NDArray[np.int32]
    moves: NDArray[np.int32]

    def part(self, mask: NDArray[np.bool_]) -> Seen:
        said = [k for k, one in zip(self.said, mask, strict=True) if one]
        return Seen(said, self.logits[mask], self.last[mask], self.moves[mask])


class Looker:
    """The host twin of a board that infers with an adapter, or with None: the base alone."""

    def __init__(self, base: Base, adapter: bytes | None) -> None:
        self.base = base
        self._session = Session(base.elm, adapter_ranks(base, adapter), "infer", 1)
        self._session.use(adapter)

    def look(self, x: NDArray[np.int8]) -> Seen:
        """x: int8 inputs [N, ...]."""
        session, flat = self._session, x.reshape(len(x), -1)
        last = session.last_inputs(flat) if session.class_size else np.zeros((len(x), 0), np.int32)
        said, logits = [], np.zeros((len(x), session.output_size), np.int8)
        for i, one in enumerate(flat):
            said.append(session.infer(one))
            logits[i] = session.logits[: session.output_size]
        return Seen(said, logits, 16 * last, _moves(x, self.base.model.input.shape[-1]))


def _moves(x: NDArray[np.int8], values: int) -> NDArray[np.int32]:
    """Movement of each value of inputs [N, ...]: 64 times the root of its mean distance from its mean, [N, values]."""
    moves = np.zeros((len(x), values), np.int32)
    for one, moved in zip(x, moves, strict=True):
        _known.movement(one.tobytes(), one.size // values, moved)
    return moves


def adapter_id(adapter: bytes | None) -> str:
    """The start of the SHA-256 of an adapter's bytes, as hexadecimal digits; "" for the base alone."""
    return hashlib.sha256(adapter).hexdigest()[:16] if adapter else ""


class Known:
    """A user's samples as seen with an adapter (None: the base alone); each is inferred once.

    rule: made from the samples; None if they are too few, if the base learns values, or if it has history, so that a
    single window is not enough. WorkflowError if samples have another shape than the base's input.
    """

    def __init__(self, base: Base, adapter: bytes | None, data: Dataset) -> None:
        numbers = _numbers(base, adapter, data)
        mine = np.array([numbers[y] is not None for y in data.y], bool)
        self._base, self._adapter_id, self._looker = base, adapter_id(adapter), Looker(base, adapter)
        self._x = base.inputs(data)[mine]
        self._y = np.array([numbers[y] for y in data.y[mine]], np.int64)
        self.rule: Rule | None = None
        if len(self._y) and not base.model.has_history and not base.model.learns_values:
            self._seen = self._looker.look(self._x)
            self.rule = self._of(self._seen, self._y)

    def _of(self, seen: Seen, y: NDArray[np.int64]) -> Rule | None:
        return _rule(self._base, self._adapter_id, seen, y)

    @property
    def shares(self) -> Shares | None:
        """The results of a rule from three quarters of the samples on the last quarter; None without a rule."""
        if self.rule is None:
            return None
        held = held_out(self._y)
        rule = self._of(self._seen.part(~held), self._y[~held])
        if rule is None:
            return None
        own = rule.accepts(self._seen.part(held))
        lying = rule.accepts(self._looker.look(_still(self._x, self._base.model.input.shape[-1])))
        return Shares(_counted(own), self._left_out(held), _counted(lying))

    def _left_out(self, held: NDArray[np.bool_]) -> tuple[int, int]:
        """(accepted, all) held-out windows of base classes, by rules without their class; the other logits predict."""
        seen, y = self._seen, self._y
        accepted = total = 0
        for left in sorted(set(y[y < seen.logits.shape[1]].tolist())):
            rest = ~held & (y != left) & (y < seen.logits.shape[1])
            rule = self._of(seen.part(rest), y[rest])
            if rule is None:
                continue
            windows = seen.part(held & (y == left))
            others = np.array(rule.classes)
            said = others[windows.logits[:, others].argmax(1)] if len(windows.said) else np.zeros(0, np.int64)
            accepted += int(rule.accepts(windows, said.tolist()).sum())
            total += len(windows.said)
        return accepted, total


def _rule(base: Base, adapter_id: str, seen: Seen, y: NDArray[np.int64]) -> Rule | None:
    classes = tuple(sorted(set(y.tolist())))
    places = np.array([classes.index(int(k)) for k in y], np.int64)
    if not len(y) or np.bincount(places).max() < LEAST_OF_CLASS:
        return None
    last = _near(seen.last, places, ROOM_LAST) if seen.last.shape[1] else None
    return Rule(base.base_id, adapter_id, classes, last, _near(seen.moves, places, ROOM_MOVES))


def _numbers(base: Base, adapter: bytes | None, data: Dataset) -> list[int | None]:
    """The network's number of each class of the data, None for unknown classes."""
    known = numbers_of(base, adapter)
    return [known.get(label) for label in data.labels]


@dataclass(frozen=True)
class Shares:
    """A rule's results, each as (accepted, all). own: samples held out from the rule; unknown: windows of classes left
    out of the rule, in turn; still: windows of a sensor at rest."""

    own: tuple[int, int]
    unknown: tuple[int, int]
    still: tuple[int, int]

    @property
    def words(self) -> str:
        """The shares as text for users."""
        parts = (
            (self.own, "held-out samples recognized"),
            (self.unknown, "samples of unknown classes mistaken for a known one"),
        )
        shares = [f"{accepted} of {count} {words}" for (accepted, count), words in parts if count]
        return f"{', '.join(shares)}; at rest: {self.still[0]} of {self.still[1]}"


def _counted(accepted: NDArray[np.bool_]) -> tuple[int, int]:
    return int(accepted.sum()), len(accepted)


def _still(x: NDArray[np.int8], values: int) -> NDArray[np.int8]:
    """Inputs whose values don't move: the means of each window, as of a sensor at rest."""
    rows = x.reshape(len(x), -1, values).astype(np.float64)
    return np.broadcast_to(np.round(rows.mean(1, keepdims=True)), rows.shape).astype(np.int8).reshape(x.shape)
