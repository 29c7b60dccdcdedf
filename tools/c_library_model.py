"""The example of the C library: a small base of three gestures, and an owner who wears the sensor turned.

Motions are drawn, not measured, by float64 sums and products alone: every computer draws the same.
"""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.signal import Normal, Signal
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.floatnet.pretraining import pretrain
from edgelora.model.quantization.quantize import quantize_on

GESTURES = ["circle", "shake", "lift"]
WINDOW, RATE, COUNT = 48, 50.0, 1 / 4096  # samples; a second; g of a count
PEOPLE, OF_EACH, EPOCHS = 8, 16, 12  # in pretraining: people, windows of each person and gesture, epochs
TURNED = ((0.0, 0.8, -0.6), (-1.0, 0.0, 0.0), (0.0, 0.6, 0.8))  # the owner's sensor on the arm

Turn = tuple[tuple[float, float, float], ...]  # rows of a matrix


def base() -> bytes:
    """The base's `.elm`: windows of three axes of acceleration, in g, to three gestures."""
    rng = random.Random(1)
    people = [_windows(rng, _person(rng), OF_EACH) for _ in range(PEOPLE)]
    x, y = (np.concatenate(parts) for parts in zip(*people, strict=True))
    signal = Signal(RATE, 3, WINDOW, WINDOW // 2, (Normal(COUNT),) * 3, units="g")
    data = Dataset((x * COUNT).astype(np.float32), y, GESTURES, signal)
    return pack_model(quantize_on(pretrain(data, epochs=EPOCHS), data))


def owner(of_each: int, seed: int) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Counts [N, 1, window, 3] of the owner's gestures, and their classes [N], in turn."""
    return _windows(random.Random(seed), TURNED, of_each)


def _person(rng: random.Random) -> Turn:
    """Somebody who wears the sensor upright, but for small angles."""
    a, b, c = (rng.uniform(-0.3, 0.3) for _ in range(3))
    return ((1.0, a, b), (-a, 1.0, c), (-b, -c, 1.0))


def _windows(rng: random.Random, turn: Turn, of_each: int) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    y = np.arange(of_each * len(GESTURES)) % len(GESTURES)
    windows = [_window(rng, GESTURES[label], turn) for label in y]
    return np.stack(windows)[:, None], y


def _window(rng: random.Random, gesture: str, turn: Turn) -> NDArray[np.int16]:
    """Counts [window, 3] of a sensor turned like this: gravity, and a motion of varying speed and strength."""
    at = np.arange(WINDOW) / RATE * rng.uniform(0.8, 1.25) + rng.random()  # seconds
    strength, still = rng.uniform(0.6, 1.2), np.zeros(WINDOW)
    x, y, z = {
        "circle": (_wave(1.2 * at), still, _wave(1.2 * at + 0.25)),
        "shake": (_wave(3.5 * at), 0.3 * _wave(3.5 * at + 0.1), still),
        "lift": (still, 0.3 * _wave(1.6 * at + 0.5), _wave(1.6 * at)),
    }[gesture]
    motion = strength * x, strength * y, 1 + strength * z
    seen = [row[0] * motion[0] + row[1] * motion[1] + row[2] * motion[2] for row in turn]
    noise = np.array([rng.uniform(-0.15, 0.15) for _ in range(3 * WINDOW)]).reshape(3, WINDOW)
    return np.clip(np.floor((np.array(seen) + noise).T / COUNT + 0.5), -32768, 32767).astype(np.int16)


def _wave(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """About the sine of so many turns: two parabolas."""
    part = turns - np.floor(turns)
    return np.where(part < 0.5, 16 * part * (0.5 - part), -16 * (part - 0.5) * (1 - part))
