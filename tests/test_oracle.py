"""The reference's base layers equal TensorFlow Lite Micro on every byte."""

import numpy as np
import pytest
from random_models import derive_multipliers, fold_count, quantize_multiplier, random_input, random_model
from reference import forward, requantize

from edgelora.model import Op, QuantModel, Tensor

pytest.importorskip("tflite_micro")
from tflite_writer import TflmModel, run_tflm, write_tflite

CHAINS = {
    "conv": ("conv", "dense"),
    "convs": ("conv", "conv", "mean"),
    "dense": ("dense",),
    "denses": ("dense", "dense"),
    "average_pool": ("average_pool", "dense"),
    "mean": ("mean",),
    "all": ("conv", "average_pool", "conv", "mean", "dense"),
}
SEEDS = range(20)


@pytest.mark.parametrize("size", ["small", "medium"])
@pytest.mark.parametrize("chain", CHAINS)
def test_equals_tflite_micro(chain: str, size: str) -> None:
    distinct = set()
    for seed in SEEDS:
        model = random_model(seed, size, CHAINS[chain], oracle=True)
        tflm = TflmModel(write_tflite(model))
        rng = np.random.default_rng(seed)
        extremes = [np.full(model.input.shape, value, np.int8) for value in (-128, 127)]
        for x in [*extremes, *(random_input(rng, model) for _ in range(4))]:
            expected = tflm(x)
            assert forward(model, x).logits.tolist() == expected.tolist(), f"seed {seed}"
            distinct.update(expected.tolist())
    assert len(distinct) > 60  # the outputs are not just saturated


def test_every_feature_of_tflite_was_tried() -> None:
    models = [random_model(seed, "small", kinds, oracle=True) for kinds in CHAINS.values() for seed in SEEDS]
    ops = [(model, op) for model in models for op in model.ops]
    convs = [op for _, op in ops if op.kind == "conv"]
    assert {max(op.stride) for op in convs} >= {1, 2, 3}
    assert {max(op.dilation) for op in convs} >= {1, 2, 3}
    assert any(op.padding != (0, 0) for op in convs)
    assert {(op.mask_low, op.mask_high) for op in convs} == {(False, False), (True, False), (True, True)}
    assert {len(set(op.weight_scale)) > 1 for _, op in ops if op.kind == "dense"} == {False, True}
    assert {-128, 127} <= {model.tensors[op.input].zero_point for model, op in ops}


def test_rounding_is_double() -> None:
    """Biases where rounding once, or multiplying the scales in float32, would give another byte."""
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
        assert forward(model, x).logits.tolist() == run_tflm(write_tflite(model), x).tolist()
    assert apart > 500


def test_mean_folds_the_count_into_the_multiplier() -> None:
    """Inputs whose sums lie next to a tie, over counts that are no powers of two."""
    rng = np.random.default_rng(6)
    for _ in range(60):
        count, s_in = int(rng.integers(2, 3000)), float(np.float32(np.exp(rng.uniform(-6, 0))))
        s_out = float(np.float32(s_in * np.exp(rng.uniform(-2.5, 0.5))))
        model = QuantModel([Tensor((1, count, 8), s_in, 0), Tensor((1, 1, 8), s_out, -7)], [Op("mean", 0, 1)])
        derive_multipliers(model, model.ops[0])
        x = rng.integers(-128, 128, model.input.shape)
        _move_sums(x, np.rint((rng.integers(-20, 20, 8) + 0.5) * s_out * count / s_in).astype(int))
        x = x.astype(np.int8)
        assert forward(model, x).logits.tolist() == run_tflm(write_tflite(model), x).tolist()
    assert fold_count(1 << 30, 1, 3) == ((1 << 31) // 3, 0)


def _dense(bias: np.ndarray, s_in: float, s_w: float, s_out: float) -> QuantModel:
    outputs = len(bias)
    weights = np.ones((outputs, 1, 1, 3), np.int8)
    op = Op("dense", 0, 1, weights=weights, bias=bias.astype(np.int32), weight_scale=np.full(outputs, s_w))
    model = QuantModel([Tensor((1, 1, 3), s_in, 0), Tensor((1, 1, outputs), s_out, 0)], [op])
    derive_multipliers(model, op)
    return model


def _move_sums(x: np.ndarray, wanted: np.ndarray) -> None:
    """Changes x [1, count, channels] so that each channel's sum comes as near to the wanted one as int8 allows."""
    missing = wanted - x.sum(axis=(0, 1))
    room = np.where(missing > 0, 127 - x, x + 128)
    before = np.cumsum(room, axis=1) - room
    x += np.sign(missing) * np.clip(np.abs(missing) - before, 0, room)
