"""Keras encoders and language models as float networks with the fused layers of transformers.

TensorFlow's converter parts attention and layer normalization into a dozen INT8 operators each, whose grids can't hold
rows of different sizes. Here each is one layer, what is added goes into streams of 16 bits, and `quantize` does the
rest. A model is read from its last layer down, by Keras' record of what made each tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError
from edgelora.model.floatnet.functions import GELU, SILU, Smooth
from edgelora.model.floatnet.layers import FloatNet, Layer, Shape, predict

CHECKED = 8  # inputs that the network is compared with Keras on
TOLERANCE = 2e-3  # relative to the outputs' largest
_FUSED = (
    tf.keras.layers.MultiHeadAttention,
    tf.keras.layers.LayerNormalization,
    tf.keras.layers.RMSNormalization,
    tf.keras.layers.Embedding,
)
_FUNCTIONS: dict[str, Smooth] = {"gelu": GELU, "silu": SILU, "swish": SILU}
_SAME = ("Dropout", "SpatialDropout1D", "GaussianNoise", "Identity", "InputLayer")  # what they read, when not training


class FusedError(EdgeloraError, ValueError):
    """A Keras model has a layer that fused networks can't have; the message names it and an alternative."""


def can_fuse(model: Any) -> bool:
    """Whether a model has layers that fusing is for."""
    return any(isinstance(layer, _FUSED) for layer in model._flatten_layers())


