"""Float networks as `.npz` files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.formats.npz import NpzError, read_npz, write_npz

from .functions import FUNCTIONS, Smooth
from .layers import (
    ACTIVATIONS,
    PAIRS,
    PARAMETRIC,
    STREAMED,
    WEIGHTED,
    FloatNet,
    Layer,
    Places,
    Shape,
    Sides,
    input_counts,
    layer_kinds,
    output_shape,
    sources,
)
from .tables import Sampled

ID_BYTES = 8
_FLOATS = ("weights", "bias", "gain", "angles")  # arrays of a layer

# ---- files -----------------------------------------------------------------------------------------------------------


def save_net(net: FloatNet, path: str | Path) -> None:
    """Writes a float network as an `.npz` file, which `load_net` reads without pickle.

    Functions of lookups have to be `Sampled`, or `Smooth`; InputError otherwise.
    """
    arrays: dict[str, NDArray[Any]] = {
        "input_shape": np.array(net.input_shape),
        "labels": np.array(net.labels, np.str_),
    }
    if net.base_id:
        arrays["base_id"] = np.frombuffer(net.base_id, np.uint8)
    for i, layer in enumerate(net.layers):
        arrays |= {f"{i}.{what}": values for what, values in _arrays_of(layer).items()}
    write_npz(path, arrays)


def _arrays_of(layer: Layer) -> dict[str, NDArray[Any]]:
    padding = layer.padding if isinstance(layer.padding, str) else "sides"
    arrays: dict[str, NDArray[Any]] = {
        "names": np.array([layer.kind, padding, layer.activation]),
        "window": np.array([layer.kernel, layer.stride, layer.dilation]),
    }
    arrays |= {what: values for what in _FLOATS if (values := getattr(layer, what)) is not None}
    if not isinstance(layer.padding, str):
        arrays["sides"] = np.array(layer.padding)
    if layer.inputs:
        arrays["inputs"] = np.array(layer.inputs)
    if layer.name:
        arrays["name"] = np.array(layer.name)
    if layer.kind in ("attend", "norm"):
        arrays["heads"] = np.array([*layer.heads, layer.causal, layer.centred])
    if layer.kind == "norm":
        arrays["epsilon"] = np.array(layer.epsilon)
    if layer.shape is not None:
        arrays["shape"] = np.array(layer.shape)
    if layer.places is not None:
        arrays["order"] = np.array(layer.order)
        arrays |= {f"places{axis}": np.array(places) for axis, places in enumerate(layer.places)}
    if layer.kind == "lookup" and isinstance(layer.function, Smooth):
        arrays["function"] = np.array(layer.function.name)
    elif layer.kind == "lookup":
        if not isinstance(layer.function, Sampled):
            raise InputError(f"layer {layer.name or layer.kind}: its function can't be saved; sample it first")
        arrays |= {"range": np.array([layer.function.low, layer.function.high]), "values": layer.function.values}
    return arrays


def load_net(path: str | Path) -> FloatNet:
    """Reads a network that `save_net` wrote. Raises ValueError, naming the file, if it isn't one."""
    remedy = "make it again, with `edgelora pretrain` or `from_torch`"
    try:
        arrays = read_npz(path, remedy)
        layers = [_load_layer(arrays, i) for i in range(sum(name.endswith(".names") for name in arrays))]
        height, width, channels = (int(n) for n in arrays["input_shape"])
        if min(height, width, channels) < 1:
            raise InputError(f"its input is {height}x{width}x{channels}")
        base_id = bytes(arrays.get("base_id", np.zeros(0, np.uint8)).astype(np.uint8))
        if len(base_id) not in (0, ID_BYTES):
            raise InputError(f"its base id has {len(base_id)} bytes, must have {ID_BYTES}")
        labels = [str(name) for name in arrays["labels"]]
        net = FloatNet((height, width, channels), layers, labels, base_id)
        _check_graph(net)
    except (OSError, NpzError):
        raise
    except Exception as error:
        reason = f"array {error} is missing" if isinstance(error, KeyError) else error
        raise InputError(f"{path}: not a float network saved by edgelora ({reason}): {remedy}") from error
    return net


