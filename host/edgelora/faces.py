"""Faces of packages, whose modules are imported when one of their names is first asked for.

Most commands ask for little: a list of boards needs no training, a virtual board no network. A face lists its names as
imports for type checkers, which are read here instead of run (the root's face imports nothing, and has a list):

    if TYPE_CHECKING:
        from .modules import names
    else:
        __getattr__, __dir__ = lazily(__name__, __file__)
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def lazily(package: str, path: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of the package whose face is at `path`. No name may be that of a module in it."""
    folder = Path(path).parent
    homes = {
        alias.name: node.module
        for node in ast.walk(ast.parse(Path(path).read_bytes()))
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }

    def look_up(name: str) -> Any:
        if name in homes:
            value = getattr(import_module(f".{homes[name]}", package), name)
        elif (folder / f"{name}.py").exists() or (folder / name / "__init__.py").exists():
            value = import_module(f".{name}", package)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    return look_up, lambda: sorted({*vars(sys.modules[package]), *homes})
