"""Projects of a studio with samples of gestures: windows of one person's watch, with new names."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from sensing import motion_base

from edgelora.fleet.federation import Federation
from edgelora.fleet.plan import Plan
from edgelora.fleet.simulate import simulate
from edgelora.learn.report.record import Report
from edgelora.learn.report.sections import write_report
from edgelora.model.datasets.dataset import save_dataset
from edgelora.model.datasets.har import har_takes, load_har
from edgelora.studio.samples import ProjectSamples

PERSON = 3  # not in the training data of the base that comes with the studio
FIRST = 3  # first class of the recordings to use, so that the base can't classify a gesture correctly by chance
BOARD = "desk"


def collect(folder: Path, gestures: dict[str, int], first: int = FIRST) -> ProjectSamples:
    """Adds samples of each gesture to a project. gestures: the most samples by name; first: the first one's class."""
    samples, base = ProjectSamples(SimpleNamespace(folder=folder)), motion_base()
    assert base.model.signal
    takes = har_takes(PERSON, "train")
    for label, (name, count) in enumerate(gestures.items(), first):
        there = len([sample for sample in samples.samples if sample.label == name])
        mine = [counts for counts, of in takes if of == label][there:count]
        for counts in mine:
            samples.take(name, counts, base.model.signal, base.model.input.shape)
    return samples


def project(folder: Path, gestures: dict[str, int], board: str = "unix") -> Path:
    """A project with these samples, whose virtual board starts with the studio."""
    folder.mkdir(parents=True)
    collect(folder, gestures)
    (folder / "studio.json").write_text(json.dumps({"on": {BOARD: board}}))
    return folder


def reported(folder: Path) -> list[Report]:
    """Adds reports of two runs to a project, and a damaged one."""
    counts = [[5, 1, 0], [2, 4, 0], [0, 0, 6]]
    made = [
        Report(
            board="virtual-pico",
            base_accuracy=0.4,
            adapted_accuracy=after,
            float_lora_accuracy=None,
            host_twin_identical=True,
            arena_bytes=20000,
            adapter_bytes=700 * rank,
            infer_us=4700.0,
            train_step_us=11900.0,
            swap_us=30.0,
            samples=24,
            test_samples=18,
            epochs=16,
            rank=rank,
            mode="frozen_a",
            labels=["circle", "wave", "shake"],
            confusion_base=counts,
            confusion_adapted=counts,
            tested_on="18 samples",
            gained=9,
            lost=1,
            judged="better",
        )
        for rank, after in ((4, 0.75), (8, 0.9))
    ]
    for number, report in enumerate(made, 1):
        write_report(report, folder / "reports" / f"{number:03d}")
    damaged = folder / "reports" / "003"
    damaged.mkdir()
    (damaged / "report.json").write_text("{")
    return made


def federated(folder: Path, rounds: int = 2) -> Federation:
    """Adds a federation of two twins to a project, and runs its rounds in a plain loop."""
    people = folder.parent / "people"
    people.mkdir()
    for person in (3, 4):
        save_dataset(load_har(person).train, people / f"{person}.npz")
    plan = Plan(boards=2, rounds=rounds, masks=False, seed=1)
    federation = Federation.create(folder / "fleets" / "watches", plan, motion_base())
    simulate(federation, str(people), "loop")
    return federation