def _load_layer(arrays: dict[str, NDArray[Any]], i: int) -> Layer:
    kind, padding, activation = (str(name) for name in arrays[f"{i}.names"])
    kernel, stride, dilation = ((int(h), int(w)) for h, w in arrays[f"{i}.window"])
    layer = Layer(kind, kernel, stride, dilation, padding, activation)
    if kind not in layer_kinds():
        raise InputError(f"layer {i}: unknown kind {kind!r}")
    if padding == "sides":
        layer.padding = _sides(arrays[f"{i}.sides"], i)
    elif padding not in ("same", "valid"):
        raise InputError(f"layer {i}: unknown padding {padding!r}")
    if activation not in ACTIVATIONS or activation != "none" and kind not in (*WEIGHTED[:3], *PAIRS):
        raise InputError(f"layer {i}: a {kind} layer can't have activation {activation!r}")
    if min(*kernel, *stride, *dilation) < 1:
        raise InputError(f"layer {i}: kernel, stride and dilation must be at least 1")
    if kind in WEIGHTED:
        layer.weights, layer.bias = arrays[f"{i}.weights"], arrays[f"{i}.bias"]
        layer.gain = arrays.get(f"{i}.gain")
    if kind in PARAMETRIC:
        layer.weights, layer.bias = arrays[f"{i}.weights"], arrays.get(f"{i}.bias")
    if kind == "rotate":
        layer.angles = arrays[f"{i}.angles"]
    if kind in ("attend", "norm"):
        queries, keys, causal, centred = (int(value) for value in arrays[f"{i}.heads"])
        layer.heads, layer.causal, layer.centred = (queries, keys), bool(causal), bool(centred)
    if f"{i}.epsilon" in arrays:
        layer.epsilon = _epsilon(arrays[f"{i}.epsilon"], i)
    if f"{i}.function" in arrays:
        layer.function = FUNCTIONS[str(arrays[f"{i}.function"])]
    elif kind == "lookup":
        layer.function = _function(arrays[f"{i}.range"], arrays[f"{i}.values"], i)
    if kind == "reshape":
        height, width, channels = (int(n) for n in arrays[f"{i}.shape"])
        layer.shape = (height, width, channels)
    if kind == "gather":
        layer.places, layer.order = _places(arrays, i)
    layer.inputs = tuple(int(tensor) for tensor in arrays.get(f"{i}.inputs", ()))
    layer.name = str(arrays.get(f"{i}.name", ""))
    return layer


def _places(arrays: dict[str, NDArray[Any]], i: int) -> tuple[Places, tuple[int, int, int]]:
    first, second, third = (int(axis) for axis in arrays[f"{i}.order"])
    rows, columns, channels = (tuple(int(n) for n in arrays[f"{i}.places{axis}"]) for axis in range(3))
    if sorted((first, second, third)) != [0, 1, 2] or not (rows and columns and channels):
        raise InputError(f"layer {i}: its gather has axes {(first, second, third)}, or no positions")
    return (rows, columns, channels), (first, second, third)


def _epsilon(stored: NDArray[Any], i: int) -> float:
    epsilon = float(stored)
    if not 0 < epsilon < 1:
        raise InputError(f"layer {i}: its epsilon is {epsilon:g}, must be between 0 and 1")
    return epsilon


def _sides(stored: NDArray[Any], i: int) -> Sides:
    (above, below), (left, right) = ((int(a), int(b)) for a, b in stored)
    if min(above, below, left, right) < 0:
        raise InputError(f"layer {i}: padding must be at least 0")
    return (above, below), (left, right)


def _function(ends: NDArray[Any], values: NDArray[Any], i: int) -> Sampled:
    low, high = (float(end) for end in ends)
    if not (values.ndim == 1 and len(values) > 1 and low < high and math.isfinite(high - low)):
        raise InputError(f"layer {i}: its function needs values over a finite range")
    _check_finite(values, f"layer {i}: its function")
    return Sampled(low, high, values)


