"""Parallel jobs, and programs that read their results."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from benchmarks.learning import TASKS, mean_and_error
from edgelora.base.errors import InputError
from edgelora.base.workers import apart, in_parallel
from edgelora.cli import console


def touch(folder: Path, number: int) -> int:
    """The first job fails; the others write a file after that, however late on a busy computer."""
    if number == 0:
        raise ValueError("job 0 can't")
    while not (folder / "known").exists():
        time.sleep(0.01)
    (folder / str(number)).touch()
    return number


def slow_if_first(number: int) -> tuple[int, int]:
    time.sleep(0.3 if number == 0 else 0)
    return number, os.getpid()


def test_results_come_in_the_order_of_jobs() -> None:
    found = list(in_parallel(slow_if_first, [(n,) for n in range(6)], workers=2))
    assert [number for number, _ in found] == list(range(6))
    assert os.getpid() not in {process for _, process in found}


def test_a_job_that_fails_ends_the_others(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="job 0 can't"):
        list(in_parallel(touch, [(tmp_path, n) for n in range(40)], workers=2))
    (tmp_path / "known").touch()
    while multiprocessing.active_children():
        time.sleep(0.01)
    assert len(list(tmp_path.iterdir())) < 10  # those that had begun


def misbehaving(how: str) -> int:
    if how == "refuses":
        raise InputError("it can't", remedy="try another")
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    return len(bytearray(int(how)))


def threads() -> int:
    return max(int(found["num_threads"]) for found in threadpool_info())


def test_separate_processes_reserve_no_addresses_for_threads() -> None:
    """NumPy reserves addresses for each core's thread, which can exceed a memory limit on a machine with many cores."""
    assert apart(threads) == 1


def test_work_that_may_fail_is_done_apart() -> None:
    """Its errors are raised here unchanged; if the process is killed or exceeds its memory, the input is the error."""
    assert apart(os.getpid) != os.getpid()
    with pytest.raises(InputError, match="it can't") as error:
        apart(misbehaving, "refuses")
    assert error.value.remedy == "try another"
    for how in ("dies", str(3 << 30)):
        with pytest.raises(InputError, match="more memory than available") as error:
            apart(misbehaving, how, memory=2 << 30)
    assert apart(misbehaving, str(1 << 20), memory=2 << 30) == 1 << 20


def test_json_contains_no_invalid_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    mean, error = mean_and_error([0.25])
    console.emit({"mean": mean, "error": error, "path": Path("a/b"), "list": (np.float32(0.5), np.int64(3))})
    printed = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert printed == {"mean": 0.25, "error": None, "path": "a/b", "list": [0.5, 3]}
    assert mean_and_error([1.0, 2.0, 6.0]) == (3.0, round(float(np.std([1, 2, 6], ddof=1) / 3**0.5), 4))


def test_subjects_are_those_of_the_task() -> None:
    assert TASKS["har"].chosen(None) == TASKS["har"].subjects and TASKS["har"].chosen(["2"]) == ["2"]
    with pytest.raises(ValueError, match="subject x: choose from 1, 2, 3"):
        TASKS["har"].chosen(["1", "x"])
