"""The float trainer: geometry, gradients against finite differences, learning, files."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from edgelora.model.datasets.dataset import Dataset, load_dataset, save_dataset
from edgelora.model.floatnet import files, tables
from edgelora.model.floatnet import layers as floatnet_layers
from edgelora.model.floatnet import train as floatnet_train
from edgelora.model.floatnet.augment import Speaking, Wearer, augment_motion, augment_speech, augmentation
from edgelora.model.floatnet.lora import adaptable_layers, train_float_lora
from edgelora.model.floatnet.pretraining import pretrain
from edgelora.model.floatnet.zoo import ds_cnn, har_net

LAYERS = {
    "conv same": [floatnet_layers.conv(3, (3, 3), activation="none")],
    "conv same, stride 2": [floatnet_layers.conv(3, (3, 2), (2, 2))],
    "conv valid, stride 2": [floatnet_layers.conv(3, (2, 3), (1, 2), padding="valid")],
    "conv dilated": [floatnet_layers.conv(3, (2, 2), dilation=(2, 3), activation="relu6")],
    "conv dilated, valid": [floatnet_layers.conv(3, (2, 2), dilation=(3, 2), padding="valid")],
    "depthwise": [floatnet_layers.depthwise(2, (3, 3))],
    "depthwise, stride 2": [floatnet_layers.depthwise(2, (3, 2), (2, 1), activation="none")],
    "depthwise valid": [floatnet_layers.depthwise(2, (2, 3), padding="valid", activation="relu6")],
    "dense": [floatnet_layers.dense(4)],
    "dense relu": [floatnet_layers.dense(9, "relu")],
    "average_pool valid": [floatnet_layers.average_pool((2, 2))],
    "average_pool same": [floatnet_layers.average_pool((3, 3), (2, 2), "same")],
    "mean": [floatnet_layers.mean()],
    "separable": [
        floatnet_layers.depthwise(2, (3, 3)),
        floatnet_layers.conv(4, (1, 1)),
        floatnet_layers.mean(),
        floatnet_layers.dense(3),
    ],
    "chain": [
        floatnet_layers.conv(4, (1, 3), (1, 2)),
        floatnet_layers.conv(5, (3, 1)),
        floatnet_layers.average_pool((2, 2)),
        floatnet_layers.mean(),
        floatnet_layers.dense(3),
    ],
}


def as_float64(net: floatnet_layers.FloatNet) -> floatnet_layers.FloatNet:
    """The network in double precision with nonzero biases, for finite differences."""
    rng = np.random.default_rng(1)
    for layer in net.layers:
        if layer.weights is not None:
            layer.weights = layer.weights.astype(np.float64)
            layer.bias = rng.normal(0, 0.3, len(layer.bias))
    return net


def numeric_gradient(loss, parameter: np.ndarray) -> np.ndarray:
    gradient = np.zeros_like(parameter)
    for index in np.ndindex(parameter.shape):
        kept, step = parameter[index], 1e-6
        parameter[index] = kept + step
        above = loss()
        parameter[index] = kept - step
        gradient[index] = (above - loss()) / (2 * step)
        parameter[index] = kept
    return gradient


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_equal_finite_differences(name):
    rng = np.random.default_rng(7)
    net = as_float64(floatnet_layers.build((5, 6, 2), LAYERS[name], seed=3))
    x = rng.normal(0, 2, (3, 5, 6, 2))
    pick = rng.normal(size=floatnet_layers.forward(net, x)[-1].shape)

    def loss() -> float:
        return float((floatnet_layers.forward(net, x)[-1] * pick).sum())

    activations = floatnet_layers.forward(net, x)
    gradients = floatnet_layers.backward(net, activations, pick.reshape(3, -1))
    assert [pair is not None for pair in gradients] == [layer.weights is not None for layer in net.layers]
    for layer, pair in zip(net.layers, gradients, strict=True):
        if pair:
            np.testing.assert_allclose(pair[0], numeric_gradient(loss, layer.weights), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(pair[1], numeric_gradient(loss, layer.bias), rtol=1e-5, atol=1e-6)
    d_out = pick
    for i in reversed(range(len(net.layers))):
        (d_out,), _ = floatnet_layers.layer_backward(net.layers[i], [activations[i]], activations[i + 1], d_out)
    np.testing.assert_allclose(d_out, numeric_gradient(loss, x), rtol=1e-5, atol=1e-6)


def test_loss_gradient_equals_finite_differences():
    rng = np.random.default_rng(0)
    logits, y = rng.normal(0, 3, (4, 5)), np.array([0, 4, 2, 2])
    _, gradient = floatnet_train.softmax_cross_entropy(logits, y)

    def loss() -> float:
        return floatnet_train.softmax_cross_entropy(logits, y)[0]

    np.testing.assert_allclose(gradient, numeric_gradient(loss, logits),
                               rtol=1e-5, atol=1e-8)  # fmt: skip


def test_backward_stops_below_lowest():
    net = floatnet_layers.build(
        (1, 8, 2),
        [
            floatnet_layers.conv(3, (1, 3)),
            floatnet_layers.conv(3, (1, 3)),
            floatnet_layers.mean(),
            floatnet_layers.dense(2),
        ],
        seed=0,
    )
    x = np.ones((2, 1, 8, 2), np.float32)
    gradients = floatnet_layers.backward(net, floatnet_layers.forward(net, x), np.ones((2, 2), np.float32), lowest=1)
    assert [pair is not None for pair in gradients] == [False, True, False, True]


# TensorFlow's SAME padding puts the odd row or column after the input; VALID drops an incomplete last stride.
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "padding", "expected"),
    [
        (100, 5, 2, 1, "same", (50, 1, 2)),
        (13, 3, 2, 1, "same", (7, 1, 1)),
        (10, 2, 1, 3, "same", (10, 1, 2)),
        (9, 2, 2, 1, "same", (5, 0, 1)),
        (9, 2, 2, 1, "valid", (4, 0, 0)),
        (10, 3, 2, 2, "valid", (3, 0, 0)),
    ],
)
def test_geometry_is_tensorflows(size, kernel, stride, dilation, padding, expected):
    layer = floatnet_layers.conv(1, (1, kernel), (1, stride), (1, dilation), padding)
    at = floatnet_layers.geometry(layer, (1, size, 1))
    assert (at.output[1], *at.pad_w) == expected


def test_average_pool_leaves_padding_out():
    layer = floatnet_layers.average_pool((1, 3), (1, 2), "same")
    out = floatnet_layers.layer_forward(layer, np.array([1.0, 2, 3, 4, 5]).reshape(1, 1, 5, 1))
    np.testing.assert_allclose(out.ravel(), [1.5, 3, 4.5])


def test_depthwise_filters_each_channel_by_itself():
    net = floatnet_layers.build((5, 6, 3), [floatnet_layers.depthwise(3, (3, 2), (2, 1), activation="none")], seed=0)
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)
    alone = [
        floatnet_layers.layer_forward(
            floatnet_layers.Layer("conv", (3, 2), (2, 1), weights=w[None, ..., None], bias=np.zeros(1)),
            x[..., c : c + 1],
        )
        for c, w in enumerate(np.moveaxis(net.layers[0].weights, 2, 0))
    ]
    np.testing.assert_allclose(
        floatnet_layers.predict(net, x), np.concatenate(alone, axis=3).reshape(2, -1), rtol=1e-5, atol=1e-6
    )


def test_depthwise_of_other_channels_is_refused():
    with pytest.raises(ValueError, match="8 channels does not fit an input of 3"):
        floatnet_layers.build((5, 6, 3), [floatnet_layers.depthwise(8, (3, 3))], seed=0)


def test_kernel_larger_than_input_is_refused():
    with pytest.raises(ValueError, match="use 'same' padding"):
        floatnet_layers.build((1, 4, 1), [floatnet_layers.conv(1, (1, 5), padding="valid")], seed=0)


def two_tone(seed: int, count: int = 240, pitch: float = 1.0, channels: int = 2) -> Dataset:
    """Noisy windows [count, 1, 32, channels] of three classes with different frequencies and random phases."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    phase = rng.uniform(0, 2 * np.pi, (count, 1, 1, channels))
    wave = np.sin(pitch * (0.25 + 0.35 * y)[:, None, None, None] * np.arange(32)[None, None, :, None] + phase)
    return Dataset((wave + rng.normal(0, 0.3, wave.shape)).astype(np.float32), y, ["low", "middle", "high"])


