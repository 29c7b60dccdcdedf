"""Common parts of `.elm` and `.ela` files: the header's start, the CRC, reading within bounds."""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError

from .limits import BRANCH_SHIFTS, T_SHIFTS

MODEL_VERSION, ADAPTER_VERSION = 2, 1
MODEL_MAGIC, ADAPTER_MAGIC = b"ELM1", b"ELA1"
ENVELOPE = struct.Struct("<4sHHII")  # magic, version, header size, file size, CRC-32: the start of both headers
CRC_FROM, ID_AT, ID_FROM = 16, 16, 24


class FormatError(EdgeloraError, ValueError):
    """A file, or an object to write to one, breaks a rule of its format."""


# --- Common ---


class Reader:
    """Reads records and arrays of a file, within its bounds, and records which bytes were `used`."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name = data, name
        self.used: list[tuple[int, int]] = []

    def span(self, at: int, size: int, what: str, align: int = 4) -> bytes:
        end = at + size
        require(at % align == 0, f"{self.name}: {what} is at {at}, not a multiple of {align}: make the file again")
        require(
            end <= len(self.data),
            f"{self.name}: {what} ends at {end}, the file at {len(self.data)}: make it again",
        )
        self.used.append((at, end))
        return self.data[at:end]

    def records(self, layout: struct.Struct, at: int, count: int, what: str) -> list[tuple[Any, ...]]:
        return list(layout.iter_unpack(self.span(at, count * layout.size, what)))

    def array(self, dtype: str, shape: tuple[int, ...], at: int, what: str) -> NDArray[Any]:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        require(at > 0, f"{self.name}: {what} has no offset: make the file again")
        native = np.dtype(dtype).newbyteorder("=")
        return np.frombuffer(self.span(at, size, what), dtype).astype(native).reshape(shape)

    def next_array(self, dtype: str, shape: tuple[int, ...], at: int, what: str) -> tuple[NDArray[Any], int]:
        """An array and where the one after it starts; the padding between them must be 0."""
        array = self.array(dtype, shape, at, what)
        end = at + array.nbytes
        padding = self.span(end, -end % 4, f"padding of {what}", align=1)
        require(not any(padding), f"{self.name}: padding after {what} is not 0: make the file again")
        return array, end + len(padding)

    def text(self, at: int, size: int, header: int) -> str:
        require(at >= header, f"{self.name}: labels are at {at}, in the header: make the file again")
        try:
            return bytes(self.span(at, size, "labels")).decode()
        except UnicodeDecodeError as error:
            raise FormatError(f"{self.name}: labels are not UTF-8 ({error}): make the file again") from None

    def check_gaps(self) -> None:
        done = 0
        for start, end in sorted(self.used) + [(len(self.data), len(self.data))]:
            if start > done:
                require(
                    not any(self.data[done:start]),
                    f"{self.name}: unused bytes at {done}..{start} are not 0: make it again",
                )
            done = max(done, end)


def seal(body: bytearray) -> bytes:
    """Stores the CRC and makes the file immutable."""
    struct.pack_into("<I", body, 12, zlib.crc32(memoryview(body)[CRC_FROM:]))
    return bytes(body)


def check_envelope(data: bytes, name: str, magic: bytes, known: int, header: struct.Struct) -> None:
    suffix = {MODEL_MAGIC: "a model (.elm)", ADAPTER_MAGIC: "an adapter (.ela)"}
    require(
        data[:4] == magic, f"{name}: starts with {bytes(data[:4])!r}, so it is not {suffix[magic]}: choose another file"
    )
    require(
        len(data) >= header.size, f"{name}: ends after {len(data)} bytes, the header has {header.size}: copy it again"
    )
    _, version, header_size, size, crc = ENVELOPE.unpack_from(data)
    require(
        version == known,
        f"{name}: format version is {version}, must be {known}: update edgelora, or make it again",
    )
    require(header_size == header.size, f"{name}: header size is {header_size}, must be {header.size}: make it again")
    require(
        size == len(data),
        f"{name}: has {len(data)} bytes, should have {size}: it was truncated or mixed up, copy it again",
    )
    actual = zlib.crc32(memoryview(data)[CRC_FROM:])
    require(actual == crc, f"{name}: CRC-32 is {actual:08x}, the file says {crc:08x}: it is damaged, make it again")


def check_array(array: NDArray[Any] | None, dtype: np.dtype, shape: tuple[int, ...], where: str) -> None:
    if array is None:
        raise FormatError(f"{where}: missing, must be {dtype.name} {list(shape)}")
    if array.shape != shape:  # messages only on errors: formatting a type's name is slower than the check
        raise FormatError(f"{where}: shape is {list(array.shape)}, must be {list(shape)}")
    if not np.can_cast(array.dtype, dtype, "equiv"):
        raise FormatError(f"{where}: type is {array.dtype.name}, must be {dtype.name}")


def check_shifts(t_shift: int, branch_shift: int, where: str) -> None:
    low, high = T_SHIFTS
    require(low <= t_shift <= high, f"{where}: t_shift is {t_shift}, must be {low}..{high}")
    low, high = BRANCH_SHIFTS
    require(low <= branch_shift <= high, f"{where}: branch_shift is {branch_shift}, must be {low}..{high}")


def require_zero(value: int, name: str, what: str) -> None:
    require(value == 0, f"{name}: {what} is {value}, must be 0: make the file again")


def require(condition: bool | np.bool_, message: str) -> None:
    if not condition:
        raise FormatError(message)
