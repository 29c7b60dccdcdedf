"""`edgelora bench learning`: leave-one-out over people or voices, on the host twin, compared with float LoRA.

For each subject and seed a base is pretrained without the subject and quantized. Float LoRA (Adam) and integer LoRA in
both modes then adapt it to the subject's training samples and are tested on others, with the same settings for all
subjects. `in_use`: what is in use after `edgelora personalize` by default, which holds samples out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.base.workers import in_parallel
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.learn.training.data.base import pretrained_har, pretrained_kws
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.recipe import LEARNING_RATES, MODES, MOMENTA, Recipe, placed
from edgelora.learn.training.run.host_run import as_board
from edgelora.learn.training.twin.loop import train
from edgelora.learn.training.twin.twin_learner import TwinLearner
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.datasets.har import HAR_SUBJECTS, load_har
from edgelora.model.datasets.keywords import VOICES, load_kws
from edgelora.model.floatnet import layers
from edgelora.model.floatnet.layers import FloatNet
from edgelora.model.floatnet.lora import ALPHA, RATE_FROZEN_A, RATE_TRAINED_A, train_float_lora
from edgelora.model.quantization.quantize import quantize

from . import other_data


class Parts(Protocol):
    """The pretraining data without a subject, and the subject's own."""

    @property
    def pretrain(self) -> Dataset: ...
    @property
    def train(self) -> Dataset: ...
    @property
    def test(self) -> Dataset: ...


@dataclass(frozen=True)
class Task:
    """A benchmark task. Learning rates, integer and float, and momenta are given for each mode.

    load: a subject's data by name; pretrained: a base by seed without the subject, or without any (shared_base).
    """

    subjects: tuple[str, ...]
    seeds: int
    load: Callable[[str], Parts]
    pretrained: Callable[[str, int], FloatNet]
    recipe: Recipe
    rates: dict[str, int]
    momenta: dict[str, int]
    float_rates: dict[str, float]
    augmentation: str
    shared_base: bool = False

    def chosen(self, subjects: Sequence[str] | None) -> Sequence[str]:
        """These subjects, or all. ValueError for an unknown one."""
        unknown = set(subjects or ()) - set(self.subjects)
        if unknown:
            raise InputError(f"subject {', '.join(sorted(unknown))}: choose from {', '.join(self.subjects)}")
        return subjects or self.subjects

    def recipe_for(self, mode: str, seed: int, recipe: Recipe) -> Recipe:
        """`recipe` in a mode, with this task's rate and momentum for it unless given."""
        rate = self.rates[mode] if recipe.learning_rate is None else recipe.learning_rate
        momentum = self.momenta[mode] if recipe.momentum is None else recipe.momentum
        return replace(recipe, mode=mode, seed=seed, learning_rate=rate, momentum=momentum)


TASKS = {
    "har": Task(
        tuple(map(str, HAR_SUBJECTS)),
        5,
        lambda subject: load_har(int(subject)),
        lambda subject, seed: pretrained_har(int(subject), seed),
        Recipe(epochs=18),
        LEARNING_RATES,
        MOMENTA,
        {"frozen_a": RATE_FROZEN_A, "trainable_a": RATE_TRAINED_A},
        "motion",
    ),
    "kws": Task(
        tuple(VOICES),
        3,
        load_kws,
        lambda _, seed: pretrained_kws(seed),
        Recipe(rank=4, epochs=12, placement="pointwise"),
        # The integers' rates were chosen on eight voices that are not among these, with one base for a frozen A and two
        # for a trained one; floats' ones long ago, on other features and these voices' test clips.
        {"frozen_a": 12500, "trainable_a": 20000},
        MOMENTA,
        {"frozen_a": 0.1, "trainable_a": 0.03},
        "speech",
        shared_base=True,
    ),
}


OTHER_TASKS = {  # nothing was chosen on these
    **{
        which: replace(
            TASKS["har"],
            seeds=3,
            load=functools.partial(other_data.axes, which=which),
            pretrained=functools.partial(other_data.pretrained_axes, which=which),
        )
        for which in other_data.AXES
    },
    **{
        f"digits-{clips}": replace(
            TASKS["kws"],
            subjects=other_data.SPEAKERS,
            seeds=1,
            load=functools.partial(other_data.Digits, clips=clips),
            pretrained=lambda _, seed: other_data.pretrained_digits(seed),
        )
        for clips in (10, 20)
    },
}
ALL_TASKS = TASKS | OTHER_TASKS


@dataclass(frozen=True)
class LearningRun:
    """Test accuracies (fractions) of one subject and seed.

    float_lora: with A trained, as usual; in_use: after a run as `edgelora personalize` makes it by default.
    """

    subject: str
    seed: int
    float_base: float
    base: float
    float_lora: float
    float_lora_frozen_a: float
    integer_frozen_a: float
    integer_trainable_a: float
    in_use_frozen_a: float
    in_use_trainable_a: float


PAIRS = {  # of figures whose differences are reported
    "integer_frozen_a": "float_lora_frozen_a",
    "integer_trainable_a": "float_lora",
    "in_use_frozen_a": "float_lora_frozen_a",
    "in_use_trainable_a": "float_lora",
}


