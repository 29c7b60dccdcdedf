"""`from_keras` and `edgelora import` of Keras files: the base computes the same as TensorFlow Lite Micro."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from fresh import slow, some
from tflite_micro.python.tflite_micro import runtime

import edgelora
from edgelora.core.formats.elm import unpack_model
from edgelora.core.formats.signal import Normal, Signal
from edgelora.core.twin.session import Session
from edgelora.core.twin.trainable import trainable
from edgelora.model.datasets.dataset import Dataset, save_dataset
from edgelora.model.importers import keras, keras_fused
from edgelora.model.importers.keras import KerasError
from edgelora.model.importers.tflite.flatbuffer import TfliteError
from edgelora.model.quantization.quantize import Quantized

K, L = tf.keras, tf.keras.layers
LABELS = ["low", "middle", "high"]
COMMAND = Path(sys.executable).parent / "edgelora"


def problem(seed: int, count: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Windows [count, 32, 2] with three frequencies and random phases, and their classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    phase = rng.uniform(0, 2 * np.pi, (count, 1, 2))
    wave = np.sin((0.25 + 0.35 * y)[:, None, None] * np.arange(32)[None, :, None] + phase)
    return (wave + rng.normal(0, 0.3, wave.shape)).astype(np.float32), y


@pytest.fixture(scope="module")
def trained() -> tf.keras.Model:
    """A residual network of 1-D convolutions with batch normalization."""
    K.utils.set_random_seed(0)
    source = K.Input((32, 2))
    x = L.Conv1D(8, 5, strides=2, padding="same", use_bias=False, name="first")(source)
    x = L.ReLU()(L.BatchNormalization()(x))
    x = L.Add(name="meet")([x, L.Conv1D(8, 3, padding="same", activation="tanh", name="branch")(x)])
    x = L.Flatten()(L.MaxPooling1D(2)(x))
    model = K.Model(source, L.Dense(3, activation="softmax", name="last")(x), name="waves")
    model.compile(K.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
    model.fit(*problem(0), epochs=6, batch_size=32, verbose=0)
    return model


@pytest.fixture(scope="module")
def made(trained: tf.keras.Model) -> Quantized:
    return edgelora.from_keras(trained, *problem(0, 200), LABELS)


def check_outputs(made: Quantized, file: bytes, x: np.ndarray) -> np.ndarray:
    """Real outputs for float samples, along the first axis of x, after checking that they are TensorFlow Lite Micro's,
    to the byte."""
    interpreter = runtime.Interpreter.from_bytes(file, arena_size=1_000_000)
    session, found = Session(made.elm, bytes(len(made.model.ops)), "infer"), []
    for row in made.model.input.quantize(x.reshape(len(x), *made.model.input.shape)):
        session.infer(row)
        interpreter.reset()
        interpreter.set_input(row.reshape(1, *x.shape[1:]), 0)
        interpreter.invoke()
        assert session.logits.tolist() == interpreter.get_output(0).reshape(-1).tolist()
        found.append(made.model.output.dequantize(session.logits))
    return np.stack(found)


def test_base_is_tflite_micros_to_the_byte(trained: tf.keras.Model, made: Quantized) -> None:
    x, y = problem(1, 200)
    found = check_outputs(made, keras.convert(trained, problem(0, 200)[0]), x)
    float_accuracy = np.mean(trained.predict(x, verbose=0).argmax(axis=1) == y)
    assert float_accuracy > 0.9 and np.mean(found.argmax(axis=1) == y) > float_accuracy - 0.02
    assert made.model.labels == LABELS and made.model.loss == "cross_entropy"


def test_tensorflows_quickstart_for_beginners(tmp_path: Path) -> None:
    """Flatten of 28x28, Dense(128), Dropout, Dense(10): equals TFLite Micro to the byte, and adapts to other images."""
    rng = np.random.default_rng(0)
    kinds = rng.random((2, 10, 7, 7)).repeat(4, 2).repeat(4, 3)

    def images(which: int, seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(count) % 10
        noise = np.random.default_rng(seed).normal(0, 0.2, (count, 28, 28))
        return (kinds[which, y] + noise).clip(0, 1).astype(np.float32), y

    K.utils.set_random_seed(0)
    model = K.Sequential([K.Input((28, 28)), L.Flatten(), L.Dense(128, activation="relu"), L.Dropout(0.2), L.Dense(10)])
    model.compile("adam", K.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = images(0, 1, 500)
    model.fit(x, y, epochs=3, verbose=0)
    made = edgelora.from_keras(model, x)
    assert [op.kind for op in made.model.ops] == ["dense", "dense"]
    check_outputs(made, keras.convert(model, x), images(0, 2, 100)[0])
    session = Session(made.elm, bytes([8, 8]), "frozen_a", 4)
    mine, other = (made.model.input.quantize(images(1, seed, 100)[0]) for seed in (3, 4))
    before = session.accuracy(other, images(1, 4, 100)[1])
    session.begin(1)
    for _ in range(8):
        session.train_all(mine, images(1, 3, 100)[1], 6000)
    session.flush(6000)
    session.use(session.save())
    assert before < 0.5 < 0.9 < session.accuracy(other, images(1, 4, 100)[1])
    np.savez(tmp_path / "mine.npz", x=images(1, 3, 60)[0], y=images(1, 3, 60)[1])
    model.save(tmp_path / "quickstart.keras")
    for args in ("import quickstart.keras --data mine.npz -o base.elm", "plan base.elm --data mine.npz --ram 20K"):
        done = subprocess.run(
            [COMMAND, *args.split()], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr


def test_report_compares_with_kerass_own_layers(trained: tf.keras.Model, made: Quantized) -> None:
    x, y = problem(0, 200)
    report = made.report
    assert report.float_accuracy == np.mean(trained.predict(x, verbose=0).argmax(axis=1) == y)
    assert abs(report.int8_accuracy - report.float_accuracy) < 0.02
    names = [layer.name for layer in report.layers]
    assert names[2:4] == ["branch", "meet"] and names[-2] == "last" and len(names) == len(made.model.ops)
    assert 15 < report.worst[0].sqnr_db < 60, str(report)


@slow
def test_command_imports_a_file(trained: tf.keras.Model, made: Quantized, tmp_path: Path) -> None:
    """With the signal of the data."""
    x, y = problem(0, 200)
    signal = Signal(50, 2, 32, 16, (Normal(0.01), Normal(0.02)), units="g")
    save_dataset(Dataset(x, y, LABELS, signal), tmp_path / "data.npz")
    trained.save(tmp_path / "waves.keras")
    args = f"import waves.keras --data data.npz --labels {','.join(LABELS)} -o base.elm --json".split()
    done = subprocess.run([COMMAND, *args], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["quality"]["samples"] == 200 and result["quality"]["int8_accuracy"] == made.report.int8_accuracy
    elm = (tmp_path / "base.elm").read_bytes()
    assert unpack_model(elm).signal == signal and elm == edgelora.from_keras(trained, x, y, LABELS, signal=signal).elm
    trained.save(tmp_path / "waves.h5")
    loaded = keras.load(tmp_path / "waves.h5")
    assert np.array_equal(loaded.predict(x[:5], verbose=0), trained.predict(x[:5], verbose=0))


@slow
def test_recurrences_are_unrolled() -> None:
    """Quantized loops crash TensorFlow, so recurrent layers are unrolled in a copy; the user's model is unchanged."""
    K.utils.set_random_seed(1)
    layers = [L.Bidirectional(L.SimpleRNN(4)), L.Lambda(lambda t: 2 * t), L.Dense(3)]
    model = K.Sequential([K.Input((6, 2)), L.SimpleRNN(5, return_sequences=True), *layers])
    x = np.random.default_rng(0).normal(size=(60, 6, 2)).astype(np.float32)
    before = model.predict(x, verbose=0)
    made = edgelora.from_keras(model, x)
    assert np.array_equal(model.predict(x, verbose=0), before)
    assert not any(layer.unroll for layer in model._flatten_layers() if isinstance(layer, L.SimpleRNN))
    check_outputs(made, keras.convert(model, x), x)
    assert made.report.worst[0].sqnr_db > 10, str(made.report)


