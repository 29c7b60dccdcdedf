"""`edgelora bench qat`: adapters trained on the integer twin, compared with float LoRA rounded to integers.

All adapt the same base to the same samples, in the same layers, at low rank, and are tested on the integer twin.
Rounding is that of `import-adapter`, calibrated on the training samples. The twin trains like a board, or
quantization-aware with augmented samples (`train-adapter --qat --augment`). As that takes longer, float LoRA is also
run with the same epochs, batches, augmentation and running mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from edgelora.base.progress import Progress, no_progress
from edgelora.base.workers import in_parallel
from edgelora.core.formats.ela import pack_adapter
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin.session import Session
from edgelora.learn.training.qat import KEPT, RECIPE, train_qat
from edgelora.learn.training.recipe import MODES, Recipe, placed
from edgelora.learn.training.samples import Samples
from edgelora.learn.training.twin_learner import train_twin
from edgelora.model.floatnet import augment as floatnet_augment
from edgelora.model.floatnet.layers import FloatNet
from edgelora.model.floatnet.lora import ALPHA, train_float_lora
from edgelora.model.floatnet.train import Augment
from edgelora.model.quantization.adapter_fit import fit_adapter

from .learning import TASKS, Parts, base_of, mean_and_error, means, prepare

RANKS = (1, 2)
SEEDS = 3


@dataclass(frozen=True)
class QatRun:
    """Test accuracies (shares of 1) of a subject, seed and rank.

    base: the INT8 network alone; float_*: float LoRA as trained, on the float base; rounded_*: it as an integer
    adapter (rounded_alike: with all that qat has); integer_*: trained in integers as a board does; qat:
    quantization-aware. branch_error: of rounding with A trained, the mean over layers.
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
    rounded_alike: float
    qat: float
    branch_error: float


@dataclass(frozen=True)
class QatBench:
    runs: list[QatRun]
    settings: dict[str, object]

    @property
    def means(self) -> dict[int, dict[str, float]]:
        """Means of all figures by rank."""
        ranks = sorted({run.rank for run in self.runs})
        return {rank: means([run for run in self.runs if run.rank == rank]) for rank in ranks}

    @property
    def gains(self) -> dict[int, dict[str, tuple[float, float]]]:
        """Gains of the twin's adapters over rounded ones by rank: mean of paired differences and standard error."""
        return {
            rank: {
                f"{mine} - {other}": _paired([run for run in self.runs if run.rank == rank], mine, other)
                for mine in ("integer_trainable_a", "qat")
                for other in ("rounded_trainable_a", "rounded_alike")
            }
            for rank in self.means
        }

    def as_json(self) -> dict[str, object]:
        return {
            "means": self.means,
            "gains": self.gains,
            "runs": [asdict(run) for run in self.runs],
            "settings": self.settings,
        }


def _paired(runs: Sequence[QatRun], mine: str, other: str) -> tuple[float, float]:
    return mean_and_error([getattr(run, mine) - getattr(run, other) for run in runs])


@dataclass(frozen=True)
class _Case:
    """A subject's samples and a base pretrained without it."""

    parts: Parts
    net: FloatNet
    model: QuantModel
    elm: bytes
    samples: Samples
    test: Samples

    @staticmethod
    def of(name: str, subject: str, seed: int) -> _Case:
        parts = TASKS[name].load(subject)
        net, model = base_of(name, "" if TASKS[name].shared_base else subject, seed)
        samples, test = (Samples(model.input.quantize(part.x), part.y) for part in (parts.train, parts.test))
        return _Case(parts, net, model, pack_model(model), samples, test)

    def accuracy(self, recipe: Recipe, adapter: bytes | None) -> float:
        session = Session(self.elm, recipe.ranks(self.elm), "infer", 1)
        session.use(adapter)
        return session.accuracy(self.test.x, self.test.y)

    def integer(self, recipe: Recipe) -> float:
        return self.accuracy(recipe, train_twin(self.elm, self.samples, recipe).adapter)

    def qat(self, recipe: Recipe, augment: Augment) -> float:
        return self.accuracy(recipe, train_qat(self.elm, self.samples, recipe, augment=augment).adapter)

    def rounded(
        self, recipe: Recipe, rate: float, augment: Augment | None = None, kept: float | None = None
    ) -> tuple[float, float, float]:
        """Accuracy of float LoRA with the recipe's settings, that of it rounded, and the mean error of branches."""
        floats = train_float_lora(
            self.net,
            self.parts.train,
            self.parts.test,
            recipe.rank,
            placed(self.net.layers, recipe.placement),
            recipe.epochs,
            recipe.seed,
            rate,
            recipe.mode == "trainable_a",
            batch=recipe.micro_batch,
            augment=augment,
            kept=kept,
        )
        scale = ALPHA / recipe.rank
        products = {i: (a.a, scale * a.b) for i, a in floats.adapters.items()}
        rounded = fit_adapter(self.elm, products, x=self.parts.train.x)
        errors = [fit.branch_error for fit in rounded.fits if fit.branch_error is not None]
        return floats.accuracy, self.accuracy(recipe, pack_adapter(rounded.adapter)), float(np.mean(errors))


def run_one(name: str, subject: str, seed: int, recipe: Recipe) -> QatRun:
    """One subject, seed and rank (the recipe's), in all ways."""
    case, task = _Case.of(name, subject, seed), TASKS[name]
    by_mode = {mode: task.recipe_for(mode, seed, recipe) for mode in MODES}
    frozen, trained = by_mode["frozen_a"], by_mode["trainable_a"]
    float_frozen, rounded_frozen, _ = case.rounded(frozen, task.float_rates["frozen_a"])
    float_trained, rounded_trained, branch_error = case.rounded(trained, task.float_rates["trainable_a"])
    host = replace(RECIPE, rank=recipe.rank, placement=recipe.placement, seed=seed)
    augment = floatnet_augment.augmentation(task.augmentation, case.model.input.shape)
    return QatRun(
        subject,
        seed,
        recipe.rank,
        base=case.accuracy(frozen, None),
        float_frozen_a=float_frozen,
        float_trainable_a=float_trained,
        rounded_frozen_a=rounded_frozen,
        rounded_trainable_a=rounded_trained,
        integer_frozen_a=case.integer(frozen),
        integer_trainable_a=case.integer(trained),
        rounded_alike=case.rounded(host, task.float_rates["trainable_a"], augment, KEPT)[1],
        qat=case.qat(host, augment),
        branch_error=round(branch_error, 5),
    )


def bench_qat(
    name: str,
    recipes: Sequence[Recipe],
    subjects: Sequence[str] | None = None,
    seeds: Sequence[int] = range(SEEDS),
    progress: Progress = no_progress,
    workers: int | None = None,
) -> QatBench:
    """Runs all subjects and seeds with each recipe (of different ranks) in parallel processes."""
    subjects = TASKS[name].chosen(subjects)
    prepare(name, subjects[0], seeds, progress, workers)
    jobs = [(name, subject, seed, recipe) for seed in seeds for subject in subjects for recipe in recipes]
    runs = []
    for run in in_parallel(run_one, jobs, workers):
        runs.append(run)
        progress(len(runs), len(jobs), f"subject {run.subject} seed {run.seed} rank {run.rank}")
    return QatBench(runs, {"task": name, "subjects": list(subjects), "seeds": list(seeds), "recipes": _all(recipes)})


def _all(recipes: Sequence[Recipe]) -> list[dict[str, object]]:
    return [asdict(recipe) for recipe in recipes]
