"""Gradients through time: on deployed wake words, and on a network in its streaming and its unrolled form."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import reference
from numpy.typing import NDArray
from wake_words import WAKE_WORDS, wake_word

from edgelora.core.formats.ela import Adapter
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import Op, QuantModel, Tensor
from edgelora.core.front_ends import AUDIO_SIZE, AudioFrontEnd
from edgelora.core.twin.session import Session
from edgelora.model.datasets.speech import Voice, speak
from edgelora.model.floatnet.layers import FloatNet, build, conv, dense
from edgelora.model.floatnet.train import fit
from edgelora.model.importers.tflite.convert import import_tflite
from edgelora.model.quantization.quantize import quantize

Floats = NDArray[np.float64]
FRAMES = 60  # of 30 ms: more than any of the networks remembers
# a voice, what it says (None: the wake word), the target, and the largest B
SAID = (
    ("de+f2", None, 1, 12),
    ("fr+m3", None, 1, 30),
    ("en-gb", "turn the light off please", 0, 12),
    ("en-us", None, 1, 0),
)


@pytest.mark.parametrize("name", WAKE_WORDS)
def test_gradients_of_a_wake_word_are_the_true_ones(name: str) -> None:
    """Compared with the same backward pass without any rounding."""
    model = import_tflite(wake_word(name))
    cosines = []
    for number, (voice, phrase, target, most) in enumerate(SAID):
        x = _heard(model, phrase or name.replace("_", " "), voice)
        adapter = _adapter(model, most, number)
        found, exact = _gradients(model, adapter, x, target), _gradients(model, adapter, x, target, exact=True)
        assert found.keys() == exact.keys()
        cosines += [_cosine(found[key], exact[key]) for key in exact if exact[key].any()]
    assert np.mean(cosines) >= 0.97 and min(cosines) >= 0.95, (np.mean(cosines), min(cosines))
    assert len(cosines) >= 30


def _heard(model: QuantModel, phrase: str, voice: str) -> NDArray[np.int8]:
    """The last frames of a phrase, and of a short silence behind it."""
    sound = speak(Voice("espeak-ng", voice), phrase, 1.0, 0.0)
    quiet = np.random.default_rng(0).integers(-30, 31, 12000)
    samples = np.concatenate([quiet, np.round(sound * 20000 / np.abs(sound).max()), quiet[:3000]]).astype(np.int16)
    rows, each = AudioFrontEnd("firmware").feed(samples), model.input.size // AUDIO_SIZE
    return rows[: len(rows) // each * each].reshape(-1, model.input.size)[-FRAMES:]


def _adapter(model: QuantModel, most: int, seed: int) -> Adapter:
    """Rank 4 on every convolution, 1 on the last layer, with a random B up to `most`."""
    ranks = {i: 4 if op.kind == "conv" else 1 for i, op in enumerate(model.ops) if op.is_matrix}
    adapter = reference.fresh_adapter(model, ranks, seed, bytes(8), trainable_a=True)
    rng = np.random.default_rng(seed)
    for layer in adapter.layers:
        layer.b = rng.integers(-most, most + 1, layer.b.shape).astype(np.int8)
    return adapter


def _gradients(
    model: QuantModel, adapter: Adapter, x: NDArray[np.int8], target: int, exact: bool = False
) -> dict[tuple[int, str], Floats]:
    """dA and dB of one sample. exact: with errors that are never rounded, as real numbers."""
    traces = reference.forward_frames(model, x, adapter)
    q = traces[-1].y[model.loss_index].reshape(-1)
    goal: int | NDArray[np.int64] = target if model.loss == "cross_entropy" else np.array([target])
    _, error = reference.loss(model, q, goal)
    if exact:
        error = [(e.astype(float), exponent) for e, exponent in error]
    unrounded = {
        "block": lambda v, x, rounds: (np.asarray(v, float), x),
        "trunc_shift": lambda v, n: np.asarray(v, float) / 2.0**n,
        "int32": lambda v: v,
    }
    total: dict[tuple[int, str], Floats] = {}
    with mock.patch.multiple(reference, **unrounded) if exact else nullcontext():
        for products in reference.backward(model, adapter, traces, error):
            for key, product in products.items():
                total[key] = total.get(key, 0.0) + product.value * 2.0**product.exponent
    return total


def _cosine(a: Floats, b: Floats) -> float:
    return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))


STEPS, CHANNELS, CLASSES = 20, 6, 4


@pytest.mark.parametrize("mode", ["frozen_a", "trainable_a"])
def test_streaming_and_unrolled_forms_learn_the_same(mode: str) -> None:
    """The same outputs, nearly the same gradients, and the same accuracy for a person whose axes are exchanged."""
    rng = np.random.default_rng(5)
    patterns = rng.normal(size=(CLASSES, STEPS, 1, CHANNELS))
    x, y = _drawn(rng, patterns, 400)
    unrolled = quantize(_pretrained(x, y), x)
    streaming = _streaming(unrolled)
    mine = patterns[..., rng.permutation(CHANNELS)]
    own, test = _drawn(rng, mine, 60), _drawn(rng, mine, 200)
    base, learned = zip(*(_learn(model, own, test, mode) for model in (unrolled, streaming)), strict=True)
    assert base[0] == base[1] < 0.6
    assert min(learned) > 0.9 and abs(learned[0] - learned[1]) < 0.05
    for sample, label in zip(unrolled.input.quantize(own[0][:5]), own[1][:5], strict=True):
        forms = [_gradients(model, _every_matrix(model), sample, int(label)) for model in (unrolled, streaming)]
        pairs = zip(*(dict(sorted(form.items())).values() for form in forms), strict=True)
        assert all(_cosine(a, b) > 0.97 for a, b in pairs)


def _drawn(rng: np.random.Generator, patterns: Floats, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    y = np.arange(count) % CLASSES
    return (patterns[y] + 0.5 * rng.normal(size=(count, *patterns.shape[1:]))).astype(np.float32), y


def _pretrained(x: NDArray[np.float32], y: NDArray[np.int64]) -> FloatNet:
    layers = [conv(12, (5, 1), padding="valid"), conv(12, (7, 1), padding="valid"), dense(CLASSES)]
    net = build((STEPS, 1, CHANNELS), layers, 1, [f"class {i}" for i in range(CLASSES)])
    fit(net, x, y, 8, 1)
    return net


def _streaming(model: QuantModel) -> QuantModel:
    """The network with a history before each layer: it takes one row at a time."""
    tensors, ops = [_rows(model.tensors[0], 1)], []
    for op in model.ops:
        held = op.kernel[0] if op.kind == "conv" else model.tensors[op.input].shape[0]
        tensors.append(_rows(model.tensors[op.input], held))
        ops.append(Op("history", len(tensors) - 2, len(tensors) - 1))
        tensors.append(_rows(model.tensors[op.output], 1))
        ops.append(_reading(op, len(tensors) - 2))
    return QuantModel(tensors, ops, model.labels)


def _rows(tensor: Tensor, rows: int) -> Tensor:
    return Tensor((rows, *tensor.shape[1:]), tensor.scale, tensor.zero_point)


def _reading(op: Op, tensor: int) -> Op:
    return replace(op, input=tensor, input2=0, output=tensor + 1)


def _every_matrix(model: QuantModel) -> Adapter:
    ranks = {i: 4 for i, op in enumerate(model.ops) if op.is_matrix}
    adapter = reference.fresh_adapter(model, ranks, 3, bytes(8), trainable_a=True)
    for number, layer in enumerate(adapter.layers):  # the same for both forms, whose ops have other numbers
        rng = np.random.default_rng(number)
        layer.a, layer.b = (rng.integers(-9, 10, w.shape).astype(np.int8) for w in (layer.a, layer.b))
    return adapter


def _learn(model: QuantModel, own: tuple, test: tuple, mode: str) -> tuple[float, float]:
    """Test accuracy before and after 20 epochs."""
    ranks = bytes(4 * op.is_matrix for op in model.ops)
    frames_each = STEPS if model.has_history else 1
    session = Session(pack_model(model), ranks, mode, 4, frames=frames_each)
    x, heard = (model.input.quantize(part[0]).reshape(len(part[0]), -1) for part in (own, test))
    before = np.mean([session.infer_sample(one) for one in heard] == test[1])
    session.begin(3)
    for epoch in range(20):
        for i in np.random.default_rng(epoch).permutation(len(x)):
            session.train(x[i], int(own[1][i]), 3000 * (20 - epoch) // 20)
    session.flush(100)
    file = session.save()
    session.use(file)
    return float(before), float(np.mean([session.infer_sample(one) for one in heard] == test[1]))
