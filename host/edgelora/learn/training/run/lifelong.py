"""Lifelong learning on this computer as on a board, by the device's own `Learner` (SPEC.md, section 13)."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.twin import device
from edgelora.learn.training.board.board_run import NAME
from edgelora.learn.training.judge.early_stopping import Outcome, Score, Verdict
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.twin.on_twin import board_model, board_store


@dataclass(frozen=True)
class Consolidated(Outcome):
    """A consolidation's result. better: the new adapter beats the one in use and replaces it. judged_by: the number of
    held-out samples; left_out: samples that took no part, as their labels look wrong.
    """

    better: bool
    judged_by: int
    left_out: int

    @property
    def verdict(self) -> Verdict:
        return Verdict.BETTER if self.better else Verdict.NOT_BETTER


class Lifelong:
    """A board's `Learner` with an empty reservoir of `slots` and an empty store. InputError for what it refuses.

    recipe: mode, rates and seed; epochs: of `consolidate`. classes: the number of classes, added ones included;
    0: the base's. only: the required classes, None: all. model, reservoir, store, learner: the device's own.
    """

    def __init__(
        self,
        elm: bytes,
        recipe: Recipe,
        slots: int,
        classes: int = 0,
        judge_every: int = 16,
        only: Collection[int] | None = None,
        in_use: bytes | None = None,
    ) -> None:
        self.recipe, self._judge_every, self._only = recipe, judge_every, only
        self._folder = tempfile.TemporaryDirectory(prefix="edgelora-", ignore_cleanup_errors=True)
        self._path = str(Path(self._folder.name) / "samples.elr")
        with device.refusals():
            self.model = board_model(elm, recipe.settings(elm))
            create = device.module("reservoir").Reservoir.create
            create(self._path, self.model, slots, recipe.seed, classes).close()
            self.store = board_store(self.model)
        self.put(in_use)

    def put(self, adapter: bytes | None) -> None:
        """Uses this adapter, None: the base alone, and continues from it."""
        with device.refusals():
            if adapter:
                self.store.put(NAME, adapter)
            elif self.store.find(NAME):
                self.store.remove(NAME)
        self.restart()

    def restart(self) -> None:
        """Restarts as after a reset: training continues from the adapter in use."""
        settings = self.recipe.seed, self.recipe.initial_rate, self._judge_every, self._only
        with device.refusals():
            self.reservoir = device.module("reservoir").Reservoir(self._path)
            self.learner: Any = device.module("learner").Learner(
                self.model, self.reservoir, self.store, NAME, *settings
            )

    @property
    def in_use(self) -> bytes | None:
        """The adapter that infers, None: the base alone."""
        found = self.learner.in_use
        return bytes(found) if found else None

    @property
    def learned(self) -> bytes:
        """The adapter in training, in use or not."""
        return bytes(self.model.save())

    @property
    def judges(self) -> int:
        """The number of held-out samples; 0 if too few."""
        held = self.reservoir.parts()[1]
        return held.count if held else 0

    def learn(self, sample: NDArray[np.int8], label: int) -> int | None:
        """Trains on a sample; returns its loss before that, 1/4096 nat, or None if it is held out."""
        with device.refusals():
            loss: int | None = self.learner.learn(sample.tobytes(), label)
        return loss

    def consolidate(self) -> Consolidated:
        """Trains a new adapter from the reservoir, and uses it if it is better."""
        with device.refusals():
            [run] = deque(self.learner.consolidate(self.recipe.epochs), 1)
        before, kept = (Score(right, -loss) for right, loss in (run.before, run.best))
        wrong = self.learner.left_out
        held = self.reservoir.parts(but=wrong)[1]
        return Consolidated(run.judged - 1, run.best_epoch, before, kept, run.better, held.count, len(wrong))

    def add_class(self, name: str, samples: Iterable[NDArray[np.int8]]) -> int:
        """Adds a class that the base lacks, or the user's own version of one that it has. Returns its number."""
        with device.refusals():
            number: int = self.learner.add_class(name, [sample.tobytes() for sample in samples])
        return number

    def remove_class(self, name: str) -> None:
        """Removes a class and its samples; the adapter's bytes are those from before the class."""
        with device.refusals():
            self.learner.remove_class(name)

    def predict(self, x: NDArray[np.int8]) -> NDArray[np.int64]:
        """Classes [N] of samples, with the adapter in use."""
        return np.array([self.learner.infer(sample.tobytes()) for sample in x], np.int64)
