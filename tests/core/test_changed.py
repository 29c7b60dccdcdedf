"""Models and adapters that change in memory after their check, and overlapping buffers: the contract of edgelora.h."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sanitized
from class_cases import drawn_class_stats, small_base
from fresh import SEED, rounds, slow
from random_models import random_model
from random_transformers import Sizes, random_transformer

from edgelora.core.formats.classes import ClassRow, class_inputs, pack_classes
from edgelora.core.formats.ela import CLASSES
from edgelora.core.formats.elm import pack_model
from edgelora.core.formats.network import QuantModel
from edgelora.core.twin.session import Session


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sanitized.build_for_addresses(Path(__file__).with_name("changed.c"), tmp_path_factory.mktemp("changed"))


def models() -> Iterator[QuantModel]:
    """Dense layers only, then kinds that read their inputs in other ways; all with room for classes."""
    rng = np.random.default_rng(0)
    yield small_base(rng)
    sizes = Sizes(5, 1, 20, 2, 1, 8, 20)
    transformers = (random_transformer(seed, sizes) for seed in itertools.count())
    model = next(model for model in transformers if model.ops[-1].kind == "dense" and class_inputs(model))
    yield replace(model, class_stats=drawn_class_stats(rng, class_inputs(model), model.output.size))
    for kinds in (("conv", "gather", "depthwise", "dense"), ("conv", "residual", "max_pool", "dense")):
        for seed in range(100):
            model = random_model(seed, "small", kinds, edges=False)
            inputs = class_inputs(model)
            if inputs and len(pack_model(model)) < 3000:
                model.class_stats = drawn_class_stats(rng, inputs, model.output.size)
                yield model
                break


def with_classes(model: QuantModel) -> bytes:
    """An adapter with a row for one of the base's classes and for four added classes."""
    data, size = pack_model(model), class_inputs(model)
    session = Session(data, bytes(2 if op.is_matrix else 0 for op in model.ops), "trainable_a", 2)
    session.begin(1)
    known, row = model.output.size, np.arange(size).astype(np.int16)
    rows = [ClassRow(1, "", 3, -5, row), *(ClassRow(known + 2 * i, f"new {i}", 3, 5 * i, row * i) for i in range(4))]
    return session.with_record(session.save(state=True), CLASSES, pack_classes(rows))


def run(program: Path, folder: Path, model: QuantModel, times: int) -> subprocess.CompletedProcess[str]:
    for path, data in (("m.elm", pack_model(model)), ("a.ela", with_classes(model))):
        (folder / path).write_bytes(data)
    command = [program, "m.elm", "a.ela", str(times), str(SEED)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


def test_overlapping_buffers_are_refused(changed: Path, tmp_path: Path) -> None:
    for number, model in enumerate(models()):
        done = run(changed, tmp_path, model, 0)
        assert done.returncode == 0, f"model {number}: {done.stderr[-4000:]}"


@slow
def test_changed_structures_access_no_memory_outside(changed: Path, tmp_path: Path) -> None:
    for number, model in enumerate(models()):
        done = run(changed, tmp_path, model, rounds(2000))
        assert done.returncode == 0, f"seed {SEED}, model {number}: {done.stderr[-4000:]}"
        adapters, structures = map(int, done.stdout.split())
        assert adapters == 3 * rounds(2000) and structures > 0.3 * adapters
