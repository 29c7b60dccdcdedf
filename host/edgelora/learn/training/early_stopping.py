"""Never worse: samples that are held out of training, which say when an adapter was best and whether it helps.

    training samples --+-- learn -------> an adapter after each epoch --+
                       |                                                v
                       +-- held out ----> judged on the board, beside what was in use before
                                                 |
                              better: both parts are learned, from there on, for a few short steps
                                      (by a board that the host drives)

The last one in `HELD_OUT` of each class is held out: neighbours in time, as windows of a recording overlap. The adapter
with the least loss is kept. It is in use afterwards only if it is more often right than what was in use before, or as
often with less loss. Of few samples each third in turn is held out from a short run of its own, and what these runs
say of it judges the adapter of all.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgelora.core.twin import device
from edgelora.model.datasets.dataset import HELD_OUT, held_out

from .recipe import CAUTION, Recipe
from .samples import MicroBatch, Samples, schedule

_training = device.module("training")
LEAST_JUDGED: int = _training.LEAST_JUDGED  # samples held out, of two classes or more: fewer judge nothing
FINISHING_EPOCHS = 3
FOLDS = 3  # parts of few samples, each held out from a run of its own


class Verdict(StrEnum):
    """What the samples held out say of an adapter.

    CAUTIOUS: too few samples to hold any out, so a board alone trained with short steps. SINGLE_CLASS: all samples
    are of one class, and the adapter may have forgotten the others. WORSE: whatever the samples held out say, it names
    fewer of the test samples right or, of values, has a larger error on them. DIFFERS: the host twin made another
    adapter of the same samples, so nothing that board or host say of it can be relied on.
    """

    BETTER = "better"
    NOT_BETTER = "not better"
    WORSE = "worse on the test samples"
    CAUTIOUS = "not judged: few samples, short steps"
    SINGLE_CLASS = "not judged: one class"
    DIFFERS = "the host twin differs"

    @property
    def is_for_use(self) -> bool:
        """Whether the board infers with the adapter, unless somebody decides otherwise."""
        return self in (Verdict.BETTER, Verdict.CAUTIOUS)


@dataclass(frozen=True)
class Score:
    """How an adapter does on held-out samples: how many are correct, and minus the sum of losses, in 1/4096 nat.

    The larger the better, in this order, beside what was in use before; among epochs the least loss counts.
    """

    right: int
    minus_loss: int

    @classmethod
    def of(cls, samples: Samples, predicted: NDArray[Any], losses: NDArray[Any]) -> Score:
        """Of classes and losses [N]. Where samples have targets, only losses count."""
        right = int(np.sum(predicted == samples.y)) if samples.given_targets is None else 0
        return cls(right, -int(np.sum(losses, dtype=np.int64)))

    def __add__(self, other: Score) -> Score:
        return Score(self.right + other.right, self.minus_loss + other.minus_loss)

    def milder(self, other: Score) -> bool:
        """Whether it comes before another of the same run: losses tell early of overfitting."""
        return bool(_training.milder(*self.pair, *other.pair))

    def __gt__(self, other: Score) -> bool:
        return bool(_training.better(*self.pair, *other.pair))

    @property
    def pair(self) -> tuple[int, int]:
        """As boards have it: how many are correct, and the sum of losses."""
        return self.right, -self.minus_loss


class Judge(Protocol):
    """A learner that can be judged, and can keep an adapter."""

    def judge(self, samples: Samples) -> Score:
        """By what infers now: the training adapter, unless another one is in use."""
        ...

    def keep(self) -> None:
        """Saves the training adapter as it is, instead of what was kept before."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What a guard found: how many epochs were judged, which was best (from 0); how that and what was before did.

    None of the epochs is judged where few samples were, in turn, held out from runs of their own.
    """

    epochs: int
    best: int
    before: Score
    kept: Score

    @property
    def verdict(self) -> Verdict:
        return Verdict.BETTER if self.kept > self.before else Verdict.NOT_BETTER


@dataclass
class Guard:
    """Watches a run. before: of what was in use before; by_epoch: of each epoch; best: the kept one's number."""

    held: Samples
    epochs: int
    before: Score
    by_epoch: list[Score] = field(default_factory=list)
    best: int = 0

    def epoch_ended(self, learner: Judge) -> None:
        """Judges, and keeps what is best."""
        now = learner.judge(self.held)
        if not self.by_epoch or now.milder(self.by_epoch[self.best]):
            self.best = len(self.by_epoch)
            learner.keep()
        self.by_epoch.append(now)

    @property
    def enough(self) -> bool:
        """Whether it is time to stop."""
        return bool(_training.is_enough(len(self.by_epoch) - 1 - self.best, self.epochs))

    def finishing(self) -> Guard:
        """For the end of a run, which learns from the samples held out too: what is worse on them is not kept."""
        best = self.by_epoch[self.best]
        return Guard(self.held, FINISHING_EPOCHS, best, [best])

    @property
    def verdict(self) -> Verdict:
        return self.outcome.verdict

    @property
    def outcome(self) -> Outcome:
        kept = self.by_epoch[self.best] if self.by_epoch else self.before
        return Outcome(len(self.by_epoch), self.best, self.before, kept)


