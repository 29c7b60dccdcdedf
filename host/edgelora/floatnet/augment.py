"""Augmentation of motion and speech by what differs between people: how a sensor sits, how fast and how
widely they move, what microphone they speak into."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from ..errors import InputError
from . import layers, train

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

    shift: int = 6  # frames, to either side
    response: float = 0.3  # added to each coefficient: a microphone's frequency response
    noise: float = 0.1  # added to every element
    gap: int = 7  # frames that are 0 (SpecAugment: D. Park et al., 2019, arXiv:1904.08779)


ONE_SPEAKER = Speaking(shift=3, response=0.15, noise=0.05, gap=3)  # one voice and microphone vary less than all


def augmentation(kind: str, shape: layers.Shape) -> train.Augment:
    """One of `AUGMENTATIONS` for windows of this shape and of one person. ValueError if it is for others.

    Motion is varied as much as in pretraining, speech half as much (chosen with people who are in no benchmark).
    """
    height, _, channels = shape
    if (height == 1, channels) != {"motion": (True, 6), "speech": (False, 1)}[kind]:
        wanted = {"motion": "1, time, 6", "speech": "time, coefficients, 1"}[kind]
        raise InputError(f"augmentation {kind!r} is for windows [{wanted}], these are {list(shape)}")
    if kind == "speech":
        return partial(augment_speech, speaking=ONE_SPEAKER)
    return partial(augment_motion, wearer=Wearer())


def augment_speech(x: layers.Array, rng: np.random.Generator, speaking: Speaking) -> layers.Array:
    """Cepstra [N, time, coefficients, 1] moved in time, through other microphones, with noise and a short gap."""
    n, time, coefficients, _ = x.shape
    frame = np.arange(time)
    shift = rng.integers(-speaking.shift, speaking.shift + 1, (n, 1))
    moved = x[np.arange(n)[:, None], (frame - shift) % time]
    moved += rng.normal(0, speaking.response, (n, 1, coefficients, 1)).astype(x.dtype)
    moved += speaking.noise * rng.standard_normal(moved.shape, x.dtype)
    start, length = rng.integers(0, time, (n, 1)), rng.integers(0, speaking.gap + 1, (n, 1))
    moved[(frame >= start) & (frame < start + length)] = 0
    return moved


def augment_motion(x: layers.Array, rng: np.random.Generator, wearer: Wearer) -> layers.Array:
    """Windows [N, 1, time, 6] as if worn and moved by somebody else; a stretched window repeats its edge samples."""
    n, _, time, _ = x.shape
    tempo = np.exp(rng.normal(0, wearer.tempo, (n, 1, 1, 1))).astype(x.dtype)
    vigour = np.exp(rng.normal(0, wearer.vigour, (n, 1, 1, 1))).astype(x.dtype)
    rotation = _rotations(rng.normal(0, wearer.tilt, (n,)), rng.normal(size=(n, 3))).astype(x.dtype)
    moved = _stretched(x[:, 0], tempo[:, 0, 0, 0])
    moved = (moved.reshape(n, time, 2, 3) @ rotation[:, None]).astype(x.dtype)
    moved[:, :, 1] *= (tempo * vigour)[:, 0]
    moved += wearer.noise * rng.standard_normal(moved.shape, x.dtype)
    return moved.reshape(x.shape)


def _stretched(x: layers.Array, tempo: layers.Array) -> layers.Array:
    """x [N, time, C] played `tempo` [N] times as fast about its middle, interpolated linearly."""
    time = x.shape[1]
    middle = (time - 1) / 2
    at = np.clip((np.arange(time) - middle) * tempo[:, None] + middle, 0, time - 1)
    before = np.minimum(at.astype(int), time - 2)
    part = (at - before)[:, :, None].astype(x.dtype)
    rows = np.arange(len(x))[:, None]
    return x[rows, before] * (1 - part) + x[rows, before + 1] * part


def _rotations(angles: layers.Array, axes: layers.Array) -> layers.Array:
    """Rotation matrices [N, 3, 3] by `angles` [N] in radians about `axes` [N, 3] of any length (Rodrigues)."""
    x, y, z = (axes / np.linalg.norm(axes, axis=1, keepdims=True)).T
    o = np.zeros_like(x)
    cross = np.array([[o, -z, y], [z, o, -x], [-y, x, o]]).transpose(2, 0, 1)
    sin, cos = np.sin(angles)[:, None, None], np.cos(angles)[:, None, None]
    return np.eye(3) + sin * cross + (1 - cos) * cross @ cross
