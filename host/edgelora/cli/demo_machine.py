"""`edgelora demo machine`: a board learns the vibration of one machine, and monitors it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgelora.base import streams
from edgelora.board.link.client import Link
from edgelora.core.formats.ela import MONITOR, unpack_adapter
from edgelora.core.formats.files import write_atomic
from edgelora.learn.machines.anomaly_scores import scores_by_method
from edgelora.learn.machines.machine_base import (
    NORMAL_SEED,
    TEST_SEED,
    fault_windows,
    features_of,
    machine_base,
    normal_windows,
)
from edgelora.learn.machines.machine_board import BoardMachine, learn_on_board
from edgelora.learn.machines.machine_monitor import SCORE_ONE, Normal, Phases
from edgelora.learn.report.curves import auc, partial_auc, roc
from edgelora.learn.report.machine_page import NAMES, MachineReport, Method, write_machine_page
from edgelora.learn.report.metrics import Metrics
from edgelora.learn.training.recipe import Recipe
from edgelora.model.datasets import machines
from edgelora.model.datasets.machines import FAULTS, MACHINE_RATE, MACHINE_WINDOW, SEVERITIES

from . import console
from .demo import set_up

WATCHED = 40  # normal windows that the board watches, before one of each fault and severity
WATCHED_SEED = 2  # of streams
TESTED, TESTED_FAULTY = 2000, 12  # windows that the twin scores; the latter of each fault and severity


def demo_machine(
    board: str, number: int, recipe: Recipe, phases: Phases, output: Path, port: str | None = None, quiet: bool = False
) -> tuple[MachineReport, Path]:
    """Learns a simulated machine, unseen by the base, on a board. Returns the report and its page.

    A virtual board is started, flashed through its drive, and unplugged at the end; a real one is found or named by
    `port`. Everything is left in `output`.
    """
    here = set_up(board, output, port, quiet)
    with console.progress("pretrain on 40 other machines", quiet) as progress:
        base = machine_base(progress=progress)
    write_atomic(output / base.name, base.elm)
    streams.note(f"base: {len(base.elm)} bytes, {base.base_id}", quiet)
    with console.step(f"simulate machine {number}", quiet):
        normal, watched = _vibration(number, phases)
    with (
        here.board(base) as at,
        Link.connect(at) as link,
        console.progress("learn the machine on the board", quiet) as progress,
        Metrics(output / "metrics.jsonl", fresh=True) as metrics,
    ):
        learned = learn_on_board(link, base, normal, watched, recipe, phases, metrics, progress)
    write_atomic(output / "machine.ela", learned.adapter)
    with console.step("score more windows on the host twin", quiet):
        parts = phases.cut(features_of(normal))
        report = _report(board, number, base.base_id, learned, parts, phases)
    write_atomic(output / "report.json", (json.dumps(report.as_json(), indent=1) + "\n").encode())
    return report, write_machine_page(report, output / "report.html")


def _vibration(number: int, phases: Phases) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Counts for calibration, and counts to monitor: normal ones, then a window of each fault and severity."""
    of = machines.machine(number)
    faults = [machines.vibration(of, 1, WATCHED_SEED, fault, severity) for fault in FAULTS for severity in SEVERITIES]
    watched = [machines.vibration(of, WATCHED, WATCHED_SEED), *faults]
    return machines.vibration(of, phases.total, NORMAL_SEED), np.concatenate(watched)


def _report(
    board: str, number: int, base_id: str, learned: BoardMachine, normal: Normal, phases: Phases
) -> MachineReport:
    faults = fault_windows(number, TESTED_FAULTY)
    tested = normal_windows(number, TESTED, TEST_SEED)
    found = scores_by_method(learned.twin, normal, tested, np.concatenate(list(faults.values())))
    levels = np.repeat([severity for _, severity in faults], TESTED_FAULTY)
    own, faulty = found["lora_residual"]
    monitor = learned.twin.watch.monitor
    alarms = learned.twin.watch.watched(tested)[1]
    by_fault = (faulty > monitor.threshold).reshape(len(FAULTS), len(SEVERITIES), -1).mean(2)
    record = unpack_adapter(learned.adapter).records[MONITOR]
    seconds = MACHINE_WINDOW / MACHINE_RATE
    return MachineReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        board=board,
        machine=number,
        elm="machine.elm",
        base_id=base_id,
        verdict=learned.verdict.value,
        activated=learned.activated,
        host_twin_identical=learned.identical,
        watched=len(learned.scores),
        watched_above=int(np.sum(learned.scores > learned.threshold)),
        threshold=learned.threshold / SCORE_ONE,
        one_in=phases.one_in,
        least=phases.least,
        votes=phases.votes,
        window_seconds=seconds,
        false_alarms=float(np.mean(own > monitor.threshold)),
        in_alarm=float(np.mean(alarms)),
        alarms=int(np.sum(alarms[1:] & ~alarms[:-1]) + alarms[0]),
        tested=(len(own), len(faulty)),
        methods={name: _method(*found[name], levels) for name in NAMES},
        found={
            fault: {str(severity): float(share) for severity, share in zip(SEVERITIES, shares, strict=True)}
            for fault, shares in zip(FAULTS, by_fault, strict=True)
        },
        stages={name: getattr(phases, name) for name in ("scale", "learn", "residuals", "threshold")},
        adapter_bytes=len(learned.adapter),
        record_bytes=len(record) + 8,
        arena_bytes=learned.arena,
        heap_free=learned.free,
        train_step_us=learned.step_us,
        window_us=learned.window_us,
    )


def _method(normal: NDArray[np.number], faulty: NDArray[np.number], levels: NDArray[np.int64]) -> Method:
    false, right = roc(normal, faulty)
    curve = [(round(float(x), 4), round(float(y), 4)) for x, y in zip(false, right, strict=True)]
    by_severity = {str(level): auc(normal, faulty[levels == level]) for level in SEVERITIES}
    return Method(auc(normal, faulty), partial_auc(normal, faulty), curve, by_severity)
