"""Post-training quantization of a float network to the TensorFlow Lite INT8 specification.

Weights are symmetric int8 in [-127, 127] with a scale for each output channel, activations asymmetric int8 whose zero
is exact, biases int32 at scale input * weights. Source: the TFLite 8-bit quantization spec.

Calibration and the accuracy reported here simulate the INT8 network in floating point, on the same integer grids but
with real multipliers; the bit-exact arithmetic is the device core's alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from . import formats, nn
from .model import WINDOW_KINDS, Op, QuantModel, Tensor
from .tflite_math import derive

PERCENTILES = (100.0, 99.99, 99.9)  # share of calibration values that an activation's range covers, in percent
REFERENCE_RANK = 4  # of the adapter that t_shift and branch_shift are calibrated for
REFERENCE_SEEDS = range(8)  # of the adapters that calibration averages over
T_RMS = 26.0  # aimed at for the int8 vector t = A x; within a factor of sqrt(2), as shifts are powers of two
BRANCH_COVER = 8.0  # a full-scale B reaches this many standard deviations of the accumulator
CALIBRATION_LIMIT = 512  # samples that calibration looks at, evenly spaced


@dataclass(frozen=True)
class QuantReport:
    """Accuracy of the float and of the (simulated) INT8 network, and each op's signal to quantization noise in dB."""

    float_accuracy: float
    int8_accuracy: float
    agreement: float  # share of inputs where both predict the same class
    sqnr_db: list[float]


# ---- quantization ----------------------------------------------------------------------------------------------------


def activation_tensor(shape: nn.Shape, low: float, high: float) -> Tensor:
    """The int8 tensor for real values from `low` to `high`, widened to hold zero, which falls on an integer."""
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return Tensor(shape, 1.0, 0)
    scale = float(np.float32((high - low) / 255))  # as files hold it
    return Tensor(shape, scale, int(np.clip(round(-128 - low / scale), -128, 127)))


def balanced(net: nn.FloatNet, x: nn.Array) -> nn.FloatNet:
    """A network of the same function whose channels use the int8 range more evenly before and behind depthwise layers.

    A ReLU lets a channel be scaled down before it and up behind it. A depthwise layer has a weight scale for each
    channel, so before it all channels get the same peak over inputs x [N, H, W, C]; behind it a channel's peak
    and its largest weight in the next layer share the difference. (Cross-layer equalization: M. Nagel et al., 2019,
    arXiv:1906.04721.)
    """
    layers = list(net.layers)
    for i, values in enumerate(nn.forward(net, x)[1:-1]):
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


def _floored(peaks: nn.Array) -> nn.Array:
    """Peaks of channels, of those (nearly) without use as if they had a hundredth of the highest."""
    return np.maximum(peaks, max(float(peaks.max()), 1e-6) / 100)


def quantize(net: nn.FloatNet, x: nn.Array, percentiles: Sequence[float] = PERCENTILES) -> QuantModel:
    """Quantizes `net`, calibrating on inputs x [N, H, W, C] (a few hundred, like those it will see; no labels needed).

    Of the activation ranges that cover the given percentiles, it keeps those whose logits are nearest to the float
    network's. Raises ValueError for inputs that are empty, of the wrong shape or not finite.
    """
    x = _calibration_inputs(net, x)
    activations = nn.forward(net, x)
    models = [_quantized(net, activations, percentile) for percentile in percentiles]
    logits = activations[-1].reshape(len(x), -1)
    model = max(models, key=lambda candidate: _sqnr_db(logits, simulate(candidate, x)[-1].reshape(len(x), -1)))
    calibrate_adapters(model, x)
    return model


