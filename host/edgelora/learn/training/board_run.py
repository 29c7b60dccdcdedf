"""A training run that the board does by itself: its own order of samples, pace, budgets and checkpoints.

The host puts the samples there as a file, prepares the run and lets it go on, a fraction of a second at a time. When
the host goes away in between, nothing is lost: the run is resumed from the board's store.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.board.link.client import Link
from edgelora.board.link.replies import RunReply
from edgelora.board.profiles import BoardProfile
from edgelora.core.formats.eld import pack_samples

from .board_paths import HELD_PATH, SAMPLES_PATH
from .recipe import Recipe, UpdateLog
from .samples import Samples, schedule

NAME = "personal"  # of the run, and in the end of the adapter in the board's store,
KEPT_NAME = NAME + ".new"  # if it is better than what was there; else it has this one
GO_MS = 200  # of the board's time for each request: how long Ctrl-C may take


@dataclass(frozen=True)
class Pace:
    """How the board works: its clock, milliseconds of sleep after an update, budgets until it suspends, and commits.

    commit_every: updates from one write to flash to the next; after a power cut as many are repeated at most.
    """

    clock_hz: int | None = None
    sleep_ms: int = 0
    budget_ms: int | None = None
    budget_mj: float | None = None
    commit_every: int = 32

    def __post_init__(self) -> None:
        for what, value, least in (
            ("clock", self.clock_hz, 1),
            ("sleep-ms", self.sleep_ms, 0),
            ("budget-ms", self.budget_ms, 1),
            ("budget-mj", self.budget_mj, 1e-3),
            ("commit-every", self.commit_every, 1),
        ):
            if value is not None and value < least:
                raise InputError(f"{what} {value}: give {least} or more")


class Suspended(EdgeloraError, RuntimeError):
    """The run was suspended before its end, because its budget is used up or somebody pressed Ctrl-C.

    The board has everything that is needed to go on.
    """

    def __init__(self, reply: RunReply, updates: int, interrupted: bool) -> None:
        why = "interrupted" if interrupted else "budget used up"
        super().__init__(f"{why}: suspended after {reply.updates} of {updates} updates; --resume goes on")
        self.reply, self.interrupted = reply, interrupted


@dataclass(frozen=True)
class BoardTraining:
    """What such a run tells: losses in nats, one an update and one an epoch; where it ended; a sample's microseconds.

    The latter is None, and losses have only the last updates, if a resumed run had less or nothing left to learn.
    """

    losses: list[float]
    epoch_losses: list[float]
    end: RunReply
    step_us: float | None


def train_on_board(
    link: Link,
    base_id: bytes,
    samples: Samples,
    held: Samples | None,
    recipe: Recipe,
    pace: Pace,
    profile: BoardProfile | None,
    metrics: UpdateLog,
    progress: Progress = no_progress,
    resume: bool = False,
    note: Callable[[str], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> BoardTraining:
    """Runs the recipe on a board whose model is open for it. `Suspended` if it does not come to the end.

    held: samples by which the board keeps the best adapter; None: it keeps the last. note: takes what the board
    remarks, such as a checkpoint that a power cut spoiled. stop: whether it is to be suspended, as by Ctrl-C.
    """
    if pace.clock_hz and profile and profile.clock_hz is None:
        raise InputError(f"{profile.name} has no clock that can be set: leave --clock out")
    for path, part in ((SAMPLES_PATH, samples), (HELD_PATH, held)):
        if part is not None:
            content = pack_samples(part.x, part.y, part.given_targets, base_id)
            if not link.holds(path, content):
                link.put(path, content)
    watts = profile.watts(pace.clock_hz) if profile else None
    if pace.budget_mj is not None and watts is None:
        raise InputError("a budget of energy needs a board with figures of its power: leave --budget-mj out")
    reply = link.run_start(
        SAMPLES_PATH,
        NAME,
        epochs=recipe.epochs,
        seed=recipe.seed,
        learning_rate=recipe.initial_rate,
        commit_every=pace.commit_every,
        held=HELD_PATH if held else None,
        resume=resume,
        clock_hz=pace.clock_hz,
        sleep_ms=pace.sleep_ms,
        budget_ms=pace.budget_ms,
        budget_mj=pace.budget_mj,
        power_mw=None if watts is None else 1000 * watts,
        sleep_mw=1000 * (profile and profile.power and profile.power.sleep_watts or 0),
    )
    if reply.notice and note:
        note(reply.notice)
    record = _Record(samples, recipe, reply.samples, watts, metrics, progress)
    with _interrupts_noted() as interrupted:
        while reply.state != "done":
            reply = link.run_go(GO_MS)
            record.add(reply)
            told = interrupted() or stop()
            if reply.state != "done" and (told or reply.state != "training"):
                reply = link.run_suspend()
                record.add(reply)
                raise Suspended(reply, record.updates, told)
    return BoardTraining(record.losses, record.epoch_losses, reply, record.step_us)


class _Record:
    """Losses of single samples, gathered into updates and epochs."""

    def __init__(
        self,
        samples: Samples,
        recipe: Recipe,
        start: int,
        watts: float | None,
        metrics: UpdateLog,
        progress: Progress,
    ) -> None:
        self._schedule, self._epochs = schedule(samples, recipe), recipe.epochs
        self._batch, self._count = recipe.micro_batch, len(samples.of_epoch)
        self._start, self._watts = start, watts
        self._metrics, self._progress = metrics, progress
        self._nats: list[float] = []
        self._us: list[int] = []
        self.losses: list[float] = []

    @property
    def updates(self) -> int:
        return len(self._schedule)

    def add(self, reply: RunReply) -> None:
        self._nats += [loss / 4096 for loss in reply.losses]
        self._us += reply.times_us
        first = -(-self._start // self._batch)
        for step in range(first + len(self.losses), reply.updates):
            batch = self._schedule[step]
            part = slice(step * self._batch - self._start, step * self._batch - self._start + len(batch.picked))
            loss, us = float(np.mean(self._nats[part])), sum(self._us[part])
            self.losses.append(loss)
            joules = None if self._watts is None else us * 1e-6 * self._watts
            self._metrics.update(step + 1, batch.epoch + 1, loss, batch.learning_rate, len(batch.picked), us, joules)
            self._progress(step + 1, self.updates, f"epoch {batch.epoch + 1}/{self._epochs} loss {loss:.3f}")

    @property
    def epoch_losses(self) -> list[float]:
        starts = range(-(-self._start // self._count) * self._count, self._epochs * self._count, self._count)
        parts = [self._nats[at - self._start : at - self._start + self._count] for at in starts]
        return [float(np.mean(part)) for part in parts]

    @property
    def step_us(self) -> float | None:
        return round(sum(self._us) / len(self._us), 1) if self._us else None


@contextlib.contextmanager
def _interrupts_noted() -> Iterator[Callable[[], bool]]:
    """Ctrl-C is noted, so that the board can be told; a second one is as ever."""
    noted: list[int] = []

    def note(number: int, _frame: object) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(noted)
    finally:
        signal.signal(signal.SIGINT, before)
