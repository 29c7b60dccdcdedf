"""The n-th allocation, flash operation or interrupt fails in every action on a board: nothing is lost or stuck.

Tests some n; `make faults` tests all of them (tools/faults.py).
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import fault_cases
import pytest
from fresh import FULL, some

from edgelora.base.resources import ROOT, stubs

PROGRAMS = Path(__file__).parent / "programs"
FIRMWARE = ROOT / ".build" / "faults" / "micropython"  # make firmware-faults
MOST = 8 if FULL else 4  # tested n for each action and fault
GROUP, GROUPS = 16, 11  # actions that run in one process, limited by its heap
ASKS_HARDWARE = {"ADC", "MPU6050", "LSM6DS3", "I2S", "Host", "Press", "Keyboard"}  # they keep nothing
TAKES_NO_MEMORY = {  # and change nothing that is kept
    "edgelora.Model.back",
    "edgelora.Model.counts",
    "edgelora.Model.next",
    "edgelora.Model.sample",
    "edgelora.Model.slide",
    "edgelora.Model.suggest",
    "edgelora.Model.probabilities",
    "edgelora.agent.run",  # its requests are called directly
    "edgelora.pipeline.Pipeline.decision",  # `step`, under asyncio
    "edgelora.training.Scheduler.run",
    "edgelora.recorder.Recorder.run",
    "edgelora.store.default_place",  # depends on the firmware
    "edgelora.actions.Action.on",  # called as those of its kinds
    "edgelora.actions.Set.on",
    "edgelora.actions.Toggle.on",
    "edgelora.actions.Say.on",
    "edgelora.monitor.Monitor.probabilities",  # always an error
    "edgelora.monitor.check_alarm",
    "edgelora.sources.Source.on_pins",  # asks hardware, as the sensors do
    "edgelora.sources.open_sensor",
    "edgelora.store.Store.use",  # called by `open`, `activate` and on its own
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files that the actions need."""
    place = tmp_path_factory.mktemp("faults")
    fault_cases.fill(place)
    return place


def run(folder: Path, code: str, program: str = "faults_suite") -> str:
    """The suite's output."""
    code = f"import sys; sys.path.insert(0, {str(PROGRAMS)!r}); import {program}; {code}"
    command = [FIRMWARE, "-X", "heapsize=4m", "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=850)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("group", some(range(GROUPS), 3))
def test_nothing_is_lost_or_stuck(group: int, folder: Path) -> None:
    chosen = f"faults_suite.ACTIONS[{GROUP * group}:{GROUP * (group + 1)}]"
    said = run(folder, f"faults_suite.main({MOST}, *[action.name for action in {chosen}] or [0])")
    wrong = [line[:400] for line in said.splitlines() if re.match("LOST|STUCK", line)]
    assert not wrong, "\n".join(wrong[:10])
    ended = re.search(r"^FAULTS (\d+) 0 0$", said, re.MULTILINE)
    assert ended and int(ended[1]) > 50, said[-2000:]
    print(said)


@pytest.mark.parametrize("code", ["asked()", f"stopped({MOST})"])
def test_nothing_is_written_after_flash_has_failed(code: str, folder: Path) -> None:
    """Unreadable files are not taken for missing; littlefs would overwrite files when its cached state is outdated."""
    said = run(folder, f"unread_suite.{code}", "unread_suite")
    wrong = [line[:400] for line in said.splitlines() if line.startswith("WRONG")]
    assert not wrong, "\n".join(wrong[:10])
    ended = re.search(r"^(?:ASKED|STOPPED) (\d+)$", said, re.MULTILINE)
    assert ended and int(ended[1]) > 300, said[-2000:]


def test_all_actions_are_in_a_group(folder: Path) -> None:
    count = int(run(folder, "print(len(faults_suite.ACTIONS))"))
    assert GROUP * (GROUPS - 1) < count <= GROUP * GROUPS


def public() -> Iterator[tuple[str, str, str]]:
    """(module, class or "", name) of all functions that programs on a board may call."""
    paths = (stubs() / "edgelora").glob("*.pyi")
    for path in sorted(path for path in paths if path.stem != "_types"):
        module = "edgelora" if path.stem == "__init__" else f"edgelora.{path.stem}"
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                yield module, "", node.name
            elif isinstance(node, ast.ClassDef) and not node.name.startswith("_") and node.name not in ASKS_HARDWARE:
                for function in node.body:
                    if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) and is_called(function):
                        yield module, node.name, function.name


def is_called(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether it is public and not a property."""
    decorators = [ast.unparse(what) for what in function.decorator_list]
    return not function.name.startswith("_") and "property" not in decorators


def test_no_public_function_is_missing(folder: Path) -> None:
    wanted = [each for each in public() if ".".join(filter(None, each)) not in TAKES_NO_MEMORY]
    said = run(folder, f"faults_suite.called(*{wanted!r})")
    called = {line.split()[1] for line in said.splitlines() if line.startswith("CALLED ")}
    missing = [name for each in wanted if (name := ".".join(filter(None, each))) not in called]
    assert not missing, f"no action calls {', '.join(missing)}"
