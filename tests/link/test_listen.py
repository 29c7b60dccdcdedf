"""`edgelora listen`: a recording is sent to a board, which cuts windows, normalizes and infers like the twin."""

from __future__ import annotations

import json
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import edgelora, result
from fresh import slow
from programs import running
from random_models import random_adapter, random_model, random_ranks

from benchmarks.swap import layers_and_adapters
from edgelora.base.resources import ROOT
from edgelora.board.link.client import Link
from edgelora.board.link.replies import DeviceError, LinkError
from edgelora.cli.main import main
from edgelora.core.formats.ela import pack_adapter
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import base_id, pack_model, unpack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.formats.signal import Normal, Signal
from edgelora.core.front_ends import AudioFrontEnd, SpectralFrontEnd
from edgelora.core.twin.session import Session
from edgelora.learn.streaming.decisions import Take, as_heard, as_recorded, hear_all, hear_on_board, record_on_board
from edgelora.learn.training.data.base import load_base

PICO = ROOT / ".build/rp2/rpi_pico/firmware.uf2"


def sensing(hop: int, loss: str = "cross_entropy", seed: int = 3, rate: float = 50) -> QuantModel:
    """A small network on windows of three axes."""
    model = random_model(seed, "medium", ("conv", "dense"), edges=False, loss=loss)
    channels = model.input.shape[2]
    normals = tuple(Normal(model.input.scale * (0.02 + 0.01 * i), 0.5, 1 + i) for i in range(channels))
    model.signal = Signal(rate, channels, model.input.size // channels, hop, normals, units="g")
    return model


def drawn(channels: int, samples: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 900, (samples, channels)).cumsum(0) % 12000 - 6000).astype(np.int16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bases, an adapter of the first one, recordings."""
    folder = tmp_path_factory.mktemp("listen")
    model = sensing(4)
    data = pack_model(model)
    (folder / "base.elm").write_bytes(data)
    rng = np.random.default_rng(4)
    adapter = random_adapter(rng, model, ranks=random_ranks(rng, model))
    adapter.base_id = base_id(data)
    (folder / "me.ela").write_bytes(pack_adapter(adapter))
    np.savetxt(folder / "mine.csv", drawn(3, 1000), "%d", ",")
    yes_or_no = sensing(9, "binary_cross_entropy", 8)
    (folder / "binary.elm").write_bytes(pack_model(yes_or_no))
    np.savetxt(folder / "binary.csv", drawn(yes_or_no.signal.channels, 400), "%d", ",")
    sound = sensing(30, seed=14, rate=8000)
    (folder / "sound.elm").write_bytes(pack_model(sound))
    counts = drawn(sound.signal.channels, 4000)
    save_sound(folder / "sound.wav", counts.astype("<i2").tobytes(), 8000, sound.signal.channels)
    hear(folder, "audio", AudioFrontEnd(), 7, 3)
    hear(folder, "spectral", SpectralFrontEnd(2), 2, 1)
    (folder / "silent.elm").write_bytes(pack_model(replace(model, signal=None)))
    return folder


def save_sound(path: Path, data: bytes, rate: int, channels: int = 1, width: int = 2) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(data)


def hear(folder: Path, kind: str, front: AudioFrontEnd | SpectralFrontEnd, rows: int, every: int) -> None:
    """A base with this front end, whose input is rows of its features, and a recording for it."""
    elm, _ = layers_and_adapters((rows * front.size, 5), 0)
    model = unpack_model(elm)
    normals = (Normal(0.01, 3.0, 1.0 if kind == "audio" else 4.0),)
    window = front.span + (rows - 1) * front.stride
    model.signal = Signal(16000, front.channels, window, every * front.stride, normals, kind)
    (folder / f"{kind}.elm").write_bytes(pack_model(model))
    sound = np.random.default_rng(5).normal(0, 3000, (window + 5 * every * front.stride, front.channels))
    sound *= 1 + np.sin(np.arange(len(sound)) / 900)[:, None]
    save_sound(folder / f"{kind}.wav", np.clip(sound, -32768, 32767).astype("<i2").tobytes(), 16000, front.channels)


def both(port: str, *command: object) -> dict[str, Any]:
    """The board's result, after comparing it with the twin's, including all outputs."""
    board, twin = result("listen", *command, "--port", port), result("listen", *command, "--twin")
    for key in ("decisions", "samples", "clipped", "rate", "adapters"):
        assert board[key] == twin[key], key
    assert (board["where"], twin["where"]) == ("board", "host twin")
    return board


def every_case(port: str, folder: Path) -> None:
    base, mine = folder / "base.elm", folder / "mine.csv"
    bare = both(port, base, "--source", mine)
    signal = load_base(base).model.signal
    assert len(bare["decisions"]) == (1000 - signal.window) // 4 + 1 and bare["clipped"] > 0
    last = bare["decisions"][-1]
    assert last["seconds"] == last["end"] / 50 and 0 < last["probability"] <= 1
    assert len({tuple(decision["outputs"]) for decision in bare["decisions"]}) > 50, "windows differ"
    mine_own = both(port, base, "--source", mine, "--adapter", folder / "me.ela", "--vote", "3/5")
    assert [d["outputs"] for d in mine_own["decisions"]] != [d["outputs"] for d in bare["decisions"]]
    assert mine_own["decisions"][0]["class"] is None
    assert both(port, folder / "binary.elm", "--source", folder / "binary.csv")["decisions"]
    assert both(port, folder / "sound.elm", "--source", folder / "sound.wav")["decisions"]
    recording(port, folder)
    for kind in ("audio", "spectral"):
        heard = both(port, folder / f"{kind}.elm", "--source", folder / f"{kind}.wav")["decisions"]
        assert len(heard) == 6 and len({tuple(decision["outputs"]) for decision in heard}) > 3


def recording(port: str, folder: Path) -> None:
    """A board records labelled windows of sound: the same file as the twin's."""
    base = load_base(folder / "audio.elm")
    rng = np.random.default_rng(7)
    length = base.model.signal.window + 2 * base.model.signal.hop
    takes = [Take(rng.normal(0, 900 * (i + 1), (length, 1)).astype(np.int16), i % 3) for i in range(4)]
    twins = as_recorded(base, takes)
    with Link.connect(port) as link:
        record_on_board(link, base, "/heard.eld", takes)
        kept = link.get("/heard.eld")
        assert kept == pack_samples(twins.x, twins.y, None, base_id(base.elm))
        assert len({row.tobytes() for row in twins.x}) == 4
        with pytest.raises(DeviceError, match="class 9: the model has 5"):
            next(link.hear(takes[0].counts, label=9))
        link.listen()
        with pytest.raises(DeviceError, match="opened with a path"):
            next(link.hear(takes[0].counts, label=1))
        heard, every_window = hear_on_board(link, base, None, takes), hear_all(link, takes)
    session = Session(base.elm, bytes(len(base.model.ops)), "infer", 1)
    assert np.array_equal(heard, session.predict(twins.x))
    every_twin = as_heard(base, takes)
    assert np.bincount(every_twin.y).tolist() == [6, 3, 3]
    assert np.array_equal(every_window, session.predict(every_twin.x))


def test_on_unix(unix: str, folder: Path) -> None:
    every_case(unix, folder)
    said = edgelora("listen", folder / "base.elm", "--source", folder / "mine.csv", "--port", unix, "--vote", "2/2")
    *lines, summary = said.splitlines()
    decisions = result("listen", folder / "base.elm", "--source", folder / "mine.csv", "--twin", "--vote", "2/2")
    assert len(lines) == len(decisions["decisions"]) and f"{len(lines)} decisions" in summary
    assert lines[0].split()[:3] == [f"{decisions['decisions'][0]['seconds']:.2f}", "s", "-"]


def test_a_wake_word_hears_sound(unix: str, tmp_path: Path) -> None:
    """A `.tflite` with audio input: its data contains the signal, and the normalization is deployed firmware's, to the
    bit."""
    pytest.importorskip("tflite_micro")
    from wake_words import wake_word

    (tmp_path / "alexa.tflite").write_bytes(wake_word("alexa"))
    scale = 0.10196078568696976  # of the network's input
    signal = Signal(16000, 1, 800, 480, (Normal(scale * 256 / 666),), "audio", "of (256 v + 333) / 666")
    x = np.zeros((4, 1, 3, 40), np.float32)
    np.savez(tmp_path / "data.npz", x=x, signal=json.dumps(signal.as_json()))
    elm = tmp_path / "alexa.elm"
    imported = result("import", tmp_path / "alexa.tflite", "--data", tmp_path / "data.npz", "-o", elm)
    assert imported["signal"]["front"] == "audio" and load_base(elm).model.signal == signal
    sound = np.random.default_rng(1).normal(0, 1, 48000) * 4000 * np.abs(np.sin(np.arange(48000) / 3000))
    sound = sound.astype(np.int16)
    save_sound(tmp_path / "sound.wav", sound.astype("<i2").tobytes(), 16000)
    heard = both(unix, elm, "--source", tmp_path / "sound.wav")["decisions"]
    rows = AudioFrontEnd("firmware").feed(sound)
    session = Session(elm.read_bytes(), bytes(len(load_base(elm).model.ops)), "infer", 1)
    frames = [rows[at : at + 3] for at in range(0, len(rows) - 2, 3)]
    wanted = []
    for frame in frames:
        session.infer(np.ascontiguousarray(frame).reshape(-1))
        wanted.append(session.logits.tolist())
    assert [decision["outputs"] for decision in heard] == wanted and len(wanted) > 90
    assert len({tuple(row) for row in wanted}) > 1


def switching(port: str, folder: Path) -> None:
    """A wake word, a second one by another adapter, the base alone, while sound and the network's history continue."""
    pytest.importorskip("tflite_micro")
    from wake_words import wake_word

    (folder / "word.tflite").write_bytes(wake_word("okay_nabu"))
    elm, sound = folder / "word.elm", folder / "long.wav"
    result("import", folder / "word.tflite", "--front", "firmware", "-o", elm)
    base = load_base(elm)
    rng = np.random.default_rng(6)
    ranks = {i: 4 for i, op in enumerate(base.model.ops) if op.kind in ("conv", "dense")}
    for name in ("one.ela", "two.ela"):
        adapter = random_adapter(rng, base.model, ranks=ranks)
        adapter.base_id = base_id(base.elm)
        (folder / name).write_bytes(pack_adapter(adapter))
    noise = rng.normal(0, 4000, 32000) * np.abs(np.sin(np.arange(32000) / 3000))
    save_sound(sound, noise.astype("<i2").tobytes(), 16000)
    command = (elm, "--source", sound, "--adapter", folder / "one.ela", "--adapter", folder / "two.ela")
    heard = both(port, *command, "--switch", "0.7=2", "--switch", "1.4=0")["decisions"]
    alone = {name: result("listen", *command, "--twin", "--switch", f"0={name}")["decisions"] for name in (0, 1, 2)}
    outputs = {name: [row["outputs"] for row in rows] for name, rows in alone.items()}
    assert outputs[0] != outputs[1] != outputs[2] != outputs[0]
    number = [1 if row["end"] <= 11200 else 2 if row["end"] <= 22400 else 0 for row in heard]
    assert {1, 2, 0} == set(number)
    first = [row["outputs"] for row, n in zip(heard, number, strict=True) if n == 1]
    assert first == outputs[1][: len(first)]
    told = [row["outputs"] for row in heard]
    assert told != outputs[1] and len({tuple(row) for row in told}) > 3


def test_switching_on_unix(unix: str, folder: Path) -> None:
    switching(unix, folder)
    few = ("listen", folder / "word.elm", "--source", folder / "long.wav", "--adapter", folder / "one.ela", "--twin")
    assert "adapters from 0 (the base alone) to 1" in edgelora(*few, "--switch", "0.5=2", code=1)
    assert "give SECONDS=N" in edgelora(*few, "--switch", "soon", code=2)


def test_values_in_units(folder: Path, tmp_path: Path) -> None:
    """Values are converted to the counts that a sensor would measure."""
    signal = load_base(folder / "base.elm").model.signal
    counts = drawn(3, 300)
    np.savetxt(tmp_path / "units.csv", counts * np.array(signal.scales), "%.9g", ",")
    np.savetxt(tmp_path / "counts.csv", counts, "%d", ",")
    told = [
        result("listen", folder / "base.elm", "--source", tmp_path / name, "--twin", *more)["decisions"]
        for name, more in (("units.csv", ["--units"]), ("counts.csv", []))
    ]
    assert told[0] == told[1] and told[0]


def test_a_recording_that_is_too_short_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    window = load_base(folder / "base.elm").model.signal.window
    np.savetxt(tmp_path / "few.csv", drawn(3, window - 1), "%d", ",")
    assert main(["listen", str(folder / "base.elm"), "--source", str(tmp_path / "few.csv"), "--twin"]) == 0
    told = capsys.readouterr()
    assert "0 decisions" in told.out and "give a longer recording" in told.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("silent.elm", "--source", "mine.csv"), "doesn't describe its signal"),
        (("base.elm", "--source", "two.csv"), "has 2 channels, the base takes 3"),
        (("base.elm", "--source", "sound.wav"), "channels, the base takes 3"),
        (("base.elm", "--source", "floats.csv"), "give --units if they are in g"),
        (("base.elm", "--source", "empty.csv"), "has no samples"),
        (("base.elm", "--source", "head.csv"), "has no samples"),
        (("base.elm", "--source", "words.csv"), "give comma-separated numbers"),
        (("base.elm", "--source", "far.csv"), "not 16-bit counts"),
        (("base.elm", "--source", "short.wav"), "can't be read as .wav"),
        (("sound.elm", "--source", "slow.wav"), "has 4000 samples per second, the base takes 8000"),
        (("sound.elm", "--source", "bytes.wav"), "has 8-bit samples"),
    ],
)
def test_recordings_that_are_refused(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    for name, text in (
        ("floats.csv", "1.5,2,3\n"),
        ("empty.csv", ""),
        ("two.csv", "1,2\n"),
        ("head.csv", "x,y,z\n"),
        ("words.csv", "x,y,z\none,two,three\n"),
        ("far.csv", "1,2,40000\n"),
        ("short.wav", "RIFF"),
    ):
        (folder / name).write_text(text)
    for name, width, rate in (("slow.wav", 2, 4000), ("bytes.wav", 1, 8000)):
        save_sound(folder / name, bytes(100), rate, 1, width)
    base, flag, source = arguments
    assert words in edgelora("listen", folder / base, flag, folder / source, "--twin", code=1)


def test_requests_in_the_wrong_order(unix: str, folder: Path) -> None:
    base = load_base(folder / "base.elm")
    with Link.connect(unix) as link:
        link.put("/base.elm", base.elm)
        link.open_model("/base.elm", 0, "infer")
        with pytest.raises(LinkError, match="call listen first"):
            next(link.hear(np.zeros((1, 3), np.int16)))
        link._listening = 1
        with pytest.raises(DeviceError, match="nothing listens"):
            next(link.hear(np.zeros((1, 3), np.int16)))
        with pytest.raises(DeviceError, match="k of the last n"):
            link.listen((3, 2))
        most = link.listen()
        link._listening = most + 1
        with pytest.raises(DeviceError, match="not whole samples of 3 channels, or too many"):
            next(link.hear(np.zeros((most + 1, 3), np.int16)))
        with pytest.raises(DeviceError, match="not whole samples of 3 channels"):
            next(link.hear(np.zeros((1, 2), np.int16)))
        link.open_model("/base.elm", 0, "infer")
        with pytest.raises(LinkError, match="call listen first"):
            next(link.hear(np.zeros((1, 3), np.int16)))


@pytest.fixture(scope="module")
def unix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The port of desktop MicroPython as a board."""
    with running("unix", None, tmp_path_factory.mktemp("unix")) as board:
        yield board.port


@slow
def test_on_the_emulated_pico(folder: Path, tmp_path: Path) -> None:
    with running("virtual-pico", PICO, tmp_path) as board:
        every_case(board.port, folder)
