# SPDX-License-Identifier: MIT
"""Rejects inputs that resemble no training sample: they get a class of their own, `nothing`.

    model = Known(model, "/main.json")       # the rule, which the host computes from the user's samples
    pipeline = Pipeline(model, source)       # Known takes the place of the model; pipeline.name may be "nothing" now

A window is compared with the samples of its predicted class in two ways: by the inputs of the network's last layer, and
by how much each value of the window varies. A window that is too far from the class in either way is "nothing".
A rule belongs to the adapter that is in use when a Known is made: after a switch, make another Known.
"""

import hashlib
import json
from array import array

from . import _core, hex_id
from ._around import Around

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from collections.abc import Sequence
    from typing import Any

    from . import Model

NOTHING = "nothing"
VERSION = 2
_MOST = 2047  # largest distance of a value, in 1/64 of its spread
_MOST_APART = 32767  # largest difference, in 1/16


def _root(n):
    # floor of the square root, n < 2^30
    x = 1
    while x * x <= n:
        x <<= 1
    while n:
        y = (x + n // x) // 2
        if y >= x:
            return x
        x = y
    return 0


def distance(values: Sequence[int], means: Sequence[int], gains: Sequence[int]) -> int:
    """Mean squared distance of values from means (both in 1/16) in spreads, in 1/1024. gains: 2^18 over the spread."""
    total = 0
    for i in range(len(gains)):
        apart = values[i] - means[i]
        apart = -_MOST_APART if apart < -_MOST_APART else _MOST_APART if apart > _MOST_APART else apart
        z = (apart * gains[i] + 2048) >> 12
        z = -_MOST if z < -_MOST else _MOST if z > _MOST else z
        total += z * z >> 2
    return total // len(gains)


def movement(x: bytes, rows: int, moved: Any) -> None:
    """Sets `moved` to 64 times the root of each value's mean distance from its mean. x: int8 [rows, values]."""
    values = len(moved)
    for k in range(values):
        total = 0
        for row in range(rows):  # a range with a step would allocate memory
            total += (x[row * values + k] ^ 128) - 128
        mean = total // rows
        total = 0
        for row in range(rows):
            apart = (x[row * values + k] ^ 128) - 128 - mean
            total += -apart if apart < 0 else apart
        moved[k] = _root(4096 * total // rows)


class _Near:
    # Accepts values whose `distance` from a class's samples is within the limit of the class.

    def __init__(self, said, classes):
        self.means = [array("h", row) for row in said["means"]]  # in 1/16
        self.gains = array("h", said["gains"])  # 2^18 over a spread in 1/16
        self._limits = array("i", said["limits"])
        if not len(self.means) == len(self._limits) == classes or min(self.gains) < 1:
            raise ValueError("the rule of nothing is damaged: save it again")
        for row in self.means:
            if len(row) != len(self.gains):
                raise ValueError("the rule of nothing is damaged: save it again")

    def accepts(self, values, place):
        return distance(values, self.means[place], self.gains) <= self._limits[place]


class Known(Around):
    """A model that returns `nothing` for windows that are unlike the samples of their predicted class.

    To a pipeline it is the model. Create it while the rule's adapter is in use; `edgelora act` and the studio make
    rules from a user's samples.
    """

    nothing: int  # the number of the class "nothing"
    classes: array[int]  # numbers of the classes in the rule; any other class is nothing

    def __init__(self, model: Model, rule: str | dict[str, Any]) -> None:
        """rule: a path, or the content of such a file. ValueError if it is damaged, or for another base or
        adapter."""
        if isinstance(rule, str):
            with open(rule) as file:
                rule = json.load(file)
        if rule["version"] != VERSION or rule["base"] != hex_id(model.base_id):
            raise ValueError("the rule of nothing is for another base: save it again")
        used = model.used
        if rule["adapter"] != (hex_id(hashlib.sha256(used.buffer).digest()[:8]) if used else ""):
            raise ValueError("the rule of nothing is for another adapter: save it again")
        super().__init__(model, NOTHING)
        self.nothing = len(model.labels)  # the number of the class "nothing"
        self.classes = array("H", rule["classes"])
        known = len(self.classes)
        self._moves = _Near(rule["moves"], known)
        self._last = _Near(rule["last"], known) if rule["last"] else None
        self._values = len(self._moves.gains)
        self._rows = model.input_size // self._values
        if self._rows * self._values != model.input_size or self._last and len(self._last.gains) > 256:
            raise ValueError("the rule of nothing is for another input: save it again")
        self._moved = array("h", bytes(2 * self._values))
        count = len(self._last.gains) if self._last else 0
        self._sums, self._reached = bytearray(4 * count), array("h", bytes(2 * count))

    def infer(self, x: Any) -> int:
        """The class of an input, or `nothing`. Allocates nothing. Rules with limits for the last layer infer twice."""
        if self._last:
            self._reach(x)
        label = self.model.infer(x)
        for place in range(len(self.classes)):
            if self.classes[place] == label:
                return label if self._is_like(x, place) else self.nothing
        return self.nothing

    def _is_like(self, x, place):
        if self._last and not self._last.accepts(self._reached, place):
            return False
        movement(x, self._rows, self._moved)
        return self._moves.accepts(self._moved, place)

    def _reach(self, x):
        # Stores the last layer's inputs for x, in 1/16: one sample's sums are at most 255 in magnitude.
        sums, reached = self._sums, self._reached
        for i in range(len(sums)):
            sums[i] = 0
        _core.class_sample(self.model.arena, x, sums)
        for i in range(len(reached)):
            reached[i] = 16 * (((sums[4 * i] | sums[4 * i + 1] << 8) ^ 32768) - 32768)
