"""Writes QuantModels as INT8 `.tflite` files with the same outputs, byte for byte, in TensorFlow Lite Micro.

Runtimes derive multipliers from a file's scales; a `.elm` stores multipliers. The writer computes scales from them and
raises InputError if no scale or operator is bit-exact. Dense layers become 1x1 convolutions, for which all runtimes
support scales by channel.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.formats import fixed_point
from edgelora.core.formats.fixed_point import (
    LOGISTIC_GRID,
    TANH_GRID,
    fused_range,
    quantize_multiplier,
    set_hard_swish,
    set_leaky_relu,
    set_relu6,
    take_off,
)
from edgelora.core.formats.network import WEIGHT_KINDS, Op, QuantModel, Tensor, gather_axes
from edgelora.model.floatnet import layers
from edgelora.model.floatnet.layers import Layer

from .builder import ACTIVATIONS
from .codes import Code
from .file import OPTIONS, Type
from .flatbuffer_writer import Fields, Scalar, build
from .moves import nearest_positions

VERSIONS = {  # TensorFlow Lite's versions of operators with int8 activations; 1 otherwise
    Code.ADD: 2,
    Code.AVERAGE_POOL_2D: 2,
    Code.CONCATENATION: 2,
    Code.CONV_2D: 3,
    Code.DEPTHWISE_CONV_2D: 3,
    Code.LEAKY_RELU: 2,
    Code.LOGISTIC: 2,
    Code.MAX_POOL_2D: 2,
    Code.MAXIMUM: 2,
    Code.MEAN: 2,
    Code.MINIMUM: 2,
    Code.MUL: 2,
    Code.PAD: 2,
    Code.QUANTIZE: 2,
    Code.RELU: 2,
    Code.RELU6: 2,
    Code.RESIZE_NEAREST_NEIGHBOR: 3,
    Code.SOFTMAX: 2,
    Code.STRIDED_SLICE: 2,
    Code.SUB: 2,
    Code.TANH: 2,
    Code.TRANSPOSE: 2,
    Code.TRANSPOSE_CONV: 3,
}
ALPHAS = (0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 0.02, 0.001)  # alphas tried for leaky ReLUs
SAME, VALID = 0, 1
SMALLEST = 2.0**-34  # ratio to the output's scale that gives a multiplier of 0


def write_tflite(model: QuantModel) -> bytes:
    """The `.tflite` file of a model. Raises InputError, which names the op, if it can't be written bit-exactly."""
    writer = _Writer(model)
    for index, op in enumerate(model.ops):
        try:
            writer.op(op)
        except ValueError as error:
            raise InputError(f"op {index} ({op.kind}) can't be written as .tflite: {error}") from error
    return writer.finish()


def scales_of(model: QuantModel, op: Op) -> NDArray[np.float32]:
    """float32 weight scales [O] from which runtimes derive exactly the op's multipliers and shifts."""
    assert op.multiplier is not None and op.shift is not None
    scale_in, scale_out = (float(np.float32(model.tensors[i].scale)) for i in (op.input, op.output))
    found = np.empty(len(op.multiplier), np.float32)
    for channel, pair in enumerate(zip(op.multiplier.tolist(), op.shift.tolist(), strict=True)):
        real = pair[0] * 2.0 ** (pair[1] - 31) if pair[0] else SMALLEST
        found[channel] = real * scale_out / scale_in
        if quantize_multiplier(scale_in * float(found[channel]) / scale_out) != pair:
            raise InputError(
                f"channel {channel} has multiplier {pair[0]} and shift {pair[1]}, to which no scale corresponds"
            )
    return found