@dataclass(frozen=True)
class LearningBench:
    """All runs and their means; mean has the keys base, float_lora, integer_frozen_a, integer_trainable_a and more."""

    runs: list[LearningRun]
    settings: dict[str, object]

    @property
    def mean(self) -> dict[str, float]:
        return means(self.runs)

    @property
    def minus_float(self) -> dict[str, tuple[float, float]]:
        """Mean and standard error of what integers have more than float LoRA of the same mode."""
        return {
            ours: mean_and_error([getattr(run, ours) - getattr(run, theirs) for run in self.runs])
            for ours, theirs in PAIRS.items()
        }

    def as_json(self) -> dict[str, object]:
        runs = [asdict(run) for run in self.runs]
        return {"mean": self.mean, "minus_float": self.minus_float, "runs": runs, "settings": self.settings}


def means(runs: Sequence[Any]) -> dict[str, float]:
    """Means of all figures of runs (dataclasses of one type) but subject, seed and rank."""
    keys = [key for key in asdict(runs[0]) if key not in ("subject", "seed", "rank")]
    return {key: round(float(np.mean([getattr(run, key) for run in runs])), 4) for key in keys}


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard error (nan for a single value)."""
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return round(float(np.mean(values)), 4), round(error, 4)


def run_one(name: str, subject: str, seed: int, recipe: Recipe) -> LearningRun:
    """One subject, one seed: quantization of the base and the four adaptations."""
    task = ALL_TASKS[name]
    parts = task.load(subject)
    net, model = base_of(name, "" if task.shared_base else subject, seed)
    elm = pack_model(model)
    train_part, test_part = parts.train, parts.test
    samples = Samples(model.input.quantize(train_part.x), train_part.y)
    test = Samples(model.input.quantize(test_part.x), test_part.y)
    integer, floats, in_use = {}, {}, {}
    for mode in MODES:
        mine = task.recipe_for(mode, seed, recipe)
        settings = mine.resolved(elm, len(samples.of_epoch))
        learner = TwinLearner(elm, settings.session)
        base = float(np.mean(learner.predict(test.x) == test.y))
        learner.begin(seed)
        train(learner, samples, settings)
        integer[mode] = float(np.mean(learner.predict(test.x) == test.y))
        in_use[mode] = _in_use(elm, learner, samples, test, replace(mine, epochs=0), base)
        floats[mode] = train_float_lora(
            net,
            train_part,
            test_part,
            mine.rank,
            placed(net.layers, mine.placement),
            mine.epochs,
            seed,
            task.float_rates[mode],
            mode == "trainable_a",
            batch=mine.micro_batch,
        ).accuracy
    return LearningRun(
        subject,
        seed,
        layers.accuracy(net, test_part.x, test_part.y),
        base,
        floats["trainable_a"],
        floats["frozen_a"],
        integer["frozen_a"],
        integer["trainable_a"],
        in_use["frozen_a"],
        in_use["trainable_a"],
    )


def _in_use(elm: bytes, learner: TwinLearner, samples: Samples, test: Samples, recipe: Recipe, base: float) -> float:
    """The accuracy of what is in use after a run with validation."""
    run = as_board(elm, samples, recipe)
    if not (run.verdict and run.verdict.is_for_use):
        return base
    learner.use(run.adapter)
    return float(np.mean(learner.predict(test.x) == test.y))


@functools.lru_cache(maxsize=1)
def base_of(name: str, subject: str, seed: int) -> tuple[FloatNet, QuantModel]:
    """A float base pretrained without the subject, and the same quantized."""
    task = ALL_TASKS[name]
    net = task.pretrained(subject, seed)
    return net, quantize(net, task.load(subject or task.subjects[0]).pretrain.x)


def bench_learning(
    name: str,
    recipe: Recipe,
    subjects: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    progress: Progress = no_progress,
    workers: int | None = None,
) -> LearningBench:
    """Runs all subjects and seeds of a task, or the given ones, in parallel processes."""
    task = ALL_TASKS[name]
    subjects, seeds = task.chosen(subjects), seeds or range(task.seeds)
    prepare(name, subjects[0], seeds, progress, workers)
    jobs = [(name, subject, seed, recipe) for seed in seeds for subject in subjects]
    runs = []
    for run in in_parallel(run_one, jobs, workers):
        runs.append(run)
        progress(len(runs), len(jobs), f"subject {run.subject} seed {run.seed}")
    return LearningBench(runs, _settings(name, recipe, subjects, seeds))


def prepare(name: str, subject: str, seeds: Sequence[int], progress: Progress, workers: int | None = None) -> None:
    """Creates data and bases that subjects share before several processes need them."""
    if not ALL_TASKS[name].shared_base:
        return
    _ = ALL_TASKS[name].load(subject).pretrain
    for done, _ in enumerate(in_parallel(_pretrained, [(name, subject, seed) for seed in seeds], workers), 1):
        progress(done, len(seeds), "bases")


def _pretrained(name: str, subject: str, seed: int) -> FloatNet:
    return ALL_TASKS[name].pretrained(subject, seed)


def _settings(name: str, recipe: Recipe, subjects: Sequence[str], seeds: Sequence[int]) -> dict[str, object]:
    task = ALL_TASKS[name]
    settings = asdict(recipe) | {
        "task": name,
        "learning_rate": recipe.learning_rate or task.rates,
        "momentum": task.momenta if recipe.momentum is None else recipe.momentum,
        "subjects": list(subjects),
        "seeds": list(seeds),
        "float_lora_rate": task.float_rates["trainable_a"],
        "float_lora_rate_frozen_a": task.float_rates["frozen_a"],
        "float_lora_alpha": ALPHA,
    }
    for key in ("mode", "seed", "learning_rate", "momentum"):
        settings.pop(key)
    return settings


def keyword_elm(seed: int = 0) -> bytes:
    """The keyword network, pretrained and quantized, as a `.elm` file's bytes."""
    return pack_model(base_of("kws", "", seed)[1], "kws.elm")
