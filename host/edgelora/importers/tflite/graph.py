"""Builds a QuantModel from the operators of a `.tflite` file.

TFLite's tensors have up to four axes, a QuantModel's are [height, width, channels]: [1, N] becomes 1x1xN, [1, W, C]
becomes 1xWxC. Operators that only name the axes anew leave no op behind unless somebody needs the other shape.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import floatnet, formats
from ...formats import WEIGHT_KINDS, Op, QuantModel, Tensor
from . import state
from .file import Code, FileTensor, Graph, Operator, Type, type_name
from .flatbuffer import TfliteError
from .parts import Part, sliced, split

CONVERT = (
    "convert with full integer quantization: converter.optimizations = [tf.lite.Optimize.DEFAULT], "
    "converter.representative_dataset = ..., "
    "converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]"
)
STATELESS = (
    f"networks with state are possible where {state.RINGS}; "
    f"convert other ones without state, to see a whole window at once; and {CONVERT}"
)
ACTIVATIONS = {  # fused ones: real bounds
    0: ("NONE", None, None),
    1: ("RELU", 0.0, None),
    2: ("RELU_N1_TO_1", -1.0, 1.0),
    3: ("RELU6", 0.0, 6.0),
}
PADDINGS = ("same", "valid")
MAX_AXES = 1024  # numbers of a constant that say how axes are treated
BIAS_TOLERANCE = 0.02  # of the output's scale
SCALES = (2.0**-60, 2.0**60)  # of activations: with these, no ratio of two overflows
MAX_TFLITE_SOFTMAX = 511  # channels; with more, TFLite's kernel shifts by too much
_FORMS: dict[int, str] = {  # what a file with such activations is
    Type.FLOAT32: " (a float network, or one with dynamic range quantization)",
    Type.INT16: " (16x8 quantization)",
    Type.UINT8: " (the older uint8 quantization)",
}
_STATEFUL = {
    Code.SVDF,
    Code.LSTM,
    Code.RNN,
    Code.UNIDIRECTIONAL_SEQUENCE_RNN,
    Code.UNIDIRECTIONAL_SEQUENCE_LSTM,
    Code.BIDIRECTIONAL_SEQUENCE_LSTM,
    Code.WHILE,
    Code.IF,
}
_NORMALIZATION = (
    "batch normalization is possible right behind a layer with weights, before its activation, where the converter "
    "folds it in; scale inputs outside the network"
)
_FIXED_BATCH = "give the network a fixed batch of one: keras.Input(batch_shape=(1, ...))"
_REMEDIES = dict.fromkeys((Code.MUL, Code.SUB, Code.DIV, Code.RSQRT), _NORMALIZATION)
_REMEDIES |= dict.fromkeys((Code.GATHER, Code.REDUCE_PROD), _FIXED_BATCH)
Shape = tuple[int, int, int]


class _OperatorError(TfliteError):
    """One that names its operator already."""


@dataclasses.dataclass(frozen=True)
class _Window:
    """How an operator looks at [height, width]: as an op's fields, and the size of its output."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]
    source: tuple[int, int]
    target: tuple[int, int]

    @property
    def can_turn(self) -> bool:
        """Whether height and width can change places without any element moving."""
        return any(self.source[axis] == self.target[axis] == 1 for axis in (0, 1))

    @property
    def turned(self) -> _Window:
        return _Window(*(pair[::-1] for pair in dataclasses.astuple(self)))


