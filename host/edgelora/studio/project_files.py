"""Writing a project's files without overwriting others. No pages in here."""

from __future__ import annotations

from pathlib import Path

from edgelora.base.errors import InputError
from edgelora.core.formats.files import write_atomic

MOST_OF_NAME = 1000


def keep(path: Path, content: bytes, sign: str) -> Path:
    """Writes a file, under a numbered name if a different file has its name; returns its path.

    sign: the character before the number, as in NAME-2.elm. InputError after a thousand.
    """
    for number in range(1, MOST_OF_NAME):
        there = path if number == 1 else path.with_name(f"{path.stem}{sign}{number}{path.suffix}")
        if not there.exists():
            write_atomic(there, content)
            return there
        if there.read_bytes() == content:
            return there
    raise InputError(f"{path.parent} has a thousand files named like {path.name}", remedy="delete some")


def keep_capture(path: Path, content: bytes) -> Path:
    """The same for a recording, whose name begins with its class and a dot: WAVE.2.csv."""
    return keep(path, content, ".")


def keep_network(path: Path, content: bytes) -> Path:
    """The same for a base or an adapter, whose name has no dot: WAVE-2.ela."""
    return keep(path, content, "-")
