"""The reference: its gradients against finite differences, its numbers against SPEC.md, and that it learns."""

import importlib.util
import math
from unittest import mock

import numpy as np
import pytest
from fresh import FULL, some
from random_models import CHAINS, random_adapter, random_frames, random_model, random_target
from random_transformers import Sizes, language_model, random_transformer
from reference import (
    GROUP,
    Error,
    Gradients,
    Trace,
    Trainer,
    accumulate,
    attend_backward,
    backward,
    block,
    forward,
    forward_frames,
    fresh_adapter,
    initial_a,
    log2_q12,
    loss,
    masked,
    mix,
    requantize,
    round_shift,
    step_in_nats,
    trainable,
    trunc_shift,
)
from straight_through import FloatModel

from edgelora.base.resources import ROOT
from edgelora.core.formats.ela import Adapter
from edgelora.core.formats.network import Op, QuantModel, id_bytes
from edgelora.core.twin.seeded_a import seeded_a

LOSS = {"autoencoder": "mean_squared_error", "lookup": "binary_cross_entropy"}  # others: cross_entropy
SAMPLES = 4
STEPS = 1600 if FULL else 500  # training steps; the loss starts at about a dozen nats


@pytest.mark.parametrize("chain", [*CHAINS, "transformer"])
def test_gradients_equal_finite_differences(chain: str) -> None:
    """Direction and size; truncation shrinks gradients slightly in each layer, more where large terms cancel."""
    cosines, sizes = [], []
    for seed in range(12):
        if seed >= 9 and len(sizes) >= 12:
            break
        if chain == "transformer":
            model = random_transformer(seed)
            model.rounds = True
        else:
            model = random_model(seed, "small", CHAINS[chain], edges=False, loss=LOSS.get(chain, "cross_entropy"))
        rng = np.random.default_rng(seed)
        adapter = random_adapter(rng, model, trainable_a=True)
        integer, exact = _gradients(model, adapter, rng)
        for (index, which), expected in exact.items():
            arrived = (index, which) in integer and integer[index, which].value.any()
            if not expected.any() or not arrived:  # no error passes, or it is below the resolution of int8 errors
                assert not arrived and np.abs(expected).max() < 0.01, f"seed {seed}, op {index}, {which}"
                continue
            found = _dequantized(model, adapter, index, which, integer)
            sizes.append(np.linalg.norm(found) / np.linalg.norm(expected))
            cosines.append((found * expected).sum() / (np.linalg.norm(found) * np.linalg.norm(expected)))
    assert len(sizes) >= 12
    assert np.quantile(cosines, 0.1) > 0.97 and min(cosines) > 0.8
    low, middle, high = np.quantile(sizes, [0.1, 0.5, 0.9])
    assert low > 0.8 and 0.93 < middle < 1.03 and high < 1.15


def _gradients(model: QuantModel, adapter: Adapter, rng: np.random.Generator) -> tuple[Gradients, dict]:
    """Gradients of the same few samples by the reference and by finite differences."""
    integer: Gradients = {}
    exact = {(layer.op, which): np.zeros(getattr(layer, which).shape) for layer in adapter.layers for which in "ab"}
    taken = 0
    for _ in range(5 * SAMPLES):
        x = rng.integers(-128, 128, (random_frames(rng, model), *model.input.shape)).astype(np.int8)
        if embed := next((op for op in model.ops if op.embedding is not None), None):
            symbols = len(embed.embedding)
            x = id_bytes(rng.integers(0, symbols, model.input.positions), symbols).reshape(x.shape)
        target = random_target(rng, model)
        traces = forward_frames(model, x, adapter)
        trace = traces[-1]
        _, error = loss(model, trace.y[model.loss_index].reshape(-1), target)
        if max(np.abs(e).max() * 2.0**exponent for e, exponent in error) < 0.02:
            continue  # near the resolution of the loss
        if taken == SAMPLES or FloatModel(model, adapter, x, target).is_stuck.any():
            continue  # the remaining parts of a clipped error cancel out, down to that resolution
        if any(y.size > 1 and (y == y[0, 0]).all() for op, y in zip(model.ops, trace.y[1:], strict=True) if op.inputs):
            continue  # the same for tensors of many equal elements
        frames, is_coarse = _products(model, adapter, traces, error)
        if is_coarse:
            continue  # the same for the part of an error that a mask leaves
        taken += 1
        for key, product in (item for products in frames for item in products.items()):
            integer[key] = accumulate(integer.get(key), product)
        smooth = FloatModel(model, adapter, x, target)
        for key in exact:
            exact[key] += smooth.gradient(key)
    return integer, exact


