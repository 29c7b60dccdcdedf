"""Stubs of the device's modules are generated from annotations, and match what boards and the host import."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest

from edgelora.base.resources import ROOT, micropython
from edgelora.core.twin import device

sys.path.insert(0, str(ROOT / "tools"))

import stubs  # noqa: E402

MODULES = stubs.public_modules()
MPY_CROSS = ROOT / ".build/src/micropython/mpy-cross/build/mpy-cross"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of stubs where editors search."""
    folder = tmp_path_factory.mktemp("stubs")
    stubs.write(folder)
    return folder


def definitions(folder: Path, name: str) -> dict[str, ast.stmt]:
    """The definitions of a stub by name."""
    tree = ast.parse((folder / "edgelora" / f"{name}.pyi").read_text())
    found = {node.name: node for node in tree.body if isinstance(node, stubs.Definition)}
    return found | {ast.unparse(node.target): node for node in tree.body if isinstance(node, ast.AnnAssign)}


def attributes(node: ast.stmt) -> set[str]:
    return {ast.unparse(part.target) for part in getattr(node, "body", ()) if isinstance(part, ast.AnnAssign)}


def methods(node: ast.stmt) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    inside = node.body if isinstance(node, ast.ClassDef) else ()
    return {part.name: part for part in inside if isinstance(part, stubs.Function)}


@pytest.mark.parametrize("name", MODULES)
def test_boards_have_what_stubs_promise(name: str, folder: Path) -> None:
    found = definitions(folder, name)
    assert found
    wanted = [(one, each) for one, node in found.items() for each in ("", *methods(node))]
    program = f"""
import edgelora{"" if name == "__init__" else "." + name} as module
for name, method in {wanted!r}:
    one = getattr(module, name)
    if method and not hasattr(one, method):
        raise AttributeError(name + "." + method)
print("all")
"""
    done = subprocess.run([micropython(), "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "all\n", done.stdout + done.stderr


@pytest.mark.parametrize("name", [name for name in MODULES if name != "agent"])  # it takes over the board's stdin
def test_stubs_have_what_modules_define(name: str, folder: Path) -> None:
    """Public classes and functions, their public methods, and all arguments."""
    module, found = device.module("" if name == "__init__" else name), definitions(folder, name)
    for key, one in vars(module).items():
        if key.startswith("_") or getattr(one, "__module__", "") != module.__name__:
            continue
        node = found[key]
        if isinstance(one, FunctionType):
            check_arguments(one, node)
        inside = methods(node)
        for member, value in vars(one).items() if isinstance(one, type) else ():
            function = getattr(value, "__func__", value)
            if isinstance(function, FunctionType) and (member[0] != "_" or member == "__init__"):
                check_arguments(function, inside[member])
            assert member.startswith("_") or member in inside or member in attributes(node)


def check_arguments(function: FunctionType, node: ast.stmt) -> None:
    assert isinstance(node, stubs.Function)
    assert list(inspect.signature(function).parameters) == [arg.arg for arg in stubs.arguments_of(node)], function


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def see(x: int):\n    pass\n", "annotate what it returns of see"),
        ("def see(x, y: int) -> None:\n    pass\n", "annotate x of see"),
        ("MOST = 3 * 4\n", "annotate MOST"),
        ("class Eye:\n    def see(self, x) -> None:\n        pass\n", "annotate x of Eye.see"),
        ("class Eye:\n    def __init__(self) -> None:\n        self.x, self._y = 1, 2\n", "annotate x in class Eye"),
    ],
)
def test_what_has_no_annotation_is_told(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "eyes.py").write_text(source)
    monkeypatch.setattr(stubs, "DEVICE", tmp_path)
    with pytest.raises(stubs.StubError, match=rf"eyes.py:\d+: {said}"):
        stubs.stub("eyes")


class _Bare(ast.NodeTransformer):
    """Removes annotations, docstrings and the imports for these from a module."""

    def visit(self, node: ast.AST) -> ast.AST | None:
        if isinstance(node, ast.AnnAssign):
            return node.value and ast.Assign([node.target], node.value, lineno=node.lineno)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Constant):
            return None
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return None
        if isinstance(node, ast.arg):
            node.annotation = None
        self.generic_visit(node)
        if isinstance(node, stubs.Function):
            node.returns = None
        if isinstance(node, stubs.Definition) and not node.body:
            node.body = [ast.Pass()]
        return node


@pytest.mark.parametrize("path", sorted(stubs.DEVICE.glob("*.py")), ids=lambda path: path.stem)
def test_annotations_cost_boards_nothing(path: Path, tmp_path: Path) -> None:
    tree = ast.parse(path.read_text())
    source, made, compiled = tmp_path / "source.py", tmp_path / "made.mpy", set()
    for text in (ast.unparse(tree), ast.unparse(_Bare().visit(tree))):
        source.write_text(text)
        subprocess.run([MPY_CROSS, "-O3", "-s", path.name, "-o", made, source], check=True, timeout=60)
        compiled.add(made.read_bytes())
    assert len(compiled) == 1


BOARD_CODE = """
import edgelora
from edgelora.store import Store, default_place
from edgelora.training import Run, SampleFile
from edgelora.update import Updater, trusted
model = edgelora.Model("/rom/har.elm", ranks=8)
store = Store(default_place())
store.open(model)
run = Run(model, SampleFile("/me.eld"), store, "me", 6, 1, 6000)
loss: int = run.step()
version: int = Updater(store, *trusted(), model).fetch("http://10.0.0.2/wake.elu")
store.use(5)
"""


def test_editors_understand_the_stubs(tmp_path: Path, folder: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(BOARD_CODE)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", script, *folder.glob("*/*.pyi")],
        env=os.environ | {"MYPYPATH": str(folder)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    errors = re.findall(r"(\w+\.pyi?):(\d+): error: .*\[(.+)\]", done.stdout)
    assert errors == [("main.py", "12", "arg-type")], done.stdout
