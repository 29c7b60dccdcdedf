"""A personalization that made things worse is not activated, on a desktop board."""

import argparse
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgelora.base.resources import ROOT
from edgelora.board.link.client import Link
from edgelora.board.sim import virtual_board
from edgelora.cli.exit_codes import ExitCode
from edgelora.cli.runs import print_report
from edgelora.core.formats.eld import pack_samples
from edgelora.core.formats.elm import base_id, unpack_model
from edgelora.core.twin.session import Session
from edgelora.learn.personalize import personalize
from edgelora.learn.report.compare import comparison
from edgelora.learn.report.conclusion import State
from edgelora.learn.report.metrics import Metrics
from edgelora.learn.report.sections import device_code, write_report
from edgelora.learn.training.board.board_paths import SAMPLES_PATH
from edgelora.learn.training.board.board_run import NAME, RunOptions
from edgelora.learn.training.data.base import Base
from edgelora.learn.training.data.samples import Samples
from edgelora.learn.training.judge.early_stopping import Verdict
from edgelora.learn.training.recipe import Recipe
from edgelora.learn.training.run.board_personalization import Task, personalize_board

MICROPYTHON = ROOT / ".build" / "unix" / "micropython"


@pytest.mark.parametrize("on_board", [False, True], ids=["from the host", "on the board"])
def test_a_worse_adapter_is_not_activated(
    keyword_elm: bytes, tmp_path: Path, on_board: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The base classifies all test samples correctly; training labels are scrambled."""
    base = Base("kws.elm", keyword_elm, unpack_model(keyword_elm))
    rng = np.random.default_rng(5)
    x = rng.integers(-128, 128, (32, *base.model.input.shape)).astype(np.int8)
    session = Session(base.elm, bytes(len(base.model.ops)), "infer")
    right = session.predict(x)
    samples, test = Samples(x[:12], (right[:12] + 1 + rng.integers(0, 11, 12)) % 12), Samples(x[12:], right[12:])
    task = Task(samples, test, "noise", "noise")
    recipe = Recipe(rank=2, epochs=3, learning_rate=30000, on_board=on_board)
    board = virtual_board.start("unix", None, tmp_path / "board", die_with_parent=True)
    try:
        with Link.connect(board.port) as link, Metrics(tmp_path / "metrics.jsonl") as metrics:
            options = RunOptions(metrics)
            if on_board:  # an earlier run's adapter is active, also after a reset
                once = replace(task, test=samples)
                earlier = personalize_board(link, base, once, replace(recipe, seed=1), options)
                assert earlier.activated
                assert link.store_activate(NAME).active == NAME
            done = personalize(base, task, recipe, link, options)
            run, report = done.board_run, done.report
            assert (run.after == test.y).mean() < (run.before == test.y).mean() == 1 and not run.activated
            assert np.array_equal(link.eval(test.x).predictions, test.y), "the base is in use again"
            assert link.get("/adapter.ela") == run.run.adapter, "what was learned is kept"
            if on_board:
                state = link.store_list()
                assert state.active == NAME and [entry.name for entry in state.adapters] == [NAME]
                assert link.store_get(NAME) == earlier.run.adapter != run.run.adapter, "it is in the store again"
        (tmp_path / "kws.elm").write_bytes(base.elm)
        (tmp_path / "adapter.ela").write_bytes(run.run.adapter)
        here = replace(report, **{name: f"{tmp_path}{getattr(report, name)}" for name in ("base_path", "adapter_path")})
        command = [MICROPYTHON, "-c", device_code(here)]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
        adapted = Session(base.elm, recipe.ranks(base.elm), "infer")
        adapted.use(run.run.adapter)
        seen = int(adapted.predict(np.zeros((1, *base.model.input.shape), np.int8))[0])
        assert told == base.model.labels[seen]
    finally:
        board.kill()
    assert report.verdict == "worse" and report.gained == 0 and report.activated is False
    assert run.twin.identical and [found.rounded for found in run.twin.epochs] == report.epoch_accuracies
    assert len(run.twin.epochs) == 3 and run.twin.epochs[-1].rounded == report.adapted_accuracy
    page = write_report(report, tmp_path / "run")
    assert "Worse than before" in page.read_text()
    print_report(argparse.Namespace(json=False), report, page)
    said = capsys.readouterr().out
    assert ": worse" in said and "not activated" in said
    assert json.loads(page.with_name("report.json").read_text())["activated"] is False


def shifted(base: Base, number: int) -> Task:
    """Training and test samples whose labels are the base's answers plus `number`."""
    rng = np.random.default_rng(6)
    x = rng.integers(-128, 128, (64, *base.model.input.shape)).astype(np.int8)
    y = (Session(base.elm, bytes(len(base.model.ops)), "infer").predict(x) + number) % base.model.classes
    return Task(Samples(x[:48], y[:48]), Samples(x[48:], y[48:]), "noise", "noise")


def test_a_second_run_learns_its_own_samples(keyword_elm: bytes, tmp_path: Path) -> None:
    """The same windows with other labels make files of the same size."""
    base = Base("kws.elm", keyword_elm, unpack_model(keyword_elm))
    recipe = Recipe(rank=2, epochs=2, on_board=True)
    board = virtual_board.start("unix", None, tmp_path / "board", die_with_parent=True)
    try:
        with Link.connect(board.port) as link, Metrics(tmp_path / "metrics.jsonl") as metrics:
            for number in (0, 1):
                assert personalize_board(link, base, shifted(base, number), recipe, RunOptions(metrics)).twin.identical
    finally:
        board.kill()


@pytest.mark.parametrize("on_board", [False, True], ids=["from the host", "on the board"])
def test_an_adapter_unlike_the_twins_is_an_error(
    keyword_elm: bytes,
    tmp_path: Path,
    on_board: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A board that learns wrong labels is never activated, not even by force, and all outputs say the same."""
    base = Base("kws.elm", keyword_elm, unpack_model(keyword_elm))
    task = shifted(base, 0)
    samples, test = task.samples, task.test
    recipe = Recipe(rank=2, epochs=2, on_board=on_board)
    put, train = Link.put, Link.train

    def put_other(link: Link, path: str, data: bytes, *more: object) -> None:
        if path == SAMPLES_PATH:
            x, y = samples.x[: len(samples.x) // 2], samples.y[: len(samples.y) // 2]
            data = pack_samples(x, (y + 1) % 12, None, base_id(base.elm))
        put(link, path, data, *more)

    monkeypatch.setattr(Link, "put", put_other)
    monkeypatch.setattr(Link, "train", lambda link, x, y, *more: train(link, x, (y + 1) % 12, *more))
    board = virtual_board.start("unix", None, tmp_path / "board", die_with_parent=True)
    try:
        with Link.connect(board.port) as link, Metrics(tmp_path / "metrics.jsonl") as metrics:
            done = personalize(base, task, recipe, link, RunOptions(metrics, force=True))
            report = done.report
            assert done.verdict is Verdict.DIFFERS and not done.board_run.activated and not done.twin.identical
            assert link.store_list().active is None
            bare = Session(base.elm, bytes(len(base.model.ops)), "infer").predict(test.x)
            assert np.array_equal(link.eval(test.x).predictions, bare)
    finally:
        board.kill()
    page = write_report(report, tmp_path / "run")
    assert print_report(argparse.Namespace(json=False), report, page) is ExitCode.DIFFERS
    assert print_report(argparse.Namespace(json=True), report, page) is ExitCode.DIFFERS
    text, title = capsys.readouterr().out, report.conclusion.title
    assert report.conclusion.state is State.DIFFERS
    assert "the host twin differs" in text and '"title": "Not reliable' in text and title in page.read_text()
    assert State.DIFFERS in comparison([("1", report)])[1][0]


@pytest.mark.parametrize("on_board", [False, True], ids=["from the host", "on the board"])
def test_an_adapter_is_not_activated_before_it_is_compared(
    keyword_elm: bytes, tmp_path: Path, on_board: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C before the twin has finished: the board has trained, but its base stays active."""

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgelora.learn.training.run.board_personalization._run_on_twin", stopped)
    base = Base("kws.elm", keyword_elm, unpack_model(keyword_elm))
    task = shifted(base, 0)
    board = virtual_board.start("unix", None, tmp_path / "board", die_with_parent=True)
    try:
        with Link.connect(board.port) as link, Metrics(tmp_path / "metrics.jsonl") as metrics:
            with pytest.raises(KeyboardInterrupt):
                recipe = Recipe(rank=2, epochs=2, on_board=on_board)
                personalize_board(link, base, task, recipe, RunOptions(metrics))
            assert link.store_list().active is None
            bare = Session(base.elm, bytes(len(base.model.ops)), "infer").predict(task.test.x)
            assert np.array_equal(link.eval(task.test.x).predictions, bare)
    finally:
        board.kill()
