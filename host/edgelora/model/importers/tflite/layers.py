"""Operators with weights or windows: convolutions, fully connected layers, pools."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.limits import MAX_DEPTHWISE, MAX_ELEMENTS, MAX_POOLED
from edgelora.core.formats.network import Op
from edgelora.model.floatnet import layers
from edgelora.model.floatnet.layers import Layer
from edgelora.model.importers import moves

from .builder import Builder, Handler, grid_of, spatial
from .codes import Code
from .file import Type, type_name
from .refusals import CONVERT

PADDINGS = ("same", "valid")
BIAS_TOLERANCE = 0.02  # relative to the output's scale


@dataclasses.dataclass(frozen=True)
class Window:
    """An operator's window over [height, width], in an op's fields, and the sizes of input and output."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]
    source: tuple[int, int]
    target: tuple[int, int]

    @property
    def can_turn(self) -> bool:
        """Whether height and width can be swapped without moving any element."""
        return any(self.source[axis] == self.target[axis] == 1 for axis in (0, 1))

    @property
    def turned(self) -> Window:
        return Window(*(pair[::-1] for pair in dataclasses.astuple(self)))


def weights_of(at: Builder, place: int, channels: int, axis: int) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Weights in the file's shape, and a scale for each of the channels along `axis`."""
    tensor = at.tensor(place)
    if tensor.type != Type.INT8 or tensor.data is None or tensor.is_sparse:
        form = "sparse" if tensor.is_sparse else tensor.type_name if tensor.data is not None else "not constant"
        raise at.refusal(f"its weights '{tensor.name}' are {form}, must be a dense int8 constant; {CONVERT}")
    weights, scale = tensor.values(), tensor.scale.astype(np.float64)
    if weights.size and weights.min() == -128:
        raise at.refusal(
            f"a weight of '{tensor.name}' is -128; .elm files hold -127 to 127, as TensorFlow Lite "
            "specifies: quantize weights symmetrically, in the narrow range"
        )
    if tensor.zero_point.any() or len(tensor.zero_point) != len(scale):
        raise at.refusal(f"its weights '{tensor.name}' must have one zero point for each scale, all 0")
    if len(scale) not in (1, channels) or not (scale >= 0).all():
        raise at.refusal(f"its weights '{tensor.name}' must have one scale, or one per channel")
    if len(scale) > 1 and tensor.axis != axis:
        raise at.refusal(f"its weights '{tensor.name}' have scales along axis {tensor.axis}, must be {axis}")
    return weights, np.broadcast_to(scale, channels)


def bias_of(at: Builder, channels: int, type_field: int | None = None, place: int = 2) -> NDArray[np.int32]:
    """The bias [channels], zeros if omitted. type_field: the options' field of its type, if they have one."""
    if type_field is not None and at.operator.number(type_field, "b") not in (Type.FLOAT32, Type.INT32):
        raise at.refusal(f"its options declare a bias of type {type_name(at.operator.number(type_field, 'b'))}")
    if len(at.operator.inputs) <= place or at.operator.inputs[place] < 0:
        if len(at.operator.inputs) > place and at.operator.code != Code.FULLY_CONNECTED:
            raise at.refusal("it omits its bias, which crashes TensorFlow Lite Micro: use a bias of zeros")
        return np.zeros(channels, np.int32)
    tensor = at.tensor(place)
    if tensor.type != Type.INT32 or tensor.data is None or tensor.shape != (channels,):
        raise at.refusal(
            f"its bias '{tensor.name}' is {tensor.type_name} {list(tensor.shape)}, must be {channels} int32 "
            f"constants; {CONVERT}"
        )
    return tensor.values().reshape(-1)


def _check_bias_scale(at: Builder) -> None:
    """With one weight scale, raises if the bias scale isn't input * weights, within TFLite Micro's tolerance."""
    if len(at.operator.inputs) < 3 or at.operator.inputs[2] < 0 or len(at.tensor(1).scale) != 1:
        return
    product = float(at.tensor(0).scale[0]) * float(at.tensor(1).scale[0])
    bias = at.tensor(2)
    scale = float(bias.scale[0]) if len(bias.scale) and len(bias.zero_point) else 0.0
    if not abs(product - scale) / grid_of(at.target)[0] <= BIAS_TOLERANCE:
        raise at.refusal(f"its bias '{bias.name}' has scale {scale:g}, must be that of input * weights, {product:g}")


