"""What one board does with a round's adapter, on this computer: the board's own run (SPEC.md, 13), by the twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .. import formats
from ..training import Recipe, Samples, TwinLearner, train
from .averaging import masters, started


def fleet_recipe(rank: int = 8, mode: str = "frozen_a") -> Recipe:
    """How all boards of a fleet train; epochs, rate and seed are a round's."""
    return Recipe(rank=rank, mode=mode, on_board=True, epochs=1)


def fresh_adapter(elm: bytes, recipe: Recipe, seed: int) -> bytes:
    """The adapter that a fleet begins with, with training state: B is 0, A is the seed's."""
    learner = TwinLearner(elm, recipe.ranks(formats.unpack_model(elm)), recipe)
    learner.begin(seed)
    return learner.save(True)


def trained(
    learner: TwinLearner, adapter: bytes, samples: Samples, recipe: Recipe, epochs: int, rate: int, seed: int
) -> NDArray[np.int16]:
    """Masters [n] after a board's run from the global adapter. rate 0: the mode's own."""
    learner.load(started(adapter, seed))
    run = replace(recipe, epochs=epochs, given_rate=rate or None, seed=seed)
    train(learner, samples, run)
    return masters(formats.unpack_adapter(learner.save(True)))
