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
from edgelora.model.floatnet.layers import Array, FloatNet, Layer, Shape, predict

CHECKED = 8  # inputs that the network is compared with Keras on
TOLERANCE = 2e-3  # relative to the outputs' largest
_FUSED = (
    tf.keras.layers.MultiHeadAttention,
    tf.keras.layers.LayerNormalization,
    tf.keras.layers.RMSNormalization,
    tf.keras.layers.Embedding,
)
_FUNCTIONS: dict[str, Smooth] = {"gelu": GELU, "silu": SILU, "swish": SILU}
_SAME = (
    "Dropout",
    "SpatialDropout1D",
    "GaussianNoise",
    "Identity",
    "ConvertToTensor",
    "InputLayer",
)  # what they read, when not training


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
    parts = list(model._flatten_layers())
    calls = [(nodes, len(nodes)) for part in parts for nodes in (part._inbound_nodes, part._outbound_nodes)]
    graph = _Graph()
    try:
        end = graph.opened(model.outputs[0])
        graph.read_by(end)
        graph.shape = (1, model.input_shape[1], 1) if graph.ids else _shape(model.input_shape)
        graph.plain(end)
    finally:
        for nodes, before in calls:  # without the calls that `_called` recorded
            del nodes[before:]
    net = FloatNet(graph.shape, graph.layers, list(labels))
    some = x[:: -(-len(x) // CHECKED)]
    wanted = np.asarray(model.predict(some, verbose=0)).reshape(len(some), -1)
    apart = float(np.abs(predict(net, some.reshape(len(some), *net.input_shape)) - wanted).max())
    if not apart <= TOLERANCE * max(float(np.abs(wanted).max()), 1e-6):
        why = f": its fused layers compute something else, {apart:g} off, as they do without masks (mask_zero=True)"
        raise graph.refusal(model.name, why)
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


def _called(layer: Any, tensor: Any) -> Any:
    """What the layers inside a model's or a user's own layer make of its inputs, in place of its output."""
    history, arguments = tensor._keras_history, _node(tensor).arguments
    training = {"training": False} if layer._call_has_training_arg else {}
    try:
        made = tf.nest.flatten(layer.call(*arguments.args, **arguments.kwargs | training))[history.tensor_index]
        made._keras_history  # noqa: B018
    except Exception as error:  # the layer's own code may raise anything
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise FusedError(
            f"{layer.name} ({type(layer).__name__}): its call can't be read ({reason}): write it with Keras' layers "
            "and keras.ops in place of TensorFlow's functions"
        ) from error
    return made


def _is_opened(layer: Any) -> bool:
    """Whether a layer is made of others: a model, or a class of the user's own."""
    own = isinstance(layer, tf.keras.Layer) and not type(layer).__module__.startswith("keras.")
    known = any(kind.__name__ in _PLAIN for kind in type(layer).__mro__) or isinstance(layer, tf.keras.layers.Embedding)
    return isinstance(layer, tf.keras.Model) or own and not known


def _is_sum(layer: Any) -> bool:
    """Whether an Add, or a + of tensors, made a tensor."""
    return type(layer).__name__ == "Add"


def _constants(tensor: Any) -> list[Array]:
    """What a sum adds beside activations: as many rows and channels as it has."""
    given = tf.nest.flatten((_node(tensor).arguments.args, _node(tensor).arguments.kwargs))
    known = [np.asarray(value, np.float32) for value in given if not tf.keras.utils.is_keras_tensor(value)]
    height, width, channels = _shape(tensor.shape)
    shape = (height, width, channels)
    return [np.array(np.broadcast_to(value, (1, *tensor.shape[1:]))).reshape(shape) for value in known]


@dataclass
class _Graph:
    """Builds the layers. Values are numbers of tensors, as in `Layer.inputs`, by the Keras tensor that they are of.

    ids: the network's input are ids of symbols.
    """

    shape: Shape = (1, 1, 1)
    ids: bool = False
    layers: list[Layer] = field(default_factory=list)
    values: dict[int, int] = field(default_factory=dict)
    streams: dict[int, int] = field(default_factory=dict)
    readers: dict[int, list[Any]] = field(default_factory=dict)  # Keras tensors that are made of one
    seen: set[int] = field(default_factory=set)
    inner: dict[int, Any] = field(default_factory=dict)  # what makes a tensor inside a layer that is made of others

    def opened(self, tensor: Any) -> Any:
        """The tensor, or what makes it inside a layer that is made of others."""
        if id(tensor) not in self.inner:
            layer = _made_by(tensor)
            self.inner[id(tensor)] = self.opened(_called(layer, tensor)) if _is_opened(layer) else tensor
        return self.inner[id(tensor)]

    def sources(self, tensor: Any) -> list[Any]:
        """The tensors that one is made of."""
        return [self.opened(source) for source in _node(tensor).input_tensors]

    def refusal(self, name: str, why: str) -> FusedError:
        """An error with the way out: a network of ids can't be imported without fusing."""
        instead = "replace it, as docs/guides/own-network.md says" if self.ids else "import without"
        return FusedError(f"{name}{why}: {instead}")

    def read_by(self, tensor: Any) -> None:
        """Records the readers of all tensors that this one is made of."""
        if id(tensor) in self.seen:
            return
        self.seen.add(id(tensor))
        for source in self.sources(tensor):
            begins = type(_made_by(source)).__name__ == "InputLayer"
            self.ids |= begins and isinstance(_made_by(tensor), tf.keras.layers.Embedding)
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
                    f"{layer.name}: only normalization, and sums that it reads, can read an Embedding: put a "
                    "LayerNormalization behind it, or behind the last sum of it"
                )
            if kind is None:
                raise self.refusal(layer.name, f" ({type(layer).__name__}) is no layer of fused networks")
            self.values[id(tensor)] = _PLAIN[kind](self, layer, tensor)
        return self.values[id(tensor)]

    def stream(self, tensor: Any) -> int:
        """A tensor as a stream: sums and embeddings are, other values are widened."""
        if id(tensor) not in self.streams:
            self.streams[id(tensor)] = self._stream(tensor)
        return self.streams[id(tensor)]

    def _stream(self, tensor: Any) -> int:
        layer, sources = _made_by(tensor), self.sources(tensor)
        if type(layer).__name__ in _SAME and sources:
            return self.stream(sources[0])
        alike = all(source.shape == tensor.shape for source in sources)
        if _is_sum(layer) and alike and self._is_normalized(tensor):
            known = _constants(tensor)
            first = None if known else next((source for source in sources if not self._projects(source)), sources[0])
            h = self._constant(sum(known), layer.name) if first is None else self.stream(first)
            for source in sources:
                h = h if source is first else self._added(source, h)
            return h
        return self._added(tensor)

    def _constant(self, values: Any, name: str) -> int:
        return self.add(Layer("constant", weights=values), 0, name=name)

    def _embedded(self, layer: Any, tensor: Any, *h: int) -> int:
        """A stream plus the rows of an Embedding, or these as a stream."""
        if type(_made_by(self.sources(tensor)[0])).__name__ != "InputLayer":
            raise FusedError(f"{layer.name}: only the network's input can be ids of symbols")
        return self.add(Layer("embed", weights=_weights(layer.embeddings)), 0, *h, name=layer.name)

    def _is_normalized(self, tensor: Any) -> bool:
        """Whether norms alone read a sum, or the sums that it goes into; then it needs no grid of 8 bits."""
        read = self.readers.get(id(tensor), [])
        norms = (tf.keras.layers.LayerNormalization, tf.keras.layers.RMSNormalization)
        passes = ("Add", *_SAME)
        return bool(read) and all(
            isinstance(_made_by(reader), norms)
            or type(_made_by(reader)).__name__ in passes
            and self._is_normalized(reader)
            for reader in read
        )

    def _projects(self, tensor: Any) -> bool:
        """Whether a tensor is made by a matrix that can add it to a stream: nothing else reads it."""
        while type(_made_by(tensor)).__name__ in _SAME and self.sources(tensor):
            if len(self.readers[id(tensor)]) > 1:
                return False
            tensor = self.sources(tensor)[0]
        layer = _made_by(tensor)
        linear = type(layer) is tf.keras.layers.Dense and layer.activation is tf.keras.activations.linear
        return len(self.readers[id(tensor)]) == 1 and (linear or type(layer) is tf.keras.layers.MultiHeadAttention)

    def _added(self, tensor: Any, *h: int) -> int:
        """A stream plus a tensor, or the tensor as a stream."""
        if isinstance(_made_by(tensor), tf.keras.layers.Embedding):
            return self._embedded(_made_by(tensor), tensor, *h)
        if not self._projects(tensor):
            return self.add(Layer("widen"), self.plain(tensor), *h)
        while type(_made_by(tensor)).__name__ in _SAME:
            tensor = self.sources(tensor)[0]
        layer = _made_by(tensor)
        if type(layer) is tf.keras.layers.Dense:
            source, weights, bias = self.plain(self.sources(tensor)[0]), *_matrix(layer)
        else:
            source, weights, bias = self.attended(layer, tensor), *_matrix(layer._output_dense, joins=True)
        return self.add(Layer("project", weights=weights, bias=bias), source, *h, name=layer.name)

    # ---- layers ----

    def same(self, _: Any, tensor: Any) -> int:
        sources = self.sources(tensor)
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
            raise self.refusal(name, f": activation {kind} is none of relu, gelu, silu and softmax")
        return self.add(Layer("lookup", function=_FUNCTIONS[kind]), value, name=name)

    def dense(self, layer: Any, tensor: Any) -> int:
        source = self.sources(tensor)[0]
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
        value = self.add(made, self.plain(self.sources(tensor)[0]), name=layer.name)
        return self.activated(layer.name, value, layer.activation)

    def norm(self, layer: Any, tensor: Any) -> int:
        source = self.sources(tensor)[0]
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
            raise FusedError(
                f"{layer.name}: masks, and values of another size than keys, can't be fused: use_causal_mask=True can"
            )
        query, value, *rest = self.sources(tensor)
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
        first, *others = [self.plain(source) for source in self.sources(tensor)]
        others += [self._constant(values, layer.name) for values in _constants(tensor)]
        for other in others:
            first = self.add(Layer("add"), first, other, name=layer.name)
        return first

    def mean(self, layer: Any, tensor: Any) -> int:
        if layer.data_format != "channels_last":
            raise FusedError(f"{layer.name}: only data_format='channels_last' can be fused")
        return self.add(Layer("mean"), self.plain(self.sources(tensor)[0]), name=layer.name)

    def flat(self, layer: Any, tensor: Any) -> int:
        source = self.plain(self.sources(tensor)[0])
        return self.add(Layer("reshape", shape=_shape(tensor.shape)), source, name=layer.name)

    def function(self, layer: Any, tensor: Any) -> int:
        activation = tf.keras.activations.softmax if type(layer).__name__ == "Softmax" else layer.activation
        return self.activated(layer.name, self.plain(self.sources(tensor)[0]), activation)


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
