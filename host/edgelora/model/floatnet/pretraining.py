"""Pretraining of base networks for boards: a small 1-D convolutional net over sensor windows, the DS-CNN for
keywords, or for either an encoder; and a language model.

The first's int8 size is fixed by the smallest board: for windows of 100 samples on six channels 91 thousand
multiply-accumulates per inference, activations of at most 800 bytes, 6.5 KB of weights. They generalize to unseen
people by augmentation with differences between people: how a sensor sits, how fast and how widely they move,
what microphone they speak into.
"""

from __future__ import annotations

from functools import partial

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.core.formats.limits import MAX_CLASSES
from edgelora.model.datasets.dataset import Dataset

from . import layers, train
from .augment import Speaking, Wearer, augment_motion, augment_speech
from .balance import balanced
from .epochs import ENCODER_EPOCHS, MOTION_EPOCHS, NETWORKS, SPEECH_EPOCHS
from .zoo import ds_cnn, encoder, har_net, language_model

PRETRAINING_VERSION = 2  # version of the result for equal data and seed, part of cache keys
BALANCED_ON = 512  # samples that measure each channel's range


def pretrain(
    data: Dataset,
    seed: int = 0,
    epochs: int | None = None,
    progress: Progress = no_progress,
    wearer: Wearer | None = None,
    network: str = NETWORKS[0],
) -> layers.FloatNet:
    """Trains one of `NETWORKS` on windows [N, 1, time, channels] or spectrograms [N, time, coefficients, 1].

    "convolutions" is `har_net` of windows and `ds_cnn` of spectrograms, "encoder" `zoo.encoder` of either. The same
    data and seed give a bit-identical network on every computer. Six-channel windows (three axes of acceleration, three
    of angular rate) are augmented by `wearer`, spectrograms by `augment_speech`, others not. `progress` reports every
    epoch and its mean loss in nats. InputError for another network, for too few or many classes, for other shapes.
    """
    if network not in NETWORKS:
        raise InputError(f"unknown network {network!r}; use one of {', '.join(NETWORKS)}")
    if not 2 <= data.classes <= MAX_CLASSES:
        raise InputError(f"samples of {data.classes} classes: give samples of 2 to {MAX_CLASSES} classes")
    _, height, _, channels = data.x.shape
    if height > 1 and channels > 1:
        raise InputError(f"samples are {data.x.shape[1:]}; give [N, 1, time, channels] or [N, time, coefficients, 1]")
    augment: train.Augment | None = None
    if height > 1:
        augment = partial(augment_speech, speaking=Speaking())
    elif channels == 6:
        augment = partial(augment_motion, wearer=wearer or Wearer())
    how, known = partial(train.fit, seed=seed, augment=augment, progress=progress), (data.classes, seed, data.labels)
    if network == "encoder":
        net = encoder(data.x.shape[1:], *known)
        how(net, data.x, data.y, epochs or ENCODER_EPOCHS, weight_decay=0.05, schedule="warm")
    elif height > 1:
        net = ds_cnn(data.x.shape[1:], *known)
        how(net, data.x, data.y, epochs or SPEECH_EPOCHS, batch=32, weight_decay=0.05)
        net = balanced(net, data.x[:: -(-len(data) // BALANCED_ON)])
    else:
        net = har_net(data.x.shape[1:], *known)
        how(net, data.x, data.y, epochs or MOTION_EPOCHS)
    return net


def pretrain_language(data: Dataset, seed: int = 0, progress: Progress = no_progress) -> layers.FloatNet:
    """Trains `zoo.language_model` once over windows [N, 1, length, 1] of symbols, y [N, length] those behind them."""
    net = language_model(int(data.y.max()) + 1, data.x.shape[2], seed)
    train.fit(net, data.x, data.y, 1, seed, batch=32, weight_decay=0.05, schedule="warm", progress=progress)
    return net
