"""DESIGN.md lists the storeys that `lint-imports` checks, and modules import each other as CONTRIBUTING.md says."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from edgelora.base.resources import ROOT

PACKAGE = ROOT / "host" / "edgelora"


def test_the_design_lists_the_storeys() -> None:
    """From top to bottom, as the contract in pyproject.toml does."""
    text = (ROOT / "DESIGN.md").read_text().split("\n## The storeys\n")[1].split("\n## ")[0]
    [layers] = [
        one["layers"]
        for one in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
        if one["type"] == "layers"
    ]
    assert re.findall(r"^\| `(\w+)`", text, re.MULTILINE) == re.findall(r"\w+", " ".join(layers))


def test_the_design_lists_what_training_holds() -> None:
    """Few enough files and folders that a reader can tell from outside what each is for."""
    table = (ROOT / "DESIGN.md").read_text().split("\n| in `learn/training` |")[1].split("\n\n")[0]
    listed = re.findall(r"^\| `(\w+)`", table, re.MULTILINE)
    there = {path.stem for path in (PACKAGE / "learn" / "training").iterdir()} - {"__init__", "__pycache__"}
    assert len(listed) <= 8 and set(listed) == there


def test_packages_hold_a_docstring_alone() -> None:
    """Imports name the module that defines a name. Only the package's own `__init__` is for users."""
    for face in PACKAGE.rglob("__init__.py"):
        tree = ast.parse(face.read_text())
        assert ast.get_docstring(tree) and (face.parent == PACKAGE or len(tree.body) == 1), face


DEVICE = ROOT / "micropython_module" / "python" / "edgelora"
HANDLERS = {"agent", "_handlers"}  # answer a host; the agent is also sent to boards without the package


@pytest.mark.parametrize("path", sorted(DEVICE.glob("*.py")), ids=lambda path: path.stem)
def test_device_modules_import_each_other_relatively(path: Path) -> None:
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
