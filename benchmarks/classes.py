"""`edgelora bench classes`: new classes from a few samples of an unseen person.

For each person a base is pretrained on the others, without two of the classes. A board gets a few of the person's
samples of each class, known and new, and computes class rows in integers. They are compared with the same head in
floats, on the same quantized network, and with a `Learner` that consolidates these samples: layers and rows, or rows
alone if validation says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgelora.base.progress import Progress, no_progress
from edgelora.base.workers import in_parallel
from edgelora.board.link.client import Link
from edgelora.core.formats.classes import pack_classes
from edgelora.core.formats.ela import CLASSES
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin.session import Session
from edgelora.learn.training.base import pretrained
from edgelora.learn.training.lifelong import Lifelong
from edgelora.learn.training.recipe import Recipe
from edgelora.model.datasets.dataset import Dataset
from edgelora.model.datasets.har import HarData, load_har
from edgelora.model.floatnet.layers import Array
from edgelora.model.quantization.class_stats import RIDGE
from edgelora.model.quantization.quantize import quantize_on
from edgelora.model.quantization.simulate import simulate

from .learning import TASKS, mean_and_error

HELD_OUT = (2, 5)  # classes that no base knows
SHOTS = (3, 10, 20)
DRAWS = 10  # of samples; each is a run
TIMED = 10  # samples of the class that a board adds in the timing
MODEL = "/bench.elm"


@dataclass(frozen=True)
class ClassesRun:
    """Test accuracies, as fractions: of all classes, the base's, the new ones; of all classes with the float head.

    learned, learned_known, learned_new: after a consolidation; None: too few held-out samples. better: whether the
    consolidation was activated instead of the rows alone.
    """

    subject: str
    draw: int
    shots: int
    all: float
    known: float
    new: float
    float_all: float
    learned: float | None = None
    learned_known: float | None = None
    learned_new: float | None = None
    better: bool = False


CLASS_FIGURES = ("all", "known", "new", "float_all", "learned", "learned_known", "learned_new")


@dataclass(frozen=True)
class ClassesBench:
    """add_ms: time of a board to add a class from 10 samples, including inferences; None: not measured."""

    runs: list[ClassesRun]
    add_ms: float | None
    settings: dict[str, object]

    def of_shots(self, shots: int) -> list[ClassesRun]:
        return [run for run in self.runs if run.shots == shots]

    def figures(self, shots: int) -> dict[str, tuple[float, float]]:
        """Mean over people and its standard error, by figure; figures without values are omitted."""
        runs = self.of_shots(shots)
        people = sorted({run.subject for run in runs})
        means = {
            name: [float(np.mean([getattr(run, name) for run in runs if run.subject == who])) for who in people]
            for name in CLASS_FIGURES
            if all(getattr(run, name) is not None for run in runs)
        }
        return {name: mean_and_error(values) for name, values in means.items()}

    def as_json(self) -> dict[str, object]:
        result: dict[str, object] = {}
        for shots in sorted({run.shots for run in self.runs}):
            figures = self.figures(shots)
            result[f"shots_{shots}"] = {name: mean for name, (mean, _) in figures.items()}
            result[f"shots_{shots}_stderr"] = {name: error for name, (_, error) in figures.items()}
            runs = self.of_shots(shots)
            result[f"shots_{shots}_better"] = sum(run.better for run in runs) / len(runs)
        return result | {"add_ms": self.add_ms, "runs": [asdict(run) for run in self.runs], "settings": self.settings}


def bench_classes(
    subjects: Sequence[str] | None = None,
    shots: Sequence[int] = SHOTS,
    draws: int = DRAWS,
    progress: Progress = no_progress,
    workers: int | None = None,
) -> ClassesBench:
    """Runs all of these people in parallel processes."""
    chosen = TASKS["har"].chosen(subjects)
    runs: list[ClassesRun] = []
    for done, found in enumerate(in_parallel(_person, [(who, tuple(shots), draws) for who in chosen], workers), 1):
        runs += found
        progress(done, len(chosen), "people")
    settings = {"subjects": list(chosen), "held_out": list(HELD_OUT), "draws": draws, "ridge": RIDGE}
    return ClassesBench(runs, None, settings)


def time_classes(link: Link, elm: bytes) -> float:
    """Milliseconds for a board to add a class of TIMED samples to this base."""
    try:
        link.put(MODEL, elm)
        link.open_model(MODEL, ranks=0, mode="infer", micro_batch=1)
        return link.bench_add_class(TIMED).mean_us / 1000
    finally:
        link.remove(MODEL)


def base_without(subject: str) -> tuple[QuantModel, HarData]:
    """A base pretrained without this person and without the classes HELD_OUT, and the data, with these classes last."""
    data = load_har(int(subject))
    known = [label for label in range(len(data.labels)) if label not in HELD_OUT]
    order = np.array([*known, *HELD_OUT])
    numbers = np.argsort(order)
    names = [data.labels[label] for label in order]

    def numbered(part: Dataset, keep: NDArray[np.bool_]) -> Dataset:
        return Dataset(part.x[keep], numbers[part.y[keep]], names[: len(known)], part.signal)

    others = numbered(data.pretrain, ~np.isin(data.pretrain.y, HELD_OUT))
    net = pretrained(f"har-{subject}-without-{'-'.join(map(str, HELD_OUT))}", lambda: others, 0)
    everything = [numbered(part, np.ones(len(part), bool)) for part in (data.train, data.test)]
    return quantize_on(net, others), HarData(data.subject, others, *everything)


def _person(subject: str, shots: tuple[int, ...], draws: int) -> list[ClassesRun]:
    model, data = base_without(subject)
    elm, known = pack_model(model), model.output.size
    x, test = model.input.quantize(data.train.x), model.input.quantize(data.test.x)
    session, floats = Session(elm, bytes(len(model.ops)), "infer"), FloatHead.of(model, data)
    judge = Session(elm, Recipe().ranks(elm), "infer")
    names = [*model.labels, *(f"new {label}" for label in range(known, known + len(HELD_OUT)))]

    def shares(by: Session, adapter: bytes | None) -> list[float]:
        """Of all classes, the base's, the new ones."""
        by.use(adapter)
        right, new = by.predict(test) == data.test.y, data.test.y >= known
        return [float(np.mean(part)) for part in (right, right[~new], right[new])]

    runs = []
    for count in shots:
        for draw in range(draws):
            rng = np.random.default_rng(draw)
            of_class = (np.flatnonzero(data.train.y == label) for label in range(known + len(HELD_OUT)))
            picked = [rng.permutation(which)[:count] for which in of_class]
            session.use(None)
            rows = [
                session.class_row(x[which], label, "" if label < known else names[label])
                for label, which in enumerate(picked)
            ]
            named, of_known, of_new = shares(session, session.with_record(None, CLASSES, pack_classes(rows)))
            in_floats = float(np.mean(floats.right(picked)))
            run = ClassesRun(subject, draw, count, named, of_known, of_new, in_floats)
            if outcome := _consolidated(elm, [x[which] for which in picked], names, draw):
                adapter, better = outcome
                learned, learned_known, learned_new = shares(judge, adapter)
                run = replace(run, learned=learned, learned_known=learned_known, learned_new=learned_new, better=better)
            runs.append(run)
    return runs


