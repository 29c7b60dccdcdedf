"""`edgelora bench continual`: sequential classes and arms, trained like a board's `Learner` on the host twin.

*Classes*: a person's training windows arrive class by class, in random order, each once. `naive` trains on them alone,
`replay` with samples of a reservoir; `in use` is the adapter that validation activates; `consolidated` the active one
after a final consolidation. `joint` trains on all windows at once, as `personalize` does.

*Arms*: all windows of the left arm arrive, then all of the right, in random order, with a consolidation after each.
*Forgetting* is the loss of accuracy on the left arm between the two. The naive baseline continues training on the right
arm alone, for as many epochs as a consolidation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from edgelora.base.progress import Progress, no_progress
from edgelora.base.workers import in_parallel
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.learn.training.host_run import as_board
from edgelora.learn.training.lifelong import Lifelong
from edgelora.learn.training.loop import train
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.samples import Samples
from edgelora.learn.training.twin_learner import TwinLearner
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.datasets.har import load_har_arm

from .learning import TASKS, base_of, mean_and_error

SLOTS = (28, 70, 140)
STORED = 70  # largest reservoir that is reported
SMALLEST = 8  # slots without a reservoir
METHODS = ("base", "naive", "replay", "in use", "consolidated", "joint")


@dataclass(frozen=True)
class ContinualRow:
    """Mean test accuracy, a fraction, of runs with a reservoir of `slots` samples (0: none), and its standard error."""

    method: str
    slots: int
    runs: int
    accuracy: float
    stderr: float


@dataclass(frozen=True)
class ContinualBench:
    """rows: for classes; arms: forgetting of each run, a fraction, `naive_forgetting` and `forgetting`."""

    rows: list[ContinualRow]
    arms: dict[str, list[float]]
    settings: dict[str, object]

    def as_json(self) -> dict[str, object]:
        """classes: the active adapter at the end with at most STORED samples, and the baselines, with `_stderr` of
        each.
        """
        size = max((row.slots for row in self.rows if row.slots <= STORED), default=0)
        rows = {(row.method, row.slots): row for row in self.rows}
        named = {"base": ("base", 0), "naive": ("naive", 0), "final": ("consolidated", size), "joint": ("joint", 0)}
        found = {name: rows[key] for name, key in named.items() if key in rows}
        classes: dict[str, object] = {name: row.accuracy for name, row in found.items()}
        classes |= {f"{name}_stderr": row.stderr for name, row in found.items()} | {"stored": size}
        arms: dict[str, object] = {name: mean_and_error(values)[0] for name, values in self.arms.items()}
        arms |= {f"{name}_stderr": mean_and_error(values)[1] for name, values in self.arms.items()}
        result = {"classes": classes, "arms": arms | {"stored": STORED}}
        return result | {"rows": [asdict(row) for row in self.rows], "settings": self.settings}


def bench_continual(
    recipe: Recipe,
    subjects: Sequence[str] | None = None,
    seeds: Sequence[int] = range(3),
    slots: Sequence[int] = SLOTS,
    progress: Progress = no_progress,
    workers: int | None = None,
) -> ContinualBench:
    """Runs all of these people and seeds in parallel processes."""
    chosen = TASKS["har"].chosen(subjects)
    jobs = [(subject, replace(recipe, seed=seed), tuple(slots)) for seed in seeds for subject in chosen]
    found: dict[tuple[str, int], list[float]] = {}
    arms: dict[str, list[float]] = {}
    for done, (accuracies, forgetting) in enumerate(in_parallel(_run, jobs, workers), 1):
        for key, accuracy in accuracies.items():
            found.setdefault(key, []).append(accuracy)
        for name, share in forgetting.items():
            arms.setdefault(name, []).append(share)
        progress(done, len(jobs), "lives")
    rows = [
        ContinualRow(method, size, len(found[method, size]), *mean_and_error(found[method, size]))
        for method, size in sorted(found, key=lambda key: (METHODS.index(key[0]), key[1]))
    ]
    return ContinualBench(rows, arms, {"recipe": asdict(recipe), "subjects": list(chosen), "seeds": list(seeds)})


def _run(subject: str, recipe: Recipe, slots: tuple[int, ...]) -> tuple[dict[tuple[str, int], float], dict[str, float]]:
    """Accuracies of a person's classes, by method and slots, and forgetting of the left arm."""
    model = base_of("har", subject, recipe.seed)[1]
    person = _Person(model, pack_model(model), recipe)
    return _classes(person, subject, slots), _arms(person, subject)


