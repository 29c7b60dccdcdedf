"""UNIDIRECTIONAL_SEQUENCE_LSTM: one op, which begins every inference with an empty state.

TensorFlow Lite keeps the state between inferences until the interpreter is reset. Keras layers start every window with
an empty state, and so does a base.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.fixed_point import logistic_table, quantize_multiplier, set_multipliers
from edgelora.core.formats.limits import MAX_BIAS, MAX_TANH_SHIFT, MIN_TANH_SHIFT
from edgelora.core.formats.network import LSTM_SCALES, Op

from . import slices
from .builder import Builder, Handler, grid_of, spatial
from .codes import Code
from .file import FileTensor, Operator, Type
from .flatbuffer import TfliteError
from .layers import bias_of, weights_of
from .refusals import CONVERT

_GATES = ("input", "forget", "cell", "output")
_INPUT, _STATE_WEIGHTS, _BIASES = 1, 5, 12  # input positions of the first gate
LSTM_STATE, _CELL = 18, 19
_LEFT_OUT = {  # inputs that TensorFlow Lite Micro ignores
    "peephole connections, from the cell to the gates,": (9, 10, 11),
    "a projection of its state": (16, 17),
    "layer normalization": (20, 21, 22, 23),
}
_TANH = 4
_Q12 = 12
_GATE_GRID = 2.0**-_Q12  # scale of a gate before its activation
_UNIT_GRID = 2.0**-15  # scale of an activation's output


def lstm(at: Builder) -> None:
    """An lstm op. If only the last position of its output is read, it outputs that one alone."""
    x, state, cell = at.tensor(0), at.tensor(LSTM_STATE), at.tensor(_CELL)
    units = state.shape[-1] if state.shape else 0
    _check_form(at, x, units)
    for name, place, wanted in (("state", LSTM_STATE, Type.INT8), ("cell", _CELL, Type.INT16)):
        _check_state(at, name, place, wanted, units)
    steps, inputs = x.shape[1:]
    at.want_shape((1, steps, units))
    if steps == 1:
        raise at.refusal(
            "sees one position, but its state doesn't last from one inference to the next: give it complete windows"
        )
    source = at.reshaped(at.source(), (1, steps, inputs))
    scale, zero_point = grid_of(state)
    op = Op("lstm", source, 0)
    _set_gates(at, op, inputs, units, scale, zero_point)
    power = _power_of(at, cell)
    _set_scales(at, op, power, scale, zero_point)
    reader = _last_reader(at)
    if reader:
        at.inner.add(reader.index)
        output = reader.outputs[0]
        made = at.append(op, (1, 1, units), *grid_of(at.target))
        at.found[output] = made
    else:
        at.emit(op, (1, steps, units))


def _check_form(at: Builder, x: FileTensor, units: int) -> None:
    if len(x.shape) != 3 or x.shape[0] != 1 or not units:
        raise at.refusal(f"its input is {list(x.shape)}, must be [1, positions, channels]; {CONVERT}")
    given = at.operator.inputs
    for what, places in _LEFT_OUT.items():
        if any(given[place] >= 0 for place in places):
            raise at.refusal(f"has {what} which TensorFlow Lite Micro doesn't support: use a plain LSTM layer")
    if given[_INPUT] < 0 or given[_STATE_WEIGHTS] < 0:
        raise at.refusal("has no input gate, which TensorFlow Lite Micro requires: use a plain LSTM layer")
    if at.operator.number(0, "b") != _TANH:
        raise at.refusal(f"its activation is number {at.operator.number(0, 'b')}, must be tanh")
    if at.operator.number(3, "B"):
        raise at.refusal("its input's first axis is time, must be the batch: convert a Keras layer without time_major")


def _check_state(at: Builder, name: str, place: int, wanted: Type, units: int) -> None:
    """Raises unless the state is a variable of the wanted type and shape that no other operator uses."""
    tensor, number = at.tensor(place), at.operator.inputs[place]
    users = sum(number in (*operator.inputs, *operator.outputs) for operator in at.graph.operators)
    if tensor.type != wanted or not tensor.is_variable or tensor.data is not None or users > 1:
        raise at.refusal(
            f"its {name} '{tensor.name}' is {tensor.type_name}, must be {wanted.name.lower()}, a variable without a "
            f"value, and used nowhere else; {CONVERT}"
        )
    if tensor.shape != (1, units):
        raise at.refusal(f"its {name} '{tensor.name}' is {list(tensor.shape)}, must be [1, {units}]")
    if place == _CELL and (len(tensor.scale) != 1 or tensor.zero_point.tolist() != [0]):
        raise at.refusal(f"its {name} '{tensor.name}' must have one scale and zero point 0; {CONVERT}")


def _power_of(at: Builder, cell: FileTensor) -> int:
    """log2 of the cell's scale, which must be a power of two."""
    mantissa, exponent = math.frexp(float(cell.scale[0]))
    if mantissa != 0.5:
        raise at.refusal(f"its cell '{cell.name}' has scale {float(cell.scale[0]):g}, must be a power of two")
    power = exponent - 1
    least, most = (limit - _Q12 for limit in (MIN_TANH_SHIFT, MAX_TANH_SHIFT))
    if not least <= power <= most:
        raise at.refusal(f"its cell '{cell.name}' has scale 2^{power}, must be 2^{least} to 2^{most}")
    return power


