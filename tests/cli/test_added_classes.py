"""Adding and removing classes on a board, by real commands over the real link."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from class_cases import small_base
from fresh import slow
from processes import edgelora, result

from edgelora.board.link.client import Link
from edgelora.core.formats.ela import unpack_adapter
from edgelora.core.formats.elm import pack_model
from edgelora.learn.training.data.base import load_base
from edgelora.learn.training.heads.new_classes import add_stored_classes
from edgelora.model.datasets import dataset

CENTRES = {"rest": (4, -6, 0, 5, -3), "walk": (-8, 3, 5, -4, 2), "wave": (0, 9, -9, 9, -9), "jump": (9, 9, 9, -9, -9)}


def windows(names: list[str], count: int, seed: int, spread: float = 0.5) -> dataset.Dataset:
    """`count` windows of each class, around its centre."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(CENTRES[name], spread, (count, 5)) for name in names])
    return dataset.Dataset(x.astype(np.float32)[:, None, None], np.repeat(range(len(names)), count), names)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[str]:
    """The port of a desktop board that has no base yet."""
    board = result("sim", "unix", "--state", tmp_path / "board")
    yield board["port"]
    result("sim", "unix", "--stop", "--state", tmp_path / "board")


@slow
def test_classes_are_added_and_removed(port: str, tmp_path: Path) -> None:
    model, elm = small_base(np.random.default_rng(8)), tmp_path / "base.elm"
    elm.write_bytes(pack_model(model))
    known = windows(["rest", "walk", "wave"], 12, 1)
    dataset.save_dataset(known, tmp_path / "known.npz")
    dataset.save_dataset(windows(["jump"], 12, 2), tmp_path / "jump.npz")
    at = ("--port", port)
    added = result("add-class", elm, "--data", tmp_path / "known.npz", *at)
    assert added["identical"] and added["activated"] and added["judged_by"] == 9
    assert added["after"] == 1 > added["before"]
    assert [(row["number"], row["name"]) for row in added["classes"]] == [(0, "rest"), (1, "walk"), (3, "wave")]
    edgelora("store", "get", "personal", "-o", tmp_path / "first.ela", *at)
    told = result("add-class", elm, "--data", tmp_path / "jump.npz", *at)
    assert told["judged_by"] == 0 and told["activated"] and [row["number"] for row in told["classes"]] == [0, 1, 3, 4]
    assert "the samples are of one class" in told["judged"]
    again = edgelora("add-class", elm, "--data", tmp_path / "known.npz", *at, code=3)
    assert "not better than the active adapter" in again.stderr
    with Link.connect(port) as link:
        _, used = add_stored_classes(link, load_base(elm), windows(["rest", "walk", "wave"], 12, 7), "personal")
        assert not used and link.class_get() == link.store_get("personal"), "the board keeps what it had"
    dataset.save_dataset(windows(["rest", "walk"], 24, 4), tmp_path / "base.npz")
    refused = edgelora(
        "personalize", elm, "--data", tmp_path / "base.npz", "-o", tmp_path / "run", "--on-board", *at, code=1
    )
    assert "added classes (rest, walk, wave, jump)" in refused.stderr and "edgelora consolidate" in refused.stderr
    refused = edgelora("consolidate", elm, "--data", tmp_path / "known.npz", *at, code=1)
    assert "no samples of jump" in refused.stderr
    result("remove-class", elm, "jump", *at)
    edgelora("store", "get", "personal", "-o", tmp_path / "last.ela", *at)
    assert (tmp_path / "last.ela").read_bytes() == (tmp_path / "first.ela").read_bytes()
    assert "no class jump" in edgelora("remove-class", elm, "jump", *at, code=1).stderr
    dataset.save_dataset(windows(["rest", "walk", "wave"], 48, 3, 3), tmp_path / "more.npz")
    anew = result("consolidate", elm, "--data", tmp_path / "more.npz", *at)
    assert anew["better"] and anew["before"] < anew["after"] == anew["judged_by"] == 36 and not anew["left_out"]
    edgelora("store", "get", "personal", "-o", tmp_path / "anew.ela", *at)
    kept = unpack_adapter((tmp_path / "anew.ela").read_bytes())
    assert [row.name for row in kept.classes] == ["", "", "wave"]
    mistaken = windows(["rest", "walk", "wave"], 48, 3)
    mistaken.y[:96:8] = 1 - mistaken.y[:96:8]
    dataset.save_dataset(mistaken, tmp_path / "mistaken.npz")
    told = edgelora("consolidate", elm, "--data", tmp_path / "mistaken.npz", *at, "--json", code=3)
    found = json.loads(told.stdout)
    assert 6 <= found["left_out"] <= 12 and f"the labels of {found['left_out']} samples look wrong" in told.stderr
    assert found["judged_by"] < 36, "nor do these judge"
    model.class_stats = None
    elm.write_bytes(pack_model(model))
    refused = edgelora("add-class", elm, "--data", tmp_path / "known.npz", *at, code=1)
    assert "quantize it from its float network" in refused.stderr