@dataclass(frozen=True)
class _Person:
    """Everything that runs share with a base that was pretrained without the person."""

    model: QuantModel
    elm: bytes
    recipe: Recipe

    def samples(self, part: Dataset) -> Samples:
        return Samples(self.model.input.quantize(part.x), part.y)

    def born(self, slots: int) -> Lifelong:
        return Lifelong(self.elm, self.recipe, slots)

    def accuracy(self, adapter: bytes | None, test: Samples) -> float:
        judge = TwinLearner(self.elm, self.recipe.settings(self.elm))
        judge.use(adapter)
        return float(np.mean(judge.predict(test.x) == test.y))


def _lives(learner: Lifelong, samples: Samples) -> Lifelong:
    for x, y in zip(samples.x, samples.y, strict=True):
        learner.learn(x, int(y))
    return learner


def _naive(life: Lifelong, samples: Samples) -> Lifelong:
    """Trains on each sample once, without a reservoir."""
    for x, y in zip(samples.x, samples.y, strict=True):
        if not life.reservoir.judges(y):
            rate = life.learner.rate
            life.model.train(x.tobytes(), int(y), rate)
            life.model.flush(rate)
            life.learner.updates += 1
        life.reservoir.add(x.tobytes(), y)
    return life


def _classes(person: _Person, subject: str, slots: tuple[int, ...]) -> dict[tuple[str, int], float]:
    parts, seed = TASKS["har"].load(subject), person.recipe.seed
    order = np.random.default_rng(seed).permutation(np.unique(parts.train.y))
    came = np.concatenate([np.flatnonzero(parts.train.y == label) for label in order])
    whole, test = person.samples(parts.train), person.samples(parts.test)
    samples = Samples(whole.x[came], whole.y[came])
    found = {
        ("base", 0): person.accuracy(None, test),
        ("naive", 0): person.accuracy(_naive(person.born(SMALLEST), samples).learned, test),
        ("joint", 0): person.accuracy(as_board(person.elm, samples, person.recipe).adapter, test),
    }
    for size in slots:
        learner = _lives(person.born(size), samples)
        found["replay", size] = person.accuracy(learner.learned, test)
        found["in use", size] = person.accuracy(learner.in_use, test)
        learner.consolidate()
        found["consolidated", size] = person.accuracy(learner.in_use, test)
    return found


def _arms(person: _Person, subject: str) -> dict[str, float]:
    """Forgetting of the left arm after training on the right one, naively and with STORED samples."""
    rng = np.random.default_rng(person.recipe.seed)
    arms = [load_har_arm(int(subject), arm) for arm in ("left", "right")]
    test = person.samples(arms[0][1])
    learner, naive = person.born(STORED), TwinLearner(person.elm, person.recipe.settings(person.elm))
    naive.begin(person.recipe.seed)
    after: dict[str, list[float]] = {"naive_forgetting": [], "forgetting": []}
    for part, _ in arms:
        samples = person.samples(part)
        mixed = rng.permutation(len(samples))
        samples = Samples(samples.x[mixed], samples.y[mixed])
        train(naive, samples, person.recipe.resolved(person.elm, len(samples)))
        after["naive_forgetting"].append(person.accuracy(naive.save(False), test))
        _lives(learner, samples).consolidate()
        after["forgetting"].append(person.accuracy(learner.in_use, test))
    return {name: first - last for name, (first, last) in after.items()}
