"""`edgelora bench qat`: adapters trained in integers against float LoRA rounded to integers afterwards, at low rank.

Both adapt the same base to the same samples, for as many epochs, in the same layers, and both are tested by the integer
twin. Rounding is what `import-adapter` does, with the training samples to calibrate it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np

from . import float_lora, formats, peft, twin
from .bench_learning import MODES, TASKS, base_of, means, one_thread
from .personalize import Recipe, Samples, TwinLearner, placed, train

Progress = Callable[[int, int, str], None]
RANKS = (1, 2)
SEEDS = 3


@dataclass(frozen=True)
class QatRun:
    """Test accuracies (shares of 1) of a subject, seed and rank.

    base: the INT8 network alone; float_*: float LoRA as trained, on the float base; rounded_*: it as an integer
    adapter; integer_*: trained in integers. branch_error: of rounding with A trained, the mean over layers.
    """

    subject: str
    seed: int
    rank: int
    base: float
    float_frozen_a: float
    float_trainable_a: float
    rounded_frozen_a: float
    rounded_trainable_a: float
    integer_frozen_a: float
    integer_trainable_a: float
    branch_error: float


@dataclass(frozen=True)
class QatBench:
    runs: list[QatRun]
    settings: dict[str, object]

    @property
    def means(self) -> dict[int, dict[str, float]]:
        """By rank, of everything measured."""
        ranks = sorted({run.rank for run in self.runs})
        return {rank: means([run for run in self.runs if run.rank == rank]) for rank in ranks}

    def as_json(self) -> dict[str, object]:
        return {"means": self.means, "runs": [asdict(run) for run in self.runs], "settings": self.settings}


def run_one(name: str, subject: str, seed: int, recipe: Recipe) -> QatRun:
    """One subject, seed and rank (the recipe's): two float runs, rounded, and two integer ones."""
    task = TASKS[name]
    parts = task.load(subject)
    net, model = base_of(name, "" if task.shared_base else subject, seed)
    elm = formats.pack_model(model)
    samples = Samples(model.input.quantize(parts.train.x), parts.train.y)
    test = Samples(model.input.quantize(parts.test.x), parts.test.y)
    scores: dict[str, float] = {}
    for mode in MODES:
        mine = task.recipe_for(mode, seed, recipe)
        learner = TwinLearner(elm, mine.ranks(model), mine)
        scores["base"] = float(np.mean(learner.predict(test.x) == test.y))
        learner.begin(seed)
        train(learner, samples, mine)
        scores[f"integer_{mode}"] = float(np.mean(learner.predict(test.x) == test.y))
        floats = float_lora.train_float_lora(
            net,
            parts.train,
            parts.test,
            mine.rank,
            placed(net.layers, mine.placement),
            mine.epochs,
            seed,
            task.float_rates[mode],
            mode == "trainable_a",
            batch=mine.micro_batch,
        )
        scale = float_lora.ALPHA / mine.rank
        rounded = peft.fit_adapter(elm, {i: (a.a, scale * a.b) for i, a in floats.adapters.items()}, x=parts.train.x)
        session = twin.Session(elm, mine.ranks(model), "infer", 1)
        session.use(formats.pack_adapter(rounded.adapter))
        scores[f"float_{mode}"] = floats.accuracy
        scores[f"rounded_{mode}"] = session.accuracy(test.x, test.y)
    errors = [fit.branch_error for fit in rounded.fits if fit.branch_error is not None]
    return QatRun(subject, seed, recipe.rank, branch_error=round(float(np.mean(errors)), 5), **scores)


def bench_qat(
    name: str,
    recipes: Sequence[Recipe],
    subjects: Sequence[str] | None = None,
    seeds: Sequence[int] = range(SEEDS),
    progress: Progress | None = None,
    workers: int | None = None,
) -> QatBench:
    """All subjects and seeds with each recipe (of different ranks), in parallel processes."""
    subjects = subjects or TASKS[name].subjects
    jobs = [(subject, seed, recipe) for seed in seeds for subject in subjects for recipe in recipes]
    runs = []
    with ProcessPoolExecutor(workers or os.cpu_count(), initializer=one_thread) as pool:
        futures = [pool.submit(run_one, name, subject, seed, recipe) for subject, seed, recipe in jobs]
        for done, future in enumerate(futures, 1):
            runs.append(future.result())
            if progress:
                progress(done, len(jobs), f"subject {runs[-1].subject} seed {runs[-1].seed} rank {runs[-1].rank}")
    return QatBench(runs, {"task": name, "subjects": list(subjects), "seeds": list(seeds), "recipes": _all(recipes)})


def _all(recipes: Sequence[Recipe]) -> list[dict[str, object]]:
    return [asdict(recipe) for recipe in recipes]
