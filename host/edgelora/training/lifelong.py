"""The twin of a board's learner: samples as they come, for years (SPEC.md, section 13).

a sample -- learn --> one update, with REPLAYED of the reservoir -- judged --> in use, if it is better
    |                                                                 ^
    +---------------> reservoir: learned ones, and held ones ---------+
                         |
                         +-- consolidate --> an adapter anew, judged ----> in use, if it is better
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .. import formats, twin
from ..errors import InputError
from .guard import Course, Judged, Outcome, Verdict
from .recipe import Recipe
from .reservoir import Reservoir
from .samples import Samples
from .twin_learner import TwinLearner, guard_twin

STREAM = 131073  # of draws
REPLAYED = 3  # samples learned again with each new one
HORIZON = 64  # updates after which the rate is half of what it was


class Lifelong:
    """Learns as the device's `Learner` does, to the last bit. recipe: mode, rates and seed; epochs: of `consolidate`.

    in_use: the adapter that infers, None: the bare base; updates: since it began or was last consolidated. replayed:
    with each new sample; a board has REPLAYED.
    """

    def __init__(
        self, elm: bytes, recipe: Recipe, reservoir: Reservoir, judge_every: int = 16, replayed: int = REPLAYED
    ) -> None:
        if recipe.micro_batch <= replayed:
            raise InputError(f"micro-batch {recipe.micro_batch}: a learner takes {replayed + 1} or more")
        self._replayed = replayed
        self._elm, self.recipe = elm, replace(recipe, on_board=True)
        self.reservoir, self.judge_every = reservoir, judge_every
        self._learner = TwinLearner(elm, recipe.ranks(formats.unpack_model(elm)), recipe)
        self.in_use: bytes | None = None
        self.restart()

    def restart(self) -> None:
        """As a reset leaves it: what is in use is what is trained on, too."""
        if self.in_use:
            self._learner.load(self.in_use)
        else:
            self._learner.begin(self.recipe.seed)
        self.updates = 0
        self._learner.use(self.in_use)

    @property
    def rate(self) -> int:
        """Of the next update."""
        return max(1, self.recipe.learning_rate * HORIZON // (HORIZON + self.updates))

    @property
    def learned(self) -> bytes:
        """What is being trained, in use or not."""
        return self._learner.save(False)

    def learn(self, sample: NDArray[np.int8], label: int) -> int | None:
        """The sample's loss before it is learned, 1/4096 nat; None if it is one that judges."""
        loss = None
        if not self.reservoir.judges(label):
            loss = self._update(sample, label)
        self.reservoir.add(sample, label)
        if loss is not None and self.updates % self.judge_every == 0:
            self.judge()
        return loss

    def _update(self, sample: NDArray[np.int8], label: int) -> int:
        reservoir, rate = self.reservoir, self.rate
        old, first = reservoir.parts()[0], self._replayed * int(reservoir.seen.sum())
        turns = range(first, first + self._replayed if len(old) else first)
        picked = np.array([twin.draw(reservoir.seed, STREAM, turn, len(old)) for turn in turns], np.int64)
        loss = self._learner.train(sample[None], np.array([label]), rate)[0]
        self._learner.train(old.x[picked], old.y[picked], rate)
        self._learner.flush(rate)
        self.updates += 1
        return loss

    def judge(self) -> bool | None:
        """Whether what was learned is better than what is in use, and takes its place. None: too few samples judge."""
        held = self.reservoir.parts()[1]
        if held is None:
            return None
        learned = self.learned
        better = self._judged(learned, held) > self._judged(self.in_use, held)
        if better:
            self.in_use = learned
        self._learner.use(self.in_use)
        return better

    def _judged(self, adapter: bytes | None, held: Samples) -> Judged:
        self._learner.use(adapter)
        return self._learner.judge(held)

    def consolidate(self) -> Outcome:
        """Trains an adapter anew from the reservoir, and uses it if it is better. InputError if too few judge."""
        learned, held = self.reservoir.parts()
        if held is None:
            raise InputError("too few samples to judge by: consolidate when more have come, of two classes at least")
        course = Course(learned, held, learned, self.recipe.fitted(len(learned.of_epoch)))
        self._learner.use(self.in_use)
        guard = course.guard(self._learner)
        run = guard_twin(self._elm, course, guard)
        assert guard
        if guard.verdict is Verdict.BETTER:
            self.in_use = run.adapter
        self.restart()
        return guard.outcome

    def predict(self, x: NDArray[np.int8]) -> NDArray[np.int64]:
        """Classes [N], by what is in use."""
        return self._learner.predict(x)