def _set_gates(at: Builder, op: Op, inputs: int, units: int, scale: float, zero_point: int) -> None:
    """Sets weights [units, 4, inputs + units], biases [units, 4, 2] and multipliers of both parts of each gate."""
    source = at.model.tensors[op.input]
    weights, bias, pairs = [], [], []
    for gate in range(len(_GATES)):
        own, own_scale = _plain_weights(at, _INPUT + gate, (units, inputs))
        back, back_scale = _plain_weights(at, _STATE_WEIGHTS + gate, (units, units))
        weights.append(np.hstack([own, back]))
        shares = (source.zero_point * own.sum(axis=1, dtype=np.int64), zero_point * back.sum(axis=1, dtype=np.int64))
        bias.append(np.stack([bias_of(at, units, place=_BIASES + gate) - shares[0], -shares[1]], axis=1))
        for grid, weight_scale in ((source.scale, own_scale), (scale, back_scale)):
            pairs.append(quantize_multiplier(float(np.float32(grid)) * weight_scale / _GATE_GRID))
    op.weights = np.stack(weights, axis=1).astype(np.int8)
    whole = np.stack(bias, axis=1)
    if (np.abs(whole) > MAX_BIAS).any():
        raise at.refusal(
            f"a gate has a bias of {int(np.abs(whole).max())} with the zero point folded in, the "
            f"limit is {MAX_BIAS}: its weights are too small for their bias"
        )
    op.bias = whole.astype(np.int32)
    set_multipliers(op, pairs)


def _plain_weights(at: Builder, place: int, shape: tuple[int, int]) -> tuple[NDArray[np.int8], float]:
    weights, scale = weights_of(at, place, shape[0], 0)
    tensor = at.tensor(place)
    if tensor.shape != shape or len(tensor.scale) != 1:
        raise at.refusal(f"its weights '{tensor.name}' are {list(tensor.shape)}, must be {list(shape)} of one scale")
    return weights, float(np.float32(scale[0]))


def _set_scales(at: Builder, op: Op, power: int, scale: float, zero_point: int) -> None:
    """Appends the multipliers of cell, admitted input and output, the clip and the logistic function's table."""
    assert op.multiplier is not None and op.shift is not None
    reals = (_UNIT_GRID, _UNIT_GRID**2 / 2.0**power, _UNIT_GRID**2 / float(np.float32(scale)))
    more = [quantize_multiplier(real) for real in reals]
    clip = at.operator.options.real(1) if at.operator.options else 0.0
    if not clip >= 0:
        raise at.refusal(f"clips its cell at {clip:g}, must be 0 or more: the file is damaged")
    steps = int(min(clip / 2.0**power, 32767.0)) if clip > 0 else 1 << 15
    multipliers = [*op.multiplier.tolist(), *(multiplier for multiplier, _ in more)]
    shifts = [*op.shift.tolist(), *(shift for _, shift in more)]
    op.multiplier = np.array([*multipliers, steps, *logistic_table()], np.int32)
    op.shift = np.array([*shifts, zero_point, power + _Q12], np.int8)
    assert len(op.shift) == LSTM_SCALES + 2


def _last_reader(at: Builder) -> Operator | None:
    """The slice of the last position of the current operator's output, if nothing else reads the output."""
    output = at.operator.outputs[0]
    readers = [operator for operator in at.graph.operators if output in operator.inputs]
    if output == at.graph.output or len(readers) != 1:
        return None
    reader, shape = readers[0], at.target.shape
    if reader.code not in (Code.STRIDED_SLICE, Code.SLICE) or len(reader.outputs) != 1 or len(reader.inputs) < 3:
        return None
    made = at.graph.tensors[reader.outputs[0]]
    try:
        part = slices.sliced(reader, shape, lambda place: _constants(at, reader, place))
        alike = made.type == Type.INT8 and grid_of(made) == grid_of(at.target)
    except TfliteError:
        return None  # reported when the reader is imported
    last = part.cut == [1] and part.bounds[1] == (shape[1] - 1, shape[1]) and part.told_shape == made.shape
    return reader if last and alike and spatial(made.shape) == (1, 1, shape[2]) else None


def _constants(at: Builder, operator: Operator, place: int) -> list[int]:
    index = operator.inputs[place] if place < len(operator.inputs) else -1
    tensor = at.graph.tensors[index] if index >= 0 else None
    if tensor is None or tensor.data is None or tensor.type not in (Type.INT32, Type.INT64):
        raise TfliteError("its bounds must be constants")
    return [int(value) for value in tensor.values().reshape(-1)]


HANDLERS = {Code.UNIDIRECTIONAL_SEQUENCE_LSTM: Handler(lstm, 24, 24, options=True)}
