"""Held-out samples choose the epoch, end the run early, and decide whether the adapter is used."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgelora.board.link.client import Link
from edgelora.board.sim import virtual_board
from edgelora.core.formats.elm import unpack_model
from edgelora.core.twin.session import Session
from edgelora.learn.report.metrics import Metrics
from edgelora.learn.training.board.board_paths import ADAPTER_PATH
from edgelora.learn.training.board.board_run import RunOptions
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.judge.early_stopping import Guard, Score, Verdict, prepared
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.run.board_personalization import Task, personalize_board
from edgelora.learn.training.run.host_run import as_board
from edgelora.learn.training.twin.loop import guarded, train
from edgelora.learn.training.twin.twin_learner import TwinLearner

RECIPE = Recipe(rank=2, placement="last")


@pytest.fixture(scope="module")
def task(keyword_elm: bytes) -> tuple[Base, Samples, Samples]:
    """A base, and two sets of samples that it has to relearn: their classes differ from its answers."""
    base = Base("kws.elm", keyword_elm, unpack_model(keyword_elm))
    rng = np.random.default_rng(5)
    kinds = rng.integers(-128, 128, (4, *base.model.input.shape))
    y = np.arange(80) % 4
    x = np.clip(kinds[y] + rng.integers(-30, 31, (80, *base.model.input.shape)), -128, 127).astype(np.int8)
    return base, Samples(x[:48], y[:48]), Samples(x[48:], y[48:])


def test_what_is_held_out(task: tuple[Base, Samples, Samples]) -> None:
    base, samples, _ = task
    course = prepared(base.elm, samples, RECIPE)
    assert (len(course.samples), len(course.held)) == (36, 12) and course.settings.epochs == 134
    few = prepared(base.elm, samples.part(np.arange(48) < 12), RECIPE)
    assert few.held is None and few.verdict(None) is Verdict.CAUTIOUS
    assert few.settings.learning_rate == RECIPE.initial_rate // 2 and "too few" in few.said
    lopsided = prepared(base.elm, replace(samples, y=(np.arange(48) > 0).astype(samples.y.dtype)), RECIPE)
    assert lopsided.held is None and "nearly all of one class" in lopsided.said
    one = prepared(base.elm, samples.part(samples.y == 1), RECIPE)
    assert one.held is None and one.verdict(None) is Verdict.SINGLE_CLASS and "one class" in one.said
    assert prepared(base.elm, samples, replace(RECIPE, epochs=2)).settings.epochs == 2


def test_the_best_is_kept(task: tuple[Base, Samples, Samples]) -> None:
    """The best adapter by held-out samples is kept; the loss equals that of `train`; evaluation changes nothing."""
    base, samples, _ = task
    recipe = replace(RECIPE, epochs=30, learning_rate=60000, momentum=0)
    course = prepared(base.elm, samples, recipe)
    learner = TwinLearner(base.elm, recipe.settings(base.elm))
    guard = course.guard(learner)
    run = as_board(base.elm, samples, recipe)
    session = Session(base.elm, recipe.ranks(base.elm), recipe.mode)
    session.use(run.adapter)
    losses = [session.evaluate(x, int(y)) for x, y in zip(course.held.x, course.held.y, strict=True)]
    assert [best for best, _ in losses] == list(session.predict(course.held.x))
    learner.load(run.adapter)
    before = learner.save(True)
    told = learner.judge(course.held)
    assert told.minus_loss == -sum(loss for _, loss in losses) and learner.save(True) == before
    assert told > guard.before and run.verdict is Verdict.BETTER
    assert told.minus_loss == -sum(learner.train(course.held.x, course.held.y, 1))


def test_few_samples_are_validated_in_folds(task: tuple[Base, Samples, Samples]) -> None:
    """Each sample is held out once; the folds decide, even if the final adapter overfits all samples."""
    base, samples, _ = task
    few = samples.part(np.arange(48) < 12)
    course = prepared(base.elm, few, RECIPE)
    assert [len(held) for _, held in course.folds] == [4, 4, 4]
    assert sorted(x.tobytes() for _, held in course.folds for x in held.x) == sorted(x.tobytes() for x in few.x)
    assert all(len(np.unique(learned.y)) == 4 for learned, _ in course.folds)
    assert as_board(base.elm, few, RECIPE).verdict is Verdict.BETTER
    noise = np.random.default_rng(6).integers(-128, 128, few.x.shape, np.int8)
    own = TwinLearner(base.elm, RECIPE.settings(base.elm)).predict(noise)
    assert as_board(base.elm, replace(few, x=noise, y=own), RECIPE).verdict is not Verdict.BETTER  # the base is right
    one = prepared(base.elm, few.part(few.y == 1), RECIPE)
    # one of each class, so that a fold would lack a class
    alone = prepared(base.elm, few.part(np.arange(12) < 4), RECIPE)
    assert one.folds == alone.folds == prepared(base.elm, few, replace(RECIPE, on_board=True)).folds == []


class Scripted:
    """A learner with given scores after each epoch."""

    def __init__(self, *judged: tuple[int, int]) -> None:
        self.judged, self.epoch, self.kept = [Score(*one) for one in judged], 0, -1

    def judge(self, samples: Samples) -> Score:
        self.epoch += 1
        return self.judged[self.epoch - 1]

    def keep(self) -> None:
        self.kept = self.epoch - 1


def test_final_adapter_learns_all_samples(task: tuple[Base, Samples, Samples]) -> None:
    """It is a fresh one, with epochs as `final` says; a run that did not help has none."""
    base, samples, _ = task
    recipe = replace(RECIPE, epochs=12)
    course = prepared(base.elm, samples, recipe)
    learner = TwinLearner(base.elm, course.settings.session)
    guard = course.guard(learner)
    learner.begin(recipe.seed)
    run = guarded(learner, course, guard)
    assert run.final_epochs == 12
    fresh = TwinLearner(base.elm, course.settings.session)
    fresh.begin(recipe.seed)
    alone = train(fresh, samples, replace(course.settings, epochs=12))
    assert run.adapter == alone.adapter
    assert run.adapter == as_board(base.elm, samples, recipe).adapter

    noise = np.random.default_rng(6).integers(-128, 128, samples.x.shape, np.int8)
    own = replace(samples, x=noise, y=learner_of(base).predict(noise))  # the base is right
    worse = as_board(base.elm, own, recipe)
    assert worse.verdict is not Verdict.BETTER and worse.final_epochs == 0


def test_epochs_of_the_final_adapter(task: tuple[Base, Samples, Samples]) -> None:
    """As many as were best, at least a default run's over all samples, but no more than the run's own."""
    base, samples, _ = task
    assert RECIPE.epochs_over(48) == 100
    for epochs, best, final in ((200, 149, 150), (200, 3, 100), (12, 3, 12), (0, 3, 100), (0, 120, 121)):
        course = prepared(base.elm, samples, replace(RECIPE, epochs=epochs))
        guard = Guard(course.held, course.settings.epochs, Score(0, 0), best=best)
        assert course.final(guard) == replace(course.settings, epochs=final)


def test_final_adapter_with_a_larger_loss_is_not_kept(task: tuple[Base, Samples, Samples]) -> None:
    _, samples, _ = task
    for loss, kept in ((-39, 1), (-40, 0), (-41, 0)):
        learner = Scripted((9, -40), (9, loss))
        guard = Guard(samples, 9, Score(8, -100))
        guard.epoch_ended(learner)
        assert guard.keeps_final(learner) == bool(kept) and learner.kept == kept


def learner_of(base: Base) -> TwinLearner:
    return TwinLearner(base.elm, RECIPE.settings(base.elm))


def test_verdict_and_end(task: tuple[Base, Samples, Samples]) -> None:
    """Keeps the epoch with the lowest loss; better means more correct samples or, if equal, a lower loss."""
    _, samples, _ = task
    for judged, best, verdict in (
        ([(7, -90), (9, -70), (9, -60), (10, -80)], 2, Verdict.BETTER),
        ([(8, -100), (7, -5), (8, -101)], 1, Verdict.NOT_BETTER),
        ([(8, -99)], 0, Verdict.BETTER),
        ([(8, -100)], 0, Verdict.NOT_BETTER),
        ([(3, -500), (4, -500)], 1, Verdict.NOT_BETTER),
    ):
        guard, learner = Guard(samples, 9, Score(8, -100)), Scripted(*judged)
        for _ in judged:
            guard.epoch_ended(learner)
        assert (guard.best, guard.verdict, learner.kept) == (best, verdict, best)
    guard, learner = Guard(samples, 9, Score(8, -100)), Scripted(*[(7, -1)] * 9)
    for _ in range(5):
        assert not guard.enough
        guard.epoch_ended(learner)
    assert guard.enough


@pytest.mark.parametrize("on_board", [False, True], ids=["from the host", "on the board"])
def test_board_and_twin_agree(task: tuple[Base, Samples, Samples], tmp_path: Path, on_board: bool) -> None:
    base, samples, test = task
    ours = Task(samples, test, "noise", "noise")
    recipe = replace(RECIPE, epochs=6, on_board=on_board)
    board = virtual_board.start("unix", None, tmp_path / "board", die_with_parent=True)
    try:
        with Link.connect(board.port) as link, Metrics(tmp_path / "metrics.jsonl") as metrics:
            run = personalize_board(link, base, ours, recipe, RunOptions(metrics))
            assert run.verdict is Verdict.BETTER and run.activated
            assert link.get(ADAPTER_PATH) == run.run.adapter
            reply = link.judge(run.course.held.x, run.course.held.y)
            now, best = Score.of(run.course.held, reply.predictions, reply.losses), run.outcome.kept
            assert now == best if on_board else now > best, "all samples were learned last, but by a board alone"
            assert run.twin.identical
            if not on_board:  # the run's end was cut off: resumed, it is repeated with the same result
                once_more = personalize_board(link, base, ours, recipe, RunOptions(metrics, resume=True))
                assert once_more.run.adapter == run.run.adapter and once_more.verdict is Verdict.BETTER
    finally:
        board.kill()
