"""A small FlatBuffers reader for untrusted files: every offset and length is checked against the file.

Vectors are views of the file, so forged sizes can't make the host allocate more than the file's size.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError

_MAX_TEXT = 80  # bytes of a name; the rest is cut off


class TfliteError(EdgeloraError, ValueError):
    """A `.tflite` file is damaged or can't be imported; the message names an alternative."""


class Table:
    """A FlatBuffers table at byte `at` of `data`. Fields are addressed by their number in the schema."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._vtable = at - _read(data, "<i", at)
        self._vtable_size = _read(data, "<H", self._vtable)
        if self._vtable_size < 4 or self._vtable + self._vtable_size > len(data):
            raise _damaged(f"the table at byte {at} has an invalid vtable")

    def _field(self, number: int) -> int | None:
        """A field's offset in the file; None if the table omits it."""
        entry = 4 + 2 * number
        if entry + 2 > self._vtable_size:
            return None
        offset = _read(self._data, "<H", self._vtable + entry)
        return self._at + offset if offset else None

    def _target(self, number: int) -> int | None:
        """The offset in the file that a field points to; None if the table omits it."""
        at = self._field(number)
        return None if at is None else at + _read(self._data, "<I", at)

    def number(self, field: int, kind: str, default: int = 0) -> int:
        """An integer; `kind` is its `struct` letter."""
        at = self._field(field)
        return default if at is None else _read(self._data, "<" + kind, at)

    def real(self, field: int, default: float = 0.0) -> float:
        at = self._field(field)
        return default if at is None else _read(self._data, "<f", at)

    def table(self, field: int) -> Table | None:
        at = self._target(field)
        return None if at is None else Table(self._data, at)

    def vector(self, field: int, dtype: str) -> NDArray[Any]:
        """A vector of numbers as a view of the file; empty if the table omits it."""
        at = self._target(field)
        if at is None:
            return np.empty(0, dtype)
        count, item = _read(self._data, "<I", at), np.dtype(dtype).itemsize
        if count * item > len(self._data) - at - 4:
            raise _damaged(f"a vector of {count} elements at byte {at} runs past the end")
        return np.frombuffer(self._data, dtype, count, at + 4)

    def tables(self, field: int, most: int, what: str) -> list[Table]:
        """A vector of tables, at most `most` of them."""
        at = self._target(field)
        offsets = self.vector(field, "<u4")
        if at is None or len(offsets) > most:
            if at is not None:
                raise TfliteError(f"the file has {len(offsets)} {what}, the limit is {most}")
            return []
        return [Table(self._data, at + 4 + 4 * i + int(offset)) for i, offset in enumerate(offsets)]

    def text(self, field: int) -> str:
        """A string, with unprintable characters replaced."""
        raw = self.vector(field, "u1")[:_MAX_TEXT].tobytes().decode(errors="replace")
        return "".join(letter if letter.isprintable() else "?" for letter in raw)


def root(data: bytes, identifier: bytes) -> Table:
    """The root table of a file, which must have this identifier."""
    if data[4:8] != identifier:
        raise TfliteError(f"not a {identifier.decode()} file: bytes 4 to 7 are {data[4:8]!r}")
    return Table(data, _read(data, "<I", 0))


def _read(data: bytes, kind: str, at: int) -> Any:
    if at < 0 or at + struct.calcsize(kind) > len(data):
        raise _damaged(f"byte {at} is past its end at {len(data)}")
    return struct.unpack_from(kind, data, at)[0]


def _damaged(why: str) -> TfliteError:
    return TfliteError(f"the file is damaged ({why}): make or copy it again")
