"""Packaging: the package's dependencies, its twin and its public names."""

from __future__ import annotations

import ast
import ctypes
import importlib
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
# The distribution of a module, if it has another name.
MODULES = {
    "serial": "pyserial",
    "esp_pylib": "esp-pylib",
    "tensorflow": "tensorflow-cpu",
    "ai_edge_litert": "ai-edge-litert",
    "dp_accounting": "dp-accounting",
}
EXTRAS = {
    "host/edgelora/model/importers/keras.py": "keras",
    "host/edgelora/model/importers/keras_fused.py": "keras",
    "host/edgelora/model/importers/torch.py": "torch",
    "host/edgelora/model/importers/torch_tracing.py": "torch",
    "host/edgelora/board/sim/clock.py": "sim",
    "host/edgelora/board/sim/frames.py": "sim",
    "host/edgelora/board/sim/microphone.py": "sim",
    "host/edgelora/board/sim/oscillator.py": "sim",
    "host/edgelora/board/sim/pico.py": "sim",
    "host/edgelora/board/sim/world.py": "sim",
    "host/edgelora/board/sim/xip.py": "sim",
    "host/edgelora/model/datasets/acquisition.py": "cbor",
    "host/edgelora/fleet/client_app.py": "fleet",
    "host/edgelora/fleet/executor.py": "fleet",
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
}  # modules that need an extra


def declared(extra: str | None = None) -> set[str]:
    """Names of the distributions that the package, or one of its extras, requires."""
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return {re.split(r"[<>=!~\[]", line)[0].lower() for line in lines}


def imports(path: Path) -> set[str]:
    """Top-level modules that a file imports, except for its own package and the standard library."""
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
    extras = set(PROJECT["optional-dependencies"]) - {"fleet"}  # it has other pins and an environment of its own
    assert declared().union(*map(declared, extras)) <= locked("requirements.lock")
    assert declared() | declared("fleet") <= locked("requirements-fleet.lock")


def locked(name: str) -> set[str]:
    lines = (resources.ROOT / name).read_text().splitlines()
    return {line.split("==")[0] for line in lines if line[0] != "#"}


def test_the_version_is_defined_once() -> None:
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
    with pytest.raises(resources.ResourceError, match=r"was built from other sources than these: `make twin`"):
        twin._about(lib)


def test_a_twin_with_other_records_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Longer(ctypes.Structure):
        _fields_ = [*twin._Config._fields_, ("more", ctypes.c_uint64)]

    lib = twin.library()
    monkeypatch.setattr(twin, "__version__", "0.0.1")
    with pytest.raises(resources.ResourceError, match=rf"has version {edgelora.__version__}, not 0.0.1: `make twin`"):
        twin._about(lib)
    monkeypatch.setattr(twin, "_Config", Longer)
    with pytest.raises(resources.ResourceError, match="other structs than its Python"):
        twin._about(lib)
    with pytest.raises(resources.ResourceError, match="is not a twin of this EdgeLoRA"):
        twin._about(ctypes.CDLL(None))


def test_a_missing_twin_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resources, "ROOT", tmp_path)
    with pytest.raises(resources.ResourceError, match=r"libedgelora.so is missing: `make twin`"):
        twin.library.__wrapped__()


# ---- what users and editors see


def test_public_names() -> None:
    whole_way = {"load", "pretrain", "quantize", "plan", "Board", "personalize", "evaluate", "Recipe", "EdgeloraError"}
    whole_way |= {"blend", "merge", "predict", "confusion_matrix"}
    assert set(edgelora.__all__) == whole_way | {"__version__", "from_keras", "from_torch", "from_language_model"}
    assert all(getattr(edgelora, name).__module__.startswith("edgelora.") for name in whole_way)
    page = (resources.ROOT / "docs" / "api.md").read_text()
    assert all(f"`{name}`" in page for name in edgelora.__all__)
    device = (resources.ROOT / "micropython_module" / "python" / "edgelora").glob("[a-z]*.py")
    assert all(f"`edgelora.{path.stem}`" in page for path in device)


def test_importing_it_is_quick() -> None:
    """No large package is imported before it is needed."""
    script = "import sys, edgelora; print([name for name in sys.modules if name.startswith(('numpy', 'edgelora.'))])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "[]\n"
