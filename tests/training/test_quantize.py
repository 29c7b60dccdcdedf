"""Quantization: fixed-point constants, tensor ranges, TFLite's rules for each op, accuracy, adapter calibration."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from random_models import random_input, random_model
from random_transformers import random_transformer

from edgelora.core.formats import elm
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.formats.fixed_point import quantize_multiplier
from edgelora.core.formats.network import KINDS, QuantModel
from edgelora.core.twin.seeded_a import seeded_a
from edgelora.core.twin.session import Session
from edgelora.model.floatnet import layers as floatnet_layers
from edgelora.model.floatnet import train
from edgelora.model.floatnet.balance import balanced
from edgelora.model.quantization.calibrate import BRANCH_COVER, T_RMS, calibrate_adapters
from edgelora.model.quantization.quantize import HEAD_ROOM, activation_tensor, quantize
from edgelora.model.quantization.report import QuantReport, logits_note, report
from edgelora.model.quantization.simulate import accumulators, simulate, simulate_op

LAYERS = [
    floatnet_layers.conv(8, (1, 5), (1, 2)),
    floatnet_layers.average_pool((1, 2)),
    floatnet_layers.conv(6, (1, 3), activation="relu6"),
    floatnet_layers.mean(),
    floatnet_layers.dense(3),
]


# Values of TensorFlow Lite's QuantizeMultiplier, computed by hand.
@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (0.0, (0, 0)),
        (1.0, (2**30, 1)),
        (0.5, (2**30, 0)),
        (0.75, (3 * 2**29, 0)),
        (3.0, (3 * 2**29, 2)),
        (1 - 2.0**-40, (2**30, 1)),  # rounds up to 2**31, which carries
        (2.0**-32, (2**30, -31)),
        (2.0**-33, (0, 0)),
    ],
)
def test_quantize_multiplier(real, expected):
    assert quantize_multiplier(real) == expected


def test_quantize_multiplier_is_within_half_a_unit():
    for real in np.exp(np.random.default_rng(0).uniform(-15, 5, 500)):
        multiplier, shift = quantize_multiplier(float(real))
        assert 2**30 <= multiplier < 2**31
        exact = Fraction(float(real)) / Fraction(2) ** shift * 2**31
        assert abs(exact - multiplier) <= Fraction(1, 2) or multiplier == 2**30


@pytest.mark.parametrize("real", [-1.0, math.nan, math.inf, 2.0**30])
def test_quantize_multiplier_refuses(real):
    with pytest.raises(ValueError, match="not in"):
        quantize_multiplier(real)


@pytest.mark.parametrize(("low", "high"), [(-1, 3), (0, 6), (2, 5), (-5, -2), (-0.001, 4), (-1e-9, 1e-9)])
def test_activation_range_holds_zero_and_both_ends(low, high):
    tensor = activation_tensor((1, 1, 1), low, high)
    assert -128 <= tensor.zero_point <= 127
    assert tensor.quantize(np.zeros(1))[0] == tensor.zero_point
    ends = np.array([min(low, 0), max(high, 0)])
    back = tensor.scale * (tensor.quantize(ends).astype(float) - tensor.zero_point)
    assert np.abs(back - ends).max() <= 0.5001 * tensor.scale


def test_constant_zero_activation_has_a_usable_scale():
    assert activation_tensor((1, 1, 1), 0, 0).scale == 1.0


def noise_of(
    net: floatnet_layers.FloatNet, model: QuantModel, x: np.ndarray, y: np.ndarray | None = None
) -> QuantReport:
    return report(net, pack_model(model), model, x, y)


def problem(seed: int, count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Windows [count, 1, 32, 2] with three frequencies and random phases, and their classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    phase = rng.uniform(0, 2 * np.pi, (count, 1, 1, 2))
    wave = np.sin((0.25 + 0.35 * y)[:, None, None, None] * np.arange(32)[None, None, :, None] + phase)
    return (wave + rng.normal(0, 0.3, wave.shape)).astype(np.float32), y


@pytest.fixture(scope="module")
def trained():
    x, y = problem(0)
    net = floatnet_layers.build((1, 32, 2), LAYERS, seed=1, labels=["low", "middle", "high"])
    train.fit(net, x, y, epochs=12, seed=1, batch=16, rate=1e-2)
    return net, quantize(net, x)


def test_int8_accuracy_is_near_float(trained):
    net, model = trained
    result = noise_of(net, model, *problem(1))
    assert result.float_accuracy > 0.9
    assert abs(result.int8_accuracy - result.float_accuracy) < 0.02
    assert result.agreement > 0.97
    assert [layer.op for layer in result.layers] == [*range(len(net.layers))] and result.worst[0].sqnr_db > 20


def test_model_keeps_the_tflite_rules(trained):
    net, model = trained
    first, pool, second, average, last = model.ops
    tensors = model.tensors
    assert [(op.input, op.output) for op in model.ops] == [(i, i + 1) for i in range(5)]
    assert [t.shape for t in tensors] == floatnet_layers.shapes(net) and model.labels == net.labels
    for op, layer in ((first, net.layers[0]), (second, net.layers[2]), (last, net.layers[4])):
        assert op.weights.dtype == np.int8 and op.bias.dtype == np.int32 and op.multiplier.dtype == np.int32
        assert np.abs(op.weights.astype(int)).max(axis=(1, 2, 3)).tolist() == [127] * len(op.weights)
        back = op.weights * op.weight_scale[:, None, None, None]
        assert (np.abs(back - layer.weights) <= 0.5001 * op.weight_scale[:, None, None, None]).all()
        scale = tensors[op.input].scale * op.weight_scale
        assert (np.abs(op.bias * scale - layer.bias) <= 0.5001 * scale).all()
        real = op.multiplier / 2.0**31 * 2.0 ** op.shift.astype(float)
        np.testing.assert_allclose(real, scale / tensors[op.output].scale, rtol=1e-8)
    assert (first.padding, first.stride, first.kernel) == ((0, 1), (1, 2), (1, 5))
    assert (tensors[2].scale, tensors[2].zero_point) == (tensors[1].scale, tensors[1].zero_point)
    assert pool.weights is None and pool.multiplier is None
    assert average.multiplier.shape == (1,)
    real = average.multiplier[0] / 2.0**31 * 2.0 ** float(average.shift[0])
    assert real == pytest.approx(tensors[3].scale / (tensors[4].scale * 8), rel=1e-8)


def test_fused_activations_become_clamps(trained):
    _, model = trained
    first, _, second, _, last = model.ops
    assert first.mask_low and not first.mask_high and first.act_min == model.tensors[1].zero_point
    assert second.mask_low and second.mask_high
    top = model.tensors[3]
    assert second.act_max == min(127, top.zero_point + round(6 / top.scale))
    assert (last.act_min, last.act_max, last.mask_low, last.mask_high) == (-128, 127, False, False)


def test_depthwise_is_quantized_channel_by_channel():
    net = floatnet_layers.build(
        (6, 5, 3),
        [
            floatnet_layers.depthwise(3, (3, 3)),
            floatnet_layers.conv(4, (1, 1)),
            floatnet_layers.mean(),
            floatnet_layers.dense(2),
        ],
        seed=0,
    )
    net.layers[0].weights[..., 1] *= 20
    net.layers[0].bias[:] = [0.3, -1.0, 0.5]
    x = np.random.default_rng(0).normal(size=(60, 6, 5, 3)).astype(np.float32)
    model = quantize(net, x)
    op = model.ops[0]
    assert op.weights.shape == (3, 3, 3) and op.padding == (1, 1) and op.mask_low
    assert np.abs(op.weights.astype(int)).max(axis=(0, 1)).tolist() == [127] * 3
    np.testing.assert_allclose(op.weights * op.weight_scale, net.layers[0].weights, atol=0.51 * op.weight_scale.max())
    assert (op.t_shift, op.branch_shift) == (0, 0) and model.ops[1].t_shift > 0
    assert noise_of(net, model, x).worst[0].sqnr_db > 25
    assert np.array_equal(unpack_model(pack_model(model)).ops[0].weights, op.weights)


def test_balancing_keeps_the_function_and_evens_channels():
    layers = [
        floatnet_layers.conv(8, (3, 3)),
        floatnet_layers.depthwise(8, (3, 3)),
        floatnet_layers.conv(6, (1, 1)),
        floatnet_layers.mean(),
        floatnet_layers.dense(2),
    ]
    x = np.random.default_rng(0).normal(size=(60, 6, 5, 3)).astype(np.float32)
    gains = []
    for seed in range(8):
        net = floatnet_layers.build((6, 5, 3), layers, seed)
        net.layers[0].weights *= 10.0 ** np.linspace(-0.7, 0.7, 8, dtype=np.float32)[:, None, None, None]
        even = balanced(net, x)
        predicted, wanted = floatnet_layers.predict(even, x), floatnet_layers.predict(net, x)
        np.testing.assert_allclose(predicted, wanted, rtol=1e-4, atol=1e-4)
        peaks = floatnet_layers.forward(even, x)[1].max(axis=(0, 1, 2))
        np.testing.assert_allclose(peaks, peaks[0], rtol=1e-4)
        noises = ([layer.sqnr_db for layer in noise_of(n, quantize(n, x), x).layers[2:]] for n in (even, net))
        gains.append(np.subtract(*noises))
    assert np.mean(gains, axis=0).min() > 0.5 and np.mean(gains, axis=0)[0] > 1.5


def test_relu6_clamps_at_six():
    net = floatnet_layers.build(
        (1, 4, 1),
        [floatnet_layers.conv(2, (1, 1), activation="relu6"), floatnet_layers.mean(), floatnet_layers.dense(2)],
        seed=0,
    )
    net.layers[0].weights[:] = 1
    x = np.linspace(-20, 20, 64, dtype=np.float32).reshape(16, 1, 4, 1)
    model = quantize(net, x, percentiles=[100])
    out = simulate(model, x)[1]
    assert out.max() == pytest.approx(6, abs=model.tensors[1].scale) and out.min() == 0


def test_channel_without_weights_keeps_its_bias():
    net = floatnet_layers.build(
        (1, 4, 2),
        [floatnet_layers.conv(3, (1, 1), activation="none"), floatnet_layers.mean(), floatnet_layers.dense(2)],
        seed=0,
    )
    net.layers[0].weights[1] = 0
    net.layers[0].bias[:] = [0.0, 3.0, 0.0]
    x = np.random.default_rng(0).normal(size=(20, 1, 4, 2)).astype(np.float32)
    model = quantize(net, x)
    np.testing.assert_allclose(simulate(model, x)[1][..., 1], 3.0, atol=model.tensors[1].scale)


def test_simulation_is_near_the_core_for_every_kind():
    """With the core's own inputs for every op, so that errors do not accumulate."""
    furthest = dict.fromkeys((kind for kind in KINDS if kind not in ("history", "widen")), -1.0)
    for seed in range(190):
        middle = (("lstm",), ("svdf",), ("matmul", "squared_difference"))[seed % 3]
        kinds = ("conv", *middle, "dense") if seed >= 90 else None
        model = random_model(seed, kinds=kinds, oracle=seed < 90, edges=False)
        if seed >= 130:
            model = random_transformer(seed)
        windows = any(op.kind == "project" and op.kernel + op.padding != (1, 1, 0, 0) for op in model.ops)
        if model.has_history or windows:
            continue
        session = Session(elm.pack_model(model), bytes(len(model.ops)), "infer")
        rng = np.random.default_rng(seed)
        runs = [session.activations(random_input(rng, model), model) for _ in range(5)]
        grids = [np.stack(values).astype(np.float64) for values in zip(*runs, strict=True)]
        for op in (op for op in model.ops if op.kind != "widen"):  # drawn ones don't go by their scales
            off = np.abs(simulate_op(model, op, *(grids[i] for i in op.inputs or (0,))) - grids[op.output]).max()
            furthest[op.kind] = max(furthest[op.kind], off)
    assert 0 <= furthest.pop("attend") <= 4, "its weights are in 1/255 of the largest"
    assert all(0 <= off <= 1 for off in furthest.values()), furthest