LSTMS = {
    "last state": lambda: [L.LSTM(6)],
    "all states": lambda: [L.LSTM(6, return_sequences=True), L.Dropout(0.2), L.LSTM(4, use_bias=False)],
    "backwards": lambda: [L.LSTM(6, go_backwards=True)],
    "both ways": lambda: [L.Bidirectional(L.LSTM(6))],
    "both ways, all states": lambda: [L.Bidirectional(L.LSTM(6, return_sequences=True)), L.LSTM(4)],
    "added up": lambda: [L.Bidirectional(L.LSTM(6, return_sequences=True), merge_mode="sum"), L.Flatten()],
    "time distributed": lambda: [L.LSTM(5, return_sequences=True), L.TimeDistributed(L.Dense(2)), L.Flatten()],
}


@pytest.mark.parametrize("name", some([*LSTMS], 2))
def test_plain_lstm_is_one_op(name: str) -> None:
    """For any number of steps: TensorFlow Lite Micro's bytes from an empty state, and values close to Keras'."""
    K.utils.set_random_seed(5)
    model = K.Sequential([K.Input((70, 3)), *LSTMS[name](), L.Dense(3)])
    for layer in model._flatten_layers():  # as after training: gates open, so that states are not all near 0
        if isinstance(layer, L.LSTM):
            layer.set_weights([2 * value for value in layer.get_weights()])
    x = np.random.default_rng(0).normal(size=(80, 70, 3)).astype(np.float32)
    before = model.predict(x, verbose=0)
    made = edgelora.from_keras(model, x)
    assert np.array_equal(model.predict(x, verbose=0), before)
    layers = sum(isinstance(layer, L.LSTM) for layer in model._flatten_layers())
    assert sum(op.kind == "lstm" for op in made.model.ops) == layers
    found = check_outputs(made, keras.convert(model, x), x)
    noise = np.square(found - before.reshape(80, -1)).sum() / np.square(before).sum()
    assert noise < 0.003, f"{noise:.2e} of the energy"
    assert made.report.worst[0].sqnr_db > 20, str(made.report)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [L.LSTM(4, unroll=True)],
        lambda: [L.LSTM(4, activation="relu")],
        lambda: [L.Bidirectional(L.GRU(4))],
        lambda: [L.Masking(), L.LSTM(4)],
    ],
)
def test_other_recurrences_are_their_steps(layers) -> None:
    model = K.Sequential([K.Input((8, 3)), *layers(), L.Dense(3)])
    assert not keras._fused("model", list(model._flatten_layers()))
    assert any(layer.unroll for layer in keras._plain(model)._flatten_layers() if isinstance(layer, L.RNN))


