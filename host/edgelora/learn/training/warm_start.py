"""Runs that start from an adapter, as a fleet's rounds do (SPEC.md, section 13), and what such runs share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.core.formats.ela import Adapter, pack_adapter, unpack_adapter
from edgelora.core.formats.elm import unpack_model

from .loop import train
from .recipe import Recipe
from .samples import Samples
from .twin_learner import TwinLearner

MOST_SHARED = 32512  # of a value's size: of a master's (SPEC.md, 6), and so of a scale's


def fleet_vector(adapter: bytes) -> NDArray[np.int16]:
    """What a fleet shares of a `.ela` with training state, [n] (SPEC.md, 17): masters, then, where A trains, scales.

    Each layer by layer, A's if it trains, then B's; a matrix has one scale.
    """
    found = _started(adapter)
    states, scaled = found.states, found.states if found.trainable_a else []
    scales = np.array([shared_scale(state.vm, state.vx) for state in scaled], np.int16)
    return np.concatenate([*(state.master.ravel() for state in states), scales])


def shared_scale(vm: int, vx: int) -> int:
    """A gradient's scale as one value: 256 to an octave, 0 for 1/2, and for none."""
    return max(-MOST_SHARED, min(MOST_SHARED, (vx + 16) * 256 + ((vm - 0x8000) >> 7))) if vm else 0


def scale_of(shared: int) -> tuple[int, int]:
    """The scale `(vm, vx)` of such a value, to 1/256 octave; (0, 0) of 0."""
    return (0x8000 + ((shared & 255) << 7), (shared >> 8) - 16) if shared else (0, 0)


def restarted(adapter: bytes, draws: int) -> bytes:
    """The `.ela` that a run starts from: its masters and scales; momentum and counts fresh, draws from there on."""
    found = _started(adapter)
    for layer in found.layers:
        layer.a_state, layer.b_state = (
            state and replace(state, momentum=None if state.momentum is None else np.zeros_like(state.momentum))
            for state in (layer.a_state, layer.b_state)
        )
    return pack_adapter(replace(found, updates=0, samples=0, draws=draws))


def recipe_of(adapter: bytes, ops: int, seed: int = 0, epochs: int = 0, rate: int = 0) -> Recipe:
    """How a board trains from an adapter: its ranks, mode and momentum, the board's own order. rate 0: the mode's."""
    found = _started(adapter)
    return Recipe(
        mode="trainable_a" if found.trainable_a else "frozen_a",
        given_ranks=tuple(found.ranks(ops)),
        momentum=found.momentum,
        learning_rate=rate or None,
        threshold=found.threshold,
        epochs=epochs,
        seed=seed,
        on_board=True,
    )


def fleet_training(
    model: bytes, start: bytes, samples: Samples, seed: int, epochs: int, rate: int = 0
) -> NDArray[np.int16]:
    """A board's run of one round, by the twin: the vector [n] that it ends with.

    model: `.elm`; start: the global `.ela`, with training state; seed: the board's own of this round.
    """
    recipe = recipe_of(start, len(unpack_model(model).ops), seed, epochs, rate)
    assert recipe.given_ranks is not None
    learner = TwinLearner(model, bytes(recipe.given_ranks), recipe, samples.frames)
    return vector_after(learner, start, samples, recipe)


def vector_after(learner: TwinLearner, start: bytes, samples: Samples, recipe: Recipe) -> NDArray[np.int16]:
    """The vector [n] that a run from an adapter ends with, in a session that may have been used before."""
    learner.load(restarted(start, recipe.seed))
    return fleet_vector(train(learner, samples, recipe).state)


def _started(adapter: bytes) -> Adapter:
    found = unpack_adapter(adapter)
    if not found.has_state or found.records:
        raise InputError(
            "an adapter to start from has its training state, and no classes or monitor: save it with its state"
        )
    return found
