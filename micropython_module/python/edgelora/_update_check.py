"""Validation of an update by a board's own samples (SPEC.md, section 14). SPDX-License-Identifier: MIT"""

import struct
from array import array

from . import _core, _only_absent
from ._bases import open_base, ranks_of

_HEAD_SIZE = 32  # bytes of the header of a reservoir or a sample file
_WHOLE = 0x2144DF1C  # CRC-32 of any data followed by its own CRC-32
_LEAST = 6  # minimum number of validation samples, which must have two classes or more


class Held:
    """Validation samples: a reservoir's held-out ones or a whole sample file. count 0: too few, or for another base."""

    def __init__(self, path, model):
        self.count = 0
        self._file = open(path, "rb")
        head = self._file.read(_HEAD_SIZE)
        if len(head) < _HEAD_SIZE or _core.crc32(head, 0) != _WHOLE or head[8:16] != model.base_id:
            return
        size, many, targets = struct.unpack_from("<IHH", head, 16)
        before = 1  # bytes before a sample: its label, in a reservoir of version 2 its time, too
        if head[:4] == b"ELR1":
            before = 5 if head[4] > 1 else 1
            places = range(many - many // 4, many)
        elif head[:4] == b"ELD1" and not many and not targets:
            places = range((self._file.seek(0, 2) - _HEAD_SIZE) // (size + 5))
        else:
            return
        if size != model.sample_size or model.target_size:
            return
        self._record = bytearray(before + size + 4)  # label, sample, CRC
        self.sample = memoryview(self._record)[before:-4]
        self._places = array("H", [place for place in places if self._load(place)])
        if len(self._places) >= _LEAST and len({self.read(i) for i in range(len(self._places))}) > 1:
            self.count = len(self._places)

    def _load(self, place):
        self._file.seek(_HEAD_SIZE + place * len(self._record))
        return self._file.readinto(self._record) == len(self._record) and _core.crc32(self._record, 0) == _WHOLE

    def read(self, i):
        """Loads sample i into `sample`, int8 [sample_size]; returns its label."""
        self._load(self._places[i])
        return self._record[0]

    def close(self):
        self._file.close()


def held_in(places, model):
    """Opens the first of these files that has enough samples for this model; None if there is none."""
    for path in places:
        try:
            found = Held(path, model)
        except OSError as error:
            _only_absent(error)
            continue
        if found.count:
            return found
        found.close()


def compare(model, lent, held, new, old):
    """Counts the samples of `held` that are correct with each adapter: (`new`, `old`). A generator of short steps;
    between them the model infers as before. Returns None if it can't: the model trains, or `old` needs other ranks.

    new, old: bytes of adapters; old None: the base alone. lent: whether the application opened the model.
    """
    if model._training:
        return None
    ranks = ranks_of(old) if old else {}
    other = old and not old[28] & 1 and any(ranks.get(op, 0) != rank for op, rank in enumerate(model.ranks))
    if other and lent:
        return None
    right = yield from _right(model, held, new)
    if other:
        base_id = model.base_id
        model = None
        model = open_base(base_id, ranks)
    return right, (yield from _right(model, held, old))


def _right(model, held, adapter):
    adapter, right = adapter and model.adapter(adapter), 0
    for i in range(held.count):
        label, used, store = held.read(i), model.used, model._switched() and model.store
        name = store and store.in_use
        model.use(adapter)
        right += model.infer(held.sample) == label
        if store:
            store.use(name)
        else:
            model.use(used)
        yield
    return right