def _products(model: QuantModel, adapter: Adapter, traces: list[Trace], error: Error) -> tuple[list[Gradients], bool]:
    """A sample's gradients, by frame and group, and whether a mask removed over three quarters of some error."""
    coarse = []

    def watched(op: Op, y: np.ndarray, error: tuple[np.ndarray, int]) -> tuple[np.ndarray, int]:
        left = masked(op, y, error)
        coarse.append(0 < np.abs(left[0]).max() < np.abs(error[0]).max() / 4)
        return left

    with mock.patch("reference.masked", watched):
        return backward(model, adapter, traces, error), any(coarse)


def _dequantized(model: QuantModel, adapter: Adapter, index: int, which: str, integer: Gradients) -> np.ndarray:
    """G as a real number, including its exponent and the constant factors that section 5 leaves out."""
    op, layer = model.ops[index], next(layer for layer in adapter.layers if layer.op == index)
    gradient = integer[index, which]
    unit = 1.0 if model.loss == "mean_squared_error" else step_in_nats(model)
    real = gradient.value * 2.0**gradient.exponent * unit
    if which == "a":
        return real * 2.0 ** (layer.branch_shift - layer.t_shift)
    return real * (op.multiplier * 2.0 ** (op.shift.astype(float) - 31))[:, None] * 2.0**layer.branch_shift


@pytest.mark.parametrize("trainable_a", some([False, True]))
@pytest.mark.parametrize("momentum", some([0, 3]))
@pytest.mark.parametrize("kinds", [("conv", "dense"), ("conv", "residual", "max_pool", "dense", "softmax")])
def test_learns(kinds: tuple[str, ...], trainable_a: bool, momentum: int) -> None:
    """Four classes of noisy patterns, which the untrained base can't distinguish, are learned."""
    model = _able_model(4, kinds)
    rng = np.random.default_rng(0)
    patterns = rng.integers(-90, 91, (4, *model.input.shape))
    adapter = fresh_adapter(model, _every_layer(model, 6), 7, bytes(8), trainable_a, momentum)
    trainer = Trainer(model, adapter, micro_batch=4)
    before = _accuracy(model, trainer.export(), patterns)
    losses = []
    for step in range(STEPS):
        label = int(rng.integers(4))
        falling = 16000 * (STEPS - step) // STEPS
        losses.append(trainer.train(_noisy(rng, patterns[label]), label, falling))
    assert before < 0.6
    assert _accuracy(model, trainer.export(), patterns) > 0.9
    assert np.mean(losses[-50:]) < 0.5 * np.mean(losses[:50])


def _able_model(outputs: int, kinds: tuple[str, ...]) -> QuantModel:
    """The first random model of these kinds with that many outputs that is suitable for learning."""
    for seed in range(1000):
        model = random_model(seed, "medium", kinds, oracle=True)
        wide = model.input.size >= 40 and all(tensor.size >= 60 for tensor in model.tensors[:2])
        if model.output.shape[2] == outputs and wide and 0.05 < model.loss_tensor.scale < 0.4:
            return model
    raise AssertionError("no such model")


def _every_layer(model: QuantModel, rank: int) -> dict[int, int]:
    return {index: rank for index, op in enumerate(model.ops) if op.is_matrix}


def _noisy(rng: np.random.Generator, pattern: np.ndarray) -> np.ndarray:
    return np.clip(pattern + rng.integers(-30, 31, pattern.shape), -128, 127).astype(np.int8)


def _accuracy(model: QuantModel, adapter: Adapter, patterns: np.ndarray) -> float:
    rng = np.random.default_rng(99)
    labels = np.arange(80) % len(patterns)
    found = [int(forward(model, _noisy(rng, patterns[label]), adapter).logits.argmax()) for label in labels]
    return float(np.mean(found == labels))


def test_notation() -> None:
    v = np.array([-5, -4, 4, 5, 6])
    assert round_shift(v, 2).tolist() == [-1, -1, 1, 1, 2]
    assert round_shift(v, -2).tolist() == (4 * v).tolist()
    assert trunc_shift(v, 2).tolist() == [-1, -1, 1, 1, 1]
    assert trunc_shift(v, 32).tolist() == [0] * 5
    q, x = block(np.array([-1000, 255, 7]), 3)
    assert (q.tolist(), x) == ([-125, 31, 0], 6)
    assert block(np.array([0, -127]), 3)[1] == 3