def test_figures_of_the_report_are_the_cores(trained):
    """Accuracies and agreement equal those of the twin's predictions; a layer with added noise comes first."""
    net, model = trained
    x, y = problem(1)
    session = Session(elm.pack_model(model), bytes(5), "infer")
    predicted = session.predict(model.input.quantize(x))
    result = noise_of(net, model, x, y)
    assert result.int8_accuracy == np.mean(predicted == y) and result.samples == len(x)
    assert result.agreement == np.mean(predicted == floatnet_layers.predict(net, x).argmax(axis=1))
    assert noise_of(net, model, x).float_accuracy is None
    named = replace(net, layers=[replace(layer, name=f"layer{i}") for i, layer in enumerate(net.layers)])
    coarse = quantize(named, x)
    coarse.ops[4].weights = (coarse.ops[4].weights // 32 * 24).astype(np.int8)
    worst = noise_of(named, coarse, x, y)
    assert worst.worst[0].op == 4 and "op 4   dense" in str(worst) and "layer4" in str(worst)


def test_adapter_shifts_match_the_layer(trained):
    _, model = trained
    x, _ = problem(2)
    q = model.input.quantize(x).astype(np.float64)
    real = simulate(model, x)
    for index, op in enumerate(model.ops):
        if op.weights is None:
            assert (op.t_shift, op.branch_shift) == (0, 0)
            continue
        source = model.tensors[op.input]
        q = np.rint(real[op.input] / source.scale) + source.zero_point
        a = np.concatenate([seeded_a(seed, index, 4, op) for seed in range(40, 44)])
        a = a.reshape(-1, *op.weights.shape[1:])
        layer = floatnet_layers.Layer(op.kind, op.kernel, op.stride)
        t = np.rint(floatnet_layers.linear(layer, a.astype(float), q - source.zero_point) / 2.0**op.t_shift)
        rms = math.sqrt(float(np.mean(t**2)))
        assert T_RMS / 2 < rms < T_RMS * 2
        assert np.mean(np.abs(t) > 127) < 0.03
        spread = float(np.median(accumulators(model, op, q).std(axis=(0, 1, 2))))
        assert BRANCH_COVER / 4 < 127 * rms * 2 * 2.0**op.branch_shift / spread < BRANCH_COVER * 4


def test_shifts_are_clamped_when_nothing_moves(trained):
    net, _ = trained
    x = np.zeros((4, 1, 32, 2), np.float32)
    model = quantize(net, x)
    calibrate_adapters(model, x)
    assert all(0 <= op.t_shift <= 24 and -15 <= op.branch_shift <= 8 for op in model.ops)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((0, 1, 32, 2), np.float32), "the network takes"),
        (np.zeros((3, 1, 31, 2), np.float32), "the network takes"),
        (np.full((3, 1, 32, 2), np.nan, np.float32), "not finite"),
    ],
)
def test_bad_calibration_inputs_are_refused(trained, x, message):
    with pytest.raises(ValueError, match=message):
        quantize(trained[0], x)


