"""`make coverage` counts both ways of a condition, and its list of untakable branches matches the source."""

from __future__ import annotations

import sys

import pytest

from edgelora.base.resources import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import branches

FILE = "core/session/order.c"
LINE = next(
    n for n, line in enumerate((branches.MODULE / FILE).read_text().splitlines(), 1) if "round < ROUNDS" in line
)
PLACE = branches.Place(FILE, LINE, "edgelora_order", 30, LINE, 44)
ENTRY = f"{FILE} | edgelora_order | round < ROUNDS | false"


def test_both_directions_of_a_branch_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert branches.report({PLACE: (True, True)}, set()) == 0
    assert "2 branches: 2 taken, 0 not taken, 0 listed" in capsys.readouterr().out
    assert branches.report({PLACE: (True, False)}, set()) == 1
    told = capsys.readouterr().out
    assert f"{FILE}:{LINE}: edgelora_order: never false: round < ROUNDS" in told and "50.00 %" in told


def test_only_listed_branches_are_excused(capsys: pytest.CaptureFixture[str]) -> None:
    assert branches.report({PLACE: (True, False)}, {ENTRY}) == 0
    assert "1 listed as untakable" in capsys.readouterr().out
    assert branches.report({PLACE: (True, True)}, {ENTRY}) == 1
    assert f"taken, though it is listed as untakable: {ENTRY}" in capsys.readouterr().out
    assert branches.report({PLACE: (True, True)}, {ENTRY.replace("false", "never")}) == 1
    assert "not in the source" in capsys.readouterr().out


def test_untakable_branches_are_conditions_of_the_source() -> None:
    rows = [line.split(" | ") for line in branches.UNTAKABLE.read_text().splitlines() if not line.startswith("#")]
    assert rows and len(branches.untakable()) == len(rows)
    for file, function, condition, way, reason in rows:
        text = " ".join((branches.MODULE / file).read_text().split())
        assert condition in text, (file, condition)
        assert way in ("true", "false") and len(reason) > 5, (file, condition)
        assert function in text or file.endswith(("avx2.c", "vnni.c")), (file, function)  # those are in the headers