class Importer:
    """Walks a graph and builds the model. `found` maps the file's tensors to the model's."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.model = QuantModel([], [])
        self.found: dict[int, int] = {}
        self.makers: list[Operator] = []  # of the model's ops
        self.constants: dict[int, NDArray[Any]] = {}  # folded from shapes
        self.shaped: dict[tuple[int, Shape], int] = {}
        self.logistic: set[int] = set()  # tensors that a LOGISTIC wrote
        self.operator = Operator(-1, -1, "", (), (), None)
        self.state = state.State(graph)
        self.rings: dict[int, state.Ring] = {}  # by the index of the operator that joins
        self.inner: set[int] = set()  # operators that only serve a ring buffer
        self.read: set[int] = set()  # tensors that are needed

    @property
    def ends_logistic(self) -> bool:
        return len(self.model.tensors) - 1 in self.logistic

    def run(self) -> QuantModel:
        written = {self.graph.input}
        for operator in self.graph.operators:
            self.operator = operator
            self._check_known()
            if any(i in written or i < 0 or self.graph.tensors[i].data is not None for i in operator.outputs):
                raise self.refusal("writes a tensor that has its value from elsewhere: the file is damaged")
            written.update(operator.outputs)
        self._input()
        for operator in self._needed():
            self.operator = operator
            try:
                _HANDLERS[Code(operator.code)](self)
            except _OperatorError:
                raise
            except ValueError as error:  # of the file or of the arithmetic: scales that TFLite itself refuses
                raise self.refusal(str(error)) from error
        end = self.graph.output
        self._check_ops()
        if end not in self.found or not self.model.ops:
            raise TfliteError("the output isn't computed from the input by any layer that this project has")
        shape = self.graph.tensors[end].shape
        if 2 <= len(shape) <= 4 and shape[0] == 1:
            self.found[end] = self._reshaped(self.found[end], _spatial(shape))
        return self.model

    def _check_ops(self) -> None:
        """Refuses what a `.elm` can't hold, by its operator."""
        for index, operator in enumerate(self.makers):
            self.operator = operator
            try:
                formats.check_op(self.model, index, f"op {index}")
            except formats.FormatError as error:
                raise self.refusal(str(error)) from error

    def _needed(self) -> list[Operator]:
        """The operators on which the output depends."""
        wanted, needed = {self.graph.output}, []
        for operator in reversed(self.graph.operators):
            if wanted & set(operator.outputs):
                needed.append(operator)
                wanted |= set(operator.inputs)
        self.read = wanted
        return needed[::-1]

    def _check_known(self) -> None:
        code = self.operator.code
        if code in _STATEFUL or any(self.graph.tensors[i].is_variable for i in self.operator.inputs if i >= 0):
            raise self.refusal(f"not supported; {STATELESS}")
        if code not in _HANDLERS:
            names = ", ".join(known.name for known in _HANDLERS)
            remedy = _REMEDIES[Code(code)] if code in _REMEDIES else CONVERT
            raise self.refusal(f"not supported (supported are {names}); {remedy}")
        form, inputs, outputs = _FORMS_OF[Code(code)], len(self.operator.inputs), len(self.operator.outputs)
        most = inputs if form.most is None else form.most
        if not form.least <= inputs <= most or form.outputs not in (None, outputs):
            raise self.refusal(f"has {inputs} inputs and {outputs} outputs: the file is damaged")
        if form.options and self.operator.options is None:
            raise self.refusal("has no options: the file is damaged")

    def refusal(self, why: str) -> _OperatorError:
        """An error that names the operator at hand and its output."""
        op = self.operator
        name = next((self.graph.tensors[i].name for i in (*op.outputs, *op.inputs) if i >= 0), "")
        return _OperatorError(f"operator {op.index} {op.name} (tensor '{name}'): {why}")

    # ---- tensors ----

    def _input(self) -> None:
        """An int8 or uint8 input is the model's; a real one is dropped, with the QUANTIZE behind it."""
        tensor = self.graph.tensors[self.graph.input]
        if tensor.data is not None or tensor.is_variable:
            raise TfliteError(f"the input '{tensor.name}' has a value in the file: it is damaged")
        if tensor.type in (Type.INT8, Type.UINT8):
            self.found[self.graph.input] = self._add_tensor(_spatial(tensor.shape), *_grid(tensor))
        elif tensor.type != Type.FLOAT32:
            raise TfliteError(f"the input '{tensor.name}' is {tensor.type_name}, must be int8; {CONVERT}")

    def _add_tensor(self, shape: Shape, scale: float, zero_point: int) -> int:
        self.model.tensors.append(Tensor(shape, scale, zero_point))
        return len(self.model.tensors) - 1

    def tensor(self, place: int) -> FileTensor:
        """An input of the operator at hand."""
        inputs = self.operator.inputs
        if place >= len(inputs) or inputs[place] < 0:
            raise self.refusal(f"input {place} is missing: the file is damaged")
        return self.graph.tensors[inputs[place]]

    @property
    def target(self) -> FileTensor:
        """The output of the operator at hand."""
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
            self._check_int8(tensor)
            what = "a constant" if tensor.data is not None else "not computed by any operator before it"
            raise self.refusal(f"its input '{tensor.name}' is {what}, must be an activation")
        self._check_int8(tensor)
        return self.found[index]

    def _check_int8(self, tensor: FileTensor) -> None:
        if tensor.type != Type.INT8:
            form = _FORMS.get(tensor.type, "")
            raise self.refusal(f"the activation '{tensor.name}' is {tensor.type_name}{form}, must be int8; {CONVERT}")

    def constant(self, place: int) -> NDArray[Any]:
        """The integers of a constant input, or of one that is folded from shapes."""
        tensor = self.tensor(place)
        if self.operator.inputs[place] in self.constants:
            return self.constants[self.operator.inputs[place]]
        if tensor.data is None or tensor.type not in (Type.INT32, Type.INT64):
            raise self.refusal(f"its input '{tensor.name}' must be constant integers")
        return tensor.values().astype(np.int64)

    def want_shape(self, shape: tuple[int, ...], output: int = 0) -> None:
        """Refuses an output of another shape than the operator gives it."""
        told = self.graph.tensors[self.operator.outputs[output]].shape
        if told != tuple(shape):
            raise self.refusal(f"its output has shape {list(told)}, computed is {list(shape)}: the file is damaged")

    def shape_of(self, index: int) -> Shape:
        return self.model.tensors[index].shape

    def _reshaped(self, index: int, shape: Shape) -> int:
        """The tensor in another shape, by a reshape op if it has not that one already."""
        if self.shape_of(index) == shape:
            return index
        key = (index, shape)
        if key not in self.shaped:
            tensor = self.model.tensors[index]
            if math.prod(shape) != tensor.size:
                raise self.refusal(f"its input has {tensor.size} elements, not those of {list(shape)}")
            self.shaped[key] = self._append(Op("reshape", index, 0), shape, tensor.scale, tensor.zero_point)
        return self.shaped[key]

    def spatial_source(self, place: int = 0) -> int:
        """The tensor that the operator reads, in the shape the file gives it."""
        return self._reshaped(self.source(place), _spatial(self.tensor(place).shape))

    def channel_source(self) -> int:
        """The tensor that the operator reads, with the file's channels; how positions are laid out doesn't matter."""
        index, shape = self.source(), _spatial(self.tensor(0).shape)
        return index if self.shape_of(index)[2] == shape[2] else self._reshaped(index, shape)

    # ---- ops ----

    def _append(self, op: Op, shape: Shape, scale: float, zero_point: int) -> int:
        if len(self.model.ops) >= formats.MAX_OPS:
            raise self.refusal(f"the network takes more than {formats.MAX_OPS} ops: make it shorter")
        op.output = self._add_tensor(shape, scale, zero_point)
        self.model.ops.append(op)
        self.makers.append(self.operator)
        return op.output

    def emit(self, op: Op, shape: Shape, fused: int = 0) -> Op:
        """Appends the op that writes the operator's output; shape: in the model. Derives multipliers and tables."""
        target = self.target
        self._check_int8(target)
        if math.prod(shape) != target.size:
            raise self.refusal(f"its output has shape {list(target.shape)}, computed is {list(shape)}")
        self.found[self.operator.outputs[0]] = self._append(op, shape, *_grid(target))
        if op.kind in (*WEIGHT_KINDS, "mean", "add", "softmax"):
            formats.derive(self.model, op)
        if fused:
            self._fuse(op, fused)
        if op.weights is not None and op.bias is not None:
            op.bias = self._bounded_bias(op, op.bias)
        return op

    def _bounded_bias(self, op: Op, bias: NDArray[np.int32]) -> NDArray[np.int32]:
        """Brings biases within what files hold: those of dead channels, whose tiny scales make them huge."""
        folded = formats.folded_bias(self.model, op)
        bounded = formats.bounded_bias(self.model, op, folded, formats.MAX_BIAS)
        if (np.abs(bounded) > formats.MAX_BIAS).any():
            channel = int(np.abs(bounded).argmax())
            raise self.refusal(
                f"channel {channel} of the weights '{self.tensor(1).name}' has a bias of {bounded[channel]} with the "
                f"zero point folded in, at most {formats.MAX_BIAS} is possible: its weights are too small for their "
                "bias; prune the channel, or train with weight decay on biases too"
            )
        return (bias + (bounded - folded)).astype(np.int32)

    def _fuse(self, op: Op, fused: int) -> None:
        if fused not in ACTIVATIONS:
            possible = ", ".join(name for name, _, _ in ACTIVATIONS.values())
            raise self.refusal(f"fused activation {fused} isn't possible; {possible} are")
        _, low, high = ACTIVATIONS[fused]
        op.act_min, op.act_max = formats.fused_range(self.model.tensors[op.output], low, high)
        op.mask_low, op.mask_high = low is not None, high is not None

    def alias(self) -> None:
        """The operator's output is its input, with other axes."""
        index = self.source()
        self._check_int8(self.target)
        if self.target.size != self.model.tensors[index].size:
            raise self.refusal(f"{self.model.tensors[index].size} elements in, {self.target.size} out")
        self.same_grid(index)
        self.found[self.operator.outputs[0]] = index

    def same_as(self, one: FileTensor, other: FileTensor) -> None:
        """Refuses state whose values would change their meaning."""
        self._check_int8(one)
        if _grid(one) != _grid(other):
            raise self.refusal(f"'{one.name}' and '{other.name}' must have the same scale and zero point; {CONVERT}")

    def same_grid(self, index: int) -> None:
        """Refuses an operator that keeps values as they are but says that they have another scale."""
        tensor = self.model.tensors[index]
        if (tensor.scale, tensor.zero_point) != _grid(self.target):
            raise self.refusal("input and output must have the same scale and zero point; " + CONVERT)

    # ---- layers with weights ----

    def _weights(self, place: int, channels: int, axis: int) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
        """Weights as the file has them and their scale for each of the channels, which lie along `axis`."""
        tensor = self.tensor(place)
        if tensor.type != Type.INT8 or tensor.data is None or tensor.is_sparse:
            form = "sparse" if tensor.is_sparse else tensor.type_name if tensor.data is not None else "no constant"
            raise self.refusal(f"its weights '{tensor.name}' are {form}, must be a dense int8 constant; {CONVERT}")
        weights, scale = tensor.values(), tensor.scale.astype(np.float64)
        if weights.size and weights.min() == -128:
            raise self.refusal(
                f"a weight of '{tensor.name}' is -128; .elm files hold -127 to 127, as TensorFlow Lite's specification "
                "wants: quantize weights symmetrically, in the narrow range"
            )
        if tensor.zero_point.any() or len(tensor.zero_point) != len(scale):
            raise self.refusal(f"its weights '{tensor.name}' must have zero points 0, one for each scale")
        if len(scale) not in (1, channels) or not (scale >= 0).all():
            raise self.refusal(f"its weights '{tensor.name}' must have one scale, or one a channel")
        if len(scale) > 1 and tensor.axis != axis:
            raise self.refusal(f"its weights '{tensor.name}' have scales along axis {tensor.axis}, must be {axis}")
        return weights, np.broadcast_to(scale, channels)

    def _bias(self, channels: int, type_field: int | None = None) -> NDArray[np.int32]:
        """The bias of so many channels, 0 without; type_field: of the options, if they tell its type."""
        if type_field is not None and self.operator.number(type_field, "b") not in (Type.FLOAT32, Type.INT32):
            raise self.refusal(f"its options tell a bias of {type_name(self.operator.number(type_field, 'b'))}")
        if len(self.operator.inputs) < 3 or self.operator.inputs[2] < 0:
            if len(self.operator.inputs) == 3 and self.operator.code != Code.FULLY_CONNECTED:
                raise self.refusal("its bias is told as left out, on which TensorFlow Lite Micro crashes: give zeros")
            return np.zeros(channels, np.int32)
        tensor = self.tensor(2)
        if tensor.type != Type.INT32 or tensor.data is None or tensor.shape != (channels,):
            raise self.refusal(
                f"its bias '{tensor.name}' is {tensor.type_name} {list(tensor.shape)}, must be {channels} int32 "
                f"constants; {CONVERT}"
            )
        return tensor.values().reshape(-1)

    def _check_bias_scale(self) -> None:
        """Refuses a FULLY_CONNECTED of one scale whose bias has another one; TFLite Micro allows this tolerance."""
        if len(self.operator.inputs) < 3 or self.operator.inputs[2] < 0 or len(self.tensor(1).scale) != 1:
            return
        product = float(self.tensor(0).scale[0]) * float(self.tensor(1).scale[0])
        told = self.tensor(2)
        scale = float(told.scale[0]) if len(told.scale) and len(told.zero_point) else 0.0
        if not abs(product - scale) / _grid(self.target)[0] <= BIAS_TOLERANCE:
            raise self.refusal(
                f"its bias '{told.name}' has scale {scale:g}, must be that of input * weights, {product:g}"
            )

    def _window(self, kernel: tuple[int, int], strides: int, dilations: int | None) -> _Window:
        """An operator's geometry; strides, dilations: the option fields of the width, strides' height follows."""
        number = self.operator.number
        padding = number(0, "b")
        if padding not in (0, 1):
            raise self.refusal(f"padding {padding} is neither SAME nor VALID")
        stride = (number(strides + 1, "i"), number(strides, "i"))
        dilation = (1, 1) if dilations is None else (number(dilations + 1, "i", 1), number(dilations, "i", 1))
        for what, pair in (("kernel", kernel), ("stride", stride), ("dilation", dilation)):
            if not all(1 <= value <= 255 for value in pair):
                raise self.refusal(f"{what} {pair[0]}x{pair[1]}, 1 to 255 are possible")
        source, target = self._four_axes(self.tensor(0)), self._four_axes(self.target)
        layer = floatnet.Layer("conv", kernel, stride, dilation, PADDINGS[padding])
        at = floatnet.geometry(layer, source)
        if at.output != target[:2]:
            raise self.refusal(f"its output is {target[0]}x{target[1]}, computed is {at.output[0]}x{at.output[1]}")
        return _Window(kernel, stride, dilation, (at.pad_h[0], at.pad_w[0]), source[:2], target[:2])

    def _four_axes(self, tensor: FileTensor) -> Shape:
        if len(tensor.shape) != 4:
            raise self.refusal(f"tensor '{tensor.name}' has shape {list(tensor.shape)}, must have four axes")
        return _spatial(tensor.shape)

    def emit_window(self, op: Op, window: _Window, fused: int) -> None:
        """Appends an op that looks through a window, turned if its input lies the other way round."""
        source, channels = self.source(), self.tensor(0).shape[3]
        turned = window.can_turn and self.shape_of(source) == (*window.turned.source, channels)
        if turned and self.shape_of(source) != (*window.source, channels):
            window = window.turned
            if op.weights is not None:
                axes = (1, 0, 2) if op.kind == "depthwise" else (0, 2, 1, 3)
                op.weights = op.weights.transpose(axes)
        op.input = self._reshaped(source, (*window.source, channels))
        op.kernel, op.stride, op.dilation, op.padding = window.kernel, window.stride, window.dilation, window.padding
        self.emit(op, (*window.target, self.target.shape[3]), fused)

    def conv(self) -> None:
        outputs, inputs = self._four_axes(self.target)[2], self._four_axes(self.tensor(0))[2]
        shape = self.tensor(1).shape
        if len(shape) != 4 or shape[0] != outputs or shape[3] != inputs:
            raise self.refusal(
                f"weights {list(shape)} for {inputs} channels in, {outputs} out: grouped convolutions aren't possible"
            )
        self.source()
        weights, scale = self._weights(1, outputs, 0)
        op = Op("conv", 0, 0, weights=weights, bias=self._bias(outputs, 6), weight_scale=scale)
        self.emit_window(op, self._window(shape[1:3], 1, 4), self.operator.number(3, "b"))

    def depthwise(self) -> None:
        outputs, inputs = self._four_axes(self.target)[2], self._four_axes(self.tensor(0))[2]
        shape, multiplier = self.tensor(1).shape, self.operator.number(3, "i")
        if len(shape) != 4 or shape[0] != 1 or shape[3] != outputs or outputs != inputs * multiplier:
            raise self.refusal(f"weights {list(shape)} for {inputs} channels in, {outputs} out, {multiplier} for each")
        self.source()
        weights, scale = self._weights(1, outputs, 3)
        op = Op("depthwise", 0, 0, weights=weights[0], bias=self._bias(outputs), weight_scale=scale)
        self.emit_window(op, self._window(shape[1:3], 1, 5), self.operator.number(4, "b"))

    def fully_connected(self) -> None:
        """A dense layer or, where it sees several rows, a 1x1 convolution over them."""
        shape, source = self.tensor(1).shape, self.source()
        size = self.model.tensors[source].size
        if len(shape) != 2 or 0 in shape or size % shape[1] or self.operator.number(1, "b"):
            raise self.refusal(
                f"weights {list(shape)} for an input of {size}; they must be [outputs, inputs], in order"
            )
        self._check_bias_scale()
        outputs, inputs = shape
        if self.target.shape[-1:] != (outputs,):
            raise self.refusal(f"its output has shape {list(self.target.shape)}, for {outputs} outputs")
        weights, scale = self._weights(1, outputs, 0)
        weights = weights.reshape(outputs, 1, 1, inputs)
        rows = size // inputs
        if rows > 1 and self.tensor(0).shape[-1:] != (inputs,):
            raise self.refusal(f"an input of shape {list(self.tensor(0).shape)} for weights of {inputs} inputs")
        if rows > 1 and self.shape_of(source)[2] != inputs:
            source = self._reshaped(source, (1, rows, inputs))
        op = Op("dense" if rows == 1 else "conv", source, 0, weights=weights, bias=self._bias(outputs, 4))
        op.weight_scale = scale
        positions = self.shape_of(source)[:2] if rows > 1 else (1, 1)
        self.emit(op, (*positions, outputs), self.operator.number(0, "b"))

    # ---- others ----

    def pool(self) -> None:
        kind = {Code.AVERAGE_POOL_2D: "average_pool", Code.MAX_POOL_2D: "max_pool"}[Code(self.operator.code)]
        number = self.operator.number
        self.same_grid(self.source())
        self.emit_window(Op(kind, 0, 0), self._window((number(4, "i"), number(3, "i")), 1, None), number(5, "b"))

    def mean(self) -> None:
        shape = self.tensor(0).shape
        source = self.channel_source()
        axes = {int(axis) + len(shape) * (axis < 0) for axis in self.constant(1).reshape(-1)[: len(shape) + 1]}
        spatial = {axis for axis in range(1, len(shape) - 1) if shape[axis] > 1}
        if {axis for axis in axes if not 0 <= axis < len(shape) or shape[axis] > 1} != spatial:
            raise self.refusal(f"mean over axes {sorted(axes)} of {list(shape)}, must be over all positions")
        gone = {axis: 1 for axis in axes} if self.operator.number(0, "B") else dict.fromkeys(axes, 0)
        self.want_shape(tuple(side for i, n in enumerate(shape) if (side := gone.get(i, n))))
        self.emit(Op("mean", source, 0), (1, 1, shape[-1]))

    def add(self) -> None:
        if self.tensor(0).shape != self.tensor(1).shape:
            shapes = f"{list(self.tensor(0).shape)} and {list(self.tensor(1).shape)}"
            raise self.refusal(f"adds {shapes}: both must have the same shape")
        self.want_shape(self.tensor(0).shape)
        first, second = self.source(0), self.source(1)
        if first != second and self.shape_of(first) != self.shape_of(second):
            first, second = self.spatial_source(0), self.spatial_source(1)
        self.emit(Op("add", first, 0, input2=second), self.shape_of(first), self.operator.number(0, "b"))

    def _want_joined(self) -> None:
        """Refuses a CONCATENATION of shapes that don't give its output's."""
        shapes = [self.tensor(place).shape for place in range(len(self.operator.inputs))]
        rank, given = len(self.target.shape), self.operator.number(0, "i")
        axis = given + rank * (given < 0)
        if not 0 <= axis < rank or any(len(shape) != rank for shape in shapes):
            raise self.refusal(f"axis {given} of {rank}: inputs and output must have as many axes, it one of them")
        others = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
        if len(others) > 1:
            raise self.refusal(f"{list(map(list, shapes[:4]))} can't be joined along axis {given}")
        self.want_shape((*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :]))

    def concatenate(self) -> None:
        """Joins of two, one behind the other."""
        self._want_joined()
        if self.operator.index in self.rings:
            return self.history()
        places = range(len(self.operator.inputs))
        if self.operator.number(1, "b"):
            raise self.refusal("a fused activation isn't possible here: put it into the layers before")
        given, rank = self.operator.number(0, "i"), len(self.target.shape)
        axis = given + rank * (given < 0) + 4 - rank
        if not max(1, 5 - rank) <= axis <= 3:
            raise self.refusal(f"axis {given} of {rank}: only those behind the batch can be joined")
        for place in places:
            self.same_grid(self.source(place))
        if len(places) == 1:
            return self.alias()
        joined = self.spatial_source()
        for place in places[1:]:
            other = self.spatial_source(place)
            one, two = self.shape_of(joined), self.shape_of(other)
            height, width, channels = (n + two[i] if i == axis - 1 else n for i, n in enumerate(one))
            shape = (height, width, channels)
            op = Op("concatenate", joined, 0, input2=other, axis=axis)
            if place < places[-1]:
                grid = self.model.tensors[joined]
                joined = self._append(op, shape, grid.scale, grid.zero_point)
            else:
                self.emit(op, shape)

    # ---- state ----

    def variable(self) -> None:
        """VAR_HANDLE; what it stands for is told by those who use it."""

    def read_variable(self) -> None:
        """The beginning of a ring buffer, which is built where new positions join it."""
        ring = self.state.ring(self.operator)
        self.rings[ring.join.index] = ring
        self.inner |= ring.inner
        for tensor in ring.held:
            self.same_as(self.graph.tensors[tensor], self.graph.tensors[ring.join.outputs[0]])

    def history(self) -> None:
        initial = self.rings[self.operator.index].initial
        if self.operator.number(1, "b"):
            raise self.refusal("a fused activation isn't possible here: put it into the layers before")
        source = self.source(1)
        self.same_grid(source)
        op = self.emit(Op("history", source, 0), _spatial(self.target.shape))
        if (initial != self.model.tensors[op.output].zero_point).any():
            op.initial = initial.astype(np.int8)

    # ---- parts of tensors ----

    def slice(self) -> None:
        if self.operator.index in self.inner:
            return
        if self.operator.inputs[:1] and self.operator.inputs[0] in self.constants:
            return self.fold_slice()
        self.emit_part(sliced(self.operator, self.tensor(0).shape, self.integers), 0, 0)

    def split(self) -> None:
        place, count = int(self.operator.code == Code.SPLIT), len(self.operator.outputs)
        parts = split(self.operator, self.tensor(place).shape, self.integers, count)
        for output, part in enumerate(parts):
            if self.operator.outputs[output] in self.read:
                self.emit_part(part, place, output)

    def emit_part(self, part: Part, place: int, output: int) -> None:
        """Appends the slices that leave this part of the operator's input."""
        target, index = self.graph.tensors[self.operator.outputs[output]], self.spatial_source(place)
        self._check_int8(target)
        tensor = self.model.tensors[index]
        if (tensor.scale, tensor.zero_point) != _grid(target):
            raise self.refusal("input and output must have the same scale and zero point; " + CONVERT)
        self.want_shape(part.told_shape, output)
        if 0 in part.cut:
            raise self.refusal("takes a part of the batch")
        for axis in part.cut:
            where, (start, stop) = axis + 4 - len(part.of), part.bounds[axis]
            height, width, channels = (
                stop - start if i == where - 1 else n for i, n in enumerate(self.shape_of(index))
            )
            op = Op("slice", index, 0, axis=where, start=start)
            index = self._append(op, (height, width, channels), tensor.scale, tensor.zero_point)
        self.found[self.operator.outputs[output]] = index

    # ---- shapes ----

    def pad(self) -> None:
        source, shape = self.source(), self.tensor(0).shape
        self.same_grid(source)
        sides = self.constant(1)
        if sides.shape != (len(shape), 2) or (sides < 0).any() or (sides > 255).any():
            raise self.refusal(f"paddings must be {len(shape)} pairs of 0 to 255")
        if self.operator.code == Code.PADV2 and self.tensor(2).values().reshape(-1).tolist() != [_grid(self.target)[1]]:
            raise self.refusal("pads with another value than zero, which isn't possible")
        self.want_shape(tuple(n + int(before + after) for n, (before, after) in zip(shape, sides, strict=True)))
        if not sides.any():
            return self.alias()
        if sides[0].any() or sides[-1].any():
            raise self.refusal("pads batch or channels; only height and width can be")
        (top, bottom), (left, right) = [(0, 0)] * (4 - len(shape)) + sides[1:-1].tolist()
        source = self.spatial_source()
        height, width, channels = self.shape_of(source)
        op = Op("pad", source, 0, padding=(top, left))
        self.emit(op, (height + top + bottom, width + left + right, channels))

    def softmax(self) -> None:
        source = self.channel_source()
        self.want_shape(self.tensor(0).shape)
        beta = self.operator.options.real(0) if self.operator.options else 0.0
        if beta != 1:
            raise self.refusal(f"beta is {beta:g}, must be 1")
        if self.shape_of(source)[2] > MAX_TFLITE_SOFTMAX:
            raise self.refusal(f"{self.shape_of(source)[2]} channels, at most {MAX_TFLITE_SOFTMAX} are possible")
        self.want_grid(formats.SOFTMAX_GRID)
        self.emit(Op("softmax", source, 0), self.shape_of(source))

    def want_grid(self, grid: tuple[float, int]) -> None:
        if _grid(self.target) != grid:
            raise self.refusal(f"output scale and zero point are {_grid(self.target)}, must be {grid}")

    def lookup(self) -> Op:
        source = self.source()
        self.want_shape(self.tensor(0).shape)
        return self.emit(Op("lookup", source, 0), self.shape_of(source))

    def function(self) -> None:
        """An operator that tflite_math has by name."""
        name = Code(self.operator.code).name.lower()
        if name in ("logistic", "tanh"):
            self.want_grid({"logistic": formats.LOGISTIC_GRID, "tanh": formats.TANH_GRID}[name])
        op = self.lookup()
        formats.derive(self.model, op, name)
        if name == "logistic":
            self.logistic.add(op.output)

    def relu6(self) -> None:
        self.same_grid(self.source())
        op = self.lookup()
        formats.set_relu6(op, self.model.tensors[op.output])

    def leaky_relu(self) -> None:
        alpha = self.operator.options.real(0) if self.operator.options else 0.0
        if not abs(alpha) < 2**20:
            raise self.refusal(f"alpha is {alpha}")
        op = self.lookup()
        formats.set_leaky_relu(op, self.model.tensors[op.input], self.model.tensors[op.output], alpha)

    def hard_swish(self) -> None:
        op = self.lookup()
        formats.set_hard_swish(op, self.model.tensors[op.input], self.model.tensors[op.output])

    def requantize(self) -> None:
        """QUANTIZE: the input's, between two grids, or to the output's uint8, which is int8 with another zero point."""
        begins = self.operator.inputs[:1] == (self.graph.input,)
        ends = self.operator.outputs == (self.graph.output,)
        source, target = self.tensor(0), self.target
        self.want_shape(source.shape)
        if target.type not in ((Type.INT8, Type.UINT8) if ends else (Type.INT8,)):
            raise self.refusal(f"makes {target.type_name}{_FORMS.get(target.type, '')}, must make int8; {CONVERT}")
        if begins and source.type == Type.FLOAT32:
            return self._quantized_input()
        if not (begins and source.type == Type.UINT8):
            self.source()
        index = self.found[self.operator.inputs[0]]
        tensor, grid = self.model.tensors[index], _grid(target)
        if (tensor.scale, tensor.zero_point) == grid:
            self.found[self.operator.outputs[0]] = index
            return
        op = Op("lookup", index, 0)
        self.found[self.operator.outputs[0]] = self._append(op, tensor.shape, *grid)
        formats.derive(self.model, op, "requantize")

    def _quantized_input(self) -> None:
        """The input is what QUANTIZE makes of real numbers."""
        shape, grid = _spatial(self.target.shape), _grid(self.target)
        if not self.model.tensors:
            self._add_tensor(shape, *grid)
        elif (self.model.input.shape, self.model.input.scale, self.model.input.zero_point) != (shape, *grid):
            raise self.refusal("the input is quantized twice, to different scales")
        self.found[self.operator.outputs[0]] = 0

    def dequantize(self) -> None:
        """Dropped at the end of the graph; the int8 values before it are the output."""
        if self.operator.outputs != (self.graph.output,):
            raise self.refusal(f"real numbers inside the network; {CONVERT}")
        self.want_shape(self.tensor(0).shape)
        if self.target.type != Type.FLOAT32:
            raise self.refusal(f"makes {self.target.type_name}, must make float32: the file is damaged")
        self.found[self.operator.outputs[0]] = self.source()

    def squeeze(self) -> None:
        """Axes of one element go."""
        if [n for n in self.tensor(0).shape if n > 1] != [n for n in self.target.shape if n > 1]:
            raise self.refusal(f"makes {list(self.target.shape)} of {list(self.tensor(0).shape)}: the file is damaged")
        self.alias()

    def expand_dims(self) -> None:
        """An axis of one element comes."""
        shape, given = self.tensor(0).shape, self.constant(1).reshape(-1).tolist()
        single = self.tensor(1).shape in ((), (1,))
        axis = given[0] + (len(shape) + 1) * (given[0] < 0) if single else -1
        if not 0 <= axis <= len(shape):
            raise self.refusal(f"axis {given[:6]} for {list(shape)}: the file is damaged")
        self.want_shape((*shape[:axis], 1, *shape[axis:]))
        self.alias()

    def transpose(self) -> None:
        """Possible where only axes of one element change places."""
        order, shape = self.constant(1).tolist(), self.tensor(0).shape
        if self.constant(1).ndim != 1 or sorted(order) != list(range(len(shape))):
            raise self.refusal(f"permutation {order[:6]} of {len(shape)} axes: the file is damaged")
        moved = [axis for axis in order if shape[axis] > 1]
        if moved != sorted(moved):
            raise self.refusal(f"moves elements, axes {order} of {list(shape)}, which isn't possible")
        self.want_shape(tuple(shape[axis] for axis in order))
        self.alias()

    def reshape(self) -> None:
        if len(self.operator.inputs) > 1:
            wanted = self.constant(1).reshape(-1).tolist()
            known = math.prod(side for side in wanted if side != -1)
            rest = self.target.size // known if known > 0 else 0
            if wanted.count(-1) > 1 or tuple(rest if side == -1 else side for side in wanted) != self.target.shape:
                raise self.refusal(f"reshapes to {wanted[:6]}, its output is {list(self.target.shape)}")
        self.alias()

    # ---- shapes as data ----

    def fold_shape(self) -> None:
        if self.operator.number(0, "b") != Type.INT32:
            raise self.refusal("its options ask for another type than int32")
        self.fold(np.array(self.tensor(0).shape, np.int64))

    def fold(self, values: NDArray[Any]) -> None:
        """The operator's output is a constant."""
        if self.target.type != Type.INT32:
            raise self.refusal(f"'{self.target.name}' is {self.target.type_name}, must be int32")
        self.want_shape(values.shape)
        self.constants[self.operator.outputs[0]] = values

    def fold_slice(self) -> None:
        """STRIDED_SLICE of a shape: one element, or some."""
        values, (begin, end, step) = self.constant(0), (self.constant(i).reshape(-1) for i in (1, 2, 3))
        number = self.operator.number
        begins, ends, shrinks = (number(field, "i") & 1 for field in (0, 1, 4))
        if values.ndim != 1 or not len(begin) == len(end) == len(step) == 1 or step[0] == 0:
            raise self.refusal("only shapes can be sliced, along their one axis")
        if number(2, "i") or number(3, "i"):
            raise self.refusal("slices with an ellipsis or a new axis aren't possible")
        part = values[slice(None if begins else int(begin[0]), None if ends else int(end[0]), int(step[0]))]
        if shrinks:
            at = int(begin[0])
            if not -len(values) <= at < len(values):
                raise self.refusal(f"element {at} of {len(values)}: the file is damaged")
            part = values[at]
        self.fold(np.asarray(part))

    def fold_pack(self) -> None:
        parts = [self.constant(place).reshape(-1) for place in range(len(self.operator.inputs))]
        count, axis = self.operator.number(0, "i"), self.operator.number(1, "i")
        if not 1 <= len(parts) <= 8 or count != len(parts) or axis or any(len(part) != 1 for part in parts):
            raise self.refusal("only single numbers of shapes can be packed")
        self.fold(np.concatenate(parts))


