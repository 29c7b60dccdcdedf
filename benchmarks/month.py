"""The month of `edgelora bench continual`: a person's days, half of them with the sensor worn another way.

Every day 16 labelled windows arrive, drawn from the person's training windows without repeating any before all were
there, with a device's noise and offsets. Every 5 days the learner consolidates. After each day, test windows as the
sensor gives them that day are classified by what is in use and by the base. After day 15 the sensor's axes are turned,
or stay. A share of the labels is wrong, drawn from the other classes. A `fresh` run trains on the windows of the days
after the change alone, and its labels are as wrong.

The same windows are looked at for drift, without labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.base.workers import in_parallel
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin import device
from edgelora.learn.training.host_run import as_board
from edgelora.learn.training.lifelong import Lifelong
from edgelora.learn.training.recipe import MODES, Recipe
from edgelora.learn.training.samples import Samples
from edgelora.learn.training.twin_learner import TwinLearner
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.quantization.class_stats import spread

from .learning import TASKS, base_of, mean_and_error

DAYS, CHANGE, WINDOWS, REST = 30, 15, 16, 5  # days; the change is after day 15; windows a day; days to a consolidation
SLOTS = 70
NOISE, OFFSET = 0.05, 0.03  # standard deviations, in g and 4 rad/s: of each value, and of each axis of a device
ENOUGH = 0.9  # of what a fresh run has
COLUMNS = (
    *("cell", "mode", "base", "in use", "gain", "worst mean day", "worst life", "worst day"),
    *("after 5 days", "a fresh run", "share: mean", "worst", "at 90 %", "days to 90 %", "most"),
)


@dataclass(frozen=True)
class Cell:
    """What happens in a month. degrees: the turn after day 15; tilted: about an axis between the sensor's own."""

    name: str
    degrees: int = 0
    wrong: float = 0.0
    tilted: bool = False


CELLS = (
    Cell("calm"),
    Cell("turned_45", 45),
    Cell("turned_90", 90),
    Cell("tilted_60", 60, tilted=True),
    Cell("wrong_20", wrong=0.2),
    Cell("turned_45_wrong_20", 45, 0.2),
    Cell("turned_90_wrong_20", 90, 0.2),
)


@dataclass(frozen=True)
class Life:
    """Test accuracies of one life. in_use, base: after each day; fresh: of a run on the windows since the change, at
    the consolidations after it.
    """

    cell: str
    mode: str
    subject: str
    seed: int
    in_use: list[float]
    base: list[float]
    fresh: list[float]

    @property
    def gain(self) -> float:
        """Mean over the days of what is in use above the base."""
        return float(np.mean(np.subtract(self.in_use, self.base)))

    @property
    def worst_day(self) -> float:
        """The day's gain that is the smallest."""
        return float(np.min(np.subtract(self.in_use, self.base)))

    @property
    def share_of_fresh(self) -> float:
        """What is in use five days after the change, as a share of what the fresh run has then."""
        return self.in_use[CHANGE + REST - 1] / self.fresh[0]

    @property
    def days_to_fresh(self) -> int:
        """Days after the change until what is in use has ENOUGH of what the fresh run has after five; DAYS: never."""
        enough = [day for day in range(CHANGE, DAYS) if self.in_use[day] >= ENOUGH * self.fresh[0]]
        return enough[0] - CHANGE + 1 if enough else DAYS


@dataclass(frozen=True)
class MonthRow:
    """A cell in one mode. Accuracies are shares of 1, means over lives; gains are of what is in use above the base.

    enough: lives that have ENOUGH of what a fresh run has, five days after the change.
    """

    cell: str
    mode: str
    lives: int
    base: float
    in_use: float
    gain: float
    gain_stderr: float
    worst_mean_day: float
    worst_life: float
    worst_day: float
    after_5_days: float
    fresh_after_5_days: float
    share_of_fresh: float
    worst_share_of_fresh: float
    enough: int
    days_to_fresh: float
    most_days_to_fresh: int
    end: float
    fresh_end: float

    @staticmethod
    def of(lives: Sequence[Life]) -> MonthRow:
        gain, error = mean_and_error([life.gain for life in lives])
        by_day = np.mean([np.subtract(life.in_use, life.base) for life in lives], axis=0)

        def mean(values: Sequence[float]) -> float:
            return round(float(np.mean(values)), 4)

        return MonthRow(
            lives[0].cell,
            lives[0].mode,
            len(lives),
            mean([mean(life.base) for life in lives]),
            mean([mean(life.in_use) for life in lives]),
            gain,
            error,
            round(float(by_day.min()), 4),
            round(min(life.gain for life in lives), 4),
            round(min(life.worst_day for life in lives), 4),
            mean([life.in_use[CHANGE + REST - 1] for life in lives]),
            mean([life.fresh[0] for life in lives]),
            mean([life.share_of_fresh for life in lives]),
            round(min(life.share_of_fresh for life in lives), 4),
            sum(life.share_of_fresh >= ENOUGH for life in lives),
            mean([life.days_to_fresh for life in lives]),
            max(life.days_to_fresh for life in lives),
            mean([life.in_use[-1] for life in lives]),
            mean([life.fresh[-1] for life in lives]),
        )

    @property
    def told(self) -> tuple[str, ...]:
        """The row under COLUMNS: gains in points; what follows a change only where there is one."""
        gains = [f"{100 * gain:+.1f}" for gain in (self.worst_mean_day, self.worst_life, self.worst_day)]
        mean = f"{100 * self.gain:+.1f} ± {100 * self.gain_stderr:.1f}"
        after: tuple[str, ...] = ("",) * 7
        if _is_turned(self.cell):
            most = "never" if self.most_days_to_fresh == DAYS else str(self.most_days_to_fresh)
            accuracies = self.after_5_days, self.fresh_after_5_days
            shares = self.share_of_fresh, self.worst_share_of_fresh
            after = (
                *(f"{accuracy:.3f}" for accuracy in accuracies),
                *(f"{share:.2f}" for share in shares),
                f"{self.enough} of {self.lives}",
                f"{self.days_to_fresh:.1f}",
                most,
            )
        return (self.cell, self.mode, f"{self.base:.3f}", f"{self.in_use:.3f}", mean, *gains, *after)


