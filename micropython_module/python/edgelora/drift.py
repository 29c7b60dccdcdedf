# SPDX-License-Identifier: MIT
"""Notices without labels that windows are not what they were: is the sensor worn another way?

    drift = Drift(model)             # or Drift(model, kept), with the bytes kept from before
    if drift.add(window):            # as the model takes it; one a minute, say, not each of a row
        print("is it worn another way?")
        drift.restart()              # learns what is usual again, after the person's answer

It learns what is usual from its first windows: the means of each channel. A window is new if it is farther from all
of them than one in 20 of them is from the others; many new ones among the latest are an alarm (SPEC.md, section 13).
"""

import struct

from . import _core
from ._axes import FARTHEST, distance, means_of

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from . import Model
    from ._types import Buffer

LATEST, MANY = 32, 20  # an alarm: MANY of the LATEST windows are new
OUTLIERS = 20  # one in OUTLIERS of the first windows would be new to the others
_HEAD = "<4s8s2H3I"  # magic, base, columns, count, windows, seen, bits of the latest
_HEAD_SIZE = struct.calcsize(_HEAD)
_STREAM = 131074  # random stream of the draws


class Drift:
    """Compares windows with the first ones, which must be of all that is usual: of every activity, for example.

    count: how many of them are remembered, with a byte for each channel; windows: how many of them there are, of which
    `count` are drawn; 0: `count`. kept: the `kept` of an earlier one for this base, which these follow. ValueError for
    bytes that are damaged or for another base, and for a model without a signal.
    """

    windows: int
    count: int
    seen: int  # windows added

    def __init__(self, model: Model, kept: Buffer | None = None, count: int = 128, windows: int = 0) -> None:
        signal = model.signal
        if not signal:
            raise ValueError("the base says nothing about its channels: make it with a signal (edgelora train-base)")
        self._base, self._size = bytes(model.base_id), model.sample_size
        self._columns = signal.channels if signal.front == "none" else signal.values
        if self._size % self._columns:
            raise ValueError("windows of %d values are not of %d channels" % (self._size, self._columns))
        self.count, self.windows = count, windows or count
        self.seen = self._bits = 0
        if kept is not None:
            self._take(bytes(kept))
        if not 2 <= self.count <= self.windows or self.count > 1024:
            raise ValueError("%d of %d windows: give 2 to 1024 of at least as many" % (self.count, self.windows))
        if kept is None:
            self._usual = bytearray(self.count * self._columns)
        self._limit = None  # until it is needed

    def _take(self, kept):
        # Goes on from kept bytes.
        whole = len(kept) > _HEAD_SIZE + 4 and _core.crc32(kept[:-4], 0) == int.from_bytes(kept[-4:], "little")
        if not whole or kept[:4] != b"ELW1":
            raise ValueError("these are not bytes of a Drift, or damaged: begin without them")
        _, base, columns, self.count, self.windows, self.seen, self._bits = struct.unpack_from(_HEAD, kept)
        self._usual = bytearray(kept[_HEAD_SIZE:-4])
        if base != self._base or columns != self._columns or len(self._usual) != self.count * columns:
            raise ValueError("these bytes are of another base: begin without them")

    @property
    def kept(self) -> bytes:
        """All that it knows, to keep in a file."""
        fields = self._base, self._columns, self.count, self.windows, self.seen, self._bits
        data = struct.pack(_HEAD, b"ELW1", *fields) + bytes(self._usual)
        return data + struct.pack("<I", _core.crc32(data, 0))

    @property
    def left(self) -> int:
        """How many of the first windows are still missing; before that there is no alarm."""
        return max(self.windows - self.seen, 0)

    @property
    def new(self) -> int:
        """How many of the latest 32 windows are new."""
        bits, new = self._bits, 0
        while bits:
            new, bits = new + (bits & 1), bits >> 1
        return new

    @property
    def alarm(self) -> bool:
        """Whether so many of them are that the sensor may be worn another way."""
        return self.new >= MANY

    def restart(self) -> None:
        """Forgets what was usual: the windows to come are."""
        self.seen = self._bits = 0
        self._limit = None

    def add(self, window: Buffer) -> bool:
        """Looks at a window, int8, as the model takes it. Returns whether there is an alarm."""
        if len(window) != self._size:
            raise ValueError("a window of %d values, must be %d" % (len(window), self._size))
        means, seen = means_of(window, self._columns), self.seen
        if seen >= self.windows:
            if self._limit is None:
                self._limit = self._farthest()
            is_new = int(self._nearest(means, -1) > self._limit)
            self._bits = (self._bits << 1 | is_new) & (1 << LATEST) - 1
            return self.alarm
        slot = seen if seen < self.count else _core.draw(0, _STREAM, seen, seen + 1)
        if slot < self.count:
            self._usual[slot * self._columns : (slot + 1) * self._columns] = means
        self.seen = seen + 1
        return False

    def _nearest(self, means, but):
        # The distance to the nearest of what is usual, except for number `but`.
        nearest = FARTHEST
        for number in range(self.count):
            if number != but:
                nearest = distance(means, self._usual, number, nearest)
        return nearest

    def _farthest(self):
        # The distance that one in OUTLIERS of what is usual exceeds.
        columns = self._columns
        far = [self._nearest(self._usual[i * columns : (i + 1) * columns], i) for i in range(self.count)]
        return sorted(far)[(self.count - 1) * (OUTLIERS - 1) // OUTLIERS]
