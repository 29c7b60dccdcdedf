"""Modules of the C core depend on each other without a circle (tools/core_structure.py)."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from edgelora.base.resources import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import core_structure  # noqa: E402


def test_no_circle_in_the_core() -> None:
    graph = core_structure.dependencies()
    assert len(graph) > 90 and "kernels/dispatch" in graph["session/infer"], "the tool does not see the core"
    assert core_structure.circles(graph) == []


def test_rooms_of_the_core_know_those_above_them_in_the_design() -> None:
    table = (ROOT / "DESIGN.md").read_text().split("| room of the core |")[1].split("\n\n")[0]
    rooms = [re.findall(r"`([\w/]+)`", line.split("|")[1]) for line in table.splitlines()[2:]]
    graph = core_structure.dependencies()
    floors = {
        module: [f for f, names in enumerate(rooms) for name in names if f"{module}/".startswith(f"{name}/")]
        for module in graph
    }
    assert all(len(found) == 1 for found in floors.values()), floors
    assert not [(m, other) for m in graph for other in graph[m] if floors[other] > floors[m]]


@pytest.mark.parametrize(
    "upper",
    [
        '#include "high.h"\nint edgelora_low(void) {\n    return 0;\n}\n',
        "int edgelora_high(void);\nint edgelora_low(void) {\n    return edgelora_high();\n}\n",
        "extern const int edgelora_limit;\nint edgelora_low(void) {\n    return edgelora_limit;\n}\n",
    ],
    ids=["include", "call", "constant"],
)
def test_finds_a_circle(tmp_path: Path, upper: str) -> None:
    calls = "int edgelora_high(void) {\n    return edgelora_low(); // edgelora_other()\n}\n"
    (tmp_path / "high.h").write_text("int edgelora_high(void);\n")
    (tmp_path / "high.c").write_text(f'#include "high.h"\n#include "low.h"\nconst int edgelora_limit = 1;\n{calls}')
    (tmp_path / "low.h").write_text("int edgelora_low(void); // not a use of it\n")
    (tmp_path / "low.c").write_text("int edgelora_low(void) {\n    return 0;\n}\n")
    (tmp_path / "other.c").write_text("int edgelora_other(void) {\n    return edgelora_high();\n}\n")
    assert core_structure.circles(core_structure.dependencies(tmp_path)) == []
    (tmp_path / "low.c").write_text(upper)
    assert core_structure.circles(core_structure.dependencies(tmp_path)) == [["high", "low"]]
