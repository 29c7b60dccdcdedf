"""A machine on desktop MicroPython: a monitor equals its twin bit for bit, and refuses hostile records."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import monitor_reference as reference
import numpy as np
import pytest
from autoencoders import autoencoder
from documents import blocks
from programs import desktop

from edgelora.core.formats.ela import MONITOR, pack_adapter, unpack_adapter
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import base_id, pack_model, unpack_model
from edgelora.core.formats.envelope import FormatError
from edgelora.core.formats.monitor import Monitor, check_monitored, pack_monitor, unpack_monitor
from edgelora.core.formats.signal import Normal
from edgelora.core.twin.session import Session
from edgelora.learn.machines.machine_base import normal_windows, pretrained_autoencoder, scaled_inputs
from edgelora.learn.machines.machine_monitor import Phases, Watch, watch_of
from edgelora.learn.training.data.base import Base, adapter_ranks
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.twin import loop
from edgelora.learn.training.twin.twin_learner import TwinLearner
from edgelora.model.datasets import machines
from edgelora.model.datasets.machines import MACHINE_WINDOW, machine_signal

VALUES = 12
PHASES = Phases(scale=20, learn=24, residuals=16, threshold=49, one_in=10, least=2, votes=3)
WATCHED = 40


def values(count: int, seed: int) -> np.ndarray:
    """Counts [count, VALUES] with two degrees of freedom: one value is constant, one jumps between extremes."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(1).normal(0, 400, (2, VALUES))
    rows = 1000 * np.arange(VALUES) - 5000 + rng.normal(size=(count, 2)) @ mix + rng.normal(0, 60, (count, VALUES))
    rows[:, 3], rows[:, 5] = 77, rng.choice([-32768, 32767], count)
    return np.clip(np.rint(rows), -32768, 32767).astype(np.int16)


@pytest.fixture(scope="module")
def base() -> Base:
    rows = scaled_inputs(values(400, 9), 400)
    elm = pack_model(pretrained_autoencoder(rows, (8, 3, 8), 4))
    return Base("base.elm", elm, unpack_model(elm))


@pytest.fixture(scope="module")
def stream() -> np.ndarray:
    """The values of all stages, then twice a stream to watch, half of which is not normal."""
    rows = values(PHASES.total + 2 * WATCHED, 4)
    rows[PHASES.total + 20 : PHASES.total + 40, :3] += 900
    rows[-20:, 7:] -= np.arange(0, 40000, 2000, np.int16)[:, None]
    return rows


@pytest.fixture(scope="module")
def mine(base: Base, stream: np.ndarray) -> tuple[Samples, bytes, Watch]:
    """The twin's samples, an adapter trained on them, and the statistics with it."""
    normal = PHASES.cut(stream)
    samples = Watch(base, None, PHASES).learn(normal)
    recipe = Recipe(rank=4, epochs=8)
    learner = TwinLearner(base.elm, recipe.settings(base.elm))
    learner.begin(3)
    adapter = loop.train(learner, samples, recipe.resolved(base.elm, len(samples.of_epoch))).adapter
    watch = Watch(base, adapter, PHASES)
    watch.learn(normal)
    watch.settle(normal)
    return samples, adapter, watch


