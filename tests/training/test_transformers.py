"""Float transformers: gradients against finite differences, what a position may see, files, learning, adapters."""

from dataclasses import replace

import numpy as np
import pytest

from edgelora.base.errors import InputError
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.floatnet import attention, files, layers, lora, train, zoo
from edgelora.model.floatnet.functions import FUNCTIONS

SMALL = zoo.Transformer(channels=8, layers=1, heads=(4, 2), hidden=6)


def small(name: str, seed: int = 0) -> layers.FloatNet:
    if name == "encoder":
        return zoo.encoder((1, 12, 3), 3, seed, sizes=SMALL)
    return zoo.language_model(5, 6, seed, SMALL)


def inputs(net: layers.FloatNet, count: int, rng: np.random.Generator) -> np.ndarray:
    if net.layers[0].kind == "embed":
        return rng.integers(0, 5, (count, *net.input_shape)).astype(np.float64)
    return rng.normal(0, 1, (count, *net.input_shape))


@pytest.mark.parametrize("name", ["encoder", "language_model"])
def test_gradients_of_every_parameter_equal_finite_differences(name: str) -> None:
    rng = np.random.default_rng(2)
    net = small(name)
    for layer in net.layers:
        for what in ("weights", "bias"):
            if (array := getattr(layer, what)) is not None:
                setattr(layer, what, array.astype(np.float64) + rng.normal(0, 0.3, array.shape))
    x = inputs(net, 2, rng)
    y = rng.integers(0, 3, (2,) if name == "encoder" else (2, 6))

    def loss() -> float:
        return train.softmax_cross_entropy(layers.forward(net, x)[-1], y)[0]

    activations = layers.forward(net, x)
    found = layers.backward(net, activations, train.softmax_cross_entropy(activations[-1], y)[1])
    checked = 0
    for layer, gradients in zip(net.layers, found, strict=True):
        arrays = [array for array in (layer.weights, layer.bias) if array is not None]
        assert len(gradients or ()) == len(arrays)
        for array, gradient in zip(arrays, gradients or (), strict=True):
            for index in map(tuple, rng.integers(0, array.shape, (6, array.ndim))):
                kept, step = array[index], 1e-6
                array[index] = kept + step
                above = loss()
                array[index] = kept - step
                numeric = (above - loss()) / (2 * step)
                array[index] = kept
                assert gradient[index] == pytest.approx(numeric, rel=1e-4, abs=1e-8), (layer.kind, index)
                checked += 1
    assert checked > 100


def test_rows_of_a_norm_and_turned_pairs() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (2, 1, 5, 8))
    rows = attention.norm(x, np.ones(8), np.zeros(8), centred=True)
    assert np.abs(rows.mean(-1)).max() < 1e-12 and np.abs(rows.std(-1) - 1).max() < 1e-5
    angles = np.outer(np.arange(40), 10000.0 ** (-np.arange(4) / 4))
    table = attention.rotation(angles)
    assert np.abs(table - np.stack([np.cos(angles), np.sin(angles)], -1)).max() < 1e-7
    turned = attention.rotated(x, table[:5])
    a, b = x[1, 0, 3, 1], x[1, 0, 3, 5]
    angle = 3 * 10000**-0.25
    assert turned[1, 0, 3, 1] == pytest.approx(a * np.cos(angle) - b * np.sin(angle))
    assert turned[1, 0, 3, 5] == pytest.approx(b * np.cos(angle) + a * np.sin(angle))
    assert np.abs(attention.rotated(turned, table[:5], back=True) - x).max() < 1e-6


def test_attention_is_a_softmax_over_the_rows_before() -> None:
    """Against loops, with two heads of queries for each of keys."""
    rng = np.random.default_rng(1)
    q, k, v = (rng.normal(0, 1, (2, 1, 5, channels)) for channels in (12, 6, 6))
    found = attention.attend(q, k, v, (4, 2), causal=True)
    for head, row in np.ndindex(4, 5):
        mine, shared = slice(3 * head, 3 * head + 3), slice(3 * (head // 2), 3 * (head // 2) + 3)
        e = np.exp(k[1, 0, : row + 1, shared] @ q[1, 0, row, mine] / np.sqrt(3))
        assert found[1, 0, row, mine] == pytest.approx(e @ v[1, 0, : row + 1, shared] / e.sum())


def test_a_position_sees_none_behind_it() -> None:
    net, x = small("language_model"), inputs(small("language_model"), 3, np.random.default_rng(3)).astype(np.float32)
    changed = x.copy()
    changed[:, :, 4:] = (changed[:, :, 4:] + 1) % 5
    apart = np.abs(np.subtract(*(layers.forward(net, part)[-1] for part in (x, changed)))).max(axis=(0, 1, 3))
    assert apart[:4].max() < 1e-5 and apart[4:].min() > 1e-2


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_slopes_of_functions(name: str) -> None:
    x = np.linspace(-6, 6, 101)
    function = FUNCTIONS[name]
    assert function.slope(x) == pytest.approx((function(x + 1e-6) - function(x - 1e-6)) / 2e-6, abs=1e-8)


@pytest.mark.parametrize("name", ["encoder", "language_model"])
def test_files_hold_transformers(name: str, tmp_path) -> None:
    net = small(name)
    files.save_net(net, tmp_path / "net.npz")
    x = inputs(net, 2, np.random.default_rng(0)).astype(np.float32)
    loaded = files.load_net(tmp_path / "net.npz")
    assert np.array_equal(layers.predict(loaded, x), layers.predict(net, x))
    attend = next(i for i, layer in enumerate(net.layers) if layer.kind == "attend")
    norm = next(i for i, layer in enumerate(net.layers) if layer.kind == "norm")
    for wrong, part in (
        (attend, {"heads": (3, 2)}),
        (attend, {"inputs": (1, 2)}),
        (norm, {"weights": np.ones(7, np.float32)}),
        (norm, {"weights": np.full(8, np.nan, np.float32)}),
    ):
        broken = replace(net, layers=list(net.layers))
        broken.layers[wrong] = replace(net.layers[wrong], **part)
        files.save_net(broken, tmp_path / "broken.npz")
        with pytest.raises(InputError, match=f"layer {wrong}"):
            files.load_net(tmp_path / "broken.npz")


def test_a_language_model_learns_and_its_adapters_learn_on() -> None:
    """Symbols that follow each other by a rule, then by another: adapters alone learn the second."""
    x = np.random.default_rng(0).integers(0, 5, (96, 1, 6, 1)).astype(np.float32)
    first, second = ((x[:, 0, :, 0].astype(np.int64) * 2 + shift) % 5 for shift in (1, 3))
    net = small("language_model")
    losses = train.fit(net, x, first, epochs=30, seed=0, batch=16, rate=1e-2)
    assert losses[-1] < 0.1 < 1 < losses[0] and layers.accuracy(net, x, first) > 0.99
    data = Dataset(x, second)
    result = lora.train_float_lora(net, data, data, rank=2, epochs=30, lr=0.03, batch=16)
    assert result.base_accuracy < 0.3 and result.accuracy > 0.9
    assert set(result.adapters) == set(lora.adaptable_layers(net))
    assert {net.layers[i].kind for i in result.adapters} == {"conv", "project"}
