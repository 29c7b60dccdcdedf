"""The index of a store as bytes (SPEC.md, section 12), its entries and their names. SPDX-License-Identifier: MIT"""

import struct

from . import _core

if False:  # types of annotations: editors and tools/stubs.py read these lines, boards drop them
    from typing import Any


_MAGIC = b"ELS1"
_VERSION = 1
# magic, version, entries, sequence, size, CRC, cursor, 0, active, name and version of the entry being written
_HEAD = "<4sHHIIIHH24s24sI4x"
_HEAD_SIZE = 80
_ENTRY = "<24sIIII8sBBH"  # name, version, size, CRC, floor, base id, flags, places, 0; the places follow, u16 each
_ENTRY_SIZE = 52
_FIELDS = ("name", "version", "size", "crc", "floor", "base_id", "flags", "places")
PAGE = 256  # bytes that flash programs at once

PINNED, ARMED, TRIAL = 1, 2, 4
NO_SPACE = 28  # errno
ABSENT = 0, 0  # sequence and size of a missing or incomplete index
OUTDATED = "another Store has changed this one since it was opened: open it again"


class StoreError(ValueError):
    """The store can't do this; the message says why and what would help. Nothing has changed."""


class Entry:
    """A committed adapter or other data. size 0: a removed entry whose `floor` is kept."""

    name: str
    version: int
    size: int
    crc: int
    floor: int  # the highest version that the name has had
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
        """Whether the adapter stays in RAM once loaded."""
        return bool(self.flags & PINNED)

    @property
    def trial(self) -> bool:
        """Whether this is an update that has not been confirmed."""
        return bool(self.flags & (ARMED | TRIAL))

    def changed(self, **changes: Any) -> "Entry":
        """Returns a copy with these fields changed."""
        return Entry(*[changes.get(name, getattr(self, name)) for name in _FIELDS])


def room(entries, places):
    """Bytes of an index with this many entries and places."""
    return _HEAD_SIZE + entries * (_ENTRY_SIZE + 4) + 2 * places + PAGE


def pack(index, entries, sequence, cursor, active, writing):
    """Packs the entries into `index`; returns the size. writing: (name, version) being written, or None."""
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
    """The inverse of `pack`: (entries, sequence, cursor, active, writing)."""
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
    # CRC-32 of an index without its CRC field.
    view = memoryview(index)
    return _core.crc32(view[20:size], _core.crc32(view[:16], 0))


def whole(read, page, room, limit):
    """(sequence, size) of the index that read(at, page) reads; ABSENT if it is incomplete or exceeds `limit` bytes."""
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


# Names become parts of paths and are printed: no separators, no escapes, no hidden files, no parent folders.
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


def checked(name):
    """Returns the name if it is valid; StoreError otherwise."""
    if not isinstance(name, str) or text(name.encode()) != name or not 0 < len(name) <= 24:
        raise StoreError("name %r: give 1 to 24 of A-Z a-z 0-9 - _ and, but not first, ." % name)
    return name


def text(field):
    """Decodes a name in flash, with "_" in place of invalid characters."""
    name = "".join([chr(c) if c in _LETTERS else "_" for c in field.rstrip(b"\0")])
    return "_" + name[1:] if name[:1] == "." else name