def trained(data: Dataset) -> tuple[floatnet_layers.FloatNet, list[float]]:
    """A small network that has learned `two_tone` data, and its losses."""
    layers = [
        floatnet_layers.conv(8, (1, 5), (1, 2)),
        floatnet_layers.conv(8, (1, 3)),
        floatnet_layers.mean(),
        floatnet_layers.dense(3),
    ]
    net = floatnet_layers.build((1, 32, 2), layers, seed=5)
    return net, floatnet_train.fit(net, data.x, data.y, epochs=12, seed=5, batch=16, rate=1e-2)


def test_training_learns_and_is_reproducible():
    train, test = two_tone(0), two_tone(1)
    net, losses = trained(train)
    assert floatnet_layers.accuracy(net, test.x, test.y) > 0.9
    assert losses[-1] < 0.3 * losses[0]
    assert trained(train)[1] == losses


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_schedules_fall_from_the_rate_to_zero(schedule):
    rates = [floatnet_train.scheduled(schedule, 0.1, done) for done in (0, 0.25, 0.5, 0.75, 1)]
    assert rates[0] == 0.1 and rates[-1] == pytest.approx(0) and rates == sorted(rates, reverse=True)


def test_step_schedule_has_three_levels():
    assert [floatnet_train.scheduled("step", 1.0, done) for done in (0.59, 0.61, 0.86)] == [1.0, 0.1, 0.01]


