"""Augmentation of motion and speech by differences between people: how a sensor sits, how fast and how
widely they move, what microphone they speak into."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from edgelora.base.errors import InputError

from . import deterministic_math, layers, train

AUGMENTATIONS = ("motion", "speech")


@dataclass(frozen=True)
class Wearer:
    """How much augmentation varies a six-axis window: standard deviations of each random draw."""

    tilt: float = 0.25  # angle of a rotation about a random axis, radians
    tempo: float = 0.2  # log of the time stretch; angular rates scale with it
    vigour: float = 0.15  # log of a gain on angular rates
    noise: float = 0.03  # added to every sample, in the data's units


@dataclass(frozen=True)
class Speaking:
    """How much augmentation varies a spectrogram: by random draws up to, or of standard deviations, of these."""

    shift: float = 1 / 8  # of its frames, to either side
    response: float = 0.3  # added to each coefficient: a microphone's frequency response
    noise: float = 0.1  # added to every element
    gap: float = 1 / 7  # of its frames, which are 0 (SpecAugment: D. Park et al., 2019, arXiv:1904.08779)


ONE_SPEAKER = Speaking(
    shift=1 / 16, response=0.15, noise=0.05, gap=1 / 16
)  # one voice and microphone vary less than all


def augmentation(kind: str, shape: layers.Shape) -> train.Augment:
    """One of `AUGMENTATIONS` for windows of this shape and of one person. ValueError if it does not fit.

    Motion is varied as much as in pretraining, speech half as much (tuned on people outside the benchmarks).
    """
    height, _, channels = shape
    if (height == 1, channels) != {"motion": (True, 6), "speech": (False, 1)}[kind]:
        wanted = {"motion": "1, time, 6", "speech": "time, coefficients, 1"}[kind]
        raise InputError(f"augmentation {kind!r} is for windows [{wanted}], these are {list(shape)}")
    if kind == "speech":
        return partial(augment_speech, speaking=ONE_SPEAKER)
    return partial(augment_motion, wearer=Wearer())


def augment_speech(x: layers.Array, rng: np.random.Generator, speaking: Speaking) -> layers.Array:
    """Spectrograms [N, time, coefficients, 1] moved in time, through other microphones, with noise and a short gap."""
    n, time, coefficients, _ = x.shape
    frame = np.arange(time)
    most, longest = int(time * speaking.shift), int(time * speaking.gap)
    shift = rng.integers(-most, most + 1, (n, 1))
    moved: layers.Array = x[np.arange(n)[:, None], (frame - shift) % time]
    moved += deterministic_math.normal(rng, (n, 1, coefficients, 1), speaking.response)
    moved += deterministic_math.normal(rng, moved.shape, speaking.noise)
    start, length = rng.integers(0, time, (n, 1)), rng.integers(0, longest + 1, (n, 1))
    moved[(frame >= start) & (frame < start + length)] = 0
    return moved


def augment_motion(x: layers.Array, rng: np.random.Generator, wearer: Wearer) -> layers.Array:
    """Windows [N, 1, time, 6] as if worn by another person; a stretched window repeats its edge samples."""
    n, _, time, _ = x.shape
    tempo, vigour = (
        deterministic_math.exp(deterministic_math.normal(rng, (n, 1, 1, 1), scale))
        for scale in (wearer.tempo, wearer.vigour)
    )
    turns, axes = deterministic_math.normal(rng, (n,), wearer.tilt), deterministic_math.normal(rng, (n, 3))
    rotation = _rotations(turns.astype(x.dtype), axes.astype(x.dtype))
    before = _stretched(x[:, 0], tempo[:, 0, 0, 0]).reshape(n, time, 2, 3)
    moved = np.empty_like(before)
    for j in range(3):
        one, two, three = (before[..., i] * rotation[:, i, j, None, None] for i in range(3))
        moved[..., j] = one + two + three
    moved[:, :, 1] *= (tempo * vigour)[:, 0]
    moved += deterministic_math.normal(rng, moved.shape, wearer.noise)
    return moved.reshape(x.shape)


def _stretched(x: layers.Array, tempo: layers.Array) -> layers.Array:
    """x [N, time, C] played `tempo` [N] times as fast about its middle, interpolated linearly."""
    time = x.shape[1]
    middle = (time - 1) / 2
    at = np.clip((np.arange(time) - middle) * tempo[:, None] + middle, 0, time - 1)
    before = np.minimum(at.astype(int), time - 2)
    part = (at - before)[:, :, None].astype(x.dtype)
    rows = np.arange(len(x))[:, None]
    return np.asarray(x[rows, before] * (1 - part) + x[rows, before + 1] * part)


def _rotations(angles: layers.Array, axes: layers.Array) -> layers.Array:
    """Rotation matrices [N, 3, 3] about `axes` [N, 3] of any length, by nearly `angles` [N] in radians where these are
    small: by 2 atan(angle / 2), which takes no sines (A. Cayley, 1846)."""
    x, y, z = axes.T
    x, y, z = (v / np.sqrt(x * x + y * y + z * z) for v in (x, y, z))
    o, unit = np.zeros_like(x), np.eye(3, dtype=x.dtype)
    cross = np.array([[o, -z, y], [z, o, -x], [-y, x, o]]).transpose(2, 0, 1)
    along = np.array([[x * x, x * y, x * z], [x * y, y * y, y * z], [x * z, y * z, z * z]]).transpose(2, 0, 1)
    t = (angles / 2)[:, None, None]
    return np.asarray(((1 - t * t) * unit + 2 * t * t * along + 2 * t * cross) / (1 + t * t))