@dataclass(frozen=True)
class Course:
    """What a run learns from, what judges it (None: nothing can) and its recipe, fitted to the samples.

    everything: both parts, in their order.
    """

    samples: Samples
    held: Samples | None
    everything: Samples
    recipe: Recipe

    @cached_property
    def updates(self) -> list[MicroBatch]:
        """Of the run, but for its end."""
        return schedule(self.samples, self.recipe)

    @property
    def finishing(self) -> Recipe:
        """Of a run's end."""
        rate = max(1, self.recipe.initial_rate // 2)
        return replace(self.recipe, epochs=FINISHING_EPOCHS, learning_rate=rate)

    @property
    def folds(self) -> list[tuple[Samples, Samples]]:
        """Few samples as parts to learn from and to judge by, each sample in one of the latter; none if others judge.

        A class's samples go to the parts in turn. A board that trains by itself has no time for several runs.
        """
        if self.held or self.recipe.on_board or _is_one_sided(self.samples):
            return []
        turn = np.zeros(len(self.samples), np.int64)
        for one in np.unique(self.samples.y):
            of_it = self.samples.y == one
            turn[of_it] = np.arange(of_it.sum()) % FOLDS
        if not turn.any():
            return []
        return [(self.samples.part(turn != i), self.samples.part(turn == i)) for i in range(int(turn.max()) + 1)]

    def guard(self, learner: Judge) -> Guard | None:
        """For a learner that infers with what was in use before."""
        return Guard(self.held, self.recipe.epochs, learner.judge(self.held)) if self.held else None

    def verdict(self, guard: Guard | Outcome | None) -> Verdict:
        if guard:
            return guard.verdict
        return Verdict.SINGLE_CLASS if _is_one_sided(self.samples) else Verdict.CAUTIOUS

    @property
    def said(self) -> str:
        """In a sentence, what was held out, or why nothing was."""
        if self.held:
            return f"{len(self.held)} of the samples were held out from training, and judged it before any were learned"
        if _is_one_sided(self.samples):
            return "the samples are of one class: what the adapter did to the others can't be judged"
        steps = f"steps were {CAUTION} times shorter instead"
        if self.folds:
            apart = "parts of them were held out from short runs of their own, in turn"
            steps = f"{apart}, and steps were {CAUTION} times shorter"
        if self.samples.given_targets is None and len(self.samples) >= HELD_OUT * LEAST_JUDGED:
            few = f"the samples are nearly all of one class, and a class needs {HELD_OUT} to hold one out"
            return f"{few}: {steps}. Record more of the others"
        return f"{len(self.samples)} samples are too few to hold some out: {steps}"


def prepared(samples: Samples, recipe: Recipe) -> Course:
    """Holds samples out, if there are enough to judge by, and fits the recipe to the others."""
    held = held_out(samples.y)
    classes = samples.given_targets is not None or len(np.unique(samples.y[held])) > 1
    if held.sum() < LEAST_JUDGED or not classes:
        return Course(samples, None, samples, recipe.fitted(len(samples.of_epoch), cautious=True))
    learned = samples.part(~held)
    return Course(learned, samples.part(held), samples, recipe.fitted(len(learned.of_epoch)))


def _is_one_sided(samples: Samples) -> bool:
    return samples.given_targets is None and len(np.unique(samples.y)) < 2
