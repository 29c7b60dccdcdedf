"""A quantized network in real numbers, op by op."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.fixed_point import logistic_16, multiply, saturate_16, tanh_16
from edgelora.core.formats.network import LSTM_SCALES, PAIR_KINDS, STREAM_KINDS, Op, QuantModel, gather_axes, ids_of
from edgelora.model.floatnet import attention, layers
from edgelora.model.floatnet.layers import Array, Layer, layer_forward

# ---- simulation and calibration --------------------------------------------------------------------------------------


def simulate(model: QuantModel, x: Array) -> list[Array]:
    """Real activations [N, H, W, C] of the INT8 network for real inputs x: the input's, then every op's output.

    Computed in float64 with real multipliers and rounding half up: differs from the device by at most a step where a
    product falls next to a half. Not for networks with history.
    """
    return [model.tensors[i].dequantize(q) for i, q in enumerate(_grids(model, x))]


def _grids(model: QuantModel, x: Array) -> list[Array]:
    """The same on the tensors' grids, in float64."""
    grids: list[Array] = [model.quantize(x).astype(np.float64)]
    for op in model.ops:
        grids.append(simulate_op(model, op, *(grids[source] for source in op.inputs or (0,))))
    return grids


def simulate_op(model: QuantModel, op: Op, q: Array, *others: Array) -> Array:
    """Output on its grid of one op for its inputs on their grids, all [N, H, W, C] in float64."""
    source, target = model.tensors[op.input], model.tensors[op.output]
    other = others[0] if others else None
    if op.kind in STREAM_KINDS:
        added = np.clip(np.floor(_added(model, op, q) + 0.5), *target.limits)
        stream = added + (0.0 if other is None else other)
        return np.asarray(np.clip(stream, *target.limits))
    if op.kind == "lookup" and op.table is not None:
        return op.table[q.astype(np.int64) + 128].astype(np.float64)
    if op.kind == "constant" and op.values is not None:
        return np.broadcast_to(op.values.astype(np.float64), (len(q), *op.values.shape))
    if op.kind == "gather":
        return _gathered(model, op, q)
    if other is not None and op.kind in ("minimum", "maximum"):
        return np.minimum(q, other) if op.kind == "minimum" else np.maximum(q, other)
    if op.kind == "reshape":
        return q.reshape(len(q), *target.shape)
    if op.kind == "pad":
        return _padded(model, op, q)
    if op.kind == "concatenate" and other is not None:
        return np.concatenate([q, other], axis=op.axis)
    if op.kind == "slice":
        return np.take(q, np.arange(op.start, op.start + target.shape[op.axis - 1]), axis=op.axis)
    if op.kind == "lstm":
        return _lstm(model, op, q)
    if op.kind == "svdf_features":
        return _svdf_features(model, op, q)
    if op.kind == "svdf_time" and op.taps is not None:
        rows = np.ascontiguousarray(q.astype(np.int8)).view("<i2").reshape(len(q), *op.taps.transpose(1, 0, 2).shape)
        sums = np.einsum("nmur,umr->nu", rows.astype(np.int64), op.taps.astype(np.int64)) + op.bias
        made = _scaled(op, (sums + 2**31) % 2**32 - 2**31) + target.zero_point
        return np.clip(made, -128, 127).reshape(len(q), *target.shape).astype(np.float64)
    if op.weights is not None and op.bias is not None and op.weight_scale is not None:
        total: Array = (accumulators(model, op, q) + op.bias) * (source.scale * op.weight_scale / target.scale)
    elif other is not None and op.kind in PAIR_KINDS:
        total = _pair(op, source.dequantize(q), model.tensors[op.input2].dequantize(other)) / target.scale
    elif op.kind == "matmul" and other is not None:
        a, b = source.dequantize(q), model.tensors[op.input2].dequantize(other)
        total = a @ b.swapaxes(-1, -2) / target.scale
    elif op.kind == "norm":
        total = _norm(model, op, q) / target.scale
    elif op.kind == "rotate" and op.angles is not None:
        total = attention.rotated(q, op.angles / 32767.0)
    elif op.kind == "attend":
        k, v = (model.tensors[i].dequantize(grid) for i, grid in zip(op.inputs[1:], others, strict=True))
        total = attention.attend(source.dequantize(q), k, v, op.heads, op.causal) / target.scale
    elif op.kind == "softmax":
        total = layer_forward(float_layer(model, op), source.dequantize(q)) / target.scale
    else:
        centred = q - source.zero_point
        total = layer_forward(float_layer(model, op), centred) * (source.scale / target.scale)
    return np.asarray(np.clip(np.floor(total + 0.5) + target.zero_point, op.act_min, op.act_max))


def _added(model: QuantModel, op: Op, q: Array) -> Array:
    """What an op adds to a stream, in its steps."""
    source, target = model.tensors[op.input], model.tensors[op.output]
    if op.embedding is not None:
        assert op.weight_scale is not None
        ids = ids_of(q.astype(np.int64))
        known = ids < len(op.embedding)
        rows = op.embedding[np.where(known, ids, 0)] * (op.weight_scale[0] / target.scale)
        return np.where(known[..., None], rows, 0.0)
    if op.kind == "widen":
        return source.dequantize(q) / target.scale
    assert op.bias is not None and op.weight_scale is not None
    return (accumulators(model, op, q) + op.bias) * (source.scale * op.weight_scale / target.scale)


