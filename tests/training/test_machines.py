"""Simulated machines are the same everywhere; areas under curves match their definition."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from edgelora.base.errors import InputError
from edgelora.learn.machines.machine_base import features_of, normal_windows
from edgelora.learn.machines.machine_monitor import Phases
from edgelora.learn.report.curves import auc, partial_auc, roc
from edgelora.learn.report.statistics import most_events
from edgelora.model.datasets.machines import FAULTS, MACHINE_WINDOW, machine, vibration


def test_vibration_is_the_same_everywhere() -> None:
    streams = [vibration(machine(7), 2, 3), vibration(machine(7), 2, 3, "outer race", 2)]
    assert [zlib.crc32(counts.astype("<i2").tobytes()) for counts in streams] == [3849736978, 1256734049]
    assert all(counts.shape == (2 * MACHINE_WINDOW,) for counts in streams)
    assert not np.array_equal(vibration(machine(7), 2, 4), streams[0])
    assert not np.array_equal(vibration(machine(8), 2, 3), streams[0])


def test_faults_grow() -> None:
    """The most unusual feature of each fault deviates more at severity 5 than at 1."""
    usual = normal_windows(7, 60)
    middle, spread = usual.mean(0), usual.std(0) + 8

    def furthest(fault: str, severity: int) -> float:
        rows = features_of(vibration(machine(7), 4, 5, fault, severity))
        return float(np.abs((rows - middle) / spread).max())

    assert all(furthest(fault, 5) > 1.5 * furthest(fault, 1) and furthest(fault, 5) > 7 for fault in FAULTS)


@pytest.mark.parametrize(("fault", "severity"), [("rust", 1), ("unbalance", 0), ("unbalance", 6), (None, 1)])
def test_no_such_fault(fault: str | None, severity: int) -> None:
    with pytest.raises(InputError, match="fault" if fault == "rust" else "severity"):
        vibration(machine(0), 1, 0, fault, severity)


def test_areas() -> None:
    rng = np.random.default_rng(2)
    normal, faulty = rng.integers(0, 9, 60), rng.integers(3, 12, 45)
    pairs = faulty[:, None] - normal[None]
    assert auc(normal, faulty) == pytest.approx(float(np.mean(pairs > 0) + np.mean(pairs == 0) / 2))
    assert partial_auc(normal, faulty, 1.0) == pytest.approx(auc(normal, faulty))
    false, found = roc(normal, faulty)
    assert (false[0], found[0], false[-1], found[-1]) == (0, 0, 1, 1) and np.all(np.diff(found) >= 0)
    assert partial_auc(normal, normal + 100) == 1 and partial_auc(normal + 100, normal) == 0


def test_phases() -> None:
    cut = Phases(scale=2, learn=3, residuals=4, threshold=5, one_in=5).cut(np.arange(20, dtype=np.int16)[:, None])
    assert [len(part) for part in vars(cut).values()] == [2, 3, 4, 5] and cut.threshold[-1, 0] == 13
    for wrong in ({"scale": 1}, {"threshold": 48}, {"least": 6}, {"one_in": 1}):
        with pytest.raises(InputError):
            Phases(**wrong)
    with pytest.raises(InputError, match="20 windows of normal operation"):
        Phases().cut(np.zeros((20, 1), np.int16))


def test_upper_bound_of_the_events_behind_a_count() -> None:
    """As in tables of the Poisson distribution, one-sided 95 %."""
    found = [round(most_events(count), 2) for count in (0, 1, 2, 10)]
    assert found == [3.0, 4.74, 6.3, 16.96]
