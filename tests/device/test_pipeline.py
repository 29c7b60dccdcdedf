"""From samples to decisions on desktop MicroPython: sources on simulated chips, pipelines against the twin."""

from __future__ import annotations

import json
import re
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import desktop
from random_models import random_model

from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import Op, QuantModel, Tensor
from edgelora.core.formats.signal import Normal, Signal
from edgelora.core.twin.session import Session
from edgelora.learn.streaming.decisions import Vote, listen_on_twin
from edgelora.learn.training.data.base import Base


def test_sources(tmp_path: Path) -> None:
    output = desktop(tmp_path, "import sources_suite; sources_suite.main()")
    assert "FAIL" not in output, output
    assert int(re.search(r"^SUITE (\d+) 0$", output, re.MULTILINE)[1]) == output.count("PASS") >= 35


# ---- pipelines


@dataclass
class Case:
    """A base with a signal, samples for it, and settings of the pipeline."""

    model: QuantModel
    counts: np.ndarray
    vote: tuple[int, int] = (1, 1)
    chunk: int = 7
    rank: int = 0
    mode: str = "infer"
    labels: list[int] = field(default_factory=list)
    front: bool = False
    asyncio: bool = False
    scaled: bool = False

    def run(self, folder: Path) -> list[Any]:
        (folder / "base.elm").write_bytes(pack_model(self.model))
        self.counts.astype("<i2").tofile(folder / "mine.s16")
        case = {"base": "base.elm", "recording": "mine.s16"} | {
            name: getattr(self, name)
            for name in ("vote", "chunk", "rank", "mode", "labels", "front", "asyncio", "scaled")
        }
        (folder / "case.json").write_text(json.dumps(case))
        said = desktop(folder, "import pipeline_run; pipeline_run.main('case.json')")
        return [json.loads(line) for line in said.splitlines()]

    @property
    def base(self) -> Base:
        return Base("base.elm", pack_model(self.model), self.model)

    def expected(self) -> list[list[Any]]:
        """The twin's results for windows that are cut here; the board's own Python on this computer must agree."""
        session, signal = Session(self.base.elm, bytes(len(self.model.ops)), "infer", 1), self.model.signal
        rows: list[list[Any]] = []
        seen, clipped = deque(maxlen=self.vote[1]), 0
        for end in range(signal.window, len(self.counts) + 1, signal.hop):
            x, beyond = session.quantize(self.counts[end - signal.window : end])
            clipped += beyond
            seen.append(session.infer(x.reshape(-1)))
            label = next((one for one in reversed(seen) if seen.count(one) >= self.vote[0]), None)
            rows.append([end, seen[-1], label, clipped, session.logits.tolist()])
        replies = listen_on_twin(self.base, [], self.counts, Vote(*self.vote))
        found = ((reply, decision) for reply in replies for decision in reply.decisions)
        assert rows == [[d.end, d.seen, d.label, reply.clipped, d.outputs.tolist()] for reply, d in found]
        return rows


