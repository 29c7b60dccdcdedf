"""`edgelora merge`: TensorFlow Lite Micro computes the same from the merged file as a board that merges the adapter."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from audio_oracles import decided, micro_frontend, wakeword_decisions
from commands import edgelora, result
from fresh import fresh_seeds, in_full_runs, some
from random_models import random_adapter, random_input, random_model

from edgelora.base.errors import InputError
from edgelora.base.resources import ROOT
from edgelora.core.formats import fixed_point
from edgelora.core.formats.ela import Adapter, pack_adapter, unpack_adapter
from edgelora.core.formats.elm import base_id, pack_model, unpack_model
from edgelora.core.formats.network import LOSSES, QuantModel, Tensor
from edgelora.core.formats.wake_manifest import load_manifest
from edgelora.core.front_ends import AudioFrontEnd, heard_as
from edgelora.core.twin.session import Session
from edgelora.learn.wake.word import imported as imported_word
from edgelora.model.datasets import speech
from edgelora.model.datasets.speech import Voice
from edgelora.model.importers.tflite import convert, write
from edgelora.model.importers.tflite.convert import import_tflite, inputs_for_calibration
from edgelora.model.importers.tflite.file import read_graph
from edgelora.model.importers.tflite.flatbuffer import TfliteError
from edgelora.model.importers.tflite.merge import find_source, merge_elm, merge_tflite
from edgelora.model.quantization.merging import Merging

pytest.importorskip("tflite_micro")
from tflite_writer import BUILTIN, Sketch, TflmModel, conv_options, schema, write_tflite
from wake_words import LAST_CONVOLUTION, MODELS, ending_at, micro_outputs, sound, wake_word

KERAS = ROOT / ".build" / "keras-models"
MATRICES = ("conv", "conv", "depthwise", "conv", "mean", "dense")


def imported(file: bytes) -> tuple[QuantModel, bytes]:
    model = import_tflite(file)
    convert.calibrate(model, inputs_for_calibration(model, None))
    return model, pack_model(model)


def merged_by_the_board(elm: bytes, adapter: Adapter, ela: bytes) -> Session:
    """A session that has merged every layer of the adapter."""
    model = unpack_model(elm)
    session = Session(elm, adapter.ranks(len(model.ops)), "infer")
    session.use(ela)
    for layer in adapter.layers:
        session.merge(layer.op)
    session.reset()
    return session


def check_merged(file: bytes, seed: int, trainable_a: bool) -> None:
    """Merges a random adapter into a file: outputs equal the board's, and only constants of the file change."""
    model, elm = imported(file)
    adapter = random_adapter(np.random.default_rng(seed), model, trainable_a)
    ela = pack_adapter(adapter)
    source = find_source(file, base_id(elm), "base.tflite")
    merged = merge_tflite(source, ela)
    out = merged.file("mine.tflite")
    changed = np.flatnonzero(np.frombuffer(out, np.uint8) != np.frombuffer(file, np.uint8))
    weights = sum(model.ops[layer.op].weights.size + 4 * len(layer.b) for layer in adapter.layers)
    assert len(out) == len(file) and len(changed) <= weights
    board, micro = merged_by_the_board(elm, adapter, ela), TflmModel(out, model)
    own = Session(merged.file("mine.elm"), bytes(len(model.ops)), "infer")
    rng = np.random.default_rng(seed)
    for x in (random_input(rng, model) for _ in range(5)):
        board.infer(x)
        own.infer(x)
        expected = board.logits.tolist()
        assert (own.logits.tolist(), micro(x).tolist()) == (expected, expected), f"seed {seed}"


def able(model: QuantModel) -> bool:
    return any(op.is_matrix for op in model.ops)


def test_random_files_equal_the_board() -> None:
    done = 0
    for seed in (*range(40), *fresh_seeds(10)):
        original = random_model(seed, oracle=True, loss=LOSSES[seed % 3])
        if able(original):
            check_merged(write_tflite(original), seed, trainable_a=bool(seed % 2))
            done += 1
    assert done >= 40


