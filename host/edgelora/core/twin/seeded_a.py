"""The A that a seed gives a layer, by the core's own code."""

from __future__ import annotations

import ctypes as C

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.network import KINDS, Op

from .binding import library


class _Layer(C.Structure):
    """`edgelora_seeded_t` of host/native/twin.c."""

    _fields_ = [
        ("weights", C.c_void_p),
        ("seed", C.c_uint32),
        ("op", C.c_uint32),
        ("kind", C.c_uint32),
        ("inputs", C.c_uint32),
        ("channels", C.c_uint32),
        ("outputs", C.c_uint32),
    ]


def seeded_a(seed: int, index: int, rank: int, op: Op) -> NDArray[np.int8]:
    """The frozen or initial A of `op`, the model's `index`-th: int8 [rank, K] (SPEC.md section 7)."""
    assert op.weights is not None
    weights = (op.weights.astype(np.int16) + 128).astype(np.uint8)
    outputs, channels = op.weights.shape[0], op.weights.shape[3]
    a = np.empty((rank, weights.size // outputs), np.int8)
    layer = _Layer(weights.ctypes.data, seed, index, KINDS.index(op.kind) + 1, a.shape[1], channels, outputs)
    library().edgelora_twin_seeded_a(C.byref(layer), C.c_uint32(rank), C.c_void_p(a.ctypes.data))
    return a
