"""The effect of quantization: accuracy before and after, and noise by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.network import QuantModel
from edgelora.core.twin.session import Session
from edgelora.model.floatnet import layers as floatnet_layers
from edgelora.model.floatnet.layers import Array, FloatNet
from edgelora.model.floatnet.train import softmax_cross_entropy

REPORT_CHUNK = 64  # samples per batch of activations
WORST_LAYERS = 3  # layers named in a report's text
FAR = 8.0  # nats below a sample's largest logit, from where on a softmax hardly counts one: e^-8 of it
COARSE = 0.75  # nats: larger steps of logits are reported; 1.5 cost adapters half a point and more, 0.5 a little


@dataclass(frozen=True)
class LayerNoise:
    """How an op's INT8 output differs from the float network's: 10 log10(signal power / noise power), in dB."""

    op: int
    kind: str
    name: str  # of the float layer, if it has one
    sqnr_db: float | None  # None: there is no difference


@dataclass(frozen=True)
class QuantReport:
    """The float network compared with the INT8 one on the host twin.

    Accuracies are None without labels, and agreement (share of samples where both predict the same) too where outputs
    are no classes. Of a language model they count symbols, and bits are what a symbol costs, on average. `layers` are
    the ops that the float network has as well.
    """

    samples: int
    float_accuracy: float | None
    int8_accuracy: float | None
    agreement: float | None
    layers: list[LayerNoise]
    float_bits: float | None = None
    int8_bits: float | None = None

    @property
    def worst(self) -> list[LayerNoise]:
        """Layers, noisiest first."""
        noisy = [layer for layer in self.layers if layer.sqnr_db is not None]
        return sorted(noisy, key=lambda layer: layer.sqnr_db or 0.0)

    def __str__(self) -> str:
        lines = []
        if self.float_bits is not None and self.int8_bits is not None:
            lines.append(f"bits a symbol float {self.float_bits:.4f}, INT8 {self.int8_bits:.4f}")
        if self.float_accuracy is not None and self.int8_accuracy is not None:
            lines.append(f"accuracy float {self.float_accuracy:.3f}, INT8 {self.int8_accuracy:.3f}")
        if self.agreement is not None:
            lines.append(f"both predict the same for {self.agreement:.1%} of {self.samples} samples")
        lines.append("most quantization noise (float signal to noise):")
        lines += [f"  op {n.op:<3} {n.kind:<12} {n.sqnr_db:5.1f} dB  {n.name}" for n in self.worst[:WORST_LAYERS]]
        return "\n".join(line.rstrip() for line in lines)


# ---- report ----------------------------------------------------------------------------------------------------------


def report(net: FloatNet, elm: bytes, model: QuantModel, x: Array, y: NDArray[np.integer] | None = None) -> QuantReport:
    """Compares `model`, whose file is `elm`, with its float original on inputs x [N, H, W, C]. y: labels [N]."""
    names = [layer.name for layer in net.layers]
    return compare(elm, model, x, lambda part: list(floatnet_layers.forward(net, part)[1:]), names, y)


def compare(
    elm: bytes,
    model: QuantModel,
    x: Array,
    reference: Callable[[Array], Sequence[Array | None]],
    names: Sequence[str],
    y: NDArray[np.integer] | None = None,
) -> QuantReport:
    """Compares `model`, whose file `elm` the host twin runs, with a float network on real inputs x [N, H, W, C].

    Of language models x are ids of symbols and y [N, positions] those behind them.
    reference: what the float network has for every op's output, for some inputs [n, H, W, C] (None: nothing); the last
    must be there. names: of the float layers. y: classes [N].
    """
    session = Session(elm, bytes(len(model.ops)), "infer")
    power: dict[int, NDArray[np.float64]] = {}  # of signal and noise
    predicted: list[tuple[NDArray[Any], NDArray[Any]]] = []
    bits: list[tuple[float, float]] = []  # of all symbols of a part
    for start in range(0, len(x), REPORT_CHUNK):
        part = x[start : start + REPORT_CHUNK]
        runs = [session.activations(np.ascontiguousarray(row), model) for row in model.quantize(part)]
        ints = [model.tensors[i].dequantize(np.stack(values)) for i, values in enumerate(zip(*runs, strict=True))][1:]
        real = reference(part)
        for i, (signal, mine) in enumerate(zip(real, ints, strict=True)):
            if signal is not None:
                of_classes = model.loss == "cross_entropy" and i + 1 == model.loss_index
                is_heard = of_classes and model.loss_tensor.positions == 1
                pair = [heard(part) if is_heard else part for part in (signal.reshape(mine.shape), mine)]
                sums = [float(np.sum(np.square(values))) for values in (pair[0], pair[1] - pair[0])]
                power[i] = power.get(i, np.zeros(2)) + sums
        assert real[-1] is not None
        predicted.append((classes_of(model, real[-1]), classes_of(model, ints[-1])))
        if model.learns_sequences and y is not None:
            true = y[start : start + REPORT_CHUNK]
            bits.append((total_bits(real[-1], true), total_bits(ints[-1], true)))
    layers = [
        LayerNoise(i, model.ops[i].kind, names[i], round(_ratio_db(*sums), 2) if sums[1] else None)
        for i, sums in sorted(power.items())
    ]
    if model.loss == "mean_squared_error":
        return QuantReport(len(x), None, None, None, layers)
    before, after = (np.concatenate(classes) for classes in zip(*predicted, strict=True))
    float_accuracy, int8_accuracy = (None if y is None else float(np.mean(classes == y)) for classes in (before, after))
    made = QuantReport(len(x), float_accuracy, int8_accuracy, float(np.mean(before == after)), layers)
    if not bits or y is None:
        return made
    float_bits, int8_bits = (sum(part) / y.size for part in zip(*bits, strict=True))
    return replace(made, float_bits=float_bits, int8_bits=int8_bits)


def total_bits(logits: Array, y: NDArray[np.integer]) -> float:
    """What the symbols y [N, positions] cost in total by their logits [N, ...], in bits."""
    loss, _ = softmax_cross_entropy(np.asarray(logits, np.float64), y)
    return loss * y.size / math.log(2)


def classes_of(model: QuantModel, outputs: Array) -> NDArray[Any]:
    """The predicted classes of outputs [N, ...]; a single output is binary. Of a language model [N, positions]."""
    if model.learns_sequences:
        return np.asarray(outputs.reshape(len(outputs), -1, model.classes).argmax(axis=2))
    flat = outputs.reshape(len(outputs), -1)
    if flat.shape[1] > 1:
        return np.asarray(flat.argmax(axis=1))
    return np.asarray(flat[:, 0] > (0.0 if model.loss_index == model.ops[-1].output else 0.5), np.int64)


def heard(logits: Array) -> Array:
    """Logits [..., classes] clipped to the range that matters to a softmax."""
    far: Array = logits.max(axis=-1, keepdims=True) - FAR
    return np.maximum(logits, far)


def logits_note(model: QuantModel) -> str:
    """What to know of a network of classes whose logits' grid spans few nats or has coarse steps; nothing of others."""
    step = float(np.float32(model.loss_tensor.scale))
    if model.loss_scale > step:
        return (
            f"the logits' range is only {255 * step:.2g} nats, in which no probability can come close to 1: the loss "
            f"treats it as {255 * model.loss_scale:.0f}; for a wider range, calibrate the network on samples that it "
            "classifies confidently, or train it longer"
        )
    if model.loss == "cross_entropy" and step > COARSE:
        return (
            f"the logits have steps of {step:.2g} nats, too coarse for similar classes and for what adapters learn of "
            "them: train the network with label smoothing, which keeps logits small, and convert it again"
        )
    return ""


def _sqnr_db(signal: NDArray[Any], noisy: NDArray[Any]) -> float:
    return _ratio_db(float(np.sum(np.square(signal))), float(np.sum(np.square(signal - noisy))))


def _ratio_db(signal: float, noise: float) -> float:
    return math.inf if noise == 0 else 10 * math.log10(max(signal, 1e-30) / noise)
