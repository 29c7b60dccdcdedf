"""Reservoir files: a board's bounded memory of samples (SPEC.md, section 13)."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

MAGIC, VERSION = b"ELR1", 1
_HEADER = struct.Struct("<4sHH8sIHHI")  # magic, version, header size, base id, sample size, slots, classes, seed


def pack_reservoir(
    x: NDArray[np.int8], labels: NDArray[np.int64], seen: NDArray[np.int64], seed: int, base_id: bytes
) -> bytes:
    """A reservoir's file: samples int8 [slots, ...], labels [slots], -1 for a blank slot, counts seen [classes].

    Blank bytes are 0xFF. A file has two records of counts, after the last sample and after the one before it. The class
    of the last sample is unknown here, so the earlier record is left blank.
    """
    rows = x.reshape(len(x), -1)
    head = _HEADER.pack(MAGIC, VERSION, _HEADER.size + 4, base_id, rows.shape[1], len(x), len(seen), seed)
    blank = b"\xff" * (rows.shape[1] + 5)
    pairs = zip(rows, labels, strict=True)
    slots = [blank if label < 0 else _checked(bytes([label]) + row.tobytes()) for row, label in pairs]
    sequence = int(seen.sum())
    counts = _checked(struct.pack(f"<{1 + len(seen)}I", sequence, *seen.tolist()))
    copies = [b"\xff" * len(counts)] * 2
    if sequence:
        copies[sequence & 1] = counts
    return b"".join([_checked(head), *slots, *copies])


def _checked(part: bytes) -> bytes:
    return part + zlib.crc32(part).to_bytes(4, "little")
