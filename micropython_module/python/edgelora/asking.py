# SPDX-License-Identifier: MIT
"""Which of the recorded windows to label next, so that a few presses of a button teach most.

    asking = Asking(model, windows)          # anything with `count` and `read(i, buffer)`, such as a SampleFile
    number = asking.ask()                    # show or replay window `number`, and wait for a button
    asking.label(number, label)              # or skip(number)
    rows = OwnRows(model, asking.labelled)   # see `rows`: these samples teach, and judge

It asks for windows that the model is unsure of and that are unlike those asked for before: 1 less the margin of the
two most probable classes, times the distance from the nearest of those, in the last layer's inputs (SPEC.md, 13).
"""

import struct
from array import array

from . import _core
from .confidence import ONE
from .rows import OwnRows, less, margin_of

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from collections.abc import Iterator
    from typing import Any

    from . import Model

DOUBT = 2  # of the rows that labels so far make, by which windows are looked at


class Labelled:
    """The windows with a label, as samples to learn from."""

    sample_size: int
    target_size: int
    base_id: bytes

    def __init__(self, model: Model, windows: Any) -> None:
        self.sample_size, self.target_size, self.base_id = model.sample_size, 0, model.base_id
        self._windows, self._samples = windows, []  # (number of the window, label)

    @property
    def count(self) -> int:
        return len(self._samples)

    def add(self, number: int, label: int) -> None:
        self._samples.append((number, label))

    def read(self, i: int, buffer: bytearray) -> int:
        number, label = self._samples[i]
        self._windows.read(number, buffer)
        return label


class Asking:
    """Chooses among windows without labels. windows: with `count` and `read(i, buffer)`, whose answer is ignored.

    labelled: the windows that got a label. said, margin: the class that the window asked for last is taken for, and how
    much more probable it is than the second, in 1/32768. ValueError if the base has no class statistics.
    """

    labelled: Labelled
    said: int
    margin: int

    def __init__(self, model: Model, windows: Any) -> None:
        self._model, self._windows = model, windows
        self._size = _core.class_size(model.arena)
        if not self._size:
            raise ValueError("the base has no class statistics: windows can't be compared")
        self.labelled, self.margin = Labelled(model, windows), 0
        self.said = -1
        self._near = array("i", [-1] * windows.count)  # distance from the nearest window that was asked for
        self._done, self._new = bytearray(windows.count), []  # asked for, of these not yet compared
        self._x = bytearray(model.sample_size)
        self._entry = bytearray(32 + (2 * self._size + 3) // 4 * 4)
        self._number = -1

    def label(self, number: int, label: int) -> None:
        """Takes the label of a window, of a class of the base."""
        if not 0 <= label < self._model.output_size:
            raise ValueError("class %d: only the base's classes can be asked for" % label)
        self.skip(number)
        self.labelled.add(number, label)

    def skip(self, number: int) -> None:
        """Takes a window as asked for, without a label."""
        if not self._done[number]:
            self._new.append(number)
            self._done[number] = 1

    def ask(self) -> int | None:
        """The number of the window whose label would help most; None if all were asked for. It takes an inference or
        more for each window: `look` does the same step by step."""
        used, looking = self._model.used, self.look()
        try:
            for _ in looking:
                pass
        finally:
            looking.close()
            self._model.use(used)  # again: an interrupt may have kept `look` from it
        return None if self._number < 0 else self._number

    def look(self) -> "Iterator[int]":
        """A generator: looks at one window after the other; yields the number of the best so far, or -1."""
        model = self._model
        used = model.used
        news = []
        for number in self._new:
            self._windows.read(number, self._x)
            news.append(self._inputs())
        self._number = most = -1
        try:
            if self.labelled.count:
                rows = OwnRows(model, self.labelled)
                rows.collect()
                rows.adapter(DOUBT)
            for number in range(self._windows.count):
                if self._done[number]:
                    continue
                self._windows.read(number, self._x)
                here = self._inputs() if news else None
                for new in news:
                    apart = self._apart(here, new)
                    if self._near[number] < 0 or apart < self._near[number]:
                        self._near[number] = apart
                said, margin = model.infer_sample(self._x), margin_of(model.probabilities())
                worth = (ONE - margin) * (self._near[number] if self._near[number] >= 0 else 1)
                if worth > most:
                    most, self._number, self.said, self.margin = worth, number, said, margin
                yield self._number
            del self._new[: len(news)]  # these were compared with every window
        finally:
            model.use(used)

    def _inputs(self):
        # The last layer's inputs for the window in `_x`.
        sums = bytearray(4 * self._size)
        _core.class_sample(self._model.arena, self._x, sums)
        return sums

    def _apart(self, one, other):
        # Squared distance of two windows' inputs, in the metric of the class statistics.
        _core.class_row(self._model.arena, less(one, other), 1, self._entry)
        return max(0, -2 * struct.unpack_from("<i", self._entry, 0)[0])
