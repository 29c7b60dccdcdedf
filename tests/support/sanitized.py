"""C programs over the core under AddressSanitizer and UBSan."""

from __future__ import annotations

import subprocess
from pathlib import Path

from edgelora.resources import ROOT

CORE, CRYPTO = (ROOT / "micropython_module" / name for name in ("core", "crypto"))
LIBRARY = ROOT / ".build" / "sanitized" / "libcore.a"
FLAGS = ["-std=c99", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def build(source: Path, folder: Path, *others: Path) -> Path:
    """Compiles C files with the core that `make sanitized` has compiled; returns the program, named as the first."""
    sources = [file for part in (CORE, CRYPTO) for file in part.rglob("*.[ch]")]
    if not LIBRARY.exists() or LIBRARY.stat().st_mtime < max(file.stat().st_mtime for file in sources):
        raise RuntimeError(f"{LIBRARY} is older than the core: run `make sanitized`")
    program = folder / source.stem
    flags = [*FLAGS, *SANITIZERS, f"-I{CORE}", f"-I{CRYPTO}"]
    subprocess.run(["cc", *flags, source, *others, LIBRARY, "-o", program], check=True)
    return program
