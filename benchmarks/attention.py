"""`edgelora bench attention`: transformers that learn their owner, on the host twin, beside float LoRA; what they take
on a Pico is in attention_pico.py.

A language model of characters is pretrained on authors of another century, an encoder of motion on other people. The
owner's first text, or windows, teach adapters on all matrices; later ones test. All seeds of an author share a base,
which is the only one; a seed draws A and the order of samples.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgelora.base import resources
from edgelora.base.errors import InputError
from edgelora.base.progress import Progress, no_progress
from edgelora.base.workers import in_parallel
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.files import write_atomic
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin.session import NAT
from edgelora.learn.training.data.base import pretrained_encoder, pretrained_language
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.recipe import MODES, Recipe
from edgelora.learn.training.twin.loop import train
from edgelora.learn.training.twin.twin_learner import TwinLearner
from edgelora.model.datasets import text
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.datasets.har import ARMS, HAR_PEOPLE, HAR_SUBJECTS, load_har, load_har_arm
from edgelora.model.floatnet import layers
from edgelora.model.floatnet.layers import Array, FloatNet
from edgelora.model.floatnet.lora import ALPHA, merged, train_float_lora
from edgelora.model.floatnet.train import softmax_cross_entropy
from edgelora.model.quantization.quantize import HEAD_ROOM, quantize

from .attention_ops import Learning, OpErrors, measure_ops
from .attention_pico import PARTS as PICO_PARTS
from .attention_pico import PicoBench, bench_pico
from .learning import mean_and_error

CACHE = resources.cache("attention")
CALIBRATION = 64  # windows that a language model is calibrated on
SEEDS = {"lm": 3, "encoder": 5}
NOT_A_SYMBOL = 255
COMPARED = 32  # windows whose gradients are compared


@dataclass(frozen=True)
class Learned:
    """Bits a character of an author, or accuracies of a person, on later text or windows."""

    who: str
    seed: int
    float_base: float
    int8_base: float
    float_lora: float
    trained_a: float
    frozen_a: float


INTEGERS = ("trained_a", "frozen_a")
FIGURES = ("float_base", "int8_base", "float_lora", *INTEGERS)


@dataclass(frozen=True)
class Task:
    """What learns, with settings that were chosen on `choosing`: the integers' ranks and rates by mode,
    and float LoRA's rate; its rank is that of a trained A.

    data: somebody's windows that teach and test; pretrained, calibration: a base without them, and its windows; room:
    of the logits' range.
    """

    people: tuple[str, ...]
    choosing: tuple[str, ...]
    recipe: Recipe
    ranks: dict[str, int]
    rates: dict[str, int]
    float_rate: float
    data: Callable[[str], tuple[Dataset, Dataset]]
    pretrained: Callable[..., FloatNet]
    calibration: Callable[[str], Array]
    room: float
    scores: Callable[[FloatNet, Dataset], float]
    shared_base: bool = False


@dataclass(frozen=True)
class AttentionBench:
    """Runs by part, errors of operators, settings, and times of a Pico."""

    runs: dict[str, list[Learned]]
    ops: OpErrors | None
    settings: dict[str, Any]
    pico: PicoBench | None = None

    def rows(self) -> list[tuple[object, ...]]:
        """A row of figures for each part that learns."""
        columns = (*FIGURES, "share_of_gain", "share_of_gain_frozen_a")
        return [(name, *(_figures_of(name, runs)[key] for key in columns)) for name, runs in self.runs.items() if runs]

    def as_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {name: _figures_of(name, runs) for name, runs in self.runs.items() if runs}
        of_pico = self.pico.as_json() if self.pico else {}
        return told | ({"ops": asdict(self.ops)} if self.ops else {}) | of_pico | {"settings": self.settings}


def _figures_of(name: str, runs: Sequence[Learned]) -> dict[str, Any]:
    """Means; shares of float LoRA's gain that the integers have; what they have more than it, with standard error."""
    mean = {figure: round(float(np.mean([getattr(run, figure) for run in runs])), 4) for figure in FIGURES}
    gain = mean["float_lora"] - mean["float_base"]
    shares = {mode: round((mean[mode] - mean["int8_base"]) / gain, 3) if gain else 0.0 for mode in INTEGERS}
    minus = {mode: mean_and_error([getattr(run, mode) - run.float_lora for run in runs]) for mode in INTEGERS}
    return {
        **mean,
        "share_of_gain": shares["trained_a"],
        "share_of_gain_frozen_a": shares["frozen_a"],
        "minus_float_lora": minus,
        "authors" if name == "lm" else "subjects": len({run.who for run in runs}),
        "seeds": len({run.seed for run in runs}),
        "runs": [asdict(run) for run in runs],
    }