def test_pretrain_augments_motion_and_reports_progress():
    data, seen = two_tone(0, channels=6), []
    net = pretrain(data, seed=1, epochs=3, progress=lambda *told: seen.append(told))
    losses = [float(what.removeprefix("loss ")) for _, _, what in seen]
    assert [3 * done / total for done, total, _ in seen] == [1, 2, 3] and losses[2] < losses[0]
    assert net.labels == data.labels and floatnet_layers.shapes(net)[-1] == (1, 1, 3)


def test_har_net_fits_the_board():
    net = har_net((1, 100, 6), 7, seed=0)
    assert floatnet_layers.macs(net) == 91424
    assert max(h * w * c for h, w, c in floatnet_layers.shapes(net)[1:]) == 800
    assert sum(layer.weights.size for layer in net.layers if layer.weights is not None) == 6464


def test_ds_cnn_is_mlperf_tinys():
    net = ds_cnn((49, 10, 1), 12, seed=0)
    assert floatnet_layers.shapes(net)[1] == floatnet_layers.shapes(net)[9] == (25, 5, 64)
    assert floatnet_layers.macs(net) == 2656768
    assert adaptable_layers(net) == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize(("shape", "tokens"), [((1, 39, 2), (1, 10)), ((98, 40, 1), (25, 1))])
def test_pretrain_trains_encoders(shape, tokens):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 40)
    x = (rng.normal(size=(40, *shape)) + np.where(y, 1, -1)[:, None, None, None]).astype(np.float32)
    net = pretrain(Dataset(x, y, ["low", "high"]), seed=0, epochs=3, network="encoder")
    assert {layer.kind for layer in net.layers} >= {"norm", "attend", "project"} and net.labels == ["low", "high"]
    assert floatnet_layers.shapes(net)[1][:2] == tokens and floatnet_layers.accuracy(net, x, y) > 0.9


def test_pretrain_refuses_networks_that_it_lacks():
    data = Dataset(np.zeros((4, 1, 1025, 2), np.float32), np.arange(4) % 2, ["low", "high"])
    with pytest.raises(ValueError, match="unknown network 'lstm'; use one of convolutions, encoder"):
        pretrain(data, network="lstm")
    with pytest.raises(ValueError, match="at most 1024 samples"):
        pretrain(data, network="encoder")


@pytest.mark.parametrize("classes", [1, 257])
def test_pretrain_refuses_classes_that_no_model_can_have(classes):
    x = np.zeros((classes, 1, 20, 2), np.float32)
    with pytest.raises(ValueError, match=f"samples of {classes} classes: give samples of 2 to 256"):
        pretrain(Dataset(x, np.arange(classes), [str(i) for i in range(classes)]), epochs=1)


def test_pretrain_takes_spectrograms():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 40)
    x = rng.normal(size=(40, 49, 10, 1)) + np.where(y, 1, -1)[:, None, None, None]
    net = pretrain(Dataset(x.astype(np.float32), y, ["low", "high"]), seed=0, epochs=3)
    assert net.input_shape == (49, 10, 1) and floatnet_layers.accuracy(net, x.astype(np.float32), y) > 0.9
    with pytest.raises(ValueError, match="give"):
        pretrain(Dataset(np.zeros((4, 5, 5, 2), np.float32), np.zeros(4, np.int64)))


FULL, ONE_SPEAKERS = partial(augment_speech, speaking=Speaking()), augmentation("speech", (49, 10, 1))


