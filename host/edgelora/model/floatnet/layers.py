"""A small float network and its trainer, in NumPy: what the host quantizes, and pretrains before.

A network is a graph of layers over activations [batch, height, width, channels]; 1-D convolutions have height 1.
Geometry (SAME/VALID padding, pooling that leaves padding out of the average) is TensorFlow Lite's, so its layers map
one to one onto the INT8 layers of `formats.network`. The trainer knows some kinds; others come trained.
Everything is reproducible from a seed, in float32 to the last bit on every computer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError

from . import attention, deterministic_math
from .functions import Smooth

Array = NDArray[np.floating]
Shape = tuple[int, int, int]  # height, width, channels
Places = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
Sides = tuple[tuple[int, int], tuple[int, int]]  # rows (above, below), columns (left, right)
WEIGHTED = ("conv", "depthwise", "dense", "project")
PARAMETRIC = ("embed", "norm", "constant")  # with weights, some with a bias
STREAMED = ("embed", "project", "widen")  # add to a second input, if they have one
TWO_INPUTS = ("add", "multiply", "concatenate")
PAIRS = ("add", "multiply")  # of two inputs; sides of the second that are 1 are repeated
ACTIVATIONS = {"none": (-math.inf, math.inf), "relu": (0.0, math.inf), "relu6": (0.0, 6.0), "hardtanh": (-1.0, 1.0)}


@dataclass
class Layer:
    """One layer. Only conv, depthwise, dense and project have weights and a bias [out]; all of them but project, and
    add and multiply, have an activation.

    Weights are [out, kernel_h, kernel_w, in]. A dense layer flattens its input [height, width, channels] and has
    weights [out, 1, 1, height*width*channels]. A depthwise convolution filters each channel by itself, into out / in
    channels, and has weights [kernel_h, kernel_w, out]. A mean layer averages over all positions (global average
    pooling); pad surrounds its input with zeros and, with a stride, parts its positions by
    them; lookup applies `function` to each element; softmax is over channels.
    A gather takes `places` of its input's rows, columns and channels, and makes them the output's axes `order` says;
    concatenate puts its second input behind the first along channels; reshape tells the same elements as `shape`.

    Layers of transformers: embed takes rows of weights [symbols, channels] by the numbers that are its input, project
    is a convolution, widen its input; each adds to a second input, if there is one. A constant is its weights [height,
    width, channels], whatever it reads. A norm has weights [channels] and, if centred, a bias. rotate turns pairs of
    channels by `angles`, attend reads q, k and v (`attention`).
    """

    kind: str
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: str | Sides = "same"
    activation: str = "none"
    weights: Array | None = None
    bias: Array | None = None
    function: Callable[[Array], Array] | None = None
    inputs: tuple[int, ...] = ()  # tensors it reads: 0 is the network's input, i + 1 what layer i makes; (): the last
    name: str = ""  # where it comes from, for reports
    places: Places | None = None  # of a gather: indices of rows, columns, channels
    shape: Shape | None = None  # of a reshape
    order: tuple[int, int, int] = (0, 1, 2)  # of a gather: the output's axes are these of the input
    gain: Array | None = None  # [out]: normalization that was folded in multiplied each channel's weights by it
    centred: bool = False  # of a norm: LayerNorm, else RMSNorm
    epsilon: float = attention.EPSILON  # of a norm
    angles: Array | None = None  # of rotate: cosine and sine [rows, half, 2]
    heads: tuple[int, int] = (1, 1)  # of attend: of q, and of k and v
    causal: bool = False  # of attend: a row sees itself and the rows before it


@dataclass
class FloatNet:
    """Float layers from inputs of `input_shape` to logits, one for each of `labels` (if given)."""

    input_shape: Shape
    layers: list[Layer]
    labels: list[str] = field(default_factory=list)
    base_id: bytes = b""  # of the base that was made of it, where one layer became one op

    def __repr__(self) -> str:
        return f"<FloatNet {self.input_shape}, {len(self.layers)} layers>"


@dataclass(frozen=True)
class Geometry:
    """Where a layer's kernel falls: output [height, width] and zero rows/columns (before, after) on each axis."""

    output: tuple[int, int]
    pad_h: tuple[int, int]
    pad_w: tuple[int, int]


