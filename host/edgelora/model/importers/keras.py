"""Converts Keras models to INT8 bases: TensorFlow's converter quantizes them, and its file is imported exactly."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError, MissingPackage
from edgelora.core.formats.elm import base_id, pack_model
from edgelora.core.formats.limits import MAX_OPS
from edgelora.core.formats.signal import Signal
from edgelora.core.twin.binding import check_model
from edgelora.model.floatnet.layers import Array, FloatNet
from edgelora.model.quantization import report
from edgelora.model.quantization.quantize import CALIBRATION_LIMIT, Quantized, quantize
from edgelora.model.quantization.report import WORST_LAYERS

from .tflite import convert as tflite_convert
from .tflite.codes import Code
from .tflite.convert import import_tflite, inputs_for_calibration
from .tflite.file import read_graph
from .tflite.flatbuffer import TfliteError
from .tflite.graph import Importer
from .tflite.lstm import LSTM_STATE

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no notes about the processor's instructions
try:
    import tensorflow as tf
    from tensorflow.lite.tools import flatbuffer_utils
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    from .keras_fused import can_fuse, fused_net
except ModuleNotFoundError as missing:
    raise MissingPackage("Keras models need TensorFlow: pip install 'edgelora[keras]'") from missing


_OF_SQUARES = (Code.SQUARED_DIFFERENCE, Code.L2_NORMALIZATION)  # what the converter makes of a Square and others
RUINED = 20.0  # dB: below it, a tenth of outputs' size is noise


class KerasError(EdgeloraError, ValueError):
    """A model can't be converted; the message names the reason and an alternative."""


def from_keras(
    model: Any,
    calibration_x: Any,
    y: NDArray[np.integer] | None = None,
    labels: Sequence[str] = (),
    loss: str | None = None,
    signal: Signal | None = None,
    fused: bool = False,
) -> Quantized:
    """Quantizes a trained Keras model, or the file of one, to INT8 as TensorFlow Lite does. The model isn't modified.

    calibration_x: a few hundred typical inputs, float [N, ...] as the model takes them. y: their classes [N], to report
    accuracy. labels: the names of classes; loss: one of formats.LOSSES, by default chosen from the model's last layer.
    signal: the base's, which says what inputs are windows of. fused: attention, normalization and embeddings become
    one layer each, and the network is quantized by `quantize`.

    Unless it is fused, the base's outputs equal, byte for byte, those of TensorFlow Lite Micro for
    `convert(model, calibration_x)`. Raises KerasError, FusedError, or TfliteError, which names an unsupported operator.
    """
    model = load(model) if isinstance(model, str | Path) else model
    x = _inputs(model, calibration_x)
    if fused:
        return _quantized(fused_net(model, x, tuple(labels)), x, y, labels, loss, signal)
    content = convert(model, x)
    try:
        base = import_tflite(content, labels, loss, model.name)
    except TfliteError as error:
        if not can_fuse(model):
            raise
        raise KerasError(f"{error}; or convert it with fused=True, --fused") from error
    own = x.reshape(len(x), *base.input.shape)
    tflite_convert.calibrate(base, inputs_for_calibration(base, own))
    base.signal = signal
    elm = pack_model(base, "as .elm")
    check_model(elm)
    reference = _Reference(model, _converted(model), content)
    return Quantized(base, elm, report.compare(elm, base, own, reference.outputs, reference.names, y))


def _quantized(
    net: FloatNet,
    x: NDArray[np.float32],
    y: NDArray[np.integer] | None,
    labels: Sequence[str],
    loss: str | None,
    signal: Signal | None,
) -> Quantized:
    """A fused network in INT8."""
    own = x.reshape(len(x), *net.input_shape)
    base = quantize(net, own)
    tflite_convert.set_loss(base, labels, loss or ("cross_entropy" if base.symbols else None), False)
    base.signal = signal
    elm = pack_model(base, "as .elm")
    check_model(elm)
    return Quantized(base, elm, report.report(net, elm, base, own, y), replace(net, base_id=base_id(elm)))


