"""From which probability on an answer counts: the device's rule, its wrapper of a model, and what runs say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from class_cases import small_base
from people import of_one_spread, person

from edgelora.core.formats.elm import pack_model
from edgelora.core.twin import device
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.heads.confidence import ONE, _across, confidence
from edgelora.learn.training.heads.own_rows import rows_of
from edgelora.learn.training.judge.early_stopping import Verdict, prepared
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.run.host_run import as_board
from edgelora.learn.training.twin.loop import Run, cross_judged
from edgelora.learn.training.twin.twin_learner import TwinLearner

sure: Any = device.module("confidence")


@pytest.mark.parametrize("allowed", [1, 3, 20])
def test_as_many_samples_as_possible_are_answered(allowed: int) -> None:
    rng = np.random.default_rng(allowed)
    for _ in range(200):
        count = int(rng.integers(0, 12))
        chances, right = rng.integers(1, 9, count).tolist(), (rng.random(count) < 0.7).tolist()
        least, answered, wrong = sure.least_chance(chances, right, allowed)
        best = (0, 0)
        for limit in {0, *chances}:
            counted = [ok for chance, ok in zip(chances, right, strict=True) if chance >= limit]
            if counted and allowed * counted.count(False) <= len(counted):
                best = max(best, (len(counted), counted.count(False)))
        assert (answered, wrong) == best
        assert answered == sum(chance >= least for chance in chances)
        assert (least == 0) == (0 < answered == count)


def test_a_board_is_unsure_below_the_least_probability() -> None:
    rng = np.random.default_rng(1)
    model = device.module().Model(pack_model(small_base(rng)), 0, "infer")
    windows = [bytes(rng.integers(0, 256, 5).astype(np.uint8)) for _ in range(50)]
    said = [(model.infer(x), max(model.probabilities())) for x in windows]
    least = int(np.median([chance for _, chance in said]))
    careful = sure.Sure(model, least)
    assert careful.labels == [*model.labels, "unsure"] and careful.unsure == 3
    found = [careful.infer(x) for x in windows]
    assert found == [label if chance >= least else 3 for label, chance in said] and 0 < found.count(3) < 50
    assert {sure.Sure(model, sure.NEVER).infer(x) for x in windows} == {3}
    assert [sure.Sure(model, 0).infer(x) for x in windows] == [label for label, _ in said]
    with pytest.raises(ValueError, match="0 to 32769"):
        sure.Sure(model, -1)


def test_own_rows_answer_each_sample_without_it() -> None:
    rng = np.random.default_rng(3)
    net = of_one_spread(rng)
    elm, samples, test = pack_model(net[0]), person(rng, net, 5), person(rng, net, 100)
    base, course = Base("base.elm", elm, net[0]), prepared(elm, samples, Recipe())
    run = Run(rows_of(elm, samples, 1), b"", verdict=Verdict.BETTER, own_rows=True)
    found = confidence(base, course, run, test)
    session, seen = Session(elm, bytes(2), "infer"), []
    for i in range(len(samples)):
        rest = np.arange(len(samples)) != i
        session.use(rows_of(elm, samples.part(rest), 1))
        label = session.infer(samples.x[i])
        seen.append((int(session.probabilities().max()), label == samples.y[i]))
    assert found and found.samples == len(samples)
    assert (found.least, found.answered, found.wrong) == sure.least_chance(*zip(*seen, strict=True))
    assert found.test_wrong <= found.test_wrong_of_all and found.test_answered <= found.test_samples == 300
    assert f"{found.answered} of {len(samples)} own samples" in found.words


def test_layers_are_asked_about_what_was_held_out_and_a_refused_run_about_all() -> None:
    rng = np.random.default_rng(4)
    net = of_one_spread(rng)
    elm, samples, test = pack_model(net[0]), person(rng, net, 16), person(rng, net, 50)
    base, recipe = Base("base.elm", elm, net[0]), Recipe(epochs=4, rows=False)
    course, run = prepared(elm, samples, recipe), as_board(elm, samples, recipe)
    assert course.held and run.judged_adapter
    for verdict, count in ((Verdict.BETTER, len(course.held)), (Verdict.NOT_BETTER, len(samples))):
        run.verdict = verdict
        found = confidence(base, course, run, test)
        assert found and found.samples == count and found.least <= ONE + 1


def test_layers_of_few_samples_are_asked_fold_by_fold() -> None:
    rng = np.random.default_rng(4)
    net = of_one_spread(rng)
    elm, samples, test = pack_model(net[0]), person(rng, net, 5), person(rng, net, 50)
    base, recipe = Base("base.elm", elm, net[0]), Recipe(epochs=4, rows=False)
    course, run = prepared(elm, samples, recipe), as_board(elm, samples, recipe)
    run.verdict = Verdict.BETTER
    found = confidence(base, course, run, test)
    assert course.held is None and found and found.samples == len(samples)
    learner = TwinLearner(elm, course.settings.session)
    across = cross_judged(learner, course)
    assert across
    asked, (chances, said) = _across(base, course)
    assert np.sum(said == asked.y) == across.kept.right, "the adapters that judged"
    assert sorted(x.tobytes() for x in asked.x) == sorted(x.tobytes() for x in samples.x) and chances.max() <= ONE
