"""`edgelora bench years`: classes that come one after the other, learned as a board's `Learner` does, by the host twin.

A person's training windows come class by class, in an order drawn by the seed, each once. `naive` learns them alone,
`replay` with others from a reservoir; `in use` is what the guard lets infer after that; `consolidated` what is in use
after one consolidation at the end. `joint` has all windows at once, as `personalize` has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from .. import formats
from ..progress import Progress, untold
from ..training import Lifelong, Recipe, Reservoir, Samples, TwinLearner, as_board
from ..workers import in_parallel
from .learning import TASKS, base_of, mean_and_error

SLOTS = (28, 70, 140)
SMALLEST = 8  # slots for what learns without a memory
METHODS = ("base", "naive", "replay", "in use", "consolidated", "joint")


@dataclass(frozen=True)
class YearsRow:
    """Mean test accuracy, a share of 1, of runs with a reservoir of so many slots, 0: without one. stderr: of it."""

    method: str
    slots: int
    runs: int
    accuracy: float
    stderr: float


@dataclass(frozen=True)
class YearsBench:
    rows: list[YearsRow]
    settings: dict[str, object]

    def as_json(self) -> dict[str, object]:
        return {"rows": [asdict(row) for row in self.rows], "settings": self.settings}


def bench_years(
    recipe: Recipe,
    subjects: Sequence[str] | None = None,
    seeds: Sequence[int] = range(3),
    slots: Sequence[int] = SLOTS,
    progress: Progress = untold,
    workers: int | None = None,
) -> YearsBench:
    """All of these people and seeds, in parallel processes."""
    chosen = TASKS["har"].chosen(subjects)
    jobs = [(subject, replace(recipe, seed=seed), tuple(slots)) for seed in seeds for subject in chosen]
    found: dict[tuple[str, int], list[float]] = {}
    for done, accuracies in enumerate(in_parallel(_run, jobs, workers), 1):
        for key, accuracy in accuracies.items():
            found.setdefault(key, []).append(accuracy)
        progress(done, len(jobs), "lives")
    rows = [
        YearsRow(method, size, len(found[method, size]), *mean_and_error(found[method, size]))
        for method, size in sorted(found, key=lambda key: (METHODS.index(key[0]), key[1]))
    ]
    return YearsBench(rows, {"recipe": asdict(recipe), "subjects": list(chosen), "seeds": list(seeds)})


def _run(subject: str, recipe: Recipe, slots: tuple[int, ...]) -> dict[tuple[str, int], float]:
    """Accuracies of a person, by method and slots."""
    parts = TASKS["har"].load(subject)
    model = base_of("har", subject, recipe.seed)[1]
    elm, ranks = formats.pack_model(model), recipe.ranks(model)
    order = np.random.default_rng(recipe.seed).permutation(np.unique(parts.train.y))
    came = np.concatenate([np.flatnonzero(parts.train.y == label) for label in order])
    samples = Samples(model.input.quantize(parts.train.x)[came], parts.train.y[came])
    test = Samples(model.input.quantize(parts.test.x), parts.test.y)
    judge = TwinLearner(elm, ranks, recipe)

    def accuracy(adapter: bytes | None) -> float:
        judge.use(adapter)
        return float(np.mean(judge.predict(test.x) == test.y))

    def life(size: int, **settings: int) -> Lifelong:
        learner = Lifelong(elm, recipe, Reservoir(model.input.shape, size, model.classes, recipe.seed), **settings)
        for x, y in zip(samples.x, samples.y, strict=True):
            learner.learn(x, int(y))
        return learner

    found = {
        ("base", 0): accuracy(None),
        ("naive", 0): accuracy(life(SMALLEST, replayed=0).learned),
        ("joint", 0): accuracy(as_board(elm, samples, recipe).adapter),
    }
    for size in slots:
        learner = life(size)
        found["replay", size], found["in use", size] = accuracy(learner.learned), accuracy(learner.in_use)
        learner.consolidate()
        found["consolidated", size] = accuracy(learner.in_use)
    return found
