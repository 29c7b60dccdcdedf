"""Reservoir files: a board's bounded memory of samples (SPEC.md, section 13)."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

MAGIC, VERSION = b"ELR1", 2
STATE = 4 * 24 + 4 * 38  # bytes of turns and outcomes in a record of counts
_HEADER = struct.Struct("<4sHH8sIHHI")  # magic, version, header size, base id, sample size, slots, classes, seed


def pack_reservoir(
    x: NDArray[np.int8], labels: NDArray[np.int64], seen: NDArray[np.int64], seed: int, base_id: bytes
) -> bytes:
    """A reservoir's file: samples int8 [slots, ...], labels [slots], -1 for a blank slot, counts seen [classes].

    Blank bytes are 0xFF. All samples came at time 0; none is stale, nothing was turned. A file has two records of
    counts, after the last sample and after the one before it. The class of the last sample is unknown here, so the
    earlier record is left blank.
    """
    rows = x.reshape(len(x), -1)
    head = _HEADER.pack(MAGIC, VERSION, _HEADER.size + 4, base_id, rows.shape[1], len(x), len(seen), seed)
    blank = b"\xff" * (rows.shape[1] + 9)
    pairs = zip(rows, labels, strict=True)
    slots = [blank if label < 0 else _checked(bytes([label, 0, 0, 0, 0]) + row.tobytes()) for row, label in pairs]
    sequence = int(seen.sum())
    counts = _checked(struct.pack(f"<{3 + len(seen)}I", sequence, *seen.tolist(), 0, 0) + bytes(STATE))
    copies = [b"\xff" * len(counts)] * 2
    if sequence:
        copies[sequence & 1] = counts
    return b"".join([_checked(head), *slots, *copies])


def _checked(part: bytes) -> bytes:
    return part + zlib.crc32(part).to_bytes(4, "little")
