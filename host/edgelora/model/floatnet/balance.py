"""Equalizes the ranges of a layer's channels, so that one INT8 grid fits them all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from . import layers
from .layers import Array, FloatNet, forward


def balanced(net: FloatNet, x: Array) -> FloatNet:
    """A network of the same function whose channels use the int8 range more evenly before and behind depthwise layers.

    A ReLU lets a channel be scaled down before it and up behind it. A depthwise layer has a weight scale for each
    channel, so before it all channels get the same peak over inputs x [N, H, W, C]; behind it a channel's peak
    and its largest weight in the next layer share the difference. (Cross-layer equalization: M. Nagel et al., 2019,
    arXiv:1906.04721.)
    """
    layers = list(net.layers)
    for i, values in enumerate(forward(net, x)[1:-1]):
        writer, reader = layers[i], layers[i + 1]
        if "depthwise" not in (writer.kind, reader.kind) or writer.activation == "relu6":
            continue
        if writer.weights is None or writer.bias is None or reader.weights is None or reader.kind == "dense":
            continue
        scale = _floored(values.max(axis=(0, 1, 2)))
        if reader.kind == "conv":
            scale = np.sqrt(scale / _floored(np.abs(reader.weights).max(axis=(0, 1, 2))))
        scale = (scale / scale.mean()).astype(values.dtype)
        by_output = scale if writer.kind == "depthwise" else scale[:, None, None, None]
        layers[i] = replace(writer, weights=writer.weights / by_output, bias=writer.bias / scale)
        layers[i + 1] = replace(reader, weights=reader.weights * scale)
    return replace(net, layers=layers)


def _floored(peaks: layers.Array) -> layers.Array:
    """Peaks of channels, at least a hundredth of the highest."""
    return np.maximum(peaks, max(float(peaks.max()), 1e-6) / 100)
