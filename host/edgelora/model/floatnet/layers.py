"""A small float network and its trainer, in NumPy: what the host quantizes, and pretrains before.

A network is a graph of layers over activations [batch, height, width, channels]; 1-D convolutions have height 1.
Geometry (SAME/VALID padding, pooling that leaves padding out of the average) is TensorFlow Lite's, so its layers map
one to one onto the INT8 layers of `formats.network`. The trainer knows chains of some kinds; others come trained.
Everything is reproducible from a seed, in float32 to the last bit on every computer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError

from . import deterministic_math

Array = NDArray[np.floating]
Shape = tuple[int, int, int]  # height, width, channels
Places = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
Sides = tuple[tuple[int, int], tuple[int, int]]  # rows (above, below), columns (left, right)
WEIGHTED = ("conv", "depthwise", "dense")
TRAINABLE = (*WEIGHTED, "average_pool", "mean")  # what the trainer passes gradients through
TWO_INPUTS = ("add", "multiply", "concatenate")
PAIRS = ("add", "multiply")  # of two inputs; sides of the second that are 1 are repeated
ACTIVATIONS = {"none": (-math.inf, math.inf), "relu": (0.0, math.inf), "relu6": (0.0, 6.0), "hardtanh": (-1.0, 1.0)}


@dataclass
class Layer:
    """One layer. Only conv, depthwise and dense have weights and a bias [out]; they, add and multiply have an
    activation.

    Weights are [out, kernel_h, kernel_w, in]. A dense layer flattens its input [height, width, channels] and has
    weights [out, 1, 1, height*width*channels]. A depthwise convolution filters each channel by itself, into out / in
    channels, and has weights [kernel_h, kernel_w, out]. A mean layer averages over all positions (global average
    pooling); pad surrounds its input with zeros and, with a stride, parts its positions by
    them; lookup applies `function` to each element; softmax is over channels.
    A gather takes `places` of its input's rows, columns and channels, and makes them the output's axes `order` says;
    concatenate puts its second input behind the first along channels; reshape tells the same elements as `shape`.
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


def build(input_shape: Shape, layers: Sequence[Layer], seed: int, labels: Sequence[str] = ()) -> FloatNet:
    """Draws float32 weights for `layers` in a chain: He-normal before a ReLU, Glorot-like (gain 1) otherwise.

    Raises ValueError for a layer that is unknown or does not fit its input.
    """
    rng = np.random.default_rng(seed)
    built, shape = [], input_shape
    for layer in layers:
        _check(layer)
        if layer.bias is not None:
            gain = math.sqrt(2.0) if layer.activation != "none" else 1.0
            scale = gain / math.sqrt(_fan_in(layer, shape))
            weights = deterministic_math.normal(rng, _weights_shape(layer, shape), scale)
            layer = replace(layer, weights=weights, bias=np.zeros_like(layer.bias))
        built.append(layer)
        shape = output_shape(layer, shape)
    return FloatNet(input_shape, built, list(labels))


def _check(layer: Layer) -> None:
    if layer.kind not in TRAINABLE:
        raise InputError(f"unknown layer kind {layer.kind!r}; use one of {', '.join(TRAINABLE)}")
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


def output_shape(layer: Layer, shape: Shape, other: Shape = (0, 0, 0)) -> Shape:
    """[height, width, channels] that `layer` makes of an input of `shape`, and of another of shape `other`."""
    if layer.kind == "concatenate":
        return (*shape[:2], shape[2] + other[2])
    if layer.kind == "reshape" and layer.shape is not None:
        return layer.shape
    if layer.kind == "gather" and layer.places is not None:
        height, width, channels = (len(layer.places[axis]) for axis in layer.order)
        return height, width, channels
    if layer.kind == "mean":
        return (1, 1, shape[2])
    if layer.kind == "pad":
        (height, width), sides = _parted(layer, shape), _pad_sides(layer, shape)
        return height + sum(sides[0]), width + sum(sides[1]), shape[2]
    if layer.kind in ("average_pool", "max_pool"):
        return (*geometry(layer, shape).output, shape[2])
    if layer.bias is None:
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
        if layer.weights is not None:
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
    """Logits [N, classes] of inputs [N, H, W, C]."""
    parts = [forward(net, x[i : i + batch])[-1] for i in range(0, len(x), batch)]
    return np.concatenate(parts).reshape(len(x), -1)


def accuracy(net: FloatNet, x: Array, y: NDArray[np.integer]) -> float:
    """Share of inputs whose largest logit is at the label."""
    return float(np.mean(predict(net, x).argmax(1) == y))


