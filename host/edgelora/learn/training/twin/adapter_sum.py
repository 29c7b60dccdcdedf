"""Weighted sums of adapters, by the core's own arithmetic (SPEC.md, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgelora.base.errors import InputError
from edgelora.core.formats.elm import unpack_model
from edgelora.core.formats.limits import MAX_PART_WEIGHT
from edgelora.core.twin.session import WEIGHT_ONE, Session
from edgelora.learn.training.data.base import Base
from edgelora.model.quantization.adapter_fit import weight_change

MOST_WEIGHT = MAX_PART_WEIGHT / WEIGHT_ONE


@dataclass(frozen=True)
class BlendedLayer:
    """A layer of a sum. adds: all adapters have the same A, so B's were added; else ranks add up. error: the rounding
    error of B in the weights that the sum of branches stands for, relative Frobenius norm."""

    op: int
    rank: int
    adds: bool
    error: float


@dataclass(frozen=True)
class Blend:
    """The sum as `.ela` bytes, and its layers. a_stored: A is in the file, as no single seed generates it."""

    ela: bytes
    a_stored: bool
    layers: list[BlendedLayer]


def part_of(elm: bytes, adapter: bytes, part: float) -> bytes:
    """The adapter with a part, 0 to 1, of its change: between the base and the adapter. All of it: the same bytes."""
    if part == 1:
        return adapter
    return Session(elm, bytes(len(unpack_model(elm).ops)), "infer").blend([adapter], [round(part * WEIGHT_ONE)])


def blend(base: Base, adapters: Sequence[bytes], weights: Sequence[float] | None = None, fine: bool = True) -> Blend:
    """The weighted sum of `.ela` files for this base; without weights, their mean.

    fine: B has the finest steps that int8 allows, for inference; else the finest adapter's, for further training.

    Raises InputError for invalid weights, and TwinError for adapters that can't be added.
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
    parts = [base.adapter(adapter) for adapter in adapters]
    result = base.adapter(ela)
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