def fused_net(model: Any, x: NDArray[np.float32], labels: tuple[str, ...] = ()) -> FloatNet:
    """The float network of a functional Keras model, compared with it on some of the inputs x [N, ...].

    Raises FusedError for a layer that it can't have, or if the outputs differ.
    """
    if not hasattr(model, "operations"):
        raise FusedError(f"{model.name}: build it of layers, with keras.Model(inputs, outputs) or keras.Sequential")
    ids = any(isinstance(layer, tf.keras.layers.Embedding) for layer in model.layers)
    graph = _Graph((1, model.input_shape[1], 1) if ids else _shape(model.input_shape))
    graph.read_by(model.outputs[0])
    graph.plain(model.outputs[0])
    net = FloatNet(graph.shape, graph.layers, list(labels))
    some = x[:: -(-len(x) // CHECKED)]
    wanted = np.asarray(model.predict(some, verbose=0)).reshape(len(some), -1)
    apart = float(np.abs(predict(net, some.reshape(len(some), *net.input_shape)) - wanted).max())
    if not apart <= TOLERANCE * max(float(np.abs(wanted).max()), 1e-6):
        raise FusedError(f"{model.name}: its fused layers compute something else, {apart:g} off: import it without")
    return net


def _shape(shape: tuple[int | None, ...]) -> Shape:
    """[height, width, channels] of a tensor: rows of values, one row of them, or rows of symbols' ids."""
    sides = [side for side in shape[1:] if side is not None]
    if len(sides) != len(shape) - 1 or not 1 <= len(sides) <= 2:
        raise FusedError(f"a tensor has shape {shape}: inputs must have fixed sides, [rows, channels] or [rows]")
    return (1, sides[0], sides[1]) if len(sides) == 2 else (1, 1, sides[0])


def _made_by(tensor: Any) -> Any:
    """The layer, or operation, that made a tensor."""
    return tensor._keras_history.operation


def _node(tensor: Any) -> Any:
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


@dataclass
class _Graph:
    """Builds the layers. Values are numbers of tensors, as in `Layer.inputs`, by the Keras tensor that they are of."""

    shape: Shape
    layers: list[Layer] = field(default_factory=list)
    values: dict[int, int] = field(default_factory=dict)
    streams: dict[int, int] = field(default_factory=dict)
    readers: dict[int, list[Any]] = field(default_factory=dict)  # Keras tensors that are made of one
    seen: set[int] = field(default_factory=set)

    def read_by(self, tensor: Any) -> None:
        """Records the readers of all tensors that this one is made of."""
        if id(tensor) in self.seen:
            return
        self.seen.add(id(tensor))
        for source in _node(tensor).input_tensors:
            self.readers.setdefault(id(source), []).append(tensor)
            self.read_by(source)

    def add(self, layer: Layer, *inputs: int, name: str = "") -> int:
        self.layers.append(replace(layer, inputs=inputs, name=name))
        return len(self.layers)

    # ---- values of 8 bits, and streams ----

    def plain(self, tensor: Any) -> int:
        """A tensor for layers that don't read streams."""
        if id(tensor) not in self.values:
            layer = _made_by(tensor)
            kind = next((made.__name__ for made in type(layer).__mro__ if made.__name__ in _PLAIN), None)
            if isinstance(layer, tf.keras.layers.Embedding):
                raise FusedError(
                    f"{layer.name}: only sums and normalization can read an Embedding: put a normalization behind it, "
                    "or import without"
                )
            if kind is None:
                raise FusedError(f"{layer.name} ({type(layer).__name__}) is no layer of fused networks: import without")
            self.values[id(tensor)] = _PLAIN[kind](self, layer, tensor)
        return self.values[id(tensor)]

    def stream(self, tensor: Any) -> int:
        """A tensor as a stream: sums and embeddings are, other values are widened."""
        if id(tensor) not in self.streams:
            self.streams[id(tensor)] = self._stream(tensor)
        return self.streams[id(tensor)]

    def _stream(self, tensor: Any) -> int:
        layer, sources = _made_by(tensor), _node(tensor).input_tensors
        if type(layer).__name__ in _SAME and sources:
            return self.stream(sources[0])
        if isinstance(layer, tf.keras.layers.Embedding):
            if type(_made_by(sources[0])).__name__ != "InputLayer":
                raise FusedError(f"{layer.name}: only the network's input can be ids of symbols")
            return self.add(Layer("embed", weights=_weights(layer.embeddings)), 0, name=layer.name)
        if isinstance(layer, tf.keras.layers.Add) and self._is_normalized(tensor):
            first = next((source for source in sources if not self._projects(source)), sources[0])
            h = self.stream(first)
            for source in sources:
                h = h if source is first else self._added(source, h)
            return h
        return self._added(tensor)

    def _is_normalized(self, tensor: Any) -> bool:
        """Whether norms alone read a sum, or the sums that it goes into; then it needs no grid of 8 bits."""
        read = self.readers.get(id(tensor), [])
        norms = (tf.keras.layers.LayerNormalization, tf.keras.layers.RMSNormalization)
        passes = (tf.keras.layers.Add, tf.keras.layers.Dropout)
        return bool(read) and all(
            isinstance(_made_by(reader), norms) or isinstance(_made_by(reader), passes) and self._is_normalized(reader)
            for reader in read
        )

    def _projects(self, tensor: Any) -> bool:
        """Whether a tensor is made by a matrix that can add it to a stream: nothing else reads it."""
        while type(_made_by(tensor)).__name__ in _SAME and _node(tensor).input_tensors:
            if len(self.readers[id(tensor)]) > 1:
                return False
            tensor = _node(tensor).input_tensors[0]
        layer = _made_by(tensor)
        linear = type(layer) is tf.keras.layers.Dense and layer.activation is tf.keras.activations.linear
        return len(self.readers[id(tensor)]) == 1 and (linear or type(layer) is tf.keras.layers.MultiHeadAttention)

    def _added(self, tensor: Any, *h: int) -> int:
        """A stream plus a tensor, or the tensor as a stream."""
        if not self._projects(tensor):
            return self.add(Layer("widen"), self.plain(tensor), *h)
        while type(_made_by(tensor)).__name__ in _SAME:
            tensor = _node(tensor).input_tensors[0]
        layer = _made_by(tensor)
        if type(layer) is tf.keras.layers.Dense:
            source, weights, bias = self.plain(_node(tensor).input_tensors[0]), *_matrix(layer)
        else:
            source, weights, bias = self.attended(layer, tensor), *_matrix(layer._output_dense, joins=True)
        return self.add(Layer("project", weights=weights, bias=bias), source, *h, name=layer.name)

    # ---- layers ----

    def same(self, _: Any, tensor: Any) -> int:
        sources = _node(tensor).input_tensors
        return self.plain(sources[0]) if sources else 0

    def activated(self, name: str, value: int, activation: Any) -> int:
        """A value behind an activation that no layer carries in itself."""
        kind = getattr(activation, "__name__", str(activation))
        if kind == "linear":
            return value
        if kind == "softmax":
            return self.add(Layer("softmax"), value, name=name)
        if kind == "relu" and self.layers[value - 1].kind in ("conv", "dense") and value == len(self.layers):
            self.layers[value - 1] = replace(self.layers[value - 1], activation="relu")
            return value
        if kind not in _FUNCTIONS:
            raise FusedError(f"{name}: activation {kind} is none of relu, gelu, silu and softmax: import without")
        return self.add(Layer("lookup", function=_FUNCTIONS[kind]), value, name=name)

    def dense(self, layer: Any, tensor: Any) -> int:
        source = _node(tensor).input_tensors[0]
        weights, bias = _matrix(layer)
        kind = "dense" if len(source.shape) == 2 else "conv"
        made = self.add(Layer(kind, weights=weights, bias=bias), self.plain(source), name=layer.name)
        return self.activated(layer.name, made, layer.activation)

    def conv(self, layer: Any, tensor: Any) -> int:
        if layer.padding not in ("same", "valid") or layer.groups != 1 or layer.data_format != "channels_last":
            raise FusedError(f"{layer.name}: only padding 'same' and 'valid', without groups, can be fused")
        weights = _weights(layer.kernel).transpose(2, 0, 1)[:, None]
        kernel, stride, dilation = ((1, sides[0]) for sides in (layer.kernel_size, layer.strides, layer.dilation_rate))
        made = Layer("conv", kernel, stride, dilation, layer.padding)
        made = replace(made, weights=weights, bias=_bias(layer.bias, len(weights)))
        value = self.add(made, self.plain(_node(tensor).input_tensors[0]), name=layer.name)
        return self.activated(layer.name, value, layer.activation)

    def norm(self, layer: Any, tensor: Any) -> int:
        source = _node(tensor).input_tensors[0]
        centred, axes = not isinstance(layer, tf.keras.layers.RMSNormalization), layer.axis
        axes = [axes] if isinstance(axes, int) else list(axes)
        if [axis % len(source.shape) for axis in axes] != [len(source.shape) - 1] or getattr(
            layer, "rms_scaling", False
        ):
            raise FusedError(f"{layer.name}: only normalization over the last axis can be fused")
        size, gamma = source.shape[-1], layer.gamma if centred else layer.scale
        gain = np.ones(size, np.float32) if gamma is None else _weights(gamma)
        bias = _bias(layer.beta, size) if centred else None
        made = Layer("norm", weights=gain, bias=bias, centred=centred, epsilon=float(layer.epsilon or 1e-7))
        return self.add(made, self.stream(source), name=layer.name)

    def attended(self, layer: Any, tensor: Any) -> int:
        """Attention without its last matrix."""
        node = _node(tensor)
        kwargs = node.arguments.kwargs
        masks = ("attention_mask", "query_mask", "value_mask", "key_mask")
        if any(kwargs.get(mask) is not None for mask in masks) or getattr(layer, "_value_dim", None) != layer._key_dim:
            raise FusedError(f"{layer.name}: masks, and values of another size than keys, can't be fused")
        query, value, *rest = node.input_tensors
        sides = (query, rest[0] if rest else value, value)
        matrices = (layer._query_dense, layer._key_dense, layer._value_dense)
        q, k, v = (
            self.add(Layer("conv", weights=weights, bias=bias), self.plain(side), name=f"{layer.name}:{part}")
            for part, side, (weights, bias) in zip("qkv", sides, map(_matrix, matrices), strict=True)
        )
        heads = (layer._num_heads, layer._num_heads)
        made = Layer("attend", heads=heads, causal=bool(kwargs.get("use_causal_mask")))
        return self.add(made, q, k, v, name=layer.name)

    def attention(self, layer: Any, tensor: Any) -> int:
        weights, bias = _matrix(layer._output_dense, joins=True)
        return self.add(Layer("conv", weights=weights, bias=bias), self.attended(layer, tensor), name=layer.name)

    def sum(self, layer: Any, tensor: Any) -> int:
        first, *others = (self.plain(source) for source in _node(tensor).input_tensors)
        for other in others:
            first = self.add(Layer("add"), first, other, name=layer.name)
        return first

    def mean(self, layer: Any, tensor: Any) -> int:
        if layer.data_format != "channels_last":
            raise FusedError(f"{layer.name}: only data_format='channels_last' can be fused")
        return self.add(Layer("mean"), self.plain(_node(tensor).input_tensors[0]), name=layer.name)

    def flat(self, layer: Any, tensor: Any) -> int:
        source = self.plain(_node(tensor).input_tensors[0])
        return self.add(Layer("reshape", shape=_shape(tensor.shape)), source, name=layer.name)

    def function(self, layer: Any, tensor: Any) -> int:
        activation = tf.keras.activations.softmax if type(layer).__name__ == "Softmax" else layer.activation
        return self.activated(layer.name, self.plain(_node(tensor).input_tensors[0]), activation)


_PLAIN: dict[str, Callable[[_Graph, Any, Any], int]] = {
    **dict.fromkeys(_SAME, _Graph.same),
    "Dense": _Graph.dense,
    "Conv1D": _Graph.conv,
    "LayerNormalization": _Graph.norm,
    "RMSNormalization": _Graph.norm,
    "MultiHeadAttention": _Graph.attention,
    "Add": _Graph.sum,
    "GlobalAveragePooling1D": _Graph.mean,
    "Flatten": _Graph.flat,
    "Activation": _Graph.function,
    "Softmax": _Graph.function,
}


def _weights(variable: Any) -> NDArray[np.float32]:
    return np.asarray(variable, np.float32)


def _bias(variable: Any, size: int) -> NDArray[np.float32]:
    return np.zeros(size, np.float32) if variable is None else _weights(variable).reshape(size)


def _matrix(layer: Any, joins: bool = False) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights [out, 1, 1, in] and bias [out] of a Dense, or of one of attention's; joins: it reads all heads."""
    kernel = _weights(layer.kernel)
    kernel = kernel.reshape(-1, kernel.shape[-1]) if joins else kernel.reshape(len(kernel), -1)
    return np.ascontiguousarray(kernel.T[:, None, None]), _bias(layer.bias, kernel.shape[1])
