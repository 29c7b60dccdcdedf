"""A personalization that made things worse is not activated, on a desktop board."""

import argparse
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgelora import formats, sim, twin
from edgelora.cli.runs import print_report
from edgelora.link import Link
from edgelora.report import Metrics, make_report, write_report
from edgelora.report.sections import device_code
from edgelora.resources import ROOT
from edgelora.training import Base, Recipe, Samples, personalize_board, repeat_on_twin
from edgelora.training.on_board import NAME

MICROPYTHON = ROOT / ".build" / "unix" / "micropython"


@pytest.mark.parametrize("on_board", [False, True], ids=["from the host", "on the board"])
def test_a_worse_adapter_is_not_activated(
    keyword_elm: bytes, tmp_path: Path, on_board: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The base is right about all test samples; labels to train on are scrambled."""
    base = Base("kws.elm", keyword_elm, formats.unpack_model(keyword_elm))
    rng = np.random.default_rng(5)
    x = rng.integers(-128, 128, (32, *base.model.input.shape)).astype(np.int8)
    session = twin.Session(base.elm, bytes(len(base.model.ops)), "infer")
    right = session.predict(x)
    samples, test = Samples(x[:12], (right[:12] + 1 + rng.integers(0, 11, 12)) % 12), Samples(x[12:], right[12:])
    recipe = Recipe(rank=2, epochs=3, given_rate=30000, on_board=on_board)
    board = sim.start("unix", None, tmp_path / "board", die_with_parent=True)
    try:
        with Link.connect(board.port) as link, Metrics(tmp_path / "metrics.jsonl") as metrics:
            if on_board:  # an earlier run's adapter is in use, and would be after a reset
                earlier = personalize_board(link, base, samples, samples, replace(recipe, seed=1), metrics)
                assert earlier.activated
                assert link.store_activate(NAME).active == NAME
            run = personalize_board(link, base, samples, test, recipe, metrics)
            assert (run.after == test.y).mean() < (run.before == test.y).mean() == 1 and not run.activated
            assert np.array_equal(link.eval(test.x).predictions, test.y), "the base is in use again"
            assert link.get("/adapter.ela") == run.run.adapter, "what was learned is kept"
            if on_board:
                state = link.store_list()
                assert state.active == NAME and [entry.name for entry in state.adapters] == [NAME]
                assert link.store_get(NAME) == earlier.run.adapter != run.run.adapter, "it is in the store again"
            hello = link.hello()
        again = repeat_on_twin(base, test, run)
        report = make_report(base, test, run, hello, None, "noise", again, "noise")
        (tmp_path / "kws.elm").write_bytes(base.elm)
        (tmp_path / "adapter.ela").write_bytes(run.run.adapter)
        here = replace(report, **{name: f"{tmp_path}{getattr(report, name)}" for name in ("base_path", "adapter_path")})
        command = [MICROPYTHON, "-c", device_code(here)]
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
        adapted = twin.Session(base.elm, recipe.ranks(base.model), "infer")
        adapted.use(run.run.adapter)
        seen = int(adapted.predict(np.zeros((1, *base.model.input.shape), np.int8))[0])
        assert told == base.model.labels[seen]
    finally:
        board.kill()
    assert report.verdict == "worse" and report.gained == 0 and report.activated is False
    assert again.identical and [found.rounded for found in again.epochs] == report.epoch_accuracies
    assert len(again.epochs) == 3 and again.epochs[-1].rounded == report.adapted_accuracy
    page = write_report(report, tmp_path / "run")
    assert "Worse: not activated" in page.read_text()
    print_report(argparse.Namespace(json=False), report, page)
    said = capsys.readouterr().out
    assert ": worse" in said and "not activated" in said
    assert json.loads(page.with_name("report.json").read_text())["activated"] is False