def loses_by_parts(model: Any, made: Quantized) -> str | None:
    """What to tell of a base whose attention or normalization TensorFlow's operators compute badly, with figures."""
    outputs = made.report.layers[-1].sqnr_db if made.report.layers else None
    if made.net is not None or outputs is None or outputs >= RUINED or not can_fuse(model):
        return None
    named = ", ".join(
        f"{layer.sqnr_db:.1f} dB {layer.name or layer.kind}" for layer in made.report.worst[:WORST_LAYERS]
    )
    return (
        f"outputs have a signal of {outputs:.1f} dB above INT8's noise (worst: {named}): TensorFlow's operators for "
        "attention and normalization have coarse grids; compare with fused=True, --fused"
    )


def load(path: str | Path) -> Any:
    """The model in a .keras or .h5 file. Raises KerasError if there is none."""
    try:
        return tf.keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError) as error:
        raise KerasError(f"{path}: Keras can't read it as a model ({str(error).splitlines()[0]})") from error


def convert(model: Any, calibration_x: Any) -> bytes:
    """The `.tflite` file by full integer quantization, with int8 input and output and batch size 1."""
    return _converted(model, _inputs(model, calibration_x))


def _inputs(model: Any, calibration_x: Any) -> NDArray[np.float32]:
    shape = model.input_shape
    if not isinstance(shape, tuple) or not isinstance(model.output_shape, tuple):
        raise KerasError(f"{model.name} has several inputs or outputs: only one of each is supported")
    if None in shape[1:]:
        raise KerasError(f"{model.name} takes inputs of any size {shape[1:]}: fix the size with keras.Input(shape)")
    x = np.asarray(calibration_x, np.float32)
    if not len(x) or x.shape[1:] != shape[1:] or not np.isfinite(x).all():
        raise KerasError(f"inputs are {list(x.shape)}, must be finite [N, {', '.join(map(str, shape[1:]))}]")
    return x


STEP_OPS = {"LSTM": 17, "GRU": 18, "SimpleRNN": 5}  # least number of ops of a step


def _plain(model: Any) -> Any:
    """The model rewritten for TensorFlow's converter and INT8 kernels; the model unchanged if nothing is to rewrite.

    Recurrent layers are unrolled, as the converter aborts the process on an integer loop, except plain LSTMs, for which
    it has an operator. Layer normalization multiplies the deviation from the mean by itself, as TFLite's squared
    difference computes with 14 bits. SELU is composed of ReLU and ELU instead of a comparison and a select. A Dense in
    TimeDistributed becomes a plain Dense, as TimeDistributed splits the batch. Resizing multiplies by matrices.
    Raises KerasError if there are more steps than a network may have ops.
    """
    layers = list(model._flatten_layers())
    fused = _fused(model.name, layers)
    if (
        not fused
        and all(getattr(layer, "unroll", True) for layer in layers if isinstance(layer, tf.keras.layers.RNN))
        and not any(_is_written_anew(layer) for layer in layers)
    ):
        return model
    clone = tf.keras.models.clone_model(model, clone_function=lambda layer: _copied(layer, fused), recursive=True)
    clone.set_weights(model.get_weights())
    for layer in clone._flatten_layers():
        if _is_selu(layer):
            layer.activation = _selu
        if layer.name in fused:
            for part in _parts(layer):
                part.inner_loop = _fused_loop(part)
    return clone


def _is_written_anew(layer: Any) -> bool:
    """Whether the model's copy composes this layer of other operators."""
    plain = isinstance(layer, tf.keras.layers.LayerNormalization | tf.keras.layers.GroupNormalization)
    return plain or _is_selu(layer) or _is_dense_at_each_step(layer) or _resizes(layer)


def _is_dense_at_each_step(layer: Any) -> bool:
    """Whether a layer is a Dense in a TimeDistributed, which is equivalent to the Dense."""
    return isinstance(layer, tf.keras.layers.TimeDistributed) and type(layer.layer) is tf.keras.layers.Dense


def _resizes(layer: Any) -> bool:
    """Whether a layer is a bilinear Resizing with default options."""
    plain = type(layer) is tf.keras.layers.Resizing and layer.interpolation == "bilinear"
    others = ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias")
    return plain and layer.data_format == "channels_last" and not any(getattr(layer, name, False) for name in others)


def _is_selu(layer: Any) -> bool:
    return getattr(layer, "activation", None) is tf.keras.activations.selu


def _selu(x: Any) -> Any:
    """Keras' selu: a scaled ELU with a fixed alpha."""
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    return scale * tf.nn.relu(x) + scale * alpha * tf.nn.elu(-tf.nn.relu(-x))


