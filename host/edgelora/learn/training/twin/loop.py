"""The training loop: one run, the same on a board and on the host twin, down to the adapter's bytes.

The host decides the order of samples and the learning rate of every update; both follow from the run's settings.
Learners see only int8 windows, labels and integer rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgelora.base.progress import Progress, no_progress
from edgelora.core.twin.session import NAT
from edgelora.learn.training.data.samples import Samples, schedule
from edgelora.learn.training.judge.early_stopping import Course, Guard, Judge, Outcome, Score, Verdict
from edgelora.learn.training.recipe import RunSettings


class Learner(Judge, Protocol):
    """The interface of learners: a board behind a link, or the host twin."""

    def cache(self, x: NDArray[np.int8], where: str) -> None:
        """Computes the features of these samples and keeps them; where: one of `recipe.CACHES`."""
        ...

    def train_cached(self, picked: NDArray[np.int64], y: NDArray[Any], learning_rate: int) -> list[int]:
        """`train` on cached samples, by their numbers; bit-identical."""
        ...

    def begin(self, seed: int) -> None: ...
    def load(self, adapter: bytes) -> None: ...
    def train(self, x: NDArray[np.int8], y: NDArray[Any], learning_rate: int) -> list[int]:
        """Trains on these samples in order, y: labels or targets; returns their losses in 1/4096 nat."""
        ...

    def flush(self, learning_rate: int) -> None: ...
    def save(self, state: bool) -> bytes: ...
    def use(self, adapter: bytes | None) -> None: ...
    def predict(self, x: NDArray[np.int8]) -> NDArray[np.int64]: ...
    def kept(self) -> bytes:
        """The adapter that was kept last."""
        ...

    def go_on(self) -> None:
        """Loads the kept adapter for training, with a fresh training state."""
        ...


@dataclass
class Run:
    """A training run's result: the kept adapter, and the training state at the end.

    losses: nats, one per update (mean of its samples); final_epochs: how many epochs over all samples, held-out ones
    included, the kept adapter trained for; 0: it is the best epoch's.
    """

    adapter: bytes
    state: bytes
    losses: list[float] = field(default_factory=list)
    epoch_losses: list[float] = field(default_factory=list)
    verdict: Verdict | None = None  # by the held-out samples; None: not validated
    said: str = ""  # which samples were held out, a sentence
    final_epochs: int = 0
    outcome: Outcome | None = None  # what judged its layers
    judged_adapter: bytes = b""  # which outcome judged, before final epochs
    own_rows: bool = False  # the adapter has a person's own rows of the classes; nothing was trained


def train(
    learner: Learner,
    samples: Samples,
    settings: RunSettings,
    progress: Progress = no_progress,
    checkpoint: Callable[[], None] | None = None,
    done: int = 0,
    stop: int | None = None,
    guard: Guard | None = None,
) -> Run:
    """Runs the updates from number `done` to before `stop`; the learner has begun or loaded an adapter.

    `checkpoint` is called at the end of every epoch, between two updates. guard: keeps the best adapter, and may stop
    the run early; without a guard the last adapter is kept.
    """
    losses, epoch_losses = _learn(learner, samples, settings, progress, checkpoint, done, stop, guard)
    if guard is None:
        learner.keep()
    return Run(learner.kept(), learner.save(True), losses, epoch_losses)


def _learn(
    learner: Learner,
    samples: Samples,
    settings: RunSettings,
    progress: Progress,
    checkpoint: Callable[[], None] | None,
    done: int,
    stop: int | None,
    guard: Guard | None,
) -> tuple[list[float], list[float]]:
    """Runs the updates of `train`; returns losses of updates and of epochs."""
    updates = schedule(samples, settings)
    if guard and guard.enough:
        done = len(updates)
    if settings.cache != "none" and done < len(updates):
        learner.cache(samples.x, settings.cache)
    losses: list[float] = []
    by_epoch: dict[int, list[int]] = {}
    for step, batch in enumerate(updates[done:stop], done):
        labels = samples.targets[batch.picked]
        if settings.cache == "none":
            raw = learner.train(samples.x[batch.picked], labels, batch.learning_rate)
        else:
            raw = learner.train_cached(batch.picked, labels, batch.learning_rate)
        if len(batch.picked) < settings.session.micro_batch:
            learner.flush(batch.learning_rate)
        losses.append(sum(raw) / NAT / len(raw))
        by_epoch.setdefault(batch.epoch, []).extend(raw)
        progress(step + 1, len(updates), f"epoch {batch.epoch + 1}/{settings.epochs} loss {losses[-1]:.3f}")
        last_of_epoch = step + 1 == len(updates) or updates[step + 1].epoch != batch.epoch
        if not last_of_epoch:
            continue
        if guard:
            guard.epoch_ended(learner)
        if checkpoint:
            checkpoint()
        if guard and guard.enough:
            break
    return losses, [float(np.mean(by_epoch[e])) / NAT for e in sorted(by_epoch)]


def cross_judged(learner: Learner, course: Course, progress: Progress = no_progress) -> Outcome | None:
    """Cross-validates with few samples, compared with what infers now; None if the course has no folds.

    The learner has to `begin` again afterwards.
    """
    folds = course.folds
    if not folds:
        return None
    before, *others = [learner.judge(held) for _, held in folds]
    before, kept = sum(others, before), Score(0, 0, np.zeros(0, np.int32))
    for learned, held in folds:
        learner.begin(course.settings.seed)
        _learn(learner, learned, course.settings, progress, None, 0, None, None)
        kept += learner.judge(held)
    return Outcome(0, 0, before, kept)


def guarded(
    learner: Learner,
    course: Course,
    guard: Guard | None,
    progress: Progress = no_progress,
    checkpoint: Callable[[], None] | None = None,
    done: int = 0,
    stop: int | None = None,
    finishing: Progress = no_progress,
) -> Run:
    """`train` by a course and, if that helped, a fresh adapter's run over all samples, which reports to `finishing`.

    A board that drives its run makes no such final adapter. The state is that before it, on a board too: a run that is
    interrupted in its final part repeats that.
    """
    run = train(learner, course.samples, course.settings, progress, checkpoint, done, stop, guard)
    run = replace(run, judged_adapter=run.adapter)
    finishes = stop is None and not course.settings.on_board
    if finishes and guard and guard.verdict is Verdict.BETTER:
        settings = course.final(guard)
        learner.begin(settings.seed)
        _learn(learner, course.everything, settings, finishing, None, 0, None, None)
        if guard.keeps_final(learner):
            run = replace(run, adapter=learner.kept(), final_epochs=settings.epochs)
    return run


def confusion(predicted: NDArray[np.int64], y: NDArray[np.int64], classes: int) -> list[list[int]]:
    """Counts, `[true][predicted]`."""
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (y, predicted), 1)
    return counts.tolist()
