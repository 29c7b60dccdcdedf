"""Pretraining of autoencoders: dense networks that reconstruct their input through a narrow layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress

from . import layers, train


def pretrain_autoencoder(
    x: NDArray[np.float32], hidden: Sequence[int], epochs: int, seed: int = 0, progress: Progress = no_progress
) -> layers.FloatNet:
    """Trains dense layers of these sizes, and an output layer, to reconstruct x [N, D]. The narrowest is linear.

    The same data and seed give a bit-identical network on every computer.
    """
    if x.ndim != 2 or not len(x) or not hidden or min(hidden) < 1:
        raise InputError(f"rows {x.shape} and hidden layers {list(hidden)}: give [N, D] and one layer or more")
    inner = [layers.dense(size, "none" if size == min(hidden) else "relu") for size in hidden]
    net = layers.build((1, 1, x.shape[1]), [*inner, layers.dense(x.shape[1])], seed)
    inputs = x.astype(np.float32).reshape(len(x), 1, 1, -1)
    train.fit(net, inputs, x, epochs, seed, weight_decay=1e-4, progress=progress, loss=train.mean_squared_error)
    return net