@pytest.fixture(scope="module")
def folder(base: Base, stream: np.ndarray, mine: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("monitor")
    (place / "base.elm").write_bytes(base.elm)
    (place / "other.elm").write_bytes(autoencoder().elm)
    (place / "mine.ela").write_bytes(mine[1])
    (place / "machine.ela").write_bytes(mine[2].ela)
    stream.astype("<i2").tofile(place / "values.s16")
    return place


def run(call: str, folder: Path) -> Any:
    return json.loads(desktop(folder, f"import monitor_run; monitor_run.{call}"))


def test_a_monitor_is_its_twin(base: Base, stream: np.ndarray, mine: Any, folder: Path) -> None:
    samples, adapter, watch = mine
    counts = (PHASES.scale, PHASES.learn, PHASES.residuals, PHASES.threshold, WATCHED)
    settings = (PHASES.least, PHASES.votes, PHASES.one_in)
    (folder / "machine.ela").unlink()
    told, again, threshold, stage = run(f"main({counts}, {', '.join(map(str, settings))})", folder)
    learned = pack_samples(samples.x, samples.y, samples.given_targets, base_id(base.elm))
    assert (folder / "learned.eld").read_bytes() == learned
    whole = (folder / "machine.ela").read_bytes()
    assert whole == watch.ela
    assert threshold == watch.monitor.threshold and stage == "watch"
    taken = watch_of(base, whole)
    for found, rows in ((told, stream[PHASES.total : -WATCHED]), (again, stream[-WATCHED:])):
        scores, alarms = taken.watched(rows)
        assert found == [list(pair) for pair in zip(scores.tolist(), alarms.tolist(), strict=True)]
        assert alarms.any() and not alarms.all()
        assert np.median(scores[20:]) > 4 * np.median(scores[:20]) > 0


def test_a_monitor_is_its_reference(base: Base, stream: np.ndarray, mine: Any) -> None:
    """The device's Python and array arithmetic give the same results for the same windows."""
    samples, adapter, watch = mine
    normal, monitor = PHASES.cut(stream), watch.monitor
    session = Session(base.elm, adapter_ranks(base, adapter), "infer", 1)
    session.use(adapter)

    def residuals(values: np.ndarray) -> np.ndarray:
        rows = reference.inputs_of(monitor, values)
        given = []
        for row in rows:
            session.infer(row)
            given.append(session.logits)
        return np.array(given, np.int64) - rows

    def scores(values: np.ndarray) -> np.ndarray:
        return reference.scores_of(monitor, residuals(values))

    means, gains = reference.usual(normal.scale)
    assert np.array_equal(monitor.means, means) and np.array_equal(monitor.gains, gains)
    assert np.array_equal(samples.given_targets, reference.inputs_of(monitor, normal.learn))
    means, gains = reference.usual_residuals(residuals(normal.residuals))
    assert np.array_equal(monitor.residual_means, means) and np.array_equal(monitor.residual_gains, gains)
    assert monitor.threshold == reference.threshold_of(scores(normal.threshold), PHASES.one_in)
    means, gains = reference.usual(normal.learn[:10])
    rows = reference.inputs_of(replace(monitor, means=means, gains=gains), normal.learn)
    assert np.array_equal(scaled_inputs(normal.learn, 10), rows / np.float32(32))
    watched = stream[PHASES.total :]
    found, alarms = watch.watched(watched)
    assert np.array_equal(found, scores(watched))
    assert np.array_equal(alarms, reference.alarms_of(monitor, found)) and np.array_equal(
        watch.inputs(watched), reference.inputs_of(monitor, watched)
    )


def hostile(monitor: Monitor) -> list[bytes]:
    """Record bodies that each break a rule, as a file could contain them."""
    body = bytearray(pack_monitor(monitor))

    def with_(form: str, at: int, value: int) -> bytes:
        changed = bytearray(body)
        struct.pack_into(form, changed, at, value)
        return bytes(changed)

    last = len(body) - 4
    cases = [("<H", 0, VALUES + 1), ("<H", 2, VALUES - 1), ("<B", 6, 0), ("<B", 6, 4), ("<B", 7, 17), ("<I", 8, 1)]
    cases += [("<I", 8, 2**32 - 1), ("<I", 12, 0), ("<I", 12, 16384), ("<H", 18, 0), ("<H", 18, 32768)]
    cases += [("<H", last + 2, 0), ("<H", last + 2, 16385), ("<h", last, 4081), ("<h", last, -4081)]
    return [with_(*case) for case in cases] + [bytes(body[:-1]), bytes(body) + b"\0", b"", bytes(body[:15])]


def with_empty_record(adapter: bytes) -> bytes:
    """The core writes no such record, but a file may have one."""
    changed = unpack_adapter(adapter)
    changed.records[MONITOR] = b""
    return pack_adapter(changed)


def test_hostile_records(base: Base, mine: Any, folder: Path) -> None:
    """The host and a board refuse the same records; a watching monitor continues."""
    _, adapter, watch = mine
    (folder / "machine.ela").write_bytes(watch.ela)
    bodies = hostile(watch.monitor)
    session = Session(base.elm, adapter_ranks(base, adapter), "infer", 1)
    for i, body in enumerate(bodies):
        with pytest.raises(FormatError, match="monitor"):
            unpack_monitor(body, base.model)
        whole = session.with_record(adapter, MONITOR, body) if body else with_empty_record(adapter)
        with pytest.raises(FormatError, match="mine"):
            watch_of(base, whole, "mine")
        (folder / f"hostile{i}.ela").write_bytes(whole)
    refused = run(f"refuse({len(bodies)})", folder)
    assert len(refused) == len(bodies) and all("calibrate again" in text for text in refused)


def test_what_a_record_holds(base: Base, mine: Any) -> None:
    monitor = mine[2].monitor
    again = unpack_monitor(pack_monitor(monitor), base.model)
    assert all(np.array_equal(getattr(again, name), getattr(monitor, name)) for name in vars(monitor))
    for broken in ({"threshold": 65536}, {"least": 0}, {"gains": monitor.gains * 0}):
        with pytest.raises(FormatError):
            pack_monitor(replace(monitor, **broken))
    with pytest.raises(FormatError, match="no record of a machine"):
        watch_of(base, mine[1])
    with pytest.raises(FormatError, match="32 steps"):
        check_monitored(autoencoder().model)


def test_stages_have_an_order(folder: Path) -> None:
    told = run("order()", folder)
    words = ("begin with scale", "not calibrated", "2 to 16383", "still needs 2 windows", "no record", "32 steps")
    assert len(told) == len(words) and all(word in text for word, text in zip(words, told, strict=True))


def test_thresholds_are_exceeded_at_the_requested_rate() -> None:
    """For a skewed distribution of scores: 1 in 50, and on average never more; with ties less."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(400):
        scores = np.rint(1000 * np.exp(rng.normal(size=149 + 200))).astype(np.int64)
        shares.append(float(np.mean(scores[149:] > reference.threshold_of(scores[:149], 50))))
    assert 0.017 < np.mean(shares) < 0.023
    assert reference.threshold_of(np.array([5, 5, 5, 1]), 2) == 5


SENSOR = """
import sys, edgelora.sources

class machine:
    Pin = int
    I2C = lambda *args, **options: None

class LSM6DS3(edgelora.sources.Source):
    def __init__(self, i2c, rate):
        super().__init__(rate, 6)
        self.file = open("axes.s16", "rb")

    def read_into(self, buffer):
        return (self.file.readinto(buffer) or 0) // 12

sys.modules["machine"], edgelora.sources.LSM6DS3 = machine, LSM6DS3
exec(open("learn.py").read())
watched = edgelora.Model("machine.elm", ranks=16)
again = Monitor(watched)
again.use(watched.adapter(store.read("machine")))
print(monitor.stage, better, again.threshold == monitor.threshold > 0, again.record() == monitor.record())
"""


def test_guide_machine(tmp_path: Path) -> None:
    """Runs the guide's code with fewer windows of a simulated sensor: the stored monitor equals the watching one."""
    [code] = blocks("docs/guides/machine.md", "python", "tested: machine")
    less = {'"scale", 48': '"scale", 8', "144": "16", '"learn", 48': '"learn", 8', ", 40, h": ", 2, h"}
    for said, fewer in (less | {'"residuals", 64': '"residuals", 8', "149": "49"}).items():
        assert code.count(said) == 1
        code = code.replace(said, fewer)
    code = code.replace("/rom/", "").replace('"/', '"')
    (tmp_path / "learn.py").write_text(code)
    rows = scaled_inputs(normal_windows(1, 30), 30)
    model = pretrained_autoencoder(rows, (8, 3, 8), 2)
    model.signal = machine_signal(Normal(1 / 256))
    (tmp_path / "machine.elm").write_bytes(pack_model(model))
    axes = np.zeros((90 * MACHINE_WINDOW, 6), "<i2")
    axes[:, 0] = machines.vibration(machines.machine(1), 90, 5)
    axes.tofile(tmp_path / "axes.s16")
    told = desktop(tmp_path, SENSOR).split()[-4:]
    assert told in (["watch", said, "True", "True"] for said in ("True", "False")), told
