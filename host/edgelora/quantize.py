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

from . import formats, nn, twin
from .errors import InputError
from .files import write_atomic
from .model import SAME_GRID_KINDS, WINDOW_KINDS, Op, QuantModel, Tensor
from .tflite_math import SOFTMAX_GRID, derive, fused_range, set_table

PERCENTILES = (100.0, 99.99, 99.9)  # share of calibration values that an activation's range covers, in percent
REFERENCE_RANK = 4  # of the adapter that t_shift and branch_shift are calibrated for
REFERENCE_SEEDS = range(8)  # of the adapters that calibration averages over
T_RMS = 26.0  # aimed at for the int8 vector t = A x; within a factor of sqrt(2), as shifts are powers of two
BRANCH_COVER = 8.0  # a full-scale B reaches this many standard deviations of the accumulator
CALIBRATION_LIMIT = 512  # samples that calibration looks at, evenly spaced
REPORT_CHUNK = 64  # samples whose activations are held at a time
WORST_LAYERS = 3  # that a report's text names


@dataclass(frozen=True)
class LayerNoise:
    """How an op's INT8 output differs from the float network's: 10 log10(signal power / noise power), in dB."""

    op: int
    kind: str
    name: str  # of the float layer, if it has one
    sqnr_db: float | None  # None: there is no difference


@dataclass(frozen=True)
class QuantReport:
    """The float network against the INT8 one, as the host twin computes it.

    Accuracies are None without labels, and agreement (share of samples where both predict the same) too where outputs
    are no classes. `layers` are the ops that the float network has as well.
    """

    samples: int
    float_accuracy: float | None
    int8_accuracy: float | None
    agreement: float | None
    layers: list[LayerNoise]

    @property
    def worst(self) -> list[LayerNoise]:
        """Layers from the noisiest on."""
        noisy = [layer for layer in self.layers if layer.sqnr_db is not None]
        return sorted(noisy, key=lambda layer: layer.sqnr_db or 0.0)

    def __str__(self) -> str:
        lines = []
        if self.float_accuracy is not None and self.int8_accuracy is not None:
            lines.append(f"accuracy float {self.float_accuracy:.3f}, INT8 {self.int8_accuracy:.3f}")
        if self.agreement is not None:
            lines.append(f"both predict the same for {self.agreement:.1%} of {self.samples} samples")
        lines.append("most quantization noise (float signal to noise):")
        lines += [f"  op {n.op:<3} {n.kind:<12} {n.sqnr_db:5.1f} dB  {n.name}" for n in self.worst[:WORST_LAYERS]]
        return "\n".join(line.rstrip() for line in lines)


