"""Operators on shapes, which are known at import: they are folded to constants and need no op."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .builder import MAX_AXES, Builder, Handler
from .codes import Code
from .file import Type


def fold_shape(at: Builder) -> None:
    if at.operator.number(0, "b") != Type.INT32:
        raise at.refusal("its output type must be int32")
    fold(at, np.array(at.tensor(0).shape, np.int64))


def fold(at: Builder, values: NDArray[Any]) -> None:
    """Makes the operator's output a constant."""
    if at.target.type != Type.INT32:
        raise at.refusal(f"'{at.target.name}' is {at.target.type_name}, must be int32")
    at.want_shape(values.shape)
    at.constants[at.operator.outputs[0]] = values


def fold_slice(at: Builder) -> None:
    """STRIDED_SLICE of a shape: one element or several."""
    values, (begin, end, step) = at.constant(0), (at.constant(i).reshape(-1) for i in (1, 2, 3))
    number = at.operator.number
    begins, ends, shrinks = (number(field, "i") & 1 for field in (0, 1, 4))
    if values.ndim != 1 or not len(begin) == len(end) == len(step) == 1 or step[0] == 0:
        raise at.refusal("only a tensor's shape can be sliced here, along its only axis")
    if number(2, "i") or number(3, "i"):
        raise at.refusal("slices with an ellipsis or a new axis aren't supported")
    part = values[slice(None if begins else int(begin[0]), None if ends else int(end[0]), int(step[0]))]
    if shrinks:
        index = int(begin[0])
        if not -len(values) <= index < len(values):
            raise at.refusal(f"element {index} of {len(values)}: the file is damaged")
        part = values[index]
    fold(at, np.asarray(part))


def fold_pack(at: Builder) -> None:
    parts = [at.constant(place).reshape(-1) for place in range(len(at.operator.inputs))]
    count, axis = at.operator.number(0, "i"), at.operator.number(1, "i")
    if not 1 <= len(parts) <= 8 or count != len(parts) or axis or any(len(part) != 1 for part in parts):
        raise at.refusal("only single dimensions of shapes can be packed")
    fold(at, np.concatenate(parts))


def fold_join(at: Builder) -> None:
    """CONCATENATION of shapes."""
    parts = [at.constant(place).reshape(-1) for place in range(len(at.operator.inputs))]
    if at.operator.number(0, "i") not in (0, -1) or sum(map(len, parts)) > MAX_AXES:
        raise at.refusal("joins shapes along another axis than their only one: the file is damaged")
    fold(at, np.concatenate(parts))


def fold_gather(at: Builder) -> None:
    """GATHER of a shape's sides."""
    if at.operator.inputs[0] not in at.constants:
        raise at.refusal("takes values by their place: only of a shape can it be")
    values, places = at.constant(0), at.constant(1)
    if at.operator.number(0, "i") or at.operator.number(1, "i") or values.ndim != 1:
        raise at.refusal("only a tensor's shape can be gathered here, along its only axis")
    if places.size > MAX_AXES or not ((places >= 0) & (places < len(values))).all():
        raise at.refusal(f"takes {places.reshape(-1)[:6].tolist()} of {len(values)} sides: the file is damaged")
    fold(at, values[places])


def fold_product(at: Builder) -> None:
    """REDUCE_PROD of a shape."""
    values, axes = at.constant(0), at.constant(1).reshape(-1).tolist()
    if values.ndim != 1 or axes not in ([0], [-1]):
        raise at.refusal("only a tensor's shape can be multiplied here, along its only axis")
    fold(at, np.prod(values, keepdims=bool(at.operator.number(0, "B"))))


HANDLERS = {
    Code.GATHER: Handler(fold_gather, 2, 2, options=True),
    Code.REDUCE_PROD: Handler(fold_product, 2, 2, options=True),
    Code.SHAPE: Handler(fold_shape, 1, 1, options=True),
}
