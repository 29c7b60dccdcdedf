"""A person's own rows of the base's classes: the rule in NumPy, its judge, and who wins against trained layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from class_cases import INPUTS, KNOWN, small_base
from numpy.typing import NDArray
from people import last_inputs, of_one_spread, person
from test_classes import wanted_row

from edgelora.core.formats.classes import pack_classes, unpack_classes
from edgelora.core.formats.ela import pack_adapter, unpack_adapter
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin import device
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.samples import Samples, Source
from edgelora.learn.training.heads.own_rows import DOUBTS, Winner, contest, own_rows, rows_of
from edgelora.learn.training.judge.early_stopping import Course, Score, Verdict, prepared
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.run.host_run import as_board
from edgelora.learn.training.twin.adapter_sum import part_of
from edgelora.learn.training.twin.twin_learner import TwinLearner, guard_twin

MOST_LOSS = 3 * 4096


WRONG_LOSS = 8 * 4096


def wanted_own(
    model: QuantModel, number: int, x: NDArray[np.int64], doubt: int, counts: Sequence[int]
) -> tuple[int, list[int]]:
    """Bias and row by SPEC.md, section 3, of last inputs x [N, K]; counts: samples of each class."""
    stats, n = model.class_stats, len(x)
    assert stats
    base = stats.rows[number].astype(int)
    bias, row, met = 0, [0] * INPUTS, 0
    trust = 256 * sum(counts) // (sum(counts) + doubt * sum(count > 0 for count in counts))
    if n:
        bias, row = wanted_row(stats, x)
        met = int(((base * ((32 * x.sum(axis=0) + n) // (2 * n)) + 8) >> 4).sum())

    def rounded(value: int, by: int) -> int:
        return (2 * value + by) // (2 * by)

    def trusted(mixed: int, its: int, most: int) -> int:
        return max(-most, min(most, ((2 * mixed - its) * trust + 256) >> 9))

    mixed = [rounded(n * mine + doubt * int(its), n + doubt) for mine, its in zip(row, base, strict=True)]
    of_base = int(stats.biases[number])
    whole = rounded(n * n * bias - n * doubt * met + doubt * doubt * of_base, (n + doubt) ** 2)
    row = [trusted(own, int(its), 32767) for own, its in zip(mixed, base, strict=True)]
    return trusted(whole, of_base, 1 << 29), row


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
        own = wanted_own(model, row.number, inputs[samples.y == row.number], doubt, counts)
        assert (row.bias, row.row.tolist()) == own
    assert unpack_classes(pack_classes(made))[1].doubt == doubt


def brute_force(
    model: QuantModel, samples: Samples, doubt: int, out: NDArray[np.bool_]
) -> tuple[list[tuple[bool, int]], NDArray[np.bool_]]:
    """(correct, bounded loss) of each sample by rows made of all others but those that are `out`, and which labels look
    wrong; doubt 0: by the base alone. Rows count as much as if the sample were there."""
    elm = pack_model(model)
    session, found, wrong = Session(elm, b"\4\4"), [], out.copy()
    inputs, rest = last_inputs(Session(elm, bytes(2), "infer"), model, samples.x), samples.part(~out)
    counts = np.bincount(rest.y, minlength=KNOWN).tolist()
    for i in range(len(samples)):
        session.use(None)
        if doubt:
            made, label = unpack_adapter(rows_of(elm, rest, doubt)), int(samples.y[i])
            others = (samples.y == label) & ~out & (np.arange(len(samples)) != i)
            bias, row = wanted_own(model, label, inputs[others], doubt, counts)
            classes = made.classes
            classes[label] = replace(classes[label], bias=bias, row=np.array(row, np.int16))
            made.classes = classes
            session.use(pack_adapter(made))
        named, loss = session.evaluate(samples.x[i], int(samples.y[i]))
        found.append((named == samples.y[i], min(loss, MOST_LOSS)))
        wrong[i] = loss > WRONG_LOSS
    return found, wrong


def margins(model: QuantModel, x: NDArray[np.int8]) -> NDArray[np.int64]:
    """How much more probable the most probable class is than the next, by the base alone, in 1/32768."""
    session, found = Session(pack_model(model), bytes(2), "infer"), []
    for one in x:
        session.infer(one)
        second, first = sorted(session.probabilities().tolist())[-2:]
        found.append(first - second)
    return np.array(found)


def better(was: list[tuple[bool, int]], now: list[tuple[bool, int]], easy: bool, classes: int) -> bool:
    """SPEC.md, section 13."""
    gains = [before - after for (_, before), (_, after) in zip(was, now, strict=True)]
    if easy:
        return len(gains) * sum(gains) + classes * sum(map(abs, gains)) > 0
    return sum(gains) > 0 and 4 * sum(gains) ** 2 > 9 * sum(gain * gain for gain in gains)


def some_of(seed: int, asked: bool) -> tuple[QuantModel, Samples]:
    """A base, and samples of a person; asked: those of many of which it is least sure, some with a wrong label."""
    rng = np.random.default_rng(seed)
    base = of_one_spread(rng)
    if not asked:
        return base[0], person(rng, base, 1 + seed % 6) if seed % 3 else drawn(rng)
    many = person(rng, base, 12)
    few = many.part(np.argsort(margins(base[0], many.x))[: 3 + seed])
    wrong = rng.random(len(few)) < 0.3 * (seed % 2)
    return base[0], replace(few, y=np.where(wrong, (few.y + 1) % 3, few.y))


@pytest.mark.parametrize("asked", [False, True])
def test_each_sample_is_judged_by_rows_made_without_it(asked: bool) -> None:
    found, doubtful, least = set(), 0, 99
    for seed in range(12):
        model, samples = some_of(seed, asked)
        made = own_rows(pack_model(model), prepared(pack_model(model), samples, Recipe()), samples)
        classes, out = len(np.unique(samples.y)), np.zeros(len(samples), np.bool_)
        unsure = margins(model, samples.x).mean() < 16384
        first = judged = brute_force(model, samples, 0, out)[0]
        now = 0
        for step, doubt in enumerate(DOUBTS):
            easy = not step or (step == 1 and unsure and 10 * out.sum() <= len(out))
            if not easy and len(samples) <= step * classes:
                break
            without = brute_force(model, samples, doubt, out)[1]
            tried, _ = brute_force(model, samples, doubt, without)
            if not better(judged, tried, easy, classes):
                break
            judged, now, out = tried, doubt, without
        if len(samples) < (5 if unsure else 6) or classes < 2:
            assert not made.doubt
            continue
        assert made.doubt == now
        assert np.array_equal(made.doubtful, out)
        for score, one in ((made.before, first), (made.after, judged)):
            assert score.pair == (sum(right for right, _ in one), sum(loss for _, loss in one))
        if made.adapter:
            assert made.adapter == rows_of(pack_model(model), samples.part(~out), now)
            least = min(least, len(samples))
        found.add((unsure, now))
        doubtful += out.sum()
    assert {unsure for unsure, _ in found} == {asked}
    assert len(found) > 2, "several doubts won"
    assert doubtful, "some labels look wrong"
    assert (least < 6) == asked, "fewer judge if the base is unsure of them"


def test_only_the_base_alone_is_unsure_of_samples() -> None:
    model, samples = some_of(6, asked=True)
    elm = pack_model(model)
    assert margins(model, samples.x).mean() < 16384
    for before in (None, rows_of(elm, samples, 4)):
        rows: Any = device.module("rows").OwnRows(device.module().Model(elm, 4), Source(samples), before)
        for _ in rows.judge():
            pass
        assert rows.unsure == (before is None)
        for _ in rows.judge():
            pass
        assert rows.unsure == (before is None), "judged again"


def test_wrong_labels_look_wrong_more_often_than_right_ones() -> None:
    rng = np.random.default_rng(11)
    base = of_one_spread(rng)
    elm, found = pack_model(base[0]), np.zeros((2, 2))  # [label is wrong, looks wrong]
    for _ in range(10):
        samples = person(rng, base, 10)
        wrong = np.arange(len(samples)) % 10 == 0
        given = replace(samples, y=np.where(wrong, (samples.y + 1) % 3, samples.y))
        made = own_rows(elm, prepared(elm, given, Recipe()), given)
        np.add.at(found, (wrong.astype(int), made.doubtful.astype(int)), 1)
        assert ("labels of" in made.said) == bool(made.doubt and made.doubtful.any())
    right, wrong = found[:, 1] / found.sum(axis=1)
    assert wrong > 10 * right > 0, found


def found_wrong(model: QuantModel, samples: Samples) -> NDArray[np.bool_]:
    """What the device's `OwnRows.find_wrong` finds."""
    rows: Any = device.module("rows").OwnRows(device.module().Model(pack_model(model), 4, "frozen_a"), Source(samples))
    for _ in rows.find_wrong():
        pass
    return np.array(list(rows.doubtful), np.bool_)


