"""The twin of a board's learner: samples as they come, for years (SPEC.md, section 13).

a sample -- learn --> one update, with REPLAYED of the reservoir -- judged --> in use, if it is better
    |                                                                 ^
    +---------------> reservoir: learned ones, and held ones ---------+
                         |
                         +-- consolidate --> an adapter anew, judged ----> in use, if it is better

Whatever is judged has the rows of classes that were added made anew of the reservoir's samples.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .. import formats, twin
from ..errors import InputError
from ..formats import ClassRow
from .guard import Course, Judged, Outcome, Verdict
from .loop import guarded
from .recipe import Recipe
from .reservoir import Reservoir
from .samples import Samples
from .twin_learner import TwinLearner

STREAM = 131073  # of draws
REPLAYED = 3  # samples learned again with each new one
HORIZON = 64  # updates after which the rate is half of what it was
DOUBTED = 10  # one label that judges in so many may stay unexplained before more than chance has to speak for a gain


def _classes(adapter: bytes | None) -> list[ClassRow]:
    return formats.unpack_adapter(adapter).classes if adapter else []


def _clear(gained: int, wrong: int) -> bool:
    """Whether so many more right, and so many wrong in the end, are more than chance.

    Of what one of two names right and the other wrong, the difference varies by the root of the number, which is at
    most gained + 2 * wrong.
    """
    return gained > 0 and gained**2 > 2 * (gained + 2 * wrong)


def _with_classes(session: twin.Session, adapter: bytes | None, rows: list[ClassRow]) -> bytes | None:
    """The adapter with these classes and no others; None: nothing is left but the bare base."""
    if not rows and not _classes(adapter):
        return adapter
    body = formats.pack_classes(sorted(rows, key=lambda row: row.number)) if rows else None
    return session.with_record(adapter, formats.CLASSES, body) or None


class _WithClasses(TwinLearner):
    """Learns with classes whose rows are made anew, of samples, before anything is judged, and learns on with these."""

    def __init__(self, elm: bytes, recipe: Recipe) -> None:
        super().__init__(elm, recipe.ranks(formats.unpack_model(elm)), recipe)

    def put(self, rows: list[ClassRow]) -> None:
        """The training adapter has these classes."""
        if rows:
            body = formats.pack_classes(sorted(rows, key=lambda row: row.number))
            self.load(self.session.with_record(self.save(True), formats.CLASSES, body))

    def renew(self, samples: Samples) -> None:
        """Rows of its classes, of the samples as the training adapter has them; it infers then."""
        rows = _classes(self.save(False))
        self.use(self.save(False))
        for at, row in enumerate(rows):
            of_class = samples.x[samples.y == row.number][: formats.MAX_CLASS_SAMPLES]
            if len(of_class):
                rows[at] = self.session.class_row(of_class, row.number, row.name)
        self.put(rows)
        self.use(self.save(False))


class _Consolidating(_WithClasses):
    """Makes rows anew whenever an epoch begins. samples: that it learns."""

    def __init__(self, elm: bytes, recipe: Recipe, rows: list[ClassRow], samples: Samples) -> None:
        super().__init__(elm, recipe)
        self._samples = samples
        self.begin(recipe.seed)
        self.put(rows)
        self.renew(samples)

    def judge(self, samples: Samples) -> Judged:
        self.renew(self._samples)
        return super().judge(samples)


@dataclass(frozen=True)
class Consolidated(Outcome):
    """What a consolidation found. better: than what was in use, whose place it takes then."""

    better: bool

    @property
    def verdict(self) -> Verdict:
        return Verdict.BETTER if self.better else Verdict.NOT_BETTER


class Lifelong:
    """Learns as the device's `Learner` does, to the last bit. recipe: mode, rates and seed; epochs: of `consolidate`.

    in_use: the adapter that infers, None: the bare base; updates: since it began or was last consolidated. replayed:
    with each new sample; a board has REPLAYED. only: classes that count, None: all.
    """

    def __init__(
        self,
        elm: bytes,
        recipe: Recipe,
        reservoir: Reservoir,
        judge_every: int = 16,
        replayed: int = REPLAYED,
        only: Collection[int] | None = None,
    ) -> None:
        if recipe.micro_batch <= replayed:
            raise InputError(f"micro-batch {recipe.micro_batch}: a learner takes {replayed + 1} or more")
        self._replayed = replayed
        self._elm, self.recipe = elm, replace(recipe, on_board=True)
        model = formats.unpack_model(elm)
        self._known, self._labels = model.classes, model.labels
        self.reservoir, self.judge_every, self.only = reservoir, judge_every, only
        self._learner = _WithClasses(elm, recipe)
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
        return max(1, self.recipe.initial_rate * HORIZON // (HORIZON + self.updates))

    @property
    def learned(self) -> bytes:
        """What is being trained, in use or not."""
        return self._learner.save(False)

    def learn(self, sample: NDArray[np.int8], label: int) -> int | None:
        """The sample's loss before it is learned, 1/4096 nat; None if it judges."""
        loss = None
        if not self.reservoir.judges(label):
            loss = self._update(sample, label)
        self.reservoir.add(sample, label)
        if loss is not None and self.updates % self.judge_every == 0:
            self.judge()
        return loss

    @property
    def _classes(self) -> set[int]:
        """Numbers of all classes: the base's and those of what is in use."""
        return set(range(self._known)) | {row.number for row in _classes(self.in_use)}

    @property
    def untold(self) -> set[int]:
        """Classes that count and have no samples: what learning does to these, nothing tells."""
        return set(self._classes if self.only is None else self.only) - set(self.reservoir.labels.tolist())

    def _parts(self) -> tuple[Samples, Samples | None]:
        """Samples that are learned, and those that judge, if enough do."""
        return self.reservoir.parts(self._classes)

    def _update(self, sample: NDArray[np.int8], label: int) -> int:
        reservoir, rate = self.reservoir, self.rate
        old, first = self._parts()[0], self._replayed * int(reservoir.seen.sum())
        turns = range(first, first + self._replayed if len(old) else first)
        picked = np.array([twin.draw(reservoir.seed, STREAM, turn, len(old)) for turn in turns], np.int64)
        loss = self._learner.train(sample[None], np.array([label]), rate)[0]
        self._learner.train(old.x[picked], old.y[picked], rate)
        self._learner.flush(rate)
        self.updates += 1
        return loss

    def judge(self) -> bool | None:
        """Whether what was learned is better than what is in use, and takes its place. None: too few samples judge.

        Or a class that counts has none.
        """
        samples, held = self._parts()
        if held is None or self.untold:
            return None
        self._learner.renew(samples)
        learned = self.learned
        better = self._accepts(held, self._judged(learned, held), self._judged(self.in_use, held))
        if better:
            self.in_use = learned
        self._learner.use(self.in_use)
        return better

    def _accepts(self, held: Samples, learned: Judged, in_use: Judged) -> bool:
        """Whether it is so much better that it takes the place of what is in use."""
        count, most, right = len(held), int(np.bincount(held.y).max()), learned.right
        guessed = right <= most or (right - most) ** 2 * count <= 4 * most * (count - most)
        doubted = (count - right) * DOUBTED > count and not _clear(right - in_use.right, count - right)
        return not guessed and not doubted and learned > in_use

    def _judged(self, adapter: bytes | None, held: Samples) -> Judged:
        self._learner.use(adapter)
        return self._learner.judge(held)

    def consolidate(self) -> Consolidated:
        """Trains an adapter anew from the reservoir, and uses it if it is better. InputError if too few judge.

        Or if a class that counts has no samples.
        """
        learned, held = self._parts()
        if self.untold:
            missing = ", ".join(map(str, sorted(self.untold)))
            raise InputError(f"no samples of class {missing}: learn some, or give `only` the classes that count")
        if held is None:
            raise InputError("too few samples to judge by: consolidate when more have come, of two classes at least")
        course = Course(learned, held, learned, self.recipe.fitted(len(learned.of_epoch)))
        self._learner.use(self.in_use)
        guard = course.guard(self._learner)
        learner = _Consolidating(self._elm, course.recipe, _classes(self.in_use), learned)
        run = guarded(learner, course, guard)
        assert guard
        outcome = guard.outcome
        better = self._accepts(held, outcome.kept, outcome.before)
        if better:
            self.in_use = run.adapter
        self.restart()
        return Consolidated(outcome.epochs, outcome.best, outcome.before, outcome.kept, better)

    def add_class(self, name: str, samples: NDArray[np.int8]) -> int:
        """A class that the base does not have, int8 [n, ...], which go into the reservoir, too. Its number.

        Or the person's own picture of one that it has. InputError if clearly fewer of the samples that judge would be
        right with it: all stays as it was.
        """
        rows = _classes(self.in_use)
        numbers = {label: number for number, label in enumerate(self._labels)} | {
            r.name: r.number for r in rows if r.name
        }
        is_new = name not in numbers
        number = next(n for n in range(self._known, 256) if n not in numbers.values()) if is_new else numbers[name]
        if number >= len(self.reservoir.seen):
            raise InputError(f"the reservoir has room for {len(self.reservoir.seen)} classes: make one with more")
        row = self._learner.session.class_row(samples, number, name if number >= self._known else "")
        if is_new:
            self.reservoir.forget(number)
        for sample in samples:
            self.reservoir.add(sample, number)
        kept = [other for other in rows if other.number != number]
        adapter = _with_classes(self._learner.session, self.in_use, [*kept, row])
        if (held := self.reservoir.parts(self._classes | {number})[1]) is not None:
            right, without = self._right(adapter, held), self._right(self.in_use, held)
            if _clear(without - right, len(held) - without):
                self._learner.use(self.in_use)
                if is_new:
                    self.reservoir.forget(number)
                told = f"{name}: of {len(held)} samples that judge {right} would be named right"
                raise InputError(f"{told}, and {without} are without it: give more samples")
        self.in_use = adapter
        self.restart()
        return number

    def _right(self, adapter: bytes | None, held: Samples) -> int:
        self._learner.use(adapter)
        return int(np.sum(self._learner.predict(held.x) == held.y))

    def remove_class(self, name: str) -> None:
        """The adapter without it, to the byte what it was; its samples go."""
        rows = _classes(self.in_use)
        [number] = [row.number for row in rows if row.name == name]
        kept = [row for row in rows if row.number != number]
        self.in_use = _with_classes(self._learner.session, self.in_use, kept)
        self.reservoir.forget(number)
        self.restart()

    def predict(self, x: NDArray[np.int8]) -> NDArray[np.int64]:
        """Classes [N], by what is in use."""
        return self._learner.predict(x)
