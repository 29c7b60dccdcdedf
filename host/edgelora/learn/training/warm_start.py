"""Runs that start from an adapter, as a fleet's rounds do (SPEC.md, section 13), and what such runs share."""

from __future__ import annotations

import functools
import threading
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.ela import unpack_adapter
from edgelora.core.formats.elm import unpack_model
from edgelora.core.twin import device

from .on_twin import begun_run, board_model, board_store
from .recipe import Recipe
from .samples import Samples


def fleet_vector(adapter: bytes) -> NDArray[np.int16]:
    """What a fleet shares of a `.ela` with training state, [n] (SPEC.md, 17): masters, then, where A trains, scales.

    Each layer by layer, A's if it trains, then B's; a matrix has one scale.
    """
    with device.refusals():
        return np.frombuffer(device.module("training").fleet_vector(adapter), np.int16)


def scale_of(shared: int) -> tuple[int, int]:
    """The scale `(vm, vx)` of such a value, to 1/256 octave; (0, 0) of 0."""
    return (0x8000 + ((shared & 255) << 7), (shared >> 8) - 16) if shared else (0, 0)


def restarted(adapter: bytes, draws: int) -> bytes:
    """The `.ela` that a run starts from: its masters and scales; momentum and counts fresh, draws from there on."""
    with device.refusals():
        return bytes(device.module("training").restarted(adapter, draws))


def fleet_training(
    model: bytes, start: bytes, samples: Samples, seed: int, epochs: int, rate: int = 0
) -> NDArray[np.int16]:
    """A board's run of one round, by its own Python: the vector [n] that it ends with.

    model: `.elm`; start: the global `.ela`, with training state; seed: the board's own of this round; rate 0: the
    mode's.
    """
    opened, recipe = _opened(model, start, samples.frames, threading.get_ident())
    recipe = replace(recipe, seed=seed, epochs=epochs, learning_rate=rate or None)
    with device.refusals():
        run = begun_run(opened, board_store(opened), samples, None, recipe, start=start, keep_state=True)
        while not run.done:
            run.step()
        return fleet_vector(bytes(run.state))


@functools.lru_cache(maxsize=8)
def _opened(model: bytes, start: bytes, frames: int, thread: int) -> tuple[Any, Recipe]:
    """The device's model for boards that train from an adapter, one after the other in each thread; how they train: its
    ranks, mode and momentum, the board's own order."""
    found = unpack_adapter(start)
    recipe = Recipe(
        mode="trainable_a" if found.trainable_a else "frozen_a",
        given_ranks=tuple(found.ranks(len(unpack_model(model).ops))),
        momentum=found.momentum,
        threshold=found.threshold,
        on_board=True,
    )
    return board_model(model, recipe, frames), recipe