def test_labels_look_wrong_that_neither_the_base_nor_rows_of_other_samples_believe() -> None:
    """SPEC.md, section 13: by both, twice, and less than half of a class."""
    doubtful, spared = 0, 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        model = small_base(rng) if seed % 2 else of_one_spread(rng)[0]
        samples = drawn(rng, (12, 9, 4 + seed))
        out = np.zeros(len(samples), np.bool_)
        base = brute_force(model, samples, 0, out)[0]
        for _ in range(2):
            rows = brute_force(model, samples, DOUBTS[0], out)[0]
            out = np.array([loss == other == MOST_LOSS for (_, loss), (_, other) in zip(base, rows, strict=True)])
        for label in range(KNOWN):
            if 2 * out[samples.y == label].sum() >= (samples.y == label).sum():
                spared += out[samples.y == label].sum()
                out[samples.y == label] = False
        assert np.array_equal(found_wrong(model, samples), out)
        doubtful += out.sum()
    assert doubtful > 10 and spared > 10


@pytest.mark.parametrize("on_board", [False, True])
def test_few_samples_make_rows(on_board: bool) -> None:
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


def test_a_board_of_its_own_trains_no_layers_beside_better_rows_of_few_samples() -> None:
    rng = np.random.default_rng(3)
    base = of_one_spread(rng)
    elm, samples = pack_model(base[0]), person(rng, base, 4)
    decided = []
    for on_board in (False, True):
        recipe = Recipe(on_board=on_board)
        rivals = contest(elm, prepared(elm, samples, recipe), recipe)
        assert rivals and rivals.rows.doubt
        decided.append(rivals.is_decided)
    assert decided == [False, True]


