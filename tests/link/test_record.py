"""`edgelora record`: a board's source is read over the link, and its windows become labelled samples."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import edgelora, result

from benchmarks.swap import layers_and_adapters
from edgelora.board.link.client import Link
from edgelora.board.link.replies import DeviceError, LinkError
from edgelora.board.sim import virtual_board
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.formats.network import Op
from edgelora.core.formats.signal import Normal, Signal
from edgelora.core.front_ends import AUDIO_SIZE, audio_signal
from edgelora.learn.streaming.decisions import Take, as_recorded
from edgelora.learn.streaming.sample_windows import Takes, Window
from edgelora.learn.training.data.base import Base, load_base
from edgelora.model.datasets.dataset import Dataset, load_dataset, save_dataset
from edgelora.model.datasets.recordings import inputs_of

SIGNAL = Signal(100, 3, 20, 10, tuple(Normal(0.01, 0.1 * i, 1 + i) for i in range(3)), units="g")
COUNTER = """
import time

class Counter:
    rate, channels, scales, overruns, ended = 100, 3, None, 0, False

    def __init__(self):
        self.at, self.start = 0, time.ticks_ms()

    def read_into(self, buffer):
        due = time.ticks_diff(time.ticks_ms(), self.start) // 10
        count = min(due - self.at, len(buffer) // 3)
        for i in range(count):
            for axis in range(3):
                buffer[3 * i + axis] = (self.at + i) % 1000 * (axis + 1)
        self.at += count
        return count

def source():
    return Counter()
"""


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The port of desktop MicroPython with a source of its own."""
    board = virtual_board.start("unix", None, tmp_path_factory.mktemp("unix"), die_with_parent=True)
    with Link.connect(board.port) as link:
        link.put("/counter.py", COUNTER.encode())
    yield board.port
    board.stop()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    elm, _ = layers_and_adapters((60, 5), 0)
    model = unpack_model(elm)
    model.signal = SIGNAL
    (tmp_path / "base.elm").write_bytes(pack_model(model))
    return tmp_path / "base.elm"


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    """A network that remembers the two frames before, of the same signal, whose frames overlap."""
    elm, _ = layers_and_adapters((180, 5), 0)
    model = unpack_model(elm)
    grid, [last] = model.input, model.ops
    model.tensors = [replace(grid, shape=(1, 20, 3)), replace(grid, shape=(1, 60, 3)), model.output]
    model.ops = [Op("history", 0, 1), replace(last, input=1, output=2)]
    model.signal = SIGNAL
    (tmp_path / "stream.elm").write_bytes(pack_model(model))
    return tmp_path / "stream.elm"


def heard(data: Dataset) -> np.ndarray:
    """The number of each window's first sample, after checking all its other samples."""
    first = np.rint(data.x[:, 0, 0, 0] / 0.01)
    steps = (first[:, None] + np.arange(20)) % 1000
    counts = (steps[:, :, None] * [1, 2, 3]).astype(np.int16)
    assert np.allclose(inputs_of(counts, SIGNAL), data.x[:, 0], atol=1e-5)
    return first


def test_recording_by_clock_and_then_by_keys(
    board: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "mine.npz"
    settings = ("record", base, "--source", "counter", "--port", board, "-o", out)
    told = result(*settings, "--label", "wave", "--count", 3, "--every", 0.5)
    assert told["counts"] == {"wave": 3} and told["taken"] == 3 and told["lost"] == 0
    steps = np.diff(heard(load_dataset(out)))
    assert ((steps >= 50) & (steps < 150)).all(), "half a second of the sensor's, and what came with it"
    read, write = os.pipe()
    os.write(write, b" " + b"x" * 40 + b" \nu u\n")
    os.close(write)
    with open(read) as keys:
        monkeypatch.setattr(sys, "stdin", keys)
        said = edgelora(*settings, "--label", "rest")
    assert "wave 3, rest 2; 2 new, 0 of the sensor's samples lost" in said
    data = load_dataset(out)
    assert data.labels == ["wave", "rest"] and data.y.tolist() == [0, 0, 0, 1, 1] and data.signal == SIGNAL
    assert len(set(heard(data).tolist())) == 5


def test_a_network_with_history_gets_windows_of_frames(board: str, base: Path, stream: Path, tmp_path: Path) -> None:
    """As many as its output depends on; they are consecutive inputs of a stream, ten samples apart."""
    out = tmp_path / "mine.npz"
    settings = ("record", stream, "--source", "counter", "--port", board, "-o", out, "--count", 2, "--every", 0.2)
    assert result(*settings, "--label", "wave")["frames"] == 3
    data = load_dataset(out)
    assert data.x.shape == (2, 1, 60, 3) and data.signal == SIGNAL
    first = np.rint(data.x[:, 0, 0, 0] / 0.01)
    steps = (np.arange(3)[:, None] * 10 + np.arange(20)).ravel()
    counts = ((first[:, None] + steps)[:, :, None] % 1000 * [1, 2, 3]).astype(np.int16)
    assert np.allclose(inputs_of(counts, SIGNAL), data.x[:, 0], atol=1e-5)
    assert load_base(stream).samples(data).x.shape == (2, 3, 1, 20, 3)
    assert "those of 2 frames (1, 40, 3): write to another file" in edgelora(
        *settings, "--label", "wave", "--frames", 2, code=1
    )
    assert "omit --frames" in edgelora("record", base, "--label", "x", "--frames", 2, code=1)


def test_what_is_refused(board: str, base: Path, tmp_path: Path) -> None:
    settings = ("record", base, "--label", "x", "-o", tmp_path / "x.npz", "--port", board)
    assert "give SDA, SCL" in edgelora(*settings, "--pins", "4", code=1)
    assert "no module named" in edgelora(*settings, "--source", "no_such_module", "--count", 1, code=1)
    other = Dataset(np.zeros((2, 1, 20, 3), np.float32), np.zeros(2, np.int64), ["a"])
    save_dataset(other, tmp_path / "x.npz")
    assert "another signal" in edgelora(*settings, "--count", 1, code=1)
    with Link.connect(board) as link:
        with pytest.raises(LinkError, match="call sense first"):
            link.sensed()
        link._sensed = 3
        with pytest.raises(DeviceError, match="no source is open"):
            link.sensed()


def test_a_front_end_makes_samples() -> None:
    """A recorded sample has the features of the base's front end; as int8, it is a board's own sample."""
    elm, _ = layers_and_adapters((3 * AUDIO_SIZE, 5), 0)
    model = unpack_model(elm)
    model.signal = audio_signal(3, 3, Normal(0.01))  # with values that are not all clipped
    base = Base("sound.elm", pack_model(model), model)
    sound = np.random.default_rng(1).normal(0, 3000, (6080, 1)).astype(np.int16)  # 36 rows
    takes = Takes(Window.of(base))
    for at in range(0, len(sound), 700):
        assert takes.take("a") == (at > 800)
        takes.hear(sound[at : at + 700], 0)
    assert takes.take("b")
    recorded = as_recorded(base, [Take(sound, 0)])
    data = takes.data
    assert data.x.shape == (8, *model.input.shape) and np.array_equal(base.samples(data).x[-1:], recorded.x)
    takes.hear(sound[:700], 5)
    assert not takes.take("c"), "what was lost lies within"


def test_a_window_has_no_holes() -> None:
    takes = Takes(Window(SIGNAL, (1, 20, 3)))
    takes.hear(np.ones((19, 3), np.int16), 0)
    assert not takes.take("a")
    takes.hear(np.ones((1, 3), np.int16), 0)
    assert takes.take("a")
    takes.hear(np.ones((19, 3), np.int16), 7)
    assert not takes.take("a") and takes.lost == 7 and takes.counts == {"a": 1}
    assert takes.undo() == "a" and takes.undo() is None and takes.counts == {}