@pytest.mark.parametrize(("augment", "furthest"), [(FULL, 6), (ONE_SPEAKERS, 3)])
def test_speech_augmentation_moves_words_whole(augment, furthest):
    x = np.zeros((30, 49, 10, 1), np.float32)
    x[:, 20:24] = 100
    moved = augment(x, np.random.default_rng(0))
    loud = (moved[..., 0] > 50).all(axis=2)
    assert x.max() == 100 and moved.dtype == np.float32
    assert loud.sum(axis=1).max() == 4 and set(loud.argmax(axis=1)) <= {0, *range(20 - furthest, 25 + furthest)}


def test_rotation_keeps_length_and_tilts_both_sensors_alike():
    rng = np.random.default_rng(0)
    half = rng.normal(size=(20, 1, 10, 3))
    x = np.concatenate([half, half], axis=3)
    moved = augment_motion(x, rng, Wearer(tilt=1.0, tempo=0, vigour=0, noise=0))
    np.testing.assert_allclose(np.linalg.norm(moved[..., :3], axis=3), np.linalg.norm(half, axis=3), rtol=1e-9)
    np.testing.assert_allclose(moved[..., :3], moved[..., 3:], rtol=1e-9)
    assert np.abs(moved - x).max() > 0.1


def test_float_lora_learns_and_leaves_the_base_alone():
    base, own, later = two_tone(0), two_tone(2, 90, pitch=1.8), two_tone(3, pitch=1.8)
    net, _ = trained(base)
    before = [layer.weights.copy() for layer in net.layers if layer.weights is not None]
    for train_a in (True, False):
        result = train_float_lora(net, own, later, rank=2, epochs=8, seed=0, train_a=train_a)
        assert result.base_accuracy == floatnet_layers.accuracy(net, later.x, later.y)
        assert result.accuracy > result.base_accuracy + 0.15
    after = [net.layers[i].weights for i in adaptable_layers(net)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_frozen_a_does_not_move():
    data = two_tone(0, 40)
    net = floatnet_layers.build(
        (1, 32, 2), [floatnet_layers.conv(4, (1, 5)), floatnet_layers.mean(), floatnet_layers.dense(3)], seed=0
    )
    untrained = train_float_lora(net, data, data, epochs=0, seed=4, train_a=False).adapters
    frozen = train_float_lora(net, data, data, epochs=1, seed=4, train_a=False).adapters
    trained = train_float_lora(net, data, data, epochs=1, seed=4, train_a=True).adapters
    for i in untrained:
        assert np.array_equal(untrained[i].a, frozen[i].a) and not np.array_equal(untrained[i].a, trained[i].a)
        assert not untrained[i].b.any() and frozen[i].b.any()


def test_net_file_round_trip_and_bad_file(tmp_path):
    layers = [
        floatnet_layers.conv(3, (3, 2), (2, 1), activation="relu6"),
        floatnet_layers.depthwise(3, (2, 2)),
        floatnet_layers.average_pool((2, 2)),
    ]
    net = floatnet_layers.build((5, 6, 2), [*layers, floatnet_layers.dense(2)], seed=0, labels=["no", "yes"])
    files.save_net(net, tmp_path / "net.npz")
    back = files.load_net(tmp_path / "net.npz")
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 2)).astype(np.float32)
    assert np.array_equal(floatnet_layers.predict(net, x), floatnet_layers.predict(back, x)) and back.labels == [
        "no",
        "yes",
    ]
    (tmp_path / "bad.npz").write_bytes((tmp_path / "net.npz").read_bytes()[:200])
    with pytest.raises(ValueError, match=r"bad\.npz: not a readable .*edgelora pretrain"):
        files.load_net(tmp_path / "bad.npz")
    net.layers[0].weights = net.layers[0].weights[:, :, :1]
    files.save_net(net, tmp_path / "torn.npz")
    with pytest.raises(ValueError, match="layer 0: weights are"):
        files.load_net(tmp_path / "torn.npz")


