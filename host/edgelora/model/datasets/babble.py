"""Sound that fills the sound front end's features as speech does: to calibrate on where there are no recordings.

It is made of integers, so it is the same on every computer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 16000  # samples a second
PIECE = (800, 4800)  # samples of a syllable, 50 to 300 ms
PERIOD = (60, 200)  # samples of a voice's pitch, 80 to 270 Hz
LEVELS = 12  # octaves of loudness
RISE = 400  # samples, as long as it fades
PULSE, NOISE = 4096, 256
NUMERATOR, DENOMINATOR = 7, 8  # of a one-pole low-pass filter: speech is louder at low frequencies


def babble(seconds: int, seed: int = 0) -> NDArray[np.int16]:
    """Syllables of pulses or noise with all pitches and levels, one after another, int16 [seconds * RATE]."""
    rng, pieces, count = np.random.default_rng(seed), [], 0
    while count < seconds * RATE:
        pieces.append(_syllable(rng))
        count += len(pieces[-1])
    return _low_pass(np.concatenate(pieces)[: seconds * RATE])


def _syllable(rng: np.random.Generator) -> NDArray[np.int64]:
    length, period = int(rng.integers(*PIECE)), int(rng.integers(*PERIOD))
    level, voiced = int(rng.integers(LEVELS)), bool(rng.integers(3))
    sound = rng.integers(-NOISE, NOISE + 1, length)
    if voiced:
        sound //= 8
        sound[::period] += PULSE
    at = np.arange(length)
    envelope = np.minimum(np.minimum(at, at[::-1]), RISE)
    return (sound * envelope << level) // (RISE << 6)


def _low_pass(sound: NDArray[np.int64]) -> NDArray[np.int16]:
    last, found = 0, np.zeros(len(sound), np.int64)
    for i, value in enumerate(sound.tolist()):
        last = value + last * NUMERATOR // DENOMINATOR
        found[i] = last
    return np.clip(found, -32768, 32767).astype(np.int16)