# ---- construction ----------------------------------------------------------------------------------------------------


def conv(
    outputs: int,
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    padding: str = "same",
    activation: str = "relu",
) -> Layer:
    """A convolution whose weights `build` will draw; `outputs` is its number of channels."""
    return Layer("conv", kernel, stride, dilation, padding, activation, bias=np.zeros(outputs, np.float32))


def depthwise(
    channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    padding: str = "same",
    activation: str = "relu",
) -> Layer:
    """A depthwise convolution whose weights `build` will draw, for an input of that many `channels`."""
    return Layer(
        "depthwise", kernel, stride, padding=padding, activation=activation, bias=np.zeros(channels, np.float32)
    )


def dense(outputs: int, activation: str = "none") -> Layer:
    """A dense layer whose weights `build` will draw."""
    return Layer("dense", activation=activation, bias=np.zeros(outputs, np.float32))


def average_pool(kernel: tuple[int, int], stride: tuple[int, int] | None = None, padding: str = "valid") -> Layer:
    """Average pooling; its stride is its kernel unless given."""
    return Layer("average_pool", kernel, stride or kernel, padding=padding)


def mean() -> Layer:
    """The average over all positions."""
    return Layer("mean")


def pointwise(outputs: int) -> Layer:
    """A dense layer at each position, whose weights `build` will draw."""
    return conv(outputs, (1, 1), activation="none")


def project(outputs: int) -> Layer:
    """`pointwise`, added to a second input."""
    return Layer("project", bias=np.zeros(outputs, np.float32))


def build(input_shape: Shape, layers: Sequence[Layer], seed: int, labels: Sequence[str] = ()) -> FloatNet:
    """Draws float32 weights for the `layers` that lack them: He-normal before a ReLU, Glorot-like (gain 1) otherwise.

    Raises ValueError for a layer that is unknown or does not fit its input.
    """
    rng = np.random.default_rng(seed)
    net, made = FloatNet(input_shape, [], list(labels)), [input_shape]
    for i, layer in enumerate(layers):
        _check(layer)
        shape = made[(layer.inputs or (i,))[0]]
        if layer.bias is not None and layer.weights is None:
            gain = math.sqrt(2.0) if layer.activation != "none" else 1.0
            scale = gain / math.sqrt(_fan_in(layer, shape))
            weights = deterministic_math.normal(rng, _weights_shape(layer, shape), scale)
            layer = replace(layer, weights=weights, bias=np.zeros_like(layer.bias))
        net.layers.append(layer)
        made.append(output_shape(layer, shape))
    return net


def _check(layer: Layer) -> None:
    if layer.kind not in layer_kinds():
        raise InputError(f"unknown layer kind {layer.kind!r}; use one of {', '.join(layer_kinds())}")
    if layer.padding not in ("same", "valid"):
        raise InputError(f"unknown padding {layer.padding!r}; use 'same' or 'valid'")
    if layer.activation not in ACTIVATIONS:
        raise InputError(f"unknown activation {layer.activation!r}; use one of {', '.join(ACTIVATIONS)}")
    if layer.kind in ("average_pool", "mean") and layer.activation != "none":
        raise InputError(f"a {layer.kind} layer has no activation; put it on the convolution before")


def _fan_in(layer: Layer, shape: Shape) -> int:
    """How many inputs one output sees."""
    if layer.kind == "dense":
        return math.prod(shape)
    return math.prod(layer.kernel) * (1 if layer.kind == "depthwise" else shape[2])


