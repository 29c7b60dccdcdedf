"""`.npz` files: named arrays, as `numpy.savez` writes them, read as what anybody may have made.

Nothing is unpickled, no memory is taken that the file only claims to need, and whatever is wrong is told by NpzError.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ..errors import EdgeloraError
from .files import write_atomic

MAX_BYTES = 2 << 30  # of all arrays
MAX_ARRAYS = 1024
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class NpzError(EdgeloraError, ValueError):
    """No `.npz` file, a damaged one, or one with more in it than can be used; the message says why and what to do."""


def write_npz(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes an `.npz` file as `write_atomic` does."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    write_atomic(path, content.getvalue())


def read_npz(path: str | Path, remedy: str) -> dict[str, NDArray[Any]]:
    """All arrays of a file by name. NpzError, with the file's name and the remedy, or OSError if it can't be opened."""
    with open(path, "rb") as file:
        try:
            if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
                raise NpzError("it holds one bare array, without a name")
            with zipfile.ZipFile(file) as archive:
                return dict(_array(archive, member) for member in _members(archive))
        except Exception as error:  # of zipfile, zlib and NumPy: hostile bytes can raise any of theirs
            raise NpzError(f"{path}: not a readable .npz file ({_reason(error)}); {remedy}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    members = archive.infolist()
    size = sum(member.file_size for member in members)
    if size > MAX_BYTES:
        raise NpzError(f"its arrays claim to have {size} bytes, at most {MAX_BYTES} are possible")
    if len(members) > MAX_ARRAYS or len({member.filename for member in members}) < len(members):
        raise NpzError(f"it has {len(members)} arrays, some of the same name, or more than {MAX_ARRAYS}")
    return members


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[str, NDArray[Any]]:
    name, content = member.filename.removesuffix(".npy"), archive.read(member)
    file = io.BytesIO(content)
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise NpzError(f"array {name!r} has format {version[0]}.{version[1]}")
    shape, by_columns, dtype = _HEADERS[version](file)
    if dtype.hasobject:
        raise NpzError(f"array {name!r} holds Python objects, which are never loaded")
    count, left = math.prod(shape), len(content) - file.tell()
    if any(side < 0 for side in shape) or count * dtype.itemsize != left:
        raise NpzError(f"array {name!r} is told to be {dtype} {list(shape)[:6]} but has {left} bytes")
    if not left:
        return name, np.zeros(shape, dtype)
    values = np.frombuffer(content, dtype, count, file.tell())
    return name, values.reshape(shape, order="F" if by_columns else "C").copy()