# ---- data and bases --------------------------------------------------------------------------------------------------


def _text(author: str) -> tuple[Dataset, Dataset]:
    """Windows that teach, and those that test: of these only the later positions count."""
    parts = text.load_author(author)
    y = parts.test.y.copy()
    y[:, : text.WINDOW - text.COUNTED] = NOT_A_SYMBOL
    return parts.train, Dataset(parts.test.x, y)


def _motion(subject: str) -> tuple[Dataset, Dataset]:
    if int(subject) in HAR_SUBJECTS:
        har = load_har(int(subject))
        return har.train, har.test
    arms = [load_har_arm(int(subject), arm) for arm in ARMS]
    train_part, test_part = (
        Dataset(np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts]), parts[0].labels)
        for parts in zip(*arms, strict=True)
    )
    return train_part, test_part


def _language(_: str, progress: Progress = no_progress, epochs: int | None = None) -> FloatNet:
    """Pretrained once over the text, whatever `epochs`."""
    return pretrained_language(0, progress)


def _text_windows(_: str) -> Array:
    x = text.load_base_text()[0].x
    return x[:: len(x) // CALIBRATION][:CALIBRATION]


def _encoder(subject: str, progress: Progress = no_progress, epochs: int | None = None) -> FloatNet:
    return pretrained_encoder(int(subject), 0, progress, epochs=epochs)


def _motion_windows(subject: str) -> Array:
    return load_har(int(subject) if int(subject) in HAR_SUBJECTS else HAR_SUBJECTS[0]).pretrain.x


@functools.lru_cache(maxsize=1)
def base_of(name: str, who: str, epochs: int | None = None) -> tuple[FloatNet, QuantModel]:
    """A base that has not learned from somebody, float and quantized."""
    task = TASKS[name]
    net = task.pretrained(who, epochs=epochs)
    return net, quantize(net, task.calibration(who), head_room=task.room)


def bits(net: FloatNet, test: Dataset) -> float:
    """Bits a character of a float language model, where there is one to guess."""
    logits = layers.predict(net, test.x, 64).reshape(*test.y.shape, -1)
    counted = test.y < logits.shape[-1]
    return softmax_cross_entropy(logits[counted], test.y[counted])[0] / float(np.log(2))


def _accuracy(net: FloatNet, test: Dataset) -> float:
    return layers.accuracy(net, test.x, test.y)


TASKS = {
    "lm": Task(
        text.AUTHORS,
        text.CHOOSING,
        Recipe(epochs=2, micro_batch=4, momentum=3),
        {"trainable_a": 4, "frozen_a": 8},
        {"trainable_a": 6000, "frozen_a": 9000},
        0.01,
        _text,
        _language,
        _text_windows,
        1.5,
        bits,
        shared_base=True,
    ),
    "encoder": Task(
        tuple(map(str, HAR_SUBJECTS)),
        tuple(str(subject) for subject in HAR_PEOPLE if subject not in HAR_SUBJECTS),
        Recipe(epochs=18),
        {"trainable_a": 8, "frozen_a": 8},
        {"trainable_a": 7000, "frozen_a": 6000},
        0.014,
        _motion,
        _encoder,
        _motion_windows,
        HEAD_ROOM,
        _accuracy,
    ),
}


# ---- runs ------------------------------------------------------------------------------------------------------------


def samples_of(model: QuantModel, part: Dataset) -> Samples:
    """A part of the data as a base takes it."""
    if not model.learns_sequences:
        return Samples(model.quantize(part.x), part.y)
    return Samples(model.quantize(part.x), np.zeros(len(part), np.int64), model.targets(part.y))


def score(learner: TwinLearner, model: QuantModel, test: Samples) -> float:
    """Bits a character, or accuracy, of what is in use."""
    if model.learns_sequences:
        return float(learner.losses(test.x, test.targets).mean() / NAT / np.log(2))
    return float(np.mean(learner.predict(test.x) == test.y))


def learned(name: str, who: str, seed: int, epochs: int | None = None) -> Learned:
    """One person, one seed. epochs: those of pretraining and learning, the task's own by default."""
    task = _task(name, epochs)
    (taught, later), (net, model) = task.data(who), base_of(name, "" if task.shared_base else who, epochs)
    elm, samples, test = pack_model(model), samples_of(model, taught), samples_of(model, later)
    found = {}
    for mode in MODES:
        recipe = replace(task.recipe, rank=task.ranks[mode], mode=mode, learning_rate=task.rates[mode], seed=seed)
        settings = recipe.resolved(elm, len(samples))
        learner = TwinLearner(elm, settings.session)
        base = score(learner, model, test)
        learner.begin(seed)
        learner.use(train(learner, samples, settings).adapter)
        found[mode] = score(learner, model, test)
    epochs, rank, glance = task.recipe.epochs, task.ranks["trainable_a"], Dataset(later.x[:1], later.y[:1])
    lora = train_float_lora(net, taught, glance, rank, epochs=epochs, seed=seed, lr=task.float_rate)
    adapted = task.scores(merged(net, lora.adapters, ALPHA), later)
    figures = (task.scores(net, later), base, adapted, found["trainable_a"], found["frozen_a"])
    return Learned(who, seed, *(round(figure, 4) for figure in figures))


def bench_attention(
    parts: Sequence[str],
    people: Sequence[str] | None = None,
    seeds: int | None = None,
    choosing: bool = False,
    progress: Progress = no_progress,
    workers: int | None = None,
    epochs: int | None = None,
    cases: Sequence[str] | None = None,
    symbols: int | None = None,
) -> AttentionBench:
    """Runs these parts. people: authors and subjects, all by default; choosing: those that settings were chosen on;
    epochs: of pretraining the encoder and of learning, the tasks' own by default; cases: of a Pico, all by default;
    symbols: typed on it, a window by default.

    Results are kept in the cache, and taken from there by the same bench of the same sources.
    """
    runs: dict[str, list[Learned]] = {}
    for name in [part for part in parts if part in TASKS]:
        task = TASKS[name]
        able = task.choosing if choosing else task.people
        chosen = [who for who in able if people is None or who in people]
        jobs = [(name, who, seed, epochs) for seed in range(seeds or SEEDS[name]) for who in chosen]
        for who in chosen[:1] if task.shared_base else chosen:
            task.pretrained(who, progress, epochs)  # once, before several processes need it
        runs[name] = []
        for run in in_parallel(_kept, jobs, workers):
            runs[name].append(run)
            progress(len(runs[name]), len(jobs), f"{run.who} seed {run.seed}: {run.int8_base} -> {run.trained_a}")
    if people is not None and not any(runs.values()):
        known = [who for name in runs for who in (TASKS[name].choosing if choosing else TASKS[name].people)]
        raise InputError(f"{', '.join(people)}: choose from {', '.join(known)}")
    ops = measure_ops(_learning(), progress) if "ops" in parts else None
    of_pico = [part for part in parts if part in PICO_PARTS]
    pico = bench_pico(of_pico, cases, symbols, progress) if of_pico else None
    return AttentionBench(runs, ops, {name: _settings(name, epochs) for name in runs}, pico)


def _learning() -> Learning:
    """What the language model learns from an author on whom settings were chosen: the first windows."""
    (taught, _), (net, model) = _text(text.CHOOSING[0]), base_of("lm", "")
    part = Dataset(taught.x[:COMPARED], taught.y[:COMPARED])
    return Learning(net, model, part, samples_of(model, part))


def _task(name: str, epochs: int | None) -> Task:
    """A task with so many epochs of learning, its own by default."""
    task = TASKS[name]
    return replace(task, recipe=replace(task.recipe, epochs=epochs)) if epochs else task


def _settings(name: str, epochs: int | None = None) -> dict[str, Any]:
    task = _task(name, epochs)
    of_recipe = {key: getattr(task.recipe, key) for key in ("epochs", "micro_batch", "momentum_shift", "placement")}
    return {
        **of_recipe,
        "rank": task.ranks,
        "learning_rate": task.rates,
        "float_lora_rate": task.float_rate,
        "float_lora_alpha": ALPHA,
    }


def _kept(name: str, who: str, seed: int, epochs: int | None) -> Learned:
    """The result that is kept; it is made first if there is none of these settings and sources."""
    path = CACHE / f"{name}-{who}-{seed}-{_digest(name, epochs)}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(asdict(learned(name, who, seed, epochs))).encode())
    return Learned(**json.loads(path.read_text()))


@functools.cache
def _digest(name: str, epochs: int | None) -> str:
    """A digest of a task's settings, and of the sources of float networks and quantization."""
    folder = Path(layers.__file__).parents[1]
    files = [path for part in ("floatnet", "quantization") for path in sorted((folder / part).glob("*.py"))]
    told = [json.dumps(_settings(name, epochs)).encode(), *(path.read_bytes() for path in files)]
    return hashlib.sha256(b"".join(told)).hexdigest()[:12]
