"""Early stopping: held-out samples choose the best epoch and decide whether the adapter helps.

    training samples --+-- learn -------> an adapter after each epoch --+
                       |                                                v
                       +-- held out ----> scored on the board, and compared with what was in use
                                                 |
                              better: a fresh adapter learns both parts, in about as many epochs
                                      (only if the host drives the board)

The last 1 / `HELD_OUT` of each class is held out: neighbours in time, as windows of a recording overlap. The adapter
with the least loss is kept. The board uses it only if it is correct for more samples than what was in use before, or
for as many with less loss. Small data sets use cross-validation: each third is held out from a short run, and the
scores of these runs decide on the adapter of all samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgelora.core.twin import device
from edgelora.learn.training.data.samples import MicroBatch, Samples, schedule
from edgelora.learn.training.recipe import CAUTION, Recipe, RunSettings
from edgelora.model.datasets.dataset import HELD_OUT, held_out

_training, _rows = device.module("training"), device.module("rows")
LEAST_JUDGED: int = _training.LEAST_JUDGED  # held-out samples, of two classes or more, needed for a score
FOLDS = 3  # of cross-validation with few samples


class Verdict(StrEnum):
    """The result of validating an adapter on the held-out samples.

    CAUTIOUS: too few samples to hold any out, so a board's own run took small steps. UNJUDGED: so few that nothing can
    judge, such as one of each class. SINGLE_CLASS: all samples are of
    one class, and the adapter may have forgotten the others. WORSE: its accuracy on the test samples fell or, for
    values, its error rose, whatever the held-out samples say. DIFFERS: the host twin made another adapter from the same
    samples, so no figure of board or host is reliable.
    """

    BETTER = "better"
    NOT_BETTER = "not better"
    WORSE = "worse on the test samples"
    CAUTIOUS = "not judged: few samples, short steps"
    UNJUDGED = "not judged: too few samples"
    SINGLE_CLASS = "not judged: one class"
    DIFFERS = "the host twin differs"

    @property
    def is_for_use(self) -> bool:
        """Whether the board infers with the adapter, unless the user decides otherwise."""
        return self in (Verdict.BETTER, Verdict.CAUTIOUS)


@dataclass(frozen=True)
class Score:
    """How an adapter does on held-out samples: how many are correct, and minus the sum of losses, in 1/4096 nat.

    Scores compare with those of what was in use before in this order, larger is better; epochs compare by loss.
    losses: of each sample, where they are known.
    """

    right: int
    minus_loss: int
    losses: NDArray[Any] | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, samples: Samples, predicted: NDArray[Any], losses: NDArray[Any]) -> Score:
        """The score of predicted classes and losses [N]. If samples have targets, only losses count."""
        right = int(np.sum(predicted == samples.y)) if samples.given_targets is None else 0
        return cls(right, -int(np.sum(losses, dtype=np.int64)), losses)

    def __add__(self, other: Score) -> Score:
        known = self.losses is not None and other.losses is not None
        losses = np.concatenate([self.losses, other.losses]) if known else None
        return Score(self.right + other.right, self.minus_loss + other.minus_loss, losses)

    def milder(self, other: Score) -> bool:
        """Whether it is better than another epoch's of the same run: loss shows overfitting early."""
        return bool(_training.milder(*self.pair, *other.pair))

    def __gt__(self, other: Score) -> bool:
        return bool(_training.better(*self.pair, *other.pair))

    @property
    def pair(self) -> tuple[int, int]:
        """The score as boards store it: how many are correct, and the sum of losses."""
        return self.right, -self.minus_loss


class Judge(Protocol):
    """A learner that can score samples and keep an adapter."""

    def judge(self, samples: Samples) -> Score:
        """Scores what infers now: the training adapter, unless another one is in use."""
        ...

    def keep(self) -> None:
        """Keeps the current training adapter, instead of the one kept before."""
        ...


@dataclass(frozen=True)
class Outcome:
    """A guard's result: the number of scored epochs, the best epoch (from 0), the scores of before and of the kept one.

    epochs is 0 after cross-validation.
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
    """Scores a run's epochs. before: score of what was in use before; by_epoch: of each epoch; best: the kept epoch."""

    held: Samples
    epochs: int
    before: Score
    by_epoch: list[Score] = field(default_factory=list)
    best: int = 0

    def epoch_ended(self, learner: Judge) -> None:
        """Scores the epoch, and keeps its adapter if it is the best."""
        now = learner.judge(self.held)
        if not self.by_epoch or now.milder(self.by_epoch[self.best]):
            self.best = len(self.by_epoch)
            learner.keep()
        self.by_epoch.append(now)

    @property
    def enough(self) -> bool:
        """Whether to stop the run early."""
        return bool(_training.is_enough(len(self.by_epoch) - 1 - self.best, self.epochs))

    def keeps_final(self, learner: Judge) -> bool:
        """Keeps a final adapter, which learned the held-out samples too, unless its loss on them is larger."""
        milder = learner.judge(self.held).milder(self.by_epoch[self.best])
        if milder:
            learner.keep()
        return milder

    @property
    def verdict(self) -> Verdict:
        return self.outcome.verdict

    @property
    def outcome(self) -> Outcome:
        kept = self.by_epoch[self.best] if self.by_epoch else self.before
        return Outcome(len(self.by_epoch), self.best, self.before, kept)


