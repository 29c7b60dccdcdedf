"""Personalization on a board: evaluate, train, save, evaluate again."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgelora.base.progress import Progress, no_progress
from edgelora.board.energy import EnergyRow, energy_by_clock
from edgelora.board.link.client import Link
from edgelora.board.link.replies import Hello, ModelInfo, RunReply
from edgelora.board.probe import board_of
from edgelora.board.profiles import BoardProfile, load_board
from edgelora.core.formats.ela import unpack_adapter
from edgelora.core.formats.elm import base_id
from edgelora.core.twin.session import Session
from edgelora.model.datasets.dataset import Dataset, held_out
from edgelora.model.floatnet.layers import FloatNet
from edgelora.model.floatnet.lora import FloatLoraResult, train_float_lora

from .base import Base, WorkflowError
from .board_learner import BoardLearner, base_path
from .board_paths import ADAPTER_PATH, CACHE_PATH, STATE_PATH
from .board_run import KEPT_NAME, NAME, BoardTraining, Pace, train_on_board
from .early_stopping import Course, Guard, Outcome, Score, Verdict, prepared
from .loop import Run, cross_judged, guarded
from .metrics import Measure, answers, measured
from .new_classes import stored_adapter, without_classes
from .on_twin import board_training
from .recipe import Recipe, UpdateLog, placed
from .samples import Samples, schedule
from .twin_learner import TwinLearner, guard_twin

_T = TypeVar("_T")


@dataclass(frozen=True)
class TwinRun:
    """The same run on the host twin: has it the board's adapter and training state, byte for byte, and does it say the
    same of each test sample?

    epochs: how right it is on the test samples after each epoch. Twin and board being the same, it is what the board
    was, which had no time to measure it.
    """

    identical: bool
    epochs: list[Measure]


@dataclass(frozen=True)
class BoardRun:
    """A personalization on a board: the run, what the test samples got before and after (`answers`), and its costs.

    Microseconds are the board's own; train_step_us is a sample's share, updates included, None if
    a resumed run had nothing left to train. energy: by clock, where the board's power is known at several. end: of a
    run that the board did by itself. activated: the board infers with the adapter since; it does not unless that is
    better than the base and the twin's. previous: what the board's store had under the run's name, which such a run is
    judged against. twin: the same run on this computer.
    """

    course: Course
    outcome: Outcome | None
    verdict: Verdict
    run: Run
    before: NDArray[Any]
    after: NDArray[Any]
    info: ModelInfo
    train_step_us: float | None
    infer_us: float
    swap_us: float
    swap_flash_us: float
    energy: list[EnergyRow]
    activated: bool
    base_path: str  # on the board
    twin: TwinRun
    clock_hz: int | None = None  # of training, if not the board's usual one
    end: RunReply | None = None
    previous: bytes | None = None


def personalize_board(
    link: Link,
    base: Base,
    samples: Samples,
    test: Samples,
    recipe: Recipe,
    metrics: UpdateLog,
    progress: Progress = no_progress,
    resume: bool = False,
    pace: Pace | None = None,
    note: Callable[[str], None] | None = None,
    force: bool = False,
    ask: Callable[[], NDArray[Any]] | None = None,
    stop: Callable[[], bool] = lambda: False,
    tested: Callable[[Measure], None] = lambda measure: None,
) -> BoardRun:
    """Evaluates, trains, saves and evaluates again on the board; every epoch ends with a checkpoint in its flash.

    Some of the samples are held out (`guard`): they choose the epoch whose adapter is kept, and whether the board
    infers with it afterwards. The host twin does the same run beside it: an adapter that differs from the twin's is
    never in use. pace: how the board trains, and judges, by itself, for recipes that say so; else the host
    hands it every sample. force: it infers with the adapter whatever the guard says. ask: has the board, with what is
    in use, say what the test samples are; without, it gets these as they are. stop: whether a run by the board itself
    is to be suspended, as by Ctrl-C. tested: is called, from the twin's thread, with how right the test samples are
    after each epoch. InputError where a board by itself would write over added classes of the store's adapter NAME.
    """
    course = prepared(samples, recipe)
    samples, recipe = course.samples, course.recipe
    learner = BoardLearner(link, base, recipe, progress, frames=samples.frames)
    if recipe.on_board:  # else the store stays as it is; it is opened after the model, which needs room in one piece
        without_classes(link, base, NAME)
    learner.use(None)
    before = ask() if ask else learner.answers(test)
    profile = _profile(link.hello())
    end = None
    previous = stored_adapter(link, base, NAME) if recipe.on_board else None
    on_twin = _beside(lambda: _run_on_twin(base, course, test, previous, tested))
    if recipe.on_board:
        pace = pace or Pace()
        told = (recipe, pace, profile, metrics, progress, resume, note, stop)
        trained = train_on_board(link, base_id(base.elm), samples, course.held, *told)
        run = Run(_left_in_store(link, trained.end), learner.save(True), trained.losses, trained.epoch_losses)
        outcome = _outcome(trained) if course.held else None
        step_us, end, clock_hz = trained.step_us, trained.end, pace.clock_hz
    else:
        guard = course.guard(learner)
        across = cross_judged(learner, course, _parts(progress))
        watts = profile.watts() if profile else None
        run = _train_from_host(learner, course, guard, metrics, watts, progress, resume)
        step_us = round(learner.train_us / learner.trained, 1) if learner.trained else None
        outcome = guard.outcome if guard else across
        clock_hz = None
    link.use(ADAPTER_PATH)
    after = ask() if ask else learner.answers(test)
    infer_us = learner.infer_us or link.bench_infer().mean_us
    progress(0, 2, "measured: time of a swap")
    swap_us = link.bench_swap(ADAPTER_PATH, ADAPTER_PATH, 20).mean_us
    swap_flash_us = link.bench_swap_file(ADAPTER_PATH, ADAPTER_PATH, 10).mean_us
    if recipe.cache == "flash" and learner.trained:
        link.remove(CACHE_PATH)
    energy = []
    progress(1, 2, "measured: time at every clock")
    if step_us is not None and profile:
        energy = energy_by_clock(link, profile, recipe.micro_batch, step_us, infer_us, clock_hz)
    progress(2, 2, "measured")
    verdict = course.verdict(outcome)
    if measured(base, after, test).merit < measured(base, before, test).merit:
        verdict = Verdict.WORSE
    try:
        again, epochs, answered = on_twin.result()
    except BaseException:  # nobody has compared it
        if end:
            _settle_store(link, end, run.adapter, previous, False)
        link.use(None)
        raise
    identical = again.adapter == run.adapter and again.state == run.state and np.array_equal(answered, after)
    if not identical:
        verdict = Verdict.DIFFERS
    activated = identical and (force or verdict.is_for_use)
    if end:
        _settle_store(link, end, run.adapter, previous, activated)
    if not activated:
        link.use(None)
    times = (step_us, infer_us, swap_us, swap_flash_us, energy)
    path = base_path(link, base) or base.paths[1]
    what = (course, outcome, verdict, run, before, after, learner.info, *times, activated, path)
    return BoardRun(*what, TwinRun(identical, epochs), clock_hz, end, previous)


def _beside(work: Callable[[], _T]) -> Future[_T]:
    """Has a thread do it, which ends with the program whatever it does then."""
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
    """What a board's run by this course comes to, how right it is after each epoch, and what it says of test samples.

    previous: what was in use before, as a run by the board itself is judged against; None: the bare base.
    """
    recipe, ranks = course.recipe, course.recipe.ranks(base.model)
    session = Session(base.elm, ranks, "infer", frames=test.frames)
    epochs: list[Measure] = []

    def test_epoch(adapter: bytes) -> None:
        session.use(adapter)
        epochs.append(measured(base, answers(base, session, test), test))
        tested(epochs[-1])

    if recipe.on_board:
        run = board_training(base.elm, course, previous, on_epoch=test_epoch)
    else:
        learner = TwinLearner(base.elm, ranks, recipe, test.frames)
        learner.use(previous)
        run = guard_twin(base.elm, course, course.guard(learner), on_epoch=test_epoch)
    session.use(run.adapter)
    return run, epochs, answers(base, session, test)


def _left_in_store(link: Link, end: RunReply) -> bytes:
    """The adapter that a run by the board itself has kept; it is at ADAPTER_PATH then, too."""
    adapter = link.store_get(KEPT_NAME if end.better is False else NAME)
    if end.crc != zlib.crc32(adapter):
        raise WorkflowError("the adapter in the board's store is not the one that it trained: train again")
    link.put(ADAPTER_PATH, adapter)
    return adapter


def _outcome(trained: BoardTraining) -> Outcome:
    end = trained.end
    before, kept = (Score(right, -loss) for right, loss in (end.before, end.best))
    return Outcome(end.judged - 1, end.best_epoch, before, kept)


def _settle_store(link: Link, end: RunReply, adapter: bytes, previous: bytes | None, activated: bool) -> None:
    """The run's name in the store is the adapter's, if that is activated, else that of what was there before."""
    if activated and end.better is False:
        link.store_put(NAME, adapter)
        link.store_remove(KEPT_NAME)
    elif not activated and end.better is not False:
        if previous:
            link.store_put(NAME, previous)
        elif link.store_list().active == NAME:
            link.store_activate(None)


def _profile(hello: Hello) -> BoardProfile | None:
    name = board_of(hello.board, "")
    return load_board(name) if name else None


def _train_from_host(
    learner: BoardLearner,
    course: Course,
    guard: Guard | None,
    metrics: UpdateLog,
    watts: float | None,
    progress: Progress,
    resume: bool,
) -> Run:
    samples, recipe = course.samples, course.recipe
    done = _resume(learner, course, guard) if resume else 0
    if not done:
        learner.begin(recipe.seed)
    recording = _recording(metrics, learner, samples, recipe, watts, progress)

    def finishing(done: int, total: int, what: str) -> None:
        progress(done, total, f"all samples: {what}")

    return guarded(learner, course, guard, recording, lambda: _checkpoint(learner.link), done, finishing=finishing)


def _parts(progress: Progress) -> Progress:
    return lambda done, total, what: progress(done, total, f"a part: {what}")


def _recording(
    metrics: UpdateLog,
    learner: BoardLearner,
    samples: Samples,
    recipe: Recipe,
    watts: float | None,
    progress: Progress,
) -> Progress:
    """A progress callback that also writes a line of metrics for every update."""
    updates = schedule(samples, recipe)

    def record(done: int, total: int, what: str) -> None:
        batch = updates[done - 1]
        us = learner.last_us
        joules = None if watts is None else us * 1e-6 * watts
        metrics.update(done, batch.epoch + 1, learner.last_loss, batch.learning_rate, len(batch.picked), us, joules)
        progress(done, total, what)

    return record


def _checkpoint(link: Link) -> None:
    try:
        link.save(STATE_PATH, state=True)
    except RuntimeError as error:
        if "pending" not in str(error):
            raise


def _resume(learner: BoardLearner, course: Course, guard: Guard | None) -> int:
    """Loads the board's checkpoint; the number of updates it has behind it, 0 if there is none.

    The host twin repeats these updates, so that a checkpoint of other samples or another recipe is told apart. What it
    judged goes into the guard.
    """
    link, base = learner.link, learner.base
    if STATE_PATH.lstrip("/") not in {entry.name for entry in link.list("/")}:
        return 0
    checkpoint = link.get(STATE_PATH)
    done = unpack_adapter(checkpoint, name=STATE_PATH).updates
    again = guard_twin(base.elm, course, guard, done)
    if again.state != checkpoint:
        raise WorkflowError(
            "the board's checkpoint is of another run (base, samples or settings): repeat these, "
            "or start without --resume"
        )
    link.load(STATE_PATH)
    if guard and not link.holds(ADAPTER_PATH, again.adapter):
        link.put(ADAPTER_PATH, again.adapter)
    return done


def float_baseline(
    net: FloatNet,
    train_part: Dataset,
    test_part: Dataset,
    course: Course,
) -> FloatLoraResult:
    """Float LoRA on the host with the course's rank, placement, samples, epochs and mode: without what it held out."""
    recipe = course.recipe
    if course.held:
        learned = ~held_out(train_part.y)
        train_part = Dataset(train_part.x[learned], train_part.y[learned], train_part.labels)
    return train_float_lora(
        net,
        train_part,
        test_part,
        recipe.rank,
        placed(net.layers, recipe.placement),
        epochs=recipe.epochs,
        seed=recipe.seed,
        train_a=recipe.mode == "trainable_a",
        batch=recipe.micro_batch,
        ranks=recipe.given_ranks,
    )
