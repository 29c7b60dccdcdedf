"""Post-training quantization of a float network to the TensorFlow Lite INT8 specification.

Weights are symmetric int8 in [-127, 127] with a scale for each output channel, activations asymmetric int8 whose zero
is exact, biases int32 at scale input * weights. Source: the TFLite 8-bit quantization spec.

Calibration simulates the INT8 network in floating point, on the same integer grids but with real multipliers; the
bit-exact arithmetic is the device core's alone. Reports are made with that, by the host twin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.formats.files import write_atomic
from edgelora.core.formats.fixed_point import (
    SOFTMAX_GRID,
    derive,
    fused_range,
    set_angles,
    set_embedding,
    set_norm,
    set_table,
    stream_scale,
)
from edgelora.core.formats.network import (
    MATRIX_KINDS,
    SAME_GRID_KINDS,
    STREAM_KINDS,
    WEIGHT_KINDS,
    WINDOW_KINDS,
    Op,
    QuantModel,
    Tensor,
)
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.floatnet import layers
from edgelora.model.floatnet.files import save_net
from edgelora.model.floatnet.layers import ACTIVATIONS, Array, FloatNet, Layer, Shape, output_shape

from .calibrate import PERCENTILES, calibrate_adapters
from .class_stats import spread
from .report import QuantReport, _sqnr_db, heard
from .simulate import simulate

HEAD_ROOM = 2.0  # of logits' range, beyond which training would make them grow
CALIBRATION_LIMIT = 512  # samples that calibration looks at, evenly spaced


@dataclass(frozen=True)
class Quantized:
    """A quantized network: the model, its `.elm` bytes, and a comparison with the float original.

    net: the original, if its layers are known; `import-adapter` uses it to convert LoRA.
    """

    model: QuantModel
    elm: bytes
    report: QuantReport
    net: FloatNet | None = None

    def __repr__(self) -> str:
        return (
            f"<Quantized {self.model.input.shape} -> {self.model.output.shape}, {len(self.elm)} bytes>\n{self.report}"
        )

    def save(self, path: str | Path) -> None:
        """Writes the `.elm` file atomically, and the float original, if known, next to it (`original_path`)."""
        if self.net is not None:
            save_net(self.net, original_path(path))
        write_atomic(Path(path), self.elm)


def original_path(elm: str | Path) -> Path:
    """The path of a `.elm` file's float original: base.float.npz next to base.elm."""
    return Path(elm).with_suffix(".float.npz")


# ---- quantization ----------------------------------------------------------------------------------------------------


def balanced_tensor(shape: Shape, low: float, high: float) -> Tensor:
    """The int8 tensor with zero point 0 for real values from `low` to `high`."""
    return Tensor(shape, float(np.float32((max(-low, high) or 127.0) / 127)), 0)


def activation_tensor(shape: Shape, low: float, high: float) -> Tensor:
    """The int8 tensor for real values from `low` to `high`, widened to hold zero, which falls on an integer."""
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return Tensor(shape, 1.0, 0)
    scale = float(np.float32((high - low) / 255))  # as in files
    return Tensor(shape, scale, int(np.clip(round(-128 - low / scale), -128, 127)))


def quantize(
    net: FloatNet,
    x: Array,
    percentiles: Sequence[float] = PERCENTILES,
    head_room: float = HEAD_ROOM,
    ends: tuple[float, int] | None = None,
    adapted: Sequence[FloatNet] = (),
) -> QuantModel:
    """Quantizes `net`, calibrating on inputs x [N, H, W, C] (a few hundred, like those it will see; no labels needed).

    Of the activation ranges that cover the given percentiles, it keeps those whose logits are nearest to the float
    network's. Logits get `head_room` times the range that they have, as training makes them larger, not counting what
    is too far below a sample's largest to matter; 1: for outputs that are values. ends: scale and
    zero point of input and output, whatever their ranges. adapted: the same network with other weights, LoRA's, whose
    activations the ranges have to hold, too. Raises ValueError for inputs that are empty, of the wrong
    shape or not finite.
    """
    x = _calibration_inputs(net, x)
    runs = [layers.forward(one, x) for one in (net, *adapted)]
    wanted, activations = runs[0][-1], [np.concatenate(values) for values in zip(*runs, strict=True)]
    logits = None if head_room == 1.0 or net.layers[-1].kind == "lookup" else _logits(net)  # each matters to a sigmoid
    of_classes = logits is not None and (_has_streams(net) or activations[logits + 1].shape[1:3] == (1, 1))
    if logits is not None and of_classes:
        activations[logits + 1] = heard(activations[logits + 1])
    models = [_quantized(net, activations, percentile, head_room, ends) for percentile in percentiles]
    model = max(models, key=lambda made: _nearness(wanted, simulate(made, x)[-1], of_classes))
    calibrate_adapters(model, x)
    return model


