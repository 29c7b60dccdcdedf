# SPDX-License-Identifier: MIT
"""A bounded, class-balanced memory of samples in flash, for lifelong learning.

    reservoir = Reservoir.create("/samples.elr", model, 100)  # once; Reservoir("/samples.elr") from then on
    reservoir.add(window, label)                              # any number of times: the file's size is fixed
    learned, held = reservoir.parts()                         # for training.Run

Class-balancing reservoir sampling: A. Chrysakis, M.-F. Moens, "Online continual learning from imbalanced data", 2020.
"""

import struct
from array import array

from . import _core, _write
from .training import Part, can_judge

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from collections.abc import Container

    from . import Model
    from ._types import Buffer

_HEAD = "<4sHH8sIHHI"
_HEAD_SIZE = 32
_VERSION = 2
_TURN = "<I9hH"  # a turn of the axes: the time of its first sample, a matrix, the input's zero point plus 128
_TURN_SIZE = 24
_TURNS = 4  # remembered turns of the axes
RECENT = 32  # latest samples whose outcomes the learner's state has
_STATE = RECENT + 6
_WHOLE = 0x2144DF1C  # CRC-32 of any data followed by its own CRC-32
_STREAM = 131072  # random stream of the slot draws
_EMPTY = -1
_HELD = 4  # one slot in _HELD is for held-out samples


def _counts_size(classes):
    return 4 * classes + 16 + _TURNS * _TURN_SIZE + 4 * _STATE


def _blank(classes):
    return b"\xff" * _counts_size(classes)


