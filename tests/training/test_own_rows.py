"""A person's own rows of the base's classes: the rule in NumPy, its judge, and who wins against trained layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from class_cases import INPUTS, KNOWN, small_base
from numpy.typing import NDArray
from people import last_inputs, of_one_spread, person
from test_classes import wanted_row

from edgelora.core.formats.classes import pack_classes, unpack_classes
from edgelora.core.formats.ela import unpack_adapter
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin import device
from edgelora.core.twin.session import Session
from edgelora.learn.training.early_stopping import Score, Verdict, prepared
from edgelora.learn.training.host_run import as_board
from edgelora.learn.training.own_rows import DOUBTS, Winner, contest, own_rows, rows_of
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.samples import Samples, Source

MOST_LOSS = 3 * 4096


def wanted_own(model: QuantModel, number: int, x: NDArray[np.int64], doubt: int) -> tuple[int, list[int]]:
    """Bias and row by SPEC.md, section 3, of last inputs x [N, K]."""
    stats, n = model.class_stats, len(x)
    assert stats
    base = stats.rows[number].astype(int)
    bias, row, met = 0, [0] * INPUTS, 0
    if n:
        bias, row = wanted_row(stats, x)
        met = int(((base * ((32 * x.sum(axis=0) + n) // (2 * n)) + 8) >> 4).sum())

    def rounded(value: int, by: int) -> int:
        return (2 * value + by) // (2 * by)

    mixed = [rounded(n * mine + doubt * int(its), (n + doubt) * doubt) for mine, its in zip(row, base, strict=True)]
    whole = n * n * bias - n * doubt * met + doubt * doubt * int(stats.biases[number])
    return rounded(whole, (n + doubt) ** 2 * doubt), mixed


def drawn(rng: np.random.Generator, counts: tuple[int, ...] = (5, 3, 4)) -> Samples:
    x = rng.integers(-128, 128, (sum(counts), 1, 1, 5)).astype(np.int8)
    return Samples(x, np.repeat(np.arange(len(counts)), counts))


@pytest.mark.parametrize("doubt", DOUBTS)
@pytest.mark.parametrize("counts", [(5, 3, 4), (1, 1, 1), (0, 7, 2)])
def test_rows_are_those_of_the_specification(doubt: int, counts: tuple[int, ...]) -> None:
    rng = np.random.default_rng(doubt)
    model = small_base(rng)
    elm, samples = pack_model(model), drawn(rng, counts)
    inputs = last_inputs(Session(elm, bytes(2), "infer"), model, samples.x)
    made = unpack_adapter(rows_of(elm, samples, doubt)).classes
    assert [row.number for row in made] == list(range(KNOWN))
    for row, count in zip(made, counts, strict=True):
        assert (row.samples, row.doubt) == (count, doubt)
        assert (row.bias, row.row.tolist()) == wanted_own(model, row.number, inputs[samples.y == row.number], doubt)
    assert unpack_classes(pack_classes(made))[1].doubt == doubt


def brute_force(elm: bytes, samples: Samples, doubt: int) -> list[tuple[bool, int]]:
    """(correct, bounded loss) of each sample, by rows made of all others; doubt 0: by the base alone."""
    session, found = Session(elm, b"\4\4"), []
    for i in range(len(samples)):
        rest = np.arange(len(samples)) != i
        session.use(rows_of(elm, samples.part(rest), doubt) if doubt else None)
        named, loss = session.evaluate(samples.x[i], int(samples.y[i]))
        found.append((named == samples.y[i], min(loss, MOST_LOSS)))
    return found


def test_each_sample_is_judged_by_rows_made_without_it() -> None:
    found = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        base = of_one_spread(rng)
        samples = person(rng, base, 1 + seed % 4) if seed % 3 else drawn(rng)
        elm = pack_model(base[0])
        made = own_rows(elm, prepared(elm, samples, Recipe()), samples)
        judged = {doubt: brute_force(elm, samples, doubt) for doubt in (0, *DOUBTS)}
        now = 0
        for step, doubt in enumerate(DOUBTS):
            gains = [was - is_now for (_, was), (_, is_now) in zip(judged[now], judged[doubt], strict=True)]
            if sum(gains) <= 0 or step and sum(gains) ** 2 <= sum(gain * gain for gain in gains):
                break
            if len(samples) <= step * len(np.unique(samples.y)):
                break
            now = doubt
        if len(samples) < 6:
            assert not made.doubt
            continue
        assert made.doubt == now
        for score, doubt in ((made.before, 0), (made.after, now)):
            assert score.pair == (sum(right for right, _ in judged[doubt]), sum(loss for _, loss in judged[doubt]))
        found.add(now)
    assert len(found) > 2, "several doubts won"


@pytest.mark.parametrize("on_board", [False, True])
def test_few_samples_make_rows_and_nothing_is_trained(on_board: bool) -> None:
    rng = np.random.default_rng(3)
    base = of_one_spread(rng)
    elm, samples, test = pack_model(base[0]), person(rng, base, 4), person(rng, base, 200)
    run = as_board(elm, samples, Recipe(on_board=on_board))
    assert run.verdict is Verdict.BETTER and not run.losses and "leaving each sample out" in run.said
    assert {row.doubt for row in unpack_adapter(run.adapter).classes} <= set(DOUBTS)
    session = Session(elm, bytes(2), "infer")
    before = session.accuracy(test.x, test.y)
    session.use(run.adapter)
    assert session.accuracy(test.x, test.y) > before + 0.05
    trained = as_board(elm, samples, Recipe(on_board=on_board, rows=False))
    assert trained.losses and not unpack_adapter(trained.adapter).classes


def test_trust_is_earned_by_true_labels() -> None:
    """Random labels may earn rows that hardly count, as this base is no better; full trust they do not earn."""
    rng = np.random.default_rng(5)
    base = of_one_spread(rng)
    elm, trusted = pack_model(base[0]), {"true": 0, "random": 0}
    for _ in range(20):
        samples = person(rng, base, 6)
        wrong = replace(samples, y=rng.permutation(samples.y))
        for kind, given in (("true", samples), ("random", wrong)):
            trusted[kind] += own_rows(elm, prepared(elm, given, Recipe()), given).doubt == DOUBTS[-1]
    assert trusted["true"] > 10 and trusted["random"] < 3, trusted


def test_layers_that_nothing_can_judge_are_not_used() -> None:
    rng = np.random.default_rng(6)
    elm, samples = pack_model(small_base(rng)), drawn(rng, (1, 1, 1))
    for recipe in (Recipe(epochs=2), Recipe(epochs=2, on_board=True), Recipe(epochs=2, rows=False)):
        run = as_board(elm, samples, recipe)
        assert run.verdict is Verdict.UNJUDGED and not run.verdict.is_for_use


def test_many_samples_are_a_contest_on_the_same_held_out_samples() -> None:
    rng = np.random.default_rng(7)
    base = of_one_spread(rng)
    elm, samples = pack_model(base[0]), person(rng, base, 12)
    course = prepared(elm, samples, Recipe())
    rivals = contest(elm, course, Recipe())
    assert rivals and not rivals.is_decided and rivals.rows.doubt
    layers = rows_of(elm, course.samples, DOUBTS[-1])  # in the place of layers: a good adapter
    assert rivals.winner(None, layers) is Winner.ROWS, "nothing judged them"
    outcome = rivals.rows.outcome
    assert rivals.winner(replace(outcome, kept=outcome.before), layers) is Winner.ROWS, "no better than the base"
    best = Score(len(samples), 0, np.zeros(len(course.held or ()), np.int64))
    assert rivals.winner(replace(outcome, kept=best), layers) is Winner.LAYERS, "clearly better than both"
    assert rivals.winner(replace(outcome, kept=replace(best, losses=None)), layers) is not Winner.NOBODY


@pytest.mark.parametrize("lacking", ["statistics", "classes", "rows"])
def test_rows_need_statistics_and_two_classes(lacking: str) -> None:
    rng = np.random.default_rng(8)
    model, samples = small_base(rng), drawn(rng, (12,) if lacking == "classes" else (3, 3, 3))
    model.class_stats = None if lacking == "statistics" else model.class_stats
    elm, recipe = pack_model(model), Recipe(rows=lacking != "rows")
    assert contest(elm, prepared(elm, samples, recipe), recipe) is None


def test_a_learner_goes_on_from_own_rows_and_makes_them_with_the_same_doubt() -> None:
    rng = np.random.default_rng(9)
    base = of_one_spread(rng)
    elm, few = pack_model(base[0]), person(rng, base, 4)
    rows: Any = rows_of(elm, few, 2)
    learner = device.module("learner")
    model = device.module().Model(elm, 4, "frozen_a")
    model.load(bytearray(rows))
    kept = model.save()
    made = learner._Rows(model, kept, Source(few))
    while made.left:
        made.step()
    assert unpack_adapter(bytes(kept)).classes[0].doubt == 2
    assert pack_classes(unpack_adapter(bytes(kept)).classes) == pack_classes(unpack_adapter(rows).classes)


def test_layers_need_more_proof_where_few_judge_or_many_stay_wrong() -> None:
    errors_of = device.module("rows").errors_of
    assert [errors_of(11, 11), errors_of(12, 12), errors_of(18, 20), errors_of(17, 20)] == [2, 1, 1, 2]
