"""Spoken keywords: synthesis, noise, features, and the same data from the same seed."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from edgelora.bench.learning import TASKS
from edgelora.datasets import keywords, speech
from edgelora.datasets import keywords as kws
from edgelora.floatnet.zoo import ds_cnn
from edgelora.training.base import load_part
from edgelora.training.recipe import Recipe, placed

speaks = pytest.mark.skipif(
    not (shutil.which("espeak-ng") and shutil.which("flite")), reason="espeak-ng and flite are not installed"
)
FEW = keywords.Recording(1, 3, 2, seed=5)


def tone(hertz: float, amplitude: float = 0.3) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(speech.RATE) / speech.RATE)


def test_features_are_cepstra_of_the_mel_bands():
    """The first two frames against sums written out."""
    clip = tone(440) + 0.1 * np.random.default_rng(0).normal(size=speech.RATE)
    got = speech.features(clip)
    assert got.shape == (49, 10)
    mel = np.linspace(1127 * np.log(1 + 20 / 700), 1127 * np.log(1 + 4000 / 700), 42)
    corner = 700 * (np.exp(mel / 1127) - 1)
    for frame in (0, 1):
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(640) / 640)
        power = np.abs(np.fft.fft(clip[frame * 320 : frame * 320 + 640] * window, 1024)) ** 2 / 640
        bands = []
        for low, middle, high in zip(corner, corner[1:], corner[2:], strict=False):
            at = np.arange(513) * 16000 / 1024
            bands.append(np.log(power[:513] @ np.interp(at, [low, middle, high], [0, 1, 0]) + speech.POWER_FLOOR))
        for k in range(10):
            basis = np.cos(np.pi * k * (np.arange(40) + 0.5) / 40) * np.sqrt((1 if k == 0 else 2) / 40)
            expected = np.clip((bands @ basis - speech.CENTRE[k]) / speech.SPREAD[k], -4, 4)
            assert got[frame, k] == pytest.approx(expected, abs=1e-3)


def test_noise_has_unit_level():
    for seed in range(5):
        assert np.sqrt(np.mean(speech.coloured_noise(np.random.default_rng(seed)) ** 2)) == pytest.approx(1)


def test_voices_to_personalize_are_not_pretrained_on():
    known = {(voice.program, voice.identity) for voice in keywords.PRETRAINING}
    assert not known & {(voice.program, voice.identity) for voice in keywords.VOICES.values()}
    assert len(known) > 50 and len(keywords.VOICES) >= 5


def test_unknown_voice_is_explained():
    with pytest.raises(ValueError, match="choose one of awb"):
        load_part("kws:nobody", "train")


def test_missing_synthesizer_is_explained(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(RuntimeError, match="flite is not installed.*apt-get install espeak-ng flite"):
        speech.speak(keywords.VOICES["slt"], "yes", 1, 0)


@speaks
@pytest.mark.parametrize("voice", [*keywords.VOICES.values(), *keywords.PRETRAINING])
def test_every_voice_speaks(voice):
    slow, fast = (speech.speak(voice, "seven", speed, 0) for speed in (0.8, 1.25))
    assert 0.2 * speech.RATE < len(fast) < len(slow) < 1.3 * speech.RATE
    assert 0.05 < np.abs(slow).max() <= 1.1


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
def test_the_same_seed_gives_the_same_clips_whoever_else_speaks():
    slt, german = keywords.VOICES["slt"], keywords.VOICES["german"]
    both, alone = keywords.record([slt, german], FEW), keywords.record([german], FEW)
    count = 10 + 3 + 2
    assert both.x.shape == (2 * count, 49, 10, 1) and both.x.dtype == np.float32 and both.labels == keywords.LABELS
    assert np.array_equal(both.x[count:], alone.x) and np.array_equal(both.y[count:], alone.y)
    assert np.bincount(alone.y).tolist() == [1] * 10 + [3, 2]
    other = keywords.record([german], replace(FEW, seed=6))
    assert not any(np.array_equal(a, b) for a, b in zip(alone.x, other.x, strict=True))


@speaks
def test_parts_are_made_once(tmp_path, monkeypatch):
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
    own, given = (task.recipe_for("frozen_a", 3, recipe) for recipe in (task.recipe, Recipe(given_rate=5)))
    assert (own.given_rate, own.given_momentum, own.seed) == (task.rates["frozen_a"], task.momenta["frozen_a"], 3)
    assert (own.rank, own.placement, given.given_rate) == (4, "pointwise", 5)


def test_placements():
    layers = ds_cnn((49, 10, 1), 12, 0).layers
    assert placed(layers, "all") == [0, 2, 4, 6, 8, 10]
    assert placed(layers, "pointwise") == [2, 4, 6, 8, 10]
    assert placed(layers, "last") == [10]
    with pytest.raises(ValueError, match="give one of all, pointwise, last"):
        Recipe(placement="first")