@in_full_runs("needs files that TensorFlow wrote: random files here")
def test_keras_files_equal_the_board() -> None:
    files = [path for path in sorted(KERAS.glob("*.tflite")) if not path.name.startswith("refused-")]
    assert len(files) == 146, "make keras-models"
    refused = []
    for seed, path in enumerate(files):
        try:
            check_merged(path.read_bytes(), seed, trainable_a=bool(seed % 2))
        except TfliteError as error:
            assert "a constant that another layer shares" in str(error)
            refused.append(path)
    # Adapters of an unrolled layer's steps differ, but the file has its weights once; one of nine has a single step.
    unrolled = [path for path in files if path.name.startswith("recurrent_net-")]
    assert set(refused) <= set(unrolled) and 0 <= len(unrolled) - len(refused) <= 1 < len(unrolled)


def test_streaming_files_equal_the_board() -> None:
    file, frames = ending_at(wake_word("alexa"), LAST_CONVOLUTION), sound(60)
    model, elm = imported(file)
    adapter = random_adapter(np.random.default_rng(0), model)
    ela = pack_adapter(adapter)
    out = merge_tflite(find_source(file, base_id(elm), "alexa"), ela).file("mine.tflite")
    board = merged_by_the_board(elm, adapter, ela)
    expected = []
    for frame in frames:
        board.infer(frame.reshape(model.input.shape))
        expected.append(board.logits.tolist())
    assert micro_outputs(out, frames) == expected != micro_outputs(file, frames)


# ---- refitted scales, roundings and biases
# ----------------------------------------------------------------------------


def learned(seed: int, model: QuantModel, size: float = 6) -> Adapter:
    """An adapter with branches about as large as boards learn; some weights exceed int8's range."""
    rng = np.random.default_rng(seed)
    adapter = random_adapter(rng, model)
    for layer in adapter.layers:
        layer.b = np.rint(rng.normal(0, size, layer.b.shape)).clip(-127, 127).astype(np.int8)
    return adapter


def real_sessions(elm: bytes, adapter: Adapter, merging: Merging) -> tuple[Session, Session]:
    count = len(merging.model.ops)
    used = Session(elm, adapter.ranks(count), "infer")
    used.use(pack_adapter(adapter))
    return used, Session(merging.elm, bytes(count), "infer")


def test_refitted_files_equal_the_twin_and_are_closer_to_the_adapter() -> None:
    """TensorFlow Lite Micro equals the twin, and on other inputs the outputs are closer to the adapter's."""
    apart: dict[bool, list[float]] = {False: [], True: []}
    for seed in range(30):
        original = random_model(seed, oracle=True, kinds=MATRICES)
        file = write_tflite(original)
        model, elm = imported(file)
        adapter = learned(seed, model)
        source = find_source(file, base_id(elm), "base.tflite")
        for refit in (False, True):
            merged = merge_tflite(source, pack_adapter(adapter), refit=refit)
            merging, out = merged.merging, merged.file("mine.tflite")
            assert len(out) == len(file) and all(row.error <= row.board_error for row in merging.layers)
            used, own = real_sessions(elm, adapter, merging)
            micro, rng = TflmModel(out, model), np.random.default_rng(1000 + seed)
            for x in (random_input(rng, model) for _ in range(10)):
                used.infer(x)
                own.infer(x)
                assert micro(x).tolist() == own.logits.tolist(), f"seed {seed}"
                apart[refit].append(float(np.abs(used.logits.astype(int) - own.logits).mean()))
    assert np.mean(apart[True]) < 0.4 * np.mean(apart[False]), {key: np.mean(value) for key, value in apart.items()}


def test_one_scale_stays_one() -> None:
    """A layer with one scale for all channels keeps a single one, which grows for weights that exceed int8's range."""
    file = Sketch(1, 12).dense(12, 5).file()
    model, elm = imported(file)
    adapter = random_adapter(np.random.default_rng(0), model, ranks={0: 3})
    adapter.layers[0].b = np.full((5, 3), 127, np.int8)
    source = find_source(file, base_id(elm), "base.tflite")
    merged = merge_tflite(source, pack_adapter(adapter), refit=True)
    [row] = merged.merging.layers
    assert row.clamped > 0 and row.rescaled == 5 and row.error < 0.2 * row.board_error
    scale = import_tflite(merged.file("mine.tflite")).ops[0].weight_scale
    assert len(set(scale)) == 1 and scale[0] > model.ops[0].weight_scale[0]
    assert merge_tflite(source, pack_adapter(adapter)).merging.layers[0].rescaled == 0


