#!/usr/bin/env python3
"""Prints the dependencies between the modules of the C core, and the cycles among them.

A module is a `.c` file with the header of the same name, or a header without a `.c` file. It depends on the modules
whose headers it includes, and on those that define a function or constant that it uses; if each processor has its own
definition, on all of these. Needs no build. Exits with 1 if there is a cycle.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

CORE = Path(__file__).resolve().parents[1] / "micropython_module" / "core"
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
FOR_CPP = re.compile(r"^#ifdef __cplusplus$.*?^#endif$", re.DOTALL | re.MULTILINE)
INCLUDE = re.compile(r'^\s*#\s*include "([^"]+)"', re.MULTILINE)
FUNCTION = re.compile(r"^(?!static\b|typedef\b)\w[\w \t*()\"\\.]*?\b(edgelora_\w+)\([^;{}]*\)\s*\{", re.MULTILINE)
CONSTANT = re.compile(r"^(?!static\b|extern\b|typedef\b)[\w \t*]*?\b(edgelora_\w+)(?:\[\w*\])?\s*=", re.MULTILINE)
NAME = re.compile(r"\bedgelora_\w+")

Graph = dict[str, set[str]]


def module_of(path: Path, root: Path) -> str:
    return str(path.relative_to(root).with_suffix(""))


def bodies(header: str) -> str:
    """The code in braces and macros of a header: its declarations are no dependencies."""
    kept, depth = [], 0
    for part in re.split(r"([{}]|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*)", header, flags=re.MULTILINE):
        depth += (part == "{") - (part == "}")
        if depth or part.lstrip().startswith("#"):
            kept.append(part)
    return "".join(kept)


def dependencies(root: Path = CORE) -> Graph:
    """Each module of a folder of C files, with the modules that it depends on."""
    texts = {path: FOR_CPP.sub("", COMMENT.sub("", path.read_text())) for path in sorted(root.rglob("*.[ch]"))}
    definers: Graph = {}
    for path, text in texts.items():
        for name in (*FUNCTION.findall(text), *CONSTANT.findall(text)):
            definers.setdefault(name, set()).add(module_of(path, root))
    graph: Graph = {}
    for path, text in texts.items():
        module = module_of(path, root)
        found = graph.setdefault(module, set())
        found.update(module_of(root / name, root) for name in INCLUDE.findall(text) if (root / name).exists())
        for name in set(NAME.findall(text if path.suffix == ".c" else bodies(text))):
            defined = definers.get(name, set())
            found.update(defined if module not in defined else ())
    return {module: found - {module} for module, found in graph.items()}


def circles(graph: Graph) -> list[list[str]]:
    """The cycles: strongly connected components of more than one module."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        left = [start]
        while left:
            for other in graph[left.pop()] - seen:
                seen.add(other)
                left.append(other)
        return seen

    reach = {module: reached(module) for module in graph}
    sets = {frozenset(o for o in reach[m] if m in reach[o]) for m in graph if m in reach[m]}
    return sorted(sorted(s) for s in sets)


def main() -> int:
    graph = dependencies()
    found = circles(graph)
    for module, below in sorted(graph.items()):
        print(f"{module}: {', '.join(sorted(below)) or '-'}")
    print(f"{len(graph)} modules, {sum(map(len, graph.values()))} dependencies, {len(found)} circles")
    for circle in found:
        print("circle:", ", ".join(circle))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
