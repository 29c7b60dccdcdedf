# SPDX-License-Identifier: MIT
"""A person's own rows for the classes of the base: from a few samples each, without training.

    rows = OwnRows(model, samples)     # a `training.SampleFile`, or another source
    for _ in rows.judge():             # one inference or two a step
        feed_the_watchdog()
    adapter = rows.adapter()           # in use from now on; None: they are no better than what was in use

A row is made of the mean of a person's samples and of the base's own row (SPEC.md, section 3). `doubt` says how much
the base counts. Each sample is judged by rows that were made without it; one with a label that these hardly believe
does not teach.
"""

import struct
from array import array

from . import _core
from .training import CLASSES, LEAST_JUDGED

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from . import Adapter, Model
    from ._types import Buffer

DOUBTS = (4, 2, 1)  # in the order that they are tried
TRUSTED = 3  # halves of a standard error by which rows of less doubt have to be better
LEAST_GAIN = 4  # and by which trained layers have to be better than what was in use, judged by held-out samples,
LEAST_GAIN_FOLDS = 5  # by cross-validation,
LEAST_GAIN_AFTER_ROWS = 2  # where rows are better, too, labels look right and MANY samples or more judge,
MANY = 12
LEAST_GAIN_WRONG_LABELS = 6  # and where they learned samples of which more than one in DOUBTED looks wrong
DOUBTED = 10
MOST_LOSS = 12288  # 3 nats: a sample's loss counts no more: its label may be wrong (`find_wrong`),
WRONG_LOSS = 32768  # and above 8 nats, of rows made without it, it does not teach
UNSURE = 16384  # a base is unsure of samples whose mean margin, in 1/32768, is below this
LEAST_UNSURE = 5  # fewest of such samples that judge rows
_MOST = 1024  # samples that a class's row is made of
_DOUBT_AT = 12  # the doubt's bit in a class's number of samples
_MOST_ROW, _MOST_BIAS = 32767, 1 << 29


def doubt_of(entry: Buffer) -> int:
    """The doubt that a class of an adapter was made with; 0: of samples alone. entry: a class's bytes."""
    return entry[7] >> 4


def trust_of(counts: "Iterable[int]", doubt: int) -> int:
    """What rows made of so many samples of each class count beside the last layer, in 1/256."""
    counts = [count for count in counts if count]
    return 256 * sum(counts) // (sum(counts) + doubt * len(counts)) if counts else 0