def sensing(seed: int, hop: int, kinds: tuple[str, ...] = ("conv", "dense")) -> QuantModel:
    """A random network whose input is windows of a sensor; counts of a few thousand span the input's grid."""
    model = random_model(seed, "medium", kinds, edges=False)
    rng = np.random.default_rng(seed)
    channels, scale = model.input.shape[2], model.input.scale
    normals = [
        Normal(scale * rng.uniform(0.01, 0.1), rng.normal(0, 9 * scale), rng.uniform(0.5, 2)) for _ in range(channels)
    ]
    model.signal = Signal(50, channels, model.input.size // channels, hop, tuple(normals), units="g")
    return model


def drawn(seed: int, channels: int, samples: int) -> np.ndarray:
    """Slow waves, so that consecutive windows are similar, and some values far outside the grid."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, 400, (samples, channels)).cumsum(0) % 8000 - 4000
    steps[rng.random(samples) < 0.01] = 32767
    return steps.astype(np.int16)


@pytest.mark.parametrize(
    ("seed", "hop", "vote", "chunk"),
    [(3, 3, (1, 1), 7), (3, 1000, (2, 3), 64), (8, 1, (3, 5), 1), (4, 17, (1, 4), 5000)],
)
def test_decisions_are_the_twins(tmp_path: Path, seed: int, hop: int, vote: tuple[int, int], chunk: int) -> None:
    """Byte for byte, for any chunk size, with windows that overlap or skip samples; the heap is locked."""
    model = sensing(seed, hop)
    case = Case(model, drawn(seed, model.signal.channels, 3000 if hop > 100 else 600), vote, chunk)
    *decisions, (most, windows, overruns) = case.run(tmp_path)
    assert decisions == case.expected()
    assert len(decisions) == windows >= 3 and overruns == 0
    assert len({tuple(decision[4]) for decision in decisions}) > len(decisions) // 3, "windows differ"
    assert most <= chunk
    assert decisions[-1][3] > 0, "some values were clipped"


def test_a_network_with_history_hears_a_stream(tmp_path: Path) -> None:
    model = sensing(8, 2, ("conv", "history", "dense"))
    model.signal = replace(model.signal, hop=model.signal.window)
    case = Case(model, drawn(5, model.signal.channels, 40 * model.signal.window))
    *decisions, _ = case.run(tmp_path)
    assert len(decisions) == 40 and decisions == case.expected()


def test_other_asyncio_tasks_run_meanwhile(tmp_path: Path) -> None:
    model = sensing(1, 5)
    case = Case(model, drawn(1, model.signal.channels, 600), chunk=16, asyncio=True)
    *decisions, [others_ran] = case.run(tmp_path)
    assert decisions == case.expected() and len(decisions) > 10 and others_ran


def test_windows_are_learned_as_by_the_twin(tmp_path: Path) -> None:
    model = sensing(6, 9)
    case = Case(model, drawn(6, model.signal.channels, 700), rank=2, mode="frozen_a", labels=[0, 1, 1])
    [[losses, adapter]] = case.run(tmp_path)
    ranks = bytes(2 if op.is_matrix else 0 for op in model.ops)
    session = Session(case.base.elm, ranks, "frozen_a", 2, momentum=3)
    session.begin(5)
    wanted = []
    for i, end in enumerate(range(model.signal.window, 701, 9)):
        x, _ = session.quantize(case.counts[end - model.signal.window : end])
        wanted.append(session.train(x.reshape(-1), case.labels[i % 3], 9000))
    assert losses == wanted and len(losses) > 5
    assert adapter == session.save().hex()


def test_a_front_end(tmp_path: Path) -> None:
    """Rows of its outputs, the newest last, each value with its own normalization; the first step has no output."""
    rows = 15
    model = _wide(3 * rows)
    normals = tuple(Normal(0.001 * (i + 1), 0.2, 1.5) for i in range(3))
    model.signal = Signal(50, 2, 4 + (rows - 1) * 2, 6, normals, "spectral")
    case = Case(model, drawn(7, 2, 200), front=True)
    *decisions, _ = case.run(tmp_path)
    flat = case.counts.astype(np.int64)
    steps = [flat[at : at + 4].reshape(-1) for at in range(0, len(flat) - 3, 2)]
    outputs = [[row[2 * i] + row[2 * i + 1] - row[2 * i + 2] for i in range(3)] for row in steps][1:]
    session = Session(case.base.elm, bytes(len(model.ops)), "infer", 1)
    wanted, clipped, done = [], 0, 0
    for last in range(rows, len(outputs) + 1, 3):
        clipped += session.quantize(_wrapped(outputs[done:last]))[1]
        done = last
        x, _ = session.quantize(_wrapped(outputs[last - rows : last]))
        seen = session.infer(x.reshape(-1))
        wanted.append([2 * last + 4, seen, seen, clipped, session.logits.tolist()])
    assert decisions == wanted and len(wanted) > 20


def _wrapped(values: list[list[int]]) -> np.ndarray:
    """Wraps values like array('h')."""
    return np.array(values, np.int64).astype(np.int16)


def _wide(size: int) -> QuantModel:
    """A dense layer on `size` values."""
    rng = np.random.default_rng(3)
    ints = {
        "bias": np.zeros(3, np.int32),
        "multiplier": np.full(3, 1 << 30, np.int32),
        "shift": np.full(3, -6, np.int8),
    }
    op = Op("dense", 0, 1, weights=rng.integers(-127, 128, (3, 1, 1, size)).astype(np.int8), **ints)
    tensors = [Tensor((1, 1, size), 0.05, -3), Tensor((1, 1, 3), 0.1, 4)]
    return QuantModel(tensors, [op], ["a", "b", "c"])


REFUSALS = """
import edgelora
from edgelora.pipeline import Pipeline
from edgelora.sources import Host
class Front:
    window, hop, size = 4, 3, 5
for name, base, arguments, more in (
    ("none", "plain.elm", (50, 2), {}),
    ("channels", "base.elm", (50, 5), {}),
    ("rate", "base.elm", (60, CHANNELS), {}),
    ("scales", "base.elm", (50, CHANNELS, 9, [1] * CHANNELS), {}),
    ("vote", "base.elm", (51, CHANNELS), {"vote": (3, 2)}),
    ("front", "base.elm", (50, CHANNELS), {"front": Front()}),
    ("needs", "front.elm", (50, CHANNELS), {}),
):
    try:
        Pipeline(edgelora.Model(base, 0, "infer", 1), Host(*arguments), **more)
        print(name, "taken")
    except ValueError as error:
        print(name, error)
"""


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    model = sensing(1, 3)
    (tmp_path / "base.elm").write_bytes(pack_model(model))
    channels = model.signal.channels
    model.signal = replace(model.signal, front="audio")
    (tmp_path / "front.elm").write_bytes(pack_model(model))
    model.signal = None
    (tmp_path / "plain.elm").write_bytes(pack_model(model))
    told = desktop(tmp_path, REFUSALS.replace("CHANNELS", str(channels)))
    said = dict(line.split(" ", 1) for line in told.splitlines())
    assert {name: words for name, words in WORDS.items() if words not in said.get(name, "")} == {}, said


WORDS = {
    "none": "doesn't describe its signal",
    "channels": "has 5 channels, the base takes",
    "rate": "60 samples per second, the base takes 50",
    "scales": "make the source with scales=signal.scales",
    "vote": "k of the last n windows",
    "front": "the front end",
    "needs": "the front end has 40 outputs",
}


# ---- the model takes real values and counts, and returns probabilities


MODEL = """
import json, micropython
from array import array
import edgelora
with open("case.json") as file:
    case = json.load(file)
model = edgelora.Model("base.elm", 2, "frozen_a", 2)
out = bytearray(model.input_size)
told = []
real = case["real"]
for values in (real, tuple(real), array("f", real)):
    told.append([model.quantize(values, out), edgelora.hex_id(out)])
told.append([model.quantize([round(v) for v in real], out), edgelora.hex_id(out)])
counts = array("h", case["counts"])
for same in (counts, memoryview(counts)):
    told.append([model.quantize_counts(same, out), edgelora.hex_id(out)])
model.infer(out)
p = model.probabilities()
micropython.heap_lock()
model.infer(out)
same = model.probabilities() is p
micropython.heap_unlock()
told += [list(p), same, model.evaluate_all([out, bytes(len(out))], [1, 0])]
signal = model.signal
told.append([signal.rate, signal.channels, signal.window, signal.hop, signal.front, signal.units])
told.append([signal.scales, signal.means, signal.stds])
for call in (
    lambda: model.quantize(real[1:], out),
    lambda: model.quantize_counts(array("H", counts), out),
    lambda: model.quantize_counts(counts, out[1:]),
    lambda: edgelora._core.take(out, 1, out, 0, 1, len(out), 1),
    lambda: edgelora._core.take(out, 0, out, 1, 1, len(out), 1),
    lambda: edgelora._core.take(out, 0, out, 0, 2, len(out), 1),
):
    try:
        call()
        told.append("taken")
    except ValueError as error:
        told.append(str(error))
print(json.dumps(told))
"""


def test_a_model_accepts_real_values_and_counts(tmp_path: Path) -> None:
    model = sensing(8, 3)
    counts = drawn(8, model.signal.channels, model.signal.window)
    rng = np.random.default_rng(8)
    step = model.input.scale  # values between two steps, as a board's floats may have 32 bits, and some far outside
    real = (rng.integers(-200, 200, model.input.size) + rng.uniform(-0.4, 0.4, model.input.size)) * step
    (tmp_path / "base.elm").write_bytes(pack_model(model))
    case = {"real": real.tolist(), "counts": counts.reshape(-1).tolist()}
    (tmp_path / "case.json").write_text(json.dumps(case))
    told = json.loads(desktop(tmp_path, MODEL))
    wanted = [round(model.input.clipped(real) * real.size), model.input.quantize(real).tobytes().hex()]
    assert told[:3] == [wanted] * 3 and wanted[0] > 0
    whole = np.rint(real)
    assert told[3] == [round(model.input.clipped(whole) * real.size), model.input.quantize(whole).tobytes().hex()]
    session = Session(pack_model(model), bytes(2 if op.is_matrix else 0 for op in model.ops), "frozen_a", 2)
    x, clipped = session.quantize(counts)
    assert told[4:6] == [[clipped, x.tobytes().hex()]] * 2
    session.infer(x.reshape(-1))
    assert told[6] == session.probabilities().tolist() and told[7] is True
    judged = [session.evaluate(row, label) for row, label in ((x.reshape(-1), 1), (np.zeros(x.size, np.int8), 0))]
    right = sum(best == label for (best, _), label in zip(judged, (1, 0), strict=True))
    assert told[8] == [right, sum(loss for _, loss in judged) // 2]
    signal = model.signal
    assert told[9] == [50, signal.channels, signal.window, 3, "none", "g"]
    read = np.array(told[10])
    assert np.allclose(
        read, [[getattr(n, name) for n in signal.normals] for name in ("scale", "mean", "std")], rtol=1e-6
    )
    assert "values do not fit an input" in told[11] and "must be int16" in told[12]
    assert all("wrong size" in words or "out of range" in words for words in told[13:]), told[13:]
