"""Standard output and standard error, also closed, full, or with nobody who reads them.

What is written here has no character that acts on the terminal (`text.printable`).
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from .errors import FileError
from .text import printable_lines


class OutputClosed(Exception):
    """Whoever read standard output has gone, as `| head -1` does."""


def note(text: object, quiet: bool = False) -> None:
    """One line about a step, on standard error; none where that is closed or full."""
    if not quiet:
        with contextlib.suppress(OSError):
            print(printable_lines(text), file=sys.stderr, flush=True)


def confirmed(question: object) -> bool:
    """Whether the person at the terminal, asked on standard error, says yes."""
    with contextlib.suppress(OSError):
        print(printable_lines(question), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def say(text: object = "") -> None:
    """A line of a result, on standard output. Raises OutputClosed, or FileError where it can't be written."""
    with _explained():
        print(printable_lines(text))


def flush() -> None:
    """Has what was said reach its reader. Raises as `say` does."""
    with _explained():
        sys.stdout.flush()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _discard(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise OutputClosed from None
        raise FileError(f"the result can't be written to standard output: {error.strerror}") from None


def _discard(stream: TextIO) -> None:
    """What is left in a stream that can't be written goes nowhere: Python's own exit would stumble over it."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def open_closed() -> None:
    """Gives standard streams that were closed (`2>&-`) to nothing: else files opened next would take their place."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for a terminal without UTF-8
