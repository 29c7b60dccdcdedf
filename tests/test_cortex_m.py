"""The core with DSP instructions, on emulated Cortex-M33, M4 and M7: bit for bit the NumPy reference and the twin."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import reference
from random_models import random_adapter, random_input, random_model
from test_core import random_case, ranks_of

from edgelora import formats, twin
from edgelora.bench_kernels import SHAPES
from edgelora.boards import ROOT
from edgelora.model import LOSSES
from edgelora.networks import network
from edgelora.personalize import Recipe

sys.path.insert(0, str(ROOT / "tools"))

from cortex_m import CORTEX_M4, CORTEX_M7, CORTEX_M33, Calls, build  # noqa: E402

Answers = list[bytes | int]
Run = Callable[[Calls], Answers]
GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.txt"))


@pytest.fixture(scope="module", params=(CORTEX_M33, CORTEX_M4, CORTEX_M7), ids=lambda machine: machine.core)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    elf = build(request.param, tmp_path_factory.mktemp("cortex_m"))
    return lambda calls: calls.run(request.param, elf)


def unhexed(text: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(text), np.int8)


def golden_calls(path: Path) -> tuple[Calls, Answers]:
    """The runs of a golden file, and what they answer."""
    calls, expected, elm, model = Calls(), Answers(), b"", None
    lines = path.read_text().splitlines()
    sample = next(line.split()[-1] for line in lines if line.startswith("step"))
    for line in lines:
        kind, *values = line.split()
        if kind == "elm":
            elm = bytes.fromhex(values[0])
            model = formats.unpack_model(elm)
        elif kind == "run":
            micro_batch, rate = int(values[2]), int(values[4])
        elif kind == "start":
            start = bytes.fromhex(values[0])
            adapter = formats.unpack_adapter(start, model, formats.base_id(elm))
            ranks = ranks_of(model, {layer.op: layer.rank for layer in adapter.layers})
            mode = "trainable_a" if adapter.trainable_a else "frozen_a"
            frames = len(unhexed(sample)) // model.input.size
            calls.open(elm, ranks, mode, micro_batch, adapter.momentum, adapter.threshold, frames)
            calls.load(start)
            expected += [0, 0]
        elif kind == "step":
            target, loss, _, x = values
            calls.train(unhexed(x), int(target) if model.loss == "cross_entropy" else unhexed(target), rate)
            expected.append(int(loss))
        elif kind == "final":
            calls.flush(rate)
            calls.save(state=True)
            expected += [0, bytes.fromhex(values[0])]
    return calls, expected


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_runs(run: Run, path: Path) -> None:
    calls, expected = golden_calls(path)
    assert len(expected) > 80
    assert run(calls) == expected


def test_forward_equals_reference(run: Run) -> None:
    calls, expected = Calls(), Answers()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        model = random_model(seed, edges=seed % 3 == 0, loss=LOSSES[seed // 3 % 3])
        x = random_input(rng, model)
        for adapter in (None, random_adapter(rng, model, trainable_a=True)):
            logits = reference.forward(model, x, adapter).logits.astype(np.int8).tobytes()
            for plain in (False, True):
                calls.open(formats.pack_model(model), bytes(len(model.ops)), "infer", plain=plain)
                calls.use(formats.pack_adapter(adapter) if adapter else None)
                calls.infer(x)
                expected += [0, 0, logits]
    assert run(calls) == expected


def test_training_equals_reference(run: Run) -> None:
    calls, expected = Calls(), Answers()
    for seed in range(45):
        case = random_case(seed, steps=6)
        options = (case.mode == "trainable_a", case.momentum, case.threshold)
        start = reference.fresh_adapter(case.model, case.ranks, seed, formats.base_id(case.data), *options)
        trainer = reference.Trainer(case.model, start, case.micro_batch)
        losses = [trainer.train(x, target, rate) for x, target, rate in case.samples]
        trainer.flush(3000)
        for plain in (False, True):
            options = (case.mode, case.micro_batch, case.momentum, case.threshold, case.frames, plain)
            calls.open(case.data, ranks_of(case.model, case.ranks), *options)
            calls.begin(seed)
            for sample in case.samples:
                calls.train(*sample)
            calls.flush(3000)
            calls.save(state=True)
            expected += [0, 0, *losses, 0, formats.pack_adapter(trainer.export())]
    assert run(calls) == expected


def test_large_kernels_run_alike_in_both_variants(run: Run) -> None:
    calls = Calls()
    for shape in SHAPES:
        model = network([shape])
        x = random_input(np.random.default_rng(1), model)
        for plain in (False, True):
            calls.open(formats.pack_model(model), b"\0", "infer", plain=plain)
            calls.infer(x)
            calls.count(x, 0, 1)
    answers = run(calls)
    for k, shape in enumerate(SHAPES):
        fast, plain = answers[6 * k : 6 * k + 3], answers[6 * k + 3 : 6 * k + 6]
        assert fast[:2] == plain[:2], shape
        assert min(fast[2], plain[2]) > shape.macs / 2, shape  # instructions: two products in one is the most


@pytest.mark.parametrize("mode", ["frozen_a", "trainable_a"])
def test_keyword_network_learns_as_the_twin_does(run: Run, keyword_elm: bytes, mode: str) -> None:
    model = formats.unpack_model(keyword_elm)
    ranks, rng = Recipe(rank=4).ranks(model), np.random.default_rng(5)
    session, calls = twin.Session(keyword_elm, ranks, mode, 2, 3), Calls()
    calls.open(keyword_elm, ranks, mode, 2, 3)
    calls.begin(7)
    session.begin(7)
    expected: Answers = [0, 0]
    for _ in range(4):
        sample = (random_input(rng, model), int(rng.integers(model.output.size)), 6000)
        calls.train(*sample)
        expected.append(session.train(*sample))
    calls.save(state=True)
    assert run(calls) == [*expected, session.save(state=True)]
