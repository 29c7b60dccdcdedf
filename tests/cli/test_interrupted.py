"""Runs that are interrupted on the host or the board: what is kept, and that they resume to the same bytes."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fresh import slow, some
from processes import COMMAND, edgelora, metric_lines, read_report, result

from edgelora.board.sim import virtual_board


def interrupted(arguments: list[object], run: Path, after: int, stop: Callable[[subprocess.Popen[str]], None]) -> str:
    """Starts `edgelora` and calls `stop` after `after` updates; the exit code and standard error."""
    process = subprocess.Popen([COMMAND, *map(str, arguments)], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 90
        while len(metric_lines(run)) < after:
            assert process.poll() is None and time.monotonic() < deadline, "the run ended, or is too slow"
            time.sleep(0.02)
        stop(process)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    return f"{process.returncode} {errors}"


def check_resumed(arguments: list[object], run: Path, least: int) -> None:
    """Resumes a run with at least `least` updates done, to the same bytes as an uninterrupted run."""
    edgelora(*arguments, "--resume", "--force")  # after so few epochs the adapter may be worse
    report = read_report(run)
    assert report["host_twin_identical"] is True
    assert 0 < len(report["losses"]) <= report["steps"] - least
    assert metric_lines(run)[-1]["step"] == report["steps"]


@pytest.mark.parametrize(
    "how, expected, cache",
    some([(signal.SIGTERM, "130 ", []), (signal.SIGKILL, "-9 ", ["--placement", "last_block", "--cache", "flash"])]),
)
@slow
def test_host_stops_in_the_middle(
    made: Path, unix: str, tmp_path: Path, how: signal.Signals, expected: str, cache: list[str]
) -> None:
    run, port = tmp_path / "run", ["--port", unix]
    arguments = ["personalize", made / "har.elm", "--data", "har:3", "--epochs", 20, *cache, *port, "-o", run]
    ended = interrupted(arguments, run, 45, lambda process: process.send_signal(how))
    assert ended.startswith(expected)
    assert "Traceback" not in ended
    assert ("the board is usable" in ended) == (how == signal.SIGTERM)
    assert not (run / "report.json").exists()
    assert unix in [device["port"] for device in result("devices")]
    evaluate = ["eval", made / "har.elm", "--data", made / "test.npz"]
    assert result(*evaluate, *port)["accuracy"] == result(*evaluate, "--twin")["accuracy"]
    check_resumed(arguments, run, 36)  # two epochs of 147 samples


@pytest.mark.parametrize(
    "board, image, settings, cut_after, kept",
    some(
        [
            ("unix", "har.romfs", ["--data", "har:3", "--epochs", 20], 45, 36),
            (
                "virtual-pico",
                "har.uf2",
                ["--data", "train.npz", "--test", "test.npz", "--epochs", 4, "--no-rows"],
                4,
                2,
            ),
        ]
    ),
)
def test_power_cut(
    made: Path, tmp_path: Path, board: str, image: str, settings: list[object], cut_after: int, kept: int
) -> None:
    state, run = tmp_path / "board", tmp_path / "run"
    settings = [made / word if str(word).endswith(".npz") else word for word in settings]
    handle = virtual_board.start(board, made / image, state, die_with_parent=True)
    arguments = ["personalize", made / "har.elm", *settings, "--port", handle.port, "-o", run]
    ended = interrupted(arguments, run, cut_after, lambda _: handle.kill())
    assert ended.startswith("1 ")
    assert "Traceback" not in ended
    assert "line to the board was lost" in ended
    handle = virtual_board.start(board, None, state, die_with_parent=True)
    check_resumed(arguments, run, kept)
    handle.stop()


@slow
def test_resume_takes_only_its_own_checkpoint(made: Path, unix: str, tmp_path: Path) -> None:
    def personalize(epochs: int, samples: str, *more: str, code: int = 0) -> str:
        parts = ["--data", made / samples, "--test", made / "test.npz", "--epochs", epochs, "--no-rows"]
        done = edgelora(
            "personalize", made / "har.elm", *parts, "--port", unix, "-o", tmp_path / "run", *more, code=code
        )
        return done.stderr

    personalize(2, "train.npz", "--force")
    adapter = (tmp_path / "run" / "adapter.ela").read_bytes()
    for epochs, samples in ((3, "train.npz"), (1, "train.npz"), (2, "test.npz")):
        assert "checkpoint belongs to another run" in personalize(epochs, samples, "--resume", code=1)
    personalize(2, "train.npz", "--resume", "--force")
    assert read_report(tmp_path / "run")["losses"] == []  # nothing was left to do
    assert (tmp_path / "run" / "adapter.ela").read_bytes() == adapter
