"""Samples of several frames from recordings of sound, by the front end of a wake word's base."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import edgelora, result

from edgelora.base.errors import InputError
from edgelora.board.sim import virtual_board
from edgelora.core.formats.signal import Normal, Signal
from edgelora.core.front_ends import (
    AUDIO_HOP,
    AUDIO_SIZE,
    AUDIO_UNIT,
    AudioFrontEnd,
    SpectralFrontEnd,
    audio_signal,
)
from edgelora.learn.streaming.sample_windows import LEAD_SECONDS, Takes, Window, lead_of, windows_of
from edgelora.learn.training.data.base import load_base
from edgelora.model.datasets.capture import Capture
from edgelora.model.datasets.dataset import load_dataset
from edgelora.model.datasets.recordings import Recording, inputs_of, save_capture

pytest.importorskip("pymicro_wakeword")
from wake_words import MODELS

RATE, FRAME, FRAMES = 16000, 3, 54  # Hz; rows of a frame; those that okay_nabu's output depends on
SPAN = 480 + (FRAMES * FRAME - 1) * AUDIO_HOP


@pytest.fixture(scope="module")
def nabu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "nabu.elm"
    edgelora("import", MODELS / "okay_nabu.tflite", "--front", "firmware", "--labels", "other,okay_nabu", "-o", path)
    return path


def sound(seconds: float, seed: int = 1) -> np.ndarray:
    """Noise that grows and fades, as a voice does, int16 [n, 1]."""
    rng, n = np.random.default_rng(seed), round(seconds * RATE)
    level = 1000 * (1 + np.sin(np.arange(n) / 3000))
    return (rng.normal(0, 1, n) * level).astype(np.int16)[:, None]


def test_recordings_become_windows_of_frames(nabu: Path, tmp_path: Path) -> None:
    """Of the same bytes as firmware makes of the stream: each window's, the last one's, a short recording's."""
    base, out = load_base(nabu), tmp_path / "mine.npz"
    long, short = sound(3), sound(0.7, 2)
    save_capture(Capture(long, RATE, counts=True), tmp_path / "other.1.wav")
    save_capture(Capture(short, RATE, counts=True), tmp_path / "okay_nabu.1.wav")
    files = (tmp_path / "other.1.wav", tmp_path / "okay_nabu.1.wav")
    made = result("convert", *files, "--base", nabu, "--hop", 8000, "-o", out)
    assert made["windows"] == {"okay_nabu": 1, "other": 3} and made["frames"] == FRAMES
    assert made["seconds"] == SPAN / RATE
    data = load_dataset(out)
    assert data.x.shape == (4, 1, FRAMES * FRAME, AUDIO_SIZE) and data.signal == base.model.signal
    samples = base.samples(data)
    assert samples.frames == FRAMES and samples.given_targets is not None
    lead = round(LEAD_SECONDS * RATE)
    rows = AudioFrontEnd("firmware").feed(np.concatenate([lead_of(long, data.signal), long]))[lead // AUDIO_HOP :]
    for i, sample in enumerate(samples.x[:3]):
        assert np.array_equal(sample.reshape(-1, AUDIO_SIZE), rows[50 * i :][: FRAMES * FRAME])
    before = lead_of(short, data.signal, lead + SPAN - len(short))
    rows = AudioFrontEnd("firmware").feed(np.concatenate([before, short]))
    assert np.array_equal(samples.x[3].reshape(-1, AUDIO_SIZE), rows[-FRAMES * FRAME :])
    assert result("convert", *files, "--base", nabu, "--last", "other", "-o", out)["windows"] == {
        "okay_nabu": 1,
        "other": 1,
    }
    rows = AudioFrontEnd("firmware").feed(np.concatenate([lead_of(long, data.signal), long]))
    last = base.samples(load_dataset(out)).x[0]
    assert np.array_equal(last.reshape(-1, AUDIO_SIZE), rows[-FRAMES * FRAME :])
    assert result("convert", *files, "--base", nabu, "--frames", 70, "--last", "other", "-o", out)["frames"] == 70


def test_recorded_windows_are_those_of_recordings(nabu: Path) -> None:
    base, stream = load_base(nabu), sound(3)
    takes = Takes(Window.of(base, 20))
    for at in range(0, len(stream), 777):
        takes.hear(stream[at : at + 777], 0)
    assert takes.take("other")
    rows = AudioFrontEnd("firmware").feed(stream)
    assert np.array_equal(base.samples(takes.data).x[0].reshape(-1, AUDIO_SIZE), rows[-60:])


def test_windows_of_other_networks_with_front_ends() -> None:
    """Without history a window is one input: of vibration, and of a second of sound."""
    rng = np.random.default_rng(0)
    shaken = rng.normal(0, 900, (4096 * 3 + 77, 3)).astype(np.int16)
    signal = Signal(6400, 3, 4096, 4096, (Normal(1 / 256),), "spectral")
    made = windows_of([("idle", Recording(shaken))], Window(signal, (1, 1, 68)))
    assert np.array_equal(made.x.reshape(-1, 68), inputs_of(SpectralFrontEnd(3).feed(shaken), signal))
    with pytest.raises(InputError, match="no recording is as long as a window, 4096 samples"):
        windows_of([("idle", Recording(shaken[:4095]))], Window(signal, (1, 1, 68)))
    signal = audio_signal(98, 25, Normal(AUDIO_UNIT))
    made = windows_of(
        [("yes", Recording(sound(2))), ("no", Recording(sound(2)))], Window(signal, (98, 40, 1)), None, "no"
    )
    assert made.x.shape == (6, 98, 40, 1) and made.y.tolist() == [1] * 5 + [0]
    assert np.array_equal(made.x[4], made.x[5]), "the last one of the same sound"


def test_what_is_refused(nabu: Path, tmp_path: Path) -> None:
    save_capture(Capture(sound(1), RATE, counts=True), tmp_path / "other.wav")
    settings = ("convert", tmp_path / "other.wav", "-o", tmp_path / "x.npz")
    assert "give --base MODEL" in edgelora(*settings, "--frames", 5, code=1)
    assert "no recording has this class" in edgelora(*settings, "--base", nabu, "--last", "okay_nabu", code=1)
    assert "a hop of 100 samples: the front end has an output every 160" in edgelora(
        *settings, "--base", nabu, "--hop", 100, "--frames", 5, code=1
    )


@pytest.mark.skipif(not virtual_board.UNIX_BINARY.exists(), reason="needs make firmware-unix")
def test_a_board_learns_from_such_windows(nabu: Path, tmp_path: Path) -> None:
    """Files of sound, a data set, and a personalized board: its adapter equals the twin's."""
    for i in range(16):
        save_capture(
            Capture(sound(0.5, i), RATE, counts=True), tmp_path / f"{'other' if i % 4 else 'okay_nabu'}.{i}.wav"
        )
    edgelora("convert", *sorted(tmp_path.glob("*.wav")), "--base", nabu, "-o", tmp_path / "mine.npz")
    board = virtual_board.start("unix", None, tmp_path / "board", die_with_parent=True)
    try:
        told = result(
            *("personalize", nabu, "--port", board.port, "--data", tmp_path / "mine.npz", "--placement", "pointwise"),
            *("--rank", 2, "--epochs", 1, "-o", tmp_path / "run"),
        )
    finally:
        board.stop()
    assert told["host_twin_identical"] and told["samples"] == 12
    assert any("`edgelora wake test` counts that" in note for note in told["notes"])
