"""Signals: what files state about a sensor's samples, and the integer arithmetic that makes int8 inputs of counts."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from random_models import random_model

from edgelora.base.errors import InputError
from edgelora.core.formats.elm import base_id, pack_model, unpack_model
from edgelora.core.formats.envelope import ID_FROM, FormatError
from edgelora.core.formats.network import QuantModel, Tensor
from edgelora.core.formats.signal import Normal, Signal
from edgelora.core.twin.binding import TwinError, check_model
from edgelora.core.twin.session import Session
from edgelora.model.datasets.dataset import Dataset, load_dataset, load_signal, save_dataset
from edgelora.model.datasets.har import load_har


def sensing(seed: int = 2, **changes: object) -> QuantModel:
    """A network whose input is windows of a sensor; some channels have a negative scale."""
    model = random_model(seed, "medium", ("conv", "dense"), edges=False)
    channels = model.input.shape[2]
    normals = tuple(Normal(0.002 * (i + 1) * (-1) ** i, 0.1 * i, 1 + i) for i in range(channels))
    signal = Signal(52.083, channels, model.input.size // channels, 25, normals, units="g, then °/s")
    model.signal = replace(signal, **changes)
    return model


def test_signal_round_trip() -> None:
    model = sensing()
    data = pack_model(model)
    read = unpack_model(data)
    assert read.signal == model.signal and pack_model(read) == data
    assert read.signal is not None and read.signal.units == "g, then °/s" and read.signal.rate == 52.083
    check_model(data)
    plain = pack_model(replace(model, signal=None))
    assert plain[66:68] == b"\0\0" and base_id(plain) != base_id(data)
    assert unpack_model(plain).signal is None


def reference(counts: np.ndarray, normal: Normal, tensor: Tensor) -> tuple[np.ndarray, float]:
    """The int8 values of counts by SPEC.md's real-valued formula, and the unrounded values."""
    real = (counts.astype(np.longdouble) * normal.scale - normal.mean) / normal.std
    steps = real / np.longdouble(np.float32(tensor.scale)) + tensor.zero_point + 0.5
    return np.clip(np.floor(steps), -128, 127).astype(np.int8), steps


@pytest.mark.parametrize("seed", range(20))
def test_integers_do_what_the_formula_says(seed: int) -> None:
    """For every int16 count: equal, except close to a rounding boundary, where the result may be off by one."""
    rng = np.random.default_rng(seed)
    model = sensing()
    channels = model.input.shape[2]
    normals = []
    for _ in range(channels):
        step = model.input.scale * float(np.exp(rng.uniform(-3, 1)))  # units per step of the input
        std = float(np.exp(rng.uniform(-3, 3)))
        normals.append(
            Normal(std * step * 10 ** rng.uniform(-3, 1) * rng.choice((-1, 1)), std * step * rng.normal(0, 50), std)
        )
    model.signal = replace(model.signal, normals=tuple(normals))
    session = Session(pack_model(model), bytes(len(model.ops)), "infer", 1)
    counts = np.repeat(np.arange(-32768, 32768, dtype=np.int16)[:, None], channels, 1)
    out, clipped = session.quantize(counts)
    beyond = 0
    for channel, normal in enumerate(normals):
        right, steps = reference(counts[:, channel], normal, model.input)
        edge = np.abs(steps - np.round(steps))
        differs = out[:, channel] != right
        near = np.abs(steps) * 2.0**-14 + 0.002  # a multiplier has 15 bits
        assert (edge[differs] < near[differs]).all()
        assert (np.abs(out[:, channel].astype(int) - right)[differs] <= 1).all() and differs.mean() < 0.02
        multiplier, offset, shift = normal.fixed(model.input)
        exact = (np.arange(-32768, 32768) * multiplier + offset) >> shift
        assert (np.abs(np.arange(-32768, 32768) * multiplier + offset) < 2**31).all()
        assert (out[:, channel] == np.clip(exact, -128, 127)).all()
        beyond += int(((exact < -128) | (exact > 127)).sum())
    assert clipped == beyond