def test_lstm_with_an_initial_state_is_its_steps() -> None:
    source = K.Input((8, 3))
    start = L.Dense(4)(L.Flatten()(source))
    model = K.Model(source, L.Dense(2)(L.LSTM(4)(source, initial_state=[start, start])))
    assert not keras._fused("model", list(model._flatten_layers()))


PARTS = {  # layers for which TensorFlow Lite Micro or EdgeLoRA have no operator
    "layer normalization": (
        (8, 5),
        lambda: [
            *(L.Dense(12), L.LayerNormalization(), L.ReLU(), L.Conv1D(6, 3), L.LayerNormalization(center=False)),
            L.GlobalAveragePooling1D(),
        ],
    ),
    **{
        f"normalization of groups, {fields}": (
            (7, 6, 2),
            lambda fields=fields: [
                *(L.Conv2D(4, 3), L.GroupNormalization(**fields), L.ReLU(), L.GlobalAveragePooling2D()),
            ],
        )
        for fields in ({"groups": 2}, {"groups": 1, "scale": False}, {"groups": -1, "center": False})
    },
    "l2_normalize of vectors": ((6,), lambda: [L.Dense(8), L.Lambda(lambda t: tf.math.l2_normalize(t, -1))]),
    **{
        f"{function.__name__}": (
            (12, 3),
            lambda function=function: [L.Conv1D(5, 3), L.Lambda(lambda t: function(t, axis=1), output_shape=(5,))],
        )
        for function in (tf.math.reduce_std, tf.math.reduce_variance)
    },
    "selu": (
        (10, 2),
        lambda: [
            *(L.Conv1D(8, 3, activation="selu"), L.Conv1D(8, 3), L.Activation("selu")),
            L.GlobalAveragePooling1D(),
        ],
    ),
    **{
        f"resizing to {size}": (
            (13, 9, 2),
            lambda size=size: [L.Resizing(*size), L.Conv2D(3, 1, activation="relu"), L.Flatten()],
        )
        for size in some([(5, 4), (13, 20), (26, 9), (1, 7)])
    },
}


