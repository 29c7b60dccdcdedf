"""Retrains an adapter of a board's store from all samples, on the twin, as a board's own learner consolidates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.board.link.client import Link
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.heads.new_classes import numbers_of, stored_adapter
from edgelora.learn.training.recipe import Recipe
from edgelora.model.datasets.dataset import Dataset

from .lifelong import Lifelong


@dataclass(frozen=True)
class Consolidated:
    """The result of retraining: the number of held-out samples, and how many were correct before and after.

    left_out: samples that took no part, as their labels look wrong.
    """

    judged_by: int
    before: int
    after: int
    better: bool
    left_out: int

    @property
    def said(self) -> str:
        """About samples that took no part, or ""."""
        if not self.left_out:
            return ""
        return f"the labels of {self.left_out} samples look wrong: they took no part"


def consolidate_stored(link: Link, base: Base, data: Dataset, name: str) -> Consolidated:
    """Retrains the adapter of that name in a board's store from all samples, including added classes.

    The twin makes the bytes that a board's own learner would make; the board gets the adapter if it is better. Only the
    data's classes count: others of the base may be forgotten. An adapter that has only classes gets the layers of the
    default recipe. InputError without such an adapter, or if the data have no samples of an added class.
    """
    before = stored_adapter(link, base, name)
    if before is None:
        raise InputError(f"the board's store has no adapter {name} for this base", remedy="train one first")
    adapter = base.adapter(before)
    numbers = numbers_of(base, before)
    if missing := [row.name for row in adapter.classes if row.name and row.name not in data.labels]:
        remedy = "give some, or remove the class"
        raise InputError(f"no samples of {', '.join(missing)}, a class that was added to {name}", remedy=remedy)
    known = data.only([label for label in data.labels if label in numbers])
    x = base.model.input.quantize(known.x)
    y = [numbers[known.labels[label]] for label in known.y]
    recipe = Recipe()
    if adapter.layers:
        mode = "trainable_a" if adapter.trainable_a else "frozen_a"
        recipe = Recipe(mode=mode, given_ranks=tuple(adapter.ranks(len(base.model.ops))))
    classes = max(base.model.classes, max(numbers.values()) + 1)
    learner = Lifelong(base.elm, recipe, max(40, 2 * len(y)), classes, only=set(y), in_use=before)
    for i in _in_turn(np.array(y)):
        learner.reservoir.add(x[i].tobytes(), y[i])
    outcome = learner.consolidate()
    if outcome.better and learner.in_use:
        link.store_put(name, learner.in_use)
        link.store_activate(name)
    scores = outcome.before.right, outcome.kept.right
    return Consolidated(outcome.judged_by, *scores, outcome.better, outcome.left_out)


def _in_turn(y: NDArray[np.int64]) -> list[int]:
    """Numbers of samples, with the classes taking turns."""
    turn = np.zeros(len(y), np.int64)
    for one in np.unique(y):
        turn[y == one] = np.arange((y == one).sum())
    return [int(i) for i in np.lexsort((y, turn))]