class Reservoir:
    """Samples in a file with a fixed number of slots. It is a source for `training.Run`, and so are its `parts`.

    A power cut loses at most the sample being written and the one it replaces. count: full slots; seen: samples of each
    class added so far, stored or not. On littlefs, a write copies the file from there to its end: half of the file for
    a sample that gets a slot, the last block for one that is only counted.
    """

    path: str
    base_id: bytes
    sample_size: int  # int8 values
    target_size: int  # 0
    slots: int
    classes: int
    seed: int
    count: int  # full slots
    seen: list[int]  # samples of each class added so far, stored or not
    time: int  # changes of the counts so far: the time of the sample that comes next
    since: int  # samples from before this time are stale, where their class has later ones
    turns: list[tuple[int, array[int], int]]  # time of the first sample, matrix in 1/16384, zero point plus 128
    resting: bool  # whether the learner's adapter rests
    state: array[int]  # the learner's outcomes

    target_size = 0

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = open(path, "r+b")
        head = self._file.read(_HEAD_SIZE)
        if len(head) < _HEAD_SIZE or head[:4] != b"ELR1" or _core.crc32(head, 0) != _WHOLE:
            raise ValueError("%s is not a reservoir, or damaged: create it again" % path)
        _, version, size, self.base_id, *sizes = struct.unpack(_HEAD, head[:-4])
        self.sample_size, self.slots, self.classes, self.seed = sizes
        if not 1 <= version <= _VERSION or size != _HEAD_SIZE:
            text = "%s has format version %d, must be 1 to %d: update the board's software"
            raise ValueError(text % (path, version, _VERSION))
        self.seen, self.time, self.since, self.turns = [0] * self.classes, 0, 0, []
        self.resting, self.state = False, array("I", bytes(4 * _STATE))
        if version < _VERSION:
            self._upgrade()
        self._record = bytearray(5 + self.sample_size + 4)
        view = memoryview(self._record)
        self._sample, self._both = view[5:-4], view[:-4]
        self._labels, self._times = array("h", bytes(2 * self.slots)), array("I", bytes(4 * self.slots))
        for slot in range(self.slots):
            self._labels[slot] = self._record[0] if self._load(slot) else _EMPTY
            self._times[slot] = struct.unpack_from("<I", self._record, 1)[0]
        self._counts = bytearray(_counts_size(self.classes))
        for copy in (0, 1):
            self._file.seek(self._counts_at(copy))
            if self._file.readinto(self._counts) == len(self._counts) and _core.crc32(self._counts, 0) == _WHOLE:
                self._counted()
        self._find()

    def _counted(self):
        # Takes over the record of counts in `_counts`, unless it is older.
        time, *seen = struct.unpack_from("<%dI" % (self.classes + 3), self._counts)
        if time < self.time:
            return
        self.time, self.seen, self.since, self.resting = time, seen[:-2], seen[-2], bool(seen[-1])
        at, self.turns = 4 * self.classes + 12, []
        for _ in range(_TURNS):
            start, *matrix, zero = struct.unpack_from(_TURN, self._counts, at)
            if matrix != [0] * 9:
                self.turns.append((start, array("h", matrix), zero))
            at += _TURN_SIZE
        self.state[:] = array("I", struct.unpack_from("<%dI" % _STATE, self._counts, at))

    def _upgrade(self):
        # Writes a file of version 1 again. Its samples have no times (here 0), its counts neither `since` nor turns.
        size, old = self.sample_size + 5, 4 * self.classes + 8

        def pieces():
            file = self._file
            file.seek(0)
            head = bytearray(file.read(_HEAD_SIZE))
            struct.pack_into("<H", head, 4, _VERSION)
            struct.pack_into("<I", head, _HEAD_SIZE - 4, _core.crc32(memoryview(head)[:-4], 0))
            yield head
            for _ in range(self.slots):
                record = file.read(size)
                is_whole = len(record) == size and _core.crc32(record, 0) == _WHOLE
                record = record[:1] + bytes(4) + record[1:-4] if is_whole else b"\xff" * size
                yield record + (struct.pack("<I", _core.crc32(record, 0)) if is_whole else b"\xff" * 4)
            for _ in (0, 1):
                counts = file.read(old)
                is_whole = len(counts) == old and _core.crc32(counts, 0) == _WHOLE
                counts = counts[:-4] + bytes(_counts_size(self.classes) - old) if is_whole else b""
                yield counts + struct.pack("<I", _core.crc32(counts, 0)) if is_whole else _blank(self.classes)

        _write(self.path, pieces())
        self._file.close()
        self._file = open(self.path, "r+b")

    @classmethod
    def create(cls, path: str, model: Model, slots: int, seed: int = 0, classes: int = 0) -> "Reservoir":
        """Creates an empty reservoir for a model that learns classes; the file has its full size at once.

        classes: the number of the base's classes and those to be added, up to 255; 0: the base's alone.
        """
        classes = classes or model.output_size
        if not model.output_size <= classes <= 255:
            raise ValueError("%d classes: give %d, the base's, to 255" % (classes, model.output_size))
        if model.target_size:
            raise ValueError("a reservoir is for models that learn classes: keep samples with targets in a SampleFile")
        if not 1 <= slots <= 32767:
            raise ValueError("%d slots: give 1 to 32767" % slots)
        head = bytearray(_HEAD_SIZE)
        sizes = (model.sample_size, slots, classes)
        struct.pack_into(_HEAD, head, 0, b"ELR1", _VERSION, _HEAD_SIZE, model.base_id, *sizes, seed)
        struct.pack_into("<I", head, _HEAD_SIZE - 4, _core.crc32(memoryview(head)[:-4], 0))
        blank, counts = b"\xff" * (model.sample_size + 9), 2 * _blank(classes)
        _write(path, (head if i == 0 else blank if i <= slots else counts for i in range(slots + 2)))
        return cls(path)

    def _at(self, slot):
        return _HEAD_SIZE + slot * len(self._record)

    def _counts_at(self, copy):
        return self._at(self.slots) + copy * len(self._counts)

    def _load(self, slot):
        self._file.seek(self._at(slot))
        return self._file.readinto(self._record) == len(self._record) and _core.crc32(self._record, 0) == _WHOLE

    def _find(self):
        # Updates the list of full slots. A sample from before `since` is stale if its class has a later one.
        labels, times, since = self._labels, self._times, self.since
        later = {labels[slot] for slot in range(self.slots) if times[slot] >= since}
        self._full = array(
            "H",
            [
                slot
                for slot in range(self.slots)
                if labels[slot] != _EMPTY and (times[slot] >= since or labels[slot] not in later)
            ],
        )
        self.count = len(self._full)

    # --- reading

    def read(self, i: int, buffer: bytearray) -> int:
        """Copies the i-th full slot's sample, int8 [sample_size], into the buffer; returns its label."""
        if not 0 <= i < self.count or not self._load(self._full[i]):
            raise ValueError("sample %d of %s can't be read: it is damaged, or there are fewer" % (i, self.path))
        self._turned(self._times[self._full[i]], self._sample, buffer)
        return self._record[0]

    def _has(self, slot: int) -> bool:
        """Whether a slot has a sample, stale or not."""
        return self._labels[slot] != _EMPTY

    def _read_slot(self, slot: int, buffer: bytearray) -> bool:
        """Copies a slot's sample, stale or not, into the buffer, and returns whether there is one."""
        there = self._has(slot) and self._load(slot)
        if there:
            self._turned(self._times[slot], self._sample, buffer)
        return there

    def _turned(self, time, sample, buffer):
        # Copies a sample that came at this time into the buffer, with its axes turned.
        for start, matrix, zero in reversed(self.turns):
            if time >= start:
                return _core.turn(buffer, sample, zero, matrix)
        buffer[:] = sample

    def turned(self, sample: Buffer, buffer: bytearray) -> None:
        """Copies a sample that comes now into the buffer, its axes turned as those of the samples before."""
        self._turned(self.time, sample, buffer)

    def turn(self, matrix: "array[int]", zero: int, start: int) -> None:
        """From the sample on that came at time `start`, samples are read turned by this matrix about the input's zero
        point, plus 128. No sample is stale any more."""
        self.since, kept = 0, [turn for turn in self.turns if turn[0] < start]
        if len(kept) == _TURNS:
            del kept[0]
            self.since = kept[0][0]
        self.turns = kept + [(start, matrix, zero)]
        self._count()
        self._find()

    def rest(self, resting: bool) -> None:
        """Notes whether the learner's adapter rests: the base alone infers."""
        if resting != self.resting:
            self.resting = resting
            self._count()

    def drop(self, since: int) -> None:
        """Forgets the samples of before this time, of each class that has a later one. New ones get their slots."""
        self.since = since
        self._count()
        self._find()

    def crc(self, count: int) -> int:
        """CRC-32 of the first `count` samples and their labels."""
        return Part(self, range(count)).crc(count)

    def parts(self, classes: Container[int] | None = None, but: Container[int] = ()) -> tuple[Part, Part | None]:
        """(learned, held): training samples, and held-out samples or None if these are too few. Valid until the next
        `add`. classes: only samples of these classes. but: numbers of samples to leave out."""
        first, parts = self.slots - self.slots // _HELD, (array("H"), array("H"))
        for i in self._numbers(classes, but):
            parts[self._full[i] >= first].append(i)
        learned, held = (Part(self, numbers) for numbers in parts)
        return learned, held if can_judge(self._labels_of(held)) else None

    def _numbers(self, classes, but=()):
        # Numbers of the samples of these classes, None: of all, except for some.
        labels, full = self._labels, self._full
        return [i for i in range(self.count) if i not in but and (classes is None or labels[full[i]] in classes)]

    def _labels_of(self, part: Part) -> list[int]:
        """The labels of a part's samples, which need not be read for that."""
        return [self._labels[self._full[i]] for i in part._numbers]

    def _whole(self, classes: Container[int], but: Container[int] = ()) -> Part:
        """All samples of these classes, except for these numbers. Valid until the next `add`."""
        return Part(self, array("H", self._numbers(classes, but)))

    def tally(self, classes: Container[int] | None = None) -> tuple[dict[int, int], dict[int, int]]:
        """(learned, held): numbers of training and held-out samples of each class. classes: only these classes."""
        first, counts = self.slots - self.slots // _HELD, ({}, {})
        for i in self._numbers(classes):
            slot = self._full[i]
            label, part = self._labels[slot], counts[slot >= first]
            part[label] = part.get(label, 0) + 1
        return counts

    # --- adding

    def judges(self, label: int) -> bool:
        """Whether the next sample of this class will be held out for validation: two of every eight are."""
        return self.slots >= _HELD and self.seen[label] % 8 >= 6

    def add(self, sample: Buffer, label: int) -> int | None:
        """Adds a sample if its class may have more, or replaces another one at random.

        Returns its slot, or None if it was only counted. Flash is written before it returns.
        """
        if len(sample) != self.sample_size:
            raise ValueError("a sample of %d values, the reservoir's have %d" % (len(sample), self.sample_size))
        if not 0 <= label < self.classes:
            raise ValueError("class %d: the reservoir has %d" % (label, self.classes))
        slot = self._choose(label)
        if slot is not None:
            struct.pack_into("<BI", self._record, 0, label, self.time)
            self._sample[:] = bytes(sample)
            struct.pack_into("<I", self._record, len(self._record) - 4, _core.crc32(self._both, 0))
            self._labels[slot] = _EMPTY  # until it is written
            self._file.seek(self._at(slot))
            self._file.write(self._record)
            self._file.flush()
            self._labels[slot], self._times[slot] = label, self.time
            self._find()
        self.seen[label] += 1
        self._count()
        return slot

    def forget(self, label: int) -> None:
        """Removes all samples of a class, and its count."""
        self._record[:] = b"\xff" * len(self._record)
        for slot in range(self.slots):
            if self._labels[slot] == label:
                self._file.seek(self._at(slot))
                self._file.write(self._record)
                self._labels[slot] = _EMPTY
        self._find()
        self.seen[label] = 0
        self._count()

    def _count(self):
        self.time += 1
        struct.pack_into("<%dI" % (3 + self.classes), self._counts, 0, self.time, *self.seen, self.since, self.resting)
        at = 12 + 4 * self.classes
        for i in range(_TURNS):
            start, matrix, zero = self.turns[i] if i < len(self.turns) else (0, [0] * 9, 0)
            struct.pack_into(_TURN, self._counts, at, start, *matrix, zero)
            at += _TURN_SIZE
        struct.pack_into("<%dI" % _STATE, self._counts, at, *self.state)
        at += 4 * _STATE
        struct.pack_into("<I", self._counts, at, _core.crc32(memoryview(self._counts)[:at], 0))
        self._file.seek(self._counts_at(self.time & 1))
        self._file.write(self._counts)
        self._file.flush()

    def _choose(self, label):
        first, end, came = 0, self.slots - self.slots // _HELD, self.seen[label]
        held = 2 * (came // 8) + max(0, came % 8 - 6) if self.slots >= _HELD else 0
        came -= held
        judges, full = self.judges(label), set(self._full)
        if judges:
            first, end, came = end, self.slots, held
        kept = {}
        for slot in range(first, end):
            if slot not in full:
                return slot
            has = self._labels[slot]
            kept[has] = kept.get(has, 0) + 1
        most, mine, turn = max(kept.values()), kept.get(label, 0), 2 * sum(self.seen)
        own = mine > 0 and (mine == most or came > mine)  # the class is or was among the largest: it can't grow
        if own and not judges and _core.draw(self.seed, _STREAM, turn, came + 1) >= mine:
            return None
        victims = [
            slot
            for slot in range(first, end)
            if (self._labels[slot] == label if own else kept[self._labels[slot]] == most)
        ]
        if judges:
            return min(victims, key=lambda slot: self._times[slot])  # the latest judge
        return victims[_core.draw(self.seed, _STREAM, turn + 1, len(victims))]

    def close(self) -> None:
        self._file.close()
