"""Elementwise operators of one or two inputs, and softmax."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats import fixed_point
from edgelora.core.formats.fixed_point import (
    LOGISTIC_GRID,
    SOFTMAX_GRID,
    TANH_GRID,
    set_abs,
    set_hard_swish,
    set_leaky_relu,
    set_pair_table,
    set_real_function,
    set_relu,
    set_relu6,
    set_rsqrt,
    set_sqrt,
    take_off,
)
from edgelora.core.formats.limits import MAX_ELEMENTS
from edgelora.core.formats.network import MASK_KINDS, Op, QuantModel, Tensor

from .builder import Builder, Handler, grid_of, spatial
from .codes import Code
from .refusals import CONVERT

MAX_TFLITE_SOFTMAX = 511  # channels; TFLite's kernel overflows its shift with more
_PAIRS = {
    Code.ADD: "add",
    Code.SUB: "add",
    Code.MUL: "multiply",
    Code.MINIMUM: "minimum",
    Code.MAXIMUM: "maximum",
    Code.PRELU: "prelu",
    Code.SQUARED_DIFFERENCE: "squared_difference",
}


@dataclass(frozen=True)
class Operand:
    """One of two inputs. shape: of four axes; values: a constant's int8 values, else None."""

    place: int
    shape: tuple[int, ...]
    values: NDArray[np.int8] | None
    grid: tuple[float, int]


def _operand(at: Builder, place: int) -> Operand:
    tensor = at.tensor(place)
    at.check_int8(tensor)
    shape = (1,) * (4 - len(tensor.shape)) + tensor.shape
    if len(shape) > 4 or shape[0] != 1 or 0 in shape:
        raise at.refusal(f"its input '{tensor.name}' has shape {list(tensor.shape)}, must be a batch of one, of 4 axes")
    known = tensor.data is not None and at.operator.inputs[place] not in at.found
    return Operand(place, shape, tensor.values() if known else None, grid_of(tensor))


def pair(at: Builder) -> None:
    """An operator of two inputs, one of which may be a constant or broadcast along axes of size 1."""
    kind = _PAIRS[Code(at.operator.code)]
    first, second = (_operand(at, place) for place in (0, 1))
    whole = tuple(max(sides) for sides in zip(first.shape, second.shape, strict=True))
    for operand in (first, second):
        if any(side not in (1, most) for side, most in zip(operand.shape, whole, strict=True)):
            shapes = f"{list(at.tensor(0).shape)} and {list(at.tensor(1).shape)}"
            raise at.refusal(f"its inputs are {shapes}: they must have the same shape, or size 1 along an axis")
    at.want_shape(whole[4 - max(len(at.tensor(0).shape), len(at.tensor(1).shape)) :])
    swapped = first.values is not None or first.shape != whole == second.shape
    if swapped and kind != "prelu":
        first, second = second, first
    if first.values is not None or kind == "prelu" and first.shape != whole:
        raise at.refusal("one of its inputs must be computed, and have the output's shape")
    if math.prod(whole) > MAX_ELEMENTS:
        raise at.refusal(f"makes {math.prod(whole)} values, the limit is {MAX_ELEMENTS}")
    if kind in ("minimum", "maximum") and not first.grid == second.grid == grid_of(at.target):
        raise at.refusal("inputs and output must have the same scale and zero point; " + CONVERT)
    if kind == "prelu" and second.values is None:
        raise at.refusal(f"its slopes '{at.tensor(1).name}' must be a constant")
    off = -1 if at.operator.code != Code.SUB else 0 if swapped else 1
    fused = at.operator.number(0, "b") if kind in MASK_KINDS else 0
    if second.values is not None and second.values.size == 1:
        _with_number(at, kind, first, second, off, fused)
    else:
        _with_tensor(at, Op(kind, 0, 0), first, second, off, fused, whole)


def _with_tensor(
    at: Builder, op: Op, first: Operand, second: Operand, off: int, fused: int, whole: tuple[int, ...]
) -> None:
    """Emits an op of two inputs; the first is expanded to the output's shape if it is smaller."""
    source = at.source(first.place)
    if first.shape != whole:
        places = np.arange(math.prod(first.shape)).reshape(first.shape)
        source = at.moved(source, np.broadcast_to(places, whole)[0])
    elif first.shape != second.shape:
        source = at.spatial_source(first.place)
    if second.values is not None:
        other = at.held(second.place, at.shape_of(source) if first.shape == second.shape else spatial(second.shape))
    else:
        other = at.source(second.place)
        if first.shape != second.shape:
            other = at.reshaped(other, spatial(second.shape))
        elif at.shape_of(source) != at.shape_of(other):
            source, other = at.spatial_source(first.place), at.spatial_source(second.place)
    op.input, op.input2 = source, other
    at.emit(op, at.shape_of(source), fused)
    if off >= 0:
        take_off(op, off)


