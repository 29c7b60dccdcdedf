"""Float operators inside an integer network: DEQUANTIZE, functions of one value, QUANTIZE.

Converters write activations without an INT8 kernel in TensorFlow Lite, such as ELU, in this form. Every value between
DEQUANTIZE and QUANTIZE depends on one int8 value, so the sequence becomes one lookup table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.fixed_point import round_away, set_table
from edgelora.core.formats.limits import MAX_ELEMENTS
from edgelora.core.formats.network import Op

from . import slices
from .codes import Code
from .file import Type

if TYPE_CHECKING:
    from .builder import Builder

Reals = NDArray[np.float32]


@dataclass(frozen=True)
class Real:
    """A float tensor computed elementwise from the model's tensor `source`. values: [256], for int8 -128 to 127."""

    source: int
    values: Reals


_ONE: dict[Code, Callable[[NDArray[np.float64]], NDArray[Any]]] = {
    Code.ABS: np.abs,
    Code.COS: np.cos,
    Code.ELU: lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x),
    Code.EXP: np.exp,
    Code.FLOOR: np.floor,
    Code.LOG: np.log,
    Code.NEG: np.negative,
    Code.RELU: lambda x: np.maximum(x, 0),
    Code.RELU6: lambda x: np.clip(x, 0, 6),
    Code.RSQRT: lambda x: 1 / np.sqrt(x).astype(np.float32),
    Code.SIN: np.sin,
    Code.SQRT: np.sqrt,
    Code.SQUARE: np.square,
    Code.TANH: np.tanh,
}
_TWO: dict[Code, Callable[[Reals, Reals], Reals]] = {
    Code.ADD: np.add,
    Code.SUB: np.subtract,
    Code.MUL: np.multiply,
    Code.DIV: np.divide,
    Code.MAXIMUM: np.maximum,
    Code.MINIMUM: np.minimum,
}
FUNCTIONS = dict.fromkeys(_ONE, 1) | dict.fromkeys(_TWO, 2)  # with their number of inputs


def begin(at: Builder) -> None:
    """DEQUANTIZE of an int8 tensor."""
    source = at.source()
    grid = at.model.tensors[source]
    steps = np.arange(-128, 128, dtype=np.float64) - grid.zero_point
    values = (float(np.float32(grid.scale)) * steps).astype(np.float32)
    at.reals[at.operator.outputs[0]] = Real(source, values)


def compute(at: Builder) -> None:
    """An operator on real numbers, computed in float32 as by TensorFlow Lite's kernels."""
    code = Code(at.operator.code)
    if code == Code.SPLIT:
        return _split(at)
    if code not in FUNCTIONS:
        raise at.refusal("computes on floats, which is supported only for functions of one value")
    if at.target.type != Type.FLOAT32 or at.operator.number(0, "b") and code in _TWO:
        raise at.refusal("makes another type than float32, or has a fused activation, in a float part")
    known = [at.reals[i] for i in at.operator.inputs if i in at.reals]
    if any(real.source != known[0].source for real in known):
        raise at.refusal("computes on floats of two tensors: only functions of one value are supported")
    at.want_shape(max((at.graph.tensors[i].shape for i in at.operator.inputs), key=len))
    with np.errstate(all="ignore"):
        if code in _ONE:
            values = np.asarray(_ONE[code](known[0].values.astype(np.float64)), np.float32)
        else:
            values = np.asarray(_TWO[code](*(_operand(at, place) for place in (0, 1))), np.float32)
    at.reals[at.operator.outputs[0]] = Real(known[0].source, values)


def _split(at: Builder) -> None:
    """Splits a float tensor by slicing its int8 source. Converters leave recurrent layers' SPLITs in float."""
    if at.operator.inputs[1] not in at.reals:
        raise at.refusal("splits along an axis given as a float: the file is damaged")
    real, shape = at.reals[at.operator.inputs[1]], at.tensor(1).shape
    found = slices.split(at.operator, shape, at.integers, len(at.operator.outputs))
    if math.prod(shape) > MAX_ELEMENTS:
        raise at.refusal(f"splits {math.prod(shape)} values, the limit is {MAX_ELEMENTS}")
    places = np.arange(math.prod(shape)).reshape(shape)
    for place, (output, part) in enumerate(zip(at.operator.outputs, found, strict=True)):
        at.want_shape(part.told_shape, place)
        if at.graph.tensors[output].type != Type.FLOAT32:
            raise at.refusal("makes another type than float32 from floats: the file is damaged")
        if output in at.read:
            taken = places[tuple(slice(*bound) for bound in part.bounds)]
            at.reals[output] = Real(at.moved(real.source, taken.reshape(1, -1, taken.shape[-1])), real.values)


def _operand(at: Builder, place: int) -> Reals:
    index, tensor = at.operator.inputs[place], at.tensor(place)
    if index in at.reals:
        return at.reals[index].values
    if tensor.data is None or tensor.type != Type.FLOAT32 or tensor.size != 1:
        raise at.refusal(f"its input '{tensor.name}' must be a single float: only functions of one value are supported")
    return np.asarray(tensor.values().reshape(-1), np.float32)


def end(at: Builder) -> None:
    """QUANTIZE of real numbers: a lookup with the table, and its finite differences as slopes."""
    real = at.reals[at.operator.inputs[0]]
    shape = at.shape_of(real.source)
    op = at.emit(Op("lookup", real.source, 0), shape)
    target = at.model.tensors[op.output]
    with np.errstate(all="ignore"):
        steps = real.values / np.float32(target.scale)
    if not (np.abs(steps) < 2.0**30).all():
        raise at.refusal(
            "some values are NaN, or far outside the output's range: TensorFlow Lite's result is undefined"
        )
    whole = round_away(steps)
    table = np.clip(whole + target.zero_point, -128, 127).astype(np.int8)
    set_table(op, table, np.gradient(steps.astype(np.float64)))
