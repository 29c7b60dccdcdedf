"""Sample files: what a board trains from by itself (SPEC.md, section 13).

The host writes them for the board, or reads what an application on the board recorded.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from .formats import FormatError
from .model import QuantModel
from .personalize import Samples

MAGIC, VERSION = b"ELD1", 1
_HEADER = struct.Struct("<4sHH8sIIII")  # magic, version, header size, base id, sample size, target size, 0, CRC-32


def pack_samples(samples: Samples, base_id: bytes) -> bytes:
    """A sample file with these samples in their order, for the base of this id."""
    rows = samples.x.reshape(len(samples), -1).view(np.uint8)
    targets = samples.given_targets
    if targets is None:
        if len(samples) and not 0 <= samples.y.min() <= samples.y.max() <= 255:
            raise ValueError("labels of a sample file are 0 to 255")
        told = samples.y.astype(np.uint8)[:, None]
    else:
        told = targets.reshape(len(samples), -1).view(np.uint8)
    target_size = 0 if targets is None else told.shape[1]
    head = _HEADER.pack(MAGIC, VERSION, _HEADER.size, base_id, rows.shape[1], target_size, 0, 0)[:-4]
    records = [row.tobytes() for row in np.concatenate([told, rows], axis=1)]
    return b"".join(_sealed(part) for part in (head, *records))


def unpack_samples(data: bytes, model: QuantModel, base_id: bytes, name: str = "samples") -> Samples:
    """The whole samples of a file for this base. FormatError if it is damaged, or for another base."""
    if len(data) < _HEADER.size or data[:4] != MAGIC or not _whole(data[: _HEADER.size]):
        raise FormatError(f"{name}: no sample file, or damaged: make it again")
    _, version, size, of_base, sample_size, target_size, _, _ = _HEADER.unpack_from(data)
    if (version, size) != (VERSION, _HEADER.size):
        raise FormatError(f"{name}: format version is {version}, known is {VERSION}: update edgelora")
    frames, rest = divmod(sample_size, model.input.size)
    if of_base != base_id or rest:
        raise FormatError(f"{name} was made for base {of_base.hex()}, this model is {base_id.hex()}: use its own model")
    told = target_size or 1
    record = told + sample_size + 4
    count = (len(data) - size) // record
    rows = np.frombuffer(data, np.uint8, count * record, size).reshape(count, record)
    if count and not _whole(rows[-1].tobytes()):  # the power went while it was written
        rows = rows[:-1]
    for number, row in enumerate(rows):
        if not _whole(row.tobytes()):
            raise FormatError(f"{name}: sample {number} is damaged: record it again")
    shape = (frames, *model.input.shape) if model.has_history else model.input.shape
    x = rows[:, told:-4].copy().view(np.int8).reshape(-1, *shape)
    targets: NDArray[np.int8] | None = rows[:, :told].copy().view(np.int8) if target_size else None
    y = rows[:, 0].astype(np.int64) if targets is None else np.zeros(len(x), np.int64)
    return Samples(x, y, targets)


def _sealed(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(4, "little")


def _whole(data: bytes) -> bool:
    return _sealed(data[:-4]) == data
