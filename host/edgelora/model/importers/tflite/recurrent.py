"""Operators of networks with state: variables that are ring buffers, and SVDF."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.fixed_point import quantize_multiplier, set_multipliers
from edgelora.core.formats.network import Op

from .builder import ACTIVATIONS, Builder, Handler, grid_of, spatial
from .codes import Code
from .file import FileTensor, Type
from .layers import bias_of, weights_of
from .refusals import CONVERT

_STATE = "its state and its weights over time must both be int8 or both int16"
_BIAS_TOLERANCE = 1e-5  # TensorFlow Lite Micro's, absolute


def variable(at: Builder) -> None:
    """Operators on variables that need no op; READ_VARIABLE's handler finds the ring buffer."""


def read_variable(at: Builder) -> None:
    """Registers a ring buffer; its CONCATENATION emits the op."""
    ring = at.state.ring(at.operator)
    at.rings[ring.join.index] = ring
    at.inner |= ring.inner
    for tensor in ring.held:
        at.same_as(at.graph.tensors[tensor], at.graph.tensors[ring.join.outputs[0]])


def history(at: Builder) -> None:
    initial = at.rings[at.operator.index].initial
    if at.operator.number(1, "b"):
        raise at.refusal("a fused activation isn't supported here: move it to the layers before")
    source = at.source(1)
    at.same_grid(source)
    op = at.emit(Op("history", source, 0), spatial(at.target.shape))
    if (initial != at.model.tensors[op.output].zero_point).any():
        op.initial = initial.astype(np.int8)


def svdf(at: Builder) -> None:
    """SVDF: computes filters of the input, keeps their history, and sums over time and filters for each unit.

    A unit has `rank` filters.
    """
    rank, fused = at.operator.number(0, "i"), at.operator.number(1, "b")
    x, features, times, state = (at.tensor(place) for place in (0, 1, 2, 4))
    filters, inputs = features.shape if len(features.shape) == 2 else (0, 0)
    memory = times.shape[1] if len(times.shape) == 2 else 0
    if not 1 <= rank <= filters or filters % rank or x.shape != (1, inputs) or times.shape != (filters, memory):
        shapes = f"{list(features.shape)} and {list(times.shape)} of rank {rank}"
        raise at.refusal(f"weights {shapes} for an input {list(x.shape)}; they must be [filters, inputs], [filters, n]")
    units = filters // rank
    at.want_shape((1, units))
    _check_state(at, state, filters * memory)
    scale, zero_point = grid_of(state)
    if zero_point:
        raise at.refusal(f"its state '{state.name}' has zero point {zero_point}, must be 0")
    bias = bias_of(at, units, place=3)
    _check_scales(at, scale)
    (_narrow if state.type == Type.INT8 else _wide)(at, bias, rank, memory, scale)
    op = at.model.ops[-1]
    if fused and op.act_min > -128 or op.act_max < 127:
        name = ACTIVATIONS[fused][0]
        raise at.refusal(f"TensorFlow Lite Micro skips its activation {name}: its output's range must begin at 0")


def _narrow(at: Builder, bias: NDArray[np.int32], rank: int, memory: int, scale: float) -> None:
    """With int8 state: a dense layer, a history and a depthwise convolution.

    The history is [memory, rank, units], so one depthwise kernel sums over memory and the filters of a unit.
    """
    source, units, fused = at.source(), len(bias), at.operator.number(1, "b")
    x, features, times = (at.tensor(place) for place in range(3))
    filters, inputs = features.shape
    over_time, time_scale = weights_of(at, 2, units, 0)
    over_features, feature_scale = weights_of(at, 1, filters, 0)
    by_rank = over_features.reshape(units, rank, inputs).swapaxes(0, 1).reshape(filters, 1, 1, inputs)
    dense = Op("dense", source, 0, weights=by_rank, bias=np.zeros(filters, np.int32), weight_scale=feature_scale)
    _set_multiplier(dense, filters, grid_of(x)[0], features, scale)
    held = at.append(dense, (1, 1, filters), scale, 0)
    if memory > 1:
        held = at.append(Op("history", held, 0), (memory, 1, filters), scale, 0)
    kernel = over_time.reshape(units, rank, memory).transpose(2, 1, 0)
    op = Op("depthwise", at.reshaped(held, (memory, rank, units)), 0, kernel=(memory, rank), weights=kernel, bias=bias)
    op.weight_scale = time_scale
    _set_multiplier(op, units, scale, times, grid_of(at.target)[0])
    at.emit(op, (1, 1, units), fused)


