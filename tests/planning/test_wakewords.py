"""Deployed wake words from sound: outputs equal TensorFlow Lite Micro's, decisions equal pymicro-wakeword's."""

from __future__ import annotations

import ctypes.util
import shutil

import numpy as np
import pytest
from numpy.typing import NDArray

from edgelora.base.errors import InputError, MissingPackage
from edgelora.core.formats.wake_manifest import load_manifest
from edgelora.core.front_ends import AUDIO_HOP, AUDIO_SIZE, AudioFrontEnd
from edgelora.learn.wake.word import imported
from edgelora.model.datasets import prompts, speech
from edgelora.model.datasets.prompts import PROMPTS, load_prompts
from edgelora.model.datasets.speech import Voice

pytest.importorskip("tflite_micro")
pytest.importorskip("pymicro_wakeword")
from audio_oracles import as_firmware, decided, micro_frontend, wakeword_decisions
from wake_words import MODELS, WAKE_WORDS, micro_outputs, wake_word

# Of espeak-ng, none of them breathy: those draw anew each time.
SPEAKERS = ("en-us", "en-gb", "en-gb-scotland", "en-us+f4", "en-gb+m4", "en-us-nyc", "en-gb-x-gbclan", "en-us+m7")
PAUSE = np.zeros(8000, np.int16)  # behind each


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed: `make setup`")
@pytest.mark.parametrize("name", WAKE_WORDS)
def test_wake_words_that_are_spoken(name: str) -> None:
    manifest = load_manifest(MODELS / f"{name}.json")
    word = imported(wake_word(name), manifest)
    sounds = [speech.speak(Voice("espeak-ng", speaker), manifest.wake_word, 1.0, 0.0) for speaker in SPEAKERS]
    loud = [np.round(sound * 20000 / np.abs(sound).max()).astype(np.int16) for sound in sounds]
    stream = np.concatenate([part for sound in loud for part in (sound, PAUSE)])
    rows, size = micro_frontend(stream), word.base.model.input.size
    [outputs] = word.outputs(None, [word.heard(stream)])
    theirs = micro_outputs(wake_word(name), inputs(as_firmware(rows), size))
    assert outputs.tolist() == [y[0] + 128 for y in theirs]
    # The Python package rounds features to the input's own grid; its decisions may begin or end a frame apart.
    [outputs] = word.outputs(None, [inputs(AudioFrontEnd(word.base.model.input).feed(stream), size)])
    said = decided(outputs, manifest.cutoff, manifest.window)
    parts = np.repeat(range(len(loud)), [len(sound) + len(PAUSE) for sound in loud])[:: size // AUDIO_SIZE * AUDIO_HOP]
    told = wakeword_decisions(MODELS / f"{name}.json", rows)
    assert heard_in(said, parts) == heard_in(told, parts) != set()


def heard_in(said: NDArray[np.bool_], parts: NDArray[np.int64]) -> set[int]:
    """The recordings in which a decision becomes true; parts: each frame's recording."""
    return {int(parts[i]) for i in np.flatnonzero(said) if i == 0 or not said[i - 1]}


def inputs(rows: NDArray[np.int8], size: int) -> NDArray[np.int8]:
    """Rows of features as inputs of this size."""
    each = size // AUDIO_SIZE
    return rows[: len(rows) // each * each].reshape(-1, size)


def test_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="choose one of en, es, fr, it, ru"):
        next(load_prompts("xx"))
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(MissingPackage, match="libspandsp2t64 is not installed.*make prompts"):
        next(load_prompts("en"))


@pytest.mark.skipif(
    not prompts.SOUNDS.is_dir() or not ctypes.util.find_library("spandsp"), reason="no prompts: `make prompts`"
)
def test_prompts_are_speech() -> None:
    for language in PROMPTS:
        _, sound = next(load_prompts(language))
        assert sound.dtype == np.int16 and 4000 < len(sound) < 200_000
        loud = np.abs(np.fft.rfft(sound.astype(float))) ** 2
        low = int(len(loud) * 4000 / 8000)
        assert np.abs(sound).max() > 3000 and loud[:low].sum() > 10 * loud[low:].sum()
