#!/usr/bin/env python3
"""Packages native modules for `mip` and `edgelora install`, and prints their sizes.

natmods.py package ARCH... fills dist/ARCH with the native module, the package's Python modules and package.json, which
a release serves unchanged. natmods.py sizes prints the size of each module.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from edgelora import __version__

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / ".build" / "natmod"
DIST = ROOT / "dist"
PYTHON = ROOT / "micropython_module" / "python"
# Path of a native module on a board -> its path in the architecture's build folder.
NATIVE = {
    "edgelora/__init__.mpy": "edgelora.mpy",
    "edgelora/frontend.mpy": "frontend/frontend.mpy",
    "edgelora/_fleet.mpy": "_fleet/_fleet.mpy",
}
VIPER_RODATA, VIPER_BSS = 0x20, 0x40  # scope flags of a .mpy


def package(arch: str) -> None:
    """Makes a folder that a release serves. package.json is written last, as a sign that the rest is complete."""
    folder = DIST / arch
    shutil.rmtree(folder, ignore_errors=True)
    files = {name: BUILD / arch / path for name, path in NATIVE.items()} | {
        name: BUILD / name for name in pure_modules()
    }
    for name, file in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)
    content = {"version": __version__, "urls": [[name, name] for name in files], "deps": []}
    (folder / "package.json").write_text(json.dumps(content, indent=2) + "\n")


def pure_modules() -> list[str]:
    """Paths in the package of its pure Python modules, which are the same for each architecture."""
    names = sorted(f"edgelora/{path.stem}.mpy" for path in (PYTHON / "edgelora").glob("*.py"))
    return [name for name in names if name not in NATIVE]


def linked(arch: str, name: str) -> Path:
    """The native module of a package, before Python is merged into it."""
    path = BUILD / arch / NATIVE[name]
    return path.parent / "build" / f"{path.stem}.native.mpy"


def sizes(native: bytes) -> tuple[int, int, int]:
    """Bytes of code, constants and variables of a linked module, before Python is merged into it."""
    at = 4

    def number() -> int:
        nonlocal at
        value = 0
        while True:
            at += 1
            value = value << 7 | native[at - 1] & 0x7F
            if not native[at - 1] & 0x80:
                return value

    names, objects = number(), number()
    assert not objects
    for _ in range(names):
        length = number()
        at += 0 if length & 1 else (length >> 1) + 1
    text = number() >> 3
    at += text
    flags = number()
    rodata = number() if flags & VIPER_RODATA else 0
    return text, rodata, number() if flags & VIPER_BSS else 0


def table() -> str:
    """A line for each native module of each packaged architecture, and for each Python module of the package."""
    lines = [f"{'native module':24} {'text':>7} {'rodata':>7} {'bss':>5} {'.mpy':>7}  bytes"]
    for folder in sorted(path.parent for path in DIST.glob("*/package.json")):
        for name in NATIVE:
            text, rodata, bss = sizes(linked(folder.name, name).read_bytes())
            shown = folder.name if "__init__" in name else f"{folder.name} {Path(name).stem}"
            lines.append(f"{shown:24} {text:7} {rodata:7} {bss:5} {(folder / name).stat().st_size:7}")
    lines += [f"{name:36} {(BUILD / name).stat().st_size:7}" for name in pure_modules()]
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:] == ["sizes"]:
        print(table())
    elif sys.argv[1:2] == ["package"] and sys.argv[2:]:
        for name in sys.argv[2:]:
            package(name)
    else:
        sys.exit(__doc__)
