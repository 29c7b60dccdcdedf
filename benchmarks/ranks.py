"""`edgelora bench ranks`: ranks chosen by each method, compared with the same rank everywhere at equal adapter size.

A budget is the bytes of the adapter file that a rank everywhere (where the task's recipe places adapters) takes. Within
it, ranks of all conv and dense layers are chosen on the training samples, and trained at the same rates. All
are tested on the subject's test samples or, to choose a method without these, on a part of the training samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from edgelora.base.progress import Progress, no_progress
from edgelora.base.workers import in_parallel
from edgelora.core.formats.ela import adapter_size
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin.session import Session
from edgelora.learn.planning.choose import file_costs, frontier
from edgelora.learn.planning.sensitivity import METHODS, Sensitivity, sensitivity
from edgelora.learn.training.host_run import split
from edgelora.learn.training.recipe import MODES, Recipe
from edgelora.learn.training.samples import Samples
from edgelora.learn.training.twin_learner import train_twin

from .learning import TASKS, base_of, mean_and_error, prepare

RANKS = (1, 2, 4, 8)  # everywhere, whose bytes are the budgets


@dataclass(frozen=True)
class RanksRun:
    """A subject, seed, mode and budget: test accuracies (shares of 1) and ranks by op; rank: the uniform one."""

    subject: str
    seed: int
    mode: str
    rank: int
    budget_bytes: int
    accuracy: dict[str, float]  # by method, and of "uniform"
    ranks: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Comparison:
    """Runs of a mode and budget: a method's mean accuracy, and how far above uniform with its standard error."""

    mode: str
    rank: int
    method: str
    uniform: float
    planned: float
    difference: float
    standard_error: float


@dataclass(frozen=True)
class RanksBench:
    runs: list[RanksRun]
    settings: dict[str, object]

    @property
    def comparisons(self) -> list[Comparison]:
        """Of each mode, budget and method; then of each mode and method over all budgets (rank 0)."""
        modes = dict.fromkeys(run.mode for run in self.runs)
        ranks = dict.fromkeys(run.rank for run in self.runs)
        methods = self.runs[0].ranks.keys() - {"uniform"}
        return [
            _compared([run for run in self.runs if run.mode == mode and rank in (0, run.rank)], mode, rank, method)
            for mode in modes
            for rank in (*ranks, 0)
            for method in sorted(methods)
        ]

    def as_json(self) -> dict[str, object]:
        comparisons = [asdict(one) for one in self.comparisons]
        return {"comparisons": comparisons, "runs": [asdict(run) for run in self.runs], "settings": self.settings}


def _compared(runs: list[RanksRun], mode: str, rank: int, method: str) -> Comparison:
    """Differences are averaged over a subject's and seed's budgets first, which share a base and samples."""
    uniform = float(np.mean([run.accuracy["uniform"] for run in runs]))
    planned = float(np.mean([run.accuracy[method] for run in runs]))
    pairs: dict[tuple[str, int], list[float]] = {}
    for run in runs:
        pairs.setdefault((run.subject, run.seed), []).append(run.accuracy[method] - run.accuracy["uniform"])
    difference, error = mean_and_error([float(np.mean(differences)) for differences in pairs.values()])
    return Comparison(mode, rank, method, round(uniform, 4), round(planned, 4), difference, error)


def run_one(
    name: str, subject: str, seed: int, mode: str, recipe: Recipe, ranks: Sequence[int], held_out: bool
) -> list[RanksRun]:
    """One subject and seed in a mode, at all budgets."""
    task = TASKS[name]
    parts, model = task.load(subject), base_of(name, "" if task.shared_base else subject, seed)[1]
    elm = pack_model(model)
    samples = Samples(model.input.quantize(parts.train.x), parts.train.y)
    test = Samples(model.input.quantize(parts.test.x), parts.test.y)
    if held_out:
        samples, test = split(samples)
    recipe = task.recipe_for(mode, seed, recipe)
    measured = {method: sensitivity(elm, samples, replace(recipe, placement="all"), method) for method in METHODS}
    known: dict[tuple[int, ...], float] = {}

    def accuracy(chosen: tuple[int, ...]) -> float:
        """Accuracy with adapters of these ranks; of the base alone if a method chooses none."""
        if chosen not in known:
            session = Session(elm, bytes(chosen), "infer")
            if any(chosen):
                mine = replace(recipe, given_ranks=chosen)
                session.use(train_twin(elm, samples, mine).adapter)
            known[chosen] = session.accuracy(test.x, test.y)
        return known[chosen]

    runs = []
    for rank in ranks:
        uniform = tuple(replace(recipe, rank=rank).ranks(elm))
        budget = adapter_size(model, uniform, mode == "trainable_a")
        chosen = {"uniform": uniform} | {method: _within(model, budget, measured[method]) for method in METHODS}
        runs.append(
            RanksRun(subject, seed, mode, rank, budget, {key: accuracy(c) for key, c in chosen.items()}, chosen)
        )
    return runs


def _within(model: QuantModel, budget: int, measured: Sensitivity) -> tuple[int, ...]:
    """The ranks by op of the highest expected gain whose adapter file is within the budget."""
    every = (
        tuple(ranks.get(op, 0) for op in range(len(model.ops)))
        for ranks in frontier(measured.gains, file_costs(model, measured))
    )
    fitting = [c for c in every if adapter_size(model, c, measured.mode == "trainable_a") <= budget]
    return fitting[-1]


def bench_ranks(
    name: str,
    recipe: Recipe,
    subjects: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    modes: Sequence[str] = MODES,
    ranks: Sequence[int] = RANKS,
    held_out: bool = False,
    progress: Progress = no_progress,
    workers: int | None = None,
) -> RanksBench:
    """Runs all subjects and seeds of a task, or the given ones, in parallel processes."""
    task = TASKS[name]
    subjects, seeds = task.chosen(subjects), seeds or range(task.seeds)
    prepare(name, subjects[0], seeds, progress, workers)
    settings = (recipe, ranks, held_out)
    jobs = [(name, subject, seed, mode, *settings) for seed in seeds for subject in subjects for mode in modes]
    runs: list[RanksRun] = []
    for done, some in enumerate(in_parallel(run_one, jobs, workers), 1):
        runs += some
        progress(done, len(jobs), f"subject {some[-1].subject} seed {some[-1].seed} {some[-1].mode}")
    told = {"task": name, "subjects": list(subjects), "seeds": list(seeds), "ranks": list(ranks)}
    return RanksBench(runs, told | {"held_out": held_out, "recipe": asdict(recipe)})
