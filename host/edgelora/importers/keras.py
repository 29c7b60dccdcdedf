"""Keras models made into INT8 bases: TensorFlow's converter quantizes them, and what it makes is imported exactly."""

from __future__ import annotations

import contextlib
import io
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import floatnet, formats, quantization, twin
from ..errors import EdgeloraError, MissingPackage
from ..quantization import CALIBRATION_LIMIT, Quantized
from . import tflite
from .tflite import Importer, read_graph
from .tflite.codes import Code

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # else it tells of the processor's instructions
try:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
except ModuleNotFoundError as missing:
    raise MissingPackage("Keras models need TensorFlow: pip install 'edgelora[keras]'") from missing


class KerasError(EdgeloraError, ValueError):
    """A model can't be converted; the message says why and what would work."""


def from_keras(
    model: Any,
    calibration_x: Any,
    y: NDArray[np.integer] | None = None,
    labels: Sequence[str] = (),
    loss: str | None = None,
) -> Quantized:
    """Quantizes a trained Keras model, or a file of one, to INT8, as TensorFlow Lite does; it is left as it was.

    calibration_x: a few hundred inputs like those it will see, float [N, ...] as the model takes them. y: their
    classes [N], if the report is to tell accuracy. labels: the classes' names; loss: one of formats.LOSSES, else what
    the model's end suggests.

    The base computes, byte for byte, what TensorFlow Lite Micro does from `convert(model, calibration_x)`. Raises
    KerasError, or TfliteError, which names the operator that can't be used.
    """
    model = load(model) if isinstance(model, str | Path) else model
    x = _inputs(model, calibration_x)
    content = convert(model, x)
    base = tflite.import_tflite(content, labels, loss, model.name)
    own = x.reshape(len(x), *base.input.shape)
    tflite.calibrate(base, tflite.inputs_for_calibration(base, own))
    elm = formats.pack_model(base, "as .elm")
    twin.check_model(elm)
    reference = _Reference(model, _converted(model), content)
    return Quantized(base, elm, quantization.compare(base, own, reference.outputs, reference.names, y))


def load(path: str | Path) -> Any:
    """The model in a .keras or .h5 file. KerasError if there is none."""
    try:
        return tf.keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError) as error:
        raise KerasError(f"{path}: no model that Keras can read ({str(error).splitlines()[0]})") from error


def convert(model: Any, calibration_x: Any) -> bytes:
    """The `.tflite` file of full integer quantization, with int8 ends and a batch of one."""
    return _converted(model, _inputs(model, calibration_x))


def _inputs(model: Any, calibration_x: Any) -> NDArray[np.float32]:
    shape = model.input_shape
    if not isinstance(shape, tuple) or not isinstance(model.output_shape, tuple):
        raise KerasError(f"{model.name} has several inputs or outputs: one of each is possible")
    if None in shape[1:]:
        raise KerasError(f"{model.name} takes inputs of any size {shape[1:]}: make it for one, with keras.Input(shape)")
    x = np.asarray(calibration_x, np.float32)
    if not len(x) or x.shape[1:] != shape[1:] or not np.isfinite(x).all():
        raise KerasError(f"inputs are {list(x.shape)}, must be finite [N, {', '.join(map(str, shape[1:]))}]")
    return x


STEP_OPS = {"LSTM": 17, "GRU": 18, "SimpleRNN": 5}  # ops that a step takes, at least


def _plain(model: Any) -> Any:
    """The model made of what TensorFlow's converter and INT8 kernels can do; the same one where it is so already.

    Recurrences become their steps, as the converter ends the process over a loop in integers. Layer normalization
    multiplies the distance from the mean by itself, in place of TFLite's squared difference, which has 14 bits inside.
    SELU is of ReLU and ELU, in place of a comparison and a choice.
    KerasError for more steps than a network may have ops.
    """
    layers = list(model._flatten_layers())
    if all(getattr(layer, "unroll", True) for layer in layers if isinstance(layer, tf.keras.layers.RNN)) and not any(
        isinstance(layer, tf.keras.layers.LayerNormalization) or _is_selu(layer) for layer in layers
    ):
        return model
    _check_steps(model.name, layers)
    clone = tf.keras.models.clone_model(model, clone_function=_copied, recursive=True)
    clone.set_weights(model.get_weights())
    for layer in clone._flatten_layers():
        if _is_selu(layer):
            layer.activation = _selu
    return clone


def _is_selu(layer: Any) -> bool:
    return getattr(layer, "activation", None) is tf.keras.activations.selu


def _selu(x: Any) -> Any:
    """Keras' selu: ELU with an alpha of its own, and scaled."""
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    return scale * tf.nn.relu(x) + scale * alpha * tf.nn.elu(-tf.nn.relu(-x))


