"""Streaming networks: the wake words of `pymicro_wakeword`, frame by frame, and state that is not a ring buffer."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from fresh import fresh_seeds
from reference import forward_sample

from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.formats.network import QuantModel, Tensor
from edgelora.core.front_ends import AudioFrontEnd, heard_as
from edgelora.core.twin.session import Session
from edgelora.model.datasets import speech
from edgelora.model.datasets.babble import babble
from edgelora.model.datasets.speech import Voice
from edgelora.model.importers.tflite.convert import calibrate, import_tflite, inputs_for_calibration
from edgelora.model.importers.tflite.flatbuffer import TfliteError
from edgelora.model.quantization import adapter_fit

pytest.importorskip("tflite_micro")
from recurrent_sketches import SvdfSketch
from tflite_writer import BUILTIN, GRID, TYPE, Sketch, packed, schema
from wake_words import FRAMES, WAKE_WORDS, ending_at, inner_tensors, micro_outputs, sound, wake_word

SENTENCE = "Good morning, where did you put the keys of the car? I need them now, and a cup of tea would be nice, too."


def session(model: QuantModel, **options) -> Session:
    return Session(pack_model(model), bytes(len(model.ops)), "infer", **options)


@pytest.mark.parametrize("name", WAKE_WORDS)
def test_wake_words_are_those_of_tflite_micro(name: str) -> None:
    """Every byte of the output and of inner layers' outputs, over frames with state."""
    frames = sound(FRAMES)
    for tensor in [None, *inner_tensors(wake_word(name))]:
        file = wake_word(name) if tensor is None else ending_at(wake_word(name), tensor)
        model, expected = import_tflite(file), micro_outputs(file, frames)
        for plain in (False, True):
            mine = session(model, plain=plain)
            for turn, (frame, wanted) in enumerate(zip(frames, expected, strict=True)):
                mine.infer(frame)
                assert mine.logits.tolist() == wanted, f"tensor {tensor}, frame {turn}"
            mine.reset()
            mine.infer(frames[0])
            assert mine.logits.tolist() == expected[0]


def test_wake_word_says_yes_or_no() -> None:
    model = import_tflite(wake_word("alexa"), ["else", "alexa"])
    assert (model.loss, model.classes, model.labels) == ("binary_cross_entropy", 2, ["else", "alexa"])
    assert pack_model(unpack_model(pack_model(model))) == pack_model(model)
    assert sum(op.kind == "history" for op in model.ops) == 6 and not any(op.kind == "reshape" for op in model.ops)


def test_layer_inputs_of_a_sample_are_those_of_its_last_frame() -> None:
    model = import_tflite(wake_word("alexa"))
    elm, samples = pack_model(model), np.stack([sound(8, seed) for seed in range(3)])
    expected = [forward_sample(model, sample) for sample in samples]
    for index, found in adapter_fit.op_inputs(
        elm, [i for i, op in enumerate(model.ops) if op.is_matrix], samples
    ).items():
        read = model.ops[index].input
        assert [x.reshape(-1).tolist() for x in found] == [t.y[read].reshape(-1).tolist() for t in expected]


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed: `make setup`")
@pytest.mark.parametrize("name", WAKE_WORDS)
def test_adapters_are_calibrated_as_on_speech(name: str) -> None:
    """By babble, where there is a front end and no data; noise over the whole range makes them far too weak."""
    voices = ("en-us", "en-gb+f3", "de", "fr+m4")
    said = [speech.speak(Voice("espeak-ng", voice), SENTENCE, 1.0, 0.0) for voice in voices]
    sound = np.concatenate([np.round(one * 8000 / np.abs(one).max()) for one in said]).astype(np.int16)
    rows = AudioFrontEnd("firmware").feed(sound)
    windows = np.stack([rows[at : at + 150].reshape(50, 1, 3, 40) for at in range(0, len(rows) - 150, 9)])
    found: list[list[int]] = []
    for front, x in (("firmware", windows), ("firmware", None), (None, None)):
        model = import_tflite(wake_word(name))
        model.signal = heard_as(front, model.input) if front else None
        calibrate(model, inputs_for_calibration(model, x))
        found.append([op.branch_shift for op in model.ops if op.is_matrix])
    on_speech, on_babble, on_noise = map(np.array, found)
    assert np.abs(on_babble - on_speech).max() <= 1
    assert (on_noise < on_speech).all() and (on_speech - on_noise).max() >= 3


def test_babble_is_the_same_everywhere() -> None:
    sound = babble(3)
    assert (len(sound), sound.dtype) == (48000, np.int16) and np.abs(sound.astype(int)).max() == 32767
    assert zlib.crc32(sound.tobytes()) == 0xC0DA8A3E
    assert not np.array_equal(sound, babble(3, 1))


