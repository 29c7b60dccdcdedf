"""The reservoir and long-term learning: a board does the same as its twin, and a power cut costs one sample at most."""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
import subprocess
import sys
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import execute
from documents import blocks
from fresh import FULL, slow
from programs import PROGRAMS, desktop, running
from test_training import every, packed, told

from benchmarks.swap import layers_and_adapters
from edgelora.base.errors import EdgeloraError, InputError
from edgelora.base.resources import ROOT
from edgelora.board import build
from edgelora.board.link.client import Link
from edgelora.board.profiles import load_board
from edgelora.board.virtual_boards import SimHandle
from edgelora.core.formats.ela import pack_adapter, unpack_adapter
from edgelora.core.formats.elm import base_id, pack_model, unpack_model
from edgelora.core.formats.signal import Normal, Signal
from edgelora.core.twin import device as board
from edgelora.core.twin import native
from edgelora.learn.training.data.base import pretrained_har
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.judge.early_stopping import Verdict
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.run.lifelong import Lifelong
from edgelora.model.datasets import har as datasets_har
from edgelora.model.quantization.quantize import quantize_on

SLOTS, SEED, EVERY = 40, 5, 4  # as in the programs
LIVED, CONSOLIDATED = 36, 28  # samples of a life on the virtual Pico, and before its consolidation
MIX = 0x9E3779B9


@pytest.fixture(scope="module")
def life() -> tuple[bytes, Samples]:
    """The wearable network of person 3, and 110 of their windows with all classes in turn."""
    people = datasets_har.load_har(3)
    model = quantize_on(pretrained_har(3, 0), people.pretrain)
    samples = every(Samples(model.input.quantize(people.train.x), people.train.y), 110)
    return pack_model(model), samples.part(np.arange(110) * 17 % 110)


