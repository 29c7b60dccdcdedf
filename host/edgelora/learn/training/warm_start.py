"""Runs that start from an adapter, as in a fleet's rounds (SPEC.md, section 13), and the vectors that they share."""

from __future__ import annotations

import functools
import threading
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.formats.ela import unpack_adapter
from edgelora.core.formats.elm import unpack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin import device

from .on_twin import begun_run, board_model, board_store
from .recipe import Recipe
from .samples import Samples


def fleet_vector(adapter: bytes) -> NDArray[np.int16]:
    """The vector [n] that a fleet shares of a `.ela` with training state (SPEC.md, 17): masters; if A trains, scales.

    Both layer by layer, A's if it trains, then B's; one scale per matrix.
    """
    with device.refusals():
        return np.frombuffer(device.module("training").fleet_vector(adapter), np.int16)


def scale_of(shared: int) -> tuple[int, int]:
    """The scale `(vm, vx)` of a shared scale value, to 1/256 octave; (0, 0) for 0."""
    return (0x8000 + ((shared & 255) << 7), (shared >> 8) - 16) if shared else (0, 0)


def restarted(adapter: bytes, draws: int) -> bytes:
    """The `.ela` that a run starts from: same masters and scales, fresh momentum and counts, draws from `draws` on."""
    with device.refusals():
        return bytes(device.module("training").restarted(adapter, draws))


def fleet_training(
    model: bytes, start: bytes, samples: Samples, seed: int, epochs: int, rate: int = 0
) -> NDArray[np.int16]:
    """A board's run of one round, by its own Python. Returns the vector [n] at its end.

    model: `.elm`; start: the global `.ela`, with training state; seed: the board's own for this round; rate 0:
    the mode's.
    """
    opened, base, recipe = _opened(model, start, samples.frames, threading.get_ident())
    recipe = replace(recipe, seed=seed, epochs=epochs, learning_rate=rate or None)
    settings = recipe.resolved(base, len(samples))
    with device.refusals():
        run = begun_run(opened, board_store(opened), samples, None, settings, start=start, keep_state=True)
        while not run.done:
            run.step()
        return fleet_vector(bytes(run.state))


@functools.lru_cache(maxsize=8)
def _opened(model: bytes, start: bytes, frames: int, thread: int) -> tuple[Any, QuantModel, Recipe]:
    """The device's model for boards that train from an adapter, reused within a thread, and their base and recipe: the
    adapter's ranks, mode and momentum, the board's own order."""
    found, base = unpack_adapter(start), unpack_model(model)
    recipe = Recipe(
        mode="trainable_a" if found.trainable_a else "frozen_a",
        given_ranks=tuple(found.ranks(len(base.ops))),
        momentum=found.momentum,
        threshold=found.threshold,
        on_board=True,
    )
    return board_model(model, recipe.settings(base), frames), base, recipe