# ---- SVDF ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", fresh_seeds(6))
def test_svdf_is_that_of_tflite_micro(seed: int) -> None:
    """Every byte, over frames with state: ranks, memories of one, activations, consecutive layers."""
    rng = np.random.default_rng(seed)
    expected: list = []
    while len({tuple(y) for y in expected}) <= 20:  # outputs that are all at one end of the grid would test little
        inputs = int(rng.integers(1, 30))
        sketch = SvdfSketch(1, inputs, grid=(0.04, int(rng.integers(-128, 128))))
        for _ in range(2):
            units, memory, rank, fused = rng.integers((1, 1, 1, 0), (9, 12, 4, 2)).tolist()
            zero_point = -128 if fused else int(rng.integers(-40, 40))
            sketch.svdf(units, memory, rank, fused, zero_point, wide=bool(rng.integers(2)))
        file = sketch.file()
        frames = rng.integers(-128, 128, (40, 1, inputs)).astype(np.int8)
        model, expected = import_tflite(file), micro_outputs(file, frames)
    for plain in (False, True):
        mine = session(model, plain=plain)
        for turn, (frame, wanted) in enumerate(zip(frames, expected, strict=True)):
            mine.infer(frame)
            assert mine.logits.tolist() == wanted, f"frame {turn}"


def svdf_with(change: Callable[[SvdfSketch], None], **options) -> bytes:
    sketch = SvdfSketch(1, 5).svdf(4, 3, **options)
    change(sketch)
    return sketch.file()


def sixteen_bits(sketch: SvdfSketch) -> None:
    sketch.tensors[sketch.state].type = TYPE.INT16


def scales_by_unit(sketch: SvdfSketch) -> None:
    sketch.tensors[sketch.state - 2].quantization = schema.QuantizationParametersT([], [], [0.01] * 4, [0] * 4)


def state_of_two(sketch: SvdfSketch) -> None:
    first = sketch.state
    sketch.svdf(4, 3).operators[-1].inputs[4] = first


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (
            lambda: svdf_with(sixteen_bits),
            "operator 0 SVDF .*is int8: its state and its weights over time must both be int8 or both int16",
        ),
        (lambda: svdf_with(scales_by_unit), "must have one scale each"),
        (
            lambda: svdf_with(lambda s: setattr(s.tensors[s.state - 2].quantization, "zeroPoint", None), wide=True),
            "one scale and zero point 0",
        ),
        (lambda: svdf_with(lambda s: setattr(s.tensors[s.state], "isVariable", False)), "must be a variable"),
        (
            lambda: svdf_with(lambda s: setattr(s.tensors[s.state], "shape", [1, 11])),
            r"is \[1, 11\], must be \[1, 12\]",
        ),
        (lambda: svdf_with(lambda s: setattr(s.tensors[s.state].quantization, "zeroPoint", [1])), "zero point 1"),
        (lambda: svdf_with(lambda s: setattr(s.tensors[s.state - 1].quantization, "scale", [0.5])), "has scale 0.5"),
        (lambda: svdf_with(lambda s: s.operators[0].inputs.__setitem__(3, -1)), "omits its bias"),
        (lambda: svdf_with(lambda s: None, fused=1), "skips its activation RELU"),
        (lambda: svdf_with(lambda s: setattr(s.operators[0].builtinOptions, "rank", 3)), r"\[4, 3\] of rank 3"),
        (lambda: svdf_with(state_of_two), "used nowhere else"),
        (lambda: svdf_with(lambda s: setattr(s.tensors[s.state - 1], "isVariable", True)), "it keeps a variable"),
    ],
)
def test_other_svdf_is_refused(file: Callable[[], bytes], message: str) -> None:
    with pytest.raises(TfliteError, match=message):
        import_tflite(file())


# ---- state that isn't a ring buffer ----------------------------------------------------------------------------------

HELD, NEW, ALL = (1, 4, 1, 3), (1, 2, 1, 3), (1, 6, 1, 3)


class StateSketch(Sketch):
    """A ring buffer in steps that a test can change."""

    def __init__(self) -> None:
        super().__init__(*NEW)
        self.grid = Tensor((4, 1, 3), *GRID)
        self.variable = self.handle("ring")
        self.initial.append(("ring", np.full(HELD, 5, np.int8), self.grid))
        self.held = self.joined = self.last

    def ring(self, *, axis: int = 1, start: int = -4, swapped: bool = False) -> StateSketch:
        self.held = self.read(self.variable, HELD, self.grid)
        self.joined = self.tensor(ALL)
        self.join(*((self.last, self.held) if swapped else (self.held, self.last)), self.joined, axis)
        rest = self.tensor((1, -start, 1, 3))
        self.part(self.joined, rest, 1, start, 0)
        self.assign(self.variable, rest)
        self.last = self.joined
        return self


def ringed(change: Callable[[StateSketch], None] = lambda _: None, **options) -> bytes:
    sketch = StateSketch().ring(**options)
    change(sketch)
    return sketch.dense(18, 3).file()


