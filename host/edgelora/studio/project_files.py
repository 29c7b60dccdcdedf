"""Files of a project that never take the place of others. No pages in here."""

from __future__ import annotations

from pathlib import Path

from edgelora.base.errors import InputError
from edgelora.core.formats.files import write_atomic

MOST_OF_NAME = 1000


def keep(path: Path, content: bytes, sign: str) -> Path:
    """Writes a file, under a name with a number where one of other content has its name; where it is now.

    sign: before the number, as NAME-2.elm has it. InputError if there are a thousand.
    """
    for number in range(1, MOST_OF_NAME):
        there = path if number == 1 else path.with_name(f"{path.stem}{sign}{number}{path.suffix}")
        if not there.exists():
            write_atomic(there, content)
            return there
        if there.read_bytes() == content:
            return there
    raise InputError(f"{path.parent} has a thousand files named as {path.name} is", remedy="delete some")


def keep_capture(path: Path, content: bytes) -> Path:
    """The same for a recording, whose name begins with its class, up to the first dot: WAVE.2.csv."""
    return keep(path, content, ".")


def keep_network(path: Path, content: bytes) -> Path:
    """The same for a base or an adapter, whose whole name is one: WAVE-2.ela."""
    return keep(path, content, "-")