class _Writer:
    """Collects the file's buffers, tensors and operators. The first tensors are the model's."""

    def __init__(self, model: QuantModel) -> None:
        self._model = model
        self._buffers: list[Fields] = [{}]
        self._tensors: list[Fields] = []
        self._codes: list[Code] = []
        self._operators: list[Fields] = []
        for tensor in model.tensors:
            self._activation(tensor)

    def finish(self) -> bytes:
        graph: Fields = {
            0: self._tensors,
            1: np.array([0], "<i4"),
            2: np.array([len(self._model.ops)], "<i4"),
            3: self._operators,
            4: "main",
        }
        codes = [
            {0: Scalar("b", min(code, 127)), 2: Scalar("i", VERSIONS.get(code, 1)), 3: Scalar("i", code)}
            for code in self._codes
        ]
        return build({0: Scalar("I", 3), 1: codes, 2: [graph], 3: "EdgeLoRA", 4: self._buffers}, b"TFL3")

    # ---- tensors ----

    def _activation(self, tensor: Tensor) -> int:
        return self._tensor((1, *tensor.shape), Type.INT8, [tensor.scale], [tensor.zero_point])

    def _known(self, values: NDArray[Any], kind: Type) -> int:
        return self._tensor(values.shape, kind, [], [], values)

    def _tensor(
        self,
        shape: tuple[int, ...],
        kind: Type,
        scales: Any,
        zero_points: Any,
        data: NDArray[Any] | None = None,
        axis: int = 0,
    ) -> int:
        fields: dict[int, Any] = {0: np.array(shape, "<i4"), 1: Scalar("b", kind), 3: f"t{len(self._tensors)}"}
        fields[8] = Scalar("B", 1)
        if data is not None:
            fields[2] = Scalar("I", len(self._buffers))
            self._buffers.append({0: np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)})
        if len(scales):
            fields[4] = {2: np.array(scales, "<f4"), 3: np.array(zero_points, "<i8"), 6: Scalar("i", axis)}
        self._tensors.append(fields)
        return len(self._tensors) - 1

    def _operator(self, code: Code, inputs: list[int], output: int, options: Fields | None = None) -> int:
        if code not in self._codes:
            self._codes.append(code)
        fields: dict[int, Any] = {0: Scalar("I", self._codes.index(code)), 1: np.array(inputs, "<i4")}
        fields[2] = np.array([output], "<i4")
        if options is not None:
            fields |= {3: Scalar("B", OPTIONS[code]), 4: options}
        self._operators.append(fields)
        return output

    # ---- operators ----

    def op(self, op: Op) -> None:
        _check_derived(self._model, op)
        handler = getattr(self, f"_{op.kind}", None)
        if handler is None:
            raise InputError(f"a network with {op.kind} comes from a .tflite: merge into that file")
        handler(op)

    def _fused(self, op: Op) -> Scalar:
        """The fused activation with the op's output range."""
        target = self._model.tensors[op.output]
        for code, (_, low, high) in ACTIVATIONS.items():
            if fused_range(target, low, high) == (op.act_min, op.act_max):
                return Scalar("b", code)
        raise InputError(f"its range {op.act_min} to {op.act_max} isn't that of an activation")

    def _window(self, op: Op) -> tuple[int, tuple[tuple[int, int], ...]]:
        """SAME or VALID, and the explicit padding before the operator: pairs for height and width, or none."""
        source, target = self._model.tensors[op.input].shape, self._model.tensors[op.output].shape
        for code, name in ((VALID, "valid"), (SAME, "same")):
            with contextlib.suppress(ValueError):  # the kernel is larger than the input
                at = layers.geometry(Layer("conv", op.kernel, op.stride, op.dilation, name), source)
                if (at.output, (at.pad_h[0], at.pad_w[0])) == (target[:2], op.padding):
                    return code, ()
        sides = []
        for axis in range(2):
            reach = (target[axis] - 1) * op.stride[axis] + (op.kernel[axis] - 1) * op.dilation[axis] + 1
            behind = reach - source[axis] - op.padding[axis]
            if behind <= -op.stride[axis]:
                raise InputError(f"its output is {target[:2]}, smaller than its windows give")
            sides.append((op.padding[axis], max(behind, 0)))
        return VALID, tuple(sides)

    def _padded(self, op: Op, sides: tuple[tuple[int, int], ...]) -> int:
        """The op's input, padded by these numbers of positions."""
        if not sides:
            return op.input
        source = self._model.tensors[op.input]
        height, width = (n + sum(pair) for n, pair in zip(source.shape, sides, strict=False))
        padded = self._activation(replace(source, shape=(height, width, source.shape[2])))
        return self._pad_operator(op.input, padded, sides)

    def _pad_operator(self, source: int, target: int, sides: tuple[tuple[int, int], ...]) -> int:
        pairs = np.array([(0, 0), *sides, (0, 0)], "<i4")
        return self._operator(Code.PAD, [source, self._known(pairs, Type.INT32)], target, {})

    def _weights(self, op: Op, shape: tuple[int, ...], axis: int) -> list[int]:
        assert op.weights is not None and op.bias is not None
        scales = scales_of(self._model, op)
        zeros = [0] * len(scales)
        weights = self._tensor(shape, Type.INT8, scales, zeros, op.weights, axis)
        products = np.float32(self._model.tensors[op.input].scale) * scales
        return [weights, self._tensor(op.bias.shape, Type.INT32, products, zeros, op.bias.astype("<i4"))]

    def _strides(self, op: Op) -> dict[int, Scalar]:
        return {1: Scalar("i", op.stride[1]), 2: Scalar("i", op.stride[0])}

    def _conv(self, op: Op) -> None:
        assert op.weights is not None
        maker = self._model.ops[op.input - 1] if op.input else op
        if maker.kind == "pad" and maker.stride != (1, 1):
            self._transposed_conv(op, maker)
            return
        padding, sides = self._window(op)
        inputs = [self._padded(op, sides), *self._weights(op, op.weights.shape, 0)]
        options = {0: Scalar("b", padding), **self._strides(op), 3: self._fused(op)}
        options |= {4: Scalar("i", op.dilation[1]), 5: Scalar("i", op.dilation[0])}
        self._operator(Code.CONV_2D, inputs, op.output, options)

    def _transposed_conv(self, op: Op, pad: Op) -> None:
        """Writes a pad with stride and the conv after it as one TRANSPOSE_CONV."""
        assert op.weights is not None
        target = self._model.tensors[op.output].shape
        weights, bias = self._weights(replace(op, weights=op.weights[:, ::-1, ::-1]), op.weights.shape, 0)
        inputs = [self._known(np.array((1, *target), "<i4"), Type.INT32), weights, pad.input, bias]
        options = {
            0: Scalar("b", self._transposed_padding(op, pad)),
            1: Scalar("i", pad.stride[1]),
            2: Scalar("i", pad.stride[0]),
        }
        self._operator(Code.TRANSPOSE_CONV, inputs, op.output, options | {3: self._fused(op)})

    def _transposed_padding(self, op: Op, pad: Op) -> int:
        """SAME or VALID, for a TRANSPOSE_CONV."""
        source, target = (self._model.tensors[i].shape for i in (pad.input, op.output))
        for code, name in ((SAME, "same"), (VALID, "valid")):
            with contextlib.suppress(ValueError):  # the kernel is larger than the output
                at = layers.geometry(Layer("conv", op.kernel, pad.stride, (1, 1), name), target)
                before = (op.kernel[0] - 1 - at.pad_h[0], op.kernel[1] - 1 - at.pad_w[0])
                if (at.output, before, op.stride, op.dilation) == (source[:2], op.padding, (1, 1), (1, 1)):
                    return code
        raise InputError("its windows after inserted zeros don't match a TRANSPOSE_CONV")

    def _depthwise(self, op: Op) -> None:
        assert op.weights is not None
        padding, sides = self._window(op)
        inputs = [self._padded(op, sides), *self._weights(op, (1, *op.weights.shape), 3)]
        times = self._model.tensors[op.output].shape[2] // self._model.tensors[op.input].shape[2]
        options = {0: Scalar("b", padding), **self._strides(op), 3: Scalar("i", times), 4: self._fused(op)}
        options |= {5: Scalar("i", op.dilation[1]), 6: Scalar("i", op.dilation[0])}
        self._operator(Code.DEPTHWISE_CONV_2D, inputs, op.output, options)

    def _dense(self, op: Op) -> None:
        assert op.weights is not None
        source = self._model.tensors[op.input]
        flat, read = (1, 1, source.size), op.input
        if source.shape != flat:
            read = self._reshaped(op.input, self._activation(replace(source, shape=flat)), flat)
        inputs = [read, *self._weights(op, (len(op.weights), *flat), 0)]
        one = Scalar("i", 1)
        options = {0: Scalar("b", VALID), 1: one, 2: one, 3: self._fused(op), 4: one, 5: one}
        self._operator(Code.CONV_2D, inputs, op.output, options)

    def _pool(self, op: Op) -> None:
        padding, sides = self._window(op)
        if any(map(any, sides)):
            raise InputError(f"its padding {op.padding} is neither SAME nor VALID")
        options = {0: Scalar("b", padding), **self._strides(op), 5: self._fused(op)}
        options |= {3: Scalar("i", op.kernel[1]), 4: Scalar("i", op.kernel[0])}
        code = Code.MAX_POOL_2D if op.kind == "max_pool" else Code.AVERAGE_POOL_2D
        self._operator(code, [op.input], op.output, options)

    _max_pool = _average_pool = _pool

    def _mean(self, op: Op) -> None:
        axes = self._known(np.array([1, 2], "<i4"), Type.INT32)
        self._operator(Code.MEAN, [op.input, axes], op.output, {0: Scalar("B", 1)})
        if (op.act_min, op.act_max) != (-128, 127):
            raise InputError("a mean with an activation isn't an operator")

    def _constant(self, op: Op) -> None:
        assert op.values is not None
        self._tensors[op.output] = {**self._tensors[op.output], 2: Scalar("I", len(self._buffers))}
        self._buffers.append({0: np.frombuffer(op.values.tobytes(), np.uint8)})

    def _add(self, op: Op) -> None:
        off = _taken_off(op)
        inputs = [op.input, op.input2] if off != [0] else [op.input2, op.input]
        if len(off) > 1:
            raise InputError("it subtracts both inputs")
        self._operator(Code.SUB if off else Code.ADD, inputs, op.output, {0: self._fused(op)})

    def _multiply(self, op: Op) -> None:
        self._operator(Code.MUL, [op.input, op.input2], op.output, {0: self._fused(op)})

    def _minimum(self, op: Op) -> None:
        self._operator(Code.MINIMUM, [op.input, op.input2], op.output, {})

    def _maximum(self, op: Op) -> None:
        self._operator(Code.MAXIMUM, [op.input, op.input2], op.output, {})

    def _squared_difference(self, op: Op) -> None:
        self._operator(Code.SQUARED_DIFFERENCE, [op.input, op.input2], op.output)

    def _matmul(self, op: Op) -> None:
        self._operator(Code.BATCH_MATMUL, [op.input, op.input2], op.output, {1: Scalar("B", 1)})

    def _prelu(self, op: Op) -> None:
        self._operator(Code.PRELU, [op.input, op.input2], op.output)

    def _gather(self, op: Op) -> None:
        if op.positions is None:
            order = [gather_axes(op).index(axis) + 1 for axis in range(3)]
            inputs = [op.input, self._known(np.array([0, *order], "<i4"), Type.INT32)]
            self._operator(Code.TRANSPOSE, inputs, op.output, {})
            return
        source, target = (self._model.tensors[i].shape for i in (op.input, op.output))
        for align, half in ((False, False), (False, True), (True, False)):
            if op.axes == (1, 2) and np.array_equal(op.positions, nearest_positions(source, target, align, half)):
                inputs = [op.input, self._known(np.array(target[:2], "<i4"), Type.INT32)]
                options = {0: Scalar("B", align), 1: Scalar("B", half)}
                self._operator(Code.RESIZE_NEAREST_NEIGHBOR, inputs, op.output, options)
                return
        raise InputError("its positions don't match a resize operator")

    def _concatenate(self, op: Op) -> None:
        self._operator(Code.CONCATENATION, [op.input, op.input2], op.output, {0: Scalar("i", op.axis)})

    def _pad(self, op: Op) -> None:
        if op.stride != (1, 1):
            self._check_transposed(op)
            return  # written with the conv that reads it
        source, target = self._model.tensors[op.input].shape, self._model.tensors[op.output].shape
        (top, left), rest = op.padding, [target[axis] - source[axis] - op.padding[axis] for axis in range(2)]
        self._pad_operator(op.input, op.output, ((top, rest[0]), (left, rest[1])))

    def _check_transposed(self, op: Op) -> None:
        shape = self._model.tensors[op.input].shape
        sides = tuple((shape[i] - 1) * op.stride[i] + 1 for i in (0, 1))
        fits = (sides, op.padding) == (self._model.tensors[op.output].shape[:2], (0, 0))
        kinds = {reader.kind for reader in self._model.ops if op.output in reader.inputs}
        if kinds != {"conv"} or not fits:
            raise InputError("inserted zeros can only be part of a TRANSPOSE_CONV, followed by a conv")

    def _reshape(self, op: Op) -> None:
        self._reshaped(op.input, op.output, self._model.tensors[op.output].shape)

    def _reshaped(self, source: int, target: int, shape: tuple[int, ...]) -> int:
        wanted = np.array((1, *shape), "<i4")
        return self._operator(Code.RESHAPE, [source, self._known(wanted, Type.INT32)], target, {0: wanted})

    def _slice(self, op: Op) -> None:
        shape = (1, *self._model.tensors[op.output].shape)
        begin = np.array([op.start if axis == op.axis else 0 for axis in range(4)], "<i4")
        bounds = [begin, begin + np.array(shape, "<i4"), np.ones(4, "<i4")]
        inputs = [op.input, *(self._known(values.astype("<i4"), Type.INT32) for values in bounds)]
        self._operator(Code.STRIDED_SLICE, inputs, op.output, {})

    def _softmax(self, op: Op) -> None:
        self._operator(Code.SOFTMAX, [op.input], op.output, {0: Scalar("f", 1.0)})

    def _lookup(self, op: Op) -> None:
        for code, options, table in self._tables(op):
            if table is not None and op.table is not None and np.array_equal(table, op.table):
                self._operator(code, [op.input], op.output, options)
                return
        raise InputError("its table isn't that of any TensorFlow Lite operator")

    def _tables(self, op: Op) -> Iterator[tuple[Code, Fields | None, NDArray[np.int8] | None]]:
        """Candidate operators for a lookup on the op's grids, and their tables."""
        source, target = self._model.tensors[op.input], self._model.tensors[op.output]
        grid = (target.scale, target.zero_point)
        named: dict[str, tuple[Code, Fields | None]] = {"requantize": (Code.QUANTIZE, {}), "relu": (Code.RELU, None)}
        named |= {"logistic": (Code.LOGISTIC, None)} if grid == LOGISTIC_GRID else {}
        named |= {"tanh": (Code.TANH, None)} if grid == TANH_GRID else {}
        trial = replace(op)
        for name, (code, options) in named.items():
            fixed_point.derive(self._model, trial, name)
            yield code, options, trial.table
        if grid == (source.scale, source.zero_point):
            set_relu6(trial, target)
            yield Code.RELU6, None, trial.table
        for alpha in ALPHAS:
            set_leaky_relu(trial, source, target, alpha)
            yield Code.LEAKY_RELU, {0: Scalar("f", alpha)}, trial.table
        set_hard_swish(trial, source, target)
        yield Code.HARD_SWISH, {}, trial.table


def _taken_off(op: Op) -> list[int]:
    """Positions of the inputs that an add subtracts."""
    return [] if op.kind != "add" or op.multiplier is None else np.flatnonzero(op.multiplier[:2] < 0).tolist()


def _check_derived(model: QuantModel, op: Op) -> None:
    """Raises if an op's multipliers or tables differ from those derived from its tensors' scales."""
    if op.kind in WEIGHT_KINDS or op.kind == "lookup":
        return
    again = replace(op)
    fixed_point.derive(model, again)
    for place in _taken_off(op):
        take_off(again, place)
    for name in ("multiplier", "shift", "exponentials"):
        mine, its = getattr(op, name), getattr(again, name)
        if mine is not None and not np.array_equal(mine, its):
            raise InputError(f"its {name} {mine[:3]} differs from {its[:3]}, which its tensors' scales give")
