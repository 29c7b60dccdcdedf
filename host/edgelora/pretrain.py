"""Pretraining of the base networks that go onto the board: a small 1-D convolutional net over sensor windows, and the
DS-CNN for keywords.

The former's int8 size is fixed by the smallest board: for windows of 100 samples on six channels 91 thousand
multiply-accumulates an inference, activations of at most 800 bytes, 6.5 KB of weights. What lets both work for people
they never saw is augmentation with what differs between these: how a sensor sits, how fast and how widely they move,
what microphone they speak into.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from . import nn, same
from .data import Dataset
from .errors import InputError
from .nn import load_net, save_net
from .quantize import balanced

__all__ = ["Wearer", "augment_motion", "augment_speech", "ds_cnn", "har_net", "load_net", "pretrain", "save_net"]

VERSION = 2  # of what comes out for the same data and seed: part of the names under which bases are kept
MOTION_EPOCHS, SPEECH_EPOCHS = 40, 12
AUGMENTATIONS = ("motion", "speech")
BALANCED_ON = 512  # samples that show how far each channel reaches


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


def har_net(input_shape: nn.Shape, classes: int, seed: int, labels: list[str] | None = None) -> nn.FloatNet:
    """An untrained network for windows [1, time, channels]: three strided convolutions, an average over time, dense."""
    layers = [
        nn.conv(16, (1, 5), (1, 2)),
        nn.conv(24, (1, 5), (1, 3)),
        nn.conv(32, (1, 5), (1, 2)),
        nn.mean(),
        nn.dense(classes),
    ]
    return nn.build(input_shape, layers, seed, labels or [])


def ds_cnn(input_shape: nn.Shape, classes: int, seed: int, labels: list[str] | None = None) -> nn.FloatNet:
    """An untrained DS-CNN for spectrograms [time, coefficients, 1], as in MLPerf Tiny's keyword spotting.

    Source: Y. Zhang et al., "Hello Edge", 2017, arXiv:1711.07128; C. Banbury et al., 2021, arXiv:2106.07597.
    """
    separable = [nn.depthwise(64, (3, 3)), nn.conv(64, (1, 1))]
    layers = [nn.conv(64, (10, 4), (2, 2)), *separable * 4, nn.mean(), nn.dense(classes)]
    return nn.build(input_shape, layers, seed, labels or [])


def pretrain(
    data: Dataset,
    seed: int = 0,
    epochs: int | None = None,
    progress: nn.Progress | None = None,
    wearer: Wearer | None = None,
) -> nn.FloatNet:
    """Trains `har_net` on windows [N, 1, time, channels], `ds_cnn` on spectrograms [N, time, coefficients, 1].

    The same data and seed give the same network, to the last bit, on every computer. Six-channel windows (three axes of
    acceleration, three of angular rate) are augmented as `wearer` says, spectrograms by `augment_speech`, others not.
    `progress` is called after every epoch.
    """
    _, height, _, channels = data.x.shape
    if height > 1 and channels > 1:
        raise InputError(f"samples are {data.x.shape[1:]}; give [N, 1, time, channels] or [N, time, coefficients, 1]")
    if height > 1:
        net = ds_cnn(data.x.shape[1:], data.classes, seed, data.labels)
        nn.fit(
            net,
            data.x,
            data.y,
            epochs or SPEECH_EPOCHS,
            seed,
            batch=32,
            weight_decay=0.05,
            augment=partial(augment_speech, speaking=Speaking()),
            progress=progress,
        )
        return balanced(net, data.x[:: -(-len(data) // BALANCED_ON)])
    net = har_net(data.x.shape[1:], data.classes, seed, data.labels)
    augment = partial(augment_motion, wearer=wearer or Wearer()) if channels == 6 else None
    nn.fit(net, data.x, data.y, epochs or MOTION_EPOCHS, seed, augment=augment, progress=progress)
    return net


def augmentation(kind: str, shape: nn.Shape) -> nn.Augment:
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


def augment_speech(x: nn.Array, rng: np.random.Generator, speaking: Speaking) -> nn.Array:
    """Cepstra [N, time, coefficients, 1] moved in time, through other microphones, with noise and a short gap."""
    n, time, coefficients, _ = x.shape
    frame = np.arange(time)
    shift = rng.integers(-speaking.shift, speaking.shift + 1, (n, 1))
    moved = x[np.arange(n)[:, None], (frame - shift) % time]
    moved += same.normal(rng, (n, 1, coefficients, 1), speaking.response)
    moved += same.normal(rng, moved.shape, speaking.noise)
    start, length = rng.integers(0, time, (n, 1)), rng.integers(0, speaking.gap + 1, (n, 1))
    moved[(frame >= start) & (frame < start + length)] = 0
    return moved


def augment_motion(x: nn.Array, rng: np.random.Generator, wearer: Wearer) -> nn.Array:
    """Windows [N, 1, time, 6] as if worn and moved by somebody else; a stretched window repeats its edge samples."""
    n, _, time, _ = x.shape
    tempo, vigour = (same.exp(same.normal(rng, (n, 1, 1, 1), scale)) for scale in (wearer.tempo, wearer.vigour))
    turns, axes = same.normal(rng, (n,), wearer.tilt), same.normal(rng, (n, 3))
    rotation = _rotations(turns.astype(x.dtype), axes.astype(x.dtype))
    before = _stretched(x[:, 0], tempo[:, 0, 0, 0]).reshape(n, time, 2, 3)
    moved = np.empty_like(before)
    for j in range(3):
        one, two, three = (before[..., i] * rotation[:, i, j, None, None] for i in range(3))
        moved[..., j] = one + two + three
    moved[:, :, 1] *= (tempo * vigour)[:, 0]
    moved += same.normal(rng, moved.shape, wearer.noise)
    return moved.reshape(x.shape)


def _stretched(x: nn.Array, tempo: nn.Array) -> nn.Array:
    """x [N, time, C] played `tempo` [N] times as fast about its middle, interpolated linearly."""
    time = x.shape[1]
    middle = (time - 1) / 2
    at = np.clip((np.arange(time) - middle) * tempo[:, None] + middle, 0, time - 1)
    before = np.minimum(at.astype(int), time - 2)
    part = (at - before)[:, :, None].astype(x.dtype)
    rows = np.arange(len(x))[:, None]
    return x[rows, before] * (1 - part) + x[rows, before + 1] * part


def _rotations(angles: nn.Array, axes: nn.Array) -> nn.Array:
    """Rotation matrices [N, 3, 3] about `axes` [N, 3] of any length, by nearly `angles` [N] in radians where these are
    small: by 2 atan(angle / 2), which takes no sines (A. Cayley, 1846)."""
    x, y, z = axes.T
    x, y, z = (v / np.sqrt(x * x + y * y + z * z) for v in (x, y, z))
    o, unit = np.zeros_like(x), np.eye(3, dtype=x.dtype)
    cross = np.array([[o, -z, y], [z, o, -x], [-y, x, o]]).transpose(2, 0, 1)
    along = np.array([[x * x, x * y, x * z], [x * y, y * y, y * z], [x * z, y * z, z * z]]).transpose(2, 0, 1)
    t = (angles / 2)[:, None, None]
    return ((1 - t * t) * unit + 2 * t * t * along + 2 * t * cross) / (1 + t * t)
