# SPDX-License-Identifier: MIT
"""How the sensor's axes are turned: the learner's part that compares inputs with stored samples (SPEC.md, section 13).

Worn another way, a sensor of three axes gives other means. Where the latest samples are much nearer to stored ones with
their axes turned, these are. It needs no labels.
"""

from array import array

from . import _core

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from . import Model
    from ._types import Buffer
    from .reservoir import Reservoir

TURNS = 21  # turns that are tried: by 45 to 315 degrees about each of three axes
_COSINES = (16384, 11585, 0, -11585, -16384, -11585, 0, 11585)  # of eighths of a turn, in 1/16384
LATEST, STORED = 16, 32  # samples that are compared, and with how many at least
FARTHEST = 16777216  # more than any distance


def matrix_of(number: int, then: "array[int] | None" = None) -> "array[int]":
    """The turn with this number, behind the matrix `then`: rows of a 3 x 3 matrix, in 1/16384."""
    axis, eighths = number // 7, number % 7 + 1
    cosine, sine = _COSINES[eighths], _COSINES[(eighths + 6) % 8]
    a, b = (axis + 1) % 3, (axis + 2) % 3
    rows = [0] * 9
    rows[4 * axis] = 16384
    rows[4 * a] = rows[4 * b] = cosine
    rows[3 * a + b], rows[3 * b + a] = -sine, sine
    if then:
        rows = [(sum(rows[i - i % 3 + k] * then[3 * k + i % 3] for k in range(3)) + 8192) >> 14 for i in range(9)]
    return array("h", rows)


def zero_of(model: Model) -> int | None:
    """The zero point, plus 128, of an input that consists of vectors of three axes, so that these can be turned."""
    signal = model.signal
    if not signal or signal.front != "none" or signal.channels % 3 or signal.values != signal.channels:
        return None
    for i in range(0, signal.channels, 3):
        if any(signal.means[i : i + 3]) or len(set(signal.stds[i : i + 3])) > 1:
            return None
    return model.buffer[int.from_bytes(model.buffer[28:32], "little") + 6] ^ 128


def means_of(window: Buffer, columns: int) -> bytearray:
    """The mean of each channel, rounded down: int8 [columns]."""
    sums = [0] * columns
    for i in range(len(window)):
        value = window[i]
        sums[i % columns] += value - 256 if value > 127 else value
    rows = len(window) // columns
    return bytearray(total // rows & 255 for total in sums)


def distance(means: Buffer, stored: Buffer, number: int, most: int) -> int:
    """The distance to the means with this number among those stored: the sum over channels of the differences, or
    `most` if it is not less."""
    far, columns = 0, len(means)
    at = number * columns
    for i in range(columns):
        far += abs((stored[at + i] ^ 128) - (means[i] ^ 128))
        if far >= most:
            return most
    return far


class _Axes:
    """The latest samples' means and those of the stored ones, in memory alone: after a reset it begins anew."""

    def __init__(self, model: Model, reservoir: Reservoir, zero: int) -> None:
        self._reservoir, self._columns, self._zero = reservoir, model.signal.channels, zero
        self._buffer, self._out = bytearray(model.sample_size), bytearray(self._columns)
        self._stored = bytearray(reservoir.slots * self._columns)
        self.restart()

    def restart(self) -> None:
        """Reads the stored samples, in today's axes, and forgets the latest ones."""
        self._latest = []  # (time, means, distance) of each
        self._usual = None  # what the distance usually is, of 16 samples
        for slot in range(self._reservoir.slots):
            if self._reservoir._read_slot(slot, self._buffer):
                self.put(slot, self._buffer)

    def put(self, slot: int, sample: Buffer) -> None:
        """Notes that a slot has this sample, its axes turned."""
        self._stored[slot * self._columns : (slot + 1) * self._columns] = means_of(sample, self._columns)

    def add(self, sample: Buffer) -> None:
        """Compares a sample that comes now, its axes turned as far as is known."""
        latest, means = self._latest, means_of(sample, self._columns)
        before = latest[0][0] if latest else self._reservoir.time
        far = self._nearest(means, before)
        if far is None:
            return latest.clear()
        latest.append((self._reservoir.time, means, far))
        if len(latest) > LATEST:
            far = LATEST * latest.pop(0)[2]
            self._usual = far if self._usual is None else self._usual + (far - self._usual) // LATEST

    def find(self) -> tuple[int, int] | None:
        """Returns (turn, time of its first sample) if the latest samples are nearer to the stored ones with a turn, by
        a third, and else None. Only where they are half as far again as usual all turns are tried."""
        latest = self._latest
        total = sum(one[2] for one in latest)
        if len(latest) < LATEST or self._usual is not None and 2 * total <= 3 * self._usual:
            return None
        best, found = 2 * total, None
        for number in range(TURNS):
            matrix, sums, each = matrix_of(number), 0, []
            for _, means, _ in latest:
                _core.turn(self._out, means, self._zero, matrix)
                each.append(self._nearest(self._out, latest[0][0]))
                if each[-1] is None:
                    return None
                sums += 3 * each[-1]
                if sums >= best:
                    break
            else:
                best, found = sums, (number, each)
        return found and (found[0], self._start(found[1]))

    def _start(self, each):
        # The time of the sample from which on the turn is nearer.
        gained = most = start = 0
        for (time, _, far), turned in zip(reversed(self._latest), reversed(each)):
            gained += far - turned
            if gained >= most:
                most, start = gained, time
        return start

    def _nearest(self, means, before):
        # The distance to the nearest stored sample of before that time. None if there are few.
        times, nearest, count = self._reservoir._times, FARTHEST, 0
        for slot in range(len(times)):
            if times[slot] < before and self._reservoir._has(slot):
                nearest, count = distance(means, self._stored, slot, nearest), count + 1
        return nearest if count >= STORED else None