@dataclass(frozen=True)
class Course:
    """A run's training samples, its held-out ones (None: too few) and its settings.

    everything: both parts, in their original order. part: of the adapter that is used. remark: what `said` adds.
    """

    samples: Samples
    held: Samples | None
    everything: Samples
    settings: RunSettings
    part: float = 1.0
    remark: str = ""

    @cached_property
    def updates(self) -> list[MicroBatch]:
        """The run's updates, without those of the final adapter."""
        return schedule(self.samples, self.settings)

    def final(self, guard: Guard) -> RunSettings:
        """The settings of the final adapter, which learns everything.

        It has as many epochs as the guard found best, but no fewer than such a run has by default: the smallest loss of
        a run is often seen early, with steps that are still large.
        """
        usual: int = _training.fitting_epochs(len(self.everything.of_epoch), self.settings.session.micro_batch)
        return replace(self.settings, epochs=max(guard.best + 1, min(self.settings.epochs, usual)))

    @cached_property
    def turns(self) -> list[NDArray[np.bool_]]:
        """Which samples each fold of cross-validation holds out, bool [N]; none with `held` or in a board's own run.

        A class's samples go to the folds in turn. A board that drives its run has no time for several runs.
        """
        if self.held or self.settings.on_board or _is_one_sided(self.samples):
            return []
        turn = np.zeros(len(self.samples), np.int64)
        for one in np.unique(self.samples.y):
            of_it = self.samples.y == one
            turn[of_it] = np.arange(of_it.sum()) % FOLDS
        return [turn == i for i in range(int(turn.max()) + 1)] if turn.any() else []

    @property
    def folds(self) -> list[tuple[Samples, Samples]]:
        """(training, held-out) parts for cross-validation with few samples."""
        return [(self.samples.part(~held), self.samples.part(held)) for held in self.turns]

    def guard(self, learner: Judge) -> Guard | None:
        """A guard for a learner that infers with what was in use before."""
        return Guard(self.held, self.settings.epochs, learner.judge(self.held)) if self.held else None

    def verdict(self, guard: Guard | Outcome | None) -> Verdict:
        if guard:
            return guard.verdict
        if _is_one_sided(self.samples):
            return Verdict.SINGLE_CLASS
        return Verdict.UNJUDGED if self._has_one_of_each else Verdict.CAUTIOUS

    @property
    def _has_one_of_each(self) -> bool:
        y = self.samples.y
        return self.samples.given_targets is None and len(np.unique(y)) == len(y)

    @property
    def said(self) -> str:
        """A sentence that says what was held out, or why nothing was."""
        return f"{self._held_said}; {self.remark}" if self.remark else self._held_said

    @property
    def _held_said(self) -> str:
        if self.held:
            return f"{len(self.held)} of the samples were held out from training to validate the adapter"
        if _is_one_sided(self.samples):
            return "the samples are of one class: the adapter's effect on other classes is unknown"
        steps = f"the learning rate was divided by {CAUTION} instead"
        if self.folds:
            steps = f"cross-validation was used instead, and the learning rate was divided by {CAUTION}"
        if self.samples.have_classes and len(self.samples) >= HELD_OUT * LEAST_JUDGED:
            few = f"the samples are nearly all of one class, and holding one out takes {HELD_OUT} of a class"
            return f"{few}: {steps}. Record more samples of other classes"
        return f"{len(self.samples)} samples are too few to hold some out: {steps}"


def prepared(elm: bytes, samples: Samples, recipe: Recipe) -> Course:
    """Holds samples out, if there are enough to validate, and resolves the recipe for the base and the others.

    Where few would be held out, cross-validation by all samples judges better.
    """
    held = held_out(samples.y)
    few = Course(samples, None, samples, recipe.resolved(elm, len(samples.of_epoch), cautious=True))
    if not _training.can_judge(samples.y[held].tolist(), not samples.have_classes):
        return few
    if held.sum() < _rows.MANY and samples.have_classes and few.folds:
        return few
    learned = samples.part(~held)
    return Course(learned, samples.part(held), samples, recipe.resolved(elm, len(learned.of_epoch)))


def _is_one_sided(samples: Samples) -> bool:
    return samples.have_classes and len(np.unique(samples.y)) < 2
