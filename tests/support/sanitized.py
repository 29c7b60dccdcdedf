"""C programs over the core under AddressSanitizer and UBSan."""

from __future__ import annotations

import subprocess
from pathlib import Path

from edgelora.resources import ROOT

CORE, CRYPTO = (ROOT / "micropython_module" / name for name in ("core", "crypto"))
FLAGS = ["-std=c99", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def build(source: Path, folder: Path, of: tuple[Path, ...] = (CORE, CRYPTO)) -> Path:
    """Compiles a C file with the core, or with some folders of it; returns the program."""
    program = folder / source.stem
    sources = [source, *(file for part in of for file in sorted(part.rglob("*.c")))]
    flags = [*FLAGS, *SANITIZERS, f"-I{CORE}", f"-I{CRYPTO}"]
    subprocess.run(["cc", *flags, *map(str, sources), "-o", str(program)], check=True)
    return program
