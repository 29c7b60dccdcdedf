"""`edgelora bench trust`: personalization with wrong labels, few samples or unsuitable settings.

Each case changes a person's samples, the base or the length of a run. Everything else is the default of `edgelora
personalize`, including held-out samples and activation. Test samples only choose the length of float LoRA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.base.workers import in_parallel
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.heads.own_rows import rows_of
from edgelora.learn.training.recipe import MODES, Recipe, placed
from edgelora.learn.training.run.host_run import as_board
from edgelora.learn.training.twin.twin_learner import TwinLearner
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.floatnet import layers as floatnet_layers
from edgelora.model.floatnet.layers import Array, FloatNet
from edgelora.model.floatnet.lora import train_float_lora
from edgelora.model.quantization.class_stats import spread
from edgelora.model.quantization.quantize import quantize_on

from .learning import TASKS, base_of, mean_and_error, prepare

CASES = (
    "good",
    "epochs_60",
    "epochs_200",
    "epochs_200_noise_20",
    "three_per_class",
    "one_class",
    "two_classes_35",
    "narrow_logits",
    "one_per_class",
    "two_per_class",
    "five_per_class",
    "noise_20",
    "noise_40",
    "ten_per_class",
)
PER_CLASS = {"one_per_class": 1, "two_per_class": 2, "three_per_class": 3, "five_per_class": 5, "ten_per_class": 10}
NOISE = {"epochs_200_noise_20": 0.2, "noise_20": 0.2, "noise_40": 0.4}  # shares of labels drawn by lot
EPOCHS = {"epochs_60": 60, "epochs_200": 200, "epochs_200_noise_20": 200}
SAME_SAMPLES = {"epochs_60": "good", "epochs_200": "good", "narrow_logits": "good"}  # of cases: float LoRA's are those
FLOAT_EPOCHS = dict.fromkeys(("two_classes_35", *PER_CLASS), (6, 24, 60))  # lengths of float LoRA, others: these
FLOAT_EPOCHS_USUAL = (6, 18)
Share = float  # of 1; a field of the table has that name
NARROW = 1.6  # between the lowest and the highest logit
RECIPES = {"har": Recipe(), "kws": Recipe(rank=4, placement="pointwise")}


@dataclass(frozen=True)
class TrustRow:
    """Mean test accuracies, shares of 1, of a case's runs; stderr: of `active` minus `base`.

    trained: of trained layers alone, whatever judged them; rows: of a person's own rows of the classes alone, with the
    least doubt, None if there can be none; active: of what is in use after a run; worst: the least `active` minus
    `base` of a single run; float: float LoRA of the same mode and samples, at the best of several lengths, None if it
    was left out.
    """

    case: str
    data: str
    mode: str
    runs: int
    base: Share
    trained: Share
    rows: Share | None
    active: Share
    float: Share | None
    stderr: Share
    worst: Share


@dataclass(frozen=True)
class TrustBench:
    rows: list[TrustRow]
    settings: dict[str, object]

    def as_json(self) -> dict[str, object]:
        return {"rows": [asdict(row) for row in self.rows], "settings": self.settings}


@dataclass(frozen=True)
class _Job:
    data: str
    subject: str
    seed: int
    cases: tuple[str, ...]
    with_float: bool


@dataclass(frozen=True)
class _Outcome:
    case: str
    mode: str
    base: Share
    trained: Share
    rows: Share | None
    active: Share
    float: Share | None


def bench_trust(
    data: Sequence[str] = tuple(TASKS),
    cases: Sequence[str] = CASES,
    subjects: Sequence[str] | None = None,
    seeds: Sequence[int] = range(5),
    with_float: bool = True,
    progress: Progress = no_progress,
    workers: int | None = None,
) -> TrustBench:
    """Runs all cases of these data, people and seeds in parallel processes."""
    unknown = [case for case in cases if case not in CASES]
    if unknown:
        raise InputError(f"case {', '.join(unknown)}: choose from {', '.join(CASES)}")
    jobs = []
    for name in data:
        chosen = [s for s in TASKS[name].subjects if subjects is None or s in subjects]
        if chosen:
            prepare(name, chosen[0], seeds, progress, workers)
        jobs += [_Job(name, subject, seed, tuple(cases), with_float) for seed in seeds for subject in chosen]
    if not jobs:
        raise InputError(f"subjects {', '.join(subjects or ())}: none of {', '.join(data)}")
    found: dict[tuple[str, str, str], list[_Outcome]] = {}
    for done, (job, outcomes) in enumerate(in_parallel(_run, [(job,) for job in jobs], workers), 1):
        for one in outcomes:
            found.setdefault((one.case, job.data, one.mode), []).append(one)
        progress(done, len(jobs), f"{job.data}:{job.subject} seed {job.seed}")
    rows = [_row(*key, found[key]) for key in sorted(found, key=lambda k: (k[1], CASES.index(k[0]), k[2]))]
    recipes = {name: asdict(RECIPES[name]) for name in data}
    return TrustBench(rows, {"seeds": list(seeds), "recipes": recipes, "float_epochs": FLOAT_EPOCHS})


def _row(case: str, data: str, mode: str, outcomes: Sequence[_Outcome]) -> TrustRow:
    base, trained, active = (
        round(float(np.mean([getattr(one, what) for one in outcomes])), 4) for what in ("base", "trained", "active")
    )
    gained = [one.active - one.base for one in outcomes]
    error, worst = mean_and_error(gained)[1], round(min(gained), 4)
    rows, beside = (_mean([getattr(one, what) for one in outcomes]) for what in ("rows", "float"))
    return TrustRow(case, data, mode, len(outcomes), base, trained, rows, active, beside, error, worst)


def _mean(shares: Sequence[float | None]) -> float | None:
    """The mean of those that are there."""
    known = [share for share in shares if share is not None]
    return round(float(np.mean(known)), 4) if known else None


def _run(job: _Job) -> tuple[_Job, list[_Outcome]]:
    task = TASKS[job.data]
    net, model = base_of(job.data, "" if task.shared_base else job.subject, job.seed)
    parts = task.load(job.subject)
    model.class_stats = model.class_stats or spread(model, parts.pretrain.x, parts.pretrain.y)
    usual, outcomes, floats = pack_model(model), [], {}
    for case in job.cases:
        rng = np.random.default_rng([job.seed, CASES.index(case), task.subjects.index(job.subject)])
        train, test = _case_data(case, parts.train, parts.test, rng)
        if case == "narrow_logits":
            elm = pack_model(quantize_on(_narrow(net, parts.pretrain.x[:256]), parts.pretrain))
        else:
            elm = usual
        for mode in MODES:
            recipe = replace(RECIPES[job.data], mode=mode, seed=job.seed, epochs=EPOCHS.get(case, 0))
            same = SAME_SAMPLES.get(case, case), mode
            if job.with_float and same not in floats:
                floats[same] = _float(net, train, test, recipe, task.float_rates[mode], case)
            outcomes.append(_integer(elm, train, test, recipe, case, floats.get(same)))
    return job, outcomes


def _case_data(case: str, train: Dataset, test: Dataset, rng: np.random.Generator) -> tuple[Dataset, Dataset]:
    """Training and test samples of a case."""
    y, number = train.y, np.arange(len(train))
    classes = np.unique(y)
    if case in PER_CLASS:
        count = PER_CLASS[case]
        chosen = np.concatenate([np.sort(rng.permutation(number[y == one])[:count]) for one in classes])
        return _picked(train, chosen), test
    if case == "one_class":
        return _picked(train, number[y == rng.choice(classes)]), test
    if case == "two_classes_35":
        pair = rng.choice(classes, 2, replace=False)
        chosen = np.sort(rng.permutation(number[np.isin(y, pair)])[:35])
        return _picked(train, chosen), _picked(test, np.flatnonzero(np.isin(test.y, pair)))
    if case in NOISE:
        wrong = rng.random(len(y)) < NOISE[case]
        return Dataset(train.x, np.where(wrong, rng.choice(classes, len(y)), y), train.labels), test
    return train, test


def _picked(data: Dataset, chosen: NDArray[np.int64]) -> Dataset:
    return Dataset(data.x[chosen], data.y[chosen], data.labels)


def _narrow(net: FloatNet, x: Array) -> FloatNet:
    """The same network with logits so small that probabilities hardly differ."""
    logits = floatnet_layers.forward(net, x)[-1]
    factor = NARROW / float(logits.max() - logits.min())
    last = max(i for i, layer in enumerate(net.layers) if layer.weights is not None)
    layers = list(net.layers)
    weights, bias = layers[last].weights, layers[last].bias
    assert weights is not None and bias is not None
    layers[last] = replace(layers[last], weights=weights * factor, bias=bias * factor)
    return replace(net, layers=layers)


def _integer(elm: bytes, train: Dataset, test: Dataset, recipe: Recipe, case: str, beside: float | None) -> _Outcome:
    model = unpack_model(elm)
    samples = Samples(model.input.quantize(train.x), train.y)
    x = model.input.quantize(test.x)
    learner = TwinLearner(elm, recipe.settings(elm))

    def accuracy(adapter: bytes | None) -> float:
        learner.use(adapter)
        return float(np.mean(learner.predict(x) == test.y))

    run = as_board(elm, samples, recipe)
    layers = as_board(elm, samples, replace(recipe, rows=False)) if model.class_stats else run
    base = accuracy(None)
    active = accuracy(run.adapter) if run.verdict and run.verdict.is_for_use else base
    rows = accuracy(rows_of(elm, samples)) if model.class_stats else None
    return _Outcome(case, recipe.mode, base, accuracy(layers.adapter), rows, active, beside)


def _float(net: FloatNet, train: Dataset, test: Dataset, recipe: Recipe, rate: float, case: str) -> float:
    return max(
        train_float_lora(
            net,
            train,
            test,
            recipe.rank,
            placed(net.layers, recipe.placement),
            epochs,
            recipe.seed,
            rate,
            recipe.mode == "trainable_a",
            batch=recipe.micro_batch,
        ).accuracy
        for epochs in FLOAT_EPOCHS.get(case, FLOAT_EPOCHS_USUAL)
    )
