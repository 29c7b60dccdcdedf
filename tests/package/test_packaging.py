"""What is promised of the package: its dependencies, its twin, its stubs and its public names."""

from __future__ import annotations

import ast
import ctypes
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import edgelora
from edgelora.base import resources

twin = importlib.import_module("edgelora.core.twin.binding")
PROJECT = tomllib.loads((resources.ROOT / "pyproject.toml").read_text())["project"]
# The distribution of a module, where it has another name.
MODULES = {
    "serial": "pyserial",
    "esp_pylib": "esp-pylib",
    "tensorflow": "tensorflow-cpu",
    "ai_edge_litert": "ai-edge-litert",
    "dp_accounting": "dp-accounting",
}
EXTRAS = {
    "host/edgelora/model/importers/keras.py": "keras",
    "host/edgelora/model/importers/torch.py": "torch",
    "host/edgelora/model/importers/torch_decompositions.py": "torch",
    "host/edgelora/board/sim/clock.py": "sim",
    "host/edgelora/board/sim/oscillator.py": "sim",
    "host/edgelora/board/sim/pico.py": "sim",
    "host/edgelora/board/sim/world.py": "sim",
    "host/edgelora/model/datasets/acquisition.py": "cbor",
    "host/edgelora/fleet/client_app.py": "fleet",
    "host/edgelora/fleet/flower.py": "fleet",
    "host/edgelora/fleet/privacy.py": "fleet",
    "host/edgelora/fleet/server_app.py": "fleet",
    "host/edgelora/fleet/sim_grid.py": "fleet",
    "host/edgelora/fleet/superlink.py": "fleet",
    "host/edgelora/studio/server.py": "studio",
    **{
        path.relative_to(resources.ROOT).as_posix(): "studio"
        for path in (resources.ROOT / "host" / "edgelora" / "studio" / "views").glob("*.py")
    },
}  # modules that may need more than the package itself does
DEVICE = resources.ROOT / "micropython_module" / "python" / "edgelora"
STUBBED = sorted(path.stem for path in (resources.stubs() / "edgelora").glob("*.pyi"))


def declared(extra: str | None = None) -> set[str]:
    """Names of the distributions that the package, or an extra of it, asks for."""
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return {re.split(r"[<>=!~\[]", line)[0].lower() for line in lines}