def second_reader(sketch: StateSketch) -> None:
    options = schema.AddOptionsT()
    sketch._operator(BUILTIN.ADD, [sketch.held, sketch.held], [sketch.tensor(HELD)], options)


def two_values(sketch: StateSketch) -> None:
    sketch.assign(sketch.variable, sketch.held)


def early_assignment(sketch: StateSketch) -> None:
    sketch.operators.insert(1, sketch.operators.pop())


def early_read(sketch: StateSketch) -> None:
    sketch.operators.insert(0, sketch.operators.pop(1))


def other_grid(sketch: StateSketch) -> None:
    sketch.tensors[sketch.held].quantization.scale = [0.5]


def no_value(sketch: StateSketch) -> None:
    sketch.initial[0] = ("other", *sketch.initial[0][1:])


def short_value(sketch: StateSketch) -> None:
    sketch.initial[0] = ("ring", np.zeros((1, 3, 1, 3), np.int8), sketch.grid)


def test_a_ring_buffer_with_initial_values() -> None:
    file = ringed()
    model = import_tflite(file)
    assert [op.kind for op in model.ops] == ["history", "dense"] and model.ops[0].initial.tolist() == [5] * 12
    frames = np.random.default_rng(0).integers(-128, 128, (20, 2, 1, 3)).astype(np.int8)
    expected = micro_outputs(file, frames.reshape(-1, *NEW))
    mine = session(model)
    for frame, wanted in zip(frames, expected, strict=True):
        mine.infer(frame)
        assert mine.logits.tolist() == wanted


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (lambda: ringed(second_reader), r"operator 2 READ_VARIABLE .*is used 2 times; a variable must be a ring"),
        (lambda: ringed(two_values), "isn't read once and then assigned once"),
        (lambda: ringed(early_assignment), "operator 2 ASSIGN_VARIABLE comes before"),
        (lambda: ringed(early_read), "operator 1 READ_VARIABLE comes before"),
        (lambda: ringed(other_grid), "must have the same scale and zero point"),
        (lambda: ringed(no_value), "has no initial value: it must be assigned by CALL_ONCE"),
        (lambda: ringed(short_value), "assigned to it doesn't match"),
        (lambda: ringed(swapped=True), "READ_VARIABLE .*operator 3 CONCATENATION reads it"),
        (lambda: ringed(start=-3), "assigned to it doesn't match"),
        (lambda: ringed(axis=3), "concatenates it along axis 3"),
        (lambda: ringed(lambda s: s.initial.clear()), "has no initial value"),
    ],
)
def test_other_state_is_refused(file: Callable[[], bytes], message: str) -> None:
    with pytest.raises(TfliteError, match=message):
        import_tflite(file())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.subgraphs[1].operators.reverse(), "operator 0 ASSIGN_VARIABLE comes before"),
        (
            lambda model: setattr(model.subgraphs[1].operators[0], "opcodeIndex", 3),
            "of the subgraph that CALL_ONCE runs",
        ),
        (lambda model: setattr(model.subgraphs[1].tensors[0], "type", TYPE.INT32), "must be int8"),
        (lambda model: setattr(model.subgraphs[1].tensors[0], "buffer", 0), "comes before 't0'"),
        (lambda model: setattr(model.subgraphs[0].operators[0].builtinOptions, "initSubgraphIndex", 0), "CALL_ONCE"),
        (
            lambda model: model.subgraphs[0].operators.append(model.subgraphs[0].operators.pop(0)),
            "before all variables",
        ),
        (lambda model: model.subgraphs[0].operators.pop(0), "2 subgraphs, must have one"),
        (lambda model: model.subgraphs.pop(), "CALL_ONCE"),
        (lambda model: setattr(model.subgraphs[0].operators[2], "inputs", [0]), "has no VAR_HANDLE"),
    ],
)
def test_broken_initialization_is_refused(change: Callable[[schema.ModelT], None], message: str) -> None:
    model = schema.ModelT.InitFromPackedBuf(bytearray(ringed()))
    change(model)
    with pytest.raises(TfliteError, match=message):
        import_tflite(packed(model))


# ---- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begin", "end", "step", "message"),
    [
        ((0, 0, 0), (1, 8, 6), (1, 2, 1), "has steps"),
        ((0, 3, 0), (1, 3, 6), (1, 1, 1), "empty, or out of range"),
        ((0, 0), (1, 8), (1, 1), "slices 2 axes of 3"),
        ((0, 0, 1), (1, 8, 6), (1, 1, 1), "output has shape"),
    ],
)
def test_other_slices_are_refused(begin, end, step, message: str) -> None:
    sketch = Sketch(1, 8, 6)
    options = schema.StridedSliceOptionsT()
    sketch.add(BUILTIN.STRIDED_SLICE, options, (1, 8, 6), *[sketch.ints(*v) for v in (begin, end, step)])
    with pytest.raises(TfliteError, match=rf"operator 0 STRIDED_SLICE .*{message}"):
        import_tflite(sketch.dense(48, 3).file())
