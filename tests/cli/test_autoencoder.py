"""Personalizing an autoencoder on a board, by the real command over the real link."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from autoencoders import autoencoder, real_error, rows
from fresh import slow
from processes import edgelora, metric_lines, read_report, result

from edgelora.learn.training.data.base import Base
from edgelora.model.datasets import dataset

FEW = ("--rank", 4, "--epochs", 6)


@pytest.fixture
def base(tmp_path: Path) -> Base:
    """A base, its file, and data sets: train, test, and `other` of another kind."""
    base = autoencoder()
    (tmp_path / base.name).write_bytes(base.elm)
    parts = {"train": rows(60, 2), "test": rows(40, 3), "other": rows(60, 2, kind=1)}
    for name, part in parts.items():
        dataset.save_dataset(part, tmp_path / f"{name}.npz")
    return base


@pytest.fixture
def port(tmp_path: Path) -> Iterator[str]:
    """The port of a desktop board that has no base yet."""
    board = result("sim", "unix", "--state", tmp_path / "board")
    yield board["port"]
    result("sim", "unix", "--stop", "--state", tmp_path / "board")


@slow
def test_an_autoencoder_is_personalized(base: Base, port: str, tmp_path: Path) -> None:
    """By the host and by the board alone: the error falls, the twin agrees, and the report shows errors only."""
    elm, tested, host, alone = (tmp_path / name for name in (base.name, "test.npz", "host", "alone"))
    parts = ("--data", tmp_path / "train.npz", "--test", tested, *FEW)
    printed = result("personalize", elm, *parts, "--port", port, "-o", host)
    result("personalize", elm, *parts, "--resume", "--port", port, "-o", tmp_path / "again")
    assert (tmp_path / "again" / "adapter.ela").read_bytes() == (host / "adapter.ela").read_bytes()
    budget = ("--on-board", "--budget-ms", 1000, "--sleep-ms", 100)  # mostly asleep, even on a busy computer
    suspended = result("personalize", elm, *parts, *budget, "--port", port, "-o", alone)
    assert 0 < suspended["updates"] < 36 and not (alone / "report.json").exists()
    edgelora("personalize", elm, *parts, "--on-board", "--resume", "--port", port, "-o", alone)

    for run in (host, alone):
        report, adapter = read_report(run), (run / "adapter.ela").read_bytes()
        assert report["host_twin_identical"] is True and report["activated"] is True
        before, after = report["base_error"], report["adapted_error"]
        assert before == pytest.approx(real_error(base, None, rows(40, 3)), rel=1e-9)
        assert after == pytest.approx(real_error(base, adapter, rows(40, 3)), rel=1e-9) and after < 0.7 * before
        assert report["error_change"]["low"] < after - before < report["error_change"]["high"] < 0
        assert report["held_out"] == 15 and report["judged"] == "better"
        assert {report[name] for name in ("base_accuracy", "adapted_accuracy", "gained", "lost")} == {None}
        assert report["confusion_base"] == report["epoch_accuracies"] == []
        assert len(report["epoch_errors"]) == report["epochs"] and report["epoch_errors"][-1] < before
        unit = 256 * base.model.output.scale**2
        losses = [unit * line["loss"] for line in metric_lines(run)][-len(report["losses"]) :]
        assert losses == pytest.approx(report["losses"]) and report["epoch_losses"][-1] < before
        page = (run / "report.html").read_text()
        assert "Mean squared error on held-out samples" in page and "Better" in page
        assert "ccuracy" not in page and "Confusion" not in page and "nats" not in page
        for place in (("--twin",), ("--port", port)):
            assert result("eval", elm, "--data", tested, "--adapter", run / "adapter.ela", *place)["error"] == after

    assert result("report", host) == printed and printed.pop("conclusion")["state"] == "better"
    assert printed == read_report(host) | {"verdict": "better", "report": str(host / "report.html")}
    edgelora("train-adapter", elm, *parts, "-o", tmp_path / "mine.ela")
    assert (tmp_path / "mine.ela").read_bytes() == (host / "adapter.ela").read_bytes()
    told = edgelora("compare", host, alone, "-o", tmp_path / "pages" / "compare.html").stdout
    assert told.count("better") == 2 and f"{read_report(host)['adapted_error']:.4g}" in told
    assert "The lowest mean squared error" in (tmp_path / "pages" / "compare.html").read_text()


@slow
def test_an_adapter_that_increases_errors_is_not_activated(base: Base, port: str, tmp_path: Path) -> None:
    """A network that has learned the test samples' kind trains on another kind: exit code 3 unless forced."""
    elm, learned = tmp_path / base.name, tmp_path / "learned.elm"
    edgelora("train-adapter", elm, "--data", tmp_path / "train.npz", *FEW, "-o", tmp_path / "mine.ela")
    edgelora("merge", elm, tmp_path / "mine.ela", "-o", learned)
    command = ("personalize", learned, "--data", tmp_path / "other.npz", "--port", port, *FEW)
    command += ("--test", tmp_path / "test.npz", "-o", tmp_path / "run")
    told = edgelora(*command, code=3)
    report = read_report(tmp_path / "run")
    assert report["adapted_error"] > report["base_error"] and report["error_change"]["low"] > 0
    assert report["activated"] is False and report["judged"] == "worse on the test samples"
    assert (
        ": worse" in told.stdout
        and "Worse than before: not activated" in (tmp_path / "run" / "report.html").read_text()
    )
    edgelora(*command, "--force")
    assert read_report(tmp_path / "run")["activated"] is True
    refused = edgelora(*command, "--net", tmp_path / "other.npz", code=1)
    assert "omit --net" in refused.stderr
