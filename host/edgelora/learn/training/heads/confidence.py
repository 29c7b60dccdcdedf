"""From which probability on an answer counts: the device's rule, on samples that did not teach what answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.core.twin import device
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.base import Base, adapter_ranks
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.judge.early_stopping import Course
from edgelora.learn.training.twin.loop import Run
from edgelora.learn.training.twin.twin_learner import guard_twin

from .own_rows import rows_of

_device = device.module("confidence")
ONE: int = _device.ONE  # a probability of 1
UNSURE: str = _device.UNSURE
FOLDS = 60  # of own rows: as many samples at most are left out one at a time
LEAST_SAMPLES = 6  # fewer own samples say nothing


@dataclass(frozen=True)
class Confidence:
    """least: in 1/32768, the least probability of the said class with which an answer counts; 0: every answer does.

    samples: own ones that it was chosen on, with how many are answered, and how many of these are wrong. test_samples,
    test_answered, test_wrong: the same of test samples, test_wrong_of_all without a threshold.
    """

    least: int
    samples: int
    answered: int
    wrong: int
    test_samples: int
    test_answered: int
    test_wrong: int
    test_wrong_of_all: int

    @property
    def words(self) -> str:
        """A sentence."""
        chance = f"an answer counts from a probability of {self.least / ONE:.1%} on ({self.least} of {ONE})"
        if not self.least:
            chance = "every answer counts"
        elif self.least > ONE:
            chance = "no answer counts"
        own = f"{self.answered} of {self.samples} own samples are answered, {self.wrong} of these wrong"
        share = self.test_answered / max(1, self.test_samples)
        error = self.test_wrong / max(1, self.test_answered)
        without = self.test_wrong_of_all / max(1, self.test_samples)
        test = f"of the test samples {share:.0%} are answered, {error:.1%} of these wrong ({without:.1%} without)"
        return f"{chance}: {own}; {test}"


def share(least: int) -> float:
    """A probability in 1/32768 as a share of 1."""
    return least / ONE


def confidence(base: Base, course: Course, run: Run, test: Samples) -> Confidence | None:
    """Of the adapter of a run, if it is for use, else of the base alone. None for values, history or few samples.

    Own rows answer each sample without it, trained layers those that were held out from them: of few samples those of
    each fold of cross-validation.
    """
    model = base.model
    if model.learns_values or model.loss != "cross_entropy" or course.everything.frames > 1:
        return None
    used = run.adapter if run.verdict is None or run.verdict.is_for_use else None
    samples = course.everything
    if used is None:
        seen = _seen(base, None, samples)
    elif run.own_rows:
        seen = _left_out(base, run.adapter, samples)
    elif run.judged_adapter and course.held:
        samples = course.held
        seen = _seen(base, run.judged_adapter, samples)
    elif run.judged_adapter and course.turns:
        samples, seen = _across(base, course)
    else:
        return None
    if len(samples) < LEAST_SAMPLES:
        return None
    least, answered, wrong = _device.least_chance(seen[0].tolist(), (seen[1] == samples.y).tolist())
    chances, said = _seen(base, used, test)
    sure, right = chances >= least, said == test.y
    counts = (len(test), int(sure.sum()), int((sure & ~right).sum()), int((~right).sum()))
    return Confidence(least, len(samples), answered, wrong, *counts)


def least_of(base: Base, adapter: bytes | None, samples: Samples, held: NDArray[np.bool_]) -> int | None:
    """From which probability on, in 1/32768, an answer counts, by samples that did not teach the adapter.

    held: those held out from training. All judge the base alone; own rows judge each without it. None for too few, and
    where no probability is high enough.
    """
    rows = () if adapter is None else base.adapter(adapter).classes
    if any(row.number >= base.model.output.size for row in rows):
        return None  # the samples have no numbers of added classes
    if adapter is not None and not rows:
        samples = samples.part(held)
    if len(samples) < LEAST_SAMPLES:
        return None
    chances, said = _left_out(base, adapter, samples) if adapter and rows else _seen(base, adapter, samples)
    least: int = _device.least_chance(chances.tolist(), (said == samples.y).tolist())[0]
    return None if least == _device.NEVER else least


def _seen(base: Base, adapter: bytes | None, samples: Samples) -> tuple[NDArray[Any], NDArray[Any]]:
    """Probabilities of the said classes, in 1/32768 [N], and these classes [N]."""
    session = Session(base.elm, adapter_ranks(base, adapter), "infer", 1)
    session.use(adapter)
    chances, said = np.zeros(len(samples), np.int64), np.zeros(len(samples), np.int64)
    for i, x in enumerate(samples.x):
        said[i] = session.infer(x)
        chances[i] = session.probabilities().max()
    return chances, said


def _across(base: Base, course: Course) -> tuple[Samples, tuple[NDArray[Any], NDArray[Any]]]:
    """The samples, fold by fold, and what layers that did not learn these say, as in `_seen`."""
    order, found = [], []
    for chosen in course.turns:
        learned = course.samples.part(~chosen)
        made = guard_twin(base.elm, replace(course, samples=learned, everything=learned), None).adapter
        order.append(np.flatnonzero(chosen))
        found.append(_seen(base, made, course.samples.part(chosen)))
    chances, said = (np.concatenate(part) for part in zip(*found, strict=True))
    return course.samples.part(np.concatenate(order)), (chances, said)


def _left_out(base: Base, adapter: bytes, samples: Samples) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same, by rows of the adapter's doubt made without the sample, or, of many samples, without its fold."""
    doubt = base.adapter(adapter).classes[0].doubt
    folds = np.arange(len(samples)) % FOLDS
    chances, said = np.zeros(len(samples), np.int64), np.zeros(len(samples), np.int64)
    for fold in range(min(FOLDS, len(samples))):
        out = folds == fold
        rows = rows_of(base.elm, samples.part(~out), doubt)
        chances[out], said[out] = _seen(base, rows, samples.part(out))
    return chances, said