def _window(at: Builder, kernel: tuple[int, int], strides: int, dilations: int | None) -> Window:
    """An operator's geometry. strides, dilations: option fields of the width; the height's is the next one."""
    number = at.operator.number
    padding = number(0, "b")
    if padding not in (0, 1):
        raise at.refusal(f"padding {padding} is neither SAME nor VALID")
    stride = (number(strides + 1, "i"), number(strides, "i"))
    dilation = (1, 1) if dilations is None else (number(dilations + 1, "i", 1), number(dilations, "i", 1))
    for what, pair in (("kernel", kernel), ("stride", stride), ("dilation", dilation)):
        if not all(1 <= value <= 255 for value in pair):
            raise at.refusal(f"{what} {pair[0]}x{pair[1]}, must be 1 to 255")
    source, target = at.four_axes(at.tensor(0)), at.four_axes(at.target)
    layer = Layer("conv", kernel, stride, dilation, PADDINGS[padding])
    planned = layers.geometry(layer, source)
    if planned.output != target[:2]:
        raise at.refusal(f"its output is {target[0]}x{target[1]}, must be {planned.output[0]}x{planned.output[1]}")
    return Window(kernel, stride, dilation, (planned.pad_h[0], planned.pad_w[0]), source[:2], target[:2])


def emit_window(at: Builder, op: Op, window: Window, fused: int) -> None:
    """Appends an op with a window, transposed if its input has height and width swapped."""
    source, channels = at.source(), at.tensor(0).shape[3]
    turned = window.can_turn and at.shape_of(source) == (*window.turned.source, channels)
    if turned and at.shape_of(source) != (*window.source, channels):
        window = window.turned
        if op.weights is not None:
            axes = (1, 0, 2) if op.kind == "depthwise" else (0, 2, 1, 3)
            op.weights = op.weights.transpose(axes)
    op.input = at.reshaped(source, (*window.source, channels))
    op.kernel, op.stride, op.dilation, op.padding = window.kernel, window.stride, window.dilation, window.padding
    at.emit(op, (*window.target, at.target.shape[3]), fused)


