"""A training run that the board drives: with its own order of samples, pace, budgets and checkpoints.

The host writes the samples to a file on the board, prepares the run and continues it for a fraction of a second at a
time. If the host disconnects, nothing is lost: the run resumes from the board's store.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import EdgeloraError, InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.board.link.client import Link
from edgelora.board.link.replies import RunReply
from edgelora.board.profiles import BoardProfile
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import base_id
from edgelora.core.twin.session import NAT
from edgelora.learn.training.data.base import Base, WorkflowError
from edgelora.learn.training.data.samples import MicroBatch
from edgelora.learn.training.judge.early_stopping import Course, Outcome, Score
from edgelora.learn.training.judge.metrics import Measure

from .board_paths import ADAPTER_PATH, HELD_PATH, SAMPLES_PATH

NAME = "personal"  # of the run and, at its end, of the adapter in the board's store
KEPT_NAME = NAME + ".new"  # of the new adapter, unless it is better than the one in the store
GO_MS = 200  # the board's time for each request, and so the longest delay of Ctrl-C


@dataclass(frozen=True)
class Pace:
    """A board's pace: its clock, milliseconds of sleep after an update, budgets until it suspends, and commits.

    commit_every: updates between writes to flash; after a power cut, at most as many are repeated.
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


class UpdateLog(Protocol):
    """Records each update of a run: `report.metrics.Metrics` writes a file."""

    def update(
        self,
        step: int,
        epoch: int,
        loss: float,
        learning_rate: int,
        samples: int,
        us: float | None,
        joules: float | None = None,
    ) -> None: ...


@dataclass(frozen=True)
class RunOptions:
    """Options of a board's run that don't change the adapter: callbacks, pace, resuming and use of the adapter.

    note: gets the board's notices, such as a checkpoint that a power cut damaged. tested: is called, from the twin's
    thread, with the measure of the test samples after each epoch. stop: returns whether to suspend a run that the board
    drives, as Ctrl-C does. resume: from the board's checkpoint. pace: of a run that the board drives. force: the board
    infers with the adapter even if it is not better. ask: returns the board's answers for the test samples, with the
    adapter in use; by default these samples are sent to the board.
    """

    metrics: UpdateLog | None = None
    progress: Progress = no_progress
    note: Callable[[str], None] = lambda text: None
    tested: Callable[[Measure], None] = lambda measure: None
    stop: Callable[[], bool] = lambda: False
    resume: bool = False
    pace: Pace = Pace()
    force: bool = False
    ask: Callable[[], NDArray[Any]] | None = None

    def log(self, done: int, batch: MicroBatch, loss: float, us: int, watts: float | None) -> None:
        """Logs update number `done`, from 1: its mean loss, nats, the board's microseconds, and its power."""
        joules = None if watts is None else us * 1e-6 * watts
        if self.metrics:
            self.metrics.update(done, batch.epoch + 1, loss, batch.learning_rate, len(batch.picked), us, joules)


class Suspended(EdgeloraError, RuntimeError):
    """The run was suspended before its end, because its budget is used up or somebody pressed Ctrl-C.

    The board has everything that it needs to resume the run.
    """

    def __init__(self, reply: RunReply, updates: int, interrupted: bool) -> None:
        why = "interrupted" if interrupted else "budget used up"
        super().__init__(f"{why}: suspended after {reply.updates} of {updates} updates; --resume continues")
        self.reply, self.interrupted = reply, interrupted


@dataclass(frozen=True)
class BoardTraining:
    """The record of such a run: losses in nats, per update and per epoch; its end; microseconds per sample.

    After a resume, losses are of the remaining updates only; microseconds are None if nothing was left to train.
    """

    losses: list[float]
    epoch_losses: list[float]
    end: RunReply
    step_us: float | None

    @property
    def outcome(self) -> Outcome:
        """The outcome of a run with held-out samples."""
        before, kept = (Score(right, -loss) for right, loss in (self.end.before, self.end.best))
        return Outcome(self.end.judged - 1, self.end.best_epoch, before, kept)


