"""Personalization on a board: evaluate, train, save, evaluate again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgelora.board.energy import EnergyRow, energy_by_clock
from edgelora.board.link.client import Link
from edgelora.board.link.replies import Hello, ModelInfo, RunReply
from edgelora.board.probe import profile_of
from edgelora.board.profiles import BoardProfile
from edgelora.core.formats.ela import unpack_adapter
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import base_id
from edgelora.core.twin.session import Session
from edgelora.learn.training.board.board_learner import BoardLearner, base_path
from edgelora.learn.training.board.board_paths import ADAPTER_PATH, CACHE_PATH, SAMPLES_PATH, STATE_PATH
from edgelora.learn.training.board.board_run import NAME, RunOptions, left_in_store, settle_store, train_on_board
from edgelora.learn.training.data.base import Base, WorkflowError
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.heads.new_classes import stored_adapter, without_classes
from edgelora.learn.training.heads.own_rows import Contest, contest, rival, settled
from edgelora.learn.training.judge.early_stopping import Course, Guard, Outcome, Score, Verdict, prepared
from edgelora.learn.training.judge.metrics import Measure, answers, measured
from edgelora.learn.training.recipe import Recipe, RunSettings, Settings
from edgelora.learn.training.twin.adapter_sum import part_of
from edgelora.learn.training.twin.loop import Run, cross_judged, guarded
from edgelora.learn.training.twin.on_twin import board_training
from edgelora.learn.training.twin.twin_learner import TwinLearner, guard_twin
from edgelora.model.datasets.dataset import Parts

from .recompute import within

_T = TypeVar("_T")


@dataclass(frozen=True)
class Task:
    """The data of a personalization, and their names in a report.

    subject: the samples' user or source; tested_on: names the test samples, after the words "tested on"; seen: how many
    of them are also training samples.
    """

    samples: Samples
    test: Samples
    subject: str
    tested_on: str
    seen: int = 0

    @classmethod
    def of(cls, base: Base, parts: Parts, subject: str) -> Self:
        """A task from data for a base. WorkflowError if the data do not fit it."""
        return cls(base.samples(parts.train), base.samples(parts.test), subject, parts.tested_on, parts.seen)


@dataclass(frozen=True)
class TwinRun:
    """The same run on the host twin. identical: adapter and training state equal the board's, byte for byte, and so do
    its answers for all test samples.

    epochs: the measure on the test samples after each epoch. If twin and board are identical it is the board's, too,
    which had no time to evaluate.
    """

    identical: bool
    epochs: list[Measure]


@dataclass(frozen=True)
class Costs:
    """A run's costs, by the board's own clock.

    train_step_us: per sample, updates included, None if a resumed run had nothing left to train. energy: by clock, if
    the board's power is known at several. clock_hz: during training, if not the board's usual one.
    """

    train_step_us: float | None
    infer_us: float
    swap_us: float
    swap_flash_us: float
    energy: list[EnergyRow] = field(default_factory=list)
    clock_hz: int | None = None


@dataclass(frozen=True)
class BoardRun:
    """A personalization on a board: the run, `answers` for the test samples before and after, and its costs.

    hello: the board. end: of a run that the board drove. activated: the board now infers with the adapter: it equals
    the twin's, and its verdict or `force` allows it. twin: the same run on this computer. own_rows: it has a person's
    own rows of the classes, and nothing was trained.
    """

    course: Course
    outcome: Outcome | None
    verdict: Verdict
    run: Run
    before: NDArray[Any]
    after: NDArray[Any]
    hello: Hello
    settings: Settings
    info: ModelInfo
    costs: Costs
    activated: bool
    base_path: str  # on the board
    twin: TwinRun
    end: RunReply | None = None
    own_rows: bool = False


@dataclass(frozen=True)
class _Trained:
    """The result of training. step_us and end: as in `Costs` and `BoardRun`; previous: the store's adapter of the run's
    name before, with which a board's own run compares its adapter."""

    run: Run
    outcome: Outcome | None
    step_us: float | None
    end: RunReply | None = None
    previous: bytes | None = None