def _dilated(at: Builder) -> None:
    """A CONV_2D between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND becomes a dilated convolution."""
    source, block = at.blocked[at.operator.inputs[0]]
    shape, wanted, made = at.tensor(1).shape, at.tensor(0).shape, at.target.shape
    number = at.operator.number
    plain = all(number(field, "i", 1) == 1 for field in (1, 2, 4, 5)) and number(0, "b") == 1
    height, width, channels = at.shape_of(source)
    if not plain or len(shape) != 4 or shape[3] != channels or len(made) != 4 or len(wanted) != 4:
        raise at.refusal(
            "a convolution between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND must be VALID, with strides of 1"
        )
    rows, columns = height - block[0] * (shape[1] - 1), width - block[1] * (shape[2] - 1)
    at.want_shape((wanted[0], rows // block[0], columns // block[1], shape[0]))
    weights, scale = weights_of(at, 1, shape[0], 0)
    op = Op("conv", source, 0, kernel=shape[1:3], dilation=block, weights=weights, bias=bias_of(at, shape[0], 6))
    op.weight_scale = scale
    at.check_int8(at.tensor(0))
    at.emit(op, (rows, columns, shape[0]), number(3, "b"))
    at.blocked[at.operator.outputs[0]] = (at.found.pop(at.operator.outputs[0]), block)


def conv(at: Builder) -> None:
    if at.operator.inputs[0] in at.blocked:
        return _dilated(at)
    outputs, inputs = at.four_axes(at.target)[2], at.four_axes(at.tensor(0))[2]
    shape = at.tensor(1).shape
    groups = inputs // shape[3] if len(shape) == 4 and shape[3] else 0
    if not groups or shape[0] != outputs or shape[3] * groups != inputs or outputs % groups:
        raise at.refusal(f"weights {list(shape)} for {inputs} channels in, {outputs} out")
    if groups > 1 and inputs * outputs * shape[1] * shape[2] > MAX_ELEMENTS:
        raise at.refusal(f"{groups} groups of weights {list(shape)} are too many once padded to one dense kernel")
    at.source()
    weights, scale = weights_of(at, 1, outputs, 0)
    weights = moves.ungrouped(weights, groups)
    op = Op("conv", 0, 0, weights=weights, bias=bias_of(at, outputs, 6), weight_scale=scale)
    emit_window(at, op, _window(at, (shape[1], shape[2]), 1, 4), at.operator.number(3, "b"))


def depthwise(at: Builder) -> None:
    outputs, inputs = at.four_axes(at.target)[2], at.four_axes(at.tensor(0))[2]
    shape, multiplier = at.tensor(1).shape, at.operator.number(3, "i")
    if len(shape) != 4 or shape[0] != 1 or shape[3] != outputs or outputs != inputs * multiplier:
        raise at.refusal(
            f"weights {list(shape)} for {inputs} channels in, {outputs} out, {multiplier} per input channel"
        )
    at.source()
    weights, scale = weights_of(at, 1, outputs, 3)
    op = Op("depthwise", 0, 0, weights=weights[0], bias=bias_of(at, outputs), weight_scale=scale)
    emit_window(at, op, _window(at, shape[1:3], 1, 5), at.operator.number(4, "b"))


def transposed(at: Builder) -> None:
    """TRANSPOSE_CONV: inserts zeros between the input's positions, then convolves with the flipped kernel."""
    (height, width, outputs), inputs = at.four_axes(at.target), at.four_axes(at.tensor(2))[2]
    shape, number = at.tensor(1).shape, at.operator.number
    if len(shape) != 4 or shape[0] != outputs or shape[3] != inputs:
        raise at.refusal(f"weights {list(shape)} for {inputs} channels in, {outputs} out")
    if at.constant(0).tolist() != list(at.target.shape):
        raise at.refusal(f"its output has shape {list(at.target.shape)}, declared is {at.integers(0)[:4]}")
    kernel, stride, padding = shape[1:3], (number(2, "i"), number(1, "i")), number(0, "b")
    if padding not in (0, 1) or not all(1 <= value <= 255 for value in (*kernel, *stride)):
        raise at.refusal(f"kernel {list(kernel)}, strides {list(stride)}: must be 1 to 255, with SAME or VALID padding")
    at.source(2)
    source = at.spatial_source(2)
    tensor = at.model.tensors[source]
    layer = Layer("conv", kernel, stride, (1, 1), PADDINGS[padding])
    planned = layers.geometry(layer, (height, width, outputs))
    if planned.output != tensor.shape[:2]:
        raise at.refusal(f"its output {height}x{width} doesn't fit its input {tensor.shape[0]}x{tensor.shape[1]}")
    weights, scale = weights_of(at, 1, outputs, 0)
    bias = bias_of(at, outputs, 4, 3)
    if stride != (1, 1):
        rows, columns = ((tensor.shape[i] - 1) * stride[i] + 1 for i in (0, 1))
        op = Op("pad", source, 0, stride=stride)
        source = at.append(op, (rows, columns, inputs), tensor.scale, tensor.zero_point)
    before = (kernel[0] - 1 - planned.pad_h[0], kernel[1] - 1 - planned.pad_w[0])
    op = Op("conv", source, 0, kernel=kernel, padding=before, weights=weights[:, ::-1, ::-1], bias=bias)
    op.weight_scale = scale
    at.emit(op, (height, width, outputs), number(3, "b"))


def fully_connected(at: Builder) -> None:
    """A dense layer or, for several rows of inputs, a 1x1 convolution over them."""
    shape, source = at.tensor(1).shape, at.source()
    size = at.model.tensors[source].size
    if len(shape) != 2 or 0 in shape or size % shape[1] or at.operator.number(1, "b"):
        raise at.refusal(f"weights {list(shape)} for an input of {size}; they must be [outputs, inputs]")
    _check_bias_scale(at)
    outputs, inputs = shape
    if at.target.is_dynamic:
        at.want_shape((*at.tensor(0).shape[:-1], outputs))
    if at.target.shape[-1:] != (outputs,):
        raise at.refusal(f"its output has shape {list(at.target.shape)}, for {outputs} outputs")
    weights, scale = weights_of(at, 1, outputs, 0)
    weights = weights.reshape(outputs, 1, 1, inputs)
    rows = size // inputs
    if rows > 1 and at.tensor(0).shape[-1:] != (inputs,):
        raise at.refusal(f"an input of shape {list(at.tensor(0).shape)} for weights of {inputs} inputs")
    if rows > 1 and at.shape_of(source)[2] != inputs:
        source = at.reshaped(source, (1, rows, inputs))
    op = Op("dense" if rows == 1 else "conv", source, 0, weights=weights, bias=bias_of(at, outputs, 4))
    op.weight_scale = scale
    positions = at.shape_of(source)[:2] if rows > 1 else (1, 1)
    at.emit(op, (*positions, outputs), at.operator.number(0, "b"))


def batch_matmul(at: Builder) -> None:
    """A product of two activations as matrices: the op has rows of both, so others are turned before it."""
    sides = [at.tensor(place).shape for place in (0, 1)]
    if min(map(len, sides)) < 2:
        raise at.refusal(f"multiplies {list(sides[0])} and {list(sides[1])}: they must be matrices")
    turns = [bool(at.operator.number(0, "B")), not at.operator.number(1, "B")]
    (*outer, rows, depth), (*others, columns, depth2) = (
        (*shape[:-2], *(shape[:-3:-1] if turn else shape[-2:])) for shape, turn in zip(sides, turns, strict=True)
    )
    if outer != others or depth != depth2:
        raise at.refusal(f"multiplies {list(sides[0])} and {list(sides[1])}: they must have the same batches and depth")
    at.want_shape((*outer, rows, columns))
    if at.operator.inputs[0] not in at.found:
        raise at.refusal("its first input must be computed")
    places = []
    for place, turn in enumerate(turns):
        shape = spatial(sides[place])
        source = at.spatial_source(place) if at.operator.inputs[place] in at.found else at.held(place, shape)
        places.append(at.turned(source) if turn else source)
    at.emit(Op("matmul", places[0], 0, input2=places[1]), spatial(at.target.shape))


def pool(at: Builder) -> None:
    kind = {Code.AVERAGE_POOL_2D: "average_pool", Code.MAX_POOL_2D: "max_pool"}[Code(at.operator.code)]
    number = at.operator.number
    at.same_grid(at.source())
    emit_window(at, Op(kind, 0, 0), _window(at, (number(4, "i"), number(3, "i")), 1, None), number(5, "b"))


def _over_positions(at: Builder) -> int:
    """A tensor with the reduced axes as positions and the others as channels; checks the output's shape."""
    shape = at.tensor(0).shape
    at.source()
    axes = {int(axis) + len(shape) * (axis < 0) for axis in at.constant(1).reshape(-1)[: len(shape) + 1]}
    if not all(0 <= axis < len(shape) for axis in axes):
        raise at.refusal(f"reduces axes {sorted(axes)} of {list(shape)}: the file is damaged")
    gone = {axis: 1 for axis in axes} if at.operator.number(0, "B") else dict.fromkeys(axes, 0)
    at.want_shape(tuple(side for i, n in enumerate(shape) if (side := gone.get(i, n))))
    at.check_int8(at.target)
    positions = {axis for axis in range(1, len(shape) - 1) if shape[axis] > 1}
    reduced = {axis for axis in axes if shape[axis] > 1}
    if reduced == positions and shape[0] == 1:
        return at.channel_source()
    if reduced == {len(shape) - 1} and shape[0] == 1 and len(shape) <= 4:
        height, width, channels = spatial(shape)
        return at.turned(at.reshaped(at.source(), (1, height * width, channels)))
    left = [axis for axis in range(len(shape)) if axis not in reduced]
    places = np.arange(at.tensor(0).size).reshape(shape).transpose(*sorted(reduced), *left)
    return at.moved(at.source(), places.reshape(1, -1, math.prod(shape[axis] for axis in left)))


def mean(at: Builder) -> None:
    source = _over_positions(at)
    at.emit(Op("mean", source, 0), (1, 1, at.shape_of(source)[2]))


def total(at: Builder) -> None:
    """A sum over positions: a depthwise convolution with a kernel of ones over all positions."""
    source = _over_positions(at)
    height, width, channels = at.shape_of(source)
    count = height * width
    if max(height, width) > 255:
        height = next((n for n in range(1, 256) if count % n == 0 and count // n <= 255), 0)
    if not height or count > MAX_DEPTHWISE:
        raise at.refusal(f"sums {count} values, the limit is {MAX_DEPTHWISE}, in rows of up to 255")
    width = count // height
    source = at.reshaped(source, (height, width, channels))
    weights = np.ones((height, width, channels), np.int8)
    op = Op("depthwise", source, 0, kernel=(height, width), weights=weights, bias=np.zeros(channels, np.int32))
    op.weight_scale = np.ones(channels)
    at.emit(op, (1, 1, channels))


def reduce_max(at: Builder) -> None:
    """The maximum over all positions, by pools as large as the limits allow."""
    source = _over_positions(at)
    at.same_grid(source)
    height, width, channels = at.shape_of(source)
    tensor = at.model.tensors[source]
    while height * width > 1:
        high = min(height, 255)
        wide = min(width, 255, MAX_POOLED // high)
        shape = (-(-height // high), -(-width // wide), channels)
        op = Op("max_pool", source, 0, kernel=(high, wide), stride=(high, wide))
        source = at.append(op, shape, tensor.scale, tensor.zero_point)
        height, width, _ = shape
    at.found[at.operator.outputs[0]] = source


HANDLERS = {
    Code.REDUCE_MAX: Handler(reduce_max, 2, 2, options=True),
    Code.CONV_2D: Handler(conv, 2, 3, options=True),
    Code.DEPTHWISE_CONV_2D: Handler(depthwise, 2, 3, options=True),
    Code.TRANSPOSE_CONV: Handler(transposed, 3, 4, options=True),
    Code.BATCH_MATMUL: Handler(batch_matmul, 2, 2, options=True),
    Code.FULLY_CONNECTED: Handler(fully_connected, 2, 3, options=True),
    Code.AVERAGE_POOL_2D: Handler(pool, 1, 1, options=True),
    Code.MAX_POOL_2D: Handler(pool, 1, 1, options=True),
    Code.MEAN: Handler(mean, 2, 2, options=True),
    Code.SUM: Handler(total, 2, 2, options=True),
}
