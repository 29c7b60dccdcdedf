"""LSTM operators against TensorFlow Lite Micro, with the empty state that a base has before every inference."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fresh import fresh_seeds
from random_models import random_model
from reference import forward
from sanitized import CORE

from edgelora.base.errors import InputError
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin import binding
from edgelora.core.twin.binding import TwinError, check_model
from edgelora.core.twin.session import Session
from edgelora.core.twin.trainable import trainable
from edgelora.learn.training.recipe import Recipe
from edgelora.model.importers.tflite.convert import import_tflite
from edgelora.model.importers.tflite.flatbuffer import TfliteError

pytest.importorskip("tflite_micro")
from recurrent_sketches import BIASES, CELL, STATE, LstmSketch
from tflite_writer import BUILTIN, TYPE, TflmModel, schema


def inputs_of(rng: np.random.Generator, model: QuantModel, count: int = 8) -> list[np.ndarray]:
    """Random inputs, and the ends of the range."""
    noise = [rng.integers(-128, 128, model.input.shape) for _ in range(count)]
    ends = [rng.choice([-128, 127], model.input.shape), np.full(model.input.shape, rng.choice([-128, 127]))]
    return [x.astype(np.int8) for x in (*noise, *ends)]


def check_same(file: bytes, rng: np.random.Generator) -> QuantModel:
    """The twin and the reference equal TensorFlow Lite Micro in every byte."""
    model = import_tflite(file)
    elm = pack_model(model)
    check_model(elm)
    session = Session(elm, bytes(len(model.ops)), "infer")
    inputs, micro = inputs_of(rng, model), TflmModel(file)
    for turn, x in enumerate(inputs):
        wanted = micro(x, reset=True).tolist()
        session.infer(x)
        assert session.logits.reshape(-1).tolist() == wanted, f"input {turn}"
        if turn in (0, len(inputs) - 1):
            assert forward(model, x).logits.tolist() == wanted
    return model


@pytest.mark.parametrize("seed", fresh_seeds(8))
def test_lstm_is_that_of_tflite_micro(seed: int) -> None:
    """Sizes, grids, cells with every valid power of two, clips; saturated gates, states and sums."""
    rng = np.random.default_rng(seed)
    for _ in range(6):
        steps, inputs = int(rng.integers(2, 20)), int(rng.integers(1, 20))
        sketch = LstmSketch(
            1, steps, inputs, grid=(float(rng.choice([0.003, 0.04, 1.7])), int(rng.integers(-128, 128)))
        )
        sketch.rng = np.random.default_rng(int(rng.integers(1 << 30)))
        for _ in range(int(rng.integers(1, 3))):
            wide = rng.random() < 0.3  # extreme weights, biases that saturate
            sketch.lstm(
                int(rng.integers(1, 20)),
                power=int(rng.integers(-15, 0)),
                clip=float(rng.choice([0, 0, 10, 0.7, 1e-7])),
                gain=float(rng.choice([0.3, 1, 3, 40])),
                grid=(float(rng.uniform(0.002, 0.012)), int(rng.integers(-128, 128))),
                weights=(-127, -120) if wide else (-127, 128),
                largest=1 << 22 if wide else 3000,
            )
        file = (sketch.last_step() if rng.random() < 0.5 else sketch).file()
        check_same(file, rng)


def test_only_the_last_state_is_kept_where_only_it_is_read() -> None:
    rng = np.random.default_rng(3)
    whole, last = (
        check_same(make(LstmSketch(1, 12, 4).lstm(5)).file(), rng) for make in (lambda s: s, LstmSketch.last_step)
    )
    assert [t.shape for t in (whole.output, last.output)] == [(1, 12, 5), (1, 1, 5)]
    assert [op.kind for op in last.ops] == ["lstm"]


def test_parts_that_are_not_the_last_state_are_slices() -> None:
    sketch = LstmSketch(1, 12, 4).lstm(5)
    options = schema.StridedSliceOptionsT(beginMask=5, endMask=5, shrinkAxisMask=2)
    bounds = [sketch.ints(*values) for values in ((0, 3, 0), (0, 4, 0), (1, 1, 1))]
    sketch.add(BUILTIN.STRIDED_SLICE, options, (1, 5), *bounds, grid=(1 / 128, 0))
    model = check_same(sketch.file(), np.random.default_rng(1))
    assert [op.kind for op in model.ops] == ["lstm", "slice"]


@pytest.mark.parametrize("axis", [1, 2, -1, -2])
def test_reversed_positions(axis: int) -> None:
    """As for the backward part of a bidirectional layer."""
    model = check_same(LstmSketch(1, 9, 4).reverse(axis).lstm(3).reverse(axis).file(), np.random.default_rng(2))
    assert [op.kind for op in model.ops] == ["gather", "lstm", "gather"]


def test_output_bytes_are_the_states_for_any_grid_of_the_output() -> None:
    """TensorFlow's converter gives the output the grid of a CONCATENATION after it; TFLite copies the state there."""
    sketch = LstmSketch(1, 9, 4).lstm(3)
    sketch.tensors[sketch.last].quantization.scale = [1 / 100]
    sketch.tensors[sketch.last].quantization.zeroPoint = [5]
    model = check_same(sketch.file(), np.random.default_rng(2))
    assert (round(model.output.scale, 4), model.output.zero_point) == (0.01, 5)


