"""A learner's month: 16 labelled windows a day, a turned sensor or wrong labels, a consolidation every five days."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from fresh import slow
from numpy.typing import NDArray

from benchmarks.learning import TASKS, base_of
from edgelora.base.errors import InputError
from edgelora.core.formats.elm import pack_model
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.recipe import MODES, Recipe
from edgelora.learn.training.run.host_run import as_board
from edgelora.learn.training.run.lifelong import Lifelong
from edgelora.learn.training.twin.twin_learner import TwinLearner
from edgelora.model.quantization.class_stats import spread

DAYS, CHANGE, WINDOWS, REST, SLOTS = 30, 15, 16, 5, 70  # days; the change is after day 15; windows a day
NOISE, OFFSET = 0.05, 0.03  # standard deviations, in g and 4 rad/s: of each value, and of each axis of a device
PERSON, SEED = "3", 0
QUARTER_TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


class Month:
    """What a device gives: `came`, in order, and `tests` before and after the change. wrong: a share of the labels."""

    def __init__(self, turned: bool = False, wrong: float = 0.0) -> None:
        self.model, parts = base_of("har", PERSON, SEED)[1], TASKS["har"].load(PERSON)
        self.model.class_stats = spread(self.model, parts.pretrain.x, parts.pretrain.y)
        self.model = replace(self.model, signal=parts.train.signal)
        rng, train, test = np.random.default_rng([SEED, int(PERSON)]), parts.train, parts.test
        order = np.concatenate([rng.permutation(len(train)) for _ in range(DAYS * WINDOWS // len(train) + 1)])
        order = order[: DAYS * WINDOWS]
        self._offset, self._turn = rng.normal(0, OFFSET, train.x.shape[-1]), QUARTER_TURN if turned else np.eye(3)
        seen = train.x[order] + rng.normal(0, NOISE, (len(order), *train.x.shape[1:]))
        others = (train.y[order] + rng.integers(1, len(train.labels), len(order))) % len(train.labels)
        labels = np.where(rng.random(len(order)) < wrong, others, train.y[order])
        half = CHANGE * WINDOWS
        self.came = Samples(np.concatenate([self._sensed(seen[:half]), self._sensed(seen[half:], True)]), labels)
        seen = test.x + rng.normal(0, NOISE, test.x.shape)
        self.tests = [Samples(self._sensed(seen, after), test.y) for after in (False, True)]

    def _sensed(self, x: NDArray[np.float64], after: bool = False) -> NDArray[np.int8]:
        if after:
            x = np.concatenate([x[..., :3] @ self._turn, x[..., 3:] @ self._turn], -1)
        return self.model.input.quantize((x + self._offset).astype(np.float32))

    def lived(self, mode: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Accuracies after each day: in use, and of the base."""
        elm, recipe = pack_model(self.model), Recipe(rank=4, mode=mode, seed=SEED)
        life, in_use, due = Lifelong(elm, recipe, SLOTS), [], False
        base = [_right(_judge(elm, recipe, None).predict(test.x), test) for test in self.tests]
        for day in range(DAYS):
            for i in range(day * WINDOWS, (day + 1) * WINDOWS):
                life.learn(self.came.x[i], int(self.came.y[i]))
            due = (due or (day + 1) % REST == 0) and not _consolidates(life)
            test = self.tests[day >= CHANGE]
            in_use.append(_right(life.predict(test.x), test))
        return np.array(in_use), np.array([base[day >= CHANGE] for day in range(DAYS)])

    def fresh(self, mode: str) -> float:
        """The accuracy of a run on the windows of the five days after the change."""
        elm, recipe = pack_model(self.model), Recipe(rank=4, mode=mode, seed=SEED, rows=False)
        since = slice(CHANGE * WINDOWS, (CHANGE + REST) * WINDOWS)
        adapter = as_board(elm, Samples(self.came.x[since], self.came.y[since]), recipe).adapter
        return _right(_judge(elm, recipe, adapter).predict(self.tests[1].x), self.tests[1])


def _judge(elm: bytes, recipe: Recipe, adapter: bytes | None) -> TwinLearner:
    judge = TwinLearner(elm, recipe.settings(elm))
    judge.use(adapter)
    return judge


def _consolidates(life: Lifelong) -> bool:
    """Consolidates, unless there are too few samples yet."""
    try:
        life.consolidate()
    except InputError:
        return False
    return True


def _right(named: NDArray[np.int64], test: Samples) -> float:
    return float(np.mean(named == test.y))


@slow
def test_a_month_recovers_from_a_turned_sensor() -> None:
    """The same days before the change; afterwards the base is worse, and what is in use is soon good again."""
    calm, turned = Month(), Month(turned=True)
    for mode in MODES:
        in_use, base = turned.lived(mode)
        assert np.array_equal(in_use[:CHANGE], calm.lived(mode)[0][:CHANGE])
        assert base[-1] < base[0] - 0.1 and in_use[-1] > base[-1] + 0.2
        assert in_use[CHANGE + REST - 1] > 0.9 * turned.fresh(mode)


def test_a_month_with_wrong_labels_gains_without_a_bad_day() -> None:
    """A fifth of the labels is wrong; a learner that trusted them stayed with the base all month."""
    month = Month(wrong=0.2)
    for mode in MODES:
        in_use, base = month.lived(mode)
        assert np.mean(in_use - base) > 0.03 and np.min(in_use - base) > -0.01 and in_use[-1] > base[-1] + 0.05