def own_row(model: Model, sums: bytearray, count: int, number: int, doubt: int, trust: int, entry: memoryview) -> None:
    """Writes bias, number of samples and row of a class of the base; its number and name must be there.

    sums: of the last layer's inputs over `count` samples (`class_sample`); overwritten. entry: the class in an adapter.
    """
    size, classes, buffer = _core.class_size(model.arena), model.output_size, model.buffer
    at = int.from_bytes(buffer[36:40], "little") - (size * (size + 1) // 2 + 1) // 2 * 4
    at -= (classes * size + 1) // 2 * 4
    base = array("h", bytes(buffer[at + 2 * number * size : at + 2 * (number + 1) * size]))
    base_bias = struct.unpack_from("<i", buffer, at - 4 * (classes - number))[0]
    bias = met = 0
    row = array("h", bytes(2 * size))
    if count:
        _core.class_row(model.arena, sums, count, entry)
        bias = struct.unpack_from("<i", entry, 0)[0]
        row = array("h", bytes(entry[32 : 32 + 2 * size]))
        means = array("i", bytes(sums))  # in 1/16
        for j in range(size):
            met += (base[j] * means[j] + 8) >> 4
    whole = count + doubt
    for j in range(size):
        mixed = _trusted(_rounded(count * row[j] + doubt * base[j], whole), base[j], trust)
        row[j] = max(-_MOST_ROW, min(_MOST_ROW, mixed))
    bias = _rounded(count * count * bias - count * doubt * met + doubt * doubt * base_bias, whole * whole)
    bias = max(-_MOST_BIAS, min(_MOST_BIAS, _trusted(bias, base_bias, trust)))
    struct.pack_into("<iHH", entry, 0, bias, number, count | doubt << _DOUBT_AT)
    entry[32 : 32 + 2 * size] = bytes(row)


def helps(was: "Sequence[int]", now: "Sequence[int]", prior: int) -> bool:
    """Whether the sum of these samples' losses, bounded by `MOST_LOSS`, fell, if so many others gain on the average
    what a sample of these gains or loses. Own rows of doubt 4 helped most people, so these count for a sample a class.
    """
    gained = size = 0
    for i in range(len(was)):
        gain = min(MOST_LOSS, was[i]) - min(MOST_LOSS, now[i])
        gained += gain
        size += abs(gain)
    return gained * len(was) + prior * size > 0


def fell(was: "Sequence[int]", now: "Sequence[int]", halves: int) -> bool:
    """Whether the sum of these samples' losses, bounded by `MOST_LOSS`, fell by more than so many halves of a standard
    error."""
    gained = squares = 0
    for i in range(len(was)):
        gain = min(MOST_LOSS, was[i]) - min(MOST_LOSS, now[i])
        gained += gain
        squares += gain * gain
    return gained > 0 and 4 * gained * gained > halves * halves * squares


def errors_of(held: int, doubt: int, doubtful: "Sequence[int]", learned: bool = True) -> int:
    """The halves of a standard error by which layers have to be better on so many held-out samples, after these rows.

    doubtful: as in `OwnRows`; learned: whether layers learned these samples, too.
    """
    if learned and many(doubtful):
        return LEAST_GAIN_WRONG_LABELS
    if doubt and held >= MANY and 2 * sum(doubtful) * DOUBTED <= len(doubtful):
        return LEAST_GAIN_AFTER_ROWS
    return LEAST_GAIN


def margin_of(chances: "Sequence[int]") -> int:
    """How much more probable the most probable class is than the next, in 1/32768."""
    first = second = 0
    for p in chances:
        if p > first:
            first, second = p, first
        elif p > second:
            second = p
    return first - second


def less(sums: Buffer, other: Buffer) -> bytearray:
    """The difference of two arrays of int32."""
    left = array("i", bytes(sums))
    other = array("i", bytes(other))
    for i in range(len(left)):
        left[i] -= other[i]
    return bytearray(left)


def many(doubtful: "Sequence[int]") -> bool:
    """Whether more than one label in `DOUBTED` looks wrong."""
    return sum(doubtful) * DOUBTED > len(doubtful)


def spare(doubtful: bytearray, labels: "Sequence[int]") -> None:
    """Doubts none of a class half of which or more is doubtful: it is another one than the base's, and its labels are
    right."""
    for label in set(labels):
        of_class = [i for i in range(len(labels)) if labels[i] == label]
        if 2 * sum([doubtful[i] for i in of_class]) >= len(of_class):
            for i in of_class:
                doubtful[i] = 0


def _rounded(n, d):
    return (2 * n + d) // (2 * d)


def _trusted(own, base, trust):
    # Half of the base's own part is taken away: the last layer says that, too.
    return ((2 * own - base) * trust + 256) >> 9


class OwnRows:
    """Rows of all classes of the base from these samples, judged by leaving each sample out in turn.

    samples: as `Run` takes them, with labels of the base's classes. before: an adapter's bytes, that rows have to beat;
    None: the base alone. hints: samples that rows are made of, too, but which judge nothing. ValueError if the base has
    no class statistics.

    doubt: one of `DOUBTS`, 0: rows are not better. before, after: (correct samples, sum of losses, 1/4096 nat) of what
    was in use and of the rows; a loss counts up to `MOST_LOSS`. losses: so bounded, of each sample, by rows made
    without it or, if rows are no better, by what was in use. doubtful: 1 for each sample that rows are made without, as
    its label seems to be wrong, else 0. unsure: whether the base alone was in use and is unsure of these samples, as
    of windows that it asked for: fewer judge then, and a second step of trust is as easy as the first.
    """

    count: int
    doubt: int
    before: tuple[int, int]
    after: tuple[int, int]
    losses: "Sequence[int]"
    doubtful: bytearray
    unsure: bool

    def __init__(self, model: Model, samples: Any, before: Buffer | None = None, hints: Any = None) -> None:
        self._model, self._samples, self._hints = model, samples, hints
        self._size = _core.class_size(model.arena)
        if not self._size:
            raise ValueError("the base has no class statistics: rows can't be made")
        self.count, self.doubt = samples.count, 0
        self.before = self.after = 0, 0
        self.losses = ()
        self.doubtful, self._labels = bytearray(self.count), bytearray(self.count)
        self._taught = bytearray(self.count)
        self.unsure, self._margins = False, 0
        self._in_use = before
        self._sums, self._counts = {}, {}
        self._x = bytearray(model.sample_size)
        span = 32 + (2 * self._size + 3) // 4 * 4
        body = struct.pack("<2H", model.output_size, self._size)
        for number in range(model.output_size):
            body += struct.pack("<i2H", 0, number, 1) + bytes(span - 8)
        self._made = model.with_record(None, CLASSES, body)
        at = _core.record(self._made.buffer, CLASSES)[0] + 4
        view = memoryview(self._made.buffer)
        self._entries = [view[at + i * span : at + (i + 1) * span] for i in range(model.output_size)]

    def collect(self) -> None:
        """Sums up all samples; `judge` begins with that, too. The base alone is in use afterwards."""
        for _ in self._collected():
            pass

    def _collected(self):
        self._model.use(None)  # rows go without layers
        self._sums, self._counts = {}, {}
        for i in range(self.count):
            self._taught[i] = not self.doubtful[i]
        yield from self._added(self._samples, self._taught, self._labels)
        if self._hints:
            count = self._hints.count
            yield from self._added(self._hints, bytearray(b"\1" * count), bytearray(count))

    def _added(self, samples, taught, labels):
        # Sums up those that are to be taught, as far as a class has room for them.
        for i in range(samples.count):
            label = labels[i] = samples.read(i, self._x)
            if label >= self._model.output_size:
                raise ValueError("a sample of class %d: own rows are for the base's classes" % label)
            if label not in self._sums:
                self._sums[label], self._counts[label] = bytearray(4 * self._size), 0
            taught[i] = taught[i] and self._counts[label] < _MOST
            if taught[i]:
                _core.class_sample(self._model.arena, self._x, self._sums[label])
                self._counts[label] += 1
            yield

    def judge(self) -> "Iterator[None]":
        """A generator: finds the doubt, one step at a time. Afterwards what was in use is in use again."""
        yield from self._collected()
        self._use_before()
        classes = len(self._sums)
        if classes < 2 or self.count < LEAST_UNSURE:
            return
        losses = array("H", bytes(2 * self.count))
        before = yield from self._evaluate(0, losses)
        self.unsure = not self._in_use and self._margins < UNSURE * self.count
        if self.count < LEAST_JUDGED and not self.unsure:
            return
        self.before = self.after = before
        self.losses = losses
        for tried in range(len(DOUBTS)):
            easy = tried <= (self.unsure and not many(self.doubtful))
            if not easy and self.count <= tried * classes:
                break  # another step of trust takes another sample a class
            now, doubtful = array("H", losses), bytes(self.doubtful)
            after = yield from self._evaluate(DOUBTS[tried], now, True)
            if self.doubtful != doubtful:
                yield from self._collected()
                after = yield from self._evaluate(DOUBTS[tried], now)
            prior = 0 if self._in_use else classes
            better = helps(losses, now, prior) if easy else fell(losses, now, TRUSTED)
            if not better:
                if self.doubtful != doubtful:
                    self.doubtful[:] = doubtful
                    yield from self._collected()
                break
            self.doubt, self.after = DOUBTS[tried], after
            self.losses = losses = now
        self._use_before()

    def find_wrong(self) -> "Iterator[None]":
        """A generator: finds samples whose label looks wrong (`doubtful`), one step at a time: neither the base nor
        rows of the most doubt, made without them, believe it. The base alone is in use afterwards.

        None of a class is doubtful if half of its samples or more would be: then the class is another one than the
        base's, not its labels wrong.
        """
        yield from self._collected()
        base = array("H", bytes(2 * self.count))
        yield from self._evaluate(0, base)
        for turn in (0, 1):
            losses = array("H", base)
            yield from self._evaluate(DOUBTS[0], losses)
            for i in range(self.count):
                self.doubtful[i] = min(base[i], losses[i]) == MOST_LOSS
            if turn or not any(self.doubtful):
                break
            yield from self._collected()
        self._model.use(None)
        spare(self.doubtful, self._labels)

    def _use_before(self):
        self._model.use(self._in_use and self._model.adapter(self._in_use))

    def _evaluate(self, doubt, losses, doubts=False):
        # Sets the loss of each sample, by rows made without it; doubt 0: by what is in use. doubts: sets `doubtful` by
        # these losses, too, while rows stay without the samples that were so before.
        model, loss, right, total = self._model, bytearray(4), 0, 0
        if doubt:
            self._write(doubt)
            model.use(self._made)
        else:
            self._margins = 0
        for i in range(self.count):
            label = self._samples.read(i, self._x)
            taught = doubt and self._taught[i]
            if taught:
                self._leave_out(label, doubt)
            right += model.evaluate(self._x, label, loss) == label
            if not doubt:
                self._margins += margin_of(model.probabilities())
            lost = int.from_bytes(loss, "little")
            losses[i] = min(MOST_LOSS, lost)
            total += losses[i]
            if taught:
                self._write_row(label, doubt)
            if doubts:
                self.doubtful[i] = lost > WRONG_LOSS
            yield
        return right, total

    def _leave_out(self, label, doubt):
        one = bytearray(4 * self._size)
        _core.class_sample(self._model.arena, self._x, one)
        self._own_row(label, less(self._sums[label], one), self._counts[label] - 1, doubt)

    def _write_row(self, number, doubt):
        sums = bytearray(self._sums.get(number) or 4 * self._size)
        self._own_row(number, sums, self._counts.get(number, 0), doubt)

    def _own_row(self, number, sums, count, doubt):
        trust = trust_of(self._counts.values(), doubt)
        own_row(self._model, sums, count, number, doubt, trust, self._entries[number])

    def _write(self, doubt):
        for number in range(len(self._entries)):
            self._write_row(number, doubt)

    def adapter(self, doubt: int = 0) -> "Adapter | None":
        """The adapter with rows of this doubt, by default of the one that was found; None if there is none.

        It is in use from now on.
        """
        doubt = doubt or self.doubt
        if not doubt:
            return None
        self._write(doubt)
        buffer = self._made.buffer
        struct.pack_into("<I", buffer, 12, _core.crc32(memoryview(buffer)[16:], 0))
        self._model.use(self._made)
        return self._made