def test_every_inference_begins_with_an_empty_state() -> None:
    model = import_tflite(LstmSketch(1, 6, 4).lstm(5).file())
    session = Session(pack_model(model), bytes(1), "infer")
    x = inputs_of(np.random.default_rng(1), model)[0]
    first = [session.infer(x), session.logits.tolist()]
    assert [session.infer(x), session.logits.tolist()] == first


def changed(change: Callable[[LstmSketch, list[int]], object], steps: int = 6) -> bytes:
    sketch = LstmSketch(1, steps, 4).lstm(5)
    change(sketch, sketch.operators[-1].inputs)
    return sketch.file()


def with_tensor(place: int, **fields: object) -> Callable[[LstmSketch, list[int]], None]:
    def change(sketch: LstmSketch, inputs: list[int]) -> None:
        tensor = sketch.tensors[inputs[place]]
        for name, value in fields.items():
            setattr(tensor.quantization if hasattr(tensor.quantization, name) else tensor, name, value)

    return change


def with_option(name: str, value: object) -> Callable[[LstmSketch, list[int]], None]:
    return lambda sketch, inputs: setattr(sketch.operators[-1].builtinOptions, name, value)


def with_input(place: int, index: int) -> Callable[[LstmSketch, list[int]], None]:
    return lambda sketch, inputs: inputs.__setitem__(place, inputs[index] if index >= 0 else -1)


