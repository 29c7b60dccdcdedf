"""The host package has storeys: imports point down, there are no circular imports, and DESIGN.md lists the storeys."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from edgelora.base.resources import ROOT
from tools.structure import Structure, room, structure

PACKAGE = ROOT / "host" / "edgelora"
STOREYS = ("cli", "studio", "api", "fleet", "learn", "board", "model", "core", "base")  # top to bottom


@pytest.fixture(scope="module")
def found() -> Structure:
    return structure(PACKAGE)


def test_imports_point_down(found: Structure) -> None:
    assert set(found.arrows) == set(STOREYS)
    height = {name: -row for row, name in enumerate(STOREYS)}
    upward = [
        f"{name} imports {other}"
        for name, others in found.imports.items()
        for other in others
        if height[room(other)] > height[room(name)]
    ]
    assert not upward
    assert not [other for other in found.imports["api"] if room(other) in ("fleet", "studio")]


def test_structure_stays_small(found: Structure) -> None:
    """Limits at what was reached; `python tools/structure.py` prints the current values."""
    assert len(set(found.floors.values())) <= 8
    assert sum(map(len, found.arrows.values())) <= 33
    assert found.circles == []


def test_one_function_personalizes(found: Structure) -> None:
    """Command, API, studio and demo call it; no other module runs a board and makes a report."""
    makers = {name for name, others in found.imports.items() if "learn.report.builder" in others}
    assert makers == {"learn.personalize"}


def test_cycles_are_found(tmp_path: Path) -> None:
    for name, text in {
        "a": "from .b import x",
        "b": "def f():\n    from edgelora import c",
        "c": "from . import a",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "__init__.py").write_text("")
    package = tmp_path.rename(tmp_path.with_name("edgelora"))
    found = structure(package)
    assert found.circles == [["a", "b", "c"]] and found.floors == {}
    (package / "b.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .c import y\n")
    assert structure(package) == Structure(
        {"a": 1, "b": 3, "c": 1}, {"a": {"b"}, "b": set(), "c": {"a"}}
    ) and structure(package).floors == {"b": 0, "a": 1, "c": 2}


@pytest.mark.parametrize("face", sorted(PACKAGE.rglob("__init__.py")), ids=lambda path: path.parent.name)
def test_packages_hold_a_docstring_alone(face: Path) -> None:
    """Imports name the module that defines a name. Only the package's own `__init__` is for users."""
    tree = ast.parse(face.read_text())
    assert ast.get_docstring(tree)
    assert face.parent == PACKAGE or len(tree.body) == 1


def test_nothing_imports_benchmarks() -> None:
    """They are not part of the wheel; only the command looks for them."""
    for path in PACKAGE.rglob("*.py"):
        names = [
            node.module or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
        ]
        assert not [name for name in names if room(name) == "benchmarks"], path


def test_the_design_lists_the_storeys() -> None:
    """DESIGN.md lists them from top to bottom."""
    text = (ROOT / "DESIGN.md").read_text().split("\n## The storeys\n")[1].split("\n## ")[0]
    rows = [re.match(r"\| `(\w+)`", line) for line in text.splitlines()]
    assert [row[1] for row in rows if row] == list(STOREYS)


DEVICE = ROOT / "micropython_module" / "python" / "edgelora"
HANDLERS = {"agent", "_handlers"}  # answer a host; the agent is also sent to boards without the package


@pytest.mark.parametrize("path", sorted(DEVICE.glob("*.py")), ids=lambda path: path.stem)
def test_device_modules_import_each_other_relatively(path) -> None:
    """So that the host can load them under another package name, next to its own `edgelora`."""
    absolute = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and not node.level
        and (node.module or "").split(".")[0] == "edgelora"
        or isinstance(node, ast.Import)
        and any(alias.name.split(".")[0] == "edgelora" for alias in node.names)
        or isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith("edgelora.")
    ]
    assert not absolute or path.stem in HANDLERS


def test_the_agent_replaces_files_as_the_package_does() -> None:
    """The agent is also sent to boards without the package, so it has its own copy of this function."""
    found = []
    for name in ("agent", "__init__"):
        tree = ast.parse((DEVICE / f"{name}.py").read_text())
        [node] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "_replace"]
        found.append((ast.unparse(node.args), *map(ast.unparse, node.body)))
    assert found[0] == found[1]