# ---- bases without a file
# ---------------------------------------------------------------------------------------------


def test_elm_files_are_written_as_tflite() -> None:
    """Except streams, which always have a .tflite; scales computed from multipliers are exact."""
    done = 0
    for seed in (*range(60), *fresh_seeds(10)):
        original = random_model(seed, oracle=True, loss=LOSSES[seed % 3])
        if original.has_history or not able(original):
            continue
        elm = pack_model(original)
        adapter = random_adapter(np.random.default_rng(seed), original)
        ela = pack_adapter(adapter)
        for refit in (False, True):
            merged = merge_elm(elm, ela, refit=refit)
            micro, rng = TflmModel(merged.file("mine.tflite"), original), np.random.default_rng(seed)
            own = Session(merged.file("mine.elm"), bytes(len(original.ops)), "infer")
            for x in (random_input(rng, original) for _ in range(4)):
                own.infer(x)
                assert micro(x).tolist() == own.logits.tolist(), f"seed {seed}"
        done += 1
    assert done >= 30


def test_padding_of_pytorch_is_written_as_an_operator() -> None:
    model = random_model(3, "medium", ("conv", "depthwise", "mean", "dense"), oracle=True)
    conv, depthwise = model.ops[:2]
    for op, padding in ((conv, (1, 2)), (depthwise, (2, 0))):
        source, target = model.tensors[op.input], model.tensors[op.output]
        op.kernel, op.stride, op.dilation, op.padding = (2, 3), (2, 1), (1, 1), padding
        shape = [(source.shape[i] + 2 * padding[i] - op.kernel[i]) // op.stride[i] + 1 for i in range(2)]
        model.tensors[op.output] = Tensor((*shape, target.shape[2]), target.scale, target.zero_point)
        rng = np.random.default_rng(0)
        size = (len(op.bias), *op.kernel, source.shape[2]) if op.kind == "conv" else (*op.kernel, len(op.bias))
        op.weights = rng.integers(-127, 128, size).astype(np.int8)
    fixed_point.derive(model, model.ops[2])
    elm = pack_model(model)
    written = write.write_tflite(unpack_model(elm))
    names = [operator.name for operator in read_graph(written).operators]
    assert names[:4] == ["PAD", "CONV_2D", "PAD", "DEPTHWISE_CONV_2D"]
    micro, session = TflmModel(written, model), Session(elm, bytes(len(model.ops)), "infer")
    for x in (random_input(np.random.default_rng(seed), model) for seed in range(10)):
        session.infer(x)
        assert micro(x).tolist() == session.logits.tolist()


def test_networks_that_no_file_can_represent_are_refused() -> None:
    model = random_model(1, kinds=("conv", "conv", "dense"), oracle=True)

    def refused(message: str, **changes: object) -> None:
        other = copy.deepcopy(model)
        for name, value in changes.items():
            setattr(other.ops[0], name, value)
        with pytest.raises(InputError, match=message):
            write.write_tflite(other)

    refused(
        r"op 0 \(conv\) can't be written as .tflite: channel 0 has multiplier", multiplier=model.ops[0].multiplier + 1
    )
    refused("isn't that of an activation", act_min=-77)
    table = np.arange(256).astype(np.int8)
    lookup = copy.deepcopy(random_model(2, kinds=("conv", "lookup", "dense"), oracle=True))
    at = next(op for op in lookup.ops if op.kind == "lookup")
    at.table = table
    with pytest.raises(InputError, match="table isn't that of any"):
        write.write_tflite(lookup)
    stream = random_model(3, kinds=("conv", "history", "dense"), oracle=True)
    with pytest.raises(InputError, match="a network with history comes from a .tflite"):
        write.write_tflite(stream)


# ---- what is refused -------------------------------------------------------------------------------------------------


def shared(same_use: bool) -> bytes:
    """Two 1x1 convolutions that share one constant as weights."""
    sketch = Sketch(1, 4, 4, 6)
    weights = sketch.weights(6, 1, 1, 6)
    for _ in range(2):
        sketch.add(BUILTIN.CONV_2D, conv_options(padding=1), (1, 4, 4, 6), weights, sketch.bias(6))
    if same_use:
        sketch.add(BUILTIN.MEAN, schema.ReducerOptionsT(keepDims=False), (1, 6), sketch.ints(1, 2))
    return sketch.file()


def test_groups_of_channels_are_refused() -> None:
    """An adapter reaches across groups, where the file has no weights."""
    sketch = Sketch(1, 4, 4, 6)
    sketch.add(BUILTIN.CONV_2D, conv_options(padding=1), (1, 4, 4, 4), sketch.weights(4, 1, 1, 3), sketch.bias(4))
    file = sketch.add(BUILTIN.MEAN, schema.ReducerOptionsT(), (1, 4), sketch.ints(1, 2)).file()
    model, elm = imported(file)
    source = find_source(file, base_id(elm), "base.tflite")
    adapter = random_adapter(np.random.default_rng(0), model, trainable_a=True, ranks={0: 2})
    with pytest.raises(TfliteError, match=r"base.tflite: op 0 has channel groups.*merge into the .elm instead"):
        merge_tflite(source, pack_adapter(adapter))


def test_a_shared_constant_is_refused_unless_all_its_layers_change_alike() -> None:
    file = shared(True)
    model, elm = imported(file)
    source = find_source(file, base_id(elm), "base.tflite")
    one = random_adapter(np.random.default_rng(0), model, trainable_a=True, ranks={0: 2})
    with pytest.raises(
        TfliteError, match=r"base.tflite: weights of op . \(tensor 't.'\) .*merge into the .elm instead"
    ):
        merge_tflite(source, pack_adapter(one))
    both = copy.deepcopy(one)
    both.layers.append(copy.deepcopy(one.layers[0]))
    both.layers[1].op = 1
    both.layers[0].t_shift = both.layers[1].t_shift
    out = merge_tflite(source, pack_adapter(both)).file("mine.tflite")
    assert np.array_equal(import_tflite(out).ops[0].weights, import_tflite(out).ops[1].weights)
    written = merge_elm(elm, pack_adapter(one)).file("mine.tflite")
    assert not np.array_equal(import_tflite(written).ops[0].weights, import_tflite(written).ops[1].weights)


def test_the_file_must_be_the_bases(tmp_path: Path) -> None:
    """As imported by default, or as in the .elm; otherwise the error says which of them is wrong."""
    file, other = (write_tflite(random_model(seed, oracle=True, kinds=("conv", "conv", "dense"))) for seed in (1, 2))
    for name, content in (("base", file), ("other", other)):
        (tmp_path / f"{name}.tflite").write_bytes(content)
        edgelora("import", tmp_path / f"{name}.tflite", "-o", tmp_path / f"{name}.elm")
    model = unpack_model((tmp_path / "base.elm").read_bytes())
    x = np.random.default_rng(0).normal(size=(9, *model.input.shape)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    labels = ",".join(f"name{i}" for i in range(model.output.size))
    told = ("--labels", labels, "--data", tmp_path / "x.npz")
    edgelora("import", tmp_path / "base.tflite", *told, "-o", tmp_path / "told.elm")
    edgelora("import", tmp_path / "base.tflite", *told[2:], "-o", tmp_path / "calibrated.elm")
    for base in ("base", "told", "calibrated"):
        of = unpack_model((tmp_path / f"{base}.elm").read_bytes())
        (tmp_path / f"{base}.ela").write_bytes(pack_adapter(learned(0, of)))
    command = ("merge", tmp_path / "base.tflite", tmp_path / "told.ela", "-o", tmp_path / "mine.tflite")
    assert "give --elm, the .elm that was imported" in edgelora(*command, code=1)
    assert "is base" in edgelora(*command, "--elm", tmp_path / "base.elm", code=1)
    wrong = ("merge", tmp_path / "other.tflite", tmp_path / "told.ela", "-o", tmp_path / "mine.tflite")
    assert "from another .tflite file" in edgelora(*wrong, "--elm", tmp_path / "told.elm", code=1)
    assert not (tmp_path / "mine.tflite").exists()
    first = result(*command, "--elm", tmp_path / "told.elm")
    assert first["layers"] and first["inputs"] == 0 and not first["refit"]
    given = ("merge", tmp_path / "base.tflite", tmp_path / "calibrated.ela", "-o", tmp_path / "mine.tflite")
    assert "give --elm" in edgelora(*given, code=1)
    assert result(*given, *told[2:])["inputs"] == 9
    text = edgelora("merge", tmp_path / "base.elm", tmp_path / "base.ela", "-o", tmp_path / "mine.elm", "--refit")
    assert "against the adapter in use, on 128 samples of noise" in text
    assert "give a name with that ending" in edgelora(*command[:4], tmp_path / "mine.bin", code=1)
    assert "--elm is for a .tflite" in edgelora(
        "merge", tmp_path / "base.elm", tmp_path / "base.ela", "--elm", tmp_path / "base.elm", code=1
    )


# ---- an NPU's compiler -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [3, 5, 8])
def test_vela_compiles_merged_files(seed: int, tmp_path: Path) -> None:
    """A patched file and a written one: every operator with weights runs on the NPU."""
    model = random_model(seed, "medium", ("conv", "depthwise", "residual", "mean", "dense"), oracle=True)
    file = write_tflite(model)
    model, elm = imported(file)
    ela = pack_adapter(learned(seed, model))
    source = find_source(file, base_id(elm), "base.tflite")
    (tmp_path / "patched.tflite").write_bytes(merge_tflite(source, ela, refit=True).file("mine.tflite"))
    (tmp_path / "written.tflite").write_bytes(merge_elm(elm, ela).file("mine.tflite"))
    for name in ("patched", "written"):
        command = [Path(sys.executable).parent / "vela", f"{name}.tflite", "--output-dir", name]
        options = ["--accelerator-config", "ethos-u55-128", "--verbose-operators"]
        done = subprocess.run(
            [*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        assert (tmp_path / name / f"{name}_vela.tflite").stat().st_size > 0
        assert "CPU operators = 0 (0.0%)" in done.stdout, done.stdout[-2000:]


# ---- wake words with manifests ---------------------------------------------------------------------------------------


def wake_adapter(folder: Path, name: str) -> Path:
    """The file of an adapter with the branches of learning on a wake word's imported base."""
    elm = (folder / f"{name}.elm").read_bytes()
    adapter = learned(0, unpack_model(elm), 1)
    adapter.base_id = base_id(elm)
    (folder / f"{name}.ela").write_bytes(pack_adapter(adapter))
    return folder / f"{name}.ela"


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed: `make setup`")
@in_full_runs("random and streaming files are compared above")
@pytest.mark.parametrize("refit", [False, True])
def test_a_wake_word_becomes_one_for_other_devices(tmp_path: Path, refit: bool) -> None:
    """From the manifest to a merged file and its manifest: equal to the board's by every output of a stream."""
    said = edgelora("import", MODELS / "okay_nabu.json", "-o", tmp_path / "base.elm")
    assert "an output depends on 54 frames" in said and "'Okay Nabu' is heard where the mean of 5" in said
    model = unpack_model((tmp_path / "base.elm").read_bytes())
    assert model.labels == ["other", "okay_nabu"] and model.signal == heard_as("firmware", model.input)
    assert load_manifest(tmp_path / "base.json") == load_manifest(MODELS / "okay_nabu.json")
    ela = wake_adapter(tmp_path, "base")
    settings = ("merge", MODELS / "okay_nabu.json", ela, "-o", tmp_path / "mine.tflite", *(["--refit"] * refit))
    told = result(*settings, "--cutoff", 0.6)
    manifest = load_manifest(tmp_path / "mine.json")
    assert told["manifest"] == manifest.as_json() and told["layers"]
    assert (manifest.model, manifest.cutoff, manifest.window) == ("mine.tflite", 0.6, 5)
    assert (manifest.wake_word, manifest.arena_bytes) == ("Okay Nabu", 37000)
    said = speech.speak(Voice("espeak-ng", "en-us"), "okay nabu", 1.0, 0.0)
    stream = np.concatenate([np.round(said * 20000 / np.abs(said).max()), np.zeros(8000)]).astype(np.int16)
    rows = AudioFrontEnd("firmware").feed(stream)
    frames = rows[: len(rows) // 3 * 3].reshape(-1, *model.input.shape)
    file, expected = (tmp_path / "mine.tflite").read_bytes(), []
    if refit:
        again = import_tflite(file)
        session = Session(pack_model(again), bytes(len(again.ops)), "infer")
    else:
        elm = (tmp_path / "base.elm").read_bytes()
        session = merged_by_the_board(elm, unpack_adapter(ela.read_bytes()), ela.read_bytes())
    for frame in frames:
        session.infer(frame)
        expected.append(session.logits.tolist())
    assert micro_outputs(file, frames) == expected != micro_outputs(wake_word("okay_nabu"), frames)
    assert len({tuple(y) for y in expected}) > 3
    assert load_manifest(MODELS / "okay_nabu.json").cutoff == 0.85
    mine = imported_word(file, manifest)
    exact = AudioFrontEnd(mine.base.model.input).feed(stream)  # not as firmware rounds it
    [outputs] = mine.outputs(None, [exact[: len(exact) // 3 * 3].reshape(-1, 3 * exact.shape[1])])
    theirs = wakeword_decisions(tmp_path / "mine.json", micro_frontend(stream))
    ours = decided(outputs, manifest.cutoff, manifest.window)
    assert ours.tolist() == theirs.tolist(), "TensorFlow Lite's, with the manifest's rule"
    edgelora(*settings)
    assert load_manifest(tmp_path / "mine.json").cutoff == 0.85, "the author's"


@pytest.mark.parametrize("front", some(["firmware", "audio"]))
def test_a_base_with_a_front_end_is_found_in_its_file(tmp_path: Path, front: str) -> None:
    """Without labels by itself, with labels by the .elm."""
    for name, labels in (("plain", ()), ("named", ("--labels", "no,yes"))):
        path = MODELS / "alexa.tflite"
        edgelora("import", path, "--front", front, *labels, "-o", tmp_path / f"{name}.elm")
        ela = wake_adapter(tmp_path, name)
        command = ("merge", path, ela, "-o", tmp_path / "mine.tflite")
        if labels:
            assert "give --elm" in edgelora(*command, code=1)
        assert result(*command, *(("--elm", tmp_path / "named.elm") if labels else ()))["layers"]


def test_manifests_that_do_not_fit(tmp_path: Path) -> None:
    edgelora("import", MODELS / "alexa.json", "-o", tmp_path / "alexa.elm")
    ela, out = wake_adapter(tmp_path, "alexa"), tmp_path / "mine.tflite"
    assert "give that in place of the network" in edgelora(
        "merge", MODELS / "alexa.tflite", ela, "--cutoff", 0.5, "-o", out, code=1
    )
    assert "must be a number from 0 to 1" in edgelora(
        "merge", MODELS / "alexa.json", ela, "--cutoff", 5, "-o", out, code=1
    )
    assert "is for a .tflite" in edgelora("merge", MODELS / "alexa.json", ela, "-o", tmp_path / "mine.elm", code=1)
    for name in ("alexa.json", "alexa.tflite"):
        (tmp_path / name).write_bytes((MODELS / name).read_bytes())
    assert "would replace the wake word" in edgelora(
        "merge", tmp_path / "alexa.json", ela, "-o", tmp_path / "alexa.tflite", code=1
    )
    assert not out.exists() and not out.with_suffix(".json").exists()
    classes = write_tflite(random_model(3, oracle=True, kinds=("conv", "dense")))
    (tmp_path / "alexa.tflite").write_bytes(classes)
    assert "a wake word is a streaming network" in edgelora(
        "import", tmp_path / "alexa.json", "-o", tmp_path / "x.elm", code=1
    )
