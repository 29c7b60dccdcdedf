"""What one board does with a round's adapter, on this computer: the board's own run (SPEC.md, 13), by the twin."""

from __future__ import annotations

import functools
from typing import Any

from edgelora.core.formats.elm import unpack_model
from edgelora.learn.training.on_twin import board_model
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.twin_learner import TwinLearner


def fleet_recipe(rank: int, mode: str) -> Recipe:
    """How all boards of a fleet train; epochs, rate and seed are a round's."""
    return Recipe(rank=rank, mode=mode, on_board=True, epochs=1)


@functools.lru_cache(maxsize=2)
def learner_of(elm: bytes, rank: int, mode: str) -> TwinLearner:
    """A session for the boards of a fleet, one after the other."""
    recipe = fleet_recipe(rank, mode)
    return TwinLearner(elm, recipe.ranks(unpack_model(elm)), recipe)


def fresh_adapter(elm: bytes, rank: int, mode: str, seed: int, state: bool = True) -> bytes:
    """The adapter that a fleet begins with, with training state unless told: B is 0, A is the seed's."""
    learner = learner_of(elm, rank, mode)
    learner.begin(seed)
    return learner.save(state)


@functools.lru_cache(maxsize=2)
def model_of(elm: bytes, rank: int, mode: str) -> Any:
    """The device's model for the boards of a fleet, one after the other."""
    return board_model(elm, fleet_recipe(rank, mode))