def personalize_board(link: Link, base: Base, task: Task, recipe: Recipe, options: RunOptions) -> BoardRun:
    """Evaluates, trains, saves and evaluates again on the board; every epoch ends with a checkpoint in its flash.

    Some of the samples are held out (`Guard`): they choose the epoch whose adapter is kept, and decide whether the
    board infers with it afterwards. The host twin repeats the run in parallel: an adapter that differs from the twin's
    is never used. The recipe's `on_board` decides whether the board drives the run or the host sends every sample.
    InputError if a board's own run would overwrite added classes of the store's adapter NAME.
    """
    course, test = prepared(base.elm, task.samples, recipe), task.test
    settings = within(base.elm, course.settings.session, recipe.ram, course.samples.frames)
    learner = BoardLearner(link, base, settings, options.progress, course.samples.frames)
    if course.settings.on_board:  # only then the store changes. Open it after the model, which needs contiguous RAM
        without_classes(link, base, NAME)
    learner.use(None)
    ask = options.ask or (lambda: learner.answers(test))
    before = ask()
    hello = link.hello()
    profile = profile_of(hello)
    previous = stored_adapter(link, base, NAME) if course.settings.on_board else None
    rivals = contest(base.elm, course, recipe, rival(base, previous))
    course = rivals.of_layers if rivals else course
    if rivals and rivals.is_decided:
        trained = replace(_make_rows(learner, rivals), previous=previous)
        on_twin = _beside(lambda: _rows_on_twin(base, rivals, test))
    else:
        on_twin = _beside(lambda: _run_on_twin(base, course, test, previous, options.tested))
        train = _train_by_itself if course.settings.on_board else _train_from_host
        trained = replace(train(learner, course, profile, options), previous=previous)
        verdict = course.verdict(trained.outcome)
        settled_run = settled(replace(trained.run, verdict=verdict, outcome=trained.outcome), rivals)
        if rivals and settled_run.own_rows:
            on_twin.result()
            trained = replace(_make_rows(learner, rivals), previous=previous, end=trained.end)
            on_twin = _beside(lambda: _rows_on_twin(base, rivals, test))
        else:
            trained = replace(trained, run=settled_run)
    run = trained.run
    link.use(ADAPTER_PATH)
    after = ask()
    costs = _costs(learner, course.settings, trained, profile, options)
    assert run.verdict
    verdict = run.verdict
    if measured(base, after, test).merit < measured(base, before, test).merit:
        verdict = Verdict.WORSE
    try:
        again, epochs, answered = on_twin.result()
    except BaseException:  # the adapter was not compared
        _settle(link, trained, False, course.settings.on_board)
        raise
    identical = again.adapter == run.adapter and again.state == run.state and np.array_equal(answered, after)
    if not identical:
        verdict = Verdict.DIFFERS
    activated = identical and (options.force or verdict.is_for_use)
    _settle(link, trained, activated, course.settings.on_board)
    path = base_path(link, base) or base.paths[1]
    found = (course, trained.outcome, verdict, run, before, after)
    board = (hello, learner.settings, learner.info, costs, activated, path)
    return BoardRun(*found, *board, TwinRun(identical, epochs), trained.end, trained.run.own_rows)


def _make_rows(learner: BoardLearner, rivals: Contest) -> _Trained:
    """Rows that the board makes and judges from all samples. WorkflowError if its judgement differs from the twin's."""
    link, samples = learner.link, rivals.course.everything
    content = pack_samples(samples.x, samples.y, None, base_id(learner.base.elm))
    if not link.holds(SAMPLES_PATH, content):
        link.put(SAMPLES_PATH, content)
    learner.use(rivals.before)
    reply = link.class_own(SAMPLES_PATH)
    before, after = (Score(right, -loss) for right, loss in (reply.before, reply.after))
    rows = rivals.rows
    if (reply.doubt, before, after) != (rows.doubt, rows.before, rows.after):
        raise WorkflowError(
            "the board judges its own rows otherwise than the host twin, so they are not used",
            remedy="install this version's firmware or modules on the board: `edgelora build`, or `edgelora install`",
        )
    rows = replace(rows, adapter=link.class_get())
    link.put(ADAPTER_PATH, rows.run().adapter)
    return _Trained(rows.run(), rows.outcome, None)


def _rows_on_twin(base: Base, rivals: Contest, test: Samples) -> tuple[Run, list[Measure], NDArray[Any]]:
    """The twin's rows, in the form of `_run_on_twin`."""
    run = rivals.rows.run()
    session = Session(base.elm, bytes(len(base.model.ops)), "infer")
    session.use(run.adapter)
    return run, [], answers(base, session, test)


def _train_by_itself(
    learner: BoardLearner, course: Course, profile: BoardProfile | None, options: RunOptions
) -> _Trained:
    link = learner.link
    trained = train_on_board(link, learner.base, course, profile, options)
    adapter = left_in_store(link, trained.end)
    losses = trained.losses, trained.epoch_losses
    run = Run(adapter, learner.save(True), *losses, judged_adapter=adapter)
    return _Trained(run, trained.outcome if course.held else None, trained.step_us, trained.end)


