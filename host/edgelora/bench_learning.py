"""`edgelora bench learning`: every person left out in turn, by the host twin, beside float LoRA.

For each subject and seed a base is pretrained on the other people and quantized; then float LoRA (Adam) and integer
LoRA in both modes adapt it to the person's first 30 % and are tested on the last 60 %, with the same settings for all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace

import numpy as np

from . import data, float_lora, formats, nn, quantize
from .personalize import LEARNING_RATES, MOMENTA, Recipe, Samples, TwinLearner, train
from .workflow import pretrained_har

MODES = ("frozen_a", "trainable_a")


@dataclass(frozen=True)
class LearningRun:
    """Test accuracies (shares of 1) of one subject and seed. float_lora: with A trained, as LoRA is."""

    subject: int
    seed: int
    float_base: float
    base: float
    float_lora: float
    float_lora_frozen_a: float
    integer_frozen_a: float
    integer_trainable_a: float


@dataclass(frozen=True)
class LearningBench:
    """All runs and their means; mean has the keys base, float_lora, integer_frozen_a, integer_trainable_a and more."""

    runs: list[LearningRun]
    settings: dict[str, object]

    @property
    def mean(self) -> dict[str, float]:
        keys = [key for key in asdict(self.runs[0]) if key not in ("subject", "seed")]
        return {key: round(float(np.mean([getattr(run, key) for run in self.runs])), 4) for key in keys}

    def as_json(self) -> dict[str, object]:
        return {"mean": self.mean, "runs": [asdict(run) for run in self.runs], "settings": self.settings}


def run_one(subject: int, seed: int, recipe: Recipe) -> LearningRun:
    """One person, one seed: pretraining, quantization and the four adaptations."""
    har = data.load_har(subject)
    net = pretrained_har(subject, seed)
    model = quantize.quantize(net, har.pretrain.x)
    elm = formats.pack_model(model)
    test = Samples(model.input.quantize(har.test.x), har.test.y)
    samples = Samples(model.input.quantize(har.train.x), har.train.y)
    accuracy = {}
    for mode in MODES:
        mine = replace(recipe, mode=mode, seed=seed)
        learner = TwinLearner(elm, mine.ranks(model), mine)
        base = float(np.mean(learner.predict(test.x) == test.y))
        learner.begin(seed)
        train(learner, samples, mine)
        accuracy[mode] = float(np.mean(learner.predict(test.x) == test.y))
    floats = {
        train_a: float_lora.train_float_lora(
            net,
            har.train,
            har.test,
            recipe.rank,
            epochs=recipe.epochs,
            seed=seed,
            train_a=train_a,
            batch=recipe.micro_batch,
        ).accuracy
        for train_a in (True, False)
    }
    return LearningRun(
        subject,
        seed,
        nn.accuracy(net, har.test.x, har.test.y),
        base,
        floats[True],
        floats[False],
        accuracy["frozen_a"],
        accuracy["trainable_a"],
    )


def bench_learning(
    subjects: Sequence[int],
    seeds: Sequence[int],
    recipe: Recipe,
    progress: Callable[[int, int, str], None] | None = None,
    workers: int | None = None,
) -> LearningBench:
    """All subjects and seeds, in parallel processes."""
    jobs = [(subject, seed) for seed in seeds for subject in subjects]
    runs = []
    with ProcessPoolExecutor(workers or os.cpu_count(), initializer=_one_thread) as pool:
        futures = [pool.submit(run_one, subject, seed, recipe) for subject, seed in jobs]
        for done, future in enumerate(futures, 1):
            runs.append(future.result())
            if progress:
                progress(done, len(jobs), f"subject {runs[-1].subject} seed {runs[-1].seed}")
    settings = asdict(recipe) | {
        "learning_rate": recipe.given_rate or LEARNING_RATES,
        "momentum": MOMENTA if recipe.given_momentum is None else recipe.given_momentum,
        "subjects": list(subjects),
        "seeds": list(seeds),
        "float_lora_rate": float_lora.RATE_TRAINED_A,
        "float_lora_rate_frozen_a": float_lora.RATE_FROZEN_A,
        "float_lora_alpha": float_lora.ALPHA,
    }
    for key in ("mode", "seed", "given_rate", "given_momentum"):
        settings.pop(key)
    return LearningBench(runs, settings)


def _one_thread() -> None:
    """A worker leaves the other cores to the other workers."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return
    threadpool_limits(1)