@dataclasses.dataclass(frozen=True)
class _Form:
    """What TFLite Micro wants of an operator, whatever it computes; most: inputs, or None for any number."""

    least: int
    most: int | None
    outputs: int | None = 1
    options: bool = False


_FORMS_OF: dict[Code, _Form] = {
    Code.CONV_2D: _Form(2, 3, options=True),
    Code.DEPTHWISE_CONV_2D: _Form(2, 3, options=True),
    Code.FULLY_CONNECTED: _Form(2, 3, options=True),
    Code.AVERAGE_POOL_2D: _Form(1, 1, options=True),
    Code.MAX_POOL_2D: _Form(1, 1, options=True),
    Code.MEAN: _Form(2, 2, options=True),
    Code.ADD: _Form(2, 2, options=True),
    Code.CONCATENATION: _Form(1, None, options=True),
    Code.PAD: _Form(2, 2),
    Code.PADV2: _Form(3, 3),
    Code.RESHAPE: _Form(1, 2),
    Code.SQUEEZE: _Form(1, 1, options=True),
    Code.EXPAND_DIMS: _Form(2, 2),
    Code.TRANSPOSE: _Form(2, 2),
    Code.SOFTMAX: _Form(1, 1, options=True),
    Code.LOGISTIC: _Form(1, 1),
    Code.TANH: _Form(1, 1),
    Code.RELU: _Form(1, 1),
    Code.RELU6: _Form(1, 1),
    Code.LEAKY_RELU: _Form(1, 1, options=True),
    Code.HARD_SWISH: _Form(1, 1),
    Code.QUANTIZE: _Form(1, 1),
    Code.DEQUANTIZE: _Form(1, 1),
    Code.SHAPE: _Form(1, 1, options=True),
    Code.STRIDED_SLICE: _Form(4, 4, options=True),
    Code.SLICE: _Form(3, 3),
    Code.SPLIT: _Form(2, 2, outputs=None, options=True),
    Code.SPLIT_V: _Form(3, 3, outputs=None, options=True),
    Code.CALL_ONCE: _Form(0, 0, outputs=0, options=True),
    Code.VAR_HANDLE: _Form(0, 0, options=True),
    Code.READ_VARIABLE: _Form(1, 1),
    Code.ASSIGN_VARIABLE: _Form(2, 2, outputs=0),
    Code.PACK: _Form(1, None, options=True),
}
_HANDLERS: dict[Code, Callable[[Importer], object]] = {
    Code.CONV_2D: Importer.conv,
    Code.DEPTHWISE_CONV_2D: Importer.depthwise,
    Code.FULLY_CONNECTED: Importer.fully_connected,
    Code.AVERAGE_POOL_2D: Importer.pool,
    Code.MAX_POOL_2D: Importer.pool,
    Code.MEAN: Importer.mean,
    Code.ADD: Importer.add,
    Code.CONCATENATION: Importer.concatenate,
    Code.PAD: Importer.pad,
    Code.PADV2: Importer.pad,
    Code.RESHAPE: Importer.reshape,
    Code.SQUEEZE: Importer.squeeze,
    Code.EXPAND_DIMS: Importer.expand_dims,
    Code.TRANSPOSE: Importer.transpose,
    Code.SOFTMAX: Importer.softmax,
    Code.LOGISTIC: Importer.function,
    Code.TANH: Importer.function,
    Code.RELU: Importer.function,
    Code.RELU6: Importer.relu6,
    Code.LEAKY_RELU: Importer.leaky_relu,
    Code.HARD_SWISH: Importer.hard_swish,
    Code.QUANTIZE: Importer.requantize,
    Code.DEQUANTIZE: Importer.dequantize,
    Code.SHAPE: Importer.fold_shape,
    Code.STRIDED_SLICE: Importer.slice,
    Code.SLICE: Importer.slice,
    Code.SPLIT: Importer.split,
    Code.SPLIT_V: Importer.split,
    Code.CALL_ONCE: Importer.variable,
    Code.VAR_HANDLE: Importer.variable,
    Code.READ_VARIABLE: Importer.read_variable,
    Code.ASSIGN_VARIABLE: Importer.variable,
    Code.PACK: Importer.fold_pack,
}


def _spatial(shape: tuple[int, ...]) -> Shape:
    """[height, width, channels] of a tensor of batch 1."""
    if not 2 <= len(shape) <= 4 or shape[0] != 1 or 0 in shape:
        raise TfliteError(f"a tensor has shape {list(shape)}: it must be a batch of one, with two to four axes")
    height, width, channels = (1, 1, *shape[1:])[-3:]
    return height, width, channels


def _grid(tensor: FileTensor) -> tuple[float, int]:
    """Scale and zero point of an int8 activation; a uint8 one's as if 128 were taken off its values."""
    if len(tensor.scale) != 1 or len(tensor.zero_point) != 1:
        raise TfliteError(f"the activation '{tensor.name}' must have one scale and zero point; {CONVERT}")
    scale, zero_point = float(tensor.scale[0]), int(tensor.zero_point[0]) - 128 * (tensor.type == Type.UINT8)
    if not SCALES[0] < scale < SCALES[1] or not -128 <= zero_point <= 127:
        raise TfliteError(f"the activation '{tensor.name}' has scale {scale:g} and zero point {zero_point}")
    return scale, zero_point
