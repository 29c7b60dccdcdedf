"""The average of a fleet, in exact integers: the same bytes for any order of boards, engine or number of gateways.

Boards train and the server averages *masters*: int16, 256 to a step of the int8 weights. If A trains, the scale of each
matrix's gradient follows them (`training.fleet_vector`). All boards of a fleet begin a round with the same adapter, so
their masters share one grid, and the sum of the differences is all that the server needs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.formats.ela import Adapter, TensorState
from edgelora.core.twin import device
from edgelora.learn.training.twin.warm_start import scale_of

UNITS = 256  # the server's rate and momentum are in 1/256


def with_vector(adapter: Adapter, vector: NDArray[np.int16]) -> Adapter:
    """The adapter with these masters and scales [n]; momentum and counts are reset."""
    count = len(vector) - (len(adapter.states) if adapter.trainable_a else 0)
    masters, scales = vector[:count], iter(vector[count:])
    at = 0

    def placed(state: TensorState | None) -> tuple[TensorState | None, NDArray[np.int8] | None]:
        nonlocal at
        if state is None:
            return None, None
        mine = masters[at : at + state.master.size].reshape(state.master.shape)
        at += state.master.size
        still = None if state.momentum is None else np.zeros_like(state.momentum)
        weights = ((mine.astype(np.int32) + 128) >> 8).astype(np.int8)
        return TensorState(*scale_of(int(next(scales, 0))), mine.astype(np.int16), still), weights

    layers = []
    for layer in adapter.layers:
        a_state, a = placed(layer.a_state)
        b_state, b = placed(layer.b_state)
        a, b = layer.a if a is None else a, layer.b if b is None else b
        layers.append(replace(layer, a=a, b=b, a_state=a_state, b_state=b_state))
    if at != len(masters):
        raise InputError(f"{len(masters)} masters given for an adapter of {at}")
    return replace(adapter, layers=layers, updates=0, draws=0, samples=0)


def board_seed(seed: int, index: int) -> int:
    """The seed of a board's run in a round, from the round's seed and the board's index in the roster."""
    return int(device.module("fleet").board_seed(seed, index))


def mean(total: NDArray[np.int64], survivors: int) -> NDArray[np.int64]:
    """The sum of survivors' updates [n] divided by their number, to the nearest integer, halves up."""
    return np.floor_divide(2 * total + survivors, 2 * survivors)


def moved(vector: NDArray[np.int16], step: NDArray[np.int64]) -> NDArray[np.int16]:
    """A vector [n] after the server's step [n], clipped to the range of a shared vector."""
    most = device.module("training").MOST_SHARED
    after: NDArray[np.int16] = np.clip(vector.astype(np.int64) + step, -most, most).astype(np.int16)
    return after


def server_step(
    velocity: NDArray[np.int64], average: NDArray[np.int64], rate: int, momentum: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The server's new velocity of masters and its step [n] for a round's average [n]; scales move by the average.

    rate, momentum: in 1/256; momentum rounds toward minus infinity.
    With rate 256 and momentum 0 the step is the average: plain federated averaging.
    """
    masters, scales = average[: len(velocity)], average[len(velocity) :]
    velocity = ((momentum * velocity) >> 8) + masters
    return velocity, np.concatenate([(rate * velocity + UNITS // 2) >> 8, scales])
