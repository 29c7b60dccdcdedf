"""Operators of networks with state: variables that are ring buffers."""

from __future__ import annotations

import numpy as np

from ...formats import Op
from .builder import Builder, Handler, spatial
from .file import Code


def variable(at: Builder) -> None:
    """VAR_HANDLE; what it stands for is told by those who use it."""


def read_variable(at: Builder) -> None:
    """The beginning of a ring buffer, which is built where new positions join it."""
    ring = at.state.ring(at.operator)
    at.rings[ring.join.index] = ring
    at.inner |= ring.inner
    for tensor in ring.held:
        at.same_as(at.graph.tensors[tensor], at.graph.tensors[ring.join.outputs[0]])


def history(at: Builder) -> None:
    initial = at.rings[at.operator.index].initial
    if at.operator.number(1, "b"):
        raise at.refusal("a fused activation isn't possible here: put it into the layers before")
    source = at.source(1)
    at.same_grid(source)
    op = at.emit(Op("history", source, 0), spatial(at.target.shape))
    if (initial != at.model.tensors[op.output].zero_point).any():
        op.initial = initial.astype(np.int8)


HANDLERS = {
    Code.CALL_ONCE: Handler(variable, 0, 0, outputs=0, options=True),
    Code.VAR_HANDLE: Handler(variable, 0, 0, options=True),
    Code.READ_VARIABLE: Handler(read_variable, 1, 1),
    Code.ASSIGN_VARIABLE: Handler(variable, 2, 2, outputs=0),
}
