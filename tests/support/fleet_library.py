"""The core's fleet code as a separate library, from sources that a test changes."""

from __future__ import annotations

import ctypes as C
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from edgelora.base.resources import ROOT


def changed(folder: Path, changes: Mapping[str, str], root: Path = ROOT) -> C.CDLL:
    """Compiles fleet/ and its dependencies after replacing texts in member.c; each must occur once."""
    module, copy = root / "micropython_module", folder / "source"
    for part in ("core", "crypto"):
        shutil.copytree(module / part, copy / part)
    member = copy / "core" / "fleet" / "member.c"
    text = member.read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    member.write_text(text)
    sources = [*(copy / "core" / "fleet").glob("*.c"), *(copy / "crypto").rglob("*.c")]
    library = folder / "libfleet.so"
    flags = ["-std=c99", "-O2", "-shared", "-fPIC", f"-I{copy / 'core'}", f"-I{copy / 'crypto'}"]
    subprocess.run(["cc", *flags, *map(str, sources), "-o", str(library)], check=True)
    return C.CDLL(str(library))
