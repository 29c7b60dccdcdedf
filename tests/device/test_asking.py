"""Asking for labels: the rule in NumPy, and desktop MicroPython against the same code on the host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from class_cases import small_base
from numpy.typing import NDArray
from programs import desktop

from edgelora.base.errors import InputError
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import base_id, pack_model, unpack_model
from edgelora.core.twin import device
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.data.samples import Samples, Source
from edgelora.learn.training.heads.asking import windows_to_label
from edgelora.learn.training.heads.own_rows import rows_of

WINDOWS = 40


def case(seed: int) -> tuple[bytes, Samples]:
    """A small base with statistics of its own inputs, and windows with labels."""
    rng = np.random.default_rng(seed)
    model = small_base(rng)
    x = rng.integers(-128, 128, (WINDOWS, 1, 1, 5)).astype(np.int8)
    assert model.class_stats
    eye = np.diag(np.arange(900, 1600, 100))
    model.class_stats.inverse = eye[np.tril_indices(7)].astype(np.int16)
    model.class_stats.row_shift = 0
    model.class_stats.rows[:] //= 10
    model.class_stats.biases[:] //= 100
    return pack_model(model), Samples(x, rng.integers(0, 3, WINDOWS))


def margins(elm: bytes, adapter: bytes | None, x: NDArray[np.int8]) -> NDArray[np.int64]:
    session, found = Session(elm, bytes(2), "infer"), []
    session.use(adapter)
    for one in x:
        session.infer(one)
        second, first = sorted(session.probabilities().tolist())[-2:]
        found.append(first - second)
    return np.array(found)


def test_windows_are_unsure_and_unlike_those_asked_for() -> None:
    elm, samples = case(1)
    model = device.module().Model(elm, 4)
    model.use(None)
    asking = device.module("asking").Asking(model, Source(samples))
    inputs = Session(elm, bytes(2), "infer").last_inputs(samples.x.reshape(WINDOWS, -1)).astype(np.int64)
    weights = np.arange(900, 1600, 100)
    asked: list[int] = []
    for press in range(12):
        number = asking.ask()
        adapter = rows_of(elm, samples.part(np.isin(np.arange(WINDOWS), asked)), 2) if asked else None
        margin = margins(elm, adapter, samples.x)
        near = np.ones(WINDOWS)
        if asked:
            apart = inputs[:, None] - inputs[asked][None]
            near = (weights * apart**2).sum(axis=2).min(axis=1).astype(float)
        worth = (32768 - margin) * near
        worth[asked] = -1
        assert number not in asked and asking.margin == margin[number]
        assert worth[number] >= 0.999 * worth.max(), "the same up to the rounding of rows"
        asking.label(number, int(samples.y[number]))
        asked.append(number)
        assert model.used is None and asking.labelled.count == press + 1
    for number in range(WINDOWS):
        asking.skip(number)
    assert asking.ask() is None
    with pytest.raises(ValueError, match="only the base's classes"):
        asking.label(0, 3)


def judged(model: Any, labelled: Any) -> list[Any]:
    """As the program does it."""
    rows = device.module("rows").OwnRows(model, labelled)
    steps = sum(1 for _ in rows.judge())
    made = rows.adapter()
    model.use(None)
    adapter = bytes(made.buffer).hex() if made else None
    return [steps, rows.unsure, rows.doubt, list(rows.before), list(rows.after), adapter]


def test_boards_ask_and_judge_as_the_host(tmp_path: Path) -> None:
    elm, samples = case(6)
    (tmp_path / "base.elm").write_bytes(elm)
    (tmp_path / "windows.eld").write_bytes(pack_samples(samples.x, samples.y, None, base_id(elm)))
    told = desktop(tmp_path, "import asking_runs; asking_runs.main(5, 14)")
    model: Any = device.module().Model(elm, 4)
    model.use(None)
    asking, asked = device.module("asking").Asking(model, Source(samples)), []
    for _ in range(14):
        number = asking.ask()
        asked.append([number, asking.said, asking.margin])
        asking.label(number, int(samples.y[number]))
        if len(asked) == 5:
            few = judged(model, asking.labelled)
    assert few[1] and few[2], "the base is unsure of these five, and rows of them are used"
    assert json.loads(told) == [asked, few, judged(model, asking.labelled)]


def test_the_command_names_windows_beside_those_with_labels() -> None:
    elm, samples = case(3)
    base = Base("base.elm", elm, unpack_model(elm))
    known = np.arange(WINDOWS) < 6
    found = windows_to_label(base, samples.part(~known), samples.part(known), 5)
    assert len({one.number for one in found}) == 5 and all(0 <= one.number < WINDOWS - 6 for one in found)
    assert {one.predicted for one in found} <= {"rest", "walk", "run"}
    assert found != windows_to_label(base, samples.part(~known), None, 5)
    assert len(windows_to_label(base, samples.part(known), None, 50)) == 6
    model = base.model
    model.class_stats = None
    with pytest.raises(InputError, match="class statistics"):
        windows_to_label(Base("base.elm", pack_model(model), model), samples, None, 1)
