"""The reference and the device core equal TensorFlow Lite Micro in every byte of every layer's output."""

import numpy as np
import pytest
from fresh import fresh_seeds
from random_models import CHAINS, random_input, random_model
from reference import forward, requantize

from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.fixed_point import (
    LOGISTIC_GRID,
    LOOKUPS,
    SOFTMAX_GRID,
    TANH_GRID,
    derive,
    fold_count,
    quantize_multiplier,
)
from edgelora.core.formats.network import LOSSES, Op, QuantModel, Tensor
from edgelora.core.twin.session import Session

pytest.importorskip("tflite_micro")
from tflite_writer import TflmModel, run_tflm, write_tflite

TFLITES = {name: kinds for name, kinds in CHAINS.items() if name not in ("stream", "svdf")}  # that a file can have
SEEDS = range(15)


class Core:
    """A model in the device core, with and without the kernels of this machine."""

    def __init__(self, model: QuantModel) -> None:
        data, ranks = pack_model(model), bytes(len(model.ops))
        self.sessions = [Session(data, ranks, "infer", plain=plain) for plain in (False, True)]

    def __call__(self, x: np.ndarray) -> list[list[int]]:
        for session in self.sessions:
            session.infer(np.ascontiguousarray(x))
        return [session.logits.tolist() for session in self.sessions]


def check(model: QuantModel, inputs: list[np.ndarray], what: str = "") -> list[int]:
    """Checks that all three agree on the inputs, the frames of a stream; returns the outputs that occurred."""
    tflm, core, held = TflmModel(write_tflite(model)), Core(model), {}
    seen = []
    for x in inputs:
        expected = tflm(x).tolist()
        assert forward(model, x, held=held).logits.tolist() == expected, f"reference, {what}"
        assert core(x) == [expected, expected], f"core, {what}"
        seen += expected
    return seen


def some_inputs(model: QuantModel, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    extremes = [np.full(model.input.shape, value, np.int8) for value in (-128, 127)]
    return extremes + [random_input(rng, model) for _ in range(4)]


@pytest.mark.parametrize("size", ["small", "medium"])
@pytest.mark.parametrize("chain", TFLITES)
def test_chains_equal_tflite_micro(chain: str, size: str) -> None:
    distinct = set()
    for seed in SEEDS:
        model = random_model(seed, size, CHAINS[chain], oracle=True)
        distinct.update(check(model, some_inputs(model, seed), f"seed {seed}"))
    assert len(distinct) > 60  # not only saturated outputs


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_random_graphs_equal_tflite_micro(first: int) -> None:
    for seed in range(first, first + 50):
        model = random_model(seed, oracle=True, loss=LOSSES[seed % 3])
        check(model, some_inputs(model, seed), f"seed {seed}")


def test_wide_graphs_equal_tflite_micro() -> None:
    for seed in fresh_seeds(60):
        model = random_model(seed, "wide", oracle=True, loss=LOSSES[seed % 3])
        check(model, some_inputs(model, seed), f"seed {seed}")


def test_every_feature_of_tflite_was_tried() -> None:
    models = [random_model(seed, "small", kinds, oracle=True) for kinds in TFLITES.values() for seed in SEEDS]
    ops = [(model, op) for model in models for op in model.ops]
    for kind in ("conv", "depthwise"):
        mine = [op for _, op in ops if op.kind == kind]
        assert {max(op.stride) for op in mine} >= {1, 2, 3}
        assert {max(op.dilation) for op in mine} >= {1, 2, 3}
        assert any(op.padding != (0, 0) for op in mine)
    for kind in ("conv", "depthwise", "average_pool", "max_pool", "add"):
        masks = {(op.mask_low, op.mask_high) for _, op in ops if op.kind == kind}
        assert masks == {(False, False), (True, False), (True, True)}, kind
    assert {len(set(op.weight_scale)) > 1 for _, op in ops if op.kind == "dense"} == {False, True}
    assert {-128, 127} <= {model.tensors[op.input].zero_point for model, op in ops}
    assert {op.axis for _, op in ops if op.kind == "concatenate"} == {1, 2, 3}
    assert any(op.output - op.input > 1 for _, op in ops)
    assert any(
        model.tensors[op.output].shape[2] > model.tensors[op.input].shape[2]
        for model, op in ops
        if op.kind == "depthwise"
    )


@pytest.mark.parametrize("function", LOOKUPS)
def test_lookup_tables(function: str) -> None:
    """All inputs, with scales from almost 0 to steps of more than 1."""
    rng = np.random.default_rng(1)
    every = np.arange(-128, 128).astype(np.int8).reshape(1, 256, 1)
    for _ in range(80):
        scale = float(np.float32(np.exp(rng.uniform(-9, 1))))
        free = (float(np.float32(scale * np.exp(rng.uniform(-3, 3)))), int(rng.integers(-128, 128)))
        grid = {"logistic": LOGISTIC_GRID, "tanh": TANH_GRID}.get(function, free)
        tensors = [Tensor(every.shape, scale, int(rng.integers(-128, 128))), Tensor(every.shape, *grid)]
        model = QuantModel(tensors, [Op("lookup", 0, 1)], loss="mean_squared_error")
        derive(model, model.ops[0], function)
        check(model, [every], f"scale {scale}")


def test_softmax() -> None:
    """Up to 511 channels (for more, equal inputs produce sums that TFLite's kernel can't divide by)."""
    rng = np.random.default_rng(2)
    for _ in range(150):
        shape = (1, 3, int(rng.choice([1, 2, 3, 10, 100, 511])))
        scale = float(np.float32(np.exp(rng.uniform(-9, 2))))
        tensors = [Tensor(shape, scale, int(rng.integers(-128, 128))), Tensor(shape, *SOFTMAX_GRID)]
        model = QuantModel(tensors, [Op("softmax", 0, 1)], loss="mean_squared_error")
        derive(model, model.ops[0])
        spread = float(rng.choice([0, 5, 50, 300]))
        check(model, [np.clip(rng.normal(0, spread, shape), -128, 127).astype(np.int8)], f"scale {scale}")


def test_add_rounds_as_tflite() -> None:
    """All pairs of inputs, with very different scales and results next to ties."""
    rng = np.random.default_rng(3)
    a, b = (v.astype(np.int8) for v in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)))
    x = np.stack([a.reshape(-1)[:65000], b.reshape(-1)[:65000]], axis=-1)[None]
    for _ in range(15):
        model = _sum_of_channels(rng)
        check(model, [x[:, start : start + 13000] for start in range(0, 65000, 13000)])


