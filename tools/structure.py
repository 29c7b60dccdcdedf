"""The layers of the host's Python: rooms, floors, arrows and circles: `python tools/structure.py [HOST]`.

A room is a top-level module or folder of the package; its floor is one above the highest room that it imports. An arrow
is an import of one room by another. A circle is an import cycle: a set of modules that import each other, directly or
indirectly. Imports inside functions count, those only for type checkers do not.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HOST = Path(__file__).resolve().parents[1] / "host"
Graph = dict[str, set[str]]


@dataclass(frozen=True)
class Structure:
    """The modules of a package and their imports, by dotted names without the package's name."""

    lines: dict[str, int]
    imports: Graph

    @property
    def arrows(self) -> Graph:
        """Rooms and the other rooms that they import."""
        found: Graph = {room(name): set() for name in self.lines}
        for name, others in self.imports.items():
            found[room(name)] |= {room(other) for other in others} - {room(name)}
        return found

    @property
    def floors(self) -> dict[str, int]:
        """Each room's floor, from 0. Rooms in a circle have none."""
        arrows, found = self.arrows, dict[str, int]()
        while ready := [one for one in arrows if one not in found and arrows[one] <= found.keys()]:
            found |= {one: 1 + max((found[other] for other in arrows[one]), default=-1) for one in ready}
        return found

    @property
    def circles(self) -> list[list[str]]:
        """Sets of modules that import each other in a circle."""
        return [sorted(group) for group in _components(self.imports) if len(group) > 1]


def room(name: str) -> str:
    return name.partition(".")[0]


def structure(package: Path) -> Structure:
    """Reads all modules of the package in a folder. Its top-level `__init__` and `__main__` are no rooms."""
    paths = {_name(package, path): path for path in sorted(package.rglob("*.py"))}
    trees = {name: ast.parse(path.read_text()) for name, path in paths.items() if name not in ("", "__main__")}
    imports = {
        name: {_module(target, trees) for target in _targets(package.name, paths[name], name, tree)} - {name, ""}
        for name, tree in trees.items()
    }
    return Structure({name: len(paths[name].read_text().splitlines()) for name in trees}, imports)


def _name(package: Path, path: Path) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _module(target: str, modules: dict[str, ast.Module]) -> str:
    """The longest prefix of a dotted name that is a module; the rest may be a name in it."""
    while target and target not in modules:
        target = target.rpartition(".")[0]
    return target


def _targets(package: str, path: Path, name: str, tree: ast.Module) -> Iterator[str]:
    parts = name.split(".")
    here = parts if path.name == "__init__.py" else parts[:-1]
    for node in _run(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + 1]
            yield from (".".join(filter(None, [*base, node.module, alias.name])) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and room(node.module or "") == package:
            yield from (f"{node.module}.{alias.name}".partition(".")[2] for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[2] for alias in node.names if room(alias.name) == package)


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes except those only for type checkers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _run(child)


def _components(graph: Graph) -> list[set[str]]:
    """Strongly connected components: two names are in one if each is reached from the other."""
    reached = {name: _reached(graph, name) for name in graph}
    found: dict[str, set[str]] = {}
    for name in graph:
        group = {other for other in reached[name] if name in reached[other]} | {name}
        found.setdefault(min(group), group)
    return list(found.values())


def _reached(graph: Graph, start: str) -> set[str]:
    seen, waiting = set[str](), [start]
    while waiting:
        for other in graph.get(waiting.pop(), ()):
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return seen


def main(host: Path = HOST) -> None:
    found = structure(host / "edgelora")
    arrows, floors = found.arrows, found.floors
    lines, modules = Counter[str](), defaultdict[str, int](int)
    for name, count in found.lines.items():
        lines[room(name)] += count
        modules[room(name)] += 1
    for one in sorted(arrows, key=lambda one: (-floors.get(one, -1), one)):
        floor = floors.get(one, "circle")
        print(f"{floor!s:>6}  {one:<16}{modules[one]:4} modules {lines[one]:6} lines  {', '.join(sorted(arrows[one]))}")
    print(
        f"{len(arrows)} rooms, {len(set(floors.values()))} floors, {sum(map(len, arrows.values()))} arrows, "
        f"{len(found.circles)} circles, {lines.total()} lines"
    )
    for circle in found.circles:
        print("circle:", ", ".join(circle))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
