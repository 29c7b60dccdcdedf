"""Spoken keywords: synthesis, noise, features, and the same data from the same seed."""

import shutil
import time
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.learning import TASKS
from edgelora.core.front_ends import AudioFrontEnd
from edgelora.learn.training.data.base import load_part
from edgelora.learn.training.recipe import Recipe, placed
from edgelora.model.datasets import keywords, speech
from edgelora.model.datasets import keywords as kws
from edgelora.model.datasets.speech import Voice
from edgelora.model.floatnet.layers import shapes
from edgelora.model.floatnet.zoo import ds_cnn

speaks = pytest.mark.skipif(
    not (shutil.which("espeak-ng") and shutil.which("flite")), reason="espeak-ng and flite are not installed"
)
FEW = keywords.Recording(1, 3, 2, seed=5)


def test_noise_has_unit_level():
    for seed in range(5):
        assert np.sqrt(np.mean(speech.colored_noise(np.random.default_rng(seed)) ** 2)) == pytest.approx(1)


def test_voices_to_personalize_are_not_pretrained_on():
    known = {(voice.program, voice.identity) for voice in keywords.PRETRAINING}
    assert not known & {(voice.program, voice.identity) for voice in keywords.VOICES.values()}
    foreign = {keywords.VOICES[name].identity.split("+")[0] for name in ("german", "polish", "spanish")}
    assert not foreign & {accent.split("-")[0] for accent in (*keywords.ACCENTS, *keywords.FOREIGN)}
    assert len(known) > 50 and len(keywords.VOICES) >= 5


def test_unknown_voice_is_explained():
    with pytest.raises(ValueError, match="choose one of awb"):
        load_part("kws:nobody", "train")


def test_missing_synthesizer_is_explained(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(RuntimeError, match="keywords needs flite: apt-get install espeak-ng flite"):
        speech.speak(keywords.VOICES["slt"], "yes", 1, 0)


@speaks
@pytest.mark.parametrize("voice", [*keywords.VOICES.values(), *keywords.PRETRAINING])
def test_every_voice_speaks(voice):
    slow, fast = (speech.speak(voice, "seven", speed, 0) for speed in (0.8, 1.25))
    assert 0.2 * speech.RATE < len(fast) < len(slow) < 1.3 * speech.RATE
    assert 0.05 < np.abs(slow).max() <= 1.1


@speaks
@pytest.mark.parametrize("voice", [keywords.VOICES["whisper"], Voice("espeak-ng", "en-us-nyc+f2")])
def test_a_breathy_voice_sounds_the_same_at_any_time(voice):
    """espeak-ng seeds its noise by the clock's seconds unless told otherwise."""
    first = speech.speak(voice, "seven", 1, 0)
    begun = int(time.time())
    while int(time.time()) == begun:
        time.sleep(0.05)
    assert np.array_equal(first, speech.speak(voice, "seven", 1, 0))


@speaks
def test_stretching_makes_a_word_longer_and_deeper():
    voice = keywords.VOICES["slt"]
    plain, stretched = (speech.speak(voice, "no", 1, 0, stretch) for stretch in (1.0, 1.2))
    assert len(stretched) == pytest.approx(1.2 * len(plain), abs=1)
    centre = [
        np.average(np.arange(len(wave) // 2 + 1) / len(wave), weights=np.abs(np.fft.rfft(wave)))
        for wave in (plain, stretched)
    ]
    assert centre[1] < 0.95 * centre[0]


@speaks
def test_clips_of_a_voice_do_not_depend_on_the_other_voices():
    slt, german = keywords.VOICES["slt"], keywords.VOICES["german"]
    both, alone = keywords.record([slt, german], FEW), keywords.record([german], FEW)
    count = 10 + 3 + 2
    assert both.x.shape == (2 * count, 98, 40, 1) and both.x.dtype == np.float32 and both.labels == keywords.LABELS
    assert np.array_equal(both.x[count:], alone.x) and np.array_equal(both.y[count:], alone.y)
    assert np.bincount(alone.y).tolist() == [1] * 10 + [3, 2]
    other = keywords.record([german], replace(FEW, seed=6))
    assert not any(np.array_equal(a, b) for a, b in zip(alone.x, other.x, strict=True))


@speaks
def test_features_equal_those_of_a_board():
    """A second of sound that directly follows noise; in the signal's scale, from which counts are recovered."""
    slt = keywords.VOICES["slt"]
    data = keywords.record([slt], FEW)
    sound = keywords.clip(slt, "yes", 0, FEW)
    assert sound.dtype == np.int16 and len(sound) == 24000 and data.signal.window == 16000
    rows = AudioFrontEnd().feed(sound)
    assert len(rows) == 148 and np.array_equal(data.signal.counts(data.x[0, ..., 0, None])[..., 0], rows[50:])
    silent = keywords.clip(slt, "", 0, FEW).astype(float)
    assert np.abs(silent[:8000] - silent[-8000:]).max() <= 1, "the noise goes over into itself"


@speaks
def test_generated_parts_are_cached(tmp_path, monkeypatch):
    monkeypatch.setitem(keywords.PARTS, "train", FEW)
    voices = [keywords.VOICES["awb"]]
    made = keywords.spoken(voices, "train", tmp_path)
    monkeypatch.setattr(kws, "record", None)
    again = keywords.spoken(voices, "train", tmp_path)
    assert np.array_equal(made.x, again.x) and again.labels == keywords.LABELS
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]
    with pytest.raises(TypeError):
        monkeypatch.setitem(keywords.PARTS, "train", replace(FEW, seed=6))
        keywords.spoken(voices, "train", tmp_path)


def test_the_task_has_its_own_settings_unless_given():
    task = TASKS["kws"]
    own, given = (task.recipe_for("frozen_a", 3, recipe) for recipe in (task.recipe, Recipe(learning_rate=5)))
    assert (own.learning_rate, own.momentum, own.seed) == (task.rates["frozen_a"], task.momenta["frozen_a"], 3)
    assert (own.rank, own.placement, given.learning_rate) == (4, "pointwise", 5)


def test_placements():
    layers = ds_cnn((49, 10, 1), 12, 0).layers
    assert [shape[:2] for shape in shapes(ds_cnn((98, 40, 1), 12, 0))] == [(98, 40), *[(25, 5)] * 9, (1, 1), (1, 1)]
    assert placed(layers, "all") == [0, 2, 4, 6, 8, 10]
    assert placed(layers, "pointwise") == [2, 4, 6, 8, 10]
    assert placed(layers, "last") == [10]
    with pytest.raises(ValueError, match="give one of all, pointwise, last"):
        Recipe(placement="first")
