"""Writing to standard output and standard error, which may be closed, full, or without a reader.

Output has no control characters (`text.printable`).
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
    """The reader of standard output has closed it, as `| head -1` does."""


def note(text: object, quiet: bool = False) -> None:
    """Prints a line on standard error, unless that is closed or full."""
    if not quiet:
        with contextlib.suppress(OSError):
            print(f"{printable_lines(text)}\n", end="", file=sys.stderr, flush=True)  # Ctrl-C can't split one write


def confirmed(question: object) -> bool:
    """Asks the user on standard error; returns whether the answer is yes."""
    with contextlib.suppress(OSError):
        print(printable_lines(question), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def say(text: object = "") -> None:
    """Prints a line of a result on standard output. Raises OutputClosed, or FileError if it can't be written."""
    with _explained():
        print(printable_lines(text))


def flush() -> None:
    """Flushes standard output. Raises as `say` does."""
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
    """Discards the buffer of a stream that can't be written, as Python's exit would fail on it."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def open_closed() -> None:
    """Redirects closed standard streams (`2>&-`) to the null device: else files opened next would get their numbers."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for a terminal without UTF-8
