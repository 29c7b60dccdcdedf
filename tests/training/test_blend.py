"""Blending adapters on the host: `edgelora blend`, and `blend` and `merge` of `import edgelora`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reference
from commands import edgelora as command
from commands import result
from random_models import random_adapter, random_input, random_model
from tflite_writer import run_tflm, write_tflite

import edgelora
from edgelora.base.errors import InputError
from edgelora.core.formats.ela import pack_adapter, unpack_adapter
from edgelora.core.formats.elm import pack_model
from edgelora.core.twin.session import Session
from edgelora.model.importers.tflite import convert
from edgelora.model.importers.tflite.convert import import_tflite, inputs_for_calibration


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base as .elm and .tflite, two adapters with one seed, one with another seed, and one with a trained A."""
    file = write_tflite(random_model(1, "medium", ("conv", "conv", "mean", "dense"), oracle=True))
    (tmp_path / "base.tflite").write_bytes(file)
    model = import_tflite(file)
    convert.calibrate(model, inputs_for_calibration(model, None))
    (tmp_path / "base.elm").write_bytes(pack_model(model))
    rng, ranks = np.random.default_rng(0), {i: 3 for i, op in enumerate(model.ops) if op.is_matrix}
    parts = [random_adapter(rng, model, name == "trained", ranks=ranks) for name in ("one", "two", "other", "trained")]
    parts[1].seed = parts[0].seed
    for layer, its in zip(parts[1].layers, parts[0].layers, strict=True):
        layer.a = its.a
    for name, part in zip(("one", "two", "other", "trained"), parts, strict=True):
        (tmp_path / f"{name}.ela").write_bytes(pack_adapter(part))
    return tmp_path


def test_the_command_tells_what_it_made(folder: Path) -> None:
    one, two, other, out = (folder / f"{name}.ela" for name in ("one", "two", "other", "sum"))
    base = edgelora.load(folder / "base.elm")
    same = result("blend", folder / "base.elm", one, two, "--weights", "0.7,0.3", "-o", out)
    assert not same["a_stored"] and same["base_id"] == base.base_id
    assert {(row["rank"], row["adds"]) for row in same["layers"]} == {(3, True)}
    assert all(0 < row["error"] < 0.02 for row in same["layers"]) and same["bytes"] == out.stat().st_size
    parts = [edgelora.load(path, base) for path in (one, two)]
    wanted = reference.blend(base.model, parts, [2867, 1229])
    assert out.read_bytes() == pack_adapter(wanted)
    text = command("blend", folder / "base.elm", one, other, "-o", out)
    assert text.count("joining ranks") == len(same["layers"])
    assert out.read_bytes() == pack_adapter(
        reference.blend(base.model, [parts[0], edgelora.load(other, base)], [2048] * 2)
    )
    command("blend", folder / "base.elm", one, two, "--to-train", "-o", out)
    assert out.read_bytes() == pack_adapter(reference.blend(base.model, parts, [2048] * 2, False))


def test_what_the_command_refuses(folder: Path) -> None:
    one, two, out = (folder / f"{name}.ela" for name in ("one", "two", "sum"))
    blend = ("blend", folder / "base.elm", one, two, "-o", out)
    assert "3 weights for 2 adapters" in command(*blend, "--weights", "1,2,3", code=1)
    assert "weight 9: give -8" in command(*blend, "--weights", "1,9", code=1)
    assert "weight nan" in command(*blend, "--weights", "1,nan", code=1)
    assert "give comma-separated numbers" in command(*blend, "--weights", "a,b", code=2)
    many = [one] * 9
    assert "can't be added up" in command("blend", folder / "base.elm", *many, "-o", out, code=1)
    (folder / "foreign.ela").write_bytes(one.read_bytes()[:16] + bytes(8) + one.read_bytes()[24:])
    assert "CRC" in command("blend", folder / "base.elm", one, folder / "foreign.ela", "-o", out, code=1)
    assert not out.exists()


def test_from_python(folder: Path) -> None:
    base = edgelora.load(folder / "base.elm")
    one = edgelora.load(folder / "one.ela", base)
    total = edgelora.blend(base, [one, folder / "other.ela", folder / "trained.ela"], [1, 0.5, -0.25])
    assert {layer.rank for layer in total.layers} == {9} and total.a_stored
    with pytest.raises(InputError, match="give one for each"):
        edgelora.blend(base, [one], [])
    from_file = edgelora.merge(folder / "base.tflite", total, refit=True)
    from_elm = edgelora.merge(base, total, refit=True)
    for name, merged in (("patched.tflite", from_file), ("written.tflite", from_elm), ("mine.elm", from_elm)):
        merged.save(folder / name)
    assert "steps from the adapter's" in repr(from_file) and from_file.layers == from_elm.layers
    mine = edgelora.load(folder / "mine.elm")
    session = Session(mine.elm, bytes(len(mine.model.ops)), "infer")
    for x in (random_input(np.random.default_rng(seed), base.model) for seed in range(4)):
        session.infer(x)
        for name in ("patched.tflite", "written.tflite"):
            assert run_tflm((folder / name).read_bytes(), x).tolist() == session.logits.tolist()


def test_training_continues_from_averages(folder: Path) -> None:
    """Sessions with the same seed load the mean of two such adapters and train on from it."""
    base = edgelora.load(folder / "base.elm")
    mean = edgelora.blend(base, [folder / "one.ela", folder / "two.ela"], to_train=True)
    one = edgelora.load(folder / "one.ela", base)
    assert [layer.branch_shift for layer in mean.layers] == [layer.branch_shift for layer in one.layers]
    session = Session(base.elm, mean.ranks(len(base.model.ops)), "frozen_a", 1)
    session.load(pack_adapter(mean))
    rng = np.random.default_rng(0)
    for _ in range(4):
        session.train(random_input(rng, base.model), 0, 6000)
    again = unpack_adapter(session.save(), base.model)
    assert again.seed == one.seed and not again.a_stored
