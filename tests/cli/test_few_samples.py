"""A person's own rows from few samples, on a board, by real commands over the real link."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from class_cases import small_base
from fresh import slow
from processes import edgelora, result
from test_added_classes import windows

from edgelora.board.link.client import Link
from edgelora.core.formats.ela import unpack_adapter
from edgelora.core.formats.elm import pack_model
from edgelora.learn.training.board.board_learner import BoardLearner
from edgelora.learn.training.data.base import Base, WorkflowError
from edgelora.learn.training.heads.own_rows import contest
from edgelora.learn.training.judge.early_stopping import Score, prepared
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.run.board_personalization import _make_rows
from edgelora.model.datasets import dataset

NAMES = ["rest", "walk", "wave"]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("board")
    yield result("sim", "unix", "--state", folder)["port"]
    result("sim", "unix", "--stop", "--state", folder)


@pytest.mark.parametrize("more", [(), ("--on-board",)])
@slow
def test_few_samples_make_rows_that_the_board_uses(port: str, tmp_path: Path, more: tuple[str, ...]) -> None:
    model, elm = small_base(np.random.default_rng(8)), tmp_path / "base.elm"
    model.labels = NAMES
    elm.write_bytes(pack_model(model))
    for name, count, seed in (("few", 3, 1), ("test", 40, 2), ("many", 16, 3)):
        dataset.save_dataset(windows(NAMES, count, seed), tmp_path / f"{name}.npz")
    task = ("personalize", elm, "--test", tmp_path / "test.npz", "-o", tmp_path / "run", "--port", port, *more)
    few = result(*task, "--data", tmp_path / "few.npz", "--epochs", "1")  # layers that hardly learn
    assert few["own_rows"] and few["activated"] and few["host_twin_identical"] and not few["losses"]
    assert few["adapted_accuracy"] > few["base_accuracy"]
    rows = unpack_adapter((tmp_path / "run" / "adapter.ela").read_bytes())
    assert not rows.layers and [(row.samples, row.doubt > 0) for row in rows.classes] == [(3, True)] * 3
    adapter = tmp_path / "run" / "adapter.ela"
    alone = result("eval", elm, "--data", tmp_path / "test.npz", "--adapter", adapter, "--twin")
    assert alone["accuracy"] == few["adapted_accuracy"]
    if more:
        kept = result("store", "list", "--port", port)
        assert kept["active"] == "personal"
        edgelora("store", "get", "personal", "-o", tmp_path / "kept.ela", "--port", port)
        assert (tmp_path / "kept.ela").read_bytes() == (tmp_path / "run" / "adapter.ela").read_bytes()
    many = result(*task, "--data", tmp_path / "many.npz", "--epochs", "6", "--no-rows", "--force")
    assert many["losses"] and not many["own_rows"], "rows of a person keep later runs from training"
    assert many["host_twin_identical"]


@slow
def test_cross_validated_layers_of_few_samples_win_where_they_are_clearly_better(port: str, tmp_path: Path) -> None:
    model, elm = small_base(np.random.default_rng(1)), tmp_path / "base.elm"
    model.labels = NAMES
    elm.write_bytes(pack_model(model))
    dataset.save_dataset(windows(NAMES, 5, 1), tmp_path / "few.npz")
    dataset.save_dataset(windows(NAMES, 40, 2), tmp_path / "test.npz")
    names = ("--data", tmp_path / "few.npz", "--test", tmp_path / "test.npz", "-o", tmp_path / "run")
    made = {more: result("personalize", elm, *names, "--port", port, *more) for more in ((), ("--on-board",))}
    layers, rows = made.values()
    assert rows["own_rows"] and not layers["own_rows"] and layers["host_twin_identical"] and layers["activated"]
    assert layers["adapted_accuracy"] > rows["adapted_accuracy"]


def test_one_of_each_class_activates_nothing_without_proof(port: str, tmp_path: Path) -> None:
    model, elm = small_base(np.random.default_rng(8)), tmp_path / "base.elm"
    model.labels = NAMES
    elm.write_bytes(pack_model(model))
    dataset.save_dataset(windows(NAMES, 1, 1), tmp_path / "one.npz")
    dataset.save_dataset(windows(NAMES, 40, 2), tmp_path / "test.npz")
    names = ("--data", tmp_path / "one.npz", "--test", tmp_path / "test.npz")
    ended = edgelora("personalize", elm, *names, "-o", tmp_path / "run", "--port", port, "--epochs", "2", code=3)
    assert "not activated" in ended.stdout


def test_a_board_that_judges_rows_otherwise_is_refused(port: str) -> None:
    """As with another version's firmware. Nothing of either side is used."""
    model = small_base(np.random.default_rng(8))
    model.labels = NAMES
    base = Base("base.elm", pack_model(model), model)
    course = prepared(base.elm, base.samples(windows(NAMES, 3, 1)), Recipe())
    rivals = contest(base.elm, course, Recipe())
    assert rivals and rivals.rows.doubt
    with Link.connect(port) as link:
        learner = BoardLearner(link, base, course.settings.session)
        assert _make_rows(learner, rivals).run.adapter == rivals.rows.adapter
        after = rivals.rows.after
        for other in ({"doubt": rivals.rows.doubt % 4 + 1}, {"after": Score(after.right, after.minus_loss - 1)}):
            differs = replace(rivals)
            differs.__dict__["rows"] = replace(rivals.rows, **other)
            with pytest.raises(WorkflowError, match="its own rows otherwise .*: install this version's"):
                _make_rows(learner, differs)