@pytest.mark.parametrize("name", PARTS)
def test_layers_are_made_of_others(name: str) -> None:
    """In a copy: the user's model is unchanged. Square roots equal LiteRT's table, as TensorFlow Lite Micro lacks the
    operator; graphs without one equal TFLite Micro."""
    K.utils.set_random_seed(2)
    shape, layers = PARTS[name]
    model = K.Sequential([K.Input(shape), *layers(), L.Dense(3)])
    x = np.random.default_rng(0).normal(size=(80, *shape)).astype(np.float32)
    before = model.predict(x, verbose=0)
    assert np.allclose(keras._plain(model).predict(x, verbose=0), before, atol=1e-5)
    made, file = edgelora.from_keras(model, x), keras.convert(model, x)
    assert np.array_equal(model.predict(x, verbose=0), before)
    names = [operator.name for operator in keras.read_graph(file).operators]
    assert "SQUARED_DIFFERENCE" not in names and made.report.worst[0].sqnr_db > 20, str(made.report)
    if "SQRT" not in names:
        check_outputs(made, file, x)


@pytest.mark.parametrize("fields", some([{}, {"value_dim": 3}, {"use_bias": False, "output_shape": 4}]))
def test_attention_equals_tflite_micro(fields: dict) -> None:
    K.utils.set_random_seed(6)
    source = K.Input((9, 6))
    x = L.Dense(8)(source)
    x = L.MultiHeadAttention(num_heads=2, key_dim=4, **fields)(x, x)
    model = K.Model(source, L.Dense(3)(L.GlobalAveragePooling1D()(x)))
    x = np.random.default_rng(0).normal(size=(60, 9, 6)).astype(np.float32)
    made = edgelora.from_keras(model, x)
    assert [op.kind for op in made.model.ops].count("matmul") == 2 and made.model.rounds
    check_outputs(made, keras.convert(model, x), x)


def encoder(norm: type, after: bool, last: bool, causal: bool, symbols: int) -> tf.keras.Model:
    """Two blocks of attention and a feed-forward part, normalized before or after it; weights as after training."""
    K.utils.set_random_seed(7)
    source = K.Input((16,), dtype="int32") if symbols else K.Input((16, 5))
    x = L.Embedding(symbols, 12)(source) if symbols else L.Conv1D(12, 3, padding="same", activation="relu")(source)
    for activation in ("gelu", "silu"):
        y = x if after else norm()(x)
        x = L.Add()([x, L.Dropout(0.1)(L.MultiHeadAttention(2, 6)(y, y, use_causal_mask=causal))])
        x = norm()(x) if after else x
        y = x if after else norm()(x)
        x = L.Add()([x, L.Dense(12)(L.Dense(20, activation=activation)(y))])
        x = norm()(x) if after else x
    x = norm()(x) if last else x
    x = L.Dense(symbols)(x) if symbols else L.Dense(4, activation="softmax")(L.GlobalAveragePooling1D()(x))
    model, rng = K.Model(source, x), np.random.default_rng(7)
    for variable in model.variables:
        if variable.path.endswith(("gamma", "scale")):
            variable.assign(rng.uniform(0.5, 2, variable.shape))
        elif variable.path.endswith(("beta", "bias")):
            variable.assign(rng.normal(0, 0.3, variable.shape))
    return model


def check_fused(made: Quantized, model: tf.keras.Model, x: np.ndarray) -> None:
    """Asserts that the base's outputs are 20 dB above their difference from Keras'."""
    session, found = Session(made.elm, bytes(len(made.model.ops)), "infer"), []
    wanted = model.predict(x, verbose=0).reshape(len(x), -1)
    for row in made.model.quantize(x.reshape(len(x), *made.net.input_shape)):
        session.infer(np.ascontiguousarray(row))
        found.append(made.model.output.dequantize(session.logits.astype(np.int64).reshape(-1)))
    assert 10 * np.log10(np.mean(np.square(found - wanted)) / np.var(wanted)) < -20