def test_cross_validated_layers_have_to_be_clearly_better_and_better_than_rows() -> None:
    rng = np.random.default_rng(3)
    base = of_one_spread(rng)
    elm, samples = pack_model(base[0]), person(rng, base, 4)
    rivals = contest(elm, prepared(elm, samples, Recipe()), Recipe())
    assert rivals and rivals.rows.doubt and rivals.course.held is None
    was, count = np.full(len(samples), 12000), len(samples)
    before = Score(0, -int(was.sum()), was)

    def winner(losses: NDArray[np.int64]) -> Winner:
        outcome = replace(rivals.rows.outcome, before=before, kept=Score(count, -int(losses.sum()), losses))
        return rivals.winner(outcome, b"")

    mean = -rivals.rows.after.minus_loss // count
    assert winner(np.full(count, mean - 1)) is Winner.LAYERS
    assert winner(np.full(count, mean + 1)) is Winner.ROWS, "rows lose less"
    assert winner(np.where(np.arange(count) < 3, 0, was)) is Winner.ROWS, "three samples gained: 1.7 standard errors"


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
    elm, samples = pack_model(base[0]), person(rng, base, 16)
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


def test_layers_need_more_proof_where_few_judge_rows_are_no_better_or_labels_look_wrong() -> None:
    errors_of, wrong = device.module("rows").errors_of, [bytes([1] * i) + bytes(20 - i) for i in range(4)]
    assert [errors_of(12, 4, wrong[0]), errors_of(11, 4, wrong[0]), errors_of(12, 0, wrong[0])] == [2, 4, 4]
    assert [errors_of(12, 1, some) for some in wrong] == [2, 2, 4, 6]
    assert errors_of(12, 1, wrong[3], False) == 4, "layers did not learn them"


@pytest.mark.parametrize("on_board", [False, True])
def test_layers_do_not_learn_samples_of_which_many_labels_look_wrong(on_board: bool) -> None:
    rng = np.random.default_rng(13)
    base = of_one_spread(rng)
    elm, samples, recipe = pack_model(base[0]), person(rng, base, 24), Recipe(on_board=on_board)
    course, some = prepared(elm, samples, recipe), np.arange(len(samples)) % 5 == 0
    few, a_class = np.arange(len(samples)) == 5, samples.y == 1

    def of_layers(wrong: NDArray[np.bool_]) -> Course:
        rivals = contest(elm, course, recipe)
        assert rivals
        rivals.__dict__["rows"] = replace(rivals.rows, doubtful=wrong)  # as if it had been found
        return rivals.of_layers

    assert of_layers(few) is of_layers(a_class) is course, "too few; and a class that is another one than the base's"
    found = of_layers(some | a_class)
    if on_board:
        assert found is course
    else:
        left = samples.part(~some | a_class)
        assert np.array_equal(found.everything.x, left.x) and found.held and found.part == 0.75
        count = np.sum(some & ~a_class)
        assert f"; the labels of {count} look wrong, so these did not teach (number 1, 6, " in found.said
        whole = guard_twin(elm, found, found.guard(TwinLearner(elm, found.settings.session))).adapter
        half = Session(elm, bytes(2), "infer").blend([whole], [3072])
        assert half == part_of(elm, whole, found.part) != whole == part_of(elm, whole, 1)


def test_samples_that_a_class_has_no_room_for_teach_nothing_and_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving one out took it away from sums that it was not in."""
    rows_module, rng = device.module("rows"), np.random.default_rng(17)
    monkeypatch.setattr(rows_module, "_MOST", 3)
    model = (base := of_one_spread(rng))[0]
    samples = person(rng, base, 5)
    beyond = np.concatenate([np.flatnonzero(samples.y == label)[3:] for label in range(KNOWN)])
    out = np.isin(np.arange(len(samples)), beyond)
    rows = rows_module.OwnRows(device.module().Model(pack_model(model), 4, "frozen_a"), Source(samples))
    rows.collect()
    losses = [0] * len(samples)
    for _ in rows._evaluate(DOUBTS[0], losses):
        pass
    assert losses == [loss for _, loss in brute_force(model, samples, DOUBTS[0], out)[0]]