def _check_graph(net: FloatNet) -> None:
    if not net.layers:
        raise InputError("it has no layers")
    shapes: list[Shape] = [net.input_shape]
    for i, layer in enumerate(net.layers):
        read = sources(net, i)
        if len(read) not in input_counts(layer) or not all(0 <= tensor <= i for tensor in read):
            raise InputError(f"layer {i}: a {layer.kind} layer can't read the tensors {read}")
        shape = shapes[read[0]]
        if layer.kind in WEIGHTED:
            _check_weights(layer, shape, i)
        _check_rows(layer, [shapes[tensor] for tensor in read], i)
        if layer.kind in PAIRS and any(b not in (1, a) for a, b in zip(shape, shapes[read[1]], strict=True)):
            raise InputError(f"layer {i}: it reads {shape} and {shapes[read[1]]}")
        if layer.shape is not None and (min(layer.shape) < 1 or math.prod(layer.shape) != math.prod(shape)):
            raise InputError(f"layer {i}: it makes {layer.shape} of {shape}")
        if layer.kind == "concatenate" and shape[:2] != shapes[read[1]][:2]:
            raise InputError(f"layer {i}: it joins {shape} and {shapes[read[1]]}")
        if layer.places is not None and any(
            not 0 <= place < side for places, side in zip(layer.places, shape, strict=True) for place in places
        ):
            raise InputError(f"layer {i}: it takes positions outside {shape}")
        shapes.append(output_shape(layer, *(shapes[tensor] for tensor in read)))


def _check_rows(layer: Layer, read: list[Shape], i: int) -> None:
    """Refuses layers of transformers that do not fit their inputs."""
    (height, width, channels), sizes = (
        read[0],
        [array.shape for array in (layer.weights, layer.bias) if array is not None],
    )
    for what in _FLOATS if layer.kind not in WEIGHTED else ():
        if (array := getattr(layer, what)) is not None:
            _check_finite(array, f"layer {i}: its {what}")
    fits = {
        "embed": channels == 1 and len(sizes) == 1 and len(sizes[0]) == 2,
        "constant": len(sizes) == 1 and len(sizes[0]) == 3,
        "norm": sizes == [(channels,)] * (1 + layer.centred),
        "rotate": layer.angles is not None and _turns(layer.angles.shape, height * width, channels),
        "attend": _attends(layer.heads, read),
    }
    if not fits.get(layer.kind, True):
        raise InputError(f"layer {i}: its {layer.kind} does not fit the inputs {read}")
    if layer.kind in STREAMED and len(read) == 2 and output_shape(layer, read[0]) != read[1]:
        raise InputError(f"layer {i}: it adds {output_shape(layer, read[0])} to {read[1]}")


def _turns(table: tuple[int, ...], rows: int, channels: int) -> bool:
    return len(table) == 3 and table[0] == rows and table[2] == 2 and table[1] > 0 and channels % (2 * table[1]) == 0


def _attends(heads: tuple[int, int], read: list[Shape]) -> bool:
    queries, keys = heads
    if len(read) != 3 or min(heads) < 1 or queries % keys or read[0][2] % queries:
        return False
    size = read[0][2] // queries
    rows = {shape[0] * shape[1] for shape in read}
    return len(rows) == 1 and [shape[2] for shape in read] == [queries * size, keys * size, keys * size]


def _check_weights(layer: Layer, shape: Shape, i: int) -> None:
    assert layer.weights is not None and layer.bias is not None
    for array, what in ((layer.weights, "weights"), (layer.bias, "bias"), (layer.gain, "gain")):
        if array is not None:
            _check_finite(array, f"layer {i}: its {what}")
    outputs, (*kernel, inputs) = len(layer.bias), (*layer.kernel, shape[2])
    if layer.kind == "dense":
        kernel, inputs = [1, 1], math.prod(shape)
    expected = (*kernel, outputs) if layer.kind == "depthwise" else (outputs, *kernel, inputs)
    if layer.weights.shape != expected or layer.kind == "depthwise" and outputs % shape[2]:
        raise InputError(f"layer {i}: weights are {layer.weights.shape}, expected {expected}")
    if layer.bias.ndim != 1 or layer.gain is not None and layer.gain.shape != layer.bias.shape:
        raise InputError(f"layer {i}: bias and gain must have one axis, a number for each output")


def _check_finite(array: NDArray[Any], what: str) -> None:
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise InputError(f"{what} must be finite floats")