@pytest.mark.parametrize(
    ("norm", "after", "last", "causal", "symbols", "streams"),
    some(
        [
            (L.LayerNormalization, False, True, False, 0, 5),
            (L.RMSNormalization, False, True, True, 0, 5),
            (L.LayerNormalization, True, False, False, 0, 8),
            (L.LayerNormalization, False, False, False, 0, 4),
            (L.LayerNormalization, False, True, True, 40, 5),
        ],
        2,
    ),
)
def test_transformers_are_fused(
    norm: type, after: bool, last: bool, causal: bool, symbols: int, streams: int, tmp_path: Path
) -> None:
    """Attention and norms are one op each, and sums that norms read are streams; the outputs are Keras'."""
    model, rng = encoder(norm, after, last, causal, symbols), np.random.default_rng(0)
    x = rng.integers(0, symbols, (60, 16)) if symbols else rng.normal(0, rng.uniform(0.2, 3, (60, 1, 1)), (60, 16, 5))
    made = edgelora.from_keras(model, x, fused=True)
    kinds = [op.kind for op in made.model.ops]
    assert kinds.count("attend") == 2 and kinds.count("norm") == 4 + last and made.model.rounds
    assert sum(tensor.wide for tensor in made.model.tensors) == streams
    check_fused(made, model, x)
    made.save(tmp_path / "base.elm")
    able = trainable(made.elm, len(kinds))
    assert able == [i for i, op in enumerate(made.model.ops) if op.is_matrix]


class Shaped(L.Layer):
    """Calls a function of TensorFlow."""

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x + tf.cast(tf.shape(x)[1], tf.float32)


class Positions(L.Layer):
    """keras.io's TokenAndPositionEmbedding, or without symbols only its positions."""

    def __init__(self, rows: int, symbols: int, size: int) -> None:
        super().__init__()
        self.tokens = L.Embedding(symbols, size) if symbols else L.Dense(size)
        self.places = L.Embedding(rows, size)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return self.tokens(x) + self.places(K.ops.arange(0, x.shape[1], 1))


class Block(L.Layer):
    """keras.io's TransformerBlock."""

    def __init__(self, heads: int, size: int) -> None:
        super().__init__()
        self.attention = L.MultiHeadAttention(heads, size)
        self.forward = K.Sequential([L.Dense(24, activation="relu"), L.Dense(size)])
        self.norms = [L.LayerNormalization(epsilon=1e-6) for _ in range(2)]
        self.dropout = L.Dropout(0.1)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        x = self.norms[0](x + self.dropout(self.attention(x, x), training=training))
        return self.norms[1](x + self.dropout(self.forward(x), training=training))


@pytest.mark.parametrize("symbols", [0, 30])
def test_layers_of_ones_own_are_fused_by_what_they_are_made_of(symbols: int) -> None:
    K.utils.set_random_seed(9)
    source, size = K.Input((9,) if symbols else (9, 4)), 12
    x = L.LayerNormalization()(Positions(9, symbols, size)(source))
    model = K.Model(source, L.Dense(3)(L.GlobalAveragePooling1D()(Block(2, size)(x))))
    rng = np.random.default_rng(0)
    x = rng.integers(0, symbols, (60, 9)) if symbols else rng.normal(size=(60, 9, 4))
    calls = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    made = edgelora.from_keras(model, x, fused=True)
    kinds = [op.kind for op in made.model.ops]
    assert kinds[:3] == ["constant", "embed" if symbols else "project", "norm"] and kinds.count("attend") == 1
    assert kinds.count("add") == 0 and [len(layer._inbound_nodes) for layer in model._flatten_layers()] == calls
    check_fused(made, model, x)