def test_requantize_rounds_half_away_from_zero_and_wraps() -> None:
    half = np.int64(1 << 30)
    found = requantize(np.array([-3, -1, 1, 3]), half, np.int64(0))
    assert found.tolist() == [-1, 0, 1, 2]  # the first rounding is half up
    found = requantize(np.array([-6, -2, 2, 6]), np.int64(2**31 - 1), np.int64(-2))
    assert found.tolist() == [-2, -1, 1, 2]  # the second is half away from zero
    assert requantize(np.array([1 << 30]), half, np.int64(1)).tolist() == [-(1 << 30)]


@pytest.mark.parametrize("v", [1, 2, 3, 1000, 65536, 65537, 2**24 - 1])
def test_log2_is_a_logarithm(v: int) -> None:
    assert 0 <= math.log2(v) * 4096 - log2_q12(v) < 3


def test_loss_is_cross_entropy() -> None:
    rng = np.random.default_rng(1)
    for seed in range(30):
        model = random_model(seed)
        logits = rng.integers(-128, 128, model.output.shape[2])
        label = int(rng.integers(len(logits)))
        value, [(e, x)] = loss(model, logits, label)
        real = step_in_nats(model) * logits
        p = np.exp(real - real.max()) / np.exp(real - real.max()).sum()
        assert value / 4096 == pytest.approx(-np.log(p[label]), abs=0.01)
        expected = p - (np.arange(len(p)) == label)
        assert np.abs(e * 2.0**x - expected).max() < 2.0**x + 2**-14


def test_small_errors_of_a_sequence_are_not_rounded_away() -> None:
    """Two groups of positions, of which the second is nearly right: both use all bits, and all ops below keep it so."""
    model = language_model(1, Sizes(2 * GROUP, 1, 12, 2, 1, 4, 9))
    rng = np.random.default_rng(0)
    logits = rng.integers(-40, 40, (2 * GROUP, 9))
    ids = logits.argmin(axis=1)
    ids[GROUP:] = logits[GROUP:].argmax(axis=1)
    logits[np.arange(GROUP, 2 * GROUP), ids[GROUP:]] = 90
    _, ((wrong, x), (right, lower)) = loss(model, logits, id_bytes(ids, 9))
    assert lower < x - 4 and np.abs(wrong).max() > 63 < np.abs(right).max()
    adapter = fresh_adapter(model, dict.fromkeys(trainable(model), 2), 5, bytes(8))
    error: Error = [(np.where(wrong == 0, 1, wrong), 0), (np.where(right == 0, 1, right), -9)]
    seen: list[Error] = []

    def watched(model: QuantModel, op: Op, trace: Trace, error: Error) -> list[Error]:
        seen.extend([error, *attend_backward(model, op, trace, error)])
        return seen[-3:]

    symbols = id_bytes(rng.integers(0, 9, 2 * GROUP), 9).reshape(model.input.shape)
    with mock.patch("reference.attend_backward", watched):
        backward(model, adapter, [forward(model, symbols, adapter)], error)
    assert len(seen) % 4 == 0 and seen
    assert all(np.abs(e).max() > 63 for found in seen for e, _ in found)
    assert seen[0][1][1] < seen[0][0][1] - 5


def test_mix_is_a_bijection_with_known_values() -> None:
    """The finalizer of MurmurHash3; values from its published definition, computed by hand in wrapping arithmetic."""
    assert mix(np.array([0, 1, 2**32 - 1], np.uint64)).tolist() == [0, 0x514E28B7, 0x81F16F39]


def test_seeded_a_equals_the_host_s() -> None:
    weights = np.random.default_rng(0).integers(-127, 128, (11, 1, 1, 30)).astype(np.int8)
    for seed, kind, rank in ((0, "conv", 5), (1, "conv", 9), (1, "dense", 5), (0xFFFFFFFF, "dense", 7)):
        a = initial_a(seed, 3, rank, weights.reshape(11, 30).astype(np.int64), kind == "conv")
        assert np.array_equal(a, seeded_a(seed, 3, rank, Op(kind, 0, 1, weights=weights)))
        assert (np.abs(a.astype(int)).max(axis=1) >= 64).all(), "each row uses the int8 range"
        angles = a.astype(int) @ a.T.astype(int) / np.outer(*[np.linalg.norm(a.astype(int), axis=1)] * 2)
        assert np.abs(angles - np.eye(rank)).max() < 0.1 or (kind, rank) == ("conv", 9)


def test_golden_files_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("golden", ROOT / "tools" / "golden.py")
    golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(golden)
    stored = {path.name: path.read_text() for path in (ROOT / "tests" / "golden").glob("*.txt")}
    assert stored == golden.golden_files(), "run tools/golden.py"
