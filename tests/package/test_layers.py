"""No import runs upward: a package imports only those below it, and others by their faces."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator

import pytest

from edgelora.resources import ROOT

PACKAGE = ROOT / "host" / "edgelora"
FLOORS = (  # from the ground up; what stands in one line imports nothing of that line
    ("errors",),
    ("text",),
    ("streams",),
    ("resources", "workers", "progress", "virtual_boards", "faces"),
    ("formats",),
    ("twin",),
    ("signal",),
    ("datasets",),
    ("floatnet",),
    ("quantization",),
    ("importers",),
    ("link",),
    ("boards",),
    ("sim",),
    ("training",),
    ("planning",),
    ("updates",),
    ("report",),
    ("fleet",),
    ("bench",),
    ("api",),
    ("studio",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imports(parts: tuple[str, ...], is_package: bool, tree: ast.AST) -> Iterator[tuple[str, ...]]:
    """The modules of `edgelora` that one of them imports, as their parts, names that it takes of them behind."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = parts[: len(parts) - node.level + is_package] if node.level else ()
            named = tuple((node.module or "").split(".")) if node.module else ()
            if not node.level:
                if named[:1] != ("edgelora",):
                    continue
                named = named[1:]
            yield from ((*base, *named, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (tuple(a.name.split("."))[1:] for a in node.names if a.name.split(".")[0] == "edgelora")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_import_runs_upward(path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    parts = parts[:-1] if is_package else parts
    for target in imports(parts, is_package, ast.parse(path.read_text())):
        room, other = parts[0], target[0]
        if other == "__version__" or room == other:
            continue
        assert other in FLOOR, f"{other} has no floor: give it one in FLOORS"
        assert FLOOR[other] < FLOOR[room], f"{room} imports {'.'.join(target)}, which stands above it"
        inside = (PACKAGE / other / "__init__.py").exists() and len(target) > 2
        lazy = target[:2] in {("importers", "keras"), ("importers", "torch"), ("importers", "tflite")}
        lazy |= target[:2] == ("boards", "flash")  # packages in packages have faces of their own
        assert not inside or lazy, f"{'.'.join(target)}: import it from the face of {other}"


def test_every_room_has_a_face() -> None:
    for room in FLOOR:
        face = PACKAGE / room / "__init__.py"
        if face.exists() and room != "cli":
            assert "__all__" in face.read_text(), f"{room} names no __all__"


def test_the_drawing_of_the_floors() -> None:
    """DESIGN.md draws them from the top down."""
    text = (ROOT / "DESIGN.md").read_text().split("### The host's floors")[1].split("\nOne core")[0]
    drawn = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in text.splitlines() if line.startswith("| `")]
    rooms = [room for row in drawn for room in row]
    assert sorted(rooms) == sorted(room for room in FLOOR if room != "__main__")
    assert [FLOOR[room] for room in rooms] == sorted((FLOOR[room] for room in rooms), reverse=True)


def test_names_of_lazy_faces_are_no_modules() -> None:
    """A module that was imported by itself would stand in the place of what the face means by its name."""
    for face in PACKAGE.rglob("__init__.py"):
        if "lazily(" in face.read_text():
            modules = {path.stem for path in face.parent.iterdir()}
            names = {
                alias.name for node in ast.walk(ast.parse(face.read_text())) for alias in getattr(node, "names", ())
            }
            assert not names & modules, face
            package = importlib.import_module(".".join(face.parent.relative_to(PACKAGE.parent).parts))
            assert {*package.__all__} <= {*dir(package)} and all(hasattr(package, name) for name in package.__all__)


DEVICE = ROOT / "micropython_module" / "python" / "edgelora"
HANDLERS = {"agent", "_work"}  # answer a host; the agent is also lent to boards without the package


@pytest.mark.parametrize("path", sorted(DEVICE.glob("*.py")), ids=lambda path: path.stem)
def test_device_modules_import_each_other_relatively(path) -> None:
    """They work under any package's name, so that the host can load them beside its own `edgelora`."""
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
