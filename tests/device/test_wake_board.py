"""A wake word on desktop MicroPython: wakes, enrolments and feedback, as the same code on the host has them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from programs import desktop

from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.wake_manifest import WakeManifest
from edgelora.core.front_ends import heard_as
from edgelora.core.twin import device
from edgelora.learn.training.data.base import Base
from edgelora.learn.wake.teaching import LEAD, Owner, Pupil, Recorded, lessons
from edgelora.learn.wake.word import Rule, WakeWord
from edgelora.model.datasets.capture import Capture, save_wav
from edgelora.model.datasets.wake_speech import OTHERS, phrase_sound
from edgelora.model.importers.tflite.convert import import_tflite

pymicro = pytest.importorskip("pymicro_wakeword")
FRAME = 480  # samples


@pytest.fixture(scope="module")
def word() -> WakeWord:
    """okay_nabu of pymicro-wakeword."""
    model = import_tflite((Path(pymicro.__file__).parent / "models" / "okay_nabu.tflite").read_bytes())
    model.signal = heard_as("firmware", model.input)
    return WakeWord(Base("nabu.elm", pack_model(model, "nabu"), model), Rule(0.85, 5))


@pytest.fixture(scope="module")
def said() -> np.ndarray:
    """Someone says the word."""
    return phrase_sound(OTHERS[0], "okay nabu", 3)[0]


def test_a_board_keeps_what_the_host_keeps(word: WakeWord, said: np.ndarray, tmp_path: Path) -> None:
    sound = Pupil(word).up_to_word(said)
    save_wav(tmp_path / "said.wav", Capture(sound[:, None].astype(float), 16000.0, counts=True))
    (tmp_path / "word.elm").write_bytes(word.base.elm)
    wanted = lessons(word, Owner([Recorded("said", said)]))
    frames = len(word.heard(sound))
    wakes = word.rule.wakes(word.outputs(None, [word.heard(sound)])[0])
    assert len(wakes) == 1
    calls = [[1, "pressed", []], [21, "false_wake", []], [wakes[0] + 5, "pressed", []], [frames, "missed", []]]
    manifest = WakeManifest("Okay Nabu", "okay_nabu.tflite", word.rule.cutoff, word.rule.window, 37000)
    manifest.save(tmp_path / "word.json")
    case = {"frames": word.frames, "calls": calls}
    (tmp_path / "case.json").write_text(json.dumps(case))
    woke, answers, count, kept = json.loads(desktop(tmp_path, "import wake_runs; wake_runs.main()"))
    assert woke == [wakes[0] + 1] and count == 1
    assert "no word was said" in answers[0] and "nothing woke it" in answers[1] and answers[2:] == [3, len(wanted)]
    record = word.frames * 120 + 5
    content = (tmp_path / "mine.eld").read_bytes()[32:]
    rows = np.frombuffer(content, np.uint8).reshape(-1, record)
    assert len(rows) == kept == 3 + len(wanted)
    assert rows[:3, 0].tolist() == [0, 0, 0] and rows[3:, 0].tolist() == wanted.y.tolist()
    assert (rows[3:, 1:-4].view(np.int8) == wanted.x.reshape(len(wanted), -1)).all()


def test_windows_that_contain_the_word_are_where_the_base_hears_it(word: WakeWord, said: np.ndarray) -> None:
    """The base hears those of the complete word, and not the unfinished one."""
    taught = lessons(word, Owner([Recorded("said", said)]))
    outputs = [word.outputs(None, [x.reshape(word.frames, -1)])[0][-1] for x in taught.x]
    assert taught.y.tolist() == [1] * 5 + [0]
    assert max(outputs[:5]) > 200 and outputs[5] < 50


def test_a_close_miss_is_another_word(word: WakeWord, said: np.ndarray) -> None:
    kept = lessons(word, Owner([], [Recorded("miss", said)], [Recorded("talk", said)]))
    assert not kept.y.any() and len(kept) > 5


@pytest.mark.parametrize("end", [5, 8, 30, 200, 279])
def test_windows_are_of_what_was_heard_one_frame_after_another(word: WakeWord, end: int) -> None:
    """Also right after a stream's beginning, and as late as `enrol` finds a word. end: the frame that ends it."""
    wake, pupil, frames = device.module("wake"), Pupil(word), word.frames
    heard = np.full((280, word.base.model.input.size), -128, np.int8)
    heard[max(end - 9, 0) : end] = 90
    heard[:, :3] = np.arange(280)[:, None] % 80 - 128  # tells frames apart
    device_word, kept = pupil._device, pupil._kept
    for count, frame in enumerate(heard, 1):
        device_word.x[:] = bytes(frame.view(np.uint8))
        device_word._window[0] = 9000 if frame[-1] == 90 else 0
        device_word._decide()
        if count >= end + 2 and count % 13 == 0 and count - end < wake.REACH:
            kept.windows.clear()
            assert device_word.enrol() == len(kept.windows) >= 1
            for window in kept.windows:
                rows = np.frombuffer(window, np.int8).reshape(frames, -1)
                first = int(rows[-1, 0]) + 128
                ends = [at for at in range(1, count + 1) if at % 80 == (first + 1) % 80]
                streams = [np.concatenate([np.full((frames, rows.shape[1]), -128, np.int8), heard[:at]]) for at in ends]
                silent = (rows == -128).all()  # before the stream
                assert silent or any((stream[-frames:] == rows).all() for stream in streams), (count, end)


def test_a_file_that_is_no_manifest_says_so(tmp_path: Path) -> None:
    for content in ("{}", "[]", "no json", '{"micro": {"probability_cutoff": "high", "sliding_window_size": 5}}'):
        (tmp_path / "word.json").write_text(content)
        with pytest.raises(ValueError, match="is no wake word's manifest: `edgelora build"):
            device.module("wake").Rule.read(str(tmp_path / "word.json"))


def test_the_end_of_a_word() -> None:
    """The last loud frame of the stretch with most sound; short gaps belong to it, a click afterwards does not."""
    end = device.module("wake").word_end
    assert end([5] * 20 + [100] * 10 + [5] * 8 + [90] * 6 + [5] * 20) == 20 + 10 + 8 + 6
    assert end([5] * 20 + [100] * 10 + [5] * 20 + [120] * 2 + [5] * 9) == 30
    for silence in ([], [5] * 60, [500] * 20 + [900] * 10 + [500] * 20):
        with pytest.raises(ValueError, match="no word was said in the last seconds"):
            end(silence)


def test_a_word_is_found_in_noise(word: WakeWord) -> None:
    """10 dB below the word, where the front end's values of both are alike; a microphone's offset changes nothing."""
    rng = np.random.default_rng(8)
    noise = rng.normal(0, 1000, 100 * FRAME)
    noise[50 * FRAME : 75 * FRAME] += rng.normal(0, 3300, 25 * FRAME)
    for offset in (0, 9000):
        pupil = Pupil(word)
        pupil._hear(pupil.up_to_word((noise + offset).astype(np.int16)))
        assert abs(pupil._device._said() - LEAD // FRAME - 75) <= 1


def test_rules_that_cannot_be() -> None:
    rule = device.module("wake").Rule
    for cutoff, window in ((256, 5), (-1, 5), (200, 0), (200, 256)):
        with pytest.raises(ValueError, match="give 0 to 255, and 1 to 255 frames"):
            rule(cutoff, window)
    four = rule(100, 2)
    assert [four.step(p) for p in (255, 0, 201, 0, 0)] == [True, True, True, True, False]
    four.reset()
    assert not four.step(200)
