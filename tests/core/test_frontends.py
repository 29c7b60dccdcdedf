"""Front ends: audio against TensorFlow Lite Micro's own code, vibration against NumPy in integers and in floats."""

from __future__ import annotations

import shutil
import subprocess
import sys

import fresh
import numpy as np
import pytest
import reference
import signal_reference
from audio_oracles import as_firmware, micro_frontend
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.base.resources import ROOT
from edgelora.core.formats.fixed_point import quantize_multiplier
from edgelora.core.formats.network import Tensor
from edgelora.core.front_ends import AudioFrontEnd, SpectralFrontEnd
from edgelora.core.twin.binding import TwinError
from edgelora.model.datasets import speech

Samples = NDArray[np.int16]
HOP = 160
TABLES = ROOT / "micropython_module" / "core" / "signal" / "tables.c"


def test_tables_are_those_of_their_script() -> None:
    script = [sys.executable, ROOT / "tools" / "signal_tables.py"]
    assert subprocess.run(script, capture_output=True, text=True, check=True).stdout == TABLES.read_text()


# ---- sound


def cut(values: NDArray[np.floating] | NDArray[np.integer]) -> Samples:
    return np.clip(np.round(values), -32768, 32767).astype(np.int16)


def flat_behind_the_window(rng: np.random.Generator, steps: int) -> Samples:
    """Samples with a flat magnitude after windowing, as rotating complex corners: sums of the FFT exceed 16 bits."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(480) + 0.5) / 480)
    even = np.tile(np.clip(3000 / np.maximum(hann, 0.05), 0, 32767), steps // 3 + 1)
    n = np.arange(len(even))
    turn = np.sin(2 * np.pi * rng.uniform(0, 0.5) * (n // 2) + n % 2 * np.pi / 2)
    return cut(even * np.where(turn < 0, -1, 1))


def drawn(seed: int, steps: int) -> dict[str, Samples]:
    rng = np.random.default_rng(seed)
    n = np.arange(steps * HOP)
    levels = np.repeat(2.0 ** rng.integers(0, 16, steps), HOP)
    return {
        "full scale": rng.integers(-32768, 32768, len(n)).astype(np.int16),
        "a few bits": rng.integers(-3, 4, len(n)).astype(np.int16),
        "levels that jump": cut(rng.normal(size=len(n)) * levels),
        "square": np.where(np.sin(2 * np.pi * rng.uniform(0, 0.5) * n) < 0, -32768, 32767).astype(np.int16),
        "extremes alone": rng.choice(np.array([-32768, 0, 32767], np.int16), len(n)),
        "flat": flat_behind_the_window(rng, steps),
    }


@pytest.mark.parametrize("seed", fresh.fresh_seeds(2))
def test_sound_equals_the_micro_frontend(seed: int) -> None:
    compared = 0
    for name, samples in drawn(seed, 250).items():
        ours, theirs = AudioFrontEnd().feed(samples), micro_frontend(samples)
        assert np.array_equal(ours, theirs), name
        compared += ours.size
    assert compared > 55_000


@pytest.mark.parametrize("value", [0, 1, -1, 32767, -32768])
def test_constant_sound(value: int) -> None:
    samples = np.full(60 * HOP, value, np.int16)
    samples[40 * HOP :] = 0  # what remains of the noise estimate
    assert np.array_equal(AudioFrontEnd().feed(samples), micro_frontend(samples))


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="espeak-ng is not installed: `make setup`")
def test_speech_equals_the_micro_frontend() -> None:
    words = ("alexa", "hey jarvis", "okay nabu", "one two three four five six seven eight nine ten")
    for voice in ("en-us", "de", "fr"):
        for word in words:
            sound = speech.speak(speech.Voice("espeak-ng", voice), word, 1.0, 0.0)
            samples = cut(np.concatenate([sound, np.zeros(8000)]) * 25000 / np.abs(sound).max())
            assert np.array_equal(AudioFrontEnd().feed(samples), micro_frontend(samples)), (voice, word)


def test_pieces_and_resets_change_nothing() -> None:
    rng = np.random.default_rng(fresh.SEED)
    samples = rng.integers(-9000, 9000, 40 * HOP).astype(np.int16)
    whole = AudioFrontEnd().feed(samples)
    pieces, front = [], AudioFrontEnd()
    front.feed(rng.integers(-9000, 9000, 777).astype(np.int16))
    front.reset()
    for part in np.split(samples, np.sort(rng.integers(0, len(samples), 30))):
        pieces.append(front.feed(part))
    assert np.array_equal(np.concatenate(pieces), whole)


def test_int8_as_deployed_firmware_has_it() -> None:
    loud = 32767 * np.sin(2 * np.pi * 3000 / 16000 * np.arange(20 * HOP))
    samples = cut(np.concatenate([np.zeros(20 * HOP), loud, drawn(fresh.SEED, 60)["levels that jump"]]))
    raw = AudioFrontEnd().feed(samples)
    assert raw.max() >= 665  # which saturates
    assert np.array_equal(AudioFrontEnd("firmware").feed(samples), as_firmware(raw))


def grid(scale: float, zero_point: int) -> Tensor:
    return Tensor((1, 1, 40), scale, zero_point)


@pytest.mark.parametrize("seed", fresh.fresh_seeds(3))
def test_int8_on_a_models_grid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = drawn(seed, 60)["levels that jump"]
    raw = AudioFrontEnd().feed(samples).astype(int)
    vibration = SpectralFrontEnd().feed(samples).astype(int)
    for scale in (0.10196078568696976, 0.0390625, *np.float32(10 ** rng.uniform(-3, 1, 20))):
        zero_point = int(rng.integers(-128, 128))
        for found, values, unit, front in (
            (AudioFrontEnd(grid(float(scale), zero_point)), raw, 5 / 128, "audio"),
            (SpectralFrontEnd(to=grid(float(scale), zero_point)), vibration, 1 / 256, "spectral"),
        ):
            multiplier, shift = quantize_multiplier(unit / float(np.float32(scale)))
            expected = reference.requantize(values, np.array(multiplier), np.array(shift)) + zero_point
            assert np.array_equal(found.feed(samples), np.clip(expected, -128, 127)), (scale, front)


# ---- vibration


def shaken(seed: int, frames: int) -> dict[str, Samples]:
    rng = np.random.default_rng(seed)
    n = np.arange(512 * frames)
    noise = rng.normal(size=len(n))
    ringing = 20000 * np.exp(-(n % 977) / 20) * np.sin(1.9 * n) * (n // 977 % 3 == 0)
    return {
        "noise": cut(noise * 2 ** rng.uniform(0, 14) + rng.integers(-9000, 9000)),
        "full scale": rng.integers(-32768, 32768, len(n)).astype(np.int16),
        "square": np.where(np.sin(rng.uniform(0, 3) * n) < 0, -32768, 32767).astype(np.int16),
        "silence, then louder and louder": cut((n > 512 * 9) * noise * 2 ** (n / len(n) * 14) - 7),
        "one beat": (n == rng.integers(len(n))).astype(np.int16),
        "a bearing": cut(50 * noise + ringing),
        "tones": cut(8000 * np.sin(0.1 * n) + 200 * np.sin(2.2 * n) * (1 + 0.5 * np.sin(0.01 * n)) + noise),
    }


@pytest.mark.parametrize("seed", fresh.fresh_seeds(2))
@pytest.mark.parametrize("frames", [8, 24])
def test_vibration_equals_the_integer_reference(seed: int, frames: int) -> None:
    for name, samples in shaken(seed, 2 * frames + 3).items():
        found = SpectralFrontEnd(frames=frames).feed(samples)
        assert np.array_equal(found, signal_reference.spectral(samples, frames)), name
        assert found.shape == (2, 68)


@pytest.mark.parametrize("seed", [1155848515, *fresh.fresh_seeds(2)])  # the first has a band of next to nothing
def test_vibration_is_what_the_formulas_say(seed: int) -> None:
    """Noise of 300 to 5000 steps: bands within 6/256 octave on average, 95 % within 1/8; statistics within 1/64.

    Larger errors occur only in a band of one bin that is almost empty in a frame.
    """
    rng = np.random.default_rng(seed)
    for _ in range(4):
        samples = cut(rng.normal(size=512 * 32) * 300 * 16 ** rng.uniform(0, 1) + rng.uniform(-9000, 9000))
        found = SpectralFrontEnd(frames=16).feed(samples)
        exact = signal_reference.spectral_float(samples, 16)
        off, next_to_nothing = np.abs(found - exact), exact[:, :64] < 512
        assert off[:, :64][~next_to_nothing].mean() < 6 and np.quantile(off[:, :64], 0.95) < 32
        assert next_to_nothing.sum() <= 1
        assert off[:, 64:].max() <= 4


def test_one_channel_of_several() -> None:
    rng = np.random.default_rng(fresh.SEED)
    samples = rng.integers(-5000, 5000, (512 * 16, 3)).astype(np.int16)
    for channel in range(3):
        alone = SpectralFrontEnd().feed(np.ascontiguousarray(samples[:, channel]))
        front = SpectralFrontEnd(3, channel)
        assert np.array_equal(front.feed(samples), alone)
        assert (front.window, front.channels, front.stride) == (512, 3, 4096)


def test_a_bearing_fault_raises_its_features() -> None:
    """Impacts of a bearing raise kurtosis, crest and the envelope's band at their rate, at nearly the same rms."""
    rng = np.random.default_rng(fresh.SEED)
    n = np.arange(512 * 64)
    well = 1000 * np.sin(0.12 * n) + 100 * rng.normal(size=len(n))
    beats = 900 * np.exp(-(n % 128) / 8) * np.sin(2.0 * n)  # 4 in 512 samples: bin 32 of the envelope's 512
    before, after = (SpectralFrontEnd().feed(cut(x)).astype(int).mean(axis=0) for x in (well, well + beats))
    band = np.searchsorted(np.cumsum(np.diff(signal_reference.edges(24))), 32)
    assert after[40 + band] - before[40 + band] > 3 * 256
    assert abs(after[64] - before[64]) < 64 and after[67] - before[67] > 20


# ---- invalid settings and samples


def test_invalid_settings_and_samples_are_refused() -> None:
    for wrong in ((0, 0, 8), (3, 3, 8), (17, 0, 8), (1, 0, 12), (1, 0, 0), (1, 0, 264)):
        with pytest.raises(TwinError, match="channels are 1 to 16"):
            SpectralFrontEnd(*wrong)
    with pytest.raises(InputError, match="'loud'"):
        AudioFrontEnd("loud")
    for scale in (0.0, -1.0, float("nan"), float("inf"), 1e-9, 1e30):
        with pytest.raises(TwinError, match="the scale a positive number"):
            AudioFrontEnd(grid(scale, 0))
    with pytest.raises(InputError, match="give int16"):
        AudioFrontEnd().feed(np.zeros(480))
    front = AudioFrontEnd()
    for samples, out in ((159, 40), (160, 39)):
        with pytest.raises(TwinError, match="`window` int16 samples"):
            front.step(np.zeros(samples, np.int16), np.zeros(out, np.int16))