@dataclass(frozen=True)
class Watch:
    """Alarms of drift in a life. days: those of the alarms, from 1; after each, what is usual is learned anew. later:
    whether the test windows, class by class and as on the first days, are an alarm; None after an alarm.
    """

    cell: str
    subject: str
    seed: int
    days: list[int]
    later: bool | None

    @property
    def false(self) -> list[int]:
        """Alarms on days without a change."""
        return [day for day in self.days if day <= CHANGE or not _is_turned(self.cell)]

    @property
    def found(self) -> int | None:
        """Days until the change is an alarm, 1 on the first; None: never."""
        return next((day - CHANGE for day in self.days if day > CHANGE), None)


@dataclass(frozen=True)
class DriftRow:
    """Alarms of drift in a cell's lives. later: lives in which test windows are an alarm, of `looked`; days: until the
    change is an alarm, mean and most over the lives in which it is; missed: lives in which it is not.
    """

    cell: str
    lives: int
    false_alarms: int
    false_alarms_a_day: float
    later: int
    looked: int
    days: float | None
    most_days: int | None
    missed: int | None

    @staticmethod
    def of(watches: Sequence[Watch]) -> DriftRow:
        cell, false = watches[0].cell, sum(len(watch.false) for watch in watches)
        days = (CHANGE if _is_turned(cell) else DAYS) * len(watches)
        later = [watch.later for watch in watches if watch.later is not None]
        found = [watch.found for watch in watches if watch.found is not None and _is_turned(cell)]
        return DriftRow(
            cell,
            len(watches),
            false,
            round(false / days, 4),
            sum(later),
            len(later),
            round(float(np.mean(found)), 2) if found else None,
            max(found, default=None),
            len(watches) - len(found) if _is_turned(cell) else None,
        )


def _is_turned(cell: str) -> bool:
    return any(one.degrees for one in CELLS if one.name == cell)


@dataclass(frozen=True)
class MonthBench:
    rows: list[MonthRow]
    drift: list[DriftRow]
    lives: list[Life]
    settings: dict[str, object]

    def as_json(self) -> dict[str, object]:
        rows, drift, lives = ([asdict(one) for one in found] for found in (self.rows, self.drift, self.lives))
        return {"month": rows, "drift": drift, "lives": lives, "settings": self.settings}


def bench_month(
    recipe: Recipe,
    subjects: Sequence[str] | None = None,
    seeds: Sequence[int] = range(2),
    cells: Sequence[Cell] = CELLS,
    progress: Progress = no_progress,
    workers: int | None = None,
) -> MonthBench:
    """All cells in both modes for these people and seeds, in parallel processes."""
    chosen = TASKS["har"].chosen(subjects)
    jobs = [(subject, replace(recipe, seed=seed), tuple(cells)) for seed in seeds for subject in chosen]
    lives: list[Life] = []
    watches: list[Watch] = []
    for done, (lived, watched) in enumerate(in_parallel(_lives_of, jobs, workers), 1):
        lives, watches = lives + lived, watches + watched
        progress(done, len(jobs), "months")
    settings = {"recipe": asdict(recipe), "subjects": list(chosen), "seeds": list(seeds), "slots": SLOTS}
    by_cell = [[watch for watch in watches if watch.cell == cell.name] for cell in cells]
    return MonthBench(rows_of(lives), [DriftRow.of(found) for found in by_cell if found], lives, settings)


def rows_of(lives: Sequence[Life]) -> list[MonthRow]:
    """A row of each cell and mode, in the order in which they first occur."""
    keys = dict.fromkeys((life.cell, life.mode) for life in lives)
    return [MonthRow.of([life for life in lives if (life.cell, life.mode) == key]) for key in keys]