def _wide(at: Builder, bias: NDArray[np.int32], rank: int, memory: int, scale: float) -> None:
    """With int16 state: svdf_features, a history of two bytes for each value, and svdf_time."""
    source, units, fused = at.source(), len(bias), at.operator.number(1, "b")
    x, features, times = (at.tensor(place) for place in range(3))
    filters = features.shape[0]
    weights, _ = weights_of(at, 1, filters, 0)
    op = Op("svdf_features", source, 0, weights=weights, bias=np.zeros(filters, np.int32))
    _set_multiplier(op, 1, grid_of(x)[0], features, scale)
    held = at.append(op, (1, 1, 2 * filters), scale, 0)
    if memory > 1:
        held = at.append(Op("history", held, 0), (memory, 1, 2 * filters), scale, 0)
    if times.data is None or times.zero_point.tolist() != [0]:
        raise at.refusal(f"its weights '{times.name}' must be constants with one scale and zero point 0; {CONVERT}")
    taps = times.values().reshape(units, rank, memory).transpose(0, 2, 1)
    op = Op("svdf_time", held, 0, taps=np.ascontiguousarray(taps), bias=bias)
    _set_multiplier(op, 1, scale, times, grid_of(at.target)[0])
    at.emit(op, (1, 1, units))
    if fused:  # has no effect, else `svdf` raises
        grid = at.model.tensors[op.output]
        at.fuse(op, grid, fused)
        op.mask_low = op.mask_high = False


def _check_state(at: Builder, state: FileTensor, size: int) -> None:
    """Raises unless the state is an int8 or int16 variable that no other operator uses."""
    for tensor in (state, at.tensor(2)):
        if tensor.type not in (Type.INT8, Type.INT16) or tensor.type != state.type:
            raise at.refusal(f"'{tensor.name}' is {tensor.type_name}: {_STATE}; {CONVERT}")
    number = at.operator.inputs[4]
    users = sum(number in (*operator.inputs, *operator.outputs) for operator in at.graph.operators)
    if not state.is_variable or state.data is not None or users > 1:
        raise at.refusal(f"its state '{state.name}' must be a variable without a value, and used nowhere else")
    if state.shape != (1, size):
        raise at.refusal(f"its state '{state.name}' is {list(state.shape)}, must be [1, {size}]")


def _check_scales(at: Builder, state_scale: float) -> None:
    """Raises for scales by channel, which TensorFlow Lite Micro ignores, or a bias scale that isn't state * weights."""
    if len(at.tensor(1).scale) != 1 or len(at.tensor(2).scale) != 1:
        raise at.refusal(f"its weights must have one scale each; {CONVERT}")
    bias = at.tensor(3)
    bias_scale = float(bias.scale[0]) if len(bias.scale) and len(bias.zero_point) else 0.0
    product = state_scale * float(at.tensor(2).scale[0])
    if not abs(bias_scale - product) < _BIAS_TOLERANCE / 2:
        raise at.refusal(
            f"its bias '{bias.name}' has scale {bias_scale:g}, must be that of state * weights, {product:g}"
        )


def _set_multiplier(op: Op, channels: int, source: float, weights: FileTensor, target: float) -> None:
    """Sets multipliers; TensorFlow Lite Micro divides an SVDF's scales in float32, unlike other layers'."""
    with np.errstate(over="ignore", under="ignore"):
        ratio = np.float32(source) * np.float32(weights.scale[0]) / np.float32(target)
    set_multipliers(op, [quantize_multiplier(float(ratio))] * channels)


HANDLERS = {
    Code.CALL_ONCE: Handler(variable, 0, 0, outputs=0, options=True),
    Code.VAR_HANDLE: Handler(variable, 0, 0, options=True),
    Code.READ_VARIABLE: Handler(read_variable, 1, 1),
    Code.ASSIGN_VARIABLE: Handler(variable, 2, 2, outputs=0),
    Code.SVDF: Handler(svdf, 5, 5, options=True),
}
