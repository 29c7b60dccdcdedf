"""Low-rank adaptation of a float network: the baseline that the board's integer LoRA is compared with.

LoRA (Hu et al., 2021, arXiv:2106.09685) adds to each adapted layer's weights W the product alpha/rank * B A. For a
convolution A is a convolution with `rank` outputs and B a 1x1 one, which is the same product with A [rank, kernel *
inputs] and B [outputs, rank]. A starts Kaiming-uniform (PyTorch's, a = sqrt(5)) and B at zero, as in the reference
implementation; W and all biases are frozen.

The defaults are tuned in the baseline's favour: over alpha 4 to 32, rates 0.003 to 0.08 (0.08 to 0.32 with A frozen), 4
to 10 epochs, ranks 4 and 8, and cosine or linear decay, they are near the best mean *test* accuracy over people 1 to 6
of the smartwatch data. Neighbouring settings differ by less than a point. The rival it is compared with must not be
chosen so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.model.datasets.dataset import Dataset

from . import layers, train
from .layers import FloatNet, accuracy
from .train import Adam, Augment, RunningMean, batches, scheduled

ALPHA = 4.0
RATE_TRAINED_A = 0.014
RATE_FROZEN_A = 0.16  # with A frozen only alpha * rate matters


@dataclass
class Adapter:
    """A [rank, inputs] and B [outputs, rank] of one layer; inputs = kernel_h * kernel_w * channels."""

    a: layers.Array
    b: layers.Array


@dataclass
class FloatLoraResult:
    """How a float LoRA run went: test accuracy at the end, without the adapter, and after every epoch; mean losses.

    `adapters` maps a layer's index in the network to what was trained there.
    """

    accuracy: float
    base_accuracy: float
    accuracies: list[float]
    losses: list[float]
    adapters: dict[int, Adapter] = field(repr=False)


def adaptable_layers(net: layers.FloatNet) -> list[int]:
    """Indices of the layers that can carry an adapter: every conv, dense and project layer."""
    return [i for i, layer in enumerate(net.layers) if layer.kind in ("conv", "dense", "project")]


def train_float_lora(
    net: FloatNet,
    train: Dataset,
    test: Dataset,
    rank: int = 8,
    layers: Sequence[int] | None = None,
    epochs: int = 6,
    seed: int = 0,
    lr: float | None = None,
    train_a: bool = True,
    alpha: float = ALPHA,
    schedule: str = "linear",
    batch: int = 8,
    ranks: Sequence[int] | None = None,
    augment: Augment | None = None,
    kept: float | None = None,
) -> FloatLoraResult:
    """Trains adapters on `layers` of `net` (all adaptable ones unless given) by Adam; `net` is left as it was.

    ranks: one a layer, 0 for none, instead of `rank` and `layers`; kept: in each update of a running mean of the
    adapters, which becomes the result.
    """
    if ranks is None:
        chosen = dict.fromkeys(adaptable_layers(net) if layers is None else layers, rank)
    else:
        chosen = {i: rank for i, rank in enumerate(ranks) if rank}
    rate = lr if lr is not None else RATE_TRAINED_A if train_a else RATE_FROZEN_A
    rng = np.random.default_rng(seed)
    adapters = {i: _fresh(net.layers[i], rank, rng) for i, rank in chosen.items()}
    parameters = [p for adapter in adapters.values() for p in _trained(adapter.a, adapter.b, train_a)]
    optimizer, mean = Adam(parameters), None if kept is None else RunningMean(parameters, kept)
    losses, accuracies = [], []
    for epoch in range(epochs):
        total = 0.0
        for i, picked in enumerate(batches(len(train), batch, rng)):
            x = augment(train.x[picked], rng) if augment else train.x[picked]
            loss, gradients = _gradients(net, adapters, alpha, x, train.y[picked])
            done = (epoch + i * batch / len(train)) / epochs
            optimizer.step(
                [g for i in chosen for g in _trained(*gradients[i], train_a)], scheduled(schedule, rate, done)
            )
            total += loss * len(picked)
            if mean:
                mean.step()
        if mean and epoch == epochs - 1:
            mean.assign()
        losses.append(total / len(train))
        accuracies.append(accuracy(merged(net, adapters, alpha), test.x, test.y))
    base = accuracy(net, test.x, test.y)
    return FloatLoraResult(accuracies[-1] if accuracies else base, base, accuracies, losses, adapters)


def merged(net: FloatNet, adapters: dict[int, Adapter], alpha: float) -> FloatNet:
    """A copy of `net` with W + alpha / rank * B A in the adapted layers; it shares everything else."""
    layers = list(net.layers)
    for i, adapter in adapters.items():
        weights = layers[i].weights
        assert weights is not None
        change = alpha / len(adapter.a) * adapter.b @ adapter.a
        layers[i] = replace(layers[i], weights=weights + change.reshape(weights.shape))
    return replace(net, layers=layers)


def _fresh(layer: layers.Layer, rank: int, rng: np.random.Generator) -> Adapter:
    if layer.weights is None:
        raise InputError(f"a {layer.kind} layer has no weights to adapt; choose conv, dense and project layers")
    outputs, inputs = len(layer.weights), layer.weights[0].size
    bound = 1 / math.sqrt(inputs)
    dtype = layer.weights.dtype
    return Adapter(rng.uniform(-bound, bound, (rank, inputs)).astype(dtype), np.zeros((outputs, rank), dtype))


def _trained(a: layers.Array, b: layers.Array, train_a: bool) -> tuple[layers.Array, ...]:
    return (a, b) if train_a else (b,)


def _gradients(
    net: layers.FloatNet, adapters: dict[int, Adapter], alpha: float, x: layers.Array, y: NDArray[np.integer]
) -> tuple[float, dict[int, tuple[layers.Array, layers.Array]]]:
    """The loss on one batch and, for each adapted layer, its gradients (dA, dB): both follow from dW."""
    adapted = merged(net, adapters, alpha)
    activations = layers.forward(adapted, x)
    loss, d_logits = train.softmax_cross_entropy(activations[-1].reshape(len(x), -1), y)
    full = layers.backward(adapted, activations, d_logits, lowest=min(adapters))
    gradients: dict[int, tuple[layers.Array, layers.Array]] = {}
    for i, adapter in adapters.items():
        pair = full[i]
        assert pair is not None
        d_w = alpha / len(adapter.a) * pair[0].reshape(len(adapter.b), -1)
        gradients[i] = adapter.b.T @ d_w, d_w @ adapter.a.T
    return loss, gradients
