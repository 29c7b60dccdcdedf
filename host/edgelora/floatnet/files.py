"""Float networks as `.npz` files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..formats import NpzError, read_npz, write_npz
from .layers import WEIGHTED, FloatNet, Layer, _check, _weights_shape, output_shape

# ---- files -----------------------------------------------------------------------------------------------------------


def save_net(net: FloatNet, path: str | Path) -> None:
    """Writes a float network as an `.npz` file, which `load_net` reads without pickle."""
    arrays: dict[str, NDArray[Any]] = {
        "input_shape": np.array(net.input_shape),
        "labels": np.array(net.labels, np.str_),
    }
    for i, layer in enumerate(net.layers):
        arrays[f"{i}.names"] = np.array([layer.kind, layer.padding, layer.activation])
        arrays[f"{i}.window"] = np.array([layer.kernel, layer.stride, layer.dilation])
        if layer.weights is not None and layer.bias is not None:
            arrays[f"{i}.weights"], arrays[f"{i}.bias"] = layer.weights, layer.bias
    write_npz(path, arrays)


def load_net(path: str | Path) -> FloatNet:
    """Reads a network that `save_net` wrote. Raises ValueError, naming the file, if it isn't one."""
    remedy = "make it again with `edgelora pretrain`"
    try:
        arrays = read_npz(path, remedy)
        layers = [_load_layer(arrays, i) for i in range(sum(name.endswith(".names") for name in arrays))]
        height, width, channels = (int(n) for n in arrays["input_shape"])
        if min(height, width, channels) < 1:
            raise InputError(f"its input is {height}x{width}x{channels}")
        net = FloatNet((height, width, channels), layers, [str(name) for name in arrays["labels"]])
        _check_chain(net)
    except (OSError, NpzError):
        raise
    except Exception as error:
        told = f"array {error} is missing" if isinstance(error, KeyError) else error
        raise InputError(f"{path}: not a float network saved by edgelora ({told}): {remedy}") from error
    return net


def _load_layer(arrays: dict[str, NDArray[Any]], i: int) -> Layer:
    kind, padding, activation = (str(name) for name in arrays[f"{i}.names"])
    kernel, stride, dilation = ((int(h), int(w)) for h, w in arrays[f"{i}.window"])
    layer = Layer(kind, kernel, stride, dilation, padding, activation)
    if kind in WEIGHTED:
        layer.weights, layer.bias = arrays[f"{i}.weights"], arrays[f"{i}.bias"]
    _check(layer)
    return layer


def _check_chain(net: FloatNet) -> None:
    if not net.layers:
        raise InputError("it has no layers")
    shape = net.input_shape
    for i, layer in enumerate(net.layers):
        if layer.weights is not None and layer.bias is not None:
            expected = _weights_shape(layer, shape)
            if layer.bias.ndim != 1 or {layer.weights.dtype.kind, layer.bias.dtype.kind} != {"f"}:
                raise InputError(f"layer {i}: weights and bias must be float arrays, the bias of one axis")
            if layer.weights.shape != expected:
                raise InputError(f"layer {i}: weights are {layer.weights.shape}, expected {expected}")
            if not (np.isfinite(layer.weights).all() and np.isfinite(layer.bias).all()):
                raise InputError(f"layer {i}: weights or bias are not finite")
        shape = output_shape(layer, shape)
