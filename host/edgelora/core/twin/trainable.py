"""Which ops can train an adapter, by the board's own rule."""

from __future__ import annotations

from types import SimpleNamespace

from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import QuantModel

from . import device


def trainable(model: QuantModel) -> list[int]:
    """The ops that get a rank when a board's program gives one for all: those with weights that get a gradient."""
    file = SimpleNamespace(buffer=pack_model(model))
    ranks = device.module().Model._everywhere(file, 1, len(model.ops))
    return [op for op, rank in enumerate(ranks) if rank]
