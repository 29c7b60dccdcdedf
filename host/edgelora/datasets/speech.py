"""Spoken words by this computer's synthesizers, and their spectral features."""

from __future__ import annotations

import io
import shutil
import subprocess
import wave
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import resources
from ..errors import EdgeloraError

Wave = NDArray[np.float64]  # [time], full scale 1
CACHE = resources.cache("kws")
RATE = 16000  # samples a second; a clip is one second
FRAME, HOP, FFT = 640, 320, 1024  # 40 ms windows every 20 ms
FRAMES, BANDS, COEFFICIENTS = 49, 40, 10
BAND_EDGES = (20.0, 4000.0)  # Hz, of the mel filters together
POWER_FLOOR = 1e-5  # added to a mel band's power before the logarithm: what a quiet microphone picks up


class SpeechError(EdgeloraError, RuntimeError):
    """The program that speaks the keywords is not there, or failed."""


@dataclass(frozen=True)
class Voice:
    """A synthesizer's voice. pitch: in Hz, for flite, which has to be told."""

    program: str
    identity: str
    pitch: float = 0.0


def coloured_noise(rng: np.random.Generator) -> Wave:
    """A second of noise at rms 1 whose power falls with a random slope (from white to brown) and which may swell."""
    frequency = np.maximum(np.fft.rfftfreq(RATE, 1 / RATE), 50.0)
    spectrum = rng.normal(size=(2, len(frequency))) * frequency ** -rng.uniform(0, 1)
    noise = np.fft.irfft(spectrum[0] + 1j * spectrum[1], RATE)
    noise *= 1 + rng.uniform(0, 0.9) * np.sin(2 * np.pi * (np.arange(RATE) / RATE * rng.uniform(0.5, 4) + rng.random()))
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))


# ---- speech ----------------------------------------------------------------------------------------------------------


def speak(voice: Voice, word: str, speed: float, pitch: float, stretch: float = 1.0) -> Wave:
    """A word at 16 kHz without the silence around it. speed: times the voice's own; pitch: semitones from its own."""
    if voice.program == "flite":
        tone = voice.pitch * 2 ** (pitch / 12)
        options = ["--setf", f"duration_stretch={1 / speed:.3f}", "--setf", f"int_f0_target_mean={tone:.1f}"]
        sound = _run("flite", "-voice", voice.identity, *options, "-t", word, "-o", "/dev/stdout")
    else:
        options = ["-s", str(round(175 * speed)), "-p", str(round(50 + 6 * pitch))]
        sound = _run("espeak-ng", "-v", voice.identity, *options, "--stdout", word)
    samples, rate = _samples(sound)
    return _resampled(_trimmed(samples), stretch * RATE / rate)


def _run(program: str, *arguments: str) -> bytes:
    if shutil.which(program) is None:
        raise SpeechError(f"{program} is not installed, which speaks the keywords: apt-get install espeak-ng flite")
    result = subprocess.run([program, *arguments], capture_output=True)
    if result.returncode or not result.stdout.startswith(b"RIFF"):
        raise SpeechError(f"{program} {' '.join(arguments)}: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout


def _samples(sound: bytes) -> tuple[Wave, int]:
    """Samples and rate of a 16-bit mono WAV file; espeak-ng leaves its length open when it writes into a pipe."""
    with wave.open(io.BytesIO(sound)) as file:
        rate = file.getframerate()
    data = sound[sound.index(b"data") + 8 :]
    return np.frombuffer(data[: len(data) // 2 * 2], "<i2") / 32768, rate


def _trimmed(samples: Wave) -> Wave:
    loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max())
    return samples[loud[0] : loud[-1] + 1]


def _resampled(samples: Wave, ratio: float) -> Wave:
    """`ratio` times as many samples, by way of the spectrum."""
    count = round(len(samples) * ratio)
    spectrum = np.fft.rfft(samples)[: count // 2 + 1]
    return np.fft.irfft(spectrum, count) * count / len(samples)


# ---- features --------------------------------------------------------------------------------------------------------


def features(clip: Wave) -> NDArray[np.float64]:
    """Cepstral coefficients [49, 10] of a second of sound, scaled to a mean of about 0 and a deviation of about 1.

    They are clipped to `LIMIT`, which spares the int8 range, and rounded to 1/1024, so that the last bits of a
    machine's own mathematics do not show.
    """
    frames = np.lib.stride_tricks.sliding_window_view(clip, FRAME)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME + 1)[:-1], FFT)) ** 2 / FRAME
    cepstrum = np.log(power @ MEL_FILTERS.T + POWER_FLOOR) @ COSINES.T
    return np.asarray(np.round(np.clip((cepstrum - CENTRE) / SPREAD, -LIMIT, LIMIT) * 1024) / 1024)


def _mel_filters() -> NDArray[np.float64]:
    """Triangles [bands, FFT // 2 + 1], evenly spaced in mel and of height 1."""
    low, high = (1127 * np.log1p(edge / 700) for edge in BAND_EDGES)
    mel = np.linspace(low, high, BANDS + 2)
    corner = (700 * np.expm1(mel / 1127))[:, None]
    frequency = np.fft.rfftfreq(FFT, 1 / RATE)
    rising = (frequency - corner[:-2]) / (corner[1:-1] - corner[:-2])
    falling = (corner[2:] - frequency) / (corner[2:] - corner[1:-1])
    return np.asarray(np.maximum(0, np.minimum(rising, falling)))


def _cosines() -> NDArray[np.float64]:
    """The first rows [coefficients, bands] of the orthonormal cosine transform (DCT-II)."""
    rows = np.cos(np.pi * np.arange(COEFFICIENTS)[:, None] * (np.arange(BANDS) + 0.5) / BANDS)
    rows *= np.sqrt(2 / BANDS)
    rows[0] /= np.sqrt(2)
    return rows


MEL_FILTERS, COSINES = _mel_filters(), _cosines()
# Mean and standard deviation of each coefficient over pretraining clips.
CENTRE = np.array([-49.5, 3.3, 1.4, -0.3, 0.0, 0.1, 0.0, 0.3, 0.1, 0.1])
SPREAD = np.array([13.0, 3.7, 2.7, 3.2, 2.3, 2.0, 1.7, 1.4, 1.3, 1.2])
LIMIT = 4.0