def _check_steps(name: str, layers: list[Any]) -> None:
    """Refuses recurrences of which a network could not hold the steps, before minutes of conversion."""
    found = {
        layer.name: (layer.input.shape[1] or 0, STEP_OPS[type(layer).__name__])
        for layer in layers
        if type(layer).__name__ in STEP_OPS and getattr(layer, "_inbound_nodes", False)
    }
    for layer in layers:
        if isinstance(layer, tf.keras.layers.Bidirectional):
            kind = type(layer.forward_layer).__name__
            found[layer.name] = (layer.input.shape[1] or 0, 2 * STEP_OPS.get(kind, 0))
    ops = sum(steps * each for steps, each in found.values())
    if ops > formats.MAX_OPS:
        told = ", ".join(f"{layer} of {steps} steps" for layer, (steps, _) in found.items())
        raise KerasError(
            f"{name}: its recurrent layers ({told}) take at least {ops} ops, {formats.MAX_OPS} are possible: put a "
            "convolution with strides or a pool before them, or give them shorter windows"
        )


def _copied(layer: Any) -> Any:
    """A layer for `_plain`, its weights fresh."""
    layers = tf.keras.layers
    if isinstance(layer, layers.Lambda):  # its function may be one that can't be written down
        return layer
    config = layer.get_config()
    inner = [config[key]["config"] for key in ("layer", "backward_layer") if isinstance(config.get(key), dict)]
    for part in (config, *inner):
        if "unroll" in part:
            part["unroll"] = True
    if type(layer) is layers.LayerNormalization:
        return _Normalization.from_config(config)
    return type(layer).from_config(config)


class _Normalization(tf.keras.layers.LayerNormalization):  # type: ignore[misc]
    """Layer normalization by multiplications."""

    def call(self, inputs: Any) -> Any:
        axes = [self.axis] if isinstance(self.axis, int) else list(self.axis)
        apart = inputs - tf.reduce_mean(inputs, axes, keepdims=True)
        spread = tf.reduce_mean(apart * apart, axes, keepdims=True)
        made = apart * tf.math.rsqrt(spread + self.epsilon)
        made = made if self.gamma is None else made * self.gamma
        return made if self.beta is None else made + self.beta


def _converted(model: Any, x: NDArray[np.float32] | None = None) -> bytes:
    """A `.tflite` file, quantized on inputs x or, without any, float."""
    model = _plain(model)
    source = tf.keras.Input(batch_shape=(1, *model.input_shape[1:]))
    fixed = tf.keras.Model(source, model(source, training=False), name="base")  # tensors' names begin with its own
    content = _lowered(model.name, tf.lite.TFLiteConverter.from_keras_model(fixed), x)
    if any(operator.code == Code.SQUARED_DIFFERENCE for operator in read_graph(content).operators):
        content = _lowered(model.name, tf.lite.TFLiteConverter.from_concrete_functions([_without_squares(fixed)]), x)
    return content


def _without_squares(fixed: Any) -> Any:
    """The model as a function in which squares are products, which the converter doesn't join with differences.

    TFLite's squared difference, of variances and deviations, has 14 bits inside.
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
    """What a converter makes, quantized on inputs x or, without any, float."""
    if x is not None:
        some = x[:: -(-len(x) // CALIBRATION_LIMIT)]
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([row[None]] for row in some)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with _quiet():
        try:
            return bytes(converter.convert())
        except Exception as error:  # of many kinds
            reason = str(error).strip().splitlines()[0]
            raise KerasError(f"{name}: TensorFlow's converter can't convert it ({reason})") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without TensorFlow's notes on standard output, and its warnings."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _Reference:
    """The float network, as its `.tflite` file computes it: its tensors have the names that the INT8 file's have."""

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

    def outputs(self, x: floatnet.Array) -> list[floatnet.Array | None]:
        """What it has for every op of the INT8 network, [N, ...]; None where the converter put in an op."""
        runs = [self._run(row) for row in x]
        return [None if values[0] is None else np.stack(values) for values in zip(*runs, strict=True)]

    def _run(self, row: floatnet.Array) -> list[floatnet.Array | None]:
        self.interpreter.set_tensor(self.source["index"], row.reshape(self.source["shape"]))
        self.interpreter.invoke()
        return [None if i is None else self.interpreter.get_tensor(i) for i in self.tensors]


def _layer_names(model: Any) -> Iterator[str]:
    for layer in getattr(model, "layers", ()):
        yield layer.name
        yield from _layer_names(layer)


def _layer_of(tensor: str, known: set[str]) -> str:
    """The Keras layer in a tensor's name such as `model_1/first_1/Relu;...`, where every layer has a number more."""
    parts = tensor.partition(";")[0].split("/")
    for part in reversed(parts):
        for name in (re.sub(r"_\d+$", "", part), part):
            if name in known:
                return name
    return parts[-1]
