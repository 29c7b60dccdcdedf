"""Baselines of a fleet: central and local training for as many epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgelora.fleet import simulated_boards
from edgelora.fleet.averaging import board_seed
from edgelora.fleet.client_training import fleet_recipe, learner_of
from edgelora.fleet.personalize import bare_start
from edgelora.fleet.plan import Plan
from edgelora.fleet.simulated_boards import Boards, boards_of
from edgelora.learn.training.base import Base
from edgelora.learn.training.loop import train
from edgelora.learn.training.samples import Samples
from edgelora.learn.training.warm_start import restarted

ALONE = 64  # boards of a large fleet that are trained locally, each with its own adapter


def central(base: Base, plan: Plan, boards: Boards) -> bytes:
    """The adapter of a central training on all boards' samples."""
    parts = [boards.of(index).train for index in range(plan.boards)]
    everything = Samples(np.concatenate([p.x for p in parts]), np.concatenate([p.y for p in parts]))
    return _unshared(base, plan, everything, plan.seed)


def alone(base: Base, plan: Plan, boards: Boards, count: int) -> list[float]:
    """Accuracies of boards trained locally, each on its own samples."""
    own = [_unshared(base, plan, boards.of(i).train, board_seed(plan.seed, i)) for i in range(count)]
    return accuracies_of(base, plan, boards, own)


def unshared_of(base: Base, plan: Plan, data: str) -> float:
    """Mean accuracy of `ALONE` locally trained boards of a large fleet."""
    return float(np.mean(alone(base, plan, boards_of(data, base.elm, base.name, plan.boards), ALONE)))


def _unshared(base: Base, plan: Plan, samples: Samples, seed: int) -> bytes:
    """One run from the base, for the average number of epochs of a board in the federation, at the mode's own rate."""
    learner = learner_of(base.elm, plan.rank, plan.mode)
    learner.load(restarted(bare_start(base, plan, plan.seed), seed))
    epochs = max(1, round(plan.share * plan.rounds)) * plan.epochs
    recipe = replace(fleet_recipe(plan.rank, plan.mode), epochs=epochs, seed=seed)
    return train(learner, samples, recipe.resolved(base.elm, len(samples.of_epoch))).adapter


def accuracies_of(base: Base, plan: Plan, boards: Boards, adapters: Sequence[bytes]) -> list[float]:
    """Accuracies of boards 0, 1, ... with these adapters, on their own test samples."""
    pairs = enumerate(adapters)
    return [simulated_boards.accuracies(plan, base.elm, adapter, boards, [index])[0] for index, adapter in pairs]
