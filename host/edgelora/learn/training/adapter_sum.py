"""Adapters added up, each times a weight, by the core's own arithmetic (SPEC.md, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgelora.base.errors import InputError
from edgelora.core.formats.ela import unpack_adapter
from edgelora.core.formats.elm import base_id
from edgelora.core.twin.session import WEIGHT_ONE, Session
from edgelora.model.quantization.adapter_fit import weight_change

from .base import Base

MOST_WEIGHT = 32767 / WEIGHT_ONE


@dataclass(frozen=True)
class BlendedLayer:
    """A layer of a sum. adds: all have one A, so B's were added; else ranks. error: what rounding B changes of the
    weighted sum of branches, relative, root of squares over the weights that they stand for."""

    op: int
    rank: int
    adds: bool
    error: float


@dataclass(frozen=True)
class Blend:
    """The sum as `.ela` bytes, and its layers. a_stored: its A is in the file, as no one seed gives it."""

    ela: bytes
    a_stored: bool
    layers: list[BlendedLayer]


def blend(base: Base, adapters: Sequence[bytes], weights: Sequence[float] | None = None, fine: bool = True) -> Blend:
    """The sum of `.ela` files for this base, each times its weight; without weights, their mean.

    fine: B as fine as int8 holds it, for inference; else in the steps of the finest adapter, which training moves by.

    Raises InputError for weights, and TwinError for adapters, that can't be added up.
    """
    shares = [1 / max(len(adapters), 1)] * len(adapters) if weights is None else list(weights)
    if len(shares) != len(adapters):
        raise InputError(f"{len(shares)} weights for {len(adapters)} adapters: give one for each")
    for weight in shares:
        if not abs(weight) <= MOST_WEIGHT:
            raise InputError(f"weight {weight:g}: give -{MOST_WEIGHT:.3f} to {MOST_WEIGHT:.3f}")
    session = Session(base.elm, bytes(len(base.model.ops)), "infer")
    steps = [round(weight * WEIGHT_ONE) for weight in shares]
    ela = session.blend(adapters, steps, fine)
    known = base_id(base.elm)
    parts = [unpack_adapter(adapter, base.model, known) for adapter in adapters]
    result = unpack_adapter(ela, base.model, known)
    layers = []
    for layer in result.layers:
        mine = [
            (one, step) for part, step in zip(parts, steps, strict=True) for one in part.layers if one.op == layer.op
        ]
        wanted = sum((weight_change(one) * (step / WEIGHT_ONE) for one, step in mine), np.zeros(1))
        whole = float(np.linalg.norm(wanted))
        error = float(np.linalg.norm(weight_change(layer) - wanted)) / whole if whole else 0.0
        adds = all(one.rank == layer.rank for one, _ in mine)
        layers.append(BlendedLayer(layer.op, layer.rank, adds, error))
    return Blend(ela, result.a_stored, layers)