def imports(path: Path) -> set[str]:
    """The top modules that a file imports from other packages than its own and Python's."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"edgelora"}


def test_every_import_is_declared() -> None:
    undeclared = []
    for path in sorted((resources.ROOT / "host" / "edgelora").rglob("*.py")):
        name = path.relative_to(resources.ROOT).as_posix()
        allowed = declared() | (declared(EXTRAS[name]) if name in EXTRAS else set())
        undeclared += [(name, module) for module in imports(path) if MODULES.get(module, module) not in allowed]
    assert not undeclared


def test_dependencies_are_ranges_and_the_lock_has_them_all() -> None:
    assert all(re.fullmatch(r"[a-z0-9-]+>=[\d.]+", line) for line in PROJECT["dependencies"])  # no upper bound
    extras = set(PROJECT["optional-dependencies"]) - {"fleet"}  # which has other pins, in an environment of its own
    assert declared().union(*map(declared, extras)) <= locked("requirements.lock")
    assert declared() | declared("fleet") <= locked("requirements-fleet.lock")


def locked(name: str) -> set[str]:
    lines = (resources.ROOT / name).read_text().splitlines()
    return {line.split("==")[0] for line in lines if line[0] != "#"}


def test_one_home_of_the_version() -> None:
    assert edgelora.__version__ == metadata.version("edgelora") == PROJECT["version"]
    sources = [path.read_text() for path in (resources.ROOT / "host").rglob("*.py")]
    assert not [text for text in sources if re.search(r"__version__ *= *[\"']", text)]


# ---- the twin


def test_a_twin_of_other_sources_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lib = twin.library()
    for folder in ("core", "crypto"):
        shutil.copytree(resources.ROOT / "micropython_module" / folder, tmp_path / "micropython_module" / folder)
    monkeypatch.setattr(resources, "ROOT", tmp_path)
    twin._about(lib)
    header = tmp_path / "micropython_module" / "core" / "fixed.h"
    header.write_text(header.read_text() + "\n")
    with pytest.raises(resources.ResourceError, match=r"was made from other sources than these: `make twin`"):
        twin._about(lib)


def test_a_twin_with_other_records_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Longer(ctypes.Structure):
        _fields_ = [*twin._Config._fields_, ("more", ctypes.c_uint64)]

    lib = twin.library()
    monkeypatch.setattr(twin, "__version__", "0.0.1")
    with pytest.raises(resources.ResourceError, match=rf"of version {edgelora.__version__}, not 0.0.1: `make twin`"):
        twin._about(lib)
    monkeypatch.setattr(twin, "_Config", Longer)
    with pytest.raises(resources.ResourceError, match="other records than its Python"):
        twin._about(lib)
    with pytest.raises(resources.ResourceError, match="is no twin of this EdgeLoRA"):
        twin._about(ctypes.CDLL(None))


def test_a_missing_twin_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resources, "ROOT", tmp_path)
    with pytest.raises(resources.ResourceError, match=r"libedgelora.so is missing: `make twin`"):
        twin.library.__wrapped__()


# ---- what users and editors see


def test_public_names() -> None:
    whole_way = {"load", "pretrain", "quantize", "plan", "Board", "personalize", "evaluate", "Recipe", "EdgeloraError"}
    whole_way |= {"blend", "merge", "predict", "confusion_matrix"}
    assert set(edgelora.__all__) == whole_way | {"__version__", "from_keras", "from_torch"}
    assert all(getattr(edgelora, name).__module__.startswith("edgelora.") for name in whole_way)
    page = (resources.ROOT / "docs" / "api.md").read_text()
    assert all(f"`{name}`" in page for name in edgelora.__all__)
    assert all(f"`edgelora.{name}`" in page for name in STUBBED if name != "__init__")


def test_importing_it_is_quick() -> None:
    """Nothing of size is imported before it is asked for."""
    script = "import sys, edgelora; print([name for name in sys.modules if name.startswith(('numpy', 'edgelora.'))])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "[]\n"


def public(tree: ast.Module) -> dict[str, ast.AST]:
    """What a module defines for others, by name; if it has `__all__`, that."""
    found: dict[str, ast.AST] = {}
    exported: tuple[str, ...] = ()
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            exported = ast.literal_eval(node.value)
    for node in tree.body:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            found |= {name.id: node for name in names if isinstance(name, ast.Name)}
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
        if isinstance(node, ast.ImportFrom) and node.level == 1 and (node.module or "").startswith("_"):
            inside = public(ast.parse((DEVICE / f"{node.module}.py").read_text()))
            taken = [name.name for name in node.names if name.name in inside]
            found |= {
                name: inside[name] for name in taken if isinstance(inside[name], ast.ClassDef) or name in exported
            }
    if exported:
        return {name: found[name] for name in exported}
    return {name: node for name, node in found.items() if not name.startswith("_") or name == "__version__"}


def methods(node: ast.ClassDef) -> dict[str, str]:
    """A class's public methods as they are called; of properties, "property"."""
    return {
        part.name: "property" if ast.unparse(part.decorator_list) == "property" else signature(part)
        for part in node.body
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
        and (not part.name.startswith("_") or part.name in ("__init__", "__iter__"))
    }


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Names and defaults of its arguments, without types; "..." for a default that is computed."""
    arguments = node.args
    for argument in (*arguments.args, *arguments.kwonlyargs, arguments.kwarg, arguments.vararg):
        if argument:
            argument.annotation = None
    arguments.defaults = [
        value if isinstance(value, ast.Constant | ast.Name) else ast.Constant(...) for value in arguments.defaults
    ]
    kind = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    return kind + " ".join(map(ast.unparse, node.decorator_list)) + f"({ast.unparse(arguments)})"


def attributes(node: ast.ClassDef) -> set[str]:
    """Public attributes: declared in the class, or set by its methods, but for methods and properties."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store) and ast.unparse(part.value) == "self":
            found.add(part.attr)
    for part in node.body:
        if isinstance(part, ast.AnnAssign | ast.Assign):
            target = part.target if isinstance(part, ast.AnnAssign) else part.targets[0]
            found.add(ast.unparse(target))
    return {name for name in found if not name.startswith("_")} - methods(node).keys()


LENT = {"fleet": ("_fleet_http", "_fleet_personalize")}  # modules whose names another gives, loaded when asked for


@pytest.mark.parametrize("name", STUBBED)
def test_stubs_have_what_the_modules_have(name: str) -> None:
    sources = DEVICE / f"{name}.py", resources.stubs() / "edgelora" / f"{name}.pyi"
    module, stub = (public(ast.parse(path.read_text())) for path in sources)
    for part in LENT.get(name, ()):
        module |= public(ast.parse((DEVICE / f"{part}.py").read_text()))
    assert module.keys() == stub.keys()
    for key, node in module.items():
        other = stub[key]
        if isinstance(node, ast.ClassDef):
            assert isinstance(other, ast.ClassDef)
            assert list(map(ast.unparse, node.bases)) == list(map(ast.unparse, other.bases)), key
            assert methods(node) == methods(other), key
            assert attributes(node) == attributes(other), key
        elif isinstance(node, ast.FunctionDef):
            assert isinstance(other, ast.FunctionDef) and signature(node) == signature(other), key


def test_every_module_that_boards_carry_has_a_stub() -> None:
    assert sorted(p.stem for p in DEVICE.glob("*.py") if p.stem == "__init__" or p.stem[0] != "_") == STUBBED


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


def test_editors_understand_the_stubs(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(BOARD_CODE)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", script],
        env=os.environ | {"MYPYPATH": str(resources.stubs())},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert re.findall(r"main\.py:(\d+): error: .*\[(.+)\]", done.stdout) == [("12", "arg-type")], done.stdout
