"""Deployed wake words from sound: outputs equal TensorFlow Lite Micro's, decisions equal pymicro-wakeword's."""

from __future__ import annotations

import ctypes.util
import shutil

import numpy as np
import pytest

from benchmarks import wakewords
from edgelora.base.errors import InputError, MissingPackage
from edgelora.model.datasets import prompts
from edgelora.model.datasets.prompts import PROMPTS, load_prompts

pytest.importorskip("tflite_micro")
pytest.importorskip("pymicro_wakeword")


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed: `make setup`")
def test_wake_words_that_are_spoken() -> None:
    rows = wakewords.listen(wakewords.SPOKEN, True)
    assert [row.word for row in rows] == list(wakewords.WAKE_WORDS)
    assert [(row.different, row.disagreed) for row in rows] == [(0, 0)] * 4
    assert sum(row.accepted for row in rows) > 12 and sum(row.frames for row in rows) > 1000


def test_wake_words_are_counted_while_the_mean_probability_is_above_the_cutoff() -> None:
    """True while the mean of the last few probabilities is above the cutoff; each such stretch counts once."""
    word = wakewords.WakeWord("w", "w", b"", 0.5, 2)
    said = wakewords.decide(word, np.array([1, 0, 1, 0.25, 0, 1, 1]))
    assert said.tolist() == [False, False, False, True, False, False, True]
    said[2] = True
    assert np.flatnonzero(wakewords.begins(said)).tolist() == [2, 6]
    whole = wakewords.Heard("alexa", "en", 0.5, 3, 10, 2, 100)
    total = wakewords.WakeWordsBench([whole, wakewords.Heard("alexa", "fr", 0.25, 0, 5, 0, 50)]).totals[0]
    assert (total.per_hour, total.recordings, total.frames, total.different) == (4.0, 15, 150, None)


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