def _lives_of(subject: str, recipe: Recipe, cells: Sequence[Cell]) -> tuple[list[Life], list[Watch]]:
    model, parts = base_of("har", subject, recipe.seed)[1], TASKS["har"].load(subject)
    model.class_stats = spread(model, parts.pretrain.x, parts.pretrain.y)
    months = [Month(model, parts.train, parts.test, cell, recipe.seed, int(subject)) for cell in cells]
    lives = [month.lived(replace(recipe, mode=mode), subject) for month in months for mode in MODES]
    right = [month for month in months if not month.cell.wrong]
    return lives, [month.watched(subject, recipe.seed) for month in right]


class Month:
    """A month's windows: `came` in their order, and `test` of every day, as the sensor gives them, int8."""

    def __init__(self, model: QuantModel, train: Dataset, test: Dataset, cell: Cell, seed: int, person: int) -> None:
        self._model, self.cell = replace(model, signal=train.signal), cell
        rng = np.random.default_rng([seed, person])
        order = np.concatenate([rng.permutation(len(train)) for _ in range(DAYS * WINDOWS // len(train) + 1)])
        order = order[: DAYS * WINDOWS]
        self._offset = rng.normal(0, OFFSET, train.x.shape[-1])
        self._turn = _turn(cell, rng)
        noise = rng.normal(0, NOISE, (len(order), *train.x.shape[1:]))
        labels = train.y[order]
        others = (labels + rng.integers(1, len(train.labels), len(order))) % len(train.labels)
        labels = np.where(rng.random(len(order)) < cell.wrong, others, labels)
        half = CHANGE * WINDOWS
        x = [self._sensed(train.x[order[:half]] + noise[:half], False)]
        x.append(self._sensed(train.x[order[half:]] + noise[half:], True))
        self.came = Samples(np.concatenate(x), labels)
        seen = test.x + rng.normal(0, NOISE, test.x.shape)
        self.test = [Samples(self._sensed(seen, turned), test.y) for turned in (False, True)]

    def _sensed(self, x: NDArray[np.float64], turned: bool) -> NDArray[np.int8]:
        """What the device gives, worn as it is: turned accelerations and rates, with its offsets."""
        if turned:
            x = np.concatenate([x[..., :3] @ self._turn, x[..., 3:] @ self._turn], -1)
        return self._model.input.quantize((x + self._offset).astype(np.float32))

    def lived(self, recipe: Recipe, subject: str) -> Life:
        """A learner's month."""
        elm = pack_model(self._model)
        life = Lifelong(elm, recipe, SLOTS)
        judge = TwinLearner(elm, recipe.settings(elm))
        judge.use(None)
        base = [_right(judge.predict(test.x), test) for test in self.test]
        in_use, fresh, is_due = [], [], False
        for day in range(DAYS):
            for i in range(day * WINDOWS, (day + 1) * WINDOWS):
                life.learn(self.came.x[i], int(self.came.y[i]))
            is_due = is_due or (day + 1) % REST == 0
            is_due = is_due and not _consolidates(life)
            if (day + 1) % REST == 0 and day >= CHANGE:
                since = slice(CHANGE * WINDOWS, (day + 1) * WINDOWS)
                samples = Samples(self.came.x[since], self.came.y[since])
                judge.use(as_board(elm, samples, replace(recipe, rows=False)).adapter)
                fresh.append(_right(judge.predict(self.test[1].x), self.test[1]))
            test = self.test[day >= CHANGE]
            in_use.append(_right(life.predict(test.x), test))
        by_day = [base[day >= CHANGE] for day in range(DAYS)]
        return Life(self.cell.name, recipe.mode, subject, recipe.seed, in_use, by_day, fresh)

    def watched(self, subject: str, seed: int) -> Watch:
        """Drift alarms over the month's windows, without their labels."""
        drift = device.module("drift").Drift(device.module().Model(pack_model(self._model), mode="infer"))
        days: list[int] = []
        for i, window in enumerate(self.came.x):
            if drift.add(window.tobytes()):
                days.append(i // WINDOWS + 1)
                drift.restart()
        test = self.test[0]
        ordered = test.x[np.argsort(test.y, kind="stable")]
        later = None if days else any([drift.add(window.tobytes()) for window in ordered])
        return Watch(self.cell.name, subject, seed, days, later)


def _consolidates(life: Lifelong) -> bool:
    """Consolidates, unless there are too few samples yet."""
    try:
        life.consolidate()
    except InputError:
        return False
    return True


def _right(named: NDArray[np.int64], test: Samples) -> float:
    return float(np.mean(named == test.y))


def _turn(cell: Cell, rng: np.random.Generator) -> NDArray[np.float64]:
    """The rotation of the sensor's axes, for rows of vectors: about one of its own axes, or a random one."""
    axis = np.eye(3)[rng.integers(3)] * rng.choice([-1, 1])
    random = rng.normal(size=3)
    if cell.tilted:
        axis = random / np.linalg.norm(random)
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = math.radians(cell.degrees)
    turn: NDArray[np.float64] = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    return turn
