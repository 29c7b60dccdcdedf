"""C programs over the core under AddressSanitizer and UBSan."""

from __future__ import annotations

import subprocess
from pathlib import Path

from edgelora.resources import ROOT

CORE = ROOT / "micropython_module" / "core"
FLAGS = ["-std=c99", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def build(source: Path, folder: Path) -> Path:
    """Compiles a C file with the core; returns the program."""
    program = folder / source.stem
    sources = [source, *sorted(CORE.rglob("*.c"))]
    subprocess.run(["cc", *FLAGS, *SANITIZERS, f"-I{CORE}", *map(str, sources), "-o", str(program)], check=True)
    return program