@pytest.mark.parametrize(("ending", "roomy"), [([], 5), ([floatnet_layers.dense(64)], None)])
def test_logits_have_room(ending: list, roomy: int | None) -> None:
    """The layer that computes logits has twice its range, others their own; an autoencoder's outputs are not logits."""
    x, _ = problem(3)
    net = floatnet_layers.build((1, 32, 2), [*LAYERS, *ending], 0)
    tight, model = (quantize(net, x, (100.0,), head_room) for head_room in (1.0, HEAD_ROOM))
    assert HEAD_ROOM == 2
    for index, (mine, narrow) in enumerate(zip(model.tensors, tight.tensors, strict=True)):
        room = HEAD_ROOM if index == roomy else 1.0
        assert mine.scale == pytest.approx(room * narrow.scale, rel=1e-5), index
    if roomy:
        spans = [int(np.ptp(twin_logits(one, x).astype(int))) for one in (tight, model)]
        assert spans[0] > 230 > 135 > spans[1]


def test_classes_of_negligible_probability_do_not_widen_the_logits_grid(trained):
    """A class that is hundreds of nats below the others affects neither their logits nor predictions."""
    net, model = trained
    last = net.layers[-1]
    weights = np.concatenate([last.weights, np.zeros_like(last.weights[:1])])
    far = replace(last, weights=weights, bias=np.append(last.bias, np.float32(-300)))
    wide = replace(net, layers=[*net.layers[:-1], far], labels=[*net.labels, "never"])
    x, y = problem(4)
    told = noise_of(wide, quantize(wide, x), x, y)
    assert quantize(wide, x).output.scale == pytest.approx(model.output.scale, rel=0.1)
    assert told.agreement >= 0.98 and told.layers[-1].sqnr_db > 30
    assert not logits_note(quantize(wide, x))


@pytest.mark.parametrize(("scale", "said"), [(0.001, "only 0.26 nats"), (0.1, ""), (1.5, "steps of 1.5 nats")])
def test_coarse_grids_of_logits_are_reported(trained, scale, said):
    model = replace(trained[1], tensors=[*trained[1].tensors[:-1], replace(trained[1].output, scale=scale)])
    assert (said in logits_note(model)) and bool(logits_note(model)) == bool(said)
    assert not logits_note(replace(model, loss="mean_squared_error"))


def twin_logits(model: QuantModel, x: np.ndarray) -> np.ndarray:
    session = Session(pack_model(model), bytes(len(model.ops)), "infer")
    return np.array([(session.infer(row), session.logits)[1] for row in model.input.quantize(x)])
