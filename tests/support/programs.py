"""Programs on desktop MicroPython, and virtual boards for a while."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgelora.base.resources import ROOT
from edgelora.board.sim import virtual_board
from edgelora.board.sim.virtual_board import UNIX_BINARY
from edgelora.board.virtual_boards import SimHandle

PROGRAMS = ROOT / "tests" / "device" / "programs"


def desktop(folder: Path, code: str, heap: str = "4m") -> str:
    """The output of code on desktop MicroPython in a folder; it can import PROGRAMS and must end without an error."""
    path = f"import sys; sys.path.insert(0, {str(PROGRAMS)!r})\n"
    command = [UNIX_BINARY, "-X", f"heapsize={heap}", "-c", path + code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@contextlib.contextmanager
def running(kind: str, firmware: Path | None, folder: Path, **options: Any) -> Iterator[SimHandle]:
    """A virtual board with its state in a folder; at the end its power is cut."""
    board = virtual_board.start(kind, firmware, folder, die_with_parent=True, **options)
    try:
        yield board
    finally:
        board.kill()