def _calibration_inputs(net: nn.FloatNet, x: nn.Array) -> nn.Array:
    if x.ndim != 4 or x.shape[1:] != net.input_shape or len(x) == 0:
        raise ValueError(f"calibration inputs are {x.shape}; the network takes [samples, {str(net.input_shape)[1:-1]}]")
    if not np.isfinite(x).all():
        raise ValueError("calibration inputs have values that are not finite")
    return x[:: -(-len(x) // CALIBRATION_LIMIT)]


def _quantized(net: nn.FloatNet, activations: list[nn.Array], percentile: float) -> QuantModel:
    tensors = [activation_tensor(net.input_shape, *_range(activations[0], percentile))]
    ops = []
    for i, layer in enumerate(net.layers):
        shape = nn.output_shape(layer, tensors[-1].shape)
        if layer.kind == "average_pool":  # keeps its input's scale, so needs no multiplier
            tensors.append(replace(tensors[-1], shape=shape))
        else:
            tensors.append(activation_tensor(shape, *_range(activations[i + 1], percentile)))
        ops.append(_op(layer, i, tensors[i], tensors[i + 1]))
    model = QuantModel(tensors, ops, list(net.labels))
    for op in ops:
        derive(model, op)
    return model


def _range(values: nn.Array, percentile: float) -> tuple[float, float]:
    low, high = np.percentile(values, [100 - percentile, percentile])
    return float(low), float(high)


def _op(layer: nn.Layer, index: int, source: Tensor, target: Tensor) -> Op:
    op = Op(layer.kind, index, index + 1)
    if layer.kind in WINDOW_KINDS:
        at = nn.geometry(layer, source.shape)
        op.kernel, op.stride, op.dilation = layer.kernel, layer.stride, layer.dilation
        op.padding = (at.pad_h[0], at.pad_w[0])
    if layer.weights is not None and layer.bias is not None:
        depthwise = layer.kind == "depthwise"
        peak = np.abs(layer.weights).max(axis=(0, 1) if depthwise else (1, 2, 3))
        scale = _weight_scales(peak.astype(np.float64), layer.bias, source.scale)
        per_channel = scale if depthwise else scale[:, None, None, None]
        op.weight_scale = scale
        op.weights = np.clip(np.rint(layer.weights / per_channel), -127, 127).astype(np.int8)
        op.bias = np.rint(layer.bias / (source.scale * scale)).astype(np.int32)
    if layer.activation != "none":
        op.act_min, op.mask_low = target.zero_point, True
    if layer.activation == "relu6":
        op.act_max, op.mask_high = min(127, target.zero_point + round(6 / target.scale)), True
    return op


def _weight_scales(peak: nn.Array, bias: nn.Array, input_scale: float) -> NDArray[np.float64]:
    """A scale for each channel from its largest weight; where that is (nearly) 0, one at which the bias fits int32."""
    scale = np.maximum(peak, (peak.max() or 1.0) / 1024) / 127
    scale = np.maximum(scale, np.abs(bias) / (input_scale * 2**30))
    return scale.astype(np.float32).astype(np.float64)  # as files hold it


# ---- simulation and calibration --------------------------------------------------------------------------------------


def simulate(model: QuantModel, x: nn.Array) -> list[nn.Array]:
    """Real activations [N, H, W, C] of the INT8 network for real inputs x: the input's, then every op's output.

    Computed in float64 with real multipliers and rounding half up: off the device's result by a step at most where a
    product falls next to a half.
    """
    grid: list[nn.Array] = [model.input.quantize(x).astype(np.float64)]
    for op in model.ops:
        grid.append(_simulate_op(model, op, grid[op.input]))
    return [_real(model.tensors[i], q) for i, q in enumerate(grid)]


def _real(tensor: Tensor, q: nn.Array) -> nn.Array:
    return tensor.scale * (q - tensor.zero_point)


def _simulate_op(model: QuantModel, op: Op, q: nn.Array) -> nn.Array:
    """Output on the int8 grid of one op for its input on the int8 grid, both [N, H, W, C] in float64."""
    source, target = model.tensors[op.input], model.tensors[op.output]
    if op.weights is not None and op.bias is not None and op.weight_scale is not None:
        total: nn.Array = (accumulators(model, op, q) + op.bias) * (source.scale * op.weight_scale / target.scale)
    else:
        layer = nn.Layer(op.kind, op.kernel, op.stride, op.dilation, padding_name(model, op))
        total = nn.layer_forward(layer, q - source.zero_point) * (source.scale / target.scale)
    return np.clip(np.floor(total + 0.5) + target.zero_point, op.act_min, op.act_max)


def accumulators(model: QuantModel, op: Op, q: nn.Array) -> nn.Array:
    """The int32 accumulators of an op with weights, without bias, in float64, for its input on the int8 grid."""
    assert op.weights is not None
    return _product(model, op, op.weights, q)


def _product(model: QuantModel, op: Op, weights: NDArray, q: nn.Array) -> nn.Array:
    layer = nn.Layer(op.kind, op.kernel, op.stride, op.dilation, padding_name(model, op))
    return nn.linear(layer, weights.astype(np.float64), q - model.tensors[op.input].zero_point)


def padding_name(model: QuantModel, op: Op) -> str:
    """Whether the op's output has the size that SAME or that VALID padding gives."""
    source, target = model.tensors[op.input].shape, model.tensors[op.output].shape
    same = all(target[i] == -(-source[i] // op.stride[i]) for i in (0, 1))
    return "same" if same else "valid"


def calibrate_adapters(model: QuantModel, x: nn.Array) -> None:
    """Sets t_shift and branch_shift of every conv and dense op of `model` from real inputs x [N, H, W, C].

    t_shift gives t = A (x - zp) / 2**t_shift an rms of about T_RMS for A uniform in [-127, 127]. With it,
    2**branch_shift * 127 * rms(t) * sqrt(rank) is BRANCH_COVER times the accumulator's standard deviation, in the
    median channel, at rank REFERENCE_RANK.
    """
    q: nn.Array = model.input.quantize(x).astype(np.float64)
    for index, op in enumerate(model.ops):
        set_adapter_shifts(model, index, q)
        q = _simulate_op(model, op, q)


def set_adapter_shifts(model: QuantModel, index: int, q: nn.Array) -> None:
    """What `calibrate_adapters` does to one op, for op inputs q [N, H, W, C] on the int8 grid."""
    op = model.ops[index]
    if not op.is_matrix or op.weights is None:
        return
    rows = [formats.seeded_a(seed, index, REFERENCE_RANK, op) for seed in REFERENCE_SEEDS]
    rms = _rms(_product(model, op, np.concatenate(rows).reshape(-1, *op.weights.shape[1:]), q))
    op.t_shift = _power_of_two(rms / T_RMS, 0, 24)
    spread = float(np.median(accumulators(model, op, q).std(axis=(0, 1, 2))))
    reach = 127 * rms / 2**op.t_shift * math.sqrt(REFERENCE_RANK)
    op.branch_shift = _power_of_two(BRANCH_COVER * spread / reach if reach else 1.0, -15, 8)


def _power_of_two(ratio: float, low: int, high: int) -> int:
    """The exponent in [low, high] whose power of two is nearest to `ratio` in proportion."""
    return low if ratio <= 0 else int(np.clip(round(math.log2(ratio)), low, high))


def _rms(values: NDArray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


# ---- report ----------------------------------------------------------------------------------------------------------


def report(net: nn.FloatNet, model: QuantModel, x: nn.Array, y: NDArray[np.integer]) -> QuantReport:
    """Compares `model` with the float network it was made from, on inputs x [N, H, W, C] with labels y."""
    real, simulated = nn.forward(net, x), simulate(model, x)
    float_class, int8_class = (a[-1].reshape(len(x), -1).argmax(axis=1) for a in (real, simulated))
    return QuantReport(
        float(np.mean(float_class == y)),
        float(np.mean(int8_class == y)),
        float(np.mean(float_class == int8_class)),
        [_sqnr_db(a, b) for a, b in zip(real[1:], simulated[1:], strict=True)],
    )


def _sqnr_db(signal: NDArray, noisy: NDArray) -> float:
    noise = float(np.sum(np.square(signal - noisy)))
    power = float(np.sum(np.square(signal)))
    return math.inf if noise == 0 else 10 * math.log10(max(power, 1e-30) / noise)