def graph() -> floatnet_layers.FloatNet:
    """A network with branches, a function, explicit padding and folded normalization."""
    conv = floatnet_layers.build((5, 6, 2), [floatnet_layers.conv(4, (3, 2))], seed=0).layers[0]
    conv = replace(conv, name="stem.0", gain=np.arange(1, 5, dtype=np.float32), padding=((1, 1), (0, 1)))
    table = tables.sampled(np.tanh, -4.0, 4.0)
    head = floatnet_layers.build((5, 6, 4), [floatnet_layers.dense(3)], seed=1).layers[0]
    layers = [
        conv,
        floatnet_layers.mean(),
        floatnet_layers.Layer("lookup", function=table),
        floatnet_layers.Layer("multiply", activation="relu", inputs=(1, 3)),
        floatnet_layers.Layer("add", inputs=(4, 1)),
        head,
    ]
    return floatnet_layers.FloatNet((5, 6, 2), layers, ["a", "b", "c"], bytes(range(8)))


def test_graphs_are_saved_whole(tmp_path):
    net, x = graph(), np.random.default_rng(0).normal(size=(3, 5, 6, 2)).astype(np.float32)
    files.save_net(net, tmp_path / "net.npz")
    back = files.load_net(tmp_path / "net.npz")
    assert np.array_equal(floatnet_layers.predict(net, x), floatnet_layers.predict(back, x))
    assert back.base_id == net.base_id and back.layers[0].name == "stem.0"
    assert np.array_equal(back.layers[0].gain, net.layers[0].gain)
    net.layers[2].function = np.tanh
    with pytest.raises(ValueError, match="its function can't be saved"):
        files.save_net(net, tmp_path / "net.npz")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("3.inputs", np.array([1, 9]), "can't read the tensors"),
        ("3.inputs", np.array([1]), "can't read the tensors"),
        ("3.inputs", np.array([3, 1]), "layer 3: it reads"),
        ("0.sides", np.array([[1, 1], [0, -1]]), "padding must be at least 0"),
        ("0.gain", np.ones(3, np.float32), "bias and gain must have one axis"),
        ("0.gain", np.full(4, np.nan, np.float32), "its gain must be finite"),
        ("0.window", np.array([[3, 2], [0, 1], [1, 1]]), "must be at least 1"),
        ("2.values", np.zeros(1), "needs values over a finite range"),
        ("2.range", np.array([4.0, -4.0]), "needs values over a finite range"),
        ("1.names", np.array(["history", "same", "none"]), "unknown kind 'history'"),
        ("1.names", np.array(["mean", "same", "relu"]), "can't have activation"),
        ("base_id", np.zeros(7, np.uint8), "base id has 7 bytes"),
    ],
)
def test_damaged_graphs_are_explained(tmp_path, name, value, message):
    files.save_net(graph(), tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz") as stored:
        arrays = dict(stored)
    np.savez(tmp_path / "bad.npz", **(arrays | {name: value}))
    with pytest.raises(ValueError, match=rf"bad\.npz: not a float network .*{message}.*from_torch"):
        files.load_net(tmp_path / "bad.npz")


def test_dataset_file_round_trip(tmp_path):
    data = two_tone(0, 10)
    save_dataset(data, tmp_path / "d.npz")
    back = load_dataset(tmp_path / "d.npz")
    assert np.array_equal(back.x, data.x) and np.array_equal(back.y, data.y) and back.labels == data.labels


X, Y = np.zeros((4, 1, 8, 2), np.float32), np.zeros(4, np.int64)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "'y' is missing"),
        ({"x": X[0, 0], "y": Y}, "it must be .samples, height, width, channels"),
        ({"x": X.astype(np.int16), "y": Y}, "x has type int16"),
        ({"x": X, "y": Y.astype(np.float32)}, "type float32"),
        ({"x": X, "y": Y[:3]}, "4 samples and y has 3"),
        ({"x": X[:0], "y": Y[:0]}, "x is empty"),
        ({"x": np.where(np.arange(4)[:, None, None, None] == 2, np.nan, X), "y": Y}, "first in sample 2"),
        ({"x": X, "y": Y - 1}, "from -1"),
        ({"x": X, "y": Y + 2, "labels": np.array(["a", "b"])}, "there are 2 labels"),
        ({"x": np.array([{}], object), "y": Y}, "not a readable .npz"),
    ],
)
def test_bad_dataset_files_are_explained(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=r"bad\.npz: .*" + message):
        load_dataset(tmp_path / "bad.npz")


def test_dataset_file_that_is_no_npz(tmp_path):
    (tmp_path / "bad.npz").write_text("not an archive")
    with pytest.raises(ValueError, match=r"not a readable \.npz"):
        load_dataset(tmp_path / "bad.npz")
    np.save(tmp_path / "bare.npy", X)
    with pytest.raises(ValueError, match="a single array without a name"):
        load_dataset(tmp_path / "bare.npy")
