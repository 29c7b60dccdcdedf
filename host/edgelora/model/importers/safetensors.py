"""Safetensors files: named tensors without executable content.

Layout (https://huggingface.co/docs/safetensors): the size of the header, u64; the header, JSON with `dtype`, `shape`
and `data_offsets` [begin, end) for each name; the tensor data, little-endian, without gaps. Offsets count from the
start of the data. `__metadata__` in the header may hold strings. The format has no checksum: damaged tensor data isn't
detected.
"""

from __future__ import annotations

import json
import math
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError
from edgelora.core.formats.files import write_atomic

from .json_object import json_object, shown

MAX_HEADER = 100_000_000  # bytes, the reference implementation's own limit
MAX_SIDES = 8
_SIZE = struct.Struct("<Q")
_METADATA = "__metadata__"
_ALIGN = 8
_DAMAGED = "the file is truncated or damaged: copy it again"
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # NumPy lacks BF16: upper half of an F32


class SafetensorsError(EdgeloraError, ValueError):
    """A file is not a valid safetensors file, or holds unsupported tensors."""


def read_safetensors(path: str | os.PathLike[str], ignored: tuple[str, ...] = ()) -> dict[str, NDArray[np.float32]]:
    """All tensors of a file by name, as float32. Raises SafetensorsError for invalid content, or OSError.

    ignored: how names end of tensors that are left out, and may be of any type.
    """
    data, name = Path(path).read_bytes(), Path(path).name
    header, tensors_at = _header(data, name)
    header.pop(_METADATA, None)
    limit, taken = len(data) - tensors_at, [key for key in header if not key.endswith(ignored)]
    spans = {key: _span(entry, limit, f"{name}: tensor {key!r}") for key, entry in header.items()}
    for key in taken:
        _check_values(header[key], f"{name}: tensor {key!r}")
    _check_cover(spans, limit, name)
    parts = {key: data[tensors_at + spans[key][0] : tensors_at + spans[key][1]] for key in taken}
    return {key: _floats(part, header[key]) for key, part in parts.items()}


def write_safetensors(path: str | os.PathLike[str], tensors: dict[str, NDArray[np.float32]]) -> None:
    """Writes tensors atomically as F32; the metadata names PyTorch, which its loaders require."""
    header: dict[str, Any] = {_METADATA: {"format": "pt"}}
    body = b""
    for key, tensor in tensors.items():
        raw = np.ascontiguousarray(tensor, "<f4").tobytes()
        header[key] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGN)
    write_atomic(path, _SIZE.pack(len(text)) + text + body)


def _header(data: bytes, name: str) -> tuple[dict[str, Any], int]:
    """The parsed header and its end offset."""
    _require(
        len(data) >= _SIZE.size, f"{name}: ends after {len(data)} bytes, so it is not a safetensors file: copy it again"
    )
    (size,) = _SIZE.unpack_from(data)
    end = _SIZE.size + size
    _require(
        size <= MAX_HEADER and end <= len(data),
        f"{name}: its header would end at {end}, the file at {len(data)}: it is truncated, or not a safetensors file",
    )
    return json_object(data[_SIZE.size : end], f"{name}: its header is", SafetensorsError), end


def _span(entry: Any, limit: int, where: str) -> tuple[int, int]:
    """A tensor's begin and end behind the header."""
    known = isinstance(entry, dict) and {"dtype", "shape", "data_offsets"} <= entry.keys()
    _require(known, f"{where}: its entry has no dtype, shape or data_offsets: copy the file again")
    offsets = entry["data_offsets"]
    pair = _naturals(offsets) and len(offsets) == 2
    _require(pair, f"{where}: its data_offsets are {shown(offsets)}, must be its begin and end: copy the file again")
    begin, end = offsets
    _require(begin <= end <= limit, f"{where}: it is at {begin}..{end} of {limit} bytes: {_DAMAGED}")
    return begin, end


def _check_values(entry: dict[str, Any], where: str) -> None:
    """Validates the type, shape and size of a tensor that is read."""
    dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    known = isinstance(dtype, str) and dtype in _DTYPES
    _require(known, f"{where}: its type is {shown(dtype)}, must be {', '.join(_DTYPES)}: save it as one of them")
    _require(
        _naturals(shape) and len(shape) <= MAX_SIDES and 0 not in shape,
        f"{where}: its shape is {shown(shape)}, must be at most {MAX_SIDES} whole numbers of at least 1: save the file "
        "without it",
    )
    size = math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
    _require(end - begin == size, f"{where}: it has {end - begin} bytes and needs {size}: {_DAMAGED}")


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_cover(spans: dict[str, tuple[int, int]], size: int, name: str) -> None:
    done = 0
    for key, (begin, end) in sorted(spans.items(), key=lambda item: item[1]):
        _require(begin == done, f"{name}: tensor {key!r} begins at {begin}, the one before it ends at {done}")
        done = end
    _require(done == size, f"{name}: tensors end at {done}, the file's data at {size}: it is damaged")


def _floats(raw: bytes, entry: dict[str, Any]) -> NDArray[np.float32]:
    values = np.frombuffer(raw, _DTYPES[entry["dtype"]])
    if entry["dtype"] == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # callers check that values are finite
        return values.astype(np.float32).reshape(entry["shape"])


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise SafetensorsError(message)