@pytest.fixture(scope="module")
def folder(life: tuple[bytes, Samples], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("learner")
    (place / "base.elm").write_bytes(life[0])
    (place / "stream.eld").write_bytes(packed(life[1], base_id(life[0])))
    return place


@pytest.fixture(scope="module")
def worn_life(life: tuple[bytes, Samples]) -> tuple[bytes, Samples]:
    """The same with the sensor's axes turned, so that the base knows little; nothing turns them back."""
    model, samples = unpack_model(life[0]), life[1]
    twice = Samples(np.concatenate([samples.x, samples.x]), np.tile(samples.y, 2))
    return life[0], worn(twice, model.input.zero_point).part(np.arange(len(samples), 2 * len(samples)))


@pytest.fixture(scope="module")
def worn_folder(worn_life: tuple[bytes, Samples], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("worn")
    (place / "base.elm").write_bytes(worn_life[0])
    (place / "stream.eld").write_bytes(packed(worn_life[1], base_id(worn_life[0])))
    return place


def run(code: str, folder: Path) -> Any:
    """What a function of learner_runs.py prints."""
    said = desktop(folder, f"import learner_runs; learner_runs.{code}")
    return json.loads(said.splitlines()[-1].partition(" ")[2])


def lifelong(elm: bytes, epochs: int = 2, **settings: Any) -> Lifelong:
    """The twin of the programs' board."""
    return Lifelong(elm, Recipe(rank=4, momentum=3, seed=SEED, epochs=epochs), SLOTS, **settings)


def learn_all(learner: Lifelong, samples: Samples) -> None:
    for x, y in zip(samples.x, samples.y, strict=True):
        learner.learn(x, int(y))


def hexed(adapter: bytes | None) -> str | None:
    return adapter and adapter.hex()


def test_draws_are_those_that_spec_says() -> None:
    """And uniformly distributed, within 5 standard deviations."""
    import reference

    for seed, stream, n, count in ((0, 0, 0, 1), (7, 131072, 3, 10), (2**32 - 1, 131073, 2**32 - 1, 2**30 - 1)):
        mix = lambda z: int(reference.mix(np.array(z % 2**32, np.uint64)))  # noqa: E731
        number = mix(mix(seed + stream * MIX) + n * MIX)
        assert native.draw(seed, stream, n, count) == number * count >> 32
    counts = np.bincount([native.draw(3, 131072, n, 12) for n in range(24000)], minlength=12)
    assert abs(((counts - 2000) ** 2 / 2000).sum() - 11) < 5 * 22**0.5


def test_axes_are_turned_as_spec_says() -> None:
    """Random matrices, in place or not; a wrong size, type or zero point is refused, and nothing is written."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        matrix = rng.integers(-32768, 32768, (3, 3)).astype(np.int16)
        x = rng.integers(-128, 128, 3 * rng.integers(0, 9)).astype(np.int8)
        zero = int(rng.integers(-128, 128))
        sums = (x.reshape(-1, 3).astype(int) - zero) @ matrix.T.astype(int)
        wanted = np.clip(zero + (sums + 8192 >> 14), -128, 127).astype(np.int8).ravel()
        out, rows = np.zeros_like(x), array("h", matrix.ravel().tolist())
        native.turn(out, x, zero + 128, rows)
        native.turn(x, x, zero + 128, rows)
        assert np.array_equal(out, wanted) and np.array_equal(x, wanted)
    out, rows = bytearray(6), array("h", [16384] * 9)
    for bad in (
        (out, bytes(5), 128, rows),
        (out, bytes(6), 256, rows),
        (out, bytes(6), -1, rows),
        (out, bytes(6), 128, rows[:8]),
        (out, bytes(6), 128, array("H", [1] * 9)),
        (bytearray(4), bytes(4), 128, rows),
    ):
        with pytest.raises(EdgeloraError):
            native.turn(*bad)
    assert not any(out)


def reservoir_of(path: Path, elm: bytes, slots: int, seed: int = SEED) -> Any:
    """The device's own reservoir, on this computer."""
    return board.module("reservoir").Reservoir.create(str(path), board.module().Model(elm, mode="infer"), slots, seed)


RESERVOIRS = {1: 2368754932, 3: 1708532300, 12: 1462482919, 40: 2004663863, 200: 919733475}  # CRC-32 of the slots


@pytest.mark.parametrize("slots", RESERVOIRS)
def test_reservoir_is_its_twin(slots: int, life: tuple[bytes, Samples], folder: Path, tmp_path: Path) -> None:
    elm, samples = life
    twin_of = reservoir_of(tmp_path / "r.elr", elm, slots)
    got = [twin_of.add(x.tobytes(), int(y)) for x, y in zip(samples.x, samples.y, strict=True)]
    found = run(f"fill('r.elr', {slots})", folder)
    learned, held = twin_of.parts()
    judges = held.count if held else 0
    assert found == [got, twin_of.seen, learned.count, judges, twin_of.crc(twin_of.count)]
    content = (folder / "r.elr").read_bytes()
    assert content == (tmp_path / "r.elr").read_bytes()
    counts = 2 * len(twin_of._counts)
    assert zlib.crc32(content[:-counts]) == RESERVOIRS[slots]


def test_reservoir_is_balanced(tmp_path: Path) -> None:
    """Of classes with 800, 80 and 8 samples, each has its fair share. Every sample to learn is equally likely to stay;
    the latest ones to validate stay."""
    counts, stays, runs = (800, 80, 8), np.zeros(888), 60
    elm, _ = layers_and_adapters((2, 3), 0)
    for seed in range(runs):
        reservoir = reservoir_of(tmp_path / f"{seed}.elr", elm, 80, seed)
        order = np.random.default_rng(seed).permutation(np.repeat(range(3), counts))
        numbers = {label: iter(range(sum(counts[:label]), sum(counts[: label + 1]))) for label in range(3)}
        judges: dict[int, list[int]] = {0: [], 1: [], 2: []}
        for label in order:
            number = next(numbers[label])
            if reservoir.judges(label):
                judges[label].append(number)
            reservoir.add(bytes([number % 100, number // 100]), int(label))
        assert reservoir.tally() == ({0: 27, 1: 27, 2: 6}, {0: 9, 1: 9, 2: 2})
        window, parts, latest = bytearray(2), reservoir.parts(), []
        for i in range(parts[0].count):
            parts[0].read(i, window)
            stays[window[0] + 100 * window[1]] += 1
        for i in range(parts[1].count):
            parts[1].read(i, window)
            latest.append(window[0] + 100 * window[1])
        assert sorted(latest) == judges[0][-9:] + judges[1][-9:] + judges[2][-2:]
    early, late = stays[:400].mean(), stays[400:800].mean()
    assert abs(early - late) < 0.2 * early, (early, late)


def test_reservoir_of_version_1_is_upgraded(life: tuple[bytes, Samples], folder: Path, tmp_path: Path) -> None:
    """On the board and on the twin, with the same bytes: its samples, counts and empty slots stay."""
    elm, samples = life
    head = struct.pack("<4sHH8sIHHI", b"ELR1", 1, 32, base_id(elm), samples.x[0].size, 8, 7, SEED)
    checked = lambda part: part + zlib.crc32(part).to_bytes(4, "little")  # noqa: E731
    records = [checked(bytes([y]) + x.tobytes()) for x, y in zip(samples.x[:8], samples.y[:8], strict=True)]
    records[2], records[7] = b"\xff" * len(records[2]), records[7][:-1] + bytes([records[7][-1] ^ 1])
    counts = [checked(struct.pack("<8I", sequence, *range(sequence, sequence + 7))) for sequence in (8, 9)]
    for place in (folder, tmp_path):
        (place / "old.elr").write_bytes(b"".join([checked(head), *records, *counts]))
    found = run("upgrade('old.elr')", folder)
    reservoir = board.module("reservoir").Reservoir(str(tmp_path / "old.elr"))
    kept = [i for i in range(8) if i not in (2, 7)]
    assert found == [list(range(9, 16)), 9, samples.y[kept].tolist()]
    for number, i in enumerate(kept):
        window = bytearray(samples.x[0].size)
        assert reservoir.read(number, window) == samples.y[i] and window == samples.x[i].tobytes()
    assert (folder / "old.elr").read_bytes() == (tmp_path / "old.elr").read_bytes()
    assert Path(reservoir.path).read_bytes()[4:6] == b"\x02\0"


QUARTER = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])  # a turn of the axes by 90 degrees


def worn(samples: Samples, zero: int) -> Samples:
    """The samples with the sensor worn another way from the middle on."""
    x, half = samples.x.copy(), len(samples) // 2
    vectors = (x[half:].astype(int) - zero).reshape(-1, 3) @ QUARTER
    x[half:] = np.clip(vectors + zero, -128, 127).astype(np.int8).reshape(x[half:].shape)
    return Samples(x, samples.y)


def test_a_turned_sensor_is_noticed_and_turned_back(folder: Path, tmp_path: Path) -> None:
    """On the board as on the twin, with resets: the axes are turned by 90 degrees, which the matrix undoes; windows are
    classified as before. Earlier and later samples in the reservoir are in the same axes."""
    people = datasets_har.load_har(3)
    model = replace(quantize_on(pretrained_har(3, 0), people.pretrain), signal=people.train.signal)
    elm = pack_model(model)
    train = Samples(model.input.quantize(people.train.x), people.train.y)
    mixed = train.part(np.random.default_rng(5).permutation(len(train)))
    samples, half = worn(mixed, model.input.zero_point), len(mixed) // 2
    (tmp_path / "base.elm").write_bytes(elm)
    (tmp_path / "stream.eld").write_bytes(packed(samples, base_id(elm)))
    learner = lifelong(elm, 3)
    at, wanted = None, []
    for i, (x, y) in enumerate(zip(samples.x, samples.y, strict=True)):
        if i in (64, 100, 128):
            if i == 64:
                learner.consolidate()
            learner.restart()
        learner.learn(x, int(y))
        wanted.append(int(learner.predict(x[None])[0]))
        if at is None and learner.learner.matrix:
            at = i
    assert at is not None and half <= at < half + 32, at
    assert np.array_equal(np.array(learner.learner.matrix).reshape(3, 3), 16384 * QUARTER)
    named, _, *found, in_use = run(f"live({len(samples)}, (64, 100, 128), 64)", tmp_path)
    assert named == wanted and found == [list(learner.learner.matrix), learner.learner.notice]
    learner.restart()
    assert in_use == hexed(learner.in_use)
    assert (tmp_path / "board.elr").read_bytes() == Path(learner.reservoir.path).read_bytes()
    window, came = bytearray(samples.x[0].size), {x.tobytes() for x in mixed.x}
    for i in range(learner.reservoir.count):
        learner.reservoir.read(i, window)
        assert bytes(window) in came or -128 in np.frombuffer(window, np.int8) or 127 in np.frombuffer(window, np.int8)
    test = Samples(model.input.quantize(people.test.x), people.test.y)
    turned = worn(Samples(np.concatenate([test.x, test.x]), np.tile(test.y, 2)), model.input.zero_point)
    right = np.mean(learner.predict(turned.x[len(test) :]) == test.y)
    base = Lifelong(elm, Recipe(rank=4), SLOTS)
    assert right > np.mean(base.predict(turned.x[len(test) :]) == test.y) + 0.2


class Counts:
    """A source of counts, int16 [n, 6]."""

    def __init__(self, counts: np.ndarray, signal: Signal) -> None:
        self.channels, self.rate, self.scales = 6, signal.rate, [normal.scale for normal in signal.normals]
        self._left = counts.ravel().tolist()

    def read_into(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._left)) // 6
        for i in range(6 * count):
            buffer[i] = self._left.pop(0)
        return count

    @property
    def ended(self) -> bool:
        return not self._left


def test_a_pipeline_classifies_with_turned_axes() -> None:
    """`Pipeline.infer` is the model's, or the learner's; the windows themselves stay as the sensor gives them."""
    people = datasets_har.load_har(3)
    model = replace(quantize_on(pretrained_har(3, 0), people.pretrain), signal=people.train.signal)
    learner = Lifelong(pack_model(model), Recipe(rank=4), SLOTS)
    recordings = datasets_har.har_takes(3, "test")
    counts = np.concatenate([taken[:300] for taken, _ in recordings])
    named: list[list[int]] = []
    for turned in (False, True):
        pipeline = board.module("pipeline").Pipeline(learner.model, Counts(counts, people.train.signal))
        if turned:
            rows = array("h", (16384 * QUARTER).ravel().tolist())
            learner.reservoir.turn(rows, model.input.zero_point + 128, 0)
            pipeline.infer = learner.learner.infer
        named.append([])
        while not pipeline.ended:
            if pipeline.step():
                named[-1].append(pipeline.seen)
                infer = learner.learner.infer if turned else learner.model.infer
                assert pipeline.seen == infer(pipeline.x)
    assert len(named[0]) == len(named[1]) > 20 and named[0] != named[1]


def test_an_adapter_rests_while_the_base_is_better(folder: Path, life: tuple[bytes, Samples], tmp_path: Path) -> None:
    """An adapter of wrong labels is not in use any more once right ones show it, on the board and the twin; reset or
    not. Samples from before are dropped."""
    elm, samples = life
    wrong = lifelong(elm, 6)
    learn_all(wrong, Samples(samples.x, (samples.y + 1) % 7))
    wrong.consolidate()
    bad = wrong.in_use
    assert bad
    (folder / "bad.ela").write_bytes(bad)
    learner = lifelong(elm, in_use=bad)
    used = []
    for i, (x, y) in enumerate(zip(samples.x[:40], samples.y[:40], strict=True)):
        if i == 12:
            learner.restart()
        learner.learn(x, int(y))
        used.append(learner.in_use == bad)
    assert used[:15] == [True] * 15 and used[15:] == [False] * 25
    _, found, *_, in_use = run("live(40, (12,), adapter='bad.ela')", folder)
    assert found == used and in_use is None


@pytest.mark.parametrize("rests", [False, True])
def test_an_adapter_that_rests_turns_no_axes(rests: bool, life: tuple[bytes, Samples], folder: Path) -> None:
    """Outcomes by which a turn would be undone: the adapter is right less often than usual, but always with the turn.
    Without an alert that is no evidence from an adapter that wrong labels may have taught."""
    elm, samples = life
    learner = lifelong(elm)
    learn_all(learner, samples)
    learner.put(learner.learned)
    learner.reservoir.rest(rests)
    learner.restart()
    state = learner.reservoir.state
    for i in range(32):
        state[i] = i % 2 | 1 << 9 | i % 7 << 23
    state[32:36] = array("I", [32, 100, 128, 0])  # outcomes; right of usual; alert
    learner.learn(samples.x[0], int(samples.y[0]))
    assert (learner.learner.matrix is None) == rests


def test_reservoir_survives_cuts(folder: Path) -> None:
    assert run("torn()", folder) > 1000


def test_guide_years(life: tuple[bytes, Samples], folder: Path, tmp_path: Path) -> None:
    """Runs the guide's code: a life with one idle period."""
    [code] = blocks("docs/guides/years.md", "python", "tested: years")
    code = code.replace("/rom/har.elm", "base.elm").replace("/samples.elr", "samples.elr")
    for name in ("base.elm", "stream.eld"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    setup = (
        "from edgelora.training import SampleFile\nfile, steps = SampleFile('stream.eld'), []\n"
        "buffer = bytearray(file.sample_size)\ndef next_window():\n for turn in range(file.count):\n"
        "  yield buffer, file.read(turn * 7 % file.count, buffer)\n"
        "def idle():\n return sum(learner.reservoir.seen) == 90\ndef feed_the_watchdog():\n steps.append(0)\n"
    )
    output = desktop(tmp_path, setup + code + "print(len(steps) > 1600, learner.in_use is not None)")
    assert str(np.bincount(life[1].y).tolist()) in output and output.endswith("True True\n")


def test_guide_classes(folder: Path, tmp_path: Path) -> None:
    """Runs the guide's code, with square waves as the new class."""
    [code] = blocks("docs/guides/classes.md", "python", "tested: classes")
    code = code.replace("/rom/har.elm", "base.elm").replace("/me.ela", "me.ela")
    for name in ("base.elm", "stream.eld"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    setup = (
        "from edgelora.training import SampleFile\nfile, asked = SampleFile('stream.eld'), [0]\n"
        "def window(i):\n buffer = bytearray(file.sample_size)\n file.read(i, buffer)\n return buffer\n"
        "def waved(i):\n return bytes((i + 60 * (k // 30 % 2 * 2 - 1)) & 255 for k in range(file.sample_size))\n"
        "def record(n):\n asked[0] += 1\n make = window if asked[0] == 2 else waved\n"
        " return [make(asked[0] + i) for i in range(n)]\n"
    )
    told = "print([len(model.labels), model.used.record(1)[0], len(model.used.buffer)])"
    output = desktop(tmp_path, setup + code + told)
    assert output.splitlines()[-2:] == ["wave", "[8, 2, 252]"]
    rows = unpack_adapter((tmp_path / "me.ela").read_bytes()).classes
    assert [(row.number, row.name, row.samples) for row in rows] == [(0, "", 10), (7, "wave", 10)]


@pytest.mark.parametrize(("mode", "momentum"), [("frozen_a", 3), ("trainable_a", 1)])
def test_learner_is_its_twin(mode: str, momentum: int, life: tuple[bytes, Samples], folder: Path) -> None:
    elm, samples = life
    recipe = Recipe(rank=4, mode=mode, momentum=momentum, seed=SEED, epochs=6)
    learner = Lifelong(elm, recipe, SLOTS, judge_every=EVERY)
    wanted: list[object] = []

    def tell() -> None:
        reservoir = learner.reservoir
        wanted.append([hexed(learner.in_use), learner.learned.hex(), reservoir.crc(reservoir.count)])

    for i, (x, y) in enumerate(zip(samples.x, samples.y, strict=True)):
        if i == 60:
            learner.restart()
        if i == 80:
            tell()
            wanted.append(learner.consolidate().verdict is Verdict.BETTER)
            tell()
        learner.learn(x, int(y))
        if i % 16 == 0:
            wanted.append([int(learner.predict(x[None])[0]), learner.learner.updates])
    tell()
    assert run(f"learn({mode!r}, {momentum}, 6)", folder) == wanted
    assert wanted[-1][0], "something was better than the base"


def in_two_parts(learner: Lifelong) -> bytes | None:
    """Consolidates; returns what was in use after the first part, which is left where its end is cut off."""
    passed = None
    for run in learner.learner.consolidate(learner.recipe.epochs):
        if run and run.done and run.better is not None:
            passed = learner.learner._kept and bytes(learner.learner._kept)
    return passed


def test_learner_is_its_twin_after_power_cuts(worn_life: tuple[bytes, Samples], worn_folder: Path) -> None:
    """With cuts at the store's changes, during an evaluation or a consolidation, the board continues like the twin."""
    elm, samples = worn_life

    def twin_of(cut_at: int, left: str | None) -> str | None:
        """The adapter in use at the end, if the power failed at that sample and left `left` in use."""
        learner = lifelong(elm, judge_every=EVERY)
        for i, (x, y) in enumerate(zip(samples.x, samples.y, strict=True)):
            if i == 80:
                passed = in_two_parts(learner)
                if cut_at < 0 and left:
                    assert left in {hexed(passed), hexed(learner.in_use)}
                    learner.put(bytes.fromhex(left))
            before = learner.in_use
            learner.learn(x, int(y))
            if i == cut_at:
                assert left in {hexed(before), hexed(learner.in_use)}
                learner.put(bytes.fromhex(left) if left else None)
        return hexed(learner.in_use)

    changes, [[_, whole]] = run("cut_life(1 << 30, 0, 2)", worn_folder)
    assert changes > 20 and whole == twin_of(-1, None)
    places = set()
    for cut in range(changes) if FULL else np.linspace(0, changes - 1, 5).astype(int).tolist():
        for how in (0, 1, 2) if FULL else (cut % 3,):
            *cuts, [_, last] = run(f"cut_life({cut}, {how}, 2)", worn_folder)[1]
            assert len(cuts) <= 1
            at, left = cuts[0] if cuts else (-1, None)
            places.add(at < 0)
            assert last == twin_of(at, left), (cut, how)
    assert places == {True, False}, "cuts in judgements and in the consolidation"


def waved(i: int, shape: tuple[int, ...]) -> np.ndarray:
    """The same wave as in learner_runs.py."""
    size = int(np.prod(shape))
    values = [(i % 40 + 60 * (k // 30 % 2 * 2 - 1)) & 255 for k in range(size)]
    return np.array(values, np.uint8).view(np.int8).reshape(shape)


def test_added_classes_outlive_a_consolidation(worn_life: tuple[bytes, Samples], worn_folder: Path) -> None:
    """An added class is learned, evaluated and consolidated as on the twin, wherever the power is cut; its removal
    leaves the other layers unchanged, to the byte."""
    elm, samples = worn_life
    shape, known = samples.x.shape[1:], unpack_model(elm).classes
    learner = lifelong(elm, 24, classes=known + 1, judge_every=EVERY)
    wanted: list[object] = []

    def tell() -> None:
        reservoir = learner.reservoir
        wanted.append([hexed(learner.in_use), reservoir.crc(reservoir.count)])

    for i, (x, y) in enumerate(zip(samples.x, samples.y, strict=True)):
        if i == 40:
            assert learner.add_class("wave", np.array([waved(k, shape) for k in range(10)])) == known
            tell()
        if i == 80:
            tell()
            learner.restart()
            before, outcome = learner.in_use, learner.consolidate()
            assert outcome.verdict is Verdict.BETTER and learner.in_use != before
            tell()
        learner.learn(x, int(y))
        if i % 4 == 0 and i >= 40:
            learner.learn(waved(i, shape), known)
            wanted.append([int(learner.predict(waved(i + 1, shape)[None])[0]), learner.learner.updates])
    tell()
    assert learner.in_use
    last = unpack_adapter(learner.in_use)
    [row] = last.classes
    assert (row.number, row.name) == (known, "wave") and row.samples != 10, "made of the reservoir's samples"
    assert [said for said, _ in wanted if isinstance(said, int)][-5:] == [known] * 5
    learner.remove_class("wave")
    tell()
    last.records.clear()
    assert learner.in_use == pack_adapter(last)

    changes, found = run("add(24)", worn_folder)
    assert found == wanted and changes >= 10
    for cut in range(changes) if FULL else (changes // 2, changes - 2):
        for how in (0, 1, 2) if FULL else (cut % 3,):
            assert run(f"add(24, {cut}, {how})", worn_folder)[1] == wanted, (cut, how)


LOPSIDED: dict[str, Callable[[list[list[int]]], list[tuple[int, int]]]] = {  # from the numbers of the samples by class
    "one sample": lambda of: [(of[0][0], 0)],
    "one class": lambda of: [(i, 0) for i in of[0]] * 3,
    "two classes": lambda of: [(i, y) for pair in zip(*of[:2], strict=False) for y, i in enumerate(pair)] * 2,
    "one class in plenty": lambda of: [*((i, 1) for i in of[1][:8]), *((i, 0) for i in of[0] * 4)],
    "labels drawn by lot": lambda of: [(i % 110, int(y)) for i, y in enumerate(LOTS)],
    "each second label drawn by lot": lambda of: [
        (i % 110, int(LOTS[i]) if i % 2 else next(y for y, numbers in enumerate(of) if i % 110 in numbers))
        for i in range(len(LOTS))
    ],
    "added classes alone": lambda of: [(i, 7 + i % 2) for i in range(48)],
}
LOTS = np.random.default_rng(1).integers(0, 7, 200)


@pytest.mark.parametrize("what", LOPSIDED)
def test_unbalanced_data_activates_no_worse_adapter(what: str, life: tuple[bytes, Samples], folder: Path) -> None:
    """One sample, few classes or wrong labels: the active adapter remains, on the board and on the twin."""
    elm, samples = life
    names = ["wave", "saw"] if "added" in what else []
    shape, known = samples.x.shape[1:], unpack_model(elm).classes
    learner = lifelong(elm, classes=known + len(names), judge_every=EVERY)
    for turn, name in enumerate(names):
        learner.add_class(name, np.array([waved(k + 40 * turn, shape) for k in range(10)]))
    before = learner.in_use
    given = LOPSIDED[what]([np.flatnonzero(samples.y == label).tolist() for label in range(known)])
    for i, label in given:
        learner.learn(samples.x[i] if label < known else waved(i + label, shape), label)
    wanted: list[object] = [hexed(learner.in_use)]
    try:
        wanted.append(learner.consolidate().better)
    except InputError:
        wanted.append(None)
    first, *found, last, seen = run(f"given({given}, {names})", folder)
    assert found == wanted and first == last == hexed(learner.in_use) == hexed(before)
    assert seen == learner.reservoir.seen


def test_wrong_labels_take_no_part_in_a_consolidation(life: tuple[bytes, Samples], folder: Path) -> None:
    """A fifth of the labels is wrong: most of these are found, hardly any right one, and the adapter of the others is
    in use, on the board and on the twin."""
    elm, samples = life
    people = datasets_har.load_har(3)
    test = Samples(unpack_model(elm).input.quantize(people.test.x), people.test.y)
    learner = lifelong(elm, 6, judge_every=EVERY)
    before = float(np.mean(learner.predict(test.x) == test.y))
    numbers = np.arange(220)
    right = samples.y[numbers % 110]
    labels = np.where(numbers % 5 == 2, (right + 1 + numbers % 6) % 7, right)
    for number, label in zip(numbers.tolist(), labels.tolist(), strict=True):
        learner.learn(samples.x[number % 110], label)
    assert learner.in_use is None, "the base alone, before the consolidation"
    windows = {x.tobytes(): int(y) for x, y in zip(samples.x, samples.y, strict=True)}
    is_wrong, buffer = [], bytearray(learner.reservoir.sample_size)
    for i in range(learner.reservoir.count):
        label = learner.reservoir.read(i, buffer)
        is_wrong.append(label != windows[bytes(buffer)])
    steps = learner.learner.consolidate(6)
    assert next(steps) is None, "a step of looking for wrong labels"
    *_, last = steps
    found = [is_wrong[i] for i in learner.learner.left_out]
    assert sum(found) > 0.7 * sum(is_wrong) > 4 and found.count(False) <= 1, (found, sum(is_wrong))
    assert last.better and learner.in_use
    assert np.mean(learner.predict(test.x) == test.y) > before + 0.02
    given = [(number % 110, label) for number, label in zip(numbers.tolist(), labels.tolist(), strict=True)]
    assert run(f"given({given}, [], epochs=6)", folder)[1:4] == [None, True, learner.in_use.hex()]


def test_classes_to_evaluate_can_be_selected(worn_life: tuple[bytes, Samples], worn_folder: Path) -> None:
    """After training on two classes no adapter is activated, as it might forget the others, unless `only` excludes
    these."""
    elm, samples = worn_life
    two = [i for i in np.flatnonzero(samples.y < 2).tolist()] * 3
    used = []
    for only in (None, {0, 1}):
        learner = lifelong(elm, judge_every=EVERY, only=only)
        learn_all(learner, samples.part(np.array(two)))
        if only is None:
            assert learner.learner.untold == {2, 3, 4, 5, 6}
            with pytest.raises(InputError, match="no samples of class 2, 3, 4, 5, 6"):
                learner.consolidate()
        used.append(hexed(learner.in_use))
    given = [(i, int(samples.y[i])) for i in two]
    board = [run(f"given({given}, [], {only})", worn_folder)[1] for only in (None, (0, 1))]
    assert board == used and used[0] is None and used[1]


def test_a_class_that_harms_others_is_not_added(worn_life: tuple[bytes, Samples], worn_folder: Path) -> None:
    """Two samples of a known class under another name: known samples would be misclassified, so nothing changes."""
    elm, samples = worn_life
    known = unpack_model(elm).classes
    learner = lifelong(elm, classes=known + 1, judge_every=EVERY)
    learn_all(learner, samples)
    harmful = np.flatnonzero(samples.y == 0)[:2].tolist()
    with pytest.raises(InputError, match="would be correct"):
        learner.add_class("wave", samples.x[harmful])
    assert known not in learner.reservoir.tally()[0]
    given = [*enumerate(samples.y.tolist())]
    _, in_use, *_, seen = run(f"given({given}, [], harmful={harmful})", worn_folder)
    assert (in_use, seen) == (hexed(learner.in_use), learner.reservoir.seen)


def test_a_run_does_not_drop_classes(folder: Path) -> None:
    assert run("dropped()", folder) == "kept"


# ---- power cuts on the virtual Pico's flash


def small_life() -> tuple[bytes, Samples]:
    """A small network on windows of three axes, and samples of three classes, except for the first one.

    With this seed the consolidation has a second part.
    """
    elm, _ = layers_and_adapters((24, 16, 4), 0)
    model = unpack_model(elm)
    model.signal = Signal(50, 3, 8, 4, (Normal(0.001, 0, 1),) * 3)
    rng = np.random.default_rng(94)
    labels = np.arange(LIVED) % 3  # so that six are held out before the consolidation
    labels[0] = 3  # and every class has a sample
    x = np.clip(rng.normal(0, 110, (4, 24))[labels] + rng.normal(0, 10, (LIVED, 24)), -128, 127)
    return pack_model(model), Samples(x.astype(np.int8).reshape(-1, *model.input.shape), labels)


class TwinLife:
    """The twin of `cut_life.Life`, from a state that the board printed."""

    def __init__(self, elm: bytes, samples: Samples, found: dict[str, Any] | None = None) -> None:
        recipe = Recipe(rank=4, micro_batch=4, momentum=2, seed=SEED, epochs=40)
        self.learner, self.samples = Lifelong(elm, recipe, 24, judge_every=EVERY), samples
        self.passed: str | None = None  # in use after the first part of the consolidation
        if found:
            Path(self.learner.reservoir.path).write_bytes(bytes.fromhex(found["file"]))
            self.learner.put(bytes.fromhex(found["in_use"]) if found["in_use"] else None)

    def told(self) -> dict[str, Any]:
        in_use, reservoir = self.learner.in_use, self.learner.reservoir
        content = Path(reservoir.path).read_bytes().hex()
        return {"in_use": in_use and in_use.hex(), "seen": reservoir.seen, "file": content}

    def live(self) -> Iterator[tuple[int, str | None]]:
        """The number of samples so far and the active adapter, whenever one of them may have changed."""
        while (n := sum(self.learner.reservoir.seen)) < LIVED:
            yield n, self.told()["in_use"]
            if n == CONSOLIDATED:
                passed = in_two_parts(self.learner)
                self.passed = passed and passed.hex()
                yield n, self.passed
                yield n, self.told()["in_use"]
            self.learner.learn(self.samples.x[n], int(self.samples.y[n]))
            yield n, self.told()["in_use"]
        yield n, self.told()["in_use"]


def taken(n: int) -> list[int]:
    """The recorder's samples after n samples: every third undoes the one before."""
    return [i % 4 for i in range(n) if i % 3 != 2]


@contextlib.contextmanager
def recorded_pico(folder: Path) -> Iterator[str]:
    """The port of a virtual Pico whose flash commands are recorded."""
    (folder / "record").touch()
    recorder = ROOT / "tests" / "support" / "flash_recorder.py"
    command = [sys.executable, recorder, folder / "record", "virtual-pico", folder / "pico"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        assert process.stdout
        handle = SimHandle(**json.loads(process.stdout.readline()))
        try:
            yield handle.port
        finally:
            handle.kill()


@slow
def test_power_cuts_at_flash_commands_of_the_virtual_pico(tmp_path: Path) -> None:
    """A learner and a recorder in the Pico's own flash: each command, half done or complete, leaves a state that the
    twin knows, and from there both continue in the same way. The board is resumed on desktop MicroPython.
    """
    elm, samples = small_life()
    image = build.build_firmware("virtual-pico", {}, tmp_path / "fw.uf2")
    with running("virtual-pico", image, tmp_path / "pico") as board:
        with Link.connect(board.port) as link:
            link.put("/base.elm", elm)
            link.put("/stream.eld", packed(samples, base_id(elm)))
            link.put("/cut_life.py", (PROGRAMS / "cut_life.py").read_bytes())
        execute(board.port, "import cut_life; cut_life.pico(0)")  # creates the files and the store
    shutil.copy(tmp_path / "pico" / "flash.bin", tmp_path / "flash")
    with recorded_pico(tmp_path) as port:
        end = json.loads(told(execute(port, f"import cut_life; cut_life.pico({LIVED})"), "TOLD"))
    life = TwinLife(elm, samples)
    in_use: dict[int, set[str | None]] = {}
    for n, adapter in life.live():
        in_use.setdefault(n, set()).add(adapter)
    whole = life.told()
    assert end == whole | {"taken": taken(LIVED)} and len(set.union(*in_use.values())) > 2

    records, content = 0, (tmp_path / "record").read_bytes()
    while content:
        records, content = records + 1, content[8 + int.from_bytes(content[4:8], "little") :]
    every = [(number, half) for number in range(records) for half in (True, False)]
    cuts = every if FULL else every[:: len(every) // 24]
    layout = load_board("virtual-pico").flash
    assert layout and records > 200
    offsets = {"storage": layout.storage_offset, "store": layout.total_bytes - layout.store_bytes}
    (tmp_path / "layout.json").write_text(json.dumps(offsets | {"records": records, "cuts": cuts}))
    output = desktop(tmp_path, f"import cut_life; cut_life.main({str(tmp_path)!r}, {LIVED})", "16m")
    lines = [json.loads(line[4:]) for line in output.splitlines() if line.startswith("CUT ")]
    assert len(lines) == len(cuts), output[-2000:]
    for number, found, last in lines:
        n = sum(found["seen"])
        before, after = taken(n - 1), taken(n)
        assert found.pop("taken") in (before, [*before, (n - 1) % 4], after), number
        assert found["in_use"] in in_use[n] | in_use.get(n - 1, set()), number  # counted, but not evaluated yet
        again = TwinLife(elm, samples, found)
        assert again.told() == found
        for _ in again.live():
            pass
        last.pop("taken")
        resumed = n == CONSOLIDATED and found["in_use"] == life.passed  # in the second part, or before it
        assert last == again.told() or resumed and last == whole, number