def _sum_of_channels(rng: np.random.Generator) -> QuantModel:
    """A model that requantizes two channels to grids of their own and adds them."""
    tensors = [Tensor((1, 13000, 2), 1.0, 0)]
    ops = []
    for channel in range(2):
        weights = np.zeros((1, 1, 1, 2), np.int8)
        weights[0, 0, 0, channel] = 1
        scale = np.array([float(np.float32(np.exp(rng.uniform(-2, 0))))])
        ops.append(Op("conv", 0, channel + 1, weights=weights, bias=np.zeros(1, np.int32), weight_scale=scale))
        tensors.append(Tensor((1, 13000, 1), float(np.exp(rng.uniform(-2, 1))), int(rng.integers(-100, 100))))
    out = max(tensors[1].scale, tensors[2].scale) * float(np.exp(rng.uniform(-2, 1)))
    tensors.append(Tensor((1, 13000, 1), out, int(rng.integers(-128, 128))))
    model = QuantModel(tensors, [*ops, Op("add", 1, 3, input2=2)], loss="mean_squared_error")
    for op in model.ops:
        derive(model, op)
    return model


def test_rounding_is_double() -> None:
    """Biases for which single rounding, or multiplying the scales in float32, would give another byte."""
    rng = np.random.default_rng(5)
    apart = 0
    for _ in range(20):
        s_in, s_w, s_out = (float(np.float32(np.exp(v))) for v in rng.uniform((-5, -16, -5), (0, -13, 0)))
        multiplier, shift = quantize_multiplier(s_in * s_w / s_out)
        single = quantize_multiplier(float(np.float32(s_in) * np.float32(s_w)) / s_out)
        ties = (rng.integers(-120, 120, 4000) + 0.5) * s_out / (s_in * s_w)
        acc = np.rint(ties[np.abs(ties) < 2**29]).astype(np.int64)
        once = (acc * multiplier + (1 << (30 - shift))) >> (31 - shift)
        twice = requantize(acc, np.int64(multiplier), np.int64(shift))
        product = requantize(acc, np.int64(single[0]), np.int64(single[1]))
        bias = acc[(once != twice) | (product != twice)][:64]
        if len(bias) < 2:
            continue
        apart += len(bias)
        model = _dense(bias, s_in, s_w, s_out)
        x = np.zeros(model.input.shape, np.int8)
        assert forward(model, x).logits.tolist() == run_tflm(write_tflite(model), x).tolist() == Core(model)(x)[0]
    assert apart > 500


def test_mean_folds_the_count_into_the_multiplier() -> None:
    """Inputs whose sums are next to a tie, with counts that are not powers of two."""
    rng = np.random.default_rng(6)
    for _ in range(60):
        count, s_in = int(rng.integers(2, 3000)), float(np.float32(np.exp(rng.uniform(-6, 0))))
        s_out = float(np.float32(s_in * np.exp(rng.uniform(-2.5, 0.5))))
        model = QuantModel([Tensor((1, count, 8), s_in, 0), Tensor((1, 1, 8), s_out, -7)], [Op("mean", 0, 1)])
        derive(model, model.ops[0])
        x = rng.integers(-128, 128, model.input.shape)
        _move_sums(x, np.rint((rng.integers(-20, 20, 8) + 0.5) * s_out * count / s_in).astype(int))
        x = x.astype(np.int8)
        assert forward(model, x).logits.tolist() == run_tflm(write_tflite(model), x).tolist() == Core(model)(x)[0]
    assert fold_count(1 << 30, 1, 3) == ((1 << 31) // 3, 0)


def _dense(bias: np.ndarray, s_in: float, s_w: float, s_out: float) -> QuantModel:
    outputs = len(bias)
    weights = np.ones((outputs, 1, 1, 3), np.int8)
    op = Op("dense", 0, 1, weights=weights, bias=bias.astype(np.int32), weight_scale=np.full(outputs, s_w))
    model = QuantModel([Tensor((1, 1, 3), s_in, 0), Tensor((1, 1, outputs), s_out, 0)], [op])
    derive(model, op)
    return model


def _move_sums(x: np.ndarray, wanted: np.ndarray) -> None:
    """Changes x [1, count, channels] so that each channel's sum is as close to the wanted one as int8 allows."""
    missing = wanted - x.sum(axis=(0, 1))
    room = np.where(missing > 0, 127 - x, x + 128)
    before = np.cumsum(room, axis=1) - room
    x += np.sign(missing) * np.clip(np.abs(missing) - before, 0, room)