def _parts(layer: Any) -> list[Any]:
    """The layer, or both layers of a Bidirectional."""
    return [layer.forward_layer, layer.backward_layer] if isinstance(layer, tf.keras.layers.Bidirectional) else [layer]


def _fused(name: str, layers: list[Any]) -> set[str]:
    """Names of the layers that become one operator: plain LSTMs without unroll=True.

    Raises KerasError, before minutes of conversion, if the other layers' steps take more ops than a network may have.
    """
    steps, ops, fused = {}, {}, set()
    masked = any(isinstance(layer, tf.keras.layers.Masking) or getattr(layer, "mask_zero", False) for layer in layers)
    for layer in layers:
        kinds = [type(part).__name__ for part in _parts(layer)]
        if not getattr(layer, "_inbound_nodes", False) or not STEP_OPS.keys() >= {*kinds}:
            continue
        if not masked and all(_can_fuse(part) for part in _parts(layer)) and not _has_initial_state(layer):
            fused.add(layer.name)
        else:
            steps[layer.name] = tf.nest.flatten(layer.input)[0].shape[1] or 0
            ops[layer.name] = steps[layer.name] * sum(STEP_OPS[kind] for kind in kinds)
    if sum(ops.values()) > MAX_OPS:
        layers_text = ", ".join(f"{layer} of {count} steps" for layer, count in steps.items())
        raise KerasError(
            f"{name}: its recurrent layers ({layers_text}) take at least {sum(ops.values())} ops, the "
            f"limit is {MAX_OPS}: put a strided convolution or a pool before them, give them shorter windows, or use "
            "a plain LSTM, which is one op"
        )
    return fused


def _can_fuse(layer: Any) -> bool:
    """Whether a layer is an LSTM that TensorFlow Lite's operator supports."""
    functions = tf.keras.activations.tanh, tf.keras.activations.sigmoid
    return (
        type(layer) is tf.keras.layers.LSTM
        and (layer.activation, layer.recurrent_activation) == functions
        and not (layer.stateful or layer.return_state or layer.unroll)
    )


def _has_initial_state(layer: Any) -> bool:
    """Whether a layer is called with an initial state."""
    arguments = [node.arguments for node in layer._inbound_nodes]
    return any(len(a.args) > 1 or a.kwargs.get("initial_state") is not None for a in arguments)


