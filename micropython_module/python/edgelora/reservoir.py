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
_WHOLE = 0x2144DF1C  # CRC-32 of any data followed by its own CRC-32
_STREAM = 131072  # random stream of the slot draws
_EMPTY = -1
_HELD = 4  # one slot in _HELD is for held-out samples


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

    target_size = 0

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = open(path, "r+b")
        head = self._file.read(_HEAD_SIZE)
        if len(head) < _HEAD_SIZE or head[:4] != b"ELR1" or _core.crc32(head, 0) != _WHOLE:
            raise ValueError("%s is not a reservoir, or damaged: create it again" % path)
        _, version, size, self.base_id, *sizes = struct.unpack(_HEAD, head[:-4])
        self.sample_size, self.slots, self.classes, self.seed = sizes
        if (version, size) != (1, _HEAD_SIZE):
            raise ValueError("%s has format version %d, must be 1: update the board's software" % (path, version))
        self._record = bytearray(1 + self.sample_size + 4)
        view = memoryview(self._record)
        self._sample, self._both = view[1:-4], view[:-4]
        self._labels = array("h", [self._record[0] if self._load(slot) else _EMPTY for slot in range(self.slots)])
        self._counts = bytearray(4 * self.classes + 8)
        self.seen, self._sequence = [0] * self.classes, 0
        for copy in (0, 1):
            self._file.seek(self._counts_at(copy))
            if self._file.readinto(self._counts) == len(self._counts) and _core.crc32(self._counts, 0) == _WHOLE:
                fields = struct.unpack("<%dI" % (self.classes + 2), self._counts)
                if fields[0] >= self._sequence:
                    self._sequence, self.seen = fields[0], list(fields[1:-1])
        self._find()

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
        struct.pack_into(_HEAD, head, 0, b"ELR1", 1, _HEAD_SIZE, model.base_id, *sizes, seed)
        struct.pack_into("<I", head, _HEAD_SIZE - 4, _core.crc32(memoryview(head)[:-4], 0))
        blank, counts = b"\xff" * (model.sample_size + 5), b"\xff" * (2 * (4 * classes + 8))
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
        # Updates the list of full slots.
        self._full = array("H", [slot for slot in range(self.slots) if self._labels[slot] != _EMPTY])
        self.count = len(self._full)

    # --- reading

    def read(self, i: int, buffer: bytearray) -> int:
        """Copies the i-th full slot's sample, int8 [sample_size], into the buffer; returns its label."""
        if not 0 <= i < self.count or not self._load(self._full[i]):
            raise ValueError("sample %d of %s can't be read: it is damaged, or there are fewer" % (i, self.path))
        buffer[:] = self._sample
        return self._record[0]

    def crc(self, count: int) -> int:
        """CRC-32 of the first `count` samples and their labels."""
        return Part(self, range(count)).crc(count)

    def parts(self, classes: Container[int] | None = None) -> tuple[Part, Part | None]:
        """(learned, held): training samples, and held-out samples or None if these are too few. Valid until the next
        `add`. classes: only samples of these classes."""
        first, learned, held = self.slots - self.slots // _HELD, [], []
        for i in range(self.count):
            slot = self._full[i]
            if classes is None or self._labels[slot] in classes:
                (learned if slot < first else held).append(i)
        is_enough = can_judge([self._labels[self._full[i]] for i in held])
        return Part(self, array("H", learned)), Part(self, array("H", held)) if is_enough else None

    def tally(self, classes: Container[int] | None = None) -> tuple[dict[int, int], dict[int, int]]:
        """(learned, held): numbers of training and held-out samples of each class. classes: only these classes."""
        first, counts = self.slots - self.slots // _HELD, ({}, {})
        for slot in self._full:
            label, part = self._labels[slot], counts[slot >= first]
            if classes is None or label in classes:
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
            self._record[0] = label
            self._sample[:] = bytes(sample)
            struct.pack_into("<I", self._record, len(self._record) - 4, _core.crc32(self._both, 0))
            self._labels[slot] = _EMPTY  # until it is written
            self._file.seek(self._at(slot))
            self._file.write(self._record)
            self._file.flush()
            self._labels[slot] = label
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
        self._sequence += 1
        struct.pack_into("<%dI" % (1 + self.classes), self._counts, 0, self._sequence, *self.seen)
        size = len(self._counts) - 4
        struct.pack_into("<I", self._counts, size, _core.crc32(memoryview(self._counts)[:size], 0))
        self._file.seek(self._counts_at(self._sequence & 1))
        self._file.write(self._counts)
        self._file.flush()

    def _choose(self, label):
        first, end, came = 0, self.slots - self.slots // _HELD, self.seen[label]
        held = 2 * (came // 8) + max(0, came % 8 - 6) if self.slots >= _HELD else 0
        came -= held
        if self.judges(label):
            first, end, came = end, self.slots, held
        kept = {}
        for slot in range(first, end):
            has = self._labels[slot]
            if has == _EMPTY:
                return slot
            kept[has] = kept.get(has, 0) + 1
        most, mine, turn = max(kept.values()), kept.get(label, 0), 2 * sum(self.seen)
        own = mine > 0 and (mine == most or came > mine)  # the class is or was among the largest: it can't grow
        if own and _core.draw(self.seed, _STREAM, turn, came + 1) >= mine:
            return None
        victims = [
            slot
            for slot in range(first, end)
            if (self._labels[slot] == label if own else kept[self._labels[slot]] == most)
        ]
        return victims[_core.draw(self.seed, _STREAM, turn + 1, len(victims))]

    def close(self) -> None:
        self._file.close()