def _weights_shape(layer: Layer, shape: Shape) -> tuple[int, ...]:
    """The shape of the weights of a layer with a bias. ValueError for a depthwise layer of other channels."""
    assert layer.bias is not None
    if layer.kind == "depthwise":
        if len(layer.bias) != shape[2]:
            raise InputError(f"a depthwise layer of {len(layer.bias)} channels does not fit an input of {shape[2]}")
        return (*layer.kernel, shape[2])
    return (len(layer.bias), *layer.kernel, _fan_in(layer, shape) // math.prod(layer.kernel))


# ---- geometry --------------------------------------------------------------------------------------------------------


def geometry(layer: Layer, shape: Shape) -> Geometry:
    """Output size and padding of a layer with a kernel, or pad, on an input of `shape` (TensorFlow's SAME/VALID)."""
    sides = layer.padding if isinstance(layer.padding, tuple) else (layer.padding, layer.padding)
    (height, top, bottom), (width, left, right) = (
        _axis(shape[i], layer.kernel[i], layer.stride[i], layer.dilation[i], sides[i]) for i in (0, 1)
    )
    return Geometry((height, width), (top, bottom), (left, right))


def _axis(size: int, kernel: int, stride: int, dilation: int, padding: str | tuple[int, int]) -> tuple[int, int, int]:
    reach = (kernel - 1) * dilation + 1
    if padding != "same":
        before, after = (0, 0) if isinstance(padding, str) else padding
        size += before + after
        if reach > size:
            raise InputError(f"a kernel reaching {reach} positions does not fit an input of {size}; use 'same' padding")
        return (size - reach) // stride + 1, before, after
    output = -(-size // stride)
    total = max((output - 1) * stride + reach - size, 0)
    return output, total // 2, total - total // 2


def output_shape(layer: Layer, shape: Shape, *others: Shape) -> Shape:
    """[height, width, channels] that `layer` makes of an input of `shape`, and of `others` behind it."""
    if layer.kind == "concatenate":
        return (*shape[:2], shape[2] + sum(other[2] for other in others))
    if layer.kind == "reshape" and layer.shape is not None:
        return layer.shape
    if layer.kind == "gather" and layer.places is not None:
        height, width, channels = (len(layer.places[axis]) for axis in layer.order)
        return height, width, channels
    if layer.kind == "constant" and layer.weights is not None:
        height, width, channels = layer.weights.shape
        return height, width, channels
    if layer.kind == "embed" and layer.weights is not None:
        return (*shape[:2], layer.weights.shape[1])
    if layer.kind == "mean":
        return (1, 1, shape[2])
    if layer.kind == "pad":
        (height, width), sides = _parted(layer, shape), _pad_sides(layer, shape)
        return height + sum(sides[0]), width + sum(sides[1]), shape[2]
    if layer.kind in ("average_pool", "max_pool"):
        return (*geometry(layer, shape).output, shape[2])
    if layer.kind not in WEIGHTED or layer.bias is None:
        return shape
    return (1, 1, len(layer.bias)) if layer.kind == "dense" else (*geometry(layer, shape).output, len(layer.bias))


def _parted(layer: Layer, shape: Shape) -> tuple[int, int]:
    """Height and width with zeros between the positions."""
    return (shape[0] - 1) * layer.stride[0] + 1, (shape[1] - 1) * layer.stride[1] + 1


def _pad_sides(layer: Layer, shape: Shape) -> Sides:
    at = geometry(replace(layer, stride=(1, 1)), shape)
    return at.pad_h, at.pad_w


def shapes(net: FloatNet) -> list[Shape]:
    """Shapes of the input and of every layer's output, in order."""
    out = [net.input_shape]
    for i, layer in enumerate(net.layers):
        out.append(output_shape(layer, *(out[source] for source in sources(net, i))))
    return out


def sources(net: FloatNet, index: int) -> tuple[int, ...]:
    """The tensors that a layer reads, as `Layer.inputs` counts them."""
    return net.layers[index].inputs or (index,)


def parameters(net: FloatNet) -> list[Array]:
    """The arrays that training changes: weights and bias of each layer that has them, in order."""
    return [p for layer in net.layers for p in (layer.weights, layer.bias) if p is not None]


def macs(net: FloatNet) -> int:
    """Multiply-accumulates of one inference, layers with weights only."""
    total = 0
    for layer, out in zip(net.layers, shapes(net)[1:], strict=True):
        if layer.kind in WEIGHTED and layer.weights is not None:
            total += out[0] * out[1] * layer.weights.size
    return total


# ---- forward and backward --------------------------------------------------------------------------------------------


def forward(net: FloatNet, x: Array) -> list[Array]:
    """All activations for inputs x [N, H, W, C]: x itself, then each layer's output; the last are the logits."""
    activations = [x]
    for i, layer in enumerate(net.layers):
        activations.append(layer_forward(layer, *(activations[source] for source in sources(net, i))))
    return activations


def predict(net: FloatNet, x: Array, batch: int = 256) -> Array:
    """Logits [N, positions * classes] of inputs [N, H, W, C]."""
    parts = [forward(net, x[i : i + batch])[-1] for i in range(0, len(x), batch)]
    return np.concatenate(parts).reshape(len(x), -1)


def accuracy(net: FloatNet, x: Array, y: NDArray[np.integer]) -> float:
    """Share of labels y [N], or [N, positions], that have the largest logit."""
    return float(np.mean(predict(net, x).reshape(*y.shape, -1).argmax(-1) == y))


Gradients = tuple[Array, ...]  # of a layer's weights and, if it has one, bias


def backward(net: FloatNet, activations: list[Array], d_logits: Array, lowest: int = 0) -> list[Gradients | None]:
    """Gradients (d_weights, d_bias) of every layer, None for layers without weights or below layer `lowest`.

    `activations` are those of `forward`; d_logits [N, ...] is the loss's gradient at the logits. Raises ValueError
    for a network with layers that the trainer does not know.
    """
    for i, layer in enumerate(net.layers):
        if layer.kind not in _BACKWARD:
            raise InputError(f"layer {i} ({layer.kind}) can't be trained here, only {', '.join(_BACKWARD)}")
    gradients: list[Gradients | None] = [None] * len(net.layers)
    errors = {len(net.layers): d_logits.reshape(activations[-1].shape)}
    for i in range(len(net.layers) - 1, lowest - 1, -1):
        if i + 1 not in errors:
            continue  # nothing that counts reads it
        read = sources(net, i)
        d_inputs, gradients[i] = layer_backward(
            net.layers[i], [activations[t] for t in read], activations[i + 1], errors.pop(i + 1), max(read) > lowest
        )
        for tensor, d_input in zip(read, d_inputs, strict=False):
            if tensor > lowest:
                errors[tensor] = errors[tensor] + d_input if tensor in errors else d_input
    return gradients


def layer_forward(layer: Layer, x: Array, *others: Array) -> Array:
    """Output [N, H', W', C'] of one layer for x [N, H, W, C]; `others` are the inputs behind the first."""
    if layer.kind in _PLAIN:
        return _PLAIN[layer.kind](layer, x)
    if layer.kind == "attend":
        k, v = others
        return attention.attend(x, k, v, layer.heads, layer.causal)
    if layer.kind == "concatenate":
        return np.concatenate([x, *others], axis=3)
    if layer.kind in PAIRS:
        out: Array = x * others[0] if layer.kind == "multiply" else x + others[0]
    elif layer.kind in ("embed", "widen"):
        out = x if layer.weights is None else layer.weights[x[..., 0].astype(np.int64)]
    else:
        assert layer.weights is not None and layer.bias is not None
        out = linear(layer, layer.weights, x)
        out += layer.bias
    if layer.kind in STREAMED and others:
        out = out + others[0]
    if layer.activation != "none":
        np.clip(out, *ACTIVATIONS[layer.activation], out=out)
    return out


def _constant(layer: Layer, x: Array) -> Array:
    assert layer.weights is not None
    return np.broadcast_to(layer.weights, (len(x), *layer.weights.shape))


def _norm(layer: Layer, x: Array) -> Array:
    assert layer.weights is not None
    return attention.norm(x, layer.weights, layer.bias, layer.centred, layer.epsilon)


def _rotate(layer: Layer, x: Array) -> Array:
    assert layer.angles is not None
    return attention.rotated(x, layer.angles)


def _mean(layer: Layer, x: Array) -> Array:
    return np.asarray(x.mean(axis=(1, 2), keepdims=True))


def _average_pool(layer: Layer, x: Array) -> Array:
    return np.asarray(_patches(layer, x).sum(axis=(3, 4)) / _pool_counts(layer, x))


def _max_pool(layer: Layer, x: Array) -> Array:
    return np.asarray(_patches(layer, x, -np.inf).max(axis=(3, 4)))


def _pad(layer: Layer, x: Array) -> Array:
    above, left = (sides[0] for sides in _pad_sides(layer, x.shape[1:]))
    out = np.zeros((len(x), *output_shape(layer, x.shape[1:])), x.dtype)
    (height, width), (down, right) = _parted(layer, x.shape[1:]), layer.stride
    out[:, above : above + height : down, left : left + width : right] = x
    return out


def _gather(layer: Layer, x: Array) -> Array:
    assert layer.places is not None
    rows, columns, channels = (list(places) for places in layer.places)
    return np.transpose(x[:, rows][:, :, columns][:, :, :, channels], (0, *(axis + 1 for axis in layer.order)))


def _reshape(layer: Layer, x: Array) -> Array:
    assert layer.shape is not None
    return x.reshape(len(x), *layer.shape)


def _lookup(layer: Layer, x: Array) -> Array:
    assert layer.function is not None
    return layer.function(x)


def _softmax(layer: Layer, x: Array) -> Array:
    e = deterministic_math.exp(x - x.max(axis=3, keepdims=True))
    return np.asarray(e / e.sum(axis=3, keepdims=True))


_PLAIN: dict[str, Callable[[Layer, Array], Array]] = {  # layers of one input, without an activation
    "mean": _mean,
    "average_pool": _average_pool,
    "max_pool": _max_pool,
    "pad": _pad,
    "gather": _gather,
    "lookup": _lookup,
    "reshape": _reshape,
    "softmax": _softmax,
    "constant": _constant,
    "norm": _norm,
    "rotate": _rotate,
}


def layer_kinds() -> tuple[str, ...]:
    """All kinds of layers that `layer_forward` knows."""
    return (*WEIGHTED, *TWO_INPUTS, "embed", "widen", "attend", *_PLAIN)


def input_counts(layer: Layer) -> tuple[int, ...]:
    """How many tensors a layer can read."""
    if layer.kind in STREAMED:
        return (1, 2)
    return (3,) if layer.kind == "attend" else (2,) if layer.kind in TWO_INPUTS else (1,)


def linear(layer: Layer, weights: Array, x: Array) -> Array:
    """The product of x [N, H, W, C] with `weights`, without bias or activation, as `layer` lays it out.

    Any number of output channels will do (but for depthwise); x is padded with zeros. Exact for integers held in
    float64 below 2**53.
    """
    if layer.kind == "depthwise":
        return _depthwise(layer, weights, x)
    columns, positions = im2col(layer, x)
    return deterministic_math.product(columns, weights.reshape(len(weights), -1).T).reshape(*positions, len(weights))


def layer_backward(
    layer: Layer, inputs: Sequence[Array], out: Array, d_out: Array, need_dx: bool = True
) -> tuple[Sequence[Array], Gradients | None]:
    """Gradients at the inputs, and at weights and bias, from a layer's inputs, its output and the gradient there.

    There may be fewer of the first kind than inputs, where the rest has none, or none if they are not needed. A ReLU
    passes no gradient where its output is at a bound.
    """
    if layer.activation != "none":
        low, high = ACTIVATIONS[layer.activation]
        d_out = d_out * ((out > low) & (out < high))
    return _BACKWARD[layer.kind](layer, inputs, d_out, need_dx)


Backward = Callable[[Layer, Sequence[Array], Array, bool], tuple[Sequence[Array], Gradients | None]]


def _mean_backward(layer: Layer, inputs: Sequence[Array], d_out: Array, _: bool) -> tuple[Sequence[Array], None]:
    shape = inputs[0].shape
    return [np.broadcast_to(d_out / (shape[1] * shape[2]), shape)], None


def _pool_backward(layer: Layer, inputs: Sequence[Array], d_out: Array, _: bool) -> tuple[Sequence[Array], None]:
    [x] = inputs
    share = (d_out / _pool_counts(layer, x))[:, :, :, None, None, :]
    return [_scatter(layer, np.broadcast_to(share, (*d_out.shape[:3], *layer.kernel, x.shape[3])), x.shape)], None


def _linear_backward(
    layer: Layer, inputs: Sequence[Array], d_out: Array, need_dx: bool
) -> tuple[Sequence[Array], Gradients]:
    assert layer.weights is not None
    x, stream = inputs[0], [d_out] * (len(inputs) - 1)
    columns, positions = im2col(layer, x)
    flat = d_out.reshape(len(columns), -1)
    gradients = deterministic_math.product(flat.T, columns).reshape(layer.weights.shape), flat.sum(axis=0)
    if not need_dx:
        return [], gradients
    d_columns = deterministic_math.product(flat, layer.weights.reshape(flat.shape[1], -1))
    if layer.kind == "dense" or (layer.kernel == layer.stride == (1, 1)):
        return [d_columns.reshape(x.shape), *stream], gradients
    return [_scatter(layer, d_columns.reshape(*positions, *layer.kernel, x.shape[3]), x.shape), *stream], gradients


def _pair_backward(layer: Layer, inputs: Sequence[Array], d_out: Array, _: bool) -> tuple[Sequence[Array], None]:
    parts = [d_out, d_out] if layer.kind == "add" else [d_out * inputs[1], d_out * inputs[0]]
    return [_summed(part, x.shape) for part, x in zip(parts, inputs, strict=True)], None


def _summed(d: Array, shape: tuple[int, ...]) -> Array:
    """The gradient at an input of `shape` that was repeated along some sides."""
    repeated = tuple(axis for axis in range(d.ndim) if d.shape[axis] != shape[axis])
    return np.asarray(d.sum(axis=repeated, keepdims=True)) if repeated else d


def _lookup_backward(layer: Layer, inputs: Sequence[Array], d_out: Array, _: bool) -> tuple[Sequence[Array], None]:
    if not isinstance(layer.function, Smooth):
        raise InputError(f"layer {layer.name or layer.kind}: the derivative of its function is not known")
    return [d_out * layer.function.slope(inputs[0])], None


def _embed_backward(layer: Layer, inputs: Sequence[Array], d_out: Array, _: bool) -> tuple[Sequence[Array], Gradients]:
    assert layer.weights is not None
    ids = inputs[0][..., 0].astype(np.int64).reshape(-1)
    chosen = (ids == np.arange(len(layer.weights))[:, None]).astype(d_out.dtype)
    d_weights = deterministic_math.product(chosen, d_out.reshape(len(ids), -1))
    return [np.zeros_like(inputs[0]), d_out], (d_weights,)


def _widen_backward(layer: Layer, inputs: Sequence[Array], d_out: Array, _: bool) -> tuple[Sequence[Array], None]:
    return [d_out] * len(inputs), None


def _constant_backward(
    layer: Layer, inputs: Sequence[Array], d_out: Array, _: bool
) -> tuple[Sequence[Array], Gradients]:
    return [], (d_out.sum(axis=0),)


def _norm_backward(layer: Layer, inputs: Sequence[Array], d_out: Array, _: bool) -> tuple[Sequence[Array], Gradients]:
    assert layer.weights is not None
    dx, d_gain, d_bias = attention.norm_backward(inputs[0], layer.weights, d_out, layer.centred, layer.epsilon)
    return [dx], (d_gain,) if layer.bias is None else (d_gain, d_bias)


def _rotate_backward(layer: Layer, inputs: Sequence[Array], d_out: Array, _: bool) -> tuple[Sequence[Array], None]:
    assert layer.angles is not None
    return [attention.rotated(d_out, layer.angles, back=True)], None


def _attend_backward(layer: Layer, inputs: Sequence[Array], d_out: Array, _: bool) -> tuple[Sequence[Array], None]:
    q, k, v = inputs
    return attention.attend_backward(q, k, v, d_out, layer.heads, layer.causal), None


def _depthwise_backward(
    layer: Layer, inputs: Sequence[Array], d_out: Array, need_dx: bool
) -> tuple[Sequence[Array], Gradients]:
    assert layer.weights is not None
    [x] = inputs
    padded, taps = _taps(layer, x)
    d_padded, product = np.zeros_like(padded), np.empty_like(d_out)
    d_weights = np.empty_like(layer.weights)

    for i, j, window in taps:
        d_weights[i, j] = np.multiply(padded[window], d_out, out=product).sum(axis=(0, 1, 2))
        if need_dx:
            d_padded[window] += np.multiply(d_out, _row(layer.weights[i, j], d_out), out=product)
    return [_unpadded(layer, d_padded, x.shape)], (d_weights, d_out.sum(axis=(0, 1, 2)))


_BACKWARD: dict[str, Backward] = {  # kinds that the trainer passes gradients through
    "conv": _linear_backward,
    "depthwise": _depthwise_backward,
    "dense": _linear_backward,
    "average_pool": _pool_backward,
    "mean": _mean_backward,
    "add": _pair_backward,
    "multiply": _pair_backward,
    "lookup": _lookup_backward,
    "embed": _embed_backward,
    "project": _linear_backward,
    "widen": _widen_backward,
    "constant": _constant_backward,
    "norm": _norm_backward,
    "rotate": _rotate_backward,
    "attend": _attend_backward,
}


def _depthwise(layer: Layer, weights: Array, x: Array) -> Array:
    """Each channel of x [N, H, W, C] filtered by its own [kernel_h, kernel_w] of `weights`, tap by tap."""
    if weights.shape[2] > x.shape[3]:
        x = np.repeat(x, weights.shape[2] // x.shape[3], axis=3)
    padded, taps = _taps(layer, x)
    out = np.zeros((len(x), *geometry(layer, x.shape[1:]).output, x.shape[3]), np.result_type(x, weights))
    product = np.empty_like(out)
    for i, j, window in taps:
        out += np.multiply(padded[window], _row(weights[i, j], out), out=product)
    return out


def _row(weights: Array, like: Array) -> Array:
    """One tap's weights [channels] for each column [W', channels]: the longer a row, the faster NumPy multiplies."""
    return np.tile(weights, (like.shape[2], 1))


def _taps(layer: Layer, x: Array) -> tuple[Array, list[tuple[int, int, tuple[slice, slice, slice]]]]:
    """x padded with zeros and, for each tap (i, j) of the kernel, the part of it [N, H', W', C] that the tap sees."""
    at = geometry(layer, x.shape[1:])
    padded = np.pad(x, ((0, 0), at.pad_h, at.pad_w, (0, 0)))
    axes = [
        [_stepped(i * layer.dilation[axis], at.output[axis], layer.stride[axis]) for i in range(layer.kernel[axis])]
        for axis in (0, 1)
    ]
    return padded, [(i, j, (slice(None), h, w)) for i, h in enumerate(axes[0]) for j, w in enumerate(axes[1])]


def im2col(layer: Layer, x: Array) -> tuple[Array, tuple[int, int, int]]:
    """What each output position sees, [N*H'*W', inputs], and (N, H', W')."""
    if layer.kind == "dense":
        return x.reshape(len(x), -1), (len(x), 1, 1)
    patches = _patches(layer, x)
    positions = patches.shape[:3]
    return patches.reshape(math.prod(positions), -1), positions


def _patches(layer: Layer, x: Array, fill: float = 0.0) -> Array:
    """A view [N, H', W', kernel_h, kernel_w, C] of x padded with `fill`."""
    at = geometry(layer, x.shape[1:])
    sides = ((0, 0), at.pad_h, at.pad_w, (0, 0))
    padded = np.pad(x, sides, constant_values=fill) if any(at.pad_h + at.pad_w) else x
    n, h, w, c = padded.strides
    return np.lib.stride_tricks.as_strided(
        padded,
        (len(x), *at.output, *layer.kernel, x.shape[3]),
        (n, h * layer.stride[0], w * layer.stride[1], h * layer.dilation[0], w * layer.dilation[1], c),
        writeable=False,
    )


def _scatter(layer: Layer, d_patches: Array, shape: tuple[int, ...]) -> Array:
    """The transpose of `_patches`: adds d_patches [N, H', W', kernel_h, kernel_w, C] up into dx of `shape`."""
    padded, taps = _taps(layer, np.zeros(shape, d_patches.dtype))
    for i, j, window in taps:
        padded[window] += d_patches[:, :, :, i, j]
    return _unpadded(layer, padded, shape)


def _unpadded(layer: Layer, padded: Array, shape: tuple[int, ...]) -> Array:
    """What of `padded` is not padding, as large as the layer's input of `shape`."""
    _, height, width, _ = shape
    at = geometry(layer, (height, width, shape[3]))
    return padded[:, at.pad_h[0] : at.pad_h[0] + height, at.pad_w[0] : at.pad_w[0] + width]


def _stepped(start: int, count: int, step: int) -> slice:
    return slice(start, start + (count - 1) * step + 1, step)


def _pool_counts(layer: Layer, x: Array) -> Array:
    """How many real (not padded) inputs each pooled position averages, [1, H', W', 1]."""
    return np.asarray(_patches(layer, np.ones((1, *x.shape[1:3], 1), x.dtype)).sum(axis=(3, 4)))