def test_incomplete_samples_and_models_without_a_signal_are_refused() -> None:
    model = sensing()
    session = Session(pack_model(model), bytes(len(model.ops)), "infer", 1)
    with pytest.raises(TwinError, match="wrong size"):
        session.quantize(np.zeros(model.signal.channels + 1, np.int16))
    with pytest.raises(TwinError, match="int16"):
        session.quantize(np.zeros(model.signal.channels, np.int32))
    plain = Session(pack_model(replace(model, signal=None)), bytes(len(model.ops)), "infer", 1)
    with pytest.raises(TwinError, match="doesn't describe its signal"):
        plain.quantize(np.zeros(3, np.int16))


def test_counts_come_back() -> None:
    """Counts computed from an input of the network give the same input."""
    model = sensing()
    rng = np.random.default_rng(1)
    channels = model.signal.channels
    x = rng.integers(-128, 128, (model.input.size // channels, channels)).astype(np.int8)
    fine = replace(model.signal, normals=tuple(Normal(model.input.scale / 20, 0.1, 1) for _ in range(channels)))
    model.signal = fine
    counts = fine.counts(model.input.dequantize(x))
    session = Session(pack_model(model), bytes(len(model.ops)), "infer", 1)
    out, clipped = session.quantize(counts)
    assert (out == x).all() and clipped == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window": 3}, "samples of .* are not the .* values of the input"),
        ({"normals": (Normal(1),)}, "1 normalizations for"),
        ({"front": "wavelets"}, "front end 'wavelets'"),
        ({"front": "audio", "normals": (Normal(1),) * 11}, "must divide"),
        ({"rate": 0}, "0 Hz"),
        ({"rate": 3e6}, "Hz, must be 0.001 to"),
        ({"hop": 0}, "hop of 0"),
        ({"channels": 257}, "257 channels"),
        ({"units": "x" * 65536}, "units of 65536 bytes"),
    ],
)
def test_broken_signals_are_not_written(changes: dict[str, object], words: str) -> None:
    with pytest.raises(FormatError, match=words):
        pack_model(sensing(**changes))


@pytest.mark.parametrize("values", [0, 8])
def test_front_ends_that_do_not_fit_the_input_are_refused(values: int) -> None:
    """By host and core: a front end with no values, or with a number that does not divide the input."""
    model = sensing()
    size = model.input.size
    assert size % 8
    model.signal = replace(model.signal, front="audio", normals=(Normal(1),) * size, units="x" * 200)
    data = bytearray(pack_model(model))
    at = 4 * struct.unpack_from("<H", data, 66)[0] + 16
    assert struct.unpack_from("<H", data, at)[0] == size
    struct.pack_into("<H", data, at, values)
    data[16:24] = base_id(bytes(data))
    struct.pack_into("<I", data, 12, zlib.crc32(data[16:]))
    with pytest.raises(TwinError, match="inconsistent"):
        check_model(bytes(data))
    with pytest.raises(FormatError):
        unpack_model(bytes(data))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((0.0,), "scale that is not 0"), ((1, 0, 0), "std above 0"), ((float("nan"),), "float32"), ((1e39,), "float32")],
)
def test_normalizations_are_numbers(arguments: tuple[float, ...], words: str) -> None:
    with pytest.raises(FormatError, match=words):
        Normal(*arguments)


def test_a_normalization_has_to_fit_the_integers() -> None:
    tensor = Tensor((1, 1, 1), 1.0, 0)
    assert Normal(32767).fixed(tensor) == (32767, 1, 0)  # half a step is rounded up
    for wrong in (Normal(32768), Normal(1, 2.0**31), Normal(1, 0, 1e-30)):
        with pytest.raises(FormatError, match="a count is"):
            wrong.fixed(tensor)
    assert Normal(1e-30).fixed(tensor) == (0, 1 << 29, 30)


def _sealed(data: bytearray) -> bytes:
    data[16:24] = base_id(data)
    struct.pack_into("<I", data, 12, zlib.crc32(memoryview(data)[16:]))
    assert ID_FROM == 24
    return bytes(data)