def _nearness(wanted: Array, found: Array, of_classes: bool) -> float:
    pair = [heard(outputs) if of_classes else outputs for outputs in (wanted, found.reshape(wanted.shape))]
    return _sqnr_db(pair[0], pair[1])


def quantize_on(net: FloatNet, data: Dataset) -> QuantModel:
    """`quantize`, calibrated on the network's training data, with metadata from it: names of
    classes, the signal, and statistics of the last layer's inputs, so that boards can add classes."""
    model = quantize(net, data.x)
    model.labels = model.labels or data.labels
    model.signal = data.signal
    model.class_stats = spread(model, data.x, data.y)
    return model


def _calibration_inputs(net: FloatNet, x: Array) -> Array:
    if x.ndim != 4 or x.shape[1:] != net.input_shape or len(x) == 0:
        raise InputError(f"calibration inputs are {x.shape}; the network takes [samples, {str(net.input_shape)[1:-1]}]")
    if not np.isfinite(x).all():
        raise InputError("calibration inputs have values that are not finite")
    return x[:: -(-len(x) // CALIBRATION_LIMIT)]


def _quantized(
    net: FloatNet,
    activations: list[Array],
    percentile: float,
    head_room: float,
    ends: tuple[float, int] | None,
) -> QuantModel:
    logits, joined, streams, balanced = _logits(net), _joined(net), _streams(net), _balanced(net)
    grid = balanced_tensor if 0 in balanced else activation_tensor
    first = grid(net.input_shape, *_range(activations[0], percentile))
    if symbols := _symbols(net):
        first = Tensor((*net.input_shape[:2], 1 if symbols <= 256 else 2), 1.0, 0)
    model = QuantModel([Tensor(first.shape, *ends) if ends else first], [], list(net.labels))
    model.rounds = _has_streams(net)
    peak = max((float(np.abs(activations[tensor]).max()) for tensor in streams), default=0.0)
    epsilon = max((layer.epsilon for layer in net.layers if layer.kind == "norm"), default=0.0)
    for i, layer in enumerate(net.layers):
        sources = layers.sources(net, i)
        source = model.tensors[sources[0]]
        shape = output_shape(layer, *(model.tensors[tensor].shape for tensor in sources))
        if i + 1 in streams:
            model.tensors.append(Tensor(shape, stream_scale(peak, shape[2], epsilon), 0, wide=True))
        elif layer.kind in SAME_GRID_KINDS:
            model.tensors.append(replace(source, shape=shape))
        elif layer.kind == "softmax":
            model.tensors.append(Tensor(shape, *SOFTMAX_GRID))
        elif ends and i + 1 == len(net.layers):
            model.tensors.append(Tensor(shape, *ends))
        else:
            ranges = [_range(activations[tensor], percentile) for tensor in joined.get(i + 1, [i + 1])]
            low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
            room = head_room if i == logits else 1.0
            grid = balanced_tensor if i + 1 in balanced else activation_tensor
            model.tensors.append(grid(shape, room * low, room * high))
        op = _op(layer, sources, i + 1, source, model.tensors[-1])
        model.ops.append(op)
        if layer.function is not None:
            _set_function(op, source, model.tensors[-1], layer.function)
        else:
            derive(model, op)
    return model


def _joined(net: FloatNet) -> dict[int, list[int]]:
    """Tensors whose values a tensor's grid has to hold, if it isn't the tensor alone.

    All that a concatenate reads has one grid, that of the last of a chain of these; what rotate reads holds both sides.
    """
    found: dict[int, list[int]] = {}
    for i in reversed(range(len(net.layers))):
        kind, read, made = net.layers[i].kind, layers.sources(net, i), found.get(i + 1, [i + 1])
        if kind in ("concatenate", "rotate"):
            found |= {tensor: made if kind == "concatenate" else [tensor, *made] for tensor in read}
    return found


def _has_streams(net: FloatNet) -> bool:
    return any(layer.kind in STREAM_KINDS for layer in net.layers)


def _symbols(net: FloatNet) -> int:
    """The number of symbols that the network reads; 0 if it reads values."""
    tables = (layer.weights for layer in net.layers if layer.kind == "embed" and layer.weights is not None)
    return max(map(len, tables), default=0)


def _streams(net: FloatNet) -> set[int]:
    """Tensors of 16 bits: what is written to a stream, and constants that are added to one."""
    made = {i + 1 for i, layer in enumerate(net.layers) if layer.kind in STREAM_KINDS}
    return made | {layers.sources(net, tensor - 1)[1] for tensor in made if len(net.layers[tensor - 1].inputs) > 1}


def _balanced(net: FloatNet) -> set[int]:
    """Tensors whose zero point has to be 0: what rotate and attend read and write, and what shares a grid with that."""
    found: set[int] = set()
    for i in reversed(range(len(net.layers))):
        kind = net.layers[i].kind
        if kind in ("rotate", "attend") or i + 1 in found and kind in (*SAME_GRID_KINDS, "concatenate"):
            found |= {i + 1, *layers.sources(net, i)}
    return found


def _logits(net: FloatNet) -> int | None:
    """The layer that computes the loss's input, if an adapter can change it; None for an autoencoder."""
    shapes = layers.shapes(net)
    if math.prod(shapes[-1]) == math.prod(shapes[0]):
        return None
    last = len(net.layers) - 1
    while last > 0 and net.layers[last].kind in ("softmax", "lookup", "reshape"):
        last = layers.sources(net, last)[0] - 1
    return last if net.layers[last].kind in MATRIX_KINDS else None


def _range(values: Array, percentile: float) -> tuple[float, float]:
    low, high = np.percentile(values, [100 - percentile, percentile])
    return float(low), float(high)


def _op(layer: Layer, sources: tuple[int, ...], output: int, source: Tensor, target: Tensor) -> Op:
    second, third = (*sources, 0, 0)[1:3]
    op = Op(layer.kind, sources[0], output, input2=second, input3=third, heads=layer.heads)
    op.centred, op.causal = layer.centred, layer.causal
    if layer.kind in (*WINDOW_KINDS, "pad"):
        at = layers.geometry(replace(layer, stride=(1, 1)) if layer.kind == "pad" else layer, source.shape)
        op.kernel, op.stride, op.dilation = layer.kernel, layer.stride, layer.dilation
        op.padding = (at.pad_h[0], at.pad_w[0])
    if layer.kind == "concatenate":
        op.axis = 3
    if layer.places is not None:
        op.axes = (layer.order.index(0) + 1, layer.order.index(1) + 1)
        op.positions = np.concatenate([np.array(places) for places in layer.places]).astype(np.uint16)
    if layer.kind == "constant" and layer.weights is not None:
        op.input, op.values = 0, target.quantize(layer.weights)
    if layer.kind == "embed" and layer.weights is not None:
        set_embedding(op, layer.weights, target)
    if layer.kind == "norm" and layer.weights is not None:
        set_norm(op, source, target, layer.weights, layer.bias, layer.epsilon)
    if layer.angles is not None:
        set_angles(op, np.arctan2(layer.angles[..., 1], layer.angles[..., 0]))
    if layer.kind in WEIGHT_KINDS and layer.weights is not None and layer.bias is not None:
        depthwise = layer.kind == "depthwise"
        peak = np.abs(layer.weights).max(axis=(0, 1) if depthwise else (1, 2, 3))
        scale = _weight_scales(peak.astype(np.float64), layer.bias, source.scale)
        per_channel = scale if depthwise else scale[:, None, None, None]
        op.weight_scale = scale
        op.weights = np.clip(np.rint(layer.weights / per_channel), -127, 127).astype(np.int8)
        op.bias = np.rint(layer.bias / (source.scale * scale)).astype(np.int32)
    low, high = (bound if math.isfinite(bound) else None for bound in ACTIVATIONS[layer.activation])
    op.act_min, op.act_max = fused_range(target, low, high)
    op.mask_low, op.mask_high = low is not None, high is not None
    return op


def _set_function(op: Op, source: Tensor, target: Tensor, function: Callable[[Array], Array]) -> None:
    """Makes a lookup any function of one real value; its slope is that between half a step below and above."""
    x = source.dequantize(np.arange(-128, 128))
    half = source.scale / 2
    set_table(op, target.quantize(function(x)), (function(x + half) - function(x - half)) / target.scale)


def _weight_scales(peak: Array, bias: Array, input_scale: float) -> NDArray[np.float64]:
    """A scale for each channel from its largest weight; where that is (nearly) 0, one at which the bias fits int32."""
    scale = np.maximum(peak, (peak.max() or 1.0) / 1024) / 127
    scale = np.maximum(scale, np.abs(bias) / (input_scale * 2**29))  # the zero point folded in takes a little more
    return scale.astype(np.float32).astype(np.float64)  # as in files