def _train_from_host(
    learner: BoardLearner, course: Course, profile: BoardProfile | None, options: RunOptions
) -> _Trained:
    progress = options.progress
    guard = course.guard(learner)
    across = cross_judged(learner, course, lambda done, total, what: progress(done, total, f"cross-validation: {what}"))
    done = _resume(learner, course, guard) if options.resume else 0
    if not done:
        learner.begin(course.settings.seed)
    watts = profile.watts() if profile else None

    def record(done: int, total: int, what: str) -> None:
        options.log(done, course.updates[done - 1], learner.last_loss, learner.last_us, watts)
        progress(done, total, what)

    def finishing(done: int, total: int, what: str) -> None:
        progress(done, total, f"all samples: {what}")

    def checkpoint() -> None:
        learner.link.save(STATE_PATH, state=True)

    run = guarded(learner, course, guard, record, checkpoint, done, finishing=finishing)
    step_us = round(learner.train_us / learner.trained, 1) if learner.trained else None
    if course.part < 1:
        run = replace(run, adapter=part_of(learner.base.elm, run.adapter, course.part))
        learner.link.put(ADAPTER_PATH, run.adapter)
    return _Trained(run, guard.outcome if guard else across, step_us)


def _costs(
    learner: BoardLearner, settings: RunSettings, trained: _Trained, profile: BoardProfile | None, options: RunOptions
) -> Costs:
    """Measures the remaining costs, on the board with the adapter in use."""
    link, progress = learner.link, options.progress
    clock_hz = options.pace.clock_hz if settings.on_board else None
    infer_us = learner.infer_us or link.bench_infer().mean_us
    progress(0, 2, "measured: time of a swap")
    swap_us = link.bench_swap(ADAPTER_PATH, ADAPTER_PATH, 20).mean_us
    swap_flash_us = link.bench_swap_file(ADAPTER_PATH, ADAPTER_PATH, 10).mean_us
    if settings.cache == "flash" and learner.trained:
        link.remove(CACHE_PATH)
    energy = []
    progress(1, 2, "measured: time at every clock")
    if trained.step_us is not None and profile:
        energy = energy_by_clock(link, profile, settings.session.micro_batch, trained.step_us, infer_us, clock_hz)
    progress(2, 2, "measured")
    return Costs(trained.step_us, infer_us, swap_us, swap_flash_us, energy, clock_hz)


def _settle(link: Link, trained: _Trained, activated: bool, stored: bool) -> None:
    """Makes the board and, for a run of its own (stored), its store use the adapter, if it is activated, else the base
    alone."""
    if trained.run.own_rows and activated and stored:
        link.store_put(NAME, trained.run.adapter)
        link.store_activate(NAME)
    elif trained.end:
        settle_store(link, trained.end, trained.run.adapter, trained.previous, activated)
    if not activated:
        link.use(None)


def _beside(work: Callable[[], _T]) -> Future[_T]:
    """Runs `work` in a daemon thread, which ends with the program."""
    done: Future[_T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done


def _run_on_twin(
    base: Base, course: Course, test: Samples, previous: bytes | None, tested: Callable[[Measure], None]
) -> tuple[Run, list[Measure], NDArray[Any]]:
    """Repeats a board's run of this course: the run, its measure after each epoch, its answers for the test samples.

    previous: the adapter in use before, with which a board's own run compares; None: the base alone.
    """
    settings = course.settings
    session = Session(base.elm, settings.session.ranks, "infer", frames=test.frames)
    epochs: list[Measure] = []

    def test_epoch(adapter: bytes) -> None:
        session.use(adapter)
        epochs.append(measured(base, answers(base, session, test), test))
        tested(epochs[-1])

    if settings.on_board:
        run = board_training(base.elm, course, previous, on_epoch=test_epoch)
    else:
        learner = TwinLearner(base.elm, settings.session, test.frames)
        learner.use(previous)
        run = guard_twin(base.elm, course, course.guard(learner), on_epoch=test_epoch)
        run = replace(run, adapter=part_of(base.elm, run.adapter, course.part))
    session.use(run.adapter)
    return run, epochs, answers(base, session, test)


def _resume(learner: BoardLearner, course: Course, guard: Guard | None) -> int:
    """Loads the board's checkpoint; returns its number of updates, 0 if there is none.

    The host twin repeats these updates, to detect a checkpoint of other samples or of another recipe. Its scores go
    into the guard.
    """
    link, base = learner.link, learner.base
    if STATE_PATH.lstrip("/") not in {entry.name for entry in link.list("/")}:
        return 0
    checkpoint = link.get(STATE_PATH)
    done = unpack_adapter(checkpoint, name=STATE_PATH).updates
    again = guard_twin(base.elm, course, guard, done)
    if again.state != checkpoint:
        raise WorkflowError(
            "the board's checkpoint belongs to another run (base, samples or settings): repeat these, "
            "or start without --resume"
        )
    link.load(STATE_PATH)
    if guard and not link.holds(ADAPTER_PATH, again.adapter):
        link.put(ADAPTER_PATH, again.adapter)
    return done