@pytest.mark.parametrize(
    ("layout", "at", "value", "words"),
    [
        ("<B", 0, 2, "signal's version is 2"),
        ("<B", 1, 3, "front end 3 is unknown"),
        ("<H", 2, 0, "0 channels"),
        ("<I", 4, 0, "0 Hz"),
        ("<I", 8, 1 << 31, "windows of"),
        ("<H", 16, 60000, "normalizations ends"),
        ("<H", 18, 60000, "units ends"),
        ("<f", 20, float("inf"), "normalization by"),
        ("<f", 20, 1.0, "don't match its scale"),
        ("<i", 32, 1 << 30, "don't match its scale"),
        ("<i", 32, (1 << 30) + 1, "out of range"),
        ("<h", 36, -32768, "out of range"),
        ("<B", 38, 31, "out of range"),
        ("<B", 39, 1, "last byte"),
    ],
)
def test_damaged_records_are_told(layout: str, at: int, value: float, words: str) -> None:
    data = bytearray(pack_model(sensing()))
    struct.pack_into(layout, data, 4 * struct.unpack_from("<H", data, 66)[0] + at, value)
    with pytest.raises(FormatError, match=words):
        unpack_model(_sealed(data))


# ---- data


def test_data_sets_know_their_signal(tmp_path: Path) -> None:
    har = load_har(3)
    signal = har.train.signal
    assert signal is not None and signal.window * signal.channels == har.train.x[0].size
    assert signal.counts(har.train.x).max() < 32767, "a sensor with these ranges saw all of it"
    few = Dataset(har.train.x[:4], har.train.y[:4], har.train.labels, signal)
    save_dataset(few, tmp_path / "few.npz")
    assert load_dataset(tmp_path / "few.npz").signal == signal == load_signal(tmp_path / "few.npz")
    np.savez(tmp_path / "plain.npz", x=few.x, y=few.y)
    assert load_dataset(tmp_path / "plain.npz").signal is None
    for text in ("{", "[1]", json.dumps({"rate": 5}), json.dumps(signal.as_json() | {"normals": [{"scale": 0}]})):
        np.savez(tmp_path / "bad.npz", x=few.x, y=few.y, signal=text)
        with pytest.raises(InputError, match="bad.npz: signal is not the text"):
            load_dataset(tmp_path / "bad.npz")


# ---- probabilities


def _weight(table: tuple[int, ...], d: int) -> int:
    w = 1 << 16
    for j in range(8):
        w = (w * table[j] + 2**15) >> 16 if d >> j & 1 else w
    return w


def test_probabilities_are_those_of_the_loss() -> None:
    """From logits by SPEC.md's formula; after a softmax or logistic, the output itself; none for values."""
    for seed, loss, kinds in ((2, "cross_entropy", ("conv", "dense")), (3, "binary_cross_entropy", ("dense", "dense"))):
        model = random_model(seed, "medium", kinds, edges=False, loss=loss)
        data = pack_model(model)
        session = Session(data, bytes(len(model.ops)), "infer", 1)
        session.infer(np.random.default_rng(seed).integers(-128, 128, model.input.size).astype(np.int8))
        q = session.logits.astype(int)
        weight = partial(_weight, struct.unpack_from("<8H", data, 48))
        if loss == "cross_entropy":
            w = [weight(int(q.max() - v)) for v in q]
            right = [(v * 2**15 + sum(w) // 2) // sum(w) for v in w]
            assert abs(sum(right) - 32768) <= len(right)
        else:
            d = [int(v) - model.output.zero_point for v in q]
            v = [2**31 // (2**16 + weight(abs(n))) for n in d]
            right = [p if n >= 0 else 2**15 - p for n, p in zip(d, v, strict=True)]
        assert session.probabilities().tolist() == right
    model = random_model(4, "medium", ("dense", "softmax"), edges=False)
    session = Session(pack_model(model), bytes(len(model.ops)), "infer", 1)
    session.infer(np.zeros(model.input.size, np.int8))
    assert session.probabilities().tolist() == ((session.logits.astype(int) + 128) << 7).tolist()
    model = random_model(5, "medium", ("conv", "autoencoder"), edges=False, loss="mean_squared_error")
    session = Session(pack_model(model), bytes(len(model.ops)), "infer", 1)
    with pytest.raises(TwinError, match="not probabilities"):
        session.probabilities()
