"""A board learns a machine from raw counts; and `edgelora demo machine`, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fresh import FULL
from processes import edgelora, result

from edgelora.cli import demo_machine as demo
from edgelora.core.formats.elm import pack_model, unpack_model
from edgelora.core.formats.signal import Normal
from edgelora.learn.machines.machine_base import normal_windows, pretrained_autoencoder, scaled_inputs
from edgelora.learn.machines.machine_monitor import Phases, watch_of
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.recipe import Recipe
from edgelora.model.datasets.machines import machine_signal

PHASES = Phases(scale=24, learn=32, residuals=24, threshold=19, one_in=10, least=1, votes=2)
NEEDS_MINUTES = pytest.mark.skipif(not FULL, reason="takes minutes: make test-all")


@pytest.fixture(scope="module")
def base() -> Base:
    """A base of only four machines, which trains in a second."""
    rows = [scaled_inputs(normal_windows(number, 40), 40) for number in range(4)]
    model = pretrained_autoencoder(np.concatenate(rows), (12, 4, 12), 8)
    model.signal = machine_signal(Normal(1 / 256))
    elm = pack_model(model)
    return Base("machine.elm", elm, unpack_model(elm))


def test_a_board_learns_a_machine(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a desktop board: samples, adapter, record, scores and alarms equal the twin's, and the page shows them."""
    monkeypatch.setattr(demo, "machine_base", lambda progress: base)
    monkeypatch.setattr(demo, "WATCHED", 8)
    monkeypatch.setattr(demo, "TESTED", 40)
    monkeypatch.setattr(demo, "TESTED_FAULTY", 2)
    report, page = demo.demo_machine("unix", 300, Recipe(rank=4, epochs=3), PHASES, tmp_path, quiet=True)
    assert report.host_twin_identical and report.watched == 38 and 0 < report.watched_above <= 38
    taken = watch_of(base, (tmp_path / "machine.ela").read_bytes())
    assert taken.monitor.threshold / 1024 == report.threshold and taken.monitor.one_in == 10
    assert report.activated == (report.verdict == "better")
    own, z_score = report.methods["lora_residual"], report.methods["z_score"]
    assert own.auc > z_score.auc and own.by_severity["5"] > own.by_severity["1"] > 0.5
    assert own.curve[0] == (0, 0) and own.curve[-1] == (1, 1)
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(report.as_json()))
    text = page.read_text()
    assert "simulated: nothing here was measured on a machine" in text and f"{own.auc:.3f}" in text
    assert all(fault in text for fault in demo.FAULTS) and "Host twin identical: yes" in text


@NEEDS_MINUTES
def test_the_demo_on_the_emulated_pico(tmp_path: Path) -> None:
    told = result("demo", "machine", "-o", tmp_path)
    assert told["host_twin_identical"] is True and told["activated"] is True
    assert told["methods"]["lora_residual"]["auc"] > told["methods"]["base_residual"]["auc"] > 0.8
    assert told["false_alarms"] < 0.06 and told["window_us"] < 4096 / 833 * 1e6 / 20


def test_settings_that_cannot_be() -> None:
    told = edgelora("demo", "machine", "--threshold-windows", 20, "--board", "unix", code=1)
    assert "a threshold for one window in 50 takes 49 at least" in told.stderr