def _fused_loop(layer: Any) -> Any:
    """An LSTM's loop over its steps, marked so that the converter replaces it by its operator.

    The mark and the order of inputs and outputs are those of Keras 2. The body is a placeholder that isn't converted.
    """

    def marked(x: Any, state: Any, cell: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
        outputs = tf.zeros((1, x.shape[1], layer.units)) + sum(map(tf.reduce_sum, (x, state, cell)))
        outputs += sum(map(tf.reduce_sum, (kernel, recurrent, bias)))
        return outputs[:, -1], outputs, state, cell, tf.constant(0.0)

    mark = {"api_implements": f"lstm_{layer.name}", "time_major": False, "go_backwards": layer.go_backwards}
    call = tf.function(marked, autograph=False, experimental_attributes=mark)

    def loop(sequences: Any, initial_state: Any, mask: None, training: bool = False) -> Any:
        empty = tf.zeros((1, layer.units))
        bias = layer.cell.bias if layer.use_bias else tf.zeros(4 * layer.units)
        weights = (layer.cell.kernel, layer.cell.recurrent_kernel, bias)
        last, outputs, *_ = call(sequences, empty, empty, *map(tf.convert_to_tensor, weights))
        return last, outputs, initial_state

    return loop


def _copied(layer: Any, fused: set[str]) -> Any:
    """A layer's copy or replacement for `_plain`, with new weights."""
    layers = tf.keras.layers
    if isinstance(layer, layers.Lambda):  # its function may not be serializable
        return layer
    config = layer.get_config()
    inner = [config[key]["config"] for key in ("layer", "backward_layer") if isinstance(config.get(key), dict)]
    for part in (config, *inner):
        if "unroll" in part:
            part["unroll"] = layer.name not in fused
    if type(layer) is layers.LayerNormalization:
        return _Normalization.from_config(config)
    if type(layer) is layers.GroupNormalization:
        if layer.axis not in (-1, len(layer.input.shape) - 1):
            raise KerasError(f"{layer.name}: only groups of the last axis can be imported: give it axis=-1")
        return _GroupNormalization.from_config(config)
    if _is_dense_at_each_step(layer):
        return layers.Dense.from_config(layer.layer.get_config())
    if _resizes(layer):
        return _Resizing.from_config(config)
    return type(layer).from_config(config)


class _Normalization(tf.keras.layers.LayerNormalization):  # type: ignore[misc]
    """Layer normalization without squared differences."""

    def call(self, inputs: Any) -> Any:
        axes = [self.axis] if isinstance(self.axis, int) else list(self.axis)
        return _scaled(self, _normalized(inputs, axes, self.epsilon))


class _GroupNormalization(tf.keras.layers.GroupNormalization):  # type: ignore[misc]
    """Group normalization over the last axis, of the positions, group and channel in a group."""

    def call(self, inputs: Any) -> Any:
        *positions, channels = inputs.shape[1:]
        grouped = tf.reshape(inputs, (-1, math.prod(positions), self.groups, channels // self.groups))
        return _scaled(self, tf.reshape(_normalized(grouped, [1, 3], self.epsilon), (-1, *positions, channels)))


def _normalized(x: Any, axes: list[int], epsilon: float) -> Any:
    apart = x - tf.reduce_mean(x, axes, keepdims=True)
    return apart * tf.math.rsqrt(tf.reduce_mean(apart * apart, axes, keepdims=True) + epsilon)


def _scaled(layer: Any, made: Any) -> Any:
    """Normalized values times a layer's gamma, plus its beta."""
    made = made if layer.gamma is None else made * layer.gamma
    return made if layer.beta is None else made + layer.beta


class _Resizing(tf.keras.layers.Resizing):  # type: ignore[misc]
    """Bilinear resizing by one matrix product for each axis."""

    def call(self, inputs: Any) -> Any:
        for axis, made in ((1, self.height), (2, self.width)):
            mixed = tf.tensordot(inputs, _between(inputs.shape[axis], made), [[axis], [0]])
            inputs = tf.transpose(mixed, (0, 3, 1, 2) if axis == 1 else (0, 1, 3, 2))
        return inputs


def _between(size: int, made: int) -> NDArray[np.float32]:
    """Weights [size, made] of a linear interpolation from `size` to `made` positions with half-pixel centers."""
    at = np.clip((np.arange(made) + 0.5) * size / made - 0.5, 0, size - 1)
    below = np.floor(at).astype(int)
    weights = np.zeros((size, made), np.float32)
    weights[below, np.arange(made)] = 1 - (at - below)
    weights[np.minimum(below + 1, size - 1), np.arange(made)] += at - below
    return weights


def _converted(model: Any, x: NDArray[np.float32] | None = None) -> bytes:
    """The model's `.tflite` file, quantized with calibration inputs x; float if x is None."""
    layers = list(model._flatten_layers())
    wanted = sum(len(_parts(layer)) for layer in layers if layer.name in _fused(model.name, layers))
    model = _plain(model)
    source = tf.keras.Input(batch_shape=(1, *model.input_shape[1:]))
    fixed = tf.keras.Model(source, model(source, training=False), name="base")  # a prefix of the tensors' names
    content = _lowered(model.name, tf.lite.TFLiteConverter.from_keras_model(fixed), x)
    if any(operator.code in _OF_SQUARES for operator in read_graph(content).operators):
        content = _lowered(model.name, tf.lite.TFLiteConverter.from_concrete_functions([_without_squares(fixed)]), x)
    return _with_one_grid(content, model.name, wanted) if wanted else content


def _without_squares(fixed: Any) -> Any:
    """The model as a function with each Square replaced by a Mul, which the converter doesn't fuse with others.

    TFLite's squared difference, part of variances and deviations, computes with 14 bits. There is no op for its
    L2_NORMALIZATION.
    """
    source = tf.TensorSpec(fixed.inputs[0].shape, tf.float32, name="source")
    function = tf.function(lambda x: fixed(x, training=False), input_signature=[source]).get_concrete_function()
    frozen = convert_variables_to_constants_v2(function)
    graph = frozen.graph.as_graph_def()
    for node in graph.node:
        if node.op == "Square":
            node.op = "Mul"
            node.input.append(node.input[0])
    whole = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
    ends = (
        [whole.graph.get_tensor_by_name(tensor.name) for tensor in side] for side in (frozen.inputs, frozen.outputs)
    )
    return whole.prune(*ends)


def _lowered(name: str, converter: Any, x: NDArray[np.float32] | None) -> bytes:
    """The converter's `.tflite` file, quantized with calibration inputs x; float if x is None."""
    if x is not None:
        some = x[:: -(-len(x) // CALIBRATION_LIMIT)]
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([row[None]] for row in some)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with _quiet():
        try:
            return bytes(converter.convert())
        except Exception as error:  # the converter raises many types
            reason = str(error).strip().splitlines()[0]
            raise KerasError(f"{name}: TensorFlow's converter can't convert it ({reason})") from error


def _with_one_grid(content: bytes, name: str, wanted: int) -> bytes:
    """The file with each LSTM's state and output on one grid, which is that of a REVERSE_V2 if it is the only reader.

    The converter may requantize the output to the grid of a CONCATENATION after it, but the kernel copies the state
    there without conversion. Raises KerasError unless there are `wanted` LSTM operators.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    codes = [model.operatorCodes[operator.opcodeIndex].builtinCode for operator in graph.operators]
    found = [
        operator
        for operator, code in zip(graph.operators, codes, strict=True)
        if code == Code.UNIDIRECTIONAL_SEQUENCE_LSTM
    ]
    if len(found) != wanted:
        raise KerasError(
            f"{name}: TensorFlow's converter made {len(found)} operators of {wanted} LSTM layers: set "
            "unroll=True on them"
        )
    for operator in found:
        output = operator.outputs[0]
        readers = [k for k, other in enumerate(graph.operators) if output in other.inputs]
        if len(readers) == 1 and codes[readers[0]] == Code.REVERSE_V2:
            graph.tensors[output].quantization = graph.tensors[graph.operators[readers[0]].outputs[0]].quantization
        graph.tensors[operator.inputs[LSTM_STATE]].quantization = graph.tensors[output].quantization
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses TensorFlow's messages on standard output, and its warnings."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Reference:
    """The float network, run from its `.tflite` file, whose tensor names match those of the INT8 file."""

    def __init__(self, model: Any, real: bytes, quantized: bytes) -> None:
        with _quiet():
            resolver = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            self.interpreter = tf.lite.Interpreter(
                model_content=real, experimental_preserve_all_tensors=True, experimental_op_resolver_type=resolver
            )
            names = {d["index"]: d["name"] for d in tf.lite.Interpreter(model_content=quantized).get_tensor_details()}
        self.interpreter.allocate_tensors()
        self.source = self.interpreter.get_input_details()[0]
        indices = {d["name"]: d["index"] for d in self.interpreter.get_tensor_details()}
        importer = Importer(read_graph(quantized))
        ops = len(importer.run().ops)
        known = set(_layer_names(model))
        self.tensors: list[int | None] = [None] * ops
        self.names = [""] * ops
        for index, tensor in importer.found.items():
            if tensor and names[index] in indices:
                self.tensors[tensor - 1] = indices[names[index]]
                self.names[tensor - 1] = _layer_of(names[index], known)
        self.tensors[-1] = self.interpreter.get_output_details()[0]["index"]

    def outputs(self, x: Array) -> list[Array | None]:
        """The float output [N, ...] for each op of the INT8 network; None for ops that only the INT8 file has."""
        runs = [self._run(row) for row in x]
        return [None if values[0] is None else np.stack(values) for values in zip(*runs, strict=True)]

    def _run(self, row: Array) -> list[Array | None]:
        self.interpreter.reset_all_variables()
        self.interpreter.set_tensor(self.source["index"], row.reshape(self.source["shape"]))
        self.interpreter.invoke()
        return [None if i is None else self.interpreter.get_tensor(i) for i in self.tensors]


def _layer_names(model: Any) -> Iterator[str]:
    for layer in getattr(model, "layers", ()):
        yield layer.name
        yield from _layer_names(layer)


def _layer_of(tensor: str, known: set[str]) -> str:
    """The Keras layer in a tensor's name such as `model_1/first_1/Relu;...`, which adds a number to layer names."""
    parts = tensor.partition(";")[0].split("/")
    for part in reversed(parts):
        for name in (re.sub(r"_\d+$", "", part), part):
            if name in known:
                return name
    return parts[-1]
