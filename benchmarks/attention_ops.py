"""Errors of norm, attention and integer gradients, by the host twin, against real numbers.

An operator is quantized in a network of its own, with random inputs of uneven rows. The twin's own inputs of the
operator, as real numbers, give what it should compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np

from edgelora.base.progress import Progress, no_progress
from edgelora.core.formats.ela import pack_adapter, unpack_adapter
from edgelora.core.formats.elm import base_id, pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.twin.twin_learner import TwinLearner
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.floatnet import attention
from edgelora.model.floatnet import layers as floatnet_layers
from edgelora.model.floatnet.layers import Array, FloatNet, Layer, build, pointwise, project
from edgelora.model.floatnet.train import softmax_cross_entropy
from edgelora.model.quantization.quantize import quantize

ROWS = (25, 64, 98, 128, 256)
SPREADS = (0.3, 1.0, 3.0)  # standard deviations of scores, in nats
CHANNELS = (32, 64, 128, 256)
HEADS, HEAD = 4, 16
RANK = 4
STEPS = (0, 3)  # standard deviations of B in int8 steps, for which gradients are compared


@dataclass(frozen=True)
class OpErrors:
    """norm_lsb: the largest error of a norm, in steps of its output; norm_lsb_rms: its root mean square (rounding
    alone: 0.289); attend_db: the least ratio of signal to noise of attention, with `attend` by rows and spread of
    scores. gradients: cosines, of each matrix, of the integer gradients of A and B with those of the float network,
    with B = 0 and random; mean and worst over all of these.
    """

    norm_lsb: float
    norm_lsb_rms: float
    attend_db: float
    attend: dict[str, float] = field(repr=False)
    gradient_cosine_mean: float
    gradient_cosine_worst: float
    gradients: dict[str, list[float]] = field(repr=False)


@dataclass(frozen=True)
class Learning:
    """A base, float and quantized, and what it learns from: windows, and the same as the board takes them."""

    net: FloatNet
    model: QuantModel
    part: Dataset
    samples: Samples


def measure_ops(learning: Learning, progress: Progress = no_progress) -> OpErrors:
    norms, attends = list(product(CHANNELS, (False, True))), list(product(ROWS, SPREADS))
    total = len(norms) + len(attends)
    errors, decibels = [], {}
    for channels, centred in norms:
        errors.append(norm_errors(channels, centred))
        progress(len(errors), total, f"norm of {channels} channels")
    for rows, spread in attends:
        decibels[f"{rows} rows, {spread} nats"] = round(attend_decibels(rows, spread), 1)
        progress(len(norms) + len(decibels), total, f"attention over {rows} rows")
    every = np.concatenate(errors)
    rms = float(np.sqrt(np.mean(every**2)))
    cosines = gradient_cosines(learning)
    told = [cosine for of in cosines.values() for cosine in of]
    return OpErrors(
        round(float(np.abs(every).max()), 3),
        round(rms, 3),
        min(decibels.values()),
        decibels,
        round(float(np.mean(told)), 4),
        min(told),
        cosines,
    )


def norm_errors(channels: int, centred: bool, rows: int = 64) -> Array:
    """Errors of a norm in steps, where its output is not clipped."""
    rng = np.random.default_rng([channels, centred])
    gain = np.exp(rng.normal(0, 0.3, channels)).astype(np.float32)
    bias = rng.normal(0, 0.2, channels).astype(np.float32) if centred else None
    widening = [project(channels), Layer("norm", weights=gain, bias=bias, centred=centred)]
    net = build((1, rows, channels), widening, 0)
    sizes = np.exp(rng.normal(0, 0.7, (16, 1, rows, 1)))
    model, activations = _run(net, (rng.normal(0, 1, (16, 1, rows, channels)) * sizes).astype(np.float32))
    stream, made = model.tensors[1].dequantize(activations[1]), activations[2] - float(model.output.zero_point)
    exact = attention.norm(stream, gain, bias, centred) / model.output.scale
    inside = (activations[2] > -128) & (activations[2] < 127)
    return (made - exact)[inside]


def attend_decibels(rows: int, spread: float) -> float:
    """The ratio of signal to noise of attention over all rows, whose scores have this standard deviation in nats."""
    rng = np.random.default_rng([rows, int(10 * spread)])
    chain = [replace(pointwise(HEADS * HEAD), inputs=(0,)) for _ in range(3)]
    chain.append(Layer("attend", heads=(HEADS, HEADS), inputs=(1, 2, 3)))
    net = build((1, rows, HEADS * HEAD), chain, 0)
    for layer in net.layers[:2]:
        assert layer.weights is not None
        layer.weights *= np.float32(np.sqrt(spread))
    model, activations = _run(net, rng.normal(0, 1, (8, 1, rows, HEADS * HEAD)).astype(np.float32))
    q, k, v, made = (model.tensors[i].dequantize(activations[i]) for i in (1, 2, 3, 4))
    exact = attention.attend(q, k, v, (HEADS, HEADS), False)
    return float(10 * np.log10(np.mean(exact**2) / np.mean((made - exact) ** 2)))


def _run(net: FloatNet, x: Array) -> tuple[QuantModel, Sequence[Array]]:
    """The quantized network, and its tensors for inputs x, by the twin."""
    model = quantize(net, x)
    session = Session(pack_model(model), bytes(len(model.ops)), "infer")
    runs = [session.activations(row, model) for row in model.input.quantize(x)]
    return model, [np.stack(values).astype(np.float64) for values in zip(*runs, strict=True)]


def gradient_cosines(learning: Learning) -> dict[str, list[float]]:
    """Cosines of gradients over all samples, a value a matrix, by whose gradients and by B's standard deviation."""
    model, elm, found = learning.model, pack_model(learning.model), {}
    recipe = Recipe(RANK, "trainable_a", micro_batch=len(learning.samples) + 1)
    learner = TwinLearner(elm, recipe.settings(elm))
    learner.begin(5)
    fresh, rng = unpack_adapter(learner.save(False), model, base_id(elm)), np.random.default_rng(0)
    for steps in STEPS:
        drawn = [np.rint(rng.normal(0, steps, layer.b.shape)).astype(np.int8) for layer in fresh.layers]
        adapted = [replace(layer, b=b) for layer, b in zip(fresh.layers, drawn, strict=True)]
        learner.load(pack_adapter(replace(fresh, layers=adapted)))
        learner.train(learning.samples.x, learning.samples.targets, 1)
        integers, changes = learner.gradients(), {}
        for layer in adapted:
            scale = _weight_scale(model, layer.op) * 2.0 ** (layer.branch_shift - layer.t_shift)
            changes[layer.op] = scale * (layer.b.astype(np.float64) @ layer.a)
        full = _weight_gradients(learning, changes)
        pairs = [(integers[layer.op], layer, full[layer.op]) for layer in adapted]
        found[f"B, {steps} steps"] = [_cosine(mine[1], d_w @ layer.a.T) for mine, layer, d_w in pairs]
        if steps:
            through = [(mine[0], (_weight_scale(model, layer.op) * layer.b).T @ d_w) for mine, layer, d_w in pairs]
            found[f"A, {steps} steps"] = [_cosine(mine, theirs) for mine, theirs in through]
    return found


def _weight_scale(model: QuantModel, op: int) -> Array:
    scale = model.ops[op].weight_scale
    assert scale is not None
    return scale[:, None]


def _weight_gradients(learning: Learning, changes: Mapping[int, Array]) -> dict[int, Array]:
    """The float network's gradients [outputs, inputs] at weights that are changed by these."""
    net = replace(learning.net, layers=list(learning.net.layers))
    for i, change in changes.items():
        weights = net.layers[i].weights
        assert weights is not None
        changed = weights + change.reshape(weights.shape).astype(weights.dtype)
        net.layers[i] = replace(net.layers[i], weights=changed)
    activations = floatnet_layers.forward(net, learning.part.x)
    d_logits = softmax_cross_entropy(activations[-1], learning.part.y)[1]
    gradients = floatnet_layers.backward(net, activations, d_logits)
    return {i: pair[0].reshape(len(pair[0]), -1) for i in changes if (pair := gradients[i])}


def _cosine(a: Array, b: Array) -> float:
    return round(float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())), 4)