def train_on_board(
    link: Link, base: Base, course: Course, profile: BoardProfile | None, options: RunOptions
) -> BoardTraining:
    """Runs a course on a board whose model is open for it. Raises `Suspended` if the run stops before its end.

    The board keeps the adapter with the best score on the held-out samples; without any, the last one.
    """
    settings, held, pace = course.settings, course.held, options.pace
    if pace.clock_hz and profile and profile.clock_hz is None:
        raise InputError(f"{profile.name} has no adjustable clock: omit --clock")
    for path, part in ((SAMPLES_PATH, course.samples), (HELD_PATH, held)):
        if part is not None:
            content = pack_samples(part.x, part.y, part.given_targets, base_id(base.elm))
            if not link.holds(path, content):
                link.put(path, content)
    watts = profile.watts(pace.clock_hz) if profile else None
    if pace.budget_mj is not None and watts is None:
        raise InputError("an energy budget needs a board with known power: omit --budget-mj")
    reply = link.run_start(
        SAMPLES_PATH,
        NAME,
        epochs=settings.epochs,
        seed=settings.seed,
        learning_rate=settings.learning_rate,
        commit_every=pace.commit_every,
        held=HELD_PATH if held else None,
        resume=options.resume,
        clock_hz=pace.clock_hz,
        sleep_ms=pace.sleep_ms,
        budget_ms=pace.budget_ms,
        budget_mj=pace.budget_mj,
        power_mw=None if watts is None else 1000 * watts,
        sleep_mw=1000 * (profile and profile.power and profile.power.sleep_watts or 0),
    )
    if reply.notice:
        options.note(reply.notice)
    record = _Record(course, reply.samples, watts, options)
    with _interrupts_noted() as interrupted:
        while reply.state != "done":
            reply = link.run_go(GO_MS)
            record.add(reply)
            requested = interrupted() or options.stop()
            if reply.state != "done" and (requested or reply.state != "training"):
                reply = link.run_suspend()
                record.add(reply)
                raise Suspended(reply, record.updates, requested)
    return BoardTraining(record.losses, record.epoch_losses, reply, record.step_us)


class _Record:
    """Losses of single samples, grouped by update and epoch."""

    def __init__(self, course: Course, start: int, watts: float | None, options: RunOptions) -> None:
        settings = course.settings
        self._schedule, self._epochs = course.updates, settings.epochs
        self._batch, self._count = settings.session.micro_batch, len(course.samples.of_epoch)
        self._start, self._watts, self._options = start, watts, options
        self._nats: list[float] = []
        self._us: list[int] = []
        self.losses: list[float] = []

    @property
    def updates(self) -> int:
        return len(self._schedule)

    def add(self, reply: RunReply) -> None:
        self._nats += [loss / NAT for loss in reply.losses]
        self._us += reply.times_us
        first = -(-self._start // self._batch)
        for step in range(first + len(self.losses), reply.updates):
            batch = self._schedule[step]
            part = slice(step * self._batch - self._start, step * self._batch - self._start + len(batch.picked))
            loss, us = float(np.mean(self._nats[part])), sum(self._us[part])
            self.losses.append(loss)
            self._options.log(step + 1, batch, loss, us, self._watts)
            self._options.progress(step + 1, self.updates, f"epoch {batch.epoch + 1}/{self._epochs} loss {loss:.3f}")

    @property
    def epoch_losses(self) -> list[float]:
        starts = range(-(-self._start // self._count) * self._count, self._epochs * self._count, self._count)
        parts = [self._nats[at - self._start : at - self._start + self._count] for at in starts]
        return [float(np.mean(part)) for part in parts]

    @property
    def step_us(self) -> float | None:
        return round(sum(self._us) / len(self._us), 1) if self._us else None


def left_in_store(link: Link, end: RunReply) -> bytes:
    """The adapter that a board's own run kept; writes it to ADAPTER_PATH, too."""
    adapter = link.store_get(KEPT_NAME if end.better is False else NAME)
    if end.crc != zlib.crc32(adapter):
        raise WorkflowError("the adapter in the board's store is not the one that it trained: train again")
    link.put(ADAPTER_PATH, adapter)
    return adapter


def settle_store(link: Link, end: RunReply, adapter: bytes, previous: bytes | None, activated: bool) -> None:
    """Stores the adapter under the run's name, if it is activated; else restores the previous one."""
    if activated and end.better is False:
        link.store_put(NAME, adapter)
        link.store_remove(KEPT_NAME)
    elif not activated and end.better is not False:
        if previous:
            link.store_put(NAME, previous)
        elif link.store_list().active == NAME:
            link.store_activate(None)


@contextlib.contextmanager
def _interrupts_noted() -> Iterator[Callable[[], bool]]:
    """Records a Ctrl-C, so that the run can be suspended; a second one interrupts as usual."""
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
