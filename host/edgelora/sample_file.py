"""Sample files: what a board trains from by itself (SPEC.md, section 13)."""

from __future__ import annotations

import struct
import zlib

import numpy as np

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
    return b"".join(part + zlib.crc32(part).to_bytes(4, "little") for part in (head, *records))