def backward(
    net: FloatNet, activations: list[Array], d_logits: Array, lowest: int = 0
) -> list[tuple[Array, Array] | None]:
    """Gradients (d_weights, d_bias) of every layer, None for layers without weights or below layer `lowest`.

    `activations` are those of `forward`; d_logits [N, classes] is the loss's gradient at the logits. Raises ValueError
    for a network that isn't a chain of `TRAINABLE` layers.
    """
    for i, layer in enumerate(net.layers):
        if layer.kind not in TRAINABLE or sources(net, i) != (i,):
            raise InputError(f"layer {i} ({layer.kind}) can't be trained here, only chains of {', '.join(TRAINABLE)}")
    gradients: list[tuple[Array, Array] | None] = [None] * len(net.layers)
    d_out = d_logits.reshape(activations[-1].shape)
    for i in range(len(net.layers) - 1, lowest - 1, -1):
        d_out, gradients[i] = layer_backward(net.layers[i], activations[i], activations[i + 1], d_out, i > lowest)
    return gradients


def layer_forward(layer: Layer, x: Array, other: Array | None = None) -> Array:
    """Output [N, H', W', C'] of one layer for x [N, H, W, C]; `other` is the second input of those that have one."""
    if layer.kind in _PLAIN:
        return _PLAIN[layer.kind](layer, x)
    if layer.kind == "concatenate":
        assert other is not None
        return np.concatenate([x, other], axis=3)
    if other is not None:
        out: Array = x * other if layer.kind == "multiply" else x + other
    else:
        assert layer.weights is not None and layer.bias is not None
        out = linear(layer, layer.weights, x)
        out += layer.bias
    if layer.activation != "none":
        np.clip(out, *ACTIVATIONS[layer.activation], out=out)
    return out


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


_PLAIN: dict[str, Callable[[Layer, Array], Array]] = {  # layers without weights or activation
    "mean": _mean,
    "average_pool": _average_pool,
    "max_pool": _max_pool,
    "pad": _pad,
    "gather": _gather,
    "lookup": _lookup,
    "reshape": _reshape,
    "softmax": _softmax,
}


def layer_kinds() -> tuple[str, ...]:
    """All kinds of layers that `layer_forward` knows."""
    return (*WEIGHTED, *TWO_INPUTS, *_PLAIN)


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
    layer: Layer, x: Array, out: Array, d_out: Array, need_dx: bool = True
) -> tuple[Array, tuple[Array, Array] | None]:
    """(dx, (d_weights, d_bias)) of one layer from its input, output and the gradient there; dx is empty if not needed.

    A ReLU passes no gradient where its output is at a bound.
    """
    if layer.kind == "mean":
        return np.broadcast_to(d_out / (x.shape[1] * x.shape[2]), x.shape), None
    if layer.kind == "average_pool":
        share = (d_out / _pool_counts(layer, x))[:, :, :, None, None, :]
        return _scatter(layer, np.broadcast_to(share, (*d_out.shape[:3], *layer.kernel, x.shape[3])), x.shape), None
    assert layer.weights is not None
    if layer.activation != "none":
        low, high = ACTIVATIONS[layer.activation]
        d_out = d_out * ((out > low) & (out < high))
    if layer.kind == "depthwise":
        return _depthwise_backward(layer, x, d_out, need_dx)
    columns, positions = im2col(layer, x)
    flat = d_out.reshape(len(columns), -1)
    gradients = deterministic_math.product(flat.T, columns).reshape(layer.weights.shape), flat.sum(axis=0)
    if not need_dx:
        return np.empty(0, x.dtype), gradients
    d_columns = deterministic_math.product(flat, layer.weights.reshape(flat.shape[1], -1))
    if layer.kind == "dense" or (layer.kernel == layer.stride == (1, 1)):
        return d_columns.reshape(x.shape), gradients
    return _scatter(layer, d_columns.reshape(*positions, *layer.kernel, x.shape[3]), x.shape), gradients


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


def _depthwise_backward(layer: Layer, x: Array, d_out: Array, need_dx: bool) -> tuple[Array, tuple[Array, Array]]:
    """`layer_backward` of a depthwise layer, from the gradient before its activation."""
    assert layer.weights is not None
    padded, taps = _taps(layer, x)
    d_padded, product = np.zeros_like(padded), np.empty_like(d_out)
    d_weights = np.empty_like(layer.weights)

    for i, j, window in taps:
        d_weights[i, j] = np.multiply(padded[window], d_out, out=product).sum(axis=(0, 1, 2))
        if need_dx:
            d_padded[window] += np.multiply(d_out, _row(layer.weights[i, j], d_out), out=product)
    return _unpadded(layer, d_padded, x.shape), (d_weights, d_out.sum(axis=(0, 1, 2)))


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
