"""The index of a store as bytes (SPEC.md, section 12), its entries and their names. SPDX-License-Identifier: MIT"""

import struct

from . import _core

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from typing import Any


_MAGIC = b"ELS1"
_VERSION = 1
# magic, version, entries, sequence, size, CRC, cursor, 0, active, name and version of what is being written
_HEAD = "<4sHHIIIHH24s24sI4x"
_HEAD_SIZE = 80
_ENTRY = "<24sIIII8sBBH"  # name, version, size, CRC, floor, base id, flags, places, 0; the places follow, u16 each
_ENTRY_SIZE = 52
_FIELDS = ("name", "version", "size", "crc", "floor", "base_id", "flags", "places")
PAGE = 256  # what flash programs at once

PINNED, ARMED, TRIAL = 1, 2, 4
NO_SPACE = 28  # errno
ABSENT = 0, 0  # sequence and size of an index that is not there, or not whole
OUTDATED = "another Store has changed this one since it was opened: open it again"


class StoreError(ValueError):
    """A store can't do what was asked; the message says why and what would help. Nothing has changed."""


class Entry:
    """A committed adapter, or other bytes. size 0: removed, but its `floor` is kept."""

    name: str
    version: int
    size: int
    crc: int
    floor: int  # the highest version there was
    base_id: bytes
    flags: int
    places: tuple[int, ...]

    def __init__(
        self,
        name: str,
        version: int,
        size: int,
        crc: int,
        floor: int,
        base_id: bytes,
        flags: int,
        places: tuple[int, ...],
    ) -> None:
        self.name, self.version, self.size, self.crc, self.floor = name, version, size, crc, floor
        self.base_id, self.flags, self.places = base_id, flags, places

    @property
    def pinned(self) -> bool:
        """It stays in RAM once it is there."""
        return bool(self.flags & PINNED)

    @property
    def trial(self) -> bool:
        """An update that has not been confirmed."""
        return bool(self.flags & (ARMED | TRIAL))

    def changed(self, **changes: Any) -> "Entry":
        """A copy with other values."""
        return Entry(*[changes.get(name, getattr(self, name)) for name in _FIELDS])


def room(entries, places):
    """Bytes for an index of so many entries in so many places."""
    return _HEAD_SIZE + entries * (_ENTRY_SIZE + 4) + 2 * places + PAGE


def pack(index, entries, sequence, cursor, active, writing):
    """Makes `index` the index with these entries; its size. writing: (name, version) of what is on its way, or None."""
    at = _HEAD_SIZE
    if at + sum(_ENTRY_SIZE + 2 * len(e.places) for e in entries) > len(index):
        raise StoreError("the index has no room for another adapter: remove one")
    for e in entries:
        numbers = e.version, e.size, e.crc, e.floor
        struct.pack_into(_ENTRY, index, at, e.name.encode(), *numbers, e.base_id, e.flags, len(e.places), 0)
        at += _ENTRY_SIZE
        for place in e.places:
            struct.pack_into("<H", index, at, place)
            at += 2
    name, version = writing or ("", 0)
    head = _MAGIC, _VERSION, len(entries), sequence, at, 0, cursor & 0xFFFF, 0
    struct.pack_into(_HEAD, index, 0, *head, (active or "").encode(), name.encode(), version)
    struct.pack_into("<I", index, 16, _crc(index, at))
    return at


def unpack(index):
    """What `pack` has put in: (entries, sequence, cursor, active, writing)."""
    _, _, count, sequence, _, _, cursor, _, active, name, version = struct.unpack_from(_HEAD, index)
    entries = []
    at = _HEAD_SIZE
    for _ in range(count):
        fields = list(struct.unpack_from(_ENTRY, index, at))
        at += _ENTRY_SIZE
        fields[0] = text(fields[0])
        fields[7:] = [struct.unpack_from("<%dH" % fields[7], index, at)]
        at += 2 * len(fields[7])
        entries.append(Entry(*fields))
    return entries, sequence, cursor, text(active) or None, (text(name), version) if version else None


def _crc(index, size):
    # CRC-32 of an index without the CRC's own field.
    view = memoryview(index)
    return _core.crc32(view[20:size], _core.crc32(view[:16], 0))


def whole(read, page, room, limit):
    """(sequence, size) of what read(at, page) reads, if it is a whole index of at most `limit` bytes, else ABSENT."""
    read(0, page)
    magic, version, _, sequence, size, crc = struct.unpack_from("<4sHHIII", page)
    if magic != _MAGIC or version != _VERSION or not _HEAD_SIZE <= size <= limit:
        return ABSENT
    view = memoryview(page)
    found = _crc(page, min(size, PAGE))
    for at in range(PAGE, size, PAGE):
        read(at, page)
        found = _core.crc32(view[: size - at], found)
    if found != crc:
        return ABSENT
    if size > room:
        raise StoreError("the store's index takes %d bytes: open it with more adapters=" % size)
    return sequence, size


# A name may become part of a path or be printed: no separators, no escapes, and no file that is hidden or a parent.
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


def checked(name):
    """A name that a store takes, else StoreError."""
    if not isinstance(name, str) or text(name.encode()) != name or not 0 < len(name) <= 24:
        raise StoreError("name %r: give 1 to 24 of A-Z a-z 0-9 - _ and, but not first, ." % name)
    return name


def text(field):
    """A name in flash, "_" in place of what a name can't have."""
    name = "".join([chr(c) if c in _LETTERS else "_" for c in field.rstrip(b"\0")])
    return "_" + name[1:] if name[:1] == "." else name
