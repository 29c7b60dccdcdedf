"""Runs that start from the masters of an adapter, as a fleet's rounds do (SPEC.md, section 13)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .. import formats
from ..errors import InputError
from .loop import train
from .recipe import Recipe
from .samples import Samples
from .twin_learner import TwinLearner


def masters(adapter: bytes) -> NDArray[np.int16]:
    """Masters [n] of a `.ela` with training state: layer by layer A's if it trains, then B's."""
    states = [state for layer in _started(adapter).layers for state in (layer.a_state, layer.b_state) if state]
    return np.concatenate([state.master.ravel() for state in states])


def restarted(adapter: bytes, draws: int) -> bytes:
    """The `.ela` that a run starts from: its masters; scales, momentum and counts fresh, draws from there on."""
    found = _started(adapter)
    for layer in found.layers:
        layer.a_state, layer.b_state = (
            state
            and replace(state, vm=0, vx=0, momentum=None if state.momentum is None else np.zeros_like(state.momentum))
            for state in (layer.a_state, layer.b_state)
        )
    return formats.pack_adapter(replace(found, updates=0, samples=0, draws=draws))


def recipe_of(adapter: bytes, ops: int, seed: int = 0, epochs: int = 0, rate: int = 0) -> Recipe:
    """How a board trains from an adapter: its ranks, mode and momentum, the board's own order. rate 0: the mode's."""
    found = _started(adapter)
    return Recipe(
        mode="trainable_a" if found.trainable_a else "frozen_a",
        given_ranks=tuple(found.ranks(ops)),
        given_momentum=found.momentum,
        given_rate=rate or None,
        threshold=found.threshold,
        epochs=epochs,
        seed=seed,
        on_board=True,
    )


def fleet_training(
    model: bytes, start: bytes, samples: Samples, seed: int, epochs: int, rate: int = 0
) -> NDArray[np.int16]:
    """A board's run of one round, by the twin: the masters [n] that it ends with.

    model: `.elm`; start: the global `.ela`, with training state; seed: the board's own of this round.
    """
    recipe = recipe_of(start, len(formats.unpack_model(model).ops), seed, epochs, rate)
    assert recipe.given_ranks is not None
    learner = TwinLearner(model, bytes(recipe.given_ranks), recipe, samples.frames)
    return masters_after(learner, start, samples, recipe)


def masters_after(learner: TwinLearner, start: bytes, samples: Samples, recipe: Recipe) -> NDArray[np.int16]:
    """The masters [n] that a run from an adapter ends with, in a session that may have been used before."""
    learner.load(restarted(start, recipe.seed))
    return masters(train(learner, samples, recipe).state)


def _started(adapter: bytes) -> formats.Adapter:
    found = formats.unpack_adapter(adapter)
    if not found.has_state or found.records:
        raise InputError(
            "an adapter to start from has its training state, and no classes or monitor: save it with its state"
        )
    return found
