"""State and helpers shared by all operator handlers: the model being built and the current operator.

TFLite's tensors have up to four axes, a QuantModel's are [height, width, channels]: [1, N] becomes 1x1xN, [1, W, C]
becomes 1xWxC. Operators that only reshape emit no op unless a reader needs the other shape.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats import fixed_point
from edgelora.core.formats.elm import folded_bias
from edgelora.core.formats.fixed_point import bounded_bias, fused_range
from edgelora.core.formats.limits import MAX_BIAS, MAX_OPS
from edgelora.core.formats.network import WEIGHT_KINDS, Op, QuantModel, Tensor
from edgelora.model.floatnet.layers import output_shape
from edgelora.model.importers import moves

from . import float_islands, state
from .file import FileTensor, Graph, Operator, Type
from .flatbuffer import TfliteError
from .refusals import CONVERT

ACTIVATIONS = {  # fused activations and their real bounds
    0: ("NONE", None, None),
    1: ("RELU", 0.0, None),
    2: ("RELU_N1_TO_1", -1.0, 1.0),
    3: ("RELU6", 0.0, 6.0),
}
MAX_AXES = 1024  # most elements of a constant with shapes, axes or bounds
SCALES = (2.0**-60, 2.0**60)  # limits of activation scales: no ratio of two overflows
FORMS: dict[int, str] = {  # kind of file, by its type of activations
    Type.FLOAT32: " (a float network, or one with dynamic range quantization)",
    Type.INT16: " (16x8 quantization)",
    Type.UINT8: " (the older uint8 quantization)",
}
Shape = tuple[int, int, int]
_SCALED = ("mean", "add", "multiply", "prelu", "softmax", "squared_difference", "matmul")  # scales give constants


class _OperatorError(TfliteError):
    """An error whose message already names the operator."""


@dataclass(frozen=True)
class Handler:
    """The function that converts an operator to ops, and the operator's form as TFLite Micro requires it.

    least, most: number of inputs; outputs: their number; None: any. options: whether the operator must have options.
    """

    run: Callable[[Builder], object]
    least: int
    most: int | None
    outputs: int | None = 1
    options: bool = False


class Builder:
    """Builds the model of a graph. `found` maps the file's tensors to the model's."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.model = QuantModel([], [])
        self.found: dict[int, int] = {}
        self.makers: list[Operator] = []  # the operator of each of the model's ops
        self.constants: dict[int, NDArray[Any]] = {}  # values folded from shapes, by tensor of the file
        self.blocked: dict[int, tuple[int, tuple[int, int]]] = {}  # outputs of SPACE_TO_BATCH_ND: model's tensor, block
        self.reals: dict[int, float_islands.Real] = {}  # float tensors between DEQUANTIZE and QUANTIZE
        self.shaped: dict[tuple[int, Shape], int] = {}  # results of `reshaped`
        self.kept: dict[tuple[int, Shape], int] = {}  # results of `held`
        self.logistic: set[int] = set()  # tensors that a LOGISTIC wrote
        self.operator = Operator(-1, -1, "", (), (), None)
        self.state = state.State(graph)
        self.rings: dict[int, state.Ring] = {}  # by index of their CONCATENATION
        self.inner: set[int] = set()  # operators that only serve a ring buffer
        self.read: set[int] = set()  # tensors that the output depends on

    def refusal(self, why: str) -> _OperatorError:
        """An error that names the current operator and its output."""
        op = self.operator
        name = next((self.graph.tensors[i].name for i in (*op.outputs, *op.inputs) if i >= 0), "")
        return _OperatorError(f"operator {op.index} {op.name} (tensor '{name}'): {why}")

    # ---- tensors ----

    def add_tensor(self, shape: Shape, scale: float, zero_point: int) -> int:
        self.model.tensors.append(Tensor(shape, scale, zero_point))
        return len(self.model.tensors) - 1

    def tensor(self, place: int) -> FileTensor:
        """An input of the current operator, by position."""
        inputs = self.operator.inputs
        if place >= len(inputs) or inputs[place] < 0:
            raise self.refusal(f"input {place} is missing: the file is damaged")
        return self.graph.tensors[inputs[place]]

    @property
    def target(self) -> FileTensor:
        """The only output of the current operator."""
        if len(self.operator.outputs) != 1 or self.operator.outputs[0] < 0:
            raise self.refusal(f"has {len(self.operator.outputs)} outputs, must have one")
        return self.graph.tensors[self.operator.outputs[0]]

    def integers(self, place: int) -> list[int]:
        return [int(value) for value in self.constant(place).reshape(-1)[: MAX_AXES + 1]]

    def source(self, place: int = 0) -> int:
        """The model's tensor that the operator reads; it must be int8 and computed from the input."""
        tensor = self.tensor(place)
        index = self.operator.inputs[place]
        if index not in self.found:
            self.check_int8(tensor)
            what = "a constant" if tensor.data is not None else "not computed by any operator before it"
            raise self.refusal(f"its input '{tensor.name}' is {what}, must be an activation")
        self.check_int8(tensor)
        return self.found[index]

    def check_int8(self, tensor: FileTensor) -> None:
        if tensor.type != Type.INT8:
            form = FORMS.get(tensor.type, "")
            raise self.refusal(f"the activation '{tensor.name}' is {tensor.type_name}{form}, must be int8; {CONVERT}")

    def constant(self, place: int) -> NDArray[Any]:
        """The integers of an input that is a constant or folded from shapes."""
        tensor = self.tensor(place)
        if self.operator.inputs[place] in self.constants:
            return self.constants[self.operator.inputs[place]]
        if tensor.data is None or tensor.type not in (Type.INT32, Type.INT64):
            raise self.refusal(f"its input '{tensor.name}' must be constant integers")
        return tensor.values().astype(np.int64)

    def want_shape(self, shape: tuple[int, ...], output: int = 0) -> None:
        """Raises unless an output has this shape in the file, which may leave it open; from here on it has."""
        index = self.operator.outputs[output]
        tensor = self.graph.tensors[index]
        declared = tensor.shape
        if tensor.is_dynamic:
            self.graph.tensors[index] = dataclasses.replace(tensor, shape=tuple(shape))
        elif declared != tuple(shape):
            raise self.refusal(f"its output has shape {list(declared)}, must be {list(shape)}: the file is damaged")

    def shape_of(self, index: int) -> Shape:
        return self.model.tensors[index].shape

    def reshaped(self, index: int, shape: Shape) -> int:
        """The tensor in this shape, by a reshape op if its own shape differs."""
        if self.shape_of(index) == shape:
            return index
        key = (index, shape)
        if key not in self.shaped:
            tensor = self.model.tensors[index]
            if math.prod(shape) != tensor.size:
                raise self.refusal(f"its input has {tensor.size} elements, must have shape {list(shape)}")
            self.shaped[key] = self.append(Op("reshape", index, 0), shape, tensor.scale, tensor.zero_point)
        return self.shaped[key]

    def moved(self, index: int, wanted: moves.Places) -> int:
        """A tensor with the wanted elements [height, width, channels] of the flattened one; the same if none moves."""
        tensor = self.model.tensors[index]
        for layer in moves.layers(tensor.shape, wanted):
            shape = self.shape_of(index)
            op = Op(layer.kind, index, 0)
            if layer.places is not None:
                op.axes = (layer.order.index(0) + 1, layer.order.index(1) + 1)
                whole = all(part == tuple(range(side)) for part, side in zip(layer.places, shape, strict=True))
                if not whole:
                    op.positions = np.concatenate([np.array(part) for part in layer.places]).astype(np.uint16)
            index = self.append(op, output_shape(layer, shape), tensor.scale, tensor.zero_point)
        return index

    def turned(self, index: int) -> int:
        """A tensor with width and channels exchanged."""
        tensor = self.model.tensors[index]
        height, width, channels = tensor.shape
        op = Op("gather", index, 0, axes=(1, 3))
        return self.append(op, (height, channels, width), tensor.scale, tensor.zero_point)

    def spatial_source(self, place: int = 0) -> int:
        """The tensor that the operator reads, in the file's shape."""
        return self.reshaped(self.source(place), spatial(self.tensor(place).shape))

    def channel_source(self) -> int:
        """The tensor that the operator reads, with the file's channels and any layout of positions."""
        index, shape = self.source(), spatial(self.tensor(0).shape)
        return index if self.shape_of(index)[2] == shape[2] else self.reshaped(index, shape)

    # ---- ops ----

    def append(self, op: Op, shape: Shape, scale: float, zero_point: int) -> int:
        if len(self.model.ops) >= MAX_OPS:
            raise self.refusal(f"the network needs more than {MAX_OPS} ops: use fewer layers")
        op.output = self.add_tensor(shape, scale, zero_point)
        self.model.ops.append(op)
        self.makers.append(self.operator)
        return op.output

    def emit(self, op: Op, shape: Shape, fused: int = 0) -> Op:
        """Appends the op that writes the operator's output; shape: in the model.

        Derives multipliers, unless the op has them, and tables.
        """
        target = self.target
        self.check_int8(target)
        if math.prod(shape) != target.size:
            raise self.refusal(f"its output has shape {list(target.shape)}, must be {list(shape)}")
        self.found[self.operator.outputs[0]] = self.append(op, shape, *grid_of(target))
        if op.multiplier is None and op.kind in (*WEIGHT_KINDS, *_SCALED):
            fixed_point.derive(self.model, op)
        if fused:
            self.fuse(op, self.model.tensors[op.output], fused)
        if op.weights is not None and op.bias is not None:
            op.bias = self._bounded_bias(op, op.bias)
        return op

    def _bounded_bias(self, op: Op, bias: NDArray[np.int32]) -> NDArray[np.int32]:
        """Clamps the biases of dead channels, whose tiny scales make them huge, to the limit of files."""
        folded = folded_bias(self.model, op)
        bounded = bounded_bias(self.model, op, folded, MAX_BIAS)
        if (np.abs(bounded) > MAX_BIAS).any():
            channel = int(np.abs(bounded).argmax())
            raise self.refusal(
                f"channel {channel} of the weights '{self.tensor(1).name}' has a bias of {bounded[channel]} with the "
                f"zero point folded in, the limit is {MAX_BIAS}: its weights are too small for their "
                "bias; prune the channel, or train with weight decay on biases too"
            )
        return (bias + (bounded - folded)).astype(np.int32)

    def fuse(self, op: Op, target: Tensor, fused: int) -> None:
        """Sets an op's output range to that of a fused activation."""
        if fused not in ACTIVATIONS:
            possible = ", ".join(name for name, _, _ in ACTIVATIONS.values())
            raise self.refusal(f"fused activation {fused} isn't supported, only {possible}")
        _, low, high = ACTIVATIONS[fused]
        op.act_min, op.act_max = fused_range(target, low, high)
        op.mask_low, op.mask_high = low is not None, high is not None

    def held(self, place: int, shape: Shape) -> int:
        """The tensor of a constant input in this shape, by a constant op."""
        key, tensor = (self.operator.inputs[place], shape), self.tensor(place)
        if key not in self.kept:
            op = Op("constant", 0, 0, values=tensor.values().reshape(shape))
            self.kept[key] = self.append(op, shape, *grid_of(tensor))
        return self.kept[key]

    def alias(self) -> None:
        """Makes the operator's output the same tensor as its input, in another shape."""
        index = self.source()
        self.check_int8(self.target)
        if self.target.size != self.model.tensors[index].size:
            raise self.refusal(f"{self.model.tensors[index].size} elements in, {self.target.size} out")
        self.same_grid(index)
        self.found[self.operator.outputs[0]] = index

    def same_as(self, one: FileTensor, other: FileTensor) -> None:
        """Raises unless both tensors of a state are on one grid."""
        self.check_int8(one)
        if grid_of(one) != grid_of(other):
            raise self.refusal(f"'{one.name}' and '{other.name}' must have the same scale and zero point; {CONVERT}")

    def same_grid(self, index: int) -> None:
        """Raises if input and output of an operator that doesn't change values are on different grids."""
        tensor = self.model.tensors[index]
        if (tensor.scale, tensor.zero_point) != grid_of(self.target):
            raise self.refusal("input and output must have the same scale and zero point; " + CONVERT)

    def four_axes(self, tensor: FileTensor) -> Shape:
        if len(tensor.shape) != 4:
            raise self.refusal(f"tensor '{tensor.name}' has shape {list(tensor.shape)}, must have four axes")
        return spatial(tensor.shape)


def spatial(shape: tuple[int, ...]) -> Shape:
    """[height, width, channels] of a tensor with batch size 1."""
    if not 2 <= len(shape) <= 4 or shape[0] != 1 or 0 in shape:
        raise TfliteError(f"a tensor has shape {list(shape)}: it must be a batch of one, with two to four axes")
    height, width, channels = (1, 1, *shape[1:])[-3:]
    return height, width, channels


def grid_of(tensor: FileTensor) -> tuple[float, int]:
    """Scale and zero point of an int8 activation, or of a uint8 one with 128 subtracted from its values."""
    if len(tensor.scale) != 1 or len(tensor.zero_point) != 1:
        raise TfliteError(f"the activation '{tensor.name}' must have one scale and zero point; {CONVERT}")
    scale, zero_point = float(tensor.scale[0]), int(tensor.zero_point[0]) - 128 * (tensor.type == Type.UINT8)
    if not SCALES[0] < scale < SCALES[1] or not -128 <= zero_point <= 127:
        raise TfliteError(f"the activation '{tensor.name}' has scale {scale:g} and zero point {zero_point}")
    return scale, zero_point
