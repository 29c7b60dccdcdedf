"""`edgelora bench anomaly`: anomaly detection with a base alone and with an adapter, on the twin.

Simulated machines, and people of seglearn (five exercises are normal, two unseen). Each is calibrated on its own normal
windows and tested on later ones, and on faults or unseen exercises. Settings were chosen on other machines and people
(`choosing`). Two baselines use the same windows without a network: `z_score`, the mean square of values in standard
deviations, and `mahalanobis`, which uses their covariance in floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgelora.base.progress import Progress, no_progress
from edgelora.base.workers import in_parallel
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.learn.report.curves import auc, partial_auc
from edgelora.learn.training.anomaly_scores import METHODS, scores_by_method
from edgelora.learn.training.base import Base
from edgelora.learn.training.machines import (
    CHOOSING_MACHINES,
    MACHINE_RECIPE,
    REPORTED_MACHINES,
    TEST_SEED,
    fault_windows,
    machine_base,
    normal_windows,
    pretrained_autoencoder,
    scaled_inputs,
)
from edgelora.learn.training.monitor import Machine, Normal, Phases, learn_machine
from edgelora.learn.training.recipe import Recipe
from edgelora.model.datasets.exercises import load_exercises, load_normal_exercises
from edgelora.model.datasets.machines import MACHINE_RATE, MACHINE_WINDOW, SEVERITIES

BENCH_PHASES = Phases(scale=64, learn=256, residuals=128, threshold=249)
NORMAL_TESTED, FAULTY_TESTED = 400, 12  # windows; the latter of each fault and severity
REPORTED_PEOPLE, CHOOSING_PEOPLE = (1, 2, 3, 4, 5, 6), (7, 8, 9, 10)
UNSEEN = ((0, 4), (2, 5))  # exercises
PERSON_RECIPE = Recipe(rank=8, epochs=6, learning_rate=3000)
_PERSON_HIDDEN, _PERSON_EPOCHS, _PERSON_STEP = (64, 24, 64), 40, 2  # every second window: they overlap


@dataclass(frozen=True)
class AnomalyRun:
    """One machine or person. aucs, partial: by method; by_severity: AUC of lora_residual, activated or not.

    false_alarms, alarmed: shares of normal windows above the threshold and in an alarm; activated: whether the adapter
    was better.
    """

    name: str
    aucs: dict[str, float]
    partial: dict[str, float]
    false_alarms: float
    alarmed: float
    activated: bool
    by_severity: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class AnomalyBench:
    simulated: list[AnomalyRun]
    seglearn: list[AnomalyRun]

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {name: _summary(runs) for name, runs in self._data()}
        return found | ({"false_alarms": self.false_alarms()} if self.simulated else {})

    def rows(self) -> list[tuple[object, ...]]:
        """One table row for each kind of data: mean and standard deviation of each method."""
        rows: list[tuple[object, ...]] = []
        for name, runs in self._data():
            summary = _summary(runs)
            aucs = [f"{summary[method]:.3f} ± {summary['spread'][method]:.3f}" for method in METHODS]
            gain = summary["lora_over_base"]
            rows.append((name, len(runs), *aucs, f"{gain['mean']:+.3f} ± {gain['spread']:.3f}"))
        return rows

    def false_alarms(self) -> dict[str, Any]:
        """Shares of normal windows above the threshold, of the simulated machines."""
        shares = [run.false_alarms for run in self.simulated]
        return {
            "target": 1 / BENCH_PHASES.one_in,
            "mean": round(float(np.mean(shares)), 4),
            "worst": round(max(shares), 4),
            "spread": _spread(shares),
            "runs": len(shares),
            "unit": "share of normal windows above the threshold",
            "in_alarm": round(float(np.mean([run.alarmed for run in self.simulated])), 5),
            "windows_a_day": round(86400 * MACHINE_RATE / MACHINE_WINDOW),
        }

    def _data(self) -> list[tuple[str, list[AnomalyRun]]]:
        return [(name, runs) for name, runs in (("simulated", self.simulated), ("seglearn", self.seglearn)) if runs]


def _summary(runs: Sequence[AnomalyRun]) -> dict[str, Any]:
    by_method = {method: [run.aucs[method] for run in runs] for method in METHODS}
    partial = {method: [run.partial[method] for run in runs] for method in METHODS}
    gain = [run.aucs["lora_residual"] - run.aucs["base_residual"] for run in runs]
    severities = runs[0].by_severity
    return {method: round(float(np.mean(values)), 4) for method, values in by_method.items()} | {
        "runs": len(runs),
        "spread": {method: _spread(values) for method, values in by_method.items()},
        "lora_over_base": {"mean": round(float(np.mean(gain)), 4), "spread": _spread(gain)},
        "partial_auc": {method: round(float(np.mean(values)), 4) for method, values in partial.items()},
        "activated": sum(run.activated for run in runs),
        "by_severity": {key: round(float(np.mean([run.by_severity[key] for run in runs])), 4) for key in severities},
    }


def _spread(values: Sequence[float]) -> float:
    """Standard deviation over runs."""
    return round(float(np.std(values, ddof=1)), 4) if len(values) > 1 else 0.0


def bench_anomaly(
    data: Sequence[str] = ("simulated", "seglearn"),
    choosing: bool = False,
    machines: int = 10,
    progress: Progress = no_progress,
    workers: int | None = None,
) -> AnomalyBench:
    """Runs all machines and people in parallel processes. choosing: use those on which settings were chosen."""
    base = machine_base(progress=progress) if "simulated" in data else None
    numbers = (CHOOSING_MACHINES if choosing else REPORTED_MACHINES)[:machines] if base else ()
    people = (CHOOSING_PEOPLE if choosing else REPORTED_PEOPLE) if "seglearn" in data else ()
    own = [(person, people, unseen) for unseen in UNSEEN for person in people]
    simulated: list[AnomalyRun] = []
    for run in in_parallel(of_machine, [(base, number) for number in numbers], workers):
        simulated.append(run)
        progress(len(simulated), len(numbers) + len(own), run.name)
    seglearn: list[AnomalyRun] = []
    for run in in_parallel(of_person, own, workers):
        seglearn.append(run)
        progress(len(numbers) + len(seglearn), len(numbers) + len(own), run.name)
    return AnomalyBench(simulated, seglearn)


def of_machine(base: Base, number: int) -> AnomalyRun:
    """A simulated machine."""
    normal = BENCH_PHASES.cut(normal_windows(number, BENCH_PHASES.total))
    machine = learn_machine(base, normal, MACHINE_RECIPE, BENCH_PHASES)
    faults = fault_windows(number, FAULTY_TESTED)
    tested = normal_windows(number, NORMAL_TESTED, TEST_SEED)
    run, scores = _judged(f"machine {number}", machine, normal, tested, np.concatenate(list(faults.values())))
    levels = np.repeat([severity for _, severity in faults], FAULTY_TESTED)
    by_severity = {str(level): auc(scores[0], scores[1][levels == level]) for level in SEVERITIES}
    return replace(run, by_severity=by_severity)


def of_person(person: int, people: Sequence[int], unseen: tuple[int, int]) -> AnomalyRun:
    """Runs a person of seglearn, with a base of the other people's normal exercises."""
    others = [load_normal_exercises(other, unseen) for other in people if other != person]
    rows = np.concatenate([scaled_inputs(values[::_PERSON_STEP], len(values)) for values in others])
    elm = pack_model(pretrained_autoencoder(rows, _PERSON_HIDDEN, _PERSON_EPOCHS))
    base = Base("exercises.elm", elm, unpack_model(elm))
    own = load_exercises(person, unseen)
    normal = Normal(own.learn, own.learn, own.residuals, own.residuals)  # the threshold is not judged here
    machine = learn_machine(base, normal, PERSON_RECIPE, Phases(one_in=20))
    return _judged(f"person {person} without {unseen}", machine, normal, own.normal, own.unseen)[0]


def _judged(
    name: str, machine: Machine, normal: Normal, tested: NDArray[np.int16], faulty: NDArray[np.int16]
) -> tuple[AnomalyRun, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The run's figures, and the scores of lora_residual: normal, faulty."""
    found = scores_by_method(machine, normal, tested, faulty)
    scores = found["lora_residual"]
    aucs = {method: auc(*found[method]) for method in METHODS}
    partial = {method: partial_auc(*found[method]) for method in METHODS}
    monitor = machine.own.monitor
    above = float(np.mean(scores[0] > monitor.threshold))
    alarmed = float(np.mean(machine.own.watched(tested)[1]))
    return AnomalyRun(name, aucs, partial, above, alarmed, machine.activated), scores
