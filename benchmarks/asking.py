"""`edgelora bench ask`: accuracy by presses of a button, where the model chooses the windows, beside random ones.

A person's unlabelled windows are looked at as a board does (`asking.py`); each press gives one its label. Own rows are
made and judged from these labels alone (`rows.py`); what is in use then is tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.progress import Progress, no_progress
from edgelora.base.workers import in_parallel
from edgelora.core.formats.elm import pack_model
from edgelora.core.twin import device
from edgelora.core.twin.session import Session
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.samples import Samples, Source
from edgelora.model.quantization.class_stats import spread

from .learning import TASKS, base_of, mean_and_error, prepare

WINDOWS = 100  # that a person has recorded without labels, drawn by lot
PRESSES = (5, 10, 20, 30)
ORDERS = 3  # random ones, for each run
Share = float


@dataclass(frozen=True)
class AskRow:
    """Mean test accuracies, shares of 1, after so many presses; stderr: of `asked` minus `random`.

    asked: windows that the model asked for; random: windows drawn by lot; worst: the least difference of `asked` to the
    base in a single run. ahead: `asked` minus the random of twice as many presses, with its standard error; None if
    these are not among `PRESSES`.
    """

    data: str
    presses: int
    runs: int
    base: Share
    asked: Share
    random: Share
    stderr: Share
    worst: Share
    ahead: tuple[Share, Share] | None


@dataclass(frozen=True)
class AskBench:
    rows: list[AskRow]
    settings: dict[str, object]

    def as_json(self) -> dict[str, object]:
        return {"rows": [asdict(row) for row in self.rows], "settings": self.settings}


@dataclass(frozen=True)
class _Run:
    """Test accuracy of the base, and by number of presses."""

    base: Share
    asked: list[Share]
    random: list[Share]


def bench_ask(
    data: Sequence[str] = tuple(TASKS),
    subjects: Sequence[str] | None = None,
    seeds: Sequence[int] = range(5),
    progress: Progress = no_progress,
    workers: int | None = None,
) -> AskBench:
    """Runs all of these people and seeds in parallel processes."""
    rows = []
    for name in data:
        chosen = [s for s in TASKS[name].subjects if subjects is None or s in subjects]
        if not chosen:
            continue
        prepare(name, chosen[0], seeds, progress, workers)
        jobs = [(name, subject, seed) for seed in seeds for subject in chosen]
        runs: list[_Run] = []
        for done, run in enumerate(in_parallel(_run, jobs, workers), 1):
            runs.append(run)
            progress(done, len(jobs), name)
        rows += [_row(name, i, runs) for i in range(len(PRESSES))]
    return AskBench(rows, {"seeds": list(seeds), "windows": WINDOWS, "orders": ORDERS})


def _row(name: str, i: int, runs: Sequence[_Run]) -> AskRow:
    base, asked, random = (
        round(float(np.mean(values)), 4)
        for values in ([run.base for run in runs], [run.asked[i] for run in runs], [run.random[i] for run in runs])
    )
    error = mean_and_error([run.asked[i] - run.random[i] for run in runs])[1]
    worst = round(min(run.asked[i] - run.base for run in runs), 4)
    twice = PRESSES.index(2 * PRESSES[i]) if 2 * PRESSES[i] in PRESSES else None
    ahead = None if twice is None else mean_and_error([run.asked[i] - run.random[twice] for run in runs])
    return AskRow(name, PRESSES[i], len(runs), base, asked, random, error, worst, ahead)


def _run(name: str, subject: str, seed: int) -> _Run:
    task = TASKS[name]
    _, model = base_of(name, "" if task.shared_base else subject, seed)
    parts = task.load(subject)
    model.class_stats = model.class_stats or spread(model, parts.pretrain.x, parts.pretrain.y)
    elm, rng = pack_model(model), np.random.default_rng([seed, task.subjects.index(subject)])
    few = np.sort(rng.permutation(len(parts.train))[:WINDOWS])
    windows = Samples(model.input.quantize(parts.train.x[few]), parts.train.y[few])
    test = Samples(model.input.quantize(parts.test.x), parts.test.y)
    person = _Person(elm, windows, test)
    orders = [person.presses(rng.permutation(len(few))) for _ in range(ORDERS)]
    return _Run(person.accuracy(None), person.presses(None), np.mean(orders, axis=0).tolist())


class _Person:
    """Someone who presses the right button."""

    def __init__(self, elm: bytes, windows: Samples, test: Samples) -> None:
        self._model: Any = device.module().Model(elm, Recipe().ranks(elm))
        self._session = Session(elm, Recipe().ranks(elm))
        self._windows, self._test = windows, test

    def accuracy(self, adapter: bytes | None) -> float:
        self._session.use(adapter)
        return self._session.accuracy(self._test.x, self._test.y)

    def presses(self, order: NDArray[np.int64] | None) -> list[Share]:
        """Accuracy after `PRESSES` presses; None: the model asks."""
        self._model.use(None)
        asking = device.module("asking").Asking(self._model, Source(self._windows))
        found = []
        for press in range(PRESSES[-1]):
            number = asking.ask() if order is None else int(order[press])
            asking.label(number, int(self._windows.y[number]))
            if press + 1 in PRESSES:
                found.append(self.accuracy(self._taught(asking.labelled)))
        return found

    def _taught(self, labelled: Any) -> bytes | None:
        rows = device.module("rows").OwnRows(self._model, labelled)
        for _ in rows.judge():
            pass
        made = rows.adapter()
        self._model.use(None)
        return bytes(made.buffer) if made else None