def with_computed_bounds(sketch: LstmSketch, inputs: list[int]) -> None:
    sketch.last_step().operators[-1].inputs[1] = 0


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (lambda: changed(lambda s, i: None, steps=1), "sees one position.*give it complete windows"),
        (lambda: changed(with_input(9, 1)), "has peephole connections"),
        (lambda: changed(with_input(16, 1)), "has a projection"),
        (lambda: changed(with_input(20, 12)), "has layer normalization"),
        (lambda: changed(with_input(1, -1)), "has no input gate"),
        (lambda: changed(with_input(2, -1)), "input 2 is missing"),
        (lambda: changed(with_input(13, -1)), "omits its bias"),
        (lambda: changed(with_option("fusedActivationFunction", 1)), "activation is number 1, must be tanh"),
        (lambda: changed(with_computed_bounds), "must be constant integers"),
        (lambda: changed(with_option("timeMajor", True)), "first axis is time"),
        (lambda: changed(with_option("cellClip", float("nan"))), "clips its cell at nan"),
        (lambda: changed(with_option("cellClip", -1.0)), "clips its cell at -1"),
        (lambda: changed(with_tensor(STATE, isVariable=False)), "its state .* must be int8, a variable"),
        (lambda: changed(with_tensor(CELL, type=TYPE.INT8)), "its cell .* is int8, must be int16"),
        (lambda: changed(with_tensor(CELL, scale=[0.0003])), "has scale 0.0003, must be a power of two"),
        (lambda: changed(with_tensor(CELL, scale=[8.0])), "scale 2\\^3, must be 2\\^-27 to 2\\^2"),
        (lambda: changed(with_tensor(CELL, scale=[2.0**-120])), "scale 2\\^-120"),
        (lambda: changed(with_tensor(CELL, zeroPoint=None)), "must have one scale and zero point 0"),
        (lambda: changed(with_tensor(CELL, zeroPoint=[1])), "must have one scale and zero point 0"),
        (lambda: changed(with_tensor(STATE, shape=[5])), r"\[5\], must be \[1, 5\]"),
        (lambda: changed(with_tensor(1, isVariable=True)), "it keeps a variable"),
        (lambda: changed(with_tensor(CELL, shape=[1, 6])), r"\[1, 6\], must be \[1, 5\]"),
        (lambda: changed(with_tensor(2, shape=[4, 5])), "must be \\[5, 4\\] of one scale"),
        (lambda: changed(with_tensor(6, scale=[0.1] * 5, zeroPoint=[0] * 5)), "of one scale"),
        (lambda: changed(with_tensor(BIASES, type=TYPE.INT8)), "must be 5 int32 constants"),
    ],
)
def test_other_lstm_is_refused(file: Callable[[], bytes], message: str) -> None:
    with pytest.raises(TfliteError, match=message):
        import_tflite(file())


def test_nothing_below_an_lstm_trains() -> None:
    """By default only layers above it train; choosing a layer below it is an error."""
    model = random_model(1, kinds=("conv", "lstm", "dense"), edges=False)
    elm, last = pack_model(model), len(model.ops) - 1
    assert trainable(elm, last + 1) == [last]
    assert Recipe(rank=4).ranks(elm) == bytes([*[0] * last, 4])
    everywhere = bytes([2, *[0] * (last - 1), 2])
    Session(elm, everywhere, "infer").infer(np.zeros(model.input.shape, np.int8))
    with pytest.raises(TwinError, match="0 on layers below an lstm"):
        Session(elm, everywhere, "frozen_a")
    with pytest.raises(InputError, match=r"op 0 \(conv\) can't train: it is below an lstm"):
        Recipe(given_ranks=tuple(everywhere)).ranks(elm)
    session = Session(elm, Recipe(rank=4).ranks(elm), "frozen_a", 1)
    session.begin(1)
    before = session.save()
    session.train(np.full(model.input.shape, 50, np.int8), 0, 60000)
    assert session.save() != before


def test_a_network_without_a_layer_that_trains_is_refused() -> None:
    elm = pack_model(random_model(1, kinds=("conv", "lstm"), edges=False, loss="mean_squared_error"))
    assert not trainable(elm, 2)
    with pytest.raises(InputError, match="no layer can train"):
        Recipe().ranks(elm)


def test_a_build_without_lstm_says_so(tmp_path: Path) -> None:
    """Like the native module for stock RP2040 firmware, which has no room for it."""
    library = tmp_path / "without.so"
    sources = [path for path in (CORE / "formats", CORE) for path in path.glob("*.c")]
    flags = ["-std=c99", "-shared", "-fPIC", "-DEDGELORA_RECURRENT=0", f"-I{CORE}"]
    subprocess.run(["cc", *flags, *map(str, sources), "-o", str(library)], check=True)
    check = ctypes.CDLL(str(library)).edgelora_model_check

    def checked(kinds: tuple[str, ...]) -> int:
        file = pack_model(random_model(1, kinds=kinds, edges=False))
        return int(check(ctypes.create_string_buffer(file), len(file)))

    assert checked(("lstm", "dense")) == checked(("svdf", "dense")) == binding.statuses()["ERR_UNSUPPORTED"]
    assert checked(("conv", "dense")) == 0
