"""A small FlatBuffers writer: serializes tables, vectors and strings given as plain values.

A table is a `Fields`, a mapping from field numbers of the schema to values. Offsets point forward, so children follow
their parents; omitted fields have their default.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGN = 16  # of vectors of bytes: TensorFlow Lite aligns buffers so


@dataclass(frozen=True)
class Scalar:
    """A number in a table; kind: its `struct` letter."""

    kind: str
    value: float


Value = Scalar | str | NDArray[Any] | Sequence["Fields"]
Fields = Mapping[int, "Value | Fields"]


def build(root: Fields, identifier: bytes) -> bytes:
    """The bytes of a file with this root table."""
    out = bytearray(8)
    out[4:8] = identifier
    struct.pack_into("<I", out, 0, _table(out, root))
    return bytes(out)


def _pad(out: bytearray, align: int, ahead: int = 0) -> None:
    """Appends zeros so that the offset `ahead` bytes behind them is a multiple of `align`."""
    out += bytes(-(len(out) + ahead) % align)


def _put(out: bytearray, value: Any) -> int:
    """Appends a value that is stored by offset; returns its position."""
    if isinstance(value, Mapping):
        return _table(out, value)
    if isinstance(value, str):
        text = value.encode()
        return _vector(out, text + b"\0", len(text), 1)
    if isinstance(value, np.ndarray):
        size = value.dtype.itemsize
        return _vector(out, value.tobytes(), value.size, ALIGN if size == 1 else size)
    return _tables(out, value)


def _vector(out: bytearray, raw: bytes, count: int, align: int) -> int:
    _pad(out, max(align, 4), 4)
    at = len(out)
    out += struct.pack("<I", count) + raw
    return at


def _tables(out: bytearray, tables: Sequence[Fields]) -> int:
    at = _vector(out, bytes(4 * len(tables)), len(tables), 4)
    for i, fields in enumerate(tables):
        _point(out, at + 4 + 4 * i, _table(out, fields))
    return at


def _point(out: bytearray, at: int, target: int) -> None:
    struct.pack_into("<I", out, at, target - at)


def _table(out: bytearray, fields: Fields) -> int:
    """Appends a table behind its vtable; fields are ordered by size, largest first, for alignment."""
    kinds = {number: value.kind if isinstance(value, Scalar) else "I" for number, value in fields.items()}
    order = sorted(kinds, key=lambda number: -struct.calcsize(kinds[number]))
    places, size = {}, 4
    for number in order:
        width = struct.calcsize("<" + kinds[number])
        size += -size % width
        places[number] = size
        size += width
    entries = 1 + max(fields, default=-1)
    description = struct.pack("<HH", 4 + 2 * entries, size)
    description += struct.pack(f"<{entries}H", *(places.get(number, 0) for number in range(entries)))
    _pad(out, 8, len(description))
    described, at = len(out), len(out) + len(description)
    out += description + bytes(size)
    struct.pack_into("<i", out, at, at - described)
    for number, value in fields.items():
        if isinstance(value, Scalar):
            struct.pack_into("<" + value.kind, out, at + places[number], value.value)
        else:
            _point(out, at + places[number], _put(out, value))
    return at