def _with_number(at: Builder, kind: str, first: Operand, second: Operand, off: int, fused: int) -> None:
    """With a single number as second input, the operator is a function of one value: a lookup."""
    assert second.values is not None
    source = at.source(first.place)
    shapes = [at.shape_of(source), (1, 1, 1), at.shape_of(source)]
    grids = [first.grid, second.grid, grid_of(at.target)]
    a, b, out = (Tensor(shape, *grid) for shape, grid in zip(shapes, grids, strict=True))
    op = Op(kind, 0, 2, input2=1)
    fixed_point.derive(QuantModel([a, b, out], [op]), op)
    if off >= 0:
        take_off(op, off)
    if fused:
        at.fuse(op, out, fused)
    table = at.emit(Op("lookup", source, 0), at.shape_of(source))
    set_pair_table(table, op, (a, b, out), int(second.values.reshape(-1)[0]))


def softmax(at: Builder) -> None:
    source = at.channel_source()
    at.want_shape(at.tensor(0).shape)
    beta = at.operator.options.real(0) if at.operator.options else 0.0
    if beta != 1:
        raise at.refusal(f"beta is {beta:g}, must be 1")
    if at.shape_of(source)[2] > MAX_TFLITE_SOFTMAX:
        raise at.refusal(f"{at.shape_of(source)[2]} channels, the limit is {MAX_TFLITE_SOFTMAX}")
    want_grid(at, SOFTMAX_GRID)
    at.emit(Op("softmax", source, 0), at.shape_of(source))


def want_grid(at: Builder, grid: tuple[float, int]) -> None:
    if grid_of(at.target) != grid:
        raise at.refusal(f"output scale and zero point are {grid_of(at.target)}, must be {grid}")


def lookup(at: Builder) -> Op:
    source = at.source()
    at.want_shape(at.tensor(0).shape)
    return at.emit(Op("lookup", source, 0), at.shape_of(source))


def function(at: Builder) -> None:
    """An operator that `fixed_point.derive` supports by name."""
    name = Code(at.operator.code).name.lower()
    if name in ("logistic", "tanh"):
        want_grid(at, {"logistic": LOGISTIC_GRID, "tanh": TANH_GRID}[name])
    op = lookup(at)
    fixed_point.derive(at.model, op, name)
    if name == "logistic":
        at.logistic.add(op.output)


def relu6(at: Builder) -> None:
    at.same_grid(at.source())
    op = lookup(at)
    set_relu6(op, at.model.tensors[op.output])


def leaky_relu(at: Builder) -> None:
    alpha = at.operator.options.real(0) if at.operator.options else 0.0
    if not abs(alpha) < 2**20:
        raise at.refusal(f"alpha is {alpha}")
    op = lookup(at)
    set_leaky_relu(op, at.model.tensors[op.input], at.model.tensors[op.output], alpha)


def hard_swish(at: Builder) -> None:
    op = lookup(at)
    set_hard_swish(op, at.model.tensors[op.input], at.model.tensors[op.output])


def bounded_relu(at: Builder) -> None:
    """ReLU with two bounds, as a separate operator."""
    low, high = {Code.RELU_N1_TO_1: (-1.0, 1.0), Code.RELU_0_TO_1: (0.0, 1.0)}[Code(at.operator.code)]
    op = lookup(at)
    set_relu(op, at.model.tensors[op.input], at.model.tensors[op.output], low, high)


def magnitude(at: Builder) -> None:
    op = lookup(at)
    set_abs(op, at.model.tensors[op.input], at.model.tensors[op.output])


def inverse_root(at: Builder) -> None:
    op = lookup(at)
    set_rsqrt(op, at.model.tensors[op.input], at.model.tensors[op.output])


def root(at: Builder) -> None:
    op = lookup(at)
    set_sqrt(op, at.model.tensors[op.input], at.model.tensors[op.output])


def real_function(at: Builder) -> None:
    """An operator whose table TensorFlow Lite computes in float32."""
    name = Code(at.operator.code).name.lower()
    if name == "gelu" and at.operator.number(0, "B"):
        name = "gelu_tanh"
    op = lookup(at)
    set_real_function(op, name, at.model.tensors[op.input], at.model.tensors[op.output])


HANDLERS = {
    **dict.fromkeys((Code.ADD, Code.SUB, Code.MUL), Handler(pair, 2, 2, options=True)),
    **dict.fromkeys((Code.MINIMUM, Code.MAXIMUM, Code.PRELU, Code.SQUARED_DIFFERENCE), Handler(pair, 2, 2)),
    Code.SOFTMAX: Handler(softmax, 1, 1, options=True),
    Code.LOGISTIC: Handler(function, 1, 1),
    Code.TANH: Handler(function, 1, 1),
    Code.RELU: Handler(function, 1, 1),
    Code.RELU6: Handler(relu6, 1, 1),
    Code.LEAKY_RELU: Handler(leaky_relu, 1, 1, options=True),
    Code.HARD_SWISH: Handler(hard_swish, 1, 1),
    **dict.fromkeys((Code.RELU_N1_TO_1, Code.RELU_0_TO_1), Handler(bounded_relu, 1, 1)),
    Code.ABS: Handler(magnitude, 1, 1),
    Code.RSQRT: Handler(inverse_root, 1, 1),
    Code.SQRT: Handler(root, 1, 1),
    **dict.fromkeys((Code.ELU, Code.EXP, Code.LOG), Handler(real_function, 1, 1)),
    Code.GELU: Handler(real_function, 1, 1, options=True),
}
