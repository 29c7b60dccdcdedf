"""A board's training run on a round's adapter (SPEC.md, 13), on this computer by the host twin."""

from __future__ import annotations

import functools
from typing import Any

from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.twin.on_twin import board_model
from edgelora.learn.training.twin.twin_learner import TwinLearner


def fleet_recipe(rank: int, mode: str) -> Recipe:
    """The recipe of all boards of a fleet; each round sets epochs, rate and seed."""
    return Recipe(rank=rank, mode=mode, on_board=True, epochs=1)


@functools.lru_cache(maxsize=2)
def learner_of(elm: bytes, rank: int, mode: str) -> TwinLearner:
    """One training session that all boards of a fleet use in turn."""
    recipe = fleet_recipe(rank, mode)
    return TwinLearner(elm, recipe.settings(elm))


def fresh_adapter(elm: bytes, rank: int, mode: str, seed: int, state: bool = True) -> bytes:
    """The adapter that a fleet begins with: B is 0, A comes from the seed. state: with training state."""
    learner = learner_of(elm, rank, mode)
    learner.begin(seed)
    return learner.save(state)


@functools.lru_cache(maxsize=2)
def model_of(elm: bytes, rank: int, mode: str) -> Any:
    """One device `Model` that all boards of a fleet use in turn."""
    return board_model(elm, fleet_recipe(rank, mode).settings(elm))