def test_layers_that_cannot_be_fused() -> None:
    source = K.Input((9, 6))
    x = L.MultiHeadAttention(2, 3)(source, source)
    for layer, message in ((L.UnitNormalization(), "UnitNormalization"), (L.Dense(4, "elu"), "activation elu")):
        with pytest.raises(keras_fused.FusedError, match=message):
            edgelora.from_keras(K.Model(source, layer(x)), np.zeros((4, 9, 6)), fused=True)
    ids = K.Input((9,))
    with pytest.raises(keras_fused.FusedError, match="sums that it reads, can read an Embedding: put a Layer"):
        edgelora.from_keras(K.Model(ids, L.Dense(4)(L.Embedding(7, 6)(ids))), np.zeros((4, 9)), fused=True)
    with pytest.raises(keras_fused.FusedError, match="own-network.md"):
        x = L.UnitNormalization()(L.LayerNormalization()(L.Embedding(7, 6)(ids)))
        edgelora.from_keras(K.Model(ids, x), np.zeros((4, 9)), fused=True)
    with pytest.raises(keras_fused.FusedError, match=r"Shaped\): its call can't be read .*keras.ops"):
        edgelora.from_keras(K.Model(source, Shaped()(source)), np.zeros((4, 9, 6)), fused=True)
    with pytest.raises(keras_fused.FusedError, match=r"mask_zero=True\): replace it"):
        x = L.GlobalAveragePooling1D()(L.LayerNormalization()(L.Embedding(7, 6, mask_zero=True)(ids)))
        edgelora.from_keras(K.Model(ids, x), np.arange(36).reshape(4, 9) % 3, fused=True)
    masked = L.MultiHeadAttention(2, 3)(source, source, use_causal_mask=True)
    with pytest.raises(KerasError, match="--fused"):
        edgelora.from_keras(K.Model(source, masked), np.random.default_rng(0).normal(size=(20, 9, 6)))


def test_bases_that_operators_ruin_are_told() -> None:
    """Rows of different sizes and a large channel: their variances need more than 8 bits."""
    K.utils.set_random_seed(8)
    source = K.Input((9, 64))
    model = K.Model(source, L.Dense(16)(L.RMSNormalization()(source)))
    rng = np.random.default_rng(0)
    x = rng.normal(0, np.exp(rng.normal(0, 0.7, (80, 9, 1))), (80, 9, 64))
    x[..., 3] *= 4
    told = keras.loses_by_parts(model, edgelora.from_keras(model, x))
    assert re.search(r"signal of -?\d+\.\d dB above INT8's noise \(worst: .*--fused", told)
    fused = edgelora.from_keras(model, x, fused=True)
    assert keras.loses_by_parts(model, fused) is None
    assert fused.report.layers[-1].sqnr_db > 20


def test_long_recurrences_are_refused_before_they_are_converted() -> None:
    model = K.Sequential([K.Input((128, 9)), L.Bidirectional(L.GRU(8)), L.Dense(3)])
    with pytest.raises(
        KerasError, match=r"of 128 steps\) take at least 4608 ops, the limit is 511: put a strided convolution"
    ):
        edgelora.from_keras(model, np.zeros((4, 128, 9), np.float32))


def test_refusals(trained: tf.keras.Model, tmp_path: Path) -> None:
    x, _ = problem(0, 20)
    with pytest.raises(KerasError, match=r"inputs are \[20, 31, 2\], must be finite \[N, 32, 2\]"):
        edgelora.from_keras(trained, x[:, 1:])
    with pytest.raises(KerasError, match="takes inputs of any size"):
        edgelora.from_keras(K.Sequential([K.Input((None, 2)), L.GlobalAveragePooling1D(), L.Dense(2)]), x)
    source = K.Input((32, 2))
    with pytest.raises(KerasError, match="only groups of the last axis .* axis=-1"):
        edgelora.from_keras(K.Sequential([source, L.GroupNormalization(2, axis=1), L.Dense(2)]), x)
    with pytest.raises(KerasError, match="several inputs or outputs"):
        edgelora.from_keras(K.Model(source, [L.Dense(2)(source), source]), x)
    with pytest.raises(TfliteError, match=r"operator \d+ [A-Z_]+ \(tensor '.+'\)"):
        late = [L.Conv1D(3, 3), L.Activation("softsign"), L.Flatten(), L.Dense(2)]
        model = K.Sequential([K.Input((32, 2)), *late])
        edgelora.from_keras(model, x)
    (tmp_path / "bad.keras").write_bytes(b"no model")
    with pytest.raises(KerasError, match="Keras can.t read it as a model"):
        edgelora.from_keras(tmp_path / "bad.keras", x)
