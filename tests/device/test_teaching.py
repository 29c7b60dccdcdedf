"""Corrections: what teaches, what judges, and desktop MicroPython against the same code on the host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from people import of_one_spread, person
from programs import desktop

from edgelora.core.formats.ela import unpack_adapter
from edgelora.core.formats.elm import pack_model
from edgelora.core.twin import device
from edgelora.core.twin.session import Session
from edgelora.learn.training.data.samples import Samples

Call = tuple[str, str, int]


def taught(elm: bytes, samples: Samples, wrong: Samples) -> list[Call]:
    """Samples with labels, then corrections and denials of what the base names wrong, and one taken back."""
    calls: list[Call] = [("correct", x.tobytes().hex(), int(y)) for x, y in zip(samples.x, samples.y, strict=True)]
    session = Session(elm, bytes(2), "infer")
    for i, (x, y) in enumerate(zip(wrong.x, wrong.y, strict=True)):
        said = session.infer(x)
        if said != y:
            calls.append(("deny", x.tobytes().hex(), said) if i % 2 else ("correct", x.tobytes().hex(), int(y)))
    return [*calls, ("undo", "", 0)]


def case(seed: int) -> tuple[bytes, list[Call]]:
    rng = np.random.default_rng(seed)
    net = of_one_spread(rng)
    elm = pack_model(net[0])
    return elm, taught(elm, person(rng, net, 3), person(rng, net, 4))


def host_runs(elm: bytes, calls: list[Call], folder: Path) -> tuple[list[list[Any]], Any]:
    model = device.module().Model(elm, 4)
    create = device.module("training").SampleFile.create
    files = [create(str(folder / name), model) for name in ("host.eld", "host-not.eld")]
    teacher, found = device.module("teaching").Teacher(model, *files), []
    for name, window, label in calls:
        if name == "undo":
            teacher.undo()
        else:
            getattr(teacher, name)(bytes.fromhex(window), label)
        found.append([teacher.doubt, teacher.hinted, bytes(model.used.buffer).hex() if model.used else None])
    return found, teacher


def test_boards_are_taught_as_the_host(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    elm, calls = case(3)
    (tmp_path / "base.elm").write_bytes(elm)
    (tmp_path / "case.json").write_text(json.dumps(calls))
    found, doubt, hinted, active = json.loads(desktop(tmp_path, "import teaching_runs; teaching_runs.main()"))
    wanted, teacher = host_runs(elm, calls, tmp_path)
    assert found == wanted and any(used for _, _, used in found)
    assert (doubt, hinted) == (teacher.doubt, teacher.hinted) == tuple(found[-1][:2]), "the same after a reset"
    assert active == ("me" if doubt else None)


def test_denied_windows_are_hints_that_never_judge(tmp_path: Path) -> None:
    hinted = 0
    for seed in range(6):
        elm, calls = case(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        found, teacher = host_runs(elm, calls, folder)
        corrections = sum(name == "correct" for name, _, _ in calls) - 1
        assert teacher.samples.count == corrections and teacher.denied.count == len(calls) - corrections - 2
        if teacher.doubt:
            made = unpack_adapter(bytes(teacher.model.used.buffer)).classes
            assert sum(row.samples for row in made) == corrections + teacher.hinted - teacher.doubtful
            alone = teacher._judged(None)
            with_hints = teacher._judged(teacher._taken()) if teacher.hinted else alone
            assert with_hints.before == alone.before and with_hints.count == corrections
            assert not teacher.hinted or with_hints.after[1] < alone.after[1]
        hinted += teacher.hinted
    assert hinted, "some denials were of use"


def test_mistakes_alone_teach_nothing_and_wrong_classes_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    net = of_one_spread(rng)
    elm, samples = pack_model(net[0]), person(rng, net, 30)
    said = Session(elm, bytes(2), "infer").predict(samples.x)
    wrong = samples.part(said != samples.y)
    calls: list[Call] = [
        ("correct", x.tobytes().hex(), int(y)) for x, y in zip(wrong.x[:20], wrong.y[:20], strict=True)
    ]
    found, teacher = host_runs(elm, calls, tmp_path)
    assert {doubt for doubt, _, _ in found} == {0}
    for call in (teacher.correct, teacher.deny):
        with pytest.raises(ValueError, match="only the base's classes"):
            call(bytes(5), 3)
    assert teacher.samples.count == 20 and not teacher.denied.count