def _consolidated(
    elm: bytes, samples: list[NDArray[np.int8]], names: Sequence[str], seed: int
) -> tuple[bytes | None, bool] | None:
    """The active adapter after a learner has consolidated these samples of each class, and whether it was better.

    None: too few held-out samples.
    """
    room = 2 * sum(map(len, samples))  # nothing has to go
    learner = Lifelong(elm, Recipe(seed=seed), room, len(samples))
    for name, part in zip(names, samples, strict=True):
        learner.add_class(name, part)
    if not learner.judges:
        return None
    better = learner.consolidate().better
    return learner.in_use, better


@dataclass(frozen=True)
class FloatHead:
    """The head in floats: inputs of the last layer [N, K], logits in nats [N, known], the inverse covariance [K, K]."""

    train: Array
    test: Array
    logits: Array
    labels: NDArray[np.int64]
    inverse: Array

    @staticmethod
    def of(model: QuantModel, data: HarData) -> FloatHead:
        last = model.ops[-1]

        def inputs(part: Dataset) -> Array:
            return simulate(model, part.x)[last.input].reshape(len(part), -1)

        logits = simulate(model, data.test.x)[last.output].reshape(len(data.test), -1)
        found = inputs(data.pretrain)
        means = np.array([found[data.pretrain.y == label].mean(axis=0) for label in range(model.output.size)])
        within = found - means[data.pretrain.y]
        covariance = within.T @ within / (len(found) - len(means))
        covariance += RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        return FloatHead(inputs(data.train), inputs(data.test), logits, data.test.y, np.linalg.inv(covariance))

    def right(self, picked: list[NDArray[np.int64]]) -> NDArray[np.bool_]:
        """Which test samples are classified correctly, given training samples of all classes."""
        means = np.array([self.train[which].mean(axis=0) for which in picked])
        rows = means @ self.inverse
        scores = self.test @ rows.T - 0.5 * (rows * means).sum(axis=1)
        scores[:, : self.logits.shape[1]] += self.logits - self.logits.max(axis=1, keepdims=True)
        right: NDArray[np.bool_] = scores.argmax(axis=1) == self.labels
        return right
