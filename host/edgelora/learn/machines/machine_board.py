"""Learns one machine on a board from the counts of its vibration; every stage also runs on the twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgelora.base.progress import Progress, no_progress
from edgelora.board.link.client import Link
from edgelora.board.link.replies import Decision, MonitorReply
from edgelora.board.probe import profile_of
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import base_id
from edgelora.learn.streaming.decisions import signal_of
from edgelora.learn.training.board.board_learner import BoardLearner
from edgelora.learn.training.board.board_paths import ADAPTER_PATH, HELD_PATH, MACHINE_PATH, SAMPLES_PATH
from edgelora.learn.training.board.board_run import (
    NAME,
    RunOptions,
    UpdateLog,
    left_in_store,
    settle_store,
    train_on_board,
)
from edgelora.learn.training.data.base import Base, WorkflowError
from edgelora.learn.training.heads.new_classes import stored_adapter
from edgelora.learn.training.judge.early_stopping import Outcome, Verdict, prepared
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.run.recompute import within

from .machine_base import features_of
from .machine_monitor import Machine, Phases, Watch, learn_machine


@dataclass(frozen=True)
class BoardMachine:
    """One machine on a board. adapter: its `.ela`, including the record; scores: of the watched windows.

    verdict: on the adapter, which is in use if it is BETTER; step_us: a training step, window_us: front end, network
    and monitor for one window, by the board's clock; identical: whether the twin's samples, adapter, record and scores
    are bit-identical. If not, the verdict is DIFFERS, and the board uses none of them.
    """

    adapter: bytes
    outcome: Outcome | None
    verdict: Verdict
    activated: bool
    threshold: int
    scores: NDArray[np.int64]
    alarms: NDArray[np.bool_]
    step_us: float | None
    window_us: float
    arena: int
    free: int
    identical: bool
    twin: Machine


def learn_on_board(
    link: Link,
    base: Base,
    normal: NDArray[np.int16],
    watched: NDArray[np.int16],
    recipe: Recipe,
    phases: Phases,
    metrics: UpdateLog,
    progress: Progress = no_progress,
) -> BoardMachine:
    """Streams counts of normal operation to a board, which learns the machine stage by stage and then watches others.

    normal: counts of `phases.total` windows; watched: counts of the whole windows that follow. Only counts are sent:
    the board makes features, inputs and samples of them, keeps the samples in its flash, drives its own training, and
    validates the adapter.
    """
    recipe = replace(recipe, on_board=True)
    signal = signal_of(base)
    stream = _Stream(link, signal.window, normal, phases.total + len(watched) // signal.window, progress)
    board = BoardLearner(link, base, within(base.elm, recipe.settings(base.elm), recipe.ram), progress)
    board.use(None)
    link.listen(monitor={"least": phases.least, "votes": phases.votes, "one_in": phases.one_in})

    features = features_of(np.concatenate([normal, watched]))
    parts = phases.cut(features)
    course = prepared(base.elm, Watch(base, None, phases).learn(parts), recipe)
    if course.held is None:
        raise WorkflowError(
            f"{phases.learn} training windows are too few to hold some out for validation: give 24 or more"
        )
    stream.stage("scale", phases.scale)
    stream.stage("learn", len(course.samples), SAMPLES_PATH)
    stream.stage("learn", len(course.held), HELD_PATH)
    identical = all(
        link.holds(path, pack_samples(part.x, part.y, part.given_targets, base_id(base.elm)))
        for path, part in ((SAMPLES_PATH, course.samples), (HELD_PATH, course.held))
    )
    previous = stored_adapter(link, base, NAME)
    profile, options = profile_of(link.hello()), RunOptions(metrics, progress)
    trained = train_on_board(link, base, course, profile, options)
    adapter = left_in_store(link, trained.end)
    outcome = trained.outcome
    activated = outcome.verdict is Verdict.BETTER
    settle_store(link, trained.end, adapter, previous, activated)
    link.use(ADAPTER_PATH if activated else None)

    stream.stage("residuals", phases.residuals)
    stream.stage("threshold", phases.threshold)
    link.monitor_calibrate("watch")
    link.monitor_save(MACHINE_PATH)
    whole = link.get(MACHINE_PATH)
    link.store_put(NAME, whole)
    link.store_activate(NAME)
    state = link.monitor_use(MACHINE_PATH)
    decisions, elapsed = stream.hear(watched, "watched")
    scores = np.array([each.score for each in decisions], np.int64)
    alarms = np.array([each.seen for each in decisions], bool)

    mine = learn_machine(base, parts, recipe, phases)
    identical &= _same(mine, whole, adapter, activated, features[phases.total :], decisions)
    verdict = outcome.verdict
    if not identical:
        verdict, activated = Verdict.DIFFERS, False
        link.store_activate(None)
        link.use(None)
    window_us = elapsed / len(decisions)
    sizes = (board.info.arena, link.hello().free)
    end = (state.threshold, scores, alarms, trained.step_us, window_us, *sizes, identical, mine)
    return BoardMachine(whole, outcome, verdict, activated, *end)


class _Stream:
    """Sends counts to a board's monitor, a stage's windows at a time."""

    def __init__(self, link: Link, window: int, normal: NDArray[np.int16], total: int, progress: Progress) -> None:
        self._link, self._window, self._normal, self._total = link, window, normal, total
        self._progress = progress
        self._at = self._heard = 0  # windows

    def stage(self, stage: str, windows: int, path: str | None = None) -> MonitorReply:
        """Sends the next windows for a stage of calibration."""
        self._link.monitor_calibrate(stage, windows, path)
        part = self._normal[self._at * self._window : (self._at + windows) * self._window]
        self._at += windows
        self.hear(part, stage, lock_heap=path is None)  # writing a flash file allocates heap
        state = self._link.monitor_state()
        if state.left:
            raise WorkflowError(f"the board's monitor still needs {state.left} windows of stage {stage}: start again")
        return state

    def hear(self, counts: NDArray[np.int16], what: str, lock_heap: bool = True) -> tuple[list[Decision], int]:
        """Sends windows; returns the board's decisions and its microseconds for them."""
        decisions: list[Decision] = []
        elapsed, before = 0, self._heard
        for reply in self._link.hear(counts, lock_heap):
            decisions += reply.decisions
            elapsed += reply.elapsed_us
            self._heard = before + len(decisions)
            self._progress(self._heard, self._total, f"windows: {what}")
        return decisions, elapsed


def _same(
    mine: Machine,
    whole: bytes,
    adapter: bytes,
    activated: bool,
    watched: NDArray[np.int16],
    decisions: Sequence[Decision],
) -> bool:
    """Whether the twin's machine equals the board's: adapter, record, scores and alarms."""
    scores, alarms = mine.watch.watched(watched)
    return (
        mine.run.adapter == adapter
        and mine.activated == activated
        and whole == mine.watch.ela
        and np.array_equal(scores, [each.score for each in decisions])
        and np.array_equal(alarms, [each.seen for each in decisions])
    )