def _norm(model: QuantModel, op: Op, q: Array) -> Array:
    assert op.gain is not None and op.bias is not None and op.multiplier is not None and op.shift is not None
    source, target = model.tensors[op.input], model.tensors[op.output]
    unit = target.scale * 2.0 ** -int(op.shift[0])
    epsilon = float(op.multiplier[0]) * (source.scale / source.shape[2]) ** 2
    return attention.norm(source.dequantize(q), op.gain * unit, op.bias * (unit / 2**11), op.centred, epsilon)


def _pair(op: Op, a: Array, b: Array) -> Array:
    """Two real inputs, element by element."""
    if op.kind == "multiply":
        return a * b
    if op.kind == "squared_difference":
        return np.square(a - b)
    if op.kind == "prelu":
        return np.where(a >= 0, a, a * b)
    assert op.multiplier is not None
    return np.asarray(a * np.sign(op.multiplier[0]) + b * np.sign(op.multiplier[1]))


def _lstm(model: QuantModel, op: Op, q: Array) -> Array:
    """The state after all positions, or the last: bit-exact, as a step's rounding carries over to the next."""
    assert op.weights is not None and op.bias is not None and op.multiplier is not None and op.shift is not None
    weights, bias = op.weights.astype(np.int64), op.bias.astype(np.int64)
    units, _, inputs = weights.shape
    inputs -= units
    table, clip = op.multiplier[LSTM_SCALES + 1 :].astype(np.int64), int(op.multiplier[LSTM_SCALES])
    zero, power = (int(value) for value in op.shift[LSTM_SCALES:])
    x = q.astype(np.int64).reshape(len(q), -1, inputs)
    state, cell, states = np.full((len(q), units), zero), np.zeros((len(q), units), np.int64), []
    for step in range(x.shape[1]):
        gates = []
        for gate in range(4):
            own = _scaled(op, x[:, step] @ weights[:, gate, :inputs].T + bias[:, gate, 0], 2 * gate)
            back = _scaled(op, state @ weights[:, gate, inputs:].T + bias[:, gate, 1], 2 * gate + 1)
            gates.append(saturate_16(saturate_16(own) + saturate_16(back)))
        admit, keep, out = (logistic_16(gates[gate], table) for gate in (0, 1, 3))
        admitted = saturate_16(_scaled(op, admit * tanh_16(gates[2], table, 0), 9))
        cell = np.clip(saturate_16(saturate_16(_scaled(op, keep * cell, 8)) + admitted), -clip, clip)
        state = np.clip(_scaled(op, out * tanh_16(cell, table, power), 10) + zero, -128, 127)
        states.append(state)
    target = model.tensors[op.output]
    made = np.stack(states[-target.positions :], axis=1).reshape(len(q), *target.shape)
    return made.astype(np.float64)


def _svdf_features(model: QuantModel, op: Op, q: Array) -> Array:
    """Bit-exact, as values have two bytes each."""
    assert op.weights is not None and op.bias is not None
    centred = (q.reshape(len(q), -1) - model.tensors[op.input].zero_point).astype(np.int64)
    values = np.clip(_scaled(op, centred @ op.weights.astype(np.int64).T + op.bias), -(2**15), 2**15 - 1)
    return values.astype("<i2").view(np.int8).reshape(len(q), 1, 1, -1).astype(np.float64)


def _scaled(op: Op, acc: NDArray[np.int64], place: int = 0) -> NDArray[np.int64]:
    """By one of the op's multipliers."""
    assert op.multiplier is not None and op.shift is not None
    return multiply(acc, int(op.multiplier[place]), int(op.shift[place]))


def _gathered(model: QuantModel, op: Op, q: Array) -> Array:
    axes, target = gather_axes(op), model.tensors[op.output].shape
    if op.positions is not None:
        parts = np.split(op.positions, np.cumsum([target[axis] for axis in axes])[:-1])
        q = q[:, parts[0]][:, :, parts[1]][:, :, :, parts[2]]
    return np.transpose(q, (0, *(axes.index(axis) + 1 for axis in range(3))))


def _padded(model: QuantModel, op: Op, q: Array) -> Array:
    """Zeros around the input's positions and, with strides, between them."""
    target = model.tensors[op.output]
    rows, columns = (
        slice(before, before + step * n, step)
        for before, step, n in zip(op.padding, op.stride, q.shape[1:], strict=False)
    )
    padded = np.full((len(q), *target.shape), float(target.zero_point))
    padded[:, rows, columns] = q
    return padded


def accumulators(model: QuantModel, op: Op, q: Array) -> Array:
    """The int32 accumulators of an op with weights, without bias, in float64, for its input on the int8 grid."""
    assert op.weights is not None
    return _product(model, op, op.weights, q)


def _product(model: QuantModel, op: Op, weights: NDArray[Any], q: Array) -> Array:
    centred = q - model.tensors[op.input].zero_point
    return layers.linear(float_layer(model, op), weights.astype(np.float64), centred)


def float_layer(model: QuantModel, op: Op) -> Layer:
    """The op's geometry as a float layer's; what padding lies behind the input follows from the output's shape."""
    source, target = model.tensors[op.input].shape, model.tensors[op.output].shape
    sides = []
    for i in (0, 1):
        reach = (target[i] - 1) * op.stride[i] + (op.kernel[i] - 1) * op.dilation[i] + 1
        sides.append((op.padding[i], max(0, reach - op.padding[i] - source[i])))
    return Layer(op.kind, op.kernel, op.stride, op.dilation, (sides[0], sides[1]))
