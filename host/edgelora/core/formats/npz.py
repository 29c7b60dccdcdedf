"""`.npz` files: named arrays, as written by `numpy.savez`, read as untrusted data.

Nothing is unpickled, no memory is allocated by a file's unverified sizes, and all errors are NpzError.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError

from .files import MAX_ARRAYS_BYTES, write_atomic
from .limits import MAX_OPS

MAX_ARRAYS = 16 * MAX_OPS  # more than those of any float network
BLOCK = 1 << 20  # bytes unpacked at a time
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class NpzError(EdgeloraError, ValueError):
    """Not an `.npz` file, a damaged or too large one; the message says why and what to do."""


def write_npz(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes an `.npz` file as `write_atomic` does."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    write_atomic(path, content.getvalue())


def read_npz(path: str | Path, remedy: str, most: int = MAX_ARRAYS_BYTES) -> dict[str, NDArray[Any]]:
    """All arrays of a file by name, of at most `most` bytes together.

    NpzError, with the file's name and the remedy, or OSError if it can't be opened.
    """
    with open(path, "rb") as file:
        try:
            if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
                raise NpzError("it holds a single array without a name")
            with zipfile.ZipFile(file) as archive:
                return dict(_array(archive, member) for member in _members(archive, most))
        except Exception as error:  # hostile bytes can raise any error of zipfile, zlib and NumPy
            raise NpzError(f"{path}: not a readable .npz file ({_reason(error)}); {remedy}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _members(archive: zipfile.ZipFile, most: int) -> list[zipfile.ZipInfo]:
    members = archive.infolist()
    size = sum(member.file_size for member in members)
    if size > most:
        raise NpzError(f"its arrays have {size} bytes once unpacked, the limit is {most}")
    if len(members) > MAX_ARRAYS or len({member.filename for member in members}) < len(members):
        raise NpzError(f"it has {len(members)} arrays, some of the same name, or more than {MAX_ARRAYS}")
    return members


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[str, NDArray[Any]]:
    """Reads an array by name. Its header is checked before its memory is allocated, once."""
    name = member.filename.removesuffix(".npy")
    with archive.open(member) as file:
        version = npy.read_magic(file)
        if version not in _HEADERS:
            raise NpzError(f"array {name!r} has format {version[0]}.{version[1]}")
        shape, by_columns, dtype = _HEADERS[version](file)
        if dtype.hasobject:
            raise NpzError(f"array {name!r} holds Python objects, which are never loaded")
        count, left = math.prod(shape), member.file_size - file.tell()
        if any(side < 0 for side in shape) or count * dtype.itemsize != left:
            raise NpzError(f"array {name!r} is declared as {dtype} {list(shape)[:6]} but has {left} bytes")
        values = np.zeros(count, dtype)
        _fill(file, values.view(np.uint8) if left else np.zeros(0, np.uint8))
        if dtype.kind == "U" and left and not _is_text(values.view(dtype.byteorder + "u4")):
            raise NpzError(f"array {name!r} has text that is not valid Unicode")
    return name, values.reshape(shape, order="F" if by_columns else "C")


def _is_text(codes: NDArray[np.uint32]) -> bool:
    """Whether all are valid code points; str(), or code that uses the text, fails on others."""
    return not ((codes > 0x10FFFF) | (codes >= 0xD800) & (codes < 0xE000)).any()


def _fill(file: IO[bytes], room: NDArray[np.uint8]) -> None:
    """Fills `room` exactly and reads to the end of the file, which checks its CRC."""
    at = 0
    while part := file.read(BLOCK):
        if at + len(part) > len(room):
            raise NpzError("an array has more bytes than the archive says")
        room[at : at + len(part)] = np.frombuffer(part, np.uint8)
        at += len(part)
    if at < len(room):
        raise NpzError("an array is truncated")
