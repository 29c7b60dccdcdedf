"""Quantized transformers: grids that the formats ask for, and the twin's integers beside the float network."""

import numpy as np
import pytest

from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.formats.network import id_bytes, ids_of
from edgelora.core.twin.session import Session
from edgelora.core.twin.trainable import trainable
from edgelora.learn.training.data.base import Base
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.floatnet import layers, zoo
from edgelora.model.floatnet.layers import FloatNet
from edgelora.model.quantization.calibrate import calibrate_adapters
from edgelora.model.quantization.quantize import quantize
from edgelora.model.quantization.simulate import simulate_op

SIZES = zoo.Transformer(channels=16, layers=2, heads=(4, 2), hidden=20)


def drawn(name: str) -> tuple[FloatNet, np.ndarray]:
    """A network of random weights, its stream of uneven rows, and inputs."""
    rng = np.random.default_rng(4)
    if name == "encoder":
        net = zoo.encoder((1, 40, 6), 5, 1, sizes=SIZES)
        return net, rng.normal(0, 1, (32, *net.input_shape)).astype(np.float32)
    if name == "compact":
        net = zoo.compact((16, 16, 3), 5, 1, sizes=SIZES)
        return net, rng.normal(0, 1, (32, *net.input_shape)).astype(np.float32)
    net = zoo.language_model(200, 12, 1, SIZES)
    return net, rng.integers(0, 200, (32, *net.input_shape)).astype(np.float32)


STREAMS = {"encoder": 6, "language_model": 5, "compact": 8}


@pytest.mark.parametrize("name", STREAMS)
def test_integers_follow_the_float_network(name: str) -> None:
    net, x = drawn(name)
    model = quantize(net, x)
    elm = pack_model(model)
    assert model.rounds and unpack_model(elm).rounds
    streams = [tensor for tensor in model.tensors if tensor.wide]
    assert len(streams) == STREAMS[name] and len({tensor.scale for tensor in streams}) == 1
    session = Session(elm, bytes(len(model.ops)), "infer")
    found, wanted = [], layers.forward(net, x)[-1]
    for sample in model.quantize(x):
        grids = session.activations(np.ascontiguousarray(sample), model)
        found.append(model.output.dequantize(grids[-1]))
        whole = [grid[None].astype(np.float64) for grid in grids]
        whole[0] = np.where(whole[0] < 0, whole[0] + 256, whole[0]) if name == "language_model" else whole[0]
        for op in model.ops:
            off = np.abs(simulate_op(model, op, *(whole[i] for i in op.inputs or (0,))) - whole[op.output])
            assert off.max() <= 1, op.kind
    noise = np.mean((np.stack(found) - wanted) ** 2) / np.var(wanted)
    assert 10 * np.log10(noise) < -22


def test_the_compact_transformer_is_that_of_the_paper() -> None:
    """CCT-2/3x2 for images of 32 x 32 has 0.28 million parameters (Hassani et al., 2021)."""
    net = zoo.compact((32, 32, 3), 10, 0)
    assert 0.275e6 < sum(array.size for array in layers.parameters(net)) < 0.29e6
    assert layers.shapes(net)[-1] == (1, 1, 10)


def test_adapters_of_all_matrices_have_shifts() -> None:
    """In a language model all but the embedding carry adapters."""
    model = quantize(*drawn("language_model"))
    matrices = [i for i, op in enumerate(model.ops) if op.is_matrix]
    assert len(matrices) == 2 * 7 + 1 and all(model.ops[i].t_shift > 0 for i in matrices)
    assert trainable(pack_model(model), len(model.ops)) == matrices


@pytest.mark.parametrize("symbols", [200, 300])
def test_a_base_takes_windows_of_symbols(symbols: int) -> None:
    """Ids of one byte and of two; the last window's last position has no loss."""
    rng = np.random.default_rng(0)
    net = zoo.language_model(symbols, 12, 1, SIZES)
    x, y = rng.integers(0, symbols, (4, *net.input_shape)), rng.integers(0, symbols, (4, 12))
    y[-1, -1] = symbols
    model = quantize(net, x.astype(np.float32))
    samples = Base("text.elm", pack_model(model), model).samples(Dataset(x.astype(np.float32), y))
    assert np.array_equal(ids_of(samples.x), x[..., 0])
    assert np.array_equal(samples.targets, id_bytes(y, symbols).reshape(4, -1))
    session = Session(pack_model(model), bytes(op.is_matrix for op in model.ops), "frozen_a")
    session.begin(1)
    losses = [session.evaluate(row, target)[1] for row, target in zip(samples.x, samples.targets, strict=True)]
    assert min(losses) > 0


def test_adapters_of_sequences_take_smaller_steps() -> None:
    """Less of t is clipped, and a step of B is a quarter of what it is where a window has one class."""
    net, x = drawn("language_model")
    model = quantize(net, x)
    shifts = [(op.t_shift, op.branch_shift) for op in model.ops if op.is_matrix]
    model.loss = "mean_squared_error"  # no longer a loss at each position
    calibrate_adapters(model, x)
    assert shifts == [(op.t_shift + 1, op.branch_shift - 2) for op in model.ops if op.is_matrix]
