"""Sample files, from which a board trains on its own (SPEC.md, section 13)."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError

MAGIC, VERSION = b"ELD1", 1
_HEADER = struct.Struct("<4sHH8sIIII")  # magic, version, header size, base id, sample size, target size, 0, CRC-32


def pack_samples(x: NDArray[np.int8], y: NDArray[np.int64], targets: NDArray[np.int8] | None, base_id: bytes) -> bytes:
    """A sample file with inputs int8 [N, ...] and labels [N], or targets [N, ...], for the base of this id."""
    rows = x.reshape(len(x), -1).view(np.uint8)
    if targets is None:
        if len(x) and not 0 <= y.min() <= y.max() <= 255:
            raise InputError("labels of a sample file are 0 to 255")
        answers = y.astype(np.uint8)[:, None]
    else:
        answers = targets.reshape(len(x), -1).view(np.uint8)
    target_size = 0 if targets is None else answers.shape[1]
    head = _HEADER.pack(MAGIC, VERSION, _HEADER.size, base_id, rows.shape[1], target_size, 0, 0)[:-4]
    records = [row.tobytes() for row in np.concatenate([answers, rows], axis=1)]
    return b"".join(part + zlib.crc32(part).to_bytes(4, "little") for part in (head, *records))
