"""Spoken words by this computer's synthesizers."""

from __future__ import annotations

import io
import shutil
import subprocess
import wave
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelora.base import resources
from edgelora.base.errors import EdgeloraError
from edgelora.core.front_ends import AUDIO_RATE

Wave = NDArray[np.float64]  # [time], full scale 1
CACHE = resources.cache("kws")
RATE = AUDIO_RATE  # samples a second; a clip is one second
SPEECH_VERSION = 2  # version of `speak`'s output, part of cache keys


class SpeechError(EdgeloraError, RuntimeError):
    """The speech synthesizer is missing, or failed."""


@dataclass(frozen=True)
class Voice:
    """A synthesizer's voice. pitch: in Hz, which flite requires."""

    program: str
    identity: str
    pitch: float = 0.0


def colored_noise(rng: np.random.Generator) -> Wave:
    """A second of noise at rms 1 whose power falls with a random slope (from white to brown) and which may swell."""
    frequency = np.maximum(np.fft.rfftfreq(RATE, 1 / RATE), 50.0)
    spectrum = rng.normal(size=(2, len(frequency))) * frequency ** -rng.uniform(0, 1)
    noise = np.fft.irfft(spectrum[0] + 1j * spectrum[1], RATE)
    noise *= 1 + rng.uniform(0, 0.9) * np.sin(2 * np.pi * (np.arange(RATE) / RATE * rng.uniform(0.5, 4) + rng.random()))
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))


def speak(voice: Voice, word: str, speed: float, pitch: float, stretch: float = 1.0) -> Wave:
    """A word at 16 kHz without surrounding silence. speed: relative to the voice's; pitch: semitones relative to it.

    espeak-ng seeds a voice's breath noise by the time, unless deterministic (-D).
    """
    if voice.program == "flite":
        tone = voice.pitch * 2 ** (pitch / 12)
        options = ["--setf", f"duration_stretch={1 / speed:.3f}", "--setf", f"int_f0_target_mean={tone:.1f}"]
        sound = _run("flite", "-voice", voice.identity, *options, "-t", word, "-o", "/dev/stdout")
    else:
        options = ["-D", "-s", str(round(175 * speed)), "-p", str(round(50 + 6 * pitch))]
        sound = _run("espeak-ng", "-v", voice.identity, *options, "--stdout", word)
    samples, rate = _samples(sound)
    return _resampled(_trimmed(samples), stretch * RATE / rate)


def check_speech(*programs: str) -> None:
    """Raises `SpeechError` if a program that speaks keywords is missing; without names any of them."""
    missing = [program for program in programs or ("espeak-ng", "flite") if shutil.which(program) is None]
    if missing:
        names = " and ".join(missing)
        raise SpeechError(f"speaking keywords needs {names}: apt-get install espeak-ng flite")


def _run(program: str, *arguments: str) -> bytes:
    check_speech(program)
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