@dataclass(frozen=True)
class Quantized:
    """A network made INT8: the model, its `.elm` bytes, and how it compares with the float original."""

    model: QuantModel
    elm: bytes
    report: QuantReport

    def save(self, path: str | Path) -> None:
        """Writes the `.elm` file, whole or not at all."""
        write_atomic(Path(path), self.elm)


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
        raise InputError(f"calibration inputs are {x.shape}; the network takes [samples, {str(net.input_shape)[1:-1]}]")
    if not np.isfinite(x).all():
        raise InputError("calibration inputs have values that are not finite")
    return x[:: -(-len(x) // CALIBRATION_LIMIT)]


def _quantized(net: nn.FloatNet, activations: list[nn.Array], percentile: float) -> QuantModel:
    model = QuantModel([activation_tensor(net.input_shape, *_range(activations[0], percentile))], [], list(net.labels))
    for i, layer in enumerate(net.layers):
        sources = nn.sources(net, i)
        source = model.tensors[sources[0]]
        shape = nn.output_shape(layer, source.shape)
        if layer.kind in SAME_GRID_KINDS:
            model.tensors.append(replace(source, shape=shape))
        elif layer.kind == "softmax":
            model.tensors.append(Tensor(shape, *SOFTMAX_GRID))
        else:
            model.tensors.append(activation_tensor(shape, *_range(activations[i + 1], percentile)))
        op = _op(layer, sources, i + 1, source, model.tensors[-1])
        model.ops.append(op)
        if layer.function is not None:
            _set_function(op, source, model.tensors[-1], layer.function)
        else:
            derive(model, op)
    return model


def _range(values: nn.Array, percentile: float) -> tuple[float, float]:
    low, high = np.percentile(values, [100 - percentile, percentile])
    return float(low), float(high)


def _op(layer: nn.Layer, sources: tuple[int, ...], output: int, source: Tensor, target: Tensor) -> Op:
    op = Op(layer.kind, sources[0], output, input2=sources[-1] if len(sources) > 1 else 0)
    if layer.kind in (*WINDOW_KINDS, "pad"):
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
    low, high = (bound if math.isfinite(bound) else None for bound in nn.ACTIVATIONS[layer.activation])
    op.act_min, op.act_max = fused_range(target, low, high)
    op.mask_low, op.mask_high = low is not None, high is not None
    return op


def _set_function(op: Op, source: Tensor, target: Tensor, function: Callable[[nn.Array], nn.Array]) -> None:
    """Makes a lookup any function of one real value; its slope is that between half a step below and above."""
    x = source.dequantize(np.arange(-128, 128))
    half = source.scale / 2
    set_table(op, target.quantize(function(x)), (function(x + half) - function(x - half)) / target.scale)


def _weight_scales(peak: nn.Array, bias: nn.Array, input_scale: float) -> NDArray[np.float64]:
    """A scale for each channel from its largest weight; where that is (nearly) 0, one at which the bias fits int32."""
    scale = np.maximum(peak, (peak.max() or 1.0) / 1024) / 127
    scale = np.maximum(scale, np.abs(bias) / (input_scale * 2**30))
    return scale.astype(np.float32).astype(np.float64)  # as files hold it


# ---- simulation and calibration --------------------------------------------------------------------------------------


def simulate(model: QuantModel, x: nn.Array) -> list[nn.Array]:
    """Real activations [N, H, W, C] of the INT8 network for real inputs x: the input's, then every op's output.

    Computed in float64 with real multipliers and rounding half up: off the device's result by a step at most where a
    product falls next to a half. Not for networks with history.
    """
    return [model.tensors[i].dequantize(q) for i, q in enumerate(_grids(model, x))]


def _grids(model: QuantModel, x: nn.Array) -> list[nn.Array]:
    """The same on the int8 grids, in float64."""
    grids: list[nn.Array] = [model.input.quantize(x).astype(np.float64)]
    for op in model.ops:
        grids.append(simulate_op(model, op, *(grids[source] for source in op.inputs)))
    return grids


def simulate_op(model: QuantModel, op: Op, q: nn.Array, other: nn.Array | None = None) -> nn.Array:
    """Output on the int8 grid of one op for its inputs on their int8 grids, all [N, H, W, C] in float64."""
    source, target = model.tensors[op.input], model.tensors[op.output]
    if op.kind == "lookup" and op.table is not None:
        return op.table[q.astype(np.int64) + 128].astype(np.float64)
    if op.kind == "reshape":
        return q.reshape(len(q), *target.shape)
    if op.kind == "concatenate" and other is not None:
        return np.concatenate([q, other], axis=op.axis)
    if op.kind == "slice":
        return np.take(q, np.arange(op.start, op.start + target.shape[op.axis - 1]), axis=op.axis)
    if op.weights is not None and op.bias is not None and op.weight_scale is not None:
        total: nn.Array = (accumulators(model, op, q) + op.bias) * (source.scale * op.weight_scale / target.scale)
    elif op.kind in ("add", "softmax"):
        reals = (source.dequantize(q), None if other is None else model.tensors[op.input2].dequantize(other))
        total = nn.layer_forward(float_layer(model, op), *reals) / target.scale
    else:
        centred = q - source.zero_point
        total = nn.layer_forward(float_layer(model, op), centred) * (source.scale / target.scale)
    return np.clip(np.floor(total + 0.5) + target.zero_point, op.act_min, op.act_max)


def accumulators(model: QuantModel, op: Op, q: nn.Array) -> nn.Array:
    """The int32 accumulators of an op with weights, without bias, in float64, for its input on the int8 grid."""
    assert op.weights is not None
    return _product(model, op, op.weights, q)


def _product(model: QuantModel, op: Op, weights: NDArray, q: nn.Array) -> nn.Array:
    centred = q - model.tensors[op.input].zero_point
    return nn.linear(float_layer(model, op), weights.astype(np.float64), centred)


def float_layer(model: QuantModel, op: Op) -> nn.Layer:
    """The op's geometry as a float layer's; what padding lies behind the input follows from the output's shape."""
    source, target = model.tensors[op.input].shape, model.tensors[op.output].shape
    sides = []
    for i in (0, 1):
        reach = (target[i] - 1) * op.stride[i] + (op.kernel[i] - 1) * op.dilation[i] + 1
        sides.append((op.padding[i], max(0, reach - op.padding[i] - source[i])))
    return nn.Layer(op.kind, op.kernel, op.stride, op.dilation, (sides[0], sides[1]))


def calibrate_adapters(model: QuantModel, x: nn.Array) -> None:
    """Sets t_shift and branch_shift of every conv and dense op of `model` from real inputs x [N, H, W, C].

    t_shift gives t = A (x - zp) / 2**t_shift an rms of about T_RMS for A uniform in [-127, 127]. With it,
    2**branch_shift * 127 * rms(t) * sqrt(rank) is BRANCH_COVER times the accumulator's standard deviation, in the
    median channel, at rank REFERENCE_RANK.
    """
    grids = _grids(model, x)
    for index, op in enumerate(model.ops):
        set_adapter_shifts(model, index, grids[op.input])


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
    mantissa, exponent = math.frexp(ratio)
    return low if ratio <= 0 else min(max(exponent - (mantissa < math.sqrt(0.5)), low), high)


def _rms(values: NDArray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


# ---- report ----------------------------------------------------------------------------------------------------------


def report(net: nn.FloatNet, model: QuantModel, x: nn.Array, y: NDArray[np.integer] | None = None) -> QuantReport:
    """Compares `model` with the float network it was made from, on inputs x [N, H, W, C], with labels y [N] or not."""
    names = [layer.name for layer in net.layers]
    return compare(model, x, lambda part: list(nn.forward(net, part)[1:]), names, y)


def compare(
    model: QuantModel,
    x: nn.Array,
    reference: Callable[[nn.Array], Sequence[nn.Array | None]],
    names: Sequence[str],
    y: NDArray[np.integer] | None = None,
) -> QuantReport:
    """Compares `model`, run by the host twin, with a float network on real inputs x [N, H, W, C].

    reference: what the float network has for every op's output, for some inputs [n, H, W, C] (None: nothing); the last
    must be there. names: of the float layers. y: classes [N].
    """
    session = twin.Session(formats.pack_model(model), bytes(len(model.ops)), "infer")
    power: dict[int, NDArray[np.float64]] = {}  # of signal and noise
    predicted: list[tuple[NDArray, NDArray]] = []
    for start in range(0, len(x), REPORT_CHUNK):
        part = x[start : start + REPORT_CHUNK]
        runs = [session.activations(np.ascontiguousarray(row), model) for row in model.input.quantize(part)]
        ints = [model.tensors[i].dequantize(np.stack(values)) for i, values in enumerate(zip(*runs, strict=True))][1:]
        real = reference(part)
        for i, (signal, mine) in enumerate(zip(real, ints, strict=True)):
            if signal is not None:
                sums = [float(np.sum(np.square(values))) for values in (signal, mine - signal.reshape(mine.shape))]
                power[i] = power.get(i, np.zeros(2)) + sums
        assert real[-1] is not None
        predicted.append((_classes(model, real[-1]), _classes(model, ints[-1])))
    layers = [
        LayerNoise(i, model.ops[i].kind, names[i], round(_ratio_db(*sums), 2) if sums[1] else None)
        for i, sums in sorted(power.items())
    ]
    if model.loss == "mean_squared_error":
        return QuantReport(len(x), None, None, None, layers)
    before, after = (np.concatenate(classes) for classes in zip(*predicted, strict=True))
    float_accuracy, int8_accuracy = (None if y is None else float(np.mean(classes == y)) for classes in (before, after))
    return QuantReport(len(x), float_accuracy, int8_accuracy, float(np.mean(before == after)), layers)


def _classes(model: QuantModel, outputs: nn.Array) -> NDArray:
    """The predicted classes of outputs [N, ...]; one output alone says yes or no."""
    flat = outputs.reshape(len(outputs), -1)
    if flat.shape[1] > 1:
        return flat.argmax(axis=1)
    return (flat[:, 0] > (0.0 if model.loss_index == model.ops[-1].output else 0.5)).astype(np.int64)


def _sqnr_db(signal: NDArray, noisy: NDArray) -> float:
    return _ratio_db(float(np.sum(np.square(signal))), float(np.sum(np.square(signal - noisy))))


def _ratio_db(signal: float, noise: float) -> float:
    return math.inf if noise == 0 else 10 * math.log10(max(signal, 1e-30) / noise)
