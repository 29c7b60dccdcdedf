"""Which ops can train an adapter, by the board's own rule."""

from __future__ import annotations

from types import SimpleNamespace

from . import device


def trainable(elm: bytes, ops: int) -> list[int]:
    """The ops that get a rank when a board's program gives one for all: those with weights that get a gradient.

    ops: how many the model in the file has.
    """
    ranks = device.module().Model._everywhere(SimpleNamespace(buffer=elm), 1, ops)
    return [op for op, rank in enumerate(ranks) if rank]
